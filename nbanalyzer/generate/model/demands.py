"""What a model's code asks for, unlike others: all tokens again beside what its cache holds, codes, or fp32."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["attends_eagerly", "in_fp32", "keeps_if_told", "takes_whole_text", "with_codes"]


def takes_whole_text(model: Any) -> bool:
    """Return whether a model drops by itself what its cache holds, and so wants all tokens again.

    It says so where it is asked for the inputs of a step after others: most cut off what they have read.
    """
    own = vars(type(model)).get("prepare_inputs_for_generation")
    if own is None or "next_sequence_length" not in inspect.signature(own).parameters:
        return False
    try:
        inputs = own(model, torch.empty((1, 2), dtype=torch.long, device="meta"), next_sequence_length=1)
        return bool(inputs["input_ids"].shape[1] == 2)
    except Exception:  # noqa: BLE001 - it wants more than tokens
        return False


def keeps_if_told(model: Any) -> bool:
    """Return whether a pass has to be told to keep a cache: the config says nothing of it, or is not asked."""
    return not getattr(model.config, "use_cache", False) or getattr(model.config, "model_type", "") in _NOT_ASKED


_NOT_ASKED = frozenset({"dia"})
"""Model types whose whole is told by its config to keep a cache, and does not look there."""


def in_fp32(model: torch.nn.Module) -> bool:
    """Convert a model that holds a Fourier transform of PyTorch, which bf16 has none of; return whether it does."""
    held = (getattr(value, "func", None) for module in model.modules() for value in vars(module).values())
    transforms = {id(transform) for transform in vars(torch.fft).values() if callable(transform)}
    if any(id(function) in transforms for function in held):
        model.float()
        return True
    return False


def attends_eagerly(model: torch.nn.Module) -> None:
    """Have the layers of timm attend operation by operation: transformers, which is told so, does not tell them."""
    for module in model.modules():
        if "fused_attn" in vars(module):
            module.fused_attn = False  # type: ignore[assignment]


def with_codes(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return tokens as a model takes them: of some, a position is a token with codes of sound, or codes alone.

    Args:
        model: to be run.
        tokens: of sequences x positions.

    """
    count = _CODES.get(getattr(model.config, "model_type", ""), lambda _config: 0)(model.config)
    return tokens.new_zeros((*tokens.shape, count)) if count else tokens


_CODES: Mapping[str, Callable[[Any], int]] = {
    "kyutai_speech_to_text": lambda config: int(config.num_codebooks) + 1,
    "dia": lambda config: int(config.decoder_config.num_channels),
}
"""Model type → how many numbers a position of its decoder is."""
