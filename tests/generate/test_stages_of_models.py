"""Stages of a pipeline against PyTorch: the parameters of the modules in them, and transformers' own stages."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from groups import Sent, fake_group
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh

from nbanalyzer.costs.count import params_of
from nbanalyzer.costs.run import Run
from nbanalyzer.costs.stages import order_of, range_of, staged
from nbanalyzer.costs.tree import Tree
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates import catalog

KINDS = {  # models whose layers differ, and one of each way to name what is around them
    "ai21labs/Jamba-v0.1", "bigscience/bloom-560m", "deepseek-ai/DeepSeek-V2-Lite", "deepseek-ai/DeepSeek-V3",
    "facebook/opt-350m", "google-bert/bert-base-uncased", "google/gemma-2-2b-it", "google/gemma-3-1b-it",
    "HuggingFaceTB/SmolLM3-3B", "moonshotai/Kimi-K2-Instruct", "mosaicml/mpt-30b",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "openai-community/gpt2", "openai/gpt-oss-20b",
    "Qwen/Qwen3-Next-80B-A3B-Instruct", "state-spaces/mamba-2.8b-hf", "tiiuae/falcon-7b",
    "zai-org/GLM-4.5",
}  # fmt: skip
LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks)\.(\d+)\.")
FIRST = re.compile(r"emb|wte|wpe|project_in")
"""What stands before the layers, by its name."""


def parameters_by_stage(model: torch.nn.Module, depth: int, pp: int) -> list[int]:
    """Return the parameters that each stage holds; a head that is the embedding counts in the last one as well."""
    stage_of = [stage for stage in range(pp) for _ in range(*range_of(depth, pp, stage))]
    found: list[dict[int, int]] = [{} for _ in range(pp)]
    for name, parameter in model.named_parameters(remove_duplicate=False):
        match = LAYER.search(name)
        before = FIRST.search(name) and not match
        stage = stage_of[int(match[1])] if match else 0 if before else pp - 1
        found[stage][id(parameter)] = parameter.numel()
    return [sum(sizes.values()) for sizes in found]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_parameters_of_every_stage(name: str) -> None:
    template = catalog.shipped(name)
    params = params_of(Tree(template), None, {})
    subject = Subject.of(template.config)
    depth = len(order_of(template, params))
    for pp in (3, 7):
        seen = parameters_by_stage(subject.build(), depth, pp)
        values = {**params, **Run().values(), "pp": pp}
        trees = [Tree(staged(template, params, pp, stage)) for stage in range(pp)]
        counted = [sum(tree.costs(values)[root].parameters for root in tree.roots) for tree in trees]
        assert counted == seen


TYPED = ["google/gemma-2-2b-it", "google/gemma-3-1b-it", "google/gemma-4-26B-A4B", "openai/gpt-oss-20b"]


@pytest.mark.parametrize("name", TYPED)
def test_layers_that_only_see_less(name: str) -> None:
    """Layers with a window have the same parameters as those without: here transformers' config says which."""
    template = catalog.shipped(name)
    config = Subject.of(template.config).hf_config().get_text_config()
    order = order_of(template, params_of(Tree(template), None, {}))
    kinds = list(dict.fromkeys(config.layer_types))
    assert [kinds[kind] for kind in order] == list(config.layer_types)


@pytest.mark.parametrize(("name", "pp"), [("meta-llama/Llama-3.1-8B", 2), ("Qwen/Qwen3-0.6B", 3)])
def test_transformers_own_stages(name: str, pp: int) -> None:
    """`DistributedConfig(pp_size=…)` gives a rank these modules; Qwen3's head is its embedding."""
    from transformers.distributed.pipeline_parallel import PipelineIdentityLayer, apply_pipeline_parallelism

    template = catalog.shipped(name)
    params = params_of(Tree(template), None, {"num_layers": 8})
    values = {**params, **Run().values(), "pp": pp}
    for stage in range(pp):
        with fake_group(pp, stage):
            model: Any = Subject.of({**template.config, "num_hidden_layers": 8, "layer_types": None}).build()
            apply_pipeline_parallelism(model, init_device_mesh("cpu", (pp,)))
        assert any(isinstance(module, PipelineIdentityLayer) for module in model.modules())
        tree = Tree(staged(template, params, pp, stage))
        counted = sum(tree.costs(values)[root].parameters for root in tree.roots)
        assert counted == sum(parameter.numel() for parameter in model.parameters())


def test_what_the_last_stage_receives() -> None:
    """What transformers' last stage waits for is what ours before it sends."""
    from transformers.distributed.pipeline_parallel import apply_pipeline_parallelism

    name, batch, length = "meta-llama/Llama-3.1-8B", 3, 64
    template = catalog.shipped(name)
    params = params_of(Tree(template), None, {"num_layers": 2})
    config = Subject.of({**template.config, "num_hidden_layers": 2}).hf_config()
    with fake_group(2, 1):
        mesh = init_device_mesh("cpu", (2,))
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = _model(config)
            apply_pipeline_parallelism(model, mesh)
            with Sent() as sent, torch.no_grad():
                model(input_ids=torch.zeros((batch, length), dtype=torch.long), use_cache=False)
    tree = Tree(staged(template, params, 2, 0))
    values = {**params, **Run(batch_size=batch, seq_len=length).values(), "pp": 2}
    payload = sum(tree.costs(values)[root].payload_bytes for root in tree.roots)
    assert sent.of("recv_") == [[payload]]


def _model(config: Any) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    model: torch.nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
    return model
