"""The roofline, against times worked out here: by hand, and kernel by kernel."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from builders import basic, composite, template
from matplotlib.text import Text

from nbanalyzer import Accelerator, Roofline, populate, request
from nbanalyzer.analysis.rates import Efficiency
from nbanalyzer.costs.names import called
from nbanalyzer.errors import InputError, UnknownNameError
from nbanalyzer.quantities import rate, seconds, si
from nbanalyzer.report.analysis import as_csv, as_fragment, as_html, as_json, as_md, as_text
from nbanalyzer.templates.template import Basic

# 100 FLOP/B at 16 bits, 20 at fp32.
CARD = Accelerator(name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})


def kernel(name: str, unit: str, flops: str, read: str, write: str = "0", **fields: Any) -> dict[str, Any]:
    return basic(flops, read, write, unit, name, **fields)


def own(*kernels: dict[str, Any], repeat: str = "1", **run: Any) -> Any:
    return populate(template(composite("part", *kernels, repeat=repeat)), **run)


# ---- one kernel


@pytest.mark.parametrize(
    ("unit", "flops", "read", "write", "time", "bound"),
    [
        ("matmul", "6 * 10**13", "3 * {a_bytes}", "0", 0.6, "compute"),
        ("vector", "6 * 10**12", "10**9", "0", 0.3, "compute"),
        ("matmul", "6 * 10**12", "10**11 * {a_bytes}", "5 * 10**11", 0.7, "memory"),  # 60 ms of products meanwhile
        ("matmul", "0", "10**12", "0", 1.0, "memory"),
        ("vector", "2 * 10**12", "10**11", "0", 0.1, "memory"),  # on the ridge: what is no longer waits for memory
    ],
)
def test_a_kernel_takes_the_longest_of_its_times(
    unit: str, flops: str, read: str, write: str, time: float, bound: str
) -> None:
    found = own(kernel("work", unit, flops, read, write)).on(CARD)
    assert found.time == pytest.approx(time, rel=1e-12)
    assert found.bound == bound


def test_a_pass_is_the_sum_of_its_kernels_and_repeats() -> None:
    found = own(
        kernel("one", "matmul", "10**13", "10**9"),  # 100 ms against 1
        kernel("two", "vector", "10**12", "2 * 10**11"),  # 50 ms against 200
        kernel("three", "matmul", "10**12", "10**9"),  # 10 ms against 1
        repeat="3",
    ).on(CARD)
    assert found.time == pytest.approx(3 * (0.1 + 0.2 + 0.01), rel=1e-12)
    assert found.total.compute == pytest.approx(3 * 0.11, rel=1e-12)
    assert found.total.memory == pytest.approx(3 * 0.2, rel=1e-12)
    assert found.bound == "memory"
    assert [found.timings[node].time for node in found.analysis.nodes[1:]] == pytest.approx([0.3, 0.6, 0.03])


@pytest.mark.parametrize(
    ("name", "fused", "each", "launches"),
    [("bias add", True, 0.1, 1), ("bias add", False, 0.04 + 0.1, 2), ("bias add (fused)", False, 0.04 + 0.1, 2)],
)
def test_fused_kernels_are_one_launch(name: str, fused: bool, each: float, launches: int) -> None:
    """What decides is the field: a name is only a name."""
    more = kernel(name, "vector", "2 * 10**12", "5 * 10**9", fused=fused)
    parts = (kernel("matmul", "matmul", "4 * 10**12", "10**9"), more)
    analysis = own(*parts, repeat="3")
    assert analysis.on(CARD).time == pytest.approx(3 * each, rel=1e-12)
    late = analysis.on(CARD, launch_overhead=0.01)
    assert late.time == pytest.approx(3 * (each + 0.01 * launches), rel=1e-12)
    assert late.total.overhead == pytest.approx(0.03 * launches, rel=1e-12)


def test_a_kernel_of_several_steps_is_started_as_often() -> None:
    analysis = own(kernel("gelu_new", "vector", "0", "10**9", steps=8), kernel("nothing", "vector", "0", "0", steps=3))
    assert analysis.on(CARD, launch_overhead=0.25).total.overhead == 2.0  # what does no work is not started
    named = own(kernel("gelu_new (8 steps)", "vector", "0", "10**9"))
    assert named.on(CARD, launch_overhead=0.25).total.overhead == 0.25


# ---- real models


def test_decode_of_llama_takes_as_long_as_its_weights_and_cache_take_to_be_read() -> None:
    cached = 8192
    found = populate("llama-3.1-8b", seq_len=1, cache_len=cached).on(CARD)
    # Every weight but the table of embeddings, of which one row is read; K and V of 8 heads of 128 in 32 layers.
    weights = (8_030_261_248 - 128_256 * 4096) * 2
    cache = cached * 2 * 8 * 128 * 32 * 2
    assert found.time == pytest.approx((weights + cache) / 1e12, rel=0.01)
    assert found.bound == "memory"
    assert found.tokens_per_second == pytest.approx(1 / found.time)
    several = populate("llama-3.1-8b", seq_len=3, batch_size=4).on(CARD)
    assert several.tokens_per_second == pytest.approx(3 * 4 / several.time)


def test_the_batch_at_which_a_projection_turns_compute_bound() -> None:
    """It does where 2 B n² / 1e14 exceeds 2 (n² + 2 B n) / 1e12, n = 4096: from B = 100 n / (n - 200) = 105.1 on."""

    def bound(batch_size: int) -> str:
        found = populate("llama-3.1-8b", seq_len=1, cache_len=64, batch_size=batch_size).on(CARD)
        return found.timings[found.analysis.find("q_proj")].bound

    assert (bound(105), bound(106)) == ("memory", "compute")


def test_a_prefill_computes_in_the_projections_and_waits_in_the_norms() -> None:
    found = populate("llama-3.1-8b", seq_len=2048).on(CARD)
    bound = {node.path.rpartition(".")[2]: found.timings[node].bound for node in found.analysis.nodes}
    assert {bound[name] for name in ("q_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "lm_head")} == {"compute"}
    assert {bound[name] for name in ("input_layernorm", "post_attention_layernorm", "norm", "mlp_add")} == {"memory"}
    assert found.bound == "compute"


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("gpt2", {"seq_len": 512, "attn": "eager"}),
        ("deepseek-v3", {"seq_len": 1, "cache_len": 500, "mla": "absorbed", "batch_size": 4}),
        ("mamba-2.8b-hf", {"seq_len": 33}),
        ("t5-small", {"seq_len": 7, "cache_len": 3, "encoder_len": 90}),
        ("gpt-oss-20b", {"seq_len": 300, "w_bit": 4}),
    ],
)
def test_the_time_is_the_sum_over_what_runs(name: str, run: dict[str, Any]) -> None:
    found = populate(name, **run).on(CARD, launch_overhead=1e-6)
    launches: list[list[Any]] = []
    for node in found.analysis.nodes:
        if node.is_basic:
            if isinstance(node.kernel, Basic) and node.kernel.fused:
                launches[-1].append(node)
            else:
                launches.append([node])
    time = 0.0
    for nodes in launches:
        costs = [found.analysis.cost(node) for node in nodes]
        units = [sum(float(getattr(cost, f"{unit}_flops")) for cost in costs) for unit in ("matmul", "vector")]
        moved = sum(float(cost.read_bytes + cost.write_bytes) for cost in costs)
        if any(units) or moved:
            steps = {"gelu_new": 8}.get(nodes[0].kernel.name, 1)
            time += max(units[0] / 1e14, units[1] / 2e13, moved / 1e12) + 1e-6 * float(costs[0].count) * steps
    assert found.time == pytest.approx(time, rel=1e-9)
    table = found.table()
    assert table[table["kernel_type"] == "basic"]["time"].sum() == pytest.approx(time, rel=1e-9)
    assert found.table(depth=1)["share"].sum() == pytest.approx(1, rel=1e-9)
    assert table.attrs["units"]["time"] == "s"


# ---- precision

NAMED = [
    # card, bits of weights, activations and cache; the precisions of projections and of attention
    ("h100-sxm", (16, 16, 16), "bf16", "bf16"),
    ("h100-sxm", (4, 16, 16), "bf16", "bf16"),  # w4a16: widened before it is multiplied
    ("h100-sxm", (8, 16, 16), "bf16", "bf16"),
    ("h100-sxm", (8, 8, 8), "fp8", "fp8"),
    ("h100-sxm", (8, 8, 16), "fp8", "bf16"),
    ("h100-sxm", (4, 8, 8), "fp8", "fp8"),
    ("h100-sxm", (4, 4, 4), "fp8", "fp8"),  # Hopper has no fp4
    ("h100-sxm", (32, 16, 16), "fp32", "bf16"),
    ("h100-sxm", (32, 32, 32), "fp32", "fp32"),
    ("a100-sxm-80gb", (8, 8, 8), "int8", "int8"),
    ("a100-sxm-80gb", (4, 16, 16), "bf16", "bf16"),
    ("v100-sxm2-32gb", (8, 8, 8), "fp16", "fp16"),  # neither fp8 nor int8 nor bf16
    ("b200-sxm", (4, 4, 4), "fp4", "fp4"),
]


@pytest.mark.parametrize(("card", "bits", "projection", "attention"), NAMED)
def test_a_product_runs_at_the_precision_of_its_widest_operand(
    card: str, bits: tuple[int, int, int], projection: str, attention: str
) -> None:
    w_bit, a_bit, kv_bit = bits
    found = populate("llama-3.1-8b", seq_len=4096, cache_len=4096, w_bit=w_bit, a_bit=a_bit, kv_bit=kv_bit).on(card)
    for path, precision in (("q_proj", projection), ("self_attn.attention", attention)):
        node = found.analysis.find(path)
        cost = found.analysis.cost(node)
        peak = found.accelerator.peaks[precision]
        vector = float(cost.vector_flops) / found.accelerator.peaks["fp32"]
        expected = max(float(cost.matmul_flops) / peak, vector, float(cost.bytes) / found.accelerator.bandwidth)
        assert found.timings[node].time == pytest.approx(expected, rel=1e-9)
    assert set(found.precisions) == {projection, attention}


# ---- what is not known


def test_an_unknown_peak_leaves_the_time_of_the_memory_and_is_said() -> None:
    card = Accelerator(name="half-known", memory_bytes=10**13, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 1e13})
    eight: dict[str, Any] = {"a_bit": 8, "w_bit": 8, "kv_bit": 8}
    work = kernel("work", "matmul", "10**15", "10**12 * {a_bytes}")  # 10 s at 1e14, were it 16 bits
    assert own(work).on(card).time == pytest.approx(10.0)
    found = own(work, **eight).on(card)
    assert found.time == pytest.approx(1.0)
    assert found.precisions == ()
    assert found.marks == ("compute unknown",)
    (note,) = found.notes
    assert note == "compute unknown: half-known's 8-bit peak is not known: products take no time here, bytes do"
    texts = (
        repr(found),
        as_md(found.analysis, found),
        as_fragment(found.analysis, found),
        repr(found.plot()),
    )
    for text in texts:
        assert "compute unknown" in text
    assert "time            1.000 s, all memory-bound, compute unknown" in repr(found)
    assert json.loads(as_json(found.analysis, found))["roofline"]["notes"] == [note]
    with pytest.raises(
        InputError, match=r"the fp8 or int8 peak of 'half-known' is not known \(known peaks: bf16, fp32\)"
    ):
        card.precision_for(8)


def test_only_what_products_need_is_missed() -> None:
    """Narrow weights beside wide activations run at the wide peak; vector work at that of fp32."""
    card = Accelerator(name="half-known", memory_bytes=10**13, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 1e13})
    product = kernel("product", "matmul", "1", "{w_bytes} + {a_bytes}")
    assert own(product, w_bit=8).on(card).notes == ()
    assert own(kernel("sum", "vector", "1", "{a_bytes}"), a_bit=8).on(card).notes == ()
    assert own(product, w_bit=8, a_bit=8).on(card).notes != ()


# ---- what does not fit


@pytest.mark.parametrize(
    ("size", "marks", "said", "sign"),
    [
        (1000, (), "fits: 1.000 kB of 1.000 kB on small, 0 B left", "time"),
        (999, ("does not fit",), "does not fit: 1.000 kB of 999 B on small, 1 B short", "time ✗"),
        (None, ("memory unknown",), "memory unknown: 1.000 kB needed, and how much small has is not known", "time ?"),
    ],
)
def test_no_time_without_its_mark(size: int | None, marks: tuple[str, ...], said: str, sign: str) -> None:
    card = Accelerator(name="small", memory_bytes=size, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 1e13})
    found = own(kernel("work", "matmul", "10**9", "500 * {a_bytes}")).on(card)  # 1000 bytes of activations
    assert (found.marks, found.memory.total) == (marks, 1000)
    summary = json.loads(as_json(found.analysis, found))["roofline"]
    assert summary["fits"] == {(): True, ("does not fit",): False}.get(marks)
    assert summary["memory_bytes"] == 1000
    for text in (repr(found), as_md(found.analysis, found), as_fragment(found.analysis, found)):
        assert said in text
        assert ("compute-bound, does not fit" in text) == (size == 999)
        assert ("compute-bound, memory unknown" in text) == (size is None)
    heading = next(line for line in repr(found).splitlines() if line.split()[:2] == ["kernel", "count"])
    assert heading.split("FLOP/B")[1].split("%")[0].strip() == sign
    assert ("does not fit" in found.plot().figure.get_suptitle()) == (size == 999)


def test_an_unknown_vector_peak_is_said_and_costs_no_time() -> None:
    card = Accelerator(name="tensor-only", bandwidth=1e12, peaks={"bf16": 1e14})
    found = own(kernel("heavy", "vector", "10**15", "10**9")).on(card)
    assert found.time == pytest.approx(1e-3)
    (note,) = found.notes
    assert note == "tensor-only's vector peak is not known: vector FLOPs take no time here, bytes do"
    for text in (repr(found), as_md(found.analysis, found)):
        assert f"warning: {note}" in text
    assert "tensor-only&#x27;s vector peak is not known" in as_fragment(found.analysis, found)
    assert note in json.loads(as_json(found.analysis, found))["roofline"]["notes"]
    assert CARD.name in repr(own(kernel("light", "vector", "1", "1")).on(CARD))
    assert own(kernel("light", "vector", "1", "1")).on(CARD).notes == ()


def test_an_unknown_accelerator_is_an_error_that_suggests() -> None:
    with pytest.raises(UnknownNameError, match=r"no accelerator named 'h100-sxn'. Did you mean 'h100-sxm'"):
        populate("gpt2").on("h100-sxn")


# ---- estimates


def test_shares_of_the_peaks_lengthen_what_they_bound() -> None:
    analysis = own(kernel("products", "matmul", "10**13", "1"), kernel("copy", "vector", "0", "3 * 10**11"))
    assert analysis.on(CARD).time == pytest.approx(0.1 + 0.3)
    assert analysis.on(CARD, compute_efficiency=0.5).time == pytest.approx(0.2 + 0.3)
    assert analysis.on(CARD, bandwidth_efficiency=0.75).time == pytest.approx(0.1 + 0.4)
    vector = own(kernel("elementwise", "vector", "2 * 10**12", "1"))  # 0.1 s at the peak of the vector units
    assert vector.on(CARD, compute_efficiency=0.25).time == pytest.approx(0.4)
    assert vector.on(CARD, bandwidth_efficiency=0.25).time == pytest.approx(0.1)
    both = analysis.on(CARD, compute_efficiency=0.5, bandwidth_efficiency=0.75, launch_overhead=0.05)
    assert both.time == pytest.approx(0.2 + 0.4 + 2 * 0.05)
    assert not both.efficiency.is_perfect


def test_efficiencies_at_their_limits() -> None:
    assert Efficiency(compute=1, bandwidth=1, launch_overhead=0).is_perfect
    limits = Efficiency(compute=1e-9, bandwidth=1e-9, launch_overhead=1_000_000)
    assert not limits.is_perfect
    for overhead in (1_000_000.5, 1_000_001):
        with pytest.raises(InputError, match="from 0 to 1,000,000, not"):
            Efficiency(launch_overhead=overhead)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compute_efficiency": 0}, "the compute efficiency is a share above 0 and at most 1, not 0"),
        ({"compute_efficiency": 1.01}, "not 1.01"),
        ({"bandwidth_efficiency": -0.5}, "the bandwidth efficiency is a share above 0"),
        ({"bandwidth_efficiency": math.nan}, "not nan"),
        ({"bandwidth_efficiency": "0.5"}, "not '0.5'"),
        ({"compute_efficiency": True}, "not True"),
        ({"launch_overhead": -1e-6}, "the launch overhead is a number of seconds from 0 to 1,000,000, not -1e-06"),
        ({"launch_overhead": math.inf}, "not inf"),
    ],
)
def test_efficiencies_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        populate("gpt2", seq_len=4).on(CARD, **options)
    assert said in str(caught.value)


# ---- what is shown


def shown(found: Roofline) -> dict[str, str]:
    plot = found.plot()
    return {
        "text": repr(found),
        "HTML": found._repr_mimebundle_()["text/html"],
        "page": as_html(found.analysis, found),
        "Markdown": as_md(found.analysis, found),
        "plot": repr(plot),
        "picture": plot.figure.get_suptitle(),
    }


@pytest.mark.slow
def test_it_is_called_a_lower_bound_where_kernels_are_fused_and_nowhere_else() -> None:
    eager, analysis = populate("gpt2", seq_len=64), populate("gpt2", seq_len=64, fusion="engine")
    for where, text in shown(analysis.on(CARD)).items():
        assert "lower bound: every fused kernel at its roofline, nothing between them" in text, where
        assert "no bound" not in text, where
    assert "at least" in repr(analysis.on(CARD))
    assert "at most" in repr(analysis.on(CARD))
    for where, text in shown(eager.on(CARD)).items():
        assert "at the roofline, operation by operation: no bound, for fused kernels move less" in text, where
        assert not re.search("lower bound|at least|at most", text), where
    for where, text in shown(analysis.on(CARD, compute_efficiency=0.4)).items():
        assert "assumed: 40 % of the peak FLOP/s, 100 % of the bandwidth, 0 s a kernel" in text, where
        assert not re.search("lower bound|at least|at most", text), where
    asked = request("gpt2", prompt_len=8, output_len=4, fusion="engine")
    assert "lower bound" in repr(asked.on(CARD))
    assert "at least" in repr(asked.on(CARD))
    assert "lower bound" not in repr(asked.on(CARD, launch_overhead=1e-6))
    late = analysis.on(CARD, launch_overhead=1)
    for found, is_bound in ((analysis.on(CARD), True), (eager.on(CARD), False), (late, False)):
        assert json.loads(as_json(found.analysis, found))["roofline"]["is_lower_bound"] is is_bound


@pytest.mark.parametrize("fusion", ["none", "engine"])
def test_the_first_line_says_what_to_expect(fusion: str) -> None:
    """Estimate, bound, and whether it fits: of the fused list, whichever is shown."""
    found = populate("gpt2", seq_len=64, fusion=fusion).on(CARD)
    bound = populate("gpt2", seq_len=64, fusion="engine").on(CARD)
    assert bound.time < populate("gpt2", seq_len=64).on(CARD).time
    estimate, middle, fit = found.answer.split(" · ")
    assert estimate.startswith("estimate ")
    assert middle == f"bound {seconds(bound.time)}"
    free = CARD.memory_bytes - found.memory.total if CARD.memory_bytes else 0
    assert fit == f"fits, {si(free, 'B')} left"
    text = shown(found)
    assert repr(found).splitlines()[2:4] == [found.sentence, found.answer]
    assert f"<b>{found.answer}</b>" in text["HTML"]
    for where, one in text.items():
        assert " ".join(found.answer.split()) in " ".join(one.split()), where


@pytest.mark.slow
def test_the_same_looks_the_same() -> None:
    first, second = (populate("qwen3-0.6b", seq_len=16).on("h100-sxm") for _ in range(2))
    assert shown(first) == shown(second)
    assert as_csv(first.analysis, first) == as_csv(second.analysis, second)
    assert first.plot().png() == second.plot().png()


def test_the_text_says_the_numbers() -> None:
    found = own(kernel("products", "matmul", "10**13", "1"), kernel("copy", "vector", "0", "3 * 10**11")).on(CARD)
    text = as_text(found.analysis, found)
    # The operand sizes of a product that names none are those of activations.
    assert "hardware        card: bf16 100.0 TFLOP/s, 1.000 TB/s" in text
    assert "time            400.0 ms = 100.0 ms compute-bound + 300.0 ms memory-bound" in text
    assert "tokens/s        2,560" in text  # 1024 in 0.4 s
    assert "memory          " in text
    part = next(line for line in text.splitlines() if line.startswith("  part"))
    assert part.split()[-4:] == ["400.0", "ms", "100.0", "memory"]


def test_the_times_are_saved(tmp_path: Any) -> None:
    found = populate("gpt2", seq_len=8).on(CARD)
    for suffix, text in ((".json", as_json(found.analysis, found)), (".csv", as_csv(found.analysis, found))):
        found.save(tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_text() == text
    assert json.loads((tmp_path / "a.json").read_text())["roofline"]["time"] == found.time


def test_a_pass_that_does_nothing_takes_no_time() -> None:
    found = own(kernel("nothing", "vector", "0", "0")).on(CARD)
    assert found.time == 0
    assert repr(found)
    assert found._repr_mimebundle_()["text/html"]
    assert found.plot().png()
    assert found.table()["share"].sum() == 0
    assert Efficiency().is_perfect


# ---- the picture


def as_any(thing: Any) -> Any:
    return thing


@pytest.mark.parametrize(
    ("name", "run"),
    [("gpt2", {"seq_len": 1024}), ("llama-3.1-8b", {"seq_len": 1, "cache_len": 2048}), ("deepseek-v3", {})],
)
def test_bars_add_up_and_numbers_hide_nothing(name: str, run: dict[str, Any]) -> None:
    found = populate(name, **run).on("h100-sxm")
    plot = found.plot()
    plot.figure.draw_without_rendering()
    left, right = (as_any(ax) for ax in plot.figure.axes)
    assert sum(bar.get_width() for bar in right.patches) == pytest.approx(found.time, rel=1e-9)
    # A dot is where FLOPs over bytes and FLOPs over time are.
    dots = [point for group in left.collections for point in group.get_offsets().tolist()]
    worth = [node for node in found.analysis.nodes if node.is_last and not node.is_part and found.timings[node].time]
    costs = [(found.analysis.cost(node), found.timings[node].time) for node in worth]
    places = [(float(cost.flops / cost.bytes), float(cost.flops) / time) for cost, time in costs if cost.flops]
    for axis in (0, 1):
        assert sorted(dot[axis] for dot in dots) == pytest.approx(sorted(place[axis] for place in places))
    numbers = [text for text in left.texts if text.get_text().replace(", ", "").isdigit()]
    largest = sorted(worth, key=lambda node: -found.timings[node].time)
    largest = [node for node in largest if found.analysis.cost(node).flops]
    digits = [digit for text in numbers for digit in text.get_text().split(", ")]
    assert sorted(digits) == [f"{number}" for number in range(1, len(digits) + 1)]
    ticks = [label.get_text() for label in right.get_yticklabels()]
    for number, node in enumerate(largest[: len(digits)], 1):  # the dot and the bar of a module bear the same number
        (tick,) = [tick for tick in ticks if tick.startswith(f"({number}) ")]
        assert (node.kernel.name if not node.is_basic else called(found.analysis)[node]) in tick
    (first,) = [text for text in numbers if text.get_text().split(", ")[0] == "1"]
    cost, time = found.analysis.cost(largest[0]), found.timings[largest[0]].time
    assert first.xy == pytest.approx((float(cost.flops / cost.bytes), float(cost.flops) / time))
    boxes = [Text.get_window_extent(text) for text in numbers]
    frame = left.get_window_extent()
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1


# ---- numbers in words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"), (1, "1.000 s"), (1.23e-3, "1.230 ms"), (45.678e-6, "45.68 µs"), (2e-9, "2.000 ns"),
        (999.96e-6, "1.000 ms"), (999.94e-6, "999.9 µs"), (0.99996, "1.000 s"), (75.5, "75.50 s"), (12345.6, "12,346 s"),
    ],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(218.94, "218.9"), (1.5, "1.5"), (999.9, "999.9"), (589200.4, "589,200")])
def test_rates(value: float, text: str) -> None:
    assert rate(value) == text


def test_a_template_without_heads_is_modelled_by_laws_that_read_none() -> None:
    """Products of activations alone are taken for attention: the typical law asks for no heads, that of vLLM does."""
    analysis = own(kernel("work", "matmul", "10**9", "500 * {a_bytes}"))
    # 10 us of arithmetic at 60 %, 1 ns of traffic at 90 %, of which 30 % show, and 6 us to start.
    assert analysis.on(CARD).estimate.value * 1e6 == pytest.approx(10 / 0.6 + 0.3 * 0.001 / 0.9 + 6, rel=1e-9)
    fitted = analysis.on("h100-sxm", profile="vllm")
    assert fitted.answer.startswith(
        "estimate not modelled: the law of prefill_attention reads {num_heads}, which has no value · "
    )


@pytest.mark.parametrize(
    ("model", "run", "is_said"),
    [
        ("mixtral-8x7b-v0.1", {"seq_len": 1, "batch_size": 1}, False),
        ("mixtral-8x7b-v0.1", {"seq_len": 1, "batch_size": 2}, True),
        ("mixtral-8x7b-v0.1", {"seq_len": 2, "batch_size": 1}, True),
        ("llama-3.1-8b", {"seq_len": 2, "batch_size": 2}, False),
    ],
)
def test_a_bound_says_what_it_supposes_of_experts(model: str, run: dict[str, Any], is_said: bool) -> None:
    """One token reads the k experts that it chooses, several read those that even routing visits, and may read fewer."""
    supposed = "if tokens are routed evenly"
    found = populate(model, cache_len=9, **run).on("h200-sxm")
    assert (f"bound {seconds(found.lower_bound)} {supposed} · " in found.answer) is is_said
    assert (supposed in found.answer) is is_said
    fused = populate(model, cache_len=9, fusion="engine", **run).on("h200-sxm")
    assert (supposed in fused.words) is is_said
    assert supposed not in found.words  # which is no bound
    assert supposed not in populate(model, fusion="engine", **run).on("h200-sxm", compute_efficiency=0.5).words


def test_one_token_reads_the_experts_that_it_chooses_and_no_fewer() -> None:
    """Weights of Mixtral's experts, 3 matrices of 4096 x 14336 each: 2 of 8 for one token, 3.5 for two, on average."""
    expert = 3 * 4096 * 14336 * 2
    for tokens, visited in ((1, 2), (2, 8 * (1 - (1 - 2 / 8) ** 2))):
        costs = populate("mixtral-8x7b-v0.1", fusion="engine", seq_len=1, batch_size=tokens, cache_len=9)
        (experts,) = [launch for launch in costs.launches if launch.kind == "experts"]
        assert float(experts.weights) == pytest.approx(visited * expert, rel=1e-12)
