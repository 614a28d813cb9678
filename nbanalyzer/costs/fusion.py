"""Kernels as serving engines launch them: fused, by rules that see the structure of a tree and no model's name.

PyTorch runs operation by operation: what one writes, the next one reads back. Engines (vLLM, SGLang, TensorRT-LLM) run

- a **chain** of vector kernels as one: it reads what comes in, and writes what goes out,
- **linears that share their input** as one product, their outputs side by side,
- **attention**, whatever its implementation in transformers, as one kernel that reads the cache as it is,
- the routed **experts** of a layer as one kernel,
- the **residual add** with the norm after it, the last one of a layer with the first norm of the next,

and no **preparations** (positions, masks, tables of the rotary embedding) nor copies that only change a layout.
The products stay what they are: matmul FLOPs never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from nbanalyzer.formulas.formula import Formula, build, constant
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess

from .flow import Flow, Tensor, flow_of
from .regions import Kind, Region, has_weights, regions_of
from .tree import Node, Tree

__all__ = ["fused"]

MEMORY = frozenset({"w_bytes", "kv_bytes"})  # what is read and written whatever is fused


def fused(tree: Tree) -> Tree:
    """Return a tree as a serving engine would launch it: the same kernels at the same places, other traffic."""
    regions = regions_of(tree)
    flow = flow_of(tree, regions)
    groups = _Grouping(flow, regions).groups(tree)
    kernels: dict[Node, Basic] = {}
    for group in groups:
        kernels |= _traffic(group, flow)
    for node in tree.nodes:
        if isinstance(node.kernel, Basic) and node not in kernels:
            kernels[node] = _replaced(node.kernel, "0", "0", "0")  # it is not run
    template = msgspec.structs.replace(tree.template, kernels=_rebuilt(tree.roots, kernels))
    place = {node: number for number, node in enumerate(tree.nodes)}
    launches = [(group.kind, tuple(place[node] for node in group.nodes)) for group in groups]
    return Tree(template, tree.source, launches)


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


class _Grouping:
    """Which kernels are launched together."""

    def __init__(self, flow: Flow, regions: Mapping[Node, Region]) -> None:
        self.flow = flow
        self.regions = regions
        self.of_region: dict[Region, Group] = {}
        self.made: list[Group] = []
        self.chain: Group | None = None  # the one that the next vector kernel joins
        self.preparations: set[Node] = set()

    def groups(self, tree: Tree) -> list[Group]:
        """Return the launches of a tree, in order."""
        for node in tree.nodes:
            if not isinstance(node.kernel, Basic) or self.is_preparation(node):
                continue
            if node in self.regions:
                self.add_to_region(node, self.regions[node])
            elif node.kernel.fused and self.made and self.made[-1].nodes[-1].parent is node.parent:
                self.made[-1].nodes.append(node)
            elif node.kernel.unit == "matmul":
                self.add_product(node)
            else:
                self.add_vector(node)
        self.carry_residuals()
        return [group for group in self.made if not self.only_moves(group)]

    def is_preparation(self, node: Node) -> bool:
        """Return whether a kernel follows from positions alone: no weight and no token is behind what it reads."""
        if node.block or not isinstance(node.kernel, Basic) or node.kernel.unit == "matmul" or has_weights(node):
            return False
        if all(source.writer in self.preparations for source in self.flow.sources[node]):
            self.preparations.add(node)
        return node in self.preparations

    def add_to_region(self, node: Node, region: Region) -> None:
        """Add a kernel to the launch of its region."""
        if region not in self.of_region:
            self.of_region[region] = Group(node.block, region.kind)
            self.made.append(self.of_region[region])
            self.chain = None
        self.of_region[region].nodes.append(node)

    def add_product(self, node: Node) -> None:
        """Add a product: to the one before it that has the same input, if their modules stand side by side."""
        for group in reversed(self.made):
            if group.block is not node.block:
                break
            if group.kind == "linear" and self.shares_input(group.nodes[0], node):
                group.nodes.append(node)
                return
        self.made.append(Group(node.block, "linear", [node]))
        self.chain = None

    def shares_input(self, first: Node, second: Node) -> bool:
        """Return whether two products of neighbouring modules read the same tensors."""
        read = self.flow.sources[first]
        return first.module_around is second.module_around and bool(read) and read == self.flow.sources[second]

    def add_vector(self, node: Node) -> None:
        """Add a vector kernel to the chain that is open."""
        if self.chain is None or self.chain.block is not node.block:
            self.chain = Group(node.block, "chain")
            self.made.append(self.chain)
        self.chain.nodes.append(node)

    def carry_residuals(self) -> None:
        """Join a chain that ends a repeated block with a residual add to the one that the block begins with."""
        by_block: dict[Node | None, list[Group]] = {}
        for group in self.made:
            by_block.setdefault(group.block, []).append(group)
        for block, groups in by_block.items():
            first, last = groups[0], groups[-1]
            adds = [node for node in last.nodes if node in self.flow.residual]
            if block and first is not last and first.kind == last.kind == "chain" and adds:
                first.nodes[:0] = last.nodes
                first.carried = len(last.nodes)
                self.made.remove(last)

    def only_moves(self, group: Group) -> bool:
        """Return whether a chain computes nothing, and touches neither weights nor the cache."""
        return group.kind == "chain" and all(
            node.parts[0] == constant(0) and not has_weights(node) and not touches_cache(node) for node in group.nodes
        )


def touches_cache(node: Node) -> bool:
    """Return whether a kernel reads or writes the cache."""
    return "kv_bytes" in node.sizes


def _traffic(group: Group, flow: Flow) -> dict[Node, Basic]:
    """Return the kernels of a launch with the traffic that is left to each of them."""
    inside, seen = frozenset(group.nodes), set[Tensor]()
    kernels = {}
    for place, node in enumerate(group.nodes):
        read = _read(group, node, place, flow, inside, seen)
        write = _written(group, node, flow, inside)
        assert isinstance(node.kernel, Basic)
        flops = str(node.parts[0])
        kernels[node] = _replaced(node.kernel, flops, str(read), str(write), is_fused=place > 0)
    return kernels


def _read(group: Group, node: Node, place: int, flow: Flow, inside: frozenset[Node], seen: set[Tensor]) -> Formula:
    """Return the bytes that a kernel still reads: what comes from outside its launch, for the first time."""
    _, read, write = node.parts
    if node.steps > 1:
        read = build("/", write, constant(node.steps))
    if group.kind == "linear":
        return read if place == 0 or node.kernel.fused else _from_memory(read)  # type: ignore[union-attr]
    sources = flow.sources[node]
    known = [one for one in sources if one.writer in inside or one in seen or _is_carried(group, place, one, flow)]
    if group.kind in {"attention", "experts", "scan"}:
        known += [one for one in sources if one.writer.block is None and one not in known]  # masks
    seen.update(sources)
    if node in flow.unknown or not sources:
        covered = [one.writer.parts[2] for one in known]
        return _less(read, covered)
    if len(known) == len(sources):
        return _from_memory(read)
    new = [one for one in sources if one not in known]
    if not known:
        return read
    if all(one.is_whole for one in new):
        return build("+", _from_memory(read), *(one.writer.parts[2] for one in new))
    return _less(read, [one.writer.parts[2] for one in known])


def _is_carried(group: Group, place: int, source: Tensor, flow: Flow) -> bool:
    """Return whether what a kernel reads was just added to the residual stream in the same launch."""
    if place < group.carried:
        return False
    adds = [node for node in group.nodes[: group.carried] if node in flow.residual]
    return any(source.is_stream and source.size == flow.written[node] for node in adds)


def _written(group: Group, node: Node, flow: Flow, inside: frozenset[Node]) -> Formula:
    """Return the bytes that a kernel still writes: what is read outside its launch, or by nobody in this pass."""
    write = node.parts[2]
    if node.steps > 1:
        write = build("/", write, constant(node.steps))
    if group.kind == "linear" or node is group.nodes[-1] or node in flow.residual or "kv_bytes" in node.uses[2]:
        return write
    if group.kind != "chain":
        return constant(0)
    outside = [reader for reader in flow.readers[node] if reader not in inside]
    if not outside:
        return constant(0)
    parts = [source for reader in outside for source in flow.sources[reader] if source.writer is node]
    if all(not part.is_whole for part in parts):
        return _activations(outside[0].parts[1])
    return write


def _terms(formula: Formula) -> tuple[Formula, ...]:
    return formula.arguments if formula.operation == "+" else (formula,)


def _from_memory(formula: Formula) -> Formula:
    """Return the terms of weights and of the cache."""
    return build("+", *(term for term in _terms(formula) if MEMORY.intersection(term.variables)))


def _activations(formula: Formula) -> Formula:
    """Return the other terms."""
    return build("+", *(term for term in _terms(formula) if not MEMORY.intersection(term.variables)))


def _less(formula: Formula, covered: list[Formula]) -> Formula:
    """Return a number of bytes without those that are covered."""
    if not covered:
        return formula
    rest = build("-", _activations(formula), build("+", *covered))
    return build("+", _from_memory(formula), build("max", rest, constant(0)))


def _replaced(kernel: Basic, flops: str, read: str, write: str, *, is_fused: bool = False) -> Basic:
    access = MemoryAccess(read, write)
    return msgspec.structs.replace(kernel, flops=flops, memory_access=access, steps=1, fused=is_fused)


def _rebuilt(nodes: Iterable[Node], kernels: dict[Node, Basic]) -> tuple[Kernel, ...]:
    """Return a tree with other basic kernels."""
    return tuple(
        msgspec.structs.replace(node.kernel, sub_kernels=_rebuilt(node.children, kernels))
        if isinstance(node.kernel, Composite)
        else kernels[node]
        for node in nodes
    )
