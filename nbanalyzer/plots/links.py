"""The roofline of communication as a plot: how much tensor parallelism computes for every byte that it sends."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from nbanalyzer.analysis.dots import roofs
from nbanalyzer.analysis.link_dots import LinkDot, link_dots
from nbanalyzer.quantities import seconds, si

from .colors import COLORS
from .figure import SMALL, Plot, exact, heading, name_of, percent, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.roofline import Roofline

__all__ = ["link_plot"]


def link_plot(roofline: Roofline) -> Plot:
    """Return the link's roof and the peak over FLOPs per byte sent, with a dot for each tp."""
    dots, card = link_dots(roofline), roofline.accelerator
    bandwidth = float(card.link_bandwidth or 0)
    peak = max(roofs(roofline).values(), default=max(dot.rate for dot in dots))
    figure = Figure(figsize=(6.6, 4.2), dpi=100, layout="constrained")
    title = f"{heading(roofline.analysis)}; on {card.title or card.name}"
    above = figure.suptitle(textwrap.fill(title, 92), fontsize="medium", parse_math=False)
    ax = figure.subplots()
    _roofs(ax, dots, bandwidth, peak, card.link or "link")
    (line,) = ax.plot([dot.intensity for dot in dots], [dot.rate for dot in dots], "o-", color=COLORS[2], linewidth=1)
    say(line, *map(_about, dots))
    for dot in dots:
        ax.annotate(
            f"tp {dot.tp}: {percent(dot.share)}", (dot.intensity, dot.rate), xytext=(6, -6),
            textcoords="offset points", va="top", fontsize=SMALL,
        )  # fmt: skip
    return Plot(figure, _text(roofline, dots, bandwidth, peak), above, [title])


def _roofs(ax: Axes, dots: list[LinkDot], bandwidth: float, peak: float, link: str) -> None:
    """Draw the link's roof up to the peak, and the peak from there, around all dots."""
    xs, ridge = [dot.intensity for dot in dots], peak / bandwidth
    low, high = min(*xs, ridge) / 10, max(*xs, ridge) * 6
    bottom = min(low * bandwidth, min(dot.rate for dot in dots) / 3)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.plot([low, ridge, high], [low * bandwidth, peak, peak], color="#333333", linewidth=1.4)
    ax.set_xlim(low, high)
    ax.set_ylim(bottom, peak * 3)
    ax.annotate(
        f"{link} {si(bandwidth, 'B/s')}", (ridge, peak), xytext=(-4, 4), textcoords="offset points", ha="right",
        fontsize=SMALL,
    )  # fmt: skip
    ax.annotate(
        f"peak {si(peak, 'FLOP/s')}", (high, peak), xytext=(-2, 4), textcoords="offset points", ha="right",
        fontsize=SMALL,
    )  # fmt: skip
    for axis, unit in ((ax.xaxis, ""), (ax.yaxis, "FLOP/s")):
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(EngFormatter(unit))
    ax.tick_params(labelsize=SMALL)
    ax.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("FLOPs of a rank per byte that it sends", fontsize=SMALL)
    ax.set_title("a dot per tp, with the share of its time in communication", fontsize=SMALL, loc="left")


def _about(dot: LinkDot) -> str:
    """Return a dot's numbers in words."""
    rate = f"{dot.intensity:,.1f} FLOP per byte sent, {si(dot.rate, 'FLOP/s')}"
    return f"tp {dot.tp}: {exact(dot.time, 's')}, {percent(dot.share)} of it in communication; {rate}"


def _text(roofline: Roofline, dots: list[LinkDot], bandwidth: float, peak: float) -> str:
    """Return the plot as text."""
    lines = [
        f"roofline of communication: {name_of(roofline.analysis)} on {roofline.accelerator.name}",
        f"  link {si(bandwidth, 'B/s')}, peak {si(peak, 'FLOP/s')}, ridge at {peak / bandwidth:,.0f} FLOP/B",
    ]
    for dot in dots:
        sent = f"{dot.intensity:,.0f} FLOP/B sent, {si(dot.rate, 'FLOP/s')}"
        lines.append(f"  tp {dot.tp}: {sent}; {seconds(dot.time)}, {percent(dot.share)} in communication")
    return "\n".join(lines)
