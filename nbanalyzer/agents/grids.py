"""The tool about sweeps: a metric over a grid of few points, its best point and its frontier."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.options import COMMUNICATION, EFFICIENCIES
from nbanalyzer.costs.metrics import METRICS
from nbanalyzer.costs.run import CHOICES, SERVED
from nbanalyzer.errors import InputError, UnknownNameError

from .answers import FURTHEST, MOST_ROWS, Rows, finite, page, place_of
from .arguments import Limit, Names, Nodes, Offset, Overlap, Pass, Values, read_range
from .passes import Number
from .shelf import Shelf, card_of, remarks

__all__ = ["sweep_"]

MOST_POINTS = 100_000
MOST_COMPILED = 48
"""Combinations with formulas of their own: models, accelerators, bits, conventions."""
MOST_COMPARED = 10_000
"""Points of a frontier of more than two metrics: each is compared with all that are left."""
MOST_METRICS = 8
MOST_WHERE = 8


class SweepOf(Pass, frozen=True, kw_only=True):
    """Which grid, and what to ask of it."""

    values: Annotated[
        Values,
        Meta(
            description="axis → its values: options of a pass, model, hardware, prompt_len and output_len (and "
            "concurrency for served requests), or a config "
            'value, e.g. {"batch_size": [1, 8, 64], "hardware": ["h100-sxm", "l4"]}; '
            f"{MOST_POINTS:,} points at most"
        ),
    ]
    metrics: Annotated[Names, Meta(description=f"of {', '.join(METRICS)}; times need hardware")] = msgspec.field(
        default_factory=list
    )
    hardware: Annotated[str, Meta(description="an accelerator, the same at every point")] = ""
    nodes: Nodes = 1
    overlap: Overlap = 0.0
    prompt_len: Annotated[int | None, Meta(description="of whole requests, with output_len")] = None
    output_len: Annotated[int | None, Meta(description="of whole requests, with prompt_len")] = None
    minimize: Annotated[str, Meta(description="a metric: find the point where it is least")] = ""
    maximize: Annotated[str, Meta(description="a metric: find the point where it is most")] = ""
    where: Annotated[
        Names, Meta(description='conditions on points, formulas over axes and metrics: "{time} <= 0.05", "{fits}"')
    ] = msgspec.field(default_factory=list)
    frontier: Annotated[
        Names, Meta(description="two or more metrics: the points that no other one beats in all of them")
    ] = msgspec.field(default_factory=list)
    limit: Limit = 50
    offset: Offset = 0


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A metric over all points; None if no point has a number."""

    least: Number | None
    most: Number | None
    without_number: Annotated[int, Meta(description="points that have none")]


class Swept(Rows, frozen=True, kw_only=True):
    """A sweep.

    Attributes:
        model: its name, or how many.
        points: of the grid.
        ranges: metric → its range.
        best: axis → value and metric → number, of the best point; None if none was asked for.
        rows: the frontier if one was asked for, else the points in the grid's order: axis → value, metric → number.
        warnings: what to know before believing the numbers.

    """

    model: str
    points: int
    ranges: dict[str, Range]
    best: dict[str, Any] | None
    rows: list[dict[str, Any]]
    warnings: list[str]

    def words(self) -> str:
        """Return the best point and the ranges."""
        best = [f"best: {_pairs(self.best)}"] if self.best else []
        ranges = [f"{name}: {one.least} to {one.most}" for name, one in self.ranges.items()]
        rows = [_pairs(row) for row in self.rows[:12]]
        notes = [f"warning: {text}" for text in self.warnings]
        return "\n".join([f"{self.model}: {self.points:,} points", *best, *ranges, *rows, *self.rest, *notes])


def sweep_(shelf: Shelf, asked: SweepOf) -> Swept:
    """Compute metrics over a grid of values; say which point is best under conditions, and which no other one beats."""
    from nbanalyzer.sweeps.sweep import sweep, usual_metrics

    options = _options(shelf, asked)
    timed = ("time",) if "hardware" in options and SERVED not in options else ()
    if len(asked.metrics) > MOST_METRICS or len(asked.frontier) > MOST_METRICS or len(asked.where) > MOST_WHERE:
        raise InputError(f"a sweep takes at most {MOST_METRICS} metrics and {MOST_WHERE} conditions")
    if len(set(asked.frontier)) > 2 and (points := _points(asked)) > MOST_COMPARED:
        raise InputError(f"a frontier of three or more metrics has at most {MOST_COMPARED:,} points, not {points:,}")
    options |= {"nodes": asked.nodes, "overlap": asked.overlap}
    found = sweep(metrics=asked.metrics or (*usual_metrics(options), *timed), **options)
    best = None
    if asked.minimize or asked.maximize:
        point = found.best(minimize=asked.minimize or None, maximize=asked.maximize or None, where=tuple(asked.where))
        best = _plain_row(point)
    elif asked.where and not asked.frontier:
        raise InputError("where needs minimize, maximize or frontier: it says which points they look at")
    table = found.frontier(*asked.frontier, where=tuple(asked.where)) if asked.frontier else found.table()
    read_range("limit", asked.limit, 1, MOST_ROWS)
    read_range("offset", asked.offset, 0, FURTHEST)
    part = table.iloc[asked.offset : asked.offset + asked.limit]
    rows, _ = page([_plain_row(row) for row in part.to_dict("records")], asked.limit, 0)
    ranges = {name: _range(found.values(name)) for name in found.metrics}
    return Swept(
        model=found.model,
        points=found.size,
        ranges=ranges,
        best=best,
        rows=rows,
        warnings=[*remarks(options["model"]), *found.notes[:12]],
        **place_of(len(rows), asked.offset, len(table)),
    )


def _options(shelf: Shelf, asked: SweepOf) -> dict[str, Any]:
    """Return what `sweep` takes: the model, fixed options and axes."""
    values: dict[str, Any] = dict(asked.values)
    if not 0 < (points := _points(asked)) <= MOST_POINTS:
        raise InputError(f"a sweep of {points:,} points: here it has 1 to {MOST_POINTS:,}")
    config_axes = [name for name in values if name not in {*_NAMED, *CHOICES}]
    compiled = math.prod(len(values[name]) for name in (*CHOICES, *config_axes) if name in values)
    if compiled > MOST_COMPILED:
        raise InputError(
            f"{compiled:,} combinations with formulas of their own: here a sweep has at most {MOST_COMPILED}"
        )
    fixed = asked.run()
    lengths = {"prompt_len": asked.prompt_len, "output_len": asked.output_len}
    fixed |= {name: value for name, value in lengths.items() if value is not None}
    if asked.hardware:
        fixed["hardware"] = card_of(asked.hardware)
    for name in values:
        if name in fixed:
            raise InputError(f"{name} is given twice: as itself, and in values")
        if name in _RESERVED:
            raise UnknownNameError("axis", name, (*_NAMED, *CHOICES))
    if "hardware" in values:
        values["hardware"] = [card_of(str(name)).name for name in values["hardware"]]
    if "model" in values:
        if asked.model or asked.config is not None:
            raise InputError("model is given twice: as itself, and in values")
        fixed["model"] = [shelf.source(str(name)) for name in values.pop("model")]
    else:
        fixed["model"], config = shelf.subject(asked)
        fixed |= {} if config is None else {"config": config}
    return fixed | values


def _points(asked: SweepOf) -> int:
    return math.prod(len(axis) for axis in asked.values.values())


_NAMED = ("batch_size", "seq_len", "cache_len", "encoder_len", "prompt_len", "output_len", SERVED)
_RESERVED = frozenset({"metrics", "config", "set", "chunks", *EFFICIENCIES, *COMMUNICATION})


def _range(values: Any) -> Range:
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    missing = int(numbers.size - known.size)
    least, most = (float(known.min()), float(known.max())) if known.size else (None, None)
    return Range(least=least, most=most, without_number=missing)


def _plain_row(row: Any) -> dict[str, Any]:
    return {str(name): _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it: numbers, words, names of objects."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return finite(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(getattr(value, "name", "") or getattr(value, "model_id", "") or type(value).__name__)


def _pairs(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )
