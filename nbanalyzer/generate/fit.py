"""From observed sizes to formulas: the expression of global variables that gives these numbers, every time.

A size is a vector: its value at each observation. Products of up to three variables, with a factor, are looked
up in a table by their direction; sums of two or three of them are searched. A fit is only returned if it gives
every observed value exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from nbanalyzer.formula import Formula, build, constant, variable

__all__ = ["Atom", "Fitter", "Vector"]

Vector = tuple[int, ...]
_Monomial = tuple[int, ...]  # indices of atoms, ascending
_Term = tuple[Fraction, _Monomial]

_SUM_FACTORS = (*map(Fraction, (1, 2, -1, -2, 3, 4, -3)), Fraction(1, 2), Fraction(-1, 2))
_DENOMINATORS = frozenset({1, 2, 3, 4, 8, 16})
_LARGEST_FACTOR = 1 << 16


@dataclass(frozen=True, slots=True)
class Atom:
    """What formulas are made of: a variable, or a small expression, with its value at each observation.

    Attributes:
        formula: the expression.
        values: its values.
        plain: whether it is a variable, which is preferred.

    """

    formula: Formula
    values: Vector
    plain: bool = True


class Fitter:
    """Finds formulas for sizes that were seen at several observations.

    Args:
        atoms: what they may be made of, the preferred ones first. One that never varies cannot be told from a
            number, and one that always equals another cannot be told from it: both are left out.

    """

    def __init__(self, atoms: Iterable[Atom]) -> None:
        self.atoms: list[Atom] = []
        seen: set[Vector] = set()
        for atom in atoms:
            if len(set(atom.values)) > 1 and atom.values not in seen:
                seen.add(atom.values)
                self.atoms.append(atom)
        self._tables: dict[Vector, _Table] = {}
        self._found: dict[tuple[Vector, Vector], Formula | None] = {}

    def fit(self, values: Mapping[int, int]) -> Formula | None:
        """Return the simplest formula that gives `values` (observation → size), None if there is none."""
        where = tuple(sorted(values))
        vector = tuple(values[index] for index in where)
        key = (where, vector)
        if key not in self._found:
            if where not in self._tables:
                self._tables[where] = _Table(self.atoms, where)
            self._found[key] = self._tables[where].fit(vector)
        return self._found[key]

    def fit_product(self, values: Mapping[int, int]) -> Formula | None:
        """Return a formula like `fit`, also for a product of more than three variables."""
        if found := self.fit(values):
            return found
        for atom in self.atoms:
            own = {index: atom.values[index] for index in values}
            if atom.plain and all(own.values()) and not any(values[index] % own[index] for index in values):
                rest = {index: values[index] // own[index] for index in values}
                if inner := self.fit_product(rest):
                    return build("*", atom.formula, inner)
        return None


class _Table:
    """The products of atoms by direction, over one set of observations."""

    def __init__(self, atoms: Sequence[Atom], where: Vector) -> None:
        picked = [(atom, tuple(atom.values[index] for index in where)) for atom in atoms]
        picked = [(atom, values) for atom, values in picked if any(values)]
        self.atoms = [atom for atom, _ in picked]
        self.values = [values for _, values in picked]
        self.length = len(where)
        self.directions: dict[Vector, tuple[_Monomial, Fraction, int]] = {}
        self.small: list[tuple[_Monomial, Vector]] = [((), (1,) * self.length)]
        self.ones = (1,) * self.length
        count = len(self.atoms)
        for degree in (1, 2, 3):
            for monomial in itertools.combinations_with_replacement(range(count), degree):
                if sum(not self.atoms[index].plain for index in monomial) > 1:
                    continue
                values = self.product(monomial)
                if degree <= 2:
                    self.small.append((monomial, values))
                direction, first = _direction(values)
                if direction:
                    self.directions.setdefault(direction, (monomial, Fraction(values[first]), first))
        self.unrelated = {index for index, values in enumerate(self.values) if 0 not in values}

    def product(self, monomial: _Monomial) -> Vector:
        """Return a monomial's values."""
        values: Iterable[int] = self.ones
        for index in monomial:
            values = [left * right for left, right in zip(values, self.values[index], strict=True)]
        return tuple(values)

    def fit(self, vector: Vector) -> Formula | None:
        """Return the simplest formula for the vector."""
        if len(set(vector)) == 1:
            return constant(vector[0])
        if single := self.single(vector):
            return self.formula([single])
        if pair := self.pair(vector):
            return self.formula(pair)
        for index in sorted(self.unrelated):  # (a + b) * c
            quotient = self.divided(vector, index)
            if quotient and (terms := self.pair(quotient, 1)):
                return _times(self.formula(terms), self.atoms[index].formula)
        if triple := self.triple(vector):
            return self.formula(triple)
        return None

    def single(self, vector: Sequence[int]) -> _Term | None:
        """Return the one product, with a factor, that gives the vector."""
        direction, _ = _direction(vector)
        if not direction:
            return None
        if direction in self.directions:
            monomial, value, place = self.directions[direction]
        elif len(set(vector)) == 1:
            monomial, value, place = (), Fraction(1), 0
        else:
            return None
        factor = Fraction(vector[place]) / value
        if factor.denominator not in _DENOMINATORS or abs(factor.numerator) > _LARGEST_FACTOR:
            return None
        exact = all(factor * own == seen for own, seen in zip(self.product(monomial), vector, strict=True))
        return (factor, monomial) if exact else None

    def pair(self, vector: Vector, degree: int = 2) -> list[_Term] | None:
        """Return the simplest sum of two products, one of them of at most so many variables."""
        best: list[_Term] | None = None
        cheapest = float("inf")
        for monomial, values in self.small:
            if len(monomial) > degree or len(monomial) + 1 >= cheapest:
                break  # those that follow are not smaller
            for factor in _SUM_FACTORS if monomial else (*_SUM_FACTORS, *map(Fraction, (-4, 8, -8, 16, 32, 64))):
                if factor.denominator == 1:
                    whole = factor.numerator
                    rest = [seen - whole * own for seen, own in zip(vector, values, strict=True)]
                else:
                    if any(own % factor.denominator for own in values):
                        continue
                    rest = [seen - int(factor * own) for seen, own in zip(vector, values, strict=True)]
                other = self.single(rest)
                if other is None:
                    continue
                terms = [other, (factor, monomial)] if other[0] > 0 and factor < 0 else [(factor, monomial), other]
                price = sum(len(own) + _price(number) for number, own in terms)
                if price < cheapest:
                    best, cheapest = terms, price
        return best

    def triple(self, vector: Vector) -> list[_Term] | None:
        """Return a sum of three products, one of them a number or a variable."""
        for index in (-1, *range(len(self.atoms))):
            monomial = (index,) if index >= 0 else ()
            values = self.values[index] if index >= 0 else self.ones
            for number in (1, -1, 2, -2):
                rest = tuple(seen - number * own for seen, own in zip(vector, values, strict=True))
                if any(rest) and (terms := self.pair(rest, 1)):
                    return [*terms, (Fraction(number), monomial)]
        return None

    def divided(self, vector: Vector, index: int) -> Vector | None:
        """Return the vector by an atom, None if that is not whole."""
        values = self.values[index]
        if any(seen % own for seen, own in zip(vector, values, strict=True)):
            return None
        return tuple(seen // own for seen, own in zip(vector, values, strict=True))

    def formula(self, terms: Sequence[_Term]) -> Formula:
        """Return the sum of the terms as a formula."""
        first, *rest = sorted(terms, key=lambda term: term[0] < 0)
        result = self.term(*first)
        for factor, monomial in rest:
            part = self.term(abs(factor), monomial)
            result = build("-" if factor < 0 else "+", result, part)
        return result

    def term(self, factor: Fraction, monomial: _Monomial) -> Formula:
        """Return one product as a formula."""
        parts = [self.atoms[index].formula for index in monomial]
        if factor.numerator != 1 or not parts:
            parts.insert(0, constant(factor.numerator))
        result = parts[0] if len(parts) == 1 else build("*", *parts)
        return build("/", result, constant(factor.denominator)) if factor.denominator > 1 else result


def _direction(vector: Sequence[int]) -> tuple[Vector, int]:
    """Return a vector up to a factor, and its first entry that is not 0; () for nothing but zeros."""
    first = next((index for index, value in enumerate(vector) if value), -1)
    if first < 0:
        return (), first
    common = gcd(*vector)
    sign = 1 if vector[first] > 0 else -1
    return tuple(value // common * sign for value in vector), first


def _price(factor: Fraction) -> float:
    """Return how unlikely a factor is."""
    if factor == 1:
        return 0
    return 0.5 if factor in {2, -1} else 1.5


def _times(left: Formula, right: Formula) -> Formula:
    return build("*", right, left)


def atoms_of(values: Sequence[Mapping[str, int]], derived: Mapping[str, Formula]) -> Iterator[Atom]:
    """Yield the atoms of variables that have a value at every observation, then the derived expressions."""
    names = [name for name in values[0] if all(name in one for one in values)]
    for name in names:
        yield Atom(variable(name), tuple(one[name] for one in values))
    for formula in derived.values():
        found = [formula.evaluate(one) if set(formula.variables) <= one.keys() else None for one in values]
        if all(isinstance(value, int) for value in found):
            yield Atom(formula, tuple(int(value) for value in found if value is not None), plain=False)
