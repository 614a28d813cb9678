"""Sharded data parallelism in training, by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from nbanalyzer import populate
from nbanalyzer.analysis.sharded_data import OPTIMIZERS, States, Step, states_of, step_of, units_of
from nbanalyzer.errors import InputError, UnknownNameError

LAYER, TABLE, NORM = 218_112_000, 128256 * 4096, 4096  # parameters of Llama-3.1-8B
WHOLE = 32 * LAYER + 2 * TABLE + NORM


def test_the_units_of_llama() -> None:
    rank = populate("llama-3.1-8b", fsdp=8)
    found = [(unit.name, unit.times, unit.whole, unit.reshards) for unit in units_of(rank)]
    assert found == [("root", 1, 2 * TABLE + NORM, False), ("model.layers", 32, LAYER, True)]
    found = [(unit.name, unit.times, unit.whole, unit.reshards) for unit in units_of(rank, "transformers")]
    assert found == [
        ("embedding", 1, TABLE, True),
        ("norm and head", 1, TABLE + NORM, False),
        ("model.layers", 32, LAYER, True),
    ]


def test_a_head_that_is_the_embedding_is_gathered_with_it() -> None:
    first, *_ = units_of(populate("gpt2", fsdp=8), "transformers")
    assert (first.name, first.reshards) == ("embedding, norm and head", False)
    # 50,257 rows are filled up to 8 * 6,283; 1,024 positions and two vectors of 768 divide.
    assert first.whole == (8 * 6283 + 1024 + 2) * 768


def test_a_step_of_llama() -> None:
    """Weights twice, but for what is kept; gradients once."""
    rank = populate("llama-3.1-8b", fsdp=8)
    assert step_of(rank) == Step(2 * WHOLE, 2 * 32 * LAYER, 2 * WHOLE, 0)
    again = 2 * (32 * LAYER + TABLE)
    assert step_of(rank, "transformers", gradient_bytes=4) == Step(2 * WHOLE, again, 4 * WHOLE, 0)


def test_copies_sum_their_parts() -> None:
    assert step_of(populate("llama-3.1-8b", fsdp=2, dp=4)).reduced == 2 * WHOLE // 2


def test_what_zero_divides() -> None:
    """Rajbhandari et al., figure 1: 7.5e9 parameters, 64 ranks, 120 GB, 31.4, 16.6 and 1.9."""
    totals = [float(states_of(7_500_000_000, 64, stage).total) / 1e9 for stage in range(4)]
    assert [round(total, 1) for total in totals] == [120.0, 31.4, 16.6, 1.9]
    assert states_of(64, 64, 2) == States(128, 2, 12)
    assert states_of(100, 8, 1, "adamw") == States(200, 200, 50)
    assert states_of(1, 3, 3).optimizer == Fraction(12, 3)
    assert {*OPTIMIZERS} == {"adam_mixed", "adamw"}


def test_what_has_no_shards() -> None:
    with pytest.raises(InputError, match="populate with fsdp=8"):
        units_of(populate("gpt2"))
    with pytest.raises(InputError, match="stage is 0, 1, 2 or 3, ZeRO's, not 4"):
        states_of(1, 1, 4)
    with pytest.raises(InputError, match="ranks is a whole number from 1, not 0"):
        states_of(1, 0, 1)
    with pytest.raises(UnknownNameError, match="no optimizer named"):
        states_of(1, 1, 1, "lion")


def test_gathered_weights_are_in_memory() -> None:
    """The root, and two layers."""
    memory = populate("llama-3.1-8b", fsdp=8).memory
    assert memory.weights == 2 * WHOLE // 8
    assert memory.buffers == 2 * (2 * TABLE + NORM + 2 * LAYER)
    assert memory.total == memory.weights + memory.state + memory.activations + memory.buffers
    assert "gathered weights" in repr(memory)
    assert populate("llama-3.1-8b").memory.buffers == 0
    assert "gathered" not in repr(populate("llama-3.1-8b").memory)


def test_experts_that_are_gathered_apart_are_of_their_layer() -> None:
    """Of each of two layers attention, two norms, and a router with four experts; outside a norm and two tables."""
    sizes = {
        "hidden_size": 64, "num_layers": 2, "num_heads": 8, "num_kv_heads": 2, "head_dim": 16, "intermediate_size": 32,
        "vocab_size": 100, "num_experts": 4,
    }  # fmt: skip
    memory = populate("mixtral-8x7b-v0.1", set=sizes, batch_size=2, fsdp=2).memory
    layer = 64 * 16 * (2 * 8 + 2 * 2) + 2 * 64 + 64 * 4 + 4 * 3 * 64 * 32
    assert memory.buffers == 2 * (64 + 2 * 100 * 64 + 2 * layer)
