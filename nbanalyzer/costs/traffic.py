"""The traffic of a launch: what comes from outside is read once, and what is read outside is written.

Never more than a fused kernel has to move, so that a bound stays one: what is not known to come from outside counts
nothing, and no tensor is read twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec

from nbanalyzer.formulas.formula import Formula, build, constant
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.template import Basic, MemoryAccess

from .flow import Flow
from .regions import Kind, copies_cache, has_weights, is_product
from .tensors import Tensor
from .terms import CACHE, MEMORY, NOTHING, less, only, outputs_of, without
from .tree import Node

__all__ = ["Group", "idle", "kernels_of"]


@dataclass(eq=False)
class Group:
    """Kernels that are launched as one.

    Attributes:
        block: the module around them that repeats, or that some passes skip.
        kind: what they are.
        nodes: the kernels, in order.
        carried: the first so many of them run at the end of the block, before its first kernels run again.

    """

    block: Node | None
    kind: Kind
    nodes: list[Node] = field(default_factory=list)
    carried: int = 0

    def adds(self, flow: Flow) -> list[Node]:
        """Return the carried kernels that add to the residual stream."""
        return [node for node in self.nodes[: self.carried] if node in flow.residual]


def kernels_of(group: Group, flow: Flow, carried: AbstractSet[Node], dropped: AbstractSet[Node]) -> dict[Node, Basic]:
    """Return the kernels of a launch with what each of them still reads and writes.

    Args:
        group: the launch.
        flow: which kernel reads which.
        carried: the residual adds of all blocks that run in the launch that a block begins with.
        dropped: the kernels that do not run, as casts.

    """
    traffic = _Traffic(group, flow, carried, dropped)
    kernels = {}
    for place, node in enumerate(group.nodes):
        access = MemoryAccess(str(traffic.read(place, node)), str(traffic.written(node)))
        kernels[node] = _replaced(node, str(node.parts[0]), access, is_fused=place > 0)
    return kernels


def idle(node: Node) -> Basic:
    """Return a kernel that does not run."""
    return _replaced(node, "0", MemoryAccess("0", "0"), is_fused=False)


def _replaced(node: Node, flops: str, access: MemoryAccess, *, is_fused: bool) -> Basic:
    assert isinstance(node.kernel, Basic)
    return msgspec.structs.replace(node.kernel, flops=flops, memory_access=access, steps=1, fused=is_fused)


class _Traffic:
    """What is left to read and to write of one launch."""

    def __init__(self, group: Group, flow: Flow, carried: AbstractSet[Node], dropped: AbstractSet[Node]) -> None:
        self.group = group
        self.flow = flow
        self.carried = carried
        self.dropped = dropped
        self.inside = frozenset(group.nodes)
        # What is fused with the last kernel, as the vector work of a product, writes nothing of its own.
        self.last = next((node for node in reversed(group.nodes) if node.parts[2] != NOTHING), group.nodes[-1])
        self.prepared: set[Node] = set()  # the kernels whose weights were read so far, though they do not run
        self.taken: dict[tuple[Node, Formula], list[tuple[Formula, Number]]] = {}  # tensor → its parts read so far

    def read(self, place: int, node: Node) -> Formula:
        """Return the bytes that a kernel still reads."""
        assert isinstance(node.kernel, Basic)
        from_memory = _from_memory(node)
        if self.group.kind == "linear":
            return node.parts[1] if place == 0 or node.kernel.fused else from_memory
        if self.group.kind == "attention":
            return build("+", from_memory, self.operands(place, node)) if is_product(node) else from_memory
        if self.group.kind == "experts":
            if not is_product(node):
                return NOTHING  # which token goes where, and the experts' biases: next to nothing
            is_first = not any(map(is_product, self.group.nodes[:place]))
            # What experts give to a token is as large as what they get of it.
            return build("+", from_memory, *outputs_of(self.last)[:1]) if is_first else from_memory
        if node in self.flow.states and node.parts[0] == NOTHING:
            return from_memory  # a copy of the state
        read = build("+", *self.from_outside(place, node))
        weights, read = only(read, MEMORY), without(read, MEMORY)
        if not self.flow.never_more(read, _activations(node)):
            read = build("min", _activations(node), read)
        return build("+", from_memory, weights, read, self.state(node, is_read=True))

    def state(self, node: Node, *, is_read: bool) -> Formula:
        """Return the bytes of the state that a scan keeps between passes, if this kernel is to read or to write it.

        A pass of one token reads it; longer ones may begin with none.
        """
        states = [one for one in self.group.nodes if one in self.flow.states and one.parts[0] != NOTHING]
        if not states or node is not states[-1]:
            return NOTHING
        is_step = not any("seq_len" in uses for one in self.group.nodes for uses in one.uses)
        return build("+", *outputs_of(node)) if is_step or not is_read else NOTHING

    def operands(self, place: int, node: Node) -> Formula:
        """Return the bytes that a product of attention reads beside cache, weights and what is made in the launch."""
        before = self.group.nodes[:place]
        inside = [one for one in self.group.nodes if copies_cache(one)]
        products = [one for one in before if is_product(one) and not has_weights(one)]
        if has_weights(node):
            return _activations(node)
        # The copy of the keys goes into the first product, that of the values into the second with the first's result.
        covered = [output for one in [*inside[len(products) :][:1], *products[-1:]] for output in outputs_of(one)]
        return less(_activations(node), covered)

    def from_outside(self, place: int, node: Node) -> Iterator[Formula]:
        """Yield the bytes of each tensor made outside the launch that a kernel is the first in it to read."""
        sources = self.flow.sources[node]
        for source in dict.fromkeys(sources):
            for made in self.flow.preparations.get(source.writer, ()):
                if made not in self.prepared:
                    self.prepared.add(made)
                    yield only(made.parts[1], MEMORY)
            if self.is_known(place, source):
                continue
            taken = self.taken.setdefault(source.whole, [])
            left = source.total[1] - sum(size for _, size in taken)
            if left <= 0:
                continue
            size = min(source.size[1], left)
            formula = source.formula if size == source.total[1] else self.part(node, source)
            if size == left and taken:
                formula = less(source.formula, [one for one, _ in taken])
            taken.append((formula, size))
            yield formula

    def is_known(self, place: int, source: Tensor) -> bool:
        """Return whether a tensor need not be read: made in the launch, or beforehand, or just added in the launch."""
        if source.writer in self.inside or source.writer in self.flow.preparations:
            return True
        if source.writer in self.carried and source.writer.block is not self.group.block:
            return True  # of the stream, the launch of the last add counts one tensor more than the last one moves
        adds = self.group.adds(self.flow) if place >= self.group.carried else []
        return source.is_stream and any(source.size == self.flow.written[node] for node in adds)

    def part(self, node: Node, source: Tensor) -> Formula:
        """Return the bytes of a part of a tensor that a kernel reads: all but the other tensors."""
        others = [one.formula for one in self.flow.sources[node] if one is not source]
        return less(_activations(node), others)

    def written(self, node: Node) -> Formula:
        """Return the bytes that a kernel still writes."""
        to_cache = only(node.parts[2], CACHE)
        if self.group.kind == "linear":
            return node.parts[2]
        outputs = outputs_of(node)
        if self.group.kind in {"attention", "experts"}:
            return build("+", to_cache, *(outputs if node is self.last else ()))
        if node in self.flow.states:
            return build("+", to_cache, self.state(node, is_read=False))
        kept = [output for output in outputs if node in self.flow.residual or self.leaves(node, output)]
        if node is self.last and not kept and to_cache == NOTHING:
            kept = outputs[:1]
        return build("+", to_cache, *(self.largest(node, output) for output in kept))

    def readers(self, node: Node, output: Formula) -> list[tuple[Node, Tensor]]:
        """Return the kernels that read a tensor, with what they read of it."""
        return [
            (reader, source)
            for reader in dict.fromkeys(self.flow.readers[node])
            for source in self.flow.sources[reader]
            if source.writer is node and source.formula is output
        ]

    def leaves(self, node: Node, output: Formula) -> bool:
        """Return whether a tensor is read outside: by a product, or by others if nothing in the launch reads it."""
        readers = [reader for reader, _ in self.readers(node, output)]
        outside = [reader for reader in readers if reader not in self.inside]
        return any(map(is_product, outside)) or len(outside) == len(readers) > 0

    def largest(self, node: Node, output: Formula) -> Formula:
        """Return the bytes of a tensor, or of the largest part that is read of it outside."""
        outside = [(reader, source) for reader, source in self.readers(node, output) if reader not in self.inside]
        if node in self.flow.residual or not outside:
            return output
        if all(reader in self.dropped for reader, _ in outside):  # casts: the result is written as they would leave it
            cast = outputs_of(outside[0][0])[:1]
            return cast[0] if cast and self.flow.never_more(cast[0], output) else output
        is_only_read_outside = len(outside) == len(self.readers(node, output))
        goes_to_cache = any("kv_bytes" in one.uses[2] for one in self.group.nodes)  # keys, beside the queries
        if (is_only_read_outside and not goes_to_cache) or any(source.is_whole for _, source in outside):
            return output
        reader, source = max(outside, key=lambda one: one[1].size[1])
        part = self.part(reader, source)
        return part if self.flow.never_more(part, output) else build("min", part, output)


def _from_memory(node: Node) -> Formula:
    """Return the bytes of weights and of the cache that a kernel reads."""
    memory = only(node.parts[1], MEMORY)
    return build("/", memory, constant(node.steps)) if node.steps > 1 else memory


def _activations(node: Node) -> Formula:
    """Return the other bytes that a kernel reads."""
    return build("+", *outputs_of(node)) if node.steps > 1 else without(node.parts[1], MEMORY)
