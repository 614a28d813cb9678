"""What a model is seen to do: a tree of the modules and functions that were called, with every operation in them.

Operations are caught where PyTorch dispatches them, after autograd and decompositions: what a device would be
asked to run. Three things are seen as what they are for, not as what the meta device makes of them: a fused
attention is one operation, a cache's update is an append, and both leave out the masks that they do not need.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nbanalyzer.generate import hf
from nbanalyzer.generate.dispatch import schema, storage
from nbanalyzer.generate.hf import MASKS
from nbanalyzer.generate.model.meta import answer
from nbanalyzer.generate.model.subject import Step

from .experts import group_experts
from .scope import Kept, Operand, Operation, Scope

__all__ = ["APPEND", "ATTENTION", "kept", "recording", "trace"]

ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
APPEND = "transformers.cache_utils.Cache.update"

_TORCH = torch.__file__.rpartition("/")[0]
_HERE = __file__
_MOVES_NOTHING = frozenset(
    {"_local_scalar_dense", "_unsafe_view", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty"}
)
"""Operations that allocate or reinterpret memory without moving any; so do all whose schema says view."""


def trace(step: Step, logits: int = 0) -> Scope:
    """Run a step of a model and return what it did; `recording` must be open for the model."""
    recorder = _Recorder(step.model, step.cache)
    has_data = step.subject.device != "meta"
    with recorder.open(), _Operations(recorder, keeps=not has_data):
        step.run(logits)
    _group(recorder.root, "", dict(step.model.named_modules()))
    if has_data:
        group_experts(recorder.root)
    return recorder.root


@contextmanager
def recording(model: torch.nn.Module) -> Iterator[None]:
    """Make the functions of a model's code known to `trace`, and transformers' caches.

    Functions that stand beside a model's classes, such as ``apply_rotary_pos_emb``, become scopes. Models of
    the same classes share one opening.
    """
    with ExitStack() as stack:
        attention = F.scaled_dot_product_attention
        own = inspect.unwrap(attention)
        stack.enter_context(_replaced(F, "scaled_dot_product_attention", _fused(attention)))
        for name in sorted({type(module).__module__ for module in model.modules()}):
            if not name.startswith("torch.") and name in sys.modules:
                for attribute, function in _functions(sys.modules[name]):
                    stack.enter_context(_replaced(sys.modules[name], attribute, _scoped(function)))
                for attribute in [key for key, value in vars(sys.modules[name]).items() if value is own]:
                    stack.enter_context(_replaced(sys.modules[name], attribute, F.scaled_dot_product_attention))
        for owner, method in hf.appends():
            stack.enter_context(_replaced(owner, method, _appending(getattr(owner, method))))
        # A fused kernel shares grouped keys and values by itself, with a mask or without.
        stack.enter_context(_replaced(*hf.fused_attention_switch(), _always))
        yield


def kept(cache: object, dtype: torch.dtype = torch.bfloat16) -> list[Kept]:
    """Return the tensors that a cache holds: those of its layers, of a pair of caches, or of a plain list."""
    found: list[Kept] = []
    seen: set[int] = set()

    def look(value: object, layer: int, name: str) -> None:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point() and value.numel() and id(value) not in seen:
                seen.add(id(value))
                size = "kv_bytes" if value.dtype == dtype else str(value.element_size())
                found.append(
                    Kept(layer, name, Operand(size, tuple(value.shape), _stored(value), value.is_floating_point()))
                )
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


_LAYER = re.compile(r"(.*?\b\d+)\..+")


def _group(scope: Scope, path: str, modules: Mapping[str, torch.nn.Module]) -> None:
    """Give a layer whose parts are called, but not the layer itself, a scope of its own."""
    children, scope.children = scope.children, []
    last: dict[str, int] = {}
    for place, child in enumerate(children):
        found = _LAYER.fullmatch(child.name) if isinstance(child, Scope) and child.module is not None else None
        if found and _join(path, found.group(1)) in modules:
            last[found.group(1)] = place
    inside: Scope | None = None
    for place, child in enumerate(children):
        name = next((name for name in last if isinstance(child, Scope) and child.name.startswith(f"{name}.")), "")
        if name and (inside is None or inside.name != name):
            module = modules[_join(path, name)]
            inside = Scope(name, _target(type(module)), module)
            scope.children.append(inside)
        if inside is not None and place <= last[inside.name]:
            if name:
                child.name = child.name.removeprefix(f"{name}.")
            inside.children.append(child)
        else:
            scope.children.append(child)
    for child in scope.children:
        if isinstance(child, Scope) and child.module is not None:
            inner = _join(path, child.name)
            _group(child, inner if inner in modules else child.name, modules)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# ---- catching


class _Recorder:
    """The tree being built, and whose memory is whose."""

    current: _Recorder | None = None

    def __init__(self, model: torch.nn.Module, cache: object) -> None:
        self.names = {id(module): name for name, module in model.named_modules()}
        self.dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.bfloat16)
        self.root = Scope("", _target(type(model)), model)
        self.stack = [self.root]
        self.paths = [""]
        self.alive: list[object] = []  # a freed address would be given out again
        self.owner: dict[int, str] = {}
        self.silent = 0
        for tensor in (*model.parameters(), *model.buffers()):
            self.owner[storage(tensor)] = "w_bytes"
        self.keep(_tensors_of(cache))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Listen to the modules' hooks."""
        register = torch.nn.modules.module
        hooks = (
            register.register_module_forward_pre_hook(
                self.enter_module,
            ),
            register.register_module_forward_hook(self.leave_module, with_kwargs=True, always_call=True),
        )
        _Recorder.current, outer = self, _Recorder.current
        try:
            yield
        finally:
            _Recorder.current = outer
            for hook in hooks:
                hook.remove()

    def enter_module(self, module: torch.nn.Module, _args: Any) -> None:
        """Open a module's scope."""
        path = self.names.get(id(module), "")
        if module is self.root.module or not path:
            self.paths.append(self.paths[-1])
            self.stack.append(self.stack[-1])
            return
        above = f"{self.paths[-1]}." if self.paths[-1] else ""
        name = path.removeprefix(above) if path.startswith(above) else path
        scope = Scope(name, _target(type(module)), module)
        self.stack[-1].children.append(scope)
        self.stack.append(scope)
        self.paths.append(path)

    def leave_module(self, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Close it."""
        scope = self.stack.pop()
        self.paths.pop()
        if scope.module is module:
            scope.inputs, scope.outputs = self.operands((args, kwargs)), self.operands(output)

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count these as the cache from now on."""
        for tensor in tensors:
            self.alive.append(tensor)
            self.owner[storage(tensor)] = "kv_bytes"

    def forget(self, outputs: Iterable[torch.Tensor], inputs: Iterable[torch.Tensor]) -> None:
        """Forget whose memory it was that results are in, unless it is still that of an input."""
        places = {storage(tensor) for tensor in inputs}
        for tensor in outputs:
            if (place := storage(tensor)) not in places:
                self.owner.pop(place, None)

    def operands(self, tree: object) -> tuple[Operand, ...]:
        """Return the tensors of a tree as operands."""
        return tuple(self.operand(leaf) for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))

    def operand(self, tensor: torch.Tensor) -> Operand:
        """Return a tensor as operand."""
        size = str(tensor.element_size())
        if tensor.dtype == self.dtype:
            owner = self.owner.get(storage(tensor), "a_bytes")
            size = owner if owner.endswith("bytes") else "a_bytes"
        return Operand(size, tuple(tensor.shape), _stored(tensor), tensor.is_floating_point())

    def note(self, operation: Operation) -> None:
        """Add an operation to the scope that is open."""
        self.stack[-1].children.append(operation)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Notes every operation that moves data; it `keeps` all tensors unless they take memory."""

    def __init__(self, recorder: _Recorder, *, keeps: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder, self.keeps = recorder, keeps

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = answer(func, args, kwargs)
        recorder = self.recorder
        outputs = _leaves((result,))
        if self.keeps:
            recorder.alive.extend(outputs)
        else:
            recorder.forget(outputs, _leaves(args))
        if recorder.silent:
            return result
        name, moves, pointwise = _schema(func)
        if not moves:
            return result
        inputs = _leaves(args) + _leaves(kwargs.values())
        operation = Operation(
            name,
            _line(),
            tuple(map(recorder.operand, inputs)),
            tuple(map(recorder.operand, outputs)),
            pointwise,
        )
        if name == "convolution" and args[6]:
            operation.detail = "transposed"
        elif name == "gelu":
            operation.detail = kwargs.get("approximate", "none")
        recorder.note(operation)
        return result


def _fused(attention: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return what stands in for a fused attention kernel, which the meta device does not have, while a trace runs."""

    @functools.wraps(attention)
    def call(*args: Any, **kwargs: Any) -> torch.Tensor:
        recorder = _Recorder.current
        if recorder is None or recorder.silent:  # it is silent inside another one's stand-in
            return attention(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask")
        given = dict(zip(names, args, strict=False)) | {name: kwargs[name] for name in names if name in kwargs}
        query, mask = given["query"], given.get("attn_mask")
        batch, heads, length, _ = query.shape
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
        scope = Scope("attention", ATTENTION)
        scope.inputs, scope.outputs = recorder.operands(inputs), recorder.operands(written)
        causal = kwargs.get("is_causal") or (mask is not None and recorder.owner.get(storage(mask)) == "causal mask")
        operation = Operation(ATTENTION.rpartition(".")[2], _line(), scope.inputs, scope.outputs)
        operation.detail = "causal" if causal else ""
        scope.children.append(operation)
        recorder.stack[-1].children.append(scope)
        return written.transpose(1, 2)

    return call


def _scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function so that a trace sees its calls."""
    masks = function.__module__ == MASKS

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        recorder = _Recorder.current
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
            for tensor in _tensors_of(result):
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
        recorder = _Recorder.current
        if recorder is None or recorder.silent:
            return update(self, *args, **kwargs)
        recorder.silent += 1
        try:
            result = update(self, *args, **kwargs)
        finally:
            recorder.silent -= 1
        new = tuple(recorder.operand(leaf) for leaf in args if isinstance(leaf, torch.Tensor))
        new += tuple(recorder.operand(leaf) for leaf in kwargs.values() if isinstance(leaf, torch.Tensor))
        written = tuple(
            Operand("kv_bytes" if one.size == "a_bytes" else one.size, one.shape, one.shape, one.floating)
            for one in new
        )
        recorder.keep(_tensors_of(result))
        scope = Scope("cache", APPEND, None, new, written)
        scope.children.append(Operation("append", _line(), new, written))
        recorder.stack[-1].children.append(scope)
        return result

    return call


# ---- small things


def _functions(module: ModuleType) -> list[tuple[str, Callable[..., Any]]]:
    """Return the functions of a model's code, and those that make its masks."""
    return [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ in {module.__name__, MASKS}
    ]


@contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


_SCHEMAS: dict[int, tuple[str, bool, bool]] = {}


def _schema(func: Any) -> tuple[str, bool, bool]:
    """Return an operation's name, whether it moves data, and whether PyTorch calls it pointwise."""
    known = _SCHEMAS.get(id(func))  # PyTorch's operations live for ever, and hashing them takes long
    if known is None:
        found = schema(func)
        moves = found.name not in _MOVES_NOTHING and found.writes_aliases
        known = _SCHEMAS[id(func)] = found.name, moves, torch.Tag.pointwise in func.tags
    return known


def _line() -> str:
    """Return where in the model's code we are: the nearest line that is not PyTorch's."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to the caller
    while frame is not None:
        name = frame.f_code.co_filename
        if name is not _HERE and not name.startswith(_TORCH) and name != _HERE:
            return f"{name.rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _always(*_args: object) -> bool:
    return True


def _target(class_: type[Any]) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


def _leaves(values: Iterable[Any]) -> list[torch.Tensor]:
    """Return the tensors among an operation's arguments or results, and in lists of them."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _leaves(value)
    return found


def _stored(tensor: torch.Tensor) -> tuple[int, ...]:
    if 0 not in tensor.stride():
        return tuple(tensor.shape)
    return tuple(size if stride or size <= 1 else 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _tensors_of(value: object, depth: int = 6) -> list[torch.Tensor]:
    """Return the tensors in a cache or a result, wherever its attributes hold them."""
    if isinstance(value, torch.Tensor):
        return [value]
    if depth == 0 or isinstance(value, type):
        return []
    if isinstance(value, Mapping):
        inside: Iterable[object] = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    else:
        inside = getattr(value, "__dict__", {}).values()
    return [tensor for item in inside for tensor in _tensors_of(item, depth - 1)]
