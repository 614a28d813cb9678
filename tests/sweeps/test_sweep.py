"""Sweeps, against single exact analyses of the same points, and their questions against brute force."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from nbanalyzer import Accelerator, populate, request, sweep
from nbanalyzer.costs.metrics import METRICS, OF_ENGINE, metrics_of
from nbanalyzer.errors import ConfigError, FormulaError, InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.notebook.magics import CostMagics
from nbanalyzer.plots.figure import Plot
from nbanalyzer.quantities import seconds
from nbanalyzer.sweeps.fitting import AT_ONCE
from nbanalyzer.sweeps.sweep import Sweep

# A failure names its point: making the example smaller would take minutes.
FEW = settings(deadline=None, max_examples=12, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
CARD = Accelerator(
    name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "int8": 2e14, "fp32": 2e13}
)
# As different as they come: plain, grouped, sliding windows, experts, latents, linear attention, state spaces, encoders.
PLAIN = ("gpt2", "llama-3.2-1b", "gemma-3-1b-it", "gpt-oss-20b", "qwen1.5-moe-a2.7b", "deepseek-v2-lite",
         "qwen3-next-80b-a3b-instruct", "jamba-v0.1", "mamba-2.8b")  # fmt: skip
EAGER = {"gpt2", "llama-3.2-1b", "gpt-oss-20b", "qwen1.5-moe-a2.7b", "jamba-v0.1"}
LENGTHS = st.integers(1, 70) | st.integers(1, 2**16) | st.integers(0, 40).map(lambda power: 2**power)


def values(least: int = 1) -> st.SearchStrategy[list[int]]:
    return st.lists(LENGTHS | st.just(least), min_size=1, max_size=2, unique=True)


def points(found: Sweep) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
    for place in np.ndindex(found.shape):
        yield place, {name: values[at] for (name, values), at in zip(found.axes.items(), place, strict=True)}


@lru_cache(maxsize=64)
def analysis_at(model: str, sizes: tuple[tuple[str, int], ...], run: tuple[tuple[str, Any], ...], card: Any) -> Any:
    analysis = populate(model, set=dict(sizes), **dict(run))
    return analysis, analysis.on(card) if card else None


def of_pass(model: Any, metric: str, card: Any = None, set: Any = (), **run: Any) -> float:  # noqa: A002
    """Return a metric of one pass, from a single exact analysis."""
    analysis, roofline = analysis_at(model, tuple(dict(set).items()), tuple(run.items()), card)
    if metric in {"time", "tokens_per_s"}:
        return float(roofline.time if metric == "time" else roofline.tokens_per_second)
    if metric == "fits":
        return float(bool(analysis.fits(card)))
    if metric == "memory_bytes":
        return float(analysis.memory.total)
    totals = {"payload_bytes": 0, **analysis.totals}  # of one device, nothing is communicated
    return float(totals[metric])


@lru_cache(maxsize=64)
def request_at(model: str, run: tuple[tuple[str, Any], ...], card: Any) -> Any:
    one = request(model, **dict(run))
    return one, one.totals, one.on(card)


def of_request(model: Any, metric: str, card: Any = None, **run: Any) -> float:
    """Return a metric of one request, from a single exact analysis."""
    one, totals, timed = request_at(model, tuple(run.items()), card)
    if metric in METRICS and METRICS[metric].needs and metric != "fits":
        return float(getattr(timed, {"tokens_per_s": "tokens_per_second"}.get(metric, metric)))
    if metric == "fits":
        return float(bool(one.fits(card)))
    if metric == "memory_bytes":
        return float(one.memory.total)
    if metric == "arithmetic_intensity":
        return float(totals["flops"] / totals["bytes"])
    last = one.last if one.steps else one.prefill
    state = metric.removesuffix("_bytes")
    if state in last.state:
        return float(last.totals[metric])  # of the cache, with all its parts
    kept = {"payload_bytes": 0, **last.totals}
    return float(totals[metric] if metric in totals else kept[metric])


def all_metrics(model: str, *, of_requests: bool = False) -> tuple[str, ...]:
    states = sorted(populate(model, seq_len=1).state)
    known = [name for name in metrics_of(states) if name != "kv_cache_bytes" or "kv_cache" in states]
    known = [name for name in known if name not in OF_ENGINE]  # see test_estimates.py
    kinds = {"", "hardware", *(["request"] if of_requests else [])}  # of served ones, see test_points.py
    return tuple(name for name in known if name not in METRICS or METRICS[name].needs in kinds)


def agrees(found: Sweep, exact: Callable[..., float], model: Any, **fixed: Any) -> None:
    for place, at in points(found):
        for metric in found.metrics:
            value = float(found.arrays[metric][place])
            expected = exact(at.get("model", model), metric, **{**fixed, **at} if "model" not in at else fixed | at)
            assert value == pytest.approx(expected, rel=1e-12, abs=0), (metric, at)


# ---- the numbers


@pytest.mark.slow
@FEW
@given(
    model=st.sampled_from(PLAIN), batch_size=values(), seq_len=values(), cache_len=values(0),
    bits=st.sampled_from([(16, 16), (4, 16), (8, 8), (4, 32)]), switches=st.fixed_dictionaries(
        {"attn": st.sampled_from(["sdpa", "eager"]), "logits": st.sampled_from(["all", "last"]), "causal": st.booleans()}
    ),
)  # fmt: skip
def test_a_sweep_of_passes_is_its_points(
    model: str, batch_size: list[int], seq_len: list[int], cache_len: list[int], bits: tuple[int, int], switches: Any
) -> None:
    fixed: dict[str, Any] = {"w_bit": bits[0], "a_bit": bits[1], **switches, "attn": "sdpa"}
    fixed["attn"] = switches["attn"] if model in EAGER else "sdpa"
    axes: Any = {"batch_size": batch_size, "seq_len": seq_len, "cache_len": cache_len}
    found = sweep(model, metrics=all_metrics(model), hardware=CARD, **axes, **fixed)
    agrees(found, lambda model, metric, **run: of_pass(model, metric, CARD, **run), model, **fixed)


@pytest.mark.long
@FEW
@given(batch_size=values(), seq_len=values(), cache_len=values(0), encoder_len=st.none() | values())
def test_an_encoder_reads_what_it_is_given_or_what_the_decoder_has_seen(
    batch_size: list[int], seq_len: list[int], cache_len: list[int], encoder_len: list[int] | None
) -> None:
    axes: dict[str, Any] = {"batch_size": batch_size, "seq_len": seq_len, "cache_len": cache_len}
    axes |= {} if encoder_len is None else {"encoder_len": encoder_len}
    found = sweep("t5-small", metrics=all_metrics("t5-small"), hardware=CARD, **axes)
    agrees(found, lambda model, metric, **run: of_pass(model, metric, CARD, **run), "t5-small")


@pytest.mark.parametrize("given", [{}, {"encoder_len": 16}])
def test_an_encoder_that_follows_is_not_one_that_happens_to_read_as_much(given: dict[str, Any]) -> None:
    found = sweep("t5-small", seq_len=[16, 32], metrics="flops", **given).arrays["flops"]
    assert found.tolist() == [populate("t5-small", seq_len=length, **given).totals["flops"] for length in (16, 32)]


@pytest.mark.slow
@FEW
@given(
    model=st.sampled_from([*PLAIN, "t5-small"]), batch_size=values(), prompt_len=LENGTHS.map(lambda length: min(length, 2**39)),
    output_len=st.lists(st.integers(1, 300), min_size=1, max_size=2, unique=True), w_bit=st.sampled_from([4, 16]),
    logits=st.sampled_from([None, "all"]), eager=st.booleans(),
)  # fmt: skip
def test_a_sweep_of_requests_is_its_points(
    model: str,
    batch_size: list[int],
    prompt_len: int,
    output_len: list[int],
    w_bit: int,
    logits: Any,
    eager: bool,
) -> None:
    fixed: dict[str, Any] = {"w_bit": w_bit, **({"logits": logits} if logits else {})}
    fixed |= {"attn": "eager"} if eager and model in EAGER else {}
    metrics = all_metrics(model, of_requests=True)
    # Starts that lie far apart would share all the steps between them: a pair that is near.
    axes: Any = {"batch_size": batch_size, "prompt_len": [prompt_len, prompt_len + 3], "output_len": output_len}
    found = sweep(model, metrics=metrics, hardware=CARD, **axes, **fixed)
    agrees(found, lambda model, metric, **run: of_request(model, metric, CARD, **run), model, **fixed)


def test_one_token_is_written_without_a_step() -> None:
    found = sweep(
        "t5-small", prompt_len=[1, 7], output_len=[1, 2], hardware=CARD, metrics=["time", "flops", "kv_cache_bytes"]
    )
    agrees(found, lambda model, metric, **run: of_request(model, metric, CARD, **run), "t5-small")


@pytest.mark.parametrize(
    ("model", "axes"),
    [
        ("llama-3.1-8b", {"num_kv_heads": [1, 8, 32], "num_layers": [1, 32]}),
        ("llama-3.1-8b", {"hidden_size": [4096, 8192], "batch_size": [3, 1]}),
        ("gpt2", {"n_head": [6, 12], "seq_len": [5, 1]}),  # head_dim follows
        ("qwen1.5-moe-a2.7b", {"num_experts_per_tok": [1, 4], "batch_size": [1, 100], "num_experts": [8, 60]}),
        ("gemma-3-1b-it", {"sliding_window": [16, 512], "seq_len": [8, 1000]}),
    ],
)
def test_config_values_are_axes(model: str, axes: dict[str, Any]) -> None:
    found = sweep(model, metrics=["flops", "bytes", "parameters", "kv_cache_bytes", "time"], hardware=CARD, **axes)
    assert found.shape == tuple(map(len, axes.values()))
    for place, at in points(found):
        run = {name: at.pop(name) for name in ("batch_size", "seq_len") if name in at}
        for metric in found.metrics:
            exact = of_pass(model, metric, CARD, set=at, **run)
            assert found.arrays[metric][place] == pytest.approx(exact, rel=1e-12), (metric, at, run)


def test_config_values_of_requests() -> None:
    found = sweep(
        "llama-3.2-1b", num_kv_heads=[1, 8], prompt_len=10, output_len=[5, 6], metrics=["flops", "kv_cache_bytes"]
    )
    for (heads, length), place in zip(product([1, 8], [5, 6]), np.ndindex(2, 2), strict=True):
        one = request("llama-3.2-1b", prompt_len=10, output_len=length, set={"num_kv_heads": heads})
        assert found.arrays["flops"][place] == pytest.approx(one.totals["flops"], rel=1e-12)
        assert found.arrays["kv_cache_bytes"][place] == one.memory.state


def test_models_precisions_switches_and_accelerators_are_axes() -> None:
    axes = {
        "model": ["gpt2", "llama-3.2-1b"], "seq_len": [1, 100], "w_bit": [16, 4], "attn": ["eager", "sdpa"],
        "hardware": ["h100-sxm", CARD], "batch_size": [2, 1],
    }  # fmt: skip
    found = sweep(axes["model"], metrics=["bytes", "time", "fits"], **{k: v for k, v in axes.items() if k != "model"})  # type: ignore[arg-type]
    assert found.model == "2 models"
    for place, at in points(found):
        model, card = at.pop("model"), at.pop("hardware")
        for metric in found.metrics:
            assert found.arrays[metric][place] == pytest.approx(of_pass(model, metric, card, **at), rel=1e-12)


SMALL = Accelerator(name="small", memory_bytes=17 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
WITHOUT = Accelerator(name="without", bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"model": "llama-3.1-8b", "seq_len": 1, "cache_len": [30000, 0, 3000], "batch_size": [1, 4], "hardware": SMALL},
        {"model": "llama-3.1-8b", "w_bit": [16, 8], "hardware": [WITHOUT, CARD, SMALL], "seq_len": [4000, 8]},
        {"model": ["llama-3.1-8b", "gpt2"], "num_layers": [8, 32, 40], "batch_size": [1, 2], "hardware": [SMALL, CARD]},
        {"model": "llama-3.1-8b", "prompt_len": [10, 9000], "output_len": [300, 2], "hardware": [SMALL, CARD]},
    ],
    ids=["passes", "unknown memory", "models and configs", "requests"],
)
@pytest.mark.parametrize("chunks", [None, 5])
def test_every_point_that_is_shown_knows_whether_it_fits(options: dict[str, Any], chunks: int | None) -> None:
    found = sweep(metrics=["time", "flops"], chunks=chunks, **options)
    assert found.fits_at("flops", {}, **{name: choices[0] for name, choices in found.axes.items()}) is None
    expected: list[bool | None] = []
    for _, at in points(found):
        asked = {**found.fixed, **at}
        card, model = asked.pop("hardware"), asked.pop("model", options["model"])
        layers = {"num_layers": asked.pop("num_layers")} if "num_layers" in asked else None
        one = request(model, **asked) if "prompt_len" in asked else populate(model, set=layers, **asked)
        expected.append(None if card.memory_bytes is None else bool(one.fits(card)))
        marks = found.fits_at("time", {}, **at)
        assert marks is not None
        assert (None if math.isnan(marks) else bool(marks)) == expected[-1]
    assert {True, False} <= {*expected}
    assert found.table()["fits"].tolist() == expected
    best = found.best(maximize="time")
    place = list(product(*found.axes.values())).index(tuple(best[name] for name in found.axes))
    assert best["fits"] == expected[place]
    front = found.frontier("flops", "time")
    rows = list(product(*found.axes.values()))
    shown_rows = front[[*found.axes]].itertuples(index=False, name=None)
    assert front["fits"].tolist() == [expected[rows.index(row)] for row in shown_rows]
    for name in found.axes:  # held at a value, and turned round
        part = found.sel(**{name: found.axes[name][-1]})
        marks = part.fits_at("time", {axis: part.axes[axis][::-1] for axis in [*part.axes][::-1]})
        shape = np.asarray(expected, dtype=float).reshape(found.shape).take(-1, list(found.axes).index(name))
        np.testing.assert_array_equal(np.asarray(marks), np.flip(shape).T)


def test_points_far_apart_are_marked_one_by_one() -> None:
    """The frontier of many points spans a grid that is not worth computing."""
    found = sweep(
        "llama-3.2-1b", batch_size=range(1, 2098, 3), cache_len=range(1, 700), seq_len=1, hardware=CARD, metrics="time"
    )
    diagonal = np.arange(0, 698, 2)
    assert found.fitting is not None
    marks = found.fitting.at_places(found.axes, np.stack([diagonal, diagonal[::-1]], axis=1), found.fixed)
    assert len(diagonal) ** 2 > AT_ONCE
    grid = found.fits_at("time", found.axes)
    assert grid is not None
    assert 0 < grid.sum() < grid.size
    np.testing.assert_array_equal(marks, grid[diagonal, diagonal[::-1]])


def test_the_ends_of_a_range_are_marked() -> None:
    found = sweep("llama-3.1-8b", seq_len=[8, 8000], hardware=[SMALL, WITHOUT], metrics=["time", "bytes"])
    low, high = (seconds(populate("llama-3.1-8b", seq_len=size).on(SMALL).time) for size in (8, 8000))
    assert f"  time: {low} to {high} (does not fit)\n" in repr(found)
    assert "(" not in repr(found).split("  bytes: ")[1]
    assert "does not fit" not in repr(found.sel(hardware=SMALL, seq_len=8))
    assert repr(found.sel(hardware=WITHOUT, seq_len=8)).splitlines()[2].endswith("(memory unknown)")


def test_a_peak_that_is_not_known_is_said() -> None:
    found = sweep("gpt2", seq_len=[1, 300], hardware=["h100-sxm", "apple-m5"], metrics=["time", "bytes"])
    moved = [populate("gpt2", seq_len=size).totals["bytes"] for size in (1, 300)]
    products_only = found.arrays["time"][:, 1]
    assert products_only[0] == pytest.approx(moved[0] / 153e9, rel=0.01)
    (note,) = found.notes
    assert note.startswith("compute unknown: apple-m5's 16-bit peak is not known")
    for text in (repr(found), repr(found.plot("time")), repr(found.heatmap("time"))):
        assert note in text
    assert note not in repr(found.plot("bytes"))
    assert sweep("gpt2", seq_len=[1, 300], hardware=["h100-sxm", "apple-m5"], metrics=["bytes"]).notes == ()
    assert sweep("gpt2", a_bit=32, w_bit=32, kv_bit=32, seq_len=[1, 2], hardware="apple-m5", metrics="time").notes == ()


def test_one_axis_of_choices_and_no_axis_at_all() -> None:
    for axes in ({"causal": [True, False]}, {"w_bit": [4]}, {}):
        found = sweep("gpt2", metrics=["flops", "time", "fits"], hardware=CARD, **axes)
        agrees(found, lambda model, metric, **run: of_pass(model, metric, CARD, **run), "gpt2")
    assert repr(sweep("gpt2", metrics="parameters")) == "openai-community/gpt2: 1 point\n  parameters: 124.4 M"


def test_efficiencies_and_a_launch_take_longer() -> None:
    reached: dict[str, Any] = {"compute_efficiency": 0.5, "bandwidth_efficiency": 0.7, "launch_overhead": 5e-6}
    found = sweep("gpt2", seq_len=[1, 500], hardware=CARD, metrics="time", **reached)
    exact = [populate("gpt2", seq_len=length).on(CARD, **reached).time for length in (1, 500)]
    assert found.arrays["time"].tolist() == pytest.approx(exact, rel=1e-12)
    assert "compute_efficiency 0.5, bandwidth_efficiency 0.7, launch_overhead 5e-06" in repr(found)


@pytest.mark.parametrize("model", ["gpt2", "deepseek-v3", "jamba-v0.1", "t5-small"])
def test_nothing_overflows(model: str) -> None:
    large = [2**40 - 1, 2**40]
    found = sweep(
        model, batch_size=large, seq_len=large, cache_len=large, hardware=CARD, metrics=["flops", "bytes", "time"]
    )
    assert all(np.isfinite(array).all() and (array > 0).all() for array in found.arrays.values())
    agrees(found, lambda model, metric, **run: of_pass(model, metric, CARD, **run), model)


def test_the_latent_as_it_is() -> None:
    found = sweep("deepseek-v3", mla=["expanded", "absorbed"], seq_len=1, cache_len=[2048], metrics="matmul_flops")
    assert found.arrays["matmul_flops"].ravel().tolist() == [4_275_376_373_760, 108_062_130_176]  # DESIGN section 6


def test_blocks_of_a_large_grid_fit_together() -> None:
    found = sweep(
        "llama-3.2-1b", batch_size=range(1, 301), seq_len=range(1, 402, 2), metrics=["flops", "time"], hardware=CARD
    )
    assert found.size > 3 * 16_384
    for place in [(0, 0), (299, 200), (81, 102), (163, 4), (164, 199)]:
        at = {"batch_size": found.axes["batch_size"][place[0]], "seq_len": found.axes["seq_len"][place[1]]}
        for metric in found.metrics:
            assert found.arrays[metric][place] == pytest.approx(of_pass("llama-3.2-1b", metric, CARD, **at), rel=1e-12)


# ---- as data


@pytest.fixture(scope="module")
def found() -> Sweep:
    return sweep(
        "llama-3.2-1b", batch_size=[1, 8, 64], prompt_len=[100, 1000], output_len=50, w_bit=[16, 4],
        hardware=["h100-sxm", "rtx-4090"],
        metrics=["tokens_per_s", "time_to_first_token", "time_per_output_token", "memory_bytes", "fits"],
    )  # fmt: skip


def test_the_table_has_a_row_per_point(found: Sweep) -> None:
    table = found.table()
    assert list(table.columns) == [*found.axes, *found.metrics]
    assert len(table) == found.size == 24
    for row, (place, at) in zip(table.to_dict("records"), points(found), strict=True):
        assert {name: row[name] for name in found.axes} == at
        assert all(row[name] == found.arrays[name][place] for name in found.metrics)
    assert table.attrs["units"]["tokens_per_s"] == "tokens/s"
    assert set(table.attrs["units"]) == set(found.metrics)


def test_xarray_has_labels_and_units(found: Sweep) -> None:
    grid = found.to_xarray()
    assert dict(grid.sizes) == dict(zip(found.axes, found.shape, strict=True))
    assert grid["time_to_first_token"].attrs == {"units": "s"}
    assert grid.attrs == {"model": "meta-llama/Llama-3.2-1B", "output_len": 50}
    at: dict[str, Any] = {"batch_size": 8, "prompt_len": 1000, "w_bit": 4}
    one = of_request("llama-3.2-1b", "time_to_first_token", "rtx-4090", output_len=50, **at)
    assert float(grid["time_to_first_token"].sel(**at, hardware="rtx-4090")) == pytest.approx(one, rel=1e-12)
    assert grid["fits"].dtype == bool


def test_an_accelerator_of_ones_own_is_called_by_its_name() -> None:
    found = sweep("gpt2", hardware=[CARD, "h100-sxm"], metrics="time")
    assert found.to_xarray().coords["hardware"].values.tolist() == ["card", "h100-sxm"]
    assert "hardware: card, h100-sxm" in repr(found)


def test_sel_holds_axes(found: Sweep) -> None:
    part = found.sel(batch_size=8, hardware="rtx-4090")
    assert list(part.axes) == ["prompt_len", "w_bit"]
    assert part.fixed == {"output_len": 50, "batch_size": 8, "hardware": "rtx-4090"}
    assert (part.arrays["fits"] == found.arrays["fits"][1, :, :, 1]).all()
    alone = part.sel(prompt_len=100, w_bit=4)
    assert alone.size == 1
    assert float(alone.arrays["tokens_per_s"]) == found.arrays["tokens_per_s"][1, 0, 1, 1]
    with pytest.raises(UnknownNameError, match="no axis named 'seq_len'"):
        found.sel(seq_len=1)
    with pytest.raises(InputError, match="the axis batch_size has no 9: 1, 8, 64"):
        found.sel(batch_size=9)


def test_every_metric_has_a_unit() -> None:
    assert {name for name, metric in METRICS.items() if not metric.unit} == {"fits"}
    assert metrics_of(["kv_cache", "conv_state"])[-1] == "conv_state_bytes"


# ---- questions


def better(metric: str) -> int:
    return -1 if metric in {"tokens_per_s", "arithmetic_intensity", "fits"} else 1


def brute_frontier(table: pd.DataFrame, metrics: list[str]) -> set[tuple[float, ...]]:
    keys = [tuple(better(name) * float(row[name]) for name in metrics) for row in table.to_dict("records")]
    return {
        key for key in keys
        if not any(all(o <= k for o, k in zip(other, key, strict=True)) and other != key for other in keys)
    }  # fmt: skip


@pytest.mark.parametrize(
    "metrics",
    [
        ["tokens_per_s", "time_to_first_token"],
        ["time_to_first_token", "tokens_per_s", "memory_bytes"],
        ["fits", "time_per_output_token", "memory_bytes", "tokens_per_s"],
        ["memory_bytes", "fits"],
    ],
)
def test_the_frontier_is_what_nothing_beats(found: Sweep, metrics: list[str]) -> None:
    front = found.frontier(*metrics)
    keys = [tuple(better(name) * float(row[name]) for name in metrics) for row in front.to_dict("records")]
    assert set(keys) == brute_frontier(found.table(), metrics)
    assert len(set(keys)) == len(keys)  # of equal points one
    assert keys == sorted(keys)
    merged = front.merge(found.table(), on=[*found.axes, *found.metrics])
    assert len(merged) == len(front)  # its rows are points of the sweep


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40),
    st.sampled_from([("bytes", "time"), ("time", "flops", "bytes"), ("tokens_per_s", "time", "flops")]),
)
def test_frontiers_with_many_ties(rows: list[tuple[int, ...]], metrics: tuple[str, ...]) -> None:
    arrays = {name: np.asarray([row[i] for row in rows], dtype=np.float64) for i, name in enumerate(metrics)}
    one = Sweep("toy", {"seq_len": tuple(range(len(rows)))}, metrics, {}, arrays)
    front = one.frontier(*metrics)
    keys = {tuple(better(name) * float(row[name]) for name in metrics) for row in front.to_dict("records")}
    assert keys == brute_frontier(one.table(), list(metrics))
    assert len(front) == len(keys)


@pytest.mark.slow
def test_a_frontier_larger_than_what_is_compared_at_once() -> None:
    count = 5_000
    x = np.linspace(0, 1, count)
    arrays = {"bytes": x, "time": 1 - x, "flops": np.where(np.arange(count) % 7, 5.0, 4.0)}
    front = Sweep("toy", {"seq_len": tuple(range(count))}, tuple(arrays), {}, arrays).frontier("bytes", "time", "flops")
    assert len(front) == count  # each has its own place on the line


def test_the_best_point(found: Sweep) -> None:
    table = found.table()
    fastest = found.best(
        maximize="tokens_per_s", where=["{fits}", "{time_per_output_token} <= 0.004", "{batch_size} > 1"]
    )
    inside = table[table.fits & (table.time_per_output_token <= 0.004) & (table.batch_size > 1)]
    assert fastest == inside.sort_values("tokens_per_s").iloc[-1].to_dict()
    assert found.best(minimize="memory_bytes")["memory_bytes"] == table.memory_bytes.min()
    with pytest.raises(InputError, match="no point fulfils"):
        found.best(minimize="memory_bytes", where="{time_per_output_token} < 0")


def test_histogram_and_quantiles(found: Sweep) -> None:
    table = found.table()
    counts, edges = found.histogram("tokens_per_s", 7)
    expected = np.histogram(table.tokens_per_s, bins=7)
    assert counts.tolist() == expected[0].tolist()
    assert edges == pytest.approx(expected[1])
    assert found.histogram("fits", 2)[0].sum() == found.size
    ordered = sorted(table.memory_bytes)
    for share, value in found.quantiles("memory_bytes", [0, 0.1, 0.5, 1]).items():
        assert value == ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


# ---- in chunks


@pytest.fixture(scope="module")
def pair() -> tuple[Sweep, Sweep]:
    options: dict[str, Any] = {
        "batch_size": range(1, 30), "seq_len": [1, 5, 700, 3], "w_bit": [16, 4], "num_layers": [2, 16],
        "hardware": CARD, "metrics": ["flops", "time", "tokens_per_s", "fits"],
    }  # fmt: skip
    return sweep("llama-3.2-1b", **options), sweep("llama-3.2-1b", chunks=50, **options)


def test_lazy_is_eager(pair: tuple[Sweep, Sweep]) -> None:
    eager, lazy = pair
    assert lazy.is_lazy
    assert not eager.is_lazy
    assert all(math.prod(chunk) <= 50 for chunk in product(*lazy.arrays["time"].chunks))
    for name in eager.metrics:
        assert np.array_equal(eager.arrays[name], np.asarray(lazy.arrays[name]))
        assert lazy.arrays[name].dtype == eager.arrays[name].dtype
    pd.testing.assert_frame_equal(eager.table(), lazy.table())


def test_lazy_questions_have_the_same_answers(pair: tuple[Sweep, Sweep]) -> None:
    eager, lazy = pair
    where = ["{batch_size} * {seq_len} > 20", "{fits}", "{flops} > 0"]
    assert lazy.best(maximize="tokens_per_s", where=where) == eager.best(maximize="tokens_per_s", where=where)
    pd.testing.assert_frame_equal(lazy.frontier("flops", "tokens_per_s", where=where),
                                  eager.frontier("flops", "tokens_per_s", where=where))  # fmt: skip
    assert lazy.histogram("time", 9)[0].tolist() == eager.histogram("time", 9)[0].tolist()
    shares = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    found, exact = lazy.quantiles("time", shares), eager.quantiles("time", shares)
    assert found == pytest.approx(exact, rel=1e-3)
    assert (found[0], found[1]) == (exact[0], exact[1])


def test_lazy_quantiles_are_as_near_as_they_say_over_many_decades() -> None:
    options: dict[str, Any] = {"seq_len": [2**power for power in range(21)], "batch_size": range(1, 500, 7)}
    exact = sweep("gpt2", metrics=["flops", "kv_bytes_read"], **options, cache_len=[0, 1])
    found = sweep("gpt2", metrics=["flops", "kv_bytes_read"], **options, cache_len=[0, 1], chunks=301)
    shares = [number / 64 for number in range(65)]
    for metric in exact.metrics:
        assert found.quantiles(metric, shares) == pytest.approx(exact.quantiles(metric, shares), rel=1e-3), metric


def test_lazy_parts_and_labels(pair: tuple[Sweep, Sweep]) -> None:
    eager, lazy = pair
    assert lazy.sel(seq_len=700, w_bit=4).is_lazy
    assert np.array_equal(np.asarray(lazy.sel(seq_len=700).arrays["time"]), eager.sel(seq_len=700).arrays["time"])
    grid = lazy.to_xarray()
    assert hasattr(grid["time"].data, "dask")
    assert float(grid["time"].sel(batch_size=3, seq_len=5, w_bit=16, num_layers=2)) == eager.arrays["time"][2, 1, 0, 0]
    assert repr(lazy).splitlines()[0] == "meta-llama/Llama-3.2-1B: 464 points, lazy"
    assert set(lazy._repr_mimebundle_()) == {"text/plain"}


def test_a_grid_larger_than_the_memory_is_there_in_chunks() -> None:
    found = sweep("gpt2", batch_size=range(1, 10**5), seq_len=range(1, 10**5), chunks="auto", metrics="flops")
    assert found.size == 9_999_800_001
    one = populate("gpt2", batch_size=7, seq_len=5)
    assert float(found.sel(batch_size=7).sel(seq_len=5).arrays["flops"]) == one.totals["flops"]
    with pytest.raises(InputError, match=r"sel\(\) a part, or ask best"):
        found.table()


# ---- what cannot be


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"batch_size": []}, InputError, "the axis batch_size has no values"),
        ({"seq_len": range(5, 5)}, InputError, "the axis seq_len has no values"),
        ({"model": []}, InputError, "the axis model has no values"),
        ({"nope": [1, 2]}, UnknownNameError, "no model variable named 'nope'. There are: hidden_size"),
        ({"num_kv_head": [1, 2]}, UnknownNameError, "Did you mean 'num_kv_heads'"),
        ({"w_bytes": [1, 2]}, UnknownNameError, "There are: w_bit."),
        ({"num_logits": [1, 2]}, UnknownNameError, "no axis named 'num_logits'"),
        ({"seq_len": [1, 2, 1]}, InputError, "the axis seq_len has 1 twice"),
        ({"attn": ["sdpa", "sdpa"]}, InputError, "the axis attn has 'sdpa' twice"),
        ({"batch_size": [1, 0]}, InputError, "batch_size is a whole number from 1 to 1,099,511,627,776, not 0"),
        ({"batch_size": np.array([1, 2**41])}, InputError, "not 2199023255552"),
        ({"batch_size": [1.5]}, InputError, "batch_size is a whole number from 1 to 1,099,511,627,776, not 1.5"),
        ({"batch_size": [True]}, InputError, "not True"),
        ({"w_bit": [4, 99]}, InputError, "w_bit is a whole number from 1 to 64, not 99"),
        ({"num_kv_heads": [1, 3]}, ConfigError, "num_heads 32 is not a multiple of num_kv_heads 3"),
        ({"vocab_size": ["a", "b"]}, InputError, "vocab_size = 'a': a whole number is needed"),
        ({"encoder_len": [1, 2]}, InputError, "no encoder of its own"),
        ({"metrics": "time"}, InputError, "time needs hardware: give hardware=…"),
        ({"metrics": ["fits"]}, InputError, "fits needs hardware"),
        ({"metrics": "estimate"}, InputError, "estimate needs hardware"),
        ({"metrics": ["time"], "hardware": "h100-sxm", "profile": "vllm"}, InputError, "ask for it, or leave profile out"),
        ({"metrics": ["estimate"], "hardware": "h100-sxm", "profile": "vlm"}, UnknownNameError, "Did you mean 'vllm'"),
        ({"metrics": "nope"}, UnknownNameError, "no metric named 'nope'. There are: flops, matmul_flops"),
        ({"metrics": "byte"}, UnknownNameError, "Did you mean 'bytes'"),
        ({"metrics": []}, InputError, "a sweep needs a metric"),
        ({"metrics": "time_to_first_token", "hardware": "h100-sxm"}, InputError, "give prompt_len and output_len"),
        ({"prompt_len": [1, 2]}, InputError, "output_len is missing"),
        ({"output_len": 5}, InputError, "prompt_len is missing"),
        ({"prompt_len": 1, "output_len": 1, "seq_len": [1]}, InputError, "not seq_len"),
        ({"prompt_len": [1], "output_len": [2**30], "metrics": "flops"}, InputError, "up to 10,000,000 decode steps"),
        ({"hardware": ["mi300"], "metrics": "time"}, UnknownNameError, "Which of 'mi300a', 'mi300x'"),
        ({"n_layer": [1, 2], "num_layers": 2}, InputError, "n_layer and num_layers are the same variable"),
        ({"set": {"batch_size": 4}}, InputError, "batch_size is not part of a model"),
        ({"set": {"model": 4}}, InputError, "model is not part of a model"),
        ({"set": {"num_layers": 4}, "num_layers": [1, 2]}, InputError, "num_layers is given twice"),
        ({"chunks": 0}, InputError, "chunks is a number of points, or 'auto', not 0"),
        ({"compute_efficiency": 0}, InputError, "a share above 0 and at most 1, not 0"),
        ({"hardware": Accelerator(name="x", bandwidth=1e12, peaks={"bf16": 1e14}), "metrics": "fits"}, InputError, "the memory of x is not known"),
        ({"cache_len": range(10**9)}, InputError, "the axis cache_len has more than 10,000,000 values"),
        ({"cache_len": range(10**30)}, InputError, "the axis cache_len has more than 10,000,000 values"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(options: dict[str, Any], kind: type[NBAnalyzerError], message: str) -> None:
    with pytest.raises(kind) as caught:
        sweep(options.pop("model", "llama-3.1-8b"), **options)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert len(text) < 500


@pytest.mark.parametrize("axes", [("batch_size", "seq_len"), ("seq_len", "cache_len"), ("num_layers", "batch_size")])
def test_a_grid_larger_than_the_memory_is_refused_before_anything_is_made(axes: tuple[str, str]) -> None:
    begin = time.process_time()
    with pytest.raises(InputError, match=r"999,998,000,001 points in 4 metrics are 32.00 TB.*give chunks='auto'"):
        sweep("gpt2", **dict.fromkeys(axes, range(1, 10**6)))  # type: ignore[arg-type]
    assert time.process_time() - begin < 60  # making them would take minutes


def test_a_model_that_keeps_nothing_makes_no_requests() -> None:
    with pytest.raises(InputError, match="keeps nothing from one pass to the next"):
        sweep("bert-base-uncased", prompt_len=[1, 2], output_len=2)
    with pytest.raises(InputError, match="cache_len"):
        sweep("bert-base-uncased", cache_len=[1, 2])


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda s: s.best(), InputError, "minimize=… or maximize=…"),
        (lambda s: s.best(minimize="fits", maximize="fits"), InputError, "minimize=… or maximize=…"),
        (lambda s: s.best(minimize="flops"), UnknownNameError, "no metric of this sweep named 'flops'"),
        (lambda s: s.best(minimize="fits", where="{nope} > 1"), FormulaError, "{nope} is no axis or metric of numbers"),
        (lambda s: s.best(minimize="fits", where="{hardware} == 1"), FormulaError, "{hardware} is no axis or metric of numbers"),
        (lambda s: s.best(minimize="fits", where="{fits"), FormulaError, ""),
        (lambda s: s.best(minimize="fits", where=[lambda: True]), InputError, "a condition is a formula"),
        (lambda s: s.frontier("fits"), InputError, "two or more different metrics"),
        (lambda s: s.frontier("fits", "fits"), InputError, "two or more different metrics"),
        (lambda s: s.frontier("fits", "nope"), UnknownNameError, "no metric of this sweep named 'nope'"),
        (lambda s: s.histogram("nope"), UnknownNameError, "no metric of this sweep"),
        (lambda s: s.histogram("fits", 0), InputError, "a histogram has 1 to 65536 bins, not 0"),
        (lambda s: s.quantiles("fits", [2]), InputError, "a share is a number from 0 to 1, not 2"),
    ],
)  # fmt: skip
def test_bad_questions_are_one_line(
    found: Sweep, ask: Callable[[Sweep], Any], kind: type[NBAnalyzerError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        ask(found)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- the magic


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VIRTUAL_ENV", raising=False)  # another one may be active where the tests are started
        shell = InteractiveShell.instance()
        shell.register_magics(CostMagics)
        yield shell
        for kind, names in CostMagics.magics.items():
            for name in names:
                shell.magics_manager.magics[kind].pop(name, None)
        InteractiveShell.clear_instance()


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what is displayed beside the result."""
    found: list[Any] = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


@pytest.mark.parametrize(
    ("line", "axes"),
    [
        ("--seq_len 128:1024:*2", {"seq_len": (128, 256, 512, 1024)}),
        ("--seq_len 128:1000:*2", {"seq_len": (128, 256, 512)}),
        ("--seq_len 1:9:4", {"seq_len": (1, 5, 9)}),
        ("--seq_len 1:10:4", {"seq_len": (1, 5, 9)}),
        ("--seq_len 3:5", {"seq_len": (3, 4, 5)}),
        ("--seq_len=1,8,64", {"seq_len": (1, 8, 64)}),
        ("--seq_len 1 8 64", {"seq_len": (1, 8, 64)}),
        ("--seq_len 1:3,8,16:64:*2", {"seq_len": (1, 2, 3, 8, 16, 32, 64)}),
        ("--seq_len '2 * 8',2**10", {"seq_len": (16, 1024)}),
        ("--seq_len 2**3:2**5:*2", {"seq_len": (8, 16, 32)}),
        ("--seq_len $lengths", {"seq_len": (5, 6)}),
        ("--seq_len $steps --batch_size=$array", {"batch_size": (1, 3), "seq_len": (2, 4, 6)}),
        ("--seq_len $n,8", {"seq_len": (7, 8)}),
        ("--seq_len 1:$n", {"seq_len": (1, 2, 3, 4, 5, 6, 7)}),
        ("--seq_len 5", {}),
        ("--w_bit 4,8 --cache_len 0,5", {"cache_len": (0, 5), "w_bit": (4, 8)}),
        ("--attn sdpa,eager --causal off on", {"attn": ("sdpa", "eager"), "causal": ("off", "on")}),
        ("--causal", {}),
        ("--hardware h100-sxm,$card", {"hardware": ("h100-sxm", CARD)}),
        ("--set num_layers=1,2 n_head=6,12", {"num_layers": (1, 2), "num_heads": (6, 12)}),
        ("--prompt_len 5:6 --output_len 3", {"prompt_len": (5, 6)}),
        ("gpt2-xl", {"model": ("gpt2", "gpt2-xl")}),
        ("--attn $kinds", {"attn": ("eager", "sdpa")}),
        ("$names", {"model": ("gpt2", "gpt2-medium", "gpt2-large")}),
    ],
)  # fmt: skip
def test_what_an_axis_may_be(shell: InteractiveShell, line: str, axes: dict[str, tuple[Any, ...]]) -> None:
    shell.user_ns |= {"lengths": [5, 6], "steps": range(2, 7, 2), "array": np.array([1, 3]), "n": 7, "card": CARD, "kinds": ["eager", "sdpa"],
                      "names": ["gpt2-medium", "gpt2-large"]}  # fmt: skip
    found = shell.run_line_magic("sweep", f"gpt2 {line}")
    assert isinstance(found, Sweep)
    assert found.axes == axes


def test_what_is_fixed_and_which_metrics(shell: InteractiveShell, tmp_path: Path) -> None:
    found = shell.run_line_magic(
        "sweep", "gpt2 --seq_len 1,2 --batch_size 3 --causal --hardware h100-sxm --set num_layers=2"
    )
    assert found.fixed == {"batch_size": 3, "causal": "on", "hardware": "h100-sxm", "num_layers": 2}
    assert found.metrics == ("flops", "bytes", "parameters", "kv_cache_bytes", "time")
    found = shell.run_line_magic("sweep", "gpt2 --metric flops,bytes --metric parameters weight_bytes --seq_len 1,2")
    assert found.metrics == ("flops", "bytes", "parameters", "weight_bytes")
    config = tmp_path / "config.json"
    config.write_text(
        '{"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 10, "n_positions": 32}'
    )
    found = shell.run_line_magic("sweep", f"gpt2 --config {config} --seq_len 1,2")
    assert found.arrays["flops"].tolist() == [
        populate("gpt2", config=str(config), seq_len=n).totals["flops"] for n in (1, 2)
    ]
    found = shell.run_line_magic(
        "sweep", "gpt2 --seq_len 1:100 --chunks 10 --compute_efficiency 0.5 --hardware h100-sxm"
    )
    assert found.is_lazy
    assert found.fixed["compute_efficiency"] == 0.5


def test_plots_from_the_line(shell: InteractiveShell, displayed: list[Any]) -> None:
    line = "llama-3.1-8b --seq_len 128:32768:*2 --batch_size 1,8,64 --hardware h100-sxm --metric time --plot"
    found = shell.run_line_magic("sweep", line)
    assert found.shape == (3, 9)
    shell.run_line_magic("sweep", f"{line} batch_size --heatmap")
    assert [type(plot) for plot in displayed] == [Plot] * 3
    assert [repr(plot).split(":")[0] for plot in displayed] == [
        "time along seq_len", "time along batch_size", "time over batch_size and seq_len",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("", InputError, "%sweep takes one or more models, before the options"),
        ("gpt3 --seq_len 1,2", UnknownNameError, "no model named 'gpt3'"),
        ("gpt2 --seq_len", InputError, "argument --seq_len: expected at least one argument"),
        ("gpt2 --seq_len 9:8", InputError, "--seq_len: 9:8 has no values, 8 is less than 9"),
        ("gpt2 --seq_len 1,,2", InputError, "--seq_len: a value is missing in '1,,2'"),
        ("gpt2 --seq_len $empty", InputError, "the axis seq_len has no values"),
        ("gpt2 --seq_len 1,1", InputError, "the axis seq_len has 1 twice"),
        ("gpt2 --seq_len 0:8:*2", InputError, "a range is a:b, a:b:step or a:b:*factor, not '0:8:*2'"),
        ("gpt2 --seq_len 1:8:*1", InputError, "a range is a:b"),
        ("gpt2 --seq_len 1:8:0", InputError, "a range is a:b"),
        ("gpt2 --seq_len 1:8:2:3", InputError, "a range is a:b"),
        ("gpt2 --seq_len a:b", InputError, "--seq_len is a whole number, not 'a'; a notebook variable is $a"),
        ("gpt2 --seq_len 1:10**13", InputError, "--seq_len: 1:10**13 has more than 10,000,000 values"),
        ("gpt2 --seq_len $nothing", UnknownNameError, "no notebook variable named '$nothing'"),
        ("gpt2 --seqlen 1,2", UnknownNameError, "no option of %sweep named '--seqlen'. Did you mean '--seq_len'"),
        ("gpt2 --set nope=1,2", UnknownNameError, "no model variable named 'nope'"),
        ("gpt2 --set num_layers", InputError, "--set takes NAME=AXIS"),
        ("gpt2 --set metrics=1,2", InputError, "--set takes NAME=AXIS"),
        ("gpt2 --set batch_size=1,2", InputError, "batch_size is not part of a model"),
        ("gpt2 --set n_layer=1 num_layers=2", InputError, "--set num_layers is given twice"),
        ("gpt2 --metric nope", UnknownNameError, "no metric named 'nope'"),
        ("gpt2 --metric time", InputError, "time needs hardware"),
        ("gpt2 --attn flash", InputError, "invalid choice: 'flash'"),
        ("gpt2 --attn", InputError, "--attn takes sdpa or eager"),
        ("gpt2 --prompt_len 5,6", InputError, "output_len is missing"),
        ("gpt2 --batch_size 1:10**6 --seq_len 1:10**6", InputError, "give chunks='auto'"),
        ("gpt2 --chunks many", InputError, "--chunks is a whole number, not 'many'"),
        ("gpt2 --batch_size 1,2 --plot seq", UnknownNameError, "no axis named 'seq'"),
        ("gpt2 --seq_len 1,2 --w_bit 4,8 --batch_size 1,2 --plot", InputError, "sel("),
    ],
)  # fmt: skip
def test_a_bad_line_is_one_line(shell: InteractiveShell, line: str, kind: type[NBAnalyzerError], message: str) -> None:
    shell.user_ns["empty"] = []
    with pytest.raises(kind) as caught:
        shell.run_line_magic("sweep", line)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert caught.value._render_traceback_() == [f"{type(caught.value).__name__}: {text}"]
