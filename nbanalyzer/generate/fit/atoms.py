"""Expressions that sizes are often made of, besides the variables themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.generate.hints import expressions
from nbanalyzer.generate.probe.cases import PLAIN, Cases

__all__ = ["derived"]

_DIVISOR = re.compile(r"(_rate|_ratio|(?<!topk_)groups?|(kv|key|key_value)_heads)$")


def derived(
    values: Sequence[Mapping[str, int]], shares: Iterable[float] = (), cases: Cases = PLAIN
) -> dict[str, Formula]:
    """Return the expressions that sizes are often made of, by their text.

    Args:
        values: the variables of each observation.
        shares: the parts of a head that may be rotated, between 0 and 1.
        cases: thresholds of a step's lengths.

    """
    names = list(dict.fromkeys(name for observed in values for name in observed))
    texts = [*expressions(names), *cases.lengths(names)]
    for divisor in filter(_DIVISOR.search, names):
        texts += [f"{{{name}}} // {{{divisor}}}" for name in names if _always_divides(values, divisor, name)]
    heads = ["({hidden_size} // {num_heads})", *(f"{{{name}}}" for name in names if name.endswith("head_dim"))]
    for share in sorted(shares):
        part = Fraction(str(share))
        # What is rotated is whole, and even: its tables are made of pairs.
        texts += [f"2 * (({head} * {part.numerator} // {part.denominator} + 1) // 2)" for head in heads]
    return {text: parse(text) for text in texts}


def _always_divides(values: Sequence[Mapping[str, int]], divisor: str, name: str) -> bool:
    """Return whether a size may be divided by another: heads by fewer heads, anything by groups."""
    if divisor.endswith("heads") and not name.endswith("heads"):
        return False
    whole = values if not divisor.endswith(("_ratio", "_rate")) else values[:1]  # of a ratio, the rest is dropped
    return all(0 < observed.get(divisor, 0) <= observed.get(name, 0) for observed in values) and all(
        observed[divisor] < observed[name] and observed[name] % observed[divisor] == 0 for observed in whole
    )
