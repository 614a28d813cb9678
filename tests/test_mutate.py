"""What `make mutate` takes for a mutant, which tests it asks, and how it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="only `make mutate` installs cosmic-ray")

from tools import mutants, mutate
from tools.mutants import Mutant
from tools.mutate import Covered, Result, Room

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
    covered = Covered(seconds, lines, set())
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


def test_what_survives_the_quick_tests_is_tried_against_all_others() -> None:
    seconds = {"a::slow": 50.0, "a::fast": 0.5, "a::long": 8.0, "a::slower": 200.0, "a::idle": 0.1}
    run = [name for name in seconds if name != "a::idle"]
    covered = Covered(seconds, {"some.py": {14: run}}, {"a::slow", "a::slower"})
    mutant = Mutant("some.py", 14, 8, "", 0)
    quick = covered.tests(mutant, SOURCE, ["a"], 5)
    assert quick == ["a::fast"]
    assert covered.tests(mutant, SOURCE, ["a"], 1000) == ["a::fast", "a::long"]
    assert covered.tests(mutant, SOURCE, ["a"], 100, but=quick) == ["a::long", "a::slow"]
    assert covered.tests(mutant, SOURCE, ["a"], 10, but=quick) == ["a::long"]
    assert covered.tests(mutant, SOURCE, ["a"], 1000, but=[]) == ["a::fast", "a::long", "a::slow", "a::slower"]


@pytest.mark.parametrize(
    ("noticed", "outcome", "quick", "asked"),
    [
        ("a::fast", "killed", True, [["a::fast"]]),
        ("a::slow", "killed", False, [["a::fast"], ["a::slow"]]),
        ("none", "survived", False, [["a::fast"], ["a::slow"]]),
    ],
)
def test_a_mutant_is_tried_twice(
    noticed: str, outcome: str, quick: bool, asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[list[str]] = []

    def is_killed(mutant: Mutant, text: str, tests: list[str], limit: float, copy: Path) -> bool:
        assert (mutant, text, copy) == (changed, "x = 2\n", tmp_path)
        assert limit == {"a::fast": 10 + 5 * 0.5, "a::slow": 10 + 5 * 50}[tests[0]]
        tried.append(tests)
        return noticed in tests

    monkeypatch.setattr(mutate, "is_killed", is_killed)
    changed = Mutant("some.py", 1, 4, "NumberReplacer", 0)
    covered = Covered({"a::slow": 50.0, "a::fast": 0.5}, {"some.py": {1: ["a::slow", "a::fast"]}}, {"a::slow"})
    room = Room("room", ("some.py",), ("a",))
    result = mutate.tried(room, changed, "x = 1\n", "x = 2\n", covered, 5, 100, tmp_path)
    assert (result.outcome, result.quick, tried) == (outcome, quick, asked)
    assert (result.before, result.after, result.mutant) == ("x = 1", "x = 2", changed)


def test_equivalent_mutants_are_not_counted() -> None:
    mutant = Mutant("some.py", 2, 0, "NumberReplacer", 0)
    outcomes = ("killed", "killed", "killed", "survived", "equivalent")
    results = [Result("room", mutant, "x = 1", "x = 2", outcome) for outcome in outcomes]  # type: ignore[arg-type]
    text = mutate.report(results)
    assert "| room | 5 | 3 | 3 | 1 | 1 | 75.0 % | 75.0 % |" in text
    late = [Result("late", mutant, "x = 1", "x = 2", "killed", quick=False)]
    text = mutate.report(results + late)
    assert "| late | 1 | 1 | 0 | 0 | 0 | 0.0 % | 100.0 % |" in text
    assert "| together | 6 | 4 | 3 | 1 | 1 | 60.0 % | 80.0 % |" in text
    assert "- some.py:2 `x = 1` → `x = 2`" in text
    assert "No survivors." in mutate.report(results[:3])


def test_listed_equivalents_are_still_there() -> None:
    assert len(mutants.equivalents()) > 5
    assert mutants.stale() == []
