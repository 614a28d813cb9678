"""Parts of stored tensors that a rank keeps, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nbanalyzer import populate
from nbanalyzer.analysis.sharded_data import units_of
from nbanalyzer.errors import InputError


def test_a_rank_keeps_rows_of_codes_and_of_scales() -> None:
    """Llama-3.1-8B in fp8-block on 3 ranks: of 4096 rows 1366, of 32 rows of scales 11, as `fully_shard` cuts them."""
    run: dict[str, Any] = {"seq_len": 1, "cache_len": 100, "quant": "fp8-block"}
    whole, rank = populate("llama-3.1-8b", **run), populate("llama-3.1-8b", fsdp=3, **run)

    def matrix(rows: int, columns: int) -> int:
        scales = math.ceil(math.ceil(rows / 128) / 3) * math.ceil(columns / 128)
        return math.ceil(rows / 3) * columns + 4 * scales

    heads = 2 * matrix(4096, 4096) + 2 * matrix(1024, 4096)
    layer = heads + 2 * matrix(14336, 4096) + matrix(4096, 14336) + 2 * 2 * math.ceil(4096 / 3)
    outside = 2 * 2 * math.ceil(128256 / 3) * 4096 + 2 * math.ceil(4096 / 3)
    assert rank.weight_bytes == 32 * layer + outside
    assert rank.totals["payload_bytes"] == 3 * rank.weight_bytes
    assert rank.memory.parts["buffers"] == 3 * outside + 2 * 3 * layer
    for metric in ("flops", "weight_bytes_read", "activation_bytes"):  # it runs whole layers
        assert rank.totals[metric] == whole.totals[metric]


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["fp8-block", "fp8-channel", "int8", "nvfp4"])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b", "qwen2.5-vl-7b-instruct"])
def test_two_ranks_keep_halves(name: str, quant: str) -> None:
    whole, rank = populate(name, seq_len=8, quant=quant), populate(name, seq_len=8, quant=quant, fsdp=2)
    more = 2 * rank.weight_bytes - whole.weight_bytes
    assert 0 <= more <= whole.weight_bytes / 1000  # the first rank has what is of one row
    if name == "llama-3.1-8b" and quant != "nvfp4":
        assert more == 0


@pytest.mark.parametrize(
    ("quant", "says"),
    [
        ("gptq-4-g128", "its tensors are buffers"), ("awq-4-g128", "its tensors are buffers"),
        ("nf4", "shards codes alone"), ("bnb-int8", "stores integers"), ("fp8", "its scales are scalars"),
        ("gguf-q4_k_m", "nobody looked"), ("w4a16", "nobody looked"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_sharded(quant: str, says: str) -> None:
    with pytest.raises(InputError, match=f"fsdp=2 with weights in {quant}: .*{says}.*; quant=none counts 16 bits"):
        populate("llama-3.1-8b", fsdp=2, quant=quant)


def test_what_is_not_modelled_of_shards_in_a_scheme() -> None:
    with pytest.raises(InputError, match="experts that are spread, by ep"):
        populate("qwen3-30b-a3b", fsdp=2, ep=2, quant="fp8-block")
    with pytest.raises(InputError, match="which have no gradients"):
        units_of(populate("llama-3.1-8b", fsdp=2, quant="fp8-block"))
