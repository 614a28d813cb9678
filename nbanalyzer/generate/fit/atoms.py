"""Expressions that sizes are often made of, besides the variables themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.generate.probe.cases import PADDED_TO

__all__ = ["derived"]

_DIVIDES = re.compile(r"(_rate|_ratio|(?<!topk_)groups?|(kv|key|key_value)_heads)$")


def _always_divides(values: Sequence[Mapping[str, int]], divisor: str, name: str) -> bool:
    """Return whether a size may be divided by another: heads by fewer heads, anything by groups."""
    if divisor.endswith("heads") and not name.endswith("heads"):
        return False
    whole = values if not divisor.endswith(("_ratio", "_rate")) else values[:1]  # of a ratio, the rest is dropped
    return all(0 < one.get(divisor, 0) <= one.get(name, 0) for one in values) and all(
        one[divisor] < one[name] and one[name] % one[divisor] == 0 for one in whole
    )


def derived(values: Sequence[Mapping[str, int]], shares: Iterable[float] = ()) -> dict[str, Formula]:
    """Return expressions that sizes are often made of, besides the variables themselves; `shares` of heads, too."""
    names = list(dict.fromkeys(name for one in values for name in one))
    texts = []
    for name in names:
        if "window" in name or name == "attention_chunk_size":
            texts += [f"min({{cache_len}}, {{{name}}} - 1)", f"min({{cache_len}} + {{seq_len}}, {{{name}}} - 1)"]
        if name == PADDED_TO:
            texts += [f"ceil({{{length}}} / {{{name}}})" for length in ("seq_len", "encoder_len")]
        if name == "mem_len":
            texts += [f"min({{cache_len}}, {{{name}}})", f"min({{cache_len}} + {{seq_len}}, {{{name}}})"]
        if name == "index_topk":
            texts.append(f"min({{cache_len}} + {{seq_len}}, {{{name}}})")
        if name.endswith("chunk_size") and name != "attention_chunk_size":
            texts.append(f"ceil({{seq_len}} / {{{name}}})")
        if name.endswith("heads") and name != "num_kv_heads":
            wide = (one for one in names if one.endswith(("hidden_size", "bottleneck_size", "latents")))
            texts += [f"{{{one}}} // {{{name}}}" for one in wide]
        if _DIVIDES.search(name):
            texts += [f"{{{one}}} // {{{name}}}" for one in names if _always_divides(values, name, one)]
        if "conv" in name or "kernel" in name:
            texts.append(f"max({{seq_len}}, {{{name}}})")
    texts += ["ceil({seq_len} / 64)"]
    heads = ["({hidden_size} // {num_heads})", *(f"{{{name}}}" for name in names if name.endswith("head_dim"))]
    for share in sorted(shares):
        part = Fraction(str(share))
        # What is rotated is whole, and even: its tables are made of pairs.
        texts += [f"2 * (({head} * {part.numerator} // {part.denominator} + 1) // 2)" for head in heads]
    if "num_heads" in names:  # the largest power of 2 up to the heads, which ALiBi's slopes are made from
        texts.append(" + ".join(["1", *(f"{2**power} * ({{num_heads}} >= {2 ** (power + 1)})" for power in range(9))]))
    pairs = (("num_heads", "num_kv_heads"), ("num_experts", "n_group"), ("num_heads", "n_groups"),
             ("mamba_num_heads", "n_groups"), ("linear_num_value_heads", "linear_num_key_heads"))  # fmt: skip
    texts += [f"{{{left}}} // {{{right}}}" for left, right in pairs if left in names and right in names]
    return {text: parse(text) for text in texts}
