"""Laws and profiles: what is shipped, what a law comes to by hand, and which profile serves which card."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest

from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.formulas import evaluation
from nbanalyzer.formulas.formula import parse, variable
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.simplify import expanded
from nbanalyzer.hardware import profiles as module
from nbanalyzer.hardware.accelerators import Accelerator, accelerators, hardware
from nbanalyzer.hardware.laws import Law, laws, variables
from nbanalyzer.hardware.parameters import ARITHMETIC, FALLBACKS, KNOWN, Fit, Spread
from nbanalyzer.hardware.profiles import Profile, profile, profiles


class Card(Accelerator, frozen=True, kw_only=True):
    """An accelerator of a known architecture."""

    architecture: str = ""
    num_sms: int | None = None


CARD = Card(name="my-card", bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13}, architecture="pascaline", num_sms=100)
MINE: dict[str, Any] = {
    "card": "my-card",
    "architecture": "pascaline",
    "engine": "mine",
    "made": "2026-01-01",
    "source": "measured at home",
    "overlap": 0.25,
    "peaks": {"bf16": 1e14},
    "bandwidth": 1e12,
    "num_sms": 100,
    "classes": {
        "linear": {
            "bf16": {"parameters": {"compute": 0.8, "bandwidth": 0.5, "launch_us": 3, "per_k_ns": 0.5}, "n": 7},
            "fp8": {"parameters": {"compute": 0.8, "bandwidth": 0.5, "launch_us": 3, "quantize": 1, "quantize_us": 0.5}},
        },
        "decode_attention": {
            "bf16": {
                "parameters": {"compute": 0.5, "bandwidth": 0.8, "launch_us": 4, "per_context_ns": 2, "wave_us": 1.5}
            }
        },
        "experts": {
            "bf16": {
                "parameters": {
                    "compute": 0.5, "bandwidth": 0.8, "activation_bandwidth": 0.25, "launch_us": 9, "per_expert_us": 2,
                }
            }
        },
        "all_reduce": {
            "any": {"parameters": {"launch_us": 4, "per_rank_us": 0.5, "second_step_us": 2, "link": 0.75}}
        },
    },
    "intervals": {"dense": {"1": {"n": 9, "ratio": [0.81, 0.9, 1, 1.1, 1.21]}, "2-4": {"n": 3, "ratio": [1, 1, 1, 1, 1]}}},
}  # fmt: skip


def mine(**changes: object) -> Profile:
    return msgspec.convert(copy.deepcopy(MINE) | changes, Profile)


def one_line(error: NBAnalyzerError, *quoted: str) -> str:
    text = str(error)
    assert text.isprintable()
    assert len(text) < 400
    for part in quoted:
        assert part in text
    return text


# ---- the laws


@pytest.mark.parametrize("name", laws())
def test_every_law_reads_what_is_declared(name: str) -> None:
    law = laws()[name]
    names = {*parse(law.formula).variables}
    assert names - variables().keys() == law.parameters.keys()
    units = {"share", "multiple", "part", "us", "ns", "switch", "elements"}
    assert {parameter.unit for parameter in law.parameters.values()} <= units
    for parameter in law.parameters.values():
        assert parameter.least < parameter.most
        assert parameter.unit != "share" or (parameter.least > 0 and parameter.most <= 1)
        assert parameter.default is None or parameter.least <= parameter.default <= parameter.most


def test_parts_of_a_law_are_put_in_one_after_the_other() -> None:
    law = Law(
        meaning="a", short="{b} + 2 * {whole}", parts={"whole": "{half} + {half}", "half": "{b} / 2"}, parameters={}
    )
    assert law.formula == "{b} + 2 * (({b} / 2) + ({b} / 2))"
    for found in laws().values():
        assert not set(parse(found.formula).variables) & found.parts.keys()
        assert not found.parts.keys() & {*found.parameters, *variables()}


@pytest.mark.parametrize("name", laws())
def test_no_law_is_below_its_roofline_at_the_best_parameters(name: str) -> None:
    best = {key: part.most if part.unit == "share" else part.least for key, part in laws()[name].parameters.items()}
    for compute in (0.0, 3.0, 50.0):
        launch = dict.fromkeys(variables(), 2.0) | {"compute_us": compute, "memory_us": 20.0, "activation_us": 5.0}
        time = evaluation.real(parse(laws()[name].formula))(launch | best | {"overlap": 0.0})
        if name.startswith("eager_"):  # caches may hold what is read: only what they do not touch is a bound
            assert name in {"eager_append", "eager_elementwise"} or time >= compute
        elif name == "all_reduce":
            assert time == pytest.approx(2 * (2 - 1) / 2 * 2.0)
        else:
            assert time >= max(compute, 20.0) if name != "experts" else time >= max(compute, 15.0) + 5.0


def test_a_linear_by_hand() -> None:
    found = mine().parameters("linear", "bf16")
    # 8 us of arithmetic at 80 % are 10, 3 us of traffic at 50 % are 6, a quarter of which shows; K is 4,000.
    launch = {"compute_us": 8.0, "memory_us": 3.0, "input_size": 4000.0, "num_tokens": 2.0}
    assert found.time_us(launch) == pytest.approx(10 + 6 / 4 + 3 + 2)
    # With 1 us of arithmetic it is the traffic that is longer.
    assert found.time_us(launch | {"compute_us": 0.8}) == pytest.approx(6 + 1 / 4 + 3 + 2)
    # No sum is longer than 1,000, and a row takes 5 ns.
    fitted = MINE["classes"]["linear"]["bf16"]["parameters"] | {"longest_k": 1000, "per_token_ns": 5}
    long = mine(classes={"linear": {"bf16": {"parameters": fitted}}}).parameters("linear", "bf16")
    assert long.time_us(launch) == pytest.approx(10 + 6 / 4 + 3 + 0.5 + 0.01)
    # Arithmetic takes a tenth longer after its first 4 us; 512 x 640 outputs are 20 tiles, four rounds of 5.
    fitted = MINE["classes"]["linear"]["bf16"]["parameters"] | {"throttle": 0.1, "brief_us": 4, "wave_us": 7}
    slow = mine(num_sms=5, classes={"linear": {"bf16": {"parameters": fitted}}}).parameters("linear", "bf16")
    assert slow.time_us(launch | {"num_tokens": 512.0, "output_size": 640.0}) == pytest.approx(
        10 + 0.1 * (10 - 4) + 6 / 4 + 3 + 2 + (4 - 1) * 7
    )
    assert slow.time_us(launch | {"output_size": 640.0}) == pytest.approx(10 + 0.1 * (10 - 4) + 6 / 4 + 3 + 2)
    # A tile of 128 rows takes 2 ns for each of K: 8 us of arithmetic, whose rows are half as many, are 4 at least.
    fitted = MINE["classes"]["linear"]["bf16"]["parameters"] | {"tile_k_ns": 2}
    tile = mine(classes={"linear": {"bf16": {"parameters": fitted}}}).parameters("linear", "bf16")
    few = launch | {"compute_us": 1.0, "num_tokens": 64.0}
    assert tile.time_us(few) == pytest.approx(6 + 4 / 4 + 3 + 2)
    assert tile.time_us(few | {"num_tokens": 128.0}) == pytest.approx(8 + 6 / 4 + 3 + 2)
    assert tile.time_us(few | {"num_tokens": 4096.0, "compute_us": 64.0}) == pytest.approx(80 + 6 / 4 + 3 + 2)
    # Of a sum that is divided, each multiprocessor has 1,000 elements.
    divided = mine(classes={"linear": {"bf16": {"parameters": fitted | {"longest_k": 1000}}}})
    assert divided.parameters("linear", "bf16").time_us(few | {"num_tokens": 999.0}) == pytest.approx(
        6 + 2 / 4 + 3 + 0.5
    )
    # What a benchmark has read before it finds in the cache, three times as fast; a model does not.
    fitted = MINE["classes"]["linear"]["bf16"]["parameters"] | {"kept": 3, "cached_us": 3}
    kept = mine(classes={"linear": {"bf16": {"parameters": fitted}}}, in_models={"kept": 1})
    alone, in_model = (kept.parameters("linear", "bf16", in_model=inside) for inside in (False, True))
    assert alone.time_us(launch) == pytest.approx(10 + 2 / 4 + 3 + 2)
    assert alone.time_us(launch | {"memory_us": 3.1}) == pytest.approx(10 + 6.2 / 4 + 3 + 2)
    assert in_model.time_us(launch) == pytest.approx(10 + 6 / 4 + 3 + 2)
    assert "if" not in str(in_model.formula)  # so that it stays a polynomial
    # A kernel that quantises 2 x 4,000 elements moves 24,000 bytes at 500,000 a microsecond.
    quantised = mine().parameters("linear", "fp8")
    assert quantised.time_us(launch) == pytest.approx(10 + 6 / 4 + 3 + 0.5 + 0.048)
    # In this engine's models the kernel before does that, at no cost.
    engine = mine(in_models={"quantize": 0})
    assert engine.parameters("linear", "fp8").time_us(launch) == quantised.time_us(launch)
    assert engine.parameters("linear", "fp8", in_model=True).time_us(launch) == pytest.approx(10 + 6 / 4 + 3)
    # Ranks wait for each other, and tokens go to half of the experts.
    waiting, message = mine(in_models={"skew_us": 2}), {"message_us": 0.5, "num_ranks": 4.0, "rank_doublings": 2.0}
    times = [waiting.parameters("all_reduce", in_model=value).time_us(message) for value in (False, True)]
    assert times[1] - times[0] == pytest.approx(2 * 2)
    visiting = mine(in_models={"visited": 0.5}).parameters("experts", "bf16", in_model=True)
    routed = {"compute_us": 2.0, "memory_us": 9.0, "activation_us": 1.0, "experts_touched": 7.5}
    assert visiting.time_us(routed) == pytest.approx(5 + 4 / 4 + 1 / 0.25 + 9 + 7.5)
    plain = engine.parameters("decode_attention", "bf16")
    assert engine.parameters("decode_attention", "bf16", in_model=True) == plain


def test_the_other_laws_by_hand() -> None:
    launch = {"compute_us": 2.0, "memory_us": 8.0, "context": 3000.0, "num_sequences": 26.0, "num_kv_heads": 8.0}
    # 26 x 8 = 208 pairs take 3 rounds of 100.
    decode = mine().parameters("decode_attention", "bf16")
    assert decode.time_us(launch) == pytest.approx(10 + 4 / 4 + 4 + 6 + 3 * 1.5)
    # With ten times the arithmetic it is that which is longer.
    long = {"compute_us": 20.0}
    assert decode.time_us(launch | long) == pytest.approx(40 + 10 / 4 + 4 + 6 + 3 * 1.5)
    fitted = {"compute": 0.5, "bandwidth": 0.8, "launch_us": 4, "per_context_ns": 2}
    rounds = {"wave_us": 0.5, "wave_context_ns": 3}
    prefill = mine(classes={"prefill_attention": {"bf16": {"parameters": fitted | rounds}}})
    # Two prompts of 300 tokens, in 3 blocks each, times 20 heads are 120 blocks: two rounds of 100.
    launch |= {"num_heads": 20.0, "num_sequences": 2.0, "num_tokens": 600.0, "context": 150.0}
    found = prefill.parameters("prefill_attention", "bf16").time_us(launch)
    assert found == pytest.approx(10 + 4 / 4 + 4 + 0.3 + 2 * (0.5 + 0.45))
    found = prefill.parameters("prefill_attention", "bf16").time_us(launch | long)
    assert found == pytest.approx(40 + 10 / 4 + 4 + 0.3 + 2 * (0.5 + 0.45))
    # Eight pairs, each of which 20 multiprocessors read at most, keep 160 of 1,000 busy: 10 us of traffic take 62.5.
    fitted = {"compute": 0.5, "bandwidth": 0.8, "launch_us": 4, "undivided": 0.05}
    few = mine(num_sms=1000, classes={"decode_attention": {"bf16": {"parameters": fitted}}})
    step = {"compute_us": 2.0, "memory_us": 8.0, "context": 3000.0, "num_sequences": 1.0, "num_kv_heads": 8.0}
    assert few.parameters("decode_attention", "bf16").time_us(step) == pytest.approx(62.5 + 4 / 4 + 4)
    assert few.parameters("decode_attention", "bf16").time_us(step | {"num_sequences": 9.0}) == pytest.approx(
        10 + 4 / 4 + 4
    )
    # Every query head with a key head of its own: 4 multiprocessors are the most that read a pair, eight keep 32 busy.
    alone = mine(
        num_sms=1000, classes={"decode_attention": {"bf16": {"parameters": fitted | {"undivided_multi_head": 0.2}}}}
    )
    for heads, time in ((8.0, 10 * 1000 / 32), (16.0, 62.5)):
        found = alone.parameters("decode_attention", "bf16").time_us(step | {"num_heads": heads})
        assert found == pytest.approx(time + 4 / 4 + 4)
    # Of 3,000 keys, the first 500 are read one after the other; of 200, all of them.
    first = fitted | {"undivided": 0, "per_context_ns": 2, "per_first_key_ns": 10, "first_keys": 500}
    start = mine(classes={"decode_attention": {"bf16": {"parameters": first}}}).parameters("decode_attention", "bf16")
    for context, time in ((3000.0, 6 + 5), (500.0, 1 + 5), (200.0, 0.4 + 2)):
        assert start.time_us(step | {"context": context}) == pytest.approx(10 + 4 / 4 + 4 + time)
    # Of 100 multiprocessors, 48 pairs keep 96 busy, in twos; 64 keep 64; 104 take two rounds, of which they fill 1.04.
    idle = mine(classes={"decode_attention": {"bf16": {"parameters": fitted | {"undivided": 0, "unfilled": 0.5}}}})
    for sequences, busy in ((6.0, 0.96), (8.0, 0.64), (13.0, 1.04 / 2), (25.0, 1.0), (200.0, 1.0)):
        time = idle.parameters("decode_attention", "bf16").time_us(step | {"num_sequences": sequences})
        assert time == pytest.approx(10 * (1 + 0.5 * (1 / busy - 1)) + 4 / 4 + 4)
    # A block has 128 queries: 256 of a prompt are two, 257 three, so that 3 or 5 rounds of 100 blocks are needed.
    many = {"compute_us": 0.0, "memory_us": 0.0, "context": 0.0, "num_heads": 75.0, "num_sequences": 2.0}
    for tokens, number in ((256.0, 3), (257.0, 5)):
        prompts = prefill.parameters("prefill_attention", "bf16").time_us(many | {"num_tokens": 2 * tokens})
        assert prompts == pytest.approx(4 + number * 0.5)
    chains = mine(classes={"elementwise": {"bf16": {"parameters": {"compute": 0.5, "bandwidth": 0.8, "launch_us": 4}}}})
    for compute, time in ((2.0, 10 + 4 / 4 + 4), (20.0, 40 + 10 / 4 + 4)):
        found = chains.parameters("elementwise", "bf16").time_us({"compute_us": compute, "memory_us": 8.0})
        assert found == pytest.approx(time)
    launch = {"compute_us": 2.0, "memory_us": 9.0, "activation_us": 1.0, "experts_touched": 7.5}
    assert mine().parameters("experts", "bf16").time_us(launch) == pytest.approx(10 + 4 / 4 + 1 / 0.25 + 9 + 15)
    found = mine().parameters("experts", "bf16").time_us(launch | long)
    assert found == pytest.approx(40 + 10 / 4 + 1 / 0.25 + 9 + 15)
    given = {"compute": 0.5, "bandwidth": 0.8, "activation_bandwidth": 0.25, "launch_us": 9, "uneven": 0.25}
    uneven = mine(classes={"experts": {"bf16": {"parameters": given}}}).parameters("experts", "bf16")
    assert uneven.time_us(launch) == pytest.approx(10 + (0.25 + 0.25) * 4 + 1 / 0.25 + 9)
    # A message of 0.5 us goes to all three others whole, one of 30 in quarters and twice.
    reduced = mine().parameters("all_reduce")
    assert reduced.time_us({"message_us": 0.5, "num_ranks": 4.0}) == pytest.approx(4 + 3 * 0.5 + 3 * 0.5 / 0.75)
    assert reduced.time_us({"message_us": 30.0, "num_ranks": 4.0}) == pytest.approx(4 + 1.5 + 2 + 2 * 3 / 4 * 30 / 0.75)


def test_a_law_is_a_formula_with_its_numbers_in_it() -> None:
    found = mine().parameters("linear", "bf16")
    assert found.formula.variables == ("compute_us", "memory_us", "input_size")
    exact = found.formula.evaluate({"compute_us": 8, "memory_us": 3, "input_size": 4000})
    assert exact == Fraction(33, 2)
    assert "0.8" in str(found.formula)
    # Polynomials can be put in: what the maximum is of is decided by them.
    tokens = expanded(variable("batch_size"), {})
    polynomial = expanded(
        found.formula, {"compute_us": tokens * 8, "memory_us": Polynomial.constant(3), "input_size": 4000}
    )
    assert {*polynomial.variables} == {"batch_size"}
    assert polynomial.evaluate({"batch_size": 1}) == Fraction(33, 2)
    assert polynomial.evaluate({"batch_size": 0}) == 6 + 3 + 2


def test_what_a_parameter_left_out_comes_to() -> None:
    assert mine().parameters("linear", "fp8").values == {
        "compute": 0.8, "bandwidth": 0.5, "launch_us": 3, "per_k_ns": 0, "longest_k": 131072, "tile_k_ns": 0, "per_token_ns": 0,
        "wave_us": 0, "throttle": 0, "brief_us": 0, "kept": 1, "cached_us": 0, "quantize": 1, "quantize_us": 0.5, "overlap": 0.25,
    }  # fmt: skip


# ---- what is not there


def test_a_precision_that_was_not_measured() -> None:
    found = mine().parameters("linear", "fp8_block")
    assert (found.precision, found.fit.parameters["launch_us"]) == ("fp8", 3)
    assert found.note == "linear at fp8_block not measured: fp8 stands in"
    assert mine().parameters("linear", "bf16").note == ""
    assert mine().parameters("all_reduce", "bf16").note == ""
    with pytest.raises(InputError) as caught:
        mine().parameters("linear", "nvfp4")
    one_line(caught.value, "linear at 'nvfp4' is not modelled", "mine on my-card", "bf16, fp8")


def test_a_class_that_was_not_measured() -> None:
    with pytest.raises(InputError) as caught:
        mine().parameters("prefill_attention", "bf16")
    one_line(caught.value, "prefill_attention", "not modelled")
    with pytest.raises(UnknownNameError) as unknown:
        mine().parameters("liner", "bf16")
    one_line(unknown.value, "'liner'", "'linear'")


def test_a_value_of_the_launch_that_is_missing() -> None:
    with pytest.raises(InputError) as caught:
        mine().parameters("linear", "bf16").time_us({"compute_us": 1.0, "memory_us": 1.0})
    one_line(caught.value, "linear", "{input_size}")


def test_weights_only_fall_back_to_what_they_are_computed_in() -> None:
    found = mine().parameters("linear", "int4_wo")
    assert (found.precision, found.values["launch_us"]) == ("bf16", 3)
    assert "bf16 stands in" in found.note


def test_what_stands_in_is_never_itself() -> None:
    for precision, others in FALLBACKS.items():
        assert precision not in others
        assert {precision, *others} <= {*KNOWN}
    assert not ARITHMETIC.keys() & set(ARITHMETIC.values())


# ---- impossible profiles


def broken(path: str, value: object) -> dict[str, Any]:
    found = copy.deepcopy(MINE)
    *steps, last = path.split(".")
    place = found
    for step in steps:
        place = place[step]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("overlap", -0.1, "overlap is a number from 0 to 1, not -0.1"),
        ("overlap", 1.5, "not 1.5"),
        ("widened", 0.5, "widened"),
        ("in_models", {"quantise": 0}, "no law has a parameter 'quantise'"),
        ("in_models", {"quantize": 2}, "quantize"),
        ("bandwidth", 0, "bandwidth is a positive number, not 0"),
        ("peaks.bf16", -1.0, "bf16 peak"),
        ("classes.linear.bf16.parameters.compute", 1.2, "compute is a number from 0.01 to 1 (share: of the peak, reached at best), not 1.2"),
        ("classes.linear.bf16.parameters.compute", 0, "linear, bf16"),
        ("classes.linear.bf16.parameters.launch_us", -1, "launch_us"),
        ("classes.linear.bf16.parameters.lauch_us", 1, "did you mean 'launch_us'"),
        ("classes.linear.fp8.parameters.quantize", 0.5, "quantize is 0 or 1"),
        ("classes.linear.bf16.parameters", {"compute": 0.5, "bandwidth": 0.5}, "launch_us"),
        ("classes.linear.bf16.n", -1, "number of measurements"),
        ("classes.linear.bf16.ratio", [1, 0.9, 1, 1, 1], "positive and rising"),
        ("classes.linear.bf16.error", [-1, 2], "90 % quantile"),
        ("classes.linear.bf16.law", "linaer", "no law named 'linaer'"),
        ("classes.linaer", {"bf16": {"parameters": {}}}, "no law named 'linaer'"),
        ("classes.linear.bf16.speed", 3, "speed"),
        ("classes.linear.bf61", {"parameters": {"compute": 1, "bandwidth": 1, "launch_us": 0}}, "not 'bf61'"),
        ("intervals.dense.2 to 4", {"n": 3, "ratio": [1, 1, 1, 1, 1]}, "'2 to 4'"),
        ("intervals.dense.8", {"n": 3, "ratio": [1, 1, 1, 1, 0.5]}, "at 5%, 10%, 50%, 90%, 95%, positive and rising"),
        ("intervals.dense.4-2", {"n": 3, "ratio": [1, 1, 1, 1, 1]}, "not '4-2'"),
        ("intervals.dense.0", {"n": 3, "ratio": [1, 1, 1, 1, 1]}, "not '0'"),
        ("intervals.sparse", {"1": {"n": 3, "ratio": [1, 1, 1, 1, 1]}}, "dense and experts models, not of 'sparse'"),
        ("intervals.dense.1", {"n": 3, "ratio": [1, 1, 1, 1, 1e300]}, "at most 1,000 times off"),
        ("peaks.bf61", 1e12, "not 'bf61'"),
        ("card", "", "card is 1 to 1,000 printable characters, not ''"),
        ("engine", "a\nb", "printable"),
        ("engine", "x" * 1001, "engine is 1 to 1,000"),
        ("notes", ["one\x1b[31m"], "a note is"),
        ("notes", [""], "a note is 1 to 1,000 printable characters, not ''"),
        ("source", "", "source is 1 to"),
        ("widened", 10.5, "widened is a number from 1 to 10, not 10.5"),
        ("num_sms", 0, "num_sms is a positive number, not 0"),
        ("link_bandwidth", -1, "link_bandwidth is a positive number, not -1"),
        ("classes.linear.bf16.ratio", [0.0009, 1, 1, 1, 1], "at most 1,000 times off"),
        ("intervals.dense.1", {"n": 3, "ratio": [1, 1, 1, 1, 1], "nn": 3}, "nn"),
        ("intervals.dense.1-2-3", {"n": 3, "ratio": [1, 1, 1, 1, 1]}, "not '1-2-3'"),
        ("intervals.dense.2-", {"n": 3, "ratio": [1, 1, 1, 1, 1]}, "not '2-'"),
        ("intervals.dense.111111111111111111111", {"n": 3, "ratio": [1, 1, 1, 1, 1]}, "is written 8 or 2-4"),
        ("speed", 3, "speed"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be(path: str, value: object, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(MINE))
    assert profile(str(file)) == mine()
    file.write_text(json.dumps(broken(path, value)))
    with pytest.raises(InputError) as caught:
        profile(str(file))
    one_line(caught.value, str(file)[:40], said)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("overlap", 0), ("overlap", 1), ("widened", 1), ("widened", 10), ("classes.linear.bf16.n", 0),
        ("classes.linear.bf16.error", [0, 0.5]), ("classes.linear.bf16.ratio", [0.001, 1, 1, 1, 1000]), ("made", ""),
        ("classes.linear.bf16.parameters.launch_us", 0), ("classes.linear.bf16.parameters.compute", 1),
        ("classes.linear.bf16.parameters.compute", 0.01), ("classes.linear.fp8.parameters.quantize", 0),
        ("notes", ["x"]), ("bandwidth", 0.5), ("num_sms", 1), ("engine", "x" * 1000),
        ("intervals.dense.8-8", {"n": 0, "ratio": [1, 1, 1, 1, 1]}),
        ("intervals.dense.11111111111111111111", {"n": 0, "ratio": [1, 1, 1, 1, 1]}),
    ],
)  # fmt: skip
def test_a_profile_at_its_bounds(path: str, value: object) -> None:
    assert msgspec.convert(broken(path, value), Profile)


@pytest.mark.parametrize("value", [True, "0.5", None, 0.5j])
def test_a_parameter_from_python_is_a_number(value: object) -> None:
    given = {"compute": 0.5, "bandwidth": 0.5, "launch_us": 3.0}
    law = laws()["linear"]
    assert law.values(given | {"quantize": 1})["quantize"] == 1
    with pytest.raises(InputError, match=r"compute is a number from 0\.01 to 1 ") as caught:
        law.values(given | {"compute": value})  # type: ignore[arg-type]
    one_line(caught.value, "is missing" if value is None else str(value))


def test_errors_of_a_fit_are_numbers() -> None:
    for error in ((math.inf, 1.0), (0.1, math.nan), (0.1, -0.1)):
        fit = msgspec.structs.replace(mine().classes["linear"]["bf16"], error=error)
        with pytest.raises(InputError, match="linear, bf16: error is the median and the 90 % quantile"):
            msgspec.structs.replace(mine(), classes={"linear": {"bf16": fit}})


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "true", "null", '"0.3"'])
def test_a_number_that_is_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(MINE).replace('"compute": 0.8', f'"compute": {text}'))
    with pytest.raises(InputError) as caught:
        profile(file)
    one_line(caught.value, "mine.json")


@pytest.mark.parametrize("field", ["overlap", "bandwidth", "widened"])
def test_nan_from_python(field: str) -> None:
    with pytest.raises(InputError, match="not nan"):
        msgspec.structs.replace(mine(), **{field: math.nan})
    with pytest.raises(InputError, match="compute"):
        msgspec.structs.replace(
            mine(), classes={"linear": {"bf16": Fit(parameters={"compute": math.nan, "bandwidth": 1, "launch_us": 0})}}
        )


def test_what_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that ends in .json, or has a slash in it, and everything that is a path already."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.json", "MINE.JSON", "mine"):
        Path(name).write_text(json.dumps(MINE))
    for which in ("mine.json", "MINE.JSON", "./mine", Path("mine"), Path("mine.json")):
        assert profile(which) == mine()
    with pytest.raises(UnknownNameError):
        profile("mine")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for content in (None, b"{", b"[]", b"\xff"):
        file = tmp_path / "none.json"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError) as caught:
            profile(file)
        one_line(caught.value, "none.json")


# ---- which profile serves which card


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def ship(*made: Profile) -> None:
        typical = profile()
        monkeypatch.setattr(module, "_shipped", lambda: {"typical": typical} | {p.card: p for p in made})

    return ship


def test_a_profile_of_the_card_itself(shipped: Callable[..., None]) -> None:
    shipped(mine(), mine(card="other", bandwidth=2e12))
    found = profile("mine", CARD)
    assert (found.card, found.notes, found.widened) == ("my-card", (), 1)
    assert found.interval("dense", 1) == Spread(n=9, ratio=(0.81, 0.9, 1, 1.1, 1.21))
    assert found.interval("dense", 3) == Spread(n=3, ratio=(1, 1, 1, 1, 1))
    assert found.interval("dense", 8) is found.interval("experts", 1) is None


def test_the_nearest_of_the_architecture_serves(shipped: Callable[..., None]) -> None:
    shipped(mine(card="far", bandwidth=9e12), mine(card="near", bandwidth=1.1e12), mine(card="else", architecture="x"))
    found = profile("mine", CARD)
    assert found.card == "near"
    assert found.notes == ("no profile of my-card: that of near, which has the same architecture",)
    # Its own figures: rounds of 100, not those of the other.
    assert (found.bandwidth, found.num_sms) == (1e12, 100)
    spread = found.interval("dense", 1)
    assert spread is not None
    assert spread.ratio == pytest.approx((0.81**1.5, 0.9**1.5, 1, 1.1**1.5, 1.21**1.5))


def test_an_interval_is_widened_to_a_power_of_10_at_most(shipped: Callable[..., None]) -> None:
    for own_power, power in ((2, 3), (6, 9), (7, 10), (10, 10)):
        shipped(mine(card="near", widened=own_power))
        found = profile("mine", CARD)
        assert found.widened == power
        spread = found.interval("dense", 1)
        assert spread is not None
        assert spread.ratio == pytest.approx((0.81**power, 0.9**power, 1, 1.1**power, 1.21**power))


def test_which_number_of_devices_an_interval_is_for() -> None:
    found = mine()
    assert [(spread := found.interval("dense", number)) and spread.n for number in (1, 2, 3, 4, 5)] == [
        9,
        3,
        3,
        3,
        None,
    ]


def test_which_card_is_the_nearest(shipped: Callable[..., None]) -> None:
    """By the mean logarithm of what both have: twice one figure of two is nearer than 1.5 times both of them."""
    shipped(mine(card="one", bandwidth=2e12), mine(card="both", bandwidth=1.5e12, peaks={"bf16": 1.5e14}))
    assert profile("mine", CARD).card == "one"
    shipped(mine(card="one", bandwidth=2.5e12), mine(card="both", bandwidth=1.5e12, peaks={"bf16": 1.5e14}))
    assert profile("mine", CARD).card == "both"
    shipped(mine(card="one", bandwidth=2e12, peaks={}), mine(card="both", bandwidth=1.5e12, peaks={"bf16": 1.5e14}))
    assert profile("mine", CARD).card == "both"
    # Of half as much as of twice, the first; a peak that one lacks counts for nothing.
    shipped(mine(card="less", bandwidth=0.5e12, peaks={"fp8": 1e20}), mine(card="more", bandwidth=2.1e12, peaks={}))
    assert profile("mine", CARD).card == "less"


def test_the_name_of_a_profile() -> None:
    assert profile().name == "typical"
    assert mine().name == "mine on my-card"
    assert mine(engine_version="1.2").name == "mine 1.2 on my-card"
    assert mine(card="any", engine_version="1.2").name == "mine"


def test_the_text_of_a_file() -> None:
    text = module.encoded(mine()).decode()
    assert text.startswith('{\n  "card": "my-card",\n')
    assert text.endswith("\n}\n")
    assert msgspec.json.decode(text, type=Profile) == mine()


def test_another_kind_of_link_is_not_modelled(shipped: Callable[..., None]) -> None:
    shipped(mine(card="near", link="NVLink 4"))
    found = profile("mine", msgspec.structs.replace(CARD, link="NVLink 5"))
    assert found.parameters("all_reduce").values["link"] == 0.75
    with pytest.raises(InputError) as caught:
        profile("mine", msgspec.structs.replace(CARD, link="PCIe 5")).parameters("all_reduce")
    one_line(caught.value, "all_reduce", "not modelled")


def test_the_card_counts_its_own_multiprocessors(shipped: Callable[..., None]) -> None:
    shipped(mine(card="near", num_sms=10))
    launch = {"compute_us": 0.0, "memory_us": 0.0, "context": 0.0, "num_sequences": 25.0, "num_kv_heads": 8.0}
    rounds = {CARD: 2, msgspec.structs.replace(CARD, num_sms=None): 20}
    for card, number in rounds.items():
        time = profile("mine", card).parameters("decode_attention", "bf16").time_us(launch)
        assert time == pytest.approx(4 + number * 1.5)


def test_no_card_of_the_architecture(shipped: Callable[..., None]) -> None:
    shipped(mine(card="there", architecture="x"), mine(card="here", architecture=""))
    for card in (CARD, msgspec.structs.replace(CARD, architecture="")):
        with pytest.raises(UnknownNameError) as caught:
            profile("mine", card)
        one_line(caught.value, "'mine on my-card'", "there, here", "'typical'")


def test_another_cards_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(MINE | {"card": "there", "architecture": "x"}))
    with pytest.raises(InputError) as caught:
        profile(file, CARD)
    one_line(caught.value, "mine.json", "'there'", "'my-card'")
    with pytest.raises(InputError, match="'there'"):
        profile(mine(card="there", architecture=""), CARD)
    assert profile(mine(card="there"), CARD).widened == 1.5
    file.write_text(json.dumps(MINE))
    assert profile(file, CARD).notes == ()


def test_figures_that_moved_are_said() -> None:
    moved = msgspec.structs.replace(CARD, peaks={"bf16": 1.1e14, "fp32": 1.0e13}, bandwidth=1.2e12)
    assert profile(mine(), moved).notes == (
        "shares refer to a bf16 peak of 1e+14 FLOP/s, the card has 1.1e+14",
        "shares refer to a bandwidth of 1e+12 bytes/s, the card has 1.2e+12",
    )
    # A figure that is rounded otherwise is the same: by 1 %, not by 2.
    for factor, notes in ((1.009, 0), (1.02, 2), (0.98, 2)):
        peaks = {"bf16": factor * 1e14, "fp8": 1.0}
        assert len(profile(mine(), msgspec.structs.replace(CARD, peaks=peaks, bandwidth=factor * 1e12)).notes) == notes


def test_a_profile_can_be_a_key_and_be_sent(tmp_path: Path) -> None:
    assert {mine(): 1}[mine()] == 1
    assert pickle.loads(pickle.dumps(mine())) == copy.deepcopy(mine()) == mine()
    assert mine(engine="other") != mine()


def test_names_that_are_none() -> None:
    with pytest.raises(UnknownNameError) as caught:
        profile("vlm", CARD)
    one_line(caught.value, "'vlm'", ".json")
    with pytest.raises(InputError, match="not 3"):
        profile(3)  # type: ignore[arg-type]


# ---- what is shipped


def test_the_typical_profile_is_for_any_card() -> None:
    assert profiles()[0] == "typical"
    for name in accelerators():
        found = profile(None, hardware(name))
        assert (found.engine, found.card, found.notes) == ("typical", "any", ())
        assert found.bandwidth == hardware(name).bandwidth
        assert {*found.classes} == {kind for kind in laws() if not kind.startswith("eager_")}
    launch = {"compute_us": 6.0, "memory_us": 18.0, "activation_us": 9.0, "message_us": 6.0, "num_ranks": 2.0}
    launch |= {"input_size": 64.0, "num_tokens": 64.0, "context": 5.0, "experts_touched": 3.0, "num_sequences": 1.0}
    for kind in ("linear", "prefill_attention", "elementwise"):
        assert profile().parameters(kind, "nvfp4").time_us(launch) == pytest.approx(20 + 0.3 * 10 + 6)
    assert profile().parameters("experts", "fp8").time_us(launch) == pytest.approx(10 + 0.3 * 10 + 10 + 6)
    assert profile().parameters("all_reduce").time_us(launch) == pytest.approx(6 + 10)


def test_the_typical_decode_counts_no_rounds() -> None:
    """A card whose number of multiprocessors nobody knows has a typical time all the same."""
    launch = {"compute_us": 6.0, "memory_us": 18.0, "context": 5.0, "num_sequences": 1.0, "num_kv_heads": 8.0}
    found = profile("typical", msgspec.structs.replace(CARD, num_sms=None)).parameters("decode_attention", "bf16")
    assert found.formula.variables == ("compute_us", "memory_us")
    assert found.time_us(launch) == pytest.approx(20 + 0.3 * 10 + 6)


FITTED = [name for name in profiles() if name != "typical"]
CARDS = ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "gb200", "l40s")
shipped_ones = pytest.mark.parametrize("name", FITTED)


def own(name: str) -> Profile:
    card, engine = name.rsplit(".", 1)
    return profile(engine, hardware(card))


def test_what_is_fitted() -> None:
    assert sorted(FITTED) == sorted(f"{card}.{engine}" for card in CARDS for engine in ("vllm", "sglang", "trtllm"))


@shipped_ones
def test_a_shipped_profile_is_of_the_catalogue(name: str) -> None:
    """Its shares are of the card's figures as they are: where those change, it has to be fitted again."""
    found, card = own(name), hardware(name.rsplit(".", 1)[0])
    assert (found.notes, found.widened, found.architecture) == ((), 1, card.architecture)
    assert found.num_sms is not None
    assert "Apache-2.0" in found.source
    assert "not copied" in found.source
    assert found.engine_version
    assert found.overlap == {"Ampere": 0.5, "Ada Lovelace": 0.35, "Hopper": 0.2, "Blackwell": 0.4}[card.architecture]
    for kind, fits in found.classes.items():
        for precision, fit in fits.items():
            assert fit.assumed == (kind == "elementwise")
            if not fit.assumed:
                assert fit.n >= 40
                assert fit.kernel
                assert fit.error is not None
                assert fit.error[0] <= 0.25
                assert fit.ratio is not None
                assert 0.9 < fit.ratio[2] < 1.1
            assert found.parameters(kind, precision).note == ""


@shipped_ones
def test_no_shipped_law_is_below_the_bound(name: str) -> None:
    """Of kernels in models, with all experts visited: a benchmark's find what they read in the card's cache."""
    found = own(name)
    found = msgspec.structs.replace(found, in_models=found.in_models | {"visited": 1})
    sizes = dict.fromkeys(variables(), 0.0) | {"num_kv_heads": 1.0, "num_ranks": 8.0, "num_tokens": 1.0}
    for compute, memory, sequences in ((0.0, 5.0, 1.0), (5.0, 0.0, 131.0), (30.0, 31.0, 133.0), (1e4, 1e3, 400.0)):
        launch = sizes | {"compute_us": compute, "memory_us": memory, "activation_us": memory / 3, "message_us": memory}
        launch |= {"num_sequences": sequences}
        for kind, fits in found.classes.items():
            bound = 2 * 7 / 8 * memory if kind == "all_reduce" else max(compute, memory)
            for precision in fits:
                assert found.parameters(kind, precision, in_model=True).time_us(launch) >= bound


def held_out(
    kind: str, *precisions: str, engines: tuple[str, ...] = ("vllm", "sglang", "trtllm")
) -> tuple[float, float]:
    """Return the middle of the median and of the 90 % errors that the shipped profiles of cards with HBM state."""
    errors = [
        fit.error
        for name in FITTED
        if not name.startswith("l40s") and name.endswith(engines)
        for precision, fit in own(name).classes.get(kind, {}).items()
        if precision in precisions and fit.error is not None
    ]
    assert len(errors) > 5
    return median(first for first, _ in errors), median(second for _, second in errors)


@pytest.mark.parametrize(
    ("kind", "precisions", "engines", "middle", "high"),
    [
        ("linear", ("bf16",), ("vllm", "sglang", "trtllm"), 0.07, 0.22),
        ("linear", ("fp8", "fp8_block", "nvfp4"), ("vllm", "sglang", "trtllm"), 0.12, 0.32),
        ("decode_attention", ("bf16", "fp8_cache"), ("vllm", "sglang"), 0.08, 0.32),
        ("prefill_attention", ("bf16", "fp8", "fp8_cache"), ("vllm", "sglang", "trtllm"), 0.15, 0.4),
        ("experts", ("bf16", "fp8", "fp8_block", "nvfp4"), ("vllm", "sglang", "trtllm"), 0.12, 0.4),
        ("all_reduce", ("any",), ("vllm", "sglang", "trtllm"), 0.10, 0.4),
    ],
)
def test_laws_hold_where_they_saw_nothing(
    kind: str, precisions: tuple[str, ...], engines: tuple[str, ...], middle: float, high: float
) -> None:
    first, second = held_out(kind, *precisions, engines=engines)
    assert first <= middle
    assert second <= high


def test_cards_of_an_architecture_that_were_not_measured() -> None:
    found = profile("trtllm", hardware("gb300"))
    assert found.card in {"gb200", "b300-sxm"}
    assert "gb300" in found.notes[0]
    assert "all_reduce" in profile("sglang", hardware("gb300")).classes
    card = hardware("rtx-pro-6000-server")
    found = profile("vllm", card)
    assert found.notes
    assert "all_reduce" not in found.classes
    assert (found.bandwidth, found.num_sms) == (card.bandwidth, card.num_sms)
    with pytest.raises(UnknownNameError) as caught:
        profile("vllm", hardware("mi300x"))
    one_line(caught.value, "vllm on mi300x", "h100-sxm", "'typical'")


def test_over_pcie_an_all_reduce_is_not_modelled() -> None:
    for engine in ("vllm", "sglang", "trtllm"):
        with pytest.raises(InputError, match="all_reduce"):
            profile(engine, hardware("l40s")).parameters("all_reduce")
