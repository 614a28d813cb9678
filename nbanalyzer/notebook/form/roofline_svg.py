"""The roofline as SVG, written again in a millisecond whenever a slider moves; text in the page's own colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nbanalyzer.analysis.dots import Dot, dots, named, roofs, spots, summit
from nbanalyzer.analysis.roofline import Roofline
from nbanalyzer.quantities import seconds, si
from nbanalyzer.text import as_attribute, escape

__all__ = ["LIMITERS", "roofline_svg"]

# Distinct in light and dark themes, and light enough for text on them.
LIMITERS = {
    "compute": "rgba(56,132,255,0.55)", "memory": "rgba(245,140,20,0.6)", "link": "rgba(0,158,115,0.55)",
    "overhead": "rgba(128,128,128,0.5)",
}  # fmt: skip
WIDTH, HEIGHT = 640.0, 310.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 632.0, 8.0, 266.0  # of the axes
SMALLEST, LARGEST = 2.5, 17.0  # radius of a dot of no time, and of the whole time
INTENSITIES, DECADES = (0.05, 2e5), 5  # nearly every pass lies inside: there the axes never change


@dataclass(frozen=True)
class Axes:
    """Logarithmic axes: FLOPs per byte from left to right, FLOP/s upwards."""

    low: float
    high: float
    bottom: float
    top: float

    def x(self, intensity: float) -> float:
        """Return the place of an intensity, pixels from the left."""
        return LEFT + (RIGHT - LEFT) * math.log(intensity / self.low) / math.log(self.high / self.low)

    def y(self, rate: float) -> float:
        """Return the place of a rate, pixels from above."""
        return BOTTOM - (BOTTOM - TOP) * math.log(rate / self.bottom) / math.log(self.top / self.bottom)


def roofline_svg(roofline: Roofline, title: str, ghost: Roofline | None = None) -> str:
    """Return the roofline with one dot per module, its area the share of time; below it the names of the largest.

    It takes a millisecond or two, colours are those of the page, and every dot has its numbers as a tooltip.

    Args:
        roofline: what to draw.
        title: text above the drawing, and its name for those who do not see it.
        ghost: another pass, drawn behind the first as hollow dots: that which was pinned. Its roofs are drawn
            where they differ.

    """
    shown, behind = dots(roofline), dots(ghost) if ghost else []
    peaks, bandwidth = roofs(roofline), _bandwidth(roofline)
    peak = summit(roofline, shown)
    highest = max(peak, summit(ghost, behind)) if ghost else peak
    axes = _axes([*shown, *behind], highest)
    parts = [*_grid(axes)]
    if ghost:
        parts += [*_ghost_roofs(axes, roofline, ghost, summit(ghost, behind)), *_ghosts(axes, behind)]
    drawing = "".join((*parts, *_roofs(axes, bandwidth, peaks, peak), *_dots(axes, shown)))
    beside = ", beside what was pinned" if ghost else ""
    name = as_attribute(f"roofline of {title}: a dot per module, FLOP/s over FLOP per byte{beside}")
    return (
        f'<div style="max-width:{WIDTH:.0f}px;line-height:1.3;font-size:0.92em"><b>{escape(title)}</b>'
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{name}" font-size="12" '
        f'style="display:block;width:100%" fill="currentColor" stroke="none">{drawing}</svg>'
        f"{_names(roofline, shown, has_ghost=ghost is not None)}</div>"
    )


def _bandwidth(roofline: Roofline) -> float:
    return roofline.accelerator.bandwidth * roofline.efficiency.bandwidth


def _axes(shown: Sequence[Dot], peak: float) -> Axes:
    """Return axes that hold all dots: the usual ones, or further out by whole decades."""
    low, high = INTENSITIES
    top = 3 * peak
    bottom = top / 10**DECADES
    for dot in shown:
        while dot.intensity < low * 1.2:
            low /= 10
        while dot.intensity > high / 1.2:
            high *= 10
        while dot.rate < bottom * 1.5:
            bottom /= 10
    return Axes(low, high, bottom, top)


def _grid(axes: Axes) -> Iterator[str]:
    """Yield the axes with their names, and a line and a number for every power of ten."""
    for value in _powers(axes.low, axes.high):
        yield _line(axes.x(value), BOTTOM, axes.x(value), TOP, "0.15")
        yield _text(axes.x(value), BOTTOM + 17, _tick(value), "middle")
    for value in _powers(axes.bottom, axes.top):
        yield _line(LEFT, axes.y(value), RIGHT, axes.y(value), "0.15")
        yield _text(LEFT - 6, axes.y(value) + 4, _tick(value), "end")
    yield _line(LEFT, BOTTOM, RIGHT, BOTTOM, "0.7")
    yield _line(LEFT, BOTTOM, LEFT, TOP, "0.7")
    yield _text((LEFT + RIGHT) / 2, HEIGHT - 8, "FLOP per byte", "middle")
    middle = (TOP + BOTTOM) / 2
    yield _text(14, middle, "FLOP/s", "middle", f"rotate(-90 14 {middle:.0f})")


def _roofs(axes: Axes, bandwidth: float, peaks: Mapping[str, float], peak: float) -> Iterator[str]:
    """Yield the memory's roof, its name along it, and the roof of each unit from where it meets the memory's."""
    start = max(axes.low, axes.bottom / bandwidth)
    x, y = axes.x(start), axes.y(start * bandwidth)
    ridge_x, ridge_y = axes.x(peak / bandwidth), axes.y(peak)
    yield _line(x, y, ridge_x, ridge_y, "0.8", "1.6")
    angle = math.degrees(math.atan2(ridge_y - y, ridge_x - x))
    turned = f"rotate({angle:.1f} {ridge_x:.1f} {ridge_y:.1f}) translate(-12 -7)"  # few dots lie so far up
    yield _text(ridge_x, ridge_y, f"memory {si(bandwidth, 'B/s')}", "end", turned)
    for name, value in peaks.items():
        shift = -5 if value == peak else 14  # above the highest roof, below the others: numbers of dots lie between
        dashes = ' stroke-dasharray="6 4"' if name == "vector" else ""
        yield _line(axes.x(max(axes.low, value / bandwidth)), axes.y(value), RIGHT, axes.y(value), "0.8", "1.6", dashes)
        yield _text(RIGHT - 2, axes.y(value) + shift, f"{name} {si(value, 'FLOP/s')}", "end")


def _ghost_roofs(axes: Axes, roofline: Roofline, ghost: Roofline, peak: float) -> Iterator[str]:
    """Yield the roofs of the other pass that differ, thin and dashed: the memory's up to `peak`, and each unit's."""
    bandwidth, style = _bandwidth(ghost), ' stroke-dasharray="2 4"'
    if bandwidth != _bandwidth(roofline):
        start = max(axes.low, axes.bottom / bandwidth)
        ends = (axes.x(start), axes.y(start * bandwidth), axes.x(peak / bandwidth), axes.y(peak))
        yield _line(*ends, "0.6", "1.2", style)
    for value in {*roofs(ghost).values()} - {*roofs(roofline).values()}:
        yield _line(axes.x(max(axes.low, value / bandwidth)), axes.y(value), RIGHT, axes.y(value), "0.6", "1.2", style)


def _ghosts(axes: Axes, shown: Sequence[Dot]) -> Iterator[str]:
    """Yield the dots of the other pass, hollow and broken."""
    for dot in shown:
        about = as_attribute(f"pinned: {_about(dot)}")
        yield (
            f'<circle cx="{axes.x(dot.intensity):.1f}" cy="{axes.y(dot.rate):.1f}" r="{_radius(dot):.1f}" fill="none" '
            'stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="3 2" pointer-events="all">'
            f"<title>{about}</title></circle>"
        )


def _about(dot: Dot) -> str:
    """Return a dot's numbers in words."""
    numbers = f"{dot.intensity:.4g} FLOP per byte, {si(dot.rate, 'FLOP/s')}"
    limiter = dot.limiter if dot.limiter == "overhead" else f"{dot.limiter}-bound"
    return f"{dot.node.path}: {seconds(dot.time)}, {100 * dot.share:.1f} % of the time, {limiter}; {numbers}"


def _dots(axes: Axes, shown: Sequence[Dot]) -> Iterator[str]:
    """Yield the dots, each with its numbers as a tooltip, and the numbers by which the largest are listed."""
    for dot in shown:
        yield (
            f'<circle cx="{axes.x(dot.intensity):.1f}" cy="{axes.y(dot.rate):.1f}" r="{_radius(dot):.1f}" '
            f'fill="{LIMITERS[dot.limiter]}" stroke="currentColor" stroke-opacity="0.5">'
            f"<title>{as_attribute(_about(dot))}</title></circle>"
        )
    for dot, numbers in spots(named(shown)):  # below the roofs, where there is room
        reach = 0.7 * _radius(dot) + 3
        number = _text(axes.x(dot.intensity) + reach, axes.y(dot.rate) + reach + 9, numbers, "start")
        yield f'<g font-weight="bold">{number}</g>'


def _radius(dot: Dot) -> float:
    return math.hypot(SMALLEST, LARGEST * math.sqrt(dot.share))


def _names(roofline: Roofline, shown: Sequence[Dot], *, has_ghost: bool) -> str:
    """Return the legend, colours and numbered modules, as HTML that wraps on narrow pages."""
    labelled = named(shown)
    labels = roofline.analysis.labels([dot.node for dot in labelled])
    entries = [f'<span style="color:{LIMITERS[limiter]}">●</span> {limiter}-bound' for limiter in ("compute", "memory")]
    entries += ["◌ pinned"] if has_ghost else []
    entries += [
        f"<b>{number}</b> {escape(label)}, {100 * dot.share:.1f} %"
        for number, (label, dot) in enumerate(zip(labels, labelled, strict=True), 1)
    ]
    spans = "".join(f'<span style="white-space:nowrap">{entry}</span>' for entry in entries)
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 1.2em">{spans}</div>'


def _powers(low: float, high: float) -> list[float]:
    return [10.0**exponent for exponent in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def _tick(value: float) -> str:
    number, _, prefix = si(value).partition(" ")
    return f"{float(number):g} {prefix}".rstrip() if value >= 1 else f"{value:g}"


def _line(x1: float, y1: float, x2: float, y2: float, opacity: str, width: str = "1", more: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="currentColor" stroke-opacity="{opacity}" stroke-width="{width}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str, turned: str = "") -> str:
    transform = f' transform="{turned}"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{transform}>{text}</text>'
