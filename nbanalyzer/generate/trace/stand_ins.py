"""What stands in for a model's functions while a trace runs.

Three things are seen as what they are for, not as what the meta device makes of them: a fused attention is one
operation, a cache's update is an append, and both leave out the masks that they do not need.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from nbanalyzer.generate import hf
from nbanalyzer.generate.dispatch import replaced, storage, tensors_of
from nbanalyzer.generate.hf import MASKS

from .recorder import Recorder, line_of_model
from .scope import APPEND, ATTENTION, Operation, Scope

__all__ = ["recording"]


@contextmanager
def recording(model: torch.nn.Module) -> Iterator[None]:
    """Make the functions of a model's code known to `trace`, and transformers' caches.

    Functions that stand beside a model's classes, such as ``apply_rotary_pos_emb``, become scopes. Models of
    the same classes share one opening.
    """
    with ExitStack() as stack:
        attention = F.scaled_dot_product_attention
        own = inspect.unwrap(attention)
        stack.enter_context(replaced(F, "scaled_dot_product_attention", _fused(attention)))
        for name in sorted({type(module).__module__ for module in model.modules()}):
            if not name.startswith("torch.") and name in sys.modules:
                for attribute, function in _functions(sys.modules[name]):
                    stack.enter_context(replaced(sys.modules[name], attribute, _scoped(function)))
                for attribute in [key for key, value in vars(sys.modules[name]).items() if value is own]:
                    stack.enter_context(replaced(sys.modules[name], attribute, F.scaled_dot_product_attention))
        for owner, method in hf.appends():
            stack.enter_context(replaced(owner, method, _appending(getattr(owner, method))))
        # A fused kernel shares grouped keys and values by itself, with a mask or without.
        stack.enter_context(replaced(*hf.fused_attention_switch(), lambda *_args: True))
        yield


def _functions(module: ModuleType) -> list[tuple[str, Callable[..., Any]]]:
    """Return the functions of a model's code, and those that make its masks."""
    return [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ in {module.__name__, MASKS}
    ]


def _fused(attention: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return what stands in for a fused attention kernel, which the meta device does not have, while a trace runs."""

    @functools.wraps(attention)
    def call(*args: Any, **kwargs: Any) -> torch.Tensor:
        recorder = Recorder.current
        if recorder is None or recorder.silent:  # it is silent inside another one's stand-in
            return attention(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask")
        given = dict(zip(names, args, strict=False)) | {name: kwargs[name] for name in names if name in kwargs}
        if given["query"].shape[0] < given["key"].shape[0]:  # one set of queries for all
            given["query"] = given["query"].expand(given["key"].shape[0], -1, -1, -1)
        query, mask = given["query"], given.get("attn_mask")
        batch, heads, length, _ = query.shape
        _require_fit(mask, (heads, length, given["key"].shape[-2]))
        # Flash kernels write (batch, length, heads, head_dim): transposing it back is free.
        written: torch.Tensor = query.new_empty(batch, length, heads, given["value"].shape[-1])
        if not query.is_meta:
            recorder.silent += 1
            written.copy_(attention(*args, **kwargs).transpose(1, 2))
            recorder.silent -= 1
        recorder.alive.append(written)
        inputs = [given[name] for name in names[:3]]
        # A mask that only says what is visible is not read; a bias of the model's own is.
        if mask is not None and mask.is_floating_point() and not recorder.owner.get(storage(mask), "").endswith("mask"):
            inputs.append(mask)
        read, wrote = recorder.operands(inputs), recorder.operands(written)
        causal = kwargs.get("is_causal") or (mask is not None and recorder.owner.get(storage(mask)) == "causal mask")
        operation = Operation(ATTENTION.rpartition(".")[2], line_of_model(), read, wrote)
        operation.detail = "causal" if causal else ""
        recorder.stack[-1].children.append(Scope("attention", ATTENTION, None, read, wrote, [operation]))
        return written.transpose(1, 2)

    return call


def _require_fit(mask: torch.Tensor | None, scores: tuple[int, int, int]) -> None:
    """Raise if a mask or bias is not that of the scores, at which the meta device does not look."""
    sizes = () if mask is None else zip(reversed(mask.shape[-3:]), reversed(scores), strict=False)
    if mask is not None and any(size not in {1, score} for size, score in sizes):
        raise RuntimeError(f"a mask of {tuple(mask.shape)} is not one of {scores} heads, queries and keys")


def _scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function so that a trace sees its calls."""
    masks = function.__module__ == MASKS

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        recorder = Recorder.current
        if recorder is None or recorder.silent or recorder.stack[-1].module is None:
            return function(*args, **kwargs)  # what a function calls is part of it
        scope = Scope(function.__name__, f"{function.__module__}.{function.__qualname__}")
        above = recorder.stack[-1]
        recorder.stack.append(scope)
        recorder.paths.append(recorder.paths[-1])
        try:
            result = function(*args, **kwargs)
        finally:
            recorder.stack.pop()
            recorder.paths.pop()
        if masks:
            for tensor in tensors_of(result):
                recorder.owner[storage(tensor)] = "causal mask" if "bidirectional" not in function.__name__ else "mask"
        scope.inputs, scope.outputs = recorder.operands((args, kwargs)), recorder.operands(result)
        if scope.children:
            above.children.append(scope)
        return result

    return call


def _appending(update: Callable[..., Any]) -> Callable[..., Any]:
    """Return a cache's method so that it is seen as reading and writing what is new, whatever it does inside."""

    @functools.wraps(update)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = Recorder.current
        if recorder is None or recorder.silent:
            return update(self, *args, **kwargs)
        recorder.silent += 1
        try:
            result = update(self, *args, **kwargs)
        finally:
            recorder.silent -= 1
        given = (*args, *kwargs.values())
        place = kwargs.get("layer_idx", next((one for one in args if type(one) is int), None))
        if place is not None:
            recorder.places.setdefault(place, recorder.paths[-1])
        new = tuple(recorder.operand(value) for value in given if isinstance(value, torch.Tensor))
        sizes = ("kv_bytes" if operand.size == "a_bytes" else operand.size for operand in new)
        written = tuple(one._replace(size=size, stored=one.shape) for one, size in zip(new, sizes, strict=True))
        recorder.keep(tensors_of(result))
        operation = Operation("append", line_of_model(), new, written)
        recorder.stack[-1].children.append(Scope("cache", APPEND, None, new, written, [operation]))
        return result

    return call
