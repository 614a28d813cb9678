"""What is asked of a whole sweep: its best point, its frontier, how its values are spread. Chunk by chunk if lazy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .formula import Formula

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas

    from .sweep import Sweep

    Array = npt.NDArray[np.float64]

__all__ = ["best_of", "frontier_of", "histogram_of", "quantiles_of"]

HIGHER_IS_BETTER = frozenset({"tokens_per_s", "arithmetic_intensity", "fits"})
FINE = 1 << 16  # bins of one pass for a quantile
AT_ONCE = 1 << 12  # points that a frontier compares with all that are on it


def over_chunks(found: Sweep, function: Callable[..., Any], *more: Any) -> list[Any]:
    """Return what a function gives for every chunk: of (metric → array, where the chunk begins, more …)."""
    if not found.is_lazy:
        return [function(dict(found.arrays), (0,) * len(found.shape), *more)]
    import numpy as np
    from dask.delayed import delayed

    from .lazy import computed

    names = list(found.arrays)
    blocks = [found.arrays[name].to_delayed() for name in names]
    chunks = found.arrays[names[0]].chunks
    task = delayed(function, pure=False)
    tasks = []
    for place in np.ndindex(blocks[0].shape):
        start = tuple(sum(sizes[:at]) for sizes, at in zip(chunks, place, strict=True))
        tasks.append(task({name: block[place] for name, block in zip(names, blocks, strict=True)}, start, *more))
    return list(computed(tasks))


def _holds(axes: Mapping[str, Any], arrays: Mapping[str, Any], start: Sequence[int], where: Sequence[Formula]) -> Any:
    """Return where all conditions hold: an array of booleans over a chunk."""
    import numpy as np

    shape = next(iter(arrays.values())).shape
    mask = np.ones(shape, dtype=bool)
    for formula in where:
        values: dict[str, Any] = {}
        for name in formula.variables:
            if name in arrays:
                values[name] = arrays[name]
                continue
            axis = list(axes).index(name)
            part = np.asarray(axes[name][start[axis] : start[axis] + shape[axis]], dtype=np.float64)
            values[name] = part.reshape([-1 if place == axis else 1 for place in range(len(shape))])
        mask &= formula.vectorize(values) != 0
    return mask


# ---- the best point


def best_of(found: Sweep, metric: str, sign: int, where: Sequence[Formula]) -> dict[str, Any]:
    """Return the point with the smallest `sign` times the metric: axis → value, metric → number."""
    points = [
        point for point in over_chunks(found, _best, dict(found.axes), metric, sign, tuple(where)) if point is not None
    ]
    if not points:
        raise InputError(f"no point fulfils {' and '.join(map(str, where)) or 'having a number'}")
    _, place, numbers = min(points, key=lambda point: point[0])
    return _point(found, place, numbers)


def _point(found: Sweep, place: Sequence[int], numbers: Mapping[str, Any]) -> dict[str, Any]:
    at = {name: values[index] for (name, values), index in zip(found.axes.items(), place, strict=True)}
    return {**at, **{name: value.item() for name, value in numbers.items()}}


def _best(
    arrays: Mapping[str, Any], start: Sequence[int], axes: Mapping[str, Any], metric: str, sign: int, where: Any
) -> Any:
    import numpy as np

    key = sign * np.asarray(arrays[metric], dtype=np.float64)
    if where:
        key = np.where(_holds(axes, arrays, start, where), key, np.inf)
    key = np.where(np.isnan(key), np.inf, key)
    index = np.unravel_index(int(np.argmin(key)), key.shape) if key.shape else ()
    if not np.isfinite(key[index]):
        return None
    place = tuple(int(at) + first for at, first in zip(index, start, strict=True))
    return float(key[index]), place, {name: array[index] for name, array in arrays.items()}


# ---- the frontier


def frontier_of(found: Sweep, metrics: Sequence[str], where: Sequence[Formula]) -> pandas.DataFrame:
    """Return the points that no other one beats, by the first metric, the better end first."""
    import numpy as np
    import pandas

    names = [*found.metrics]
    parts = over_chunks(found, _frontier, dict(found.axes), tuple(metrics), tuple(where))
    places = np.concatenate([part[0] for part in parts])
    numbers = {name: np.concatenate([part[1][name] for part in parts]) for name in names}
    kept = _unbeaten(_keys(numbers, metrics))
    kept = kept[np.lexsort([_keys(numbers, metrics)[kept, column] for column in reversed(range(len(metrics)))])]
    columns: dict[str, Any] = {}
    for axis, (name, values) in enumerate(found.axes.items()):
        columns[name] = [values[index] for index in places[kept, axis]]
    return pandas.DataFrame(columns | {name: numbers[name][kept] for name in names})


def _keys(numbers: Mapping[str, Any], metrics: Sequence[str]) -> Array:
    """Return the metrics as columns, so that less is better."""
    import numpy as np

    signs = [-1.0 if name in HIGHER_IS_BETTER else 1.0 for name in metrics]
    columns = [sign * np.asarray(numbers[name], dtype=np.float64) for sign, name in zip(signs, metrics, strict=True)]
    return np.stack(columns, axis=1)


def _frontier(
    arrays: Mapping[str, Any], start: Sequence[int], axes: Mapping[str, Any], metrics: Sequence[str], where: Any
) -> Any:
    import numpy as np

    shape = next(iter(arrays.values())).shape
    flat = {name: np.asarray(array).reshape(-1) for name, array in arrays.items()}
    inside = (
        np.flatnonzero(_holds(axes, arrays, start, where).reshape(-1)) if where else np.arange(len(flat[metrics[0]]))
    )
    kept = inside[_unbeaten(_keys({name: flat[name][inside] for name in metrics}, metrics))]
    places = np.stack(np.unravel_index(kept, shape), axis=1) if shape else np.zeros((len(kept), 0), dtype=int)
    return places + np.asarray(start, dtype=int), {name: array[kept] for name, array in flat.items()}


def _unbeaten(keys: Array) -> Any:
    """Return the rows that no other row equals or beats in every column, and beats in one; of equal ones the first."""
    import numpy as np

    valid = np.flatnonzero(~np.isnan(keys).any(axis=1))
    order = valid[np.lexsort([keys[valid, column] for column in reversed(range(keys.shape[1]))])]
    if keys.shape[1] == 2:
        # Sorted by the first column, a row is unbeaten where the second one falls below all before.
        second = keys[order, 1]
        lowest = np.minimum.accumulate(second)
        first = np.ones(len(order), dtype=bool)
        first[1:] = second[1:] < lowest[:-1]
        return order[first]
    front = np.empty((0, keys.shape[1]))
    best: list[int] = []
    for begin in range(0, len(order), AT_ONCE):
        # What is on the frontier already beats most of the rest at one blow.
        part = order[begin : begin + AT_ONCE]
        for row in front:
            part = part[~(row <= keys[part]).all(axis=1)]
        for index in part:
            if not (front <= keys[index]).all(axis=1).any():
                best.append(int(index))
                front = np.concatenate((front, keys[index : index + 1]))
    return np.asarray(best, dtype=int)


# ---- how values are spread


def histogram_of(found: Sweep, metric: str, bins: int) -> tuple[Array, Array]:
    """Return (counts, edges) over all points."""
    import numpy as np

    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= FINE:
        raise InputError(f"a histogram has 1 to {FINE} bins, not {bins}")
    low, high = _range(found, metric)
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    return sum(over_chunks(found, _counts, metric, edges)), edges


def quantiles_of(found: Sweep, metric: str, shares: Sequence[float]) -> dict[float, float]:
    """Return share → value."""
    import numpy as np

    for share in shares:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(f"a share is a number from 0 to 1, not {share!r}")
    if not found.is_lazy:
        values = np.asarray(found.arrays[metric], dtype=np.float64)
        return {share: float(np.quantile(values, share, method="inverted_cdf")) for share in shares}
    low, high = _range(found, metric)
    bounds = dict.fromkeys(shares, (low, high, 0))
    for _ in range(2):  # each pass looks FINE times closer
        edges = {share: np.linspace(start, end, FINE + 1) for share, (start, end, _below) in bounds.items()}
        unique = {(start, end): edges[share] for share, (start, end, _below) in bounds.items()}
        parts = over_chunks(found, _many_counts, metric, list(unique.values()))
        counts = {key: sum(part[index] for part in parts) for index, key in enumerate(unique)}
        for share, (start, end, _below) in bounds.items():
            own, line = counts[start, end], edges[share]
            rank = max(int(np.ceil(share * found.size)), 1)
            place = min(int(np.searchsorted(np.cumsum(own), rank)), FINE + 1)
            # The first count is of what lies below the line, the last of what lies above.
            place = min(max(place, 1), FINE)
            bounds[share] = (float(line[place - 1]), float(line[place]), 0)
    return {share: bounds[share][1] for share in shares}


def _range(found: Sweep, metric: str) -> tuple[float, float]:
    ends = over_chunks(found, _ends, metric)
    return min(low for low, _ in ends), max(high for _, high in ends)


def _ends(arrays: Mapping[str, Any], _start: Sequence[int], metric: str) -> tuple[float, float]:
    values = arrays[metric]
    return float(values.min()), float(values.max())


def _counts(arrays: Mapping[str, Any], _start: Sequence[int], metric: str, edges: Array) -> Any:
    import numpy as np

    return np.histogram(arrays[metric], bins=edges)[0]


def _many_counts(arrays: Mapping[str, Any], _start: Sequence[int], metric: str, lines: Sequence[Array]) -> Any:
    """Return for each line of edges how many values lie below it, in each of its bins, and above it."""
    import numpy as np

    values = np.asarray(arrays[metric], dtype=np.float64).reshape(-1)
    found = []
    for line in lines:
        width = (line[-1] - line[0]) / (len(line) - 1)
        if width <= 0:
            places = np.where(values <= line[0], 1, len(line))
        else:
            places = np.clip(np.ceil((values - line[0]) / width), 0, len(line)).astype(np.int64)
            places[values == line[0]] = 1
        found.append(np.bincount(places, minlength=len(line) + 1))
    return found
