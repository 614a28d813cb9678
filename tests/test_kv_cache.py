"""docs/kv-cache.md: what others publish, where they are right, is what the formulas give."""

from __future__ import annotations

import pytest
from builders import ROOT

from tools import kv_cache

RIGHT = [claim for claim in kv_cache.CLAIMS if claim.why.startswith(("right", "the same mended", "the same after"))]
UNBOUNDED = "Mistral-7B"  # right for engines that ignore its window


@pytest.mark.parametrize("claim", [one for one in RIGHT if UNBOUNDED not in one.model], ids=lambda one: one.said)
def test_published_figures_that_are_right(claim: kv_cache.Claim) -> None:
    """Of five sources, each with a formula of its own; to the last digit that they give."""
    found = kv_cache.cached(claim.model, claim.tokens, claim.batch_size)
    assert found == pytest.approx(claim.bytes, rel=0.01)


@pytest.mark.slow
def test_the_page_is_written_anew_after_a_change() -> None:
    assert (ROOT / kv_cache.PAGE).read_text(encoding="utf-8") == kv_cache.page()


def test_twenty_models_and_the_formula_of_most_calculators() -> None:
    """By hand: Llama-3.1-8B has 32 layers of 8 key heads, 4096 / 32 wide; falcon-7b one key head, and 71 of queries."""
    assert len(set(kv_cache.MODELS)) == 20
    assert kv_cache.per_layer_head("meta-llama/Llama-3.1-8B", 1000) == 2 * 32 * 8 * 128 * 1000 * 2
    assert kv_cache.per_layer_width("meta-llama/Llama-3.1-8B", 1000) == 2 * 32 * 4096 * 1000 * 2
    assert kv_cache.per_layer_width("tiiuae/falcon-7b") == 71 * kv_cache.cached("tiiuae/falcon-7b")
