"""Metrics of served requests, which are worked out point by point.

How many sequences fit has no formula of all points; the results of `nbanalyzer.analysis.request` have the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nbanalyzer.analysis.capacity import Capacity
from nbanalyzer.analysis.estimate import words_of
from nbanalyzer.analysis.price import Price
from nbanalyzer.analysis.rates import routing_of
from nbanalyzer.analysis.request import Request, request
from nbanalyzer.analysis.request_timing import RequestTiming
from nbanalyzer.analysis.served import Served
from nbanalyzer.costs.count import fused
from nbanalyzer.costs.metrics import METRICS, MONEY, metrics_of
from nbanalyzer.costs.run import NOT_OF_MODEL, SERVED
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError, NotModelledError, UnknownNameError, near
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import profile as find_profile

from .asked import Asked

__all__ = ["EXPECTED", "MOST_POINTS", "OF_SERVED", "PointMetrics", "PointSpec"]

MOST_POINTS = 5_000  # 10 to 20 ms each
MANY = 2  # tokens of a prompt, or of several sequences
ANY = Accelerator(name="any", bandwidth=1, memory_bytes=1)
"""Stands in where only the need for memory is asked for."""


@dataclass(frozen=True)
class Point:
    """Requests that are served.

    Attributes:
        request: the request.
        timing: on the accelerator; None without one.
        concurrency: sequences that clients keep open.

    """

    request: Request
    timing: RequestTiming | None
    concurrency: int

    @cached_property
    def timed(self) -> RequestTiming:
        """The request on the accelerator, which metrics of time have."""
        assert self.timing is not None  # the spec has checked it
        return self.timing

    @cached_property
    def served(self) -> Served | None:
        """The served requests; None if not even one sequence fits."""
        return self.timed.served(self.concurrency) if self.most else None

    @cached_property
    def most(self) -> int:
        """The most sequences that fit at a time."""
        return self.timed.capacity().sequences(self.tokens)

    @property
    def tokens(self) -> int:
        """Tokens of a sequence at its end."""
        return self.request.prompt_len + self.request.output_len

    @property
    def need(self) -> Number:
        """Bytes of memory that one sequence needs."""
        return Capacity(fused(self.request.last), ANY, self.request.tp).need(self.tokens)


def _served(name: str) -> Callable[[Point], float]:
    """Return a metric of served requests, which have none where nothing fits."""
    return lambda point: math.nan if point.served is None else float(getattr(point.served, name))


def _seconds(point: Point) -> float:
    return math.nan if point.served is None else point.served.time_per_output_token.value


def _prefill(point: Point) -> float:
    return math.nan if point.served is None else point.timed.steps.interval(point.served.prefill).value


def _written(point: Point) -> float:
    return point.served.batch / _seconds(point) if point.served else math.nan


def _money(name: str) -> Callable[[Point], float]:
    per_million = name.endswith("_per_million_tokens")
    assert per_million or name == "energy_per_token"
    return lambda point: float(getattr(point.timed.price, name)(_written(point))) if point.served else math.nan


OF_SERVED: Mapping[str, Callable[[Point], float]] = {
    "memory_bytes": lambda point: float(point.need),
    "lower_bound": _served("lower_bound"),
    "tokens_per_s": _written,
    **{name: _money(name) for name in MONEY},
    "time_per_output_token": _seconds,
    "prefill_time": _prefill,
    "tokens_per_s_each": lambda point: 1 / _seconds(point),
    "max_concurrency": lambda point: float(point.most),
    "fits": lambda point: float(point.most > 0),
}
"""Metric of served requests → its number."""
EXPECTED = frozenset({"tokens_per_s", "time_per_output_token", "prefill_time", "tokens_per_s_each", *MONEY})
"""Those that follow from an estimate."""


@dataclass(frozen=True)
class PointSpec:
    """The definition of metrics of requests.

    Attributes:
        model: as for `populate`.
        tree: its template, for the name.
        inner: the axes that arrays extend along, with their first values.
        asked: the metrics, and what they are made with.
        options: of `nbanalyzer.analysis.request.request`, those that are the same everywhere.
        sizes: config values that are the same everywhere.
        concurrency: the same everywhere, or the first one of an axis.
        accelerator: None if no metric needs it.

    Raises:
        UnknownNameError, InputError: a metric that does not exist, or that such requests do not have.

    """

    model: Any
    tree: Tree
    inner: Mapping[str, int]
    asked: Asked
    options: Mapping[str, Any]
    sizes: Mapping[str, int]
    concurrency: int
    accelerator: Accelerator | None

    @property
    def lengths(self) -> Mapping[str, Any]:
        """The options, for these are metrics of requests."""
        return self.options

    @property
    def told(self) -> Mapping[str, Callable[[Point], float]]:
        """The metrics that such requests have."""
        return OF_SERVED

    def __post_init__(self) -> None:
        known = metrics_of([*self.tree.template.state])
        for name in self.asked.metrics:
            if name not in known:
                hint = "" if near(str(name), known) else f"There are: {', '.join(known)}."
                raise UnknownNameError("metric", name, known if not hint else (), hint)
            if name not in self.told:
                raise InputError(f"{name} is not told of served requests: they have {', '.join(self.told)}")
            if METRICS[name].needs and self.accelerator is None:
                raise InputError(f"{name} needs hardware: give hardware=…, such as 'h100-sxm'")
            if name in MONEY:
                getattr(Price(self.accelerator or ANY, price=self.asked.price, grid=self.asked.grid), name)(1.0)
        if self.asked.mesh.overlap:
            raise InputError("overlap is of a pass, and not told of served requests: leave it out")
        if "batch_size" in {*self.inner, *self.options}:
            raise InputError(
                "served requests have a concurrency, and no batch_size: as many as fit are written at once"
            )


class PointMetrics:
    """The metrics of one model and accelerator over a grid of requests.

    Args:
        spec: their definition.

    """

    def __init__(self, spec: PointSpec) -> None:
        self.spec = spec
        self._latest: dict[tuple[int, ...], Point] = {}  # points that differ in concurrency alone share a request

    # ---- what to know

    @cached_property
    def not_modelled(self) -> str:
        """Why there are no estimates here, though asked for; "" if there are."""
        if not self._needs_estimate:
            return ""
        timing = self._point(self.spec.inner).timed
        try:
            timing.capacity()
            timing.steps.interval(timing.steps.mixed(1, 1, 2))
        except NotModelledError as error:
            return str(error)
        return ""

    @property
    def _needs_estimate(self) -> bool:
        return not EXPECTED.isdisjoint(self.spec.asked.metrics)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing the times."""
        if self.spec.accelerator is None:
            return ()
        steps = self._point(self.spec.inner).timed.steps
        routing = routing_of(steps.costs.launches, MANY) if "lower_bound" in self.spec.asked.metrics else ""
        known = (*steps.unknown, *([f"lower_bound{routing}"] if routing else []))
        if self.not_modelled or not self._needs_estimate:
            return known
        return tuple(dict.fromkeys((*known, words_of(steps.spread, steps.profile), *steps.profile.notes, *steps.notes)))

    # ---- numbers

    def evaluate(self, values: Mapping[str, Any], window: Sequence[slice], out: Mapping[str, Any]) -> None:
        """Compute the metrics over a part of a grid, as `nbanalyzer.sweeps.compiled.CompiledMetrics.evaluate` does."""
        parts = [values[name][part] for name, part in zip(self.spec.inner, window, strict=True)]
        for place in np.ndindex(*(len(part) for part in parts)):
            numbers = (part[index] for part, index in zip(parts, place, strict=True))
            point = self._point({name: int(number) for name, number in zip(self.spec.inner, numbers, strict=True)})
            for name, array in out.items():
                try:
                    array[place] = self.spec.told[name](point)
                except NotModelledError:  # a note says why
                    array[place] = np.nan

    def _point(self, at: Mapping[str, int]) -> Point:
        """Return the request at a point, with its times if there is an accelerator."""
        spec, asked = self.spec, self.spec.asked
        concurrency = at.get(SERVED, spec.concurrency)
        rest = {name: value for name, value in at.items() if name != SERVED}
        key = tuple(rest.values())
        if key not in self._latest:
            sizes = {**spec.sizes, **{name: value for name, value in rest.items() if name not in NOT_OF_MODEL}}
            lengths = {name: value for name, value in rest.items() if name in NOT_OF_MODEL}
            options: dict[str, Any] = {**spec.options, **lengths}
            found = request(spec.model, config=asked.config, set=sizes or None, **options)
            self._latest = {key: Point(found, self._timing(found), concurrency)}
        shared = self._latest[key]
        return replace(shared, concurrency=concurrency)

    def _timing(self, found: Request) -> RequestTiming | None:
        asked, card = self.spec.asked, self.spec.accelerator
        if card is None:
            return None
        price = Price(card, found.tp, price=asked.price, grid=asked.grid)
        return RequestTiming(found, card, asked.efficiency, find_profile(asked.profile, card), price, asked.mesh)
