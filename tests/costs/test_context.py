"""Context parallelism by hand: tokens are divided, keys are not, and what goes round the ring."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer import populate
from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.context import NOT_CHECKED
from nbanalyzer.errors import InputError

LLAMA = "llama-3.1-8b"
KV = 2 * 8 * 128 * 2  # bytes of keys and values of a token in a layer


def payloads(analysis: Analysis) -> dict[str, tuple[Any, Any]]:
    """Return the last part of the path of each kernel that communicates → its runs, and its payload."""
    found = {}
    for node in analysis.nodes:
        if node.is_link and analysis.cost(node).count:
            found[node.path.split(".")[-2]] = (analysis.cost(node).count, analysis.value_of(node.payload))
    return found


@pytest.mark.parametrize("causal", ["off", "on"])
@pytest.mark.parametrize("name", [LLAMA, "gemma-3-1b-it", "gpt2", "gpt-oss-20b"])
def test_products_of_many_tokens_are_divided_evenly(name: str, causal: str) -> None:
    """Triangles as well, in zigzag order: early and late tokens."""
    for new, cached in ((960, 0), (480, 240)):
        whole, rank = (
            populate(name, seq_len=new, cache_len=cached, causal=causal, cp=ranks).totals for ranks in (1, 4)
        )
        assert rank["matmul_flops"] * 4 == whole["matmul_flops"]
        assert rank["parameters"] == whole["parameters"]


def test_what_does_not_divide_is_rounded_up() -> None:
    """1,023 tokens are 256 for the busiest of 4 ranks: products with weights are those of 1,024 tokens."""
    weights = 2 * (8_030_261_248 - 128256 * 4096 - 65 * 4096)
    attention = 2 * 2 * 32 * 32 * 128  # a query and a key, in all layers
    found = populate(LLAMA, seq_len=1023, cp=4).totals["matmul_flops"]
    assert found == 256 * weights + 256 * 1023 * attention


def test_a_rank_reads_all_keys_and_keeps_its_own() -> None:
    rank = populate(LLAMA, batch_size=3, seq_len=1000, cache_len=24, cp=4)
    (scores,) = [node for node in rank.nodes if node.path.endswith("attention.scores")]
    queries = 3 * 250 * 32 * 128 * 2
    assert rank.value_of(scores.parts[1]) == queries + 3 * 1024 * 8 * 128 * 2
    assert rank.totals["kv_cache_bytes"] == 32 * 3 * 256 * KV


def test_the_ring_of_llama() -> None:
    """3 times in each of 32 layers, a rank passes on what it has: a quarter of the keys and values."""
    found = payloads(populate(LLAMA, batch_size=3, seq_len=1024, cp=4))
    assert found == {"ring_send": (3 * 32, 3 * 256 * KV)}


def test_one_token_sees_a_part_of_the_cache_on_each_rank() -> None:
    """8,192 keys over 4 ranks: 2,048 each, and one sum of 32 heads of 128 in each layer."""
    rank = populate(LLAMA, batch_size=3, seq_len=1, cache_len=8191, cp=4)
    weights = 2 * (8_030_261_248 - 128256 * 4096 - 65 * 4096)
    assert rank.totals["matmul_flops"] == 3 * (weights + 2048 * 2 * 2 * 32 * 32 * 128)
    assert rank.totals["kv_cache_bytes"] == 32 * 3 * 2048 * KV
    assert payloads(rank) == {"partial_all_reduce": (32, 3 * 32 * 128 * 2)}


def test_a_latent_goes_round_as_it_is_cached() -> None:
    found = payloads(populate("deepseek-v3", seq_len=1024, cp=2, mla="absorbed"))
    assert found == {"ring_send": (58, 512 * (512 + 64) * 2)}  # the dense layers' have the same name, 3 of them


@pytest.mark.parametrize("fusion", ["none", "engine"])
def test_one_rank_is_the_model(fusion: str) -> None:
    assert populate(LLAMA, cp=1, fusion=fusion).totals == populate(LLAMA, fusion=fusion).totals


def test_it_says_that_nobody_checked_it() -> None:
    assert NOT_CHECKED in populate(LLAMA, cp=2).conditions


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bert-base-uncased", "not a decoder that keeps keys and values"),
        ("t5-small", "not a decoder that keeps keys and values"),
        ("mamba-2.8b", "conv_state runs through all tokens, one after the other"),
        ("qwen3-next-80b-a3b-instruct", "conv_state runs through all tokens"),
    ],
)
def test_what_is_not_modelled(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        populate(name, cp=2)


@pytest.mark.parametrize(
    ("name", "media", "tower"),
    [
        ("qwen2.5-vl-7b-instruct", {"images": 2, "image_size": "448x672"}, ("model.visual",)),
        ("llava-1.5-7b", {"images": 2}, ("model.vision_tower", "model.multi_modal_projector")),
        ("voxtral-mini-3b-2507", {"audio_seconds": 60}, ("model.audio_tower", "model.multi_modal_projector")),
    ],
)
def test_every_rank_reads_all_images_and_a_part_of_the_text(
    name: str, media: dict[str, Any], tower: tuple[str, ...]
) -> None:
    whole, rank = populate(name, seq_len=2048, **media), populate(name, seq_len=2048, cp=2, **media)
    read = sum(whole.cost(whole.find(path)).matmul_flops for path in tower)
    assert read == sum(rank.cost(rank.find(path)).matmul_flops for path in tower) > 0
    assert 2 * (rank.totals["matmul_flops"] - read) == whole.totals["matmul_flops"] - read
    assert rank.state_bytes * 2 == whole.state_bytes
    keys = whole.state["kv_cache"] / 2  # a rank's, each layer's sent once
    assert rank.totals["payload_bytes"] == keys
    assert "every rank of cp reads all" in rank.devices
