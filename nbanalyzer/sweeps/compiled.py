"""A template's metrics as functions of arrays: compiled once for one choice of model, precision and accelerator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nbanalyzer.analysis.closed_form import expected_of, memory_of, time_of
from nbanalyzer.analysis.communication import ONE_NODE, Communication
from nbanalyzer.analysis.estimate import spread_of, words_of
from nbanalyzer.analysis.laws import Pace
from nbanalyzer.analysis.price import Price
from nbanalyzer.analysis.rates import Efficiency, Rates, routing_of
from nbanalyzer.costs.count import tree_again, why_not_fused
from nbanalyzer.costs.drafts import tokens_a_step
from nbanalyzer.costs.metrics import METRICS, MONEY, OF_ENGINE, OF_ESTIMATE, metrics_of
from nbanalyzer.costs.passes import passes_of
from nbanalyzer.costs.run import REQUEST, TOKENS, Run
from nbanalyzer.costs.symbolic import Symbolic, free_values
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError, NotModelledError, UnknownNameError, near
from nbanalyzer.formulas.blocks import block_sizes, part_of, windows
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.program import Expression, Program
from nbanalyzer.formulas.simplify import expanded
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import Profile

from .doubts import certain

__all__ = ["CompiledMetrics", "Spec"]

Array = npt.NDArray[np.float64]

STEPS_AT_ONCE = 1 << 21  # decode steps times points, evaluated together: 16 MiB an array
MOST_STEPS = 10**7
MANY = 1024  # new tokens of a pass that reads a prompt of any length


@dataclass(frozen=True)
class Spec:
    """The definition of compiled metrics: equal specs have equal formulas.

    Attributes:
        tree: the template, in the variants of `run`.
        run: the fixed values of the run.
        params: the model's sizes that no axis changes.
        inner: the axes that arrays extend along: names of the run's lengths, or of config values.
        metrics: names, of `metrics_of` the model.
        accelerator: None if no metric needs it.
        efficiency: of the accelerator.
        lengths: `prompt_len` and `output_len` of a request, without those that are axes; None for a pass.
        profile: what estimates are made with; None without an accelerator.
        price: of the accelerator, with its power; None without one.
        communication: of several devices.

    Raises:
        UnknownNameError, InputError: a metric that does not exist, or lacks what it needs.

    """

    tree: Tree
    run: Run
    params: tuple[tuple[str, int], ...]
    inner: tuple[str, ...]
    metrics: tuple[str, ...]
    accelerator: Accelerator | None
    efficiency: Efficiency
    lengths: tuple[tuple[str, int], ...] | None
    profile: Profile | None = field(default=None, hash=False)
    price: Price | None = None
    communication: Communication = ONE_NODE

    def __post_init__(self) -> None:
        known = metrics_of([*self.tree.template.state])
        for metric in self.metrics:
            if metric not in known:
                hint = "" if near(str(metric), known) else f"There are: {', '.join(known)}."
                raise UnknownNameError("metric", metric, known if not hint else (), hint)
            needs = METRICS[metric].needs if metric in METRICS else ""
            if needs and self.accelerator is None:
                raise InputError(f"{metric} needs hardware: give hardware=…, such as 'h100-sxm'")
            if needs == "request" and self.lengths is None:
                raise InputError(f"{metric} belongs to a request: give prompt_len and output_len")
            if needs == "served":
                raise InputError(f"{metric} belongs to served requests: give concurrency, prompt_len and output_len")
        for name in {*MONEY} & {*self.metrics}:
            self.per_second(name)
        if "fits" in self.metrics and self.accelerator and self.accelerator.memory_bytes is None:
            raise InputError(f"the memory of {self.accelerator.name} is not known: fits cannot be told")
        if self.lengths is not None and not self.tree.template.state:
            raise InputError("this model keeps nothing from one pass to the next: it writes no text, token by token")
        if self.lengths is not None and (reads := self.tree.template.reads) and reads.written:
            raise InputError("not modelled: sweeps of requests to a model that keeps only the last of what it writes")

    def per_second(self, metric: str) -> float:
        """Return what a second of a pass adds to a metric of `MONEY`, for one token.

        Raises:
            InputError: the price, the grid or the board's power is not known.

        """
        of_a_token_a_second: float = getattr(self.price, metric)(1.0)
        return of_a_token_a_second


class CompiledMetrics:
    """The metrics of one template, run and accelerator over arrays.

    Args:
        spec: their definition.
        arrays: the model's sizes that axes change, with one dimension per inner axis.

    """

    def __init__(self, spec: Spec, arrays: Mapping[str, Any] | None = None) -> None:
        self.spec = spec
        self._arrays = dict(arrays or {})
        self._lengths = None if spec.lengths is None else dict(spec.lengths)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing the times; of a request, those of both its passes."""
        if self.spec.accelerator is None:
            return ()
        passes = passes_of(has_encoder=self._has_encoder)
        given = (None,) if self._lengths is None else (passes.first, passes.step)
        notes = [note for one in given for note in self._rates.notes(self._symbolic(one).launches)]
        if "lower_bound" in self.metrics:
            are_many = self._lengths is not None or {"batch_size", "seq_len"} & {*self.spec.inner}
            tokens = MANY if are_many else self.spec.run.batch_size * self.spec.run.seq_len
            routing = routing_of(self._symbolic(given[-1], "engine").launches, tokens)
            notes += [f"lower_bound{routing}"] if routing else []
        if not {*OF_ESTIMATE}.isdisjoint(self.metrics):
            pace = self._pace(given[-1])
            notes += [words_of(spread_of(self._symbolic(given[-1], "engine").launches, pace), pace.profile)]
            notes += pace.profile.notes
        return tuple(dict.fromkeys(notes))

    @cached_property
    def not_modelled(self) -> str:
        """Why `OF_ESTIMATE`, or all of `OF_ENGINE`, has no numbers here, though asked for; "" if it has."""
        if self._no_list or {*OF_ESTIMATE}.isdisjoint(self.spec.metrics):
            return self._no_list
        passes = passes_of(has_encoder=self._has_encoder)
        try:
            for given in (None,) if self._lengths is None else (passes.first, passes.step):
                launches, pace = self._symbolic(given, "engine").launches, self._pace(given)
                for launch in launches:
                    if launch.times:
                        pace.law(launch)
                spread_of(launches, pace)
        except NotModelledError as error:
            return str(error)
        return ""

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Those of the spec's that have numbers; the others are nan."""
        missing = (OF_ENGINE if self._no_list else OF_ESTIMATE) if self.not_modelled else ()
        return tuple(name for name in self.spec.metrics if name not in missing)

    @cached_property
    def _no_list(self) -> str:
        """Why nobody knows what an engine launches, of which metrics are asked for; "" if somebody does."""
        given = None if self._lengths is None else passes_of(has_encoder=self._has_encoder).step
        run, is_asked = self._run(given, "engine"), not {*OF_ENGINE}.isdisjoint(self.spec.metrics)
        return why_not_fused(self.spec.tree, run, self.spec.params) if is_asked else ""

    # ---- formulas

    def _run(self, given: Mapping[str, str] | None, fusion: str) -> Run:
        """Return the run of a pass, of a list of kernels; what the switches mean may depend on the pass."""
        if given is None:
            return self.spec.run.fused(fusion)
        seq_len = expanded(parse(given["seq_len"]), self._constants)
        # An axis of lengths has no 1 among others, see `nbanalyzer.sweeps.partition`: any other number says as much.
        return self.spec.run.fused(fusion, seq_len=int(seq_len.number) if seq_len.is_constant else MANY)

    @property
    def _constants(self) -> dict[str, Number | Polynomial]:
        return dict(self._lengths or {})

    def _symbolic(self, given: Mapping[str, str] | None = None, fusion: str = "") -> Symbolic:
        """Return the costs of the list of kernels that `fusion` says, by default the run's own.

        Args:
            given: formulas that replace values of the run.
            fusion: see `nbanalyzer.costs.run.SWITCHES`.

        """
        spec, run = self.spec, self._run(given, fusion or self.spec.run.fusion)
        is_own = (run.fusion, run.variants) == (spec.run.fusion, spec.run.variants)
        tree = spec.tree if is_own else tree_again(spec.tree, run, spec.params)
        if given is None:
            free = frozenset(spec.inner) & {*TOKENS}
            return Symbolic(tree, {**dict(spec.params), **free_values(run, free)})
        values: dict[str, Number | Polynomial] = {**dict(spec.params), **run.values()}
        if "batch_size" in spec.inner:
            del values["batch_size"]
        values |= {name: expanded(parse(formula), self._constants) for name, formula in given.items()}
        values["seq_len"] = expanded(parse(f"{given['seq_len']} + {run.drafts}"), self._constants)
        if run.logits == "all":
            values["num_logits"] = values["seq_len"]
        return Symbolic(tree, values)

    def _outputs(
        self, names: Sequence[str], given: Mapping[str, str] | None = None
    ) -> dict[str, Polynomial | Expression]:
        """Return metric → formula of one pass; nan where a kernel's own cost is negative, which `populate` refuses."""
        own, engine = self._symbolic(given), None
        outputs: dict[str, Polynomial | Expression] = {}
        for name in names:
            if name not in OF_ENGINE:
                outputs[name] = self._expression(own, name)
                continue
            engine = engine or self._symbolic(given, "engine")
            if name == "lower_bound":
                rates = Rates(self._accelerator, self.spec.run, communication=self.spec.communication)
                outputs[name] = time_of(engine, rates)
            else:
                expected = expected_of(engine, self._pace(given))
                outputs[name] = expected if name == "estimate" else self._money(name, expected, engine.tokens)
        return certain(outputs, (*own.doubts, *(engine.doubts if engine else ())))

    def _expression(self, symbolic: Symbolic, name: str) -> Polynomial | Expression:
        if name in {"time", "tokens_per_s"}:
            time = time_of(symbolic, self._rates)
            return time if name == "time" else Expression("/", (symbolic.tokens, time))
        if name == "memory_bytes":
            return memory_of(symbolic)
        if name == "fits":
            return Expression("<=", (memory_of(symbolic), Polynomial.constant(self._accelerator.memory_bytes or 0)))
        if name == "arithmetic_intensity":
            return Expression("/", (symbolic.metric("flops"), symbolic.metric("bytes")))
        state = name.removesuffix("_bytes")
        if name != "kv_cache_bytes" and state in self.spec.tree.template.state:
            return symbolic.state[state]
        return symbolic.metric(name)

    def _money(self, name: str, seconds: Expression, tokens: Polynomial) -> Polynomial | Expression:
        """Return a metric of `MONEY` of one pass: seconds / tokens, times what each second of a token adds."""
        factor = self.spec.per_second(name)
        return Expression("/", (seconds, tokens * (1 / Fraction(factor)))) if factor else Polynomial({})

    def _pace(self, given: Mapping[str, str] | None) -> Pace:
        assert self.spec.profile is not None  # the spec has checked that there is an accelerator
        run = self._run(given, "engine")
        latent = tree_again(self.spec.tree, run, self.spec.params).is_latent
        return Pace(self._accelerator, self.spec.profile, run, latent, communication=self.spec.communication)

    @property
    def _rates(self) -> Rates:
        spec = self.spec
        return Rates(self._accelerator, spec.run, spec.efficiency, communication=spec.communication)

    @property
    def _accelerator(self) -> Accelerator:
        assert self.spec.accelerator is not None  # the spec has checked it
        return self.spec.accelerator

    @cached_property
    def _program(self) -> Program:
        return Program(self._outputs(self.metrics), self._axes())

    def _axes(self) -> dict[str, frozenset[int]]:
        """Return variable → the axes that its array extends along."""
        axes = {name: frozenset({index}) for index, name in enumerate(self.spec.inner)}
        for name, array in self._arrays.items():
            axes[name] = frozenset(index for index, size in enumerate(array.shape) if size > 1)
        return axes

    # ---- evaluating

    def evaluate(self, values: Mapping[str, Array], window: Sequence[slice], out: Mapping[str, Any]) -> None:
        """Compute the metrics over a part of a grid.

        Args:
            values: inner axis → its values, one-dimensional; of a config axis only the number matters.
            window: a slice of every inner axis.
            out: metric → the array for its numbers, of the window's shape.

        """
        shape = tuple(len(values[name][part]) for name, part in zip(self.spec.inner, window, strict=True))
        arrays: dict[str, Any] = {}
        for index, (name, part) in enumerate(zip(self.spec.inner, window, strict=True)):
            arrays[name] = values[name][part].reshape([-1 if place == index else 1 for place in range(len(shape))])
        arrays |= {name: part_of(array, window) for name, array in self._arrays.items()}
        for name in {*out}.difference(self.metrics):
            out[name][...] = np.nan
        out = {name: array for name, array in out.items() if name in self.metrics}
        if self._lengths is None:
            self._program.evaluate(arrays, shape, out)
        else:
            self._requests(arrays, shape, out)

    # ---- requests: the prompt's pass, and the sum over the decode steps

    @property
    def _has_encoder(self) -> bool:
        """Whether an encoder reads the prompt, and the decoder begins with one token."""
        return "encoder_len" in self.spec.tree.variables

    @property
    def _summed(self) -> tuple[str, ...]:
        """The needed metrics that are summed over a request's passes."""
        asked = [METRICS[name] for name in self.metrics if name in METRICS]
        needed = {metric.name for metric in asked if metric.is_summed}
        from_time = (metric for metric in asked if metric.needs and metric.name not in {"fits", *OF_ENGINE})
        needed |= {"time"} if any(from_time) else set()
        needed |= {"estimate"} if not {*MONEY}.isdisjoint(self.metrics) else set()
        needed |= {"flops", "bytes"} if "arithmetic_intensity" in self.metrics else set()
        return tuple(sorted(needed))

    @cached_property
    def _first_program(self) -> Program:
        """The prompt's pass, and the memory at the end."""
        passes = passes_of(has_encoder=self._has_encoder)
        first, last = self._symbolic(passes.first), self._symbolic(passes.last)
        outputs = {**self._outputs(self._summed, passes.first), "memory_bytes": memory_of(last, first)}
        for name in self.metrics:
            is_ratio = name == "arithmetic_intensity" or (name in METRICS and METRICS[name].needs)
            if name not in outputs and not is_ratio:
                outputs[name] = self._expression(last, name)  # sizes of weights and state
        return Program(certain(outputs, (*first.doubts, *last.doubts)), self._axes())

    @cached_property
    def _step_program(self) -> Program:
        """One decode step, along a further, last axis."""
        axes = {**self._axes(), "cache_len": frozenset({len(self.spec.inner)})}
        return Program(self._outputs(self._summed, passes_of(has_encoder=self._has_encoder).step), axes)

    def _requests(self, arrays: Mapping[str, Any], shape: tuple[int, ...], out: Mapping[str, Any]) -> None:
        first = self._first_program.evaluate(arrays, shape)
        # A step that verifies drafts writes several tokens: there are so many fewer.
        tokens = float(tokens_a_step(self.spec.run))
        steps = {name: numbers / tokens for name, numbers in self._step_sums(arrays, shape).items()}
        lengths = {**(self._lengths or {}), **arrays}
        batch, output = lengths.get("batch_size", self.spec.run.batch_size), lengths["output_len"]
        sums = {name: first[name] + steps[name] for name in self._summed}
        for name in self.metrics:
            match name:
                case "time_to_first_token":
                    numbers = first["time"]
                case "time_per_output_token":
                    numbers = steps["time"] / np.maximum(output - 1, 1)
                case "tokens_per_s":
                    numbers = batch * output / sums["time"]
                case _ if name in MONEY:
                    numbers = sums["estimate"] * self.spec.per_second(name) / (batch * output)
                case "arithmetic_intensity":
                    numbers = sums["flops"] / sums["bytes"]
                case "fits":
                    numbers = first["memory_bytes"] <= (self._accelerator.memory_bytes or 0)
                case _:
                    numbers = sums[name] if name in sums else first[name]
            out[name][...] = numbers

    def _step_sums(self, arrays: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Array]:
        """Return the sums over every point's decode steps.

        Points that differ only in their first and last step share the others: each step is evaluated once, and a sum
        is the difference of two running sums.
        """
        lengths = {**(self._lengths or {}), **arrays}
        start = np.asarray(1 if self._has_encoder else lengths["prompt_len"], dtype=np.int64)
        stop = start + np.asarray(lengths["output_len"], dtype=np.int64) - 1
        low, high = int(start.min()), int(stop.max())
        sums = {name: np.zeros(shape) for name in self._summed}
        if high <= low or not sums:
            return sums
        if high - low > MOST_STEPS:
            raise InputError(f"a request of a sweep has up to {MOST_STEPS:,} decode steps, not {high - low:,}")
        # Points along these axes share their steps.
        shared = {"output_len"} if self._has_encoder else {*REQUEST}
        own_shape = tuple(1 if name in shared else size for name, size in zip(self.spec.inner, shape, strict=True))
        own_arrays = {name: array for name, array in arrays.items() if name not in shared}
        steps = np.arange(low, high, dtype=np.float64).reshape([1] * len(shape) + [-1])
        for window in windows(own_shape, block_sizes(own_shape, STEPS_AT_ONCE // (high - low))):
            block = {name: part_of(array, window)[..., None] for name, array in own_arrays.items()}
            block_shape = tuple(part.stop - part.start for part in window)
            costs = self._step_program.evaluate({**block, "cache_len": steps}, (*block_shape, high - low))
            axes = zip(self.spec.inner, window, strict=True)
            points = tuple(slice(None) if name in shared else part for name, part in axes)
            ends = [part_of(np.broadcast_to(end, shape), points)[..., None] - low for end in (start, stop)]
            for name, cost in costs.items():
                # Extended precision: a difference of two long sums keeps the digits of the short one.
                running = np.zeros((*block_shape, high - low + 1), dtype=np.longdouble)
                np.cumsum(cost, axis=-1, dtype=np.longdouble, out=running[..., 1:])
                before, after = (np.take_along_axis(running, end, axis=-1)[..., 0] for end in ends)
                sums[name][points] = after - before
        return sums
