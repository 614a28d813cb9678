"""A profile of this machine: its kernels timed, and the parameters of the laws fitted to the times."""

from __future__ import annotations

import datetime
import platform
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import torch

from nbanalyzer.costs.kinds import in_microseconds
from nbanalyzer.errors import InputError
from nbanalyzer.generate.model.data import on_one_thread
from nbanalyzer.hardware.parameters import Fit, Spread
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.progress import Progress

from .cases import CPU, CUDA, Grid, cases
from .clock import Clock, CudaClock, Series, ThreadClock, drift_of, interleaved
from .fit import figure, fitted
from .small import CASTS, KINDS

__all__ = ["LAWS", "calibrate", "profile_of"]

LAWS = {
    "linear": "eager_linear",
    "transposed_linear": "eager_linear",
    "decode_attention": "eager_attention",
    "prefill_attention": "eager_attention",
    "append": "eager_append",
    "elementwise": "eager_elementwise",
    "exp": "eager_elementwise",
    "tanh": "eager_elementwise",
}
"""Kind of kernel → the law that is fitted."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FUNCTIONS = ("exp", "tanh")
"""Kinds that are elementwise kernels with a function in them."""
ROUGH = 0.05  # drift from which the profile says that it is not to be relied on
FITTING = 0.05  # share of the time that is left for it
FLUSH = 2**28  # bytes that are written between two timings of a CUDA device: more than any has as a cache


def calibrate(device: str, seconds: float, tell: Progress) -> Profile:
    """Return the profile of a device of this machine.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        seconds: that it may take.
        tell: told how far it is.

    Raises:
        InputError: the device is not there.

    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no CUDA device that PyTorch can use: take device='cpu'")
    begin = time.monotonic()
    deadline = begin + seconds * (1 - FITTING)
    try:
        with torch.inference_mode(), on_one_thread():
            clock: Clock = ThreadClock()
            if device == "cuda":
                clock = CudaClock(torch.empty(FLUSH, dtype=torch.uint8, device=device).zero_)
            series = _measured(device, CPU if device == "cpu" else CUDA, clock, deadline, tell)
    except torch.OutOfMemoryError:
        raise InputError(f"the memory of {_name(device)} is too small, or in use: nothing was measured") from None
    threads = "1 thread" if device == "cpu" else f"CUDA {torch.version.cuda}, graphs"
    notes = (f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}, {threads}",)
    return profile_of(_name(device), series, notes, time.monotonic() - begin)


def _measured(device: str, grid: Grid, clock: Clock, deadline: float, tell: Progress) -> dict[str, list[Series]]:
    """Return precision → the times of its kernels; all precisions are timed in turn."""
    tell("preparing", 0.0)
    by_precision = {precision: cases(grid, dtype, device) for precision, dtype in DTYPES.items()}
    every = [case for found in by_precision.values() for case in found]
    series = iter(interleaved(every, clock, deadline, tell))
    return {precision: [next(series) for _ in found] for precision, found in by_precision.items()}


def profile_of(card: str, series: dict[str, list[Series]], notes: Sequence[str], seconds: float) -> Profile:
    """Return the profile that times give.

    Args:
        card: what the device is called.
        series: precision → the times of its kernels.
        notes: with what they were taken.
        seconds: how long that took.

    """
    everything = [one for found in series.values() for one in found]
    peaks = {precision: figure(_peak(found)) for precision, found in series.items()}
    bandwidth = figure(_bandwidth(everything))
    classes: dict[str, dict[str, Fit]] = {}
    for precision, found in series.items():
        for kind, fit in _fits(found, precision, peaks[precision], bandwidth).items():
            classes.setdefault(kind, {})[precision] = fit
    drift = drift_of(everything)
    rounds = len(everything[0].seconds)
    said = [*notes, f"{rounds} rounds in {seconds:.0f} s, drift {100 * drift:.1f} % between their halves"]
    if drift > ROUGH:
        said.append("the machine's speed changed meanwhile: calibrate again when it is less busy")
    return Profile(
        card=card,
        engine="pytorch",
        engine_version=str(torch.__version__),
        made=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        source="measured on this machine",
        overlap=1.0,
        peaks=peaks,
        bandwidth=bandwidth,
        classes=classes,
        intervals={"dense": {"1": COMPARED}},
        notes=tuple(said),
    )


# No machine is compared with itself: nine of ten passes of two models that had no part in the laws were within 17.1 %
# of their estimate, where that was tried.
COMPARED = Spread(
    n=20,
    ratio=(0.82, 0.854, 1.0, 1.206, 1.25),
    source="20 passes of two small models on another machine, docs/calibration.md",
)
LARGE = 2**23  # bytes of a weight from which its rate is the memory's


def _peak(series: Sequence[Series]) -> float:
    """Return the highest FLOP/s of a product."""
    return max(one.case.amounts["matmul_flops"] / one.median for one in series if one.case.kind == "linear")


def _bandwidth(series: Sequence[Series]) -> float:
    """Return the bytes/s of the memory: of a large copy, or of weights where they are read faster."""
    copies = (one.case.amounts["bytes"] / one.median for one in series if one.case.kind == "copy")
    linears = [one for one in series if one.case.kind == "linear" and one.case.amounts["weight_bytes"] > LARGE]
    return max((*copies, *(one.case.amounts["weight_bytes"] / one.median for one in linears)))


def _fits(series: Sequence[Series], precision: str, peak: float, bandwidth: float) -> dict[str, Fit]:
    """Return kind → what is fitted to the times of one precision."""
    points: dict[str, list[tuple[dict[str, float], float]]] = {kind: [] for kind in LAWS}
    for one in series:
        if one.case.kind in LAWS:
            points[one.case.kind].append((in_microseconds(one.case.amounts, peak, bandwidth), 1e6 * one.median))
    fits: dict[str, Fit] = {}
    for kind, law in LAWS.items():
        fixed: dict[str, float] = {"per_element_ns": 0.0} if kind == "elementwise" else {}
        if kind in FUNCTIONS:
            plain = fits["elementwise"].parameters
            fixed = {name: plain[name] for name in ("activation_bandwidth", "launch_us")}
        fits[kind] = fitted(law, points[kind], fixed)
    return _with_python(fits, series, precision)


def _with_python(fits: dict[str, Fit], series: Sequence[Series], precision: str) -> dict[str, Fit]:
    """Return the fits with the Python that leads to each kernel: what a model takes beyond its products and kernels."""
    times = {one.case.kind: 1e6 * one.median for one in series if one.case.kind in {"pass", "products"}}
    if not times:  # a device is told what to do in advance
        return fits
    counts = {**KINDS, "elementwise": KINDS["elementwise"] + (0 if precision == "fp32" else CASTS)}
    kernels = sum(counts[kind] * fits[kind].parameters["launch_us"] for kind in counts if kind != "linear")
    python = max(0.0, (times["pass"] - times["products"] - kernels) / sum(counts.values()))
    found = {}
    for kind, fit in fits.items():
        parameters = fit.parameters | {"launch_us": figure(fit.parameters["launch_us"] + python)}
        found[kind] = msgspec.structs.replace(fit, parameters=parameters)
    return found


def _name(device: str) -> str:
    """Return what a device is called: its model, in small letters."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return "-".join(re.findall(r"[a-z0-9]+", name.casefold())) or device


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value
    return platform.processor() or platform.machine()
