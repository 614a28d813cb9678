"""Work that a host does beside the device: grids, lengths and places of images, numbers that a model's code reads.

Weights, pixels and sound are on the meta device, which has no data; what says how large an image is, and which tokens
stand for it, is real. So a model's code may ask for it, and go through it in loops. What is computed from such numbers
alone is run for real, and is no work of the device.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.fx.experimental import _config as symbolic

__all__ = ["Host", "is_host_work", "tensors_in"]

_UNCHECKED = "TRANSFORMERS_DISABLE_TORCH_CHECK"
"""The environment variable by which transformers leaves out checks of values, which the meta device does not have."""

_MASKED = frozenset({"aten::index", "aten::index_put", "aten::index_put_"})


_FILLED = frozenset({"aten::masked_scatter", "aten::masked_scatter_"})


class Host:
    """Whether some of a model's inputs are numbers on the host just now."""

    active = False
    counts = False

    @classmethod
    @contextmanager
    def open(cls, *, counts: bool = False, full: bool = True) -> Iterator[None]:
        """Have what follows run with numbers on the host.

        With `counts`, ranges of whole numbers are on the host too, and those that the code states: lengths are
        compared with them. With `full`, masks of the device are taken to be full.
        """
        before, checks = symbolic.meta_nonzero_assume_all_nonzero, os.environ.get(_UNCHECKED)
        cls.active, outer = True, cls.active
        cls.counts, outer_counts = counts, cls.counts
        symbolic.meta_nonzero_assume_all_nonzero = full
        os.environ[_UNCHECKED] = "1"
        try:
            with _stated() if counts else nullcontext():
                yield
        finally:
            cls.active, cls.counts = outer, outer_counts
            symbolic.meta_nonzero_assume_all_nonzero = before
            if checks is None:
                os.environ.pop(_UNCHECKED, None)
            else:
                os.environ[_UNCHECKED] = checks

    @staticmethod
    def placed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return an operation's arguments where it can be run: all on the host, or all on the meta device."""
        tensors = tensors_in(args, kwargs)
        on_host = [tensor for tensor in tensors if tensor.is_cpu]
        device = kwargs.get("device")
        if Host.counts and not tensors and func._schema.name == "aten::arange":  # noqa: SLF001
            return args, {**kwargs, "device": torch.device("cpu")}
        if not on_host:
            if device is not None and tensors and torch.device(device).type == "cpu":  # what has no data stays there
                kwargs = {**kwargs, "device": torch.device("meta")}
        elif len(on_host) == len(tensors):
            whole = all(not tensor.is_floating_point() for tensor in tensors)
            if device is not None and whole and func is torch.ops.aten._to_copy.default:  # noqa: SLF001
                kwargs = {**kwargs, "device": torch.device("cpu")}
        else:
            name = func._schema.name  # noqa: SLF001 - the one way to it
            if name in _MASKED:
                args = (args[0], _places(args[1]), *args[2:])
            elif name in _FILLED and args[1].device.type == "cpu":
                _require_as_many(*args[:3])
            args, kwargs = _on_meta(args), _on_meta(kwargs)
        return args, kwargs


@contextmanager
def _stated() -> Iterator[None]:
    """Leave whole numbers that a model's code states, such as a grid, where they have values."""
    usual: Any = torch.tensor

    def tensor(*args: Any, **kwargs: Any) -> torch.Tensor:
        if torch.device(kwargs.get("device") or "cpu").type != "meta":
            return usual(*args, **kwargs)  # type: ignore[no-any-return]
        found: torch.Tensor = usual(*args, **{**kwargs, "device": "cpu"})
        return found.to("meta") if found.is_floating_point() else found

    torch.tensor = tensor
    try:
        yield
    finally:
        torch.tensor = usual


def _places(indices: Any) -> list[Any]:
    """Return indices with as many places as a mask of the host has: which ones they are, the meta device never asks."""
    found: list[Any] = []
    for index in indices:
        if isinstance(index, torch.Tensor) and index.device.type == "cpu" and index.dtype == torch.bool:
            found += [torch.empty(_number(index), dtype=torch.long, device="meta")] * index.dim()
        else:
            found.append(index)
    return found


def _require_as_many(tensor: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> None:
    """Raise if a mask has other places than there are numbers to fill them: the meta device does not look."""
    places = _number(mask) * (tensor.numel() // mask.numel())  # a mask may be as wide as one number
    if places != source.numel():
        raise RuntimeError(f"the prompt has room for {places:,} numbers of what is read, which are {source.numel():,}")


def _number(mask: torch.Tensor) -> int:
    """Return how many places a mask has; it is often the same for every number of an embedding, thousands of times."""
    times = 1
    for dimension, (size, stride) in enumerate(zip(mask.shape, mask.stride(), strict=True)):
        if stride == 0 and size > 1:
            mask, times = mask.narrow(dimension, 0, 1), times * size
    return int(torch.count_nonzero(mask)) * times


def _on_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta") if value.device.type == "cpu" else value
    if isinstance(value, list | tuple):
        return type(value)(map(_on_meta, value))
    if isinstance(value, dict):
        return {key: _on_meta(one) for key, one in value.items()}
    return value


def tensors_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Return the tensors among an operation's arguments."""
    found: list[torch.Tensor] = []
    _collect(args, found)
    if kwargs:
        _collect(kwargs.values(), found)
    return found


def _collect(values: Iterable[Any], found: list[torch.Tensor]) -> None:
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)


def is_host_work(results: list[torch.Tensor]) -> bool:
    """Return whether an operation was run on the host: a device's work gives something there."""
    return Host.active and bool(results) and all(tensor.is_cpu for tensor in results)
