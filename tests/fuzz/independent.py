"""What a formula is worth, found without the package: Python's own parser, and fractions.

The rules are those of docs/templates.md: Python's arithmetic, exact; whole exponents up to 64, or of any size where
the base is from 0 to 1; no number of more than 4,096 bits on the way.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from fractions import Fraction

__all__ = ["NoValueError", "RoundedError", "TooLongError", "value_of"]

BITS, EXPONENT = 4096, 64


class NoValueError(Exception):
    """The formula has no value."""


class TooLongError(NoValueError):
    """A number on the way has too many bits; in which order numbers are added up may decide that."""


class RoundedError(Exception):
    """The formula takes a power that is rounded: what it is worth is not said here."""


def value_of(text: str, values: Mapping[str, Fraction | int]) -> Fraction:
    """Return the exact value of a formula that the package can read.

    Raises:
        NoValueError: it divides by zero, takes a power that is too large, or a number gets too long.
        RoundedError: see there.

    """
    python = re.sub(r"\{(\w+)\}", r"(v_\1)", " ".join(text.split()))
    python = re.sub(r"(?<![\w.])0+(?=\d)", "", python)  # 007 is 7
    python = re.sub(r"(?<![\w.])(\d[\d.]*)(?=[a-z])", r"\1 ", python)  # 7if is 7 if
    tree = ast.parse(python.strip(), mode="eval").body
    return _value(tree, {f"v_{name}": Fraction(value) for name, value in values.items()}, python.strip())


def _value(node: ast.expr, values: Mapping[str, Fraction], text: str) -> Fraction:
    match node:
        case ast.Constant():
            # The digits themselves: Python has made a float of them.
            return Fraction(text[node.col_offset : node.end_col_offset])
        case ast.Name():
            return values[node.id]
        case ast.IfExp():
            return _value(node.body if _value(node.test, values, text) else node.orelse, values, text)
        case ast.UnaryOp():
            value = _value(node.operand, values, text)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.Compare():
            left, right = _value(node.left, values, text), _value(node.comparators[0], values, text)
            return Fraction(_compared(node.ops[0], left, right))
        case ast.Call(func=ast.Name(id=name)):
            parts = [_value(one, values, text) for one in node.args]
            if name in {"min", "max"}:
                return min(parts) if name == "min" else max(parts)
            return Fraction(math.ceil(parts[0]) if name == "ceil" else math.floor(parts[0]))
        case ast.BinOp():
            return _bounded(_applied(node.op, _value(node.left, values, text), _value(node.right, values, text)))
    raise AssertionError(ast.dump(node))


def _compared(operator: ast.cmpop, left: Fraction, right: Fraction) -> bool:
    match operator:
        case ast.Lt():
            return left < right
        case ast.LtE():
            return left <= right
        case ast.Gt():
            return left > right
        case ast.GtE():
            return left >= right
        case ast.Eq():
            return left == right
        case _:
            return left != right


def _applied(operator: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Pow():
            return _power(left, right)
    if right == 0:
        raise NoValueError("division by zero")
    match operator:
        case ast.Div():
            return left / right
        case ast.FloorDiv():
            return Fraction(left // right)
        case ast.Mod():
            return left % right
    raise AssertionError(operator)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise NoValueError("an exponent that is not whole")
    times = exponent.numerator
    if abs(times) > EXPONENT:
        if not (times > 0 and 0 <= base <= 1):
            raise NoValueError("an exponent that is too large")
        if base in {0, 1}:
            return base
        if base.denominator.bit_length() * times > BITS:
            raise RoundedError
    elif max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(times) > BITS:
        raise NoValueError("a power that is too large")
    if base == 0 and times < 0:
        raise NoValueError("division by zero")
    return base**times


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise TooLongError("a number that is too long")
    return value
