"""A small model of transformers: how long it takes to start a kernel, with the Python that leads to it.

In a decode step every weight pushes out of the caches what Python needs, so that a kernel of a model is started three
times slower than one in a loop: hence a model whose weights are larger than the caches, and not a tiny one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from nbanalyzer.generate import hf
from nbanalyzer.generate.model.data import Unfilled, fill

from .case import Call, Case

__all__ = ["CONFIG", "KINDS", "passes"]

CONFIG: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
"""Of a Llama: 51 million parameters."""
CACHED = 8  # tokens
KINDS: dict[str, int] = {"linear": 57, "decode_attention": 8, "append": 8, "exp": 9, "elementwise": 173}
"""Kind of kernel → how many are started in a decode step in fp32."""
CASTS = 35
"""Elementwise kernels beside these in bf16: to fp32 and back, in norms and positions."""


def passes(dtype: torch.dtype) -> Iterator[Case]:
    """Yield a decode step of the model, and the products with weights that are in it."""
    with Unfilled():
        model = hf.build(hf.model_class("causal"), hf.config_classes()["llama"](**CONFIG), "sdpa").to(dtype).eval()
    fill(model, 0)
    prompt = torch.arange(CACHED).unsqueeze(0)
    token, keep = prompt[:, :1], hf.cache_argument(type(model))
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    rows = {linear.in_features: torch.zeros(1, 1, linear.in_features, dtype=dtype) for linear in linears}

    def step(_number: int) -> Call:
        cache = hf.cache_in(model(input_ids=prompt, use_cache=True))
        return lambda: model(input_ids=token, use_cache=True, **{keep: cache})

    def products(_number: int) -> Call:
        return lambda: [functional.linear(rows[linear.in_features], linear.weight) for linear in linears]

    yield Case(kind="pass", amounts={}, prepared=step)
    yield Case(kind="products", amounts={}, prepared=products)
