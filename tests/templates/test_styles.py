"""What a template says of how its model is divided, and what is wrong with it, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nbanalyzer import ModelTemplate, NBAnalyzerError, expand
from nbanalyzer.analysis.findings import validation
from nbanalyzer.errors import TemplateError
from nbanalyzer.templates import catalog
from nbanalyzer.templates.styles import STYLES, matches, sharding_errors

LINK = {
    "kernel_type": "basic", "operation": "sum", "unit": "link", "flops": "0", "memory_access": {"read": "0", "write": "0"},
    "collective": "all_reduce", "group": "tp", "payload": "2 * {batch_size}",
}  # fmt: skip
PLAN = {"layers*.q_proj": "colwise", "layers*.q_proj.weight": "colwise", "layers_1": "moe_tp_experts"}


def template(link: Mapping[str, Any] = LINK, **fields: Any) -> dict[str, Any]:
    q_proj = {"kernel_type": "composite", "name": "q_proj", "sub_kernels": [dict(link)]}
    layers = [{"kernel_type": "composite", "name": f"layers_{number}", "sub_kernels": [q_proj]} for number in (0, 1)]
    return {"model_id": "a/b", "kernels": layers, **fields}


def test_a_plan_is_kept() -> None:
    whole = expand(template(sharding=PLAN, expert_sharding={"layers_0": "ep_dispatch_experts"}))
    assert (whole.sharding, whole.expert_sharding) == (PLAN, {"layers_0": "ep_dispatch_experts"})


@pytest.mark.parametrize(
    ("pattern", "path", "matching"),
    [
        ("a.b*.c", "a.b_12.c", True), ("a.b*.c", "a.b.c", True), ("a.b*", "a.b.c", False), ("a.*", "a.b", True),
        ("a.B", "a.b", False), ("*", "a.b", False),
    ],
)  # fmt: skip
def test_a_star_is_within_a_name(pattern: str, path: str, matching: bool) -> None:
    assert matches(pattern.split("."), path.split(".")) is matching


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"layers*": "colwize"}, "'colwize' is no style of transformers' plans, did you mean 'colwise'?"),
        ({"layers*.k_proj.weight": "colwise"}, "'layers*.k_proj.weight' is the path of no kernel, nor of a parameter"),
        ({"k.q_proj": "colwise"}, "'k.q_proj' is the path of no kernel"),
        ({f"layers*.{number}": "colwise" for number in range(301)}, "more than 300 paths"),
    ],
)
@pytest.mark.parametrize("field", ["sharding", "expert_sharding"])
def test_a_wrong_plan_is_one_line(field: str, plan: dict[str, str], says: str) -> None:
    with pytest.raises(TemplateError) as raised:
        expand(template(**{field: plan}))
    assert says in str(raised.value)
    assert field in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"collective": "gossip"}, "gossip"),
        ({"group": "xp"}, "xp"),
        ({"collective": ""}, "'link' needs a collective, its group and the payload"),
        ({"group": ""}, "'link' needs a collective, its group and the payload"),
        ({"payload": "0"}, "'link' needs a collective, its group and the payload"),
        ({"unit": "vector"}, "'vector' sends nothing"),
        ({"payload": "2 * {tokens}"}, "{tokens}"),
        ({"payload": "2 *"}, "payload"),
    ],
)
def test_a_wrong_collective_is_one_line(changes: dict[str, str], says: str) -> None:
    with pytest.raises(NBAnalyzerError) as raised:
        expand(template({**LINK, **changes}))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_draft_is_told_all_at_once() -> None:
    found = str(validation(template(sharding={"layers*": "colwize", "x": "rowwise"})))
    assert "'colwize' is no style" in found
    assert "'x' is the path of no kernel" in found


def test_shipped_templates_have_plans() -> None:
    shipped: dict[str, ModelTemplate] = {name: catalog.shipped(name) for name in catalog.names()}
    assert not [error for whole in shipped.values() for error in sharding_errors(whole)]
    assert shipped["meta-llama/Llama-3.1-70B"].sharding["model.layers*.self_attn.q_proj"] == "colwise"
    assert not shipped["openai-community/gpt2"].sharding  # transformers has none
    used = {style for whole in shipped.values() for style in (whole.sharding | whole.expert_sharding).values()}
    assert used <= STYLES.keys()
    assert len(used) > 10
    experts = shipped["openai/gpt-oss-20b"]
    assert experts.sharding.keys() == {"model.embed_tokens", "lm_head"}
    assert experts.expert_sharding["model.layers*.mlp.experts"] == "ep_dispatch_experts"
