"""Derivations of small kernels, by hand: sums, launches that are shared, and what is written between."""

from __future__ import annotations

from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import populate
from nbanalyzer.costs.explanation import (
    Derivation,
    Explanation,
    explain_formula,
    explain_node,
    meaning,
    number_of,
    with_values,
)
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


def test_what_a_variable_is() -> None:
    assert meaning("hidden_size", 3000) == "{hidden_size} = 3,000   width of the residual stream"
    assert meaning("mine", 4) == meaning("mine", 4, {"other": "x"}) == "{mine} = 4"
    assert meaning("mine", 4, {"mine": "my own"}) == "{mine} = 4   my own"
    assert meaning("hidden_size", 3, {"hidden_size": "my own"}).endswith("width of the residual stream")


def test_a_number_of_the_whole_model() -> None:
    found = explain_formula("bytes", parse("2 * {hidden_size} + {seq_len}"), {"hidden_size": 3, "seq_len": 4})
    (one,) = found.derivations
    assert (one.what, one.in_model, one.with_values) == ("bytes", "2 * {hidden_size} + {seq_len}", "2 * 3 + 4")
    assert (one.number, one.count, one.in_module) == (10, 1, "")
    assert [line.partition("   ")[0] for line in found.bindings] == ["{hidden_size} = 3", "{seq_len} = 4"]


LINEAR = "torch.nn.modules.linear.Linear"
SIZES = {"num_tokens": "{seq_len}", "input_size": "{hidden_size}", "output_size": "3", "has_bias": "0"}
FLOPS = "2 * {num_tokens} * {input_size} * {output_size}"


def test_a_linear_is_derived_from_its_module_template() -> None:
    """Three copies that run twice each: 3 x 4 weights, 2 x 5 x 4 x 3 FLOPs of 5 tokens."""
    up = composite("up", module=LINEAR, bindings=SIZES, repeat="3", calls="2")
    costs = populate(template(composite("mlp", up), config={"hidden_size": 4}), seq_len=5)
    found = costs.explain("mlp.up")
    assert found.title == f"mlp.up  × 6  ({LINEAR})"
    assert found.bindings == (
        "{num_tokens} = {seq_len} = 5", "{input_size} = {hidden_size} = 4", "{output_size} = 3", "{has_bias} = 0",
    )  # fmt: skip
    assert found.description == up.get("description", "") == ""
    first, flops, *_ = found.derivations
    assert (first.what, first.number, first.count) == ("parameters", 12, 3)
    assert first.in_module == "{output_size} * ({input_size} + {has_bias})"
    assert (flops.what, flops.in_module, flops.number, flops.count) == ("matmul, flops (matmul)", FLOPS, 120, 6)
    alone = costs.explain("mlp.up.matmul")
    assert (alone.title, alone.bindings) == (f"mlp.up.matmul  × 6  ({LINEAR})", found.bindings)
    assert [one.what for one in alone.derivations] == [
        "matmul, flops (matmul)",
        "matmul, bytes read",
        "matmul, bytes written",
    ]
    assert alone.derivations[0].in_module == FLOPS
    sums = costs.explain("mlp").derivations
    assert [(one.what, one.number, one.count) for one in sums] == [
        ("flops, all repeats", 720, 1), ("bytes, all repeats", 6 * 2 * (5 * 4 + 3 * 4 + 5 * 3), 1),
        ("parameters, all repeats", 36, 1),
    ]  # fmt: skip


def test_what_does_not_follow_from_the_module_template_is_not_said_to() -> None:
    ops = basic("7 * {seq_len}", "1", "1", "matmul", "matmul"), basic("9", "1", "1", name="other")
    up = composite("up", *ops, module=LINEAR, bindings=SIZES, parameters="5", description="Its own.")
    costs = populate(template(composite("mlp", up), basic("1", name="top"), config={"hidden_size": 4}), seq_len=5)
    found = costs.explain("mlp.up")
    assert [one.in_module for one in found.derivations] == [""] * 7
    assert [one.number for one in found.derivations] == [5, 35, 1, 1, 9, 1, 1]
    assert found.description == "Its own."
    assert costs.explain("mlp.up.matmul").description == ""
    assert costs.explain("top").title == "top"


def test_launches_of_a_module_are_told_one_by_one() -> None:
    """Also of a kernel that stands in no module, and after one that runs in no launch."""
    inside = [basic("1", "2", "3", name=name) for name in ("first", "second", "third")]
    costs = populate(template(composite("part", *inside), basic("1", name="top")))
    first, second, third = costs.find("part").children
    launches = [("chain", (second, costs.find("top"))), ("linear", (third,))]
    found = explain_node(costs.find("part"), costs.costs, costs.values, launches)
    assert found.launches == (
        "not launched, an engine does without: first", "launch 1 (chain): second; one launch with: top",
        "launch 2 (linear): third",
    )  # fmt: skip
    assert [number_of(node, launches) for node in (first, second, third)] == [0, 1, 2]


def test_what_is_sent_has_a_payload() -> None:
    costs = populate("llama-3.1-8b", seq_len=4, tp=2)
    found = costs.explain("o_proj_all_reduce")
    assert [(one.what, one.number) for one in found.derivations] == [
        ("all-reduce of the tp ranks, payload in bytes", 4 * 4096 * 2),
    ]  # fmt: skip


def test_an_explanation_as_a_page() -> None:
    steps = (
        Derivation("w <o>", "", "2 * {seq_len}", "2 * 3", 6, 2), Derivation("v", "", "7", "7", 7, 1),
        Derivation("u", "", "{seq_len}", "3", 3, 1), Derivation("s", "", "names + of kernels", "3", 3, 1),
    )  # fmt: skip
    found = Explanation("a <title>", "what & why", ("{x} = 1",), steps, ("launch 1",))
    page = found.as_html()
    for said in (
        "what &amp; why",
        "{x} = 1",
        "launch 1",
        "w &lt;o&gt;",
        "  2 * {seq_len}\n= 2 * 3\n= 6  × 2 = 12</div>",
        "  7</div>",
    ):
        assert said in page
    assert page.count("<div>") == 4  # one for what each of the numbers is
    assert "<math" not in page
    whole = found._repr_mimebundle_()["text/html"]
    assert whole.count("<math") == 2  # no symbols without variables
    assert "<b>a &lt;title&gt;</b>" in whole
    assert Explanation("t", "", (), ()).as_html() == ""
