"""What rows are called and what they do, on small templates by hand; `test_roles` has shipped models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import Analysis, populate
from nbanalyzer.costs.names import APPEND, ATTENTION, called, help_of, kernels_of, tied_to
from nbanalyzer.templates.template import Composite

V, H, E = "{vocab_size}", "{hidden_size}", "{num_experts}"
CONFIG = {"vocab_size": 100, "hidden_size": 8, "num_experts": 4}


def of(*kernels: Mapping[str, Any], config: Mapping[str, int] = CONFIG) -> Analysis:
    return populate(template(*kernels, config=dict(config)), seq_len=3)


def names(analysis: Analysis) -> dict[str, str]:
    return {node.path: name for node, name in called(analysis).items()}


def table(name: str = "wte", rows: str = V) -> dict[str, Any]:
    lookup = basic("0", f"{{seq_len}} * {H} * {{w_bytes}}", f"{{seq_len}} * {H} * {{a_bytes}}", name="look up")
    return composite(name, lookup, parameters=f"{rows} * {H}")


def vector(operation: str, flops: str = "1", number: int = 1) -> dict[str, Any]:
    name = operation if number == 1 else f"{operation} ({number})"
    return basic(flops, "{a_bytes}", "{a_bytes}", name=name)


# ---- names


def test_modules_say_how_often_and_when() -> None:
    inner = composite("inner", vector("gelu"), repeat="5")
    found = names(of(composite("h", inner, repeat="2"), composite("once", vector("gelu"), calls="{cache_len} == 0")))
    assert found["h"] == "h × 2"
    assert found["h.inner"] == "inner × 5"
    assert found["once"] == "once if cache_len == 0"
    assert names(of(composite("h", vector("gelu"), repeat="2", calls="3")))["h"] == "h × 2 × 3"


def test_a_module_that_appends_to_the_cache() -> None:
    analysis = of(composite("cache", vector("append"), module=APPEND), composite("other", vector("append")))
    assert names(analysis) == {"cache": "append to the cache", "other": "other"}
    assert help_of(analysis.find("cache"), analysis) == "the new tokens' keys and values are written to the cache"
    assert help_of(analysis.find("other"), analysis) == ""


def test_kernels_beside_modules_are_numbered_where_they_are_called_alike() -> None:
    part = composite("part", vector("mul"), vector("mul", number=2), vector("gelu"), composite("a", vector("mul")))
    found = names(of(part))
    assert [found[f"part.{name}"] for name in ("mul", "mul (2)", "gelu")] == ["product", "product (2)", "gelu"]
    assert found["part.a"] == "a"
    assert "part.a.mul" not in found  # a part of its module


def test_what_stands_beside_tables() -> None:
    index = basic("1", "8", "8", name="add")
    found = names(of(composite(
        "model", composite("act", vector("gelu")), basic("0", "0", "8", name="arange"), index, table(),
        vector("add", number=2), table("wpe", "{max_position_embeddings}"), vector("add", number=3), vector("add", "0", 4),
    ), config={**CONFIG, "max_position_embeddings": 16}))  # fmt: skip
    assert [found[f"model.{name}"] for name in ("arange", "add")] == ["position ids", "position ids after the cache"]
    assert found["model.add (2)"] == "sum"  # one table is before it
    assert found["model.add (3)"] == "token + position embedding"
    assert found["model.add (4)"] == "sum (2)"  # adds nothing


def expert(number: int, flops: int) -> dict[str, Any]:
    weights = f"{E} * {H} * {{w_bytes}}"
    name = "matmul of experts" if number == 1 else f"matmul of experts ({number})"
    return basic(f"{flops} * {{seq_len}} * {H}", f"{weights} + {{a_bytes}}", "{a_bytes}", "matmul", name)


@pytest.mark.parametrize(
    ("flops", "expected"),
    [
        ((2,), ["product"]),
        ((4, 2), ["gate and up projection", "down projection"]),
        ((2, 2), ["up projection", "down projection"]),
        ((6, 2), ["up projection", "down projection"]),
        ((2, 2, 2), ["gate projection", "up projection", "down projection"]),
    ],
)
def test_which_of_the_experts_products_one_is(flops: tuple[int, ...], expected: list[str]) -> None:
    products = [expert(number, one) for number, one in enumerate(flops, 1)]
    rest = composite("norm", vector("gelu"))
    module = composite("experts", *products, vector("sort"), vector("exotic"), rest, parameters=f"{E} * {H}")
    found = names(of(composite("moe", module)))
    assert [name for name in found.values() if name.endswith(" of the experts")] == [
        f"{name} of the experts" for name in expected
    ]
    assert found["moe.experts.sort"] == "tokens sorted by expert"
    assert found["moe.experts.exotic"] == "exotic"


def test_of_more_products_none_is_told_apart() -> None:
    products = [expert(number, 2) for number in range(1, 5)]
    module = composite("experts", *products, composite("norm", vector("gelu")), parameters=f"{E} * {H}")
    assert not any(name.endswith("of the experts") for name in names(of(module)).values())


# ---- what a row does


def head(more: str, weights: str = f"{V} * {H}", **fields: Any) -> dict[str, Any]:
    read = f"({weights} + {more}) * {{w_bytes}} + {{seq_len}} * {H} * {{a_bytes}}"
    return composite("head", basic(f"2 * {V} * {H}", read, f"{V} * {{a_bytes}}", "matmul", "matmul"), **fields)


@pytest.mark.parametrize(("more", "tied"), [(0, "wte"), (1, "wte"), (100, "wte"), (-1, ""), (101, "")])
def test_a_head_is_tied_to_the_table_that_it_reads(more: int, tied: str) -> None:
    """The table's 800 weights, and a bias of an element for each of 100 rows at most."""
    analysis = of(table(), head(str(more)))
    assert tied_to(analysis.find("head"), analysis) == tied
    assert tied_to(analysis.find("wte"), analysis) == ""


def test_a_head_with_weights_is_not_tied() -> None:
    analysis = of(table(), head("0", parameters=f"{V} * {H}"))
    assert tied_to(analysis.find("head"), analysis) == ""


def test_lines_about_rows() -> None:
    sizes = {"input_size": H, "output_size": V}
    analysis = of(
        table(), head("0", bindings=sizes), composite("attn", vector("gelu"), module=ATTENTION),
        composite("sum", vector("add"), module="torch.add"), composite("gate", vector("mul"), module="torch.mul"),
        composite("many", vector("a"), basic("1", "1", "1", name="b", steps=3), basic("1", "1", "1", name="c", fused=True)),
        composite("said", vector("a"), description="What it is for."), composite("outer", vector("mul", number=2), composite("x", vector("a"))),
    )  # fmt: skip
    said = {node.path: help_of(node, analysis) for node in analysis.nodes}
    assert said["head"] == "matrix product: a vector of 8 becomes one of 100, by the weights of wte"
    assert said["attn"].startswith("queries times keys, softmax")
    assert said["sum"].startswith("sum of two tensors")
    assert said["gate"].startswith("product of two tensors")
    assert said["many"] == "4 kernels one after the other: each reads and writes, where a fused one does so once"
    assert said["said"] == "What it is for."
    assert said["outer.mul (2)"] == "PyTorch's operation 'mul'"
    assert kernels_of(analysis.find("many")) == 4
    assert [kernels_of(node) for node in analysis.find("many").children] == [1, 3, 0]
    assert isinstance(analysis.find("many").kernel, Composite)


def test_copies_of_what_is_cached() -> None:
    """They read the cache and compute nothing; what computes with it is called by what it does."""
    read = "{cache_len} * {kv_bytes}"
    copy, product = basic("0", read, "{a_bytes}", name="repeat"), basic("4", read, "{a_bytes}", name="mul")
    part = composite("part", copy, product, basic("1", read, "{a_bytes}", name="neg"), composite("x", vector("gelu")))
    found = names(of(part))
    assert [found[f"part.{name}"] for name in ("repeat", "mul", "neg")] == [
        "copies of what is cached",
        "product",
        "negation",
    ]


def test_two_kernels_of_a_module_and_one() -> None:
    op = "transformers.activations.NewGELUActivation"
    analysis = of(
        composite("two", vector("a"), vector("b")), composite("one", vector("a"), module=op), composite("none")
    )
    assert [help_of(node, analysis) for node in analysis.kernel_tree.roots] == [
        "2 kernels one after the other: each reads and writes, where a fused one does so once",
        help_of(analysis.find("one"), analysis), "",
    ]  # fmt: skip
    assert help_of(analysis.find("one"), analysis) not in {"", op}
    assert kernels_of(analysis.find("one.a")) == 1


def test_a_head_that_drafts_has_the_models_weights() -> None:
    """It is called like the one that has them; another of that name, with other weights, is none."""
    own, draft = head("0", parameters=f"{V} * {H}"), head("0", parameters=f"{V} * {H}", shared=True)
    other = composite("other", {**own, "description": "x", "parameters": H})
    analysis = of(table(), other, composite("model", own), composite("mtp", draft))
    assert tied_to(analysis.find("mtp.head"), analysis) == "head"
    assert [tied_to(analysis.find(name), analysis) for name in ("model.head", "other.head", "mtp.head.matmul")] == [
        ""
    ] * 3
    alone = of(table(), other, composite("mtp", draft))
    assert tied_to(alone.find("mtp.head"), alone) == ""


def test_only_products_that_read_weights_are_tied() -> None:
    read = f"{V} * {H} * {{w_bytes}}"
    scale = composite("scale", basic("0", read, "{a_bytes}", "matmul"))  # computes nothing
    add = composite("add", basic("1", "{a_bytes}", "{a_bytes}", "matmul"))  # reads none
    outer = composite("outer", head("0"))
    analysis = of(table(), scale, add, outer)
    assert [tied_to(analysis.find(name), analysis) for name in ("scale", "add", "outer", "outer.head")] == [
        "",
        "",
        "",
        "wte",
    ]


def test_a_module_that_runs_in_some_passes_says_when() -> None:
    choice = "2 if {cache_len} else 1"
    found = names(
        of(composite("some", vector("gelu"), calls=choice), composite("many", vector("gelu"), repeat="{seq_len}"))
    )
    assert (found["some"], found["many"]) == ("some if 2 if cache_len else 1", "many × 3")


def test_kernels_that_are_known_by_what_stands_beside_them() -> None:
    """Beside one table only, an index that is no sum, and types of tokens."""
    found = names(of(composite(
        "model", basic("1", "8", "8", name="mul"), table("types", "{type_vocab_size}"), table("rows", "{hidden_size}"),
        vector("add"), vector("neg"), vector("exotic (x)"),
    ), config={**CONFIG, "type_vocab_size": 2}))  # fmt: skip
    assert [found[f"model.{name}"] for name in ("mul", "add", "neg")] == [
        "product",
        "token type + rows embedding",
        "negation",
    ]
    assert found["model.exotic (x)"] == "exotic (x)"
    assert (
        names(of(composite("part", vector("exotic", number=2), composite("x", vector("a")))))["part.exotic (2)"]
        == "exotic"
    )


def test_a_head_is_tied_where_no_vocabulary_is_known() -> None:
    rows = composite("rows", basic("0", f"{H} * {{w_bytes}}", "{a_bytes}", name="look up"), parameters=f"{E} * {H}")
    read = f"{E} * {H} * {{w_bytes}} + {{a_bytes}}"
    analysis = of(
        rows, composite("head", basic("2", read, "{a_bytes}", "matmul")), config={"hidden_size": 8, "num_experts": 4}
    )
    assert tied_to(analysis.find("head"), analysis) == "rows"
