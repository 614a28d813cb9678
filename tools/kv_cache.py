"""Write docs/kv-cache.md: the cache and the weights of twenty models, as they are and as calculators give them.

What others publish stands here as they write it, with the address; what is right is computed from the templates.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbanalyzer
from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.metrics import cache_of
from nbanalyzer.files import write_whole

__all__ = ["CLAIMS", "MODELS", "Claim", "cached", "page", "per_layer_head", "per_layer_width"]

PAGE = Path("docs/kv-cache.md")
CONTEXT = 32_768  # tokens
GIB = 1 << 30
MODELS = (
    "openai-community/gpt2-xl", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B",
    "mistralai/Mistral-7B-v0.1", "mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B",
    "Qwen/Qwen3-235B-A22B", "Qwen/Qwen3.5-27B", "Qwen/Qwen3-Next-80B-A3B-Instruct", "google/gemma-2-9b-it",
    "google/gemma-3-27b-it", "google/gemma-4-26B-A4B", "openai/gpt-oss-20b",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct", "deepseek-ai/DeepSeek-V2", "deepseek-ai/DeepSeek-V3",
    "ai21labs/Jamba-v0.1", "tiiuae/falcon-7b",
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A published figure.

    Attributes:
        model: whose cache it is.
        tokens: in the cache, of each sequence.
        said: the figure as it is written.
        bytes: what that is.
        source: where.
        why: what is missing, or what is right.
        batch_size: sequences.

    """

    model: str
    tokens: int
    said: str
    bytes: int
    source: str
    why: str
    batch_size: int = 1


CLAIMS = tuple(
    Claim(**claim)
    for claim in tomllib.loads(Path(__file__).with_name("published_caches.toml").read_text("utf-8"))["claim"]
)
WEIGHTS = (
    ("LLM-Viewer", {"Llama-2-7b-hf": -1.95, "Qwen3-8B": -7.60, "Mixtral-8x7B-v0.1": -84.78, "DeepSeek-V3": -94.39}),
    ("llm-analysis", {"Llama-2-7b-hf": -2.44, "Qwen3-8B": -14.97, "Mixtral-8x7B-v0.1": -87.65, "DeepSeek-V3": -94.26}),
    ("GenZ", {"gpt2": 30.29, "Llama-2-7b-hf": 0.0, "Qwen3-8B": 0.0, "Mixtral-8x7B-v0.1": 0.0, "DeepSeek-V3": 823.65}),
    ("InferSim", {"Llama-2-7b-hf": -3.89, "Qwen3-8B": -15.20, "Mixtral-8x7B-v0.1": -85.06, "DeepSeek-V3": -94.70}),
)  # fmt: skip
"""What four calculators gave for parameters, in per cent of what is there, run on 2026-11-22."""


def cached(model: str, tokens: int = CONTEXT, batch_size: int = 1) -> int:
    """Return the bytes that a model keeps, in 16 bits, of so many tokens of each sequence: keys, values, latents.

    Windows of tokens that are compressed to one entry are among them: all state that grows with the tokens.
    """
    return int(_analysis(model, tokens, batch_size).totals["kv_cache_bytes"])


def per_layer_head(model: str, tokens: int = CONTEXT) -> int:
    """Return what the formula of most calculators gives: all layers keep all tokens, heads are hidden / heads wide."""
    sizes = _analysis(model, 1).params
    heads = sizes.get("num_kv_heads", sizes["num_heads"])
    return int(2 * sizes["num_layers"] * heads * (sizes["hidden_size"] // sizes["num_heads"]) * tokens * 2)


def per_layer_width(model: str, tokens: int = CONTEXT) -> int:
    """Return what the formula of 2020 gives: every layer keeps all tokens, all heads have keys."""
    sizes = _analysis(model, 1).params
    return int(2 * sizes["num_layers"] * sizes["hidden_size"] * tokens * 2)


def _analysis(model: str, tokens: int, batch_size: int = 1) -> Analysis:
    return nbanalyzer.populate(model, seq_len=tokens, batch_size=batch_size, a_bit=16, w_bit=16, kv_bit=16)


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 100 else f"{size / 1024:,.1f} KiB"


def _off(given: float, right: float) -> str:
    ratio = given / right
    if 0.99 < ratio < 1.01:
        return "="
    return f"{ratio:.3g} ×" if ratio >= 1 else f"{ratio:.2f} ×"


def _readable(formula: str) -> str:
    return re.sub(r"[{}]", "", formula)


def _models() -> Iterator[str]:
    for model in MODELS:
        right = cached(model)
        others = (_off(per_layer_head(model), right), _off(per_layer_width(model), right))
        analysis = _analysis(model, CONTEXT)
        kept = cache_of(analysis.template.state)
        state = sum(int(size) for name, size in analysis.state.items() if name not in kept)
        beside = f" + {_gib(state)} of state" if state else ""
        yield f"| {model} | {right:,} | {_gib(right)}{beside} | {others[0]} | {others[1]} |"


def _claims() -> Iterator[str]:
    for claim in CLAIMS:
        right = cached(claim.model, claim.tokens, claim.batch_size)
        tokens = f"{claim.tokens:,}" if claim.batch_size == 1 else f"{claim.batch_size} × {claim.tokens:,}"
        name = claim.model.rpartition("/")[2]
        said = f"[{claim.said}]({claim.source})"
        yield f"| {name} | {tokens} | {said} | {_gib(right)} | {_off(claim.bytes, right)} | {claim.why} |"


def _weights() -> Iterator[str]:
    names = {name: model for model in nbanalyzer.models() for name in [model.rpartition("/")[2]]}
    shown = ("gpt2", "Llama-2-7b-hf", "Qwen3-8B", "Mixtral-8x7B-v0.1", "DeepSeek-V3")
    yield f"| | {' | '.join(shown)} |"
    yield f"|---|{'---:|' * len(shown)}"
    exact = [int(_analysis(names[name], 1).totals["parameters"]) for name in shown]
    yield f"| parameters | {' | '.join(f'{count:,}' for count in exact)} |"
    yield f"| bytes in 16 bits | {' | '.join(f'{2 * count:,}' for count in exact)} |"
    for tool, errors in WEIGHTS:
        cells = (f"{errors[name]:+.1f} %" if name in errors else "no answer" for name in shown)
        yield f"| {tool} | {' | '.join(cells)} |"


def _formulas() -> Iterator[str]:
    for model in MODELS:
        yield f"- {model}: `{_readable(str(_analysis(model, 1).formula_text('kv_cache_bytes')))}`"


def page() -> str:
    """Return the page, in Markdown."""
    return f"""# What the cache weighs

The keys and values that a model keeps decide how many users a card serves and how long they may write. Most
calculators have one formula for them, and most models of today are not what it is about: layers with windows, latents
instead of heads, one layer with attention in four, heads wider than hidden / heads. Here each model has its own
formula, read from transformers' own cache and checked against it (`%verify`), and `explain("kv_cache_bytes")` shows it
with the numbers in place. The page is written by `python -m tools.kv_cache`, and a test compares it.

## Twenty models, {CONTEXT:,} tokens, one sequence, 16 bits

"one formula" is 2 · layers · key heads · (hidden / heads) · tokens · 2 bytes, as most calculators have it; "all heads"
is 2 · layers · hidden · tokens · 2 bytes, as articles have it. Both as a multiple of what is kept; = is within 1 %.

| model | bytes | | one formula | all heads |
|---|---:|---:|---:|---:|
{chr(10).join(_models())}

Windows keep one token less than they are wide between two steps: the next token is the last one in the window. An
engine may reserve more than the model keeps (pages of one size, windows rounded up), as two rows below show.

## What is published

Figures as their authors give them; × is theirs by ours.

| model | tokens | said | is | | |
|---|---:|---:|---:|---:|---|
{chr(10).join(_claims())}

Some of the sources are descriptions of faults that are mended since; they are here because they say both numbers.

## Weights

Parameters by four calculators, run on the same configs on 2026-11-22, in per cent off. Ours are those of PyTorch's
model, module by module.

{chr(10).join(_weights())}

"no answer" is an error, or a model that is not there. Experts are what goes wrong most. What a checkpoint weighs in its
own precision is another question: [quantisation.md](quantisation.md).

## The formulas

{chr(10).join(_formulas())}
"""


def main() -> None:
    """Write the page."""
    write_whole(PAGE, page().encode())


if __name__ == "__main__":
    main()
