"""How long the form takes to follow a slider, on the kernel's side: from the change to the new pictures and figures.

Measured in a real kernel, messages to the browser included. Every position of the slider is visited once, so that no
answer is one that was kept; the first move, which draws the axes, is counted too.
"""

from __future__ import annotations

import json
import os
import subprocess

from jupyter_client.manager import start_new_kernel

TARGET = 50  # ms, 95 of 100
MODELS = ("gpt2", "llama-3.1-8b", "mixtral-8x7b-v0.1", "deepseek-v3")
DRAGS = (("prefill", "seq_len"), ("decode", "batch_size"), ("decode", "cache_len"), ("request", "prompt_len"))
TIMED = """
import json, time
import nbanalyzer
from IPython.display import display

def drag(model, phase, name, pinned):
    form = nbanalyzer.whatif(model, hardware="h200-sxm", phase=phase)
    display(form)
    if pinned:
        form.pin()
    slider = form._panel.inputs.sizes[name].slider
    found = []
    for index in [*range(len(slider.options))]:
        if index == slider.index:
            continue
        start = time.perf_counter()
        slider.index = index
        found.append(1000 * (time.perf_counter() - start))
        assert not form.error, form.error
    form.close()
    return found

start = time.perf_counter()
display(nbanalyzer.whatif("gpt2", hardware="h200-sxm"))
first = 1000 * (time.perf_counter() - start)
start = time.perf_counter()
display(nbanalyzer.whatif("gpt2-xl", hardware="h200-sxm"))
print(json.dumps({"first": first, "next": 1000 * (time.perf_counter() - start),
    "drags": [[*case, drag(*case)] for case in CASES]}))
"""


def measured() -> dict[str, object]:
    """Return what the kernel measured, in milliseconds."""
    cases = [(model, *drag, False) for model in MODELS for drag in DRAGS] + [(MODELS[-1], *DRAGS[1], True)]
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ}, stderr=subprocess.DEVNULL)
    said: list[str] = []
    try:
        client.execute_interactive(
            f"CASES = {cases!r}\n{TIMED}",
            output_hook=lambda message: said.append(message["content"].get("text", "")),
            timeout=600,
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    found: dict[str, object] = json.loads("".join(said).strip().splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    found = measured()
    print(f"A form is made and shown: {found['first']:.0f} ms, with imports; the next one {found['next']:.0f} ms")
    print("Slider moved to everything shown anew, in a running kernel, ms:")
    print(f"  {'model':20}{'phase':9}{'slider':20}{'moves':>6}{'median':>8}{'p95':>8}{'max':>8}   p95 / {TARGET} ms")
    drags = found["drags"]
    assert isinstance(drags, list)
    for model, phase, name, is_pinned, times in drags:
        times.sort()
        middle, most = times[len(times) // 2], times[-1]
        late = times[min(len(times) - 1, -(-95 * len(times) // 100) - 1)]
        label = f"{name}{', pinned' if is_pinned else ''}"
        figures = f"{len(times):6}{middle:8.1f}{late:8.1f}{most:8.1f}"
        print(f"  {model:20}{phase:9}{label:20}{figures}   ratio {late / TARGET:.2f}")


if __name__ == "__main__":
    main()
