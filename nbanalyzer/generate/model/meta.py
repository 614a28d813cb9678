"""What the meta device cannot say: answers to questions about values, and sizes that are worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nbanalyzer.generate.deadline import look
from nbanalyzer.generate.dispatch import schema

from .host import Host
from .routing import Routing

__all__ = ["Answers", "answer"]


class Answers(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Answers questions about values, which the meta device does not have: masks are full, flags are set."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return answer(func, args, kwargs or {})


def answer(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operation gives, and for ``tensor.item()`` on the meta device: true, or 1.

    Without data a result is just sizes, the same each time for the same sizes: they are remembered, because PyTorch
    works them out in Python. Here a forward pass that takes too long is stopped.
    """
    look()
    if Host.active:
        args, kwargs = Host.placed(func, args, kwargs)
    if Routing.current is not None and (routed := Routing.current.answer(func, args, kwargs)) is not None:
        return routed
    if func is _ITEM and args[0].is_meta:
        return True if args[0].dtype == torch.bool else 1
    key: Any = None
    if schema(func).makes_new:
        key = (id(func), _described(args), _described(tuple(kwargs.items())) if kwargs else ())
    try:
        known = _RESULTS.get(key) if key else None
    except TypeError:  # an argument that cannot be a key
        key = known = None
    if known is not None:
        made = tuple(torch.empty_strided(*sizes, dtype=dtype, device="meta") for *sizes, dtype in known)
        return made[0] if len(made) == 1 else made
    result = _interpolated(*args) if id(func) in _INTERPOLATIONS and not kwargs else None
    result = func(*args, **kwargs) if result is None else result
    several = result if type(result) is tuple and len(result) > 1 else (result,)  # a norm gives what it divided by, too
    if key and all(type(one) is torch.Tensor and one.is_meta and one.layout is torch.strided for one in several):
        if len(_RESULTS) >= _MOST_RESULTS:
            _RESULTS.clear()
        _RESULTS[key] = tuple((one.shape, one.stride(), one.dtype) for one in several)
    return result


_ITEM = torch.ops.aten._local_scalar_dense.default  # noqa: SLF001 - tensor.item()

_INTERPOLATIONS = frozenset(
    map(id, (torch.ops.aten.upsample_bicubic2d.default, torch.ops.aten.upsample_bilinear2d.default))
)
"""What PyTorch works out the sizes of by going through all steps of it, each in Python: a twentieth of a second."""


def _interpolated(image: torch.Tensor, size: Sequence[int], *_how: object) -> torch.Tensor | None:
    """Return images of another size, one row after another as those of `image`; None if its are not, or not on meta."""
    if not (image.is_meta and image.dim() == 4 and image.is_floating_point() and all((*image.shape, *size))):
        return None
    channels, height, width = image.shape[1:]
    plain = image.stride() == (channels * height * width, height * width, width, 1)
    return image.new_empty((*image.shape[:2], *size)) if plain else None


_RESULTS: dict[Any, tuple[tuple[Any, ...], ...]] = {}
_MOST_RESULTS = 20_000


def _described(value: Any) -> Any:
    """Return what of an argument a result's sizes depend on."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.stride(), value.dtype, value.device)
    if isinstance(value, list | tuple):
        return tuple(map(_described, value))
    return (type(value), value)
