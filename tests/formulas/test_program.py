"""Polynomials over arrays, against their exact values point by point."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbanalyzer import models, populate
from nbanalyzer.errors import FormulaError
from nbanalyzer.formulas.blocks import BLOCK, balanced_sizes, block_sizes, scratch, windows
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.program import Expression, Program
from nbanalyzer.formulas.simplify import expanded

FEW = settings(deadline=None, suppress_health_check=list(HealthCheck))
NAMES = ("a", "b", "c")
AXES = {name: frozenset({axis}) for axis, name in enumerate(NAMES)}


@st.composite
def texts(draw: st.DrawFn, depth: int = 3) -> str:
    """Build a formula of whole numbers, none negative, all of which a float64 holds exactly."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.one_of(st.integers(0, 12).map(str), st.sampled_from(NAMES).map(lambda name: f"{{{name}}}")))

    def part() -> str:
        return draw(texts(depth - 1))

    kind = draw(
        st.sampled_from(
            ["+", "*", "+", "*", "//", "%", "<", "<=", "==", "!=", ">", ">=", "min", "max", "if", "ceil", "floor"]
        )
    )
    if kind in {"min", "max"}:
        return f"{kind}({part()}, {part()})"
    if kind == "if":
        return f"({part()} if {part()} else {part()})"
    if kind in {"ceil", "floor"}:
        return f"{kind}(({part()}) / {draw(st.integers(1, 9))})"
    if kind in {"//", "%"}:
        return f"(({part()}) {kind} {draw(st.integers(1, 9))})"
    return f"(({part()}) {kind} ({part()}))"


def exact(output: Polynomial | Expression, values: Mapping[str, int]) -> Fraction:
    if isinstance(output, Polynomial):
        return Fraction(output.evaluate(values))
    parts = [exact(part, values) for part in output.parts]
    return max(parts) if output.operation == "max" else sum(parts, Fraction(0))


def check(outputs: Mapping[str, Polynomial | Expression], values: Mapping[str, list[int]], nothing: float = 0) -> None:
    """Compare on the grid of all values, and point by point along its diagonal; as much as `nothing` may be left of 0."""
    shape = tuple(len(values[name]) for name in NAMES)
    grids = {name: np.array(values[name]).reshape([-1 if axis == own else 1 for axis in range(3)])
             for own, name in enumerate(NAMES)}  # fmt: skip
    found = Program(outputs, AXES).evaluate(grids, shape)
    for name, output in outputs.items():
        assert found[name].shape == shape
        for place in itertools.product(*map(range, shape)):
            point = {key: values[key][index] for key, index in zip(NAMES, place, strict=True)}
            assert float(found[name][place]) == pytest.approx(float(exact(output, point)), rel=1e-12, abs=nothing), (
                point
            )
    count = min(shape)
    lists = {name: np.array(values[name][:count]) for name in NAMES}
    found = Program(outputs, dict.fromkeys(NAMES, frozenset({0}))).evaluate(lists, (count,))
    for name, output in outputs.items():
        for index in range(count):
            point = {key: values[key][index] for key in NAMES}
            assert float(found[name][index]) == pytest.approx(float(exact(output, point)), rel=1e-12, abs=nothing), (
                point
            )


VALUES = st.fixed_dictionaries({name: st.lists(st.integers(0, 30), min_size=1, max_size=4) for name in NAMES})


@pytest.mark.slow
@FEW
@given(st.lists(texts(), min_size=1, max_size=3), VALUES)
def test_a_plan_is_worth_what_its_polynomials_are(formulas: list[str], values: dict[str, list[int]]) -> None:
    polynomials = [expanded(parse(text), {}) for text in formulas]
    outputs: dict[str, Polynomial | Expression] = {str(index): one for index, one in enumerate(polynomials)}
    outputs["max"] = Expression("max", tuple(polynomials))
    outputs["sum"] = Expression("sum", (Expression("max", tuple(polynomials)), *polynomials))
    check(outputs, values)


@pytest.mark.slow
@FEW
@given(texts(2), texts(2), VALUES)
def test_powers_of_a_probability(left: str, right: str, values: dict[str, list[int]]) -> None:
    nothing = 1e-12  # multiplied out, a remainder of 0 is a difference of fractions, which float64 rounds
    check({"it": expanded(parse(f"{left} + {right} * (1 - (31 / 32) ** ({{a}} * {{b}}))"), {})}, values, nothing)
    check(
        {"it": expanded(parse(f"({left}) * 0.25 ** min({{b}}, 3) + ({right}) * (1 - {{a}} / 31) ** 2"), {})},
        values,
        nothing,
    )


@pytest.mark.parametrize(
    "text",
    [
        "7", "{a}", "{a} * {b} * {c}", "{c} ** 5 + {a} ** 2 * {b}", "{a} * ({b} + {c}) ** 3 * {b}",
        "0 if {a} == 0 else {b} // {a}", "1 / ({a} + 1)", "{b} / ({a} + {c} + 1) * 3", "ceil({a} * {b} / ({c} + 1))",
        "{a} if {b} > {c} else {b} if {a} else 5", "min({a}, {b}, {c}, 9) + max({a} * {b}, {c})", "({a} + {b}) % ({c} + 1)",
        "(1 - {a} / 40) ** {b}", "{a} // 3 * 3 + {a} % 3", "ceil(({a} + 1) / 49)",
    ],
)  # fmt: skip
def test_operations(text: str) -> None:
    check({"it": expanded(parse(text), {})}, {"a": [0, 1, 2, 48, 97], "b": [0, 3, 10], "c": [0, 1, 7, 64]})


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, BLOCK + 5, 1), (2, 5, BLOCK // 4 + 3), (BLOCK + 1, 1, 2), (7, 50, 101)]
)
def test_grids_of_many_blocks(shape: tuple[int, int, int]) -> None:
    a, b, c = (np.arange(1, size + 1, dtype=np.float64) for size in shape)
    grids = {"a": a[:, None, None], "b": b[None, :, None], "c": c[None, None, :]}
    outputs = {
        "all": expanded(parse("3 * {a} * {b} + {b} * {c} + min({a} * {c}, {b}) + ({a} > {c}) * {b}"), {}),
        "two": expanded(parse("{a} * {b} ** 2 + {a}"), {}),
        "none": expanded(parse("5"), {}),
    }
    found = Program(outputs, AXES).evaluate(grids, shape)
    x, y, z = np.broadcast_arrays(*grids.values())
    np.testing.assert_array_equal(found["all"], 3 * x * y + y * z + np.minimum(x * z, y) + (x > z) * y)
    np.testing.assert_array_equal(found["two"], x * y**2 + x)
    np.testing.assert_array_equal(found["none"], np.full(shape, 5.0))


def test_the_same_is_computed_once() -> None:
    one = expanded(parse("({a} + {b}) ** 3"), {})
    assert (
        len(Program({"x": one, "y": one, "z": Expression("max", (one, one))}, AXES))
        <= len(Program({"x": one}, AXES)) + 1
    )


def test_values_of_no_dimension_and_no_outputs() -> None:
    found = Program({"it": expanded(parse("{a} + 1"), {})}, {"a": frozenset()}).evaluate({"a": 4}, ())
    assert found["it"].shape == ()
    assert float(found["it"]) == 5
    assert Program({}, {}).evaluate({}, ()) == {}


# ---- blocks


@pytest.mark.parametrize(
    ("shape", "points", "sizes"),
    [
        ((), 100, []),
        ((7,), 100, [7]),
        ((7,), 5, [5]),
        ((2, 3, 4), 100, [2, 3, 4]),
        ((2, 3, 4), 24, [2, 3, 4]),
        ((2, 3, 4), 23, [1, 3, 4]),
        ((2, 3, 4), 8, [1, 2, 4]),
        ((2, 3, 4), 7, [1, 1, 4]),
        ((2, 3, 4), 3, [1, 1, 3]),
        ((2, 3, 4), 0, [1, 1, 1]),
        ((5, 1, 4), 8, [2, 1, 4]),
    ],
)
def test_blocks_are_whole_along_the_last_axes(shape: tuple[int, ...], points: int, sizes: list[int]) -> None:
    assert block_sizes(shape, points) == sizes


@pytest.mark.parametrize(
    ("shape", "points", "sizes"),
    [
        ((), 100, []),
        ((2000,), 100_000, [2000]),  # one axis: all of it
        ((2000,), 1500, [1024]),
        ((2000,), 10, [10]),
        ((100, 100, 100), 100 * 16, [4, 4, 100]),  # 16 left for two axes: 4 each
        ((100, 100, 100), 100 * 15, [3, 5, 100]),  # 3 for the first, 15 // 3 for the second
        ((2, 100, 100), 100 * 16, [2, 8, 100]),  # the short one has 2, the other the rest
        ((100, 2, 100), 100 * 16, [8, 2, 100]),
        ((50, 50, 50, 10), 10 * 27, [3, 3, 3, 10]),
        ((2, 2, 5000), 8192, [2, 2, 2048]),  # what the others leave goes to the last
        ((3, 4, 5), 1, [1, 1, 1]),
        ((3, 4, 5), 0, [1, 1, 1]),
    ],
)
def test_blocks_are_even_along_all_axes_but_the_last(shape: tuple[int, ...], points: int, sizes: list[int]) -> None:
    assert balanced_sizes(shape, points) == sizes
    assert np.prod(sizes, dtype=int) <= max(points, 1)


def test_windows_cover_a_grid_once() -> None:
    grid = np.zeros((5, 3, 4), dtype=int)
    found = list(windows(grid.shape, [2, 3, 3]))
    for window in found:
        grid[window] += 1
    assert grid.min() == grid.max() == 1
    assert len(found) == 3 * 1 * 2
    assert found[0] == (slice(0, 2), slice(0, 3), slice(0, 3))
    assert found[-1] == (slice(4, 5), slice(0, 3), slice(3, 4))


def test_memory_to_write_to_is_kept() -> None:
    first = scratch("a test", 10)
    assert first.shape == (10,)
    assert first.dtype == np.float64
    assert np.shares_memory(first, scratch("a test", 4))
    assert scratch("a test", 4).shape == (4,)
    assert scratch("a test", 11).shape == (11,)
    assert not np.shares_memory(scratch("a test", 10), scratch("another", 10))


def test_what_more_than_a_polynomial_says() -> None:
    a, b = (expanded(parse(text), {}) for text in ("{a} - 2", "{b}"))
    outputs = {
        "quotient": Expression("/", (b, a)),
        "least": Expression("<=", (a, b)),
        "guarded": Expression("unless negative", (b, a, b)),
        "nothing": Expression("sum", ()),
    }
    plan = Program(outputs, {"a": frozenset({0}), "b": frozenset({0})})
    found = plan.evaluate({"a": [1, 2, 4, 7], "b": [0, 3, 2, 4]}, (4,))
    np.testing.assert_array_equal(found["quotient"], [0, np.inf, 1, 0.8])
    np.testing.assert_array_equal(found["least"], [1, 1, 1, 0])
    np.testing.assert_array_equal(found["guarded"], [np.nan, 3, 2, 4])
    np.testing.assert_array_equal(found["nothing"], [0, 0, 0, 0])
    out = {"least": np.empty(4, dtype=bool)}
    assert plan.evaluate({"a": [1, 2, 4, 7], "b": [0, 3, 2, 4]}, (4,), out)["least"].tolist() == [1, 1, 1, 0]


def test_what_is_larger_than_any_float_is_refused() -> None:
    with pytest.raises(FormulaError, match="larger than any float, as a sweep computes with"):
        Program({"it": expanded(parse("10 ** 40 * 10 ** 40 * {a}"), {}) * 10**300}, AXES)


# ---- the formulas that we ship


@pytest.mark.slow
@pytest.mark.parametrize("name", models())
def test_every_shipped_model_over_arrays(name: str) -> None:
    analysis = populate(name, logits="all")
    symbolic = analysis.symbolic("batch_size", "seq_len", "cache_len")
    metrics = (
        "flops",
        "bytes",
        "matmul_flops",
        "weight_bytes_read",
        "kv_bytes_read",
        "activation_bytes",
        "weight_bytes",
        "kv_cache_bytes",
    )
    outputs: dict[str, Any] = {metric: symbolic.metric(metric) for metric in metrics}
    outputs |= {f"{key}_bytes": value for key, value in symbolic.state.items() if key != "kv_cache"}
    axes = {key: frozenset({axis}) for axis, key in enumerate(("batch_size", "seq_len", "cache_len"))}
    values = {"batch_size": [1, 6], "seq_len": [1, 65], "cache_len": [0, 127, 9_000]}
    grids = {key: np.array(numbers).reshape([-1 if axis == own else 1 for axis in range(3)])
             for own, (key, numbers) in enumerate(values.items())}  # fmt: skip
    found = Program(outputs, axes).evaluate(grids, (2, 2, 3))
    for (i, batch), (j, seq), (k, cache) in itertools.product(*(enumerate(numbers) for numbers in values.values())):
        totals = populate(name, batch_size=batch, seq_len=seq, cache_len=cache).totals
        for metric in outputs:
            assert float(found[metric][i, j, k]) == pytest.approx(float(totals[metric]), rel=1e-12), (
                metric,
                batch,
                seq,
                cache,
            )


def test_the_buffers_of_numpy_are_as_the_user_had_them() -> None:
    program = Program({"product": expanded(parse("{a} * {b}"), {})}, AXES)
    values = {name: np.ones([3 if axis == place else 1 for place in range(3)]) for axis, name in enumerate(NAMES)}
    before = np.setbufsize(4096)
    try:
        program.evaluate(values, (3, 3, 3))
        assert np.getbufsize() == 4096
    finally:
        np.setbufsize(before)
