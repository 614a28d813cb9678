"""The role of every part of a model: embedding, attention, MLP, norms, head, …; by its structure, not its name.

A *layer* is an outermost module that repeats. Inside one, what stands with attention in a module belongs to attention,
what stands with a scan to the state space, products of weights without either to the MLP. Outside the layers, tables
that are looked up are the embedding, and products over the vocabulary the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from nbanalyzer.formulas.formula import constant
from nbanalyzer.templates.template import Composite

from .regions import Region, basics_of, has_weights, is_linear, is_product, regions_of
from .tree import Node, Tree

__all__ = ["ROLES", "leaves", "regions_in", "roles_of", "uses_width"]

EMBEDDING, ATTENTION, SCAN, MLP = "embedding", "attention", "state space", "MLP / experts"
NORMS, RESIDUAL, HEAD, COMMUNICATION = "norms", "residual adds", "head", "communication"
REST = "other"
ROLES: Mapping[str, str] = {
    EMBEDDING: "tokens and positions become vectors, before the layers",
    ATTENTION: "projections of queries, keys and values, their products, the cache, the output projection",
    SCAN: "state-space or linear attention layers: projections, convolution, scan",
    MLP: "feed-forward layers: dense, or a router and experts",
    NORMS: "normalisation of vectors",
    RESIDUAL: "a layer's result is added to what went into it",
    HEAD: "vectors become a score for every token of the vocabulary",
    COMMUNICATION: "devices exchange data",
    REST: "what belongs to none of these",
}
"""Role → what it does, in the order of a pass."""
TREES = 64  # that are known at a time: as many as are kept, see `nbanalyzer.costs.count`


def leaves(nodes: Iterable[Node]) -> list[Node]:
    """Return the modules without modules below them, and the basic kernels beside modules."""
    return [node for node in nodes if node.is_last and not node.is_part]


@lru_cache(maxsize=TREES)
def regions_in(tree: Tree) -> Mapping[Node, Region]:
    """Return the same as `regions_of`, which sentences and roles ask again for every pass of a tree."""
    return regions_of(tree)


@lru_cache(maxsize=TREES)
def roles_of(tree: Tree) -> Mapping[Node, str]:
    """Return the role of every one of the `leaves` of a tree."""
    regions = regions_in(tree)
    layers = _layers(tree)
    found: dict[Node, str] = {}
    last = max((place for place, node in enumerate(tree.nodes) if node in layers), default=-1)
    for place, node in enumerate(tree.nodes):
        if node.is_last and not node.is_part:
            layer = next((one for one in (node, *node.around) if one in layers), None)
            around = _inside(node, layer, regions) if layer else _outside(node, is_before=place < last)
            found[node] = _own(node) or around
    return found


def _layers(tree: Tree) -> set[Node]:
    """Return the outermost modules that repeat and multiply by weights, and those of the same classes that do not."""
    found: set[Node] = set()
    for node in tree.nodes:
        if node.repeat != constant(1) and not found.intersection(node.around) and any(map(is_linear, _basics(node))):
            found.add(node)
    classes = {_class(node) for node in found} - {""}
    alike = {node for node in tree.nodes if _class(node) in classes}
    return {node for node in found | alike if not alike.intersection(node.around)}


def _own(node: Node) -> str:
    """Return the role that a leaf has wherever it stands; "" if that decides."""
    basics = _basics(node)
    if any(basic.is_link for basic in basics):
        return COMMUNICATION
    name = _class(node).rpartition(".")[2]
    if "Norm" in name:
        return NORMS
    if any("vocab_size" in basic.uses[0] for basic in basics if is_product(basic)):
        return HEAD
    if name.endswith("Embedding") and not any(map(is_product, basics)) and any(map(has_weights, basics)):
        return EMBEDDING
    return ""


def _outside(node: Node, *, is_before: bool) -> str:
    """Return the role of a leaf outside the layers."""
    return REST if not _basics(node) else EMBEDDING if is_before else HEAD


def _inside(node: Node, layer: Node, regions: Mapping[Node, Region]) -> str:
    """Return the role of a leaf inside a layer: that of the innermost module around it that decides."""
    around = [one for one in (node, *node.around) if one is not layer and layer in one.around]
    is_scan = False
    for one in around:
        basics = _basics(one)
        kinds = {regions[basic].kind for basic in basics if basic in regions}
        if "attention" in kinds:
            return ATTENTION
        is_scan = is_scan or "scan" in kinds
        if not is_scan and ("experts" in kinds or sum(map(is_linear, basics)) > 1):
            return MLP
    if is_scan:
        return SCAN
    basics = _basics(node)
    if any(map(is_linear, basics)) or any(uses_width(basic) for basic in basics):
        return MLP
    return RESIDUAL if _class(node) == "torch.add" else REST


def uses_width(basic: Node) -> bool:
    """Return whether a basic kernel works on vectors inside a feed-forward layer."""
    return any(name.startswith("intermediate_size") or name.endswith("intermediate_size") for name in _names(basic))


def _names(basic: Node) -> frozenset[str]:
    return frozenset().union(*basic.uses)


def _basics(node: Node) -> list[Node]:
    return [node] if node.is_basic else list(basics_of(node))


def _class(node: Node) -> str:
    return node.kernel.module if isinstance(node.kernel, Composite) else ""
