"""Tables that the code of a model fills beside its passes: from whole numbers, one by one, or in the first of them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["settled", "unfilled"]


@contextmanager
def unfilled(model_class: Any) -> Iterator[None]:
    """Leave out the numbers of tables that functions beside a class of models fill in NumPy, for seconds.

    VideoMAE's is one, of places.
    """
    module = sys.modules.get(getattr(model_class, "__module__", ""))
    fill = {name: one for name, one in vars(module).items() if _uses_numpy(one, module)} if module else {}
    for name, one in fill.items():
        setattr(module, name, _without_numbers(one))
    try:
        yield
    finally:
        for name, one in fill.items():
            setattr(module, name, one)


def _uses_numpy(value: object, module: object) -> bool:
    if not inspect.isfunction(value) or value.__module__ != getattr(module, "__name__", ""):
        return False
    return any(value.__globals__.get(name) is np for name in value.__code__.co_names)


def _without_numbers(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives, for whole numbers, zeros of the sizes that they say."""

    @functools.wraps(make)
    def call(*args: Any, **kwargs: Any) -> Any:
        whole = not kwargs and args and all(type(one) is int for one in args)
        sizes = _sizes(make, args) if whole else None
        return make(*args, **kwargs) if sizes is None else torch.zeros(sizes, device="cpu")

    return call


def _sizes(make: Callable[..., Any], numbers: Sequence[int]) -> list[int] | None:
    """Return the sizes of a table, from those of two small ones; None if it is none, or they follow otherwise."""
    few = [tuple(range(4 * first, 4 * (first + len(numbers)), 4)) for first in (2, 2 + len(numbers))]
    try:
        tables = [make(*small) for small in few]
    except Exception:  # noqa: BLE001 - whatever it asks of its numbers
        return None
    if not all(isinstance(one, torch.Tensor) and one.device.type == "cpu" for one in tables):
        return None
    shapes = [tuple(one.shape) for one in tables]
    if len(shapes[0]) != len(shapes[1]):
        return None
    says = dict(zip(zip(*few, strict=True), numbers, strict=True))
    says |= {both: both[0] for both in zip(*shapes, strict=True) if both[0] == both[1]}
    found = [says.get(both) for both in zip(*shapes, strict=True)]
    return None if None in found else [size for size in found if size is not None]


def settled(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model whose layers hold what only a first pass makes for its device, such as LeViT's biases of places.

    They have a store of their own, still empty, and a method that takes a device alone.
    """
    for module in model.modules():
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
