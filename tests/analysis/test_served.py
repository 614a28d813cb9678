"""Requests in steady continuous batching, against arithmetic by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import error_of

from nbanalyzer import Accelerator, populate, request
from nbanalyzer.analysis.capacity import COMMUNICATION, CONTEXT, GRAPHS, STEP_TOKENS
from nbanalyzer.analysis.served import Served
from nbanalyzer.analysis.steps import Steps, Times
from nbanalyzer.errors import InputError
from nbanalyzer.hardware.parameters import Fit, Spread
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import percent, rate, seconds

H, LAYERS, HEADS, KV, D, WIDTH, VOCAB = 64, 3, 8, 2, 16, 160, 1000
SIZES = {
    "hidden_size": H, "num_layers": LAYERS, "num_heads": HEADS, "num_kv_heads": KV, "head_dim": D,
    "intermediate_size": WIDTH, "vocab_size": VOCAB,
}  # fmt: skip
LAYER = H * D * (2 * HEADS + 2 * KV) + 3 * H * WIDTH
"""Elements of the matrices of one layer."""
ENDLESS = 1e27
CARD = Accelerator(
    name="card", memory_bytes=80 * 10**9, bandwidth=ENDLESS, peaks={"bf16": ENDLESS, "fp32": ENDLESS, "fp8": ENDLESS},
    link_bandwidth=1e9, power=500,
)  # fmt: skip


FREE: dict[str, float] = {"compute": 1, "bandwidth": 1, "launch_us": 0}


def profile(launch_us: float = 0, share: float = 1, **fields: Any) -> Profile:
    """Return a profile whose kernels reach everything, and take so long to start."""
    all_of_them = {"compute": share, "bandwidth": share, "launch_us": launch_us}
    fits = dict.fromkeys(("linear", "decode_attention", "elementwise"), Fit(parameters=all_of_them))
    fits["prefill_attention"] = Fit(parameters={**all_of_them, "launch_us": 100 * launch_us})
    fits["experts"] = Fit(parameters={**all_of_them, "activation_bandwidth": share})
    fits["all_reduce"] = Fit(parameters={"launch_us": 3, "per_rank_us": 2, "second_step_us": 5, "link": 0.5})
    classes = {kind: {"any": fit} for kind, fit in fits.items()}
    return Profile(card="any", engine="round", source="a test", overlap=0, **{"classes": classes, **fields})


def served(concurrency: int, card: Accelerator = CARD, by: Profile | None = None, **options: Any) -> Served:
    options = {"prompt_len": 100, "output_len": 50, **options}
    found = request("llama-3.1-8b", set=SIZES, **options)
    return found.on(card, profile=by or profile()).served(concurrency)


# ---- time


def test_launches_are_counted() -> None:
    """Nothing takes time but starting: 9 launches a layer, the embedding, the last norm and the head."""
    found = served(10, by=profile(launch_us=1))
    step = (9 * LAYERS + 3) * 1e-6
    prompt = LAYERS * 100e-6  # the prompt's attention is a launch of its own, all others are the step's
    assert found.step.expected == pytest.approx(step, rel=1e-12)
    assert found.step_with_prompt.expected == pytest.approx(step + prompt, rel=1e-12)
    assert found.expected == pytest.approx(step + 10 / 50 * prompt, rel=1e-12)
    assert found.prefill_time == pytest.approx(step + prompt - LAYERS * 1e-6, rel=1e-12)
    assert found.tokens_per_second_each == pytest.approx(1 / found.expected)
    assert found.tokens_per_second == pytest.approx(10 / found.expected)


def test_products_by_hand() -> None:
    """Nothing takes time but products, at 1e12 a second."""
    card = msgspec.structs.replace(CARD, peaks={"bf16": 1e12, "fp32": ENDLESS})
    found = served(10, card)
    batch, prompt, context = 10, 100, 100 + 25
    head = 2 * H * VOCAB
    old = batch * 4 * HEADS * D * (context + 1) * LAYERS
    new = 4 * HEADS * D * prompt * (prompt + 1) // 2 * LAYERS
    step = batch * (2 * LAYER * LAYERS + head) + old
    mixed = (batch + prompt) * 2 * LAYER * LAYERS + (batch + 1) * head + old + new
    assert found.context == context
    assert found.step.expected == pytest.approx(step / 1e12, rel=1e-9)
    assert found.step_with_prompt.expected == pytest.approx(mixed / 1e12, rel=1e-9)
    assert found.times.expected == pytest.approx((step + 10 / 50 * (mixed - step)) / 1e12, rel=1e-9)
    assert found.prefill.expected == pytest.approx((prompt * 2 * LAYER * LAYERS + head + new) / 1e12, rel=1e-9)
    assert found.lower_bound == pytest.approx(found.expected, rel=1e-9)  # the profile reaches everything


def test_one_prompt_a_step_at_most() -> None:
    found = served(200, by=profile(launch_us=1))
    assert found.prompt_share == 1
    assert found.expected == pytest.approx(found.step_with_prompt.expected, rel=1e-12)
    assert served(50).prompt_share == 1
    assert served(49).prompt_share == 49 / 50


def test_weights_inside_the_layers_are_narrower() -> None:
    """Nothing takes time but traffic, at 1e9 bytes a second: embedding and head stay as they are."""
    card = msgspec.structs.replace(CARD, bandwidth=1e9)
    wide, narrow, block = (served(1, card, quant=quant) for quant in (None, "fp8-channel", "fp8-block"))
    less = LAYERS * LAYER * 1
    outputs = LAYERS * (H * 2 + (HEADS + 2 * KV) * D + 2 * WIDTH)  # each with a scale of two bytes
    less -= 2 * outputs
    assert (wide.step - narrow.step).expected == pytest.approx(less / 1e9, rel=1e-9)
    assert (wide.step - narrow.step).bound == pytest.approx(less / 1e9, rel=1e-9)
    sizes = ((HEADS * D, H), (KV * D, H), (KV * D, H), (H, HEADS * D), (WIDTH, H), (WIDTH, H), (H, WIDTH))
    scales = 4 * LAYERS * sum(math.ceil(rows / 128) * math.ceil(columns / 128) for rows, columns in sizes)
    assert (block.step - narrow.step).expected == pytest.approx((scales - 2 * outputs) / 1e9, rel=1e-6)
    total = LAYERS * (LAYER + 2 * H) + H + 2 * VOCAB * H
    assert wide.capacity.parts["weights"] == 2 * total
    assert narrow.capacity.parts["weights"] == 2 * total - less


@pytest.mark.parametrize(("quant", "peak"), [("fp8", 4e12), ("w8a16", 1e12), (None, 1e12)])
def test_products_run_at_the_peak_of_the_scheme(quant: str | None, peak: float) -> None:
    card = msgspec.structs.replace(CARD, peaks={"bf16": 1e12, "fp8": 4e12, "fp32": ENDLESS})
    found = served(10, card, quant=quant)
    inside = 10 * 2 * LAYER * LAYERS / peak
    rest = (10 * 2 * H * VOCAB + 10 * 4 * HEADS * D * 126 * LAYERS) / 1e12
    assert found.step.expected == pytest.approx(inside + rest, rel=1e-9)
    assert found.step.bound == pytest.approx(inside + rest, rel=1e-9)


# ---- several devices


def test_sums_over_the_ranks_by_hand() -> None:
    """The embedding and two a layer, of 2 bytes an element: the law's launch, its ranks, and the cheaper of one step
    and two. The logits of a token for each sequence are gathered, which takes what summing half as much does.
    """

    def law(ranks: int, sent: float) -> float:
        return 3e-6 + (ranks - 1) * 2e-6 + min((ranks - 1) * sent / 0.5, 5e-6 + 2 * (ranks - 1) / ranks * sent / 0.5)

    found = served(10, tp=2)
    summed, logits = 10 * H * 2 / 1e9, 10 * VOCAB * 2 / 1e9
    sums = 2 * LAYERS + 1
    assert found.step.expected == pytest.approx(sums * law(2, summed) + law(2, logits / 2), rel=1e-9)
    assert found.step.bound == pytest.approx(sums * 2 * 1 / 2 * summed + 1 / 2 * logits, rel=1e-9)
    four = served(10, tp=4)
    summed, logits = 110 * H * 2 / 1e9, 11 * VOCAB * 2 / 1e9  # of the prompt, the last token alone has logits
    assert four.step_with_prompt.expected == pytest.approx(sums * law(4, summed) + law(4, logits / 2), rel=1e-9)
    assert four.step_with_prompt.bound == pytest.approx(sums * 2 * 3 / 4 * summed + 3 / 4 * logits, rel=1e-9)


def test_ranks_that_fill_more_than_a_node_need_nodes() -> None:
    with pytest.raises(InputError, match="tp=4 needs 4 devices, a node of card has 2: give --nodes 2"):
        served(1, msgspec.structs.replace(CARD, devices_per_node=2), tp=4)
    wide = msgspec.structs.replace(CARD, devices_per_node=2, network_bandwidth=1e8, network_latency=1e-3)
    asked = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50, tp=4)
    found = asked.on(wide, profile=profile(), nodes=2).served(10)
    # Half of each message goes to the other node and back in half: two steps of 1 ms, or one to gather.
    summed, logits = 10 * H * 2 / 2 / 1e8, 10 * VOCAB * 2 / 4 / 1e8
    network = (2 * LAYERS + 1) * (summed + 2e-3) + logits + 1e-3
    alone = served(10, tp=2)
    inside = (2 * LAYERS + 1) * (5e-6 + min(2 * 10 * H * 2 / 1e9, 5e-6 + 2 * 10 * H * 2 / 1e9))
    gathered = 5e-6 + min(10 * VOCAB * 2 / 1e9, 5e-6 + 10 * VOCAB * 2 / 1e9)
    assert alone.step.expected == pytest.approx(inside + gathered, rel=1e-9)
    assert found.step.expected == pytest.approx(inside + gathered + network, rel=1e-9)
    with pytest.raises(InputError, match="compared with measurements"):
        _ = found.time_per_output_token


def test_one_device_is_no_group() -> None:
    plain = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50, fusion="engine")
    one = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50, tp=1, fusion="engine")
    assert plain.totals == one.totals
    by = profile(launch_us=1, share=0.5)
    slow = msgspec.structs.replace(CARD, bandwidth=1e9)
    assert plain.on(slow, profile=by).served(9).times == one.on(slow, profile=by).served(9).times


def test_steps_are_of_one_device_unless_said_otherwise() -> None:
    steps = Steps(populate("llama-3.1-8b", set=SIZES, seq_len=1, fusion="engine"), CARD, profile(launch_us=1))
    assert steps.tp == 1
    assert steps.decode(10, 125).expected == pytest.approx((9 * LAYERS + 3) * 1e-6)


def test_without_a_link_or_its_law_it_is_not_modelled() -> None:
    with pytest.raises(InputError, match="not modelled: the link bandwidth of card is not known, and tp=2 needs it"):
        served(1, msgspec.structs.replace(CARD, link_bandwidth=None), tp=2)
    without = {kind: fits for kind, fits in profile().classes.items() if kind != "all_reduce"}
    with pytest.raises(InputError, match="all_reduce at 'any' is not modelled"):
        _ = served(1, by=profile(classes=without), tp=2).expected
    assert served(1, by=profile(classes=without), tp=2).lower_bound == served(1, tp=2).lower_bound


# ---- intervals


def test_the_interval_is_that_of_the_kind_and_the_devices() -> None:
    spreads = {
        "dense": {
            "1": Spread(n=9, ratio=(0.7, 0.8, 1.0, 1.5, 2.0)), "2-4": Spread(n=4, ratio=(0.5, 0.6, 1.0, 1.1, 1.2)),
        }
    }  # fmt: skip
    by = profile(launch_us=1, intervals=spreads)
    found = served(10, by=by)
    interval = found.time_per_output_token
    assert interval.value == pytest.approx(found.times.expected)
    assert interval.low == pytest.approx(0.8 * found.times.expected)
    assert interval.high == pytest.approx(1.5 * found.times.expected)
    assert found.tokens_per_second_each == pytest.approx(1 / found.times.expected)
    assert served(10, by=by, tp=2).time_per_output_token.n == 4
    with pytest.raises(InputError, match="not modelled: no estimate of dense models on 8 devices by round"):
        _ = served(10, by=by, tp=8).time_per_output_token
    # Where everything is at its bound, nothing may be faster.
    card = msgspec.structs.replace(CARD, bandwidth=1e9)
    tight = served(10, card, by=profile(intervals=spreads)).time_per_output_token
    assert [tight.low, tight.value] == pytest.approx([served(10, card).lower_bound] * 2, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tp", "quant", "card", "by"),
    [
        ("llama-3.1-8b", 1, None, "h100-sxm", "vllm"),
        ("llama-3.1-70b", 4, "fp8", "h200-sxm", "trtllm"),
        ("qwen3-30b-a3b", 2, "fp8-block", "b300-sxm", "sglang"),
        ("gpt-oss-120b", 8, "mxfp4", "b200-sxm", "vllm"),
        ("gemma-3-27b-it", 2, "w4a16", "a100-sxm-80gb", None),
        ("mixtral-8x7b-v0.1", 2, "nvfp4", "gb300", "vllm"),
    ],
)
def test_no_estimate_is_below_its_bound(name: str, tp: int, quant: str | None, card: str, by: str | None) -> None:
    timing = request(name, prompt_len=700, output_len=300, tp=tp, quant=quant).on(card, profile=by)
    for concurrency in (1, 64):
        found = timing.served(concurrency)
        assert 0 < found.lower_bound <= found.expected
        assert found.step.bound < found.step_with_prompt.bound
        assert found.step.expected < found.step_with_prompt.expected
    assert timing.lower_bound <= timing.expected


# ---- memory


def test_what_fits_by_hand() -> None:
    """The engine's share, without weights, the largest step's activations and its own needs, in blocks of 16 tokens."""
    found = served(10, msgspec.structs.replace(CARD, memory_bytes=8 * 10**9))
    capacity = found.capacity
    # The largest working set reads gate and up, and writes their product; or reads and writes the residual stream.
    rows = STEP_TOKENS * 2 * max(3 * WIDTH, 4 * H, H + 2 * WIDTH)
    assert capacity.parts["activations"] == rows
    weights = 2 * (LAYERS * (LAYER + 2 * H) + H + 2 * VOCAB * H)
    left = int(0.9 * 8 * 10**9) - weights - rows - CONTEXT - GRAPHS
    assert capacity.cache == pytest.approx(left, abs=1)
    token = 2 * LAYERS * KV * D * 2
    assert capacity.sequence(150) == 160 * token  # 10 blocks
    assert found.max_concurrency == capacity.cache // (160 * token)
    longest = capacity.cache // (16 * token) * 16
    assert found.longest_context == min(longest, 131_072)
    assert served(10, tp=2).capacity.parts["communication"] == COMMUNICATION
    assert "communication" not in capacity.parts


def test_the_batch_is_what_fits() -> None:
    token = 2 * LAYERS * KV * D * 2
    used = served(1).capacity
    room = sum(used.parts.values()) + 5 * 160 * token + 100
    card = msgspec.structs.replace(CARD, memory_bytes=math.ceil(room / 0.9) + 1)
    found = served(64, card, by=profile(launch_us=1))
    assert (found.max_concurrency, found.batch) == (5, 5)
    assert found.times == served(5, by=profile(launch_us=1)).times
    assert found.answer.endswith("5 sequences at a time: no more of 64 fit")
    small = msgspec.structs.replace(CARD, memory_bytes=math.ceil((room - 5 * 160 * token) / 0.9))
    with pytest.raises(InputError, match=r"does not fit: a sequence of 150 tokens takes .* of cache, and of card"):
        served(1, small)


def test_what_does_not_fit_says_how_much_is_left_or_lacking() -> None:
    """10 blocks of 16 tokens are needed, 61.44 kB; 6.144 kB are left, or 2 GB are lacking before any is cached."""
    used = sum(served(1).capacity.parts.values())
    cases = {6_144: "6.144 kB are left", 0: "0 B are left", -2 * 10**9: "2.000 GB are lacking already"}
    for memory, said in ((used + more, said) for more, said in cases.items()):
        card = msgspec.structs.replace(CARD, memory_bytes=memory)
        with pytest.raises(InputError) as caught:
            request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50).on(card, profile=profile()).served(
                1, memory_fraction=1
            )
        assert str(caught.value) == (
            f"does not fit: a sequence of 150 tokens takes 61.44 kB of cache, and of card {said}; "
            "tp=… divides the model over several"
        )


def test_a_context_is_at_most_what_the_model_has() -> None:
    assert served(1, msgspec.structs.replace(CARD, memory_bytes=10**15)).longest_context == 131_072


# ---- money and energy


def test_money_and_energy_by_hand() -> None:
    timing = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50, tp=2).on(
        CARD, profile=profile(launch_us=1), price=9, grid=200
    )
    found = timing.served(10)
    seconds = 1_000_000 / found.tokens_per_second
    assert found.cost_per_million_tokens == pytest.approx(2 * 9 * seconds / 3600)
    assert found.energy_per_token == pytest.approx(2 * 500 / found.tokens_per_second)
    assert found.kwh_per_million_tokens == pytest.approx(2 * 0.5 * seconds / 3600)
    assert found.co2_per_million_tokens == pytest.approx(200 * 2 * 0.5 * seconds / 3600)
    assert timing.served(10, price=18).cost_per_million_tokens == pytest.approx(2 * found.cost_per_million_tokens)
    each = timing.expected / 50
    assert timing.cost_per_million_tokens == pytest.approx(2 * 9 * each * 1e6 / 3600)
    assert timing.energy_per_token == pytest.approx(1000 * each)
    assert timing.co2_per_million_tokens == pytest.approx(200 * 1000 * each * 1e6 / 3.6e6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"price": -1}, "price is a number of $ an hour from 0 to 1,000,000, not -1"),
        ({"price": "2"}, "not '2'"),
        ({"price": True}, "not True"),
        ({"price": math.nan}, "not nan"),
        ({"grid": math.inf}, "grid is a number of g of CO2 a kWh from 0 to 1,000,000, not inf"),
        ({"concurrency": 0}, "concurrency is a whole number from 1"),
        ({"concurrency": 2.5}, "not 2.5"),
        ({"memory_fraction": 0}, "memory_fraction is a share above 0 and at most 1, not 0"),
        ({"memory_fraction": 1.01}, "not 1.01"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    timing = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50).on(CARD, profile=profile())
    with pytest.raises(InputError) as caught:
        timing.served(**{"concurrency": 1, **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_not_given_or_is_not_known() -> None:
    found = served(1, msgspec.structs.replace(CARD, power=None), by=profile(launch_us=1))
    with pytest.raises(InputError, match="a cost needs a price"):
        _ = found.cost_per_million_tokens
    with pytest.raises(InputError, match="the board power of card is not known"):
        _ = found.energy_per_token
    with pytest.raises(InputError, match="carbon needs a grid"):
        _ = found.co2_per_million_tokens
    with pytest.raises(InputError, match="the memory of card is not known"):
        served(1, msgspec.structs.replace(CARD, memory_bytes=None))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("t5-small", {}, "not modelled: encoder-decoder models in continuous batching"),
        ("mamba-2.8b-hf", {}, "not modelled: state-space and linear attention"),
        ("deepseek-v2-lite", {}, "not modelled: latent attention"),
    ],
)
def test_what_is_not_modelled(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ = request(name, prompt_len=10, output_len=10, **options).on("h200-sxm").served(1).expected


# ---- how it is shown


def test_the_text_begins_with_the_answer(tmp_path: Path) -> None:
    by = profile(launch_us=1, intervals={"dense": {"1": Spread(n=9, ratio=(0.7, 0.8, 1.0, 1.5, 2.0))}})
    timing = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50).on(CARD, profile=by)
    found = timing.served(10, price=2)
    first, model, conditions, *rest = repr(found).splitlines()
    assert first.startswith("time per output token: estimate 90.00 µs (72.00 µs … 135.0 µs; 80 %) · bound ")
    assert first.endswith(" · 10 sequences at a time")
    assert [timing.served(many).batch_words for many in (1, 2)] == ["1 sequence at a time", "2 sequences at a time"]
    assert model == "meta-llama/Llama-3.1-8B (LlamaForCausalLM)"
    assert conditions.startswith("prompt 100, output 50, concurrency 10; w_bit 16, cache 16 bits; on card; round, ")
    cells = {line.split("  ")[1]: line for line in rest}
    assert "idle server" in cells["prefill time"]
    assert "in 20 % of the steps" in cells["step with a prompt in it"]
    assert "at $ 2 an hour each" in cells["$ per million tokens"]
    assert "not modelled: waiting for a turn" in repr(found)
    page = found._repr_mimebundle_()
    assert page["text/plain"] == repr(found)
    assert page["text/html"].startswith("<div>time per output token: estimate 90.00 µs")
    ((before, _),) = [
        row.split(found.capacity.words) for row in page["text/html"].split("<tr>") if found.capacity.words in row
    ]
    assert "nowrap" not in before.rpartition("<td")[2]  # it is longer than a page is wide
    found.save(tmp_path / "served.json")
    plain = json.loads((tmp_path / "served.json").read_text())
    assert plain["expected"] == found.expected
    assert plain["time_per_output_token"]["high"] == found.time_per_output_token.high
    assert plain["co2_per_million_tokens"].startswith("carbon needs a grid")
    with pytest.raises(InputError, match=r"save as \.json"):
        found.save(tmp_path / "served.csv")


def test_without_an_interval_it_says_so() -> None:
    found = repr(served(10, by=profile(launch_us=1)))
    assert found.startswith(
        "time per output token: estimate 90.00 µs (no interval: dense models not measured) · bound "
    )
    assert "note: no interval: not modelled: no estimate of dense models by round" in found


# ---- a request alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "prompt", "output", "run"),
    [
        ("llama-3.1-8b", 100, 33, {"batch_size": 2}),
        ("gemma-3-1b-it", 500, 24, {"batch_size": 4}),  # a window of 512, in most layers
        ("gpt-oss-20b", 120, 17, {}),  # of 128, in every other layer
        ("qwen3-30b-a3b", 50, 9, {"fusion": "engine", "kv_bit": 8}),
        ("gpt2", 5, 1, {}),
    ],
)
@pytest.mark.parametrize("by", ["vllm", None])
def test_the_estimate_is_the_loop(name: str, prompt: int, output: int, run: dict[str, Any], by: str | None) -> None:
    timing = request(name, prompt_len=prompt, output_len=output, **run).on("h100-sxm", profile=by)
    run = {"logits": "last", **run}
    first = populate(name, seq_len=prompt, **run).on("h100-sxm", profile=by).estimated.time
    steps = [
        populate(name, seq_len=1, cache_len=prompt + step, **run).on("h100-sxm", profile=by).estimated.time
        for step in range(output - 1)
    ]
    assert timing.expected == pytest.approx(first + sum(steps), rel=1e-9)
    times = timing._times("estimate_per_output_token")
    assert times.expected == pytest.approx(sum(steps) / max(len(steps), 1), rel=1e-9)
    assert timing.lower_bound <= timing.expected


def test_a_request_alone_has_intervals_of_its_own() -> None:
    by = profile(launch_us=1, intervals={"dense": {"1": Spread(n=9, ratio=(0.7, 0.8, 1.0, 1.5, 2.0))}})
    timing = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50).on(CARD, profile=by)
    step, prompt = (9 * LAYERS + 3) * 1e-6, (8 * LAYERS + 3 + 100 * LAYERS) * 1e-6
    assert timing.prefill_time.value == pytest.approx(prompt, rel=1e-9)
    assert timing.estimate_per_output_token.value == pytest.approx(step, rel=1e-9)
    assert timing.estimate.value == pytest.approx(prompt + 49 * step, rel=1e-9)
    assert timing.estimate.high == pytest.approx(1.5 * timing.estimate.value)


def test_steps_before_and_after_the_first_keys_add_up() -> None:
    """A microsecond for each of the first 130 keys: 49 steps see 121 to 169, those from the eleventh on more."""
    fits = dict.fromkeys(("linear", "prefill_attention", "elementwise"), Fit(parameters=FREE))
    fits["decode_attention"] = Fit(parameters={**FREE, "per_first_key_ns": 1000, "first_keys": 130})
    by = profile(
        classes={kind: {"any": fit} for kind, fit in fits.items()},
        intervals={"dense": {"1": Spread(n=9, ratio=(1, 1, 1, 1, 1))}},
    )
    timing = request("llama-3.1-8b", set=SIZES, prompt_len=120, output_len=50).on(CARD, profile=by)
    keys = sum(range(121, 131)) + 39 * 130
    assert timing.estimate.value == pytest.approx(LAYERS * keys * 1e-6, rel=1e-9)


def test_at_the_roofline_ranks_and_schemes_count() -> None:
    """With a list that is fused already, the bound of a request is its time."""
    slow = msgspec.structs.replace(CARD, bandwidth=1e9)
    for options in ({"tp": 2}, {"quant": "fp8", "fusion": "engine"}, {"tp": 4, "quant": "int8"}, {"fusion": "engine"}):
        timing = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=20, **options).on(slow)
        assert timing.prefill.is_bound
        assert timing.time == pytest.approx(timing.lower_bound, rel=1e-9)


EVENLY = " if tokens are routed evenly"
NOT_MODELLED = (
    ("mamba-2.8b-hf", "not modelled: state-space and linear attention, of which no measured kernels are at hand"),
    ("deepseek-v2-lite", "not modelled: latent attention, of which no measured kernels are at hand"),
)


@pytest.mark.parametrize(("name", "why"), NOT_MODELLED)
def test_what_is_not_modelled_shows_what_fits(name: str, why: str, tmp_path: Path) -> None:
    found = request(name, prompt_len=10, output_len=10).on("h200-sxm", price=2, grid=300).served(3)
    bound = f"{seconds(found.lower_bound)}{EVENLY if 'deepseek' in name else ''}"
    assert repr(found).splitlines()[0] == (
        f"time per output token: estimate {why} · bound {bound} · 3 sequences at a time"
    )
    (most,) = (line for line in repr(found).splitlines() if "most sequences" in line)
    assert most.split()[2] == f"{found.max_concurrency:,}"
    assert ("no limit  tokens of a single sequence" in repr(found)) == name.startswith("mamba")
    assert why in found._repr_mimebundle_()["text/html"]
    cells = {line.split("  ")[1]: line for line in repr(found).splitlines()[3:]}
    assert f"at least {seconds(found.step.bound)}" in cells["step"]
    assert f"at most {rate(3 / found.lower_bound)}" in cells["tokens/s"]
    found.save(tmp_path / "served.json")
    plain = json.loads((tmp_path / "served.json").read_text())
    for figure in ("time_per_output_token", "expected", "cost_per_million_tokens", "tokens_per_second"):
        assert plain[figure] == why
    assert plain["step"] == {"expected": why, "bound": found.step.bound}
    assert plain["lower_bound"] == found.lower_bound
    assert plain["max_concurrency"] == found.max_concurrency > 0


@pytest.mark.parametrize(("name", "why"), NOT_MODELLED)
def test_what_is_not_modelled_has_a_bound(name: str, why: str) -> None:
    """The bound is that of the passes, which nobody has to have measured."""
    timing = request(name, prompt_len=10, output_len=5).on("h200-sxm")

    def bound(**run: Any) -> float:
        return populate(name, fusion="engine", logits="last", **run).on("h200-sxm").lower_bound

    step = bound(seq_len=1, cache_len=12, batch_size=3)
    served = timing.served(3)
    assert served.step.bound == pytest.approx(step, rel=1e-12)
    mixed = served.step_with_prompt.bound
    assert step < mixed < step + bound(seq_len=10)  # the weights are read once
    assert served.lower_bound == pytest.approx(step + 3 / 5 * (mixed - step), rel=1e-12)
    assert served.prefill.bound == pytest.approx(bound(seq_len=10), rel=1e-12)
    whole = bound(seq_len=10) + sum(bound(seq_len=1, cache_len=10 + one) for one in range(4))
    assert timing.lower_bound == pytest.approx(whole, rel=1e-12)
    routing = EVENLY if "deepseek" in name else ""
    assert timing.answer.startswith(f"whole request: estimate {why} · bound {seconds(whole)}{routing} · fits, ")
    assert served.not_modelled == served.prefill.not_modelled == why
    for figure in ("estimate", "prefill_time", "estimate_per_output_token", "expected"):
        with pytest.raises(InputError, match=why):
            getattr(timing, figure)


def test_times_add_up_whether_or_not_they_are_modelled() -> None:
    known, unknown = Times(3.0, 2.0), Times("not modelled: one", 1.0)
    assert known + known * 2 - Times(1.0, 0.5) == Times(8.0, 5.5)
    for found, bound in ((known + unknown, 3), (unknown - known, -1), (unknown * 4, 4), (known - unknown, 1)):
        assert found == Times("not modelled: one", bound)
    assert (unknown + Times("not modelled: two", 0.0)).not_modelled == "not modelled: one"
    assert not known.not_modelled
    with pytest.raises(InputError, match=r"^not modelled: one$"):
        _ = unknown.expected


def test_a_peak_that_is_not_known_is_beside_the_bound() -> None:
    card = msgspec.structs.replace(CARD, peaks={})
    found = served(1, card, by=profile(launch_us=1))
    assert ", compute unknown · 1 sequence at a time" in found.answer
    assert any(note.startswith("compute unknown: card's 16-bit peak") for note in found.notes)
    assert "compute unknown" not in served(1, by=profile(launch_us=1)).answer


@pytest.mark.slow
def test_requests_say_what_their_bound_supposes_of_experts() -> None:
    asked = request("qwen3-30b-a3b", prompt_len=10, output_len=5).on("h200-sxm", profile="vllm")
    assert f"bound {seconds(asked.lower_bound)} if tokens are routed evenly · " in asked.answer
    found = asked.served(4)
    assert f"bound {seconds(found.lower_bound)} if tokens are routed evenly · " in found.answer
    assert "routed" not in request("gpt2", prompt_len=10, output_len=5).on("h200-sxm").answer


# ---- a prompt in a step, of all families


PRODUCTS = Accelerator(name="products", memory_bytes=10**15, bandwidth=ENDLESS, peaks={"bf16": 1e15, "fp32": ENDLESS})
"""A card on which nothing but matrix products takes time."""
FAMILIES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {},
    "mamba-2.8b": {},
    "jamba-v0.1": {},
    "qwen3-next-80b-a3b-instruct": {},
    "glm-4.5": {"mtp": 2, "acceptance": 0.8},
    "qwen3.5-9b": {"mtp": 1, "acceptance": 0.5},
    "qwen2.5-vl-7b-instruct": {"images": 2, "image_size": "448x672"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_products_of_a_step_with_a_prompt_are_those_of_both(name: str) -> None:
    """What runs once for both reads weights once; the products are no fewer."""
    asked = request(name, prompt_len=1000, output_len=200, **FAMILIES[name])
    products, h200 = asked.on(PRODUCTS).steps, asked.on("h200-sxm").steps
    both = products.decode(8, 1100).bound + products.prefill(1000).bound
    assert products.mixed(8, 1100, 1000).bound == pytest.approx(both, rel=1e-12)
    step, prompt, mixed = h200.decode(8, 1100).bound, h200.prefill(1000).bound, h200.mixed(8, 1100, 1000).bound
    assert max(step, prompt) < mixed < step + prompt


# ---- drafts


def test_drafts_that_are_accepted_are_tokens_of_a_step() -> None:
    asked = request("glm-4.5", prompt_len=1000, output_len=244, mtp=2, acceptance=0.8, tp=8)
    found = asked.on("h200-sxm").served(20)
    written = 1 + 0.8 + 0.8**2
    assert found.tokens_a_step == pytest.approx(written)
    assert found.prompt_share == pytest.approx(20 / (244 / written))  # of 100 steps, which write an output
    mean = found.step.bound + (found.step_with_prompt.bound - found.step.bound) * found.prompt_share
    assert found.lower_bound == pytest.approx(mean / written)
    assert found.tokens_per_second == pytest.approx(20 / found.expected)
    assert "mtp 2: 2.44 tokens a step at acceptance 0.8" in repr(found)
    assert "2.44 tokens for each sequence" in repr(found)
    assert any("mtp=2" in note for note in found.notes)  # nobody compared it with measurements


def test_a_step_with_drafts_is_the_pass_that_verifies_them() -> None:
    run: dict[str, Any] = {"mtp": 1, "acceptance": 0.9, "tp": 8}
    steps = request("glm-4.5", prompt_len=1000, output_len=200, **run).on("h200-sxm").steps
    passed = populate("glm-4.5", batch_size=20, seq_len=1, cache_len=1100, fusion="engine", **run)
    assert steps.decode(20, 1100).bound == pytest.approx(passed.on("h200-sxm").lower_bound)


@pytest.mark.slow
def test_a_sequence_has_room_for_its_drafts() -> None:
    """DeepSeek-V3 keeps 512 + 64 elements of 2 bytes for a token in each of its 61 layers, and in the one that drafts."""
    for drafts, layers, tokens in ((0, 61, 1280), (1, 62, 1296)):
        run: dict[str, Any] = {"mtp": drafts} if drafts else {}
        capacity = request("deepseek-v3", prompt_len=1024, output_len=256, tp=8, **run).on("h200-sxm").capacity()
        assert capacity.sequence(1280) == tokens * layers * (512 + 64) * 2


def test_a_request_alone_by_hand() -> None:
    """Nothing takes time but starting, and products, at 1e12 a second: a prompt of 100 tokens and 49 steps."""
    spread = Spread(n=9, ratio=(0.5, 0.5, 1.0, 2.0, 2.0))
    by = profile(launch_us=1, intervals={"dense": {"1": spread}})
    card = msgspec.structs.replace(CARD, peaks={"bf16": 1e12, "fp32": ENDLESS})
    asked = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50, batch_size=2)
    timing = asked.on(card, profile=by, price=9, grid=200)
    head, matrices = 2 * H * VOCAB, 2 * LAYER * LAYERS
    prompt = 2 * (100 * matrices + head + 4 * HEADS * D * 100 * 101 // 2 * LAYERS) / 1e12
    steps = sum(2 * (matrices + head + 4 * HEADS * D * (tokens + 1) * LAYERS) / 1e12 for tokens in range(100, 149))
    started = ((8 * LAYERS + 3) * 1e-6 + LAYERS * 100e-6, 49 * (9 * LAYERS + 3) * 1e-6)
    assert timing.prefill_time.value == pytest.approx(prompt + started[0], rel=1e-9)
    assert timing.expected == timing.estimate.value == pytest.approx(prompt + steps + sum(started), rel=1e-9)
    assert timing.estimate_per_output_token.value == pytest.approx((steps + started[1]) / 49, rel=1e-9)
    assert timing.lower_bound == pytest.approx(prompt + steps, rel=1e-9)
    assert timing.time_per_output_token == pytest.approx(steps / 49, rel=1e-9)
    # Operation by operation, a prompt's tokens look at what they do not see as well.
    reading = prompt + 2 * 4 * HEADS * D * 100 * 99 // 2 * LAYERS / 1e12
    assert timing.tokens_per_second == pytest.approx(2 * 50 / (reading + steps), rel=1e-9)
    assert timing.sentence == (
        f"Reading the prompt of 100 tokens takes {percent(reading / (reading + steps))} of the time, "
        f"writing the 49 tokens after the first {percent(steps / (reading + steps))}."
    )
    # Price and grid are those of the request, unless served at others.
    own, other = timing.served(1), timing.served(1, price=1, grid=2)
    assert (own.price.price, own.price.grid) == (9, 200)
    assert (other.price.price, other.price.grid) == (1, 2)
    assert timing.served(1, price=1).price.grid == 200
    single = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=1).on(card, profile=by)
    assert single.sentence == "Reading the prompt of 100 tokens takes 100 % of the time: one token is written."
    assert single.estimate_per_output_token.value == single.time_per_output_token == 0
    assert single.estimate.value == single.prefill_time.value


def test_times_without_an_estimate_say_why() -> None:
    known, unknown = Times(3.0, 2.0), Times("not modelled: x", 5.0)
    assert (known + known, known - Times(1.0, 0.5), known * 2) == (Times(6.0, 4.0), Times(2.0, 1.5), Times(6.0, 4.0))
    assert known + unknown == unknown + known == Times("not modelled: x", 7.0)
    assert unknown * 2 == Times("not modelled: x", 10.0)
    assert (known.not_modelled, unknown.not_modelled) == ("", "not modelled: x")
    assert error_of(lambda: unknown.expected) == "not modelled: x"


def test_no_steps_take_no_time() -> None:
    steps = Steps(populate("llama-3.1-8b", set=SIZES, seq_len=1, fusion="engine"), CARD, profile(launch_us=1))
    one, none = steps.decode(1, 7), Times(0.0, 0.0)
    assert (steps.all_decodes(7, 7), steps.all_decodes(8, 7)) == (none, none)
    assert steps.all_decodes(7, 8).expected == pytest.approx(one.expected)


def test_peaks_that_steps_need_are_missed() -> None:
    known = Steps(populate("llama-3.1-8b", set=SIZES, seq_len=1, fusion="engine"), CARD, profile(launch_us=1))
    run: dict[str, Any] = {"seq_len": 1, "fusion": "engine", "w_bit": 8, "a_bit": 8, "kv_bit": 8}
    lacking = msgspec.structs.replace(CARD, peaks={"bf16": ENDLESS, "fp32": ENDLESS})
    missed = Steps(populate("llama-3.1-8b", set=SIZES, **run), lacking, profile())
    assert known.unknown == ()
    assert [note.partition(":")[0] for note in missed.unknown] == ["compute unknown"]
    fits = profile().classes | {"linear": {"fp8_block": Fit(parameters={"compute": 1, "bandwidth": 1, "launch_us": 0})}}
    stand_in = Steps(missed.costs, CARD, profile(classes=fits))
    assert len(stand_in.notes) == 1
    assert "fp8_block" in stand_in.notes[0]
    prompts_alone: dict[str, dict[str, Fit]] = {
        "prefill_attention": {}
    }  # a step writes: what reads prompts is another law
    assert Steps(missed.costs, CARD, profile(classes=fits | prompts_alone)).notes == stand_in.notes


def test_the_first_note_is_that_there_is_no_interval() -> None:
    by = profile(launch_us=1, notes=("said by whoever made it",))
    lacking = msgspec.structs.replace(CARD, peaks={"bf16": ENDLESS})
    first, *others = served(10, lacking, by=by).notes
    assert first.startswith("no interval: not modelled: no estimate of dense models by round")
    assert others == [
        "said by whoever made it",
        "card's vector peak is not known: vector FLOPs take no time here, bytes do",
    ]
    assert "compute unknown" not in served(10, lacking, by=by).answer
    eight = request("llama-3.1-8b", set=SIZES, prompt_len=100, output_len=50, w_bit=8, a_bit=8, kv_bit=8)
    assert ", compute unknown · 10 sequences" in eight.on(lacking, profile=by).served(10).answer
