"""Sweeps: metrics at every point of a grid of values.

>>> found = sweep("gpt2", seq_len=[1, 2, 3], batch_size=[1, 8], metrics=["parameters", "kv_cache_bytes"])
>>> found.table().tail(2)
   seq_len  batch_size   parameters  kv_cache_bytes
4        3           1  124439808.0        110592.0
5        3           8  124439808.0        884736.0
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nbanalyzer import display
from nbanalyzer.analysis.communication import ONE_NODE, Communication
from nbanalyzer.analysis.rates import Efficiency
from nbanalyzer.costs.metrics import is_timed, unit_of
from nbanalyzer.costs.run import NOT_OF_MODEL, SERVED
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import FormulaError, InputError, MissingPackageError, UnknownNameError, quote
from nbanalyzer.formulas.blocks import block_sizes, windows
from nbanalyzer.formulas.formula import parse

from .asked import Asked
from .fitting import Fitting, marks_of
from .gaps import notes_of
from .grid import Grid, require_memory
from .labels import label_of, labels_of, listed
from .partition import Partition, parts_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas
    import xarray

    from .reductions import Conditions, Reduction

__all__ = ["Sweep", "sweep", "usual_metrics"]

METRICS = ("flops", "bytes", "parameters", "kv_cache_bytes")
OF_SERVED = ("time_per_output_token", "lower_bound", "tokens_per_s", "max_concurrency")
BLOCK = 1 << 16  # points that a reduction takes at a time


@dataclass(eq=False, repr=False)
class Sweep(Shown, shown_by="sweep"):
    """The metrics over a grid.

    Attributes:
        model: the model's name, or the number of models; with what those that were drafted were checked against.
        axes: name → its values, in the user's order; the order of the arrays' dimensions.
        metrics: the names of the metrics.
        fixed: name → value, of the options that are no axes.
        arrays: metric → float64 array, lazy where the sweep was made with `chunks`; ``fits`` is of booleans.
        notes: what to know before believing the times.
        fitting: whether points fit into the memory; None without hardware.

    """

    model: str
    axes: Mapping[str, tuple[Any, ...]]
    metrics: tuple[str, ...]
    fixed: Mapping[str, Any]
    arrays: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    fitting: Fitting | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values of each axis."""
        return tuple(len(values) for values in self.axes.values())

    @property
    def size(self) -> int:
        """The number of points."""
        return math.prod(self.shape)

    @property
    def is_lazy(self) -> bool:
        """Whether the arrays are Dask's, to be computed chunk by chunk."""
        return any(hasattr(array, "dask") for array in self.arrays.values())

    def sel(self, **values: Any) -> Sweep:
        """Return the sweep with some axes held at one of their values; those are axes no more."""
        index: list[Any] = [slice(None)] * len(self.axes)
        for name, value in values.items():
            self.require_axis(name)
            if value not in self.axes[name]:
                raise InputError(f"the axis {name} has no {quote(value)}: {listed(self.axes[name])}")
            index[list(self.axes).index(name)] = self.axes[name].index(value)
        axes = {name: choices for name, choices in self.axes.items() if name not in values}
        arrays = {name: array[tuple(index)] for name, array in self.arrays.items()}
        return replace(self, axes=axes, fixed={**self.fixed, **values}, arrays=arrays)

    def require_axis(self, name: str) -> str:
        """Return the name of an axis; raise if it is none."""
        if name not in self.axes:
            raise UnknownNameError("axis", name, tuple(self.axes))
        return name

    def require_metric(self, name: str) -> str:
        """Return the name of a metric of the sweep; raise if it is none."""
        if name not in self.metrics:
            raise UnknownNameError("metric of this sweep", name, self.metrics)
        return name

    def values(self, metric: str) -> Any:
        """Return a metric's numbers as an array of NumPy, computed now if the sweep is lazy."""
        array = self.arrays[self.require_metric(metric)]
        if hasattr(array, "dask"):
            from .chunks import computed

            (array,) = computed([array], array.npartitions)
        return np.asarray(array)

    def fits_at(self, metric: str, axes: Mapping[str, Sequence[Any]], **held: Any) -> npt.NDArray[np.float64] | None:
        """Return where a metric's points fit, see `Fitting.at`; None if it is no time."""
        return self.fitting.at(axes, {**self.fixed, **held}) if self.fitting and is_timed(metric) else None

    # ---- as data

    def table(self) -> pandas.DataFrame:
        """Return one row per point, the last axis running fastest: axes, then metrics; units in ``attrs["units"]``.

        Beside times stands whether the point fits, as a last column ``fits``.
        """
        import pandas

        advice = "sel() a part, or ask best(), frontier(), histogram(), quantiles()"
        require_memory(self.size, len(self.axes) + len(self.metrics), "columns", advice)
        places = np.unravel_index(np.arange(self.size), self.shape) if self.axes else ()
        columns: dict[str, Any] = {
            name: labels_of(values)[place] for (name, values), place in zip(self.axes.items(), places, strict=True)
        }
        columns |= {name: self.values(name).reshape(-1) for name in self.metrics}
        if self.fitting and "fits" not in columns:
            columns["fits"] = marks_of(self.fitting.at(self.axes, self.fixed))
        frame = pandas.DataFrame(columns)
        frame.attrs["units"] = {name: unit_of(name) for name in self.metrics}
        return frame

    def to_xarray(self) -> xarray.Dataset:
        """Return a labelled grid, a variable per metric, with its unit in ``attrs``; lazy if the sweep is.

        Raises:
            MissingPackageError: xarray is not installed.

        """
        try:
            import xarray
        except ImportError:
            raise MissingPackageError("xarray", "for a labelled grid") from None
        data = {name: (tuple(self.axes), array, {"units": unit_of(name)}) for name, array in self.arrays.items()}
        fixed = {name: label_of(value) for name, value in self.fixed.items()}
        coords = {name: labels_of(values) for name, values in self.axes.items()}
        return xarray.Dataset(data, coords=coords, attrs={"model": self.model, **fixed})

    # ---- questions

    def best(
        self, *, minimize: str | None = None, maximize: str | None = None, where: str | Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the best point: axis → value, metric → number and, beside times, whether it ``fits``, None if unknown.

        Args:
            minimize: the metric to make small, or
            maximize: the metric to make large; one of the two.
            where: conditions, formulas over axes and metrics: ``"{time} <= 0.05"``, ``"{fits}"``.

        Raises:
            InputError: no point fulfils the conditions.

        """
        from .reductions import best_of

        asked = [name for name in (minimize, maximize) if name is not None]
        if len(asked) != 1:
            raise InputError("best takes minimize=… or maximize=…, a metric of the sweep")
        sign = -1 if maximize else 1
        place = best_of(self._ask, self.require_metric(asked[0]), sign, self.conditions(where))
        at = {name: values[index] for (name, values), index in zip(self.axes.items(), place, strict=True)}
        found = {**at, **self._numbers_at(place)}
        if self.fitting and "fits" not in found:
            found["fits"] = marks_of(self.fitting.at({}, {**self.fixed, **at})).tolist()[0]
        return found

    def frontier(self, *metrics: str, where: str | Sequence[str] = ()) -> pandas.DataFrame:
        """Return the points that no other one beats in every of two or more metrics: the Pareto frontier.

        Larger values of tokens_per_s, arithmetic_intensity and fits are better, smaller ones of other metrics. Beside
        times stands whether the point ``fits``.

        Args:
            metrics: two or more of the sweep's.
            where: conditions, see `best`.

        """
        import pandas

        from .reductions import frontier_of

        for name in metrics:
            self.require_metric(name)
        if len(set(metrics)) < 2:
            raise InputError("a frontier is of two or more different metrics")
        places, numbers = frontier_of(self._ask, self.metrics, metrics, self.conditions(where))
        axes = enumerate(self.axes.items())
        columns: dict[str, Any] = {name: [values[index] for index in places[:, axis]] for axis, (name, values) in axes}
        if self.fitting and "fits" not in numbers:
            numbers["fits"] = marks_of(self.fitting.at_places(self.axes, places, self.fixed))
        return pandas.DataFrame(columns | numbers)

    def histogram(self, metric: str, bins: int = 50) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (counts, edges) of a metric over all points; chunk by chunk if the sweep is lazy."""
        from .spread import histogram_of

        return histogram_of(self._ask, self.require_metric(metric), bins)

    def quantiles(self, metric: str, shares: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> dict[float, float]:
        """Return share → the value of a metric that this share of the points does not exceed.

        Exact for a sweep in memory. A lazy one is computed twice, in bounded memory, for quantiles within 0.1 %.
        """
        from .spread import near_quantiles_of, quantiles_of

        self.require_metric(metric)
        if self.is_lazy:
            return near_quantiles_of(self._ask, metric, shares)
        return quantiles_of(self.values(metric).reshape(-1).astype("float64"), metric, shares)

    def _ask(self, reduction: Reduction) -> Any:
        """Return a reduction's result, computed block by block in little memory."""
        if self.is_lazy:
            from .chunks import reduced

            return reduced(self.arrays, self.fixed, self.axes, reduction)
        parts = []
        for window in windows(self.shape, block_sizes(self.shape, BLOCK)):
            arrays = {name: self.arrays[name][window] for name in reduction.metrics}
            parts.append(reduction.of(arrays, [part.start for part in window]))
        return reduction.joined(parts)

    def _numbers_at(self, place: tuple[int, ...]) -> dict[str, Any]:
        """Return metric → number at one point."""
        arrays = self.arrays
        if self.is_lazy:
            from .chunks import numbers_at

            arrays, place = numbers_at(self.arrays, self.fixed, self.axes, place), ()
        return {name: arrays[name][place].item() for name in self.metrics}

    def conditions(self, where: str | Sequence[str]) -> Conditions:
        """Return formulas over axes and metrics as conditions, their names checked."""
        from .reductions import Conditions

        formulas = []
        for text in [where] if isinstance(where, str) else where:
            if not isinstance(text, str):
                raise InputError(f"a condition is a formula such as '{{time}} <= 0.05', not {quote(text)}")
            formula = parse(text)
            for name in formula.variables:
                numeric = name in self.axes and all(isinstance(value, int | float) for value in self.axes[name])
                if name not in self.metrics and not numeric:
                    choices = (*self.axes, *self.metrics)
                    raise FormulaError(f"{{{name}}} is no axis or metric of numbers: {', '.join(choices)}", text)
            formulas.append(formula)
        return Conditions.of(formulas, self.axes, self.metrics)

    # ---- how it is shown

    def plot(self, metric: str | None = None, *, x: str | None = None, hue: str | None = None) -> Picture:
        """Return lines of a metric along an axis, a line for each value of another axis.

        Args:
            metric: of the sweep; the first one if None.
            x: an axis of numbers; the longest one if None.
            hue: another axis, if there is one.

        Raises:
            InputError: there is a further axis, which `sel` has to hold at one value.

        """
        return display.figure(self, "line_chart", metric, x, hue)

    def heatmap(self, metric: str | None = None, *, x: str | None = None, y: str | None = None) -> Picture:
        """Return a metric over two axes as colours; `sel` has to hold other axes at one value."""
        return display.figure(self, "heatmap", metric, x, y)


def sweep(
    model: Any,
    *,
    metrics: Sequence[str] | str | None = None,
    config: object = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 - the users' word: --set
    chunks: int | str | None = None,
    compute_efficiency: float = 1.0,
    bandwidth_efficiency: float = 1.0,
    launch_overhead: float = 0.0,
    profile: Any = None,
    price: float | None = None,
    grid: float | None = None,
    nodes: int = 1,
    overlap: float = 0.0,
    **options: Any,
) -> Sweep:
    """Return metrics over a grid of values.

    Args:
        model: as for `populate`; a list of several is an axis.
        metrics: names, see `nbanalyzer.costs.metrics.METRICS`; times need hardware. `usual_metrics` if None.
        config: as for `populate`.
        set: config values that are the same everywhere, as for `populate`.
        chunks: points to compute at a time, or ``"auto"``: the arrays are then Dask's, computed on demand, on a
            ``dask.distributed`` cluster if there is a client.
        compute_efficiency: with `bandwidth_efficiency` and `launch_overhead`, as for `Analysis.on`.
        bandwidth_efficiency: see above.
        launch_overhead: see above.
        profile: what ``estimate``, and cost and energy, are made with, as for `Analysis.on`.
        price: $ an hour of the accelerator, for the metric ``cost_per_million_tokens``.
        grid: g of CO2 a kWh, for the metric ``co2_per_million_tokens``.
        nodes: with `overlap`, of several devices, as for `Analysis.on`.
        overlap: see above.
        options: axes and fixed values: sizes and switches of a run, hardware, config values (``num_kv_heads=[1, 8]``);
            or prompt_len and output_len, for whole requests, and a concurrency for requests that are served all the
            time. An option with several values is an axis.

    Raises:
        NBAnalyzerError: bad input; without `chunks`, a grid that does not fit into memory.

    """
    chosen = usual_metrics(options, metrics)
    if not chosen:
        raise InputError("a sweep needs a metric")
    sizes = dict(set or {})
    for name in sizes:
        if name in NOT_OF_MODEL:
            raise InputError(f"{name} is not part of a model: give it as an option of its own")
        if name in options:
            raise InputError(f"{name} is given twice: in set, and as an option")
    space = Grid.of({"model": model, **sizes, **options}, lambda shape: _require_possible(shape, chosen, chunks))
    efficiency = Efficiency(compute=compute_efficiency, bandwidth=bandwidth_efficiency, launch_overhead=launch_overhead)
    mesh = Communication(nodes, overlap)
    if mesh != ONE_NODE and "hardware" not in {**space.axes, **space.fixed}:
        raise InputError("nodes and overlap need hardware: give hardware=…, such as 'h100-sxm'")
    parts = tuple(parts_of(space, Asked(chosen, config, efficiency, profile, price, grid, mesh)))
    drafted = filter(None, dict.fromkeys(part.compiled.spec.tree.template.drafted for part in parts))
    fixed = {option: value for option, value in space.fixed.items() if option != "model"}
    if not efficiency.is_perfect:
        fixed |= {"compute_efficiency": compute_efficiency, "bandwidth_efficiency": bandwidth_efficiency}
        fixed["launch_overhead"] = launch_overhead
    given = {"profile": profile, "price": price, "grid": grid}
    fixed |= {name: value for name, value in given.items() if value is not None}
    fixed |= {name: value for name, value in asdict(mesh).items() if value != getattr(ONE_NODE, name)}
    partition = Partition(space, parts, chosen)
    notes = notes_of(parts, space.axes)
    if chunks is None:
        arrays = partition.everything()
    else:
        from .chunks import arrays_of

        arrays = arrays_of(partition, chunks)
    fitting = None
    if "hardware" in {**space.axes, **space.fixed} and any(map(is_timed, chosen)):
        fitting = Fitting(space.fixed, {axis: values[0] for axis, values in space.axes.items()}, config)
    return Sweep(
        "; ".join((partition.title, *drafted)),
        space.axes,
        chosen,
        fixed,
        arrays,
        notes if fitting else (),
        fitting,
    )


def usual_metrics(options: Collection[str], metrics: Sequence[str] | str | None = None) -> tuple[str, ...]:
    """Return metrics as they were asked for, each once; if None, those that the options of a sweep suggest."""
    if metrics is None:
        return OF_SERVED if SERVED in options else METRICS
    return (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))


def _require_possible(shape: tuple[int, ...], metrics: tuple[str, ...], chunks: int | str | None) -> None:
    """Raise if a grid's numbers do not fit into memory, or into as many chunks as Dask can take."""
    if chunks is None:
        advice = "give chunks='auto', which computes them when they are asked for"
        require_memory(math.prod(shape), len(metrics), "metrics", advice)
    else:
        from .chunks import require_chunks

        require_chunks(shape, chunks)
