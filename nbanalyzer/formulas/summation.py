"""Sums of polynomials over a variable's whole values: what all decode steps cost together, in closed form.

>>> from nbanalyzer.formulas.formula import parse
>>> step = expanded(parse("16 * {batch_size} * ({cache_len} + 1)"), {})
>>> str(total(step, "cache_len", 0, 4))  # 16 * (1 + 2 + 3 + 4)
'160 * batch_size'
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from .evaluation import BINARY
from .grammar import Number, normalize
from .polynomial import OPPOSITES, Atom, Polynomial
from .simplify import applied, put

__all__ = ["total"]


def total(polynomial: Polynomial, name: str, start: int, stop: int) -> Polynomial:
    """Return the sum over every whole value of a variable from `start` up to, not including, `stop`.

    In closed form: powers by Faulhaber's formula, a ``min``, ``max`` or condition that is linear in the variable
    piece by piece. Where a rounding or a power depends on it, the values are gone through one by one.
    """
    if stop <= start:
        return Polynomial({})
    powers = polynomial.by_power(name)
    if powers is not None:
        return Polynomial.sum(rest * _sum_of_powers(power, start, stop) for power, rest in powers.items())
    cuts = [cut for atom in _inner(polynomial, name) for cut in _cuts(atom, name, start, stop)]
    if cuts:
        edges = sorted({start, *cuts, stop})
        return Polynomial.sum(total(_within(polynomial, name, *piece), name, *piece) for piece in pairwise(edges))
    inside = _within(polynomial, name, start, stop)
    if inside != polynomial:
        return total(inside, name, start, stop)
    return Polynomial.sum(put(polynomial, {name: value}) for value in range(start, stop))


def _inner(polynomial: Polynomial, name: str) -> Iterator[Atom]:
    """Yield the atoms that depend on a variable, and those inside them."""
    for atom in polynomial.atoms:
        if atom.operation != "variable" and name in atom.variables:
            yield atom
            for argument in atom.arguments:
                yield from _inner(argument, name)


def _within(polynomial: Polynomial, name: str, start: int, stop: int) -> Polynomial:
    """Return the polynomial with each choice made that is the same for all values from `start` to `stop`."""
    ends = ({name: start}, {name: stop - 1})

    def decided(atom: Atom) -> Polynomial:
        if atom.operation == "variable" or name not in atom.variables:
            return Polynomial.of(atom)
        arguments = tuple(argument.replace(decided) for argument in atom.arguments)
        first, last = (
            [put(difference, end) for difference in (argument - arguments[0] for argument in arguments)] for end in ends
        )
        linear = all(argument.is_linear(name) for argument in arguments)
        known = all(one.is_constant for one in (*first, *last))
        if linear and known and atom.operation in {"min", "max"}:
            pick = min if atom.operation == "min" else max
            for index, argument in enumerate(arguments):
                if all(ends[index].number == pick(end.number for end in ends) for ends in (first, last)):
                    return argument
        if linear and known and atom.operation in OPPOSITES:
            outcomes = {BINARY[atom.operation](0, end[1].number) for end in (first, last)}
            if len(outcomes) == 1 and (atom.operation not in {"==", "!="} or _same_side(first[1], last[1])):
                return Polynomial.constant(int(outcomes.pop()))
        if linear and atom.operation in {"//", "ceil"}:
            rounded = {applied(atom.operation, tuple(put(one, end) for one in arguments)) for end in ends}
            if len(rounded) == 1 and (only := rounded.pop()).is_constant:
                return only
        return applied(atom.operation, arguments)

    return polynomial.replace(decided)


def _same_side(first: Polynomial, last: Polynomial) -> bool:
    """Return whether a linear difference with these two ends has no zero between them."""
    return first.number * last.number > 0 or first.number == last.number


@lru_cache(maxsize=64)
def _bernoulli(count: int) -> tuple[Fraction, ...]:
    """Return the first Bernoulli numbers, with B1 = +1/2."""
    numbers: list[Fraction] = []
    for m in range(count):
        numbers.append(1 - sum((math.comb(m, k) * numbers[k] / (m - k + 1) for k in range(m)), Fraction(0)))
    return tuple(numbers)


def _sum_of_powers(power: int, start: int, stop: int) -> Number:
    """Return the sum of value ** power over the whole values from `start` up to, not including, `stop`."""

    def up_to(last: int) -> Fraction:  # of 1 ** power + … + last ** power, Faulhaber's formula
        terms = (math.comb(power + 1, k) * one * last ** (power + 1 - k) for k, one in enumerate(_bernoulli(power + 1)))
        return sum(terms, Fraction(0)) / (power + 1)

    if power == 0:
        return stop - start
    return normalize(up_to(stop - 1) - up_to(start - 1))


def _cuts(atom: Atom, name: str, start: int, stop: int) -> Iterator[int]:
    """Yield the whole values of a variable between which the atom is decided in one way."""
    if atom.operation in {"//", "ceil"}:
        dividend, divisor = atom.arguments
        yield from _steps(dividend, divisor, name, start, stop)
    if atom.operation not in {"min", "max", *OPPOSITES}:
        return
    for index, left in enumerate(atom.arguments):
        for right in atom.arguments[:index]:
            powers = (left - right).by_power(name)
            if powers is None or not powers.keys() <= {0, 1} or 1 not in powers:
                continue
            slope, offset = powers[1], powers.get(0, Polynomial({}))
            if slope.is_constant and offset.is_constant:
                root = Fraction(-offset.number) / Fraction(slope.number)
                for cut in {math.floor(root), math.floor(root) + 1, math.ceil(root)}:
                    if start < cut < stop:
                        yield cut


def _steps(dividend: Polynomial, divisor: Polynomial, name: str, start: int, stop: int) -> Iterator[int]:
    """Yield where a quotient that is linear in a variable passes a whole number, if that is not everywhere."""
    powers = dividend.by_power(name)
    if powers is None or not divisor.is_constant or not powers.keys() <= {0, 1} or 1 not in powers:
        return
    slope, offset = powers[1], powers.get(0, Polynomial({}))
    if not (slope.is_constant and offset.is_constant):
        return
    low, high = sorted(Fraction(slope.number * at + offset.number) / divisor.number for at in (start, stop))
    if high - low > (stop - start) / 2:
        return
    for whole in range(math.floor(low), math.ceil(high) + 1):
        root = (whole * divisor.number - offset.number) / Fraction(slope.number)
        for cut in {math.floor(root), math.floor(root) + 1}:
            if start < cut < stop:
                yield cut
