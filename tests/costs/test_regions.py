"""What is one kernel in an engine, found by structure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builders import basic, composite, template

from nbanalyzer.costs.regions import has_weights, regions_of
from nbanalyzer.costs.tree import Tree
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import load_model_template

PRODUCT = {"unit": "matmul", "flops": "2 * {batch_size}", "read": "{batch_size} * {a_bytes}", "write": "{batch_size}"}


def own(content: Mapping[str, Any]) -> ModelTemplate:
    """Return a template from plain data."""
    return load_model_template(json.dumps(content).encode())


def tree_of(*kernels: Mapping[str, Any]) -> Tree:
    """Return the tree of a template of one's own."""
    return Tree(own(template(*kernels)))


def product(name: str, **fields: Any) -> dict[str, Any]:
    """Return a product without weights."""
    return basic(**{**PRODUCT, "name": name, **fields})


def linear(name: str) -> dict[str, Any]:
    """Return a module that is a product with weights."""
    read = "{batch_size} * {a_bytes} + 8 * {w_bytes}"
    return composite(name, product("matmul", read=read), parameters="8")


def kinds(tree: Tree) -> dict[str, str]:
    """Return path of a kernel → the kind of its region."""
    return {node.path: region.kind for node, region in regions_of(tree).items()}


def test_two_products_without_weights_in_one_module_are_attention_with_what_is_between() -> None:
    softmax = basic("{batch_size}", "{batch_size}", "{batch_size}", name="softmax")
    tree = tree_of(composite("attn", linear("q"), product("scores"), softmax, product("values"), linear("o")))
    assert kinds(tree) == dict.fromkeys(["attn.scores", "attn.softmax", "attn.values"], "attention")


def test_the_copy_of_the_cache_for_every_head_that_shares_it_belongs_to_attention() -> None:
    copy = basic("0", "{batch_size} * {kv_bytes}", "4 * {batch_size} * {a_bytes}", name="copy")
    append = basic("0", "{batch_size} * {a_bytes}", "{batch_size} * {kv_bytes}", name="append")
    tree = tree_of(composite("attn", append, copy, product("scores"), product("values")))
    assert kinds(tree) == dict.fromkeys(["attn.copy", "attn.scores", "attn.values"], "attention")


def test_attention_that_is_one_kernel_is_attention_and_other_products_are_a_scan() -> None:
    rest = basic("{batch_size}", name="rest", fused=True)
    assert kinds(tree_of(composite("attn", product("sdpa"), rest))) == {"attn.sdpa": "attention"}
    step = basic("{batch_size}", "{batch_size}", "{batch_size}", name="step")
    three = [product(f"product {place}") for place in range(3)]
    assert set(kinds(tree_of(composite("chunks", *three, step))).values()) == {"scan"}
    assert kinds(tree_of(composite("ssm", step, product("output"))))["ssm.step"] == "scan"


def test_several_products_with_the_weights_of_all_experts_are_one_with_all_between() -> None:
    read = "{batch_size} * {a_bytes} + {num_experts} * {w_bytes}"
    gate, down = product("gate and up", read=read), product("down", read=read)
    act = composite("act", basic("{batch_size}", "{batch_size}", "{batch_size}", name="silu"))
    experts = composite("experts", gate, act, down, parameters="{num_experts} * {hidden_size}")
    config = {"num_experts": 8, "hidden_size": 4}
    spread = basic("0", "{hidden_size}", "{num_experts} * {hidden_size}", name="repeat")
    route = basic("{num_experts}", "{num_experts}", "{num_experts}", name="sigmoid")
    tree = Tree(own(template(composite("mlp", spread, route, experts), config=config)))
    inside = ["mlp.repeat", "mlp.experts.gate and up", "mlp.experts.act.silu", "mlp.experts.down"]
    assert kinds(tree) == dict.fromkeys(inside, "experts")


def test_a_linear_is_none_of_these() -> None:
    tree = tree_of(linear("up"), linear("down"))
    assert kinds(tree) == {}
    assert [has_weights(node) for node in tree.nodes if node.is_basic] == [True, True]


def test_weights_that_are_fp32_whatever_the_precision_are_weights() -> None:
    router = composite("router", product("matmul", read="{batch_size} * 4 + 8 * 4"), parameters="8")
    assert [has_weights(node) for node in tree_of(router).nodes if node.is_basic] == [True]
