"""One rank of a mesh: which stage it is, what it says of itself, and what has to divide."""

from __future__ import annotations

from typing import Any

import pytest
from builders import error_of

from nbanalyzer import populate
from nbanalyzer.errors import InputError

SIZES = {"num_layers": 7, "num_heads": 12, "num_kv_heads": 6, "head_dim": 8, "hidden_size": 16, "vocab_size": 24}


def llama(**run: Any) -> Any:
    return populate("llama-3.1-8b", seq_len=4, set=SIZES, **run)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"pp": 2, "rank": 0}, "rank 0 of 2 devices (pp 2), stage 0 with layers 0 to 3"),
        ({"pp": 2, "rank": 1}, "rank 1 of 2 devices (pp 2), stage 1 with layers 4 to 6"),
        ({"pp": 2, "tp": 2, "rank": 1, "comm": "megatron"}, "stage 0 with layers 0 to 3, divided by Megatron's rules"),
        ({"pp": 2, "tp": 2, "rank": 2, "comm": "megatron"}, "stage 1 with layers 4 to 6, divided by Megatron's rules"),
        ({"cp": 2}, "the busiest of 2 devices (cp 2), context parallelism is not checked"),
        ({"fsdp": 2}, "the busiest of 2 devices (fsdp 2)"),
    ],
)
def test_what_a_rank_says_of_itself(run: dict[str, Any], said: str) -> None:
    assert said in llama(**run).conditions


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"tp": 4}, "tp=4 does not divide num_kv_heads = 6, nor is it a multiple of it"),
        ({"tp": 8}, "tp=8 does not divide num_heads = 12 into equal parts"),
        ({"dp": 2, "ep": 2}, "ep=2 changes nothing: this model has no experts to spread"),
        ({"tp": 2, "imbalance": 2}, "imbalance=2 changes nothing: it is of experts that are spread, by ep"),
    ],
)
def test_what_does_not_divide(run: dict[str, Any], said: str) -> None:
    assert error_of(lambda: llama(**run), InputError) == said


def test_heads_divide_or_are_repeated() -> None:
    """6 heads of keys and values on 3, 6 and 12 ranks: 2, 1 and 1 each, of 8 values, twice, in 16 bits and 7 layers."""
    for tp, heads in ((3, 2), (6, 1), (12, 1)):
        assert llama(tp=tp).state["kv_cache"] == 7 * 2 * 4 * heads * 8 * 2
    assert llama(cp=4).state["kv_cache"] == 7 * 2 * 1 * 6 * 8 * 2  # no head is divided
