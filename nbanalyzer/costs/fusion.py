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

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from nbanalyzer.errors import NotModelledError
from nbanalyzer.templates.template import Basic, Composite, Kernel

from .flow import Flow, flow_of
from .regions import Region, has_weights, is_product, regions_of
from .terms import NOTHING
from .traffic import Group, idle, kernels_of
from .tree import Node, Tree

__all__ = ["fused"]


def fused(tree: Tree) -> Tree:
    """Return a tree as a serving engine would launch it: the same kernels at the same places, other traffic.

    Raises:
        NotModelledError: it has products without weights that no rule is about.

    """
    regions = regions_of(tree)
    _require_rules(tree, regions)
    flow = flow_of(tree, regions)
    groups = _Grouping(flow, regions).groups(tree)
    carried = frozenset(node for group in groups for node in group.adds(flow))
    kernels = {node: idle(node) for node in tree.nodes if node.is_basic and not node.is_link}
    dropped = kernels.keys() - {node for group in groups for node in group.nodes}
    for group in (group for group in groups if group.kind != "link"):
        kernels |= kernels_of(group, flow, carried, dropped)
    template = msgspec.structs.replace(tree.template, kernels=_rebuilt(tree.roots, kernels))
    place = {node: number for number, node in enumerate(tree.nodes)}
    launches = [(group.kind, tuple(place[node] for node in group.nodes)) for group in groups]
    rules = {node: "preparation" if node in flow.preparations else "layout" for node in dropped}
    rules |= {node: rule for group in groups for node, rule in _rules(group, flow)}
    alone = {nodes[0] for _, nodes in tree.launches}  # in PyTorch's list
    joined = {place[node]: rule for node, rule in rules.items() if node in alone}
    return Tree(template, tree.source, launches, tree.division, joined)


def _require_rules(tree: Tree, regions: Mapping[Node, Region]) -> None:
    """Raise unless every product without weights in a module is in a region: nobody has described what others become.

    Attention has two of them. Where one sequence has others than several, the rules do not say which reads what.
    Outside all modules, as where images are compared with texts, a product is a launch of its own.
    """
    bare = [node for node in tree.nodes if node.parent and is_product(node) and not has_weights(node)]
    of_region = Counter(regions[node] for node in bare if node in regions)
    several = {region for region, number in of_region.items() if region.kind == "attention" and number > 2}
    unruled = [node for node in bare if node not in regions] or [node for node in bare if regions[node] in several]
    if unruled:
        raise NotModelledError(
            f"not modelled: what an engine launches of {tree.template.model_id or 'this template'}: no rule is about "
            f"its product {unruled[0].path}; fusion=none has PyTorch's list"
        )


def _rules(group: Group, flow: Flow) -> Iterator[tuple[Node, str]]:
    """Yield the kernels of a launch that are none of their own, each with the rule that joined it to those before."""
    is_added = group.nodes[0] in flow.residual
    for node in group.nodes[1:]:
        if group.kind != "chain":
            yield node, "shared input" if group.kind == "linear" else group.kind
        elif node in flow.residual or is_added:
            yield node, "residual"
        else:
            yield node, "append" if touches_cache(node) else "chain"
        is_added = False


class _Grouping:
    """Which kernels are launched together."""

    def __init__(self, flow: Flow, regions: Mapping[Node, Region]) -> None:
        self.flow = flow
        self.regions = regions
        self.of_region: dict[Region, Group] = {}
        self.made: list[Group] = []
        self.chain: Group | None = None  # the one that the next vector kernel joins
        self.latest: Group | None = None  # the one of the kernel before

    def groups(self, tree: Tree) -> list[Group]:
        """Return the launches of a tree, in order."""
        for node in tree.nodes:
            if not isinstance(node.kernel, Basic) or node in self.flow.preparations:
                continue
            if node.is_link:
                self.made.append(Group(node.block, "link", [node]))
                self.chain = None
            elif node in self.regions:
                self.latest = self.add_to_region(node, self.regions[node])
            elif node.kernel.fused and self.latest and self.latest.nodes[-1].parent is node.parent:
                self.latest.nodes.append(node)
            elif node.kernel.unit == "matmul":
                self.latest = self.add_product(node)
            else:
                self.latest = self.add_vector(node)
        self.carry_residuals()
        for group in self.made:
            if group.kind == "chain" and any(node.parts[0] != NOTHING for node in self.flow.states & set(group.nodes)):
                group.kind = "scan"
        return [group for group in self.made if not self.only_moves(group)]

    def add_to_region(self, node: Node, region: Region) -> Group:
        """Add a kernel to the launch of its region."""
        if region not in self.of_region:
            self.of_region[region] = Group(node.block, region.kind)
            self.made.append(self.of_region[region])
            self.chain = None
        self.of_region[region].nodes.append(node)
        return self.of_region[region]

    def add_product(self, node: Node) -> Group:
        """Add a product: to the one before it that has the same input, if their modules stand side by side."""
        for group in reversed(self.made):
            if group.block is not node.block:
                break
            if group.kind == "linear" and self.shares_input(group.nodes[0], node):
                group.nodes.append(node)
                return group
        group = Group(node.block, "linear", [node])
        self.made.append(group)
        self.chain = None
        return group

    def shares_input(self, first: Node, second: Node) -> bool:
        """Return whether two products of neighbouring modules read the same tensors."""
        read = self.flow.sources[first]
        return first.module_around is second.module_around and bool(read) and read == self.flow.sources[second]

    def add_vector(self, node: Node) -> Group:
        """Add a vector kernel to the chain that is open."""
        if self.chain is None or self.chain.block is not node.block:
            self.chain = Group(node.block, "chain")
            self.made.append(self.chain)
        self.chain.nodes.append(node)
        return self.chain

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
        return group.kind in {"chain", "scan"} and all(
            node.parts[0] == NOTHING and not has_weights(node) and not touches_cache(node) for node in group.nodes
        )


def touches_cache(node: Node) -> bool:
    """Return whether a kernel reads or writes the cache."""
    return "kv_bytes" in node.sizes


def _rebuilt(nodes: Iterable[Node], kernels: dict[Node, Basic]) -> tuple[Kernel, ...]:
    """Return a tree with other basic kernels."""
    return tuple(
        msgspec.structs.replace(node.kernel, sub_kernels=_rebuilt(node.children, kernels))
        if isinstance(node.kernel, Composite)
        else kernels.get(node, node.kernel)
        for node in nodes
    )
