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
        (f"{V} * {V} * {H}", []),
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


def test_experts_whose_operands_say_nothing_take_the_first_size() -> None:
    blind = basic("2", f"{E} * {H} * {M} * {{w_bytes}} + {{a_bytes}}", "{a_bytes}", "matmul", "blind")
    matrices, _ = experts(f"{E} * {H} * {M} + {E} * {H} * {M}", blind, {**blind, "operation": "again"})
    assert [(one.taken, one.output, one.place) for one in matrices] == [
        (parse(H), parse(M), 0),
        (parse(H), parse(M), 1),
    ]


@pytest.mark.parametrize(
    ("parameters", "number", "rest"),
    [
        (
            f"{E} * {H} * {M} + 2 * {E} * {M} * {H}",
            0,
            f"{E} * {H} * {M} + 2 * {E} * {M} * {H}",
        ),  # two of them give the stream
        (f"{E} * {H} * {M} + {E} * {M} * {H} + {E} * {M} * {H}", 2, f"{E} * {M} * {H}"),  # more than products
        (f"{E} * {H} + {E} * {H} * {M}", 1, f"{E} * {H}"),
        (f"{E} * {H} * {M} * {W} + {H} * {M}", 0, f"{E} * {H} * {M} * {W} + {H} * {M}"),
        (f"3 * {E} * {H} * {M} + {E} * {M} * {H}", 2, "0"),
    ],
)
def test_terms_of_experts_that_are_no_matrices(parameters: str, number: int, rest: str) -> None:
    matrices, left = experts(parameters, of_experts(H, M), of_experts(M, H))
    assert (len(matrices), left) == (number, parse(rest))
    assert [one.names[0] for one in matrices] == ["up_proj", "down_proj"][:number]


def test_a_latent_that_attention_has_absorbed_is_in_no_product_of_the_module() -> None:
    sizes = {"num_heads": "8", "nope_head_dim": "{head_dim}", "v_head_dim": "3", "latent_size": W}
    found = found_in(composite("attn", basic("1"), module="x.absorbed_latent_attention", bindings=sizes, parameters=W))
    assert found == ([matrix("linear", "8 * ({head_dim} + 3)", W, "1", -1, ("kv_b_proj",))], parse("0"))


@pytest.mark.parametrize(
    ("parameters", "reads", "module", "expected"),
    [
        (f"{W} * {H}", H, "x.Linear", matrix("linear", W, H)),
        (f"{H} * {W}", H, "x.Conv1D", matrix("linear", W, H)),
        (f"2 * {W} * {H}", H, "x.Linear", matrix("linear", f"2 * {W}", H)),
        (f"{V} * {H}", H, "x.Linear", matrix("head", V, H)),
        (f"{W} * {H}", W, "x.Linear", matrix("linear", H, W)),
        (f"{W} * {H}", H, "x.Conv2d", None),
        (f"{W} * {H}", M, "x.Linear", None),  # reads neither
        (f"{H} * {H}", H, "x.Linear", None),  # both
        (H, H, "x.Linear", None),
    ],
)
def test_a_linear_of_which_no_binding_says_the_sizes(
    parameters: str, reads: str, module: str, expected: Matrix | None
) -> None:
    read = product(f"{parameters} * {{w_bytes}}", f"{{batch_size}} * {reads} * {{a_bytes}}")
    matrices, rest = found_in(composite("up", read, parameters=parameters, module=module))
    assert matrices == ([expected] if expected else [])
    assert rest == parse("0" if expected else parameters)


def test_a_linear_of_groups_has_a_matrix_for_each() -> None:
    """Four groups of W inputs and M outputs each: their number is in what is read and in what is written."""
    read = f"{{batch_size}} * 4 * {W} * {{a_bytes}} + 4 * {W} * {M} * {{w_bytes}}"

    def grouped(write: str, parameters: str = f"{M} * 4 * {W}") -> tuple[list[Matrix], Formula]:
        inside = basic("2", read, f"{{batch_size}} * {write} * {{a_bytes}}", "matmul", "matmul")
        return found_in(composite("o", inside, parameters=parameters, module="x.MyGroupedLinear"))

    assert grouped(f"4 * {M}") == ([matrix("linear", M, W, "4")], parse("0"))
    assert grouped(M) == ([], parse(f"{M} * 4 * {W}"))  # written as one: no groups
    assert grouped(f"4 * {M}", f"{M} * 4 * {W} + {M}") == ([], parse(f"{M} * 4 * {W} + {M}"))


def test_a_linear_that_reads_nothing_has_no_matrix() -> None:
    assert found_in(composite("up", basic("1"), parameters=f"{W} * {H}", module="x.Linear")) == (
        [],
        parse(f"{W} * {H}"),
    )


def test_what_two_bindings_say_is_a_linear_and_a_head_without_any_is_no_table() -> None:
    sizes = {"output_size": W, "input_size": H}
    found = found_in(composite("up", product(H), parameters=f"{W} * {H}", bindings=sizes))
    assert found == ([matrix("linear", W, H)], parse("0"))
    head = composite("head", product(f"{V} * {H} * {{w_bytes}}"), parameters=f"{V} * {H}", module="x.Head")
    assert found_in(head) == ([], parse(f"{V} * {H}"))
