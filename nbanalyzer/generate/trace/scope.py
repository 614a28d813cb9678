"""A tree of what was called and run: modules and functions, operations, and the tensors they read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from nbanalyzer.generate.model.routing import Routed

__all__ = ["APPEND", "ATTENTION", "Kept", "Operand", "Operation", "Scope", "joined", "modules_of", "qualified_name"]

ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
APPEND = "transformers.cache_utils.Cache.update"
"""Targets of the scopes of fused attention, and of what a cache's update adds."""


class Operand(NamedTuple):
    """A tensor that an operation reads or writes.

    Attributes:
        size: of an element: ``"w_bytes"`` for a weight, ``"kv_bytes"`` for what a cache keeps, ``"a_bytes"`` for
            an activation in the model's precision; else the bytes, such as ``"4"`` for what is always fp32.
        shape: its sizes.
        stored: its sizes in memory, 1 along a dimension that it was expanded along.
        floating: whether its elements are floating-point numbers.

    """

    size: str
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    floating: bool


@dataclass(slots=True)
class Operation:
    """One operation that PyTorch ran.

    Attributes:
        name: PyTorch's, without overload, e.g. ``"addmm"``.
        line: where the model's code asked for it, ``file:number``.
        inputs, outputs: its tensors.
        pointwise: whether PyTorch calls it that.
        detail: what else its cost depends on: ``"tanh"`` for that kind of GELU, ``"transposed"`` for a convolution,
            the dimensions of a Fourier transform, ``"causal"`` for attention that sees no later token.
        routed: what is sent to the experts whose products it is, if its sizes do not say so.

    """

    name: str
    line: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    pointwise: bool = False
    detail: str = ""
    routed: Routed | None = None

    @property
    def done(self) -> tuple[str, str, str, tuple[Operand, ...], tuple[Operand, ...]]:
        """What tells it from others: the same in two layers that do the same."""
        return self.name, self.line, self.detail, self.inputs, self.outputs


@dataclass(slots=True)
class Scope:
    """A call of a module or a function, with what was called and run inside, in order.

    Attributes:
        name: of the attribute that holds the module, relative to the scope it was called in; or the function's.
        target: qualified name of the class or function.
        module: the module, None for a function.
        inputs, outputs: the tensors that went in and came out.
        children: calls and operations inside.

    """

    name: str
    target: str
    module: torch.nn.Module | None = None
    inputs: tuple[Operand, ...] = ()
    outputs: tuple[Operand, ...] = ()
    children: list[Scope | Operation] = field(default_factory=list)

    def operations(self) -> Iterator[Operation]:
        """Yield all operations inside, in order."""
        for child in self.children:
            if isinstance(child, Scope):
                yield from child.operations()
            else:
                yield child

    def own_operations(self) -> Iterator[Operation]:
        """Yield those outside of the modules that are called inside, in order."""
        for child in self.children:
            if isinstance(child, Operation):
                yield child
            elif child.module is None:
                yield from child.own_operations()


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor that a cache holds after a step: where, and which."""

    layer: int
    name: str
    operand: Operand


def joined(path: str, name: str) -> str:
    """Return the path of what has a name at a path; "" is that of the whole model."""
    return f"{path}.{name}" if path else name


def modules_of(scope: Scope, path: str = "") -> Iterator[tuple[str, Scope]]:
    """Yield path and scope of every module that is called in a scope, itself first."""
    yield path, scope
    for child in scope.children:
        if isinstance(child, Scope) and child.module is not None:
            yield from modules_of(child, joined(path, child.name))


def qualified_name(class_: type[object]) -> str:
    """Return a class's name with that of its module."""
    return f"{class_.__module__}.{class_.__qualname__}"
