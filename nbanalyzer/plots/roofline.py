"""The roofline as a plot: how far each module is from the accelerator's peaks, beside the time by module."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

from nbanalyzer.analysis.dots import Dot, dots, named, roofs, spots, summit
from nbanalyzer.quantities import seconds, si

from .figure import SMALL, TINY, Part, Plot, decades, dress, exact, heading, name_of, note, percent, rows_of, say, stack
from .links import link_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.roofline import Bound, Roofline
    from nbanalyzer.costs.tree import Node

__all__ = ["link_plot", "roofline_plot"]

# Okabe and Ito's palette: memory-bound has the colour of weights, compute-bound that of matrix products.
COLORS: dict[Bound, str] = {"compute": "#0072B2", "memory": "#D55E00", "link": "#009E73", "overhead": "#999999"}
WAITS: dict[Bound, str] = {
    "compute": "compute-bound", "memory": "memory-bound", "link": "communication", "overhead": "launch overhead"
}  # fmt: skip
SMALLEST_SHARE = 0.01  # of the time: a module below it has no bar of its own
SAME = 0.04  # powers of ten: what is nearer lies at the same place
MOST_NAMED = 4  # of those that lie there
NAMES = 0.38  # of the width, right of the last dot
SMALLEST_DOT, LARGEST_DOT = 14.0, 900.0  # points², of no time, and added for the whole time


def roofline_plot(roofline: Roofline) -> Plot:
    """Return the roofline with one dot per module, its area the share of time, beside bars of time by module.

    The largest dots are numbered, and so are the bars of their modules.
    """
    analysis, timings = roofline.analysis, roofline.timings
    timed = [node for node in analysis.modules() if timings[node].time]
    barred = [node for node in timed if timings[node].time >= SMALLEST_SHARE * roofline.time]
    others = [node for node in timed if node not in barred]

    def seconds_of(nodes: Sequence[Node]) -> dict[Bound, float]:
        return {bound: math.fsum(getattr(timings[node], bound) for node in nodes) for bound in COLORS}

    rows = rows_of(analysis, barred, others, seconds_of)
    shown = dots(roofline)
    labelled = [dot for dot in named(shown) if dot.node in barred]
    figure = Figure(figsize=(11.2, max(4.6, 1.4 + 0.27 * len(rows))), dpi=100, layout="constrained")
    title = f"{heading(analysis)} on {roofline.accelerator.title or roofline.accelerator.name}"
    words = (title, roofline.answer, "; ".join((roofline.words, *roofline.marks)))
    lines = [line for text in words for line in textwrap.wrap(text, 124)]
    above = figure.suptitle("\n".join(lines), fontsize="medium", parse_math=False)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    numbers = {dot.node: number for number, dot in enumerate(labelled, 1)}
    ticks = [f"({numbers[node]})  {label}" if node in numbers else label
             for node, (label, _) in zip(barred, rows, strict=False)]  # fmt: skip
    _bars(right, rows, [*ticks, *(label for label, _ in rows[len(barred) :])], roofline.time)
    _roofline(left, roofline, shown, labelled)
    dotted = {dot.node for dot in shown}
    _note(left, roofline, [node for node in timed if node not in dotted])
    return Plot(figure, _text(roofline, rows), above, words)


# ---- the roofline


def _roofline(ax: Axes, roofline: Roofline, shown: Sequence[Dot], labelled: Sequence[Dot]) -> None:
    bandwidth = roofline.accelerator.bandwidth * roofline.efficiency.bandwidth
    peaks = roofs(roofline)
    peak = summit(roofline, shown)
    _axes(ax, shown, bandwidth, peak)
    _roofs(ax, bandwidth, peaks, peak)
    for limiter, color in COLORS.items():
        alike = [dot for dot in shown if dot.limiter == limiter]
        if alike:
            xs, ys = [dot.intensity for dot in alike], [dot.rate for dot in alike]
            areas = [_area(dot) for dot in alike]
            drawn = ax.scatter(xs, ys, s=areas, color=color, alpha=0.6, linewidths=0.8, edgecolors="white", zorder=3)
            say(drawn, *(_together(dot, shown) for dot in alike))
    for dot, digits in spots(labelled):  # below the roofs, where there is room
        reach = 0.7 * math.sqrt(_area(dot) / math.pi) + 2
        ax.annotate(
            digits, (dot.intensity, dot.rate), xytext=(reach, -reach), textcoords="offset points", va="top",
            fontsize=TINY, fontweight="bold", zorder=4,
        )  # fmt: skip


def _together(dot: Dot, shown: Sequence[Dot]) -> str:
    """Return what a dot is, and which others it may hide: those within two pixels, the longest ones first."""
    near = [other for other in shown if other is not dot and _is_same(dot, other)]
    names = ", ".join(f"{other.node.path} {seconds(other.time)}" for other in near[:MOST_NAMED])
    more = f" and {len(near) - MOST_NAMED} more" if len(near) > MOST_NAMED else ""
    return f"{_about(dot)}; also here: {names}{more}" if near else _about(dot)


def _is_same(dot: Dot, other: Dot) -> bool:
    across, along = abs(math.log10(dot.rate / other.rate)), abs(math.log10(dot.intensity / other.intensity))
    return max(across, along) < SAME


def _about(dot: Dot) -> str:
    """Return a dot's numbers in words."""
    rate = f"{dot.intensity:.6g} FLOP/B, {si(dot.rate, 'FLOP/s')}"
    return f"{dot.node.path}: {exact(dot.time, 's')}, {percent(dot.share)} of the time, {WAITS[dot.limiter]}; {rate}"


def _area(dot: Dot) -> float:
    """Return the area of a dot, points²."""
    return SMALLEST_DOT + LARGEST_DOT * dot.share


def _axes(ax: Axes, shown: Sequence[Dot], bandwidth: float, peak: float) -> None:
    """Set limits that show all dots and the ridge, with room for the names of the roofs on the right."""
    xs = [peak / bandwidth, *(dot.intensity for dot in shown)]
    ys = [peak, *(dot.rate for dot in shown)]
    ax.set_xscale("log")
    ax.set_yscale("log")
    low = math.floor(math.log10(min(xs) / 1.5))
    # The last part is of the names of the roofs.
    ax.set_xlim(10**low, 10 ** (low + (math.log10(max(xs)) - low) / (1 - NAMES)))
    ax.set_ylim(10 ** math.floor(math.log10(min(ys) / 1.5)), peak * 4)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: decades(value)))
    ax.yaxis.set_major_formatter(EngFormatter("FLOP/s"))
    ax.tick_params(labelsize=SMALL)
    ax.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("FLOPs per byte moved", fontsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title("a dot per module; its area is the share of time; numbers: see the bars", fontsize=TINY, loc="left")


def _roofs(ax: Axes, bandwidth: float, peaks: Mapping[str, float], peak: float) -> None:
    """Draw the memory's roof up to `peak`, and each peak from where it meets the memory's roof."""
    low, high = ax.get_xlim()
    ridge = peak / bandwidth
    ax.plot([low, ridge], [low * bandwidth, peak], color="#333333", linewidth=1.4, zorder=2)
    for name, value in peaks.items():
        style = "--" if name == "vector" else "-"
        start = max(low, value / bandwidth)
        ax.plot([start, high], [value, value], color="#333333", linewidth=1.4, linestyle=style, zorder=2)
        said = f"{name} {si(value, 'FLOP/s')}"
        ax.annotate(
            said, (high, value), xytext=(-2, 3), textcoords="offset points", ha="right", fontsize=TINY, zorder=5
        )
    ax.annotate(
        f"memory {si(bandwidth, 'B/s')}", (ridge, peak), xytext=(-4, 3), textcoords="offset points", ha="right",
        va="bottom", fontsize=TINY, zorder=5,
    )  # fmt: skip


def _note(ax: Axes, roofline: Roofline, without: Sequence[Node]) -> None:
    """Say in a corner how much of the time goes to modules that compute nothing, which have no dot."""
    if without:
        share = math.fsum(roofline.timings[node].time for node in without) / roofline.time
        text = f"{len(without)} module{'s' if len(without) > 1 else ''} without FLOPs: {percent(share)} of the time"
        ax.annotate(
            text, (0.99, 0.015), xycoords="axes fraction", ha="right", va="bottom", fontsize=TINY, color="#555555"
        )


# ---- the bars

Row = tuple[str, dict["Bound", float]]


def _bars(ax: Axes, rows: Sequence[Row], ticks: list[str], whole: float) -> None:
    lengths: list[Part] = [
        (WAITS[bound], color, [parts[bound] for _, parts in rows]) for bound, color in COLORS.items()
    ]
    for place, time in enumerate(stack(ax, lengths, [label for label, _ in rows], "s")):
        note(ax, place, time, f"{seconds(time)}, {percent(time / whole)}", f"{rows[place][0]}: {exact(time, 's')}")
    dress(ax, ticks, "s", "time", "right")
    ax.margins(x=0.45)
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _text(roofline: Roofline, rows: list[Row]) -> str:
    """Return the plot as text."""
    bandwidth = roofline.accelerator.bandwidth * roofline.efficiency.bandwidth
    peaks = [
        f"{name} {si(value, 'FLOP/s')}, ridge at {value / bandwidth:.1f} FLOP/B"
        for name, value in roofs(roofline).items()
    ]
    lines = [
        f"roofline and time by module: {name_of(roofline.analysis)} on {roofline.accelerator.name}",
        f"  {roofline.answer}",
        f"  {'; '.join((roofline.words, *roofline.marks))}",
        *(f"  {roof}" for roof in (f"memory {si(bandwidth, 'B/s')}", *peaks)),
    ]
    width = max((len(label) for label, _ in rows), default=0)
    for label, parts in rows:
        time = math.fsum(parts.values())
        bound = max(parts, key=lambda limiter: parts[limiter])
        lines.append(f"  {label:<{width}}  {seconds(time):>9}  {percent(time / roofline.time):>7}  {bound}")
    return "\n".join(lines)
