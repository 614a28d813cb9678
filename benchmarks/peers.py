"""Points a second of other tools, as JSON: run by ``sweeps.py`` in a process of its own.

What a tool is asked is what it has for a forward pass of gpt2 at many sizes; what it prints is thrown away.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from itertools import cycle, product
from typing import Any

SIZES = list(product((1, 2, 4, 8), (16, 64, 256, 1000)))
SECONDS = 3.0  # that each tool is measured
GROUPS = 9


def rate(point: Callable[[int, int], Any]) -> float:
    """Return points a second of a function of batch size and sequence length, median of several groups."""
    with contextlib.redirect_stdout(io.StringIO()):
        point(1, 16)  # what is done once
        begin = time.perf_counter()
        point(2, 64)
        few = max(1, int(SECONDS / GROUPS / (time.perf_counter() - begin)))
        found = []
        sizes = cycle(SIZES)
        for _ in range(GROUPS):
            begin = time.perf_counter()
            for _ in range(few):
                point(*next(sizes))
            found.append(few / (time.perf_counter() - begin))
    return statistics.median(found)


def llm_analysis() -> dict[str, float]:
    """Return llm-analysis's: the whole of its inference analysis, and only FLOPs, latency and cache of a pass."""
    analysis, config = import_module("llm_analysis.analysis"), import_module("llm_analysis.config")
    model = config.ModelConfig(
        name="gpt2", num_layers=12, n_head=12, hidden_dim=768, vocab_size=50257, max_seq_len=1024
    )
    tool = analysis.LLMAnalysis(model, config.get_gpu_config_by_name("a100-sxm-80gb"))

    def totals(batch: int, length: int) -> Any:
        return (
            tool.get_num_flops_fwd_total(batch, length),
            tool.get_latency_fwd(batch, length),
            12 * tool.get_memory_kv_cache_per_layer(batch, length),
        )

    return {
        "llm-analysis, FLOPs, latency and cache": rate(totals),
        "llm-analysis, its inference analysis": rate(lambda batch, length: tool.inference(batch, length, 1)),
    }


def _gpt2() -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from nbanalyzer.analysis.populate import template_of

    config = dict(template_of("gpt2").config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config.pop("model_type"), **config), attn_implementation="eager"
        ).eval()


def calflops() -> dict[str, float]:
    """Return calflops's, on PyTorch's meta device."""
    import torch

    calculate_flops = import_module("calflops").calculate_flops
    model = _gpt2()

    def point(batch: int, length: int) -> Any:
        ids = torch.zeros((batch, length), dtype=torch.long, device="meta")
        with torch.no_grad():
            return calculate_flops(model, kwargs={"input_ids": ids}, print_results=False, output_as_string=False)

    return {"calflops, FLOPs": rate(point)}


def flop_counter() -> dict[str, float]:
    """Return those of PyTorch's counter, on its meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = _gpt2()

    def point(batch: int, length: int) -> Any:
        ids = torch.zeros((batch, length), dtype=torch.long, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(ids)
        return counter.get_total_flops()

    return {"FlopCounterMode, matmul FLOPs": rate(point)}


def main() -> None:
    """Print what was found, and why something is missing."""
    logging.disable(logging.CRITICAL)
    found: dict[str, float | str] = {}
    for tool in (llm_analysis, calflops, flop_counter):
        try:
            found |= tool()
        except ImportError as error:
            found[tool.__name__] = f"not measured: {error}"
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
