"""Times and memory as formulas, by hand: of small templates, and of polynomials."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.closed_form import (
    _at_least,
    _is_above,
    _overlapped,
    as_polynomial,
    kept_of,
    memory_of,
    time_of,
    working_sets,
)
from nbanalyzer.analysis.rates import Efficiency, Rates
from nbanalyzer.costs.symbolic import Symbolic
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.simplify import applied, expanded

# A byte and a FLOP take a second each.
CARD = Accelerator(name="card", bandwidth=1, peaks={"fp8": 1, "fp32": 1})


def polynomial(text: str) -> Polynomial:
    return expanded(parse(text), {})


def at(value: int, formula: Polynomial) -> Fraction:
    return Fraction(formula.evaluate({"seq_len": value}))


def symbolic(*kernels: dict[str, object], **run: Any) -> Symbolic:
    """Return the costs of kernels that stay free in seq_len; elements have one byte."""
    module = composite("part", *kernels, parameters="7")
    return populate(template(module), w_bit=8, a_bit=8, **run).symbolic("seq_len")


S, SQUARE = polynomial("{seq_len}"), polynomial("{seq_len} ** 2")
LONGER = applied("max", (SQUARE, S * 10))


# ---- times


def test_a_pass_takes_the_longest_of_each_launch() -> None:
    """5 S bytes are more than 3 S FLOP at any S; S² FLOP are more than 10 S bytes from 10 on; vector units know S."""
    products = [
        basic("3 * {seq_len}", "5 * {seq_len} * {a_bytes}", "0", "matmul", "short"),
        basic("{seq_len} ** 2", "10 * {seq_len} * {a_bytes}", "0", "matmul", "square", steps=2),
        basic("{seq_len} + 1", "{seq_len} * {a_bytes}", "0", "vector", "chain"),
    ]
    costs = symbolic(*products)
    run = populate(template(), w_bit=8, a_bit=8).run
    time = time_of(costs, Rates(CARD, run))
    assert (time.operation, len(time.parts)) == ("sum", 2)  # one launch alone is compared
    for value in (1, 9, 10, 11, 1000):
        whole = 5 * value + max(value**2, 10 * value) + value + 1
        assert at(value, as_polynomial(time)) == whole
        late = time_of(costs, Rates(CARD, run, Efficiency(launch_overhead=0.25)))
        assert at(value, as_polynomial(late)) == whole + 4 * Fraction(1, 4)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 1.0])
def test_of_communication_and_the_rest_the_shorter_is_hidden(overlap: float) -> None:
    links = S * 7 + polynomial("100")
    time = as_polynomial(_overlapped(S * 3, [(SQUARE, S * 10)], links, overlap))
    alone = as_polynomial(_overlapped(S * 3, [(SQUARE, S * 10)], Polynomial({}), overlap))
    for value in (1, 12, 13, 40):
        rest, sent = 3 * value + max(value**2, 10 * value), 7 * value + 100
        assert at(value, time) == rest + sent - Fraction(overlap) * min(rest, sent)
        assert at(value, alone) == rest


@pytest.mark.parametrize(
    ("time", "least", "is_above"),
    [
        (S * 2, S, True),
        (S, S, True),
        (S, S * 2, False),
        (LONGER, SQUARE, True),  # either argument is at most the larger one
        (LONGER, S * 10, True),
        (LONGER + S, S * 11, True),
        (LONGER, SQUARE + S * 10, False),
        (SQUARE * 3 + S * 30 - LONGER, S, False),  # true, but one argument in its place would be more than is there
        (S * 5 - polynomial("1"), S, True),  # less of something else is no matter: there is a token at least
        (applied("//", (S, polynomial("2"))), S, False),
        (applied("max", (SQUARE, S * 10, polynomial("50"))), S * 10, False),  # of two arguments alone
    ],
)  # fmt: skip
def test_a_time_that_is_above_its_bound_wherever_it_is(time: Polynomial, least: Polynomial, is_above: bool) -> None:
    assert _is_above(time, least) is is_above


def test_each_argument_of_a_largest_one() -> None:
    first, second = (_at_least(LONGER * 2 + S, place) for place in (0, 1))
    assert sorted([at(3, first), at(3, second)]) == [2 * 9 + 3, 2 * 30 + 3]


# ---- memory


def sets(*texts: str) -> Sequence[Polynomial]:
    reads = [basic("1", f"({text}) * {{a_bytes}}", "0", "vector", "op") for text in texts]
    return working_sets(symbolic(*reads))


def test_a_working_set_that_is_never_the_largest_is_left_out() -> None:
    assert sets("5 * {seq_len}", "3 * {seq_len}") == [S * 5]
    assert sets("3 * {seq_len}", "5 * {seq_len}") == [S * 5]
    assert sets("3 * {seq_len}", "{seq_len} ** 2", "2 * {seq_len}") == [S * 3, SQUARE]
    assert working_sets(populate(template()).symbolic("seq_len")) == [Polynomial({})]


@pytest.mark.parametrize(("many", "kept"), [(3, 3), (63, 63), (64, 65)])
def test_many_working_sets_are_not_compared(many: int, kept: int) -> None:
    """Each is the largest somewhere, but for one byte after them all."""
    texts = [f"{place} * {{seq_len}} + {20 * (many - place)}" for place in range(1, many + 1)]
    assert len(sets(*texts, "1")) == kept


def test_what_a_pass_does_not_run_needs_nothing() -> None:
    """A module that runs only beside a cache, so often as there are tokens in it."""
    large = composite("part", basic("1", "1000 * {a_bytes}", "0", "vector", "op"), repeat="{cache_len}")
    small = composite("other", basic("1", "10 * {a_bytes}", "0", "vector", "op"))
    run: dict[str, Any] = {"seq_len": 1, "a_bit": 8}
    costs = populate(template(large, small), **run).symbolic("cache_len")
    whole = as_polynomial(memory_of(costs))
    assert [whole.evaluate({"cache_len": number}) for number in (0, 1, 7)] == [10, 1000, 1000]
    never = populate(template(large, small), **run, cache_len=0).symbolic("batch_size")
    assert as_polynomial(memory_of(never)).evaluate({"batch_size": 3}) == 10


def test_several_passes_need_the_largest_working_set_and_what_the_last_keeps() -> None:
    first = symbolic(basic("1", "100 * {a_bytes}", "0", "vector", "op"))
    last = symbolic(basic("1", "{seq_len} * {a_bytes}", "0", "vector", "op"))
    whole = as_polynomial(memory_of(last, first))
    assert [at(value, whole) for value in (5, 100, 101)] == [107, 107, 108]  # beside 7 bytes of weights
    assert at(5, kept_of(last)) == 7
