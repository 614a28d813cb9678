"""Small input that is a lot of work: done, or refused in one line, within a second of processor time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, localcontext
from fractions import Fraction
from time import process_time
from typing import Any

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbanalyzer import expand, extract_model_params, populate, sweep
from nbanalyzer.errors import ConfigError, FormulaError, InputError, NBAnalyzerError, TemplateError
from nbanalyzer.formulas.algebra import expanded_sympy
from nbanalyzer.formulas.formula import constant, parse
from nbanalyzer.formulas.simplify import expanded
from nbanalyzer.sweeps.sweep import Sweep
from nbanalyzer.templates.template import Basic, Composite, MemoryAccess, ModuleTemplate
from nbanalyzer.templates.template_files import load_model_template

LARGE = 2**40 - 1
TINY = "1 / (10**64 * 10**64 * 10**64 * 10**64 * 10**64 * 10**64)"


def basic(flops: str, read: str = "1", write: str = "1") -> dict[str, Any]:
    access = {"read": read, "write": write}
    return {"kernel_type": "basic", "operation": "m", "unit": "vector", "flops": flops, "memory_access": access}


def template(*kernels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kernels": [*kernels], **more}


# Each takes a second or so of processor time on a machine that has nothing else to do; without the bounds, minutes.
@contextmanager
def quickly(seconds: float = 20.0) -> Iterator[None]:
    begin = process_time()
    yield
    assert process_time() - begin < seconds


def refused(function: Callable[[], object], problem: str, kind: type[NBAnalyzerError] = NBAnalyzerError) -> None:
    """Assert that a call is refused quickly, in one line with these words."""
    with quickly(), pytest.raises(kind) as caught:
        function()
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# ---- the numbers inside a formula


def times(factor: str, count: int) -> str:
    return "*".join([factor] * count)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (times("{a}**64", 1100), {"a": LARGE}),
        (f"({times('{a}**64', 550)}) % ({times('{a}**63', 550)} + 1)", {"a": LARGE}),
        ("+".join(f"1/({{a}}**60+{i})" for i in range(300)), {"a": LARGE}),
        ("-".join(f"1/({{a}}**60+{i})" for i in range(50)), {"a": LARGE}),
        ("1/({a}*{a})", {"a": 2**2048}),
        ("{a}", {"a": 2**4096}),
        ("{a} < 1", {"a": Fraction(1, 2**4096)}),
        (times("9999999999999999999999999999999999999999", 32), {}),
    ],
)
def test_no_number_on_the_way_is_too_long(text: str, values: dict[str, int | Fraction]) -> None:
    refused(lambda: parse(text).evaluate(values), "more than 4,096 bits", FormulaError)
    refused(lambda: expanded(parse(text), values).evaluate({}), "4,096 bits", FormulaError)


def test_numbers_up_to_the_bound_are_exact() -> None:
    assert parse("{a} * {a} - {b}").evaluate({"a": 2**2047, "b": 1}) == 2**4094 - 1
    assert parse("{a} + {a}").evaluate({"a": -(2**4095) + 1}) == -(2**4096) + 2
    assert parse("1 / {a} + 1 / {b}").evaluate({"a": 2**2000, "b": 3**1000}) == Fraction(1, 2**2000) + Fraction(
        1, 3**1000
    )


def test_a_number_that_is_put_in_has_the_same_bound() -> None:
    refused(lambda: constant(10**5000), "at most 4,096 bits", FormulaError)
    refused(lambda: parse("{x} + 1").substitute({"x": 10**5000}), "at most 4,096 bits", FormulaError)
    assert str(parse("{x} + 1").substitute({"x": 10**1000})) == f"{10**1000} + 1"


def test_a_template_of_large_numbers_is_refused() -> None:
    factors = template(*(basic(*[times("{seq_len}**64", 540)] * 3) for _ in range(5)))
    sums = template(*(basic("+".join(f"1/({{seq_len}}**60+{i})" for i in range(300))) for _ in range(10)))
    for data in (factors, sums):
        refused(lambda data=data: populate(data, seq_len=LARGE), "more than 4,096 bits", TemplateError)  # type: ignore[misc]


@pytest.mark.slow
def test_kernels_that_add_up_to_a_long_number_are_refused() -> None:
    data = template(*(basic(f"({{seq_len}}**30+{i})/({{batch_size}}**30+{i})") for i in range(1000)))
    refused(
        lambda: populate(data, seq_len=LARGE, batch_size=LARGE - 2), "add up to a number of more than", TemplateError
    )


@pytest.mark.parametrize("power", [65, 80, 100, 2000])
def test_a_power_of_a_share_is_exact(power: int) -> None:
    values: dict[str, int | Fraction] = {"x": Fraction(1, 3), "n": power}
    assert parse("{x} ** {n} * 3**60").evaluate(values) == Fraction(3**60, 3**power)
    assert parse("1 / {x} ** {n}").evaluate(values) == 3**power
    # One step further is one factor further.
    assert parse("{x}**({n}+1) / {x}**{n}").evaluate(values) == Fraction(1, 3)


@pytest.mark.parametrize(
    ("base", "power"),
    [(Fraction(255, 256), 5000), (Fraction(31, 32), 4096), (1 - Fraction(1, 10**9), 10**10), (Fraction(1, 3), 2503)],
)
def test_a_power_that_is_not_exact_has_128_significant_bits(base: Fraction, power: int) -> None:
    found = Fraction(parse("{x} ** {n}").evaluate({"x": base, "n": power}))
    with localcontext() as context:
        context.prec, context.Emin = 120, -(10**9)
        true = (power * (Decimal(base.numerator) / Decimal(base.denominator)).ln()).exp()
        share = Decimal(found.numerator) / Decimal(found.denominator) / true
    assert abs(share - 1) < Decimal(2) ** -126
    assert found.denominator.bit_length() <= 4096


def test_a_power_that_is_taken_as_nothing_says_so() -> None:
    values: dict[str, int | Fraction] = {"x": Fraction(1, 3), "n": 10**6}
    assert parse("8 * (1 - (1 - {x}) ** {n})").evaluate(values) == 8
    refused(lambda: parse("1 / {x} ** {n}").evaluate(values), "division by a power below 2 ** -3,968", FormulaError)
    refused(lambda: parse("1 / (0 * {x} ** 2)").evaluate(values), "division by zero", FormulaError)
    assert parse("0 ** {n} + 1 ** {n}").evaluate({"n": 2**4000}) == 1


# ---- deep and wide formulas


def test_a_deep_head_before_a_wide_tail_is_deep() -> None:
    chain = "-".join(["1"] * 2400)
    text = f"max({chain},{','.join(['-'.join(['1'] * 55)] * 46)})"
    assert len(text) < 10_000
    refused(lambda: parse(text), "at most 60 are allowed", FormulaError)
    refused(lambda: populate("gpt2", seq_len=text), "seq_len", NBAnalyzerError)
    wide = "+".join(["1"] * 5000)
    with quickly():
        assert parse(wide).evaluate({}) == 5000


def test_a_branch_that_is_not_taken_may_be_put_into() -> None:
    formula = parse("1 if {a} else (2 if 1/0 else 3)")
    assert formula.substitute({"b": 1}) == formula
    assert formula.substitute({"a": 5}) == constant(1)
    refused(lambda: formula.substitute({"a": 0}).evaluate({}), "division by zero", FormulaError)


# ---- SymPy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("9**9**9", "an exponent is at most 64"),
        ("1 + 0.5**(9999999*9999999) / 0", "division by zero"),
        ("{x} % 0", "division by zero"),
        ("{x} // ({y} - {y})", "division by zero"),
        ("1 / 0 < {x}", "division by zero"),
        ("1 / (max({x}, 9) < 1) < 1", "SymPy cannot say this"),
        (f"{' + '.join(f'({{x}} < {{v{i}}})' for i in range(4))} < {{y}}", "too many conditions in a condition"),
        ("max({x}, 0) < (2 > min({y} ** -2, 1 < min({z}, {w})))", "SymPy cannot say this"),
        ("{x} ** (10 * 10)", "at most 64"),
        ("{x} ** 0.5", "a whole number"),
        ("2 ** ({x} * 0 + 10**9)", "an exponent is at most 64"),
        (f"max({','.join(f'{{v{i}}}' for i in range(200))})", "too many"),
        (f"max({','.join(f'({i} + {{v}}) * {{w}}' for i in range(200))})", "too many"),
        ("{x} + ({a}+{b}+{c}+{d}+{e}+{f})**64", ""),
        ("*".join(f"({{a}}+{{v{i}}})/({{b}}+{{v{i}}})" for i in range(12)), ""),
    ],
)
def test_what_takes_sympy_long_is_refused(text: str, problem: str) -> None:
    if problem:
        refused(parse(text).sympy, problem, FormulaError)
    refused(lambda: expanded_sympy(parse(text)), problem or "too many terms", FormulaError)


def test_conditions_in_conditions_are_refused() -> None:
    text = "{z}"
    for index in range(12):
        text = f"({{a{index}}} if {text} else {{b{index}}})"
    refused(parse(text).sympy, "too many conditions", FormulaError)


def test_what_holds_no_variable_is_worked_out_first() -> None:
    hostile = template(basic("1+0.5**(9999999*9999999)"))
    with quickly():
        assert populate(hostile).formula("flops") == 1
        assert str(parse(f"max({','.join(map(str, range(300)))}, {{x}})").sympy()) == "Max(299, x)"
        assert str(parse("{x} if 1 < 2 else 1 / 0").sympy()) == "x"
        assert str(parse("{x} + 7 // 2 * 10**30").sympy()) == f"x + 3{'0' * 30}"


def test_case_after_case_is_no_condition_inside_another() -> None:
    text = "{z}"
    for index in range(20):
        text = f"({{a{index}}} if {{c}} < {index} else {text})"
    with quickly():
        assert parse(text).sympy().subs("c", 4) == parse("{a19}").sympy()


def test_a_remainder_of_sums_is_a_remainder() -> None:
    sums = [f"({'+'.join(f'{{{name}{i}}}*{{b}}' for i in range(30))})" for name in "ac"]
    with quickly():
        found = parse("%".join(sums)).sympy()
    values: dict[str, int | Fraction] = {f"{name}{i}": 7 * i + 5 + (name == "a") for i in range(30) for name in "ac"}
    values["b"] = Fraction(1, 3)
    rational = {name: str(value) for name, value in values.items()}
    assert str(found.subs(rational)) == str(parse("%".join(sums)).evaluate(values))
    assert str(parse("{x} % {y}").sympy()) == "Mod(x, y)"


# ---- templates


def siblings(count: int) -> dict[str, Any]:
    return template(*({"kernel_type": "composite", "name": f"l{i}"} for i in range(count)))


def references(count: int) -> dict[str, Any]:
    bound = {"num_tokens": "{seq_len}", "output_size": "7", "has_bias": "1"}
    return template(
        *(
            {
                "kernel_type": "composite",
                "name": f"l{i}",
                "module": "Linear",
                "bindings": {**bound, "input_size": str(i)},
            }
            for i in range(count)
        )
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (siblings(30_000), "more than 3,000 kernels"),
        (template(*[basic("1")] * 100_000), "more than 3,000 kernels"),
        (references(3_000), "more than 3,000 kernels"),
        (template(*[basic("1+" * 4_000 + "1")] * 50), "more than 300,000 characters of formulas"),
    ],
    ids=["siblings", "basic", "references", "characters"],
)
def test_a_template_has_a_size(data: dict[str, Any], problem: str) -> None:
    refused(lambda: populate(data), problem, TemplateError)


def test_a_file_has_a_size_too() -> None:
    import json

    refused(lambda: load_model_template(json.dumps(siblings(4_000)).encode()), "more than 3,000 kernels", TemplateError)


def test_many_names_are_looked_at_once() -> None:
    with quickly():
        populate(siblings(2_900))
    twice = siblings(2_900)
    twice["kernels"][-1]["name"] = "l0"
    refused(lambda: populate(twice), "two kernels are called 'l0'", TemplateError)


def test_modules_that_multiply_are_refused() -> None:
    def module(level: int) -> ModuleTemplate:
        last = Basic(operation="x", unit="vector", flops="1", memory_access=MemoryAccess("1", "1"))
        inner = tuple(Composite(name=f"k{i}", module=f"A{level + 1}") for i in range(10))
        return ModuleTemplate(
            class_name=f"A{level}", description="", variables={}, kernels=(last,) if level == 9 else inner
        )

    modules = {f"A{level}": module(level) for level in range(10)}
    refused(lambda: expand("A0", modules=modules), "more than 3,000 kernels", TemplateError)


@pytest.mark.slow
def test_bindings_that_multiply_are_refused() -> None:
    access = MemoryAccess("1", "1")
    condition = f"1 if {'+'.join(['{v}'] * 1600)} else 2"
    kernels = (Basic(operation="x", unit="vector", flops=condition, memory_access=access),)
    module = ModuleTemplate(class_name="M", description="", variables={"v": "a size"}, kernels=kernels)
    refused(
        lambda: expand("M", {"v": "+".join(["1"] * 2500)}, modules={"M": module}), "the bindings put", TemplateError
    )


def test_what_is_smaller_than_anything_is_refused() -> None:
    refused(lambda: repr(populate(template(basic(TINY)))), "smaller than anything that is", TemplateError)
    small = populate(template(basic("1 / 10**59"), basic("1")))
    assert "0.0" in repr(small)
    small._repr_mimebundle_()


def test_a_repeat_of_thousands_of_digits_is_one_line() -> None:
    for repeat in (f"1 / ({times('10**64', 19)})", f"1 / ({times('10**64', 80)})"):
        data = template({"kernel_type": "composite", "name": "h", "repeat": repeat, "sub_kernels": [basic("1")]})
        refused(lambda data=data: populate(data), "h, repeat", TemplateError)  # type: ignore[misc]


# ---- sweeps


@pytest.mark.parametrize("count", [6, 15, 80])
def test_a_coefficient_that_no_float_is_is_one_line(count: int) -> None:
    data = template(basic(f"({{seq_len}} * {times('10**64', count)}) < {{batch_size}}"))
    refused(
        lambda: sweep(data, seq_len=[1, 2], batch_size=[1, 2]), "larger than any float" if count < 16 else "4,096 bits"
    )


@pytest.mark.parametrize(
    "flops",
    [
        "min(({batch_size}+{seq_len})**2,min(({batch_size}+{seq_len})**2,3)+1)",
        "+".join(f"({{batch_size}}<{i})*{{seq_len}}" for i in range(40)),
        "9**9" + "".join(f"-({{batch_size}}<{i})*{{seq_len}}" for i in range(40)),
    ],
)
def test_a_sweep_of_many_conditions_is_its_points(flops: str) -> None:
    data = template(basic(flops))
    with quickly():
        found = sweep(data, seq_len=[1, 20], batch_size=[2, 30], metrics=["flops", "time"], hardware="h100-sxm").arrays[
            "flops"
        ]
    for place, run in {(0, 0): (1, 2), (0, 1): (1, 30), (1, 0): (20, 2), (1, 1): (20, 30)}.items():
        assert found[place] == populate(data, seq_len=run[0], batch_size=run[1]).totals["flops"]


def test_powers_in_minima_in_powers_are_too_long_to_be_read() -> None:
    text = "{batch_size}"
    for _ in range(12):
        text = f"min(({text}+{{seq_len}})**2,9)"
    refused(lambda: sweep(template(basic(text)), seq_len=[1, 2], batch_size=[1, 2]), "too long to be read")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flops", [times("{batch_size}**8", 150), "+".join(f"max({{seq_len}},{i})" for i in range(2, 402))]
)
def test_more_than_can_be_arranged_is_one_line(flops: str) -> None:
    refused(
        lambda: sweep(
            template(basic(flops), basic(flops.replace("},", "},9"))),
            batch_size=[1, 2],
            seq_len=[1, 2],
            metrics="flops",
        ),
        "than a sweep can arrange",
    )


@pytest.mark.slow
def test_formulas_that_multiply_out_are_refused_together() -> None:
    one = "({batch_size} + 2*{seq_len} + 3*{cache_len} + %d)**4 * ({seq_len} + {cache_len} + {batch_size})**4"
    data = template(*(basic(one % i) for i in range(500)))
    with quickly(40), pytest.raises(TemplateError, match="terms"):
        sweep(data, seq_len=[1, 2], batch_size=[1, 2], cache_len=[0, 1], metrics=["flops"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_layers": range(1, 10**5)}, "num_layers are 99,999 models"),
        ({"num_layers": range(1, 1001), "vocab_size": range(1, 1001), "chunks": "auto"}, "1,000,000 models"),
        ({"w_bit": range(1, 65), "a_bit": range(1, 65)}, "w_bit × a_bit are 4,096 combinations"),
        ({"w_bit": [4, 8], "num_layers": range(1, 4000)}, "w_bit × num_layers are 7,998 models"),
        (
            {"seq_len": range(1, 1001), "batch_size": range(1, 1001), "chunks": 1},
            "1,000,000 tasks, and Dask takes 10,000",
        ),
        ({"seq_len": range(1, 10**7), "batch_size": range(1, 10**7), "chunks": "auto"}, "29,999,997 tasks"),
        ({"seq_len": range(1, 10**7), "batch_size": range(1, 10**7)}, "give chunks='auto'"),
    ],
)
def test_too_much_is_refused_before_any_axis_is_gone_through(
    options: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbanalyzer.sweeps.grid._values", None)
    refused(lambda: sweep("gpt2", metrics="flops", **options), problem, InputError)


def test_what_is_refused_says_how_it_goes() -> None:
    found = sweep("gpt2", seq_len=range(1, 1001), batch_size=range(1, 1001), chunks=100, metrics="flops")
    assert found.size == 10**6


# ---- points without a number


def infinite(**options: Any) -> Sweep:
    data = template(basic("{seq_len} / ({batch_size} - 2)**2"))
    return sweep(data, seq_len=[1, 2, 3, 4], batch_size=[1, 2, 3], metrics=["flops"], **options)


def test_an_infinite_point_is_not_the_best_one() -> None:
    for found in (infinite(), infinite(chunks=5)):
        assert found.best(maximize="flops") == {"seq_len": 4, "batch_size": 1, "flops": 4.0}
        assert found.best(minimize="flops") == {"seq_len": 1, "batch_size": 1, "flops": 1.0}


def test_quantiles_are_the_same_in_memory_and_lazily() -> None:
    shares = [0, 0.05, 0.25, 0.5, 8 / 12, 0.75, 1]
    expected = dict(zip(shares, [1, 1, 2, 3, 4, np.inf, np.inf], strict=True))  # 1 1 2 2 3 3 4 4, and four times inf
    for found in (infinite(), infinite(chunks=5)):
        assert found.quantiles("flops", shares) == expected
        counts, edges = found.histogram("flops", 3)
        assert counts.tolist() == [2, 2, 4]
        assert edges.tolist() == [1, 2, 3, 4]


def test_what_has_no_number_does_not_count() -> None:
    data = template(basic("{seq_len} - 2 * ({batch_size} == 2) * {seq_len}"))
    for chunks in (None, 5):
        found = sweep(data, seq_len=[1, 2, 3, 4], batch_size=[1, 2, 3], metrics=["flops", "bytes"], chunks=chunks)
        # Where a kernel's FLOPs are negative, there is no analysis either.
        assert np.isnan(np.asarray(found.arrays["flops"])[:, 1]).all()
        assert found.quantiles("flops") == {0.05: 1, 0.25: 1, 0.5: 2, 0.75: 3, 0.95: 4}
        assert found.best(maximize="flops")["flops"] == 4
    refused(lambda: populate(data, seq_len=3, batch_size=2), "negative", TemplateError)
    assert "flops: 1 FLOP to 4 FLOP, no number at 4" in repr(sweep(data, seq_len=[1, 2, 3, 4], batch_size=[1, 2, 3]))


def test_a_cost_that_only_looks_negative_has_a_number() -> None:
    data = template(basic("({seq_len} - 1) * {batch_size} if {seq_len} > 1 else 0"))
    found = sweep(data, seq_len=[1, 2, 9], batch_size=[1, 7], metrics=["flops"])
    assert found.arrays["flops"].tolist() == [[0, 0], [1, 7], [8, 56]]


@pytest.mark.slow
def test_pictures_of_what_is_infinite_warn_of_nothing() -> None:
    nothing = Sweep("x", {"seq_len": (1, 2)}, ("flops",), {}, {"flops": np.array([np.nan, np.nan])})
    both = Sweep("x", {"seq_len": (1, 2)}, ("flops",), {}, {"flops": np.array([-np.inf, np.inf])})
    for found in (infinite(), nothing, both):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bundle = found._repr_mimebundle_()
            found.plot().png()
            if len(found.axes) > 1:
                found.heatmap().png()
        assert "nan)" not in bundle["text/html"]  # as a share of a colour
    assert "flops: no number" in repr(nothing)


# ---- the line


def test_a_variable_of_thousands_of_digits_is_one_line(shell: InteractiveShell) -> None:
    shell.user_ns["l"] = 10**5000
    for line in ("gpt2 --seq_len $l", "gpt2 --seq_len=$l", "$l"):
        refused(lambda line=line: shell.run_line_magic("populate", line), "too large", InputError)  # type: ignore[misc]
    shell.user_ns["l"] = 10**50
    refused(lambda: shell.run_line_magic("populate", "gpt2 --seq_len $l"), "at most 40 digits", InputError)


# ---- configs


@pytest.mark.pytorch
@pytest.mark.parametrize("field", ["num_hidden_layers", "num_labels"])
def test_what_transformers_lists_one_by_one_is_bounded(field: str) -> None:
    config = {"model_type": "qwen3", "num_hidden_layers": 2, field: 240_034_652}  # hidden_size is missing
    extract_model_params({"model_type": "qwen3"})  # its class is imported
    refused(lambda: extract_model_params(config), f"{field} is 240034652: transformers, asked for a size", ConfigError)
    whole = {"hidden_size": 64, "vocab_size": 9, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    assert (
        extract_model_params({**config, **whole, "intermediate_size": 5, "tie_word_embeddings": False})["vocab_size"]
        == 9
    )
