"""Variants side by side: against the analyses that they are made of."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from nbanalyzer import Accelerator, Comparison, compare, populate
from nbanalyzer.analysis.comparison import Variant, ratio
from nbanalyzer.costs.metrics import BY_MODULE
from nbanalyzer.errors import InputError, UnknownNameError
from nbanalyzer.quantities import seconds, si
from nbanalyzer.report.comparison import MOST_ROWS, tables

CARD = Accelerator(name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})


def labels(comparison: Comparison) -> list[str]:
    return [one.label for one in comparison.variants]


# ---- which variants


def test_models_and_lists_make_variants_in_their_order() -> None:
    assert labels(compare("gpt2", "gpt2-xl", seq_len=8)) == ["gpt2", "gpt2-xl"]
    assert labels(compare("gpt2", w_bit=[16, 8, 4], seq_len=8)) == ["w_bit 16", "w_bit 8", "w_bit 4"]
    crossed = compare("gpt2", "opt-125m", seq_len=(4, 5), attn=["sdpa"])
    assert labels(crossed) == [
        f"{name}, seq_len {length}, attn sdpa" for name in ("gpt2", "opt-125m") for length in (4, 5)
    ]
    for one, (name, length) in zip(crossed.variants, itertools.product(("gpt2", "opt-125m"), (4, 5)), strict=True):
        assert one.analysis.totals == populate(name, seq_len=length).totals
    assert labels(compare("gpt2", hardware=["h100-sxm", CARD], seq_len=8)) == ["h100-sxm", "card"]
    assert labels(compare("gpt2", "gpt2", seq_len=8)) == ["gpt2 (1)", "gpt2 (2)"]
    assert labels(compare("gpt2", seq_len=range(1, 7))) == [f"seq_len {length}" for length in range(1, 7)]


def test_an_analysis_is_taken_as_it_is() -> None:
    eager = populate("gpt2", seq_len=32, attn="eager")
    found = compare(eager, populate("gpt2", seq_len=32), hardware=CARD)
    assert found.variants[0].analysis is eager
    assert found.variants[0].roofline is not None
    assert found.variants[0].roofline.time == eager.on(CARD).time
    with pytest.raises(InputError, match="an Analysis is compared as it is: seq_len would change it"):
        compare(eager, eager, seq_len=4)


@pytest.mark.parametrize(
    ("models", "options", "count"),
    [
        (("gpt2",), {}, 1),
        ((), {}, 0),
        (("gpt2",), {"w_bit": [16]}, 1),
        (("gpt2",), {"w_bit": []}, 0),
        (("gpt2",), {"seq_len": range(1, 8)}, 7),
        (("gpt2", "gpt2-xl"), {"w_bit": [4, 8], "attn": ["sdpa", "eager"]}, 8),
        (("gpt2",), {"hardware": ["h100-sxm"] * 7}, 7),
    ],
)
def test_it_takes_two_to_six(models: tuple[str, ...], options: dict[str, Any], count: int) -> None:
    with pytest.raises(InputError, match=f"a comparison is of 2 to 6 variants, not {count}: name models"):
        compare(*models, **options)


def test_a_comparison_is_of_two_to_six_however_it_is_made() -> None:
    one = Variant("a", populate("gpt2", seq_len=2))
    for count in (0, 1, 7):
        with pytest.raises(InputError, match=f"a comparison is of 2 to 6 variants, not {count}"):
            Comparison([one] * count)


# ---- its numbers


def test_the_table_holds_the_totals() -> None:
    frame = compare("llama-3.1-8b", w_bit=[16, 8, 4], seq_len=1, cache_len=100, hardware=CARD).table()
    for bits in (16, 8, 4):
        analysis = populate("llama-3.1-8b", seq_len=1, cache_len=100, w_bit=bits)
        column = frame[f"w_bit {bits}"]
        for metric in ("flops", "bytes", "parameters", "weight_bytes", "kv_cache_bytes"):
            assert column[metric] == analysis.totals[metric]
        assert column["memory"] == analysis.memory.total
        assert column["time"] == analysis.on(CARD).time
    assert frame.attrs["units"]["time"] == "s"
    assert "time" not in compare("gpt2", "gpt2-xl", seq_len=4).table().index


@pytest.mark.slow
@pytest.mark.parametrize("metric", BY_MODULE)
def test_modules_are_ranked_by_how_much_they_differ(metric: str) -> None:
    found = compare("gpt2", "mamba-2.8b-hf", "gpt2-medium", seq_len=64, hardware=CARD)
    frame = found.modules(metric)
    cells: dict[str, dict[str, float]] = {}
    for one in found.variants:
        roofline = one.analysis.on(CARD)
        for node in one.analysis.nodes:
            if node.is_last and not node.is_part:
                value = roofline.timings[node].time if metric == "time" else getattr(one.analysis.cost(node), metric)
                cells.setdefault(node.path, {})[one.label] = float(value)
    # Every module of any variant is there, of the one in the middle too.
    assert {path: {label: value for label, value in row.items() if value} for path, row in frame.iterrows()} == {
        path: {label: value for label, value in row.items() if value} for path, row in cells.items()
    }
    spans = [row.max() - row.min() for _, row in frame.iterrows()]
    assert spans == sorted(spans, reverse=True)


def test_changes_between_the_first_and_another() -> None:
    found = compare("gpt2", seq_len=[16, 32, 8])
    for of in (1, 2):
        changes = found.changes("flops", of)
        assert [abs(one.difference) for one in changes] == sorted(
            (abs(one.difference) for one in changes), reverse=True
        )
        before, after = found.variants[0].analysis, found.variants[of].analysis
        for change in changes:
            assert change.before == float(before.cost(before.find(change.path)).flops)
            assert change.after == float(after.cost(after.find(change.path)).flops)
    assert sum(one.difference for one in found.changes("bytes")) == pytest.approx(
        found.variants[1].analysis.totals["bytes"] - found.variants[0].analysis.totals["bytes"]
    )


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(2, 2, "="), (0, 0, "="), (2, 4, "×2"), (4, 1, "×0.25"), (3, 1, "×0.333"), (0, 5, "new"), (5, 0, "×0")],
)
def test_ratios(before: float, after: float, text: str) -> None:
    assert ratio(before, after) == text


def test_questions_that_cannot_be() -> None:
    found = compare("gpt2", "gpt2-xl", seq_len=4)
    with pytest.raises(UnknownNameError, match=r"no metric by module named 'flop'. Did you mean 'flops'"):
        found.modules("flop")
    with pytest.raises(InputError, match="a time needs hardware"):
        found.changes("time")
    with pytest.raises(InputError, match="a time needs hardware"):
        found.plot("time")
    for of in (0, 2, -1, True, "1"):
        with pytest.raises(InputError, match="of is a variant's number from 1 to 1"):
            found.changes("bytes", of)  # type: ignore[arg-type]


# ---- how it is shown


def test_the_text_says_what_is_the_same_and_what_differs() -> None:
    found = compare("llama-3.1-8b", w_bit=[16, 4], seq_len=1, cache_len=2048, hardware=CARD)
    lines = repr(found).splitlines()
    assert lines.pop(0) == found.sentence
    assert lines[0] == "meta-llama/Llama-3.1-8B (LlamaForCausalLM)"
    assert lines[1].startswith("batch_size 1, seq_len 1, cache_len 2048, a_bit 16, kv_bit 16, fusion none, attn sdpa")
    assert "w_bit" not in lines[1]
    assert lines[2] == "on card; at the roofline, operation by operation: no bound, for fused kernels move less"
    rows = {line.split("  ")[0]: line.split() for line in lines[3:] if line}
    assert rows["flops"][-1] == "="
    assert rows["weight_bytes"][-1] == "×0.25"
    assert rows["weight_bytes"][1:3] == ["16.06", "GB"]
    assert any(line.startswith("time  ") for line in lines)
    assert any(line.startswith("memory, at least") for line in lines)
    assert sum("at least" in line for line in lines) == 1
    assert sum(line.startswith("model.layers.mlp.") for line in lines) == 3


def test_what_differs_is_in_no_head() -> None:
    found = compare("gpt2", "mamba-2.8b-hf", hardware=["h100-sxm", "rtx-4090"], seq_len=2000)
    sentence, _, heads = repr(found).split("\n\n")[0].partition("\n")
    assert sentence == found.sentence
    assert "batch_size 1, seq_len 2000" in heads
    assert "openai-community" not in heads
    assert "state-spaces" not in heads
    assert "on NVIDIA" not in heads
    assert "operation by operation: no bound" in heads
    # of gpt2 alone, on both
    assert heads.count("tokens exceed the model's 1,024 positions") == 2
    assert "warning: gpt2, h100-sxm: " in heads
    assert found._repr_mimebundle_()["text/plain"] == repr(found)
    assert "operation by operation: no bound" in found._repr_mimebundle_()["text/html"]


def test_an_unknown_vector_peak_is_said() -> None:
    card = Accelerator(name="tensor-only", bandwidth=1e12, peaks={"bf16": 1e14})
    assert "warning: card: " not in repr(compare("gpt2", seq_len=8, hardware=[CARD, card]))
    assert "warning: tensor-only: tensor-only's vector peak" in repr(compare("gpt2", seq_len=8, hardware=[CARD, card]))


def test_what_does_not_fit_is_marked() -> None:
    unknown = Accelerator(name="unknown", bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
    analysis = populate("llama-3.1-8b", seq_len=8)  # 16 GB of weights
    small = Accelerator(name="small", memory_bytes=10**10, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
    found = compare("llama-3.1-8b", seq_len=8, hardware=[CARD, small, unknown])
    assert [one.metric("fits") for one in found.variants][:2] == [1, 0]
    assert math.isnan(found.variants[2].metric("fits") or 0)
    assert list(found.table().loc["fits"])[:2] == [1.0, 0.0]
    rows = {row[0]: row[1:] for row in tables(found)[0]}
    short = si(analysis.memory.total - 10**10, "B")
    assert rows["fits"] == ("yes", f"no, {short} short", "memory unknown")
    time = seconds(analysis.on(CARD).time)
    assert rows["time"] == (time, f"{time} ✗  =", f"{time} ?  =")
    assert "✗ does not fit, ? memory unknown" in repr(found)
    assert "small, does not fit" in repr(found.plot("time"))
    assert "does not fit" not in repr(found.plot("bytes"))
    assert "fits" not in repr(compare("gpt2", w_bit=[16, 8], seq_len=8))


def test_an_unknown_peak_is_no_error() -> None:
    found = compare("gpt2", seq_len=8, hardware=["h100-sxm", "apple-m5"])
    assert [one.marks for one in found.variants] == [(), ("compute unknown",)]
    assert "warning: apple-m5: compute unknown: apple-m5's 16-bit peak" in repr(found)


def test_only_times_of_fused_kernels_are_called_bounds() -> None:
    analysis = populate("gpt2", seq_len=8, fusion="engine")
    slow, eager = analysis.on(CARD, compute_efficiency=0.5), populate("gpt2", seq_len=8)
    peak = Variant("peak", analysis, analysis.on(CARD))
    text = repr(Comparison([peak, peak]))
    assert "time, at least" in text
    assert "lower bound: every fused kernel at its roofline" in text
    for other in (Variant("half", analysis, slow), Variant("eager", eager, eager.on(CARD))):
        text = repr(Comparison([peak, other]))
        assert "time, at least" not in text
        assert "lower bound" not in text
    text = repr(Comparison([Variant("half", analysis, slow), Variant("again", analysis, slow)]))
    assert "assumed: 50 % of the peak FLOP/s" in text
    assert "time, at least" not in text


def test_long_lists_are_cut_and_say_so() -> None:
    found = compare("gpt2", "gpt2-xl", seq_len=64)
    _, rows = tables(found)
    differing = [change for change in found.changes("bytes") if change.difference]
    assert len(rows) == 1 + MOST_ROWS + 1
    assert rows[-1][0] == f"and {len(differing) - MOST_ROWS} more that differ"
    # Nothing differs: no table of differences.
    assert len(tables(compare("gpt2", "gpt2", seq_len=64))) == 1
    assert repr(compare("gpt2", "gpt2", seq_len=64))


def test_everything_is_escaped() -> None:
    kernel = {"kernel_type": "basic", "operation": "a<b>", "unit": "matmul", "flops": "{seq_len}",
              "memory_access": {"read": "1", "write": "0"}}  # fmt: skip
    nasty = {"model_id": "<b>&\"'", "architecture": "", "kernels": [kernel]}
    html = compare(nasty, seq_len=[1, 2])._repr_mimebundle_()["text/html"]
    assert html.count("<b>") == html.count("</b>") == 1  # around the sentence
    assert "&lt;b&gt;" in html


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["", *BY_MODULE])
def test_bars_add_up(metric: str) -> None:
    found = compare("gpt2", "t5-small", "mamba-2.8b-hf", seq_len=64, hardware=CARD)
    plot = found.plot(metric)
    shown = metric or "time"
    (ax,) = plot.figure.axes
    for one, bars in zip(found.variants, ax.containers, strict=True):
        whole = one.roofline.time if shown == "time" else one.analysis.totals[shown]  # type: ignore[union-attr]
        assert sum(bar.get_width() for bar in bars) == pytest.approx(whole, rel=1e-9)
    assert repr(plot).startswith(f"{shown}, by role")  # none of their modules are the same
    own = compare("gpt2", "gpt2-xl", seq_len=64, hardware=CARD).plot(metric)
    assert repr(own).startswith(f"{shown}, by module")
    assert repr(plot) == repr(found.plot(metric))
    assert plot.png().startswith(b"\x89PNG")
    assert compare("gpt2", "t5-small", seq_len=4).plot().figure.axes[0].get_xlabel() == "bytes"


def test_bars_of_fused_kernels_are_bounds() -> None:
    plot = compare("gpt2", "gpt2-xl", seq_len=64, fusion="engine", hardware=CARD).plot()
    assert repr(plot).startswith("time, at least, by module")
    assert plot.figure.axes[0].get_xlabel() == "time, at least"


# ---- several devices


def test_ranks_are_compared() -> None:
    run: dict[str, Any] = {"seq_len": 16, "hardware": "h100-sxm", "nodes": 2, "overlap": 0.5}
    found = compare("llama-3.1-8b", tp=[1, 8, 16], **run)
    table = found.table()
    assert [*table.loc["devices"]] == [1, 8, 16]
    stream = 16 * 4096 * 2
    assert [*table.loc["payload_bytes"]] == [0, *[65 * stream + 16 * 128_256 * 2] * 2]
    assert [*table.loc["fits"]] == [1, 1, 1]
    assert (table.attrs["units"]["devices"], table.attrs["units"]["payload_bytes"]) == ("", "B")
    for one, tp in zip(found.variants, (1, 8, 16), strict=True):
        rank = populate("llama-3.1-8b", seq_len=16, tp=tp)
        assert one.analysis.totals == rank.totals
        assert one.roofline is not None
        assert one.roofline.time == rank.on("h100-sxm", nodes=2, overlap=0.5).time
    text = repr(found)
    rows = {line.split("  ")[0]: line.split()[1:] for line in text.splitlines()}
    assert rows["devices"] == ["1", "8", "16"]
    assert rows["payload_bytes"] == ["0", "B", "12.62", "MB", "new", "12.62", "MB", "new"]
    assert text.count("fits, each rank") == 1
    assert "over 2 nodes, 50 % of the communication is hidden" in text
    spread = found.variants[2]  # nobody measured it: what is expected has no interval
    assert spread.estimate is None
    assert spread.roofline is not None
    assert spread.metric("estimate") == spread.roofline.expected >= spread.roofline.lower_bound
    assert text.count("no interval: several nodes not measured") == 2
    assert "ep 1" not in text  # what nobody divides by is not said


def test_one_device_says_nothing_of_devices() -> None:
    found = compare("gpt2", "gpt2-xl", seq_len=16, hardware=CARD)
    assert {"devices", "payload_bytes"}.isdisjoint(found.metrics)
    text = repr(found)
    assert all(word not in text for word in ("devices", "payload", "each rank", "tp 1", "rank None"))


def test_what_all_ranks_share_is_said_once() -> None:
    heads = repr(compare("llama-3.1-8b", tp=8, rank=3, w_bit=[16, 8], seq_len=16)).splitlines()[2]
    assert "tp 8, rank 3," in heads
    assert "pp" not in heads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 2}, "nodes and overlap need hardware"),
        ({"overlap": 0.5}, "nodes and overlap need hardware"),
        ({"nodes": True, "hardware": "h100-sxm"}, "nodes is a whole number from 1 to 100,000, not True"),
        ({"overlap": "half", "hardware": "h100-sxm"}, "not 'half'"),
        ({"hardware": "h100-sxm"}, "tp=16 needs 16 devices, a node of h100-sxm has 8: give --nodes 2"),
        ({"hardware": "h100-sxm", "nodes": 3}, "8 devices do not spread evenly over 3 nodes"),
    ],
)
def test_ranks_that_cannot_be_compared(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        compare("llama-3.1-8b", tp=[8, 16], seq_len=4, **options)
    assert message in str(caught.value)


def test_other_families_are_compared_by_role() -> None:
    """Two of Mixtral's eight experts have the MLP of Llama 3.1 each; attention is the same, module by module."""
    found = compare("llama-3.1-8b", "mixtral-8x7b-v0.1", seq_len=1, cache_len=2048, hardware=CARD)
    by, times = found.aligned("time")
    assert by == "role"
    assert sum(numbers[0] for numbers in times.values()) == pytest.approx(found.variants[0].metric("time"))
    assert sum(numbers[1] for numbers in times.values()) == pytest.approx(found.variants[1].metric("time"))
    mlp, attention = times["MLP / experts"], times["attention"]
    assert mlp[1] == pytest.approx(2 * mlp[0], rel=1e-3)
    assert attention[0] == attention[1]
    parameters = found.by_role("parameters")
    assert parameters["MLP / experts"] == [32 * 3 * 4096 * 14336, 32 * (8 * 3 * 4096 * 14336 + 8 * 4096)]
    text = repr(found)
    assert "time, by role" in text
    assert "0 s" not in text
    assert found.sentence in text
    assert compare("llama-3.1-8b", "llama-3.1-70b", seq_len=1, cache_len=2048).aligned("bytes")[0] == "module"


def test_what_a_variant_has_none_of_is_a_dash() -> None:
    text = repr(compare("gpt2", "mamba-2.8b-hf", seq_len=16, hardware=CARD))
    (line,) = (line for line in text.splitlines() if line.startswith("attention "))
    assert line.split()[-1] == "-"
    (line,) = (line for line in text.splitlines() if line.startswith("state space "))
    assert line.split()[2] == "-"


def test_the_sentence_of_a_comparison() -> None:
    found = compare("gpt2", w_bit=[16, 4], seq_len=1, cache_len=64, hardware=CARD)
    first, last = (one.metric("time") for one in found.variants)
    assert first is not None
    assert last is not None
    words = f"w_bit 4 takes {last / first:.3g} times as long as w_bit 16"
    assert found.sentence == f"{words}; most of the difference is in: MLP / experts."
    assert compare("gpt2", "gpt2", seq_len=8).sentence == "gpt2 (2) moves as many bytes as gpt2 (1)."
