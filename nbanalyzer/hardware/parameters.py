"""The parameters that a profile has for one class of kernel at one precision, and the law with them put in."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from nbanalyzer.errors import InputError, NotModelledError, quote
from nbanalyzer.formulas.formula import Formula

from .accelerators import PRECISIONS
from .laws import Law, closed, laws

__all__ = ["ANY", "ARITHMETIC", "FALLBACKS", "QUANTILES", "Fit", "Parameters", "Spread", "checked_fit"]

ANY = "any"
"""The card, or the precision, of what does not depend on it."""
FALLBACKS: Mapping[str, tuple[str, ...]] = {
    "fp16": ("bf16",),
    "fp8": ("fp8_static", "fp8_block", "fp8_cache"),
    "fp8_static": ("fp8",),
    "fp8_block": ("fp8",),
    "fp8_cache": ("fp8", "bf16"),
    "int8": ("fp8",),
    "int8_wo": ("int4_wo", "bf16"),
    "int4_wo": ("mxfp4_wo", "int8_wo", "bf16"),
    "mxfp4_wo": ("int4_wo", "int8_wo", "bf16"),
    "mxfp4": ("nvfp4",),
    "nvfp4": ("mxfp4",),
}
"""Precision → what stands in for it where it was not measured, the nearest first."""
ARITHMETIC: Mapping[str, str] = {
    "fp8_static": "fp8",
    "fp8_block": "fp8",
    "fp8_cache": "bf16",
    "int8_wo": "bf16",
    "int4_wo": "bf16",
    "mxfp4_wo": "bf16",
    "mxfp4": "fp8",
    "nvfp4": "fp4",
}
"""Precision of a profile → the precision whose peak its arithmetic has; the others' have their own name."""
KNOWN = (ANY, *PRECISIONS, *ARITHMETIC)
FARTHEST = 1000  # that a measurement is off an estimate, to either side: what is farther was of something else
QUANTILES = (0.05, 0.10, 0.50, 0.90, 0.95)

Quantiles = tuple[float, float, float, float, float]


class Spread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How measurements spread around estimates.

    Attributes:
        n: measurements.
        ratio: measured / estimated at `QUANTILES`.
        source: of which, in words.

    """

    n: int
    ratio: Quantiles
    source: str = ""

    def __post_init__(self) -> None:
        _checked_ratio(self.ratio)
        _checked_count(self.n)


class Fit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was fitted for a class of kernel at a precision.

    Attributes:
        parameters: of the law, by name; what is left out has the law's default.
        n: measurements, with `ratio`, measured / law at `QUANTILES`; None if they are not known.
        error: median and 90 % quantile of ``|law / measured - 1|`` where the law was fitted elsewhere, in regions
            of shapes that it did not see; None if that was not tried.
        assumed: these are no measurements, but what experience says.
        law: its name, where it is not that of the class.
        version: of the engine, where it is not the profile's; with `kernel`, what was called.

    """

    parameters: dict[str, float]
    n: int = 0
    ratio: Quantiles | None = None
    error: tuple[float, float] | None = None
    assumed: bool = False
    law: str = ""
    version: str = ""
    kernel: str = ""


@dataclass(frozen=True)
class Parameters:
    """The law of a class of kernel at a precision, with a profile's parameters.

    Attributes:
        kind: the class of kernel.
        precision: whose parameters these are.
        values: name → value of every parameter, and of ``overlap``.
        law: the law itself.
        fit: what was fitted, with its number of measurements and their spread.
        note: what stands in for what; empty if nothing does.
        formula: the law with all of `values` and the card's constants put in; its variables are the launch's.

    """

    kind: str
    precision: str
    values: Mapping[str, float]
    law: Law
    fit: Fit
    note: str
    constants: tuple[tuple[str, float], ...]

    @property
    def formula(self) -> Formula:
        """The law, in microseconds, with all numbers put in but those of a launch."""
        return closed(self.law.formula, self.constants)[0]

    def time_us(self, launch: Mapping[str, float]) -> float:
        """Return the microseconds of a launch; names that the law does not read are passed over.

        Raises:
            InputError: a variable of the law has no value.

        """
        try:
            return float(closed(self.law.formula, self.constants)[1](launch))
        except KeyError as error:
            raise self._missing(error.args[0]) from None

    def require(self, launch: Collection[str]) -> None:
        """Raise an `InputError` unless everything that the law reads of a launch is among these names."""
        for name in self.formula.variables:
            if name not in launch:
                raise self._missing(name)

    def _missing(self, name: str) -> NotModelledError:
        return NotModelledError(f"not modelled: the law of {self.kind} reads {{{name}}}, which has no value")


def checked_fit(kind: str, precision: str, fit: Fit) -> None:
    """Raise an `InputError` that says where, if a fit cannot be."""
    place = f"{kind}, {precision}"
    if precision not in KNOWN:
        raise InputError(f"{kind}: a precision is one of {', '.join(KNOWN)}, not {quote(precision)}")
    name = fit.law or kind
    if name not in laws():
        raise InputError(f"{place}: no law named {quote(name)}, there are {', '.join(laws())}")
    try:
        laws()[name].values(fit.parameters)
        _checked_count(fit.n)
        if fit.ratio is not None:
            _checked_ratio(fit.ratio)
        if fit.error is not None and not all(0 <= part < math.inf for part in fit.error):
            raise InputError(f"error is the median and the 90 % quantile, not {quote(fit.error)}")
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _checked_count(number: int) -> None:
    if number < 0:
        raise InputError(f"n is a number of measurements, not {quote(number)}")


def _checked_ratio(ratio: Quantiles) -> None:
    if not all(1 / FARTHEST <= part <= FARTHEST for part in ratio) or list(ratio) != sorted(ratio):
        points = ", ".join(f"{point:.0%}" for point in QUANTILES)
        raise InputError(
            f"ratio is measured / estimated at {points}, positive and rising, at most {FARTHEST:,} times off, "
            f"not {quote(ratio)}"
        )
