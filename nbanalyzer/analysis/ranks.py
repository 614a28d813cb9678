"""All ranks of a mesh side by side: who holds what, and for how long each is busy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nbanalyzer import display
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import again
from nbanalyzer.costs.plan import has_experts, is_attention
from nbanalyzer.costs.tree import Node
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.templates.template import Composite

from .memory import Memory, memory_of
from .roofline import Roofline

__all__ = ["Rank", "Ranks"]

MOST = 1024  # that are counted one by one


@dataclass(frozen=True)
class Rank:
    """A rank, and those that have the same to do.

    Attributes:
        first, last: the numbers of the first and the last of these, within one replica.
        costs: its pass.
        roofline: its times, if hardware is known.

    """

    first: int
    last: int
    costs: Costs
    roofline: Roofline | None = None

    @property
    def name(self) -> str:
        """Its number, or the first and the last one."""
        return f"{self.first:,}" if self.first == self.last else f"{self.first:,} to {self.last:,}"

    @property
    def stage(self) -> int:
        """Its stage in the pipeline, from 0."""
        return self.costs.run.places["pp"] or 0

    @cached_property
    def memory(self) -> Memory:
        """What it has to keep."""
        return memory_of(self.costs)

    @cached_property
    def holdings(self) -> dict[str, Number]:
        """Bytes of its memory by what they are: weights by `KINDS`, what is kept between passes, and the rest."""
        weights: dict[str, Number] = {}
        for node in self.costs.nodes:
            if node.is_basic or not (own := self.costs.own_weight_bytes(node)):
                continue
            kind = _kind(node)
            weights[kind] = normalize(weights.get(kind, 0) + own)
        found = {kind: weights[kind] for kind in KINDS if weights.get(kind)}
        memory = self.memory
        others = {"state": memory.state, "activations": memory.total - memory.weights - memory.state}
        return found | {name: number for name, number in others.items() if number}


KINDS = ("embedding", "attention", "feed-forward", "experts", "norms and others", "head")
"""What weights are of, in the order of a drawing."""


class Ranks(Shown, shown_by="ranks"):
    """The ranks of one replica of a mesh that differ, each with its costs.

    Args:
        costs: of any rank.
        roofline: whose accelerator and assumptions times are of; None for no times.

    Raises:
        InputError: too many to count one by one.

    """

    def __init__(self, costs: Costs, roofline: Roofline | None = None) -> None:
        self.costs = costs
        self.roofline = roofline
        self.rows = tuple(self._merged())

    def _merged(self) -> Iterator[Rank]:
        """Yield the ranks that differ; of neighbours that are alike, one."""
        waiting: Rank | None = None
        for number in self._numbers():
            costs = again(self.costs, self.costs.run.fused(self.costs.run.fusion, rank=number))
            if waiting and _is_alike(waiting.costs, costs):
                waiting = Rank(waiting.first, number, waiting.costs, waiting.roofline)
                continue
            if waiting:
                yield waiting
            waiting = Rank(number, number, costs, self._timed(costs))
        if waiting:
            yield waiting

    def _numbers(self) -> Iterator[int]:
        """Yield a rank for each place in the tensor-parallel group and each stage: others are alike."""
        run = self.costs.run
        if run.tp * run.pp > MOST:
            raise InputError(f"{run.tp * run.pp:,} ranks may differ: at most {MOST:,} are shown, --rank K shows one")
        for stage in range(run.pp):
            for place in range(run.tp):
                yield stage * (run.devices // run.pp) + place

    def _timed(self, costs: Costs) -> Roofline | None:
        of = self.roofline
        if of is None:
            return None
        return Roofline(costs, of.accelerator, of.efficiency, of.profile, of.communication)

    @property
    def replicas(self) -> int:
        """How often each rank is there."""
        run = self.costs.run
        return run.devices // (run.tp * run.pp)

    @property
    def busiest(self) -> Rank:
        """The rank that takes most time, or else has most FLOPs."""
        return max(self.rows, key=_work)

    def plot(self) -> Picture:
        """Return the mesh as a drawing: what every rank keeps, and on hardware what its time is spent on."""
        return display.figure(self, "mesh_plot")


def _work(rank: Rank) -> float:
    return rank.roofline.time if rank.roofline else float(rank.costs.cost_of_all.flops)


def _is_alike(first: Costs, second: Costs) -> bool:
    """Return whether two ranks have the same stage and the same numbers."""
    if first.run.places["pp"] != second.run.places["pp"]:
        return False
    return first.totals == second.totals and _shapes(first) == _shapes(second)


def _shapes(costs: Costs) -> Mapping[str, Number]:
    return {node.path: costs.costs[node].parameters for node in costs.nodes if not node.is_basic}


def _kind(node: Node) -> str:
    """Return what the weights of a module are of, told from its sizes and its place."""
    kernel = node.kernel
    assert isinstance(kernel, Composite)
    is_linear = {"input_size", "output_size"} <= kernel.bindings.keys()
    if "vocab_size" in node.own_parameters.variables:
        return "head" if is_linear else "embedding"
    if has_experts(kernel):
        return "experts"
    if node.block and any(map(_is_attention, _below(_part(node)))):
        return "attention"
    return "feed-forward" if is_linear else "norms and others"


def _part(node: Node) -> Node:
    """Return the module around a linear that stands directly in its layer."""
    while node.parent is not None and node.parent is not node.block:
        node = node.parent
    return node


def _below(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _below(child)


def _is_attention(node: Node) -> bool:
    return isinstance(node.kernel, Composite) and is_attention(node.kernel)
