"""Texts that are not read and kept token by token: read again with a cache, kept as fewer entries, pooled, padded."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.templates.template import Basic

CPM: dict[str, Any] = {
    "model_type": "cpmant", "hidden_size": 24, "num_attention_heads": 3, "dim_head": 8, "dim_ff": 40,
    "num_hidden_layers": 2, "vocab_size": 50, "prompt_types": 3, "prompt_length": 5, "segment_types": 4,
    "position_bias_num_buckets": 32, "position_bias_max_distance": 64,
}  # fmt: skip


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
