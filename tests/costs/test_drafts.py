"""Tokens that a decode step with drafts writes, by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from nbanalyzer.costs.drafts import tokens_a_step, words_of
from nbanalyzer.costs.run import Run


@pytest.mark.parametrize(
    ("run", "tokens"),
    [
        ({}, Fraction(1)),
        ({"mtp": 1}, Fraction(185, 100)),  # DeepSeek-V3's share
        ({"mtp": 1, "acceptance": 0}, Fraction(1)),
        ({"mtp": 3, "acceptance": 1}, Fraction(4)),
        ({"mtp": 2, "acceptance": 0.5}, Fraction(7, 4)),
        ({"mtp": 3, "acceptance": 0.1}, Fraction(1111, 1000)),
    ],
)
def test_tokens(run: dict[str, Any], tokens: Fraction) -> None:
    assert tokens_a_step(Run(**run)) == tokens


def test_in_words() -> None:
    assert words_of(Run()) == words_of(Run(acceptance=0.5)) == ""
    assert words_of(Run(mtp=2, acceptance=0.5)) == "mtp 2: 1.75 tokens a step at acceptance 0.5"
    assert words_of(Run(mtp=1)) == ("mtp 1: 1.85 tokens a step at acceptance 0.85, the least in DeepSeek-V3's report")
