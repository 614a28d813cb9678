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


def test_products_around_attention_are_in_no_region() -> None:
    """Streams that a layer mixes before and after its attention: regions do not nest, the inner one stands."""
    attention = composite("attn", linear("q"), product("scores"), product("values"), linear("o"))
    mixed = composite("layer", product("mix"), attention, linear("mlp"), product("mix again"))
    assert kinds(tree_of(mixed)) == dict.fromkeys(["layer.attn.scores", "layer.attn.values"], "attention")
    # Without attention between them they are two products of one module, as before.
    apart = composite("layer", product("mix"), linear("mlp"), product("mix again"))
    assert set(kinds(tree_of(apart)).values()) == {"attention"}


def test_products_of_which_one_sequence_has_others_than_several_count_once() -> None:
    one, several = (f"2 * {{batch_size}} if {{batch_size}} {case} else 0" for case in ("== 1", "> 1"))
    cases = [product(name, flops=flops) for name in ("scores", "values") for flops in (one, several)]
    for place, case in enumerate(cases):
        case["operation"] += f" {place}"
    assert set(kinds(tree_of(composite("attn", *cases))).values()) == {"attention"}
    assert set(kinds(tree_of(composite("attn", *cases[:3]))).values()) == {"attention"}  # two of several sequences
    always = [product(f"scan {place}") for place in range(3)]
    assert set(kinds(tree_of(composite("mix", *cases, *always))).values()) == {"scan"}


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
    assert [has_weights(node) for node in tree_of(router).nodes] == [False, True]  # a module reads nothing
    norm = composite("norm", basic("1", "8 * 4", name="weigh"), parameters="8")
    assert not any(has_weights(node) for node in tree_of(norm, product("alone")).nodes)
    mixed = composite("mixed", product("fp32"), product("own", read="8 * {w_bytes}"), parameters="8")
    assert [has_weights(node) for node in tree_of(mixed).nodes] == [False, False, True]


def of_experts(*products: str, parameters: str = "{num_experts} * {hidden_size}") -> dict[str, str]:
    """Return the kinds of a module of products: with weights (`w`) or without (`b`)."""
    reads = {"w": "{num_experts} * {w_bytes}", "b": "{batch_size}"}
    kernels = (product(f"{kind} {place}", read=reads[kind]) for place, kind in enumerate(products))
    config = {"num_experts": 8, "hidden_size": 4}
    return kinds(Tree(own(template(composite("mlp", *kernels, parameters=parameters), config=config))))


def test_experts_are_two_products_or_more_with_the_weights_of_all() -> None:
    assert of_experts("w", "w") == dict.fromkeys(["mlp.w 0", "mlp.w 1"], "experts")
    assert of_experts("w") == of_experts("w", "w", parameters="{hidden_size}") == {}
    assert set(of_experts("w", "b").values()) == {"scan"}


def test_what_spreads_tokens_stands_before_experts_and_what_adds_up_after_them() -> None:
    read = "{batch_size} * {a_bytes} + {num_experts} * {w_bytes}"
    inside = product("up", read=read), product("down", read=read)
    experts = composite("experts", *inside, parameters="{num_experts} * {hidden_size}")
    spread, gather = (
        basic("0", "{hidden_size}", "{num_experts} * {hidden_size}", name=name) for name in ("repeat", "sum")
    )
    config = {"num_experts": 8, "hidden_size": 4}
    tree = Tree(own(template(composite("mlp", spread, experts, gather), config=config)))
    (region,) = {*regions_of(tree).values()}
    assert [node.kernel.name for node in region.nodes] == ["repeat", "up", "down", "sum"]
    assert region.copies == ()


def test_attention_begins_with_its_first_product_or_a_copy_of_the_cache() -> None:
    before, after = (basic("{batch_size}", "{batch_size}", "{batch_size}", name=name) for name in ("rope", "scale"))
    copy = basic("0", "{batch_size} * {kv_bytes}", "{batch_size} * {a_bytes}", name="copy")
    write = basic("0", "{batch_size} * {kv_bytes}", "{batch_size} * {kv_bytes}", name="write")
    used = basic("1", "{batch_size} * {kv_bytes}", "{batch_size} * {a_bytes}", name="use")
    two = product("scores"), product("values")
    for first in (write, used):  # neither is a copy
        tree = tree_of(composite("attn", before, first, *two, after))
        assert kinds(tree) == dict.fromkeys(["attn.scores", "attn.values"], "attention")
    tree = tree_of(composite("attn", before, copy, *two, after))
    (region,) = {*regions_of(tree).values()}
    assert [node.kernel.name for node in region.nodes] == ["copy", "scores", "values"]
    assert [node.kernel.name for node in region.copies] == ["copy"]
    # A scan is all of its module, unless linears stand beside it.
    tree = tree_of(composite("mix", before, product("scan"), after))
    assert set(kinds(tree)) == {"mix.rope", "mix.scan", "mix.scale"}
    tree = tree_of(composite("mix", linear("in"), before, product("scan"), after, linear("out")))
    assert kinds(tree) == {"mix.scan": "scan"}
