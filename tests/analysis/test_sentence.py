"""The sentence that a result begins with: true, by numbers computed another way."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nbanalyzer import populate
from nbanalyzer.quantities import percent, si

CARD = "h100-sxm"


def shares(text: str) -> list[float]:
    return [float(number) / 100 for number in re.findall(r"(\d+) %", text)]


def gain(text: str) -> float:
    found = re.search(r"make it ([\d.]+) times", text)
    assert found, text
    return float(found[1])


def test_a_decode_step_waits_for_its_weights() -> None:
    """Llama-3.1-8B: of every kernel's time at the bandwidth, the weights' share; 4 bits as another pass has them."""
    pass_ = populate("llama-3.1-8b", seq_len=1, cache_len=2048)
    found = pass_.on(CARD)
    assert found.sentence.startswith("Memory-bound: 98 % of the time is reading weights.")
    weights = 2 * (8_030_261_248 - 128_256 * 4096)  # every weight but the table, of which a row is read
    assert shares(found.sentence)[0] == pytest.approx(weights / 3.35e12 / found.time, abs=0.005)
    narrow = populate("llama-3.1-8b", seq_len=1, cache_len=2048, w_bit=4).on(CARD)
    assert gain(found.sentence) == pytest.approx(found.time / narrow.time, rel=0.02)
    assert repr(found).splitlines()[2] == found.sentence


def test_many_sequences_wait_for_the_cache() -> None:
    run: dict[str, Any] = {"batch_size": 64, "seq_len": 1, "cache_len": 8192}
    found = populate("llama-3.1-8b", **run).on(CARD)
    assert "reading and writing the cache. An 8-bit cache" in found.sentence
    narrow = populate("llama-3.1-8b", **run, kv_bit=8).on(CARD)
    assert gain(found.sentence) == pytest.approx(found.time / narrow.time, rel=0.02)


def test_a_long_prompt_waits_for_arithmetic() -> None:
    found = populate("llama-3.1-8b", seq_len=4096, fusion="engine").on(CARD)
    assert found.sentence.startswith(f"Compute-bound: {percent(found.total.compute / found.time)} of the time")
    narrow = populate("llama-3.1-8b", seq_len=4096, fusion="engine", w_bit=8, a_bit=8).on(CARD)
    assert 1.05 < gain(found.sentence) <= found.time / narrow.time + 0.05
    assert "or more as fast" in found.sentence


def test_unfused_kernels_wait_for_activations() -> None:
    found = populate("gpt2", seq_len=1024).on(CARD)
    assert "moving activations between kernels. Fused kernels" in found.sentence
    assert gain(found.sentence) == pytest.approx(found.time / found.lower_bound, rel=0.05)


def test_what_does_not_fit_says_so_first() -> None:
    found = populate("deepseek-v3", seq_len=1, cache_len=2048).on(CARD)
    needed = -(-found.memory.total // (80 * 2**30))
    need = f"{si(found.memory.total, 'B')} are needed and 80 GiB (85.90 GB) are there"
    assert found.sentence.startswith(f"Does not fit: {need}: {needed} such devices could hold it. ")


def test_few_bits_and_half_bits_promise_nothing() -> None:
    text = populate("llama-3.1-8b", seq_len=1, cache_len=64, w_bit=4).on(CARD).sentence
    assert text.startswith("Memory-bound:")
    assert "4-bit" not in text


def test_weights_that_are_stored_in_several_ways_promise_nothing() -> None:
    step: dict[str, Any] = {"seq_len": 1, "cache_len": 64}
    by_config, asked = populate("gpt-oss-20b", **step), populate("llama-3.1-8b", **step, quant="gptq-4-g128")
    for text in (by_config.on(CARD).sentence, asked.on(CARD).sentence):
        assert text.startswith("Memory-bound:")
        assert "4-bit" not in text
    reading = populate("llama-3.1-8b", seq_len=4096, fusion="engine", quant="fp8-block").on(CARD).sentence
    assert "8-bit" not in reading


def test_without_hardware_it_says_where_the_flops_are() -> None:
    """GPT-2: 8 * 768**2 multiply-adds a token in the MLP of each of 12 layers; scores and values, 4 * 768 * S."""
    found = populate("gpt2", seq_len=1024)
    flops = found.totals["flops"]
    mlp = 12 * 1024 * 2 * 8 * 768**2 / flops
    among = 12 * 4 * 768 * 1024**2 / flops
    first, second, moved = shares(found.sentence)
    assert (first, second) == pytest.approx((mlp, among), abs=0.006)
    assert moved == pytest.approx(found.totals["activation_bytes"] / found.totals["bytes"], abs=0.006)
    assert found.sentence.startswith("The MLP has 40 % of the FLOPs; products of tokens with tokens have 13 %, a share")
    longer = populate("gpt2", seq_len=1024, cache_len=0, set={"max_position_embeddings": 4096})
    assert longer.sentence == found.sentence


def test_a_step_without_hardware_reads_its_weights() -> None:
    found = populate("mixtral-8x7b-v0.1", seq_len=1, cache_len=2048)
    read = found.totals["weight_bytes_read"] / 1e9
    assert found.sentence.startswith(f"For one token, {read:.2f} GB of weights are read, 99 % of all bytes: 1.03 FLOPs")
    assert found.sentence.endswith(" A token uses 12.9 B of 46.7 B parameters.")


@pytest.mark.parametrize("model", ["t5-small", "mamba-2.8b", "jamba-v0.1", "gpt-oss-20b", "gemma-3-1b-it"])
@pytest.mark.parametrize("run", [{}, {"seq_len": 1, "cache_len": 64}, {"seq_len": 64, "tp": 2}], ids=str)
def test_every_pass_has_one(model: str, run: dict[str, Any]) -> None:
    found = populate(model, **run)
    for text in (found.sentence, found.on(CARD).sentence):
        assert text.endswith(".")
        assert text == text.strip()
        assert len(text) < 320
        assert all(0 < share <= 1 for share in shares(text))


def test_nothing_costs_nothing_and_says_nothing() -> None:
    empty = populate({"model_id": "x", "kernels": []})
    assert empty.sentence == ""
    assert empty.on(CARD).sentence == ""
