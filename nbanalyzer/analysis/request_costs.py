"""The costs of a whole request: a prompt is read, then token after token is written. In closed form.

Every decode step has one token more in the cache than the step before, so what the steps cost together is a sum over
`cache_len`, which a polynomial knows without going through them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

from nbanalyzer import display
from nbanalyzer.costs.drafts import tokens_a_step, words_of
from nbanalyzer.costs.metrics import REQUEST_SUMS
from nbanalyzer.costs.symbolic import Symbolic, free_values
from nbanalyzer.costs.tree import Tree
from nbanalyzer.display import Picture, Shown
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.program import Program
from nbanalyzer.formulas.summation import total
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.quantities import plain

from .analysis import Analysis
from .closed_form import time_of
from .communication import Communication
from .memory import Fit, Memory
from .rates import Efficiency, Rates
from .sentence import of_request

__all__ = ["DecodeStep", "RequestCosts"]

FREE = frozenset({"batch_size", "cache_len"})


class DecodeStep:
    """The costs of one decode step as formulas of its batch and its cache, which requests of one model share."""

    def __init__(self, costs: Symbolic) -> None:
        self._costs = costs
        self._times: dict[tuple[Accelerator, Efficiency, Communication], Program] = {}

    @cached_property
    def metrics(self) -> dict[str, Polynomial]:
        """Each of `REQUEST_SUMS` → its formula."""
        return {name: self._costs.metric(name) for name in REQUEST_SUMS}

    def time(self, rates: Rates) -> Program:
        """Return the seconds of a step, ready to be evaluated for a batch and an array of caches."""
        # The run's bits are put into the formulas already.
        key = (rates.accelerator, rates.efficiency, rates.communication)
        if key not in self._times:
            axes = {"cache_len": frozenset({0}), "batch_size": frozenset[int]()}
            self._times[key] = Program({"time": time_of(self._costs, rates)}, axes)
        return self._times[key]


@lru_cache(maxsize=8)
def _decode_step(tree: Tree, values: tuple[tuple[str, Number | Polynomial], ...]) -> DecodeStep:
    return DecodeStep(Symbolic(tree, dict(values)))


@dataclass(eq=False, repr=False)
class RequestCosts(Shown, shown_by="request_costs"):
    """What a request costs, whatever it runs on.

    Attributes:
        prefill: the pass that reads the prompt and gives the first token.
        last: the last decode step, with the most in the cache.
        prompt_len, output_len: tokens per sequence.
        tp: devices that the model is divided over; the passes are one rank's.

    """

    prefill: Analysis
    last: Analysis
    prompt_len: int
    output_len: int
    tp: int = 1

    @property
    def quant(self) -> str | None:
        """The scheme that weights are stored in; None if the run's bits say it."""
        stored = self.last.kernel_tree.stored
        return stored.quantisation.name if stored else None

    @property
    def tokens_a_step(self) -> Fraction:
        """Tokens that a decode step writes of each sequence, on average: more than one where drafts are accepted."""
        return tokens_a_step(self.last.run)

    @property
    def steps(self) -> range:
        """The `cache_len` before every token after the first: of every decode step, if each writes one."""
        start = self.prefill.run.seq_len
        return range(start, start + self.output_len - 1)

    @cached_property
    def step(self) -> DecodeStep:
        """The formulas of a decode step, `batch_size` and `cache_len` left free."""
        values = {**self.last.params, **free_values(self.last.run, FREE)}
        return _decode_step(self.last.kernel_tree, tuple(values.items()))

    @cached_property
    def decode(self) -> dict[str, int | float]:
        """Metric → its sum over all decode steps, exactly what a loop over the steps would give.

        Steps that write several tokens are so many fewer, at caches between the same ends.
        """
        batch, steps = {"batch_size": self.last.run.batch_size}, self.steps
        sums = {name: total(each, "cache_len", steps.start, steps.stop) for name, each in self.step.metrics.items()}
        return {name: plain(normalize(summed.evaluate(batch) / self.tokens_a_step)) for name, summed in sums.items()}

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
        return Memory(most.weights, state, most.activations, most.largest, most.buffers)

    def fits(self, hardware: str | os.PathLike[str] | Accelerator) -> Fit:
        """Return whether the request fits into an accelerator's memory, see `Analysis.fits`."""
        return Fit(self.memory, find_hardware(hardware))

    @property
    def sentence(self) -> str:
        """The first thing to know, in a plain sentence: what writing costs beside reading."""
        return of_request(len(self.steps), self.steps_run, self.prefill.totals, self.decode)

    @property
    def steps_run(self) -> int | float:
        """The number of decode steps: fewer than the tokens after the first, where a step writes several on average."""
        steps = len(self.steps) / self.tokens_a_step
        return int(steps) if steps.denominator == 1 else round(float(steps), 1)

    @property
    def title(self) -> str:
        """The model's id and class."""
        return self.prefill.title

    @property
    def conditions(self) -> str:
        """The lengths and the bits in one line."""
        run = self.prefill.run
        bits = (
            f"{(self.quant and f'quant {self.quant}') or f'w_bit {run.w_bit}'}, a_bit {run.a_bit}, kv_bit {run.kv_bit}"
        )
        engine = f"; {words}" if (words := words_of(run)) else ""
        engine += f"; {self.prefill.template.drafted}" if self.prefill.template.drafted else ""
        engine += f"; one of {run.devices:,} devices" if run.devices > 1 else ""
        return f"batch_size {run.batch_size}, prompt {self.prompt_len:,}, output {self.output_len:,}; {bits}{engine}"

    def plot(self) -> Picture:
        """Return bars of where FLOPs and bytes go: the prompt, and all decode steps together."""
        return display.figure(self, "request_chart")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the request, whole or not at all: a page, .html."""
        display.save(self, path)
