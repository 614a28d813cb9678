"""What a total is made of: the share of every large module, with its formula, and of every role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.quantities import percent

from .explanation import Derivation, Explanation, meaning, with_values, written

__all__ = ["Part", "explain_parts"]

MOST = 8  # modules with a formula of their own
LEAST = 0.01  # of the total: what is smaller is one of the others


@dataclass(frozen=True)
class Part:
    """A module's part of a total.

    Attributes:
        label: what it is called, with how often it runs.
        role: of `nbanalyzer.costs.roles.ROLES`.
        formula: of its part, in global variables.
        number: its value, in the whole pass.

    """

    label: str
    role: str
    formula: Formula
    number: Number


def explain_parts(
    what: str,
    parts: Sequence[Part],
    values: Mapping[str, Number],
    meanings: Mapping[str, str] | None = None,
    unit: str = "",
) -> Explanation:
    """Return the derivation of a total of the whole pass from its parts.

    Args:
        what: the metric.
        parts: in the order of the pass; together they are the total.
        values: of every variable in the formulas.
        meanings: of variables that are none of a model.
        unit: ``"s"`` of times.

    """
    counted = [part for part in parts if part.number]
    total = normalize(sum(part.number for part in counted))
    ranked = sorted(counted, key=lambda part: -part.number)
    large = [part for part in ranked if part.number >= LEAST * total][:MOST]
    derivations = [_by_role(what, counted, total, unit)]
    for part in large:
        name = f"{part.label} ({part.role}): {percent(float(part.number / total))}"
        text = with_values(part.formula, values)
        derivations.append(Derivation(name, "", str(part.formula), text, part.number, 1, unit))
    if others := ranked[len(large) :]:
        rest = normalize(sum(part.number for part in others))
        name = f"{len(others)} other{'s' if len(others) > 1 else ''}: {percent(float(rest / total))}"
        derivations.append(Derivation(name, "", written(rest, unit), written(rest, unit), rest, 1, unit))
    used = dict.fromkeys(name for part in large for name in part.formula.variables)
    legend = tuple(meaning(name, values[name], meanings) for name in used)
    return Explanation(f"{what} of the whole pass", "", legend, (*derivations,))


def _by_role(what: str, parts: Sequence[Part], total: Number, unit: str) -> Derivation:
    """Return the total as the sum over roles."""
    found: dict[str, Number] = {}
    for part in parts:
        found[part.role] = found.get(part.role, 0) + part.number
    names = [f"{role} {percent(float(number / total))}" for role, number in found.items()]
    numbers = " + ".join(written(normalize(number), unit) for number in found.values())
    return Derivation(what, "", " + ".join(names) or "nothing", numbers or "0", total, 1, unit)
