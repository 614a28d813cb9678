"""The search for meshes: every number against the pass of that mesh, and the best against all others."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nbanalyzer import Accelerator, accelerator, fit, populate
from nbanalyzer.analysis.meshes import Division, Mesh, divisions, nodes_of
from nbanalyzer.errors import NBAnalyzerError


def engine(model: str, **run: Any) -> Any:
    return populate(model, fusion="engine", **run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "mesh"),
    [
        ("llama-3.1-8b", Mesh(tp=2)),
        ("gpt2", Mesh()),  # whose head is its embedding
        ("mixtral-8x7b-v0.1", Mesh(tp=2, ep=4, dp=2)),
        ("deepseek-v3", Mesh(tp=4)),  # whose first layers have no experts
        ("gemma-3-27b-it", Mesh(tp=4)),  # whose layers alternate
        ("qwen3-next-80b-a3b-instruct", Mesh(tp=2)),
    ],
)
@pytest.mark.parametrize("pp", [1, 3, 4])
def test_what_the_fullest_stage_keeps(model: str, mesh: Mesh, pp: int) -> None:
    sizes = {name: size for name, size in mesh._asdict().items() if size > 1}
    prefill = engine(model, seq_len=100, **sizes)
    step = engine(model, seq_len=1, cache_len=200, **sizes)
    found = Division(mesh, prefill, step).memory(pp)
    activations = max(costs.memory.activations for costs in (prefill, step))
    replica = mesh.devices
    stages = [
        engine(model, seq_len=1, cache_len=200, rank=stage * replica, **{**sizes, "pp": pp}) for stage in range(pp)
    ]
    assert found == max(one.memory.weights + one.memory.state for one in stages) + activations


@pytest.mark.slow
def test_the_times_are_those_of_the_mesh() -> None:
    """Of a pipeline: those of all its stages, but for the add that a stage ends with, which joins no norm."""
    run = {"batch_size": 4, "seq_len": 1, "cache_len": 1024 + 256 - 2}
    for placement in fit("llama-3.1-70b", hardware="h100-sxm", batch_size=4, max_devices=16).placements[:6]:
        mesh = {name: size for name, size in placement.mesh._asdict().items() if size > 1}
        stages = [engine("llama-3.1-70b", **run, **mesh, rank=stage * placement.tp) for stage in range(placement.pp)]
        times = [one.on("h100-sxm", nodes=placement.nodes).lower_bound for one in stages]
        assert placement.time_per_output_token == pytest.approx(math.fsum(times), rel=1e-3)


def test_the_least_devices_are_the_least_that_fit() -> None:
    """Llama-3.1-70B in 16 bits is 141 GB: two H100 of 86 GB, of which 90 % may be used, and no one alone."""
    found = fit("llama-3.1-70b", hardware="h100-sxm")
    assert found.best.devices == 2
    assert found.best.memory_bytes <= 0.9 * (accelerator("h100-sxm").memory_bytes or 0)
    assert all(one.devices >= 2 for one in found.placements)
    assert fit("llama-3.1-70b", hardware="h200-sxm", memory_fraction=1).best.devices in {1, 2}
    quarter = fit("llama-3.1-70b", hardware="h100-sxm", w_bit=4)
    assert quarter.best.devices == 1


def test_the_goals() -> None:
    options: dict[str, Any] = {
        "hardware": ["h100-sxm", "a100-sxm-80gb"],
        "max_devices": 8,
        "price": {"h100-sxm": 3, "a100-sxm-80gb": 1},
    }
    cheap = fit("llama-3.1-8b", minimize="cost", **options)
    quick = fit("llama-3.1-8b", minimize="time_per_output_token", **options)
    assert {cheap.best.hardware, quick.best.hardware} == {"a100-sxm-80gb", "h100-sxm"}
    assert (cheap.best.devices, quick.best.devices) == (1, 8)
    for search, name in ((cheap, "cost_per_million_tokens"), (quick, "time_per_output_token")):
        values = [getattr(one, name) for one in search.placements]
        assert values == sorted(values)
    one = cheap.best
    assert one.cost_per_million_tokens == pytest.approx(1e6 * one.time_per_output_token / 3600 * 1 * one.devices)


@pytest.mark.slow
def test_the_frontier_is_what_no_other_beats() -> None:
    found = fit("mixtral-8x7b-v0.1", hardware="a100-sxm-80gb", max_devices=16)
    for one in found.placements:
        beaten = any(
            other.devices <= one.devices and other.time_per_output_token < one.time_per_output_token
            for other in found.placements
        )
        assert beaten != (one in found.frontier) or one.time_per_output_token in {
            two.time_per_output_token for two in found.frontier
        }


def test_conditions() -> None:
    asked = fit("llama-3.1-8b", hardware="h100-sxm", where=["{tp} <= 2", "{tokens_per_s} >= 200"], max_devices=8)
    everything = fit("llama-3.1-8b", hardware="h100-sxm", max_devices=8).placements
    assert list(asked.placements) == [one for one in everything if one.tp <= 2 and one.tokens_per_s >= 200]
    none = fit("llama-3.1-8b", hardware="h100-sxm", where="{tokens_per_s} >= 1000000")
    assert not none.placements
    with pytest.raises(NBAnalyzerError, match="none fulfils the conditions"):
        _ = none.best


def test_meshes_that_are_looked_at() -> None:
    """Of 6 heads and 4 experts on at most 8 devices."""
    params = {"num_heads": 6, "num_experts": 4}
    found = set(divisions(params, has_experts=True, most=8))
    assert found == {
        Mesh(1), Mesh(2), Mesh(3), Mesh(6),
        Mesh(1, 2, dp=2), Mesh(1, 4, dp=4), Mesh(2, 2, dp=1), Mesh(2, 4, dp=2),
    }  # fmt: skip
    assert [nodes_of(devices, 8) for devices in (1, 8, 9, 12, 16, 17)] == [1, 1, None, 2, 2, None]


def test_a_card_without_links_has_places_alone_only() -> None:
    card = Accelerator(name="alone", bandwidth=1e12, peaks={"bf16": 1e14}, memory_bytes=20 * 10**9)
    found = fit("llama-3.1-8b", hardware=card)
    assert [one.devices for one in found.placements] == [1]
    small = Accelerator(name="small", bandwidth=1e12, peaks={"bf16": 1e14}, memory_bytes=10**9)
    assert "a rank needs at least" in fit("llama-3.1-70b", hardware=small).without["small"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimize": "power"}, "no goal named 'power'"),
        ({"minimize": "cost"}, "a cost needs a price"),
        ({"where": "{tpp} <= 8"}, "no field of a placement named 'tpp'. Did you mean"),
        ({"where": "{tp} <="}, "in where: "),
        ({"where": [8]}, "a condition is a formula"),
        ({"where": 8}, "a condition is a formula"),
        ({"where": "{cost_per_million_tokens} <= 8"}, "a cost needs a price"),
        ({"max_devices": 0}, "max_devices is a whole number from 1 to 1,024, not 0"),
        ({"memory_fraction": 2}, "memory_fraction is a share above 0 and at most 1, not 2"),
        ({"batch_size": 0}, "batch_size is a whole number from 1"),
        ({"tp": 2}, "fit looks for the mesh and sets the passes: it takes no tp"),
        ({"hardware": "h1000"}, "no accelerator named 'h1000'"),
        ({"price": -1}, "price is a number of $ an hour"),
    ],
)
def test_bad_input_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NBAnalyzerError) as caught:
        fit("llama-3.1-8b", **{"hardware": "h100-sxm", **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_shows_the_best_first() -> None:
    found = fit("llama-3.1-8b", hardware="h100-sxm", max_devices=4)
    text = repr(found)
    assert text.startswith("fits on one device of h100-sxm: at least ")
    assert "estimate per token" in text
    assert list(found.table()["devices"]) == [one.devices for one in found.placements]


def test_where_nothing_fits_it_says_why_and_shows_no_table() -> None:
    found = fit("llama-3.1-405b", hardware="rtx-4090", max_devices=1)
    lines = repr(found).splitlines()
    assert lines[0].endswith(": no mesh fits")
    assert lines[-1].startswith("  no place on 1: rtx-4090: a rank needs at least 8")  # 810 GB of weights
    assert len(lines) == 3
