"""Numbers as people read them: with a prefix and a unit, exact with separators, whole where they are whole."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["BYTES", "amount", "plain", "rate", "seconds", "show", "si", "write_bytes"]

Number = int | Fraction

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
BYTES = ("decimal", "binary")
"""How bytes may be written: 16.06 GB, or 14.96 GiB."""
_IN = {"B": BYTES[0]}


def si(number: Number | float, unit: str = "") -> str:
    """Return a number with four digits and a decimal prefix: 124439808 → ``124.4 M``; 2048, "B" → ``2.048 kB``."""
    value, index = float(number), 0
    is_binary = _IN.get(unit) == BYTES[1]
    step = 1024 if is_binary else 1000
    while abs(value) >= 999.95 and index < len(PREFIXES) - 1:
        value, index = value / step, index + 1
    if index == 0:
        return f"{value:.0f} {unit}".rstrip() if value == int(value) else f"{value:.4g} {unit}".rstrip()
    prefix = f"{PREFIXES[index].upper()}i" if is_binary else PREFIXES[index]
    return f"{_four_digits(value)} {prefix}{unit}"


def write_bytes(units: str) -> None:
    """Choose how `si` writes bytes from now on, one of `BYTES`; rates, bytes a second, stay decimal."""
    _IN["B"] = units


def seconds(value: float) -> str:
    """Return a time with four digits: 0.00123 → ``1.230 ms``."""
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if value and value * factor < 999.95:
            return f"{_four_digits(value * factor)} {unit}"
    return f"{_four_digits(value)} s" if value < 1e4 else f"{value:,.0f} s"


def amount(value: Number | float, unit: str) -> str:
    """Return a number with its unit: times as `seconds` has them, others as `si`."""
    return seconds(float(value)) if unit == "s" else si(value, unit)


def rate(value: float) -> str:
    """Return a number of tokens a second with four digits, or whole: 218.94 → ``218.9``, 589200.4 → ``589,200``."""
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _four_digits(value: float) -> str:
    return f"{value:.{3 if value < 9.9995 else 2 if value < 99.995 else 1}f}" if value else "0"


def show(number: Number) -> str:
    """Return an exact number with thousands separated; what is whole as far as a float can tell is shown so."""
    return f"{number:,}" if isinstance(number, int) else f"{float(number):,}".removesuffix(".0")


WHOLE = 2**53  # floats are all whole from here on


def plain(value: Number | float) -> int | float:
    """Return the number as an ``int`` if it is whole, as far as a float can tell, else as a ``float``."""
    if isinstance(value, int):
        return value
    found = float(value)
    return int(found) if found.is_integer() and abs(found) < WHOLE else int(value) if value == int(value) else found
