"""Values of formulas: exact, or over NumPy arrays.

The exact way compiles the tree into nested Python functions once, because a template's formulas are
evaluated again for every run of a what-if.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING, Any

from nbanalyzer.errors import FormulaError, quote

from .grammar import COMPARISONS, MAX_BITS, MAX_EXPONENT, Number, Syntax, normalize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


__all__ = ["Compiled", "Real", "applied", "compiled", "evaluate", "is_bounded", "real", "vectorize"]

Compiled = Callable[[Mapping[str, Number]], Number]
"""A compiled formula: from the variables' values to an exact number (a whole one may still be a Fraction)."""
Real = Callable[[Mapping[str, float]], float]
"""A formula compiled for floats: what is measured is not exact."""

LIMIT = 1 << MAX_BITS
PLACES = 128  # significant bits of a power that is not exact
SMALLEST = MAX_BITS - PLACES  # such a power below 2 ** -SMALLEST is 0

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "*": operator.mul, "-": operator.sub, "//": operator.floordiv, "%": operator.mod,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
UNARY: dict[str, Callable[[Any], Any]] = {"neg": operator.neg, "ceil": math.ceil, "floor": math.floor}


class _ProblemError(Exception):
    """A problem and the part of the formula that it is in; `run` adds the formula."""


def evaluate(formula: Syntax, values: Mapping[str, Number]) -> Number:
    """Return the exact value of `formula`, an ``int`` wherever it is whole; see `Formula.evaluate`."""
    for name in formula.variables:
        value = values.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | Fraction):
            raise FormulaError(f"{{{name}}} = {quote(value)} is not exact, give an int or a Fraction", str(formula))
        if not is_bounded(value):
            raise FormulaError(f"{{{name}}} has more than {MAX_BITS:,} bits", str(formula))
    return run(compiled(formula), formula, values)


def run(function: Compiled, formula: Syntax, values: Mapping[str, Number]) -> Number:
    """Return the value of `function`, compiled from `formula`; a problem becomes a `FormulaError`."""
    try:
        return normalize(function(values))
    except KeyError as missing:
        part = f"{{{missing.args[0]}}}"
        message = f"{part} has no value"
    except _ProblemError as problem:
        message, part = problem.args
    text = str(formula)
    raise FormulaError(message, text, max(text.find(str(part)), 0))


def compiled(formula: Syntax) -> Compiled:
    """Return the formula as a function of its variables' values, for `run`."""
    if formula.operation == "number":
        return _given(formula.value)  # type: ignore[arg-type]
    if formula.operation == "variable":
        return operator.itemgetter(str(formula.value))
    return _operation(formula, [compiled(argument) for argument in formula.arguments])


def applied(formula: Syntax, numbers: Sequence[Number]) -> Number:
    """Return the value of the formula's outermost operation on these numbers in place of its arguments."""
    return run(_operation(formula, [_given(number) for number in numbers]), formula, {})


def _given(value: Number) -> Compiled:
    return lambda _values: value


def _operation(formula: Syntax, parts: list[Compiled]) -> Compiled:
    operation = formula.operation
    if operation in {"+", "*", "-"}:
        return _folded(formula, BINARY[operation], parts)
    if operation == "**":
        return _power(formula, *parts)
    if operation in {"/", "//", "%"}:
        return _division(formula, *parts)
    return _plain(operation, parts)


def _plain(operation: str, parts: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return an operation that needs no care, whatever the numbers are: a choice, an extreme, a sign, a comparison."""
    if operation == "if":
        yes, condition, no = parts
        return lambda values: yes(values) if condition(values) else no(values)
    if operation in {"min", "max"}:
        pick: Callable[..., Any] = min if operation == "min" else max
        return lambda values: pick([part(values) for part in parts])
    if operation in UNARY:
        unary, (only,) = UNARY[operation], parts
        return lambda values: unary(only(values))
    apply, (left, right) = BINARY[operation], parts
    return lambda values: apply(left(values), right(values)) + 0  # + 0: a comparison gives 1 or 0


def _folded(formula: Syntax, apply: Callable[[Any, Any], Any], parts: list[Compiled]) -> Compiled:
    first, *rest = parts

    def folded(values: Mapping[str, Number]) -> Number:
        value = first(values)
        for part in rest:
            value = apply(value, part(values))
            if type(value) is not int or not -LIMIT < value < LIMIT:
                _bounded(value, formula)
        return value

    return folded


def is_bounded(value: Number) -> bool:
    """Return whether a number, or both parts of a fraction, have at most `MAX_BITS` bits."""
    return max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_BITS


def _bounded(value: Number, formula: Syntax) -> Number:
    """Return an intermediate value if it is bounded: otherwise a short formula could fill the memory."""
    if not is_bounded(value):
        raise _ProblemError(f"this comes to a number of more than {MAX_BITS:,} bits", formula)
    return value


def _division(formula: Syntax, left: Compiled, right: Compiled) -> Compiled:
    apply = BINARY.get(formula.operation, Fraction)

    def divide(values: Mapping[str, Number]) -> Number:
        divisor = right(values)
        if divisor == 0:
            raise _ProblemError(_zero_divisor(formula.arguments[1], values), formula)
        value = apply(left(values), divisor)
        return value if type(value) is int and -LIMIT < value < LIMIT else _bounded(value, formula)

    return divide


def _zero_divisor(divisor: Syntax, values: Mapping[str, Number]) -> str:
    """Return the message for a divisor whose value is 0."""
    for node in divisor.walk():
        if node.operation != "**" or any(name not in values for name in node.variables):
            continue
        if compiled(node)(values) == 0 != compiled(node.arguments[0])(values):
            return f"division by a power below 2 ** -{SMALLEST:,}, which is taken as 0"
    return "division by zero"


def _power(formula: Syntax, base: Compiled, exponent: Compiled) -> Compiled:
    def power(values: Mapping[str, Number]) -> Number:
        number, times = normalize(base(values)), normalize(exponent(values))
        if not isinstance(times, int):
            raise _ProblemError(f"an exponent has to be whole, not {quote(times)}", formula)
        if times > MAX_EXPONENT and 0 <= number <= 1:
            return _power_of_share(number, times)
        if abs(times) > MAX_EXPONENT:
            base_is = f"its base is from 0 to 1, and here it is {quote(number)}"
            raise _ProblemError(f"an exponent is at most {MAX_EXPONENT}, not {quote(times)}, unless {base_is}", formula)
        if max(number.numerator.bit_length(), number.denominator.bit_length()) * abs(times) > MAX_BITS:
            raise _ProblemError(f"the power has more than {MAX_BITS:,} bits", formula)
        if number == 0 and times < 0:
            raise _ProblemError("division by zero", formula)
        return number**times if times >= 0 else Fraction(1) / Fraction(number) ** -times

    return power


def _power_of_share(base: Number, exponent: int) -> Number:
    """Return a large power of a number from 0 to 1, such as the probability that no token visits an expert.

    Exact if that takes at most `MAX_BITS` bits, else to `PLACES` significant bits, and 0 below ``2 ** -SMALLEST``.
    """
    if isinstance(base, int):
        return base  # 0 or 1
    if base.denominator.bit_length() * exponent <= MAX_BITS:
        return base**exponent
    # Each product rounds by one unit in the last place, and squaring doubles the error: in all `exponent` units.
    bits = PLACES + 4 + exponent.bit_length()
    places = bits + base.denominator.bit_length() - base.numerator.bit_length()
    result, square = (1, 0), ((base.numerator << places) // base.denominator, places)
    while exponent:
        if exponent & 1:
            result = _product(result, square, bits)
        square, exponent = _product(square, square, bits), exponent >> 1
    number, places = _product(result, (1, 0), PLACES)
    return 0 if places - number.bit_length() >= SMALLEST else Fraction(number, 1 << places)


def _product(left: tuple[int, int], right: tuple[int, int], bits: int) -> tuple[int, int]:
    """Return the product of two numbers n / 2 ** places, given as (n, places), to `bits` significant bits."""
    number, places = left[0] * right[0], left[1] + right[1]
    excess = max(number.bit_length() - bits, 0)
    return number >> excess, places - excess


def vectorize(formula: Syntax, values: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """Return the formula over arrays that broadcast together, in float64.

    Both branches of an ``if`` are computed; a division by zero or an overflow gives inf or nan, as in NumPy.
    """
    import numpy as np

    arrays: dict[str, npt.NDArray[np.float64]] = {}
    for name in formula.variables:
        if name not in values:
            raise FormulaError(f"{{{name}}} has no value", str(formula), max(str(formula).find(f"{{{name}}}"), 0))
        value = values[name]
        arrays[name] = np.asarray(_real(value) if isinstance(value, int | Fraction) else value, dtype=np.float64)
    binary: dict[str, Callable[..., Any]] = {
        **BINARY, "/": np.divide, "//": np.floor_divide, "%": np.mod,
        "**": np.power, "min": np.minimum, "max": np.maximum,
    }  # fmt: skip
    unary = {"neg": np.negative, "ceil": np.ceil, "floor": np.floor}

    def array_of(node: Syntax) -> Any:  # of whatever shape
        if node.operation == "number":
            assert isinstance(node.value, int | Fraction)
            return np.float64(_real(node.value))
        if node.operation == "variable":
            return arrays[str(node.value)]
        parts = [array_of(argument) for argument in node.arguments]
        if node.operation == "if":
            return np.where(parts[1] != 0, parts[0], parts[2])
        if node.operation in unary:
            return unary[node.operation](parts[0])
        return np.asarray(reduce(binary[node.operation], parts), dtype=np.float64)

    with np.errstate(all="ignore"):
        return np.asarray(array_of(formula), dtype=np.float64)


def real(formula: Syntax) -> Real:
    """Return the formula as a function of floats, for what is measured rather than counted.

    The function raises a `KeyError` for a variable without a value, and a `ZeroDivisionError` as Python does.
    """
    operation = formula.operation
    if operation == "number":
        assert isinstance(formula.value, int | Fraction)
        number = _real(formula.value)
        return lambda _values: number
    if operation == "variable":
        return operator.itemgetter(str(formula.value))
    parts = [real(argument) for argument in formula.arguments]
    apply = {**BINARY, "/": operator.truediv, "**": operator.pow}.get(operation)
    if apply is None or operation in COMPARISONS:
        return _plain(operation, parts)
    if len(parts) == 2:
        left, right = parts
        return lambda values: apply(left(values), right(values))
    return lambda values: reduce(apply, [part(values) for part in parts])


def _real(value: Number) -> float:
    """Return an exact number as a float; one that is too large is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
