"""How fast sweeps are, beside NumPy by hand and beside other tools, and how long a person waits: ``make bench``.

Everything is measured in one run, contestants in turn, and written to ``docs/performance.md`` with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from by_hand import gpt2_totals, llama_time
from distributed import Client, LocalCluster

from nbanalyzer import populate, sweep
from nbanalyzer.hardware.accelerators import hardware

HERE = Path(__file__).parent
PEERS = HERE.parent / "build" / "peers"  # where `make bench` puts other tools, which ask for an older transformers
PAGE = HERE.parent / "docs" / "performance.md"
ROUNDS = 9
CARD = "h100-sxm"
ENGINE = "vllm"
SIDE = 1000
STEPS = (10**5, 10**6, 10**7, 10**8)
BILLION: Mapping[str, Any] = {
    "batch_size": range(1, 1001),
    "seq_len": range(1, 1001),
    "cache_len": range(1000),
    "hardware": CARD,
    "metrics": ["flops", "bytes", "time"],
}


@dataclass(frozen=True)
class Line:
    """One measurement.

    Attributes:
        what: in words.
        figure: with its unit.
        beside: what it is compared with, and the ratio.
        target: what it should be.
        is_met: whether it is; None without a target.

    """

    what: str
    figure: str
    beside: str = ""
    target: str = ""
    is_met: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: " (met)", False: " (MISSED)"}[self.is_met]
        return f"  {self.what:62} {self.figure:>18}  {self.beside}  {self.target}{verdict}".rstrip()


def touch(gigabytes: float) -> None:
    """Use memory once: the first use of a page since the machine was started can cost much more than later ones."""
    for array in [np.ones(2**24) for _ in range(int(8 * gigabytes))]:
        array[0] = 0


def seconds(tasks: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median time of each task; they take turns, so that all see the same load."""
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            begin = time.perf_counter()
            task()
            found[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in found.items()}


def millions(rate: float) -> str:
    """Return points a second in words."""
    return f"{rate / 1e6:,.1f} M points/s" if rate >= 1e6 else f"{rate:,.0f} points/s"


# ---- points a second


def beside_numpy() -> tuple[list[Line], float]:
    """Return the speed of sweeps beside that of the same formulas by hand, and that of gpt2's totals."""
    sizes: dict[str, Any] = {"batch_size": range(1, SIDE + 1), "seq_len": range(1, SIDE + 1)}
    longer: dict[str, Any] = {"batch_size": range(1, SIDE + 1), "seq_len": range(1, 10 * SIDE + 1)}
    totals = ["flops", "bytes", "kv_cache_bytes"]
    timed = {**sizes, "metrics": "time", "hardware": CARD}
    steps: dict[str, Any] = {
        "batch_size": range(1, SIDE + 1),
        "cache_len": range(SIDE),
        "seq_len": 1,
        "hardware": CARD,
    }
    card = hardware(CARD)
    rates = card.peak(card.precision_for(16)), card.vector_peak or 0.0, card.bandwidth

    def axes(length: int) -> tuple[Any, Any]:
        return np.arange(1.0, SIDE + 1)[:, None], np.arange(1.0, length + 1)[None, :]

    tasks: dict[str, Callable[[], Any]] = {
        "gpt2": lambda: sweep("gpt2", **sizes, metrics=totals),
        "gpt2 by hand": lambda: gpt2_totals(*axes(SIDE)),
        "longer": lambda: sweep("gpt2", **longer, metrics=totals),
        "longer by hand": lambda: gpt2_totals(*axes(10 * SIDE)),
        "llama": lambda: sweep("llama-3.1-8b", **timed),
        "llama by hand": lambda: llama_time(*axes(SIDE), *rates),
        "deepseek": lambda: sweep("deepseek-v3", **timed),
        "decode": lambda: sweep("llama-3.1-8b", **steps, metrics="time"),
        "expected": lambda: sweep("llama-3.1-8b", **steps, metrics="estimate", profile=ENGINE),
        "prefill": lambda: sweep("llama-3.1-8b", **sizes, hardware=CARD, metrics="estimate", profile=ENGINE),
    }
    for one, other in zip(tasks["gpt2"]().arrays.values(), tasks["gpt2 by hand"](), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_allclose(tasks["llama"]().arrays["time"], tasks["llama by hand"](), rtol=1e-12)
    speed = {
        name: SIDE * SIDE * (10 if name.startswith("longer") else 1) / took for name, took in seconds(tasks).items()
    }
    lines = []
    for name, what, least in (
        ("gpt2", "gpt2: FLOPs, bytes, KV cache, 1000 × 1000", 20e6),
        ("longer", "gpt2: FLOPs, bytes, KV cache, 1000 × 10,000", 20e6),
        ("llama", "Llama-3.1-8B: time, kernel by kernel, 1000 × 1000", 2e6),
        ("deepseek", "DeepSeek-V3: time, kernel by kernel, 1000 × 1000", 0.5e6),
        ("decode", "Llama-3.1-8B: time of a decode step, 1000 × 1000", 20e6),
        ("expected", "Llama-3.1-8B: estimate of a decode step, launch by launch, 1000 × 1000", 20e6),
        ("prefill", "Llama-3.1-8B: estimate of a prefill, launch by launch, 1000 × 1000", 20e6),
    ):
        hand = speed.get(f"{name} by hand")
        beside = f"NumPy by hand {millions(hand)}, ratio {speed[name] / hand:.2f}" if hand else ""
        is_met = speed[name] >= max(least, hand or 0)
        target = f"{'by hand, and ' if hand else ''}≥ {millions(least)}"
        lines.append(Line(what, millions(speed[name]), beside, target, is_met))
    return lines, speed["gpt2"]


def sizes_of_grid() -> list[Line]:
    """Return the time of a point for grids from small to large."""
    took = {}
    for points in STEPS:
        side = round(points**0.5)
        options: dict[str, Any] = {"metrics": "time", "hardware": CARD}
        options |= {"batch_size": range(1, side + 1), "seq_len": range(1, side + 1)}
        task = {"in memory": lambda given=options: sweep("llama-3.1-8b", **given)}
        took[points] = 1e9 * seconds(task, 3 if points > 10**7 else ROUNDS)["in memory"] / side**2
    ratio = took[STEPS[-1]] / took[STEPS[1]]
    return [
        Line(
            f"Llama-3.1-8B's time, {points:,} points",
            f"{one:.1f} ns a point",
            f"{one / took[STEPS[1]]:.2f} of that at {STEPS[1]:,}",
            "about 1" if points == STEPS[-1] else "",
            ratio < 1.5 if points == STEPS[-1] else None,
        )
        for points, one in took.items()
    ]


def beside_tools(ours: float) -> list[Line]:
    """Return the speed of other tools, and how many times as fast gpt2's totals are."""
    env = {**os.environ, "PYTHONPATH": str(PEERS), "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [sys.executable, str(HERE / "peers.py")], env=env, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        return [Line("other tools", "not measured", done.stderr.strip().splitlines()[-1])]
    lines = []
    for name, rate in json.loads(done.stdout).items():
        if isinstance(rate, str):
            lines.append(Line(name, "not measured", rate.removeprefix("not measured: ")))
            continue
        is_analysis = name.startswith("llm-analysis")
        lines.append(
            Line(
                f"gpt2 by {name}",
                millions(rate),
                f"a sweep is {ours / rate:,.0f} times as fast",
                "> 1,000" if is_analysis else "",
                ours / rate > 1000 if is_analysis else None,
            )
        )
    return lines


# ---- waiting


def cold() -> list[Line]:
    """Return whole processes: from the start to the table, and importing what other tools begin with."""
    commands = {
        "ours": [sys.executable, "-m", "nbanalyzer", "--populate", "--model_id", "gpt2"],
        "theirs": [sys.executable, "-c", "import transformers, torch"],
    }
    with tempfile.TemporaryDirectory() as byte_code:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = byte_code

        def process(name: str) -> Callable[[], Any]:
            return lambda: subprocess.run(commands[name], env=env, stdout=subprocess.DEVNULL, check=True)

        took = seconds({name: process(name) for name in commands}, 7)
    ratio = took["ours"] / took["theirs"]
    beside = f"`import transformers, torch` {took['theirs']:.2f} s, ratio {ratio:.2f}"
    return [
        Line("cold: `nbanalyzer --populate --model_id gpt2`", f"{took['ours']:.2f} s", beside, "≤ 0.5", ratio <= 0.5)
    ]


def another(model: str) -> Callable[[], Any]:
    """Return a function that populates a model's template with a length that it has not had yet."""
    lengths = iter(range(1, 10**6))
    return lambda: populate(model, seq_len=next(lengths))


def another_estimate(model: str) -> Callable[[], Any]:
    """Return a function that estimates a decode step of a model after as much in the cache as it has not had yet."""
    lengths = iter(range(1, 10**6))
    return lambda: populate(model, seq_len=1, cache_len=next(lengths)).on(CARD, profile=ENGINE).estimate


def warm() -> list[Line]:
    """Return the time of another `populate`, and of another estimate, in a process that has done one."""
    lines = []
    for model, most in (("gpt2", 2), ("llama-3.1-8b", None), ("deepseek-v3", 10)):
        took = 1000 * seconds({model: another(model)}, 201)[model]
        target = f"≤ {most} ms" if most else ""
        lines.append(Line(f"warm: populate({model!r})", f"{took:.2f} ms", "", target, took <= most if most else None))
    took = 1000 * seconds({"estimate": another_estimate("llama-3.1-8b")}, 201)["estimate"]
    what = "warm: populate('llama-3.1-8b').on('h100-sxm', profile='vllm').estimate"
    lines.append(Line(what, f"{took:.2f} ms", "", "≤ 5 ms", took <= 5))
    return lines


# ---- beyond the memory


def peak() -> float:
    """Return the most memory that this process has used, in GiB."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        found = None
    # What getrusage says includes what the process that started this one had used.
    return int(found[1] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20


def billion() -> list[Line]:
    """Return how long 10^9 points take to be reduced on 1 and on 2 workers, and how much memory."""
    lines: list[Line] = []
    took: dict[int, dict[str, float]] = {}
    work: dict[int, dict[str, float]] = {}
    most = 0.0
    asked: dict[str, Callable[[Any], Any]] = {
        "best point": lambda one: one.best(minimize="time", where="{seq_len} * {batch_size} >= 4096"),
        "histogram": lambda one: one.histogram("time"),
    }
    cluster_of: Any = LocalCluster  # no types are known of it
    client_of: Any = Client
    for workers in (1, 2):
        with (
            cluster_of(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
            client_of(cluster) as client,
        ):
            client.wait_for_workers(workers)
            found = sweep("gpt2", **BILLION, chunks="auto")
            # Every worker evaluates a chunk before the clock starts.
            small: dict[str, Any] = {
                name: value[:200] if isinstance(value, range) else value for name, value in BILLION.items()
            }
            sweep("gpt2", **small, chunks="auto").histogram("time")
            took[workers], work[workers] = {}, {}
            for name, ask in asked.items():
                before = client.run(time.process_time)
                begin = time.perf_counter()
                ask(found)
                took[workers][name] = time.perf_counter() - begin
                work[workers][name] = max(
                    after - before[worker] for worker, after in client.run(time.process_time).items()
                )
            most = max(most, *client.run(peak).values())
    for name, one in took[1].items():
        two = took[2][name]
        shared = f"{work[1][name]:.1f} s of CPU, {work[2][name]:.1f} s on the busier of two"
        lines.append(
            Line(
                f"10^9 points of gpt2's time, {name}",
                f"{two:.1f} s",
                f"2 workers; 1 worker {one:.1f} s, ratio {one / two:.2f} ({shared})",
                "≥ 1.7",
                one / two >= 1.7,
            )
        )
    lines.append(Line("peak memory of a worker", f"{most:.2f} GiB", "", "≤ 2 GiB", most <= 2))
    return lines


# ---- the page


def machine() -> dict[str, str]:
    """Return what this ran on."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    model = re.search(r"model name\s*:\s*(.+)", text)
    versions = [f"Python {platform.python_version()}"]
    for name in ("numpy", "dask", "torch", "transformers"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return {
        "CPU": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        "Versions": ", ".join(versions),
        "Date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def page(sections: Mapping[str, Sequence[Line]], about: Mapping[str, str]) -> str:
    """Return the page that says what was measured, as Markdown."""
    parts = [HEAD, *(f"- {name}: {value}" for name, value in about.items()), ""]
    for title, lines in sections.items():
        parts += [f"## {title}", "", "| what | measured | beside it | target | |", "|---|---:|---|---|---|"]
        for line in lines:
            verdict = {None: "", True: "met", False: "**missed**"}[line.is_met]
            parts.append(f"| {line.what} | {line.figure} | {line.beside} | {line.target} | {verdict} |")
        parts.append("")
    return "\n".join([*parts, FOOT])


HEAD = """# Performance

Written by `make bench` (`benchmarks/sweeps.py`), all in one run. Times depend on the machine; the ratios say more.
"""
FOOT = """## How this is measured

- Medians; what is compared takes turns, so that both see the same load. The load average is that of the last minute,
  before and after the run: on a machine with 2 cores, more than about 1 before it means that others were at work too.
- Points a second are those of the whole call `sweep(…)`, from the ranges to the arrays, on a grid of batch sizes ×
  lengths, with templates that were used before. What a call costs however small its grid (a few milliseconds for its
  checks and sizes) is in them. `benchmarks/by_hand.py` has what it is compared with: the same totals, and the same
  kernels, as somebody writes them in NumPy who knows the model. Both are checked to give equal numbers.
- Other tools are asked what they have for a forward pass of gpt2, one point after the other, as their interfaces want
  it. They do not count the same things (`llm-analysis` counts matrix products and some traffic, `calflops` and
  `FlopCounterMode` FLOPs only), so these ratios are of orders of magnitude.
- Memory is used once before the clock starts. In a virtual machine the first use of a page can take longer than the
  arithmetic on it, whoever does it.
- Cold is a whole process, its byte code compiled before, as pip does when it installs.
- Workers are processes with one thread each, on this machine. 10^9 points are evaluated and reduced block by block;
  no chunk is ever stored. The histogram goes over the grid twice, as its ends have to be found first. The CPU time
  says how well the work is shared also where others use the machine at the same time.
"""


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the 10^9 points and other tools; writes no page")
    quick = parser.parse_args().quick
    begin = os.getloadavg()[0]
    touch(3)
    sections: dict[str, list[Line]] = {}

    def show(title: str, lines: list[Line]) -> None:
        sections[title] = lines
        print(f"{title} (load {os.getloadavg()[0]:.1f})", *lines, sep="\n", flush=True)

    lines, ours = beside_numpy()
    show("Points a second on one core", lines)
    show("The time of a point", sizes_of_grid())
    show("Waiting", [*cold(), *warm(), Line("peak memory of this process, 10^8 points in it", f"{peak():.2f} GiB")])
    if quick:
        return
    show("Other tools", beside_tools(ours))
    show("Beyond the memory", billion())
    load = f"{begin:.1f} before, {os.getloadavg()[0]:.1f} after"
    PAGE.write_text(page(sections, {**machine(), "Load average": load}), encoding="utf-8")
    print(f"written: {PAGE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
