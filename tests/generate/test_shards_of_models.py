"""Sharded weights against PyTorch's own: `fully_shard` under a process group that sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from groups import Sent, fake_group
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from nbanalyzer.analysis.sharded_data import step_of
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import params_of
from nbanalyzer.costs.run import Run
from nbanalyzer.costs.shards import gathered
from nbanalyzer.costs.tree import Tree
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates import catalog

LLAMA = "meta-llama/Llama-3.1-8B"
DEPTHS = {
    LLAMA: 2,
    "Qwen/Qwen3-0.6B": 2,  # its head is its embedding
    "openai-community/gpt2": 2,  # 50,257 rows; weights that have a row for every input
    "google/gemma-2-2b-it": 2,
    "mistralai/Mixtral-8x7B-v0.1": 2,  # rows are experts
    "openai/gpt-oss-20b": 2,
    "deepseek-ai/DeepSeek-V2-Lite": 2,  # a dense layer, and one of experts
    "facebook/opt-125m": 2,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 4,  # a gate of one row
    "ai21labs/Jamba-v0.1": 8,
    "state-spaces/mamba-2.8b-hf": 2,
}


def layers_of(model: Any) -> Iterator[torch.nn.Module]:
    """Yield a model's layers: the members of its longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    yield from lists[0]


def built(name: str, depth: int) -> Any:
    from transformers import AutoModelForCausalLM

    fields = {"num_hidden_layers": depth, "n_layer": depth, "layer_types": None, "use_cache": False}
    known = {**catalog.shipped(name).config}
    changed = {key: value for key, value in fields.items() if key in known or key == "num_hidden_layers"}
    config = Subject.of({**known, **changed}).hf_config()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
    for module in model.modules():  # some routers are fp32, and a group has one precision
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.dtype != torch.bfloat16:
                setattr(module, key, torch.nn.Parameter(parameter.detach().to(torch.bfloat16)))
    return model.train()


def costs_of(name: str, depth: int, **run: Any) -> Costs:
    template = catalog.shipped(name)
    params = params_of(Tree(template), None, {"num_layers": depth})
    return Costs(Tree(gathered(template), template), params, Run(**run))


def units(model: Any, mesh: DeviceMesh, **policy: Any) -> None:
    """Shard each layer, and all else."""
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh, **policy)
    fully_shard(model, mesh=mesh, **policy)


def kept(model: Any) -> int:
    return sum(parameter.to_local().numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("ranks", [8, 6])
def test_what_a_rank_keeps_and_gathers(name: str, ranks: int) -> None:
    """With rows that do not divide by 6, each is filled up as PyTorch does."""
    depth = DEPTHS[name]
    with fake_group(ranks):
        mesh = init_device_mesh("cpu", (ranks,))
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = built(name, depth)
            units(model, mesh)
            held = kept(model)
            with Sent() as sent:
                for module in (model, *layers_of(model)):
                    module.unshard()
    costs = costs_of(name, depth, fsdp=ranks)
    assert costs.totals["parameters"] == held
    assert costs.totals["payload_bytes"] == sum(whole for whole, _ in sent.of("_allgather_base_"))


def step(prepare: Callable[[], Callable[[Any], None]]) -> dict[str, int]:
    """Return the bytes of each kind of collective in a step of training; `prepare` gives what shards a model."""
    with fake_group(8):
        shard = prepare()
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = built(LLAMA, 2)
            shard(model)
            with Sent() as forward:
                logits = model(input_ids=torch.zeros((1, 64), dtype=torch.long)).logits
            with Sent() as backward:
                logits.float().sum().backward()
    return {
        "gathered_forward": sum(whole for whole, _ in forward.of("_allgather_base_")),
        "gathered_backward": sum(whole for whole, _ in backward.of("_allgather_base_")),
        "scattered": sum(whole for _, whole in backward.of("_reduce_scatter_base_")),
        "reduced": sum(part for (part,) in backward.of("allreduce_")),
    }


def by_layers(*shape: int, **policy: Any) -> Callable[[], Callable[[Any], None]]:
    """Return what prepares each layer, and all else, to be sharded over a mesh of such a shape."""

    def prepare() -> Callable[[Any], None]:
        names = ("dp", "fsdp")[-len(shape) :]
        return partial(units, mesh=init_device_mesh("cpu", shape, mesh_dim_names=names), **policy)

    return prepare


def test_a_step_of_training() -> None:
    seen = step(by_layers(8))
    assert seen == vars(step_of(costs_of(LLAMA, 2, fsdp=8)))
    assert seen["reduced"] == 0


def test_gradients_that_are_summed_in_fp32() -> None:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    seen = step(by_layers(8, mp_policy=policy))
    assert seen == vars(step_of(costs_of(LLAMA, 2, fsdp=8), gradient_bytes=4))


def test_copies_of_a_sharded_model() -> None:
    """HSDP: 4 copies of 2 ranks."""
    seen = step(by_layers(4, 2))
    assert seen == vars(step_of(costs_of(LLAMA, 2, fsdp=2, dp=4)))
    assert seen["reduced"] > 0


def test_as_transformers_shards_it() -> None:
    """`DistributedConfig(fsdp_size=8)`: embedding, layers, and final norm and head together, which are kept."""

    def prepare() -> Callable[[Any], None]:
        from transformers.distributed import DistributedConfig
        from transformers.distributed.utils import TransformersDeviceMesh

        dense = init_device_mesh("cpu", (1, 1, 8, 1), mesh_dim_names=("pp", "dp_replicate", "fsdp", "tp"))
        experts = init_device_mesh("cpu", (1, 1, 8, 1), mesh_dim_names=("pp", "dp_replicate", "efsdp", "ep"))
        mesh, sizes = TransformersDeviceMesh(dense, experts), DistributedConfig(fsdp_size=8)
        return lambda model: type(model).maybe_distribute_model(model, sizes, mesh)

    seen = step(prepare)
    assert seen == vars(step_of(costs_of(LLAMA, 2, fsdp=8), "transformers"))
