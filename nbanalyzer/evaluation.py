"""What a formula is worth: exactly, or over NumPy arrays.

The exact way compiles the tree into nested Python functions once, because a template's formulas are
evaluated again for every run of a what-if.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING, Any

from .errors import FormulaError, quote
from .grammar import MAX_BITS, MAX_EXPONENT, Number, normalize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .formula import Formula

__all__ = ["Program", "compiled", "evaluate", "vectorize"]

Program = Callable[[Mapping[str, Number]], Number]
"""A compiled formula: from the variables' values to an exact number (whole ones may still be a Fraction)."""

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "-": operator.sub, "//": operator.floordiv, "%": operator.mod,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


UNARY: dict[str, Callable[[Any], Any]] = {"neg": operator.neg, "ceil": math.ceil, "floor": math.floor}


class _ProblemError(Exception):
    """What went wrong, and in which part of the formula; `evaluate` says in which formula."""


def evaluate(formula: Formula, values: Mapping[str, Number]) -> Number:
    """Return the exact value of `formula`, an ``int`` wherever it is whole; see `Formula.evaluate`."""
    for name in formula.variables:
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | Fraction)):
            raise FormulaError(f"{{{name}}} = {quote(value)} is not exact, give an int or a Fraction", str(formula))
    return run(compiled(formula), formula, values)


def run(program: Program, formula: Formula, values: Mapping[str, Number]) -> Number:
    """Return what `program`, compiled from `formula`, gives; its problems become a `FormulaError`."""
    try:
        return normalize(program(values))
    except _ProblemError as problem:
        message, part = problem.args
        text = str(formula)
        raise FormulaError(message, text, max(text.find(str(part)), 0)) from None


def compiled(formula: Formula) -> Program:
    """Return the formula as a function of its variables' values, of the type that `run` takes."""
    operation, parts = formula.operation, [compiled(argument) for argument in formula.arguments]
    if operation == "number":
        value = formula.value
        return lambda _values: value  # type: ignore[return-value]
    if operation == "variable":
        return _lookup(formula)
    if operation in {"+", "*"}:
        return _folded(operator.add if operation == "+" else operator.mul, parts)
    if operation == "if":
        yes, condition, no = parts
        return lambda values: yes(values) if condition(values) else no(values)
    if operation in {"min", "max"}:
        pick: Callable[..., Number] = min if operation == "min" else max
        return lambda values: pick(part(values) for part in parts)
    if operation == "**":
        return _power(formula, *parts)
    if operation in {"/", "//", "%"}:
        return _division(formula, *parts)
    if operation in BINARY:
        left, right = parts
        apply = BINARY[operation]
        return lambda values: apply(left(values), right(values)) + 0  # + 0: a comparison gives 1 or 0
    (only,) = parts
    unary = UNARY[operation]
    return lambda values: unary(only(values))


def _lookup(formula: Formula) -> Program:
    name = str(formula.value)

    def lookup(values: Mapping[str, Number]) -> Number:
        try:
            return values[name]
        except KeyError:
            raise _ProblemError(f"{{{name}}} has no value", formula) from None

    return lookup


def _folded(apply: Callable[[Any, Any], Any], parts: list[Program]) -> Program:
    if len(parts) == 2:
        left, right = parts
        return lambda values: apply(left(values), right(values))
    return lambda values: reduce(apply, [part(values) for part in parts])


def _division(formula: Formula, left: Program, right: Program) -> Program:
    apply = BINARY.get(formula.operation, Fraction)

    def divide(values: Mapping[str, Number]) -> Number:
        divisor = right(values)
        if divisor == 0:
            raise _ProblemError("division by zero", formula)
        return apply(left(values), divisor)  # type: ignore[no-any-return]

    return divide


def _power(formula: Formula, base: Program, exponent: Program) -> Program:
    def power(values: Mapping[str, Number]) -> Number:
        low, high = normalize(base(values)), normalize(exponent(values))
        if not isinstance(high, int):
            raise _ProblemError(f"an exponent has to be whole, not {quote(high)}", formula)
        if high > MAX_EXPONENT and 0 <= low <= 1:
            return _probability(low, high)
        if abs(high) > MAX_EXPONENT:
            raise _ProblemError(f"an exponent is at most {MAX_EXPONENT}, not {quote(high)}", formula)
        if max(low.numerator.bit_length(), low.denominator.bit_length()) * abs(high) > MAX_BITS:
            raise _ProblemError(f"the power has more than {MAX_BITS} bits", formula)
        if low == 0 and high < 0:
            raise _ProblemError("division by zero", formula)
        return low**high if high >= 0 else Fraction(1) / Fraction(low) ** -high

    return power


def _probability(base: Number, exponent: int) -> Number:
    """Return a power of a number between 0 and 1, to 128 binary places: exactly it would fill the memory.

    That none of a million tokens visits an expert, for example.
    """
    one = 1 << 128
    square, result = (base.numerator << 128) // base.denominator, one
    while exponent and result:
        if exponent & 1:
            result = result * square >> 128
        square, exponent = square * square >> 128, exponent >> 1
    return normalize(Fraction(result, one))


def vectorize(formula: Formula, values: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """Return the formula over arrays that broadcast together, in float64.

    Both branches of an ``if`` are computed; what divides by zero or is too large is inf or nan, as NumPy has it.
    """
    import numpy as np

    arrays: dict[str, npt.NDArray[np.float64]] = {}
    for name in formula.variables:
        if name not in values:
            raise FormulaError(f"{{{name}}} has no value", str(formula), max(str(formula).find(f"{{{name}}}"), 0))
        value = values[name]
        arrays[name] = np.asarray(float(value) if isinstance(value, Fraction) else value, dtype=np.float64)
    binary: dict[str, Callable[..., Any]] = {
        **BINARY, "+": np.add, "*": np.multiply, "/": np.divide, "//": np.floor_divide, "%": np.mod,
        "**": np.power, "min": np.minimum, "max": np.maximum,
    }  # fmt: skip
    unary = {"neg": np.negative, "ceil": np.ceil, "floor": np.floor}

    def over(node: Formula) -> Any:  # an array of whatever shape
        if node.operation == "number":
            assert isinstance(node.value, int | Fraction)
            return np.float64(node.value)
        if node.operation == "variable":
            return arrays[str(node.value)]
        parts = [over(argument) for argument in node.arguments]
        if node.operation == "if":
            return np.where(parts[1] != 0, parts[0], parts[2])
        if node.operation in unary:
            return unary[node.operation](parts[0])
        return np.asarray(reduce(binary[node.operation], parts), dtype=np.float64)

    with np.errstate(all="ignore"):
        return np.asarray(over(formula), dtype=np.float64)
