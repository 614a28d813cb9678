"""The work of a sweep: the compiled formulas that cover a grid, each its own part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.analysis.populate import prepared
from nbanalyzer.analysis.roofline import Efficiency
from nbanalyzer.costs.count import params_of
from nbanalyzer.costs.run import CHOICES, REQUEST, TOKENS, Run
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError
from nbanalyzer.hardware import Accelerator
from nbanalyzer.hardware import hardware as find_hardware
from nbanalyzer.quantities import si
from nbanalyzer.templates.config import ModelParams

from .compiled import Surface
from .grid import Grid, available_memory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["Cell", "Job", "cells_of", "require_memory"]


@dataclass(frozen=True, eq=False)
class Cell:
    """The part of a grid that one set of compiled formulas covers.

    Attributes:
        at: outer axis → the place of this cell's value.
        surface: the formulas.

    """

    at: Mapping[str, int]
    surface: Surface


@dataclass(frozen=True, eq=False)
class Job:
    """A sweep's work: the grid and the compiled cells that cover it."""

    grid: Grid
    cells: tuple[Cell, ...]
    metrics: tuple[str, ...]

    @cached_property
    def values(self) -> dict[str, Array]:
        """Inner axis → its values, of one dimension."""
        import numpy as np

        inner = self.cells[0].surface.inner
        return {name: np.asarray(self.grid.axes[name], dtype=np.float64) for name in inner}

    def everything(self) -> dict[str, Any]:
        """Return metric → array over the whole grid, which has to fit into memory."""
        import numpy as np

        found: dict[str, Any] = {
            name: np.empty(self.grid.shape, dtype=bool if name == "fits" else np.float64) for name in self.metrics
        }
        self.part(tuple(slice(0, size) for size in self.grid.shape), found)
        return found

    def part(self, window: tuple[slice, ...], out: Mapping[str, Any]) -> None:
        """Compute a part of the grid, a slice with start and stop per axis, into arrays of its shape."""
        names = list(self.grid.axes)
        shape = tuple(one.stop - one.start for one in window)
        for cell in self.cells:
            place: list[Any] = []
            for name, one in zip(names, window, strict=True):
                at = cell.at.get(name)
                place.append(slice(None) if at is None else at - one.start)
            if any(not isinstance(at, slice) and not 0 <= at < size for at, size in zip(place, shape, strict=True)):
                continue
            inner = [window[names.index(name)] for name in cell.surface.inner]
            # The dots: where nothing but places is left, it is still a view, not a number.
            cell.surface.evaluate(self.values, inner, {name: array[(*place, ...)] for name, array in out.items()})


def require_memory(shape: Sequence[int], metrics: tuple[str, ...]) -> None:
    """Raise an `InputError` if a grid's numbers do not fit into memory."""
    size = prod(shape)
    need, there = 8 * size * len(metrics), available_memory()
    if need > there // 2:
        raise InputError(
            f"{size:,} points in {len(metrics)} metrics are {si(need, 'B')}, and there are {si(there, 'B')} of "
            "memory: give chunks='auto', which computes them when they are asked for"
        )


def cells_of(grid: Grid, metrics: tuple[str, ...], config: object, efficiency: Efficiency) -> Iterator[Cell]:
    """Yield the cells of a grid: one for each combination of what has formulas of its own."""
    outer = [name for name in grid.axes if name in CHOICES]
    inner = tuple(name for name in grid.axes if name not in CHOICES)
    is_request = any(name in {*grid.axes, *grid.fixed} for name in REQUEST)
    _require_lengths(grid, is_request)
    for places in product(*(range(len(grid.axes[name])) for name in outer)):
        at = dict(zip(outer, places, strict=True))
        chosen = {**grid.fixed, **{name: grid.axes[name][place] for name, place in at.items()}}
        yield Cell(at, _surface(grid, inner, chosen, metrics, config, efficiency, is_request))


def _require_lengths(grid: Grid, is_request: bool) -> None:
    given = {*grid.axes, *grid.fixed}
    if not is_request:
        return
    for name in REQUEST:
        if name not in given:
            raise InputError(f"a request has both prompt_len and output_len: {name} is missing")
    for name in ("seq_len", "cache_len", "encoder_len"):
        if name in given:
            raise InputError(f"a request takes prompt_len and output_len, not {name}")


def _surface(
    grid: Grid,
    inner: tuple[str, ...],
    chosen: Mapping[str, Any],
    metrics: tuple[str, ...],
    config: object,
    efficiency: Efficiency,
    is_request: bool,
) -> Surface:
    tokens = {
        name: chosen[name] for name in (*TOKENS, *CHOICES) if name in chosen and name not in {"model", "hardware"}
    }
    if is_request:
        tokens = {"logits": "last", **tokens}
    sizes = {name: value for name, value in chosen.items() if name not in {*TOKENS, *CHOICES, *REQUEST}}
    changing = [name for name in inner if name not in {*TOKENS, *REQUEST}]
    lengths = {name: grid.axes[name][0] for name in inner if name in TOKENS}
    first = {name: grid.axes[name][0] for name in changing}
    tree, params, run, _ = prepared(chosen["model"], config, {**sizes, **first}, {**tokens, **lengths})
    for name in inner:
        if name in {"cache_len", "encoder_len"} and name not in tree.variables:
            raise InputError(f"{name} changes nothing: no formula of this model uses it")
    card = find_hardware(chosen["hardware"]) if chosen.get("hardware") is not None else None
    of_request = tuple((name, chosen[name]) for name in REQUEST if name in chosen) if is_request else None
    if changing:
        Analysis(tree, params, run)  # as in `_compiled`
        arrays = _params(tree, config, sizes, {name: grid.axes[name] for name in changing}, inner)
        return Surface(
            tree, run, arrays, inner, metrics, card, efficiency, None if of_request is None else dict(of_request)
        )
    return _compiled(tree, run, tuple(params.items()), inner, metrics, card, efficiency, of_request)


@lru_cache(maxsize=256)
def _compiled(
    tree: Tree,
    run: Run,
    params: tuple[tuple[str, int], ...],
    inner: tuple[str, ...],
    metrics: tuple[str, ...],
    card: Accelerator | None,
    efficiency: Efficiency,
    lengths: tuple[tuple[str, int], ...] | None,
) -> Surface:
    """Return a surface that has been asked for before with what it has compiled since."""
    # The first point goes the way of a single analysis, which checks everything that can be wrong with the numbers.
    Analysis(tree, ModelParams(dict(params)), run)
    return Surface(
        tree, run, dict(params), inner, metrics, card, efficiency, None if lengths is None else dict(lengths)
    )


def _params(
    tree: Tree, config: object, sizes: Mapping[str, int], changing: Mapping[str, Sequence[int]], inner: Sequence[str]
) -> dict[str, Any]:
    """Return the model's sizes; those that config axes change as arrays, with one dimension per inner axis."""
    import numpy as np

    shape = tuple(len(changing[name]) if name in changing else 1 for name in inner)
    found = [
        params_of(tree, config, {**sizes, **dict(zip(changing, values, strict=True))})
        for values in product(*changing.values())
    ]
    params: dict[str, Any] = {}
    for name in tree.variables:
        if name not in found[0]:
            continue
        values = [one[name] for one in found]
        if len(set(values)) == 1:
            params[name] = values[0]
            continue
        array = np.asarray(values, dtype=np.float64).reshape(shape)
        for axis in range(len(shape)):  # along an axis that does not change it, one value is enough
            first = array.take([0], axis=axis)
            if shape[axis] > 1 and np.array_equal(array, np.broadcast_to(first, array.shape)):
                array = first
        params[name] = array
    return params
