"""Regions: what is one kernel in an engine, though PyTorch has products of its own inside.

They are found by structure. **Attention** multiplies queries by keys and the result by values: two products without
weights in one module. A **scan** is a module of such products in another number: state-space models, linear attention.
The routed **experts** of a layer are several products with the weights of all experts, which one module holds.

Regions do not nest: a layer that multiplies streams by each other before and after its experts is neither attention
nor a scan, and its products are in no region.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from nbanalyzer.formulas.formula import constant
from nbanalyzer.templates.template import Basic

from .terms import NOTHING
from .tree import Node, Tree

__all__ = ["Kind", "Region", "basics_of", "copies_cache", "has_weights", "is_linear", "is_product", "regions_of"]

Kind = Literal["linear", "attention", "scan", "experts", "chain", "link"]
"""What a launch is: a product with weights, a region, a chain of vector kernels, or communication."""


@dataclass(frozen=True, eq=False)
class Region:
    """Kernels that are one, in order."""

    kind: Kind
    nodes: tuple[Node, ...]

    @cached_property
    def copies(self) -> tuple[Node, ...]:
        """The kernels of attention that only copy what is cached, keys first."""
        return tuple(filter(copies_cache, self.nodes)) if self.kind == "attention" else ()


def regions_of(tree: Tree) -> dict[Node, Region]:
    """Return kernel → its region, for those that belong to one."""
    found: dict[Node, Region] = {}
    for module in reversed(tree.nodes):  # what is inside a module before the module
        region = _region(module)
        if region and found.keys().isdisjoint(region.nodes):
            found.update(dict.fromkeys(region.nodes, region))
    return {node: found[node] for node in tree.nodes if node in found}


def has_weights(node: Node) -> bool:
    """Return whether a kernel reads weights."""
    if not isinstance(node.kernel, Basic):
        return False
    if "w_bytes" in node.sizes:
        return True
    parent = node.parent
    if node.kernel.unit != "matmul" or parent is None or parent.own_parameters == constant(0):
        return False
    # Weights that are fp32 whatever the precision, as some routers' are: their module has no other use for them.
    return not any(child.is_basic and "w_bytes" in child.sizes for child in parent.children)


def is_linear(node: Node) -> bool:
    """Return whether a kernel is a product with weights."""
    return is_product(node) and has_weights(node)


def is_product(node: Node) -> bool:
    """Return whether a kernel is a product, with or without weights."""
    return isinstance(node.kernel, Basic) and node.kernel.unit == "matmul"


def _region(node: Node) -> Region | None:
    """Return the region of a module, if it is one."""
    products = [child for child in node.children if is_product(child)]
    bare = [child for child in products if not has_weights(child)]
    inside = list(basics_of(node)) if products else []
    if len(products) - len(bare) > 1 and "num_experts" in node.own_parameters.variables:
        return Region("experts", _with_spreading(node, inside))
    if not bare:
        return None
    joined = [child for child in inside if isinstance(child.kernel, Basic) and child.kernel.fused]
    is_one = len(bare) == 1 and all(child is bare[0] or child in joined for child in inside)
    kind: Kind = "attention" if _at_once(bare) == 2 or is_one else "scan"
    if kind == "attention" or any(is_linear(child) for child in inside):
        first = next(child for child in inside if child is bare[0] or copies_cache(child))
        inside = inside[inside.index(first) : inside.index(bare[-1]) + 1]
    return Region(kind, tuple(inside))


def _at_once(products: list[Node]) -> int:
    """Return how many of some products run at most: of one sequence and of several they may be different ones."""
    cases = [one.parts[0].arguments[1] for one in products if one.parts[0].operation == "if"]
    cases = [case for case in cases if {*case.variables} == {"batch_size"}]
    running = max((sum(bool(case.evaluate({"batch_size": size})) for case in cases) for size in (1, 2)), default=0)
    return len(products) - len(cases) + running


def _with_spreading(node: Node, inside: list[Node]) -> tuple[Node, ...]:
    """Return the kernels of experts, with those beside them that spread every token to all experts, and add up."""
    sizes = set(node.own_parameters.variables) - {"num_experts"}
    beside = node.parent.children if node.parent else []
    spreading = [
        one
        for one in beside
        if one.is_basic and not is_product(one) and any("num_experts" in uses and uses & sizes for uses in one.uses)
    ]
    before = [one for one in spreading if beside.index(one) < beside.index(node)]
    after = [one for one in spreading if one not in before]
    return (*before, *inside, *after)


def basics_of(node: Node) -> Iterator[Node]:
    """Yield the basic kernels below a module, in order."""
    for child in node.children:
        if child.is_basic:
            yield child
        else:
            yield from basics_of(child)


def copies_cache(node: Node) -> bool:
    """Return whether a kernel only copies what is cached, e.g. for every head that shares it."""
    return node.parts[0] == NOTHING and "kv_bytes" in node.uses[1] and "kv_bytes" not in node.uses[2]
