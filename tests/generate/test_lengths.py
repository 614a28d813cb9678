"""Texts that are not read and kept token by token: read again with a cache, kept as fewer entries, pooled, padded."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import pytest

import nbanalyzer
from nbanalyzer import ModelTemplate, NBAnalyzerError, populate
from nbanalyzer.costs.count import count
from nbanalyzer.generate.check.comparison import comparisons
from nbanalyzer.generate.check.oracle import flops
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.probe import situations
from nbanalyzer.generate.probe.cases import windows_of
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.tensors import kept_sizes
from nbanalyzer.templates.template import Basic

CPM: dict[str, Any] = {
    "model_type": "cpmant", "hidden_size": 24, "num_attention_heads": 3, "dim_head": 8, "dim_ff": 40,
    "num_hidden_layers": 2, "vocab_size": 50, "prompt_types": 3, "prompt_length": 5, "segment_types": 4,
    "position_bias_num_buckets": 32, "position_bias_max_distance": 64,
}  # fmt: skip


@pytest.mark.pytorch
def test_a_model_computes_the_same_in_every_first_step() -> None:
    """The frequencies for long texts were computed in the first one of all, of 6 numbers: which one is traced?"""
    lengths = {"rope_type": "longrope", "long_factor": [1.0] * 6, "short_factor": [1.0] * 6, "rope_theta": 10000.0}
    config: dict[str, Any] = {
        "model_type": "phi3", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 96, "num_hidden_layers": 1, "vocab_size": 50, "pad_token_id": 0,
        "partial_rotary_factor": 0.75, "max_position_embeddings": 8192, "original_max_position_embeddings": 4096,
        "rope_parameters": {**lengths, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 4096},
    }  # fmt: skip
    subject = Subject.of(config)
    model = subject.build()
    first, again = (
        [operation.name for operation in trace(next(subject.steps(model, 1, (5,)))).operations()] for _ in range(2)
    )
    assert first == again


@pytest.mark.pytorch
@pytest.mark.slow
def test_a_model_that_takes_all_tokens_again_computes_only_the_new_ones() -> None:
    template = nbanalyzer.generate(CPM)  # equal to PyTorch, or an error
    for seq_len, cache_len in ((7, 0), (1, 7), (4, 11)):
        costs = populate(template, batch_size=2, seq_len=seq_len, cache_len=cache_len)
        rows = seq_len + 5 * (cache_len == 0)  # the prompt of the model itself stands before the text
        products = 4 * 24 * 24 + 3 * 24 * 40
        attention = 2 * 3 * 8 * (5 + cache_len + seq_len)
        head = seq_len * 24 * 50
        assert costs.totals["matmul_flops"] == 2 * 2 * (2 * rows * (products + attention) + head)
        assert costs.state["kv_cache"] == 2 * 2 * 2 * (5 + cache_len + seq_len) * 3 * 8 * 2


FUNNEL: dict[str, Any] = {
    "model_type": "funnel", "architectures": ["FunnelForMaskedLM"], "d_model": 24, "n_head": 3, "d_head": 8, "d_inner": 40,
    "block_sizes": [1, 2, 1], "num_decoder_layers": 1, "vocab_size": 50,
}  # fmt: skip


@pytest.mark.pytorch
@pytest.mark.slow
def test_a_sequence_is_pooled_before_each_block_but_the_first() -> None:
    template = nbanalyzer.generate(FUNNEL)

    def layer(batch: int, queries: int, keys: int) -> int:
        positions = (
            2 * queries if queries == keys else 2 * queries + keys
        )  # relative ones, of a pooled text twice as far
        own = queries * (2 * 24 * 24 + 2 * 24 * 40) + keys * 2 * 24 * 24
        scores = queries * 24 * (2 * keys + positions + 2)  # to keys, positions and two types of tokens, and to values
        return batch * (own + scores) + positions * 24 * 24

    for batch, length in ((1, 8), (2, 37), (3, 50)):
        half, quarter = ceil(length / 2), ceil(length / 4)
        first, last = layer(batch, length, length), layer(batch, length, length)
        pooled = layer(batch, half, length) + layer(batch, half, half) + layer(batch, quarter, half)
        costs = populate(template, batch_size=batch, seq_len=length)
        assert costs.totals["matmul_flops"] == 2 * (first + pooled + last + batch * length * 24 * 50)


FNET: dict[str, Any] = {
    "model_type": "fnet", "architectures": ["FNetForMaskedLM"], "hidden_size": 24, "num_hidden_layers": 2,
    "intermediate_size": 40, "vocab_size": 50, "max_position_embeddings": 64, "tpu_short_seq_length": 64,
}  # fmt: skip


@pytest.mark.pytorch
@pytest.mark.slow
def test_a_fourier_transform_takes_stages_of_the_tokens_and_of_what_each_is() -> None:
    template = nbanalyzer.generate(FNET)
    for length, stages in ((32, 5), (33, 6)):
        costs = populate(template, batch_size=2, seq_len=length)
        products = 2 * 24 * 24 + 2 * 2 * 24 * 40 + 24 * 50
        assert costs.totals["matmul_flops"] == 2 * 2 * (length * products + 24 * 24)  # the first token is pooled
        kernels = [(node.kernel, cost) for node, cost in costs.costs.items()]
        transforms = [cost for one, cost in kernels if isinstance(one, Basic) and one.operation.startswith("fft")]
        assert [cost.vector_flops for cost in transforms] == [2 * 5 * 2 * length * 24 * (stages + 5)]  # 2 layers
        assert [cost.read_bytes for cost in transforms] == [2 * 8 * 2 * length * 24]  # complex numbers


V4: dict[str, Any] = {
    "model_type": "deepseek_v4", "hidden_size": 64, "moe_intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 64,
    "num_attention_heads": 4, "head_dim": 16, "q_lora_rank": 24, "o_groups": 2, "o_lora_rank": 12, "hc_mult": 4,
    "n_routed_experts": 6, "num_experts_per_tok": 2, "index_n_heads": 3, "index_head_dim": 8, "index_topk": 3,
    "sliding_window": 10, "hc_sinkhorn_iters": 3, "max_position_embeddings": 256, "partial_rotary_factor": 0.5,
    "layer_types": ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"],
    "mlp_layer_types": ["hash_moe", "moe", "moe"],
    "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 6},
}  # fmt: skip
V4_STEPS = (7, 1, 3, 1, 13, 2, 1, 24)
"""Windows of 4 and of 6 tokens are closed by no step, by one token, by several; one by one, and several at once."""


@pytest.fixture(scope="module")
def v4() -> ModelTemplate:
    return nbanalyzer.generate(V4)


def v4_by_hand(batch: int, seq_len: int, cache_len: int) -> int:
    """Return the matmul FLOPs of a step."""
    short, long = (cache_len + seq_len) // 4, (cache_len + seq_len) // 6  # entries that are kept
    window = min(cache_len, 10 - 1) + seq_len
    attention = 64 * 24 + 24 * 4 * 16 + 64 * 16 + 4 * 16 * 12 + 2 * 12 * 64
    streams = 2 * ((2 + 4) * 4 * 4 * 64 + 4 * 4 * 64)  # weights to mix them, and mixing, around attention and experts
    experts = 64 * 6 + (2 + 1) * 3 * 64 * 48
    keys = (window, window + short, window + long)
    indexer = 2 * 64 * 2 * 8 + 24 * 3 * 8 + 64 * 3 + 3 * 8 * short
    compressors = 2 * 64 * 2 * 16 + indexer + 2 * 64 * 16
    each = 3 * (attention + streams + experts) + 2 * 4 * 16 * sum(keys) + compressors + 4 * 4 * 64 + 64 * 64
    return 2 * batch * seq_len * each


@pytest.mark.pytorch
@pytest.mark.slow
def test_windows_of_tokens_are_kept_as_one_by_a_model_with_data(v4: ModelTemplate) -> None:
    """DeepSeek-V4 with weights and tokens, on the CPU, step after step; and by hand."""
    subject = replace(Subject.of(V4), device="cpu")
    cache_len = 0
    for step in subject.steps(subject.build("eager", "batched_mm"), 2, V4_STEPS):
        costs = populate(v4, batch_size=2, seq_len=step.seq_len, cache_len=cache_len)
        assert costs.totals["matmul_flops"] == v4_by_hand(2, step.seq_len, cache_len) == flops(step).cost.matmul_flops
        elements, others = kept_sizes(step.after)
        assert sum(costs.state.values()) == 2 * elements + others
        cache_len += step.seq_len


@pytest.mark.pytorch
@pytest.mark.slow
def test_what_compressed_caches_keep_follows_rounded_quotients(v4: ModelTemplate) -> None:
    for kept in (3, 4, 5, 23, 24, 1000):
        state = populate(v4, seq_len=kept).state
        assert (
            state["kv_cache"] == (2 + 1 + 1) * min(kept, 10 - 1) * 16 * 2
        )  # keys are values where both are compressed
        assert state["compressed_kv"] == (kept // 4 * (16 + 8) + kept // 6 * 16) * 2
        assert state["buffer_kv"] == (kept % 4 * 2 * (16 + 8) + kept % 6 * 16) * 2
        assert state["overlap_kv"] == (4 * (16 + 8) * 2 if kept >= 4 else 0)


INKLING: dict[str, Any] = {
    "model_type": "inkling_text", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 120,
    "num_key_value_heads": 2, "head_dim": 16, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2,
    "swa_head_dim": 16, "sliding_window_size": 14, "d_rel": 4, "rel_extent": 24, "intermediate_size": 96,
    "layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": ["dense", "dense"],
}  # fmt: skip


@pytest.mark.pytorch
@pytest.mark.long
def test_a_bias_is_put_into_a_mask_from_the_window_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inkling's bias is of the model's own, and a single token needs a mask beside it only where keys fall out."""
    template = nbanalyzer.generate(INKLING)
    subject = Subject.of(INKLING)
    runs = {
        f"{seq_len}_after_{cache_len}": {"batch_size": batch, "seq_len": seq_len, "cache_len": cache_len}
        for batch, seq_len, cache_len in (
            (1, 13, 0), (2, 14, 0), (3, 12, 0), (3, 1, 12), (3, 1, 13), (4, 3, 0), (4, 8, 3), (4, 2, 11), (4, 1, 50),
        )
    }  # fmt: skip
    compared = comparisons(subject, subject.build("eager", "batched_mm"), runs, lambda run: count(template, **run))
    numbers = {one.what: one.totals for one in compared}
    assert all(ours == theirs for ours, theirs in numbers.values())
    assert {f"{run}_read_bytes" for run in runs} <= numbers.keys()
    less, more = (populate(template, batch_size=3, seq_len=1, cache_len=kept) for kept in (12, 13))
    bias = 3 * 4 * 14  # of sequences, heads and keys
    full = 3 * 4  # what the other layer does for one more key, which is a position of its bias
    assert more.totals["vector_flops"] - less.totals["vector_flops"] >= full
    assert more.totals["write_bytes"] - less.totals["write_bytes"] >= 2 * bias
    monkeypatch.setattr(situations, "windows_of", lambda _: ())
    with pytest.raises(NBAnalyzerError):
        nbanalyzer.generate({**INKLING, "vocab_size": 121})


def test_windows_of_towers_and_those_without_a_text_below_are_none() -> None:
    values = {"sliding_window": 16, "vision_window_size": 16, "window": 5, "attention_window": 5000, "num_windows": 16}
    assert windows_of(values) == ("sliding_window",)


@pytest.mark.pytorch
@pytest.mark.long
def test_all_of_an_encoders_text_sees_its_whole_blocks() -> None:
    """Long-T5 adds the sum of each 8 tokens to the keys of every chunk: of 7 tokens none, of 15 one, of 41 five."""
    config: dict[str, Any] = {
        "model_type": "longt5", "encoder_attention_type": "transient-global", "global_block_size": 8,
        "local_radius": 19, "d_model": 48, "d_ff": 80, "d_kv": 12, "num_heads": 4, "num_layers": 2,
        "num_decoder_layers": 2, "vocab_size": 90,
    }  # fmt: skip
    template, subject = nbanalyzer.generate(config), Subject.of(config)
    read = (1, 7, 8, 9, 15, 16, 19, 20, 21, 39, 40, 41, 97)
    runs = {
        f"of_{size}": {"batch_size": batch, "seq_len": 5, "encoder_len": size} for batch, size in enumerate(read, 1)
    }
    compared = comparisons(subject, subject.build("eager"), runs, lambda run: count(template, **run))
    numbers = {one.what: one.totals for one in compared}
    assert all(ours == theirs for ours, theirs in numbers.values())
    assert {f"{run}_read_bytes" for run in runs} <= numbers.keys()
    assert {f"{run}_matmul_flops" for run in runs} <= numbers.keys()
