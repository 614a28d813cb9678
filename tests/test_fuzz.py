"""A short round of ``make fuzz``, always of the same cases; and whether it would notice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from fractions import Fraction

import pytest
from fuzz.campaign import Campaign, Watch, run
from fuzz.configs import CONFIGS
from fuzz.formulas import FORMULAS
from fuzz.independent import NoValueError, value_of
from fuzz.templates import TEMPLATES

from nbanalyzer.errors import FormulaError
from nbanalyzer.formulas import evaluation
from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.grammar import Number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("campaign", "count"),
    [(FORMULAS, 1_500), (TEMPLATES, 150), (CONFIGS, 12)],
    ids=lambda one: getattr(one, "name", ""),
)
def test_a_short_round_finds_nothing(campaign: Campaign, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.campaign.MOST_SECONDS", 5.0)  # the first call of its kind may import transformers
    watch = Watch()
    assert [str(one) for one in run(campaign, 10**6, count, watch)] == []
    assert watch.counts.total() > count


def test_the_independent_evaluator_knows_the_rules() -> None:
    assert value_of("1 + 2 * {a} ** 2 // 5 if 007 < {a} else 0.25", {"a": 10}) == 1 + 2 * 100 // 5
    assert value_of("0.1 + 0.2", {}) == Fraction(3, 10)
    assert value_of("max({a}, 1 / 3) % 2", {"a": Fraction(7, 2)}) == Fraction(3, 2)
    for text in ("1 / 0", "2 ** 65", "2 ** 0.5", "0 ** -1", "*".join(["2 ** 64"] * 65)):
        with pytest.raises(NoValueError):
            value_of(text, {})


def test_what_is_wrong_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    right = evaluation.evaluate

    def wrong(one: Formula, values: Mapping[str, Number]) -> Number:
        if "%" in str(one):
            raise ZeroDivisionError
        return right(one, values) + ("max" in str(one))

    monkeypatch.setattr(evaluation, "evaluate", wrong)
    found = {one.problem.split(" at ")[0]: str(one.case) for one in run(FORMULAS, 0, 150, Watch())}
    assert found.keys() == {"AssertionError a wrong value", "ZeroDivisionError"}
    assert len(found["ZeroDivisionError"]) <= 6
    assert found["AssertionError a wrong value"].startswith("max(")


def test_what_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.campaign.MOST_SECONDS", 0.01)

    def slow(_case: object, watch: Watch, _rng: random.Random) -> None:
        watch.call("loop", lambda: sum(range(10**7)))

    (found,) = run(Campaign("slow", random.Random.random, slow, nothing_smaller), 0, 1, Watch())
    assert found.problem.startswith("TooSlowError loop took more than")


def test_an_error_of_several_lines_is_found() -> None:
    def shout() -> None:
        raise LoudError("a", "b")

    def shouting(_case: object, watch: Watch, _rng: random.Random) -> None:
        watch.call("shout", shout)

    (found,) = run(Campaign("shout", random.Random.random, shouting, nothing_smaller), 0, 1, Watch())
    assert "of several lines" in found.problem


def nothing_smaller(_case: object) -> Iterator[object]:
    return iter(())


class LoudError(FormulaError):
    def __str__(self) -> str:
        return "one\ntwo"
