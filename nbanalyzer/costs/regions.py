"""Regions: what is one kernel in an engine, though PyTorch has products of its own inside.

They are found by structure. **Attention** multiplies queries by keys and the result by values: two products without
weights in one module. A **scan** is a module of such products in another number: state-space models, linear attention.
The routed **experts** of a layer are several products with the weights of all experts, which one module holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nbanalyzer.formulas.formula import constant
from nbanalyzer.templates.template import Basic

from .tree import Node, Tree

__all__ = ["Kind", "Region", "has_weights", "is_linear", "regions_of"]

Kind = Literal["linear", "attention", "scan", "experts", "chain"]
"""What a launch is: a product with weights, a region, or a chain of vector kernels."""


@dataclass(frozen=True, eq=False)
class Region:
    """Kernels that are one, in order."""

    kind: Kind
    nodes: tuple[Node, ...]


def regions_of(tree: Tree) -> dict[Node, Region]:
    """Return kernel → its region, for those that belong to one."""
    regions = filter(None, map(_region, tree.nodes))
    return {node: region for region in regions for node in region.nodes}


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
    return _is_product(node) and has_weights(node)


def _is_product(node: Node) -> bool:
    return isinstance(node.kernel, Basic) and node.kernel.unit == "matmul"


def _region(node: Node) -> Region | None:
    """Return the region of a module, if it is one."""
    products = [child for child in node.children if _is_product(child)]
    bare = [child for child in products if not has_weights(child)]
    inside = list(_basics(node)) if products else []
    if len(products) - len(bare) > 1 and "num_experts" in node.own_parameters.variables:
        return Region("experts", tuple(inside))
    if not bare:
        return None
    kind: Kind = "attention" if len(bare) == 2 else "scan"
    if kind == "attention" or any(is_linear(child) for child in inside):
        first = next(child for child in inside if child is bare[0] or _copies_cache(child))
        inside = inside[inside.index(first) : inside.index(bare[-1]) + 1]
    return Region(kind, tuple(inside))


def _basics(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child.is_basic:
            yield child
        else:
            yield from _basics(child)


def _copies_cache(node: Node) -> bool:
    """Return whether a kernel only copies what is cached, e.g. for every head that shares it."""
    return node.parts[0] == constant(0) and "kv_bytes" in node.uses[1] and "kv_bytes" not in node.uses[2]
