"""What a model's code asks for, unlike others: all tokens again beside its cache, codes, fp32, eager attention."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import torch

from nbanalyzer.generate import hf

__all__ = [
    "TAKEN", "attends_eagerly", "convert", "forget", "hold_positions", "instead_of", "keeps_if_told",
    "takes_whole_text", "types_in", "with_codes",
]  # fmt: skip

TAKEN: dict[tuple[Any, ...], tuple[str, str]] = {}
"""Class, types of a config's parts, what was asked for → the attention and the experts that such models have instead.

They are refused only after most of a model is built, and a model is built hundreds of times.
"""


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


def convert(model: torch.nn.Module) -> None:
    """Convert the parameters of a model to bf16, as a checkpoint is loaded, but for what is kept in fp32.

    That is all of one that holds a Fourier transform of PyTorch, which bf16 has none of.
    """
    modules = [*model.modules()]
    held = (value for module in modules for name, value in vars(module).items() if name not in _EVERY_MODULES)
    transforms = {id(transform) for transform in vars(torch.fft).values() if callable(transform)}
    if any(id(getattr(value, "func", None)) in transforms for value in held):
        model.float()
    else:
        kept = hf.kept_in_fp32(model)
        for name, parameter in model.named_parameters():
            if parameter.dtype == torch.float32 and not any(part in name for part in kept):
                parameter.data = parameter.data.to(torch.bfloat16)
    for module in modules:  # routers that would convert themselves in a first pass, for good
        own = vars(module).get("dtype")
        if isinstance(own, torch.dtype) and isinstance(
            classifier := getattr(module, "classifier", None), torch.nn.Module
        ):
            classifier.to(own)


_EVERY_MODULES = frozenset(vars(torch.nn.Module()))
"""Attributes that PyTorch gives every module."""


def forget(model: torch.nn.Module) -> None:
    """Drop what a model's code keeps from a pass for others of the same sizes, such as the places of an image.

    Each pass is counted as the first one: what comes later depends on what was read before.
    """
    kinds: set[Any] = {type(module) for module in model.modules()}
    for kind in kinds:
        for keeping in _keeping(kind):
            keeping.cache_clear()


@cache
def _keeping(kind: type) -> tuple[Any, ...]:
    """Return what keeps results among the methods of a class, and among the functions beside it."""
    own = [value for base in kind.__mro__ if base is not object for value in vars(base).values()]
    if kind.__module__.startswith("transformers."):
        own += vars(sys.modules[kind.__module__]).values()
    found = []
    for value in own:
        method = getattr(value, "__func__", value)  # of a static one
        for cell in getattr(method, "__closure__", None) or ():
            with suppress(ValueError):  # an empty one
                found.append(cell.cell_contents)
        found.append(method)
    return tuple(one for one in found if hasattr(one, "cache_clear") and hasattr(one, "cache_info"))


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


def instead_of(attn: str, experts: str, error: Exception) -> tuple[str, str] | None:
    """Return the attention and the experts to ask for after this error; None if it is about something else."""
    if attn == "sdpa" and "scaled_dot_product_attention" in str(error):
        return "", experts
    if experts and "experts implementation" in str(error):
        return attn, ""
    return None


def types_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the model types of a config and of its parts."""
    parts = (part for part in config.values() if isinstance(part, Mapping))
    return (str(config.get("model_type")), *(one for part in parts for one in types_in(part)))


def hold_positions(model: torch.nn.Module) -> None:
    """Leave the frequencies of rotary positions as they are: those that follow from lengths change beyond the longest.

    Its code keeps the longest sequence so far, and asks for the values of positions.
    """
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic":
            module.rope_type = "default"  # type: ignore[assignment]
