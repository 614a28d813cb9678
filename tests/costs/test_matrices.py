"""The matrices of a module, on small templates by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer.costs.matrices import Matrix, matrices_of
from nbanalyzer.costs.tree import Tree
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.templates.template_files import load_model_template

H, W, V, E, M = "{hidden_size}", "{intermediate_size}", "{vocab_size}", "{num_experts}", "{moe_intermediate_size}"
ONE = parse("1")


def found_in(module: Mapping[str, Any]) -> tuple[list[Matrix], Formula]:
    """Return the matrices of the only module of a template of one's own, and the rest of its parameters."""
    tree = Tree(load_model_template(json.dumps(template(module)).encode()))
    return matrices_of(tree.roots[0])


def product(*reads: str) -> dict[str, Any]:
    return basic("2", " + ".join(reads), "{a_bytes}", "matmul", f"product {len(reads)}")


def bound(parameters: str, output: str, taken: str, bias: str = "0") -> dict[str, Any]:
    sizes = {"output_size": output, "input_size": taken, "has_bias": bias}
    return composite("up", product(f"{taken} * {{a_bytes}}"), parameters=parameters, bindings=sizes)


def matrix(
    role: Any, output: str, taken: str, copies: str = "1", place: int = 0, names: tuple[str, ...] = ()
) -> Matrix:
    return Matrix(role, parse(output), parse(taken), parse(copies), place, names)


@pytest.mark.parametrize(
    ("module", "expected", "rest"),
    [
        (bound(f"{W} * {H}", W, H), matrix("linear", W, H), "0"),
        (bound(f"{H} * {W}", W, H), matrix("linear", W, H), "0"),
        (bound(f"{W} * {H} + {W}", W, H, "1"), matrix("linear", W, H), W),
        (bound(f"{W} * {H}", W, H, "1"), matrix("linear", W, H), "0"),  # another module adds the bias
        (bound(f"{V} * {H}", V, H), matrix("head", V, H), "0"),
        (bound(f"(1 - {{tie_word_embeddings}}) * {V} * {H}", V, H), matrix("head", V, H, "1 - {tie_word_embeddings}"), "0"),
        (bound("0", V, H), matrix("head", V, H, "0"), "0"),  # another module's weights
        (bound(f"3 * {H} * {H}", f"3 * {H}", H), matrix("linear", f"3 * {H}", H), "0"),
    ],
)  # fmt: skip
def test_a_linear_whose_bindings_say_its_sizes(module: dict[str, Any], expected: Matrix, rest: str) -> None:
    matrices, left = found_in(module)
    assert matrices == [expected]
    assert left == parse(rest)


def test_parameters_that_are_no_linears() -> None:
    matrices, left = found_in(bound(f"{W} * {H} + 5", W, H))
    assert (matrices, left) == ([], parse(f"{W} * {H} + 5"))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (f"{V} * {H}", [matrix("embedding", V, H)]),
        (f"({V} + 8) * {H}", [matrix("embedding", f"{V} + 8", H)]),
        (f"2 * {V} * {H}", [matrix("embedding", V, f"2 * {H}")]),
        (V, []),  # no width
        (f"{V} * {V}", []),
        (f"{V} * {H} + {H}", []),
    ],
)
def test_a_table(parameters: str, expected: list[Matrix]) -> None:
    matrices, rest = found_in(composite("table", basic("0", f"{H} * {{w_bytes}}", H), parameters=parameters))
    assert matrices == expected
    assert rest == (parse("0") if expected else parse(parameters))


@pytest.mark.parametrize(
    ("parameters", "expected", "rest"),
    [
        (f"{E} * {H}", [matrix("router", E, H)], "0"),
        (f"{E} * {H} + {E}", [matrix("router", E, H)], E),
        (f"{E} + {E} * {H}", [matrix("router", E, H)], E),  # the bias first
        (f"{E} * {H} + {E} * {W}", [matrix("router", E, H)], f"{E} * {W}"),  # one chooses
        (f"{E} * {E} * {H}", [], f"{E} * {E} * {H}"),
    ],
)
def test_a_router(parameters: str, expected: list[Matrix], rest: str) -> None:
    matrices, left = found_in(composite("gate", product(f"{E} * {H} * {{w_bytes}}"), parameters=parameters))
    assert matrices == expected
    assert left == parse(rest)


def test_a_module_without_products_has_no_matrix() -> None:
    for parameters in (f"{E} * {H}", f"{H} * {W}", H):
        assert found_in(composite("norm", basic("1", "1", "1"), parameters=parameters)) == ([], parse(parameters))


def experts(parameters: str, *products: dict[str, Any]) -> tuple[list[Matrix], Formula]:
    return found_in(composite("experts", *products, parameters=parameters))


def of_experts(taken: str, output: str) -> dict[str, Any]:
    flops, weights = f"2 * {{batch_size}} * {taken} * {output}", f"{E} * {taken} * {output} * {{w_bytes}}"
    return basic(flops, f"{weights} + {{batch_size}} * {taken} * {{a_bytes}}", output, "matmul", f"by {taken}")


def test_experts_have_gate_and_up_apart() -> None:
    """Of twice the width before, once it after: three matrices of each expert, two of them read by the first product."""
    matrices, rest = experts(f"2 * {E} * {H} * {M} + {E} * {M} * {H}", of_experts(H, M), of_experts(M, H))
    assert matrices == [
        matrix("expert", M, H, E, 0, ("gate_proj", "w1")),
        matrix("expert", M, H, E, 0, ("up_proj", "w3")),
        matrix("expert", H, M, E, 1, ("down_proj", "w2")),
    ]
    assert rest == parse("0")


def test_experts_without_a_gate() -> None:
    matrices, rest = experts(f"{E} * {H} * {M} + {E} * {M} * {H} + {E} * {H}", of_experts(H, M), of_experts(M, H))
    assert matrices == [
        matrix("expert", M, H, E, 0, ("up_proj", "w1")),
        matrix("expert", H, M, E, 1, ("down_proj", "w2")),
    ]
    assert rest == parse(f"{E} * {H}")
