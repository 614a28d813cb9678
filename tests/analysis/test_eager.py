"""The time of a pass by a measured profile: sums by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders import basic, composite, template

import nbanalyzer
from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.eager import EagerPace, machine_of
from nbanalyzer.analysis.estimate import Estimate
from nbanalyzer.errors import InputError
from nbanalyzer.hardware.parameters import Fit
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.hardware.profiles import profile as find_profile

LINEAR = {
    "compute": 0.5, "weight_bandwidth": 0.25, "single_bandwidth": 0.5, "activation_bandwidth": 100, "launch_us": 3,
    "per_output_ns": 2,
}  # fmt: skip
ELEMENTWISE = {"activation_bandwidth": 2, "launch_us": 1}
ATTENTION = {"compute": 0.8, "cache_bandwidth": 0.5, "launch_us": 4}


def machine(**classes: Any) -> Profile:
    """A machine of 100 GFLOP/s in bf16 and 10 GB/s."""
    given = {
        "linear": ("eager_linear", LINEAR),
        "elementwise": ("eager_elementwise", ELEMENTWISE),
        "decode_attention": ("eager_attention", ATTENTION),
        **classes,
    }
    fits = {kind: {"bf16": Fit(parameters=parameters, law=law)} for kind, (law, parameters) in given.items()}
    return Profile(
        card="mine", engine="pytorch", source="test", overlap=1.0, peaks={"bf16": 1e11}, bandwidth=1e10, classes=fits
    )


def one(path: str, profile: Profile, **run: Any) -> float:
    analysis = nbanalyzer.populate("gpt2", **({"batch_size": 1, "seq_len": 1, "cache_len": 511} | run))
    (launch,) = (launch for launch in analysis.launches if launch.nodes[0].path == path)
    return EagerPace(profile, analysis).time_us(launch, analysis.value_of)


def test_one_token_and_several() -> None:
    path = "transformer.h.attn.c_proj.matmul"
    weights, activations = 2 * 769 * 768 / 1e4, 2 * 2 * 768 / 1e4  # us at 10 GB/s
    start = 3 + 2 * 0.768
    assert one(path, machine()) == pytest.approx(start + weights / 0.5 + activations / 100)
    arithmetic = 2 * 8 * 768 * 768 / 1e5
    expected = start + weights / 0.25 + arithmetic / 0.5 + 8 * activations / 100
    assert one(path, machine(), batch_size=8) == pytest.approx(expected)


def test_a_cache_that_is_written_anew() -> None:
    copied = machine(append=("eager_append", {"cache_bandwidth": 0.5, "launch_us": 9}))
    cache = 2 * 2 * 512 * 768 / 1e4  # us: keys and values of 512 tokens
    assert one("transformer.h.attn.cache.append", copied) == pytest.approx(9 + 2 * cache / 0.5)
    # A profile that does not tell it apart counts what is appended.
    appended = 2 * 2 * 2 * 768 / 1e4
    assert one("transformer.h.attn.cache.append", machine()) == pytest.approx(1 + appended / 2)
    attended = 4 + 2 * 2 * 512 * 768 / 1e5 / 0.8 + cache / 0.5
    assert one("transformer.h.attn.attention.scores", machine()) == pytest.approx(attended)


def test_steps_and_functions() -> None:
    slow = machine(tanh=("eager_elementwise", {**ELEMENTWISE, "per_element_ns": 2}))
    moved = 18 * 3072 * 2 / 1e4  # us
    assert one("transformer.h.mlp.act.gelu_new", slow) == pytest.approx(8 * 1 + moved / 2 + 2 * 3.072)
    assert one("transformer.h.mlp.act.gelu_new", machine()) == pytest.approx(8 * 1 + moved / 2)


def test_a_pass_is_the_sum_of_what_is_started() -> None:
    analysis = nbanalyzer.populate("gpt2", seq_len=1, cache_len=9)
    fast = {"launch_us": 1, "activation_bandwidth": 100}
    free = machine(
        linear=("eager_linear", {**fast, "compute": 1, "weight_bandwidth": 1, "single_bandwidth": 1}),
        elementwise=("eager_elementwise", fast),
        decode_attention=("eager_attention", {"launch_us": 1, "compute": 1, "cache_bandwidth": 100}),
    )
    by_hand = sum(
        float(launch.times) * EagerPace(free, analysis).time_us(launch, analysis.value_of)
        for launch in analysis.launches
        if launch.is_started
    )
    assert Estimate(analysis, EagerPace(free, analysis), 0).time == pytest.approx(by_hand / 1e6)
    # 12 layers of 2 norms, 4 products, append, attention, 2 additions and 8 steps of gelu; 5 before, 2 after.
    started = 12 * (2 + 4 + 1 + 1 + 2 + 8) + 5 + 2
    weights = analysis.totals["weight_bytes_read"] / 1e10
    assert Estimate(analysis, EagerPace(free, analysis), 0).time == pytest.approx(started / 1e6 + weights, rel=0.02)


def test_the_machine_of_a_profile() -> None:
    """The longest source that a profile can have is said in full."""
    long = msgspec.structs.replace(machine(), source="ab" * 500)
    found = machine_of(long)
    assert (found.name, found.bandwidth, found.peaks, found.source) == ("mine", 1e10, {"bf16": 1e11}, "ab" * 500)
    lacks: tuple[dict[str, Any], ...] = ({"bandwidth": None}, {"peaks": {}})
    for lacking in lacks:
        with pytest.raises(InputError, match="pytorch on mine is for any card: say which hardware"):
            machine_of(msgspec.structs.replace(machine(), **lacking))


@pytest.mark.parametrize(("bits", "precision"), [(16, "bf16"), (32, "fp32")])
def test_the_precision_is_that_of_activations(bits: int, precision: str) -> None:
    assert EagerPace(machine(), nbanalyzer.populate("gpt2", seq_len=1, w_bit=8, a_bit=bits)).precision == precision
    narrow = EagerPace(machine(), nbanalyzer.populate("gpt2", seq_len=1, a_bit=8))
    with pytest.raises(InputError, match="not modelled: activations of 8 bits by 'pytorch': 16 or 32 are"):
        _ = narrow.precision


def test_only_engines_have_formulas_of_times() -> None:
    costs, profile = nbanalyzer.populate("gpt2", seq_len=1, cache_len=9), machine()
    with pytest.raises(InputError, match="not modelled: formulas of times by pytorch on mine: it times one pass at a"):
        _ = costs.on(machine_of(profile), profile=profile).engine_pace
    assert costs.on("h100-sxm").engine_pace.profile.name == "typical"


def test_what_was_not_measured_is_one_line() -> None:
    analysis = nbanalyzer.populate("gpt2", seq_len=2)
    with pytest.raises(InputError, match="prefill_attention at 'bf16' is not modelled"):
        Estimate(analysis, EagerPace(machine(), analysis), 0)


@pytest.mark.parametrize(
    ("lacking", "said"), [({"peaks": {}}, "no peak at bf16"), ({"bandwidth": None}, "no bandwidth")]
)
def test_shares_of_what_is_not_said_are_one_line(lacking: dict[str, Any], said: str) -> None:
    analysis = nbanalyzer.populate("gpt2", cache_len=2, seq_len=1)
    found = msgspec.structs.replace(machine(), **lacking)
    with pytest.raises(InputError, match=f"not modelled: the profile of pytorch on mine has {said}"):
        Estimate(analysis, EagerPace(found, analysis), 0)


def test_a_profile_of_a_card_of_the_catalogue_needs_no_hardware() -> None:
    analysis = nbanalyzer.populate("gpt2", cache_len=2, seq_len=1)
    card = nbanalyzer.accelerator("h100-sxm")
    of_engine = find_profile("vllm", card)
    assert analysis.on(profile=of_engine).accelerator == card
    assert analysis.on(profile=of_engine).answer == analysis.on(card, profile="vllm").answer
    measured = msgspec.structs.replace(machine(), card="h100-sxm")  # its peaks are those of this very board
    assert analysis.on(profile=measured).accelerator.peaks == measured.peaks


def test_a_request_by_a_measured_profile_is_one_line() -> None:
    card = nbanalyzer.Accelerator(name="mine", memory_bytes=10**11, bandwidth=1e10, peaks={"bf16": 1e11, "fp32": 1e10})
    timing = nbanalyzer.request("gpt2", prompt_len=4, output_len=3).on(card, profile=machine())
    said = "not modelled: requests by pytorch on mine: it times one pass at a time"
    assert said in repr(timing)
    with pytest.raises(InputError, match=f"^{said}$"):
        _ = timing.estimate
    with pytest.raises(InputError, match=f"^{said}$"):
        _ = timing.served(2).time_per_output_token
    assert said in repr(timing.served(2))


def test_several_devices_were_not_measured() -> None:
    made = template(composite("part", basic("{batch_size}")))
    for devices in (2, 3):
        roofline = populate(made, batch_size=6, dp=devices).on(
            Accelerator(name="mine", bandwidth=1e10, peaks={"bf16": 1e11}), profile=machine()
        )
        with pytest.raises(
            InputError, match="not modelled: several devices by pytorch on mine: it was measured on one"
        ):
            _ = roofline.pace
