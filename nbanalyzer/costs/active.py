"""Parameters that a token uses: all of a dense model's, of experts only those that it visits."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from nbanalyzer.formulas.grammar import Number, normalize

from .regions import is_linear
from .roles import regions_in

if TYPE_CHECKING:
    from .costs import Costs

__all__ = ["active_parameters"]


def active_parameters(costs: Costs) -> Number:
    """Return the parameters that a token uses: of every layer's experts, the share that each token visits."""
    experts, visited = costs.values.get("num_experts"), costs.values.get("experts_per_token")
    whole = costs.cost_of_all.parameters
    if not experts or visited is None or visited >= experts:
        return whole
    inside = [node for node, region in regions_in(costs.kernel_tree).items() if region.kind == "experts"]
    owners = {node.parent for node in inside if is_linear(node)}
    held = (
        costs.cost(owner).copies * owner.own_parameters.evaluate(costs.values)
        for owner in owners
        if owner and "num_experts" in owner.own_parameters.variables
    )
    return normalize(whole - sum(held) * Fraction(experts - visited, experts))
