"""The answer to a form's state: headline figures, the pass whose modules are shown, changes since another answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.analysis.comparison import Comparison, Variant, ratio
from nbanalyzer.analysis.memory import Fit, Memory, fit_of
from nbanalyzer.analysis.populate import populate
from nbanalyzer.analysis.roofline import Roofline
from nbanalyzer.costs.metrics import cache_of
from nbanalyzer.errors import InputError
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.hardware.profiles import profile as find_profile
from nbanalyzer.quantities import amount, count_of, rate, seconds, si

from .state import State

if TYPE_CHECKING:
    from nbanalyzer.analysis.estimate import Interval
    from nbanalyzer.analysis.request import Request, RequestTiming
    from nbanalyzer.hardware.accelerators import Accelerator
    from nbanalyzer.hardware.profiles import Profile

__all__ = ["Answer", "Figure", "change"]

UNMODELLED, AT_LEAST = "not modelled", "at least "
FUSED = "every fused kernel at its roofline"
OF_LIST = "operation by operation"  # of a list that is not fused


@dataclass(frozen=True)
class Figure:
    """One headline figure.

    Attributes:
        name: e.g. ``"bytes"``; of those that `Comparison` knows, its metric's name.
        label: its name, as shown.
        value: the number, nan if there is none.
        unit: ``"s"``, ``"B"``, ``"FLOP"``; empty for a plain number.
        text: the number as it is shown.
        note: a few words more.

    """

    name: str
    label: str
    value: float | int
    unit: str
    text: str
    note: str = ""


class Answer:
    """The cost of a state.

    Attributes:
        state: the form's state.
        analysis: the pass whose modules are shown: of a request its last step, which has the most in the cache.
        accelerator: where, or None.
        roofline: the pass's times, or None.
        request, timing: the whole request with its times, or None.

    Raises:
        NBAnalyzerError: an impossible state.

    """

    def __init__(self, state: State, before: Answer | None = None) -> None:
        self.state = state
        self.analysis: Analysis
        self.request: Request | None = None
        self.timing: RequestTiming | None = None
        if before is not None and before.state.key == state.key:
            self.request, self.analysis = before.request, before.analysis
        elif state.phase == "request":
            from nbanalyzer.analysis.request import request

            self.request = request(state.model, **state.options)
            self.analysis = self.request.last if self.request.steps else self.request.prefill
        else:
            self.analysis = populate(state.model, **state.options)
        self.accelerator: Accelerator | None = find_hardware(state.hardware) if state.hardware else None
        self.roofline: Roofline | None = None
        if self.accelerator:
            profile = self._profile(self.accelerator, before)
            mesh, reached = state.communication, state.assumed.efficiency
            self.roofline = Roofline(self.analysis, self.accelerator, reached, profile, mesh)
            if self.request:
                self.timing = self.request.on(
                    self.accelerator, compute_efficiency=reached.compute, bandwidth_efficiency=reached.bandwidth,
                    launch_overhead=reached.launch_overhead, profile=profile, nodes=mesh.nodes,
                    price=state.assumed.price,
                )  # fmt: skip
        self.figures: Mapping[str, Figure] = {figure.name: figure for figure in self._figures()}

    def _profile(self, accelerator: Accelerator, before: Answer | None) -> Profile:
        """Return the profile for the accelerator: the last one, if nothing has changed that it depends on."""
        if before is not None and before.roofline is not None:
            was, now = before.state, self.state
            if was.hardware == now.hardware and was.profile == now.profile:
                return before.roofline.profile
        return find_profile(self.state.profile, accelerator)

    @property
    def memory(self) -> Memory:
        """The memory that is needed."""
        return self.request.memory if self.request else self.analysis.memory

    @cached_property
    def fit(self) -> Fit | None:
        """Whether it fits; None without hardware, or if its memory is not known."""
        return fit_of(self.memory, self.accelerator) if self.accelerator else None

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands beside every time."""
        timed = self.timing or self.roofline
        return timed.marks if timed else ()

    @property
    def words(self) -> str:
        """What the times are, in words; empty without hardware."""
        timed = self.timing.prefill if self.timing else self.roofline
        return timed.words if timed else ""

    @cached_property
    def expected(self) -> Interval | str:
        """The estimate, of a pass or of a whole request, or why there is none; empty without hardware."""
        timed = self.timing or self.roofline
        try:
            return timed.estimate if timed else ""
        except InputError as error:
            return str(error)

    @cached_property
    def point(self) -> float | None:
        """The time that is expected of several devices that nobody measured, who have no interval; None if not so."""
        timed = self.timing or self.roofline
        if timed and isinstance(self.expected, str) and self.analysis.run.devices > 1:
            with suppress(InputError):
                return timed.expected
        return None

    @property
    def first_line(self) -> str:
        """The first thing to know: what to expect, the bound, and whether it fits; empty without hardware."""
        timed = self.timing or self.roofline
        return timed.answer if timed else ""

    @property
    def sentence(self) -> str:
        """The same for a newcomer, in plain words."""
        return self.result.sentence

    @property
    def result(self) -> Analysis | Roofline | Request | RequestTiming:
        """The same result as the library gives without a form."""
        return self.timing or self.request or self.roofline or self.analysis

    @property
    def name(self) -> str:
        """The model's name without its organisation."""
        template = self.analysis.template
        return template.model_id.rpartition("/")[2] or template.architecture or "template"

    @property
    def conditions(self) -> str:
        """The sizes and conventions, in one line."""
        if self.request is None:
            return self.analysis.conditions
        run = self.request.prefill.run
        parts = [f"batch_size {run.batch_size}, prompt {self.request.prompt_len:,}, output {self.request.output_len:,}"]
        weights = f"quant {self.request.quant}" if self.request.quant else f"w_bit {run.w_bit}"
        parts[0] += f", {weights}, a_bit {run.a_bit}, kv_bit {run.kv_bit}"
        parts.append(", ".join(f"{name} {value}" for name, value in self.request.prefill.conventions.items()))
        devices = [self.analysis.devices] if self.analysis.devices else []
        return "; ".join([*parts, *devices, *self.analysis.notes])

    @property
    def shown(self) -> str:
        """The pass that the pictures show."""
        run = self.analysis.run
        step = ""
        if self.request:
            step = "last decode step, " if self.request.steps else "prompt, "
        tokens = f"{run.seq_len:,} token{'s' if run.seq_len > 1 else ''}"
        return f"{step}batch {run.batch_size:,}, {tokens}{f' after {run.cache_len:,}' if run.cache_len else ''}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Caveats, one line each."""
        first = self.request.prefill.warnings if self.request and self.request.steps else ()
        timed = self.timing or self.roofline
        notes = timed.notes if timed else ()
        if self.accelerator and self.accelerator.memory_bytes is None:
            notes = (*notes, f"memory unknown: nobody can say whether this fits {self.accelerator.name}")
        return tuple(dict.fromkeys((*first, *self.analysis.warnings, *notes)))

    def _figures(self) -> list[Figure]:
        figures = [*self._times(), *self._money(), *self._fitting()]
        totals = self.request.totals if self.request else self.analysis.totals
        weights, cache = totals["weight_bytes_read"], totals["kv_bytes_read"] + totals["kv_bytes_written"]
        traffic = {"weights": weights, "cache": cache, "activations": totals["activation_bytes"]}
        parts = ", ".join(f"{si(size, 'B')} {name}" for name, size in traffic.items())
        split = f"{si(totals['matmul_flops'])} matmul, {si(totals['vector_flops'])} vector"
        figures.append(Figure("flops", "FLOPs", totals["flops"], "FLOP", si(totals["flops"], "FLOP"), split))
        figures.append(Figure("bytes", "bytes moved", totals["bytes"], "B", si(totals["bytes"], "B"), parts))
        intensity = totals["flops"] / totals["bytes"] if totals["bytes"] else 0.0
        figures.append(Figure("intensity", "FLOPs per byte", intensity, "", f"{intensity:.4g}"))
        own = self.analysis.totals
        stored = f"in {si(own['weight_bytes'], 'B')}"
        figures.append(
            Figure("parameters", "parameters", own["parameters"], "", count_of(own["parameters"], 4), stored)
        )
        if self.analysis.run.devices > 1:
            sent, part = self.analysis.totals["payload_bytes"], "of the pass that is shown" if self.request else ""
            figures.append(Figure("payload_bytes", "communication", sent, "B", si(sent, "B"), part))
        memory = self.memory
        when, tokens = "at the end" if self.request else "after it", cache_of(self.analysis.template.state)
        for name, value in self.analysis.state.items():
            label, metric = ("KV cache", "kv_cache_bytes") if name in tokens else (name.replace("_", " "), name)
            size = own["kv_cache_bytes"] if name in tokens else value
            if name not in tokens[1:]:
                figures.append(Figure(metric, label, size, "B", si(size, "B"), when))
        parts = ", ".join(f"{si(size, 'B')} {name}" for name, size in memory.parts.items())
        total = float(memory.total) if memory.total != int(memory.total) else int(memory.total)
        figures.append(Figure("memory", "memory, at least", total, "B", si(total, "B"), parts))
        return figures

    def _times(self) -> list[Figure]:
        if self.timing:
            least, most = _bounds(self.timing.prefill)
            first, token, whole = self.timing.time_to_first_token, self.timing.time_per_output_token, self.timing.time
            note = f"{100 * first / whole:.1f} % prompt" if whole else ""
            fused = self._time("bound", "bound, whole request", self.timing.lower_bound, AT_LEAST, FUSED)
            return [
                self._estimate(self.timing.profile.name),
                *([] if self.timing.prefill.is_bound or math.isnan(self.timing.lower_bound) else [fused]),
                self._time("first", "time to first token", first, least),
                self._time("token", "time per output token", token, least),
                self._time("time", "whole request", whole, least, note),
                self._rate(self.timing.tokens_per_second, most, "written"),
            ]
        if self.roofline is None:
            return []
        total, (least, most) = self.roofline.total, _bounds(self.roofline)
        part = getattr(total, total.bound) / total.time if total.time else 1.0
        note = f"{total.bound}-bound for {100 * part:.3g} %" if total.time else ""
        word = "generated" if self.state.phase == "decode" else "read"
        time, bound = self.roofline.time, self.roofline.lower_bound
        figures = [self._estimate(self.roofline.profile.name)]
        if self.roofline.is_bound:
            figures.append(self._time("time", "bound", time, least, note))
        else:
            if not math.isnan(bound):
                figures.append(self._time("bound", "bound", bound, AT_LEAST, f"{FUSED}{self.roofline.routing}"))
            figures.append(self._time("time", "time at the roofline", time, least, OF_LIST, note))
        return [*figures, self._rate(self.roofline.tokens_per_second, most, word)]

    def _time(self, name: str, label: str, value: float, least: str, *notes: str) -> Figure:
        words = ", ".join(filter(None, (*notes, *self.marks)))
        return Figure(name, label, value, "s", f"{least}{seconds(value)}", words)

    def _rate(self, value: float, most: str, what: str) -> Figure:
        words = ", ".join((f"{what}, of all sequences", *self.marks))
        return Figure("tokens_per_second", "tokens/s", value, "", f"{most}{rate(value)}", words)

    def _estimate(self, profile: str) -> Figure:
        label = "estimate, whole request" if self.request else "estimate"
        found = self.expected
        if self.point is not None:
            return Figure("estimate", label, self.point, "s", seconds(self.point), f"no interval: {found}")
        if isinstance(found, str):
            return Figure("estimate", label, math.nan, "s", UNMODELLED, found.removeprefix(f"{UNMODELLED}: "))
        around = f"{seconds(found.low)} … {seconds(found.high)} ({100 * found.level:.0f} %)"
        notes = ", ".join((around, profile, *self.marks))
        return Figure("estimate", label, found.value, "s", seconds(found.value), notes)

    def _money(self) -> list[Figure]:
        """Return what a million tokens cost in the time that is expected, if there is a price."""
        if self.state.assumed.price is None or self.accelerator is None or self.roofline is None:
            return []
        label, whole = "$ per million tokens", self.expected if self.point is None else self.point
        if isinstance(whole, str):
            return [Figure("cost", label, math.nan, "", UNMODELLED, "of the estimate, and there is none")]
        took = whole if isinstance(whole, float) else whole.value
        if self.timing:
            value = self.timing.cost_per_million_tokens
        else:
            price = self.state.assumed.money(self.accelerator, self.analysis.run.devices)
            value = price.cost_per_million_tokens(self.roofline.tokens_per_second * self.roofline.time / took)
        word = "written" if self.state.phase != "prefill" else "read"
        devices = f"{count} devices, " if (count := self.analysis.run.devices) > 1 else ""
        note = f"{word}, at the estimate; {devices}${self.state.assumed.price:g} an hour{' each' if devices else ''}"
        return [Figure("cost", label, value, "", f"${value:.2f}" if value >= 0.1 else f"${value:.2g}", note)]

    def _fitting(self) -> list[Figure]:
        if self.fit is None:
            return []
        free, name = self.fit.free, self.fit.accelerator.name
        text = f"✓ {si(free, 'B')} left" if self.fit else f"✗ {si(-free, 'B')} short"
        label = f"fits {name}" if self.fit else f"does not fit {name}"
        return [Figure("fits", label, float(free), "B", text, f"of {si(self.fit.capacity, 'B')}")]

    def since(self, pinned: Answer) -> Comparison:
        """Return the comparison of the pinned pass with this one."""
        both = (("pinned", pinned), ("now", self))
        return Comparison(tuple(Variant(label, one.analysis, one.roofline) for label, one in both))


def _bounds(roofline: Roofline) -> tuple[str, str]:
    """Return what stands before its times and before its rates."""
    return (AT_LEAST, "at most ") if roofline.is_bound else ("", "")


def change(before: Figure | None, after: Figure) -> str:
    """Return how a figure changed: ``×2, +16.06 GB``, ``=``, or ``new``, of what there was no number of too."""
    if before is None:
        return "new"
    difference = after.value - before.value
    if not difference or before.text == after.text == UNMODELLED:
        return "="
    if math.isnan(difference):
        return "new"
    text = f"{'+' if difference > 0 else '−'}{amount(abs(difference), after.unit)}"
    if after.name == "fits":  # free memory has no ratio
        return text
    return f"{ratio(before.value, after.value)}, {text}"
