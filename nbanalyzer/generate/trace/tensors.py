"""The tensors in what models take, return and keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import torch

from .scope import Kept, Operand

__all__ = ["kept", "kept_sizes", "leaves", "operand_of"]


def leaves(values: Iterable[object]) -> list[torch.Tensor]:
    """Return the tensors among an operation's arguments or results, and in lists of them."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += leaves(value)
    return found


def operand_of(tensor: torch.Tensor, size: str) -> Operand:
    """Return a tensor with elements of a size as operand."""
    shape, stride = tuple(tensor.shape), tensor.stride()
    stored = shape
    if 0 in stride:
        stored = tuple(size if step or size <= 1 else 1 for size, step in zip(shape, stride, strict=True))
    return Operand(size, shape, stored, tensor.is_floating_point())


def kept(cache: object, dtype: torch.dtype = torch.bfloat16) -> list[Kept]:
    """Return the tensors that a cache holds: those of its layers, of a pair of caches, or of a plain list."""
    found: list[Kept] = []
    seen: set[int] = set()

    def look(value: object, layer: int, name: str) -> None:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point() and value.numel() and id(value) not in seen:
                seen.add(id(value))
                size = "kv_bytes" if value.dtype == dtype else str(value.element_size())
                found.append(Kept(layer, name, operand_of(value, size)))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                look(item, index if layer < 0 else layer, name)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                look(item, key if isinstance(key, int) and layer < 0 else layer, name)
        elif hasattr(value, "__dict__") and not isinstance(value, type | torch.dtype) and id(value) not in seen:
            seen.add(id(value))
            for key, item in vars(value).items():
                look(item, layer, key if layer >= 0 or not name else name)

    look(cache, -1, "")
    return found


def kept_sizes(cache: object) -> tuple[int, int]:
    """Return what a cache holds: the elements in the model's precision, and the bytes of all others."""
    elements = others = 0
    for tensor in kept(cache):
        if tensor.operand.size == "kv_bytes":
            elements += prod(tensor.operand.shape)
        else:
            others += prod(tensor.operand.shape) * int(tensor.operand.size)
    return elements, others
