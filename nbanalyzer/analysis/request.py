"""A whole request: a prompt is read, then token after token is written. Its cost in closed form, its least time.

Every decode step has one token more in the cache than the step before, so what the steps cost together is a sum over
`cache_len`, which a polynomial knows without going through them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from nbanalyzer.costs.metrics import REQUEST_SUMS
from nbanalyzer.costs.run import passes_of, read_size
from nbanalyzer.costs.symbolic import Symbolic, free_values
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.program import Program
from nbanalyzer.formulas.summation import total
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.quantities import plain, rate, seconds, si
from nbanalyzer.text import as_lines

from .analysis import Analysis
from .closed_form import time_of
from .marks import marks_of
from .memory import Fit, Memory, fit_of, fit_text
from .populate import Source, populate
from .rates import Efficiency, Rates
from .roofline import Roofline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Request", "RequestTiming", "request"]

LONGEST_OUTPUT = 10**7  # tokens whose steps are timed one by one
FREE = frozenset({"batch_size", "cache_len"})


def request(
    model: Source,
    *,
    prompt_len: int,
    output_len: int,
    config: object = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 - the users' word: --set
    **run: Any,
) -> Request:
    """Return what a request costs: a prompt of `prompt_len` tokens read, `output_len` tokens written.

    The prompt's pass gives the first token, each decode step another one, so there are ``output_len - 1`` steps. An
    encoder-decoder model reads the prompt with its encoder and begins to write after one start token.

    Args:
        model: as for `populate`.
        prompt_len: tokens per sequence, at least 1.
        output_len: tokens per sequence, at least 1.
        config: as for `populate`.
        set: as for `populate`.
        run: batch_size, w_bit, a_bit, kv_bit, attn, logits (here ``"last"``, as generate() does), mla, causal.

    Raises:
        NBAnalyzerError: bad input, or a model that writes nothing.

    """
    for name in ("seq_len", "cache_len", "encoder_len"):
        if name in run:
            raise InputError(f"a request takes prompt_len and output_len, not {name}")
    read_size("prompt_len", prompt_len, 1)
    read_size("output_len", output_len, 1)
    common: dict[str, Any] = {"config": config, "set": set, "logits": "last", **run}
    first = populate(model, seq_len=prompt_len, **common)
    if not first.template.state:
        raise InputError(f"{first.title} keeps nothing from one pass to the next: it writes no text, token by token")
    passes = passes_of(has_encoder="encoder_len" in first.variables)
    lengths = {"prompt_len": prompt_len, "output_len": max(output_len, 2)}

    def populated(formulas: Mapping[str, str]) -> Analysis:
        sizes: dict[str, Any] = {name: parse(text).evaluate(lengths) for name, text in formulas.items()}
        return populate(model, **sizes, **common)

    if "encoder_len" in first.variables:
        first = populated(passes.first)
    return Request(first, populated(passes.last), prompt_len, output_len)


class DecodeStep:
    """The costs of one decode step as formulas of its batch and its cache, which requests of one model share."""

    def __init__(self, costs: Symbolic) -> None:
        self._costs = costs
        self._metrics: dict[str, Polynomial] = {}
        self._times: dict[tuple[Accelerator, Efficiency], Program] = {}

    def metric(self, name: str) -> Polynomial:
        """Return one of `REQUEST_SUMS`."""
        if name not in self._metrics:
            self._metrics[name] = self._costs.metric(name)
        return self._metrics[name]

    def time(self, rates: Rates) -> Program:
        """Return the seconds of a step, ready to be evaluated for a batch and an array of caches."""
        key = (rates.accelerator, rates.efficiency)  # the run's bits are put into the formulas already
        if key not in self._times:
            axes = {"cache_len": frozenset({0}), "batch_size": frozenset[int]()}
            self._times[key] = Program({"time": time_of(self._costs, rates)}, axes)
        return self._times[key]


@lru_cache(maxsize=8)
def _decode_step(tree: Tree, values: tuple[tuple[str, Number | Polynomial], ...]) -> DecodeStep:
    return DecodeStep(Symbolic(tree, dict(values)))


class Request:
    """What a request costs.

    Attributes:
        prefill: the pass that reads the prompt and gives the first token.
        last: the last decode step, with the most in the cache.
        prompt_len, output_len: tokens per sequence.

    """

    def __init__(self, prefill: Analysis, last: Analysis, prompt_len: int, output_len: int) -> None:
        self.prefill = prefill
        self.last = last
        self.prompt_len = prompt_len
        self.output_len = output_len

    @property
    def steps(self) -> range:
        """The `cache_len` of every decode step."""
        start = self.prefill.run.seq_len
        return range(start, start + self.output_len - 1)

    @cached_property
    def step(self) -> DecodeStep:
        """The formulas of a decode step, `batch_size` and `cache_len` left free."""
        values = {**self.last.params, **free_values(self.last.run, FREE)}
        return _decode_step(self.last.kernel_tree, tuple(values.items()))

    @cached_property
    def decode(self) -> dict[str, int | float]:
        """Metric → its sum over all decode steps, exactly what a loop over the steps would give."""
        batch = {"batch_size": self.last.run.batch_size}
        sums = {
            name: total(self.step.metric(name), "cache_len", self.steps.start, self.steps.stop) for name in REQUEST_SUMS
        }
        return {name: plain(summed.evaluate(batch)) for name, summed in sums.items()}

    @cached_property
    def totals(self) -> dict[str, int | float]:
        """Metric → prompt and all decode steps together."""
        return {name: self.prefill.totals[name] + value for name, value in self.decode.items()}

    @property
    def memory(self) -> Memory:
        """What has to be in memory at the worst moment: the state as it is at the end, the larger activations."""
        passes = (self.prefill, self.last) if self.steps else (self.prefill,)
        most = max((one.memory for one in passes), key=lambda memory: memory.activations)
        state: Number = passes[-1].memory.state
        return Memory(most.weights, state, most.activations, most.largest)

    def fits(self, hardware: str | os.PathLike[str] | Accelerator) -> Fit:
        """Return whether the request fits into an accelerator's memory, see `Analysis.fits`."""
        return Fit(self.memory, find_hardware(hardware))

    def on(
        self,
        hardware: str | os.PathLike[str] | Accelerator,
        *,
        compute_efficiency: float = 1.0,
        bandwidth_efficiency: float = 1.0,
        launch_overhead: float = 0.0,
    ) -> RequestTiming:
        """Return how long the request takes at least on an accelerator, see `Analysis.on`."""
        efficiency = Efficiency(
            compute=compute_efficiency, bandwidth=bandwidth_efficiency, launch_overhead=launch_overhead
        )
        return RequestTiming(self, find_hardware(hardware), efficiency)

    def __repr__(self) -> str:
        lines = [self.prefill.title, f"{self._conditions()}"]
        columns = (("prompt", self.prefill.totals), (f"{len(self.steps):,} decode steps", self.decode))
        for name, numbers in (*columns, ("together", self.totals)):
            weights, moved = si(numbers["weight_bytes_read"], "B"), si(numbers["bytes"], "B")
            lines.append(f"  {name:<22}{si(numbers['flops'], 'FLOP'):>14}  {moved:>10} moved, of it weights {weights}")
        memory = self.memory
        lines.append(f"  {'memory at the end':<22}{si(memory.total, 'B'):>14}  of it cache {si(memory.state, 'B')}")
        return as_lines(lines)

    def _conditions(self) -> str:
        run = self.prefill.run
        bits = f"w_bit {run.w_bit}, a_bit {run.a_bit}, kv_bit {run.kv_bit}"
        return f"batch_size {run.batch_size}, prompt {self.prompt_len:,}, output {self.output_len:,}; {bits}"


class RequestTiming:
    """How long a request takes on an accelerator.

    Attributes:
        request: the request.
        prefill: the prompt's `Roofline`.
        accelerator: where.
        efficiency: of what the accelerator could; everything by default.

    """

    def __init__(self, request: Request, accelerator: Accelerator, efficiency: Efficiency) -> None:
        self.request = request
        self.accelerator = accelerator
        self.efficiency = efficiency
        self.prefill = Roofline(request.prefill, accelerator, efficiency)
        if request.output_len > LONGEST_OUTPUT:
            raise InputError(f"steps are timed up to an output of {LONGEST_OUTPUT:,} tokens, not {request.output_len}")

    @cached_property
    def step_times(self) -> npt.NDArray[np.float64]:
        """Seconds of every decode step, float64, of shape (output_len - 1,)."""
        import numpy as np

        steps, run = self.request.steps, self.request.last.run
        program = self.request.step.time(Rates(self.accelerator, run, self.efficiency))
        values = {"cache_len": np.arange(steps.start, steps.stop), "batch_size": np.asarray(run.batch_size)}
        times: npt.NDArray[np.float64] = program.evaluate(values, (len(steps),))["time"]
        return times

    @property
    def time_to_first_token(self) -> float:
        """Seconds until the prompt is read, which gives the first token."""
        return self.prefill.time

    @property
    def time_per_output_token(self) -> float:
        """Seconds between two tokens of a sequence, on average over the steps; 0 without steps."""
        return float(self.step_times.mean()) if len(self.step_times) else 0.0

    @property
    def time(self) -> float:
        """Seconds of the whole request."""
        return self.prefill.time + float(self.step_times.sum())

    @property
    def tokens_per_second(self) -> float:
        """Tokens written a second, of all sequences, over the whole request; of one accelerator."""
        written = self.request.prefill.run.batch_size * self.request.output_len
        return written / self.time if self.time else math.inf

    @property
    def fit(self) -> Fit | None:
        """Whether the request fits into the accelerator's memory; None if its size is not known."""
        return fit_of(self.request.memory, self.accelerator)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing the times."""
        rates = Rates(self.accelerator, self.request.last.run, self.efficiency)
        steps = rates.notes(self.request.last.launches) if self.request.steps else ()
        return tuple(dict.fromkeys((*self.prefill.notes, *steps)))

    def __repr__(self) -> str:
        bound = "at least " if self.prefill.is_bound else ""
        rows = (
            ("time to first token", f"{bound}{seconds(self.time_to_first_token)}"),
            ("time per output token", f"{bound}{seconds(self.time_per_output_token)}"),
            ("whole request", f"{bound}{seconds(self.time)}"),
            ("tokens/s per GPU", f"{'at most ' if bound else ''}{rate(self.tokens_per_second)}"),
        )
        lines = repr(self.request).splitlines()
        lines.append(f"  on {self.accelerator.title or self.accelerator.name}; {self.prefill.words}")
        lines += [f"  warning: {note}" for note in self.notes]
        lines.append(f"  {fit_text(self.request.memory, self.accelerator)}")
        mark = "".join(f", {mark}" for mark in marks_of(self.fit, self.notes))
        return as_lines([*lines, *(f"  {name:<22}{text}{mark}" for name, text in rows)])
