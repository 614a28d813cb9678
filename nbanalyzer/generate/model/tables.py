"""What the code of a model fills beside its passes: first weights, and tables of places."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from nbanalyzer.generate.dispatch import replaced

__all__ = ["settled", "unfilled"]


@contextmanager
def unfilled(model_class: Any) -> Iterator[None]:
    """Leave out values that the meta device does not have: first weights, which PyTorch's layers draw there in Python.

    And those of a table of places that a model's code computes one by one: of VideoMAE, seconds long.
    """
    with ExitStack() as stack:
        for name in _DRAWS:
            stack.enter_context(replaced(torch.nn.init, name, _undrawn(getattr(torch.nn.init, name))))
        module = sys.modules.get(getattr(model_class, "__module__", ""))
        if hasattr(module, _TABLE):
            stack.enter_context(
                replaced(module, _TABLE, lambda places, width: torch.zeros((1, places, width), device="cpu"))
            )
        yield


def _undrawn(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return what stands in for a function that fills a tensor, and does so only where there is memory."""

    @functools.wraps(draw)
    def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return tensor if tensor.is_meta else draw(tensor, *args, **kwargs)

    return call


_DRAWS = ("kaiming_uniform_", "normal_", "uniform_")
"""Functions of torch.nn.init that its layers draw their first weights with."""

_TABLE = "get_sinusoid_encoding_table"


def settled(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model whose layers hold what only a first pass makes for its device, such as LeViT's biases of places.

    They have a store of their own, still empty, and a method that takes a device alone. The frequencies of long texts
    are computed once, of LongRoPE.
    """
    for module in model.modules():
        if getattr(module, "rope_type", None) == "longrope":
            module.long_inv_freq = module.original_inv_freq  # as many of them, whatever they are
        if any(isinstance(value, dict) and not value and name[0] != "_" for name, value in vars(module).items()):
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
