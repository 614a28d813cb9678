"""Formulas multiplied out: sums of products, which can be summed in closed form, solved and differentiated.

A cost is a polynomial in batch, tokens and cache, but for a few operations: a sliding window's ``min``, the experts'
power, a branch. Such an operation is an *atom*: it stands in the polynomial like a variable, with its own operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property, reduce
from operator import mul

from nbanalyzer.errors import FormulaError, quote, shorten

from .evaluation import LIMIT, is_bounded
from .formula import Formula, constant
from .grammar import MAX_BITS, Number, normalize

__all__ = ["OPPOSITES", "Atom", "Monomial", "Polynomial", "number_of"]

MAX_TERMS = 20_000  # of one polynomial
MAX_TEXT = 100_000  # characters of an atom
MOST_SHARES = 6  # atoms between 0 and 1 that are tried at both ends, in all combinations
OPPOSITES = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", "<=": ">", ">": "<="}


class Atom:
    """A variable, or an operation over polynomials that is no polynomial itself. Equal ones are interchangeable.

    Attributes:
        operation: ``"variable"``, ``"**"``, a comparison (1 or 0), ``"min"`` or ``"max"``; ``"//"`` and ``"ceil"``
            are a quotient of two arguments rounded down and up, so that floats round as integers do; ``"/"`` is one
            divided by its only argument; ``"if"`` is (value if true, condition, value if false).
        name: the name of a variable, else "".
        arguments: the operands.

    """

    __slots__ = ("_hash", "arguments", "name", "operation", "text")

    def __init__(self, operation: str, arguments: tuple[Polynomial, ...] = (), name: str = "") -> None:
        self.operation, self.arguments, self.name = operation, arguments, name
        self.text = name or f"{operation}({', '.join(map(str, arguments))})"
        if len(self.text) > MAX_TEXT:  # nested powers, multiplied out, repeat their text level after level
            raise FormulaError("multiplied out, this is too long to be read", shorten(self.text, 200))
        self._hash = hash(self.text)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.text == other.text

    def __lt__(self, other: Atom) -> bool:
        return self.text < other.text

    def __repr__(self) -> str:
        return self.text

    @property
    def variables(self) -> Iterator[str]:
        """The variables it depends on, some more than once."""
        if self.operation == "variable":
            yield self.name
        for argument in self.arguments:
            yield from argument.variables

    @property
    def never_negative(self) -> bool:
        """Whether it is provably at least 0 for nonnegative variables."""
        if self.operation in {"variable", *OPPOSITES}:
            return True
        if self.operation == "max":
            return any(argument.never_negative for argument in self.arguments)
        if self.operation == "if":
            return self.arguments[0].never_negative and self.arguments[2].never_negative
        return self.operation != "neg" and all(argument.never_negative for argument in self.arguments)

    def evaluate(self, values: Mapping[str, Number]) -> Number:
        """Return the exact value; see `Polynomial.evaluate`."""
        if self.operation == "variable":
            if self.name not in values:
                raise FormulaError(f"{{{self.name}}} has no value", self.text)
            return values[self.name]
        if self.operation == "if":  # the branch that is not taken may divide by zero
            yes, condition, no = self.arguments
            return (yes if condition.evaluate(values) else no).evaluate(values)
        numbers = [argument.evaluate(values) for argument in self.arguments]
        if self.operation == "/":
            return number_of("/", [1, *numbers])
        if self.operation == "ceil":
            return number_of("ceil", [number_of("/", numbers)])
        return number_of(self.operation, numbers)

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1 for nonnegative variables: a condition, or a probability's power."""
        if self.operation == "**":
            base, exponent = self.arguments
            return base.is_constant and 0 <= base.number <= 1 and exponent.never_negative
        return self.operation in OPPOSITES


Monomial = tuple[tuple[Atom, int], ...]
"""Atoms and their powers, in the order of their texts; () is the constant."""


class Polynomial:
    """A sum of products of atoms with exact coefficients. Immutable; equal ones have equal terms.

    Attributes:
        terms: monomial → its coefficient, none of them 0.

    """

    __slots__ = ("__dict__", "terms")

    def __init__(self, terms: Mapping[Monomial, Number]) -> None:
        self.terms = {monomial: factor for monomial, factor in terms.items() if factor}
        if len(self.terms) > MAX_TERMS:
            raise FormulaError(f"multiplied out, this has more than {MAX_TERMS:,} terms", shorten(str(self), 200))

    @classmethod
    def constant(cls, value: Number) -> Polynomial:
        """Return the polynomial of one number."""
        return cls({(): _bounded(value)})

    @classmethod
    def of(cls, atom: Atom) -> Polynomial:
        """Return the polynomial of one atom."""
        return cls({((atom, 1),): 1})

    @classmethod
    def sum(cls, polynomials: Iterable[Polynomial]) -> Polynomial:
        """Return the sum of all of them."""
        terms: dict[Monomial, Number] = {}
        for polynomial in polynomials:
            for monomial, factor in polynomial.terms.items():
                if monomial in terms:
                    factor = terms[monomial] + factor
                    if type(factor) is not int:  # a sum of fractions may grow beyond the bound on its way
                        _bounded(factor)
                terms[monomial] = factor
        return cls(terms)

    @cached_property
    def _text(self) -> str:
        def term(monomial: Monomial, factor: Number) -> str:
            parts = [f"{atom}**{power}" if power > 1 else str(atom) for atom, power in monomial]
            return " * ".join([str(factor)] * (factor != 1 or not parts) + parts)

        return " + ".join(sorted(term(*item) for item in self.terms.items())) or "0"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Polynomial {shorten(self._text, 200)}>"

    @cached_property
    def _hash(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial.sum((self, other))

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other * -1

    def __mul__(self, other: Polynomial | Number) -> Polynomial:
        if not isinstance(other, Polynomial):
            return Polynomial({monomial: _bounded(factor * other) for monomial, factor in self.terms.items()})
        if other.is_constant:
            return self * other.number
        if self.is_constant:
            return other * self.number
        if len(self.terms) * len(other.terms) > 2 * MAX_TERMS:
            raise FormulaError("multiplied out, this has too many terms", shorten(f"({self}) * ({other})", 200))
        terms: dict[Monomial, Number] = {}
        for left, factor in self.terms.items():
            for right, times in other.terms.items():
                monomial = _product(left, right)
                terms[monomial] = _bounded(terms.get(monomial, 0) + factor * times)
        return Polynomial(terms)

    def __truediv__(self, rate: float) -> Polynomial:
        return self * (1 / Fraction(rate))

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def is_constant(self) -> bool:
        """Whether no atom is left."""
        return not self.terms or (len(self.terms) == 1 and () in self.terms)

    @property
    def number(self) -> Number:
        """The constant term: the value, if the polynomial is constant."""
        return normalize(self.terms.get((), 0))

    @cached_property
    def never_negative(self) -> bool:
        """Whether it is provably at least 0 for nonnegative variables."""
        return self.is_never_negative(MOST_SHARES)

    def is_never_negative(self, shares: int) -> bool:
        """Return `never_negative`, trying both ends of at most `shares` atoms between 0 and 1."""
        if all(
            factor > 0 and all(power % 2 == 0 or atom.never_negative for atom, power in monomial)
            for monomial, factor in self.terms.items()
        ):
            return True
        for atom in sorted(self.atoms) if shares else ():
            if atom.is_share and all(dict(monomial).get(atom, 1) == 1 for monomial in self.terms):
                # Linear in an atom between 0 and 1: the least value is at one of its ends.
                return all(self._with(atom, end).is_never_negative(shares - 1) for end in (0, 1))
        return False

    def _with(self, replaced: Atom, value: Number) -> Polynomial:
        return self.replace(lambda atom: Polynomial.constant(value) if atom == replaced else Polynomial.of(atom))

    @property
    def atoms(self) -> set[Atom]:
        """The atoms of its terms."""
        return {atom for monomial in self.terms for atom, _ in monomial}

    @property
    def variables(self) -> Iterator[str]:
        """The variables it depends on, some more than once."""
        for atom in self.atoms:
            yield from atom.variables

    def evaluate(self, values: Mapping[str, Number]) -> Number:
        """Return the exact value, an ``int`` wherever it is whole.

        Raises:
            FormulaError: a variable without a value, a division by zero, an exponent that is no whole number.

        """
        known = {atom: atom.evaluate(values) for atom in self.atoms}
        total: Number = 0
        for monomial, factor in self.terms.items():
            for atom, power in monomial:
                factor = _bounded(factor * known[atom] ** power)
            total = _bounded(total + factor)
        return normalize(total)

    def replace(self, new: Callable[[Atom], Polynomial]) -> Polynomial:
        """Return the polynomial with every atom replaced."""
        replaced = {atom: new(atom) for atom in self.atoms}
        return Polynomial.sum(
            reduce(mul, (_power(replaced[atom], power) for atom, power in monomial), Polynomial.constant(factor))
            for monomial, factor in self.terms.items()
        )

    def by_power(self, name: str) -> dict[int, Polynomial] | None:
        """Return power of the variable → its coefficient; None if an operation depends on the variable."""
        collected: dict[int, dict[Monomial, Number]] = {}
        for monomial, factor in self.terms.items():
            own_power, rest = 0, []
            for atom, power in monomial:
                if atom.operation == "variable" and atom.name == name:
                    own_power = power
                elif name in atom.variables:
                    return None
                else:
                    rest.append((atom, power))
            collected.setdefault(own_power, {})[tuple(rest)] = factor
        return {power: Polynomial(terms) for power, terms in collected.items()}

    def tangent(self, name: str, at: Number) -> tuple[Number, Number | float]:
        """Return the value and the derivative by `name` at a value of it; there is no other variable.

        Both are exact, but for the derivative of a power whose exponent varies. At a corner of a ``min`` or
        ``max`` it is that of the first argument that is chosen; comparisons have the derivative 0. A rounded quotient
        has that of the quotient, its trend: one more layer in four keeps keys, and what is left over of 4 tokens does
        not grow with them.
        """
        value: Number = 0
        slope: Number | float = 0
        tangents = {atom: _tangent(atom, name, at) for atom in self.atoms}
        for monomial, factor in self.terms.items():
            product: Number = factor
            steepness: Number | float = 0
            for atom, power in monomial:
                own, rise = tangents[atom]
                steepness = steepness * own**power + product * power * own ** (power - 1) * rise
                product = product * own**power
            value, slope = value + product, slope + steepness
        return normalize(value), slope

    def is_linear(self, name: str) -> bool:
        """Whether it is linear in a variable, or does not depend on it."""
        powers = self.by_power(name)
        return powers is not None and powers.keys() <= {0, 1}


def _bounded(factor: Number) -> Number:
    """Return a coefficient; one of too many bits is a `FormulaError`."""
    if not (type(factor) is int and -LIMIT < factor < LIMIT) and not is_bounded(factor):
        raise FormulaError(f"multiplied out, a number of more than {MAX_BITS:,} bits", quote(factor))
    return factor


def _tangent(atom: Atom, name: str, at: Number) -> tuple[Number, Number | float]:
    """Return an atom's value and derivative."""
    value = Polynomial.of(atom).evaluate({name: at})
    if atom.operation == "variable":
        return value, 1
    parts = [argument.tangent(name, at) for argument in atom.arguments]
    if atom.operation in {"min", "max"}:
        return value, next(slope for own, slope in parts if own == value)
    if atom.operation == "if":
        yes, condition, no = parts
        return value, yes[1] if condition[0] else no[1]
    if atom.operation == "/":
        ((own, slope),) = parts
        return value, -slope / Fraction(own) ** 2 if isinstance(slope, int | Fraction) else -slope / float(own) ** 2
    if atom.operation in {"//", "ceil"}:
        (above, rise), (below, growth) = parts
        change = rise * below - above * growth
        return value, change / (Fraction(below) ** 2 if isinstance(change, int | Fraction) else float(below) ** 2)
    if atom.operation == "**":
        (base, rise), (exponent, growth) = parts
        by_base: Number | float = exponent * base ** (exponent - 1) * rise if rise else 0
        return value, by_base + math.log(base) * float(value) * growth if growth and base else by_base
    return value, 0


def _product(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for atom, power in right:
        powers[atom] = 1 if atom.operation in OPPOSITES else powers.get(atom, 0) + power  # 1 * 1 and 0 * 0
    return tuple(sorted(powers.items()))


def _power(base: Polynomial, exponent: int) -> Polynomial:
    return reduce(mul, [base] * exponent, Polynomial.constant(1))


def number_of(operation: str, numbers: Iterable[Number]) -> Number:
    """Return the value of an operation on numbers, in the meaning of `Formula`, not of `Atom`.

    Raises:
        FormulaError: a division by zero, or a number too large.

    """
    return Formula(operation, None, tuple(map(constant, numbers))).evaluate({})
