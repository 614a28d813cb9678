"""Parameters of a model, and those that a token uses: all of a dense model's, of experts only those that it visits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from nbanalyzer.formulas.grammar import Number, normalize

from .regions import is_linear
from .roles import regions_in
from .tree import Node, Tree

if TYPE_CHECKING:
    from .costs import Costs

__all__ = ["active_parameters", "parameters"]


def active_parameters(costs: Costs) -> Number:
    """Return the parameters that a token uses: of every layer's experts, the share that each token visits."""
    return _active(costs.kernel_tree, costs.values, costs.cost_of_all.parameters, lambda node: costs.cost(node).copies)


def parameters(tree: Tree, values: Mapping[str, Number]) -> tuple[Number, Number]:
    """Return all parameters, and those that a token uses, of a model that nobody divides: no work is counted for it."""
    copies: dict[Node, Number] = {}
    whole: Number = 0
    for node in tree.nodes:  # what is around a module comes before it
        if not node.is_basic:
            copies[node] = (copies[node.parent] if node.parent else 1) * node.repeat.evaluate(values)
            whole += copies[node] * node.own_parameters.evaluate(values)
    whole = normalize(whole)
    return whole, _active(tree, values, whole, copies.__getitem__)


def _active(tree: Tree, values: Mapping[str, Number], whole: Number, copies: Callable[[Node], Number]) -> Number:
    experts, visited = values.get("num_experts"), values.get("experts_per_token")
    if not experts or visited is None or visited >= experts:
        return whole
    inside = [node for node, region in regions_in(tree).items() if region.kind == "experts"]
    owners = {node.parent for node in inside if is_linear(node)}
    held = (
        copies(owner) * owner.own_parameters.evaluate(values)
        for owner in owners
        if owner and "num_experts" in owner.own_parameters.variables
    )
    return normalize(whole - sum(held) * Fraction(experts - visited, experts))
