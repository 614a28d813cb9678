"""Numbers as people read them: with a prefix and a unit, exact with separators, whole where they are whole."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = [
    "BYTES",
    "amount",
    "column",
    "count_of",
    "gib",
    "percent",
    "plain",
    "rate",
    "seconds",
    "show",
    "si",
    "spelled_out",
    "whole",
    "write_bytes",
]

Number = int | Fraction

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
COUNTS = ("", "k", "M", "B", "T")
LEAST = 0.9995e-9  # seconds
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


def count_of(number: Number | float, digits: int = 3) -> str:
    """Return a number of parameters as people say it, in thousands, millions, billions: 8030261248 → ``8.03 B``."""
    value, index = float(number), 0
    while abs(value) >= 999.5 and index < len(COUNTS) - 1:
        value, index = value / 1000, index + 1
    if not index:
        return f"{value:,.0f}"
    before = 1 if value < 10 - 5 / 10**digits else 2 if value < 100 - 5 / 10 ** (digits - 1) else 3
    return f"{value:.{max(digits - before, 0)}f} {COUNTS[index]}"


def percent(share: float) -> str:
    """Return a share in whole per cent: 0.978 → ``98 %``; what is nearly everything or nothing is said to be so."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def gib(number: Number) -> str:
    """Return the size of a card's memory as it is sold, and in decimal bytes: ``80 GiB (85.90 GB)``."""
    is_said = _IN["B"] == BYTES[1] or not number or number % 2**30
    return si(number, "B") if is_said else f"{number // 2**30:,} GiB ({si(number, 'B')})"


def seconds(value: float) -> str:
    """Return a time with four digits: 0.00123 → ``1.230 ms``; no clock tells less than a nanosecond from nothing."""
    if 0 < value < LEAST:
        return "<1 ns"
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


def whole(number: Number) -> str:
    """Return an exact number, to the nearest whole one, with thousands separated: bytes on average are whole too."""
    return f"{round(number):,}"


TYPED = re.compile(
    r"(?<![\w.{])(?P<digits>\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(?P<part>\.\d{1,20})?(?:e\+?(?P<power>\d{1,2}))?"
    r"(?: ?(?P<prefix>[kmgt])(?P<binary>i?))?(?![\w.,])",
    re.ASCII | re.IGNORECASE,
)
"""A number as people type it; a comma before three digits separates thousands."""
CALL = re.compile(r"[a-z]\(")  # of a function, whose commas separate arguments
POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def spelled_out(text: str) -> str:
    """Return arithmetic with plain digits for numbers as people type them; what is none is left as it is.

    >>> [spelled_out(text) for text in ("2k", "2_048", "2,048", "1e6", "1.5M", "32Ki", "2 * 4k")]
    ['2000', '2048', '2048', '1000000', '1500000', '32768', '2 * 4000']
    """
    return text if CALL.search(text) else TYPED.sub(_digits, text)


def _digits(found: re.Match[str]) -> str:
    prefix = (found["prefix"] or "").lower()
    value = Fraction(re.sub(r"\D", "", found["digits"]) + (found["part"] or "")) * 10 ** int(found["power"] or 0)
    if prefix:
        value *= (1024 if found["binary"] else 1000) ** POWERS[prefix]
    return str(value.numerator) if value.denominator == 1 else found[0]


WHOLE = 2**53  # floats are all whole from here on


def plain(value: Number | float) -> int | float:
    """Return the number as an ``int`` if it is whole, as far as a float can tell, else as a ``float``."""
    if isinstance(value, int):
        return value
    found = float(value)
    return int(found) if found.is_integer() and abs(found) < WHOLE else int(value) if value == int(value) else found


def column(numbers: list[int | float]) -> list[int] | list[float]:
    """Return the numbers as one pandas type: ``float`` if some are fractions, or beyond 64 bits."""
    integers = [number for number in numbers if isinstance(number, int) and number < 2**63]
    return integers if len(integers) == len(numbers) else [float(number) for number in numbers]
