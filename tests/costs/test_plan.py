"""Which module is divided how: by a plan, and by structure alone, on small templates by hand."""

from __future__ import annotations

from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer.costs.plan import heads_of, megatron, plan_of
from nbanalyzer.costs.run import Layout
from nbanalyzer.files import convert
from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.template import ModelTemplate

H, W, V, E = "{hidden_size}", "{intermediate_size}", "{vocab_size}", "{num_experts}"
HEADS, KEYS = "{num_heads} * {head_dim}", "{num_kv_heads} * {head_dim}"
ATTENTION = ("num_heads", "num_kv_heads", "num_global_key_value_heads")
DELTA = ("linear_num_value_heads", "linear_num_key_heads")


def own(*kernels: dict[str, Any], **fields: Any) -> ModelTemplate:
    return convert(template(*kernels, **fields), ModelTemplate, "own")


def product(name: str = "matmul", flops: str = "2", weights: str = "{w_bytes} + ") -> dict[str, Any]:
    return basic(flops, f"{weights}{{a_bytes}}", "{a_bytes}", "matmul", name)


def linear(name: str, taken: str, output: str) -> dict[str, Any]:
    return composite(name, product(), bindings={"input_size": taken, "output_size": output, "num_tokens": "1"})


def bare(*flops: str) -> dict[str, Any]:
    """Return a module of products without weights."""
    return composite("attend", *(product(f"product {place}", one, "") for place, one in enumerate(flops)))


ATTEND = composite("attend", basic("1"), bindings={"num_heads": "1", "num_queries": "1", "num_keys": "1"})
O = linear("o", HEADS, H)  # noqa: E741 - the name that transformers gives it
Q, UP, DOWN = linear("q", H, HEADS), linear("up", H, W), linear("down", W, H)
BOTH = {"q": "colwise", "o": "rowwise"}


@pytest.mark.parametrize(
    ("kernels", "styles"),
    [
        # A width that one linear gives is taken by another one, which gives the stream.
        ((UP, DOWN), {"up": "colwise", "down": "rowwise"}),
        ((composite("up", bindings={"input_size": H, "output_size": W}), DOWN), {"up": "colwise", "down": "rowwise"}),
        ((composite("up", bindings={"input_size": H}), DOWN), {}),
        ((linear("gate", H, W), UP, DOWN), {"gate": "colwise", "up": "colwise", "down": "rowwise"}),
        ((linear("both", H, f"2 * {W}"), DOWN), {"both": "colwise", "down": "rowwise"}),
        ((linear("more", H, f"{E} * {W}"), DOWN), {}),  # not a number of times
        ((linear("same", W, W), DOWN), {}),
        ((linear("one", H, H), linear("two", H, H)), {}),  # the stream itself is no width
        ((UP, linear("across", W, W)), {}),  # gives no stream
        ((UP, linear("wide", W, f"{H} * {E}")), {}),
        ((DOWN,), {}),
        ((UP, DOWN, linear("again", W, H)), {"up": "colwise", "down": "rowwise"}),  # only once
        # Heads: those that are given between belong together, once there was attention.
        ((Q, ATTEND, O), BOTH),
        ((Q, linear("k", H, KEYS), ATTEND, O), {"q": "colwise", "k": "colwise", "o": "rowwise"}),
        ((Q, bare("{num_heads}", "3 * {num_heads}"), O), BOTH),
        ((Q, UP, ATTEND, O), BOTH),
        ((linear("q", H, H), ATTEND, linear("o", H, H)), BOTH),  # hidden_size for heads times theirs
        ((linear("q", H, H), linear("o", H, H)), {}),
        ((linear("q", H, H), bare("{num_heads}"), linear("o", H, H)), {}),  # one product is no attention
        ((linear("q", H, H), bare("{num_heads}", "5"), linear("o", H, H)), {}),
        ((linear("q", H, H), ATTEND, linear("o", H, H), linear("p", H, H), linear("s", H, H)), BOTH),
        ((linear("v", H, "{linear_num_value_heads}"), linear("o", "{linear_num_key_heads}", H)), {"v": "colwise", "o": "rowwise"}),
        # The vocabulary, by bindings or by parameters.
        ((linear("head", H, V),), {"head": "colwise_gather_output"}),
        ((composite("table", basic(), bindings={"num_embeddings": V}),), {"table": "embedding_rowwise"}),
        ((composite("table", basic(), bindings={"num_embeddings": "512"}, parameters=V),), {}),
        ((composite("table", basic(), parameters=f"{V} * {H}"),), {"table": "embedding_rowwise"}),
        ((composite("table", product(), parameters=f"{V} * {H}"),), {}),
        ((composite("norm", basic(), parameters=H), composite("act", basic())), {}),
        # Experts are several products with the weights of all.
        ((composite("moe", product("a"), product("b"), parameters=f"{E} * {W}"),), {"moe": "moe_tp_experts"}),
        ((composite("moe", product("a"), basic(name="b"), parameters=f"{E} * {W}"),), {}),
        ((composite("mlp", product("a"), product("b"), parameters=W),), {}),
        ((composite("layers", composite("mlp", UP, DOWN)),), {"layers.mlp.up": "colwise", "layers.mlp.down": "rowwise"}),
    ],
)  # fmt: skip
def test_what_structure_says(kernels: tuple[dict[str, Any], ...], styles: dict[str, str]) -> None:
    assert megatron(own(*kernels)) == styles


@pytest.mark.parametrize(
    ("size", "heads"),
    [
        (HEADS, ATTENTION), (f"2 * {KEYS}", ATTENTION), ("{num_global_key_value_heads}", ATTENTION), (H, ATTENTION),
        (f"{H} * {{head_dim}}", ATTENTION), ("{head_dim}", ()), (f"{H} * {W}", ()), (W, ()), ("7", ()),
        ("{linear_num_key_heads} * 2", DELTA), ("{n_groups}", ("mamba_num_heads", "n_groups")),
    ],
)  # fmt: skip
def test_what_counts_the_heads_of_a_size(size: str, heads: tuple[str, ...]) -> None:
    assert heads_of(parse(size)) == heads


MOE = composite("moe", product("a"), product("b"), parameters=f"{E} * {W}")
TRANSFORMERS, EXPERTS = {"up": "rowwise"}, {"moe": "ep_dispatch_experts", "up": "colwise"}
RULES, NO_PLAN = "Megatron's rules", "Megatron's rules: transformers has no plan for it"


@pytest.mark.parametrize(
    ("axes", "comm", "sharding", "source", "styles"),
    [
        ({"tp"}, "transformers", TRANSFORMERS, "transformers' plan", TRANSFORMERS),
        ({"tp"}, "megatron", TRANSFORMERS, RULES, {"moe": "moe_tp_experts", "up": "colwise", "down": "rowwise"}),
        ({"tp"}, "transformers", {}, NO_PLAN, {"moe": "moe_tp_experts", "up": "colwise", "down": "rowwise"}),
        ({"tp", "ep"}, "transformers", TRANSFORMERS, "transformers' plan", EXPERTS),
        ({"ep"}, "transformers", TRANSFORMERS, "transformers' plan", {"moe": "ep_dispatch_experts"}),
        ({"ep"}, "megatron", TRANSFORMERS, RULES, {"moe": "ep_dispatch_experts"}),
        (
            {"tp", "ep"}, "megatron", TRANSFORMERS, RULES,
            {"moe": "ep_dispatch_experts", "up": "colwise", "down": "rowwise"},
        ),
    ],
)  # fmt: skip
def test_whose_plan_it_is(
    axes: set[str], comm: str, sharding: dict[str, str], source: str, styles: dict[str, str]
) -> None:
    made = own(MOE, UP, DOWN, sharding=sharding, expert_sharding=EXPERTS)
    found = plan_of(made, Layout(frozenset(axes), comm))
    assert (found.source, dict(found.styles)) == (source, styles)
