"""Times at the roofline as formulas: by hand, and equal to the times that are shown, of every model."""

from __future__ import annotations

import math

import pytest
from builders import basic, composite, error_of, every_model, template

from nbanalyzer import Accelerator, Analysis, expand, populate
from nbanalyzer.analysis.roofline import Roofline
from nbanalyzer.errors import InputError, NotModelledError

CARD = Accelerator(name="card", memory_bytes=10**9, bandwidth=100.0, peaks={"bf16": 1000.0, "fp32": 50.0})


def analysis_of_two() -> Analysis:
    first = basic("1000 * {batch_size}", "10 * {batch_size}", "0", "matmul", "product")
    second = basic("5", "200", "100", name="sum")
    made = template(composite("a", composite("big", first, repeat="3")), composite("b", second))
    return populate(expand(made), batch_size=2)


def two_products() -> Roofline:
    return analysis_of_two().on(CARD)


def test_a_launch_takes_the_longest_of_its_times() -> None:
    found = two_products()
    # 3 * max(2000 / 1000, 20 / 100) = 6 s; max(5 / 50, 300 / 100) = 3 s
    assert found.formula_text().evaluate(found.values) == 9
    assert float(found.formula().subs(found.values)) == 9
    assert float(found.formula("time", "b").subs(found.values)) == 3
    assert {"bf16_peak", "bandwidth", "vector_peak"} <= {str(one) for one in found.formula().free_symbols}
    assert found.formula("flops") == found.analysis.formula("flops")


def test_the_time_is_explained_module_by_module() -> None:
    total, first, second = two_products().explain("time").derivations
    assert (total.number, first.number, second.number) == (9, 6, 3)
    assert first.what.startswith("a.big × 3, compute-bound (")
    assert first.what.endswith(": 67 %")
    assert second.what.startswith("b, memory-bound (")
    assert second.what.endswith(": 33 %")
    assert first.in_model == "3 * (1000 * {batch_size} / {bf16_peak})"
    assert second.in_model == "(200 + 100) / {bandwidth}"
    assert "= 9.000 s" in repr(two_products().explain("time"))
    assert repr(two_products().explain("flops")) == repr(two_products().analysis.explain("flops"))


def test_efficiency_and_overhead_are_part_of_it() -> None:
    found = analysis_of_two().on(CARD, compute_efficiency=0.5, launch_overhead=1.0)
    # 3 * (2000 / 500 + 1) + (300 / 100 + 1)
    assert found.formula_text().evaluate(found.values) == 19 == found.time


def test_what_has_no_formula_says_so_in_one_line() -> None:
    analysis = populate("gpt2", seq_len=4)
    assert ".on('h100-sxm').formula('time')" in error_of(lambda: analysis.formula("time"), InputError)
    assert ".on('h100-sxm').explain('estimate')" in error_of(lambda: analysis.explain("estimate"), InputError)
    assert "explain(path)" in error_of(lambda: analysis.on("h100-sxm").formula("estimate"), InputError)
    several = populate("llama-3.1-8b", seq_len=4, tp=2).on("h100-sxm")
    assert "2 devices" in error_of(lambda: several.formula("time"), NotModelledError)
    assert "2 devices" in error_of(lambda: several.explain("time"), NotModelledError)


def agrees(found: Roofline) -> None:
    for what, time in (("time", found.time), ("lower_bound", found.lower_bound)):
        if math.isnan(time):  # nobody knows what an engine launches
            assert what == "lower_bound"
            assert "not modelled: what an engine launches" in error_of(lambda: found.explain("lower_bound"))
            return
        if what == "time":
            assert float(found.formula_text().evaluate(found.values)) == pytest.approx(time, rel=1e-12)
        explained = found.explain(what).derivations
        assert float(explained[0].number) == pytest.approx(time, rel=1e-12)
        assert sum(float(one.number) for one in explained[1:]) == pytest.approx(time, rel=1e-12)


@pytest.mark.parametrize("name", ["gpt2", "deepseek-v3", "jamba-v0.1"])
def test_the_formula_is_the_time(name: str) -> None:
    agrees(populate(name, seq_len=3, cache_len=5, w_bit=4).on("a100-sxm-80gb", launch_overhead=3e-6))


def test_drafts_have_logits_too() -> None:
    found = populate("deepseek-v3", seq_len=1, cache_len=100, mtp=1, fusion="engine")
    assert found.formula_text("flops").evaluate(found.values) == found.totals["flops"]
    agrees(found.on("h200-sxm"))


@pytest.mark.slow
@pytest.mark.parametrize("name", every_model())
def test_the_formula_is_the_time_of_every_model(name: str) -> None:
    agrees(populate(name, seq_len=7).on("h100-sxm"))


def test_of_several_devices_there_is_no_formula() -> None:
    made = template(composite("a", basic("{batch_size}")))
    for devices in (2, 3):
        roofline = populate(expand(made), batch_size=6, dp=devices).on(CARD)
        for asked in (roofline.formula_text, lambda roofline=roofline: roofline.explain("time")):
            message = error_of(asked, NotModelledError)
            assert message.startswith(f"not modelled: a formula of the time on {devices} devices")
