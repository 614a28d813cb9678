"""Sweeps larger than memory: Dask arrays, computed in chunks on demand.

One task evaluates all metrics over a chunk, and one more takes each metric out of it. A reduction of a whole sweep
(its best point, a histogram) is one task a chunk, which is evaluated and reduced block by block and never stored. Dask
runs the tasks on this machine's threads, or on the cluster of the user's ``dask.distributed`` client.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from nbanalyzer.errors import InputError, MissingPackageError, quote
from nbanalyzer.formulas.blocks import balanced_sizes, block_sizes, scratch, windows
from nbanalyzer.progress import shown, tell

if TYPE_CHECKING:
    from .partition import Partition
    from .reductions import Reduction

__all__ = ["CHUNK", "arrays_of", "computed", "numbers_at", "reduced", "require_chunks"]

CHUNK = 1 << 22  # points of a task by default: 32 MiB a metric if stored
BLOCK = 1 << 17  # points that are evaluated and reduced at a time: 1 MiB a metric, which stays in the caches
MOST_TASKS = 10_000  # of one sweep; each takes Dask about 2 kB and 30 µs
PATIENCE = 0.5  # seconds until progress is reported
WORK = "nbanalyzer-sweep-"


@dataclass(frozen=True, eq=False)
class Work:
    """The shared input of a sweep's tasks, sent to every worker once.

    Attributes:
        partition: the sweep's.
        points: of a chunk, at most.

    """

    partition: Partition
    points: int


def require_chunks(shape: Sequence[int], chunks: int | str) -> int:
    """Return the points of a chunk, at most.

    Raises:
        InputError: `chunks` is neither ``"auto"`` nor a number of points, or makes more tasks than Dask can take.

    """
    points = CHUNK if chunks == "auto" else chunks
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        raise InputError(f"chunks is a number of points, or 'auto', not {quote(chunks)}")
    tasks = prod(-(-size // step) for size, step in zip(shape, block_sizes(shape, points), strict=True))
    if tasks > MOST_TASKS:
        least = -(-prod(shape) // MOST_TASKS)
        raise InputError(
            f"{prod(shape):,} points in chunks of {points:,} are {tasks:,} tasks, and Dask takes {MOST_TASKS:,} at "
            f"once: give chunks={max(least, 2 * points)} or more, or fewer points"
        )
    return points


def arrays_of(partition: Partition, chunks: int | str) -> dict[str, Any]:
    """Return metric → Dask array over a partition's grid, in chunks whole along the last axes.

    Raises:
        InputError: as `require_chunks`.
        MissingPackageError: Dask is not installed.

    """
    try:
        import dask.array
        from dask.base import tokenize
        from dask.delayed import delayed
    except ImportError:
        raise MissingPackageError("dask", "for a sweep in chunks") from None
    shape = partition.grid.shape
    work = Work(partition, require_chunks(shape, chunks))
    _compile(partition)
    lengths = dask.array.core.normalize_chunks(tuple(block_sizes(shape, work.points)), shape)
    stacked = dask.array.map_blocks(
        _chunk,
        delayed(work, name=f"{WORK}{tokenize(object())}", traverse=False),
        chunks=((len(partition.metrics),), *lengths),
        dtype=np.float64,
        meta=np.empty((0,) * (len(shape) + 1)),
    )
    return {
        name: stacked[place].astype(bool) if name == "fits" else stacked[place]
        for place, name in enumerate(partition.metrics)
    }


def _compile(partition: Partition) -> None:
    """Evaluate one point of every part: the programs are then compiled for all threads and workers."""
    inner = set(partition.grid.axes)
    for part in partition.parts:
        inner &= {*part.compiled.spec.inner}.difference(part.spans)
    window = tuple(slice(0, 1 if name in inner else len(values)) for name, values in partition.grid.axes.items())
    _evaluated(partition, window, partition.metrics)


def _chunk(work: Work, block_info: Any = None) -> Any:
    """Return a chunk: the metrics along the first axis, then the grid's axes."""
    _, *bounds = block_info[None]["array-location"]
    window = tuple(slice(start, stop) for start, stop in bounds)
    numbers = np.empty((len(work.partition.metrics), *(part.stop - part.start for part in window)))
    work.partition.compute(window, dict(zip(work.partition.metrics, numbers, strict=True)))
    return numbers


def _evaluated(partition: Partition, window: tuple[slice, ...], metrics: Sequence[str]) -> dict[str, Any]:
    """Return metric → its numbers over a part of the grid, valid until this thread evaluates another part."""
    if any(part.compiled.spec.lengths is not None for part in partition.parts):
        metrics = partition.metrics  # a request's metrics are computed together
    shape = tuple(part.stop - part.start for part in window)
    arrays = {
        name: scratch(f"metric {name}", prod(shape), "bool" if name == "fits" else "float64").reshape(shape)
        for name in metrics
    }
    partition.compute(window, arrays)
    return arrays


# ---- reducing


def reduced(arrays: Mapping[str, Any], fixed: Mapping[str, Any], axes: Collection[str], reduction: Reduction) -> Any:
    """Return a reduction's result for a lazy sweep, or for a part of one.

    Args:
        arrays: metric → the array of `arrays_of`, or a part of it.
        fixed: axis → the value that it is held at, for axes that the arrays no longer have.
        axes: the axes that the arrays have.
        reduction: what to compute.

    """
    from dask.delayed import delayed

    key, work = _work_of(arrays)
    grid = work.partition.grid
    held = _held(work, fixed, axes)
    shape = [1 if name in held else size for name, size in zip(grid.axes, grid.shape, strict=True)]
    corner = [held.get(name, 0) for name in grid.axes]
    shared = delayed(work, name=key, traverse=False)
    asked = delayed(reduction, traverse=False)
    task = delayed(_reduced, pure=False, traverse=False)
    tasks = []
    for window in windows(shape, balanced_sizes(shape, work.points)):
        bounds = tuple((part.start + at, part.stop + at) for part, at in zip(window, corner, strict=True))
        tasks.append(task(shared, asked, bounds, tuple(held)))
    # Groups of results are joined on the workers: all of them in one place may be too large.
    join = delayed(_joined, pure=False, traverse=False)
    size = max(1, isqrt(len(tasks)))
    groups = [join(asked, tasks[at : at + size]) for at in range(0, len(tasks), size)] if size > 1 else tasks
    return reduction.joined(computed(groups, len(tasks)))


def _joined(reduction: Reduction, parts: Sequence[Any]) -> Any:
    return reduction.joined(parts)


def numbers_at(
    arrays: Mapping[str, Any], fixed: Mapping[str, Any], axes: Collection[str], place: Sequence[int]
) -> dict[str, Any]:
    """Return metric → number at a point of a lazy sweep, given its index along every axis; else as `reduced`."""
    _, work = _work_of(arrays)
    places = dict(zip(axes, place, strict=True)) | _held(work, fixed, axes)
    window = tuple(slice(places[name], places[name] + 1) for name in work.partition.grid.axes)
    arrays_there = _evaluated(work.partition, window, work.partition.metrics)
    return {name: array.reshape(()) for name, array in arrays_there.items()}


def _held(work: Work, fixed: Mapping[str, Any], axes: Collection[str]) -> dict[str, int]:
    """Return axis → the index of its value, for axes that the arrays no longer have."""
    return {name: values.index(fixed[name]) for name, values in work.partition.grid.axes.items() if name not in axes}


def _work_of(arrays: Mapping[str, Any]) -> tuple[str, Work]:
    """Return the `Work` of a lazy sweep's arrays, with its key in their graph."""
    from dask.local import get_sync

    layers = next(iter(arrays.values())).__dask_graph__().layers
    key = next(name for name in layers if name.startswith(WORK))
    work: Work = get_sync(layers[key], key)  # public, whatever a graph's format
    return key, work


def _reduced(work: Work, reduction: Reduction, bounds: Sequence[tuple[int, int]], held: Sequence[str]) -> Any:
    """Return a reduction's result for a chunk, evaluated block by block."""
    names = list(work.partition.grid.axes)
    shape = [stop - start for start, stop in bounds]
    dropped = tuple(axis for axis, name in enumerate(names) if name in held)
    parts: list[Any] = []
    for window in windows(shape, balanced_sizes(shape, BLOCK)):
        inside = tuple(
            slice(start + part.start, start + part.stop) for part, (start, _) in zip(window, bounds, strict=True)
        )
        arrays = _evaluated(work.partition, inside, reduction.metrics)
        start = [part.start for axis, part in enumerate(inside) if axis not in dropped]
        parts.append(reduction.of({name: array.squeeze(dropped) for name, array in arrays.items()}, start))
        if len(parts) == 64:
            parts = [reduction.joined(parts)]
    return reduction.joined(parts)


# ---- computing, with progress


def computed(tasks: Sequence[Any], chunks: int) -> list[Any]:
    """Return the results of Dask's tasks, which compute `chunks` chunks, and report progress.

    On an error or an interrupt, the tasks are cancelled on the cluster.
    """
    client = _client()
    with shown():
        return _on_cluster(client, tasks) if client else _on_this_machine(tasks, chunks)


def _on_this_machine(tasks: Sequence[Any], chunks: int) -> list[Any]:
    from dask.base import compute
    from dask.callbacks import Callback

    one_more = _told(chunks)
    with Callback(posttask=lambda *_: one_more()):
        return list(compute(*tasks))


def _on_cluster(client: Any, tasks: Sequence[Any]) -> list[Any]:
    from distributed import as_completed

    futures = client.compute(list(tasks))
    try:
        one_more = _told(len(tasks))
        for _ in as_completed(futures):
            one_more()
        return list(client.gather(futures))
    except BaseException:
        client.cancel(futures, force=True)
        raise


def _client() -> Any:
    """Return the user's client of ``dask.distributed``, None if there is none."""
    if "distributed" not in sys.modules:
        return None  # a client's module is imported
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _told(number: int) -> Callable[[], None]:
    """Return a function to call after each of `number` tasks, which reports progress if they take long."""
    begin, done = monotonic(), 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if monotonic() - begin > PATIENCE:
            tell("sweep", min(done / number, 1.0))

    return one_more
