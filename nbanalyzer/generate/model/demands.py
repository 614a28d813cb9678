"""What a model's code asks for, unlike others: all tokens again beside what its cache holds, or fp32."""

from __future__ import annotations

import inspect
from typing import Any

import torch

__all__ = ["attends_eagerly", "in_fp32", "takes_whole_text"]


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
