"""A grid in parts, each covered by one set of compiled metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from nbanalyzer.analysis.populate import prepared
from nbanalyzer.analysis.price import Price
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import fused, params_of, with_media
from nbanalyzer.costs.metrics import OF_ENGINE, OF_ESTIMATE
from nbanalyzer.costs.run import CHOICES, MEDIA, NOT_OF_MODEL, REQUEST, RUN_CHOICES, SERVED, TOKENS, Run
from nbanalyzer.costs.stored import require_storable
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError, NotModelledError
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.hardware.profiles import profile as find_profile
from nbanalyzer.templates.config import ModelParams

from .asked import Asked
from .compiled import CompiledMetrics, Spec
from .grid import Grid
from .points import EXPECTED, MOST_POINTS, PointMetrics, PointSpec

__all__ = ["Part", "Partition", "parts_of"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """The part of a grid that one set of compiled metrics covers.

    Attributes:
        at: outer axis → the index of this part's value.
        compiled: the metrics.
        spans: inner axis → the first of its values that the part covers, and the one behind the last; of other inner
            axes it covers all.

    """

    at: Mapping[str, int]
    compiled: CompiledMetrics | PointMetrics
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Partition:
    """A grid, the parts that cover it, and the metrics of the sweep."""

    grid: Grid
    parts: tuple[Part, ...]
    metrics: tuple[str, ...]

    @property
    def title(self) -> str:
        """The model's name, or the number of models."""
        if "model" in self.grid.axes:
            return f"{len(self.grid.axes['model'])} models"
        template = self.parts[0].compiled.spec.tree.template
        return template.model_id or template.architecture or "template"

    @cached_property
    def values(self) -> dict[str, Array]:
        """Inner axis → its values, one-dimensional."""
        inner = {name for part in self.parts for name in part.compiled.spec.inner}
        return {name: np.asarray(values, dtype=np.float64) for name, values in self.grid.axes.items() if name in inner}

    def everything(self) -> dict[str, Any]:
        """Return metric → array over the whole grid, which has to fit into memory."""
        arrays: dict[str, Any] = {
            name: np.empty(self.grid.shape, dtype=bool if name == "fits" else np.float64) for name in self.metrics
        }
        self.compute(tuple(slice(0, size) for size in self.grid.shape), arrays)
        return arrays

    def compute(self, window: tuple[slice, ...], out: Mapping[str, Any]) -> None:
        """Compute a part of the grid, a slice with start and stop per axis, into arrays of its shape."""
        for part in self.parts:
            place: list[Any] = []
            inner: dict[str, slice] = {}
            for name, along in zip(self.grid.axes, window, strict=True):
                if name in part.at:
                    start, stop = part.at[name], part.at[name] + 1
                else:
                    start, stop = part.spans.get(name, (along.start, along.stop))
                start, stop = max(start, along.start), min(stop, along.stop)
                if start >= stop:
                    break
                inner[name] = slice(start, stop)
                place.append(start - along.start if name in part.at else slice(start - along.start, stop - along.start))
            else:
                covered = [inner[name] for name in part.compiled.spec.inner]
                # The dots make a view, not a number, where all axes are indexed.
                views = {name: array[(*place, ...)] for name, array in out.items()}
                part.compiled.evaluate(self.values, covered, views)


def parts_of(grid: Grid, asked: Asked) -> Iterator[Part]:
    """Yield the parts of a grid, one for each combination of the options with formulas of their own."""
    outer = [name for name in grid.axes if name in CHOICES]
    is_by_point = SERVED in {*grid.axes, *grid.fixed}
    asked.require_used(EXPECTED if SERVED in {*grid.axes, *grid.fixed} else OF_ESTIMATE)
    _require_lengths(grid, is_by_point=is_by_point)
    for places in product(*(range(len(grid.axes[name])) for name in outer)):
        at = dict(zip(outer, places, strict=True))
        chosen = {**grid.fixed, **{name: grid.axes[name][place] for name, place in at.items()}}
        if is_by_point:
            yield Part(at, _by_point(grid, chosen, asked))
            continue
        length = "prompt_len" if _is_request(grid) else "seq_len"
        single = _single(grid, chosen, length, asked.metrics)
        if single is None:
            yield Part(at, _compiled(grid, chosen, asked))
            continue
        yield Part({**at, length: single}, _compiled(grid, {**chosen, length: 1}, asked))
        lengths = grid.axes[length]
        spans = [(start, stop) for start, stop in ((0, single), (single + 1, len(lengths))) if start < stop]
        others = {**grid.axes, length: tuple(value for value in lengths if value != 1)}
        compiled = _compiled(replace(grid, axes=others), chosen, asked)
        for span in spans:
            yield Part(at, compiled, {length: span})


def _single(grid: Grid, chosen: Mapping[str, Any], length: str, metrics: Sequence[str]) -> int | None:
    """Return the place of 1 among other new tokens, where one runs other kernels, or verifies drafts; else None."""
    of_engine = chosen.get("fusion") == "engine" or not set(OF_ENGINE).isdisjoint(metrics)
    values = grid.axes.get(length, ())
    return values.index(1) if (of_engine or chosen.get("mtp")) and len(values) > 1 and 1 in values else None


def _is_request(grid: Grid) -> bool:
    return any(name in {*grid.axes, *grid.fixed} for name in REQUEST)


def _require_lengths(grid: Grid, *, is_by_point: bool) -> None:
    if is_by_point and not _is_request(grid):
        raise InputError("concurrency is of requests: give prompt_len and output_len as well")
    if is_by_point and grid.size > MOST_POINTS:
        raise InputError(f"served requests are worked out one by one, {MOST_POINTS:,} at most, not {grid.size:,}")
    if not _is_request(grid):
        return
    given = {*grid.axes, *grid.fixed}
    for name in REQUEST:
        if name not in given:
            raise InputError(f"a request has both prompt_len and output_len: {name} is missing")
    for name in ("seq_len", "cache_len", "encoder_len"):
        if name in given:
            raise InputError(f"a request takes prompt_len and output_len, not {name}")


def _by_point(grid: Grid, chosen: Mapping[str, Any], asked: Asked) -> PointMetrics:
    """Return the metrics for the values chosen on the outer axes, which requests are asked for one by one."""
    inner = {name: values[0] for name, values in grid.axes.items() if name not in CHOICES}
    options = {name: chosen[name] for name in (*REQUEST, *TOKENS, *RUN_CHOICES) if name in chosen}
    sizes = {name: value for name, value in chosen.items() if name not in NOT_OF_MODEL}
    first = {name: value for name, value in inner.items() if name not in NOT_OF_MODEL}
    tree = prepared(chosen["model"], asked.config, {**sizes, **first}, {})[0]
    accelerator = find_hardware(chosen["hardware"]) if chosen.get("hardware") is not None else None
    concurrency: int = inner[SERVED] if SERVED in inner else chosen[SERVED]
    return PointMetrics(PointSpec(chosen["model"], tree, inner, asked, options, sizes, concurrency, accelerator))


def _compiled(grid: Grid, chosen: Mapping[str, Any], asked: Asked) -> CompiledMetrics:
    """Return the metrics for the values chosen on the outer axes, over the inner axes."""
    metrics, config = asked.metrics, asked.config
    inner = tuple(name for name in grid.axes if name not in CHOICES and name not in chosen)
    options = {name: chosen[name] for name in (*TOKENS, *RUN_CHOICES) if name in chosen}
    lengths = None
    if _is_request(grid):
        options = {"logits": "last", **options}
        lengths = tuple((name, chosen[name]) for name in REQUEST if name in chosen)
    sizes = {name: value for name, value in chosen.items() if name not in {*TOKENS, *CHOICES, *REQUEST}}
    changing = {name: grid.axes[name] for name in inner if name not in {*TOKENS, *REQUEST}}
    first = {name: values[0] for name, values in changing.items()}
    options |= {name: grid.axes[name][0] for name in inner if name in TOKENS}
    _require_room(grid, chosen, options, asked)
    if lengths is not None and not set(MEDIA).isdisjoint(options):  # the prompt has room for them
        options["seq_len"] = chosen["prompt_len"] if "prompt_len" in chosen else max(grid.axes["prompt_len"])
    if options.get("mtp"):
        at_least = {name: min(grid.axes[name]) for name in ("cache_len", "prompt_len") if name in grid.axes}
        options |= {name: value for name, value in at_least.items() if name == "cache_len"}  # none drafts after none
        if {**chosen, **at_least}.get("prompt_len") == 1:
            raise InputError(f"mtp={options['mtp']}: a prompt of one token has no drafts to verify: give prompt_len")
    tree, params, run, _ = prepared(chosen["model"], config, {**sizes, **first}, options)
    for name in inner:
        if name in {"cache_len", "encoder_len"} and name not in tree.variables:
            raise InputError(f"{name} changes nothing: no formula of this model uses it")
    accelerator = find_hardware(chosen["hardware"]) if chosen.get("hardware") is not None else None
    found = find_profile(asked.profile, accelerator) if accelerator else None
    used = dict.fromkeys(tree.variables)
    if not set(OF_ENGINE).isdisjoint(metrics):
        # Laws speak of heads and experts beside the formulas of the list.
        used |= dict.fromkeys(params)
        with suppress(NotModelledError):  # there is no such list: these metrics have no numbers
            used |= dict.fromkeys(fused(Costs(tree, params, run)).variables)
    arrays = _arrays([*used], tree, run, config, sizes, changing, inner) if changing else {}
    _require_formulas(tree, arrays)
    fixed = tuple((name, value) for name, value in params.items() if name not in arrays)
    cost = Price(accelerator, run.tp, price=asked.price, grid=asked.grid) if accelerator else None
    spec = Spec(tree, run, fixed, inner, metrics, accelerator, asked.efficiency, lengths, found, cost, asked.mesh)
    if not changing:
        return _known(spec)
    Costs(tree, params, run)  # as in `_known`
    return CompiledMetrics(spec, arrays)


def _require_formulas(tree: Tree, changing: Collection[str]) -> None:
    """Raise if weights are stored in formats that depend on sizes which change."""
    names = sorted(tree.stored.decided_by.intersection(changing)) if tree.stored else []
    if names:
        assert tree.stored is not None
        raise InputError(
            f"the formats of {tree.stored.quantisation.name} depend on {', '.join(names)}: give these values one by "
            "one, or quant=none"
        )


def _require_room(grid: Grid, chosen: Mapping[str, Any], options: Mapping[str, Any], asked: Asked) -> None:
    """Raise unless the shortest prompt has room for the images, or the sound, that it has."""
    if set(MEDIA).isdisjoint(options):
        return
    at_least = {name: min(grid.axes[name]) for name in (*TOKENS, *REQUEST) if name in grid.axes}
    lengths = {**{name: chosen[name] for name in REQUEST if name in chosen}, **at_least}
    shortest = {**options, **{name: value for name, value in lengths.items() if name in TOKENS}}
    if "prompt_len" in lengths:
        shortest["seq_len"] = lengths["prompt_len"]
    prepared(chosen["model"], asked.config, {}, shortest)


@lru_cache(maxsize=256)
def _known(spec: Spec) -> CompiledMetrics:
    """Return the compiled metrics of a spec, the same ones for equal specs."""
    # Counting the first point checks everything that can be wrong with the numbers.
    Costs(spec.tree, ModelParams(dict(spec.params)), spec.run)
    return CompiledMetrics(spec)


def _arrays(
    names: Iterable[str],
    tree: Tree,
    run: Run,
    config: object,
    sizes: Mapping[str, int],
    changing: Mapping[str, Sequence[int]],
    inner: Sequence[str],
) -> dict[str, Any]:
    """Return those of the model's sizes that config axes change, as arrays with one dimension per inner axis."""
    shape = tuple(len(changing[name]) if name in changing else 1 for name in inner)
    all_params = [
        with_media(tree.template, params_of(tree, config, {**sizes, **dict(zip(changing, values, strict=True))}), run)
        for values in product(*changing.values())
    ]
    for params in all_params if tree.stored else ():
        require_storable(tree, {**params, **run.values()})
    arrays: dict[str, Any] = {}
    for name in names:
        values = [params[name] for params in all_params if name in params]
        if len(set(values)) < 2:
            continue
        array = np.asarray(values, dtype=np.float64).reshape(shape)
        for axis in range(len(shape)):  # one value along an axis that does not change it
            first = array.take([0], axis=axis)
            if shape[axis] > 1 and np.array_equal(array, np.broadcast_to(first, array.shape)):
                array = first
        arrays[name] = array
    return arrays
