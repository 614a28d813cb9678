"""Figures along a size as SVG: lines over logarithmic axes, the present place marked; text in the page's colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nbanalyzer.quantities import rate, seconds, si
from nbanalyzer.text import as_attribute, escape

from .questions import Along

__all__ = ["along_svg"]

WIDTH, HEIGHT = 460.0, 264.0
LEFT, RIGHT, TOP, BOTTOM = 72.0, 446.0, 22.0, 222.0  # of the axes
COLORS = ("#0072B2", "#D55E00", "#009E73")
UNITS = {"tokens/s": ""}  # that a number does without: the line says it
DASHES = ("", "7 4", "2 3")  # told apart without colours
TICKS, FEWEST = 6, 3  # of an axis, about; below the second there are finer ones


def along_svg(found: Along, label: str, present: int | None, title: str) -> str:
    """Return a chart for each unit, side by side where there is room, and what to know before believing them."""
    charts = "".join(_chart(found, unit, lines, label, present, title) for unit, lines in found.panels.items())
    notes = "".join(f'<div style="opacity:0.8;font-size:0.9em">{escape(note)}</div>' for note in found.notes)
    return (
        f'<div style="line-height:1.3;font-size:0.92em"><b>{escape(f"Along {label}: {title}")}</b>'
        f'<div style="display:flex;flex-wrap:wrap;gap:0.4em 1.2em">{charts}</div>{notes}</div>'
    )


def _chart(
    found: Along, unit: str, lines: Mapping[str, Sequence[float]], label: str, present: int | None, title: str
) -> str:
    values = [value for line in lines.values() for value in line if 0 < value < math.inf]
    if not values:
        return ""
    x = Scale(_place(found.values[0]), _place(found.values[-1]), LEFT, RIGHT)
    y = Scale(min(values), max(values), BOTTOM, TOP)
    drawing = "".join((*_unfit(found, x), *_grid(label, unit, x, y), *_present(present, x)))
    for number, (name, line) in enumerate(lines.items()):
        drawing += "".join(_line(found, line, number, name, unit, x, y))
    legend = "".join(_entry(number, name) for number, name in enumerate(lines))
    about = as_attribute(f"{', '.join(lines)} along {label}: {title}")
    return (
        f'<div style="flex:1 1 20em;min-width:0;max-width:{WIDTH:.0f}px">'
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{about}" font-size="12" '
        f'style="display:block;width:100%" fill="currentColor" stroke="none">{drawing}</svg>'
        f'<div style="display:flex;flex-wrap:wrap;gap:0 1em">{legend}</div></div>'
    )


def _entry(number: int, name: str) -> str:
    line = (
        f'<line x1="0" y1="4" x2="26" y2="4" stroke="{COLORS[number % len(COLORS)]}" stroke-width="2.5" '
        f'stroke-dasharray="{DASHES[number % len(DASHES)]}"/>'
    )
    drawn = f'<svg width="26" height="8" aria-hidden="true">{line}</svg>'
    return f'<span style="white-space:nowrap">{drawn} {escape(name)}</span>'


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis from `low` to `high`, drawn from `start` to `end`, pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        span = math.log(self.high / self.low) or 1.0
        return self.start + (self.end - self.start) * math.log(value / self.low) / span

    def ticks(self) -> list[float]:
        """Return powers of ten, or where there are few also twice and five times as much."""
        least, most = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        powers = [10.0**exponent for exponent in range(least, most + 1)]
        step = -(-len(powers) // TICKS)
        found = [power for power in powers[::step] if self.low <= power <= self.high]
        if len(found) >= FEWEST:
            return found
        fine = [power * factor for power in powers for factor in (1, 2, 5)]
        return [value for value in fine if self.low <= value <= self.high]


def _place(value: float) -> float:
    """Return where a size stands: nothing at all, left of one."""
    return max(value, 0.5)


def _grid(label: str, unit: str, x: Scale, y: Scale) -> Iterator[str]:
    for value in x.ticks():
        yield _stroke(x(value), BOTTOM, x(value), TOP, 'stroke-opacity="0.15"')
        yield _text(x(value), BOTTOM + 17, _tick(value, ""), "middle")
    for value in y.ticks():
        yield _stroke(LEFT, y(value), RIGHT, y(value), 'stroke-opacity="0.15"')
        yield _text(LEFT - 6, y(value) + 4, _tick(value, unit), "end")
    yield _stroke(LEFT, BOTTOM, RIGHT, BOTTOM, 'stroke-opacity="0.7"')
    yield _stroke(LEFT, BOTTOM, LEFT, TOP, 'stroke-opacity="0.7"')
    yield _text((LEFT + RIGHT) / 2, HEIGHT - 6, escape(label), "middle")


def _tick(value: float, unit: str) -> str:
    """Return a power of ten without the zeros that `amount` writes after it."""
    number, _, rest = (seconds(value) if unit == "s" else si(value, UNITS.get(unit, unit))).partition(" ")
    short = f"{float(number.replace(',', '')):g}"
    return escape(f"{short} {rest}".rstrip())


def _unfit(found: Along, x: Scale) -> Iterator[str]:
    """Yield the ground of what does not fit, from the last that does."""
    if not found.fits or all(found.fits):
        return
    first = found.fits.index(False)
    edges = (_place(found.values[max(first - 1, 0)]), _place(found.values[first]))
    start = x(math.sqrt(edges[0] * edges[1])) if first else LEFT
    yield (
        f'<rect x="{start:.1f}" y="{TOP}" width="{RIGHT - start:.1f}" height="{BOTTOM - TOP}" '
        'fill="rgba(217,54,62,0.14)"><title>does not fit</title></rect>'
    )
    yield _text(RIGHT, TOP - 6, "does not fit", "end")


def _present(present: int | None, x: Scale) -> Iterator[str]:
    if present is not None and x.low <= _place(present) <= x.high:
        place = x(_place(present))
        dashes = 'stroke-opacity="0.8" stroke-dasharray="2 3"'
        yield _stroke(place, BOTTOM, place, TOP, dashes, f"<title>now: {present:,}</title>")


def _line(
    found: Along, values: Sequence[float], number: int, name: str, unit: str, x: Scale, y: Scale
) -> Iterator[str]:
    """Yield a line, and a dot at each of its values, with its numbers as a tooltip."""
    known = [(size, value) for size, value in zip(found.values, values, strict=True) if 0 < value < math.inf]
    points = " ".join(f"{x(_place(size)):.1f},{y(value):.1f}" for size, value in known)
    color = COLORS[number % len(COLORS)]
    yield (
        f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2" '
        f'stroke-dasharray="{DASHES[number % len(DASHES)]}"/>'
    )
    for size, value in known:
        shown = seconds(value) if unit == "s" else rate(value) if unit == "tokens/s" else si(value, unit)
        about = as_attribute(f"{name} at {size:,}: {shown}")
        place = f'cx="{x(_place(size)):.1f}" cy="{y(value):.1f}"'
        yield f'<circle {place} r="3" fill="{color}"><title>{about}</title></circle>'


def _stroke(x1: float, y1: float, x2: float, y2: float, more: str, inside: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="currentColor" {more}>{inside}</line>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
