"""A rank of a mesh as engines run it: its layers move what the whole model's do, wherever the rank is."""

from __future__ import annotations

from typing import Any

import pytest

import nbanalyzer
from nbanalyzer.analysis.analysis import Analysis

MODELS = ("gpt2", "llama-3.1-8b", "qwen3-30b-a3b", "gemma-2-9b-it", "olmo-2-1124-13b", "deepseek-v3")
STEP: dict[str, Any] = {"batch_size": 2, "seq_len": 1, "cache_len": 100, "fusion": "engine"}


def _layers(analysis: Analysis) -> dict[str, tuple[Any, Any]]:
    """Return kernel of a layer → FLOPs and bytes of one layer."""
    costs = {
        node.path: (analysis.cost(node), analysis.cost(node.block).copies)
        for node in analysis.nodes
        if node.is_basic and node.block and not node.is_link
    }
    return {path: (cost.flops / copies, float(cost.bytes / copies)) for path, (cost, copies) in costs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_layer_moves_as_much_in_every_stage(model: str, rank: int) -> None:
    """The first one of a stage reads what the stage before sent, as the model's first one reads the embedding."""
    whole = _layers(nbanalyzer.populate(model, **STEP))
    stage = _layers(nbanalyzer.populate(model, pp=3, rank=rank, **STEP))
    assert stage == {path: pytest.approx(whole[path]) for path in stage}


@pytest.mark.parametrize("model", ["gpt2", "llama-3.1-8b", "qwen3-30b-a3b"])
def test_ranks_that_are_alike_move_as_much(model: str) -> None:
    """All sizes divide by 4: each rank has as much to do as the busiest."""
    busiest = nbanalyzer.populate(model, tp=4, set={"vocab_size": 4000}, **STEP)
    for rank in range(4):
        assert nbanalyzer.populate(model, tp=4, rank=rank, set={"vocab_size": 4000}, **STEP).totals == busiest.totals


def test_the_busiest_experts_move_more() -> None:
    """What they read and write grows with their tokens, and with it what they are sent and give back."""
    totals = [
        nbanalyzer.populate("qwen3-30b-a3b", dp=4, ep=4, imbalance=imbalance, **STEP).totals
        for imbalance in (1, 1.25, 2)
    ]
    assert [one["bytes"] for one in totals] == sorted({one["bytes"] for one in totals})
    even, more, twice = (one["payload_bytes"] for one in totals)
    assert more - even == (twice - even) / 4 > 0


def test_heads_that_are_fewer_than_ranks_are_on_all_of_them() -> None:
    """Llama-3.1-8B has 8 of keys and values: of 16 ranks each has one, and its linear 4,096 x 128 weights."""
    for rank in (None, 0, 8, 15):
        found = nbanalyzer.populate("llama-3.1-8b", tp=16, rank=rank, **STEP)
        assert found.cost(found.find("layers.self_attn.k_proj")).parameters == 32 * 4096 * 128
