"""Formulas: written by the grammar, or written and then damaged; compared with an independent evaluator."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import numpy as np

from nbanalyzer.formulas.algebra import expanded_sympy
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.formulas.grammar import MAX_LENGTH, Number
from nbanalyzer.formulas.program import Program
from nbanalyzer.formulas.simplify import expanded

from .campaign import Campaign, Watch
from .independent import NoValueError, RoundedError, TooLongError, value_of

__all__ = ["FORMULAS", "formula_text"]

NAMES = ("a", "b", "seq_len", "x_1", "hidden_size")
BINARY = ("+", "-", "*", "*", "+", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=")
SCRAPS = (
    *"+-*/%<>=(),{}", "**", "//", " ", "if", "else", "{a}", "{", "0", "9" * 41, "1e9", "é", "\n", "\t", "\x00", "lambda",
    "__import__('os')", "max(", "min()", "ceil(1,2)", "{}", "{1}", ".", "0.", ".5", "99999999", "**-64", "((((", "))))",
)  # fmt: skip
SAFE_LENGTH = 400  # characters beyond which Python's own parser nests too deep for the comparison


def number(rng: random.Random) -> str:
    kind = rng.randrange(12)
    if kind < 6:
        return str(rng.randrange(12))
    if kind < 8:
        return f"{rng.randrange(100)}.{rng.randrange(1000)}"
    return rng.choice(("64", "65", "100", "1024", "9999999999", "0.5", "2", f"{rng.getrandbits(120)}", "00", "1.0"))


def expression(rng: random.Random, depth: int) -> str:
    """Return a formula, most of the time one that can be read."""
    if depth <= 0 or rng.random() < 0.15:
        return number(rng) if rng.random() < 0.5 else f"{{{rng.choice(NAMES)}}}"

    def part() -> str:
        text = expression(rng, depth - 1)
        return f"({text})" if rng.random() < 0.5 else text

    kind = rng.randrange(20)
    space = " " * rng.randrange(2)
    if kind < 13:
        operator = rng.choice(BINARY)
        right = str(rng.randint(-3, 9)) if operator == "**" and rng.random() < 0.8 else part()
        return f"{part()}{space}{operator}{space}{right}"
    if kind < 15:
        return f"{part()} if {part()} else {part()}"
    if kind < 17:
        return f"{rng.choice(('min', 'max'))}({','.join(expression(rng, depth - 1) for _ in range(rng.randint(2, 4)))})"
    if kind < 18:
        return f"{rng.choice(('ceil', 'floor'))}({part()})"
    return f"-{part()}" if kind < 19 else f"({part()})"


def repeated(rng: random.Random) -> str:
    """Return a formula that is large: the same again and again."""
    part, joint = expression(rng, 1), rng.choice(("+", "*", "-", "/", ",", "**"))
    times = rng.choice((20, 55, 200, 900))
    if joint == ",":
        return f"{rng.choice(('min', 'max'))}({joint.join(part for _ in range(times))})"[:12_000]
    if rng.random() < 0.3:
        opened = rng.choice(("(", "max(1,", "ceil(", "-(", "1 if 1 else ("))
        return opened * min(times, 70) + part + ")" * min(times, 70)
    return joint.join(f"({part})" for _ in range(times))[:12_000]


def damaged(rng: random.Random, text: str) -> str:
    """Return the text with a few places changed."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(3)
        text = text[:at] + (rng.choice(SCRAPS) if kind else "") + text[at + (kind != 1) :]
    return text


def formula_text(rng: random.Random) -> str:
    """Return the text of a formula, or of what is nearly one."""
    chance = rng.random()
    text = repeated(rng) if chance < 0.01 else expression(rng, rng.randint(0, 5))
    return damaged(rng, text) if 0.01 < chance < 0.3 else text


def values(rng: random.Random, names: Iterable[str]) -> dict[str, Number]:
    """Return a value for every variable."""
    kinds = (
        lambda: rng.randint(-3, 12),
        lambda: rng.choice((1, 2, 1024, 2**40, 10**30, -(2**20))),
        lambda: Fraction(rng.randint(-8, 8), rng.randint(1, 12)),
    )
    return {name: rng.choice(kinds)() for name in names}


def check(text: str, watch: Watch, rng: random.Random) -> None:
    """Do with a formula what the package does with one."""
    formula: Formula | None = watch.call("parse", parse, text)
    if formula is None:
        return
    written = watch.call("str", str, formula)
    if len(written) <= MAX_LENGTH:  # it has more spaces than what was read
        assert watch.call("parse again", parse, written) == formula, "what is written is another formula"
    at = values(rng, dict.fromkeys((*NAMES, *formula.variables)))
    found = watch.call("evaluate", formula.evaluate, at)
    _compare(text, at, found, watch)
    chance = rng.random()
    if chance < 0.15:
        watch.call("latex", formula.latex)
        watch.call("mathml", formula.mathml)
        _substitute(formula, at, found, watch, rng)
    elif chance < 0.3:
        _multiply_out(formula, at, found, watch)
    elif chance < 0.45:
        array = watch.call(
            "vectorize", formula.vectorize, {name: np.array([float(one)] * 2) for name, one in at.items()}
        )
        assert array is None or array.dtype == np.float64
    elif chance < 0.453:
        watch.call("sympy", formula.sympy)
        watch.call("sympy expanded", expanded_sympy, formula)


def _compare(text: str, at: Mapping[str, Number], found: Number | None, watch: Watch) -> None:
    if len(text) > SAFE_LENGTH:
        return
    try:
        expected = value_of(text, at)
    except (RoundedError, TooLongError):
        watch.counts["not compared"] += 1
        return
    except NoValueError:
        assert found is None, "a value where there is none"
        watch.counts["no value, as is right"] += 1
        return
    assert found is not None, "no value where there is one"
    assert found == expected, "a wrong value"
    assert isinstance(found, int) == (expected.denominator == 1), "a whole number that is no int"
    watch.counts["compared"] += 1


def _substitute(
    formula: Formula, at: Mapping[str, Number], found: Number | None, watch: Watch, rng: random.Random
) -> None:
    """Put formulas into the formula; what is constant is left out only where that changes no value."""
    bindings = {name: watch.call("parse a binding", parse, expression(rng, 1)) for name in rng.sample(NAMES, 3)}
    watch.call("substitute", formula.substitute, {name: one for name, one in bindings.items() if one})
    some = dict(rng.sample([*at.items()], 3))
    put = watch.call("substitute values", formula.substitute, some)
    assert put is not None, "values cannot be put in"
    if found is not None:
        assert watch.call("evaluate the rest", put.evaluate, at) == found, "putting in values changes the value"


def _multiply_out(formula: Formula, at: Mapping[str, Number], found: Number | None, watch: Watch) -> None:
    fixed = {"a": at["a"], "x_1": at["x_1"]}
    polynomial = watch.call("expanded", expanded, formula, fixed)
    if polynomial is None:
        return
    value = watch.call("polynomial", polynomial.evaluate, at)
    if found is not None and value is not None and min(at.values()) >= 0:  # no variable of a polynomial is negative
        assert value == found, "multiplied out, it is worth something else"
    watch.call("never negative", lambda: polynomial.never_negative)
    free = [name for name in at if name not in fixed]
    axes = {name: frozenset({place % 3}) for place, name in enumerate(free)}
    program = watch.call("program", Program, {"it": polynomial}, axes)
    if program is not None:
        arrays = {name: np.full((1, 1, 1), float(at[name])) for name in axes}
        watch.call("program evaluated", program.evaluate, arrays, (1, 1, 1))


def smaller(text: str) -> Iterator[str]:
    """Yield the text without some of it, or with a number in the place of what stands in parentheses."""
    for found in re.finditer(r"\([^()]*\)", text):
        yield f"{text[: found.start()]}1{text[found.end() :]}"
    size = len(text) // 2
    while size:
        for at in range(0, len(text), size):
            yield text[:at] + text[at + size :]
        size //= 2


FORMULAS = Campaign("formulas", formula_text, check, smaller)
