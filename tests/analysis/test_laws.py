"""Estimates by hand: one law after the other, with profiles of round numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from builders import basic, composite, error_of, template

import nbanalyzer
from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.estimate import interval_of
from nbanalyzer.analysis.laws import Pace
from nbanalyzer.errors import InputError, UnknownNameError
from nbanalyzer.hardware.parameters import Fit, Spread
from nbanalyzer.hardware.profiles import Profile

CARD = Accelerator(name="round", memory_bytes=10**12, bandwidth=1e12, peaks={"bf16": 1e15, "fp8": 2e15, "fp32": 1e13})
SPREAD = Spread(n=10, ratio=(0.7, 0.8, 1.0, 1.5, 2.0))
LLAMA = {"hidden": 4096, "heads": 32, "kv": 8, "size": 128, "inner": 14336, "vocab": 128256, "layers": 32}


def profile(**classes: dict[str, float]) -> Profile:
    """Return a profile in which everything reaches the peaks and starts at once, but for what is given."""
    own = {"compute": 1.0, "bandwidth": 1.0, "launch_us": 0.0}
    kinds = ("linear", "decode_attention", "prefill_attention", "experts", "elementwise")
    found = {kind: dict(own) for kind in kinds}
    found["experts"]["activation_bandwidth"] = 1.0
    for kind, given in classes.items():
        found[kind] |= given
    fits = {kind: {"any": Fit(parameters=given)} for kind, given in found.items()}
    intervals = {"dense": {"1": SPREAD}, "experts": {"1": SPREAD}}
    return Profile(card="any", engine="round", source="test", overlap=0.0, classes=fits, intervals=intervals)


def times(classes: dict[str, dict[str, float]], **run: Any) -> dict[str, float]:
    """Return first kernel of each launch in a Llama layer → microseconds of one run."""
    roofline = populate("llama-3.1-8b", fusion="engine", **run).on(CARD, profile=profile(**classes))
    engine = roofline.estimated.costs
    return {
        launch.nodes[0].path.rpartition("layers.")[2]: roofline.pace.time_us(launch, engine.value_of)
        for launch in engine.launches
    }


def test_a_linear_reads_its_weights_once_and_sums_over_its_input() -> None:
    given = {"linear": {"bandwidth": 0.5, "launch_us": 3.0, "per_k_ns": 2.0, "longest_k": 65536.0}}
    found = times(given, seq_len=1, cache_len=100)["self_attn.o_proj.matmul"]
    moved = 2 * (4096 * 4096 + 4096 + 4096)  # weights, what comes in and what goes out, of 2 bytes
    assert found == pytest.approx(moved / 1e6 / 0.5 + 3 + 0.002 * 4096)


def test_three_linears_with_one_input_are_one_launch() -> None:
    found = times({"linear": {"launch_us": 1.0}}, seq_len=1, cache_len=100)["self_attn.q_proj.matmul"]
    outputs = (32 + 8 + 8) * 128
    moved = 2 * (4096 * outputs + 4096 + outputs)
    assert found == pytest.approx(moved / 1e6 + 1)


def test_attention_of_a_step_reads_the_cache() -> None:
    given = {"decode_attention": {"launch_us": 5.0, "per_context_ns": 10.0}}
    found = times(given, batch_size=4, seq_len=1, cache_len=999)["self_attn.attention.scores"]
    cache = 4 * 1000 * 2 * 8 * 128 * 2
    queries = 2 * 4 * 32 * 128 * 2  # in, and out
    assert found == pytest.approx((cache + queries) / 1e6 + 5 + 0.01 * 1000)


def test_attention_of_a_prompt_counts_visible_pairs() -> None:
    given = {"prefill_attention": {"compute": 0.5}}
    found = times(given, seq_len=4096)["self_attn.attention.scores"]
    pairs = 4096 * 4097 / 2
    assert found == pytest.approx(4 * 32 * 128 * pairs / 1e9 / 0.5)  # two products of 128, 2 FLOPs each


def test_a_chain_is_started_and_moves_what_comes_in_and_goes_out() -> None:
    found = times({"elementwise": {"bandwidth": 0.5, "launch_us": 2.0}}, seq_len=1, cache_len=100)
    moved = 2 * (2 * 14336 + 14336)  # gate and up in, their product out
    assert found["mlp.act_fn.silu"] == pytest.approx(moved / 1e6 / 0.5 + 2)


def test_experts_go_through_memory_between_their_products() -> None:
    roofline = populate("mixtral-8x7b-v0.1", seq_len=1, cache_len=10, fusion="engine").on(
        CARD, profile=profile(experts={"activation_bandwidth": 0.25, "launch_us": 7.0, "per_expert_us": 3.0})
    )
    engine = roofline.estimated.costs
    (launch,) = (one for one in engine.launches if one.kind == "experts")
    weights = 2 * (3 * 4096 * 14336) * 2  # two of eight experts, of 2 bytes
    activations = 2 * (2 * 4096 + 3 * 14336) * 2  # each of the two: in and out, and three times the width between
    by_hand = weights / 1e6 + activations / 1e6 / 0.25 + 7 + 2 * 3
    assert roofline.pace.time_us(launch, engine.value_of) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("quant", "inside", "head"),
    [("fp8", 1, 2), ("w4a16", 0.515625, 2), ("gguf-q4_0", 0.5625, 0.8203125), ("mlx-4", 0.5625, 0.5625)],
)
def test_schemes_narrow_weights_inside_the_layers(quant: str, inside: float, head: float) -> None:
    engine = populate("llama-3.1-8b", seq_len=1, cache_len=100, fusion="engine", quant=quant)
    pace = Pace(CARD, profile(), engine.run)
    by_path = {launch.nodes[0].path: launch for launch in engine.launches}
    for path, size, width in (
        ("model.layers.mlp.down_proj.matmul", 4096 * 14336, inside), ("lm_head.matmul", 4096 * 128256, head),
    ):  # fmt: skip
        figures = pace.figures(by_path[path], engine.value_of)
        assert float(figures["weight_us"]) == pytest.approx(size * width / 1e6)


def test_all_of_it_adds_up() -> None:
    given = {kind: {"launch_us": 1.0} for kind in ("linear", "decode_attention", "elementwise")}
    roofline = populate("llama-3.1-8b", seq_len=1, cache_len=100).on(CARD, profile=profile(**given))
    launches = 2 + 9 * 32 + 1  # the embedding and the last norm, nine a layer, the head
    assert roofline.estimated.time == pytest.approx(roofline.lower_bound + launches / 1e6, rel=1e-3)
    assert roofline.estimated.time == pytest.approx(sum(roofline.estimated.times[root] for root in roots(roofline)))


def roots(roofline: nbanalyzer.Roofline) -> list[Any]:
    return [node for node in roofline.estimated.costs.nodes if node.parent is None]


def test_an_interval_is_cut_off_at_the_bound() -> None:
    free = interval_of(10.0, 1.0, SPREAD, "x")
    assert [free.low, free.value, free.high] == pytest.approx([8, 10, 15])
    assert (free.level, free.n, free.source) == (0.8, 10, "x")
    for bound, ends in ((9.0, [9, 10, 15]), (12.0, [12, 12, 15]), (20.0, [20, 20, 20])):
        cut = interval_of(10.0, bound, SPREAD, "x")
        assert [cut.low, cut.value, cut.high] == pytest.approx(ends)


def test_the_answer_comes_first() -> None:
    roofline = populate("llama-3.1-8b", seq_len=1, cache_len=100).on(CARD, profile=profile())
    assert repr(roofline).splitlines()[2:4] == [roofline.sentence, roofline.answer]
    assert roofline.answer.startswith(f"estimate {roofline.estimate} · bound ")
    assert "80 %" in roofline.answer
    assert " · fits, " in roofline.answer
    assert roofline.summary["estimate"]["n"] == 10  # type: ignore[index]


@pytest.mark.parametrize(
    ("model", "reason"), [("deepseek-v3", "latent attention"), ("mamba-2.8b", "state-space and linear attention")]
)
def test_what_nobody_measured_has_no_number(model: str, reason: str) -> None:
    roofline = populate(model, seq_len=1, cache_len=100).on("h100-sxm")
    with pytest.raises(InputError, match=f"not modelled: {reason}"):
        _ = roofline.estimate
    assert roofline.answer.startswith(f"estimate not modelled: {reason}")
    assert roofline.lower_bound > 0


def test_without_a_comparison_there_is_no_interval() -> None:
    bare = profile().__class__(card="any", engine="round", source="test", overlap=0.0, classes=profile().classes)
    with pytest.raises(InputError, match="no estimate of dense models by round was compared with measurements"):
        _ = populate("gpt2", seq_len=1, cache_len=5).on(CARD, profile=bare).estimate


def test_a_time_is_explained_by_its_law() -> None:
    roofline = populate("llama-3.1-8b", seq_len=1, cache_len=100).on("h100-sxm", profile="vllm")
    text = repr(roofline.explain("v_proj"))
    for part in ("q_proj", "{launch_us}", "{memory_us} = ", "fitted on 1,000 measurements", "× 32"):
        assert part in text
    assert repr(roofline.explain("v_proj", "counts")) == repr(roofline.analysis.explain("v_proj"))
    with pytest.raises(UnknownNameError, match="'tine'"):
        roofline.explain("v_proj", "tine")
    with pytest.raises(InputError, match="not launched"):
        roofline.explain("rotary_emb")


def test_a_law_of_any_number_of_sequences() -> None:
    """Of each, 256 tokens are two blocks of 128 for each of 8 heads: 16 rounds of 1.5 µs on a single multiprocessor."""
    sizes = {"hidden_size": 64, "num_layers": 1, "num_heads": 8, "num_kv_heads": 2, "head_dim": 16,
             "intermediate_size": 160, "vocab_size": 1000}  # fmt: skip
    found = populate("llama-3.1-8b", set=sizes, seq_len=256, fusion="engine")
    costs = found.symbolic("batch_size")
    (launch,) = (one for one in costs.launches if one.kind == "attention")
    plain, rounds = (
        Pace(CARD, msgspec.structs.replace(profile(prefill_attention={"wave_us": wave}), num_sms=1), found.run)
        for wave in (0.0, 1.5)
    )
    times = [pace.polynomial_us(launch, costs.value_of) for pace in (plain, rounds)]
    assert "128" not in str(times[1])  # 256 tokens of any number of sequences are reduced by that of a block
    for sequences in (1, 2, 7):
        without, each = (float(time.evaluate({"batch_size": sequences})) for time in times)
        assert each - without == pytest.approx(16 * 1.5 * sequences)
        assert without > 0


SIZES = {
    "hidden_size": 64, "num_layers": 3, "num_heads": 8, "num_kv_heads": 2, "head_dim": 16, "intermediate_size": 160,
    "vocab_size": 1000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("bits", "precision"),
    [
        ((16, 16), "bf16"), ((9, 16), "bf16"), ((8, 16), "int8_wo"), ((5, 9), "int8_wo"), ((4, 16), "int4_wo"),
        ((8, 8), "fp8"), ((5, 4), "fp8"), ((4, 5), "fp8"), ((4, 4), "nvfp4"),
    ],
)  # fmt: skip
def test_the_precision_of_a_product_is_that_of_weights_and_activations(bits: tuple[int, int], precision: str) -> None:
    found = populate(template(composite("part", basic("2", "{w_bytes}", "0", "matmul"))), w_bit=bits[0], a_bit=bits[1])
    (launch,) = found.launches
    pace = Pace(CARD, profile(), found.run)
    kinds = ("linear", "experts", "chain", "link")
    assert [pace.precision(launch._replace(kind=kind)) for kind in kinds] == [precision, precision, "bf16", "any"]
    caches = [(7, "bf16"), (8, "fp8_cache"), (9, "bf16")]
    for width, name in caches:
        run = replace(found.run, kv_bit=width)
        assert Pace(CARD, profile(), run).precision(launch._replace(kind="attention")) == name


def test_the_class_of_a_launch() -> None:
    found = populate(template(composite("part", basic("2", "{w_bytes}", "0", "matmul"))), seq_len=2)
    (launch,) = found.launches
    prompt, step, latent = (
        Pace(CARD, profile(), run, is_latent)
        for run, is_latent in ((found.run, False), (replace(found.run, seq_len=1), False), (found.run, True))
    )
    kinds = {"linear": "linear", "experts": "experts", "chain": "elementwise", "link": "all_reduce"}
    for kind, name in kinds.items():
        assert prompt.kind(launch._replace(kind=kind)) == latent.kind(launch._replace(kind=kind)) == name
    attention = launch._replace(kind="attention")
    assert (prompt.kind(attention), step.kind(attention)) == ("prefill_attention", "decode_attention")
    assert error_of(lambda: latent.kind(attention)).startswith("not modelled: latent attention, ")
    assert error_of(lambda: prompt.kind(launch._replace(kind="scan"))).startswith("not modelled: state-space and ")


def test_what_laws_read_of_a_launch() -> None:
    """Three sequences with 9 tokens in the cache, on two devices: each has half of the heads, and a key head."""
    found = populate("llama-3.1-8b", set=SIZES, seq_len=1, cache_len=9, batch_size=3, tp=2, fusion="engine")
    pace = Pace(CARD, profile(), found.run)
    launches = {launch.nodes[0].path.rpartition("layers.")[2]: launch for launch in found.launches}

    def figures(path: str) -> dict[str, float]:
        return {name: float(value) for name, value in pace.figures(launches[path], found.value_of).items()}

    output = figures("self_attn.o_proj.matmul")
    assert (output["num_tokens"], output["input_size"], output["output_size"]) == (3, 64, 64)
    assert output["weight_us"] == pytest.approx(2 * 64 * 64 / 1e6)
    assert output["activation_us"] == pytest.approx(2 * 3 * (64 + 64) / 1e6)
    assert output["memory_us"] == pytest.approx(output["weight_us"] + output["activation_us"])
    assert output["compute_us"] == pytest.approx(2 * 3 * 64 * 64 / 1e9)
    attention = figures("self_attn.attention.scores")
    assert {name: attention[name] for name in ("num_heads", "num_kv_heads", "num_tokens", "num_sequences")} == {
        "num_heads": 4, "num_kv_heads": 1, "num_tokens": 3, "num_sequences": 3,
    }  # fmt: skip
    assert attention["context"] == pytest.approx(10)
    assert attention["cache_us"] == pytest.approx(3 * 10 * 2 * 16 * 2 / 1e6)


def test_flops_of_a_chain_are_those_of_the_vector_units() -> None:
    """Products that no unit is known for take no time, and neither does a chain on such a card."""
    chain, product = (
        basic("5000", "{a_bytes}", "{a_bytes}", "vector"),
        basic("4000", "{w_bytes}", "{a_bytes}", "matmul"),
    )
    found = populate(template(composite("one", chain), composite("other", product)), seq_len=1, fusion="engine")
    few = Accelerator(name="few", bandwidth=1e12, peaks={"fp8": 1e15})
    for card, times in ((CARD, [5000 / 1e7, 4000 / 1e9]), (few, [0, 0])):
        pace = Pace(card, profile(), found.run)
        figures = [pace.figures(launch, found.value_of) for launch in found.launches]
        assert [launch.kind for launch in found.launches] == ["chain", "linear"]
        assert [float(each["compute_us"]) for each in figures] == pytest.approx(times)
        # Nothing says how many tokens there are, nor that there are heads.
        assert [each.get("output_size") for each in figures] == [None, 0]
        assert not {"num_heads", "context"} & {*figures[0], *figures[1]}


def test_a_parameter_of_models_stands_in_for_that_of_a_kernel_alone() -> None:
    by = msgspec.structs.replace(profile(elementwise={"launch_us": 3.0}), in_models={"launch_us": 1.0})
    made = template(composite("one", basic("1", "{a_bytes}", "{a_bytes}", "vector")))
    found = populate(made, seq_len=1, fusion="engine")
    (launch,) = found.launches
    assert dict(Pace(CARD, by, found.run).law(launch).constants)["launch_us"] == 1
