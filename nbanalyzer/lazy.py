"""Sweeps beyond the memory: Dask arrays whose chunks are computed when they are asked for.

One task evaluates all metrics over a chunk, and one more takes each metric out of it. The tasks run where Dask runs
them: on this machine's threads, or on the cluster of the ``dask.distributed`` client that the user has made.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .errors import InputError, MissingPackageError, quote
from .plan import block_sizes

if TYPE_CHECKING:
    from .sweep import Job

__all__ = ["CHUNK", "arrays_of", "computed"]

CHUNK = 1 << 22  # points, by default: 32 MiB a metric


def arrays_of(job: Job, chunks: int | str) -> dict[str, Any]:
    """Return metric → Dask array over a job's grid, in chunks of at most so many points, whole along the last axes.

    Raises:
        InputError: `chunks` is neither ``"auto"`` nor a number of points.
        MissingPackageError: Dask is not installed.

    """
    try:
        import dask.array
        from dask.delayed import delayed
    except ImportError:
        raise MissingPackageError("dask", "for a sweep in chunks") from None
    import numpy as np

    points = CHUNK if chunks == "auto" else chunks
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        raise InputError(f"chunks is a number of points, or 'auto', not {quote(chunks)}")
    shape = job.grid.shape
    pieces = tuple(_pieces(size, step) for size, step in zip(shape, block_sizes(shape, points), strict=True))
    shared = delayed(job, traverse=False)
    stacked = dask.array.map_blocks(
        _chunk,
        shared,
        chunks=((len(job.metrics),), *(tuple(piece) for piece in pieces)),
        dtype=np.float64,
        meta=np.empty((0,) * (len(shape) + 1)),
    )
    return {
        name: stacked[place].astype(bool) if name == "fits" else stacked[place]
        for place, name in enumerate(job.metrics)
    }


def _pieces(size: int, step: int) -> list[int]:
    return [min(step, size - start) for start in range(0, size, step)]


def _chunk(job: Job, block_info: Any = None) -> Any:
    """Return a chunk: the metrics along the first axis, then the grid's axes."""
    import numpy as np

    _, *bounds = block_info[None]["array-location"]
    window = tuple(slice(start, stop) for start, stop in bounds)
    found = np.empty((len(job.metrics), *(one.stop - one.start for one in window)))
    job.part(window, dict(zip(job.metrics, found, strict=True)))
    return found


def computed(values: Any) -> Any:
    """Return what Dask collections come to, showing a bar on stderr where they are computed on this machine."""
    from dask.base import compute
    from dask.diagnostics.progress import ProgressBar

    if _has_client():
        return compute(values)[0]
    with ProgressBar(minimum=1.0, out=sys.stderr):
        return compute(values)[0]


def _has_client() -> bool:
    try:
        from distributed import default_client

        default_client()
    except (ImportError, ValueError):
        return False
    return True
