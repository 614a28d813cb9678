"""Derivations of small kernels, by hand: sums, launches that are shared, and what is written between."""

from __future__ import annotations

from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import populate
from nbanalyzer.costs.explanation import Derivation, explain_node, number_of, with_values
from nbanalyzer.formulas.formula import parse


def parts(count: int) -> Any:
    """Return the costs of as many modules with one kernel each, called a, b, ….

    Their paths end in their names, so that these are enough to tell them apart.
    """
    return populate(template(*(composite(name, basic("1", "2", "3")) for name in "abcdefghi"[:count])))


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, ""), (2, "; one launch with: b"), (7, "; one launch with: b, c, d, e, f, g"),
        (8, "; one launch with: b, c, d, e, f, g and 1 more"), (9, "; one launch with: b, c, d, e, f, g and 2 more"),
    ],
)  # fmt: skip
def test_six_modules_that_a_launch_is_shared_with(count: int, said: str) -> None:
    costs = parts(count)
    basics = tuple(node for node in costs.nodes if node.is_basic)
    launches = [("linear", ()), ("chain", basics)]
    found = explain_node(costs.find("a"), costs.costs, costs.values, launches)
    assert found.launches == (f"launch 2 (chain): op{said}",)
    assert number_of(basics[0], launches) == 2
    assert explain_node(costs.find("a"), costs.costs, costs.values).launches == ()
    alone = explain_node(costs.find("a"), costs.costs, costs.values, [])
    assert alone.launches == ("not launched, an engine does without: op",)


def test_a_number_says_how_often_it_counts() -> None:
    assert Derivation("x", "", "2 * {a}", "2 * 3", 6, 4).steps() == ["2 * {a}", "2 * 3", "6  × 4 = 24"]
    assert Derivation("x", "", "2 * {a}", "2 * 3", 6, 1).steps() == ["2 * {a}", "2 * 3", "6"]
    assert Derivation("x", "{b}", "{a}", "6", 6, 1).steps() == ["{b}   (module template)", "{a}", "6"]
    assert Derivation("x", "{a}", "{a}", "6", 6, 1).steps() == ["{a}", "6"]
    assert Derivation("x", "", "6000", "6000", 6000, 1).steps() == ["6,000"]


def test_values_in_the_place_of_variables() -> None:
    formula = parse("{seq_len} * {hidden_size} - {cache_len}")
    assert with_values(formula, {"seq_len": 2, "hidden_size": 3, "cache_len": 0}) == "2 * 3 - 0"
