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
from itertools import combinations, pairwise
from typing import NamedTuple

from .evaluation import BINARY
from .grammar import Number, normalize
from .polynomial import OPPOSITES, Atom, Polynomial
from .simplify import applied, put

__all__ = ["total"]

Polynomials = tuple[Polynomial, ...]


def total(polynomial: Polynomial, name: str, start: int, stop: int) -> Polynomial:
    """Return the sum over every whole value of a variable from `start` up to, not including, `stop`.

    In closed form: powers by Faulhaber's formula; a ``min``, ``max``, condition or rounded quotient that is linear in
    the variable, piece by piece. Other roundings and powers are summed value by value.
    """
    if stop <= start:
        return Polynomial({})
    powers = polynomial.by_power(name)
    if powers is not None:
        return Polynomial.sum(rest * _sum_of_powers(power, start, stop) for power, rest in powers.items())
    span = _Span(name, start, stop)
    cuts = {cut for atom in _dependent(polynomial, name) for cut in span.cuts(atom)}
    if cuts:
        pieces = [_Span(name, *piece) for piece in pairwise(sorted({start, *cuts, stop}))]
        return Polynomial.sum(total(piece.simplified(polynomial), *piece) for piece in pieces)
    simplified = span.simplified(polynomial)
    if simplified != polynomial:
        return total(simplified, name, start, stop)
    return Polynomial.sum(put(polynomial, {name: value}) for value in range(start, stop))


def _dependent(polynomial: Polynomial, name: str) -> Iterator[Atom]:
    """Yield the operations that depend on a variable, outermost first."""
    for atom in polynomial.atoms:
        if atom.operation != "variable" and name in atom.variables:
            yield atom
            for argument in atom.arguments:
                yield from _dependent(argument, name)


class _Span(NamedTuple):
    """A variable's whole values from `start` up to, not including, `stop`."""

    name: str
    start: int
    stop: int

    def simplified(self, polynomial: Polynomial) -> Polynomial:
        """Return the polynomial with the outcome in place of every operation that has one only."""
        return polynomial.replace(self._simplified)

    def _simplified(self, atom: Atom) -> Polynomial:
        if atom.operation == "variable" or self.name not in atom.variables:
            return Polynomial.of(atom)
        arguments = tuple(map(self.simplified, atom.arguments))
        is_linear = all(argument.is_linear(self.name) for argument in arguments)
        outcome = self._outcome(atom.operation, arguments) if is_linear else None
        return applied(atom.operation, arguments) if outcome is None else outcome

    def _outcome(self, operation: str, arguments: Polynomials) -> Polynomial | None:
        """Return the outcome of an operation on linear arguments if both ends have the same one, else None."""
        match operation:
            case "min" | "max":
                return self._winner(operation, arguments)
            case "//" | "ceil":
                return self._quotient(operation, arguments)
            case _:
                return self._truth(operation, arguments) if operation in OPPOSITES else None

    def _winner(self, operation: str, arguments: Polynomials) -> Polynomial | None:
        pick = min if operation == "min" else max
        ends = self._differences(arguments)
        for index, argument in enumerate(arguments):
            if ends and all(differences[index] == pick(differences) for differences in ends):
                return argument
        return None

    def _truth(self, comparison: str, arguments: Polynomials) -> Polynomial | None:
        ends = self._differences(arguments)
        if not ends:
            return None
        first, last = (right for _, right in ends)
        truths = {BINARY[comparison](0, right) for right in (first, last)}
        # A line that is not 0 at either end may be 0 between them.
        crosses = comparison in {"==", "!="} and first != last and first * last <= 0
        return Polynomial.constant(int(truths.pop())) if len(truths) == 1 and not crosses else None

    def _quotient(self, operation: str, arguments: Polynomials) -> Polynomial | None:
        ends = (self.start, self.stop - 1)
        first, last = (applied(operation, tuple(put(part, {self.name: end}) for part in arguments)) for end in ends)
        return first if first == last and first.is_constant else None

    def _differences(self, arguments: Polynomials) -> list[list[Number]]:
        """Return each argument minus the first one, at both ends; nothing if other variables decide them."""
        lines = [argument - arguments[0] for argument in arguments]
        ends = [[put(line, {self.name: end}) for line in lines] for end in (self.start, self.stop - 1)]
        known = all(number.is_constant for numbers in ends for number in numbers)
        return [[number.number for number in numbers] for numbers in ends] if known else []

    def cuts(self, atom: Atom) -> Iterator[int]:
        """Yield values inside the span such that the operation has one outcome between any two of them."""
        if atom.operation in {"//", "ceil"}:
            roots = self._jumps(*atom.arguments)
        else:
            pairs = combinations(atom.arguments, 2) if atom.operation in {"min", "max", *OPPOSITES} else ()
            lines = (self._line(left - right) for left, right in pairs)
            roots = (-offset / slope for slope, offset in filter(None, lines))
        for root in roots:
            for cut in (math.floor(root), math.floor(root) + 1):
                if self.start < cut < self.stop:
                    yield cut

    def _jumps(self, dividend: Polynomial, divisor: Polynomial) -> Iterator[Fraction]:
        """Yield where a linear quotient passes a whole number, unless it does so at more than every other value."""
        line = self._line(dividend)
        if line is None or not divisor.is_constant:
            return
        slope, offset = line
        low, high = sorted((slope * end + offset) / divisor.number for end in (self.start, self.stop))
        if high - low <= (self.stop - self.start) / 2:
            for whole in range(math.floor(low), math.ceil(high) + 1):
                yield (whole * divisor.number - offset) / slope

    def _line(self, polynomial: Polynomial) -> tuple[Fraction, Fraction] | None:
        """Return slope and offset of what is linear in the variable and depends on no other one; else None."""
        powers = polynomial.by_power(self.name)
        if powers is None or not powers.keys() <= {0, 1} or 1 not in powers:
            return None
        slope, offset = powers[1], powers.get(0, Polynomial({}))
        return (Fraction(slope.number), Fraction(offset.number)) if slope.is_constant and offset.is_constant else None


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
        numbers = enumerate(_bernoulli(power + 1))
        terms = (math.comb(power + 1, k) * number * last ** (power + 1 - k) for k, number in numbers)
        return sum(terms, Fraction(0)) / (power + 1)

    if power == 0:
        return stop - start
    return normalize(up_to(stop - 1) - up_to(start - 1))
