"""What is asked of a whole sweep: its best point, its frontier, how its values are spread.

Every question is a `Reduction`: answered for a part of the grid, then joined. Nothing here knows where the numbers
are, in memory or to be computed in chunks: whoever asks says how, by an `Ask`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nbanalyzer.costs.metrics import METRICS
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["Ask", "Conditions", "Reduction", "best_of", "frontier_of"]

AT_ONCE = 1 << 12  # points that are compared with a frontier at a time,
FRONT = 1 << 6  # and how many of those on it


class Reduction(Protocol):
    """What is asked of a whole sweep, part by part."""

    @property
    def metrics(self) -> Sequence[str]:
        """The metrics that it looks at."""

    def of(self, arrays: Mapping[str, Any], start: Sequence[int]) -> Any:
        """Return the answer for a part: metric → its numbers there, and where the part begins.

        The arrays are written to again afterwards: the answer has none of them.
        """

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the answer for several parts, in whatever order, from the answer for each."""


Ask = Callable[[Reduction], Any]
"""Returns a reduction's answer for a whole sweep, wherever its numbers are."""


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
    def of(cls, formulas: Sequence[Formula], axes: Mapping[str, Sequence[Any]], metrics: Sequence[str]) -> Conditions:
        """Return the conditions on a sweep with these axes and metrics."""
        import numpy as np

        names = dict.fromkeys(name for formula in formulas for name in formula.variables)
        along = {
            name: (place, np.asarray(values, dtype=np.float64))
            for place, (name, values) in enumerate(axes.items())
            if name in names and name not in metrics
        }
        return cls(tuple(formulas), along, tuple(name for name in names if name in metrics))

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


def best_of(ask: Ask, metric: str, sign: int, conditions: Conditions) -> tuple[int, ...]:
    """Return the place of the point with the smallest `sign` times the metric, of equal ones the first.

    Raises:
        InputError: no point fulfils the conditions.

    """
    best = ask(Best(tuple(dict.fromkeys([metric, *conditions.metrics])), metric, sign, conditions))
    if best is None:
        said = " and ".join(map(str, conditions.formulas))
        raise InputError(f"no point fulfils {said or 'having a number'}")
    _, place = best
    found: tuple[int, ...] = place
    return found


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


def frontier_of(
    ask: Ask, metrics: Sequence[str], asked: Sequence[str], conditions: Conditions
) -> tuple[Any, dict[str, Any]]:
    """Return the points that no other one beats in what is `asked`, the better end of its first metric first.

    Returns:
        Their places, of shape (points, axes), and each of the `metrics` → its numbers there.

    """
    import numpy as np

    places, numbers = ask(Frontier(tuple(metrics), tuple(asked), conditions))
    order = np.lexsort(_keys(numbers, asked)[::-1])
    return places[order], {name: numbers[name][order] for name in metrics}


def _keys(numbers: Mapping[str, Any], metrics: Sequence[str]) -> Array:
    """Return the metrics as rows, so that less is better."""
    import numpy as np

    signs = [-1.0 if name in METRICS and METRICS[name].more_is_better else 1.0 for name in metrics]
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
