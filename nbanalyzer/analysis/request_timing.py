"""How long a request takes on an accelerator: at the roofline, and as it is expected to."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nbanalyzer import display
from nbanalyzer.costs.count import fused
from nbanalyzer.costs.run import read_size
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import InputError, NotModelledError
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import percent, seconds

from .capacity import MEMORY_FRACTION, Capacity
from .communication import ONE_NODE, Communication
from .estimate import Interval
from .marks import COMPUTE, NO_BOUND, UNKNOWN, marks_of
from .memory import Fit, fit_of
from .price import Price
from .rates import Efficiency, Rates, routing_of
from .request_costs import RequestCosts
from .roofline import Roofline
from .served import Served
from .steps import Steps, Times

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["RequestTiming"]

LONGEST_OUTPUT = 10**7  # tokens whose steps are timed one by one


@dataclass(eq=False, repr=False)
class RequestTiming(Shown, shown_by="request"):
    """How long a request takes on an accelerator.

    Attributes:
        request: the request.
        prefill: the prompt's `Roofline`.
        accelerator: where.
        efficiency: of what the accelerator could; everything by default.
        profile: what estimates are made with.
        price: of the devices.
        communication: where the devices are.

    """

    request: RequestCosts
    accelerator: Accelerator
    efficiency: Efficiency
    profile: Profile
    price: Price
    communication: Communication = ONE_NODE

    def __post_init__(self) -> None:
        prefill, most = self.request.prefill, self.request.output_len
        self.prefill = Roofline(prefill, self.accelerator, self.efficiency, self.profile, self.communication)
        if most > LONGEST_OUTPUT:
            raise InputError(f"steps are timed up to an output of {LONGEST_OUTPUT:,} tokens, not {most}")

    # ---- at the roofline

    @property
    def _rates(self) -> Rates:
        return Rates(self.accelerator, self.request.last.run, self.efficiency, self.communication)

    @cached_property
    def step_times(self) -> npt.NDArray[np.float64]:
        """Seconds of a decode step at the cache before every token after the first, float64, (output_len - 1,)."""
        import numpy as np

        steps, run = self.request.steps, self.request.last.run
        program = self.request.step.time(self._rates)
        values = {"cache_len": np.arange(steps.start, steps.stop), "batch_size": np.asarray(run.batch_size)}
        times: npt.NDArray[np.float64] = program.evaluate(values, (len(steps),))["time"]
        return times

    @cached_property
    def time_to_first_token(self) -> float:
        """Seconds until the prompt is read, which gives the first token."""
        return self.prefill.time

    @property
    def time_per_output_token(self) -> float:
        """Seconds between two tokens of a sequence, on average over the steps; 0 without steps.

        A step with drafts writes several tokens, see `nbanalyzer.costs.drafts`: it takes so many times that.
        """
        return float(self.step_times.mean()) / self._tokens_a_step if len(self.step_times) else 0.0

    @property
    def time(self) -> float:
        """Seconds of the whole request."""
        return self.time_to_first_token + float(self.step_times.sum()) / self._tokens_a_step

    @property
    def tokens_per_second(self) -> float:
        """Tokens written a second, of all sequences, over the whole request; of all its devices."""
        return self._written / self.time if self.time else math.inf

    @property
    def _tokens_a_step(self) -> float:
        return float(self.request.tokens_a_step)

    @property
    def _written(self) -> int:
        return self.request.prefill.run.batch_size * self.request.output_len

    # ---- as expected

    @cached_property
    def steps(self) -> Steps:
        """The steps of an engine, whose times the estimates add up."""
        engine = fused(self.request.last)
        return Steps(engine, self.accelerator, self.profile, self.communication)

    @cached_property
    def _expected(self) -> tuple[Times, Times]:
        """The prompt's pass, and all decode steps together."""
        run, steps = fused(self.request.prefill).run, self.request.steps
        decodes = self.steps.all_decodes(steps.start, steps.stop) * (1 / self._tokens_a_step)
        return self.steps.prefill(run.seq_len, run.batch_size), decodes

    def _times(self, name: str) -> Times:
        try:
            prompt, decodes = self._expected
        except NotModelledError as error:  # nobody knows what an engine launches: there is no bound either
            return Times(str(error), math.nan)
        if name == "prefill_time":
            return prompt
        return prompt + decodes if name == "estimate" else decodes * (1 / max(len(self.request.steps), 1))

    @property
    def prefill_time(self) -> Interval:
        """Seconds until the prompt is read on an idle server, as expected; under load a request waits besides."""
        return self.steps.interval(self._times("prefill_time"))

    @property
    def estimate(self) -> Interval:
        """Seconds of the whole request, as expected: the sum over its steps in closed form.

        Raises:
            InputError: some launches are not modelled, or nobody compared such estimates with measurements.

        """
        return self.steps.interval(self._times("estimate"))

    @property
    def estimate_per_output_token(self) -> Interval:
        """Seconds between two tokens of a sequence, as expected, on average over the steps; 0 without steps."""
        return self.steps.interval(self._times("estimate_per_output_token"))

    @property
    def expected(self) -> float:
        """Seconds of the whole request, as expected, without an interval."""
        times = self._times("estimate")
        return max(times.expected, times.bound)

    @property
    def lower_bound(self) -> float:
        """Seconds that a request takes at least on an engine, every fused kernel at its roofline; nan if unknown."""
        return self._times("estimate").bound

    def served(
        self,
        concurrency: int,
        *,
        memory_fraction: float = MEMORY_FRACTION,
        price: float | None = None,
        grid: float | None = None,
    ) -> Served:
        """Return such requests served all the time, in steady continuous batching.

        Args:
            concurrency: sequences that clients keep open.
            memory_fraction: share of the memory that the engine takes.
            price: $ an hour of a device; that of `Request.on` if None.
            grid: g of CO2 a kWh; that of `Request.on` if None.

        Raises:
            InputError: a value that cannot be, a model whose serving is not modelled, or one that does not fit.

        """
        read_size("concurrency", concurrency, 1)
        capacity = self.capacity(memory_fraction)
        ours = self.price
        cost = replace(ours, price=ours.price if price is None else price, grid=ours.grid if grid is None else grid)
        lengths = (self.request.prompt_len, self.request.output_len)
        return Served(self.steps, capacity, *lengths, concurrency, cost, self.request.quant)

    def capacity(self, memory_fraction: float = MEMORY_FRACTION) -> Capacity:
        """Return the memory of a device while such requests are served.

        Raises:
            NotModelledError: nobody knows how such a model is served.

        """
        if "encoder_len" in self.request.last.variables:
            raise NotModelledError("not modelled: encoder-decoder models in continuous batching")
        return Capacity(self.steps.costs, self.accelerator, self.request.tp, memory_fraction)

    # ---- money and energy, of the time that is expected

    @property
    def _rate(self) -> float:
        try:
            seconds = self.estimate.value
        except InputError:
            seconds = self.expected
        return self._written / seconds if seconds else math.inf

    @property
    def cost_per_million_tokens(self) -> float:
        """$ of a million tokens written, alone on the devices; needs a price."""
        return self.price.cost_per_million_tokens(self._rate)

    @property
    def energy_per_token(self) -> float:
        """J of a token written, alone on the devices; needs the board's power."""
        return self.price.energy_per_token(self._rate)

    @property
    def co2_per_million_tokens(self) -> float:
        """G of CO2 of a million tokens written, alone on the devices; needs a grid."""
        return self.price.co2_per_million_tokens(self._rate)

    # ---- in words

    @property
    def fit(self) -> Fit | None:
        """Whether the request fits into the accelerator's memory; None if its size is not known."""
        return fit_of(self.request.memory, self.accelerator)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing the times."""
        steps = self._rates.notes(self.request.last.launches) if self.request.steps else ()
        return tuple(dict.fromkeys((*self.prefill.notes, *steps)))

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands beside every time, see `Roofline.marks`."""
        return marks_of(self.fit, self.notes)

    @property
    def answer(self) -> str:
        """The first thing to know: how long the whole request takes, as expected and at least, and whether it fits."""
        fit = UNKNOWN if self.fit is None else self.fit.short
        unknown = f", {COMPUTE}" if COMPUTE in self.marks else ""
        try:
            expected = self.words_of("estimate")
        except InputError as error:
            expected = str(error)
        bound = NO_BOUND
        if not math.isnan(self.lower_bound):
            routing = routing_of(self.steps.costs.launches, self.request.prompt_len)
            bound = f"bound {seconds(self.lower_bound)}{routing}"
        return f"whole request: estimate {expected} · {bound}{unknown} · {fit}"

    @property
    def sentence(self) -> str:
        """The same for a newcomer, in a plain sentence: whether reading or writing takes the time."""
        if not self.time:
            return ""
        writing = 1 - self.time_to_first_token / self.time
        first = f"Reading the prompt of {self.request.prompt_len:,} tokens takes {percent(1 - writing)} of the time"
        if self.request.output_len == 1:
            return f"{first}: one token is written."
        return f"{first}, writing the {self.request.output_len - 1:,} tokens after the first {percent(writing)}."

    def words_of(self, name: str) -> str:
        """Return one of the intervals as text, see `Steps.words_of`."""
        return self.steps.words_of(self._times(name))

    # ---- as a picture, and as a file

    def plot(self) -> Picture:
        """Return the time of the prompt and of all steps, and the time of each step beside its cache."""
        return display.figure(self, "timing_chart")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the times of the request, whole or not at all: a page, .html."""
        display.save(self, path)
