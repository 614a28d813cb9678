"""Whether the times that `calibrate` leads to are true: estimated against measured, on one thread of this machine.

``make times`` calibrates, then runs two models at two precisions, with random weights, and prints for each of five
passes what was estimated, what was measured, by how much that is wrong, and by how much the roofline is. The kernels
that a calibration times are timed again between the passes: what follows from these times ("between") is wrong by
the laws alone, what follows from the calibration before ("after") by the change of the machine's speed too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

import nbanalyzer
from nbanalyzer.analysis.eager import EagerPace
from nbanalyzer.analysis.estimate import Estimate
from nbanalyzer.generate import calibrate
from nbanalyzer.generate.measure.calibration import profile_of
from nbanalyzer.generate.measure.case import Case
from nbanalyzer.generate.measure.cases import CPU, cases
from nbanalyzer.generate.measure.clock import Series, ThreadClock, interleaved
from nbanalyzer.generate.model.data import on_one_thread
from nbanalyzer.hardware.profiles import Profile, profile

__all__ = ["Pass", "Row", "main"]

MODELS = ("gpt2", "qwen2.5-0.5b")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SECONDS = 45  # for the passes of a model at a precision, and the kernels between them
STEADY = 0.05  # drift up to which the machine counts as one and the same


@dataclass(frozen=True)
class Pass:
    """One forward pass: sequences, new tokens of each, and tokens in the cache."""

    batch_size: int
    seq_len: int
    cache_len: int

    def __str__(self) -> str:
        if self.cache_len:
            return f"decode, batch {self.batch_size}, {self.cache_len:,} cached"
        return f"prefill, {self.seq_len} tokens"


PASSES = (Pass(1, 1, 128), Pass(1, 1, 1000), Pass(8, 1, 512), Pass(1, 128, 0), Pass(1, 384, 0))


@dataclass(frozen=True)
class Row:
    """A pass of a model: seconds estimated, measured, and at the roofline.

    Attributes:
        model, precision, of: which.
        after: estimated by the calibration before, with `between`, by kernels timed between the passes.
        measured: the median of the pass's own times, with `spread`, of its quartiles, as a share.
        roofline: at the peaks and the bandwidth of the calibration.

    """

    model: str
    precision: str
    of: Pass
    after: float
    between: float
    measured: float
    roofline: float
    spread: float

    def error(self, name: str) -> float:
        """Return by which share an estimate is too high."""
        estimated: float = getattr(self, name)
        return estimated / self.measured - 1

    def __str__(self) -> str:
        times = "".join(f"{1e3 * value:>10.1f}" for value in (self.after, self.measured))
        errors = "".join(f"{100 * self.error(name):>+9.1f} %" for name in PREDICTIONS)
        return f"{self.model:<14}{self.precision:<6}{self.of!s:<30}{times}{errors}{100 * self.spread:>8.1f} %"


PREDICTIONS = ("after", "between", "roofline")


def main(words: list[str] | None = None) -> int:
    """Print the table; return 0 if it is as good as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=55, help="for the calibration (55)")
    parser.add_argument("--models", nargs="+", default=MODELS, help="of the catalogue (gpt2 qwen2.5-0.5b)")
    parser.add_argument("--profile", help="a profile to take, instead of calibrating")
    parser.add_argument("--output", help="write the profile there")
    options = parser.parse_args(words)
    begin = time.monotonic()
    found = profile(options.profile) if options.profile else calibrate(seconds=options.seconds, output=options.output)
    print(f"{found.card}, {time.monotonic() - begin:.0f} s: {'; '.join(found.notes)}\n")
    print(
        f"{'milliseconds':<50}{'after':>10}{'measured':>10}{'after':>11}{'between':>11}{'roofline':>11}{'spread':>10}"
    )
    rows = [row for model in options.models for precision in DTYPES for row in _rows(model, precision, found)]
    print()
    good = False
    for name in reversed(PREDICTIONS):
        errors = sorted(abs(row.error(name)) for row in rows)
        middle, ninety = _at(errors, 0.5), _at(errors, 0.9)
        print(f"{name:<10}median {100 * middle:5.1f} %, p90 {100 * ninety:5.1f} %, n {len(errors)}")
        good = middle <= 0.10 and ninety <= 0.25
    return 0 if good else 1


def _at(errors: list[float], share: float) -> float:
    """Return a quantile, between neighbours in proportion."""
    ordered = sorted(errors)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _rows(name: str, precision: str, found: Profile) -> list[Row]:
    """Return the rows of a model; its passes, and kernels between them, are timed in turn."""
    dtype = DTYPES[precision]
    assert found.bandwidth is not None
    card = nbanalyzer.Accelerator(name=found.card, bandwidth=found.bandwidth, peaks=found.peaks)
    model = _model(name, dtype)
    passes = [_case(model, of, dtype) for of in PASSES]
    with torch.inference_mode(), on_one_thread():
        every = _mixed(cases(CPU, dtype, "cpu"), passes)
        series = interleaved(every, ThreadClock(), time.monotonic() + SECONDS, lambda _what, _part: None)
    own = {id(case) for case in passes}
    kernels = [one for one in series if id(one.case) not in own]
    again = profile_of(found.card, {precision: kernels}, (), SECONDS)
    of_case = {id(one.case): one for one in series}
    rows = []
    for of, case in zip(PASSES, passes, strict=True):
        one = of_case[id(case)]
        run: dict[str, Any] = {"batch_size": of.batch_size, "seq_len": of.seq_len, "cache_len": of.cache_len}
        bits = 8 * dtype.itemsize
        analysis = nbanalyzer.populate(name, w_bit=bits, a_bit=bits, causal="on", **run)
        after, between = (Estimate(analysis, EagerPace(each, analysis), 0).time for each in (found, again))
        row = Row(name, precision, of, after, between, one.median, analysis.on(card).time, _spread(one))
        print(row, flush=True)
        rows.append(row)
    print(f"{'':<20}{len(series[0].seconds)} rounds, {again.notes[-1]}")
    return rows


def _spread(one: Series) -> float:
    """Return how far the quartiles of a pass's times lie apart, as a share of their median."""
    times = sorted(one.seconds)
    return (_at(times, 0.75) - _at(times, 0.25)) / median(times)


def _mixed(kernels: Sequence[Case], passes: Sequence[Case]) -> list[Case]:
    """Return the kernels with the passes between them, evenly."""
    step = len(kernels) // len(passes)
    found = list(kernels)
    for number, case in enumerate(passes):
        found.insert(number * (step + 1), case)
    return found


def _model(name: str, dtype: torch.dtype) -> Any:
    """Return a model of transformers with random weights."""
    config = dict(nbanalyzer.populate(name, seq_len=1).template.config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype)
    buffers = {key: value.dtype for key, value in model.named_buffers()}
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
        for key, value in model.named_buffers():
            if buffers[key].is_floating_point:
                value.uniform_(0, 1)
    model.tie_weights()
    return model.eval()


def _case(model: Any, of: Pass, dtype: torch.dtype) -> Case:
    """Return a pass as a case; its cache is filled before, as far as it has to be."""
    tokens = torch.randint(0, 1000, (of.batch_size, of.seq_len))
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    shape = (of.batch_size, heads, of.cache_len, config.hidden_size // config.num_attention_heads)

    def prepared(_number: int) -> Callable[[], Any]:
        cache = DynamicCache(config=config)
        for layer in range(config.num_hidden_layers if of.cache_len else 0):
            cache.update(torch.randn(shape).to(dtype), torch.randn(shape).to(dtype), layer)
        return lambda: model(tokens, past_key_values=cache, use_cache=True)

    return Case(kind="model", amounts={}, prepared=prepared)


if __name__ == "__main__":
    sys.exit(main())
