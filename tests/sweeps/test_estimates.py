"""Estimates and bounds of an engine's list in sweeps, sums and inverse questions, against single exact analyses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from nbanalyzer import Accelerator, compare, models, populate, sensitivity, solve, sweep
from nbanalyzer.analysis.closed_form import as_polynomial, expected_of
from nbanalyzer.analysis.estimate import Interval
from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.formulas.summation import total
from nbanalyzer.hardware.parameters import Fit, Spread
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.notebook.magics import CostMagics
from nbanalyzer.quantities import seconds
from nbanalyzer.sweeps.sweep import Sweep

FEW = settings(deadline=None, max_examples=12, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
LENGTHS = st.integers(1, 70) | st.integers(1, 2**16) | st.integers(0, 40).map(lambda power: 2**power)
CARD = Accelerator(
    name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "int8": 2e14, "fp32": 2e13}
)
RATIO = (0.7, 0.8, 1.0, 1.25, 1.5)


def profile(*, ratio: tuple[float, ...] = RATIO, **changes: Mapping[str, float]) -> Profile:
    """Return a profile in which every parameter of every law makes a difference."""
    parameters: dict[str, dict[str, float]] = {
        "linear": {"compute": 0.7, "bandwidth": 0.9, "launch_us": 3, "per_k_ns": 0.7, "longest_k": 3000, "per_token_ns": 0.5, "wave_us": 0.4, "throttle": 0.15, "brief_us": 9, "quantize": 1, "quantize_us": 2},
        "decode_attention": {"compute": 0.4, "bandwidth": 0.8, "launch_us": 9, "undivided": 0.1, "undivided_multi_head": 0.2, "unfilled": 0.5, "per_context_ns": 0.3, "per_first_key_ns": 7, "first_keys": 600, "wave_us": 2},
        "prefill_attention": {"compute": 0.6, "bandwidth": 0.3, "launch_us": 12, "per_context_ns": 5, "wave_us": 0.2, "wave_context_ns": 3},
        "experts": {"compute": 0.5, "bandwidth": 0.9, "activation_bandwidth": 0.3, "launch_us": 33, "per_expert_us": 0.4},
        "elementwise": {"compute": 0.5, "bandwidth": 0.75, "launch_us": 2},
    }  # fmt: skip
    classes = {kind: {"any": Fit(parameters={**own, **changes.get(kind, {})}, n=9)} for kind, own in parameters.items()}
    spread = Spread(n=12, ratio=ratio, source="a trial")  # type: ignore[arg-type]
    return Profile(
        card="any", engine="trial", source="by hand", overlap=0.3, num_sms=16, classes=classes,
        intervals={"dense": {"1": spread}, "experts": {"1": spread}},
    )  # fmt: skip


PROFILE = profile()
# Dense with and without gates, experts, windows, an encoder alone.
MODELLED = ("llama-3.1-8b", "gpt2", "qwen1.5-moe-a2.7b", "gpt-oss-20b", "bert-base-uncased")


@lru_cache(maxsize=512)
def at(model: str, run: tuple[tuple[str, Any], ...], which: str, sizes: tuple[tuple[str, int], ...] = ()) -> float:
    """Return a time of one pass, from a single exact analysis."""
    found = populate(model, set=dict(sizes), **dict(run)).on(CARD, profile=PROFILE)
    return found.estimate.value if which == "estimate" else found.lower_bound


def agrees(found: Sweep, model: str, **fixed: Any) -> None:
    for place in np.ndindex(found.shape):
        run = {name: values[index] for (name, values), index in zip(found.axes.items(), place, strict=True)}
        for metric in found.metrics:
            expected = at(model, tuple({**fixed, **run}.items()), metric)
            assert float(found.values(metric)[place]) == pytest.approx(expected, rel=1e-12, abs=0), (metric, run)


def swept(model: str, *metrics: str, **options: Any) -> Sweep:
    return sweep(model, metrics=metrics or ("estimate", "lower_bound"), hardware=CARD, profile=PROFILE, **options)


# ---- the numbers


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELLED)
def test_a_sweep_is_its_points(model: str) -> None:
    axes: dict[str, Any] = {"batch_size": [1, 40]}
    agrees(swept(model, seq_len=[3, 1, 700], **axes), model)
    if "bert" not in model:
        agrees(swept(model, cache_len=[0, 900], seq_len=1, **axes), model, seq_len=1)


@pytest.mark.slow
@FEW
@given(
    model=st.sampled_from(MODELLED), batch_size=LENGTHS, seq_len=st.lists(LENGTHS | st.just(1), min_size=1, max_size=3, unique=True),
    cache_len=LENGTHS | st.just(0), bits=st.sampled_from([(16, 16, None), (4, 16, 8), (8, 8, 8), (4, 4, None)]),
    switches=st.fixed_dictionaries({"logits": st.sampled_from(["all", None]), "fusion": st.sampled_from(["none", "engine"])}),
)  # fmt: skip
def test_a_sweep_is_its_points_whatever_the_run(
    model: str, batch_size: int, seq_len: list[int], cache_len: int, bits: tuple[int, int, int | None], switches: Any
) -> None:
    run: dict[str, Any] = {"w_bit": bits[0], "a_bit": bits[1], **({"kv_bit": bits[2]} if bits[2] else {})}
    run |= {name: choice for name, choice in switches.items() if choice}
    run |= {} if "bert" in model else {"cache_len": cache_len}
    agrees(swept(model, batch_size=[batch_size, batch_size + 1], seq_len=seq_len, **run), model, **run)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted({name.rpartition("/")[2].lower() for name in models()}))
def test_every_shipped_model(model: str) -> None:
    """What is modelled is the same at two points; what is not is refused in the same words."""
    try:
        at(model, (("seq_len", 1),), "estimate")
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(str(error))):
            swept(model, batch_size=[1, 2], seq_len=1)
        return
    agrees(swept(model, seq_len=[1, 300], batch_size=7), model, batch_size=7)


@pytest.mark.parametrize(
    ("model", "axes"),
    [
        ("llama-3.1-8b", {"num_kv_heads": [1, 8], "batch_size": [3, 17]}),
        ("gpt2", {"n_head": [6, 12], "seq_len": [5, 1]}),  # laws count its heads of keys, which no formula does
        ("qwen1.5-moe-a2.7b", {"num_experts": [8, 60], "batch_size": [1, 30]}),
    ],
)
def test_config_values_are_axes(model: str, axes: dict[str, Any]) -> None:
    found = swept(model, "estimate", **axes)
    for place in np.ndindex(found.shape):
        sizes = {name: values[index] for (name, values), index in zip(axes.items(), place, strict=True)}
        run = {name: sizes.pop(name) for name in ("batch_size", "seq_len") if name in sizes}
        expected = at(model, tuple(run.items()), "estimate", tuple(sizes.items()))
        assert found.arrays["estimate"][place] == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_one_new_token_among_others_has_kernels_of_its_own() -> None:
    """Of gpt2's 12 layers each attends once: a launch that takes 1 us, or 500 us where there is one new token."""
    fast, slow = ({"launch_us": 1, "per_context_ns": 0, "wave_us": 0, "bandwidth": 1, "compute": 1}, {"launch_us": 501})
    for lengths in ([2, 1, 3], [1, 2, 3], [2, 3, 1], [1]):
        times = []
        for decode in (fast, {**fast, **slow}):
            laws = profile(decode_attention=decode, prefill_attention=fast)
            times.append(
                sweep("gpt2", metrics="estimate", hardware=CARD, profile=laws, seq_len=lengths, batch_size=[1, 9])
            )
        difference = times[1].arrays["estimate"] - times[0].arrays["estimate"]
        expected = [[12 * 500e-6 if length == 1 else 0.0] * 2 for length in lengths]
        assert difference == pytest.approx(np.array(expected), abs=1e-12)


def test_a_latent_is_worked_on_where_one_token_is_new() -> None:
    """What the switch means, where nobody chose, depends on the pass: also among several lengths."""
    found = sweep(
        "deepseek-v2-lite",
        metrics=["bytes", "lower_bound"],
        fusion="engine",
        hardware=CARD,
        seq_len=[4, 1],
        cache_len=50,
    )
    for place, length in enumerate((4, 1)):
        one = populate("deepseek-v2-lite", seq_len=length, cache_len=50, fusion="engine")
        assert one.run.mla == ("absorbed" if length == 1 else "expanded")
        assert found.arrays["bytes"][place] == pytest.approx(one.totals["bytes"], rel=1e-12)
        assert found.arrays["lower_bound"][place] == pytest.approx(one.on(CARD).lower_bound, rel=1e-12)


def test_lazy_is_eager() -> None:
    options: dict[str, Any] = {"seq_len": [7, 1, 2], "batch_size": [1, 2, 3]}
    lazy, eager = swept("gpt2", **options, chunks=2), swept("gpt2", **options)
    for metric in eager.metrics:
        assert np.array_equal(lazy.values(metric), eager.values(metric))
    assert lazy.best(minimize="estimate") == eager.best(minimize="estimate")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt2", "t5-small", "qwen1.5-moe-a2.7b"])
def test_a_request_is_the_sum_of_its_passes(model: str) -> None:
    has_encoder = model.startswith("t5")
    lengths: dict[str, Any] = {"prompt_len": [1, 6], "output_len": [1, 4], "batch_size": 3}
    bound = sweep(model, metrics="lower_bound", hardware=CARD, **lengths)
    found = bound if has_encoder else swept(model, **lengths)  # its attention is not modelled
    for place, (prompt, output) in zip(np.ndindex(2, 2), ((1, 1), (1, 4), (6, 1), (6, 4)), strict=True):
        common = {"batch_size": 3, "logits": "last", **({"encoder_len": prompt} if has_encoder else {})}
        start = 1 if has_encoder else prompt
        passes = [{"seq_len": start}] + [{"seq_len": 1, "cache_len": start + step} for step in range(output - 1)]
        for metric in found.metrics:
            each = [at(model, tuple({**common, **one}.items()), metric) for one in passes]
            assert found.arrays[metric][place] == pytest.approx(sum(each), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen1.5-moe-a2.7b"])
def test_the_steps_of_a_request_have_a_closed_sum(model: str) -> None:
    step = populate(model, seq_len=1, cache_len=5, batch_size=2).on(CARD, profile=PROFILE)
    formula = as_polynomial(expected_of(step.engine.symbolic("cache_len"), step.engine_pace))
    steps = [
        at(model, (("batch_size", 2), ("seq_len", 1), ("cache_len", length)), "estimate") for length in range(3, 40)
    ]
    assert float(total(formula, "cache_len", 3, 40).evaluate({})) == pytest.approx(sum(steps), rel=1e-12)


@pytest.mark.parametrize("ratio", [RATIO, (1.1, 1.2, 1.3, 1.4, 1.5), (0.001, 0.002, 0.003, 0.004, 0.005)])
def test_it_is_what_stands_beside_an_interval(ratio: tuple[float, ...]) -> None:
    """Also where measurements lie above all estimates, or below their bound."""
    laws = profile(ratio=ratio)
    found = sweep("gpt2", metrics=["estimate", "lower_bound"], hardware=CARD, profile=laws, batch_size=[1, 300])
    for place, batch in enumerate((1, 300)):
        interval = populate("gpt2", batch_size=batch).on(CARD, profile=laws).estimate
        assert isinstance(interval, Interval)
        assert found.arrays["estimate"][place] == pytest.approx(interval.value, rel=1e-12)
    assert (found.arrays["estimate"] >= found.arrays["lower_bound"]).all()


# ---- what is shown, and what cannot be


def test_the_interval_stands_beside_the_numbers() -> None:
    found = swept("gpt2", seq_len=[1, 5])
    assert found.notes == ("estimates by trial: 80 % of 12 measured times are 0.8 to 1.25 of theirs (a trial)",)
    assert found.notes[0] in repr(found)
    assert "profile trial" in repr(found)
    assert "lower bound" not in found.plot("estimate").figure.get_suptitle()


def test_without_an_interval_there_is_no_estimate() -> None:
    with pytest.raises(InputError, match=r"^not modelled: no estimate of dense models by typical was compared"):
        sweep("gpt2", metrics="estimate", hardware=CARD, seq_len=[1, 2], profile=bare())
    assert sweep("gpt2", metrics="lower_bound", hardware=CARD, seq_len=[1, 2]).notes == ()


def bare() -> Profile:
    own = profile()
    return Profile(card="any", engine="typical", source="by hand", overlap=0.3, num_sms=16, classes=own.classes)


@pytest.mark.parametrize(("model", "why"), [("deepseek-v3", "latent attention"), ("mamba-2.8b", "state-space")])
def test_what_is_not_modelled_is_refused_in_one_line(model: str, why: str) -> None:
    with pytest.raises(InputError, match=rf"^not modelled: .*{why}"):
        swept(model, batch_size=[1, 2], seq_len=1)
    with pytest.raises(InputError, match=rf"^not modelled: .*{why}"):
        swept(model, batch_size=[1, 2], seq_len=1, chunks=1)


def test_the_line_takes_a_profile(shell: InteractiveShell, tmp_path: Path) -> None:
    import msgspec

    path = tmp_path / "own.json"
    path.write_bytes(msgspec.json.encode(PROFILE))
    found = CostMagics(shell).sweep(f"gpt2 --hardware h100-sxm --seq_len 1 2 --profile {path}")
    assert found.metrics[-2:] == ("time", "estimate")
    one = populate("gpt2", seq_len=2).on("h100-sxm", profile=path)
    assert found.arrays["estimate"][1] == pytest.approx(one.estimate.value, rel=1e-12)


# ---- inverse questions, elasticities, comparisons


@pytest.mark.parametrize(
    ("name", "limit", "run"),
    [
        ("batch_size", {"estimate": 0.05}, {"seq_len": 1, "cache_len": 500}),
        ("batch_size", {"estimate": 0.05, "lower_bound": 0.025}, {"seq_len": 1, "cache_len": 500}),
        ("seq_len", {"estimate": 0.2}, {"cache_len": 100}),
        ("cache_len", {"time": 0.02}, {"seq_len": 1, "batch_size": 2}),
    ],
)
def test_the_largest_is_in_time_and_the_next_is_not(name: Any, limit: dict[str, float], run: dict[str, Any]) -> None:
    profile = PROFILE if "estimate" in limit else None
    found = solve("llama-3.1-8b", CARD, maximize=name, below=limit, profile=profile, w_bit=8, **run)
    assert found.value is not None
    assert found.value > 2

    def holds(value: int) -> bool:
        one = populate("llama-3.1-8b", w_bit=8, **{**run, name: value}).on(CARD, profile=PROFILE)
        times = {"time": one.time, "lower_bound": one.lower_bound, "estimate": one.estimate.value}
        return bool(one.fit) and all(times[metric] <= most for metric, most in limit.items())

    assert holds(found.value)
    assert not holds(found.value + 1)
    assert "with " in found.question


def test_one_new_token_is_asked_by_itself() -> None:
    """Prefill is made slow: one token is in time where two are not."""
    slow = profile(prefill_attention={"launch_us": 1000})
    one, two = (populate("gpt2", seq_len=length).on(CARD, profile=slow).estimate.value for length in (1, 2))
    assert one < two / 2
    assert solve("gpt2", CARD, maximize="seq_len", below={"estimate": two / 2}, profile=slow).value == 1
    assert (solve("gpt2", CARD, maximize="seq_len", below={"estimate": 1.001 * two}, profile=slow).value or 0) >= 2
    none = solve("gpt2", CARD, maximize="seq_len", below={"estimate": one / 2}, profile=slow)
    assert none.value is None
    assert none.reason.startswith("takes longer even at seq_len = 1: estimate ")


def test_memory_may_be_what_limits() -> None:
    run: dict[str, Any] = {"maximize": "batch_size", "seq_len": 1, "cache_len": 4096}
    fits = solve("llama-3.2-1b", CARD, **run)
    within = solve("llama-3.2-1b", CARD, below={"lower_bound": 1e6}, **run)
    assert within.value == fits.value
    assert within.formula == fits.formula
    assert solve("llama-3.1-70b", CARD, below={"lower_bound": 1e6}, **run).reason.startswith("does not fit even at")


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"below": {"estimate": 1}, "balance": "batch_size", "maximize": None}, InputError, "it goes with maximize"),
        ({"below": {}}, InputError, "below says what times may be at most"),
        ({"below": 0.02}, InputError, "not 0.02"),
        ({"below": {"cost_per_million_tokens": 1}}, UnknownNameError, "no time named 'cost_per_million_tokens'"),
        ({"below": {"bytes": 1}}, UnknownNameError, "no time named 'bytes'"),
        ({"below": {"estimate": 0}}, InputError, "estimate is at most a positive number of seconds, not 0"),
        ({"below": {"time": float("nan")}}, InputError, "not nan"),
        ({"below": {"time": 1}, "profile": "vllm"}, InputError, "a profile changes nothing but estimates"),
    ],
)
def test_limits_that_cannot_be(options: dict[str, Any], kind: type[NBAnalyzerError], said: str) -> None:
    with pytest.raises(kind) as caught:
        solve("gpt2", CARD, **{"maximize": "batch_size", **options})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["time", "lower_bound", "estimate"])
@pytest.mark.parametrize(
    "point", [{"batch_size": 64, "seq_len": 1, "cache_len": 2048}, {"batch_size": 2, "seq_len": 500}]
)
def test_elasticities_are_slopes(metric: str, point: dict[str, int]) -> None:
    # Without rounds of multiprocessors: they are steps, which a derivative passes over.
    # Nor just where the first round of a product's tiles is full: it has two slopes there.
    none = {"wave_us": 0.0}
    laws = profile(
        linear=none,
        decode_attention=none | {"unfilled": 0.0},
        prefill_attention=none | {"wave_context_ns": 0.0},
    )
    given_to = laws if metric == "estimate" else None
    found = sensitivity("llama-3.1-8b", metric, point, hardware=CARD, profile=given_to).elasticities

    def value(**run: int) -> float:
        changed: dict[str, Any] = {**point, **run}
        one = populate("llama-3.1-8b", **changed).on(CARD, profile=laws)
        return {"time": one.time, "lower_bound": one.lower_bound, "estimate": one.estimate.value}[metric]

    for name in ("batch_size", "cache_len") if "cache_len" in point else ("seq_len",):
        less, more = (value(**{name: point[name] + step}) for step in (-1, 1))
        slope = (more - less) / 2 * point[name] / value()
        assert found[name] == pytest.approx(slope, rel=1e-4), name


def test_elasticities_of_times_need_hardware() -> None:
    for metric, options, said in (
        ("estimate", {}, "estimate needs hardware"),
        ("bytes", {"hardware": CARD}, "hardware changes nothing of bytes"),
        ("time", {"hardware": CARD, "profile": PROFILE}, "profile changes nothing of time"),
    ):
        with pytest.raises(InputError, match=said):
            sensitivity("gpt2", metric, **options)
    with pytest.raises(UnknownNameError, match="no metric named 'energy_per_token'"):  # which is no time
        sensitivity("gpt2", "energy_per_token", hardware=CARD)


def test_the_line_of_a_comparison_takes_a_profile(shell: InteractiveShell) -> None:
    shell.user_ns |= {"mine": PROFILE}
    line = "gpt2 mamba-2.8b --seq_len 1 --cache_len 9 --hardware h100-sxm --plot none"
    for name, by in (("vllm", "vllm"), ("$mine", PROFILE)):
        found = CostMagics(shell).compare(f"{line} --profile {name}")
        one = populate("gpt2", seq_len=1, cache_len=9).on("h100-sxm", profile=by)
        rows = found.table()["gpt2"]
        assert rows["estimate"] == one.estimate.value
        assert rows["lower_bound"] == one.lower_bound
        assert rows["fits"] == 1
        assert f"{seconds(one.estimate.low)} … {seconds(one.estimate.high)}" in repr(found)
    with pytest.raises(InputError, match="a profile needs hardware"):
        CostMagics(shell).compare("gpt2 gpt2-xl --profile vllm")
    with pytest.raises(NBAnalyzerError, match="nobody"):
        CostMagics(shell).compare(f"{line} --profile nobody")


def test_variants_stand_beside_each_other_with_estimate_and_bound() -> None:
    found = compare("gpt2", seq_len=[1, 64], hardware=CARD, profile=PROFILE)
    rows = found.table()
    for variant in found.variants:
        assert variant.roofline is not None
        assert rows.loc["lower_bound", variant.label] == variant.roofline.lower_bound
        assert rows.loc["estimate", variant.label] == variant.roofline.estimate.value
        estimate = variant.roofline.estimate
        assert f"{seconds(estimate.value)}" in repr(found)
        assert f"{seconds(estimate.low)} … {seconds(estimate.high)}" in repr(found)
    mixed = compare("gpt2", "mamba-2.8b", seq_len=1, hardware=CARD, profile=PROFILE)
    assert [np.isnan(one.metric("estimate") or 0) for one in mixed.variants] == [False, True]
    (row,) = (line for line in repr(mixed).splitlines() if line.startswith("estimate "))
    assert row.endswith("not modelled")
    assert f"\nestimates by {PROFILE.name}\n" in repr(mixed)
    assert [line for line in repr(mixed).splitlines() if "warning" in line] == [
        "warning: mamba-2.8b-hf: not modelled: state-space and linear attention, of which no measured kernels are at hand"
    ]
    with pytest.raises(InputError, match="a profile needs hardware"):
        compare("gpt2", seq_len=[1, 2], profile=PROFILE)
