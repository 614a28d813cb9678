"""Grids in blocks that fit a cache, and reusable arrays to compute a block in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from threading import local
from typing import Any

__all__ = ["balanced_sizes", "block_sizes", "part_of", "scratch", "windows"]

BLOCK = 32_768  # points: 256 KiB an array, a few of which stay in a core's own cache
INNER = 1024  # points along the last axis: long enough for NumPy's inner loop

_kept = local()


def scratch(name: str, size: int, dtype: str = "float64") -> Any:
    """Return a one-dimensional array for intermediate numbers, a reusable buffer of this name and thread.

    Allocating memory anew costs more than the arithmetic, above all on Dask's workers, whose allocator frees at once.
    """
    import numpy as np

    arrays: dict[str, Any] = _kept.__dict__
    if name not in arrays or arrays[name].size < size:
        arrays[name] = np.empty(size, dtype=dtype)
    return arrays[name][:size]


def balanced_sizes(shape: Sequence[int], points: int) -> list[int]:
    """Return the sizes of a block of at most `points` points: long along the last axis, even along the others.

    What depends on some of the axes only has few points in such a block, and is cheap.
    """
    if not shape:
        return []
    sizes = [1] * len(shape)
    sizes[-1] = max(1, min(shape[-1], INNER, points))
    rest = max(1, points // sizes[-1])
    axes = sorted(range(len(shape) - 1), key=lambda axis: shape[axis])
    for done, axis in enumerate(axes):
        share = int(rest ** (1 / (len(axes) - done)) + 1e-9)
        sizes[axis] = max(1, min(shape[axis], share))
        rest //= sizes[axis]
    sizes[-1] = min(shape[-1], sizes[-1] * rest)
    return sizes


def block_sizes(shape: Sequence[int], points: int = BLOCK) -> list[int]:
    """Return the sizes of a block of at most `points` points: whole along the last axes."""
    sizes = []
    rest = max(points, 1)
    for size in reversed(shape):
        sizes.append(max(1, min(size, rest)))
        rest //= sizes[-1]
    return sizes[::-1]


def windows(shape: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the blocks of a grid, as slices along its axes."""
    starts = (range(0, size, step) for size, step in zip(shape, sizes, strict=True))
    for corner in product(*starts):
        yield tuple(slice(at, min(at + step, size)) for at, step, size in zip(corner, sizes, shape, strict=True))


def part_of(array: Any, window: Sequence[slice]) -> Any:
    """Return a window of an array over the grid; along an axis of size 1, all of it."""
    parts = zip(window, array.shape, strict=True)
    return array[tuple(part if size > 1 else slice(None) for part, size in parts)]
