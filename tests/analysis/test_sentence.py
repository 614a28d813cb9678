"""The sentence that a result begins with: true, by numbers computed another way."""

from __future__ import annotations

import re
from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import populate
from nbanalyzer.analysis.sentence import _shares, of_elasticities, of_request, sentence_of
from nbanalyzer.costs.roles import ATTENTION, HEAD, MLP
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


# ---- sentences by hand, of small templates and of numbers


def own(read: str, flops: str = "4000", **run: Any) -> str:
    product = basic(flops, read, "0", "matmul", "product")
    return sentence_of(populate(template(composite("part", product)), **{"seq_len": 1, **run}))


def test_most_bytes_are_weights() -> None:
    """2,000 bytes of weights and 200 of activations are 91 %, and 4,000 FLOPs 1.82 a byte."""
    read = "1000 * {w_bytes} + 100 * {a_bytes}"
    text = "2.000 kB of weights are read, 91 % of all bytes: 1.82 FLOPs a byte."
    assert own(read) == f"For one token, {text}"
    assert own(read, batch_size=2, seq_len=3) == f"For 6 tokens, {text}"
    assert own("101 * {w_bytes} + 100 * {a_bytes}").startswith("For one token, 202 B of weights are read, 50 %")


def test_half_of_the_bytes_are_not_most() -> None:
    assert own("100 * {w_bytes} + 100 * {a_bytes}") == "The head has 100 % of the FLOPs."
    moved = "of the bytes are activations between kernels that are not fused."
    assert own("90 * {w_bytes} + 110 * {a_bytes}") == f"The head has 100 % of the FLOPs. 55 % {moved}"
    assert own("{a_bytes}", "0") == own("0") == ""


def layered(among: str) -> str:
    """Return the sentence of two layers of two linears, 90 FLOPs a token each, and of attention, over 10 tokens."""
    linears = [
        basic("90 * {seq_len}", "100 * {w_bytes} + 100 * {a_bytes}", "0", "matmul", name) for name in ("up", "down")
    ]
    products = [basic(among, "0", "0", "matmul", name) for name in ("scores", "values")]
    layer = composite("layers", composite("attn", *products), composite("mlp", *linears, parameters="200"), repeat="2")
    return sentence_of(populate(template(layer), seq_len=10))


def test_products_of_tokens_with_tokens() -> None:
    """200 of 2,000 FLOPs in each layer, four times as many for twice the tokens; what only doubles is not of them."""
    assert layered("{seq_len} ** 2") == (
        "The MLP has 90 % of the FLOPs; products of tokens with tokens have 10 %, a share that grows with seq_len."
    )
    assert layered("10 * {seq_len}") == "The MLP has 90 % of the FLOPs."
    assert layered("{seq_len} ** 2 / 25") == "The MLP has over 99 % of the FLOPs."  # 8 of 1,808
    assert layered("20 * {seq_len} ** 2").startswith("Attention has 69 % of the FLOPs; products of tokens")


def decoded(**numbers: float) -> dict[str, float]:
    return {
        "flops": 100,
        "bytes": 300,
        "weight_bytes_read": 200,
        "kv_bytes_read": 20,
        "kv_bytes_written": 10,
        **numbers,
    }


def test_what_a_request_says() -> None:
    prompt = {"flops": 300.0, "bytes": 100.0}
    start = "after the first has 25 % of the FLOPs and 75 % of the bytes"
    assert of_request(0, 0, prompt, decoded()) == (
        "One token is written, which reading the prompt gives: the request is a single pass."
    )
    assert of_request(1, 1, prompt, decoded()) == (
        f"Writing the token {start}: it reads 200 B of weights again, 67 % of what it moves."
    )
    tokens = f"Writing the 4,000 tokens {start}"
    assert of_request(4000, 4000, prompt, decoded(weight_bytes_read=200_000, bytes=300_000)).endswith(
        ": each reads 50 B of weights again, 67 % of what it moves."
    )
    assert of_request(4000, 2, prompt, decoded()) == (
        f"{tokens}: each step reads 100 B of weights again, 67 % of what it moves."
    )
    assert of_request(4000, 4000, prompt, decoded(weight_bytes_read=20, kv_bytes_read=200)) == (
        f"{tokens}: each reads the cache, 70 % of what it moves."
    )
    assert of_request(4000, 4000, prompt, decoded(weight_bytes_read=150)) == f"{tokens}."  # half is not most
    nothing = of_request(1, 1, {"flops": 0, "bytes": 0}, decoded(flops=0))
    assert nothing.startswith("Writing the token after the first has 0 % of the FLOPs and 100 % of the bytes")


def test_what_elasticities_say() -> None:
    assert of_elasticities("flops", {}) == ""
    assert of_elasticities("flops", {"a": 0, "b": 0}) == "None of the 2 variables moves flops here."
    assert of_elasticities("flops", {"a": 2.0, "b": 0}) == (
        "a moves flops most: 1 % more of it is 2 % more, with its square. b makes no difference here."
    )
    assert of_elasticities("bytes", {"a": 1.0, "b": 0.996, "c": 0.994}) == (
        "a and b move bytes most: 1 % more of one is 1 % more, in proportion."
    )
    assert of_elasticities("time", {"a": -0.5, "b": 0.3}) == "a moves time most: 1 % more of it is 0.5 % less."
    four, five = ({"a": 0.25, **dict.fromkeys(names, 0.0)} for names in ("bcde", "bcdef"))
    assert of_elasticities("x", four).endswith(" b, c, d and e make no difference here.")
    assert of_elasticities("x", five).endswith(" b, c, d and 2 more make no difference here.")


def test_shares_are_of_all_flops() -> None:
    """In two layers two linears of 3 FLOPs and two products of tokens with tokens of 1; and a head of 4."""
    kernels = [composite("attn", basic("1", "0", "0", "matmul", "scores"), basic("1", "0", "0", "matmul", "values"))]
    kernels.append(composite("mlp", *(basic("3", "{w_bytes}", "0", "matmul", name) for name in ("up", "down"))))
    head = composite("head", basic("4", "{w_bytes}", "0", "matmul"))
    made = template(composite("layers", *kernels, repeat="2"), head)
    assert _shares(populate(made, seq_len=1)) == {ATTENTION: 0.2, MLP: 0.6, HEAD: 0.2}


def test_of_several_devices_nobody_says_what_a_token_uses() -> None:
    step: dict[str, Any] = {"seq_len": 1, "cache_len": 64}
    assert " A token uses " in populate("mixtral-8x7b-v0.1", **step).sentence
    for devices in (2, 4):
        assert " A token uses " not in populate("mixtral-8x7b-v0.1", tp=devices, **step).sentence


def test_what_moves_alike_stands_together() -> None:
    shares = {"a": 1.0, "b": 1.0, "c": 0.5}
    assert of_elasticities("x", shares).startswith("a and b move x most: 1 % more of one is 1 % more, in proportion.")
    three = of_elasticities("x", {**shares, "c": 1.0})
    assert three.startswith("a, b and c move x most: 1 % more of one is ")
    assert of_elasticities("x", {"a": 3.0}) == "a moves x most: 1 % more of it is 3 % more."
    assert of_elasticities("x", {"a": 0.5, "b": 0, "c": 0}).endswith(" b and c make no difference here.")
