"""transformers' plans in the words of a template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.write.plans import in_kernels, plans_of
from nbanalyzer.generate.write.template import with_plans
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess

pytestmark = pytest.mark.pytorch

WORK = Basic(operation="work", unit="vector", flops="1", memory_access=MemoryAccess("0", "0"))


def tree(names: Mapping[str, object], module: str = "a.Module") -> tuple[Kernel, ...]:
    """Return kernels of modules; those in lower case are functions."""
    return tuple(
        Composite(
            name=name,
            module=module if name != "function" else "a.function",
            sub_kernels=tree(inner, module) if isinstance(inner, dict) else (WORK,),
        )
        for name, inner in names.items()
    )


@pytest.mark.parametrize(
    ("name", "kernels", "paths"),
    [
        ("lm_head", {"lm_head": 1}, ["lm_head"]),
        ("layers.*.q", {"layers": {"q": 1}}, ["layers*.q"]),
        ("layers.*.q", {"layers_0": {"q": 1}, "layers_sliding": {"q": 1}, "norm": 1}, ["layers*.q"]),
        ("layers.*.moe.w", {"layers": {"moe": 1}}, ["layers*.moe.w"]),  # a parameter
        ("layers.*.moe.experts.w", {"layers": {"moe": 1}}, []),
        ("attn.c.q", {"attn_c_q": 1}, ["attn_c_q"]),  # only the inner one is called
        ("attn.q", {"attn": {"function": {"q": 1}}}, ["attn.function.q"]),
        ("attn.q", {"attn": {"q": 1, "q_2": 1}}, ["attn.q", "attn.q_2"]),  # called twice
        ("q", {"k": 1}, []),
    ],
)
def test_a_plan_is_told_by_kernels(name: str, kernels: dict[str, object], paths: list[str]) -> None:
    assert in_kernels({name: "colwise"}, tree(kernels)) == dict.fromkeys(paths, "colwise")


def test_plans_are_those_of_the_class_too_and_of_what_is_there() -> None:
    plans = plans_of(Subject.of({"model_type": "qwen3_moe", "num_hidden_layers": 2}).build())
    assert plans.tensors["lm_head"] == "colwise_gather_output"
    assert plans.tensors["model.embed_tokens"] == "embedding_rowwise"
    assert "model.layers.*.mlp.gate_proj" not in plans.tensors  # a config without dense layers
    # A rule for experts is in place of those for them and what is in them; the others stay.
    inside = {name: style for name, style in plans.experts.items() if ".experts" in name}
    assert {*inside.values()} == {"grouped_gemm", "ep_dispatch_experts"}
    assert {*plans.tensors.items()} - {*plans.experts.items()} == {
        (name, style) for name, style in plans.tensors.items() if ".experts" in name
    }


@pytest.mark.parametrize("model_type", ["gpt2", "bloom"])
def test_models_without_a_plan_have_none(model_type: str) -> None:
    assert plans_of(Subject.of({"model_type": model_type}).build()) == ({}, {})


@pytest.mark.parametrize("name", ["mistralai/Mixtral-8x7B-v0.1", "deepseek-ai/DeepSeek-V2-Lite", "Qwen/Qwen3-8B"])
def test_shipped_plans_are_those_of_transformers(name: str) -> None:
    template = catalog.shipped(name)
    made = with_plans(template, Subject.of(template.config))
    assert (made.sharding, made.expert_sharding) == (template.sharding, template.expert_sharding)
    stored = json.loads(Path("models", f"{name}.json").read_text(encoding="utf-8"))
    assert stored["sharding"] == made.sharding
