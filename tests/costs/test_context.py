"""Context parallelism by hand: tokens are divided, keys are not, and what goes round the ring."""

from __future__ import annotations

from typing import Any

import pytest
from builders import basic, composite, error_of, template

from nbanalyzer import populate
from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.context import NOT_CHECKED, context
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError
from nbanalyzer.files import convert
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.template import ModelTemplate

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


# ---- small templates by hand

KEYS = "({cache_len} + {seq_len})"
ALL_KEYS = f"{{num_layers}} * {KEYS}"
EXPANDED = (
    basic("2", f"{{seq_len}} * {{a_bytes}} + {KEYS} * {{kv_bytes}}", f"{{seq_len}} * {KEYS}", "matmul", "scores"),
    basic("1", "{seq_len}", "{seq_len}", name="softmax"),
    basic("2", f"{{seq_len}} + {KEYS} * {{kv_bytes}}", "3 * {seq_len} * {a_bytes}", "matmul", "values"),
)
ALONE = (basic("2", f"{{seq_len}} + {KEYS} * {{kv_bytes}}", "3 * {seq_len} * {a_bytes}", "matmul", "attention"),)


def rank(*kernels: dict[str, Any], state: str = ALL_KEYS, model_id: str = "own") -> ModelTemplate:
    """Return what one of some ranks runs of two layers of attention and what stands beside it."""
    layers = composite("layers", composite("attn", *(kernels or EXPANDED)), repeat="{num_layers}")
    made = {**template(layers, state={"kv_cache": state}), "model_id": model_id}
    return context(convert(made, ModelTemplate, "own"))


def values(new: int, cached: int, **more: Number) -> dict[str, Number]:
    bytes_ = {"w_bytes": 2, "a_bytes": 2, "kv_bytes": 2}
    return {"num_layers": 2, "cp": 4, "seq_len": new, "cache_len": cached, "causal": 0, **bytes_, **more}


@pytest.mark.parametrize("kernels", [EXPANDED, ALONE], ids=["three kernels", "one kernel"])
@pytest.mark.parametrize(("new", "cached", "sends", "sums"), [(9, 3, 2 * 3, 0), (2, 10, 2 * 3, 0), (1, 11, 0, 2)])
def test_what_is_sent_stands_where_it_is_needed(
    kernels: tuple[dict[str, Any], ...], new: int, cached: int, sends: int, sums: int
) -> None:
    """Before a layer the keys of 12 tokens, 3 on each rank; after its attention the sum of what one token got."""
    tree = Tree(rank(*kernels))
    names = [node.kernel.name for node in tree.nodes if node.depth == 1 or (node.depth == 2 and ".attn." in node.path)]
    assert names == ["ring_send", "attn", *(one["operation"] for one in kernels), "partial_all_reduce"]
    costs = tree.costs(values(new, cached))
    sent = {node.parent.kernel.name: costs[node] for node in tree.nodes if node.is_link and node.parent}
    assert [(one.count, one.payload_bytes) for one in sent.values()] == [(sends, sends * 3), (sums, sums * 3 * 2)]
    assert tree.state(values(new, cached)) == {"kv_cache": 2 * 3}


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("3 * {seq_len}", 3 * 3),
        ("{num_logits}", 3),
        ("7", 7),
        ("{seq_len} * (1 + {causal})", 3 * 1),
        (f"2 * {KEYS}", 2 * 14),
        ("3 * {seq_len} if {cache_len} else {hidden_size}", 3 * 3),  # in every case
        (f"5 * {KEYS} if {{causal}} else {{seq_len}} * {KEYS}", 3 * 14),
        (f"min({KEYS}, 100) * {{seq_len}}", 14 * 3),
        ("{cache_len}", 4),
    ],
)
def test_what_a_rank_computes(text: str, flops: int) -> None:
    """Of 10 new tokens after 4: 3 on the busiest of 4 ranks, each of which sees all keys."""
    beside = composite("beside", basic(text))
    tree = Tree(rank(*EXPANDED, beside))
    (node,) = (node for node in tree.nodes if node.path.endswith("beside.op"))
    costs = tree.costs(values(10, 4, num_logits=10, hidden_size=100))
    assert costs[node].flops == 2 * flops


def test_a_triangle_is_shared_evenly() -> None:
    tree = Tree(rank(*EXPANDED, composite("beside", basic("44 if {causal} else {seq_len}"))))
    (node,) = (node for node in tree.nodes if node.path.endswith("beside.op"))
    assert [tree.costs(values(10, 4, causal=causal))[node].flops for causal in (0, 1)] == [2 * 3, 2 * 11]


@pytest.mark.parametrize(("state", "kept"), [(ALL_KEYS, 2 * 4), (f"{{num_layers}} * min({KEYS}, 8)", 2 * 2)])
def test_what_a_rank_keeps(state: str, kept: int) -> None:
    """A fourth of 14 tokens, rounded up, or of the 8 within a window."""
    assert Tree(rank(state=state)).state(values(10, 4)) == {"kv_cache": kept}


def test_a_model_is_called_by_its_name() -> None:
    kept = "{num_layers} * {batch_size} * {cache_len}"
    for name, said in (("own", "for own, "), ("", "for this template, ")):
        assert said in error_of(lambda name=name: rank(state=kept, model_id=name), InputError)  # type: ignore[misc]


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
