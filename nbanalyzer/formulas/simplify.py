"""Operations on polynomials: computed where the result is a polynomial, else an atom over their operands.

>>> from nbanalyzer.formulas.formula import parse
>>> polynomial = expanded(parse("2 * {batch_size} * ({cache_len} + {seq_len}) * {hidden_size}"), {"hidden_size": 8})
>>> str(polynomial)
'16 * batch_size * cache_len + 16 * batch_size * seq_len'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from fractions import Fraction
from functools import reduce
from operator import mul
from typing import TypeVar

from nbanalyzer.errors import FormulaError, shorten

from .formula import Formula
from .grammar import Number
from .polynomial import OPPOSITES, Atom, Monomial, Polynomial, number_of

__all__ = ["applied", "expanded", "put", "reduced"]

MULTIPLIED_OUT = 8  # the largest exponent of a sum that is written as a product

Operand = TypeVar("Operand", Formula, Polynomial)


def expanded(formula: Formula, values: Mapping[str, Number | Polynomial]) -> Polynomial:
    """Return a formula multiplied out, with `values` put in; a name without a value stays a variable.

    Raises:
        FormulaError: a division by zero, or too many terms.

    """
    operation = formula.operation
    if operation == "number":
        assert isinstance(formula.value, int | Fraction)
        return Polynomial.constant(formula.value)
    if operation == "variable":
        name = str(formula.value)
        value = values.get(name)
        if value is None:
            return Polynomial.of(Atom("variable", name=name))
        return value if isinstance(value, Polynomial) else Polynomial.constant(value)
    arguments = formula.arguments
    if operation in {"ceil", "floor"} and arguments[0].operation == "/":  # rounded as a quotient of whole numbers
        operation, arguments = "//" if operation == "floor" else operation, arguments[0].arguments
    return _applied_to(operation, arguments, lambda argument: expanded(argument, values))


def put(polynomial: Polynomial, values: Mapping[str, Number]) -> Polynomial:
    """Return a polynomial with values put in for these variables."""
    return polynomial.replace(lambda atom: _put_into(atom, values))


def _put_into(atom: Atom, values: Mapping[str, Number]) -> Polynomial:
    if atom.operation == "variable":
        return Polynomial.constant(values[atom.name]) if atom.name in values else Polynomial.of(atom)
    return _applied_to(atom.operation, atom.arguments, lambda argument: put(argument, values))


def _applied_to(
    operation: str, arguments: tuple[Operand, ...], polynomial_of: Callable[[Operand], Polynomial]
) -> Polynomial:
    """Return an operation on the arguments' polynomials; of a decided ``if``, the other branch has none."""
    if operation == "if":  # it may divide by zero
        yes, condition, no = arguments
        decided = polynomial_of(condition)
        if decided.is_constant:
            return polynomial_of(yes if decided.number else no)
    return applied(operation, tuple(map(polynomial_of, arguments)))


def applied(operation: str, parts: tuple[Polynomial, ...]) -> Polynomial:
    """Return an operation on polynomials: its result, or an atom."""
    if operation == "+":
        return Polynomial.sum(parts)
    if operation == "*":
        return reduce(mul, parts)
    if operation == "-":
        return parts[0] - parts[1]
    if operation == "neg":
        return parts[0] * -1
    if operation == "/":
        return _quotient(*parts) if len(parts) == 2 else _quotient(Polynomial.constant(1), *parts)
    if operation == "%":
        return parts[0] - parts[1] * applied("//", parts)
    if operation in {"//", "ceil", "floor"}:
        return _rounded(operation, *parts)
    if operation == "**" and parts[1].is_constant:
        exponent = parts[1].number
        if isinstance(exponent, int) and 0 <= exponent <= MULTIPLIED_OUT and not parts[0].is_constant:
            return reduce(mul, [parts[0]] * exponent, Polynomial.constant(1))
    if all(part.is_constant for part in parts):
        return Polynomial.constant(number_of(operation, (part.number for part in parts)))
    if operation == "if":
        return _choice(*parts)
    if operation in {"min", "max"}:
        return _extreme(operation, parts)
    return Polynomial.of(Atom(operation, parts))


def _quotient(left: Polynomial, right: Polynomial) -> Polynomial:
    if right.is_constant:
        if right.number == 0:
            raise FormulaError("division by zero", shorten(f"({left}) / 0", 200))
        return left * (Fraction(1) / Fraction(right.number))
    return left * Polynomial.of(Atom("/", (right,)))


def reduced(dividend: Polynomial, divisor: Polynomial, names: Collection[str]) -> tuple[Polynomial, Polynomial]:
    """Return two polynomials without the factors that all their terms share, of these variables, which are not 0."""
    shared: dict[Atom, int] | None = None
    for monomial in (*dividend.terms, *divisor.terms):
        powers = {atom: power for atom, power in monomial if atom.name in names}
        shared = (
            powers if shared is None else {atom: min(shared[atom], powers[atom]) for atom in shared if atom in powers}
        )
    return _without(dividend, shared or {}), _without(divisor, shared or {})


def _without(polynomial: Polynomial, factors: Mapping[Atom, int]) -> Polynomial:
    terms: dict[Monomial, Number] = {}
    for monomial, factor in polynomial.terms.items():
        left = ((atom, power - factors.get(atom, 0)) for atom, power in monomial)
        terms[tuple((atom, power) for atom, power in left if power)] = factor
    return Polynomial(terms)


def _rounded(operation: str, dividend: Polynomial, divisor: Polynomial | None = None) -> Polynomial:
    """Return a quotient rounded down, or up for ``"ceil"``; over a constant, with whole coefficients."""
    if divisor is None or divisor.is_constant:
        number = Fraction(1) if divisor is None else Fraction(divisor.number)
        if number == 0:
            raise FormulaError("division by zero", shorten(f"({dividend}) // 0", 200))
        dividend = dividend * (1 / number)
        common = math.lcm(*(Fraction(factor).denominator for factor in dividend.terms.values()))
        dividend, divisor = dividend * common, Polynomial.constant(common)
    if dividend.is_constant and divisor.is_constant:
        quotient = Fraction(dividend.number) / divisor.number
        return Polynomial.constant(math.ceil(quotient) if operation == "ceil" else math.floor(quotient))
    return Polynomial.of(Atom("ceil" if operation == "ceil" else "//", (dividend, divisor)))


def _choice(yes: Polynomial, condition: Polynomial, no: Polynomial) -> Polynomial:
    """Return ``yes if condition else no`` as a sum with one term 0."""
    if condition.is_constant:
        return yes if condition.number else no
    if yes == no:
        return yes
    if any(atom.operation in {"/", "//", "%", "**"} for branch in (yes, no) for atom in _all_atoms(branch)):
        return Polynomial.of(Atom("if", (yes, condition, no)))  # the branch that is not taken may have no value
    atom = next(iter(condition.atoms))
    if condition == Polynomial.of(atom) and atom.operation in OPPOSITES:
        test, arguments = atom.operation, atom.arguments
    else:
        test, arguments = "!=", (condition, Polynomial({}))
    first, second = Polynomial.of(Atom(test, arguments)), Polynomial.of(Atom(OPPOSITES[test], arguments))
    return first * yes + second * no


def _all_atoms(polynomial: Polynomial) -> Iterator[Atom]:
    for atom in polynomial.atoms:
        yield atom
        for argument in atom.arguments:
            yield from _all_atoms(argument)


def _extreme(operation: str, parts: tuple[Polynomial, ...]) -> Polynomial:
    """Return the minimum or maximum of polynomials, without arguments that cannot be it."""
    numbers = [part.number for part in parts if part.is_constant]
    arguments = list(dict.fromkeys(part for part in parts if not part.is_constant))
    if numbers:
        limit = min(numbers) if operation == "min" else max(numbers)
        if not (operation == "max" and limit <= 0 and all(argument.never_negative for argument in arguments)):
            arguments.append(Polynomial.constant(limit))
    return arguments[0] if len(arguments) == 1 else Polynomial.of(Atom(operation, tuple(arguments)))
