"""A request in closed form, against the loop over its steps."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import Accelerator, Request, populate, request
from nbanalyzer.costs.metrics import REQUEST_SUMS
from nbanalyzer.errors import InputError, UnknownNameError
from nbanalyzer.quantities import seconds

CARD = Accelerator(name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})

# model, prompt, output, run; each crosses what its model has of windows, chunks and choices among its steps
ASKED: list[tuple[str, int, int, dict[str, Any]]] = [
    ("gpt2", 5, 9, {"batch_size": 3, "attn": "eager"}),
    ("llama-3.1-8b", 100, 33, {"batch_size": 2, "w_bit": 5, "kv_bit": 7}),
    ("mistral-7b-v0.1", 4_085, 20, {}),  # a window of 4,096
    ("gemma-3-1b-it", 500, 24, {"batch_size": 4}),  # of 512, in most layers
    ("gpt-oss-20b", 120, 17, {"w_bit": 4}),  # of 128, in every other layer
    ("llama-4-scout-17b-16e-instruct", 8_185, 14, {}),  # chunks of 8,192
    ("deepseek-v3", 30, 8, {"mla": "absorbed", "batch_size": 5}),
    ("deepseek-v3.2", 2_040, 16, {}),  # an indexer that chooses 2,048
    ("qwen3-next-80b-a3b-instruct", 60, 9, {}),
    ("mamba-2.8b-hf", 12, 6, {"batch_size": 2}),
    ("jamba-v0.1", 12, 6, {}),
    ("t5-small", 40, 11, {"batch_size": 2}),
]


def passes(name: str, prompt: int, output: int, run: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the prompt's pass and every decode step's, each populated for itself."""
    run = {"logits": "last", **run}
    start = prompt
    if name == "t5-small":  # the encoder reads the prompt; the decoder begins with one token
        run["encoder_len"], start = prompt, 1
    first = populate(name, seq_len=start, **run)
    return first, [populate(name, seq_len=1, cache_len=start + step, **run) for step in range(output - 1)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "prompt", "output", "run"), ASKED, ids=[one[0] for one in ASKED])
def test_the_closed_form_is_the_loop(name: str, prompt: int, output: int, run: dict[str, Any]) -> None:
    found = request(name, prompt_len=prompt, output_len=output, **run)
    first, steps = passes(name, prompt, output, run)
    assert len(steps) == len(found.steps) == output - 1
    assert found.prefill.totals == first.totals
    for metric in REQUEST_SUMS:  # the cache's 7 bits make fractions of bytes, all of them exact
        loop = sum(step.totals[metric] for step in steps)
        assert found.decode[metric] == loop, metric
        assert found.totals[metric] == first.totals[metric] + loop, metric
    assert found.memory.state == steps[-1].memory.state
    assert found.memory.activations == max(first.memory.activations, steps[-1].memory.activations)
    assert found.memory.weights == first.memory.weights


@pytest.mark.slow
@pytest.mark.parametrize("overhead", [0.0, 3e-6])
@pytest.mark.parametrize(("name", "prompt", "output", "run"), ASKED, ids=[one[0] for one in ASKED])
def test_every_step_takes_its_own_roofline(
    name: str, prompt: int, output: int, run: dict[str, Any], overhead: float
) -> None:
    options: dict[str, Any] = {"compute_efficiency": 0.5, "bandwidth_efficiency": 0.75, "launch_overhead": overhead}
    found = request(name, prompt_len=prompt, output_len=output, **run).on(CARD, **options)
    first, steps = passes(name, prompt, output, run)
    each = [step.on(CARD, **options).time for step in steps]
    assert found.step_times.shape == (output - 1,)
    assert found.step_times.tolist() == pytest.approx(each, rel=1e-11)
    assert found.time_to_first_token == pytest.approx(first.on(CARD, **options).time, rel=1e-11)
    assert found.time_per_output_token == pytest.approx(sum(each) / len(each), rel=1e-11)
    assert found.time == pytest.approx(found.time_to_first_token + sum(each), rel=1e-11)
    assert found.tokens_per_second == pytest.approx(run.get("batch_size", 1) * output / found.time, rel=1e-11)


def test_a_bound_may_turn_while_a_request_runs() -> None:
    """On a card of slow units, attention over a long enough cache takes longer than reading it."""
    card = Accelerator(name="slow", memory_bytes=10**12, bandwidth=1e12, peaks={"bf16": 2e12, "fp32": 1e11})
    found = request("gpt2", prompt_len=4, output_len=40, batch_size=4).on(card)
    each = [populate("gpt2", seq_len=1, cache_len=4 + step, batch_size=4, logits="last").on(card) for step in range(39)]
    assert found.step_times.tolist() == pytest.approx([one.time for one in each], rel=1e-11)
    assert {one.bound for one in each} == {"compute"}


def test_one_token_is_the_prompt_alone() -> None:
    found = request("gpt2", prompt_len=10, output_len=1)
    timed = found.on(CARD)
    assert found.totals == {name: found.prefill.totals[name] for name in REQUEST_SUMS}
    assert set(found.decode.values()) == {0}
    assert timed.time_per_output_token == 0
    assert timed.time == timed.time_to_first_token == populate("gpt2", seq_len=10, logits="last").on(CARD).time
    assert found.memory.state == found.prefill.memory.state
    assert found.sentence.startswith("One token is written")
    assert "decode step" not in repr(found)
    assert repr(timed)
    assert [len(one.plot().figure.axes) for one in (found, timed)] == [2, 1]


def test_two_tokens_are_the_prompt_and_one_step() -> None:
    found = request("gpt2", prompt_len=10, output_len=2)
    assert [*found.steps] == [10]
    step = populate("gpt2", seq_len=1, cache_len=10, logits="last")
    assert found.decode == {name: step.totals[name] for name in REQUEST_SUMS}


def test_a_hundred_thousand_steps_take_no_loop() -> None:
    found = request("llama-3.1-8b", prompt_len=1000, output_len=100_001)
    begin = time.process_time()
    # Σ (1 + c) tokens read and written of 131,072 bytes, c from 1,000 on
    cached = sum(1000 + step for step in range(100_000))
    assert found.decode["kv_bytes_read"] == 131_072 * (cached + 100_000)
    assert len(found.on(CARD).step_times) == 100_000
    assert time.process_time() - begin < 60


@pytest.mark.parametrize("name", ["gpt2", "mixtral-8x7b-v0.1", "mamba-2.8b-hf"])
def test_requests_of_one_model_share_the_formulas_of_a_step(name: str) -> None:
    first = request(name, prompt_len=100, output_len=20)
    longer = request(name, prompt_len=300, output_len=7, batch_size=5)
    assert longer.step is first.step
    assert request(name, prompt_len=100, output_len=20, w_bit=8).step is not first.step
    assert request(name, prompt_len=100, output_len=20, set={"num_layers": 2}).step is not first.step
    assert request("opt-125m", prompt_len=100, output_len=20).step is not first.step
    card = Accelerator(name="slow", memory_bytes=10**12, bandwidth=1e12, peaks={"bf16": 2e12, "fp32": 1e11})
    steps = {one.name: longer.on(one).time_per_output_token for one in (CARD, card)}
    assert steps["slow"] > steps["card"]
    assert longer.on(CARD, bandwidth_efficiency=0.5).time_per_output_token > steps["card"]
    assert longer.on(CARD).time_per_output_token == steps["card"]


def test_what_writes_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"bert-base-uncased .* keeps nothing from one pass to the next: it writes no"):
        request("bert-base-uncased", prompt_len=4, output_len=4)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"prompt_len": 0, "output_len": 4}, InputError, "prompt_len is a whole number from 1"),
        ({"prompt_len": 4, "output_len": 0}, InputError, "output_len is a whole number from 1"),
        ({"prompt_len": 4, "output_len": -3}, InputError, "not -3"),
        ({"prompt_len": "4", "output_len": 4}, InputError, "not '4'"),
        ({"prompt_len": 4, "output_len": 4, "seq_len": 4}, InputError, "prompt_len and output_len, not seq_len"),
        ({"prompt_len": 4, "output_len": 4, "cache_len": 4}, InputError, "not cache_len"),
        ({"prompt_len": 4, "output_len": 4, "batch": 4}, UnknownNameError, "batch"),
        ({"prompt_len": 4, "output_len": 4, "batch_size": 0}, InputError, "batch_size is a whole number from 1"),
    ],
)
def test_requests_that_cannot_be(options: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        request("gpt2", **options)


def test_the_text_of_a_request_by_hand() -> None:
    """One matrix product in float16: 100 bytes of weights read, and of the cache what it holds, for each token."""
    product = {"operation": "product", "unit": "matmul", "flops": "10 * {batch_size} * {seq_len}"}
    access = {"read": "50 * {w_bytes} + {batch_size} * {cache_len} * {kv_bytes}", "write": "0"}
    kernel = {"kernel_type": "basic", **product, "memory_access": access}
    part = {"kernel_type": "composite", "name": "part", "parameters": "50", "sub_kernels": [kernel]}
    kept = "{batch_size} * ({cache_len} + {seq_len}) * {kv_bytes}"
    found = request({"model_id": "own", "kernels": [part], "state": {"kv_cache": kept}}, prompt_len=4, output_len=3)
    assert [*found.steps] == [4, 5]
    assert found.decode["flops"] == 2 * 10
    assert found.decode["bytes"] == (100 + 4 * 2) + (100 + 5 * 2)
    assert found.decode["weight_bytes_read"] == 200
    assert found.totals["flops"] == 4 * 10 + 2 * 10
    assert found.memory.weights == 100
    assert found.memory.state == 2 * (4 + 2)  # the last token is written, and not read any more
    _, _, sentence, _, heads, prompt, steps, together, memory = repr(found).splitlines()
    # 20 of 60 FLOPs, 218 of 318 bytes, 200 of the 218 of weights: 100 a step
    said = "Writing the 2 tokens after the first has 33 % of the FLOPs and 69 % of the bytes"
    assert sentence == f"{said}: each reads 100 B of weights again, 92 % of what it moves."
    assert heads.split("  ")[-1] == "of activations"
    assert prompt.split() == ["prompt", "40", "FLOP", "100", "B", "100", "B", "0", "B", "0", "B"]
    assert steps.split() == ["2", "decode", "steps", "20", "FLOP", "218", "B", "200", "B", "18", "B", "0", "B"]
    assert together.split() == ["together", "60", "FLOP", "318", "B", "300", "B", "18", "B", "0", "B"]
    assert memory == "  memory at the end: 112 B, of it cache 12 B"
    # 100 + 8 and 100 + 10 bytes at 1e12 B/s; the prompt reads 100
    timed = found.on(CARD)
    assert timed.step_times.tolist() == pytest.approx([108e-12, 110e-12], rel=1e-12)
    assert timed.time_per_output_token == pytest.approx(109e-12, rel=1e-12)
    assert timed.time == pytest.approx(318e-12, rel=1e-12)
    assert timed.tokens_per_second == pytest.approx(3 / 318e-12, rel=1e-12)


def test_too_many_steps_to_time_are_refused() -> None:
    found = request("llama-3.1-8b", prompt_len=4, output_len=10**8)
    assert found.decode["kv_bytes_written"] == 131_072 * (10**8 - 1)
    with pytest.raises(InputError, match="steps are timed up to an output of 10,000,000 tokens"):
        found.on(CARD)
    assert request("gpt2", prompt_len=4, output_len=10**7).on(CARD)
    with pytest.raises(InputError, match="steps are timed up to an output of 10,000,000 tokens, not 10000001"):
        request("gpt2", prompt_len=4, output_len=10**7 + 1).on(CARD)


def test_the_text_says_the_numbers() -> None:
    found = request("gpt2", prompt_len=1000, output_len=3, batch_size=2)
    lines = repr(found.on(CARD)).splitlines()
    timing = found.on(CARD)
    assert lines.pop(0) == timing.sentence
    reading = f"{100 * timing.time_to_first_token / timing.time:.0f} %"
    assert timing.sentence.startswith(f"Reading the prompt of 1,000 tokens takes {reading} of the time, writing the 2 ")
    assert lines[0].startswith("whole request: estimate ")
    assert lines[0].endswith(f" · fits, {(24e9 - found.memory.total) / 1e9:.2f} GB left")
    assert lines[2] == "batch_size 2, prompt 1,000, output 3; w_bit 16, a_bit 16, kv_bit 16"
    assert any(line.startswith("  2 decode steps ") for line in lines)
    for name in ("time to first token", "time per output token", "whole request", "tokens/s per GPU"):
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert "at least" not in line  # nothing is fused: fused kernels move less
        assert "at most" not in line
    assert any(line.startswith("  estimate, prefill, idle server ") for line in lines)
    words = "at the roofline, operation by operation: no bound, for fused kernels move less"
    assert f"  on card; {words}" in lines
    fused = repr(request("gpt2", prompt_len=1000, output_len=3, fusion="engine").on(CARD))
    assert fused.count("at least ") == 3
    assert fused.count("at most ") == 1
    assert "  on card; lower bound: every fused kernel at its roofline, nothing between them" in fused.splitlines()
    titled = Accelerator(name="short", title="The Long Name", bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
    assert f"  on The Long Name; {words}" in repr(found.on(titled))
    # K and V of 12 layers of 768: 36,864 bytes a token, of 1,002 tokens in 2 sequences
    assert f"of it cache {36_864 * 1002 * 2 / 1e6:.2f} MB" in repr(found)
    assert found.fits(CARD)
    assert repr(found) == repr(request("gpt2", prompt_len=1000, output_len=3, batch_size=2))


def test_the_page_has_what_the_text_has() -> None:
    timing = request("gpt2", prompt_len=10, output_len=3).on(CARD, price=2)
    page = timing._repr_mimebundle_()
    assert page["text/plain"] == repr(timing)
    assert page["text/html"].startswith(f"<div><b>{timing.sentence}</b></div><div>whole request: estimate ")
    assert "per million tokens" in page["text/html"]
    assert "per million tokens" not in repr(request("gpt2", prompt_len=10, output_len=3).on(CARD))


def test_what_no_law_is_of_says_so_and_keeps_its_bound() -> None:
    timing = request("mamba-2.8b-hf", prompt_len=10, output_len=3).on(CARD)
    _, first, *rest = repr(timing).splitlines()
    assert first.startswith("whole request: estimate not modelled: state-space")
    assert f" · bound {seconds(timing.lower_bound)} · " in first
    weights = 3 * 2 * 2_768_345_600 / 1e12  # three passes read them, in bf16
    assert weights < timing.lower_bound < timing.time
    assert any(line.startswith("  estimate ") and "not modelled: state-space" in line for line in rest)


@pytest.mark.parametrize("size", [24 * 10**9, 16 * 10**9, None])
def test_no_time_without_its_mark(size: int | None) -> None:
    card = Accelerator(name="mine", memory_bytes=size, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
    found = request("llama-3.1-8b", prompt_len=100, output_len=3).on(card)  # 16.06 GB of weights
    expected = {24 * 10**9: (), 16 * 10**9: ("does not fit",), None: ("memory unknown",)}[size]
    assert found.marks == expected
    assert (found.fit is None) == (size is None)
    lines = repr(found).splitlines()
    for name in ("time to first token", "time per output token", "whole request", "tokens/s per GPU"):
        (line,) = (line for line in lines if line.startswith(f"  {name}"))
        assert line.split(", ")[1:] == [*expected]
    for name in ("estimate, prefill, idle server", "estimate, each output token", "estimate, request"):
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert line.removeprefix(f"  {name}").split(", ")[1:] == [*expected]


def test_peaks_of_either_pass_are_missed() -> None:
    """A cache of 8 bits beside activations of 16 is widened, so that steps need the 16-bit peak as well."""
    card = Accelerator(name="mine", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"fp8": 2e14, "fp32": 2e13})
    found = request("llama-3.1-8b", prompt_len=100, output_len=3, kv_bit=8).on(card)
    assert found.notes == ("compute unknown: mine's 16-bit peak is not known: products take no time here, bytes do",)
    assert found.marks == ("compute unknown",)
    assert f"warning: {found.notes[0]}" in repr(found)
    moved = found.request.totals["bytes"] / 1e12
    assert found.time == pytest.approx(moved, rel=0.01)  # vector work hides behind the traffic
    assert not request("llama-3.1-8b", prompt_len=100, output_len=3, w_bit=8, a_bit=8, kv_bit=8).on(card).notes


def test_a_request_through_stages_has_costs_and_no_times() -> None:
    """A token waits for all stages, and the costs are those of the busiest one: its time would be half of a token's."""
    asked = request("gpt2", prompt_len=16, output_len=4, pp=2, dp=3)
    assert "one of 6 devices" in repr(asked)
    with pytest.raises(InputError, match="not modelled: the time of a request through pp=2 stages"):
        asked.on("h100-sxm")


def test_the_last_step_has_all_but_the_last_token_in_its_cache() -> None:
    """A request that writes a single token has no step; the first that there would be stands for it."""
    state = {"kv_cache": "{batch_size} * ({cache_len} + {seq_len}) * {kv_bytes}"}
    made = template(composite("part", basic("{batch_size} * {seq_len}")), state=state)
    for output, cached in ((1, 5), (2, 5), (3, 6), (9, 12)):
        found = request(made, prompt_len=5, output_len=output)
        assert (found.last.run.seq_len, found.last.run.cache_len, found.tp) == (1, cached, 1)
        assert len(found.steps) == output - 1
        assert found.totals["flops"] == 5 + output - 1
    assert Request(found.prefill, found.last, 5, 9).tp == 1


def test_the_most_steps_that_are_timed_one_by_one() -> None:
    state = {"kv_cache": "{batch_size} * ({cache_len} + {seq_len}) * {kv_bytes}"}
    made = template(composite("part", basic("{batch_size} * {seq_len}")), state=state)
    assert request(made, prompt_len=5, output_len=10_000_000).on(CARD).time_to_first_token > 0
    with pytest.raises(InputError, match="10,000,000"):
        request(made, prompt_len=5, output_len=10_000_001).on(CARD)


def test_an_encoder_reads_the_prompt_and_a_decoder_begins_with_one_token() -> None:
    state = {"kv_cache": "{batch_size} * ({cache_len} + {seq_len}) * {kv_bytes}"}
    with_encoder, alone = (
        request(template(composite("part", basic(flops)), state=state), prompt_len=40, output_len=3)
        for flops in ("10 * {encoder_len} + {seq_len}", "10 * {cache_len} + {seq_len}")
    )
    assert (with_encoder.prefill.run.seq_len, with_encoder.prefill.totals["flops"]) == (1, 10 * 40 + 1)
    assert (with_encoder.last.run.cache_len, with_encoder.last.totals["flops"]) == (2, 10 * 40 + 1)
    assert (alone.prefill.run.seq_len, alone.prefill.totals["flops"]) == (40, 40)
    assert (alone.last.run.cache_len, alone.last.totals["flops"]) == (41, 10 * 41 + 1)


def test_steps_that_write_several_tokens_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"kv_cache": "{batch_size} * ({cache_len} + {seq_len}) * {kv_bytes}"}
    made = template(composite("part", basic("{seq_len}")), state=state)
    monkeypatch.setattr("nbanalyzer.analysis.request_costs.tokens_a_step", lambda _: Fraction(7, 4))
    found = {tokens: request(made, prompt_len=5, output_len=tokens + 1).steps_run for tokens in (7, 14, 9)}
    assert found == {7: 4, 14: 8, 9: 5.1}  # of 5.142…
    assert [type(steps) for steps in found.values()] == [int, int, float]
