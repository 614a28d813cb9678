"""What a real transformers model costs, counted on the meta device: the truth that templates are held against.

Two oracles look at the same forward pass. Matmul FLOPs are those of PyTorch's own `FlopCounterMode`, with eager
attention and experts by batched products, since it counts nothing for fused ones. Bytes and vector FLOPs are those
of every operation that was traced, by the one table of rules. Both say which module they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nbanalyzer.costs.tree import Cost
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.generate.dispatch import hooked, is_made_of_others, packet_of, undispatched
from nbanalyzer.generate.hf import MASKS
from nbanalyzer.generate.model.meta import Answers, answer
from nbanalyzer.generate.model.subject import Step, Subject, UnrunnableError
from nbanalyzer.generate.trace.depth import Depth
from nbanalyzer.generate.trace.layers import attends_fused, seen_alike, stacks
from nbanalyzer.generate.trace.pricing import Amount, total, work
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Operation, Scope
from nbanalyzer.generate.trace.stand_ins import recording

from .media import in_run, needed

__all__ = [
    "Seen",
    "affordable",
    "calls",
    "flops",
    "flops_and_trace",
    "layers_of",
    "parameters",
    "price",
    "traffic",
]

LONGEST, SHORTEST = 2048, 8
"""Tokens of a prefill that is compared: where nothing speaks against it, and in any case."""

LONGEST_WITH_DATA = 256
"""The same where tensors take memory, and time."""


Result = TypeVar("Result")


@dataclass(slots=True)
class Seen:
    """A module that was called, with what that cost.

    Attributes:
        name: of the module, relative to the one that called it.
        path: of the module in the model.
        cost: all that was run in the call.
        children: the modules called inside, in order.

    """

    name: str
    path: str = ""
    cost: Cost = field(default_factory=Cost)
    children: list[Seen] = field(default_factory=list)


def parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters, tied tensors once."""
    return sum(parameter.numel() for parameter in model.parameters())


def layers_of(subject: Subject, model: torch.nn.Module, root: Scope) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return path of a list of layers → what the kind of each may be called, see `nbanalyzer.generate.write.template`.

    That is the number of the first layer that is like it, and does the same in the trace `root` of a first step;
    and what the config's lists say of it.
    """
    fields = subject.fields()
    found = {}
    for stack in seen_alike(stacks(model, fields), root):
        lists = [value for value in fields.values() if isinstance(value, list) and len(value) == len(stack.alike)]
        words = [value for value in lists if all(isinstance(word, str) for word in value)]
        found[stack.path] = tuple(
            (str(first), *(value[number] for value in words)) for number, first in enumerate(stack.alike)
        )
    return found


# ---- matmul FLOPs


def flops(step: Step, logits: int = 0) -> Seen:
    """Run a step of a model with eager attention; return FlopCounterMode's count, as each cost's ``matmul_flops``."""
    with Answers():
        return _counted(step, lambda counting: counting.run(logits), answers=True)[0]


def flops_and_trace(step: Step, logits: int = 0) -> tuple[Seen, Scope]:
    """Return the same, and the trace of the same pass."""
    return _counted(step, lambda counting: trace(counting, logits))


def _counted(step: Step, run: Callable[[Step], Result], *, answers: bool = False) -> tuple[Seen, Result]:
    counting = _Counting(**vars(step), answers=answers)
    try:
        result = run(counting)
    finally:
        step.after, step.encoded, step.untouched = counting.after, counting.encoded, counting.untouched
    return counting.seen, result


@dataclass
class _Counting(Step):
    """A step that is counted; the counter has to see what it counts first, before any answer is known.

    Attributes:
        seen: what was counted.
        answers: whether nothing else has to see the rest, which is answered before the counter looks at it.

    """

    seen: Seen = field(default_factory=lambda: Seen(""))
    answers: bool = False

    def run(self, logits: int = 0) -> None:
        self.model.requires_grad_(requires_grad=False)  # of slices of weights, the counter would ask for gradients
        with (
            torch.no_grad(),
            FlopCounterMode(display=False) as counter,
            calls(self.model, counter, self.seen),
            _Rest(counter.flop_registry) if self.answers else nullcontext(),
        ):
            super().run(logits)
        self.seen.cost.matmul_flops = counter.get_total_flops()


class _Rest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Answers what a counter has no rule for, nor for what it is made of: most of all operations, at half the price."""

    def __init__(self, counted: Collection[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted = counted
        self.known: dict[int, bool] = {}  # PyTorch's operations are never freed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        passes = self.known.get(id(func))
        if passes is None:
            passes = self.known[id(func)] = packet_of(func) in self.counted or is_made_of_others(func)
        if passes:
            return func(*args, **(kwargs or {}))
        with undispatched():
            return answer(func, args, kwargs or {})


class Counter(Protocol):
    """What adds up FLOPs."""

    def get_total_flops(self) -> int:
        """Return the sum so far."""


@contextmanager
def calls(model: torch.nn.Module, counter: Counter, root: Seen) -> Iterator[None]:
    """Note which modules are called, and what the counter counts meanwhile.

    FlopCounterMode knows modules too, but books what a shared module does to one place only.
    """
    names = {id(module): name for name, module in model.named_modules()}
    stack = [(root, 0)]

    def enter(module: torch.nn.Module, _args: Any) -> None:
        outer, path = stack[-1][0], names.get(id(module), "")
        seen = outer
        if path:
            above = f"{outer.path}." if outer.path else ""
            seen = Seen(path.removeprefix(above), path)
            outer.children.append(seen)
        stack.append((seen, counter.get_total_flops()))

    def leave(_module: torch.nn.Module, _args: Any, _kwargs: Any, _output: Any) -> None:
        seen, before = stack.pop()
        seen.cost.matmul_flops = counter.get_total_flops() - before

    with hooked(enter, leave):
        yield


# ---- traffic and vector FLOPs


def traffic(root: Scope, tokens: int, size: int = 2) -> Seen:
    """Return what the operations of a traced step cost together, module by module.

    Where attention is fused, the masks that transformers makes for it are not counted: no kernel needs them.

    Args:
        root: the trace.
        tokens: new tokens of all sequences, which a router spreads over the experts.
        size: bytes of an element of weights, activations and cache.

    Raises:
        UnknownOperation: one that no rule says the cost of.

    """
    fused = attends_fused(root)
    model = root.module
    names = {id(module): name for name, module in model.named_modules()} if model is not None else {}
    known: dict[object, Cost] = {}  # layers repeat themselves

    def look(scope: Scope, seen: Seen) -> None:
        for child in scope.children:
            if isinstance(child, Operation):
                key = (child.name, child.detail, child.pointwise, child.inputs, child.outputs, child.routed)
                if key not in known:
                    known[key] = price(child, tokens, size)
                seen.cost.include(known[key])
            elif child.module is not None:
                inner = Seen(child.name, names.get(id(child.module), ""))
                seen.children.append(inner)
                look(child, inner)
                seen.cost.include(inner.cost)
            elif not (fused and child.target.startswith(MASKS)):
                look(child, seen)

    result = Seen("")
    look(root, result)
    return result


def price(operation: Operation, tokens: int, size: int = 2) -> Cost:
    """Return what an operation costs, with elements of weights, activations and cache of `size` bytes.

    Raises:
        UnknownOperation: no rule says.

    """
    needed = work(operation)
    sizes = {"w_bytes": size, "a_bytes": size, "kv_bytes": size}

    def bytes_of(amounts: Iterable[Amount], unit: str) -> Number:
        return total((amount for amount in amounts if amount.unit == unit), tokens, sizes)

    flops, extra, read, write = (
        total(part, tokens, sizes) for part in (needed.flops, needed.extra, needed.read, needed.write)
    )
    cost = Cost(vector_flops=extra, read_bytes=read, write_bytes=write)
    if needed.kind == "matmul":
        cost.matmul_flops = flops
    else:
        cost.vector_flops = normalize(extra + flops)
    cost.weight_bytes_read = bytes_of(needed.read, "w_bytes")
    cost.kv_bytes_read = bytes_of(needed.read, "kv_bytes")
    cost.kv_bytes_written = bytes_of(needed.write, "kv_bytes")
    return cost


# ---- how long


def affordable(subject: Subject, model: torch.nn.Module) -> int:
    """Return how many tokens a prefill that is compared may have, a power of 2.

    Not more than the model takes, and where it works token by token, or chunk by chunk, not so many that it runs
    more than about twice as many operations as for one. This is read off the model with few of its layers.

    Raises:
        UnrunnableError: the model does not run at any length.

    """
    few = {stack.path: stack.needed for stack in stacks(model, subject.fields())}
    try:
        return _affordable(subject, lambda: Depth(cut=few).shorten(subject.build()))
    except UnrunnableError:
        return _affordable(subject, subject.build)  # its code counts its layers


_TABLES = ("max_target_positions", "max_text_positions")
"""Fields with the lengths of tables of positions that may grow: then more is done."""


def _affordable(subject: Subject, build: Callable[[], torch.nn.Module]) -> int:
    model, read = build(), in_run(subject, needed(subject))

    def operations(*lengths: int) -> int:
        """Return how many operations the first step has; the others have to run too."""
        first, *_ = (
            sum(1 for _ in trace(step).operations()) for step in subject.steps(model, 1, lengths, lengths[0], read)
        )
        return first

    with recording(model):
        length = LONGEST if subject.device == "meta" else LONGEST_WITH_DATA
        while length >= min(getattr(model.config, name, math.inf) for name in _TABLES):
            length //= 2
        with suppress(UnrunnableError):  # it takes even fewer
            short, long = operations(16), operations(144)
            each = Fraction(long - short, 128)
            while length > SHORTEST and each * length > short:
                length //= 2
        while True:
            try:
                operations(length, 1)
            except UnrunnableError:
                if length <= SHORTEST:
                    raise
                length //= 2
                model = build()  # a table of TrOCR's positions has grown, and not in bf16
            else:
                return length
