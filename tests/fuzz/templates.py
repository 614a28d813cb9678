"""Templates: made up from nothing, or shipped ones with something changed; read, expanded, populated, shown."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from nbanalyzer import expand, populate, sweep
from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.templates.template_files import load_template

from .campaign import Campaign, Watch
from .damage import damaged, smaller
from .formulas import expression

__all__ = ["TEMPLATES"]

ROOT = Path(__file__).parents[2]
RUNTIME = (
    "batch_size",
    "seq_len",
    "cache_len",
    "w_bytes",
    "a_bytes",
    "kv_bytes",
    "causal",
    "hidden_size",
    "num_layers",
)
CONFIG = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 100, "n_positions": 64}


@cache
def shipped(folder: str) -> tuple[tuple[Any, int], ...]:
    """Return the shipped templates as plain data, with their sizes."""
    files = sorted((ROOT / folder).rglob("*.json"))
    return tuple((json.loads(path.read_bytes()), path.stat().st_size) for path in files)


def formula(rng: random.Random) -> str:
    """Return a formula in variables that a model template may use, most of the time."""
    text = expression(rng, rng.randint(0, 2))
    for name in ("{a}", "{b}", "{x_1}"):
        text = text.replace(name, f"{{{rng.choice(RUNTIME)}}}")
    return text


def kernel(rng: random.Random, depth: int) -> dict[str, Any]:
    if depth == 0 or rng.random() < 0.4:
        return {
            "kernel_type": "basic", "operation": rng.choice(("matmul", "add", "gelu (3 steps)", "copy (fused)", "=1+1")),
            "unit": rng.choice(("matmul", "vector")), "flops": formula(rng),
            **rng.choice(({}, {"fused": True}, {"steps": rng.choice((1, 8, 1000, 0, -1, 10**30, 1.5))})),
            "memory_access": {"read": formula(rng), "write": formula(rng)},
        }  # fmt: skip
    found: dict[str, Any] = {"kernel_type": "composite", "name": f"k{rng.randrange(10**6)}"}
    if rng.random() < 0.3:
        found["repeat"] = rng.choice(("{num_layers}", "2", "0", formula(rng)))
    if rng.random() < 0.3:
        found["parameters"] = formula(rng)
    if rng.random() < 0.2:
        found |= {"module": "Linear", "bindings": {name: formula(rng) for name in ("num_tokens", "input_size", "output_size", "has_bias")}}  # fmt: skip
    else:
        found["sub_kernels"] = [kernel(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    return found


def made(rng: random.Random) -> Any:
    """Return a template as plain data, or a file's content."""
    chance = rng.random()
    if chance < 0.62:
        data: Any = {"model_id": "x", "config": CONFIG, "kernels": [kernel(rng, rng.randint(0, 3)) for _ in range(rng.randint(0, 3))]}  # fmt: skip
        if rng.random() < 0.3:
            data["state"] = {"kv_cache": formula(rng)}
    elif chance < 0.95:
        data, _ = rng.choice(shipped("modules"))
    else:
        data = rng.choice([data for data, size in shipped("models") if size < 40_000])
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        data = damaged(rng, data)
    if chance > 0.05:
        return data
    content = bytearray(json.dumps(data).encode())
    for _ in range(rng.randint(0, 3)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.randint(1, len(content))] if rng.random() < 0.3 else content)


def check(case: Any, watch: Watch, rng: random.Random) -> None:
    """Do with a template what the package does with one."""
    if isinstance(case, bytes):
        watch.call("load", load_template, case)
        return
    if not isinstance(case, dict):
        return
    if "class_name" in case:
        bindings = (
            {str(name): formula(rng) for name in case["variables"]} if isinstance(case.get("variables"), dict) else {}
        )
        watch.call("expand", expand, case, bindings)
        return
    if not ("kernels" in case or "extends" in case):
        return  # a config: see there
    run = {
        "batch_size": rng.choice((1, 3, 2**40)), "seq_len": rng.choice((1, 7, 1024, 2**40)), "cache_len": rng.choice((0, 9)),
        "w_bit": rng.choice((1, 4, 16)),
    }  # fmt: skip
    found: Analysis | None = watch.call("populate", populate, case, **run)
    if found is None:
        return
    watch.call("text", repr, found)
    chance = rng.random()
    if chance < 0.1:
        watch.call("html", found._repr_mimebundle_)
        watch.call("tree", lambda: json.dumps(found.tree))
    elif chance < 0.15:
        watch.call("formula", found.formula, rng.choice(("flops", "bytes", "parameters")))
        watch.call("explain", found.explain, "flops")
    elif chance < 0.2:
        watch.call("roofline", lambda: repr(found.on("h100-sxm")))
        _sweep(case, run, watch)


def _sweep(case: Any, run: dict[str, int], watch: Watch) -> None:
    """Compare a sweep with the analysis of one of its points."""
    run = {**run, "batch_size": 2, "seq_len": 3}
    swept = watch.call(
        "sweep", sweep, case, metrics=["flops", "bytes"], **{**run, "seq_len": [3, 5], "batch_size": [2, 4]}
    )
    point = watch.call("populate a point", populate, case, **run)
    if swept is None or point is None:
        return
    watch.call("sweep shown", lambda: repr(swept))
    for metric in ("flops", "bytes"):
        ours, theirs = float(swept.arrays[metric][0, 0]), float(point.totals[metric])
        assert abs(ours - theirs) <= 1e-6 * abs(theirs), f"a sweep's {metric} are not the analysis's"


TEMPLATES = Campaign("templates", made, check, smaller)
