"""The distribution of a metric over a sweep: its ends, histograms, quantiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.blocks import scratch

from .reductions import Ask

__all__ = ["histogram_of", "near_quantiles_of", "quantiles_of"]

Array = npt.NDArray[np.float64]

FINE = 1 << 16  # bins of a histogram at most


def histogram_of(ask: Ask, metric: str, bins: int) -> tuple[Array, Array]:
    """Return (counts, edges) over all points."""
    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= FINE:
        raise InputError(f"a histogram has 1 to {FINE} bins, not {bins}")
    ends = ask(Ends((metric,)))
    low, high = ends.low, ends.high
    if low > high:
        raise InputError(f"{metric} has no finite value at any point")
    if not high > low:
        high = low + max(1.0, bins * float(np.spacing(abs(low))))
    edges = np.linspace(low, high, bins + 1)
    return ask(Counts((metric,), edges)), edges


def quantiles_of(values: Array, metric: str, shares: Sequence[float]) -> dict[float, float]:
    """Return share → the value that this share of the numbers does not exceed, exactly."""
    numbers = values[~np.isnan(values)]
    ranks = _ranks(metric, shares, numbers.size)
    places = [rank - 1 for rank in ranks.values()]
    ordered = np.partition(numbers, sorted({*places}))
    return {share: float(ordered[place]) for share, place in zip(ranks, places, strict=True)}


def near_quantiles_of(ask: Ask, metric: str, shares: Sequence[float]) -> dict[float, float]:
    """Return quantiles within 0.1 %, from a histogram of fine logarithmic bins.

    Each bin is represented by its greatest value. Infinite values are before and behind the bins.
    """
    ends = ask(Ends((metric,)))
    ranks = _ranks(metric, shares, ends.numbers)
    counts, greatest = ask(LogBins((metric,), ends.least, ends.high))
    values = np.concatenate(([-np.inf], greatest, [np.inf]))
    totals = np.cumsum(np.concatenate(([ends.below], counts, [ends.above])))
    quantiles = {share: float(values[np.searchsorted(totals, rank)]) for share, rank in ranks.items()}
    return {share: value if ranks[share] > 1 or ends.below else ends.low for share, value in quantiles.items()}


def _ranks(metric: str, shares: Sequence[float], numbers: int) -> dict[float, int]:
    """Return share → the rank, from 1, of the value that this share of the numbers does not exceed."""
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(f"a share is a number from 0 to 1, not {share!r}")
    if not numbers:
        raise InputError(f"{metric} has no value at any point")
    return {share: max(math.ceil(share * numbers), 1) for share in shares}


class Spread(NamedTuple):
    """The least and largest finite values, the least above 0; the counts of -inf, of inf, and of all numbers."""

    low: float
    high: float
    least: float
    below: int
    above: int
    numbers: int


@dataclass(frozen=True, eq=False)
class Ends:
    """The ends of a metric's values, which histograms and quantiles need; nan is ignored."""

    metrics: tuple[str]

    def of(self, arrays: Mapping[str, Any], _start: Sequence[int]) -> Spread:
        """Return it for a part of the grid."""
        values = np.asarray(arrays[self.metrics[0]], dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        if low > 0 and np.isfinite(high):
            return Spread(low, high, low, 0, 0, values.size)
        finite = values[np.isfinite(values)]
        below, above = int(np.count_nonzero(values == -np.inf)), int(np.count_nonzero(values == np.inf))
        least = finite[finite > 0].min(initial=np.inf)
        ends = (finite.min(initial=np.inf), finite.max(initial=-np.inf), least)
        return Spread(float(ends[0]), float(ends[1]), float(ends[2]), below, above, finite.size + below + above)

    def joined(self, parts: Sequence[Spread]) -> Spread:
        """Return it for several parts."""
        lows, highs, leasts, *counts = zip(*parts, strict=True)
        return Spread(min(lows), max(highs), min(leasts), *map(sum, counts))


@dataclass(frozen=True, eq=False)
class Counts:
    """The counts of values between equidistant edges, as in NumPy's histogram."""

    metrics: tuple[str]
    edges: Array

    def of(self, arrays: Mapping[str, Any], _start: Sequence[int]) -> Any:
        """Return them for a part of the grid."""
        values, edges = np.asarray(arrays[self.metrics[0]], dtype=np.float64).reshape(-1), self.edges
        bins = len(edges) - 1
        low, high = edges[0], edges[-1]
        if (high - low) / bins < 4 * np.spacing(max(abs(low), abs(high))):  # edges hardly apart
            return np.histogram(values, bins=edges)[0]
        if not (values.min() >= low and values.max() <= high):  # there are infinities, or nan
            values = values[(values >= low) & (values <= high)]
        upper = np.append(edges[1:-1], np.inf)  # the last bin includes its upper edge
        size = len(values)
        numbers, index = scratch("places", size), scratch("bins", size, "int64")
        np.subtract(values, low, out=numbers)
        np.multiply(numbers, bins / (high - low), out=index, casting="unsafe")
        np.minimum(index, bins - 1, out=index)
        # A value beside an edge may have been rounded to the wrong side of it.
        wrong = scratch("wrong", size, "bool")
        np.take(edges, index, out=numbers, mode="clip")
        np.subtract(index, np.less(values, numbers, out=wrong), out=index)
        np.take(upper, index, out=numbers, mode="clip")
        np.add(index, np.greater_equal(values, numbers, out=wrong), out=index)
        return np.bincount(index, minlength=bins)

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return them for several parts."""
        return sum(parts)


@dataclass(frozen=True, eq=False)
class LogBins:
    """The counts of finite values in `FINE` logarithmic bins between two positive ends, and each bin's greatest.

    The first bin is for values that are not positive.
    """

    metrics: tuple[str]
    low: float
    high: float

    def of(self, arrays: Mapping[str, Any], _start: Sequence[int]) -> tuple[Any, Any]:
        """Return them for a part of the grid."""
        values = np.asarray(arrays[self.metrics[0]], dtype=np.float64).reshape(-1)
        values = values[np.isfinite(values)]
        scale = (FINE - 2) / math.log(self.high / self.low) if self.high > self.low else 0.0
        positive = np.maximum(values, self.low) / self.low
        places = np.where(values > 0, 1 + (np.log(positive) * scale).astype(np.int64), 0)
        greatest = np.full(FINE, -np.inf)
        np.maximum.at(greatest, places, values)
        return np.bincount(places, minlength=FINE), greatest

    def joined(self, parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Return them for several parts."""
        counts, greatest = zip(*parts, strict=True)
        return sum(counts), np.maximum.reduce(greatest)
