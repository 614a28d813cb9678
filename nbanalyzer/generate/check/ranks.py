"""One rank of a group that shares a model, on one processor: what it holds, computes and sends, by transformers' plan.

A process group that sends nothing makes this process the first of many ranks, and the meta device needs no memory. What
PyTorch runs for the rank are operations on its own parts of the weights; operations on `DTensor`s become such ones, and
those on `FakeTensor`s only work out how results are divided: they are no work of the rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nbanalyzer.errors import NBAnalyzerError, shorten
from nbanalyzer.generate import hf
from nbanalyzer.generate.dispatch import collective, fake_group, group_of, storage
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.meta import answer
from nbanalyzer.generate.model.subject import Step, Subject
from nbanalyzer.generate.trace.grouping import group_layers
from nbanalyzer.generate.trace.recorder import Operations, Recorder
from nbanalyzer.generate.trace.scope import Scope
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.trace.tensors import kept_sizes, leaves

from .oracle import Seen, calls, layers_of, parameters, traffic
from .programs import operations
from .runs import MATMUL, TRAFFIC, Measured, Run

__all__ = ["Rank", "Sent", "UnsharedError", "rank_of"]

SHARED_BATCH, EXCHANGED = "auto", "all_to_all"
"""How experts get their tokens: as transformers chooses, which is by no exchange where the ranks have the same ones;
and by an exchange, so that each rank computes its part of the products and no more."""


class UnsharedError(NBAnalyzerError):
    """A model that transformers does not share among ranks.

    Attributes:
        tp, ep: ranks that divide tensors, and experts.
        problem: what PyTorch or transformers said.

    """

    def __init__(self, tp: int, ep: int, problem: str) -> None:
        super().__init__(tp, ep, problem)
        self.tp, self.ep, self.problem = tp, ep, problem

    def message(self) -> str:
        """Return what was tried, and the problem."""
        experts = f", its experts by {self.ep}" if self.ep > 1 else ""
        return f"transformers does not divide this model by tp={self.tp}{experts}: {self.problem}"


class Sent(NamedTuple):
    """A collective that a rank took part in.

    Attributes:
        path: of the innermost module that it was started in.
        collective: such as ``"all_reduce"``.
        group: ``"tp"`` or ``"ep"``.
        payload: bytes of the whole tensor: of all_gather what is there afterwards, of reduce_scatter what was before,
            of all_to_all what the rank hands in.

    """

    path: str
    collective: str
    group: str
    payload: int


@dataclass(frozen=True)
class Rank:
    """What one rank of a group does in one pass.

    Attributes:
        tp, ep: ranks that divide tensors, and experts.
        parameters: elements that it holds, tied tensors once.
        model: with its parts of the parameters.
        layers: as `oracle.layers_of` gives them.
        measured: what the oracles saw: matmul FLOPs, then traffic with the trace.
        sent: every collective, in order.

    """

    tp: int
    ep: int
    parameters: int
    model: torch.nn.Module
    layers: Mapping[str, tuple[tuple[str, ...], ...]]
    measured: tuple[Measured, ...]
    sent: tuple[Sent, ...]

    @property
    def matmul_flops(self) -> int:
        """FLOPs of the matrix products, as PyTorch counts them."""
        return int(self.measured[0].seen.cost.matmul_flops)

    @property
    def operations(self) -> list[tuple[str, str]]:
        """Path of the module and name of every operation, in order."""
        root = self.measured[-1].root
        assert root is not None
        return [*operations(root)]

    def communication(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return collective and group → how many there are, and the bytes of all payloads."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for one in self.sent:
            number, payload = found.get((one.collective, one.group), (0, 0))
            found[one.collective, one.group] = number + 1, payload + one.payload
        return found


def rank_of(subject: Subject, tp: int = 1, ep: int = 1, run: Run | None = None) -> Rank:
    """Return what the first, and busiest, rank does in a run.

    Args:
        subject: the model; its config is that of one device.
        tp: ranks that share heads, widths and vocabulary, at least 2.
        ep: ranks that share the experts: 1, or `tp`.
        run: ``batch_size``, ``seq_len``, ``cache_len`` and ``logits``, as `nbanalyzer.populate` takes them.

    Raises:
        UnsharedError: the model has no plan, or sizes that these ranks cannot share.

    """
    run = {"batch_size": 1, "seq_len": 512, **(run or {})}
    try:
        with quiet(), fake_group(tp):
            counted = _Share(subject.build("eager", "batched_mm"), tp, ep, EXCHANGED)
            flops = counted.measured(subject, run, traced=False)
            traced = _Share(subject.build(), tp, ep, SHARED_BATCH)
            with recording(traced.model):
                seen = traced.measured(subject, run, traced=True)
            assert seen.root is not None
            layers = layers_of(subject, traced.model, seen.root)
            traced.undivide()
    except Exception as error:  # whatever a model's code, transformers and PyTorch say of sizes
        problem = shorten(" ".join(str(error).split()) or type(error).__name__, 200)
        raise UnsharedError(tp, ep, problem) from error
    return Rank(tp, ep, parameters(traced.model), traced.model, layers, (flops, seen), tuple(traced.sent))


class _Share:
    """A rank's model, and what it sends."""

    def __init__(self, model: torch.nn.Module, tp: int, ep: int, exchange: str) -> None:
        self.model, self.sent = model, list[Sent]()
        with _untied(model):
            self.groups = hf.distribute(model, tp, ep, exchange)
        self.ep = ep

    def measured(self, subject: Subject, run: Run, *, traced: bool) -> Measured:
        """Return what an oracle sees of a run."""
        lengths = [length for length in (run.get("cache_len", 0), run["seq_len"]) if length]
        steps = subject.steps(self.model, run["batch_size"], lengths, run.get("encoder_len", 0))
        for length, step in zip(lengths, steps, strict=True):
            self.sent.clear()
            if traced:
                root = self._trace(step, int(run.get("logits") == "last"))
            else:
                seen = self._count(step, int(run.get("logits") == "last"))
            assert step.seq_len == length
        kept = kept_sizes(step.after)
        if traced:
            return Measured("rank", run, TRAFFIC, traffic(root, step.batch_size * step.seq_len), kept, root)
        return Measured("rank", run, MATMUL, seen, kept)

    def _count(self, step: Step, logits: int) -> Seen:
        seen, counter = Seen(""), _Counter(self)
        with calls(self.model, counter, seen), _balanced(counter, self.ep), counter:
            step.run(logits)
        seen.cost.matmul_flops = counter.get_total_flops()
        return seen

    def _trace(self, step: Step, logits: int) -> Scope:
        recorder = Recorder(self.model, step.cache)
        for parameter in self.model.parameters():
            if isinstance(parameter, DTensor):
                recorder.owner[storage(parameter.to_local())] = "w_bytes"
        with recorder.open(), _Traced(recorder, self):
            step.run(logits)
        group_layers(recorder.root, "", dict(self.model.named_modules()))
        _without_vocabulary_masks(recorder.root)
        return recorder.root

    def undivide(self) -> None:
        """Make plain parameters of the rank's parts, so that they can be counted; the model does not run any more."""
        plain: dict[int, torch.nn.Parameter] = {}
        for module in self.model.modules():
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
                if isinstance(parameter, DTensor):
                    local = torch.nn.Parameter(parameter.to_local().detach(), requires_grad=False)
                    module._parameters[name] = plain.setdefault(id(parameter), local)  # noqa: SLF001


@contextmanager
def _untied(model: torch.nn.Module) -> Iterator[None]:
    """Let tensors be divided that are one another's, and be one again afterwards where their parts are alike."""
    firsts: dict[int, tuple[torch.nn.Module, str]] = {}
    twins: list[tuple[tuple[torch.nn.Module, str], tuple[torch.nn.Module, str]]] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            first = firsts.setdefault(id(parameter), (module, name))
            if first != (module, name):
                twins.append((first, (module, name)))
    for _, (module, name) in twins:
        own = torch.nn.Parameter(module.get_parameter(name).detach().clone(), requires_grad=False)
        module.register_parameter(name, own)
    yield
    for (owner, own_name), (module, name) in twins:
        one, two = owner.get_parameter(own_name), module.get_parameter(name)
        if getattr(one, "placements", ()) == getattr(two, "placements", ()):
            module.register_parameter(name, one)


def _payload(kind: str, args: tuple[Any, ...]) -> int:
    """Return the bytes of a collective's whole tensor; of operations that write into a tensor it is the first one."""
    first, *others = args
    if kind == "all_gather":
        return _bytes(first) * next((arg for arg in others if isinstance(arg, int)), 1)
    into = isinstance(first, torch.Tensor) and others and isinstance(others[0], torch.Tensor)
    return _bytes(others[0] if into else first)


def _bytes(value: object) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in leaves((value,)))


# ---- what is the rank's own work

_OWN = (torch.Tensor, torch.nn.Parameter)


def _is_own(types: Any) -> bool:
    """Return whether an operation is one on plain tensors."""
    return all(one in _OWN for one in types)


def _elsewhere(func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run what works out how a result is divided; what is divided becomes work of the rank before it comes back."""
    if any(issubclass(one, FakeTensor) for one in types):
        return func(*args, **kwargs)
    return NotImplemented


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Adds up matmul FLOPs by the formulas of FlopCounterMode, which itself takes whole tensors for a rank's."""

    def __init__(self, share: _Share) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.share, self.flops, self.sorted = share, 0, 0

    def get_total_flops(self) -> int:
        """Return the sum so far."""
        return self.flops

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_own(types):
            return _elsewhere(func, types, args, kwargs)
        if collective(func) is not None:
            return func(*args, **kwargs)
        result = answer(func, args, kwargs)
        if formula := flop_registry.get(func.overloadpacket):
            self.flops += formula(*args, **kwargs, out_val=result)
        elif func.overloadpacket is torch.ops.aten.sort:
            self.sorted = args[0].numel()
        return result


class _Traced(Operations):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Notes the operations of a rank, and what it sends."""

    def __init__(self, recorder: Recorder, share: _Share) -> None:
        super().__init__(recorder)
        self.share = share

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_own(types):
            return _elsewhere(func, types, args, kwargs)
        path, sent = self.recorder.paths[-1], self.share.sent
        if (kind := collective(func)) is None:
            if func is torch.ops.aten.cat.default and sent and sent[-1][:2] == (path, "all_gather"):
                joined: torch.Tensor = func(*args, **kwargs)
                if _bytes(joined) == sent[-1].payload:
                    return joined  # what was gathered, put side by side
            return super().__torch_dispatch__(func, types, args, kwargs)
        if kind:
            group = group_of(func, args, kwargs)
            sent.append(Sent(path, kind, self.share.groups.get(group, group), _payload(kind, args)))
        return func(*args, **kwargs)


@contextmanager
def _balanced(counter: _Counter, ep: int) -> Iterator[None]:
    """Let every rank be sent as many tokens as any other, where a model asks how many it sends to which."""
    if ep == 1:
        yield
        return
    own = torch.Tensor.tolist

    def tolist(self: torch.Tensor) -> Any:
        if not self.is_meta or self.dim() != 2 or self.shape[1] != ep:
            return own(self)
        rows = counter.sorted  # one for each token and expert
        return [[rows * (rank + 1) // ep - rows * rank // ep for rank in range(ep)]] * self.shape[0]

    torch.Tensor.tolist = tolist  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.Tensor.tolist = own  # type: ignore[method-assign]


# ---- the trace


def _scopes(scope: Scope, path: str) -> Iterator[tuple[str, Scope]]:
    """Yield path and scope of everything that is called, in order."""
    yield path, scope
    for child in scope.children:
        if isinstance(child, Scope):
            yield from _scopes(child, f"{path}.{child.name}" if path and child.name else path or child.name)


_MASKS = frozenset({"lt", "ge", "__or__", "clone", "sub", "scalar_tensor", "index_put_"})
"""How `DTensor` looks up the tokens of a part of the vocabulary: the others become its first, and their result 0."""


def _without_vocabulary_masks(root: Scope) -> None:
    """Leave out what a rank does only because it has a part of the vocabulary."""
    for _, scope in _scopes(root, ""):
        if isinstance(scope.module, torch.nn.Embedding) and isinstance(scope.module.weight, DTensor):
            scope.children = [child for child in scope.children if isinstance(child, Scope) or child.name not in _MASKS]
