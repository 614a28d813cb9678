"""The page of docs/coverage.md: what is behind a message, where that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.coverage import BEHIND, Result, report

pytestmark = pytest.mark.pytorch

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"


def test_a_reason_takes_the_place_of_its_message_only() -> None:
    message, reason = BEHIND["blt"]
    page = report([Result("causal", "blt", "not traceable", f"it fails: {message}")])
    assert f"| blt | not traceable | {reason} |" in page
    assert "| blt | not traceable | another one |" in report([Result("causal", "blt", "not traceable", "another one")])
    assert "| blt | exact |  |" in report([Result("causal", "blt", "exact")])


@pytest.mark.parametrize("model_type", BEHIND)
def test_the_page_says_the_reason(model_type: str) -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {model_type} | ")]
    assert any(line.endswith(f" | {BEHIND[model_type][1]} |") and "| exact |" not in line for line in lines)
