"""Estimates: their intervals, and the derivation that is shown of one, by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.estimate import interval_of, share_of, spread_of, words_of
from nbanalyzer.analysis.laws import Pace
from nbanalyzer.errors import InputError, NotModelledError
from nbanalyzer.hardware.parameters import Fit, Spread
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import seconds

SIZES = {
    "hidden_size": 64, "num_layers": 3, "num_heads": 8, "num_kv_heads": 2, "head_dim": 16, "intermediate_size": 160,
    "vocab_size": 1000,
}  # fmt: skip
# A microsecond moves 1e6 bytes; products take no time.
CARD = Accelerator(name="card", memory_bytes=10**10, bandwidth=1e12, peaks={"bf16": 1e27, "fp32": 1e27})
WIDE = (0.5, 0.8, 1.0, 1.5, 2.0)


def profile(ratio: Any = WIDE) -> Profile:
    share = {"compute": 1, "bandwidth": 0.5, "launch_us": 1}
    fits = {kind: {"any": Fit(parameters=share)} for kind in ("decode_attention", "elementwise")}
    fits["linear"] = {"bf16": Fit(parameters=share, n=1234)}
    spread = Spread(n=2500, ratio=ratio, source="a trial")
    return Profile(
        card="any", engine="round", source="a test", overlap=0, classes=fits, intervals={"dense": {"1": spread}}
    )


def step(**run: Any) -> Any:
    """A decode step of one sequence with 9 tokens in its cache."""
    return populate("llama-3.1-8b", set=SIZES, seq_len=1, cache_len=9, **run).on(CARD, profile=profile())


@pytest.mark.parametrize(
    ("ratio", "bound", "low", "value", "high", "share"),
    [
        (WIDE, 0, 8, 10, 15, 1),
        (WIDE, 9, 9, 10, 15, 1),
        (WIDE, 12, 12, 12, 15, 1),
        (WIDE, 20, 20, 20, 20, 1),
        ((1.1, 1.25, 1.3, 1.5, 1.7), 0, 12.5, 12.5, 15, 1.25),  # nothing measured was as fast as the estimate
        ((0.1, 0.25, 0.3, 0.5, 0.7), 0, 2.5, 5, 5, 0.5),
    ],
)
def test_an_interval(ratio: Any, bound: float, low: float, value: float, high: float, share: float) -> None:
    spread = Spread(n=7, ratio=ratio, source="trials")
    found = interval_of(10, bound, spread, "a profile")
    assert (found.low, found.value, found.high) == (low, value, high)
    assert (found.level, found.n, found.source) == (0.8, 7, "trials")
    assert interval_of(10, bound, Spread(n=7, ratio=ratio), "a profile").source == "a profile"
    assert share_of(spread) == share


def test_an_interval_in_words() -> None:
    spread = Spread(n=2500, ratio=WIDE, source="a trial")
    assert words_of(spread, profile()) == (
        "estimates by round: 80 % of 2,500 measured times are 0.8 to 1.5 of theirs (a trial)"
    )
    assert str(interval_of(10, 0, spread, "")) == "10.00 s (8.000 s … 15.00 s; 80 %)"


def test_the_derivation_of_a_launch() -> None:
    """128 x 64 weights, 128 inputs and 64 outputs of 2 bytes: 16,768 bytes at half of 1e6 a microsecond, and 1 us."""
    found = step().explain("o_proj")
    once = 1 + 2 * (128 * 64 + 128 + 64) / 1e6 / 0.5
    assert f"{once:.6g}" == "1.03354"
    text = repr(found)
    assert "model.layers.self_attn.o_proj: estimated 3.101 µs in the whole pass, by round" in text
    assert "one launch (linear, bf16): model.layers.self_attn.o_proj.matmul" in text
    assert "1.03354 us  × 3 = 3.101 µs" in text
    assert "{memory_us} = 0.016768" in text
    assert "{input_size} = 128" in text
    assert "{bandwidth} = 0.5, {launch_us} = 1" in text
    assert "fitted on 1,234 measurements" in text
    assert "{weight_us}" not in text  # the law reads none
    # What stands in a law twice is named once.
    assert "= max({arithmetic}, {traffic}) + {overlap} * min({arithmetic}, {traffic})" in text
    assert text.count("{traffic} = {memory_us} / ({bandwidth}") == 1
    served = populate("llama-3.1-8b", set=SIZES, seq_len=1, cache_len=9).on("h100-sxm", profile="vllm")
    assert "{num_sms} = 132" in repr(served.explain("o_proj"))
    assert "fitted" not in repr(step().explain("mlp.act_fn"))
    assert "assumed" in repr(step().explain("mlp.act_fn"))


def test_the_times_of_modules_are_those_of_what_begins_in_them() -> None:
    """Four launches of 3 layers: queries, keys and values; rope and the append; attention; the output."""
    found = step().estimated
    memory = 2 * sum(
        [
            64 * 192 + 64 + 192,
            (128 + 32 + 32) + 128 + 2 * 32,
            128 + 2 * 10 * 32 + 128,
            128 * 64 + 128 + 64,
        ]
    )
    whole = 3 * (4 + memory / 1e6 / 0.5)
    attention = found.costs.find("self_attn")
    assert found.times[attention] * 1e6 == pytest.approx(whole, rel=1e-9)
    assert repr(found.explain("self_attn")).count("one launch") == 4
    # The add that ends a layer runs with the norm of the next one, and has the time of both.
    norm = 3 * (1 + 2 * (4 * 64 + 64) / 1e6 / 0.5)
    times = [found.times[found.costs.find(name)] for name in ("mlp_add", "input_layernorm")]
    assert [time * 1e6 for time in times] == pytest.approx([norm, 0], rel=1e-9)
    assert found.time == pytest.approx(sum(time for node, time in found.times.items() if node.parent is None))


def test_the_interval_is_that_of_one_device() -> None:
    assert step().estimate.n == 2500
    others = {"dense": {"2-4": Spread(n=7, ratio=WIDE)}, "experts": {"1": Spread(n=8, ratio=WIDE)}}
    for_others = msgspec.structs.replace(profile(), intervals=others)
    with pytest.raises(InputError, match="not modelled: no estimate of dense models by round was compared with meas"):
        _ = populate("llama-3.1-8b", set=SIZES, seq_len=1).on(CARD, profile=for_others).estimate


def test_what_is_not_launched_has_no_time() -> None:
    with pytest.raises(InputError, match="rotary_emb is not launched: an engine does without it"):
        step().explain("rotary_emb")


@pytest.mark.parametrize(
    ("run", "of", "missing"),
    [
        ({}, "dense models", "dense models"),
        ({"tp": 2}, "dense models on 2 devices", "2 devices"),
        ({"tp": 2, "dp": 2}, "dense models on 2 devices", "2 devices"),  # copies of what was measured
        ({"pp": 3}, "dense models over pp=3", "pp=3"),
        ({"tp": 2, "pp": 3}, "dense models on 2 devices over pp=3", "pp=3"),
    ],
)
def test_what_nobody_compared_is_named(run: dict[str, Any], of: str, missing: str) -> None:
    """There are intervals for eight devices alone."""
    by = msgspec.structs.replace(profile(), intervals={"dense": {"8": Spread(n=7, ratio=WIDE)}})
    costs = populate("llama-3.1-8b", set=SIZES, seq_len=1, batch_size=4, fusion="engine", **run)
    with pytest.raises(NotModelledError) as caught:
        spread_of(costs.launches, Pace(msgspec.structs.replace(CARD, link_bandwidth=1e9), by, costs.run))
    assert str(caught.value) == f"not modelled: no estimate of {of} by round was compared with measurements"
    assert caught.value.short == f"no interval: {missing} not measured"


def test_experts_are_estimated_less_well() -> None:
    spreads = {"dense": {"1": Spread(n=7, ratio=WIDE)}, "experts": {"1": Spread(n=8, ratio=WIDE)}}
    by = msgspec.structs.replace(profile(), intervals=spreads)
    costs = populate("llama-3.1-8b", set=SIZES, seq_len=1, fusion="engine")
    pace = Pace(CARD, by, costs.run)
    launches = costs.launches
    assert spread_of(iter(launches), pace).n == 7
    assert spread_of([*launches[:-1], launches[-1]._replace(kind="experts")], pace).n == 8
    assert words_of(Spread(n=7, ratio=WIDE), by) == (
        "estimates by round: 80 % of 7 measured times are 0.8 to 1.5 of theirs"
    )


def test_the_time_of_a_launch_is_said_of_each_of_its_products() -> None:
    """Queries, keys and values of 3 layers: 64 x 192 weights, 64 inputs and 192 outputs of 2 bytes, and 1 us."""
    whole = 3 * (1 + 2 * (64 * 192 + 64 + 192) / 1e6 / 0.5)
    for name in ("q_proj", "k_proj", "v_proj"):
        assert f"{name}: estimated {seconds(whole / 1e6)} in the whole pass" in repr(step().explain(name))
