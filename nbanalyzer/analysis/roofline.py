"""How long a pass takes on an accelerator at the roofline, kernel by kernel, and as it is expected to.

Williams, Waterman and Patterson: *Roofline: an insightful visual performance model for multicore architectures*,
Communications of the ACM 52 (2009), doi:10.1145/1498765.1498785.
A kernel takes at least the longest of three times: its matrix products at the peak of the matrix units, its other
FLOPs at the peak of the vector units, its traffic at the memory's bandwidth; one that communicates, what it sends at
the bandwidth of the links. A pass runs kernel after kernel, so its time is their sum: the least that this list of
kernels can take, and a bound of the pass only if the list is fused.
Real kernels take longer; by how much is what `nbanalyzer.analysis.estimate` says.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nbanalyzer import display
from nbanalyzer.costs.breakdown import explain_parts
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import fused
from nbanalyzer.costs.drafts import tokens_a_step
from nbanalyzer.costs.explanation import Explanation
from nbanalyzer.costs.metrics import RANK_METRICS
from nbanalyzer.costs.tree import Node
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import InputError, NotModelledError, UnknownNameError, quote
from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.hardware.profiles import profile as find_profile
from nbanalyzer.quantities import plain, seconds

from .communication import ONE_NODE, Communication, exposed
from .eager import EAGER, EagerPace
from .estimate import Estimate, Interval
from .laws import Pace
from .marks import COMPUTE, NO_BOUND, UNKNOWN, marks_of
from .memory import Fit, Memory, fit_of, memory_of
from .rates import Efficiency, Rates, busy, routing_of, starts
from .timing import Bound, Timing
from .waiting import sentence_on

if TYPE_CHECKING:
    import pandas
    import sympy

__all__ = ["Bound", "Roofline", "Timing"]


class Roofline(Shown, shown_by="roofline"):
    """An analysis on an accelerator: the time of every kernel.

    Attributes:
        analysis: what is run.
        accelerator: on what.
        efficiency: of what the accelerator could.
        profile: what estimates are made with.
        communication: where the devices of the run's mesh are, and what is hidden of what they send.
        notes: what to know before believing the numbers: ``compute unknown: …`` if a peak that is needed is not.
        timings: kernel → its `Timing`; a module's is the sum of what is below it.

    """

    def __init__(
        self,
        analysis: Costs,
        accelerator: Accelerator,
        efficiency: Efficiency | None = None,
        profile: Profile | None = None,
        communication: Communication | None = None,
    ) -> None:
        self.analysis = analysis
        self.accelerator = accelerator
        self.efficiency = efficiency or Efficiency()
        self.profile = profile or find_profile(None, accelerator)
        self.communication = communication or ONE_NODE
        self._rates = Rates(accelerator, analysis.run, self.efficiency, communication=self.communication)
        self.notes = self._rates.notes(analysis.launches)
        self.timings: Mapping[Node, Timing] = self._timings()

    def _timings(self) -> dict[Node, Timing]:
        found = {node: Timing() for node in self.analysis.nodes}
        for launch in self.analysis.launches:
            # Kernels that run as one wait for the slowest of all their work; the first of them stands for all.
            units = busy(launch, self._rates)
            memory, link = units.pop("memory", 0.0), units.pop("link", 0.0)
            compute = max(units.values(), default=0.0)
            timing = found[launch.nodes[0]]
            timing.compute, timing.memory = (compute, 0.0) if compute > memory else (0.0, memory)
            timing.link = link
            timing.overhead = float(starts(launch)) * self.efficiency.launch_overhead
        if self.communication.overlap:
            link = sum(timing.link for timing in found.values())
            rest = sum(timing.time for timing in found.values()) - link
            for timing in found.values():
                timing.link *= exposed(link, rest, self.communication.overlap)
        for node in reversed(self.analysis.nodes):
            if node.parent:
                found[node.parent].include(found[node])
        return found

    @cached_property
    def total(self) -> Timing:
        """The whole pass."""
        whole = Timing()
        for node in self.analysis.nodes:
            if node.parent is None:
                whole.include(self.timings[node])
        return whole

    @property
    def time(self) -> float:
        """Seconds of the whole pass at the roofline: the least that its list of kernels can take."""
        return self.total.time

    @property
    def is_bound(self) -> bool:
        """Whether no machine can be faster: kernels are fused, and nothing is assumed of what is reached."""
        return self.efficiency.is_perfect and self.analysis.run.fusion == "engine"

    @property
    def words(self) -> str:
        """What the times are, in words."""
        words = f"{self.efficiency.words(self.analysis.run.fusion)}{self.routing if self.is_bound else ''}"
        return words if self.analysis.run.devices == 1 else f"{words}; {self.communication.words}"

    @cached_property
    def routing(self) -> str:
        """What the bound supposes of experts, see `nbanalyzer.analysis.rates.routing_of`."""
        return routing_of(self.engine.launches, self.analysis.run.batch_size * self.analysis.run.new_tokens)

    @cached_property
    def engine(self) -> Costs:
        """The pass as a serving engine launches it.

        Raises:
            NotModelledError: nobody knows how.

        """
        return fused(self.analysis)

    @cached_property
    def lower_bound(self) -> float:
        """Seconds that a pass takes at least on an engine, every fused kernel at its roofline; nan if nobody knows."""
        if self.is_bound:
            return self.time
        try:
            return Roofline(self.engine, self.accelerator, None, self.profile, self.communication).time
        except NotModelledError:
            return math.nan

    @cached_property
    def estimated(self) -> Estimate:
        """The time that is expected of the profile's engine, launch by launch.

        Raises:
            NotModelledError: some launches are not modelled.

        """
        if isinstance(self.pace, EagerPace):  # a processor's caches may be faster than its memory: no bound
            return Estimate(self.pace.costs, self.pace, 0.0)
        return Estimate(self.engine, self.pace, self.lower_bound, self.communication.overlap)

    @cached_property
    def pace(self) -> Pace | EagerPace:
        """What the profile's engine reaches in this pass."""
        if self.profile.engine == EAGER:
            if self.analysis.run.devices > 1:
                raise InputError(f"not modelled: several devices by {self.profile.name}: it was measured on one")
            skipping = replace(self.analysis.run, causal="on")  # PyTorch's attention skips what is not visible
            return EagerPace(self.profile, Costs(self.analysis.kernel_tree, self.analysis.params, skipping))
        run, latent = self.engine.run, self.engine.is_latent
        return Pace(self.accelerator, self.profile, run, latent, communication=self.communication)

    @property
    def engine_pace(self) -> Pace:
        """The same, of a serving engine, whose laws are formulas of what stays free.

        Raises:
            NotModelledError: the profile is of PyTorch itself.

        """
        if isinstance(self.pace, EagerPace):
            raise NotModelledError(
                f"not modelled: formulas of times by {self.profile.name}: it times one pass at a time"
            )
        return self.pace

    @property
    def estimate(self) -> Interval:
        """The time that is expected of the profile's engine, with its interval.

        Raises:
            NotModelledError: some launches are not modelled, or nobody compared such estimates with measurements.

        """
        return self.estimated.interval

    @property
    def expected(self) -> float:
        """Seconds that are expected, without an interval.

        Raises:
            InputError: some launches are not modelled.

        """
        return max(self.estimated.time, self.lower_bound)

    def formula_text(self, metric: str = "time", path: str | None = None) -> Formula:
        """Return the formula of a time at the roofline, of the whole pass or of one kernel; of others as `Costs` does.

        Sizes stay symbols, and what the accelerator reaches too: `values` has their numbers.

        Args:
            metric: ``"time"``; ``"lower_bound"``, of fused kernels; or a metric of the pass, such as ``"bytes"``.
            path: of a kernel, as for `Costs.find`.

        Raises:
            InputError: an estimate, which is no single formula.
            NotModelledError: the time of several devices.

        """
        from .roofline_formula import time_formula

        if metric == "estimate":
            raise InputError("an estimate is a sum of laws: explain(path) has the law of each launch of a kernel")
        if metric not in {"time", "lower_bound"}:
            return self.analysis.formula_text(metric, path)
        costs, rates = (self.analysis, self._rates) if metric == "time" else (self.engine, self._engine_rates)
        node = None if path is None else costs.find(path)
        within = None if node is None else [one for one in costs.nodes if node in (one, *one.around)]
        return time_formula(costs, rates, within)

    def formula(self, metric: str = "time", path: str | None = None) -> sympy.Expr:
        """Return `formula_text` as a SymPy expression; symbols are named like the variables.

        Raises:
            FormulaError: more than SymPy can do in a moment; `formula_text` has no such limit.

        """
        formula = self.formula_text(metric, path)
        return formula.sympy() if metric in {"time", "lower_bound"} else self.analysis.formula(metric, path)

    @property
    def values(self) -> dict[str, Number]:
        """Every symbol's value in `formula`: the pass's sizes, and what the accelerator reaches."""
        from .roofline_formula import rates_of

        return {**self.analysis.values, **rates_of(self.analysis, self._rates)}

    @property
    def _engine_rates(self) -> Rates:
        return Rates(self.accelerator, self.engine.run, communication=self.communication)

    def explain(self, what: str = "time", metric: str = "time") -> Explanation:
        """Return where a kernel's numbers come from, or the time of the whole pass.

        Args:
            what: a kernel's path, as for `Costs.find`; ``"time"`` for the share of each module at the roofline, with
                its formula, ``"lower_bound"`` for that of fused kernels; or a metric, as for `Costs.explain`.
            metric: of a kernel ``"time"`` for the estimate, see `Estimate.explain`; ``"counts"`` for FLOPs, bytes and
                parameters.

        """
        if metric not in {"time", "counts"}:
            raise UnknownNameError("explanation", metric, ("time", "counts"))
        if what in {"time", "lower_bound"}:
            return self._explain_time(what)
        if what in RANK_METRICS:
            return self.analysis.explain(what)
        return self.estimated.explain(what) if metric == "time" else self.analysis.explain(what)

    def _explain_time(self, what: str) -> Explanation:
        from .roofline_formula import MEANINGS, parts_of, rates_of

        costs, rates = (self.analysis, self._rates) if what == "time" else (self.engine, self._engine_rates)
        values = {**costs.values, **rates_of(costs, rates)}
        return explain_parts(what, parts_of(costs, rates), values, MEANINGS, "s")

    @property
    def answer(self) -> str:
        """The first thing to know: estimate, bound, and whether it fits."""
        try:
            expected = f"estimate {self.estimate}"
        except InputError as error:
            expected = f"estimate {error}"
            with suppress(InputError):  # of several devices most were never measured
                if self.analysis.run.devices > 1 or self.analysis.run.mtp:
                    why = error.short if isinstance(error, NotModelledError) else "no interval"
                    expected = f"estimate {seconds(self.expected)} ({why})"
        fit = UNKNOWN if self.fit is None else self.fit.short
        unknown = f", {COMPUTE}" if COMPUTE in self.marks else ""
        bound = NO_BOUND if math.isnan(self.lower_bound) else f"bound {seconds(self.lower_bound)}{self.routing}"
        return f"{expected} · {bound}{unknown} · {fit}"

    @cached_property
    def sentence(self) -> str:
        """The same for a newcomer, in one or two plain sentences: what the pass waits for, and what would help."""
        return sentence_on(self)

    @property
    def bound(self) -> Bound:
        """What most of the pass's time is spent on: ``"memory"``, ``"compute"`` or ``"link"``."""
        return self.total.bound

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all sequences a second: of a decode step what is generated, of a prefill what is read."""
        run = self.analysis.run
        each = float(tokens_a_step(run)) if run.drafts else run.seq_len
        return run.batch_size * each / self.time if self.time else math.inf

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the pass's matrix products run in, of those whose peak is known."""
        used = [self._rates.precision(launch.sizes) for launch in self.analysis.launches if launch.matmul_flops]
        return tuple(precision for precision in dict.fromkeys(used) if precision)

    @cached_property
    def memory(self) -> Memory:
        """What has to be in memory during the pass."""
        return memory_of(self.analysis)

    @property
    def fit(self) -> Fit | None:
        """Whether the pass fits into the accelerator's memory; None if its size is not known."""
        return fit_of(self.memory, self.accelerator)

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands beside every time: that it does not fit, or that its compute or the memory is not known."""
        return marks_of(self.fit, self.notes)

    def table(self, depth: int | None = None) -> pandas.DataFrame:
        """Return one row per kernel: seconds, share of the pass, bound, and FLOP/s reached; indexed by path.

        As in `Analysis.table`, a module's row is the sum of what is below it.
        """
        frame = self.analysis.table(depth)
        nodes = [node for node in self.analysis.nodes if depth is None or node.depth < depth]
        timings = [self.timings[node] for node in nodes]
        frame["time"] = [timing.time for timing in timings]
        frame["bound"] = [timing.bound if timing.time else "" for timing in timings]
        frame["share"] = [timing.time / self.time if self.time else 0.0 for timing in timings]
        frame.attrs["units"] |= {"time": "s"}
        return frame

    @cached_property
    def summary(self) -> dict[str, object]:
        """The hardware, what it is taken to reach, and the times in seconds, as plain data."""
        total = self.total
        return {
            "accelerator": self.accelerator.name,
            "precisions": list(self.precisions),
            "efficiency": asdict(self.efficiency),
            "is_lower_bound": self.is_bound,
            "lower_bound": None if math.isnan(self.lower_bound) else self.lower_bound,
            "profile": self.profile.name,
            "estimate": self._interval,
            "time": self.time,
            "compute": total.compute,
            "memory": total.memory,
            **({"link": total.link, "communication": asdict(self.communication)} if self.analysis.devices else {}),
            "overhead": total.overhead,
            "memory_bytes": plain(self.memory.total),
            "fits": None if self.fit is None else bool(self.fit),
            "notes": list(self.notes),
            "kernels": {node.path: timing.time for node, timing in self.timings.items() if timing.time},
        }

    @property
    def _interval(self) -> dict[str, object] | str:
        """The estimate as plain data, or why there is none."""
        try:
            return asdict(self.estimate)
        except InputError as error:
            return str(error)

    def plot(self, what: str = "modules") -> Picture:
        """Return the roofline with one dot per module, beside the time that each takes; or, of ``"link"``, per tp."""
        if what not in {"modules", "link"}:
            raise InputError(f"a roofline is of modules or of the link, not {quote(what)}")
        return display.figure(self, "roofline_plot" if what == "modules" else "link_plot")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the analysis with its times, see `Analysis.save`."""
        display.save(self, path)
