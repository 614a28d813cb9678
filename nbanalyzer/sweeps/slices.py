"""What a chart of a sweep says and leaves out: its metric and axes, thinned values, titles, numbers as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbanalyzer.costs.metrics import METRICS, unit_of
from nbanalyzer.errors import InputError, UnknownNameError

from .sweep import label_of, shown

if TYPE_CHECKING:
    from .sweep import Sweep

__all__ = [
    "DECADES", "MOST_ROWS", "WIDTH", "axis_of", "bound_of", "cell_of", "few", "is_numeric", "longest", "metric_of",
    "ordered", "rate_of", "require_none_left", "spans_decades", "text_of", "thinned",
    "tick_of", "title_of", "values_of",
]  # fmt: skip

DECADES = 1.5  # values that span more get a logarithmic axis
WIDTH = 96  # characters of a title's line
MOST_ROWS = 10  # of a table


def is_numeric(values: Sequence[Any]) -> bool:
    """Return whether an axis is of numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def metric_of(sweep: Sweep, metric: str | None) -> str:
    """Return the metric that is meant: the first one if None."""
    name = sweep.metrics[0] if metric is None else metric
    if name not in sweep.metrics:
        raise UnknownNameError("metric of this sweep", name, sweep.metrics)
    return name


def axis_of(sweep: Sweep, name: str) -> str:
    """Return the name of an axis, or raise."""
    if name not in sweep.axes:
        raise UnknownNameError("axis", name, tuple(sweep.axes))
    return name


def longest(sweep: Sweep, names: Iterable[str]) -> str | None:
    """Return which of some axes has the most values."""
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
    """Return at most so many places, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def values_of(sweep: Sweep, metric: str, places: dict[str, list[int]]) -> Any:
    """Return the metric at some places of the axes in `places`, in that order of dimensions; computes no more."""
    array = sweep.arrays[metric]
    for dimension, name in enumerate(sweep.axes):
        if len(places[name]) < array.shape[dimension] or places[name] != sorted(places[name]):
            array = array[(*[slice(None)] * dimension, places[name])]
    found = np.asarray(array, dtype=np.float64)
    return found.transpose([list(sweep.axes).index(name) for name in places])


def ordered(sweep: Sweep, name: str) -> list[int]:
    """Return the places of an axis by its values, if they are numbers."""
    values = sweep.axes[name]
    order = list(range(len(values)))
    return sorted(order, key=lambda place: values[place]) if is_numeric(values) else order


def thinned(places: list[int], most: int) -> list[int]:
    """Return so many of the places at most, spread evenly."""
    return [places[index] for index in few(len(places), most)]


def bound_of(sweep: Sweep, metric: str) -> str:
    """Return of which kind a metric's numbers are."""
    if metric not in METRICS or not METRICS[metric].needs or metric == "fits":
        return ""
    if "compute_efficiency" in sweep.fixed:
        return "estimate"
    return "upper bound" if metric == "tokens_per_s" else "lower bound"


def title_of(sweep: Sweep, metric: str, more: Sequence[str] = ()) -> str:
    """Return a picture's title: model, metric, its kind of bound, and what is fixed."""
    bound = bound_of(sweep, metric)
    first = f"{sweep.model}: {metric}{f' ({bound})' if bound else ''}"
    fixed = [f"{name} {label_of(value)}" for name, value in sweep.fixed.items()]
    return "\n".join(line for part in (first, ", ".join([*fixed, *more])) for line in textwrap.wrap(part, WIDTH))


def text_of(sweep: Sweep, metric: str, first: str, rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return what a picture shows, as text: a title and a table, its columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    kind = "".join(f", {one}" for one in (rate_of(metric), bound_of(sweep, metric)) if one)
    lines = [f"{metric} {first}: {sweep.model}{kind}"]
    if fixed := ", ".join(f"{name} {label_of(value)}" for name, value in sweep.fixed.items()):
        lines.append(f"  {fixed}")
    lines += [f"  {note}" for note in notes]
    lines += ["  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines)


def cell_of(metric: str, value: float) -> str:
    """Return a number as a table's cell says it."""
    if metric == "fits":
        return "yes" if value else "no"
    return shown(metric, value).removesuffix(f" {rate_of(metric)}")


def rate_of(metric: str) -> str:
    """Return the unit of a metric that is a rate, which stands beside the numbers once, not with each of them."""
    return unit_of(metric) if "/" in unit_of(metric) else ""


def spans_decades(values: Any) -> bool:
    """Return whether values are positive and far enough apart for a logarithmic axis."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if not array.size or array.min() <= 0:
        return False
    return float(array.max()) > float(array.min()) * 10**DECADES


def within(values: Any) -> Any:
    """Return values for a scale of colours: what is infinite at the ends of what is finite."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    return np.clip(array, finite.min(), finite.max()) if finite.size else np.where(np.isnan(array), array, 0.0)


def tick_of(value: Any) -> str:
    """Return a value as an axis says it."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
