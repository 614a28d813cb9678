"""What a model is seen to do: a tree of the modules and functions that were called, with every operation in them.

Operations are caught where PyTorch dispatches them, after autograd and decompositions: what a device would be
asked to run.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nbanalyzer.generate.dispatch import hooked, schema, storage, tensors_of
from nbanalyzer.generate.model.host import is_host_work
from nbanalyzer.generate.model.meta import answer
from nbanalyzer.generate.model.subject import Step
from nbanalyzer.text import words

from .grouping import count_routed, group_experts, group_layers, join_experts
from .scope import Operand, Operation, Scope, qualified_name
from .tensors import leaves, operand_of

__all__ = ["Operations", "Recorder", "line_of_model", "seldom_collected", "trace"]

SELDOM = (100_000, 50, 50)

_NOT_THE_MODELS = (torch.__file__.rpartition("/")[0], __file__.rpartition("/")[0])
_MOVES_NOTHING = words(
    "_local_scalar_dense _unsafe_view as_strided_ empty empty_like empty_strided lift_fresh new_empty",
    "set_ squeeze_ t_ transpose_ unsafe_split unsafe_split_with_sizes unsqueeze_",
)
"""Operations that allocate or reinterpret memory without moving any; so do all whose schema says view."""
_LAYER = re.compile(r"\.\d+(\.|$)")


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Let the garbage collector look less often: of hundreds of thousands of objects in a trace nearly all stay.

    Looking through them again and again takes a third of the time; memory grows by a few MiB.
    """
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def trace(step: Step, logits: int = 0) -> Scope:
    """Run a step of a model and return what it did; `stand_ins.recording` must be open for the model."""
    recorder = _recorded(step, logits)
    if step.cache is None and any(id(module) not in recorder.names for module in step.model.modules()):
        step.encoded = None  # before short texts BigBird puts other layers in place, once
        recorder = _recorded(step, logits)
    has_data = step.subject.device != "meta"
    step.places = recorder.places
    recorder.root.children += [operation for early in recorder.early.values() for operation in early]
    group_layers(recorder.root, "", dict(step.model.named_modules()))
    if has_data:
        group_experts(recorder.root)
    elif step.routed:
        join_experts(recorder.root, step.routed)
    if step.reader is not None and (any(step.media) or step.subject.kind == "masked"):
        count_routed(recorder.root, step.batch_size * step.seq_len)
    return recorder.root


def _recorded(step: Step, logits: int) -> Recorder:
    """Run a step, and return what has listened to it."""
    recorder = Recorder(step.model, step.cache)
    with recorder.open(), Operations(recorder, keeps=step.subject.device == "meta"):
        step.run(logits)
    return recorder


class Recorder:
    """The tree being built, and whose memory is whose."""

    current: Recorder | None = None

    def __init__(self, model: torch.nn.Module, cache: object) -> None:
        named = [*model.named_modules()]
        self.names = {id(module): name for name, module in named}
        self.dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.bfloat16)
        self.root = Scope("", qualified_name(type(model)), model)
        self.stack = [self.root]
        self.paths = [""]
        self.early: dict[str, list[Operation]] = {}
        self.alive: list[object] = [*named]  # a freed address would be given out again
        self.owner: dict[int, str] = {}
        self.places: dict[int, str] = {}  # of a cache → the module that appended there
        self.silent = 0
        for tensor in (*model.parameters(), *model.buffers()):
            self.owner[storage(tensor)] = "w_bytes"
            self.alive.append(tensor)  # some convert a weight, and drop it
        self.keep(tensors_of(cache))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Listen to the modules' hooks."""
        Recorder.current, outer = self, Recorder.current
        try:
            with hooked(self.enter_module, self.leave_module):
                yield
        finally:
            Recorder.current = outer

    def enter_module(self, module: torch.nn.Module, _args: Any) -> None:
        """Open a module's scope."""
        path = self.names.get(id(module), "")
        if module is self.root.module or not path:
            self.paths.append(self.paths[-1])
            self.stack.append(self.stack[-1])
            return
        above = f"{self.paths[-1]}." if self.paths[-1] else ""
        name = path.removeprefix(above) if path.startswith(above) else path
        scope = Scope(name, qualified_name(type(module)), module)
        scope.children += self.early.pop(path, ())
        self.stack[-1].children.append(scope)
        self.stack.append(scope)
        self.paths.append(path)

    def note(self, operation: Operation, frame: FrameType | None) -> None:
        """Note an operation in the scope that is open; or, of a layer's method called from outside, in that layer.

        There it stands first of what the next call of the module does, so that each layer has its own.
        """
        path = self.paths[-1]
        if frame is not None and frame.f_code.co_name != "forward" and not _LAYER.search(path):
            own = self.names.get(id(frame.f_locals.get("self")), "")
            if own.startswith(path) and _LAYER.search(own):
                self.early.setdefault(own, []).append(operation)
                return
        self.stack[-1].children.append(operation)

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
        return operand_of(tensor, size)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Notes every operation that moves data; it `keeps` all tensors unless they take memory."""

    def __init__(self, recorder: Recorder, *, keeps: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder, self.keeps = recorder, keeps

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = answer(func, args, kwargs)
        recorder = self.recorder
        outputs = leaves((result,))
        if self.keeps:
            recorder.alive.extend(outputs)
        else:
            recorder.forget(outputs, leaves(args))
        if recorder.silent or is_host_work(outputs):
            return result
        name, _, writes_aliases, pointwise = schema(func)
        if name in _MOVES_NOTHING or not writes_aliases:
            return result
        inputs = leaves(args) + leaves(kwargs.values())
        frame = _frame_of_model()
        operation = Operation(
            name,
            _line_of(frame),
            tuple(map(recorder.operand, inputs)),
            tuple(map(recorder.operand, outputs)),
            pointwise,
        )
        if name == "convolution" and args[6]:
            operation.detail = "transposed"
        elif name == "gelu":
            operation.detail = kwargs.get("approximate", "none")
        elif name.startswith("_fft"):
            operation.detail = " ".join(map(str, args[1]))
        recorder.note(operation, frame)
        return result


def line_of_model() -> str:
    """Return where in the model's code we are: the nearest line that is neither PyTorch's nor this room's."""
    return _line_of(_frame_of_model())


def _line_of(frame: FrameType | None) -> str:
    return "" if frame is None else f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def _frame_of_model() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to the caller
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_MODELS):
        frame = frame.f_back
    return frame
