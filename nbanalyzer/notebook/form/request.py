"""A request whose steps were worked out before: what a slider moves is put into formulas that are kept."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from nbanalyzer.analysis.closed_form import time_of
from nbanalyzer.analysis.request import Request, RequestTiming, request
from nbanalyzer.analysis.roofline import Efficiency, Rates
from nbanalyzer.costs.metrics import REQUEST_SUMS
from nbanalyzer.costs.symbolic import Symbolic, free_values
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.program import Program
from nbanalyzer.formulas.summation import total
from nbanalyzer.hardware import Accelerator
from nbanalyzer.hardware import hardware as find_hardware
from nbanalyzer.quantities import plain

from .state import State

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nbanalyzer.analysis.analysis import Analysis

__all__ = ["FormRequest"]

FREE = frozenset({"batch_size", "cache_len"})


class Steps:
    """A decode step's cost with batch and cache left free, so that it serves every position of those sliders."""

    def __init__(self, last: Analysis) -> None:
        self.symbolic: Symbolic = last.symbolic({**last.params, **free_values(last.run, FREE)})
        self._metrics: dict[str, Polynomial] = {}
        self._programs: dict[object, Program] = {}

    def metric(self, name: str) -> Polynomial:
        """Return a metric of one step."""
        if name not in self._metrics:
            self._metrics[name] = self.symbolic.metric(name)
        return self._metrics[name]

    def program(self, rates: Rates) -> Program:
        """Return the time of one step, compiled for arrays."""
        key = rates.accelerator
        if key not in self._programs:
            axes = {name: frozenset({0}) for name in FREE}
            self._programs[key] = Program({"time": time_of(self.symbolic, rates)}, axes)
        return self._programs[key]


class FormRequest(Request):
    """A `Request` with the same numbers, sooner."""

    steps_of: Steps

    @classmethod
    def of(cls, state: State) -> FormRequest:
        """Return the request that a state asks for."""
        plain_request = request(state.model, **state.options)
        found = cls(plain_request.prefill, plain_request.last, plain_request.prompt_len, plain_request.output_len)
        found.steps_of = _steps(_Key(state, found.last))
        return found

    @cached_property
    def decode(self) -> dict[str, int | float]:
        """Metric → its sum over all decode steps."""
        batch = {"batch_size": self.last.run.batch_size}
        found: dict[str, int | float] = {}
        for name in REQUEST_SUMS:
            summed = total(self.steps_of.metric(name), "cache_len", self.steps.start, self.steps.stop)
            found[name] = plain(summed.evaluate(batch))
        return found

    def on(self, hardware: Any, **efficiency: float) -> RequestTiming:
        """Return how long the request takes at least on an accelerator."""
        assert not efficiency
        return _Timing(self, find_hardware(hardware), Efficiency())


class _Timing(RequestTiming):
    def __init__(self, request: FormRequest, accelerator: Accelerator, efficiency: Efficiency) -> None:
        super().__init__(request, accelerator, efficiency)
        self._steps = request.steps_of

    @cached_property
    def step_times(self) -> npt.NDArray[np.float64]:
        """Seconds of every decode step."""
        import numpy as np

        steps, last = self.request.steps, self.request.last
        plan = self._steps.program(Rates(self.accelerator, last.run, self.efficiency))
        batch = np.full(len(steps), last.run.batch_size)
        values = {"cache_len": np.arange(steps.start, steps.stop), "batch_size": batch}
        found: npt.NDArray[np.float64] = plan.evaluate(values, (len(steps),))["time"]
        return found


class _Key:
    """What the formulas of a step depend on: everything but batch, cache, and how long the request is."""

    def __init__(self, state: State, last: Analysis) -> None:
        self.last = last
        self.model = state.model  # kept, so that nothing else ever has its id
        follows = last.run.encoder_len_follows
        free = FREE | ({"encoder_len"} if follows else frozenset())
        fixed = {name: value for name, value in last.run.values().items() if name not in free}
        model = state.model if isinstance(state.model, str) else id(state.model)
        self._parts = (model, last.run.variants, tuple(last.params.items()), tuple(fixed.items()), follows)

    def __hash__(self) -> int:
        return hash(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._parts == other._parts


@lru_cache(maxsize=8)
def _steps(key: _Key) -> Steps:
    return Steps(key.last)
