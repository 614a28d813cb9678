"""Laws: how long a launch takes, one formula per class of kernel, with the parameters that a profile gives.

Times are in microseconds, so that figures stay readable. The laws are text of the formula language in `laws.json`;
what they were chosen by is in docs/profiles.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache, lru_cache
from importlib.resources import files
from numbers import Real

import msgspec

from nbanalyzer.errors import InputError, near, quote
from nbanalyzer.files import decode
from nbanalyzer.formulas import evaluation
from nbanalyzer.formulas.evaluation import Real as Compiled
from nbanalyzer.formulas.formula import Formula, parse

__all__ = ["Law", "Parameter", "Variable", "closed", "exact", "laws", "variables"]


class Variable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a law reads of a launch or of a card.

    Attributes:
        meaning: one line.
        unit: of its value.

    """

    meaning: str
    unit: str


class Parameter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number of a law that is fitted.

    Attributes:
        meaning: one line.
        unit: ``"share"`` of what the hardware can do at best, ``"multiple"`` of it, where caches do better than the
            memory, ``"part"`` that is added, ``"us"``, ``"ns"`` or ``"switch"`` (0 or 1).
        least: the smallest value that it can have, with `most`, the largest.
        default: its value where a profile does not give it; None if a profile has to.

    """

    meaning: str
    unit: str
    least: float
    most: float
    default: float | None = None


class Law(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The time of one launch.

    Attributes:
        meaning: of which launches, in a line.
        short: microseconds, text of the formula language in parameters, in `variables` and in `parts`.
        parts: name → what stands for it in `short` or in parts before, text in parameters, in `variables` and in parts
            after.
        parameters: name → what it means.

    """

    meaning: str
    short: str = msgspec.field(name="formula")
    parts: dict[str, str] = {}
    parameters: dict[str, Parameter]

    @property
    def formula(self) -> str:
        """The law as one text, with its parts put in."""
        return _whole(self.short, tuple(self.parts.items()))

    def values(self, given: Mapping[str, float]) -> dict[str, float]:
        """Return the value of every parameter, in the law's order, defaults put in.

        Raises:
            InputError: an unknown parameter, one that is missing, or a value that cannot be.

        """
        for name in given:
            if name not in self.parameters:
                close = near(name, self.parameters)
                hint = f", did you mean {quote(close[0])}?" if close else f": there are {', '.join(self.parameters)}"
                raise InputError(f"no parameter {quote(name)}{hint}")
        found = {name: given.get(name, parameter.default) for name, parameter in self.parameters.items()}
        for name, value in found.items():
            least, most, unit = (part := self.parameters[name]).least, part.most, part.unit
            what = f"{name} is a number from {least:g} to {most:g} ({unit}: {part.meaning})"
            if value is None:
                raise InputError(f"{what}, and is missing")
            if isinstance(value, bool) or not isinstance(value, Real) or not least <= value <= most:
                raise InputError(f"{what}, not {quote(value)}")
            if unit == "switch" and value not in {0, 1}:
                raise InputError(f"{name} is 0 or 1 ({part.meaning}), not {quote(value)}")
        return {name: float(value) for name, value in found.items() if value is not None}


@cache
def _whole(text: str, parts: tuple[tuple[str, str], ...]) -> str:
    for name, part in parts:
        text = text.replace(f"{{{name}}}", f"({part})")
    return text


class _Laws(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    variables: dict[str, Variable]
    laws: dict[str, Law]


def laws() -> Mapping[str, Law]:
    """Return class of kernel → its law."""
    return _shipped().laws


def variables() -> Mapping[str, Variable]:
    """Return name → what the laws read of a launch, of a card or of a whole profile."""
    return _shipped().variables


@cache
def _shipped() -> _Laws:
    found: _Laws = decode((files("nbanalyzer.hardware") / "laws.json").read_bytes(), _Laws, "laws.json")
    return found


def exact(value: float) -> int | Fraction:
    """Return a measured number as the decimal that it is written as: 0.853 is 853/1000."""
    number = Fraction(str(value))
    return number.numerator if number.denominator == 1 else number


@lru_cache(maxsize=1024)
def closed(text: str, values: tuple[tuple[str, float], ...]) -> tuple[Formula, Compiled]:
    """Return a law with numbers put in: as a formula, and as a function of floats."""
    formula = parse(text).substitute({name: exact(value) for name, value in values})
    return formula, evaluation.real(formula)
