"""Pictures of a sweep and of a sensitivity: lines, a map of colours, bars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from nbanalyzer.analysis.marks import legend
from nbanalyzer.costs.metrics import unit_of
from nbanalyzer.errors import InputError, quote
from nbanalyzer.sweeps.labels import label_of, listed
from nbanalyzer.sweeps.slices import (
    MOST_ROWS,
    cell_of,
    few,
    fits_of,
    is_numeric,
    longest,
    marks_of,
    metric_of,
    ordered,
    require_none_left,
    spans_decades,
    text_of,
    thinned,
    tick_of,
    title_of,
    values_of,
    within,
)

from .colors import COLORS, ORDERED, ink
from .figure import SMALL, TINY, Plot, exact, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.sweeps.sweep import Sweep


__all__ = ["heatmap", "line_chart"]

NO, YES = "#D9D8D6", "#009E73"
MOST_LINES = len(COLORS)
MOST_POINTS = 2_000  # of a line, and of each side of a map
MOST_TICKS = 8
WRITTEN_IN = 110  # cells of a map: with fewer, the numbers stand in them


# ---- lines


def line_chart(sweep: Sweep, metric: str | None = None, x: str | None = None, hue: str | None = None) -> Plot:
    """Return lines of a metric along an axis of numbers, one for each value of another axis.

    Args:
        sweep: what to show.
        metric: the first one if None.
        x: the longest axis of numbers if None.
        hue: the axis that is left if None; of one with many values, eight are drawn.

    Raises:
        InputError: no axis of numbers, or axes that are left over.

    """
    name = metric_of(sweep, metric)
    numeric = [axis for axis, values in sweep.axes.items() if is_numeric(values)]
    if x is None:
        x = longest(sweep, [axis for axis in numeric if axis != hue])
        if x is None:
            raise InputError("lines need an axis of numbers: table() shows what there is")
    elif sweep.require_axis(x) not in numeric:
        raise InputError(f"lines run along an axis of numbers, and {x} has {quote(label_of(sweep.axes[x][0]))}")
    if hue is None:
        others = [axis for axis in sweep.axes if axis != x]
        hue = others[0] if len(others) == 1 else None
    elif sweep.require_axis(hue) == x:
        raise InputError(f"{x} cannot be along the lines and tell them apart")
    require_none_left(sweep, [x, *([hue] if hue else [])], "lines have x and hue")

    places = {x: thinned(ordered(sweep, x), MOST_POINTS)}
    notes = []
    if hue:
        count = len(sweep.axes[hue])
        places[hue] = thinned(ordered(sweep, hue), MOST_LINES)
        if count > MOST_LINES:
            notes.append(f"{MOST_LINES} of {count:,} values of {hue}")
    values, fits = values_of(sweep, name, places), fits_of(sweep, name, places)
    fitting = np.ones(values.shape) if fits is None else fits
    xs = [sweep.axes[x][place] for place in places[x]]
    lines, marks = (values.T, fitting.T) if hue else (values[None, :], fitting[None, :])
    labels = [str(label_of(sweep.axes[hue][place])) for place in places[hue]] if hue else [""]
    colors = _line_colors(sweep, hue, len(labels))

    figure = Figure(figsize=(6.8, 4.2), dpi=100, layout="constrained")
    ax = figure.subplots()
    markers = "o" if len(xs) <= 24 else ""
    for line, fit, color, label in zip(lines, marks, colors, labels, strict=True):
        words = _words(name, [f"{x} {value:,}{f', {hue} {label}' if hue else ''}" for value in xs], line, fit)
        _line(ax, xs, line, fit == 1, color, markers, label, words)
    _scale(ax, xs)
    ax.set_xlabel(x, fontsize=SMALL)
    if name == "fits":
        ax.set_yticks([0, 1], ["no", "yes"], fontsize=SMALL)
        ax.set_ylim(-0.1, 1.1)
    else:
        _number_axis(ax, lines, name)
    ax.grid(visible=True, color="#E6E6E6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    dashed = [f"dashed: {' or '.join(marks_of(fits))}"] if marks_of(fits) else []
    title = title_of(sweep, name, [*notes, *dashed])
    above = ax.set_title(title, fontsize=SMALL, loc="left", parse_math=False)
    if hue:
        _name_lines(ax, hue, [line[-1] for line in lines], labels, colors)

    told = few(len(xs), MOST_ROWS)
    head = [x, *([f"{hue} {labels[0]}", *labels[1:]] if hue else [name])]
    rows = [head]
    for at in told:
        cells = (cell_of(name, float(line[at]), float(fit[at])) for line, fit in zip(lines, marks, strict=True))
        rows.append([f"{xs[at]:,}", *cells])
    signs = [legend(marks_of(fits))] if marks_of(fits) else []
    text = text_of(sweep, name, f"along {x}", rows, [*notes, *signs])
    return Plot(figure, text, above, title.split("\n"))


def _words(metric: str, places: Sequence[str], values: Any, fits: Any) -> list[str]:
    """Return what is said of every point: where it is, its number, whether it fits."""
    unit = unit_of(metric)
    short = "" if metric == "fits" or unit == "elements" else unit
    return [
        f"{place}: {_number(metric, float(value), short)}{''.join(f', {mark}' for mark in marks_of(np.array([fit])))}"
        for place, value, fit in zip(places, values, fits, strict=True)
    ]


def _number(metric: str, value: float, unit: str) -> str:
    if metric == "fits" or not math.isfinite(value):
        return cell_of(metric, value)
    return exact(value, unit) if float(value).is_integer() or unit == "s" else f"{value:.9g} {unit}".rstrip()


def _line(
    ax: Axes, xs: Sequence[Any], line: Any, fits: Any, color: Any, marker: str, label: str, words: Sequence[str]
) -> None:
    """Draw a line, broken and with hollow markers where it does not fit."""
    style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.8, "label": label}
    found = np.isfinite(line)
    if not np.all(fits):
        (drawn,) = ax.plot(xs, line, **style, linestyle=(0, (2, 2.5)), markerfacecolor="white", alpha=0.75)
        say(drawn, *itertools.compress(words, found))
    if np.any(fits):
        (drawn,) = ax.plot(xs, np.where(fits, line, np.nan), **style)
        say(drawn, *itertools.compress(words, found & fits))


def _line_colors(sweep: Sweep, hue: str | None, count: int) -> list[Any]:
    """Return a colour per line: of an order if the values have one, else as different as can be."""
    if hue is None or not is_numeric(sweep.axes[hue]) or count < 3:
        return list(COLORS[:count])
    return [ORDERED(index / (count - 1)) for index in range(count)]


def _scale(ax: Axes, values: Sequence[Any]) -> None:
    """Scale the horizontal axis for values, with ticks at the values where they are few."""
    axis = ax.xaxis
    is_log = spans_decades(values)
    if is_log:
        ax.set_xscale("log")
    places = [math.log10(value) if is_log else float(value) for value in values]
    span = places[-1] - places[0]
    gaps = [right - left for left, right in pairwise(places)]
    if len(values) <= 12 and all(gap >= 0.07 * span for gap in gaps):
        axis.set_ticks(list(values), [f"{value:,}" for value in values])
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_formatter(EngFormatter())
        axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(labelsize=SMALL)


def _number_axis(ax: Axes, values: Any, metric: str) -> None:
    """Give the vertical axis a metric's unit."""
    unit = unit_of(metric)
    short = unit if unit in {"s", "B", "FLOP"} else ""
    if spans_decades(values):
        ax.set_yscale("log")
        few = float(values.max() / values.min()) < 300
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=MOST_TICKS))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(EngFormatter(short))
    ax.tick_params(axis="y", labelsize=SMALL)
    ax.set_ylabel(metric if short or not unit or unit == "elements" else f"{metric}, {unit}", fontsize=SMALL)


def _name_lines(ax: Axes, hue: str, ends: Sequence[float], labels: Sequence[str], colors: Sequence[Any]) -> None:
    """Write each line's label at its end, the labels so far apart that none covers another."""
    low, high = ax.transAxes.inverted(), ax.transData
    heights = [float(low.transform(high.transform((ax.get_xlim()[1], end)))[1]) for end in ends]
    heights = [height if math.isfinite(height) else 0.0 for height in heights]
    apart = 0.055
    order = sorted(range(len(heights)), key=lambda index: (heights[index], index))
    places = [heights[index] for index in order]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + apart)
    for limit, index in enumerate(range(len(places) - 1, -1, -1)):
        places[index] = min(places[index], 0.98 - limit * apart)
    style: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "center",
        "fontsize": SMALL,
    }
    for index, place in zip(order, places, strict=True):
        # The name in the colour of all text, which is legible on every page; beside it the line's own.
        key = Rectangle(
            (1.012, place - 0.006), 0.022, 0.012, transform=ax.transAxes, clip_on=False, color=colors[index]
        )
        ax.add_patch(key)
        ax.annotate(labels[index], (1.042, place), (0, 0), parse_math=False, **style)
    above = (places[-1] if places else 0.98) + apart
    ax.annotate(hue, (1.012, above), (0, 0), color="#555555", parse_math=False, **style)


# ---- a map


def heatmap(sweep: Sweep, metric: str | None = None, x: str | None = None, y: str | None = None) -> Plot:
    """Return a map of a metric over two axes, its colour the value; of ``fits``, where it is true.

    Args:
        sweep: what to show.
        metric: the first one if None.
        x: the longest axis of numbers if None; of more values than can be seen, evenly spread ones are drawn.
        y: the next axis if None.

    Raises:
        InputError: fewer than two axes, or axes that are left over.

    """
    name = metric_of(sweep, metric)
    if len(sweep.axes) < 2:
        raise InputError(
            f"a map has two axes, and this sweep has {listed(tuple(sweep.axes)) or 'none'}: plot() draws lines"
        )
    if x is not None and sweep.require_axis(x) == y:
        raise InputError(f"{x} cannot be both sides of a map")
    if y is not None:
        sweep.require_axis(y)
    x = x or _side(sweep, y)
    y = y or _side(sweep, x)
    require_none_left(sweep, [x, y], "a map has x and y")

    places = {y: thinned(ordered(sweep, y), MOST_POINTS), x: thinned(ordered(sweep, x), MOST_POINTS)}
    values, fits = values_of(sweep, name, places), fits_of(sweep, name, places)
    fitting = np.ones(values.shape) if fits is None else fits
    columns, rows = ([label_of(sweep.axes[axis][place]) for place in places[axis]] for axis in (x, y))
    is_written = values.size <= WRITTEN_IN and len(columns) <= 11
    height = 1.6 + (min(4.4, 0.42 * len(rows)) if is_written else 2.9)
    figure = Figure(figsize=(6.8, height), dpi=100, layout="constrained")
    ax = figure.subplots()
    _map(ax, values, name, fitting if is_written else None)
    if is_written:
        rows_of_words = (
            _words(name, [f"{x} {tick_of(column)}, {y} {tick_of(row)}" for column in columns], line, fit)
            for row, line, fit in zip(rows, values, fitting, strict=True)
        )
        say(ax, *itertools.chain.from_iterable(rows_of_words))
    if fits is not None:
        _hatch(ax, fits != 1)
    for axis, labels in ((ax.xaxis, columns), (ax.yaxis, rows)):
        ticks = {at: tick_of(label) for at, label in enumerate(labels)} if is_written else _ticks(labels)
        axis.set_ticks(list(ticks), list(ticks.values()), fontsize=SMALL, parse_math=False)
    ax.set_xlabel(x, fontsize=SMALL)
    ax.set_ylabel(y, fontsize=SMALL)
    if not is_numeric(sweep.axes[y]):
        ax.invert_yaxis()  # words are read from the top
    marks = marks_of(fits)
    hatched = [f"hatched: {' or '.join(marks)}"] if marks else []
    title = title_of(sweep, name, hatched)
    above = ax.set_title(title, fontsize=SMALL, loc="left", parse_math=False)

    across, down = few(len(columns), MOST_ROWS), few(len(rows), MOST_ROWS)
    table = [[f"{y} \\ {x}", *(tick_of(columns[at]) for at in across)]]
    for row in down:
        cells = (cell_of(name, float(values[row, at]), float(fitting[row, at])) for at in across)
        table.append([tick_of(rows[row]), *cells])
    text = text_of(sweep, name, f"over {y} and {x}", table, [legend(marks)] if marks else [])
    return Plot(figure, text, above, title.split("\n"))


def _side(sweep: Sweep, other: str | None) -> str:
    names = [axis for axis in sweep.axes if axis != other]
    side = longest(sweep, [axis for axis in names if is_numeric(sweep.axes[axis])]) or longest(sweep, names)
    assert side is not None  # there are two axes
    return side


def _ticks(labels: Sequence[Any]) -> dict[float, str]:
    """Return place → text of a few ticks: round numbers where the labels are evenly spaced, else some labels."""
    if is_numeric(labels) and len(labels) > MOST_TICKS and np.ptp(np.diff(labels)) == 0:
        first, step = labels[0], labels[1] - labels[0]
        ticks = MaxNLocator(MOST_TICKS, steps=[1, 2, 5, 10]).tick_values(first, labels[-1])
        return {(value - first) / step: f"{value:,.0f}" for value in ticks if first <= value <= labels[-1]}
    return {at: tick_of(labels[at]) for at in few(len(labels), MOST_TICKS)}


def _hatch(ax: Axes, cells: Any) -> None:
    """Hatch cells of a map, those beside each other in a row as one."""
    boxes = []
    for row, line in enumerate(cells):
        ends = np.flatnonzero(np.diff(np.concatenate(([False], line, [False]))))
        boxes += [Rectangle((left - 0.5, row - 0.5), right - left, 1.0) for left, right in ends.reshape(-1, 2)]
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": "#FFFFFF80", "hatch": "///", "linewidth": 0}
    ax.add_collection(PatchCollection(boxes, **style), autolim=False)


def _map(ax: Axes, values: Any, metric: str, fitting: Any) -> None:
    """Draw the values as colours, and, with whether each of them fits, the numbers in the cells."""
    is_written = fitting is not None
    scaled = within(values)
    if metric == "fits":
        colors = ListedColormap([NO, YES])
        image = ax.imshow(values, origin="lower", aspect="auto", cmap=colors, vmin=0, vmax=1, interpolation="none")
        legend = [Patch(color=YES, label="fits"), Patch(color=NO, label="does not fit")]
        ax.legend(
            handles=legend, fontsize=SMALL, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False,
            borderaxespad=0,
        )  # fmt: skip
    else:
        known = scaled[~np.isnan(scaled)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        norm = LogNorm(low, high) if spans_decades(values) else Normalize(low, high)
        image = ax.imshow(scaled, origin="lower", aspect="auto", cmap="viridis", norm=norm, interpolation="none")
        if not is_written:  # else the numbers themselves stand there
            unit = unit_of(metric)
            short = unit if unit in {"s", "B", "FLOP"} else ""
            bar = ax.figure.colorbar(image, ax=ax, format=EngFormatter(short), pad=0.02)
            bar.ax.minorticks_off()
            bar.ax.tick_params(labelsize=SMALL)
            bar.set_label(metric if short or unit in {"", "elements"} else unit, fontsize=SMALL)
    if not is_written:
        return
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            red, green, blue, _ = image.cmap(image.norm(scaled[row, column]))
            text = cell_of(metric, float(value), float(fitting[row, column]))
            ax.text(column, row, text, ha="center", va="center", fontsize=TINY, color=ink((red, green, blue)))
