"""How many pairs of a query and a key a causal mask lets through, as formulas."""

from __future__ import annotations

from nbanalyzer.formulas.formula import Formula, constant, parse, variable
from nbanalyzer.generate import hints

__all__ = ["visible", "window_of"]


def window_of(keys: Formula) -> Formula | None:
    """Return how many tokens a window lets each token see, by what the keys are; None if it sees all.

    >>> str(window_of(parse("min({cache_len}, {sliding_window} - 1) + {seq_len}")))
    '{sliding_window}'
    """
    cached = variable("cache_len")
    for part in keys.walk():
        if part.operation == "min" and cached in part.arguments:
            (before,) = (other for other in part.arguments if other != cached)
            if before.operation == "-" and before.arguments[1] == constant(1):
                return before.arguments[0]
    return None


def visible(keys: Formula) -> Formula | None:
    """Return the query-key pairs that a causal mask lets through, by what the keys are; None if that is not known."""
    cached, new = variable("cache_len"), variable("seq_len")
    if window := window_of(keys):
        in_chunks = any(hint.matches(name) for hint in hints.FIXED_CHUNKS for name in window.variables)
        pairs = _pairs_in_chunks if in_chunks else _pairs_in_window
        return parse(pairs(str(window)))
    if keys == new:
        return parse(_triangle("{seq_len}"))
    is_all = keys.operation == "+" and {*keys.arguments} == {cached, new}
    return parse(f"{{seq_len}} * {{cache_len}} + {_triangle('{seq_len}')}") if is_all else None


def _triangle(length: str) -> str:
    return f"{length} * ({length} + 1) / 2"


def _pairs_in_window(window: str) -> str:
    """Return the pairs where each token sees the last ones: those of all tokens so far, less those before the step."""
    after, ahead = f"min({{cache_len}} + {{seq_len}}, {window})", f"min({{cache_len}}, {window})"
    full = f"max({{cache_len}} + {{seq_len}} - {window}, 0) - max({{cache_len}} - {window}, 0)"
    return f"{_triangle(after)} - {_triangle(ahead)} + {window} * ({full})"


def _pairs_in_chunks(chunk: str) -> str:
    """Return the pairs where each token sees the earlier ones of its chunk: all so far, less those before the step."""

    def before(length: str) -> str:
        rest = f"({length}) % {chunk}"
        return f"({length}) // {chunk} * {chunk} * ({chunk} + 1) / 2 + {rest} * ({rest} + 1) / 2"

    return f"{before('{cache_len} + {seq_len}')} - ({before('{cache_len}')})"
