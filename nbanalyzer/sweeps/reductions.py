"""Reductions of a whole sweep: its best point, its Pareto frontier.

A `Reduction` is computed for each part of the grid, then joined. An `Ask` computes it for a sweep in memory, or in
chunks: the reductions do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nbanalyzer.costs.metrics import METRICS
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula

__all__ = ["Ask", "Conditions", "Reduction", "best_of", "frontier_of"]

Array = npt.NDArray[np.float64]

AT_ONCE = 1 << 12  # points that are compared with a frontier at a time


class Reduction(Protocol):
    """A question to a whole sweep, answered part by part."""

    @property
    def metrics(self) -> Sequence[str]:
        """The metrics that it needs."""

    def of(self, arrays: Mapping[str, Any], start: Sequence[int]) -> Any:
        """Return the result for a part, given metric → its numbers there, and the index at which the part begins.

        The arrays are buffers, reused for the next part: the result must not refer to them.
        """

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the result for several parts, in whatever order, from the results for each."""


Ask = Callable[[Reduction], Any]
"""Returns a reduction's result for a whole sweep."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions on a point.

    Attributes:
        formulas: over axes and metrics.
        axes: axis → its index in the sweep's shape, and its values; for axes in the formulas.
        metrics: those in the formulas.

    """

    formulas: tuple[Formula, ...]
    axes: Mapping[str, tuple[int, Array]]
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, formulas: Sequence[Formula], axes: Mapping[str, Sequence[Any]], metrics: Sequence[str]) -> Conditions:
        """Return the conditions on a sweep with these axes and metrics."""
        names = dict.fromkeys(name for formula in formulas for name in formula.variables)
        along = {
            name: (place, np.asarray(values, dtype=np.float64))
            for place, (name, values) in enumerate(axes.items())
            if name in names and name not in metrics
        }
        return cls(tuple(formulas), along, tuple(name for name in names if name in metrics))

    def hold(self, arrays: Mapping[str, Any], start: Sequence[int]) -> Any:
        """Return where all of them hold, as booleans over a part of the grid."""
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


def best_of(ask: Ask, metric: str, sign: int, conditions: Conditions) -> tuple[int, ...]:
    """Return the index of the point with the smallest `sign` times the metric, the first of equal ones.

    Raises:
        InputError: no point fulfils the conditions.

    """
    best: tuple[float, tuple[int, ...]] | None
    best = ask(Best(tuple(dict.fromkeys([metric, *conditions.metrics])), metric, sign, conditions))
    if best is None:
        texts = " and ".join(map(str, conditions.formulas))
        raise InputError(f"no point fulfils {texts or 'having a number'}")
    return best[1]


@dataclass(frozen=True, eq=False)
class Best:
    """The smallest `sign` times `metric` where the conditions hold, and its index in the grid; None if nowhere."""

    metrics: tuple[str, ...]
    metric: str
    sign: int
    conditions: Conditions

    def of(self, arrays: Mapping[str, Any], start: Sequence[int]) -> tuple[float, tuple[int, ...]] | None:
        """Return it for a part of the grid."""
        key = np.asarray(arrays[self.metric])
        worst = self.sign * np.inf
        if self.conditions.formulas:
            key = np.where(self.conditions.hold(arrays, start), key, worst)
        find = np.argmin if self.sign > 0 else np.argmax
        place = int(find(key))  # a nan, if there is one
        if not np.isfinite(key.reshape(-1)[place]):
            key = np.where(np.isfinite(key), key, worst)
            place = int(find(key))
        index = np.unravel_index(place, key.shape) if key.shape else ()
        if not np.isfinite(key[index]):
            return None
        return self.sign * float(key[index]), tuple(int(at) + first for at, first in zip(index, start, strict=True))

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the best of several, the first in the grid of equal ones."""
        return min((part for part in parts if part is not None), default=None)


# ---- the frontier


def frontier_of(
    ask: Ask, metrics: Sequence[str], asked: Sequence[str], conditions: Conditions
) -> tuple[Any, dict[str, Any]]:
    """Return the Pareto frontier in the metrics that are `asked`, sorted by the first of them, best first.

    Returns:
        The points' indices, of shape (points, axes), and each of the `metrics` → its numbers there.

    """
    places, numbers = ask(Frontier(tuple(metrics), tuple(asked), conditions))
    order = np.lexsort(_keys(numbers, asked)[::-1])
    return places[order], {name: numbers[name][order] for name in metrics}


def _keys(numbers: Mapping[str, Any], metrics: Sequence[str]) -> Array:
    """Return the metrics as rows, negated where more is better."""
    signs = [-1.0 if name in METRICS and METRICS[name].more_is_better else 1.0 for name in metrics]
    return np.stack(
        [sign * np.asarray(numbers[name], dtype=np.float64) for sign, name in zip(signs, metrics, strict=True)]
    )


@dataclass(frozen=True, eq=False)
class Frontier:
    """The indices of the points on the Pareto frontier in what is `asked`, and metric → its numbers there."""

    metrics: tuple[str, ...]
    asked: tuple[str, ...]
    conditions: Conditions

    def of(self, arrays: Mapping[str, Any], start: Sequence[int]) -> tuple[Any, dict[str, Any]]:
        """Return them for a part of the grid."""
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
        """Return them for several parts."""
        places = np.concatenate([places for places, _ in parts])
        numbers = {name: np.concatenate([numbers[name] for _, numbers in parts]) for name in self.metrics}
        order = np.lexsort(places.T[::-1]) if places.shape[1] else np.arange(len(places))  # the grid's
        kept = order[_unbeaten(_keys({name: numbers[name][order] for name in self.asked}, self.asked))]
        return places[kept], {name: array[kept] for name, array in numbers.items()}


def _pruned(keys: Array) -> Any:
    """Return the points without nan, and without most of those that another one beats."""
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
        good = part[:, np.argmin(((part - low[:, None]) / width[:, None]).sum(axis=0))][:, None]
        kept = (part < good).any(axis=0) | (part == good).all(axis=0)
        if kept.all():
            break
        places = places[kept]
    return places


def _unbeaten(keys: Array) -> Any:
    """Return the points for which no other is at most equal in all rows and less in one; the first of equal ones."""
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
        # The frontier so far beats most of the next points at once.
        part = order[begin : begin + AT_ONCE]
        for row in front:
            part = part[~(row <= rows[part]).all(axis=1)]
        for index in part:
            if not (front <= rows[index]).all(axis=1).any():
                best.append(int(index))
                front = np.concatenate((front, rows[index : index + 1]))
    return np.asarray(best, dtype=int)
