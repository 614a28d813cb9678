"""Formulas multiplied out: worth what they were worth before, and their sums what a loop gives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from test_formula import NAMES, atom, expressions, infix

from nbanalyzer import models, populate
from nbanalyzer.errors import FormulaError
from nbanalyzer.formulas import summation
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import MAX_TERMS, Atom, Polynomial
from nbanalyzer.formulas.simplify import expanded

FEW = settings(deadline=None, suppress_health_check=list(HealthCheck))
# A size is never negative, which is what a polynomial may rely on.
SIZES = st.one_of(st.integers(0, 50), st.integers(1, 10**12), st.fractions(0, 20, max_denominator=12))


def environments() -> st.SearchStrategy[dict[str, Number]]:
    return st.fixed_dictionaries(dict.fromkeys(NAMES, SIZES))


def multiplied_out(text: str, values: dict[str, Number]) -> Polynomial:
    try:
        return expanded(parse(text), values)
    except FormulaError as error:
        assume("terms" not in str(error))  # of those that nobody could read, nothing is promised
        raise


# ---- the value


@pytest.mark.slow
@FEW
@given(st.data())
def test_a_formula_multiplied_out_is_worth_the_same(data: st.DataObject) -> None:
    values = data.draw(environments())
    formula = data.draw(expressions(values))
    put = data.draw(st.sets(st.sampled_from(NAMES)))
    early = {name: value for name, value in values.items() if name in put}
    late = {name: value for name, value in values.items() if name not in put}
    try:
        polynomial = multiplied_out(formula.bare, early)
        found = polynomial.evaluate(late)
    except FormulaError as error:
        assume("terms" not in str(error))
        raise
    assert found == formula.value == parse(formula.bare).evaluate(values)
    assert isinstance(found, int) == (formula.value.denominator == 1)
    assert set(polynomial.variables) <= late.keys()
    if polynomial.never_negative:
        assert found >= 0


@FEW
@given(st.data())
def test_sums_products_and_powers_of_polynomials(data: st.DataObject) -> None:
    values = data.draw(environments())
    left, right = (data.draw(expressions(values, 2)) for _ in range(2))
    one, other = (multiplied_out(each.bare, {}) for each in (left, right))
    assert (one + other).evaluate(values) == left.value + right.value
    assert (one - other).evaluate(values) == left.value - right.value
    assert (one * other).evaluate(values) == left.value * right.value
    assert (one * Fraction(3, 7)).evaluate(values) == left.value * Fraction(3, 7)
    assert (one - one) == Polynomial({})
    assert hash(one + other) == hash(other + one)


@pytest.mark.parametrize(
    ("text", "values", "polynomial"),
    [
        ("2 * {b} * ({c} + {s})", {}, "2 * b * c + 2 * b * s"),
        ("({s} + 1) ** 2 - {s} ** 2", {}, "1 + 2 * s"),
        ("{s} * {h} / 2", {"h": 3}, "3/2 * s"),
        ("{s} - {s}", {}, "0"),
        ("({s} + 1) ** 2 * 1", {}, "1 + 2 * s + s**2"),
        ("{s} ** 8", {}, "s**8"),
        ("{s} ** 9", {}, "**(s, 9)"),  # a large power is not multiplied out
        ("{s} ** {n}", {"n": 0}, "1"),
        ("min({c}, 7) + min({c}, 7)", {}, "2 * min(c, 7)"),
        ("max({c}, 0)", {}, "c"),
        ("max({c}, 0 - 5)", {}, "c"),
        ("{c} if {s} > 4 else 2 * {c}", {"s": 5}, "c"),
        ("{c} if {s} > 4 else {c}", {}, "c"),
        ("ceil({c} / 64) - -(-{c} // 64)", {}, "//(-1 * c, 64) + ceil(c, 64)"),
    ],
)
def test_what_is_written(text: str, values: dict[str, Number], polynomial: str) -> None:
    assert str(expanded(parse(text), values)) == polynomial


def test_a_branch_that_is_not_taken_need_not_be_a_number() -> None:
    polynomial = expanded(parse("0 if {c} == 0 else 12 // {c}"), {})
    assert [polynomial.evaluate({"c": value}) for value in (0, 1, 5)] == [0, 12, 2]
    assert expanded(parse("1 / {c} if {c} else 9"), {"c": 0}).number == 9
    with pytest.raises(FormulaError, match="division by zero"):
        expanded(parse("1 / {c}"), {"c": 0})
    with pytest.raises(FormulaError, match=r"\{c\} has no value"):
        expanded(parse("2 * {c}"), {}).evaluate({})


def test_what_nobody_could_read_is_refused() -> None:
    wide = " + ".join(f"{{x{index}}}" for index in range(199))
    with pytest.raises(FormulaError, match="terms"):
        expanded(parse(f"({wide}) * ({wide}) * ({wide})"), {})
    assert len(expanded(parse(f"({wide}) * ({wide})"), {}).terms) == 199 * 200 // 2 < MAX_TERMS


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("{a} + 2 * {b}", True),
        ("{a} - {b}", False),
        ("max({a} - {b}, 0)", True),
        ("min({a}, {b} ** 2)", True),
        ("{a} * (1 - 0.9 ** {b})", True),  # expected experts
        ("{a} - {a} * 0.9 ** {b}", True),
        ("min({a} - {b}, 5)", False),
        ("min({a} - {b}, 5) ** 2", True),
        ("min({a} - {b}, 5) ** 3", False),
        ("min({a} - {b}, 5) ** 2 * {a}", True),
        ("{a} * (1 - 1 ** {b})", True),
        ("{a} * (1 - 0 ** {b})", True),
        ("{a} * (1 - 1.25 ** {b})", False),
        ("{a} * (1 - (0 - 0.5) ** {b})", False),  # it is, and cannot be seen to be
        ("{a} * (1 - 0.5 ** ({b} - 5))", False),
        ("{a} * 0.9 ** {b} - {a}", False),
        ("{a} * ({b} > 3)", True),
        ("({a} - 7) ** 2", False),  # it is, and cannot be seen to be
    ],
)
def test_what_is_never_negative(text: str, known: bool) -> None:
    polynomial = expanded(parse(text), {})
    assert polynomial.never_negative == known
    if known:
        grid = [{"a": a, "b": b} for a in (0, 1, 7, 50) for b in (0, 1, 3, 4, 9)]
        assert all(polynomial.evaluate(values) >= 0 for values in grid)


@pytest.mark.parametrize(
    ("text", "at", "value", "slope"),
    [
        ("5", 3, 5, 0),
        ("{n}", 3, 3, 1),
        ("2 * {n} ** 3 + 7 * {n}", 3, 75, 61),  # 6 n² + 7
        ("{n} * (10 - {n})", 3, 21, 4),
        ("min({n}, 10)", 3, 3, 1),
        ("min({n}, 10)", 30, 10, 0),
        ("max(2 * {n}, 10)", 3, 10, 0),
        ("max(2 * {n}, 10)", 30, 60, 2),
        ("max(2 * {n}, 10)", 5, 10, 2),  # at the corner: the first branch that holds
        ("1 / ({n} + 1)", 3, Fraction(1, 4), Fraction(-1, 16)),
        ("6 / {n}", 3, 2, Fraction(-2, 3)),
        ("(6 // {n} if {n} > 2 else 4 * {n})", 2, 8, 4),
        ("({n} // 2 + 3 * {n} if {n} > 2 else 0)", 5, 17, Fraction(7, 2)),
        ("{n} // 2", 3, 1, Fraction(1, 2)),  # roundings: the slope of what is rounded
        ("7 // {n}", 3, 2, Fraction(-7, 9)),
        ("ceil({n} / 4)", 3, 1, Fraction(1, 4)),
        ("{n} % 4", 7, 3, 0),
        ("({n} > 2) * {n}", 3, 3, 1),
        ("({n} + 1) ** 10", 1, 1024, 10 * 512),
        ("(1 / {n}) ** 9", 2, Fraction(1, 512), Fraction(-9, 1024)),  # -9 / n ** 10
    ],
)
def test_values_and_derivatives(text: str, at: int, value: Number, slope: Number) -> None:
    assert expanded(parse(text), {}).tangent("n", at) == (value, slope)


@pytest.mark.parametrize(
    "text", ["0.5 ** {n}", "3 * 0.9 ** ({n} * 2) + {n}", "1 / (2 + 0.5 ** {n})", "({n} / 9) ** {n}"]
)
def test_derivatives_of_powers_are_slopes_between_near_values(text: str) -> None:
    polynomial = expanded(parse(text), {})
    value, slope = polynomial.tangent("n", 5)
    assert value == polynomial.evaluate({"n": 5})

    def exactly(n: float) -> float:
        return float(eval(text.replace("{n}", "n"), {"n": n}))  # our own texts

    assert float(slope) == pytest.approx((exactly(5 + 1e-5) - exactly(5 - 1e-5)) / 2e-5, rel=1e-6)


# ---- the sum


def summed(polynomial: Polynomial, start: int, stop: int) -> Number:
    total: Number = 0
    for value in range(start, stop):
        total += polynomial.evaluate({"n": value})
    return total


@FEW
@given(st.data())
def test_a_total_is_the_loop(data: st.DataObject) -> None:
    values = data.draw(environments())
    formula = data.draw(expressions(values))
    name = data.draw(st.sampled_from(NAMES))
    start = data.draw(st.integers(0, 60))
    stop = start + data.draw(st.integers(0, 25))
    others = {other: value for other, value in values.items() if other != name}
    parsed = parse(formula.bare)
    try:
        loop = sum((Fraction(parsed.evaluate({**others, name: value})) for value in range(start, stop)), Fraction(0))
    except FormulaError:  # a value at which it divides by zero
        reject()
    try:
        total = summation.total(expanded(parsed, others), name, start, stop)
    except FormulaError as error:
        assume("terms" not in str(error))
        raise
    assert total.is_constant
    assert total.number == loop


@pytest.mark.parametrize("power", range(9))
def test_powers_are_summed_in_closed_form(power: int) -> None:
    polynomial = Polynomial({((Atom("variable", name="n"), power),) if power else (): 3})
    for start, stop in ((0, 1), (0, 10), (7, 8), (5, 40), (9, 9), (9, 3)):
        assert summation.total(polynomial, "n", start, stop).number == 3 * sum(
            value**power for value in range(start, stop)
        )


@pytest.mark.parametrize(
    "text",
    [
        "min({n}, 4096)", "max({n} - 100, 0)", "min({n} + 1, 37) * {n}", "{n} if {n} > 20 else 3 * {n} ** 2",
        "({n} == 31) * 5", "({n} != 31) * {n}", "min({n}, max(7, 50 - {n}))", "min(2 * {n}, 61) // 1",
        "{n} // 64", "ceil({n} / 7) * {n}", "{n} % 16", "({n} % 5 == 0) * {n}", "0.5 ** {n}", "{n} ** 3 / 7",
        "min({n}, 40) % 8192 + ({n} // 8192) * 8192", "1 / ({n} + 1)", "(3 * {n} + 2) // 5", "100 // ({n} + 1)",
        "min({n}, 10.5)", "min({n}, {n} / 2 + 12.25)",
    ],
)  # fmt: skip
def test_pieces_are_summed_piece_by_piece(text: str) -> None:
    polynomial = expanded(parse(text), {})
    for start, stop in ((0, 1), (0, 70), (30, 33), (31, 32), (19, 23), (36, 41), (5, 5)):
        assert summation.total(polynomial, "n", start, stop).number == summed(polynomial, start, stop), (start, stop)


def test_what_else_is_free_stays_free() -> None:
    polynomial = expanded(parse("{b} * min({n}, {w}) + {n} * {b}"), {"w": 5})
    total = summation.total(polynomial, "n", 2, 9)
    assert total == expanded(parse("(2 + 3 + 4 + 5 * 4 + 2 + 3 + 4 + 5 + 6 + 7 + 8) * {b}"), {})


def test_a_sum_over_very_many_is_quick_and_exact() -> None:
    polynomial = expanded(parse("{n} ** 2 + min({n}, 4096) * 3"), {})
    last = 10**12
    squares = (last - 1) * last * (2 * last - 1) // 6
    assert summation.total(polynomial, "n", 0, last).number == squares + 3 * (4095 * 4096 // 2 + (last - 4096) * 4096)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("{n} // 1000000000", lambda n: n // 10**9),
        ("(3 * {n} + 7) // 10000000000", lambda n: (3 * n + 7) // 10**10),
        ("(5000000000 - {n}) // 1000000007", lambda n: (5 * 10**9 - n) // 1_000_000_007),
        ("ceil(({n} + 1) / 3000000000)", lambda n: -(-(n + 1) // (3 * 10**9))),
        ("({n} // 2000000000 == 1) * {n}", lambda n: n if n // (2 * 10**9) == 1 else 0),
        ("min({n}, 3000000000 - {n})", lambda n: min(n, 3 * 10**9 - n)),
    ],
)
def test_a_sum_over_billions_is_taken_in_pieces(text: str, one: Callable[[int], int]) -> None:
    """Each piece is linear, so twice its sum is its length times the sum of its ends: found here by halving."""

    def twice(start: int, stop: int) -> int:
        middle = (start + stop) // 2
        ends = one(start) + one(stop - 1)
        step = one(start + 1) - one(start) if stop - start > 1 else 0
        probes = {start, start + 1, middle, middle - 1, stop - 2, stop - 1}
        if stop - start < 8:
            return 2 * sum(map(one, range(start, stop)))
        if all(one(at) == one(start) + step * (at - start) for at in probes):
            return (stop - start) * ends
        return twice(start, middle) + twice(middle, stop)

    start, stop = 123_456_789, 5_000_000_003
    assert 2 * summation.total(expanded(parse(text), {}), "n", start, stop).number == twice(start, stop)


# ---- the formulas that we ship


@pytest.mark.slow
@pytest.mark.parametrize("name", models())
def test_every_shipped_formula_multiplied_out_is_worth_the_same(name: str) -> None:
    analysis = populate(name)
    fixed = {key: value for key, value in analysis.values.items() if key not in FREE}
    formulas = {str(formula): formula for node in analysis.nodes for formula in node.formulas}
    formulas |= {text: parse(text) for text in analysis.template.state.values()}
    for text, formula in formulas.items():
        polynomial = expanded(formula, fixed)
        for point in POINTS:
            free = dict(zip(FREE, point, strict=True))
            assert polynomial.evaluate(free) == formula.evaluate({**fixed, **free}), (text, point)


FREE = ("batch_size", "seq_len", "cache_len", "num_logits", "encoder_len")
POINTS: tuple[tuple[Any, ...], ...] = ((3, 17, 0, 17, 5), (2, 1, 5_003, 1, 77), (1, 130, 8_200, 1, 8_330))


def test_the_strategies_are_those_of_formulas() -> None:
    assert infix("+", atom("1", 1), atom("2", 2)).value == 3
