"""The first thing to say of a sweep, in a plain sentence: how far a metric goes, and what makes no difference to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nbanalyzer.costs.metrics import is_timed

from .labels import label_of, shown

if TYPE_CHECKING:
    from .sweep import Sweep

__all__ = ["sentence_of"]

MOST = 1 << 16  # points that are asked whether they fit


def sentence_of(sweep: Sweep) -> str:
    """Return how far the first metric that varies goes, and between which points; "" if there is nothing to say.

    With times, how many points do not fit, too.
    """
    if sweep.is_lazy or sweep.size < 2:
        return ""
    ranges = {name: sweep.values(name) for name in sweep.metrics if name != "fits"}
    metric = next((name for name, values in ranges.items() if _varies(values)), None)
    if metric is None:
        return f"{' and '.join(ranges)}: the same at all {sweep.size:,} points." if ranges else ""
    values = ranges[metric]
    low, high = (np.unravel_index(int(find(values)), values.shape) for find in (np.nanargmin, np.nanargmax))
    moving = [axis for axis in range(values.ndim) if low[axis] != high[axis]]
    names = list(sweep.axes)
    ends = []
    for place in (low, high):
        at = [f"{names[axis]} {label_of(sweep.axes[names[axis]][place[axis]])}" for axis in moving]
        ends.append(f"{shown(metric, float(values[place]))} at {', '.join(at)}")
    least, most = float(values[low]), float(values[high])
    ratio = f": {_times(most / least)} times as much" if least > 0 else ""
    still = [name for axis, name in enumerate(names) if len(sweep.axes[name]) > 1 and _is_still(values, axis)]
    same = f" {' and '.join(still)} make{'s' if len(still) == 1 else ''} no difference to it." if still else ""
    return f"{metric} goes from {ends[0]} to {ends[1]}{ratio}.{same}{_unfitting(sweep)}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def _varies(values: np.ndarray) -> bool:
    return not np.isnan(values).all() and bool(np.nanmin(values) < np.nanmax(values))


def _is_still(values: np.ndarray, axis: int) -> bool:
    """Return whether a metric is the same all along an axis."""
    first = np.take(values, [0], axis=axis)
    return bool(np.all((values == first) | (np.isnan(values) & np.isnan(first))))


def _unfitting(sweep: Sweep) -> str:
    if sweep.fitting is None or sweep.size > MOST or not any(map(is_timed, sweep.metrics)):
        return ""
    fits = sweep.fitting.at(sweep.axes, sweep.fixed)
    count = int((fits == 0).sum())
    return f" {count:,} of {sweep.size:,} points do not fit." if count else ""
