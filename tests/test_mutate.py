"""What `make mutate` takes for a mutant, which tests it asks, and how it counts."""

from __future__ import annotations

import pytest

pytest.importorskip("cosmic_ray", reason="only `make mutate` installs cosmic-ray")

from tools import mutants, mutate
from tools.mutants import Mutant
from tools.mutate import Covered, Result

SOURCE = '''\
from dataclasses import dataclass
LIMIT = 10

@dataclass(frozen=True)
class Point:
    x: int | None = 1

class Box(Struct, frozen=True, kw_only=True):
    pass

def work(first: int, *, second: int | None = None) -> int | None:
    """Return 2 * first."""
    if first < LIMIT and not second:
        return {**{"a": first * 2}}["a"]
    return (
        first
        + 3
    )
'''
OPERATORS = (
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceTrueWithFalse",
    "ReplaceBinaryOperator_(Add_Sub|Mul_Div|Pow_Mul|BitOr_BitAnd)",
    "ReplaceComparisonOperator_Lt_LtE",
)


def changes() -> set[tuple[str, str]]:
    found = set()
    for mutant in mutants.mutants("some.py", SOURCE, OPERATORS):
        text = mutants.changed(mutant, SOURCE)
        if text is not None:
            found.add(mutants.lines_of(SOURCE, text))
    return {(before, after.replace("  ", " ")) for before, after in found}


def test_a_mutant_changes_what_runs() -> None:
    """Neither annotations, flags of dataclasses and structs, the stars of signatures and displays, nor docstrings."""
    condition, product = "if first < LIMIT and not second:", 'return {**{"a": first * 2}}["a"]'
    assert changes() == {
        ("LIMIT = 10", "LIMIT = 11"),
        ("LIMIT = 10", "LIMIT = 9"),
        ("x: int | None = 1", "x: int | None = 2"),
        ("x: int | None = 1", "x: int | None = 0"),
        (condition, "if first <= LIMIT and not second:"),
        (condition, "if first < LIMIT or not second:"),
        (product, product.replace("2", " 3").replace("  ", " ")),
        (product, product.replace("2", " 1").replace("  ", " ")),
        (product, product.replace("first * 2", "first / 2")),
        ("+ 3", "- 3"),
        ("+ 3", "+ 4"),
        ("+ 3", "+ 2"),
    }


@pytest.mark.parametrize(
    ("line", "lines"), [(2, [2]), (6, [6]), (11, [11]), (13, [13]), (14, [14]), (17, [15, 16, 17, 18])]
)
def test_the_statement_around_a_line(line: int, lines: list[int]) -> None:
    assert [*mutate.statement(SOURCE, line)] == lines


def test_the_tests_that_run_a_statement_are_asked_the_fastest_first() -> None:
    seconds = {"tests/a.py::slow": 5.0, "tests/a.py::fast": 0.5, "tests/b.py::other": 0.1, "tests/a.py::idle": 0.2}
    lines = {"some.py": {2: [""], 16: ["tests/a.py::slow"], 18: ["tests/a.py::fast", "tests/b.py::other"]}}
    covered = Covered(seconds, lines)
    inside, outside = Mutant("some.py", 17, 8, "", 0), Mutant("some.py", 2, 8, "", 0)
    assert covered.tests(inside, SOURCE, ["tests/a.py"], 10) == ["tests/a.py::fast", "tests/a.py::slow"]
    assert covered.tests(inside, SOURCE, ["tests/a.py"], 5) == ["tests/a.py::fast"]
    assert covered.tests(inside, SOURCE, ["tests"], 0.7) == ["tests/b.py::other", "tests/a.py::fast"]
    # What runs as the file is loaded, all tests have run.
    assert covered.tests(outside, SOURCE, ["tests/a.py"], 10) == [
        f"tests/a.py::{name}" for name in ("idle", "fast", "slow")
    ]
    seconds["tests/test_some.py::own"] = 9.0
    assert covered.tests(outside, SOURCE, ["tests"], 10)[:2] == ["tests/test_some.py::own", "tests/b.py::other"]
    assert covered.tests(Mutant("some.py", 14, 0, "", 0), SOURCE, ["tests"], 10) == []


def test_equivalent_mutants_are_not_counted() -> None:
    mutant = Mutant("some.py", 2, 0, "NumberReplacer", 0)
    outcomes = ("killed", "killed", "killed", "survived", "equivalent")
    results = [Result("room", mutant, "x = 1", "x = 2", outcome) for outcome in outcomes]  # type: ignore[arg-type]
    text = mutate.report(results)
    assert "| room | 5 | 3 | 1 | 1 | 75.0 % |" in text
    assert "- some.py:2 `x = 1` → `x = 2`" in text
    assert "No survivors." in mutate.report(results[:3])


def test_listed_equivalents_are_still_there() -> None:
    assert len(mutants.equivalents()) > 5
    assert mutants.stale() == []
