"""One rank of a group by transformers' own plan: the oracle by numbers of other origin, and templates beside it.

The numbers of ranks are those of a study that ran the same models by hand; or follow from what is divided by what.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed as dist

from nbanalyzer import verify
from nbanalyzer.costs.plan import WHOLE_EXPERTS
from nbanalyzer.errors import InputError
from nbanalyzer.generate import hf
from nbanalyzer.generate.check.programs import Program, program_of
from nbanalyzer.generate.check.ranks import Rank, UnsharedError, rank_of
from nbanalyzer.generate.dispatch import COLLECTIVES, collective, fake_group
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates import catalog

pytestmark = pytest.mark.pytorch

THOROUGH = os.environ.get("THOROUGH") == "1"
RUN = {"batch_size": 1, "seq_len": 512}
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "num_hidden_layers": 2,
}  # fmt: skip
MIXTRAL = {"model_type": "mixtral", "num_hidden_layers": 2}


def rank(config: dict[str, Any], tp: int, ep: int = 1, **run: Any) -> Rank:
    return rank_of(Subject.of(config), tp, ep, {**RUN, **run})


def sent(found: Rank) -> dict[str, list[int]]:
    payloads: dict[str, list[int]] = {}
    for one in found.sent:
        payloads.setdefault(one.collective, []).append(one.payload)
    return payloads


# ---- the oracle


def test_a_rank_of_llama() -> None:
    found = rank(LLAMA, 4)
    assert (found.parameters, found.matmul_flops) == (371_740_672, 248_302_796_800)
    # after the embedding, and in each layer after attention and MLP; then the logits are gathered
    assert sent(found) == {"all_reduce": [512 * 4096 * 2] * 5, "all_gather": [512 * 128256 * 2]}
    assert [one.path for one in found.sent][:3] == [
        "model.embed_tokens", "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj",
    ]  # fmt: skip
    assert not dist.is_initialized()


def test_the_whole_of_llama_31_8b_by_8() -> None:
    found = rank({**LLAMA, "num_hidden_layers": 32}, 8)
    assert found.parameters == 1_004_015_616
    assert found.matmul_flops * 8 == 7_822_209_187_840
    assert sent(found)["all_reduce"] == [4_194_304] * 65


@pytest.mark.parametrize("ep", [1, 4])
def test_a_rank_of_mixtral_has_as_much_to_do_however_experts_are_divided(ep: int) -> None:
    found = rank(MIXTRAL, 4, ep)
    assert (found.parameters, found.matmul_flops) == (791_236_608, 237_632_487_424)
    # Where all ranks have the same tokens, whole experts need no exchange: their results are summed as parts are.
    assert sent(found) == {"all_reduce": [512 * 4096 * 2] * 5, "all_gather": [512 * 32000 * 2]}


def test_a_rank_of_gpt_oss_has_whole_experts_and_all_of_attention() -> None:
    config = {"model_type": "gpt_oss", "num_hidden_layers": 2}
    whole = Subject.of(config).build()
    sizes = {name: parameter.numel() for name, parameter in whole.named_parameters()}
    divided = sum(size for name, size in sizes.items() if "experts" in name or "embed" in name or "lm_head" in name)
    found = rank(config, 4, 4)
    assert found.parameters == sum(sizes.values()) - divided * 3 // 4
    assert sent(found) == {"all_reduce": [512 * 2880 * 2] * 3, "all_gather": [512 * 201088 * 2]}


def test_a_rank_of_deepseek_v3_has_all_of_attention() -> None:
    found = rank({"model_type": "deepseek_v3", "num_hidden_layers": 2, "first_k_dense_replace": 1}, 8)
    assert found.parameters == 2_072_091_648
    # what other counters leave out: 8 experts of each of 512 tokens, three products of 7168 × 2048 / 8
    assert found.matmul_flops == 603_006_697_472 + 2 * 512 * 8 * 3 * 7168 * 2048 // 8
    assert sent(found)["all_reduce"] == [7_340_032] * 4


def test_a_rank_of_qwen3_has_its_heads_and_the_norms_of_all() -> None:
    config = {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "num_hidden_layers": 2,
        "tie_word_embeddings": True,
    }  # fmt: skip
    found = rank(config, 4)
    assert (found.parameters, found.matmul_flops) == (46_765_568, 48_955_916_288)  # head and embedding are one
    assert sent(found) == {"all_reduce": [1_048_576] * 5, "all_gather": [38_895_616 * 4]}


PROGRAMS: dict[str, tuple[dict[str, Any], int]] = {
    "llama": (LLAMA, 1),
    "mixtral": (MIXTRAL, 1),
    "mixtral, whole experts": (MIXTRAL, 2),
    "a bias after the sum": ({"model_type": "phi", "num_hidden_layers": 2}, 1),
    "its own part of an input": ({"model_type": "olmoe", "num_hidden_layers": 2}, 1),
    "a latent side by side": (
        {"model_type": "deepseek_v2", "num_hidden_layers": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 1408},
        1,
    ),
}


@pytest.mark.parametrize(("config", "ep"), PROGRAMS.values(), ids=[*PROGRAMS])
def test_a_rank_runs_the_program_of_one_device_in_its_order(config: dict[str, Any], ep: int) -> None:
    program = program_of(Subject.of(config), RUN, ep)
    found = rank(config, 2, ep).operations
    assert len(found) > 60
    assert program.differences(found) == []
    assert {name for _, name in found} >= {"mm", "mul"}


def test_what_being_divided_takes_is_named() -> None:
    alone = [("m.0.up", "mm"), ("m.0.o", "addmm"), ("m.1.a", "mm"), ("m.1.e", "ge"), ("m.1.e", "mm"), ("", "ge")]
    plan = {"m.*.up": "colwise", "m.*.o": "rowwise_split_input", "m.*.a": "mla_kv_a_proj", "m.*.e": WHOLE_EXPERTS}
    divided = [
        ("m.0.up", "mm"), ("m.0.o", "clone"), ("m.0.o", "mm"), ("m.0.o", "add"),
        ("m.1.a", "mm"), ("m.1.a", "cat"), ("m.1.e", "mm"), ("", "ge"),
    ]  # fmt: skip
    program = Program(alone, plan)
    assert program.divided() == divided
    assert program.differences(divided) == []
    assert program.differences([*divided, ("m.1.e", "where")]) == []  # which tokens a rank's experts get
    assert program.differences([*divided, ("m.0.up", "where")]) == [("m.0.up", "where", 0, 1)]
    assert program.differences(divided[1:]) == [("m.0.up", "mm", 1, 0)]
    swapped = [divided[0], divided[2], divided[1], *divided[3:]]
    assert program.differences(swapped) == [("m.0.o", "operations until their order differs", 8, 1)]


def test_a_decode_step_sends_little() -> None:
    found = rank(LLAMA, 4, batch_size=3, seq_len=1, cache_len=64)
    assert sent(found) == {"all_reduce": [3 * 4096 * 2] * 5, "all_gather": [3 * 128256 * 2]}


@pytest.mark.parametrize(
    ("config", "tp", "says"),
    [
        ({"model_type": "gpt2"}, 2, "has no `tp_plan`"),
        (LLAMA, 16, "shape '[1, 512, -1, 128]' is invalid"),  # of 8 key heads
    ],
)
def test_what_cannot_be_divided_is_one_line(config: dict[str, Any], tp: int, says: str) -> None:
    with pytest.raises(UnsharedError) as raised:
        rank(config, tp)
    assert says in str(raised.value)
    assert f"tp={tp}" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not dist.is_initialized()


# ---- the private parts that it leans on: red means that PyTorch or transformers has moved them


def test_a_fake_group_is_there_and_gone() -> None:
    with fake_group(4):
        assert (dist.get_world_size(), dist.get_rank()) == (4, 0)
        tensor = torch.ones(3)
        dist.all_reduce(tensor)  # sends nothing: what it should have received is as it was
        assert tensor.tolist() == [1, 1, 1]
        with pytest.raises(UnsharedError, match="a rank of a process group already"):
            rank(LLAMA, 4)
        assert dist.is_initialized()
    assert not dist.is_initialized()


def test_pytorch_has_the_collectives_that_are_known() -> None:
    there = {
        name
        for space in ("c10d", "_c10d_functional")
        for name in COLLECTIVES
        if hasattr(getattr(torch.ops, space), name)
    }
    assert there == {*COLLECTIVES}
    assert collective(torch.ops.aten.mm.default) is None
    assert collective(torch.ops._c10d_functional.wait_tensor.default) == ""
    assert collective(torch.ops.c10d.allreduce_.default) == "all_reduce"


def test_what_is_called_otherwise_is_named() -> None:
    with pytest.raises(hf.UnknownConventionError, match="no tp_plan and ep_plan that nbanalyzer knows: class Linear"):
        hf.plans(torch.nn.Linear(1, 1))


def test_balanced_tokens_are_forgotten_afterwards() -> None:
    before = torch.Tensor.tolist
    rank(MIXTRAL, 2, 2, seq_len=8)
    assert torch.Tensor.tolist is before


# ---- templates beside it

CASES = [("mistralai/Mixtral-8x7B-v0.1", 2, 1), ("mistralai/Mixtral-8x7B-v0.1", 2, 2), ("openai/gpt-oss-20b", 4, 4)]
CASES += [("Qwen/Qwen3-0.6B", 4, 1), ("deepseek-ai/DeepSeek-V2-Lite", 2, 1), ("meta-llama/Llama-3.2-1B", 8, 1)]


def few_layers(name: str) -> Any:
    """Return a shipped template with a config of few layers: its formulas are those of any number."""
    template = catalog.shipped(name)
    return msgspec.structs.replace(template, config={**template.config, **FEW.get(name, {"num_hidden_layers": 2})})


FEW: dict[str, dict[str, Any]] = {
    "openai/gpt-oss-20b": {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
}


@pytest.mark.parametrize(("name", "tp", "ep"), CASES)
def test_a_template_says_what_a_rank_holds_does_and_sends(name: str, tp: int, ep: int) -> None:
    found = verify(few_layers(name), tp=tp, ep=ep)
    assert found.ok, str(found)
    compared = {row.what.partition(" of ")[0] for row in found.totals}
    assert {"parameters", "matmul FLOPs", "all reduce number", "all reduce payload bytes"} <= compared
    assert f"of one of {tp} ranks" in str(found)


def test_a_wrong_plan_is_found() -> None:
    template = few_layers("meta-llama/Llama-3.2-1B")
    plan = {path: style for path, style in template.sharding.items() if not path.endswith("down_proj")}
    found = verify(msgspec.structs.replace(template, sharding=plan), tp=2)
    rows = {(row.path, row.what): (row.template, row.pytorch) for row in found.differences}
    assert rows["whole model", "all reduce number of prefill"] == (3, 5)
    assert "model.layers.mlp" in {path for path, _ in rows}
    assert not any("operations" in what for _, what in rows)  # those are of transformers' own plan
    plan = {**template.sharding, "lm_head": "colwise"}
    found = verify(msgspec.structs.replace(template, sharding=plan), tp=2)
    rows = {(row.path, row.what): (row.template, row.pytorch) for row in found.differences}
    assert rows["whole model", "all gather number of prefill"] == (0, 1)


@pytest.mark.parametrize(("tp", "ep"), [(0, 1), (2.0, 1), (True, 1), (4, 2), (1, 2)])
def test_ranks_that_cannot_be_compared(tp: Any, ep: Any) -> None:
    with pytest.raises(InputError) as raised:
        verify("meta-llama/Llama-3.2-1B", tp=tp, ep=ep)
    assert str(ep if ep != 1 else tp) in str(raised.value)


@pytest.mark.parametrize(
    "name", [name for name in catalog.names() if catalog.shipped(name).sharding] if THOROUGH else []
)
@pytest.mark.parametrize(("tp", "ep"), [(2, 1), (4, 1), (8, 1), (2, 2), (4, 4), (8, 8)])
def test_every_shipped_model_with_a_plan(name: str, tp: int, ep: int) -> None:
    if ep > 1 and not catalog.shipped(name).expert_sharding:
        pytest.skip("no plan for its experts")
    try:
        found = verify(name, tp=tp, ep=ep)
    except UnsharedError as error:  # heads that do not divide
        pytest.skip(str(error))
    assert found.ok, str(found)
