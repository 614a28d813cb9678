"""Estimates of typical figures against published speeds of cards that people own.

Tokens a second of llama.cpp, batch 1: github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README at 00dd2bde,
"Average eval speed on LLaMA 2" (December 2023) and "tg 1024 on LLaMA 3" (May 2024), one card each. Those for which the
model did not fit are left out.
"""

from __future__ import annotations

from statistics import median

import pytest

import nbanalyzer
from nbanalyzer.analysis.request_timing import RequestTiming

PUBLISHED = {
    ("rtx-3090", "llama-2-7b", "gguf-q4_0"): 120.6, ("rtx-3090", "llama-2-7b", ""): 51.85,
    ("rtx-4080", "llama-2-7b", "gguf-q4_0"): 118.01, ("rtx-4080", "llama-2-7b", ""): 44.2,
    ("rtx-4090", "llama-2-7b", "gguf-q4_0"): 149.37, ("rtx-4090", "llama-2-7b", ""): 60.78,
    ("apple-m2-ultra", "llama-2-7b", "gguf-q4_0"): 91.89, ("apple-m2-ultra", "llama-2-7b", ""): 40.68,
    ("apple-m3", "llama-2-7b", "gguf-q4_0"): 20.79,
    ("rtx-3090", "llama-3-8b", "gguf-q4_k_m"): 111.74, ("rtx-3090", "llama-3-8b", ""): 46.51,
    ("rtx-4080", "llama-3-8b", "gguf-q4_k_m"): 106.22, ("rtx-4080", "llama-3-8b", ""): 40.29,
    ("rtx-4090", "llama-3-8b", "gguf-q4_k_m"): 127.74, ("rtx-4090", "llama-3-8b", ""): 54.34,
    ("apple-m1", "llama-3-8b", "gguf-q4_k_m"): 9.72,
    ("apple-m1-max", "llama-3-8b", "gguf-q4_k_m"): 34.49, ("apple-m1-max", "llama-3-8b", ""): 18.43,
    ("apple-m2-ultra", "llama-3-8b", "gguf-q4_k_m"): 76.28,
}  # fmt: skip
"""Card, model, scheme (none: f16) → tokens a second."""
NAMES = {"llama-2-7b": "llama-2-7b-hf", "llama-3-8b": "meta-llama-3-8b"}


def written(card: str, model: str, scheme: str) -> RequestTiming:
    """Return one client's request: a short prompt, 1,024 tokens written."""
    options = {"prompt_len": 8, "output_len": 1024, "quant": scheme or None, "fusion": "engine"}
    return nbanalyzer.request(NAMES[model], **options).on(card)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_median_error_is_below_15_percent() -> None:
    errors = {key: 1 / written(*key).estimate_per_output_token.value / speed - 1 for key, speed in PUBLISHED.items()}
    assert median(map(abs, errors.values())) < 0.15
    nvidia = [abs(error) for (card, *_), error in errors.items() if card.startswith("rtx")]
    assert max(nvidia) < 0.25


@pytest.mark.parametrize("key", PUBLISHED, ids=" ".join)
def test_nothing_was_measured_faster_than_the_bound(key: tuple[str, str, str]) -> None:
    assert written(*key).time_per_output_token < 1 / PUBLISHED[key]
