"""Polynomials with fewer ``min`` and ``max``: each costs an array function a comparison at every point.

>>> from nbanalyzer.formulas.formula import parse
>>> from nbanalyzer.formulas.simplify import expanded
>>> law = expanded(parse("max({seq_len}, 2 * {seq_len} + 3) + min({seq_len}, 5) + max({seq_len}, 5)"), {})
>>> str(decided(law, lambda polynomial: polynomial.never_negative))
'3 * seq_len + 8'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from .polynomial import Atom, Polynomial
from .simplify import applied

__all__ = ["decided"]


def decided(polynomial: Polynomial, never_negative: Callable[[Polynomial], bool]) -> Polynomial:
    """Return an equal polynomial, without what is decided for all values.

    An argument of a ``min`` or ``max`` that is never the only one chosen is left out, and a ``min`` of two whose
    ``max`` is there too is what they have besides: min(a, b) = a + b - max(a, b).

    Args:
        polynomial: with operations as its atoms; those inside other operations stay.
        never_negative: polynomial → whether it is provably at least 0.

    """
    fewer = polynomial.replace(lambda atom: _fewer(atom, never_negative))
    largest = {frozenset(atom.arguments): atom for atom in fewer.atoms if atom.operation == "max"}

    def shared(atom: Atom) -> Polynomial:
        most = largest.get(frozenset(atom.arguments))
        if atom.operation == "min" and len(atom.arguments) == 2 and most:
            return Polynomial.sum(atom.arguments) - Polynomial.of(most)
        return Polynomial.of(atom)

    return fewer.replace(shared)


def _fewer(atom: Atom, never_negative: Callable[[Polynomial], bool]) -> Polynomial:
    if atom.operation not in {"min", "max"}:
        return Polynomial.of(atom)
    left = list(dict.fromkeys(part for argument in atom.arguments for part in _flat(argument, atom, never_negative)))
    sign = 1 if atom.operation == "max" else -1
    for one in tuple(left):
        bounds = [*_at_most(one)] if atom.operation == "max" else [one]
        if any(never_negative((other - bound) * sign) for other in left if other is not one for bound in bounds):
            left.remove(one)
    return applied(atom.operation, tuple(left)) if len(left) > 1 else left[0]


def _flat(argument: Polynomial, atom: Atom, never_negative: Callable[[Polynomial], bool]) -> tuple[Polynomial, ...]:
    """Return an argument of an operation, with what is decided in it; those of it, if it is the same operation."""
    found = argument.replace(lambda inner: _fewer(inner, never_negative))
    (inner, *others) = found.atoms or (None,)
    if inner and not others and inner.operation == atom.operation and found == Polynomial.of(inner):
        return inner.arguments
    return (found,)


def _at_most(polynomial: Polynomial) -> Iterator[Polynomial]:
    """Yield polynomials that are nowhere less: itself, and with the first or the last argument of each ``min``."""

    def chosen(atom: Atom, place: int) -> Polynomial:
        return atom.arguments[place] if atom.operation == "min" else Polynomial.of(atom)

    yield polynomial
    if polynomial.never_negative and any(atom.operation == "min" for atom in polynomial.atoms):
        yield from (polynomial.replace(partial(chosen, place=place)) for place in (0, -1))
