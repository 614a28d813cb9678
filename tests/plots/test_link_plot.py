"""The roofline of communication: its points by hand, and what it says in words."""

from __future__ import annotations

import pytest

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.link_dots import link_dots
from nbanalyzer.errors import InputError

CARD = Accelerator(
    name="eight", memory_bytes=80 * 10**9, bandwidth=1e12, peaks={"bf16": 1e15, "fp32": 5e13}, link_bandwidth=1e11,
    topology="switched", devices_per_node=8,
)  # fmt: skip
STREAM = 512 * 4096 * 2  # bytes of the residual stream, 512 tokens of Llama-3.1-8B
LOGITS = 512 * 128256 * 2


@pytest.mark.parametrize(("overlap", "exposed"), [(0, 1), (0.5, 0.5)])
def test_the_dots_by_hand(overlap: float, exposed: float) -> None:
    """A ring of n sends 2 (n - 1) / n of what it adds up, 65 times, and (n - 1) / n of the logits."""
    dots = link_dots(populate("llama-3.1-8b", seq_len=512).on(CARD, overlap=overlap))
    assert [dot.tp for dot in dots] == [2, 4, 8]
    for dot in dots:
        rank = populate("llama-3.1-8b", seq_len=512, tp=dot.tp)
        sent = (dot.tp - 1) / dot.tp * (2 * 65 * STREAM + LOGITS)
        assert dot.intensity == pytest.approx(rank.totals["flops"] / sent)
        assert dot.rate * dot.time == pytest.approx(rank.totals["flops"])
        assert dot.share == pytest.approx(exposed * sent / 1e11 / dot.time)  # the rest takes longer than the link


def test_a_rank_that_is_stated_has_the_same_dots() -> None:
    """The picture is of the busiest rank of every group."""
    whole, rank = populate("gpt2", seq_len=64), populate("gpt2", seq_len=64, tp=4, rank=3)
    assert link_dots(whole.on(CARD)) == link_dots(rank.on(CARD))


def test_the_picture() -> None:
    """Dots, both roofs, and the ridge where they meet: 10^15 FLOP/s through 10^11 B/s."""
    plot = populate("llama-3.1-8b", seq_len=512).on(CARD).plot("link")
    roof, line = plot.figure.axes[0].lines
    assert list(roof.get_xdata())[1] == pytest.approx(1e4)
    assert [*roof.get_ydata()][1:] == [1e15, 1e15]
    assert len(line.get_xdata()) == 3
    words = str(plot).splitlines()
    assert words[0] == "roofline of communication: meta-llama/Llama-3.1-8B on eight"
    assert words[1].strip() == "link 100.0 GB/s, peak 1.000 PFLOP/s, ridge at 10,000 FLOP/B"
    assert [word.split(":")[0].strip() for word in words[2:]] == ["tp 2", "tp 4", "tp 8"]


@pytest.mark.parametrize(
    ("options", "what", "said"),
    [
        ({"nodes": 2}, "link", "the roofline of communication is of the link within a node: give no --nodes"),
        ({}, "wire", "a roofline is of modules or of the link, not 'wire'"),
    ],
)
def test_what_has_no_picture(options: dict[str, int], what: str, said: str) -> None:
    """One line says why."""
    roofline = populate("gpt2", tp=4).on("h100-sxm", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        roofline.plot(what)


def test_a_card_whose_link_is_not_known() -> None:
    """It says which figure it lacks."""
    lonely = Accelerator(name="lonely", memory_bytes=10**10, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 5e13})
    with pytest.raises(InputError, match="the link bandwidth of lonely is not known"):
        populate("gpt2").on(lonely).plot("link")


def test_only_what_divides_the_heads_has_a_dot() -> None:
    """GPT-2 has 12."""
    assert [dot.tp for dot in link_dots(populate("gpt2", seq_len=64).on(CARD))] == [2, 4]
