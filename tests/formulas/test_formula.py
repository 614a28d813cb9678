"""The formula language, against Python's own arithmetic.

The random formulas are built together with their values: every node carries its text, once with all the
parentheses and once with only those that Python's precedence needs, and the exact value that Python's own
``int`` and ``Fraction`` arithmetic gives it.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbanalyzer.errors import FormulaError
from nbanalyzer.formulas import evaluation
from nbanalyzer.formulas.algebra import expanded_sympy, from_sympy
from nbanalyzer.formulas.formula import Formula, constant, parse
from nbanalyzer.formulas.mathml import to_mathml

NAMES = ("hidden_size", "seq_len", "x_1")
# Python's precedence, loosest first; calls, names and numbers are atoms.
TERNARY, COMPARISON, SUM, PRODUCT, SIGN, POWER, ATOM = range(1, 8)
COMPARE: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
FEW = settings(deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Expr:
    """A formula's text, with all parentheses and with the needed ones, how tightly it binds, and its value."""

    full: str
    bare: str
    binds: int
    value: Fraction

    def inside(self, loosest: int) -> str:
        return self.bare if self.binds >= loosest else f"({self.bare})"


def atom(text: str, value: Fraction | int) -> Expr:
    return Expr(text, text, ATOM, Fraction(value))


def infix(operator: str, left: Expr, right: Expr) -> Expr:
    a, b = left.value, right.value
    full = f"({left.full}){operator}({right.full})"
    if operator in COMPARE:  # they do not chain
        value = Fraction(int(COMPARE[operator](a, b)))
        bare = f"{left.inside(SUM)} {operator} {right.inside(SUM)}"
        return Expr(full, bare, COMPARISON, value)
    if operator in "+-":
        bare = f"{left.inside(SUM)} {operator} {right.inside(PRODUCT)}"
        return Expr(full, bare, SUM, a + b if operator == "+" else a - b)
    bare = f"{left.inside(PRODUCT)}{operator}{right.inside(SIGN)}"
    value = a * b if operator == "*" else a / b if operator == "/" else Fraction(a // b) if operator == "//" else a % b
    return Expr(full, bare, PRODUCT, value)


def power(base: Expr, exponent: Expr) -> Expr:
    value = Fraction(base.value) ** int(exponent.value)
    bare = f"{base.inside(ATOM)}**{exponent.inside(SIGN)}"
    return Expr(f"({base.full})**({exponent.full})", bare, POWER, value)


def negated(operand: Expr) -> Expr:
    return Expr(f"-({operand.full})", f"-{operand.inside(POWER)}", SIGN, -operand.value)


def chosen(yes: Expr, condition: Expr, no: Expr) -> Expr:
    full = f"({yes.full})if({condition.full})else({no.full})"
    bare = f"{yes.inside(COMPARISON)} if {condition.inside(COMPARISON)} else {no.inside(TERNARY)}"
    return Expr(full, bare, TERNARY, yes.value if condition.value != 0 else no.value)


def called(name: str, *arguments: Expr) -> Expr:
    values = [argument.value for argument in arguments]
    result = {
        "min": lambda: min(values),
        "max": lambda: max(values),
        "ceil": lambda: Fraction(math.ceil(values[0])),
        "floor": lambda: Fraction(math.floor(values[0])),
    }[name]()
    texts = (", ".join(f"({argument.full})" for argument in arguments), ",".join(each.bare for each in arguments))
    return Expr(f"{name}({texts[0]})", f"{name}({texts[1]})", ATOM, result)


def is_small(value: Fraction) -> bool:
    return max(abs(value.numerator), value.denominator) < 10**6


NUMBERS = st.one_of(
    st.integers(0, 100).map(lambda n: atom(str(n), n)),
    st.integers(0, 9999).map(lambda n: atom(f"{n // 100}.{n % 100:02d}", Fraction(n, 100))),
)
WHOLE = st.integers(0, 2**20).map(lambda n: atom(str(n), n))
VALUES = st.one_of(st.integers(-50, 50), st.integers(1, 10**12), st.fractions(-20, 20, max_denominator=12))


@st.composite
def expressions(
    draw: st.DrawFn,
    values: Mapping[str, Fraction | int],
    depth: int = 4,
    *,
    whole: bool = False,
    plain: bool = False,
) -> Expr:
    """Build a formula over `values`.

    With `whole`, one whose every part is an integer that a float64 holds; with `plain`, one that divides by
    nothing but numbers and variables: SymPy asks whether ``1 / (0 < x)`` is infinite for any x at all.
    """
    leaves = st.one_of(WHOLE if whole else NUMBERS, st.sampled_from(NAMES).map(lambda n: atom(f"{{{n}}}", values[n])))
    if depth == 0 or draw(st.integers(0, 6)) == 0:
        return draw(leaves)

    def part() -> Expr:
        return draw(expressions(values, depth - 1, whole=whole, plain=plain))

    kinds = ["+", "-", "*", "//", "%", *COMPARE, "neg", "if", "min", "max", "ceil", "floor"]
    kind = draw(st.sampled_from(kinds if whole else [*kinds, "/", "/", "**", "**"]))
    if kind == "neg":
        made = negated(part())
    elif kind == "if":
        made = chosen(part(), part(), part())
    elif kind in {"ceil", "floor"}:
        made = called(kind, part())
    elif kind in {"min", "max"}:
        made = called(kind, *(part() for _ in range(draw(st.integers(2, 4)))))
    elif kind == "**":
        base = part()
        exponent = draw(st.integers(0, 4).map(lambda n: atom(str(n), n)))
        if base.value != 0 and not plain and draw(st.booleans()):
            exponent = negated(exponent)
        made = power(base, exponent) if is_small(base.value) else called("floor", base)
    else:
        left, right = part(), draw(leaves) if plain and kind in {"/", "//", "%"} else part()
        undefined = kind in {"/", "//", "%"} and right.value == 0
        made = infix("+" if undefined else kind, left, right)
    return draw(leaves) if whole and abs(made.value) > 2**50 else made


def environments() -> st.SearchStrategy[dict[str, Fraction | int]]:
    return st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES))


def whole(value: Fraction) -> Fraction | int:
    return value.numerator if value.denominator == 1 else value


# ---- against Python's arithmetic


@FEW
@given(st.data())
def test_a_formula_is_worth_what_python_makes_of_it(data: st.DataObject) -> None:
    values = data.draw(environments())
    expected = data.draw(expressions(values))
    for text in (expected.full, expected.bare):
        found = parse(text).evaluate(values)
        assert found == expected.value
        assert isinstance(found, int) == (expected.value.denominator == 1)


@FEW
@given(st.data())
def test_the_text_of_a_formula_parses_to_the_same_formula(data: st.DataObject) -> None:
    values = data.draw(environments())
    expected = data.draw(expressions(values))
    formula = parse(expected.bare)
    assert parse(str(formula)) == formula
    assert hash(parse(str(formula))) == hash(formula)
    assert parse(expected.full).evaluate(values) == formula.evaluate(values)


@FEW
@given(st.data())
def test_substituting_then_evaluating_is_evaluating_with_the_values(data: st.DataObject) -> None:
    outer = data.draw(environments())
    inner = {name: data.draw(expressions(outer, 2)) for name in NAMES}
    expected = data.draw(expressions({name: whole(inner[name].value) for name in NAMES}, 3))
    substituted = parse(expected.bare).substitute({name: parse(inner[name].bare) for name in NAMES})
    assert substituted.evaluate(outer) == expected.value
    assert parse(str(substituted)).evaluate(outer) == expected.value
    # Numbers may stand for formulas.
    assert parse(expected.bare).substitute({n: whole(inner[n].value) for n in NAMES}).evaluate({}) == expected.value


@FEW
@given(st.data())
def test_whole_numbers_vectorize_exactly(data: st.DataObject) -> None:
    values = data.draw(st.fixed_dictionaries(dict.fromkeys(NAMES, st.integers(-1000, 2**30))))
    expected = data.draw(expressions(values, whole=True))
    found = parse(expected.bare).vectorize(values)
    assert found.dtype == np.float64
    assert found == expected.value


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_sympy_expression_is_worth_the_same(data: st.DataObject) -> None:
    values = data.draw(environments())
    expected = data.draw(expressions(values, 3, plain=True))
    rationals = {name: sympy.Rational(*Fraction(value).as_integer_ratio()) for name, value in values.items()}
    found = parse(expected.bare).sympy().subs(rationals, simultaneous=True)
    assert sympy.Rational(*expected.value.as_integer_ratio()) == found


@FEW
@given(st.data())
def test_latex_has_balanced_braces_and_no_raw_name(data: st.DataObject) -> None:
    latex = parse(data.draw(expressions(dict.fromkeys(NAMES, 2))).bare).latex()
    depth = 0
    for character in re.sub(r"\\[{}]", "", latex):
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert "hidden_" not in latex
    assert len(re.findall(r"\\left", latex)) == len(re.findall(r"\\right", latex))
    assert latex.count(r"\begin") == latex.count(r"\end")


WRITTEN = {
    "\N{INVISIBLE TIMES}": "*", "·": "*", "−": "-", "^": "**", "mod": "%", "⌈": "ceil(", "⌉": ")", "⌊": "floor(",
    "⌋": ")", "{": "(", "}": ")", ";": " else ", "otherwise": "", "\N{NO-BREAK SPACE}": " ", "=": "==", "≤": "<=",
    "≥": ">=", "≠": "!=",
}  # fmt: skip
SYMBOLS = {"dmodel": "hidden_size", "S": "seq_len", "x_1": "x_1"}


def without_tags(mathml: str) -> str:
    """Return what is left of MathML where tags are taken away."""
    return "".join(ElementTree.fromstring(f"<p>{mathml}</p>").itertext())


@FEW
@given(st.data())
def test_mathml_without_its_tags_is_worth_the_same(data: st.DataObject) -> None:
    """Read again, sign by sign, as an untrusted notebook shows it."""
    values = data.draw(environments())
    expected = data.draw(expressions(values, 3))
    text = re.sub(r"(?<=\d),(?=\d{3})", "", without_tags(parse(expected.bare).mathml()))
    text = re.sub(r"\b(?:dmodel|S|x_1)\b", lambda found: SYMBOLS[found[0]], text)
    for sign, meaning in WRITTEN.items():
        text = text.replace(sign, meaning)
    text = re.sub("|".join(NAMES), r"{\g<0>}", text)
    assert parse(text).evaluate(values) == expected.value


@pytest.mark.parametrize(
    ("text", "mathml"),
    [
        ("{hidden_size}", "<msub><mi>d</mi><mi>model</mi></msub>"),
        ("{kv_lora_rank}", "<mi>kv_lora_rank</mi>"),
        ("{own_a}", "<mi>own_a</mi>"),
        ("12345", "<mn>12,345</mn>"),
        ("0.25", "<mn>0.25</mn>"),
        ("{seq_len} - 1", "<mi>S</mi> <mo>−</mo> <mn>1</mn>"),
        ("{seq_len} < 2", "<mi>S</mi> <mo>&lt;</mo> <mn>2</mn>"),
        ("{seq_len} * 2", "<mi>S</mi> <mo>·</mo> <mn>2</mn>"),
    ],
)
def test_mathml(text: str, mathml: str) -> None:
    assert parse(text).mathml() == f'<math displaystyle="true">{mathml}</math>'


def test_what_mathml_draws_is_not_read_out() -> None:
    """A bar and a level are seen; their signs are there for pages without tags, and not displayed."""
    root = ElementTree.fromstring(parse("({seq_len} + 1) / 2 ** {batch_size}").mathml())
    unseen = [one.text for one in root.iter("mtext") if one.get("style") == "display:none"]
    assert sorted(map(str, unseen)) == sorted("()/^()")
    assert len([*root.iter("mfrac")]) == len([*root.iter("msup")]) == 1
    assert all(len(one) == 2 for kind in ("mfrac", "msup") for one in root.iter(kind))  # or browsers set an error


def test_a_long_sum_breaks_between_its_terms() -> None:
    text = parse("{batch_size} + 2 * {seq_len} + -3").mathml()
    assert [without_tags(one) for one in re.findall("<math.*?</math>", text)] == [
        "B",
        "+ 2\N{INVISIBLE TIMES} S",
        "− 3",
    ]


@FEW
@given(st.data())
def test_from_sympy_is_worth_the_same(data: st.DataObject) -> None:
    values = data.draw(environments())
    expected = data.draw(expressions(values, 3, plain=True))
    expression = parse(expected.bare).sympy()
    found = from_sympy(expression)
    if found is None:  # SymPy made of comparisons of comparisons what the language has no words for
        assert expression.has(sympy.And, sympy.Or, sympy.Not, sympy.ITE)
    else:
        assert evaluation.evaluate(found, values) == expected.value


def test_of_sympy_there_is_what_the_language_has() -> None:
    n, m = sympy.symbols("n m")
    for expression, text in (
        (-n + 1, "1 − n"),
        (sympy.Rational(-3, 2) * n, "−(3\N{INVISIBLE TIMES} n)/2"),
        (m / (3 * (n - 1) ** 2), "m/(3\N{INVISIBLE TIMES} (n − 1)^2)"),
        (sympy.floor(n / 2) + sympy.Min(n, 3), "⌊n/2⌋ + min(3, n)"),
        (sympy.Piecewise((n, n > 1), (2, True)), "{n if\N{NO-BREAK SPACE}n > 1; 2 otherwise}"),
    ):
        found = from_sympy(expression)
        assert found is not None
        assert without_tags(to_mathml(found)) == text
    for expression in (sympy.sin(n), n + sympy.sqrt(sympy.sin(m)), sympy.Piecewise((n, n > 1)), sympy.pi, sympy.oo):
        assert from_sympy(expression) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 2 + 3 * 4),
        ("(2 + 3) * 4", (2 + 3) * 4),
        ("10 - 4 - 3", 10 - 4 - 3),
        ("10 - (4 - 3)", 10 - (4 - 3)),
        ("100 / 10 / 5", 2),
        ("100 // 7 % 5", 100 // 7 % 5),
        ("2 * 7 // 3", 2 * 7 // 3),
        ("2 * (7 // 3)", 2 * (7 // 3)),
        ("2 ** 3 ** 2", 2**3**2),
        ("(2 ** 3) ** 2", (2**3) ** 2),
        ("-2 ** 2", -(2**2)),
        ("(-2) ** 2", (-2) ** 2),
        ("2 ** -1", Fraction(1, 2)),
        ("2 ** -2 ** 2", Fraction(1, 16)),
        ("-7 // 2", -7 // 2),
        ("-7 % 3", -7 % 3),
        ("7 % -3", 7 % -3),
        ("0 ** 0", 1),
        ("+5 - +3", 2),
        ("1 if 0 else 2 if 0 else 3", 3),
        ("(1 if 0 else 2) if 0 else 3", 3),
        ("1 + 1 if 1 < 2 else 5", 2),
        ("1 if -1 else 2", 1),
        ("1 if 2 else 1 / 0", 1),
        ("(1 < 2) + (2 < 3)", 2),
        ("1 < 2 + 3", 1),
        ("2 == 2.0", 1),
        ("max(1, 2, 3) - min(4, 5, 6)", -1),
        ("ceil(7 / 2) + floor(7 / 2)", 7),
        ("ceil(-7 / 2)", -3),
        ("ceil(3)", 3),
        ("\t1\n + \n2 ", 3),
    ],
)
def test_precedence_and_associativity_are_pythons(text: str, value: Fraction | int) -> None:
    assert parse(text).evaluate({}) == value
    assert parse(str(parse(text))).evaluate({}) == value
    if "1 / 0" not in text:
        assert parse(text).sympy() == sympy.Rational(*Fraction(value).as_integer_ratio())
        assert float(parse(text).vectorize({})) == pytest.approx(float(value), rel=1e-12)


def test_decimals_are_exact() -> None:
    assert parse("0.1").evaluate({}) == Fraction(1, 10)
    assert parse("0.1 + 0.2").evaluate({}) == Fraction(3, 10)
    assert parse("0.1 + 0.2 == 0.3").evaluate({}) == 1
    tiny = "0.0000000000000000000000000001"
    assert parse(tiny).evaluate({}) == Fraction(1, 10**28)
    assert parse(str(parse(f"{{a}} ** 2 * {tiny}"))).evaluate({"a": 3}) == Fraction(9, 10**28)
    assert parse("1 / 3 * 3").evaluate({}) == 1


def test_a_whole_result_is_an_int_again() -> None:
    assert type(parse("{w_bytes} * 6").evaluate({"w_bytes": Fraction(1, 2)})) is int
    assert type(parse("1.50 + 0.5").evaluate({})) is int
    assert type(parse("{a}").evaluate({"a": Fraction(4, 2)})) is int
    assert type(parse("1 / 2").evaluate({})) is Fraction
    assert type(parse("3 < 4").evaluate({})) is int


def test_big_sizes_stay_exact() -> None:
    formula = parse("2 * {a} * {a} * {a} * {a} + 1")
    assert formula.evaluate({"a": 2**40}) == 2 ** (1 + 4 * 40) + 1


@pytest.mark.slow
@pytest.mark.parametrize(("above", "below"), [(2, 3), (1, 3), (127, 128), (2**90 - 1, 2**90), (1, 2**80)])
@pytest.mark.parametrize("exponent", [65, 2_048, 2_049, 3_001, 6_783, 6_784, 100_000])
def test_large_powers_of_a_share(above: int, below: int, exponent: int) -> None:
    """Against Python's own whole numbers: exact up to 4,096 bits, then to 128 significant ones, 0 below 2 ** -3,968."""
    found = parse("{share} ** {n}").evaluate({"share": Fraction(above, below), "n": exponent})
    exact = Fraction(above**exponent, below**exponent) if exponent < 10_000 or below < 2**10 else None
    if exact is None:  # (1 - 2 ** -90) ** 100,000 is nearly 1, the other nothing
        assert (
            found == 0 if above == 1 else abs(1 - found - Fraction(exponent, below)) < Fraction(exponent**2, below**2)
        )
    elif Fraction(above, below).denominator.bit_length() * exponent <= 4_096:
        assert found == exact
    elif exact < Fraction(1, 2**3_968):
        assert found == 0
    else:
        assert 0 <= exact - found <= exact / 2**127
        assert Fraction(found).numerator.bit_length() <= 128
    for share in (0, 1):
        assert parse("{share} ** {n}").evaluate({"share": share, "n": exponent}) == share


def test_a_power_that_is_not_exact_has_128_bits() -> None:
    found = [parse("(2 / 3) ** {n}").evaluate({"n": exponent}) for exponent in range(2_100, 2_140)]
    assert max(Fraction(power).numerator.bit_length() for power in found) == 128


@pytest.mark.parametrize(
    ("text", "values", "value"),
    [
        ("{a} ** 64", {"a": 2**64 - 1}, (2**64 - 1) ** 64),  # 64 times 64 bits are 4,096
        ("{a} ** 64", {"a": 2**64}, None),
        ("{a} ** {n}", {"a": 3, "n": 64}, 3**64),
        ("{a} ** {n}", {"a": 3, "n": 65}, None),
        ("{a} ** {n}", {"a": 3, "n": -64}, Fraction(1, 3**64)),
        ("{a} ** {n}", {"a": 3, "n": -65}, None),
        ("{a} ** {n}", {"a": 2, "n": 100}, None),  # no share, which may have a larger exponent
        ("{a} ** {n}", {"a": Fraction(-1, 2), "n": 65}, None),
        ("{a} ** {n}", {"a": 0, "n": 0}, 1),
        ("{a} ** {n}", {"a": 0, "n": -1}, None),
        ("{a} + {b}", {"a": 2**4095, "b": 2**4095 - 1}, 2**4096 - 1),
        ("{a} + {b}", {"a": 2**4095, "b": 2**4095}, None),
        ("-{a} - {b}", {"a": 2**4095, "b": 2**4095 - 1}, 1 - 2**4096),
        ("-{a} - {b}", {"a": 2**4095, "b": 2**4095}, None),
        ("{a} + {b} + {c}", {"a": 2**4095, "b": 2**4095, "c": -1}, None),  # on the way
        ("{a} + {c} + {b}", {"a": 2**4095, "b": 2**4095, "c": -1}, 2**4096 - 1),
        ("-{a} + {c} + -{b}", {"a": 2**4095, "b": 2**4095, "c": 0}, None),
        ("{a} * {b}", {"a": 2**4000, "b": 2**95}, 2**4095),
        ("{a} * {b}", {"a": 2**4000, "b": 2**96}, None),
        ("{a} // {b}", {"a": 2**4095, "b": Fraction(1, 2)}, None),
        ("{a} // {b}", {"a": 2**4094, "b": Fraction(1, 2)}, 2**4095),
        ("-{a} // {b}", {"a": 2**4095, "b": Fraction(1, 2)}, None),
        ("{a} / {b}", {"a": 2**4095, "b": Fraction(1, 2)}, None),
        ("{a}", {"a": 2**4096 - 1}, 2**4096 - 1),
        ("{a}", {"a": 2**4096}, None),
        ("{a}", {"a": Fraction(1, 2**4096)}, None),
    ],
    ids=map(str, range(26)),  # the numbers have a thousand digits
)
def test_the_bounds_of_a_number(text: str, values: dict[str, int | Fraction], value: int | Fraction | None) -> None:
    """At most 4,096 bits, also on the way, and exponents of at most 64."""
    if value is not None:
        assert parse(text).evaluate(values) == value
        return
    with pytest.raises(FormulaError):
        parse(text).evaluate(values)


@pytest.mark.parametrize(
    "text",
    [
        "{a} * {b} / {c}", "{a} / {b} * {c}", "{a} / {b} / {c}", "{a} // {b} % {c}", "{a} - {b} - {c}", "{a} - ({b} - {c})",
        "{a} / ({b} * {c})", "{a} * ({b} + {c})", "-{a} ** 2", "(-{a}) ** 2", "{a} ** {b} ** {c}", "({a} ** {b}) ** {c}",
        "-{a} * {b}", "-(-{a})", "{a} + {b} < {c} * {d}", "({a} < {b}) + {c}", "({a} < {b}) < {c}",
        "{a} if {b} < {c} else {d} if {e} else {f}", "({a} if {b} else {c}) if {d} else {e}",
        "{a} if ({b} if {c} else {d}) else {e}", "({a} if {b} else {c}) + {d}", "min({a} + {b}, {c} if {d} else {e})",
    ],
)  # fmt: skip
def test_the_text_has_the_parentheses_that_matter_and_no_others(text: str) -> None:
    assert str(parse(text)) == text


def test_how_deep_a_formula_may_be() -> None:
    """60 deep: in parentheses, in powers, in operations."""
    assert parse("(" * 59 + "7" + ")" * 59).evaluate({}) == 7
    assert parse(" ** ".join(["1"] * 60)).evaluate({}) == 1
    assert parse(" - ".join(["1"] * 60)).evaluate({}) == -58
    assert parse(" + ".join(["1"] * 600)).evaluate({}) == 600  # is one sum
    for text in ("(" * 60 + "7" + ")" * 60, " ** ".join(["1"] * 61)):
        with pytest.raises(FormulaError, match="nested more than 60 deep"):
            parse(text)
    with pytest.raises(FormulaError, match="nested 61 deep, at most 60 are allowed"):
        parse(" - ".join(["1"] * 61))


def test_what_sympy_is_asked_for() -> None:
    # Case after case is no condition inside another; conditions inside conditions are counted.
    cases = "".join(f"{number} if {{n}} == {number} else " for number in range(12)) + "99"
    expression = parse(cases).sympy()
    assert [int(expression.subs("n", number)) for number in (0, 5, 11, 12)] == [0, 5, 11, 99]
    inside = "{n}"
    for number in range(1, 8):
        inside = f"min({inside} + {number}, {number} * {{m}})"
        if number <= 6:
            assert parse(inside).sympy().subs({"n": 1, "m": 1}) == parse(inside).evaluate({"n": 1, "m": 1})
    with pytest.raises(FormulaError, match="too many conditions, roundings, min and max for SymPy"):
        parse(inside).sympy()
    truth = parse("3 if {n} else 5").sympy()
    assert [truth.subs("n", number) for number in (-1, 0, 1)] == [3, 5, 3]
    assert parse("{n} ** (60 + 4)").sympy().subs("n", 2) == 2**64
    assert parse("{n} ** -(60 + 4)").sympy().subs("n", 2) == Fraction(1, 2**64)
    for exponent in ("(60 + 5)", "-(60 + 5)", "(1 / 2)"):
        with pytest.raises(FormulaError, match="an exponent is a whole number of at most 64"):
            parse(f"{{n}} ** {exponent}").sympy()
    assert parse("{n} ** 2 + {m} * {n} * 0").sympy().free_symbols == parse("{n}").sympy().free_symbols


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("{x} % {y}", "x % y"),
        ("({x} + {y}) % ({z} * 2)", "(x + y) % (z * 2)"),
        ("({x} % {y}) * {z}", "(x % y) z"),
        ("({x} * {y}) % {z}", "(x y) % z"),
        ("{x} if {y} + {z} else 3", "[x | y + z != 0 | 3]"),
        ("{x} if {y} < {z} else 3", "[x | y < z | 3]"),
        ("{x} if ({y} if {z} else 1) else 3", "[x | ([y | z != 0 | 1]) != 0 | 3]"),
        ("{x} - ({y} - {z})", "x - (y - z)"),
        ("{x} - {y} - {z}", "x - y - z"),
        ("({x} + {y}) ** 2", "(x + y)^{2}"),
        ("-({x} + {y})", "-(x + y)"),
        ("-{x} * {y}", "-x y"),
        ("{x} * -3", "x * -3"),
        ("{x} * 3 * {y}", "x * 3 y"),
        ("2 * {x} * ({y} + {z})", "2 x (y + z)"),
        ("({x} < {y}) + 1", "(x < y) + 1"),
    ],
)
def test_latex_is_read_as_the_formula_is(text: str, latex: str) -> None:
    """In a shorter writing: spaces for products, brackets for cases."""
    found = re.sub(r"\\mathrm{(\w)}", r"\1", parse(text).latex())
    cases = {r"\begin{cases} ": "[", r" & \text{if } ": " | ", r" & \text{otherwise} \end{cases}": "]", r" \\ ": " | "}
    others = {r"\left(": "(", r"\right)": ")", r"\bmod": "%", r"\ne": "!=", r"\cdot": "*", r"\,": ""}
    for command, short in (cases | others).items():
        found = found.replace(command, short)
    assert found == latex


def test_more_terms_than_sympy_should_multiply_out() -> None:
    """150 times 150 are 22,500, of at most 20,000; a square of 200 has 20,100."""
    wide, wider = (" + ".join(f"{{x{number}}}" for number in range(count)) for count in (150, 200))
    for text in (
        f"({wide}) * ({wide})",
        f"({wide}) * (1 / ({wide}))",
        f"({wider}) ** 2",
        f"({wide}) * {{y}} * ({wide})",
    ):
        with pytest.raises(FormulaError, match="multiplied out, this has too many terms"):
            expanded_sympy(parse(text))
    assert len(expanded_sympy(parse("({a} + {b} + {c}) * ({d} - {e})")).args) == 6
    assert len(expanded_sympy(parse("({a} + {b} + {c}) ** 3")).args) == 10
    assert len(expanded_sympy(parse("({a} + {b}) ** 64")).args) == 65


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(1, 2), "0.5"), (Fraction(5, 4), "1.25"), (Fraction(3, 20), "0.15"), (Fraction(7, 5), "1.4"),
        (Fraction(1, 1000), "0.001"), (Fraction(1, 3), "1 / 3"), (Fraction(5, 6), "5 / 6"), (Fraction(-1, 2), "-0.5"),
        (Fraction(1, 2**38), "0.00000000000363797880709171295166015625"),  # as long as a number may be that is read
        (Fraction(1, 2**39), f"1 / {2**39}"), (Fraction(1, 2**40), f"1 / {2**40}"), (Fraction(1, 2**41), f"1 / {2**41}"),
        (3, "3"), (-3, "-3"), (Fraction(6, 2), "3"),
    ],
)  # fmt: skip
def test_a_number_is_written_as_a_decimal_if_it_has_one(value: Fraction | int, text: str) -> None:
    assert str(constant(value)) == text
    assert parse(text).evaluate({}) == value


def test_the_branches_that_values_choose() -> None:
    formula = parse("({a} if {b} > 2 else {c} + 1) * ({c} if {d} else 3) + {e}")
    assert str(formula.resolve({"b": 3, "d": 0})) == "{a} * 3 + {e}"
    assert str(formula.resolve({"b": 2, "d": 1})) == "({c} + 1) * {c} + {e}"
    assert str(parse("{a}").resolve({})) == "{a}"
    assert str(parse("7").resolve({})) == "7"
    nested = parse("({a} if {c} else {b}) if {d} else {e}")
    assert [str(nested.resolve({"c": c, "d": d})) for c, d in ((1, 1), (0, 1), (1, 0))] == ["{a}", "{b}", "{e}"]


# ---- substituting


def test_substitution_is_simultaneous() -> None:
    swapped = parse("{x} - 2 * {y}").substitute({"x": parse("{y}"), "y": parse("{x}")})
    assert swapped == parse("{y} - 2 * {x}")
    assert parse("{x}").substitute({"x": parse("{x} + 1")}) == parse("{x} + 1")


@pytest.mark.parametrize(
    ("text", "bindings", "result"),
    [
        ("2 * {t} * {o}", {"t": "{batch_size} * {seq_len}", "o": "3 * {h}"}, "2 * {batch_size} * {seq_len} * 3 * {h}"),
        ("{a} * {b}", {"a": "{x} + {y}"}, "({x} + {y}) * {b}"),
        ("{b} - {a}", {"a": "{x} - {y}"}, "{b} - ({x} - {y})"),
        ("{a} ** 2", {"a": "-{x}"}, "(-{x}) ** 2"),
        ("{bias} * {n} + {m}", {"bias": "0"}, "{m}"),
        ("{bias} * {n} + {m}", {"bias": "1"}, "{n} + {m}"),
        ("{n} if {flag} else {m}", {"flag": "1"}, "{n}"),
        ("{n} if {flag} else {m}", {"flag": "2 < 1"}, "{m}"),
        ("{n} * {m}", {}, "{n} * {m}"),
        ("{n} * 2", {"n": "3"}, "3 * 2"),
        ("{n} + {m}", {"n": "0", "m": "0"}, "0"),
        ("{n} * {m}", {"n": "1", "m": "1"}, "1"),
        ("{n} * {m}", {"n": "0"}, "0"),
        ("{n} + {m} + {o}", {"n": "0", "o": "{x} + {y}"}, "{m} + {x} + {y}"),
        ("{n} - {m}", {"m": "0"}, "{n}"),
        ("{n} - {m}", {"n": "0"}, "-{m}"),
        ("{n} - {m}", {"n": "1", "m": "1"}, "1 - 1"),
        ("-{n}", {"n": "0"}, "0"),
        ("-{n}", {"n": "1"}, "-1"),
        ("{n} / {m}", {"n": "0"}, "0"),
        ("{n} // {m}", {"n": "0"}, "0"),
        ("{n} % {m}", {"n": "0"}, "0 % {m}"),
        ("{n} / {m}", {"n": "0", "m": "0"}, "0 / 0"),  # is an error when it is evaluated, and not before
        ("{n} / {m}", {"m": "1"}, "{n}"),
        ("{n} // {m}", {"m": "1"}, "{n} // 1"),  # rounds
        ("{n} ** {m}", {"m": "1"}, "{n}"),
        ("{n} ** {m}", {"m": "0"}, "{n} ** 0"),
        ("{n} if {flag} else {m}", {"flag": "1 / 0"}, "{n} if 1 / 0 else {m}"),
        ("{n} if {flag} else {m}", {"flag": "0"}, "{m}"),
    ],
)
def test_substituting_shows_where_it_comes_from(text: str, bindings: dict[str, str], result: str) -> None:
    assert str(parse(text).substitute({name: parse(bound) for name, bound in bindings.items()})) == result


def test_the_variables_come_once_each_in_the_order_of_the_text() -> None:
    assert parse("{b} + {a} * {b} if {c} else {a}").variables == ("b", "a", "c")


def test_a_formula_is_a_value() -> None:
    assert parse("{a}+1") == parse(" {a} + 1 ")
    assert parse("{a}+1") != parse("1+{a}")
    assert len({parse("{a}+1"), parse("{a} + 1")}) == 1
    with pytest.raises(AttributeError):
        parse("{a}").operation = "number"  # type: ignore[misc]


# ---- NumPy


def test_arrays_broadcast_together() -> None:
    heads, lengths = [[1], [2], [3]], [10, 20, 30, 40]
    found = parse("{num_heads} * {seq_len} ** 2 / 2 if {seq_len} > 15 else ceil({seq_len} / 4)").vectorize(
        {"num_heads": np.array(heads), "seq_len": np.array(lengths)}
    )
    assert found.tolist() == [[head * n**2 / 2 if n > 15 else math.ceil(n / 4) for n in lengths] for (head,) in heads]


def test_vectorizing_huge_sizes_does_not_overflow() -> None:
    sizes = {name: np.full(3, 2**40) for name in "abcd"}
    found = parse("2 * {a} * {b} * {c} * {d} + {a} ** 4").vectorize(sizes)
    assert found.tolist() == [2.0**161 + 2.0**160] * 3


def test_vectorize_agrees_with_the_exact_value_where_that_is_no_float() -> None:
    formula = parse("({a} * {b} / 3 + {a} ** 3 / 7) * min({a}, 0.1 * {b}) * {w}")
    for a in (1, 1000, 2**40):
        exact = (Fraction(a * (a + 1), 3) + Fraction(a**3, 7)) * min(Fraction(a), Fraction(a + 1, 10)) * Fraction(3, 8)
        assert formula.evaluate({"a": a, "b": a + 1, "w": Fraction(3, 8)}) == exact
        found = float(formula.vectorize({"a": a, "b": a + 1, "w": 0.375}))
        assert abs(Fraction(found) - exact) <= Fraction(1, 10**12) * exact


def test_vectorize_names_what_has_no_value() -> None:
    with pytest.raises(FormulaError, match=r"\{b\} has no value, at column 7 of"):
        parse("{a} + {b}").vectorize({"a": [1, 2]})


# ---- SymPy and LaTeX


def test_sympy_symbols_are_named_like_the_variables() -> None:
    batch, seq = sympy.symbols("batch_size seq_len")
    assert parse("2 * {batch_size} * {seq_len} ** 2 / 3").sympy() == sympy.Rational(2, 3) * batch * seq**2
    assert parse("{seq_len} // 2 if {seq_len} > 4 else 0").sympy().subs("seq_len", 9) == 4


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("2 * {batch_size} * {seq_len}", r"2\, B\, S"),
        ("{hidden_size}", r"d_{\mathrm{model}}"),
        ("{hidden_size} ** 2", r"d_{\mathrm{model}}^{2}"),
        ("({batch_size} + 1) * {seq_len}", r"\left(B + 1\right)\, S"),
        ("{batch_size} / {seq_len}", r"\frac{B}{S}"),
        ("{batch_size} - ({seq_len} - 1)", r"B - \left(S - 1\right)"),
        ("{my_field}", r"\mathrm{my\_field}"),
        ("2 * 3", r"2 \cdot 3"),
    ],
)
def test_latex_uses_the_symbols_of_the_field(text: str, latex: str) -> None:
    assert parse(text).latex() == latex


def test_latex_keeps_the_parentheses_that_matter() -> None:
    """What is added, scaled, negated or raised as a whole stands in parentheses."""
    assert r"\left(" in parse("(1 < {batch_size}) + 2").latex()
    assert r"\left(" in parse("{batch_size} % {seq_len} * {num_heads}").latex()
    assert r"\left(" in parse("({batch_size} / {seq_len}) ** 2").latex()
    assert r"\left(" in parse("-({batch_size} + 1)").latex()
    assert r"\left(" in parse("(-{batch_size}) ** 2").latex()


# ---- errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 * {a} + x", "unknown name 'x', a variable is written {x}, at column 11 of '2 * {a} + ▸ x'"),
        ("2 * ({a} + 1", "expected ')', the formula ends, at column 13 of '2 * ({a} + 1 ▸'"),
        ("{a} {b}", "expected an operator or the end, found 'b', at column 5 of '{a} ▸ {b}'"),
        ("{a} +", "expected a number, {name} or '(', the formula ends, at column 6 of '{a} + ▸'"),
        ("{a}.b", "unexpected '.', at column 4 of '{a} ▸ .b'"),
        ("{a", "a variable is written {name}, at column 1 of '▸ {a'"),
        ("1 < 2 < 3", "comparisons cannot be chained, at column 7 of '1 < 2 ▸ < 3'"),
        ("2 - -3", None),
        ("2 - --3", "two signs in a row, at column 6 of '2 - - ▸ -3'"),
        ("mim(1, 2)", "unknown name 'mim', did you mean min(…)?, at column 1 of '▸ mim(1, 2)'"),
        ("1 + max(2)", "max takes 2 or more arguments, not 1, at column 5 of '1 + ▸ max(2)'"),
        ("ceil(1, 2)", "ceil takes 1 argument, not 2, at column 1 of '▸ ceil(1, 2)'"),
        ("{a} ** 65", "an exponent is at most 64, at column 8 of '{a} ** ▸ 65'"),
        ("1 if {a}", "expected 'else', the formula ends, at column 9 of '1 if {a} ▸'"),
        ("", "expected a number, {name} or '(', the formula ends, at column 1 of '▸'"),
    ],
)
def test_an_error_quotes_the_formula_with_the_place_marked(text: str, message: str | None) -> None:
    if message is None:
        assert parse(text).evaluate({}) == 5
        return
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert caught.value.formula == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 + {a} / {b}", "division by zero, at column 5 of '1 + ▸ {a} / {b}'"),
        ("{a} // {b}", "division by zero, at column 1 of '▸ {a} // {b}'"),
        ("{a} % {b}", "division by zero, at column 1 of '▸ {a} % {b}'"),
        ("{b} ** (-1)", "division by zero, at column 1 of '▸ {b} ** (-1)'"),
        ("{a} + {lost}", "{lost} has no value, at column 7 of '{a} + ▸ {lost}'"),
        (
            "2 ** {big}",
            "an exponent is at most 64, not 1000000, unless its base is from 0 to 1, and here it is 2, at column 1 of '▸ 2 ** {big}'",
        ),
        ("2 ** ({a} / 2)", "an exponent has to be whole, not 3/2, at column 1 of '▸ 2 ** ({a} / 2)'"),
        ("({big} ** 64) ** 8", None),
    ],
)
def test_an_evaluation_error_marks_the_part(text: str, message: str | None) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text).evaluate({"a": 3, "b": 0, "big": 10**6})
    if message is not None:
        assert str(caught.value) == message


@pytest.mark.parametrize("value", [0.5, True, "3", np.float64(2), complex(1, 1)])
def test_a_value_that_is_not_exact_is_refused(value: object) -> None:
    with pytest.raises(FormulaError):
        parse("{a} + 1").evaluate({"a": value})  # type: ignore[dict-item]


BOMBS = {
    "tower": "9**9**9",
    "tower in parentheses": "(9**9)**9**9",
    "exponent": "2**65",
    "negative exponent": "2**-65",
    "parentheses": "(" * 10_000,
    "closed parentheses": "(" * 4_999 + "1" + ")" * 4_999,
    "minus signs": "-" * 10_000,
    "spaced minus signs": "- " * 4_000 + "1",
    "minus signs and parentheses": "-(" * 3_000 + "1" + ")" * 3_000,
    "too long": "1" + "+1" * 5_000,
    "literal": "9" * 41,
    "long literal": "9" * 9_999,
    "long decimal": "0." + "1" * 9_000,
    "functions": "ceil(" * 1_900 + "1" + ")" * 400,
    "closed functions": "min(1," * 1_400 + "1" + ")" * 1_400,
    "powers": "2**" * 3_000 + "1",
    "ternaries": "1 if 1 else " * 800 + "1",
    "conditions": "1 if (" * 1_200 + "1" + ") else 1" * 300,
    "differences": "1" + "-1" * 4_900,
    "divisions": "1" + "/1" * 4_900,
    "nested powers": "(((9**64)**64)**64)**64",
    "product of powers": "((2 ** 64) ** 64) ** 2",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_formula_bomb_is_an_error(name: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(BOMBS[name]).evaluate({})
    message = str(caught.value)
    assert len(message) < 400
    assert len(message.splitlines()) == 1


def test_the_bounds_themselves_are_allowed() -> None:
    assert parse("1" + " " * (10_000 - 1)).evaluate({}) == 1
    assert parse("2 ** 64").evaluate({}) == 2**64
    assert parse("9" * 40).evaluate({}) == 10**40 - 1
    half = 60 - 1
    assert parse("(" * half + "1" + ")" * half).evaluate({}) == 1
    assert parse("+".join(["1"] * 5_000)).evaluate({}) == 5_000


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "__import__",
        "{a}.b",
        "{a.b}",
        "{a[0]}",
        "{a!r}",
        "{a:>10}",
        "{a}[0]",
        "{a}({b})",
        "{{a}}",
        "{}",
        "{0}",
        "{ a }",
        "{a-b}",
        "x",
        "lambda: 1",
        "f'{a}'",
        "'1'",
        '"1"',
        "1 and 2",
        "1 or 2",
        "not 1",
        "1 in 2",
        "1 is 1",
        "True",
        "None",
        "abs(1)",
        "eval(1)",
        "pow(2, 3)",
        "min",
        "min()",
        "min(1)",
        "min(1,)",
        "min(*1)",
        "min(a=1)",
        "ceil()",
        "1 if 1",
        "if 1 else 2",
        "else",
        "1,2",
        "()",
        "[1]",
        "{a: 1}",
        "1;2",
        "a = 1",
        "a := 1",
        "1 ^ 2",
        "1 & 2",
        "1 | 2",
        "~1",
        "1 << 2",
        "1 @ 2",
        "1 <> 2",
        "1 = 1",
        "1_000",
        "1e5",
        "0x10",
        "1j",
        "1.",
        ".5",
        "1..2",
        "#",
        "1 # 2",
        "\\",
        "`1`",
        "１ + 1",
        "٣",
        "{é}",
        "{\u0430}",  # a Cyrillic letter
        "1 − 2",
        "1 × 2",
        "½",
        "∞",
        "\x00",
        "1\x00",
        "{a\n}",
        "{" + "a" * 101 + "}",
    ],
)
def test_nothing_but_the_language_is_accepted(text: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("space", ["\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\n", "\r\n", "\x1d"])
def test_the_message_is_one_line_whatever_the_text_holds(space: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(f"1 {space} {space} x")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["x" * 9_000, "1 " + "9" * 9_000, "1 " + "x" * 9_000, "(1 " + "x" * 9_000])
def test_the_message_is_short_however_long_a_word_is(text: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert len(str(caught.value)) < 400


def test_the_message_is_short_and_one_line_whatever_a_value_is() -> None:
    cases: list[tuple[str, object]] = [
        ("{a}", np.arange(4).reshape(2, 2)),
        ("{a}", "x" * 9_000),
        ("2 ** {a}", 10**5_000),
        ("2 ** ({a} / 3)", 10**5_000),
    ]
    for text, value in cases:
        with pytest.raises(FormulaError) as caught:
            parse(text).evaluate({"a": value})  # type: ignore[dict-item]
        assert len(str(caught.value)) < 400
        assert len(str(caught.value).splitlines()) == 1


def test_a_formula_error_survives_pickling() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("1 + x")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is FormulaError
    assert (again.problem, again.formula, again.position) == (caught.value.problem, "1 + x", 4)
    assert str(again) == str(caught.value)


def test_a_formula_survives_pickling() -> None:
    formula = parse("2 * {a} if {b} < 0.5 else ceil({c} / 3)")
    again = pickle.loads(pickle.dumps(formula))
    assert again == formula
    assert isinstance(again, Formula)


def test_floats_come_to_what_exact_numbers_do() -> None:
    text = (
        "max({a}, {b} * 3) - {a} % {b} + (ceil({a} / {b}) if {a} > {b} else floor({b})) * -{a} ** 2 // 3 + min({a}, 1)"
    )
    for a, b in ((Fraction(7, 2), 2), (1, 4), (-3, Fraction(5, 4)), (Fraction(1, 3), Fraction(2, 7))):
        exact = parse(text).evaluate({"a": a, "b": b})
        assert evaluation.real(parse(text))({"a": float(a), "b": float(b)}) == pytest.approx(float(exact))
    with pytest.raises(FormulaError):
        parse("{a} / 0").evaluate({"a": 1})
    with pytest.raises(ZeroDivisionError):
        evaluation.real(parse("{a} / 0"))({"a": 1.0})
