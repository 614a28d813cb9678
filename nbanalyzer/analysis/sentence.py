"""The first thing to say of a result, in one or two plain sentences: made from its numbers, the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from nbanalyzer.costs.active import active_parameters
from nbanalyzer.costs.regions import is_linear, is_product
from nbanalyzer.costs.roles import ATTENTION, HEAD, MLP, SCAN, regions_in, roles_of
from nbanalyzer.quantities import count_of, percent, si

if TYPE_CHECKING:
    from nbanalyzer.costs.costs import Costs
    from nbanalyzer.formulas.grammar import Number

__all__ = ["of_elasticities", "of_request", "sentence_of"]

LARGE = 0.5  # a share that most of a pass is


def sentence_of(costs: Costs) -> str:
    """Return what a student wants to know of a pass: where its FLOPs or its bytes are."""
    cost = costs.cost_of_all
    if not cost.flops or not cost.bytes:
        return ""
    uses = _uses(costs)
    weights = float(cost.weight_bytes_read / cost.bytes)
    if weights > LARGE:
        read, ratio = si(cost.weight_bytes_read, "B"), f"{cost.arithmetic_intensity:.3g}"
        tokens = costs.run.batch_size * costs.run.new_tokens
        whom = "one token" if tokens == 1 else f"{tokens:,} tokens"
        return f"For {whom}, {read} of weights are read, {percent(weights)} of all bytes: {ratio} FLOPs a byte.{uses}"
    shares = _shares(costs)
    role = max(shares, key=lambda name: shares[name])
    who = _who(role, costs)
    text = f"{who[:1].upper()}{who[1:]} {'have' if who.endswith('s') else 'has'} {percent(shares[role])} of the FLOPs"
    among, growth = _among_tokens(costs)
    if among > 0.005 and growth > 2:
        text += f"; products of tokens with tokens have {percent(among)}, a share that grows with seq_len"
    moved = float(cost.activation_bytes / cost.bytes)
    if moved > LARGE and costs.run.fusion == "none":
        return f"{text}. {percent(moved)} of the bytes are activations between kernels that are not fused.{uses}"
    return f"{text}.{uses}"


def _uses(costs: Costs) -> str:
    """Return how many of its parameters a token uses, if it does not use all."""
    whole, active = costs.cost_of_all.parameters, active_parameters(costs)
    if active == whole or costs.run.devices > 1:
        return ""
    return f" A token uses {count_of(active)} of {count_of(whole)} parameters."


def _shares(costs: Costs) -> dict[str, float]:
    """Return role → its share of the FLOPs."""
    found: dict[str, Number] = {}
    for node, role in roles_of(costs.kernel_tree).items():
        found[role] = found.get(role, 0) + costs.cost(node).flops
    return {role: float(Fraction(number) / costs.cost_of_all.flops) for role, number in found.items()}


def _who(role: str, costs: Costs) -> str:
    experts = "the experts" if "num_experts" in costs.variables else "the MLP"
    return {MLP: experts, ATTENTION: "attention", SCAN: "the state-space layers", HEAD: "the head"}.get(role, role)


def _among_tokens(costs: Costs) -> tuple[float, float]:
    """Return the share of the FLOPs in products of tokens with tokens, and by what they grow with twice the tokens."""
    regions = regions_in(costs.kernel_tree)
    nodes = [node for node, one in regions.items() if one.kind == "attention" and is_product(node)]
    nodes = [node for node in nodes if not is_linear(node) and costs.cost(node).flops]
    if not nodes:
        return 0.0, 0.0
    doubled = {**costs.values, "seq_len": 2 * costs.run.new_tokens}
    own = sum(costs.cost(node).flops for node in nodes)
    more = sum(costs.cost(node).count * node.parts[0].evaluate(doubled) for node in nodes)
    return float(own / costs.cost_of_all.flops), float(Fraction(more) / own)


def of_request(tokens: int, steps: float, prompt: Mapping[str, float], decode: Mapping[str, float]) -> str:
    """Return what a student wants to know of a request: where its FLOPs and its bytes are.

    Args:
        tokens: that are written after the first.
        steps: decode steps, fewer where one writes several tokens.
        prompt: metric → number of the pass that reads the prompt.
        decode: the same of all decode steps together.

    """
    if not tokens:
        return "One token is written, which reading the prompt gives: the request is a single pass."
    shares = {}
    for name in ("flops", "bytes"):
        together = prompt[name] + decode[name]
        shares[name] = percent(decode[name] / together if together else 0.0)
    what = "token" if tokens == 1 else f"{tokens:,} tokens"
    text = f"Writing the {what} after the first has {shares['flops']} of the FLOPs and {shares['bytes']} of the bytes"
    cache = decode["kv_bytes_read"] + decode["kv_bytes_written"]
    parts = {"weights": decode["weight_bytes_read"], "the cache": cache}
    what = max(parts, key=lambda name: parts[name])
    if parts[what] <= LARGE * decode["bytes"]:
        return f"{text}."
    each = "it" if tokens == 1 else "each" if steps == tokens else "each step"
    amount = f"{si(parts[what] / steps, 'B')} of weights" if what == "weights" else "the cache"
    moved = percent(parts[what] / decode["bytes"])
    return f"{text}: {each} reads {amount}{' again' if what == 'weights' else ''}, {moved} of what it moves."


def of_elasticities(metric: str, elasticities: Mapping[str, float]) -> str:
    """Return what moves a metric most, and what makes no difference; `elasticities` has the largest first."""
    moving = {name: value for name, value in elasticities.items() if value}
    if not moving:
        return f"None of the {len(elasticities)} variables moves {metric} here." if elasticities else ""
    most = next(iter(moving.values()))
    alike = [name for name, value in moving.items() if abs(value - most) < 0.005]
    which = _listed(alike)
    text = (
        f"{which} move{'s' if len(alike) == 1 else ''} {metric} most: 1 % more of {'it' if len(alike) == 1 else 'one'}"
    )
    text += f" is {abs(most):.3g} % {'more' if most > 0 else 'less'}{_power(most)}."
    still = [name for name in elasticities if name not in moving]
    return f"{text} {_listed(still)} make{'s' if len(still) == 1 else ''} no difference here." if still else text


def _power(elasticity: float) -> str:
    return {1.0: ", in proportion", 2.0: ", with its square"}.get(round(elasticity, 2), "")


def _listed(names: list[str]) -> str:
    shown = names if len(names) < 5 else names[:3]
    if len(names) > len(shown):
        return f"{', '.join(shown)} and {len(names) - len(shown)} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
