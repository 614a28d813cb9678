"""Which kernels are launched together, and by which rule, on small templates by hand: 3 sequences, in 16 bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builders import basic, composite, template

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count
from nbanalyzer.costs.launch import Launch
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.template_files import load_model_template

X = "{batch_size} * {a_bytes}"


def own(*kernels: Mapping[str, Any]) -> Costs:
    content = json.dumps(template(*kernels)).encode()
    return count(load_model_template(content), fusion="engine", batch_size=3)


def names(launch: Launch[Number]) -> list[str]:
    return [node.kernel.name for node in launch.nodes]


def linear(name: str, read: str = X, write: str = X) -> dict[str, Any]:
    """Return a module that is a product with 8 weights."""
    return composite(name, basic("2", f"{read} + 8 * {{w_bytes}}", write, "matmul", "matmul"), parameters="8")


def kinds(costs: Costs) -> str:
    """Return the launches of a pass as letters."""
    return "".join(launch.kind[0] for launch in costs.launches)


LOOKUP = basic("0", "8 * {batch_size} + 24 * {w_bytes}", X, name="lookup")
NORM, ADD = basic("1", X, X, name="norm"), basic("1", f"2 * {X}", X, name="add")


def rules(costs: Costs) -> dict[str, str]:
    """Return the path of a kernel that is no launch of its own → the rule that took it away."""
    return {node.path: rule for node, rule in costs.kernel_tree.rules.items()}


def test_residuals_are_carried_from_layer_to_layer_and_nowhere_else() -> None:
    """The add that ends a layer runs with the norm of the next, not one outside, nor without a norm, nor without an add."""
    layers = composite("layers", NORM, linear("mlp"), ADD, repeat="4")
    assert kinds(own(LOOKUP, layers)) == "ccl"
    plain = composite("layers", linear("mlp"), basic("1", X, X, name="act"), repeat="4")
    assert kinds(own(LOOKUP, plain, NORM, linear("more"), ADD)) == "clcclc"
    assert kinds(own(LOOKUP, composite("layers", linear("mlp"), ADD, repeat="4"))) == "clc"
    assert kinds(own(LOOKUP, composite("layers", NORM, linear("mlp"), plain["sub_kernels"][1], repeat="4"))) == "cclc"
    assert kinds(own(LOOKUP, composite("layers", NORM, ADD, repeat="4"))) == "cc"


def test_each_rule_names_what_it_took() -> None:
    """After the add the first kernel of the norm; the rest; the append; a layout; linears that share their input."""
    more, keep = basic("1", X, X, name="more"), basic("0", X, "{batch_size} * {kv_bytes}", name="append")
    copy, both = basic("0", X, X, name="copy"), composite("both", linear("up"), linear("gate"))
    inside = (NORM, more, both, basic("1", f"2 * {X}", X, name="mul"), keep, linear("down"))
    always = {"layers.more": "chain", "layers.both.gate.matmul": "shared input", "layers.append": "append"}
    found = rules(own(LOOKUP, composite("layers", *inside, ADD, repeat="4")))
    assert found == {**always, "layers.norm": "residual"}
    found = rules(
        own(LOOKUP, composite("layers", *inside, copy, ADD, repeat="4"))
    )  # the add is not the first of its launch
    assert found == {**always, "layers.add": "residual", "layers.norm": "chain"}
    assert rules(own(LOOKUP, linear("up"), copy, linear("down", f"5 * {X}"))) == {"copy": "layout"}


def test_what_is_appended_or_looked_up_is_launched_though_it_computes_nothing() -> None:
    keep = basic("0", X, "{batch_size} * {kv_bytes}", name="append")
    wide = linear("o", f"5 * {X}")
    assert kinds(own(LOOKUP, linear("k"), keep, wide)) == "clcl"
    copy = basic("0", X, X, name="copy")
    assert kinds(own(LOOKUP, linear("k"), copy, keep, wide)) == "clcl"
    assert kinds(own(LOOKUP, linear("k"), copy, wide)) == "cll"


def test_what_is_fused_with_a_kernel_is_in_its_launch() -> None:
    bias = basic("1", "{w_bytes}", "0", name="bias", fused=True)
    up, down = composite("up", basic("2", f"{X} + 8 * {{w_bytes}}", X, "matmul"), bias), linear("down", f"5 * {X}")
    assert [names(one) for one in own(LOOKUP, up, down).launches] == [["lookup"], ["op", "bias"], ["matmul"]]
    apart = own(LOOKUP, linear("up"), composite("other", bias), down)  # of another module
    assert [names(one) for one in apart.launches] == [["lookup"], ["matmul"], ["bias"], ["matmul"]]
