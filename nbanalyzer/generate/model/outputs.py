"""Outputs of transformers that lack what its own code asks them for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import modeling_outputs

__all__ = ["complete_outputs"]

_LACKS = (("MoeCausalLMOutputWithPast", "image_outputs"),)
"""Class of outputs and its attribute: Llama 4's whole asks its text part for it, in transformers 5.24."""


@contextmanager
def complete_outputs() -> Iterator[None]:
    """Have outputs say None where they lack an attribute; nothing is changed where they have it."""
    classes: list[tuple[Any, str]] = [(getattr(modeling_outputs, name), lacks) for name, lacks in _LACKS]
    lacking = [(one, name) for one, name in classes if not hasattr(one, name)]
    for one, name in lacking:
        setattr(one, name, None)
    try:
        yield
    finally:
        for one, name in lacking:
            delattr(one, name)
