"""Every kind of picture, as a page has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from nbanalyzer import compare, populate, request, sensitivity, solve, sweep

__all__ = ["PICTURES", "html_of", "picture", "swept"]


@cache
def swept() -> Any:
    return sweep(
        "llama-3.1-8b", seq_len=[128, 1024, 8192, 32768], batch_size=[1, 8, 64], w_bit=16, hardware="h100-sxm",
        metrics=["time", "fits"],
    )  # fmt: skip


def ranked() -> Any:
    analysis = populate("llama-3.1-8b", seq_len=512, tp=2, pp=2)
    return analysis.ranks(analysis.on("h100-sxm")).plot()


PICTURES: dict[str, Callable[[], Any]] = {
    "bars": lambda: populate("gpt2", seq_len=1024).plot(),
    "bars of bytes": lambda: populate("deepseek-v3", seq_len=1, cache_len=4096).plot("bytes"),
    "roofline": lambda: populate("llama-3.1-8b", seq_len=2048).on("h100-sxm").plot(),
    "roofline of a step": lambda: populate("gpt2", seq_len=1, cache_len=512).on("rtx-4090").plot(),
    "link": lambda: populate("llama-3.1-8b", seq_len=512).on("h100-sxm").plot("link"),
    "ranks": ranked,
    "comparison": lambda: compare("llama-3.1-8b", w_bit=[16, 4], seq_len=2048, hardware="rtx-3060").plot(),
    "lines": lambda: swept().plot("time"),
    "map": lambda: swept().heatmap("time"),
    "fits": lambda: swept().heatmap("fits"),
    "large map": lambda: sweep("gpt2", seq_len=range(1, 100), batch_size=range(1, 100), metrics="bytes").heatmap(),
    "request": lambda: request("llama-3.1-8b", prompt_len=1000, output_len=200).plot(),
    "times of a request": lambda: request("gpt2", prompt_len=200, output_len=500).on("h100-sxm").plot(),
    "what fits": lambda: solve("llama-3.1-8b", "h100-sxm", maximize="batch_size", seq_len=1, cache_len=4096).plot(),
    "what does not": lambda: solve("deepseek-v3", "h100-sxm", maximize="batch_size", seq_len=1).plot(),
    "balance": lambda: solve("gpt2", "h100-sxm", balance="batch_size", seq_len=1, cache_len=10).plot(),
    "elasticities": lambda: sensitivity("gpt2", "arithmetic_intensity", {"seq_len": 512}).plot(),
}


@cache
def picture(name: str) -> Any:
    return PICTURES[name]()


@cache
def html_of(name: str) -> str:
    found: str = picture(name).html()
    return found
