"""The formula language: its operations, their precedence, its bounds, its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

__all__ = ["ATOM", "COMPARISONS", "FUNCTIONS", "PRECEDENCE", "Number", "Syntax", "normalize"]

# Formulas come from strangers, so everything is bounded.
MAX_LENGTH = 10_000  # characters of one formula
MAX_DEPTH = 60  # nested operations
MAX_OPERATIONS = 5_000  # of one formula, after bindings were put in
MAX_EXPONENT = 64  # absolute value; also what an exponent may evaluate to
MAX_DIGITS = 40  # of one number
MAX_BITS = 4096  # of any power

FUNCTIONS = {"min": (2, None), "max": (2, None), "ceil": (1, 1), "floor": (1, 1)}  # name: fewest, most arguments
COMPARISONS = ("<=", ">=", "==", "!=", "<", ">")
# Loosest first; what is not here is an atom.
PRECEDENCE = {
    "if": 1, **dict.fromkeys(COMPARISONS, 2), "+": 3, "-": 3, "*": 4, "/": 4, "//": 4, "%": 4, "neg": 5, "**": 6,
}  # fmt: skip
ATOM = 7

Number = int | Fraction
"""An exact number: an ``int`` wherever the value is whole."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """The tree of a parsed formula, as evaluation and notation need it: see `Formula`."""

    operation: str
    value: Number | str | None = None
    arguments: tuple[Self, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables, each once, in the order of the text."""
        return tuple(dict.fromkeys(str(node.value) for node in self.walk() if node.operation == "variable"))

    def walk(self) -> Iterator[Self]:
        """Yield this formula and everything inside it, depth first, in the order of the text."""
        yield self
        for argument in self.arguments:
            yield from argument.walk()


def normalize(value: Number) -> Number:
    """Return the value as an ``int`` if it is whole."""
    if type(value) is int:  # nearly always; asking whether it is a Fraction takes longer
        return value
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value
