"""How long a person waits in a running kernel: ``make bench``.

Every figure is the median over fresh kernels (so that first means first), printed beside its target. Byte
code is compiled before, as pip does when it installs; a first kernel, not counted, takes care of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time

from jupyter_client.manager import start_new_kernel

from nbanalyzer.analysis.populate import populate
from nbanalyzer.costs.tree import Tree

KERNELS = 7
TIMED = """
import time, json
def timed(magic, line):
    start = time.perf_counter()
    get_ipython().run_line_magic(magic, line)
    return 1000 * (time.perf_counter() - start)
figures = {
    "%load_ext nbanalyzer": timed("load_ext", "nbanalyzer"),
    "first %populate gpt2 --plot none": timed("populate", "gpt2 --plot none"),
    "next %populate gpt2 --plot none": timed("populate", "gpt2 --seq_len 512 --plot none"),
    "the same, with its text and HTML": 0.0,
}
start = time.perf_counter()
get_ipython().display_formatter.format(get_ipython().run_line_magic("populate", "gpt2 --seq_len 256 --plot none"))
figures["the same, with its text and HTML"] = 1000 * (time.perf_counter() - start)
print(json.dumps(figures))
"""
TARGETS = {"%load_ext nbanalyzer": 50, "first %populate gpt2 --plot none": 300, "next %populate gpt2 --plot none": 20}


def in_a_kernel(byte_code: str) -> dict[str, float]:
    """Return the milliseconds that each step took in a kernel of its own; `byte_code` is a folder for it."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = byte_code
    manager, client = start_new_kernel(kernel_name="python3", env=env, stderr=subprocess.DEVNULL)
    said: list[str] = []
    try:
        client.execute_interactive(
            TIMED, output_hook=lambda message: said.append(message["content"].get("text", "")), timeout=120
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    found: dict[str, float] = json.loads("".join(said).strip().splitlines()[-1])
    return found


def milliseconds(model: str, layers: int) -> float:
    """Return the median time of evaluating a model's template with that many layers."""
    analysis = populate(model, set={"num_layers": layers})
    tree = Tree(analysis.template)
    tree.costs(analysis.values)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        tree.costs(analysis.values)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as byte_code:
        runs = [in_a_kernel(byte_code) for _ in range(KERNELS + 1)][1:]
    print(f"In a running kernel, median of {KERNELS} fresh kernels:")
    for name in runs[0]:
        figures = sorted(run[name] for run in runs)
        middle = statistics.median(figures)
        target = f"  target {TARGETS[name]:>4} ms, ratio {middle / TARGETS[name]:.2f}" if name in TARGETS else ""
        print(f"  {name:36} {middle:7.1f} ms  ({figures[0]:.1f} to {figures[-1]:.1f}){target}")
    few, many = milliseconds("llama-2-7b", 12), milliseconds("llama-2-7b", 61)
    print("Evaluating Llama-2-7B's template, median of 200:")
    print(f"  12 layers {few:.2f} ms, 61 layers {many:.2f} ms, ratio {many / few:.2f} (target about 1)")


if __name__ == "__main__":
    main()
