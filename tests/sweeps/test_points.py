"""Sweeps of served requests and of weights in schemes, and gaps where nothing is modelled, against single results."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbanalyzer import Accelerator, populate, request, sweep
from nbanalyzer.costs.metrics import MONEY
from nbanalyzer.errors import InputError, NBAnalyzerError, NotModelledError, UnknownNameError
from nbanalyzer.hardware.parameters import Fit, Spread
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.notebook.magics import CostMagics
from nbanalyzer.sweeps.sweep import Sweep

LENGTHS: dict[str, Any] = {"prompt_len": 100, "output_len": [1, 50]}
CARD = Accelerator(
    name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp8": 2e14, "fp32": 2e13}, power=300
)
LATENT = "not modelled: latent attention, of which no measured kernels are at hand"


def profile() -> Profile:
    each = {"compute": 0.5, "bandwidth": 0.8, "launch_us": 3}
    kinds = ("linear", "decode_attention", "prefill_attention", "elementwise")
    classes = {kind: {"any": Fit(parameters=each, n=9)} for kind in kinds}
    spread = Spread(n=12, ratio=(0.7, 0.8, 1.1, 1.2, 1.5), source="a trial")
    return Profile(
        card="any", engine="trial", source="by hand", overlap=0.3, classes=classes, intervals={"dense": {"1": spread}}
    )


PROFILE = profile()


def at(found: Sweep, place: tuple[int, ...]) -> dict[str, Any]:
    return {name: values[index] for (name, values), index in zip(found.axes.items(), place, strict=True)}


# ---- served requests


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, 3])
def test_served_requests_are_their_points(chunks: int | None) -> None:
    metrics = (
        "time_per_output_token", "lower_bound", "tokens_per_s", "tokens_per_s_each", "prefill_time", "max_concurrency",
        "fits", *MONEY,
    )  # fmt: skip
    found = sweep(
        "llama-3.2-1b", **LENGTHS, concurrency=[1, 7, 10**6], quant=["none", "fp8"], hardware=CARD, profile=PROFILE,
        metrics=metrics, price=2, grid=300, chunks=chunks,
    )  # fmt: skip
    assert found.shape == (2, 3, 2)
    values = {name: found.values(name) for name in metrics}
    for place in np.ndindex(found.shape):
        point = at(found, place)
        one = request("llama-3.2-1b", prompt_len=100, output_len=point["output_len"], quant=point["quant"])
        served = one.on(CARD, profile=PROFILE, price=2, grid=300).served(point["concurrency"])
        expected = {name: getattr(served, name) for name in ("lower_bound", "max_concurrency")}
        seconds = served.time_per_output_token.value
        expected |= {"time_per_output_token": seconds, "tokens_per_s_each": 1 / seconds, "fits": True}
        expected["tokens_per_s"] = min(point["concurrency"], served.max_concurrency) / seconds
        expected |= {name: getattr(served, name) for name in MONEY}
        expected["prefill_time"] = served.steps.interval(served.prefill).value
        for name in metrics:
            assert float(values[name][place]) == pytest.approx(float(expected[name]), rel=1e-12), (name, point)


def test_what_does_not_fit_has_no_times() -> None:
    """A card with just the memory that one sequence needs, and one with a byte less of cache for it."""
    options: dict[str, Any] = {"prompt_len": 100, "output_len": 28, "concurrency": 4}
    asked = ("memory_bytes", "fits", "max_concurrency", "time_per_output_token", "lower_bound", "tokens_per_s")
    (need,) = sweep("gpt2", metrics="memory_bytes", **options).arrays["memory_bytes"].reshape(-1)
    cards = [
        msgspec.structs.replace(CARD, name=name, memory_bytes=math.ceil(need) + more)
        for name, more in (("enough", 2), ("less", -9))
    ]
    found = sweep("gpt2", metrics=asked, hardware=cards, profile=PROFILE, **options)
    assert found.arrays["fits"].tolist() == [True, False]
    assert found.arrays["max_concurrency"].tolist() == [1, 0]
    assert found.arrays["memory_bytes"].tolist() == [need, need]
    for name in asked[3:]:
        assert np.isnan(found.arrays[name]).tolist() == [False, True]
    assert found.table()["fits"].tolist() == [True, False]
    weights, cache = 2 * 124_439_808, 128 * 12 * 2 * 768 * 2  # bf16; 8 blocks of 16 tokens
    rest = 1.79 * 2**30 + 0.73 * 2**30  # context and graphs of an engine
    assert need * 0.9 > weights + cache + rest
    longer = sweep("gpt2", metrics="memory_bytes", prompt_len=100, output_len=28 + 16, concurrency=4)
    assert float(longer.arrays["memory_bytes"]) - need == pytest.approx(cache / 8 / 0.9, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [{"concurrency": [1, 10**6]}, {"batch_size": [1, 3]}])
def test_devices_divide_what_is_asked_point_by_point(lengths: dict[str, Any]) -> None:
    served = "concurrency" in lengths
    metrics = ["lower_bound", "time_per_output_token" if served else "estimate", MONEY[0]]
    found = sweep(
        "llama-3.2-1b", prompt_len=100, output_len=50, **lengths, tp=[1, 2], quant="fp8", hardware="h100-sxm",
        profile="vllm", price=2, metrics=metrics,
    )  # fmt: skip
    for place in np.ndindex(found.shape):
        point = at(found, place)
        batch = {} if served else {"batch_size": point["batch_size"]}
        one = request("llama-3.2-1b", prompt_len=100, output_len=50, quant="fp8", tp=point["tp"], **batch)
        timing = one.on("h100-sxm", profile="vllm")
        expected: Any = timing.served(point["concurrency"]) if served else timing
        bound, value, cost = (float(found.arrays[name][place]) for name in metrics)
        assert bound == pytest.approx(expected.lower_bound, rel=1e-12)
        assert value == pytest.approx(getattr(expected, metrics[1]).value, rel=1e-12)
        each = value / expected.batch if served else value / (50 * point["batch_size"])  # seconds a token
        assert cost == pytest.approx(2 * point["tp"] / 3600 * each * 1e6, rel=1e-12)
    assert not served or "all_gather not measured" in repr(found)


@pytest.mark.slow
def test_the_marks_of_a_table_are_those_of_memory() -> None:
    small = msgspec.structs.replace(CARD, memory_bytes=4 * 10**9)  # 2.5 GB of weights in 16 bits, and 2.7 of the engine
    found = sweep("llama-3.2-1b", **LENGTHS, concurrency=[1, 2], hardware=[CARD, small], profile=PROFILE)
    assert found.metrics == ("time_per_output_token", "lower_bound", "tokens_per_s", "max_concurrency")
    assert found.table()["fits"].tolist() == [True, False] * 4
    assert "no number at 4" in repr(found)
    assert "does not fit" in found._repr_mimebundle_()["text/html"]


# ---- requests alone, with weights in a scheme


def test_16_bits_are_those_of_the_formulas() -> None:
    """No scheme is what a model has that says nothing: formulas of all points, compiled, say the same."""
    metrics = (
        "flops", "kv_bytes_read", "parameters", "kv_cache_bytes", "memory_bytes", "time", "lower_bound", "estimate",
        "tokens_per_s", "time_to_first_token", "time_per_output_token", "fits", *MONEY,
    )  # fmt: skip
    options: dict[str, Any] = {
        **LENGTHS, "batch_size": [1, 3], "num_kv_heads": [2, 8], "hardware": CARD, "profile": PROFILE, "price": 3, "grid": 10,
        "metrics": metrics, "compute_efficiency": 0.5,
    }  # fmt: skip
    by_point = sweep("llama-3.2-1b", quant="none", fusion="engine", **options)
    compiled = sweep("llama-3.2-1b", fusion="engine", **options)
    for name in metrics:
        assert by_point.values(name) == pytest.approx(compiled.values(name), rel=1e-9), name


def test_a_scheme_narrows_weights() -> None:
    found = sweep(
        "llama-3.2-1b",
        **LENGTHS,
        quant=["none", "fp8", "torchao-int4"],
        hardware=CARD,
        metrics=["memory_bytes", "lower_bound"],
    )
    layers = 973_144_064 - 16 * 2 * 2048  # of 1,235,814,400 parameters: without the embeddings, and the norms
    scales = 16 * 7 * 8  # two of a tensor, in fp32
    wide, narrow, least = found.arrays["memory_bytes"][1]
    assert wide - narrow == layers - scales
    assert wide - least == layers * (2 - (4 + 2 * 16 / 128) / 8)
    bounds = found.arrays["lower_bound"]
    assert (bounds[:, 1:] < bounds[:, :1]).all()
    halved = sweep("llama-3.2-1b", **LENGTHS, quant=["none", "fp8"], tp=2, fusion="engine", metrics="memory_bytes")
    wide, narrow = halved.arrays["memory_bytes"][1]
    assert wide - narrow == layers / 2 - scales  # of each of two devices, which both have the scales


# ---- what is not modelled is a gap


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, 2])
@pytest.mark.parametrize("lengths", [{"seq_len": [1, 8]}, {"prompt_len": 20, "output_len": [1, 9]}])
def test_the_others_are_shown(lengths: dict[str, Any], chunks: int | None) -> None:
    names = ["deepseek-v2-lite", "gpt2", "mamba-2.8b"]
    options: dict[str, Any] = {"hardware": [CARD, "h100-sxm"], "profile": PROFILE, "price": 1}
    metrics = ("lower_bound", "estimate", MONEY[0])
    found = sweep(names, **lengths, metrics=metrics, chunks=chunks, **options)
    alone = sweep("gpt2", **lengths, metrics=metrics, **options)
    for name in metrics:
        values = found.values(name)
        assert values[1] == pytest.approx(alone.values(name), rel=1e-12)
        if name == "lower_bound":
            assert np.isfinite(values).all()
        else:
            assert np.isnan(values[[0, 2]]).all()
    gaps = [note for note in found.notes if "not modelled" in note]
    assert gaps[0] == f"deepseek-v2-lite: {LATENT}"
    assert len(gaps) == 2
    assert gaps[1].startswith("mamba-2.8b: not modelled: state-space")
    assert f"warning: deepseek-v2-lite: {LATENT}" in repr(found)
    assert found.best(minimize="estimate")["model"] == "gpt2"
    assert set(found.frontier("estimate", "lower_bound")["model"]) == {"gpt2"}


def test_a_gap_of_a_precision_says_which() -> None:
    """The profile has no linears of 8 bits but those that stand in for none."""
    only = {**PROFILE.classes, "linear": {"bf16": Fit(parameters={"compute": 0.5, "bandwidth": 0.8, "launch_us": 3})}}
    by = msgspec.structs.replace(PROFILE, classes=only)
    found = sweep(
        "gpt2", seq_len=1, cache_len=[5, 6], w_bit=[16, 4], a_bit=[16, 4], metrics="estimate", hardware=CARD, profile=by
    )
    missing = np.isnan(found.arrays["estimate"])
    assert missing[:, 0, 0].tolist() == [False, False]
    assert missing.any()
    gaps = [note for note in found.notes if "not modelled" in note]
    assert len(gaps) == len({tuple(place[1:]) for place in np.argwhere(missing)})
    assert all(gap.split(": ")[0] in {"16, 4", "4, 16", "4, 4"} for gap in gaps)


def test_served_requests_have_gaps() -> None:
    names = ["llama-3.2-1b", "deepseek-v2-lite"]
    found = sweep(names, **LENGTHS, concurrency=[1, 3], hardware="h200-sxm", profile=PROFILE)
    times, bounds = found.arrays["time_per_output_token"], found.arrays["lower_bound"]
    assert np.isnan(times[1]).all()
    assert np.isfinite(times[0]).all()
    assert np.isfinite(bounds).all()
    assert [note for note in found.notes if "not modelled" in note] == [f"deepseek-v2-lite: {LATENT}"]


def test_if_nothing_is_modelled_it_is_refused() -> None:
    for options in (
        {"seq_len": [1, 2], "metrics": "estimate"},
        {**LENGTHS, "concurrency": 2},
        {**LENGTHS, "quant": "fp8", "metrics": "estimate"},
    ):
        with pytest.raises(NotModelledError, match=r"^not modelled: latent attention"):
            sweep("deepseek-v2-lite", hardware="h200-sxm", **options)


# ---- how it is shown, and what cannot be


@pytest.mark.slow
def test_it_is_drawn_with_gaps() -> None:
    found = sweep(["gpt2", "mamba-2.8b"], seq_len=[1, 8, 64], metrics="estimate", hardware=CARD, profile=PROFILE)
    for picture in (found.plot(), found.heatmap()):
        assert "mamba-2.8b: not modelled: state-space" in str(picture)
        assert picture.png()
    assert "no number" in found._repr_mimebundle_()["text/html"]
    served = sweep("gpt2", prompt_len=10, output_len=10, concurrency=[1, 2, 4], hardware=CARD, profile=PROFILE)
    assert "time_per_output_token (estimate)" in served._repr_mimebundle_()["text/html"]
    scheme = sweep(
        "gpt2", prompt_len=10, output_len=[5, 9], quant="fp8", metrics="time", fusion="engine", hardware=CARD
    )
    assert "time (lower bound)" in scheme._repr_mimebundle_()["text/html"]


def test_the_line_takes_them(shell: InteractiveShell) -> None:
    magics = CostMagics(shell)
    line = "llama-3.2-1b --prompt_len 100 --output_len 50 --hardware h100-sxm --profile vllm"
    found = magics.sweep(
        f"{line} --concurrency 1:4:*2 --quant none,fp8 --grid 300 --metric co2_per_million_tokens fits"
    )
    assert found.axes == {"concurrency": (1, 2, 4), "quant": ("none", "fp8")}
    assert magics.sweep(f"{line} --concurrency 1,2").metrics == (
        "time_per_output_token", "lower_bound", "tokens_per_s", "max_concurrency",
    )  # fmt: skip
    assert magics.sweep(f"{line} --quant fp8 awq-4-g128").axes == {"quant": ("fp8", "awq-4-g128")}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"concurrency": [1, 2], "hardware": "t4"}, InputError, "concurrency is of requests: give prompt_len"),
        ({**LENGTHS, "quant": ["fp8", "fp9"]}, InputError, "quant is none or a scheme, such as fp8.*, not 'fp9'"),
        ({**LENGTHS, "concurrency": [0, 2]}, InputError, "concurrency is a whole number from 1 to .*, not 0"),
        ({**LENGTHS, "concurrency": 2, "batch_size": [1, 2], "metrics": "fits", "hardware": "t4"}, InputError, "served requests have a concurrency, and no batch_size"),
        ({**LENGTHS, "concurrency": 2}, InputError, "time_per_output_token needs hardware"),
        ({**LENGTHS, "concurrency": 2, "metrics": "estimate"}, InputError, "estimate is not told of served requests: they have memory_bytes, lower_bound, "),
        ({**LENGTHS, "quant": "fp8", "metrics": "bites"}, UnknownNameError, "no metric named 'bites'"),
        ({**LENGTHS, "quant": "mxfp4", "metrics": "flops"}, InputError, "quant='mxfp4' changes nothing"),
        ({**LENGTHS, "metrics": "max_concurrency", "hardware": "t4"}, InputError, "max_concurrency belongs to served requests: give concurrency"),
        ({**LENGTHS, "concurrency": range(1, 5001)}, InputError, "worked out one by one, 5,000 at most, not 10,000"),
        ({**LENGTHS, "concurrency": 2, "hardware": "t4", "metrics": "lower_bound", "profile": "vllm"}, InputError, "a profile changes nothing but"),
        ({**LENGTHS, "concurrency": 2, "hardware": "t4", "metrics": MONEY[2]}, InputError, "carbon needs a grid"),
        ({**LENGTHS, "concurrency": 2, "tp": 2, "hardware": "h100-sxm", "overlap": 0.5}, InputError, "overlap is of a pass, and not told of served requests"),
        ({**LENGTHS, "concurrency": 2, "tp": [2, 3], "hardware": "h100-sxm", "nodes": 4}, InputError, "4 nodes"),
        ({"set": {"quant": 3}}, InputError, "quant is not part of a model: give it as an option of its own"),
        ({"set": {"concurrency": 3}}, InputError, "concurrency is not part of a model"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        sweep("gpt2", **options)
    assert isinstance(caught.value, NBAnalyzerError)
    assert "\n" not in str(caught.value)


def test_one_point_of_passes_is_as_before() -> None:
    """A sweep without either option goes by formulas, whatever the number of points."""
    found = sweep("gpt2", seq_len=range(1, 6001), metrics="flops")
    assert float(found.arrays["flops"][5999]) == populate("gpt2", seq_len=6000).totals["flops"]


def test_a_bound_over_experts_says_what_it_supposes() -> None:
    said = "lower_bound if tokens are routed evenly"
    options: dict[str, Any] = {"metrics": "lower_bound", "hardware": "h200-sxm"}
    lengths: dict[str, Any] = {"prompt_len": 10, "output_len": [5, 6]}
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"seq_len": 1, "cache_len": [1, 2]}, False), ({"seq_len": 1, "batch_size": 3, "cache_len": [1, 2]}, True),
        ({"seq_len": 1, "batch_size": [1, 2]}, True), (lengths, True), ({**lengths, "concurrency": 2}, True),
    ]  # fmt: skip
    for run, is_said in cases:
        assert (said in sweep("qwen3-30b-a3b", **run, **options).notes) is is_said, run
    assert said not in sweep("gpt2", seq_len=[1, 2], **options).notes
    assert said not in sweep("gpt2", **lengths, concurrency=2, **options).notes
