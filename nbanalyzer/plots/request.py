"""How long a request takes: the prompt and all decode steps, and each step beside what is in its cache."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nbanalyzer.quantities import seconds

from .colors import COLORS
from .figure import SMALL, TINY, Plot, dress, exact, note, say, stack
from .request_costs import heading, steps_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.request_timing import RequestTiming

__all__ = ["timing_chart"]

SHOWN = 64  # steps that are drawn


def timing_chart(timing: RequestTiming) -> Plot:
    """Return bars of the time at the roofline, and a line of the time of every step along its cache."""
    card = timing.accelerator
    title = f"{heading(timing.request)}; on {card.title or card.name}; at the roofline"
    steps = timing.step_times
    figure = Figure(figsize=(11.2 if len(steps) > 1 else 5.6, 2.6), dpi=100, layout="constrained")
    above = figure.suptitle(textwrap.fill(title, 144 if len(steps) > 1 else 72), fontsize="medium", parse_math=False)
    axes = figure.subplots(1, 2 if len(steps) > 1 else 1, squeeze=False)[0]
    rows = [("prompt", timing.time_to_first_token)]
    rows += [(steps_of(timing.request), timing.time - timing.time_to_first_token)] if len(steps) else []
    _bars(axes[0], rows)
    if len(steps) > 1:
        _line(axes[1], timing)
    width = max(len(label) for label, _ in rows)
    lines = [f"time of a request: {heading(timing.request)} on {card.name}"]
    lines += [f"  {label:<{width}}  {seconds(value):>9}" for label, value in rows]
    if len(steps) > 1:
        lines.append(f"  the first step {seconds(float(steps[0]))}, the last {seconds(float(steps[-1]))}")
    return Plot(figure, "\n".join(lines), above, [title])


def _bars(ax: Axes, rows: list[tuple[str, float]]) -> None:
    labels, values = [label for label, _ in rows], [value for _, value in rows]
    for place, length in enumerate(stack(ax, [("time", COLORS[0], values)], labels, "s")):
        note(ax, place, length, seconds(length), f"{labels[place]}: {exact(length, 's')}")
    dress(ax, labels, "s", "time")
    if legend := ax.get_legend():
        legend.remove()  # there is one colour
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _line(ax: Axes, timing: RequestTiming) -> None:
    caches, times = timing.request.steps, timing.step_times
    last = len(caches) - 1
    places = sorted({round(last * place / (SHOWN - 1)) for place in range(SHOWN)})
    xs, ys = [caches[place] for place in places], [float(times[place]) for place in places]
    (line,) = ax.plot(xs, ys, color=COLORS[1], linewidth=1.6)
    say(line, *(f"{x:,} tokens in the cache: {exact(y, 's')}" for x, y in zip(xs, ys, strict=True)))
    for place, side in ((0, "left"), (-1, "right")):
        ax.annotate(
            seconds(ys[place]), (xs[place], ys[place]), (0, 5), textcoords="offset points", ha=side, va="bottom",
            fontsize=TINY,
        )  # fmt: skip
    ax.set_ylim(0, 1.25 * max(ys) or 1.0)
    ax.yaxis.set_major_formatter(EngFormatter("s"))
    ax.xaxis.set_major_formatter(EngFormatter())
    ax.locator_params(nbins=5)
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("tokens in the cache", fontsize=SMALL)
    ax.set_title("time of one step", fontsize=SMALL, loc="left")
