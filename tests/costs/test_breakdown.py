"""What a total is made of: the largest parts, the rest as one, and the sum over roles, by hand."""

from __future__ import annotations

from nbanalyzer.costs.breakdown import Part, explain_parts
from nbanalyzer.costs.explanation import Explanation
from nbanalyzer.formulas.formula import parse


def explained(*numbers: int) -> Explanation:
    """Return the derivation of parts, named by their place, in turn of the MLP and of attention."""
    roles = ("MLP", "attention")
    parts = [
        Part(f"part {place}", roles[place % 2], parse(f"{number} * {{batch_size}}"), number)
        for place, number in enumerate(numbers)
    ]
    return explain_parts("flops", parts, {"batch_size": 1})


def test_parts_are_the_largest_first_and_roles_in_their_order() -> None:
    total, first, second, third = explained(300, 500, 200).derivations
    assert (total.what, total.in_model, total.number) == ("flops", "MLP 50 % + attention 50 %", 1000)
    assert [one.what for one in (first, second, third)] == [
        "part 1 (attention): 50 %", "part 0 (MLP): 30 %", "part 2 (MLP): 20 %",
    ]  # fmt: skip
    assert [one.number for one in (first, second, third)] == [500, 300, 200]
    assert first.in_model == "500 * {batch_size}"


def test_small_parts_are_the_others() -> None:
    """A hundredth of the total is large enough, less is not; what is nothing is no part."""
    found = explained(980, 10, 6, 4, 0).derivations
    assert [one.what for one in found[1:]] == ["part 0 (MLP): 98 %", "part 1 (attention): 1 %", "2 others: 1 %"]
    assert found[3].number == 10
    assert {one.count for one in found} == {1}  # of the whole pass, once
    assert explained(9_991, 9).derivations[2].what == "1 other: under 1 %"


def test_eight_parts_have_a_formula_of_their_own() -> None:
    assert [len(explained(*[100] * number).derivations) for number in (7, 8, 9, 12)] == [8, 9, 10, 10]
    assert explained(*[100] * 9).derivations[-1].what == "1 other: 11 %"
    assert explained(*[100] * 12).derivations[-1].number == 400


def test_the_total_of_nothing() -> None:
    (total,) = explained(0, 0).derivations
    assert (total.in_model, total.number) == ("nothing", 0)
