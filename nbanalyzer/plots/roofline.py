"""The roofline as a picture: how far each module is from what the accelerator can do, and where the time goes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from nbanalyzer.quantities import seconds, show, si

from .figure import Plot, dress, heading, modules, name_of, names_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.roofline import Bound, Roofline
    from nbanalyzer.costs.tree import Node

__all__ = ["COLORS", "roofline_plot", "roofs"]

# Okabe and Ito's palette: what waits for the memory is the colour of weights, what computes that of matrix products.
COLORS: dict[Bound, str] = {"compute": "#0072B2", "memory": "#D55E00", "overhead": "#999999"}
WAITS: dict[Bound, str] = {"compute": "compute-bound", "memory": "memory-bound", "overhead": "launch overhead"}
SMALLEST_SHARE = 0.01  # of the time: a module below it has no bar of its own
LABELLED = 5  # dots
LONGEST_LABEL = 26  # characters
LARGEST_DOT = 900.0  # points², of a module that takes all the time

Point = Sequence[float]


def roofs(roofline: Roofline) -> dict[str, float]:
    """Return what the accelerator's units reach, FLOP/s: of each precision that is used, and of vector work."""
    share = roofline.efficiency.compute
    found = {precision: roofline.accelerator.peak(precision) * share for precision in roofline.precisions}
    vector = roofline.accelerator.vector_peak
    return found if vector is None else found | {"vector": vector * share}


def roofline_plot(roofline: Roofline) -> Plot:
    """Return the roofline with one dot per module, its area the share of time, beside bars of time by module."""
    analysis = roofline.analysis
    nodes = [node for node in modules(analysis) if roofline.timings[node].time]
    rows = _rows(roofline, nodes)
    figure = Figure(figsize=(11.4, max(4.6, 1.4 + 0.27 * len(rows))), dpi=100, layout="constrained")
    title = f"{heading(analysis)} on {roofline.accelerator.title or roofline.accelerator.name}"
    lines = [*textwrap.wrap(title, 124), str(roofline.efficiency)]
    figure.suptitle("\n".join(lines), fontsize="medium", parse_math=False)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _bars(right, rows, roofline.time)
    _roofline(left, roofline, nodes)
    return Plot(figure, _text(roofline, rows))


# ---- the roofline


def _roofline(ax: Axes, roofline: Roofline, nodes: list[Node]) -> None:
    analysis, timings = roofline.analysis, roofline.timings
    moving = roofline.accelerator.bandwidth * roofline.efficiency.bandwidth
    tops = roofs(roofline)
    dots = [node for node in nodes if analysis.cost(node).flops and analysis.cost(node).bytes]
    places = [(analysis.cost(node).arithmetic_intensity, float(analysis.cost(node).flops) / timings[node].time)
              for node in dots]  # fmt: skip
    _limits(ax, places, moving, list(tops.values()))
    _lines(ax, moving, tops)
    areas = [14 + LARGEST_DOT * timings[node].time / roofline.time for node in dots]
    for bound, color in COLORS.items():
        chosen = [index for index, node in enumerate(dots) if timings[node].bound == bound]
        if chosen:
            xs, ys = zip(*(places[index] for index in chosen), strict=True)
            sizes = [areas[index] for index in chosen]
            ax.scatter(xs, ys, s=sizes, color=color, alpha=0.6, linewidths=0.8, edgecolors="white", zorder=3)
    without = [node for node in nodes if node not in set(dots)]
    if without:
        share = math.fsum(timings[node].time for node in without) / roofline.time
        said = f"{len(without)} module{'s' if len(without) > 1 else ''} without FLOPs: {_percent(share)} of the time"
        ax.annotate(
            said, (0.99, 0.015), xycoords="axes fraction", ha="right", va="bottom", fontsize="x-small", color="#555555"
        )
    largest = sorted(range(len(dots)), key=lambda index: -timings[dots[index]].time)[:LABELLED]
    names = {index: (_short(dots[index].path), show(analysis.cost(dots[index]).count)) for index in largest}
    _label(ax, places, areas, names)


def _short(path: str) -> str:
    """Return the last two parts of a path, or one where they are long."""
    name = ".".join(path.split(".")[-2:])
    return name if len(name) <= LONGEST_LABEL else name.rpartition(".")[2]


def _limits(ax: Axes, places: Sequence[tuple[float, float]], moving: float, tops: Sequence[float]) -> None:
    """Set limits that show all dots and the ridge, with room for the names of dots above and of roofs on the right."""
    top = max(tops, default=moving)
    xs = [top / moving, *(x for x, _ in places)]
    ys = [top, *(y for _, y in places)]
    low = 10 ** math.floor(math.log10(min(xs) / 1.5))
    high = max(xs) * 80  # beside the last dot, the roofs are named
    bottom = 10 ** math.floor(math.log10(min(ys) / 1.5))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(bottom, top * 4)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value) if value >= 1 else f"{value:g}"))
    ax.yaxis.set_major_formatter(EngFormatter("FLOP/s"))
    ax.tick_params(labelsize="small")
    ax.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("FLOPs per byte moved", fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title("a dot per module; its area is the share of time", fontsize="small", loc="left")


def _lines(ax: Axes, moving: float, tops: dict[str, float]) -> None:
    low, high = ax.get_xlim()
    top = max(tops.values(), default=moving * high)
    ridge = top / moving
    ax.plot([low, ridge], [low * moving, top], color="#333333", linewidth=1.4, zorder=2)
    for name, value in tops.items():
        style = "--" if name == "vector" else "-"
        start = max(low, value / moving)
        ax.plot([start, high], [value, value], color="#333333", linewidth=1.4, linestyle=style, zorder=2)
        said = f"{name} {si(value, 'FLOP/s')}"
        ax.annotate(
            said, (high, value), xytext=(-2, 3), textcoords="offset points", ha="right", fontsize="x-small", zorder=5
        )
    ax.annotate(
        f"memory {si(moving, 'B/s')}", (math.sqrt(low * ridge), math.sqrt(low * ridge) * moving), xytext=(-4, 4),
        textcoords="offset points", ha="right", va="bottom", fontsize="x-small", zorder=5,
    )  # fmt: skip


def _label(
    ax: Axes, places: Sequence[tuple[float, float]], areas: Sequence[float], names: dict[int, tuple[str, str]]
) -> None:
    """Write names beside dots, those of dots at one place together, where they hide neither dots nor each other."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # now the axes have their place
    figure.set_layout_engine("none")  # and keep it
    pixels = figure.dpi / 72
    centres: list[Point] = ax.transData.transform(places).tolist() if places else []
    radii = [math.sqrt(area / math.pi) * pixels for area in areas]
    taken = [Bbox.from_bounds(x - r, y - r, 2 * r, 2 * r) for (x, y), r in zip(centres, radii, strict=True)]
    taken += [text.get_window_extent() for text in ax.texts]
    taken += [box for line in ax.lines for box in _along(ax.transData.transform(line.get_xydata()).tolist())]
    inside = ax.get_window_extent()
    for group in _together(names, centres):
        x, y = centres[group[0]]
        reach = max(radii[index] for index in group)
        counts: dict[str, list[str]] = {}
        for index in group:
            name, count = names[index]
            counts.setdefault(name, []).append(f"× {count}")
        words = "\n".join(name if found == ["× 1"] else f"{name} {', '.join(found)}" for name, found in counts.items())
        note = ax.annotate(
            words, places[group[0]], xytext=(0, 0), textcoords="offset points", fontsize="x-small", parse_math=False,
            zorder=4, arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip
        size = note.get_window_extent()
        best: tuple[float, Bbox, tuple[float, float]] | None = None
        for dx, dy in _around(reach, size.width, size.height):
            box = Bbox.from_bounds(x + dx, y + dy, size.width, size.height)
            hidden = sum(_overlap(box, other) for other in taken) + _outside(box, inside)
            if best is None or hidden < best[0] - 1:
                best = (hidden, box, (dx, dy))
            if hidden == 0:
                break
        assert best is not None
        _, box, (dx, dy) = best
        note.set_position((dx / pixels, dy / pixels))
        taken.append(box)


def _along(points: Sequence[Point]) -> Iterator[Bbox]:
    """Yield small boxes that cover a line, in pixels."""
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = max(1, round(math.hypot(x1 - x0, y1 - y0) / 8))
        for step in range(steps + 1):
            x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
            yield Bbox.from_bounds(x - 1, y - 1, 2, 2)


def _together(names: Iterable[int], centres: Sequence[Point]) -> list[list[int]]:
    """Return the dots to be named, those at nearly one place as one group."""
    groups: list[list[int]] = []
    for index in names:
        for group in groups:
            if math.dist(centres[index], centres[group[0]]) < 6:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _around(reach: float, width: float, height: float) -> Iterator[tuple[float, float]]:
    """Yield places of a label's lower left corner around a dot, in pixels, the nearest first."""
    for distance in range(3, 183, 12):
        for angle in (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x, y = (reach + distance) * cos, (reach + distance) * sin
            yield x - width * (1 - cos) / 2, y - height * (1 - sin) / 2


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0) + 2
    height = min(one.y1, other.y1) - max(one.y0, other.y0) + 2
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    """Return how much of a box is cut off, counted dearly."""
    width = max(0.0, min(box.x1, frame.x1) - max(box.x0, frame.x0))
    height = max(0.0, min(box.y1, frame.y1) - max(box.y0, frame.y0))
    return float(100 * (box.width * box.height - width * height))


# ---- the bars

Row = tuple[str, dict["Bound", float]]


def _rows(roofline: Roofline, nodes: list[Node]) -> list[Row]:
    """Return (label, seconds by what they wait for) for every module worth a bar, and one for the others."""
    timings = roofline.timings
    shown = [node for node in nodes if timings[node].time >= SMALLEST_SHARE * roofline.time]
    others = [node for node in nodes if timings[node].time < SMALLEST_SHARE * roofline.time]
    rows = [
        (label, _parts([node], roofline)) for label, node in zip(names_of(roofline.analysis, shown), shown, strict=True)
    ]
    return rows + ([(f"{len(others)} others", _parts(others, roofline))] if others else [])


def _parts(nodes: list[Node], roofline: Roofline) -> dict[Bound, float]:
    return {bound: math.fsum(getattr(roofline.timings[node], bound) for node in nodes) for bound in COLORS}


def _bars(ax: Axes, rows: list[Row], whole: float) -> None:
    left = [0.0] * len(rows)
    for bound, color in COLORS.items():
        widths = [parts[bound] for _, parts in rows]
        if any(widths):
            ax.barh(range(len(rows)), widths, left=left, height=0.72, color=color, label=WAITS[bound])
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, time in enumerate(left):
        ax.annotate(f" {seconds(time)}, {_percent(time / whole)}", (time, place), va="center", fontsize="x-small")
    dress(ax, [label for label, _ in rows], "s", "time", "right")
    ax.margins(x=0.3)
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _text(roofline: Roofline, rows: list[Row]) -> str:
    """Return what the picture shows, as text."""
    moving = roofline.accelerator.bandwidth * roofline.efficiency.bandwidth
    tops = [
        f"{name} {si(value, 'FLOP/s')}, ridge at {value / moving:.1f} FLOP/B" for name, value in roofs(roofline).items()
    ]
    lines = [
        f"roofline and time by module: {name_of(roofline.analysis)} on {roofline.accelerator.name}",
        f"  {roofline.efficiency}",
        *(f"  {top}" for top in (f"memory {si(moving, 'B/s')}", *tops)),
    ]
    width = max((len(label) for label, _ in rows), default=0)
    for label, parts in rows:
        time = math.fsum(parts.values())
        bound = max(parts, key=lambda one: parts[one])
        lines.append(f"  {label:<{width}}  {seconds(time):>9}  {_percent(time / roofline.time):>7}  {bound}")
    return "\n".join(lines)
