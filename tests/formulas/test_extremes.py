"""Operations that are decided: equal values with fewer comparisons."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbanalyzer.formulas.extremes import decided
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.polynomial import Atom, Polynomial
from nbanalyzer.formulas.simplify import expanded, reduced

COEFFICIENTS = st.integers(-3, 6)


def polynomial(text: str) -> Polynomial:
    return expanded(parse(text), {})


def provably(one: Polynomial) -> bool:
    return one.never_negative


def operations(one: Polynomial) -> list[str]:
    return sorted(atom.operation for atom in one.atoms if atom.operation != "variable")


@st.composite
def arguments(draw: st.DrawFn) -> str:
    a, b, c = (draw(COEFFICIENTS) for _ in range(3))
    return f"({a} + {b} * {{x}} + {c} * {{x}} * {{y}})"


@given(
    st.lists(arguments(), min_size=2, max_size=3), st.lists(arguments(), min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5),
)  # fmt: skip
def test_values_stay(three: list[str], two: list[str], points: list[tuple[int, int]]) -> None:
    both = f"max({', '.join(two)}) * {{y}} + 3 * min({', '.join(two)})"
    whole = polynomial(f"{both} + min({', '.join(three)}) + 2 * max({', '.join(three)})")
    fewer = decided(whole, provably)
    assert len(operations(fewer)) <= len(operations(whole))
    for x, y in points:
        assert fewer.evaluate({"x": x, "y": y}) == whole.evaluate({"x": x, "y": y})


def test_what_is_never_chosen_is_left_out() -> None:
    assert decided(polynomial("max({x}, 2 * {x} + 1)"), provably) == polynomial("2 * {x} + 1")
    assert decided(polynomial("min({x}, 2 * {x} + 1)"), provably) == polynomial("{x}")
    three = decided(polynomial("max({x}, {y}, {x} + 1)"), provably)
    assert three == Polynomial.of(Atom("max", (polynomial("{y}"), polynomial("{x} + 1"))))
    # Equal ones: one of them stays.
    assert decided(Polynomial.of(Atom("max", (polynomial("{x}"), polynomial("{x}")))), provably) == polynomial("{x}")


def test_what_is_inside_another_is_decided_too() -> None:
    assert decided(polynomial("max(max({x}, {x} + 1), {y})"), provably) == polynomial("max({x} + 1, {y})")
    # The same operation on all of them, of which one is never the largest.
    assert decided(polynomial("max(max({x}, {y}), {x} + 1)"), provably) == polynomial("max({y}, {x} + 1)")
    assert decided(polynomial("max(max({x}, {y}) + {x}, {x})"), provably) == polynomial("max({x}, {y}) + {x}")


def test_no_minimum_is_more_than_one_of_its_own() -> None:
    assert decided(polynomial("max(3 * {x}, 2 * min({x}, 5))"), provably) == polynomial("3 * {x}")
    assert decided(polynomial("max(10 + {y}, 2 * min({x}, 5))"), provably) == polynomial("10 + {y}")
    # At 3 the second is more, and less of it is nothing that could be said of the first.
    assert operations(decided(polynomial("max({x}, 2 * min({x}, 5))"), provably)) == ["max"]
    assert operations(decided(polynomial("max(3 * {x}, 20 - 2 * min({x}, 5))"), provably)) == ["max"]


def test_what_is_chosen_for_sizes_from_one_needs_who_knows_it() -> None:
    law = polynomial("max({x}, 1)")
    assert operations(decided(law, provably)) == ["max"]
    assert decided(law, lambda one: one.never_negative or one == polynomial("{x} - 1")) == polynomial("{x}")
    least = polynomial("min({x}, 1)")
    assert operations(decided(least, provably)) == ["min"]
    assert decided(least, lambda one: one.never_negative or one == polynomial("{x} - 1")) == polynomial("1")


def test_least_and_largest_of_the_same_two_share_a_comparison() -> None:
    law = decided(polynomial("max({x}, 5) + 0.25 * min({x}, 5)"), provably)
    assert operations(law) == ["max"]
    assert law == polynomial("0.75 * max({x}, 5) + 0.25 * {x} + 1.25")
    assert operations(decided(polynomial("min({x}, 5)"), provably)) == ["min"]
    assert operations(decided(polynomial("max({x}, 5) + min({x}, 6)"), provably)) == ["max", "min"]


def test_shared_factors_of_a_quotient_are_left_out() -> None:
    above, below = polynomial("4 * {x} * {y}**2 * ({z} + 1)"), polynomial("2 * {x} * {y}")
    assert reduced(above, below, {"x", "y"}) == (polynomial("4 * {y} * ({z} + 1)"), polynomial("2"))
    assert reduced(above, below, {"y"}) == (polynomial("4 * {x} * {y} * ({z} + 1)"), polynomial("2 * {x}"))
    assert reduced(above, polynomial("{x} + 1"), {"x"}) == (above, polynomial("{x} + 1"))
