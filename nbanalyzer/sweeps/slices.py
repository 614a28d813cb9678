"""Slices of a sweep for charts: metric and axes, thinned values, titles, numbers as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbanalyzer.analysis.marks import SHORT, UNKNOWN, signed
from nbanalyzer.costs.metrics import OF_ENGINE, is_timed, unit_of
from nbanalyzer.costs.run import SERVED
from nbanalyzer.errors import InputError
from nbanalyzer.table import Table

from .labels import label_of, shown

if TYPE_CHECKING:
    from .sweep import Sweep

__all__ = [
    "DECADES", "MOST_ROWS", "WIDTH", "bound_of", "cell_of", "few", "fits_of", "is_numeric", "longest",
    "mark_of", "marks_of", "metric_of", "ordered", "rate_of", "require_none_left", "spans_decades", "text_of",
    "thinned", "tick_of", "title_of", "values_of",
]  # fmt: skip

DECADES = 1.5  # values that span more get a logarithmic axis
WIDTH = 96  # characters of a title's line
MOST_ROWS = 10  # of a table


def is_numeric(values: Sequence[Any]) -> bool:
    """Return whether an axis is of numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def metric_of(sweep: Sweep, metric: str | None) -> str:
    """Return the metric of a chart: the first one if None."""
    return sweep.require_metric(sweep.metrics[0] if metric is None else metric)


def longest(sweep: Sweep, names: Iterable[str]) -> str | None:
    """Return the axis with the most values."""
    return max(names, key=lambda name: len(sweep.axes[name]), default=None)


def require_none_left(sweep: Sweep, drawn: Iterable[str], what: str) -> None:
    """Raise if an axis with several values is not drawn."""
    left = [name for name in sweep.axes if name not in set(drawn)]
    if not left:
        return
    held = ", ".join(f"{name}={label_of(sweep.axes[name][0])!r}" for name in left)
    axes = f"the axis {left[0]} is" if len(left) == 1 else f"the axes {' and '.join(left)} are"
    raise InputError(f"{axes} left over: {what}, so hold the rest at one value, as sel({held}) does")


def few(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` indices, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def values_of(sweep: Sweep, metric: str, places: dict[str, list[int]]) -> Any:
    """Return the metric at some indices of the axes in `places`, in that order; nothing else is computed."""
    array = sweep.arrays[metric]
    for dimension, name in enumerate(sweep.axes):
        if len(places[name]) < array.shape[dimension] or places[name] != sorted(places[name]):
            array = array[(*[slice(None)] * dimension, places[name])]
    return np.asarray(array, dtype=np.float64).transpose([list(sweep.axes).index(name) for name in places])


def fits_of(sweep: Sweep, metric: str, places: dict[str, list[int]]) -> Any:
    """Return where the points of `values_of` fit, as 1, 0, nan where that is not known; None if nothing is marked."""
    axes = {name: [sweep.axes[name][place] for place in those] for name, those in places.items()}
    fits = sweep.fits_at(metric, axes)
    return None if fits is None or np.all(fits == 1) else fits


def mark_of(fits: float) -> tuple[str, ...]:
    """Return the mark of a point of `fits_of`."""
    return () if fits == 1 else (UNKNOWN,) if np.isnan(fits) else (SHORT,)


def marks_of(fits: Any) -> list[str]:
    """Return the marks of any of the points of `fits_of`."""
    return [] if fits is None else [mark for one in np.unique(fits) for mark in mark_of(one)]


def ordered(sweep: Sweep, name: str) -> list[int]:
    """Return the indices of an axis, sorted by its values if they are numbers."""
    values = sweep.axes[name]
    order = list(range(len(values)))
    return sorted(order, key=lambda place: values[place]) if is_numeric(values) else order


def thinned(places: list[int], most: int) -> list[int]:
    """Return at most `most` of the indices, evenly spread."""
    return [places[index] for index in few(len(places), most)]


def bound_of(sweep: Sweep, metric: str) -> str:
    """Return what a metric's times are: bounds, if all kernels are fused, or assumed; "" if its name says it."""
    if not is_timed(metric) or metric in OF_ENGINE:
        return ""
    if "compute_efficiency" in sweep.fixed:
        return "assumed"
    if SERVED in {*sweep.axes, *sweep.fixed}:
        return "estimate"
    if {*sweep.axes.get("fusion", [sweep.fixed.get("fusion")])} != {"engine"}:
        return "at the roofline"
    return "upper bound" if metric == "tokens_per_s" else "lower bound"


def title_of(sweep: Sweep, metric: str, more: Sequence[str] = ()) -> str:
    """Return a chart's title: model, metric, what its times are, and the fixed values."""
    bound = bound_of(sweep, metric)
    first = f"{sweep.model}: {metric}{f' ({bound})' if bound else ''}"
    fixed = [f"{name} {label_of(value)}" for name, value in sweep.fixed.items()]
    parts = (first, ", ".join([*fixed, *more]), *(sweep.notes if is_timed(metric) else ()))
    return "\n".join(line for part in parts for line in textwrap.wrap(part, WIDTH))


def text_of(sweep: Sweep, metric: str, first: str, rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return a chart as text: a title and an aligned table."""
    kind = "".join(f", {word}" for word in (rate_of(metric), bound_of(sweep, metric)) if word)
    lines = [f"{metric} {first}: {sweep.model}{kind}"]
    if fixed := ", ".join(f"{name} {label_of(value)}" for name, value in sweep.fixed.items()):
        lines.append(f"  {fixed}")
    lines += [f"  {note}" for note in (*notes, *(sweep.notes if is_timed(metric) else ()))]
    return "\n".join([*lines, *Table(rows, words=()).lines("  ")])


def cell_of(metric: str, value: float, fits: float = 1.0) -> str:
    """Return a number as the text of a table's cell, with the sign of its mark, see `fits_of`."""
    if metric == "fits":
        return "yes" if value else "no"
    return signed(shown(metric, value).removesuffix(f" {rate_of(metric)}"), mark_of(fits))


def rate_of(metric: str) -> str:
    """Return the unit of a rate, which is written once, not with each number; "" for other metrics."""
    return unit_of(metric) if "/" in unit_of(metric) else ""


def spans_decades(values: Any) -> bool:
    """Return whether values are positive and span enough decades for a logarithmic axis."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if not array.size or array.min() <= 0:
        return False
    return float(array.max()) > float(array.min()) * 10**DECADES


def within(values: Any) -> Any:
    """Return values for a colour scale: infinities at the ends of the finite values."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    return np.clip(array, finite.min(), finite.max()) if finite.size else np.where(np.isnan(array), array, 0.0)


def tick_of(value: Any) -> str:
    """Return a value as the text of a tick."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
