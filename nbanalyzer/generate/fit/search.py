"""From observed sizes to formulas: the expression of global variables that gives these numbers, every time.

A size is a vector: its value at each observation. Products of up to three variables, with a factor, are looked
up in a table by their direction; sums of two or three of them are searched. A fit is only returned if it gives
every observed value exactly.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbanalyzer.formulas.formula import Formula, build, constant, variable
from nbanalyzer.generate.deadline import look

__all__ = ["Atom", "Fitter", "Vector"]

Vector = tuple[int, ...]
_Array = NDArray[Any]
_Monomial = tuple[int, ...]  # indices of atoms, ascending
_Term = tuple[Fraction, _Monomial]

_SUM_FACTORS = (*map(Fraction, (1, 2, -1, -2, 3, 4, -3)), Fraction(1, 2), Fraction(-1, 2))
_DENOMINATORS = frozenset({1, 2, 3, 4, 8, 16, 32})
_NUMBERS = (*_SUM_FACTORS, *map(Fraction, (-4, 8, -8, 16, 32, 64)))
_LENGTHS = frozenset(map(variable, ("seq_len", "encoder_len")))
_LARGEST_FACTOR = 1 << 16
_MOST_PRODUCTS = 500  # that are tried for one size
_PRIME_BITS = 30
_PRIME = (1 << _PRIME_BITS) + 3  # so that a product of two residues fits in 64 bits


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
        chosen: how many variables and numbers a formula may have for each different value beyond the first.

    """

    def __init__(self, atoms: Iterable[Atom], chosen: int = 2) -> None:
        self.chosen = chosen
        self.atoms: list[Atom] = []
        seen: set[Vector] = set()
        for atom in atoms:
            if len(set(atom.values)) > 1 and atom.values not in seen:
                seen.add(atom.values)
                self.atoms.append(atom)
        self._derived = {atom.formula for atom in self.atoms if not atom.plain}
        self._tables: dict[Vector, _Table] = {}
        self._found: dict[tuple[Vector, Vector], Formula | None] = {}

    def fit(self, values: Mapping[int, int]) -> Formula | None:
        """Return the simplest formula that gives `values` (observation → size), None if there is none."""
        look()
        where = tuple(sorted(values))
        vector = tuple(values[index] for index in where)
        key = (where, vector)
        if key not in self._found:
            if where not in self._tables:
                self._tables[where] = _Table(self.atoms, where)
            found = self._tables[where].fit(vector)
            self._found[key] = found if found and self._is_believable(found, vector) else None
        return self._found[key]

    def fit_product(self, values: Mapping[int, int], most: int = 4) -> Formula | None:
        """Return a formula like `fit`, also for a product of more than three variables: of `most` more."""
        tries = (pair for count in range(most + 1) for pair in self._divided(values, 0, count))  # the fewest first
        for factors, rest in itertools.islice(tries, _MOST_PRODUCTS):
            inner = self.fit(rest)
            found = build("*", *factors, inner) if inner and factors else inner
            if found and self._is_believable(found, values.values()):
                return found
        return None

    def _divided(
        self, values: Mapping[int, int], start: int, count: int
    ) -> Iterator[tuple[tuple[Formula, ...], Mapping[int, int]]]:
        """Yield every combination of `count` variables that divide all values, and the quotients."""
        if not count:
            yield (), values
            return
        for place in range(start, len(self.atoms)):
            atom = self.atoms[place]
            own = {index: atom.values[index] for index in values}
            divides = all(own.values()) and not any(values[index] % own[index] for index in values)
            if atom.plain and divides and set(own.values()) != {1}:
                rest = {index: values[index] // own[index] for index in values}
                for factors, quotients in self._divided(rest, place, count - 1):
                    yield (atom.formula, *factors), quotients

    def _is_believable(self, formula: Formula, values: Iterable[int]) -> bool:
        """Return whether enough different values speak for a formula: by chance, a long one gives any few numbers."""
        return formula.operation == "number" or self._choices(formula) <= self.chosen * (len(set(values)) - 1)

    def _choices(self, formula: Formula) -> int:
        """Return how many variables, and numbers beside 1 and 2, a formula was put together from."""
        if formula in self._derived:
            return len(formula.variables)
        if formula.operation == "number":
            return int(formula.value not in {0, 1, 2})
        return int(formula.operation == "variable") + sum(map(self._choices, formula.arguments))


class _Table:
    """The products of atoms by direction, over one set of observations.

    A direction is recognized by the ratio of two random sums over it, modulo a prime: what is a multiple of it has the
    same. The ratio of a difference of vectors follows from their sums, so that thousands of them are looked up at once;
    whatever is found is checked on the numbers themselves.
    """

    def __init__(self, atoms: Sequence[Atom], where: Vector) -> None:
        picked = [(atom, tuple(atom.values[index] for index in where)) for atom in atoms]
        picked = [(atom, values) for atom, values in picked if any(values)]
        self.atoms = [atom for atom, _ in picked]
        self.values = [values for _, values in picked]
        self.ones = (1,) * len(where)
        self.unrelated = {index for index, values in enumerate(self.values) if 0 not in values}
        chance = random.Random(3)  # noqa: S311 - the same every time
        self.weights = np.array([[chance.randrange(1, _PRIME) for _ in where] for _ in range(2)])
        monomials = _monomials(tuple(atom.plain for atom in self.atoms))
        residues = [_residues(values) for values in (self.ones, *self.values)]
        sums = self._sums_of(np.array(residues), monomials)
        # By direction: the first one, which is the simplest, and a number last.
        self.monomials = np.concatenate((monomials[1:], monomials[:1]))
        ratios = _ratios(*np.concatenate((sums[:, 1:], sums[:, :1]), axis=1))
        self.ratios, self.places = np.unique(ratios, return_index=True)
        # What a pair is made of: a small product, and a factor.
        self.small = [_indices(row) for row in monomials[monomials[:, 0] == 0]]
        self.parts: list[tuple[_Monomial, Fraction]] = [
            (monomial, factor) for monomial in self.small for factor in (_SUM_FACTORS if monomial else _NUMBERS)
        ]
        places = {monomial: place for place, monomial in enumerate(self.small)}
        numbers = {factor: _residue(factor) for factor in _NUMBERS}
        taken = sums[:, [places[monomial] for monomial, _ in self.parts]]
        self.taken = taken * np.array([numbers[factor] for _, factor in self.parts]) % _PRIME
        self.simple = sum(len(monomial) < 2 for monomial, _ in self.parts)
        self.first = sums[:, : len(self.atoms) + 1]  # of 1, and of each atom

    def _sums_of(self, residues: _Array, monomials: _Array) -> _Array:
        """Return the two sums of each product; the first residues are those of 1."""
        left, middle, right = (residues[monomials[:, place]] for place in range(3))
        products = left * middle % _PRIME * right % _PRIME
        return np.stack([(products * weight % _PRIME).sum(axis=1) % _PRIME for weight in self.weights])

    def _sums(self, vector: Vector) -> _Array:
        sums: _Array = (_residues(vector) * self.weights % _PRIME).sum(axis=1) % _PRIME
        return sums

    def _known(self, sums: _Array) -> _Array:
        """Return for each pair of sums whether a direction has their ratio."""
        ratios = _ratios(*sums)
        places = np.minimum(np.searchsorted(self.ratios, ratios), len(self.ratios) - 1)
        found: _Array = (self.ratios[places] == ratios) & (ratios >= 0)
        return found

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
            if quotient and (terms := self.pair(quotient, simple=True)):
                return build("*", self.atoms[index].formula, self.formula(terms))
        if triple := self.triple(vector):
            return self.formula(triple)
        # A length, and what a window or a convolution adds to it.
        for index, atom in enumerate(self.atoms):
            if atom.formula in _LENGTHS:
                rest = tuple(seen - own for seen, own in zip(vector, self.values[index], strict=True))
                if terms := self.triple(rest):
                    return self.formula([(Fraction(1), (index,)), *terms])
        return None

    def single(self, vector: Vector) -> _Term | None:
        """Return the one product, with a factor, that gives the vector."""
        place = next((place for place, value in enumerate(vector) if value), -1)
        if place < 0:
            return None
        ratio = int(_ratios(*self._sums(vector)[:, None])[0])
        where = int(np.searchsorted(self.ratios, ratio))
        if where == len(self.ratios) or self.ratios[where] != ratio:
            return None
        monomial = _indices(self.monomials[self.places[where]])
        values = self.product(monomial)
        if not values[place]:
            return None
        factor = Fraction(vector[place], values[place])
        if factor.denominator not in _DENOMINATORS or abs(factor.numerator) > _LARGEST_FACTOR:
            # A number stands for itself, where a variable that never changes here says nothing of it.
            return (Fraction(vector[0]), ()) if len(set(vector)) == 1 else None
        exact = all(factor * own == seen for own, seen in zip(values, vector, strict=True))
        return (factor, monomial) if exact else None

    def pair(self, vector: Vector, *, simple: bool = False) -> list[_Term] | None:
        """Return the simplest sum of two products; `simple`: one of them a number or a variable."""
        count = self.simple if simple else len(self.parts)
        best: list[_Term] | None = None
        cheapest = float("inf")
        for place in np.flatnonzero(self._known((self._sums(vector)[:, None] - self.taken[:, :count]) % _PRIME)):
            monomial, factor = self.parts[place]
            if len(monomial) + 1 >= cheapest:
                break  # those that follow are not smaller
            own = self.product(monomial)
            if any(value % factor.denominator for value in own):
                continue
            rest = tuple(seen - int(factor * value) for seen, value in zip(vector, own, strict=True))
            other = self.single(rest)
            if other is None:
                continue
            terms = [other, (factor, monomial)] if other[0] > 0 and factor < 0 else [(factor, monomial), other]
            price = sum(len(part) + _price(number) for number, part in terms)
            if price < cheapest:
                best, cheapest = terms, price
        return best

    def triple(self, vector: Vector) -> list[_Term] | None:
        """Return a sum of three products, one of them a number or a variable."""
        numbers = (1, -1, 2, -2)
        thirds = (self.first[:, :, None] * np.array(numbers)).reshape(2, -1)
        rests = (self._sums(vector)[:, None] - thirds) % _PRIME
        known = self._known((rests[:, :, None] - self.taken[:, None, : self.simple]) % _PRIME)
        for place in np.flatnonzero(known.any(axis=1)):
            index, number = int(place) // len(numbers) - 1, numbers[int(place) % len(numbers)]
            values = self.values[index] if index >= 0 else self.ones
            rest = tuple(seen - number * own for seen, own in zip(vector, values, strict=True))
            if any(rest) and (terms := self.pair(rest, simple=True)):
                return [*terms, (Fraction(number), (index,) if index >= 0 else ())]
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


@functools.lru_cache(maxsize=16)
def _monomials(plain: tuple[bool, ...]) -> _Array:
    """Return the products of up to three of these atoms, the short ones first, as rows of their numbers plus 1.

    A row is filled up with zeros in front; at most one atom of a product is not plain.
    """
    rows = [
        (0,) * (3 - degree) + tuple(index + 1 for index in monomial)
        for degree in range(4)
        for monomial in itertools.combinations_with_replacement(range(len(plain)), degree)
        if sum(not plain[index] for index in monomial) <= 1
    ]
    return np.array(rows)


def _indices(row: _Array) -> _Monomial:
    return tuple(int(number) - 1 for number in row if number)


def _residues(vector: Vector) -> _Array:
    return np.array([value % _PRIME for value in vector])


def _residue(factor: Fraction) -> int:
    return factor.numerator * pow(factor.denominator, -1, _PRIME) % _PRIME


def _ratios(left: _Array, right: _Array) -> _Array:
    """Return left / right modulo the prime, -1 where right is 0."""
    found: _Array = np.where(right == 0, -1, left * _inverses(np.where(right == 0, 1, right)) % _PRIME)
    return found


def _inverses(numbers: _Array) -> _Array:
    """Return the inverses modulo the prime of numbers that are not 0: of the product of all, and back from there.

    Each half of a product has the other half, by the inverse of the product, as its inverse: three multiplications a
    number, where a power of its own takes sixty.
    """
    levels = [numbers.ravel()]
    while len(levels[-1]) > 1:
        if len(levels[-1]) % 2:
            levels[-1] = np.append(levels[-1], 1)
        left, right = levels[-1].reshape(2, -1)
        levels.append(left * right % _PRIME)
    inverses = np.array([pow(int(number), -1, _PRIME) for number in levels.pop()], dtype=numbers.dtype)
    for level in reversed(levels):
        halves = level.reshape(2, -1)[::-1]
        inverses = (halves * inverses[: halves.shape[1]] % _PRIME).ravel()
    return inverses[: numbers.size].reshape(numbers.shape)


def _price(factor: Fraction) -> float:
    """Return how unlikely a factor is."""
    if factor == 1:
        return 0
    return 0.5 if factor in {2, -1} else 1.5


def atoms_of(values: Sequence[Mapping[str, int]], derived: Mapping[str, Formula]) -> Iterator[Atom]:
    """Yield the atoms of variables that have a value at every observation, then the derived expressions."""
    names = [name for name in values[0] if all(name in observed for observed in values)]
    for name in names:
        yield Atom(variable(name), tuple(observed[name] for observed in values))
    for formula in derived.values():
        found = [
            formula.evaluate(observed) if set(formula.variables) <= observed.keys() else None for observed in values
        ]
        if all(isinstance(value, int) for value in found):
            yield Atom(formula, tuple(int(value) for value in found if value is not None), plain=False)
