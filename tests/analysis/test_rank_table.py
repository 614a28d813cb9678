"""All ranks of a mesh side by side: sums and shares that have to agree with the whole."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer import populate
from nbanalyzer.errors import InputError


def test_the_ranks_together_have_what_is_divided_once() -> None:
    """Of GPT-2's table the 50,257 rows are on 4 ranks: three alike, one with 3 rows less."""
    ranks = populate("gpt2", tp=4).ranks()
    assert [(row.first, row.last) for row in ranks.rows] == [(0, 2), (3, 3)]
    first, last = (row.costs.totals["parameters"] for row in ranks.rows)
    assert first - last == 3 * 768


@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v3"])
def test_the_stages_together_have_all_layers(model: str) -> None:
    whole = populate(model, seq_len=64)
    rows = populate(model, seq_len=64, pp=4).ranks().rows
    assert [row.stage for row in rows] == [0, 1, 2, 3]
    for metric in ("parameters", "matmul_flops"):
        assert sum(row.costs.totals[metric] for row in rows) == whole.totals[metric]
    assert sum(row.costs.state_bytes for row in rows) == whole.state_bytes


def test_what_a_rank_holds_is_its_memory() -> None:
    (row,) = populate("mixtral-8x7b-v0.1", seq_len=64, tp=2).ranks().rows
    assert sum(row.holdings.values()) == row.memory.total
    experts = 32 * 8 * 3 * 4096 * 14_336 // 2 * 2
    assert row.holdings["experts"] == experts
    attention = 32 * 4096 * 128 * (16 + 4 + 4 + 16) * 2
    assert row.holdings["attention"] == attention


def test_replicas_are_counted_and_the_busiest_is_told() -> None:
    ranks = populate("llama-3.1-8b", seq_len=1, cache_len=100, dp=3, pp=2, tp=2, fusion="engine").ranks()
    assert ranks.replicas == 3
    assert [(row.first, row.last) for row in ranks.rows] == [(0, 1), (6, 7)]
    assert ranks.busiest.stage == 1  # with the head


def test_times_by_rank_are_those_of_the_rank() -> None:
    run: dict[str, Any] = {"seq_len": 1, "cache_len": 100, "pp": 2, "tp": 2, "fusion": "engine"}
    analysis = populate("llama-3.1-8b", **run)
    for row in analysis.ranks(analysis.on("h100-sxm")).rows:
        assert row.roofline is not None
        alone = populate("llama-3.1-8b", **run, rank=row.first).on("h100-sxm")
        assert row.roofline.time == alone.time
        total = row.roofline.total
        assert total.time == pytest.approx(total.compute + total.memory + total.link + total.overhead)


def test_it_is_shown_and_drawn() -> None:
    analysis = populate("llama-3.1-8b", seq_len=1, cache_len=100, pp=2, tp=2, fusion="engine")
    ranks = analysis.ranks(analysis.on("h100-sxm"))
    lines = repr(ranks).splitlines()
    assert lines[1] == "4 devices: tp 2, pp 2"
    assert [line.split()[:3] for line in lines[-2:]] == [["0", "to", "1"], ["2", "to", "3"]]
    picture = ranks.plot()
    assert len(picture.figure.axes) == 2
    assert picture.text.splitlines()[0] == "what the ranks hold: meta-llama/Llama-3.1-8B on 4 devices"
    drawn = {bar.get_label() for bar in picture.figure.axes[0].containers}
    assert {"attention", "feed-forward", "state"} <= drawn


def test_more_ranks_than_are_counted_one_by_one() -> None:
    with pytest.raises(InputError, match="2,048 ranks may differ: at most 1,024 are shown"):
        populate("llama-3.1-405b", tp=128, pp=16).ranks()


def test_one_device_is_called_so() -> None:
    assert repr(populate("gpt2").ranks()).splitlines()[1] == "one device"
