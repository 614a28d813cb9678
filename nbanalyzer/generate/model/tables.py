"""Tables that the code of a model fills beside its passes: of places, one by one, or in the first of them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["settled", "unfilled"]


@contextmanager
def unfilled(model_class: Any) -> Iterator[None]:
    """Leave out the values of a table of places that a model's code computes one by one: of VideoMAE, seconds long."""
    module = sys.modules.get(getattr(model_class, "__module__", ""))
    make = getattr(module, _TABLE, None)
    if make is None:
        yield
        return
    setattr(module, _TABLE, lambda places, width: torch.zeros((1, places, width), device="cpu"))
    try:
        yield
    finally:
        setattr(module, _TABLE, make)


_TABLE = "get_sinusoid_encoding_table"


def settled(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model whose layers hold what only a first pass makes for its device, such as LeViT's biases of places.

    They have a store of their own, still empty, and a method that takes a device alone. The frequencies of long texts
    are computed once, of LongRoPE.
    """
    for module in model.modules():
        if getattr(module, "rope_type", None) == "longrope":
            module.long_inv_freq = module.original_inv_freq  # as many of them, whatever they are
        own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        if any(isinstance(value, dict) and not value for value in own.values()):
            layer: Any = type(module)
            for make in _for_a_device(layer):
                with torch.no_grad():
                    getattr(module, make)(next(module.parameters()).device)
    return model


@functools.cache
def _for_a_device(layer: type[torch.nn.Module]) -> tuple[str, ...]:
    classes = layer.__mro__[: layer.__mro__.index(torch.nn.Module)]
    own = {name: one for class_ in classes for name, one in vars(class_).items() if not hasattr(torch.nn.Module, name)}
    methods = {name: one for name, one in own.items() if inspect.isfunction(one)}
    return tuple(name for name, one in methods.items() if [*inspect.signature(one).parameters] == ["self", "device"])
