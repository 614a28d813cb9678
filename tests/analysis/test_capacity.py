"""What fits into the memory of a rank, by hand and by trying every length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from builders import basic, composite, error_of, template

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.capacity import Capacity
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.run import MAX_SIZE
from nbanalyzer.templates.config import ModelParams

H, LAYERS, HEADS, KV, D, WIDTH, VOCAB = 64, 3, 8, 2, 16, 160, 1000
SIZES = {
    "hidden_size": H, "num_layers": LAYERS, "num_heads": HEADS, "num_kv_heads": KV, "head_dim": D,
    "intermediate_size": WIDTH, "vocab_size": VOCAB,
}  # fmt: skip
TOKEN = LAYERS * 2 * KV * D * 2  # bytes: keys and values
BLOCK = 16 * TOKEN
GIB = 1024**3
CARD = Accelerator(name="card", memory_bytes=80 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 1e13})


def costs_of(**more: Any) -> Costs:
    run: dict[str, Any] = {"seq_len": 1, "cache_len": 5, "fusion": "engine", "logits": "last", **more}
    return populate("llama-3.1-8b", set=SIZES, **run)


def with_cache(size: int) -> Capacity:
    """Return the capacity of a card that has this many bytes left for the cache."""
    costs = costs_of()
    whole = Capacity(costs, CARD, memory_fraction=1)
    memory = sum(whole.parts.values()) + size
    return Capacity(costs, msgspec.structs.replace(CARD, memory_bytes=memory), memory_fraction=1)


def test_where_the_memory_goes() -> None:
    """vLLM's figures, in GiB, and the step of 8,192 tokens that reads gate and up and writes their product."""
    parts = Capacity(costs_of(), CARD).parts
    matrices = LAYERS * (H * D * (2 * HEADS + 2 * KV) + 3 * H * WIDTH) + 2 * VOCAB * H
    assert parts["weights"] == 2 * (matrices + LAYERS * 2 * H + H)
    assert parts["activations"] == 8192 * 3 * WIDTH * 2
    assert parts["context"] / GIB == pytest.approx(1.79, rel=1e-8)
    assert parts["graphs"] / GIB == pytest.approx(0.73, rel=1e-8)
    assert Capacity(costs_of(), CARD, tp=2).parts["communication"] / GIB == pytest.approx(1.79, rel=1e-8)
    assert "communication" not in parts  # one device, unless said otherwise
    assert Capacity(costs_of(), CARD).taken == 72 * 10**9


def test_a_sequence_takes_whole_blocks_of_16_tokens() -> None:
    found = with_cache(0)
    blocks = {1: 1, 15: 1, 16: 1, 17: 2, 32: 2, 33: 3, 1000: 63}
    assert {tokens: found.sequence(tokens) for tokens in blocks} == {
        tokens: number * BLOCK for tokens, number in blocks.items()
    }


def test_sequences_at_a_time() -> None:
    found = with_cache(7 * BLOCK)
    assert [found.sequences(tokens) for tokens in (1, 16, 17, 48, 112, 113)] == [7, 7, 3, 2, 1, 0]
    assert with_cache(7 * BLOCK - 1).sequences(16) == 6
    assert with_cache(0).sequences(1) == 0
    assert with_cache(-1).sequences(1) == 0


@pytest.mark.parametrize("blocks", range(18))
def test_the_longest_context_is_every_block_that_is_left(blocks: int) -> None:
    for more in (0, BLOCK - 1):
        assert with_cache(blocks * BLOCK + more).longest_context == 16 * blocks


@pytest.mark.parametrize(("positions", "longest"), [(79, 79), (80, 80), (81, 80), (96, 80)])
def test_a_context_is_at_most_what_the_model_has_positions_for(positions: int, longest: int) -> None:
    found = with_cache(5 * BLOCK)
    costs = found.costs
    params = ModelParams({**costs.params, "max_position_embeddings": positions})
    other = Costs(costs.kernel_tree, params, costs.run)
    assert replace(found, costs=other).longest_context == longest


def test_weights_in_a_scheme() -> None:
    """8 bits and a scale of two bytes an output inside the layers, 16 for all else: norms, embedding and head."""
    inside = LAYERS * (H * D * (2 * HEADS + 2 * KV) + 3 * H * WIDTH)
    rest = 2 * VOCAB * H + LAYERS * 2 * H + H
    outputs = LAYERS * (2 * H + (HEADS + 2 * KV) * D + 2 * WIDTH)
    found = Capacity(costs_of(quant="fp8-channel"), CARD).parts["weights"]
    assert found == inside + 2 * outputs + 2 * rest
    assert Capacity(costs_of(), CARD).parts["weights"] == (inside + rest) * 2


def test_the_largest_step_reads_prompts_after_nothing() -> None:
    """8,192 new tokens of one sequence, of two bytes an element each way; what is cached makes no step larger."""
    read = "({batch_size} * {seq_len} + 10**6 * {cache_len}) * {a_bytes} + 8 * {w_bytes}"
    product = basic("2 * {batch_size}", read, "{batch_size} * {seq_len} * {a_bytes}", "matmul")
    state = {"kv_cache": "{batch_size} * ({cache_len} + {seq_len}) * {kv_bytes}"}
    made = template(composite("part", product, parameters="8"), state=state)
    costs = populate(made, batch_size=3, seq_len=1, cache_len=5, fusion="engine")
    # 1.79 and 0.73 of 1,073,741,824 bytes, of which there are whole ones.
    assert Capacity(costs, CARD).parts == {
        "weights": 8 * 2, "activations": 2 * 8192 * 2, "context": 1_921_997_864, "graphs": 783_831_531,
    }  # fmt: skip


def test_what_a_memory_needs_for_one_sequence() -> None:
    """Two blocks, and all else, are three quarters of it."""
    found = Capacity(costs_of(), CARD, memory_fraction=0.75)
    assert found.need(17) * 3 == (sum(found.parts.values()) + 2 * BLOCK) * 4


def test_a_model_that_keeps_nothing_has_room_where_there_is_any() -> None:
    made = template(composite("part", basic("1", "{a_bytes}", "{a_bytes}"), parameters="7"))
    costs = populate(made, seq_len=1, fusion="engine")
    whole = Capacity(costs, CARD, memory_fraction=1)
    assert Capacity(populate(template(), seq_len=1, fusion="engine"), CARD).parts["activations"] == 0
    sizes = [sum(whole.parts.values()) + more for more in (-1, 0, 1)]
    cards = [msgspec.structs.replace(CARD, memory_bytes=size) for size in sizes]
    assert [Capacity(costs, card, memory_fraction=1).sequences(5) for card in cards] == [0, MAX_SIZE, MAX_SIZE]


@pytest.mark.parametrize("share", [True, "0.9", None, 0, 1.01])
def test_a_share_of_the_memory_is_one(share: Any) -> None:
    message = error_of(lambda: Capacity(costs_of(), CARD, memory_fraction=share))
    assert message.startswith("memory_fraction is a share above 0 and at most 1, not ")


def test_sequences_are_counted_in_whole_bytes() -> None:
    """A byte less than 2**39 sequences of 2**20 bytes need: no float knows that it is one sequence less."""
    made = template(composite("part", basic("1")), state={"kv_cache": "2**16 * ({cache_len} + {seq_len})"})
    whole = Capacity(populate(made, seq_len=1, fusion="engine"), CARD, memory_fraction=1)
    memory = sum(whole.parts.values()) + 2**59 - 1
    found = replace(whole, accelerator=msgspec.structs.replace(CARD, memory_bytes=memory))
    assert found.sequences(16) == 2**39 - 1
