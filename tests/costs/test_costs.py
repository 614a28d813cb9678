"""The costs of a pass by hand: bounds of a run and of a cost, what is fused, how a kernel is found and explained."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from builders import basic, template
from builders import composite as part

from nbanalyzer import populate
from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.metrics import KERNEL_METRICS, METRICS, PASS_METRICS, REQUEST_SUMS, is_timed, metrics_of, unit_of
from nbanalyzer.costs.run import Run, read_size, read_whole
from nbanalyzer.errors import ConfigError, InputError, TemplateError, UnknownNameError


def own(*kernels: dict[str, Any], **run: Any) -> Analysis:
    return populate(template(*kernels), **run)


# ---- a run


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("batch_size", 1, 2**40),
        ("seq_len", 1, 2**40),
        ("cache_len", 0, 2**40),
        ("encoder_len", 1, 2**40),
        ("w_bit", 1, 64),
        ("a_bit", 1, 64),
        ("kv_bit", 1, 64),
    ],
)
def test_the_bounds_of_a_run(name: str, least: int, most: int) -> None:
    for value in (least, most):
        assert getattr(Run.of(**{name: value}), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(InputError, match=f"{name} is a whole number from {least} to {most:,}, not {value}"):
            Run.of(**{name: value})


def test_what_an_encoder_reads_follows_from_what_the_decoder_has_seen() -> None:
    assert Run(seq_len=7).encoder_len == 7
    assert Run(seq_len=7, cache_len=30).encoder_len == 30
    assert Run(seq_len=7, cache_len=30, encoder_len=5).encoder_len == 5
    assert Run(seq_len=7).encoder_len_follows
    assert not Run(encoder_len=5).encoder_len_follows


def test_the_values_of_a_run() -> None:
    run = Run(batch_size=2, seq_len=3, cache_len=5, w_bit=4, a_bit=16, kv_bit=8, logits="last", causal=True)
    assert run.values() == {
        "batch_size": 2, "seq_len": 3, "cache_len": 5, "encoder_len": 5, "w_bytes": 0.5, "a_bytes": 2, "kv_bytes": 1,
        "causal": 1, "num_logits": 1,
    }  # fmt: skip
    assert Run(a_bit=32, seq_len=3).values()["kv_bytes"] == 4  # as activations
    assert Run(a_bit=32, seq_len=3).values()["num_logits"] == 3
    assert Run(causal="off").values()["causal"] == Run(causal=False).values()["causal"] == 0
    assert Run(attn="eager", mla="absorbed").variants == {"eager", "absorbed"}


def test_whole_numbers_as_text() -> None:
    assert read_whole("seq_len", "4 * 1024") == 4096
    with pytest.raises(InputError, match="seq_len is a whole number, not '1 / 2'"):
        read_whole("seq_len", "1 / 2")
    with pytest.raises(InputError, match="seq_len is no number"):
        read_whole("seq_len", "many")
    read_size("prompt_len", 2**40, 1)
    with pytest.raises(
        InputError, match=r"prompt_len is a whole number from 1 to 1,099,511,627,776, not 1099511627777"
    ):
        read_size("prompt_len", 2**40 + 1, 1)


# ---- the bounds of a cost


def test_costs_have_a_size_that_something_could_have() -> None:
    assert own(part("m", basic(f"10**30 * {'9' * 30}"))).totals["flops"] == 10**30 * (10**30 - 1)
    with pytest.raises(TemplateError, match="larger than anything that is"):
        own(part("m", basic("10**30 * 10**30")))
    with pytest.raises(TemplateError, match=r"m\.op, flops: negative: '.*' is -1"):
        own(part("m", basic("0 - 1")))
    with pytest.raises(TemplateError, match="smaller than anything that is"):
        own(part("m", basic("1 / 10**30 / 10**30")))
    assert own(part("m", basic("2 / 10**30 / 10**30"))).totals["flops"] == 2e-60
    with pytest.raises(TemplateError, match="m, repeat: a kernel repeats a whole number of times, not 1/2"):
        own(part("m", basic("1"), repeat="1 / 2"))
    with pytest.raises(TemplateError, match="m, calls: a kernel repeats a whole number of times, not 1/2"):
        own(part("m", basic("1"), calls="1 / 2"))
    often = part("m", part("n", basic("1"), repeat=f"{'9' * 30}"), repeat="10**30")
    assert own(often).totals["flops"] == 10**30 * (10**30 - 1)
    for fields in ({"repeat": "10**30"}, {"repeat": "10**15", "calls": "10**15"}):
        with pytest.raises(TemplateError, match="n, repeat: runs more often than anything does"):
            own(part("m", part("n", basic("1"), **fields), repeat="10**30"))


def test_bytes_are_the_weights_as_far_as_they_grow_with_them() -> None:
    analysis = own(part("m", basic("0", "3 * {w_bytes} + 5 * {kv_bytes} + 7", "11 * {kv_bytes} + 13"), repeat="2"))
    cost = analysis.cost_of_all  # 2 bytes each
    assert (cost.read_bytes, cost.write_bytes, cost.bytes) == (46, 70, 116)
    assert (cost.weight_bytes_read, cost.kv_bytes_read, cost.kv_bytes_written) == (12, 20, 44)
    assert cost.activation_bytes == 2 * (7 + 13)
    assert own(part("m", basic("0", "3 * {w_bytes}"))).cost_of_all.weight_bytes_read == 6  # nothing else
    for formula in ("{w_bytes} ** 2", "10 / {w_bytes}", "2 / {w_bytes}"):
        with pytest.raises(TemplateError, match=r"is not proportional to \{w_bytes\}"):
            own(part("m", basic("0", formula)))


def test_copies_are_counted_without_calls() -> None:
    layer = part("n", basic("1"), parameters="10", repeat="3", calls="5")
    analysis = own(part("m", layer, parameters="7", repeat="2"))
    assert analysis.totals["parameters"] == 2 * (7 + 3 * 10)
    assert analysis.totals["flops"] == 2 * 3 * 5
    table = analysis.table()
    assert table["kernel_type"].tolist() == ["composite", "composite", "basic"]
    assert table["unit"].tolist() == ["", "", "vector"]
    cost = analysis.cost(analysis.find("n"))
    assert (cost.count, cost.copies, cost.parameters) == (30, 6, 60)
    assert analysis.formula_text("parameters").evaluate({}) == 74
    assert analysis.formula_text("flops").evaluate({}) == 30


# ---- launches


def test_a_launch_moves_what_any_of_its_kernels_moves() -> None:
    product = basic("1", "{w_bytes}", unit="matmul", name="a")
    alone, both = (own(product, basic("1", "{kv_bytes}", name="b", fused=fused)).launches for fused in (False, True))
    assert [launch.sizes for launch in alone] == [{"w_bytes"}, {"kv_bytes"}]
    assert [launch.sizes for launch in both] == [{"w_bytes", "kv_bytes"}]


def test_what_is_fused_is_one_launch() -> None:
    first, second = basic("1", "10", unit="matmul", name="a"), basic("2", "20", "30", name="b", fused=True)
    alone = basic("4", "40", "8 * {w_bytes}", name="c", steps=3)
    analysis = own(
        part("m", first, second, alone, repeat="5"), part("n", basic("{cache_len}", name="idle", fused=True))
    )
    fused, stepped, idle = analysis.launches
    assert (fused.times, fused.matmul_flops, fused.vector_flops, fused.bytes) == (5, 1, 2, 60)
    assert (fused.activations, fused.steps, fused.is_started) == (60, 1, 1)
    assert (stepped.times, stepped.vector_flops, stepped.bytes, stepped.steps) == (5, 4, 56, 3)
    assert stepped.activations == Fraction(56, 3)
    assert stepped.sizes == {"w_bytes"}
    assert fused.sizes == frozenset()
    # It would be fused with what stands in another module.
    assert [node.path for node in idle.nodes] == ["n.idle"]
    assert (idle.times, idle.is_started) == (1, 0)


# ---- finding and explaining

LAYER = part("layer", part("proj", basic("2 * {hidden_size}")), part("norm", basic("3")), repeat="2")


def layered() -> Analysis:
    template = {"model_id": "own", "kernels": [part("a", LAYER), part("b", LAYER, part("head", basic("1")))]}
    return populate(template, config={"hidden_size": 5})


def test_a_kernel_is_found_or_the_choice_is_shown() -> None:
    analysis = layered()
    assert analysis.find("a.layer.proj").path == analysis.find(" a.layer.0.proj ").path == "a.layer.proj"
    assert analysis.find("head").path == "b.head"
    with pytest.raises(UnknownNameError, match=r"It is the end of 2 paths: a\.layer\.proj, b\.layer\.proj\."):
        analysis.find("layer.proj")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'b\.head'\?"):
        analysis.find("heat")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'a\.layer\.norm' or 'b\.layer\.norm'\?"):
        analysis.find("c.layer.norm")
    with pytest.raises(UnknownNameError) as caught:
        analysis.find("xyz")
    assert "Did you mean" not in str(caught.value)
    many = own(*(part(f"m{number}", part("same", basic("1"))) for number in range(6)))
    with pytest.raises(UnknownNameError, match=r"the end of 6 paths: m0\.same, m1\.same, m2\.same, m3\.same\."):
        many.find("same")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'm0\.same' or 'm1\.same' or 'm2\.same'\?"):
        many.find("x.same")


def test_a_derivation_shows_every_step_once() -> None:
    analysis = layered()
    lines = repr(analysis.explain("a.layer.proj")).splitlines()
    assert lines == [
        "a.layer.proj  × 2",
        "op, flops (vector)",
        "    2 * {hidden_size}",
        "  = 2 * 5",
        "  = 10  × 2 = 20",
    ]
    lines = repr(analysis.explain("b")).splitlines()  # two layers of 10 + 3, and a head of 1
    assert lines == ["b", "flops, all repeats", "    layer + head", "  = 26 + 1", "  = 27"]
    lines = repr(analysis.explain("flops")).splitlines()
    # Of 53: twice 2 * 2 * 5 of the projections, twice 2 * 3 of the norms, and 1 of the head.
    assert lines[:2] == ["flops of the whole pass", "  {hidden_size} = 5   width of the residual stream"]
    assert lines[2:5] == ["flops", "    head 100 %", "  = 53"]  # nothing of it is a layer
    shares = {line.partition(" (")[0]: line.rpartition(": ")[2] for line in lines[5:] if line[0] != " "}
    assert shares == {
        "a.layer.proj × 2": "38 %", "b.layer.proj × 2": "38 %", "a.layer.norm × 2": "11 %", "b.layer.norm × 2": "11 %",
        "b.head": "2 %",
    }  # fmt: skip
    assert lines[6:8] == ["    2 * 2 * {hidden_size}", "  = 2 * 2 * 5"]
    assert repr(analysis.explain("bytes")).splitlines()[1:] == ["bytes", "    nothing", "  = 0"]
    assert repr(analysis.explain("b.head")).splitlines() == ["b.head", "op, flops (vector)", "    1"]


def test_levels_of_the_table() -> None:
    analysis = layered()
    assert list(analysis.table(depth=1).index) == ["a", "b"]
    assert list(analysis.table(depth=2).index) == ["a", "a.layer", "b", "b.layer", "b.head"]
    assert len(analysis.table()) == len(analysis.nodes) == 6 + 8
    for depth in (0, -1, True, 1.0):
        with pytest.raises(InputError, match="depth is a whole number from 1, or None for all levels, not"):
            analysis.table(depth)  # type: ignore[arg-type]
    assert [node.path for node in analysis.rows(1)] == ["a", "b"]


def test_the_tree_says_what_is_not_the_default() -> None:
    inner = part("inner", basic("3", "{w_bytes}", "5", unit="matmul"), parameters="7", repeat="2", calls="4")
    analysis = own(part("outer", inner, part("plain", basic("1"))), seq_len=2)
    (outer,) = analysis.tree["kernels"]
    assert outer == {
        "kernel_type": "composite",
        "name": "outer",
        "total": {"parameters": 14, "flops": 25, "read_bytes": 16, "write_bytes": 40},
        "sub_kernels": [
            {
                "kernel_type": "composite",
                "name": "inner",
                "repeat": 2,
                "calls": 4,
                "parameters": 7,
                "total": {"parameters": 14, "flops": 24, "read_bytes": 16, "write_bytes": 40},
                "sub_kernels": [
                    {
                        "kernel_type": "basic",
                        "operation": "op",
                        "unit": "matmul",
                        "flops": 3,
                        "memory_access": {"read": 2, "write": 5},
                    }
                ],
            },
            {
                "kernel_type": "composite",
                "name": "plain",
                "total": {"parameters": 0, "flops": 1, "read_bytes": 0, "write_bytes": 0},
                "sub_kernels": [
                    {
                        "kernel_type": "basic",
                        "operation": "op",
                        "unit": "vector",
                        "flops": 1,
                        "memory_access": {"read": 0, "write": 0},
                    }
                ],
            },
        ],
    }
    assert "encoder_len" not in analysis.tree["values"]  # that nothing here depends on
    assert analysis.tree["totals"]["arithmetic_intensity"] == 25 / 56


def test_titles_and_conditions() -> None:
    whole = {"model_id": "me/it", "architecture": "Mine", "kernels": [part("m", basic("{seq_len}"))]}
    assert populate(whole, seq_len=3).title == "me/it (Mine)"
    assert populate({**whole, "model_id": ""}).title == "Mine"
    assert populate({"kernels": whole["kernels"]}).title == "template"
    assert populate(whole, seq_len=3, causal=True).conditions.startswith(
        "batch_size 1, seq_len 3, cache_len 0, w_bit 16, a_bit 16, kv_bit 16; fusion none, attn sdpa, logits all, causal on"
    )
    reads = {**whole, "kernels": [part("m", basic("{encoder_len}"))]}
    assert "cache_len 0, encoder_len 9, w_bit 16" in populate(reads, seq_len=3, encoder_len=9).conditions
    assert populate(reads, seq_len=3).tree["values"]["encoder_len"] == 3


def test_metrics_of_a_kernel_as_formulas() -> None:
    moved = basic("2 * {seq_len}", "3 * {w_bytes} + 5 * {kv_bytes} + 7 * {a_bytes}", "11 * {kv_bytes}")
    analysis = own(part("m", moved, parameters="13", repeat="2"), seq_len=4, w_bit=8, a_bit=16, kv_bit=32)
    values = {"seq_len": 4, "w_bytes": 1, "a_bytes": 2, "kv_bytes": 4}
    expected = {
        "flops": 16, "vector_flops": 16, "matmul_flops": 0, "read_bytes": 2 * (3 + 20 + 14), "write_bytes": 88,
        "bytes": 2 * 37 + 88, "weight_bytes_read": 6, "kv_bytes_read": 40, "kv_bytes_written": 88,
        "activation_bytes": 28, "parameters": 26, "weight_bytes": 26, "kv_cache_bytes": 0,
    }  # fmt: skip
    for metric, number in expected.items():
        assert analysis.totals[metric] == number, metric
        assert analysis.formula_text(metric).evaluate(values) == number, metric
    assert analysis.formula_text("arithmetic_intensity").evaluate(values) == Fraction(16, 2 * 37 + 88)


def test_sums_are_multiplied_out_and_quotients_are_not() -> None:
    analysis = own(part("m", basic("2 * {seq_len} * ({cache_len} + 1)", "{seq_len} * ({cache_len} + 3)")))
    flops, intensity = analysis.formula("flops"), analysis.formula("arithmetic_intensity")
    assert flops.is_Add
    assert str(flops) == "2*cache_len*seq_len + 2*seq_len"
    assert str(intensity) == "2*(cache_len + 1)/(cache_len + 3)"


def test_columns_hold_what_numpy_can() -> None:
    """Whole numbers where they fit into 64 bits with a sign, else floats."""
    for number, whole in ((2**63 - 1, True), (2**63, False), (2**64 - 1, False)):
        table = own(part("m", basic(str(number)))).table()
        assert table["flops"].dtype == (np.int64 if whole else np.float64)
        assert float(table["flops"].iloc[0]) == float(number)
    halves = own(part("m", basic("1", "{w_bytes}")), w_bit=4).table()
    assert halves["read_bytes"].tolist() == [0.5, 0.5]


def test_the_table_of_metrics() -> None:
    work = {"flops", "matmul_flops", "vector_flops"}
    traffic = {
        "bytes", "read_bytes", "write_bytes", "weight_bytes_read", "activation_bytes", "kv_bytes_read", "kv_bytes_written",
    }  # fmt: skip
    held = {"weight_bytes", "kv_cache_bytes", "memory_bytes"}
    sent = {"payload_bytes"}
    passes = {"time", "lower_bound", "estimate"}
    times = {*passes, "time_to_first_token", "time_per_output_token"}
    others = {"parameters", "arithmetic_intensity", "tokens_per_s", "fits"}
    money = {"cost_per_million_tokens", "energy_per_token", "co2_per_million_tokens"}
    served = {"prefill_time", "tokens_per_s_each", "max_concurrency"}
    assert METRICS.keys() == work | traffic | held | sent | times | others | money | served
    assert {name for name, metric in METRICS.items() if metric.is_summed} == work | traffic | sent | passes
    assert {name for name, metric in METRICS.items() if metric.more_is_better} == (others | served) - {
        "parameters", "prefill_time",
    }  # fmt: skip
    assert {name for name, metric in METRICS.items() if metric.unit == "B"} == traffic | held | sent
    assert {name for name, metric in METRICS.items() if metric.needs == "request"} == times - passes
    assert {name for name, metric in METRICS.items() if metric.needs == "served"} == served
    assert {name for name, metric in METRICS.items() if metric.needs == "hardware"} == {
        *passes, *money, "tokens_per_s", "fits",
    }  # fmt: skip
    assert set(REQUEST_SUMS) == work | traffic
    assert set(KERNEL_METRICS) == work | sent | traffic - {"activation_bytes"}  # is what the others leave
    later = {"memory_bytes", "tokens_per_s", "fits"} | sent | times | money | served
    assert METRICS.keys() - set(PASS_METRICS) == later
    assert metrics_of(["kv_cache", "ssm"]) == (*METRICS, "ssm_bytes")
    assert (unit_of("flops"), unit_of("ssm_bytes"), unit_of("fits")) == ("FLOP", "B", "")
    assert own(part("m", basic("1"), repeat="3")).cost_of_all.count == 1


# ---- what a pass keeps and needs


def test_a_state_may_be_nothing_but_not_negative() -> None:
    assert populate(template(basic(), state={"kv_cache": "0 * {seq_len}"}), seq_len=4).memory.state == 0
    assert populate(template(basic(), state={"kv_cache": "{seq_len}"}), seq_len=1).memory.state == 1
    with pytest.raises(TemplateError, match=r"state.kv_cache: no number of bytes: '2 - \{seq_len\}' is -2"):
        populate(template(basic(), state={"kv_cache": "2 - {seq_len}"}), seq_len=4)


SEVERAL = {
    "recurrent_state": "{batch_size} * 1000",
    "kv_cache": "{batch_size} * min({cache_len} + {seq_len}, 3) * 8 * {kv_bytes}",
    "compressed_kv": "{batch_size} * (({cache_len} + {seq_len}) // 4) * 8 * {kv_bytes}",
    "overlap_gate": "{batch_size} * 16 if {cache_len} + {seq_len} >= 4 else 0",
}


def test_the_cache_is_all_that_depends_on_the_tokens_before() -> None:
    analysis = populate(template(basic(), state=SEVERAL), batch_size=2, seq_len=6, cache_len=7, kv_bit=16)
    windows, entries, gates = 2 * 3 * 8 * 2, 2 * (13 // 4) * 8 * 2, 2 * 16
    assert analysis.totals["kv_cache_bytes"] == windows + entries + gates
    assert analysis.totals["compressed_kv_bytes"] == entries
    assert analysis.state["kv_cache"] == windows
    assert analysis.memory.state == windows + entries + gates + 2000
    assert analysis.formula_text("kv_cache_bytes").evaluate(analysis.values) == windows + entries + gates
    symbolic = analysis.symbolic("seq_len").metric("kv_cache_bytes")
    assert symbolic.evaluate({"seq_len": 6}) == windows + entries + gates
    lines = repr(analysis).splitlines()
    (line,) = (line for line in lines if "KV cache" in line)
    assert line.split(maxsplit=2)[2] == "224 bytes = 96 kv_cache + 96 compressed_kv + 32 overlap_gate"
    assert not any(line.split()[:1] in (["compressed_kv"], ["overlap_gate"]) for line in lines)
    assert any(line.split() == ["recurrent_state", "2,000", "bytes"] for line in lines)


def test_a_cache_of_several_parts_is_explained_part_by_part() -> None:
    analysis = populate(template(basic(), state=SEVERAL), seq_len=9, kv_bit=16)
    found = analysis.explain("kv_cache_bytes")
    numbers = {one.what: one.number for one in found.derivations}
    assert numbers == {"kv_cache": 48, "compressed_kv": 32, "overlap_gate": 16, "kv_cache_bytes": 96}
    assert found.derivations[-1].steps() == ["kv_cache + compressed_kv + overlap_gate", "48 + 32 + 16", "96"]
    one = populate(template(basic(), state={"kv_cache": SEVERAL["kv_cache"]}), seq_len=9, kv_bit=16)
    assert [part.what for part in one.explain("kv_cache_bytes").derivations] == ["kv_cache_bytes"]


@pytest.mark.slow
def test_a_million_tokens_of_deepseek_v4_are_what_is_published() -> None:
    """6.72 GiB, of which the windows of 128 tokens are less than a thousandth."""
    analysis = populate("deepseek-ai/DeepSeek-V4-Flash", seq_len=1 << 20, kv_bit=16)
    entries = 21 * (1 << 20) // 4 * (512 + 128) * 2 + 20 * (1 << 20) // 128 * 512 * 2
    assert analysis.totals["compressed_kv_bytes"] == entries
    assert round(analysis.totals["kv_cache_bytes"] / 2**30, 2) == round(entries / 2**30, 2) == 6.72


def test_a_size_that_only_a_template_knows_is_asked_for_by_its_own_name() -> None:
    own_size = template(basic("{my_size}"), config={"my_size": 3})
    assert populate(own_size).totals["flops"] == 3
    with pytest.raises(ConfigError, match=r"the config has no \{my_size\} \(looked for my_size\), and "):
        populate(own_size, config={"your_size": 3})


# ---- what a pass says of itself


def test_conventions_are_those_that_make_a_difference() -> None:
    usual = {"fusion": "none", "attn": "sdpa", "logits": "all", "causal": "off"}
    made = template(part("m", basic("1")))
    assert populate(made).conventions == usual
    assert populate(made, dp=2).conventions == usual | {"comm": "transformers"}
    assert populate(made, dp=3).conventions["comm"] == "transformers"
    engine = populate(made, fusion="engine").conventions
    assert engine == {"fusion": "engine", "logits": "last", "causal": "on"}
    assert populate({**made, "attention": "eager"}).conventions["attn"] == "eager"


def test_a_metric_of_a_part_and_of_the_whole() -> None:
    analysis = own(part("a", basic("1"), parameters="3", repeat="2"), part("b", basic("1"), parameters="5"), w_bit=8)
    assert [analysis.number("weight_bytes", node) for node in (None, analysis.find("a"), analysis.find("b"))] == [
        11,
        6,
        5,
    ]
    assert analysis.own_weight_bytes(analysis.find("a")) == 6
    assert analysis.kept_whole == 1.0
    assert own(part("a", basic("1"))).kept_whole == 0.0
    assert [is_timed(name) for name in ("time", "tokens_per_s", "fits", "flops", "mine")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_is_asked_for_by_no_name_that_there_is() -> None:
    analysis = own(part("heat_1", basic("1")), part("heat_2", basic("1")))
    for wrong in ("flop", 7, None):
        with pytest.raises(UnknownNameError, match="no metric named"):
            analysis.formula_text(wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"no kernel named 'heat'\. Did you mean 'heat_[12]'\?"):
        analysis.find("heat")
    with pytest.raises(UnknownNameError, match=r"no kernel or metric named 'paramters'\. Did you mean 'parameters'"):
        analysis.explain("paramters")
    with pytest.raises(UnknownNameError, match=r"no kernel or metric named 'heat'\. Did you mean 'heat_[12]'\?$"):
        analysis.explain("heat")
    looked_up = own(part("embed", basic("1", name="flip")), part("flips", basic("1")))
    with pytest.raises(UnknownNameError, match=r"named 'flop'\. Did you mean 'flops' or"):  # a metric, then a kernel
        looked_up.explain("flop")
    twice = own(part("a", part("x", basic("1"))), part("b", part("x", basic("1"))))
    with pytest.raises(UnknownNameError, match="no single kernel named 'x'"):
        twice.find("x")
    for metric in ("time", "lower_bound", "estimate"):
        with pytest.raises(InputError, match=rf"{metric} needs hardware: .on\('h100-sxm'\).formula\('{metric}'\)"):
            analysis.formula_text(metric)
    with pytest.raises(InputError, match="kv_cache_bytes belongs to the whole model: leave the path out"):
        analysis.formula_text("kv_cache_bytes", "heat_1")


def test_parameters_are_explained_by_their_formula_and_work_by_its_parts() -> None:
    analysis = own(part("a", basic("1"), parameters="3"), part("b", basic("2"), parameters="5"))
    (one,) = analysis.explain("parameters").derivations
    assert (one.what, one.number) == ("parameters", 8)
    assert [one.number for one in analysis.explain("flops").derivations] == [3, 2, 1]


def test_a_launch_takes_as_many_steps_as_its_first_kernel() -> None:
    first, second = basic("1", "12", unit="matmul", name="a", steps=3), basic("2", "18", name="b", fused=True)
    (launch,) = own(part("m", first, second)).launches
    assert (launch.steps, launch.activations, launch.bytes) == (3, 10, 30)
