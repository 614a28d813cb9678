"""What is asked of a whole sweep: its best point, its frontier, how its values are spread.

Every question is a `Reduction`: answered for a part of the grid, then joined. A lazy sweep's parts are answered where
they are computed, see `nbanalyzer.sweeps.chunks`; those of one in memory block by block too, so that nothing of its size is
made a second time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.program import block_sizes, scratch, windows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas

    from .chunks import Reduction
    from .sweep import Sweep

    Array = npt.NDArray[np.float64]

__all__ = ["best_of", "frontier_of", "histogram_of", "quantiles_of"]

HIGHER_IS_BETTER = frozenset({"tokens_per_s", "arithmetic_intensity", "fits"})
FINE = 1 << 16  # bins of one pass for a quantile
LOOKS = 3  # passes with that many bins, each into one bin of the one before
FEW = 1 << 20  # values that are collected and sorted
AT_ONCE = 1 << 12  # points that are compared with a frontier at a time,
FRONT = 1 << 6  # and how many of those on it
BLOCK = 1 << 16  # points of a sweep in memory that are looked at together


def answer(found: Sweep, reduction: Reduction) -> Any:
    """Return a reduction's answer for a whole sweep."""
    if found.is_lazy:
        from .chunks import reduced

        return reduced(found, reduction)
    parts = []
    for window in windows(found.shape, block_sizes(found.shape, BLOCK)):
        arrays = {name: found.arrays[name][window] for name in reduction.metrics}
        parts.append(reduction.of(arrays, [part.start for part in window]))
    return reduction.joined(parts)


@dataclass(frozen=True, eq=False)
class Conditions:
    """What has to hold at a point.

    Attributes:
        formulas: over axes and metrics.
        axes: axis → its place among the sweep's axes, and its values; those that the formulas name.
        metrics: those that the formulas name.

    """

    formulas: tuple[Formula, ...]
    axes: Mapping[str, tuple[int, Array]]
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, found: Sweep, formulas: Sequence[Formula]) -> Conditions:
        """Return a sweep's conditions."""
        import numpy as np

        names = dict.fromkeys(name for formula in formulas for name in formula.variables)
        axes = {
            name: (place, np.asarray(values, dtype=np.float64))
            for place, (name, values) in enumerate(found.axes.items())
            if name in names and name not in found.metrics
        }
        return cls(tuple(formulas), axes, tuple(name for name in names if name in found.metrics))

    def hold(self, arrays: Mapping[str, Any], start: Sequence[int]) -> Any:
        """Return where all of them hold: an array of booleans over a part of the grid."""
        import numpy as np

        shape = next(iter(arrays.values())).shape
        mask = np.ones(shape, dtype=bool)
        for formula in self.formulas:
            values: dict[str, Any] = {}
            for name in formula.variables:
                if name in arrays:
                    values[name] = arrays[name]
                    continue
                axis, line = self.axes[name]
                part = line[start[axis] : start[axis] + shape[axis]]
                values[name] = part.reshape([-1 if place == axis else 1 for place in range(len(shape))])
            mask &= formula.vectorize(values) != 0
        return mask


# ---- the best point


def best_of(found: Sweep, metric: str, sign: int, where: Sequence[Formula]) -> dict[str, Any]:
    """Return the point with the smallest `sign` times the metric: axis → value, metric → number."""
    conditions = Conditions.of(found, where)
    best = answer(found, Best(tuple(dict.fromkeys([metric, *conditions.metrics])), metric, sign, conditions))
    if best is None:
        raise InputError(f"no point fulfils {' and '.join(map(str, where)) or 'having a number'}")
    _, place = best
    if found.is_lazy:
        from .chunks import numbers_at

        numbers = numbers_at(found, place)
    else:
        numbers = {name: array[place] for name, array in found.arrays.items()}
    at = {name: values[index] for (name, values), index in zip(found.axes.items(), place, strict=True)}
    return {**at, **{name: numbers[name].item() for name in found.metrics}}


@dataclass(frozen=True, eq=False)
class Best:
    """The smallest `sign` times `metric` where the conditions hold, and its place in the grid; None if nowhere."""

    metrics: tuple[str, ...]
    metric: str
    sign: int
    conditions: Conditions

    def of(self, arrays: Mapping[str, Any], start: Sequence[int]) -> tuple[float, tuple[int, ...]] | None:
        """Return it for a part of the grid."""
        import numpy as np

        key = np.asarray(arrays[self.metric])
        worst = self.sign * np.inf
        if self.conditions.formulas:
            key = np.where(self.conditions.hold(arrays, start), key, worst)
        find = np.argmin if self.sign > 0 else np.argmax
        place = int(find(key))  # of something that is no number, if there is any
        if not np.isfinite(key.reshape(-1)[place]):
            key = np.where(np.isfinite(key), key, worst)
            place = int(find(key))
        index = np.unravel_index(place, key.shape) if key.shape else ()
        if not np.isfinite(key[index]):
            return None
        return self.sign * float(key[index]), tuple(int(at) + first for at, first in zip(index, start, strict=True))

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the best of several, of equal ones the first of the grid."""
        return min((part for part in parts if part is not None), default=None)


# ---- the frontier


def frontier_of(found: Sweep, metrics: Sequence[str], where: Sequence[Formula]) -> pandas.DataFrame:
    """Return the points that no other one beats, by the first metric, the better end first."""
    import numpy as np
    import pandas

    places, numbers = answer(found, Frontier(found.metrics, tuple(metrics), Conditions.of(found, where)))
    order = np.lexsort(_keys(numbers, metrics)[::-1])
    columns: dict[str, Any] = {}
    for axis, (name, values) in enumerate(found.axes.items()):
        columns[name] = [values[index] for index in places[order, axis]]
    return pandas.DataFrame(columns | {name: numbers[name][order] for name in found.metrics})


def _keys(numbers: Mapping[str, Any], metrics: Sequence[str]) -> Array:
    """Return the metrics as rows, so that less is better."""
    import numpy as np

    signs = [-1.0 if name in HIGHER_IS_BETTER else 1.0 for name in metrics]
    return np.stack(
        [sign * np.asarray(numbers[name], dtype=np.float64) for sign, name in zip(signs, metrics, strict=True)]
    )


@dataclass(frozen=True, eq=False)
class Frontier:
    """The places of the points that none beats in what is `asked`, and metric → its numbers there."""

    metrics: tuple[str, ...]
    asked: tuple[str, ...]
    conditions: Conditions

    def of(self, arrays: Mapping[str, Any], start: Sequence[int]) -> tuple[Any, dict[str, Any]]:
        """Return them for a part of the grid."""
        import numpy as np

        shape = next(iter(arrays.values())).shape
        flat = {name: np.asarray(array).reshape(-1) for name, array in arrays.items()}
        if self.conditions.formulas:
            inside = np.flatnonzero(self.conditions.hold(arrays, start).reshape(-1))
            kept = inside[_unbeaten(_keys({name: flat[name][inside] for name in self.asked}, self.asked))]
        else:
            kept = _unbeaten(_keys(flat, self.asked))
        places = np.stack(np.unravel_index(kept, shape), axis=1) if shape else np.zeros((len(kept), 0), dtype=int)
        return places + np.asarray(start, dtype=int), {name: array[kept] for name, array in flat.items()}

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return those of several parts that no other part's beats."""
        import numpy as np

        places = np.concatenate([places for places, _ in parts])
        numbers = {name: np.concatenate([numbers[name] for _, numbers in parts]) for name in self.metrics}
        order = np.lexsort(places.T[::-1]) if places.shape[1] else np.arange(len(places))  # the grid's
        kept = order[_unbeaten(_keys({name: numbers[name][order] for name in self.asked}, self.asked))]
        return places[kept], {name: array[kept] for name, array in numbers.items()}


def _pruned(keys: Array) -> Any:
    """Return the points with numbers, without most of those that another one beats."""
    import numpy as np

    valid = ~np.isnan(keys).any(axis=0)
    places = np.arange(keys.shape[1]) if valid.all() else np.flatnonzero(valid)
    for _ in range(3):
        if len(places) < AT_ONCE:
            break
        part = keys[:, places] if len(places) < keys.shape[1] else keys
        low, high = part.min(axis=1), part.max(axis=1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            break
        width = np.where(high > low, high - low, 1.0)
        one = part[:, np.argmin(((part - low[:, None]) / width[:, None]).sum(axis=0))][:, None]
        kept = (part < one).any(axis=0) | (part == one).all(axis=0)
        if kept.all():
            break
        places = places[kept]
    return places


def _unbeaten(keys: Array) -> Any:
    """Return the points that none other equals or beats in every row, and beats in one; of equal ones the first."""
    import numpy as np

    valid = _pruned(keys)
    order = valid[np.lexsort(keys[::-1, valid])]
    if len(keys) == 2:
        # Sorted by the first metric, a point is unbeaten where the second one falls below all before.
        second = keys[1, order]
        lowest = np.minimum.accumulate(second)
        first = np.ones(len(order), dtype=bool)
        first[1:] = second[1:] < lowest[:-1]
        return order[first]
    rows = np.ascontiguousarray(keys.T)
    front = np.empty((0, len(keys)))
    best: list[int] = []
    for begin in range(0, len(order), AT_ONCE):
        # What is on the frontier already beats most of the rest at one blow.
        part = order[begin : begin + AT_ONCE]
        for row in front:
            part = part[~(row <= rows[part]).all(axis=1)]
        for index in part:
            if not (front <= rows[index]).all(axis=1).any():
                best.append(int(index))
                front = np.concatenate((front, rows[index : index + 1]))
    return np.asarray(best, dtype=int)


# ---- how values are spread


def histogram_of(found: Sweep, metric: str, bins: int) -> tuple[Array, Array]:
    """Return (counts, edges) over all points."""
    import numpy as np

    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= FINE:
        raise InputError(f"a histogram has 1 to {FINE} bins, not {bins}")
    low, high, *_ = answer(found, Ends((metric,)))
    if low > high:
        raise InputError(f"{metric} has no finite value at any point")
    if not high > low:
        high = low + max(1.0, bins * float(np.spacing(abs(low))))
    edges = np.linspace(low, high, bins + 1)
    return answer(found, Counts((metric,), edges)), edges


def quantiles_of(found: Sweep, metric: str, shares: Sequence[float]) -> dict[float, float]:
    """Return share → value."""
    import numpy as np

    for share in shares:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(f"a share is a number from 0 to 1, not {share!r}")
    if not found.is_lazy:
        values = np.asarray(found.arrays[metric], dtype=np.float64).reshape(-1)
        values = values[~np.isnan(values)]
        if not values.size:
            raise _no_number(metric)
        places = {share: _rank(share, values.size) - 1 for share in shares}
        values = np.partition(values, sorted(set(places.values())))
        return {share: float(values[place]) for share, place in places.items()}
    ends = answer(found, Ends((metric,)))
    if not ends.numbers:
        raise _no_number(metric)
    ranks = {share: _rank(share, ends.numbers) for share in shares}
    # What is infinite has its place, before or behind all that is finite.
    found_at = {share: -np.inf if rank <= ends.below else np.inf for share, rank in ranks.items()}
    finite = [share for share, rank in ranks.items() if ends.below < rank <= ends.numbers - ends.above]
    bounds = dict.fromkeys(finite, (ends.low, ends.high))
    wide = set(finite) if ends.high > ends.low and found.size > FEW else set()
    for _ in range(LOOKS):
        if not wide:
            break
        lines = {bounds[share]: np.linspace(*bounds[share], FINE + 1) for share in wide}
        counts = dict(zip(lines, answer(found, FineCounts((metric,), tuple(lines.values()))), strict=True))
        for share in sorted(wide):
            line, own = lines[bounds[share]], counts[bounds[share]]
            # The first count is of what lies below the line, the last of what lies above.
            place = min(max(int(np.searchsorted(np.cumsum(own), ranks[share])), 1), FINE)
            first, last = max(place - 2, 0), min(place + 1, FINE)  # a neighbour each side, as places are rounded
            bounds[share] = float(line[first]), float(line[last])
            if own[first : last + 2].sum() <= FEW:
                wide.remove(share)
    kept = answer(found, Collected((metric,), tuple(bounds.values()))) if bounds else []
    for share, (below, values, counts_of) in zip(bounds, kept, strict=True):
        place = int(np.searchsorted(below + np.cumsum(counts_of), ranks[share]))
        found_at[share] = float(values[min(place, len(values) - 1)])
    return found_at


def _rank(share: float, numbers: int) -> int:
    """Return the place, from 1, of the value that a share of so many does not exceed."""
    return max(math.ceil(share * numbers), 1)


def _no_number(metric: str) -> InputError:
    return InputError(f"{metric} has no value at any point")


class Spread(NamedTuple):
    """The least and the largest finite value, how many are -inf, how many inf, and how many are numbers at all."""

    low: float
    high: float
    below: int
    above: int
    numbers: int


@dataclass(frozen=True, eq=False)
class Ends:
    """What a histogram and quantiles begin with; what is no number does not count."""

    metrics: tuple[str]

    def of(self, arrays: Mapping[str, Any], _start: Sequence[int]) -> Spread:
        """Return it for a part of the grid."""
        import numpy as np

        values = arrays[self.metrics[0]]
        low, high = float(values.min()), float(values.max())
        if np.isfinite(low) and np.isfinite(high):
            return Spread(low, high, 0, 0, values.size)
        finite = values[np.isfinite(values)]
        below, above = int(np.count_nonzero(values == -np.inf)), int(np.count_nonzero(values == np.inf))
        low, high = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
        return Spread(low, high, below, above, finite.size + below + above)

    def joined(self, parts: Sequence[Spread]) -> Spread:
        """Return it for several parts."""
        lows, highs, *counts = zip(*parts, strict=True)
        return Spread(min(lows), max(highs), *map(sum, counts))


@dataclass(frozen=True, eq=False)
class Counts:
    """How many values lie between edges that are equally far apart, as NumPy's histogram counts them."""

    metrics: tuple[str]
    edges: Array

    def of(self, arrays: Mapping[str, Any], _start: Sequence[int]) -> Any:
        """Return them for a part of the grid."""
        import numpy as np

        values, edges = np.asarray(arrays[self.metrics[0]], dtype=np.float64).reshape(-1), self.edges
        bins = len(edges) - 1
        low, high = edges[0], edges[-1]
        if (high - low) / bins < 4 * np.spacing(max(abs(low), abs(high))):  # edges hardly apart
            return np.histogram(values, bins=edges)[0]
        if not (values.min() >= low and values.max() <= high):  # something infinite, or no number
            values = values[(values >= low) & (values <= high)]
        upper = np.append(edges[1:-1], np.inf)  # the last bin has its upper edge in it
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
class FineCounts:
    """For each line of edges how many values lie below it, in each of its bins, above it; edges may be rounded."""

    metrics: tuple[str]
    lines: tuple[Array, ...]

    def of(self, arrays: Mapping[str, Any], _start: Sequence[int]) -> list[Any]:
        """Return them for a part of the grid."""
        import numpy as np

        values = np.asarray(arrays[self.metrics[0]], dtype=np.float64).reshape(-1)
        found = []
        for line in self.lines:
            bins = len(line) - 1
            width = (line[-1] - line[0]) / bins
            places = np.floor((values - line[0]) / width)
            places = np.clip(np.where(values == line[-1], bins - 1, places), -1, bins)
            places = np.where(np.isnan(places), bins, places)
            found.append(np.bincount((places + 1).astype(np.int32), minlength=bins + 2))
        return found

    def joined(self, parts: Sequence[list[Any]]) -> list[Any]:
        """Return them for several parts."""
        return [sum(counts) for counts in zip(*parts, strict=True)]


@dataclass(frozen=True, eq=False)
class Collected:
    """For each pair of bounds how many values lie below, which ones between them, and how often each of those."""

    metrics: tuple[str]
    bounds: tuple[tuple[float, float], ...]

    def of(self, arrays: Mapping[str, Any], _start: Sequence[int]) -> list[tuple[int, Any, Any]]:
        """Return them for a part of the grid."""
        import numpy as np

        values = np.asarray(arrays[self.metrics[0]], dtype=np.float64).reshape(-1)
        found = []
        for low, high in self.bounds:
            below = int(np.count_nonzero(values < low))
            found.append((below, *np.unique(values[(values >= low) & (values <= high)], return_counts=True)))
        return found

    def joined(self, parts: Sequence[list[tuple[int, Any, Any]]]) -> list[tuple[int, Any, Any]]:
        """Return them for several parts."""
        import numpy as np

        found = []
        for several in zip(*parts, strict=True):
            values, index = np.unique(np.concatenate([values for _, values, _ in several]), return_inverse=True)
            counts = np.zeros(len(values), dtype=np.int64)
            np.add.at(counts, index, np.concatenate([counts for _, _, counts in several]))
            found.append((sum(below for below, _, _ in several), values, counts))
        return found
