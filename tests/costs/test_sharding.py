"""One rank of a tensor- or expert-parallel group: against arithmetic by hand, and what transformers' own ranks have.

Figures of transformers' ranks were measured with a fake process group on the meta device, see tests/generate.
"""

from __future__ import annotations

from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import populate
from nbanalyzer.costs.plan import Plan, megatron
from nbanalyzer.errors import InputError
from nbanalyzer.templates.catalog import shipped

LLAMA_8B = 7_822_209_187_840  # matmul FLOPs of 512 tokens
STREAM = 512 * 4096 * 2  # bytes


@pytest.mark.parametrize(
    ("tp", "parameters"), [(1, 8_030_261_248), (2, 4_015_263_744), (4, 2_007_764_992), (8, 1_004_015_616)]
)
def test_a_rank_of_llama_8b(tp: int, parameters: int) -> None:
    rank = populate("llama-3.1-8b", seq_len=512, tp=tp)
    assert rank.totals["parameters"] == parameters
    assert rank.totals["matmul_flops"] * tp == LLAMA_8B
    links = [rank.cost(node) for node in rank.nodes if node.is_link]
    if tp == 1:
        assert not links
        assert "payload_bytes" not in rank.totals
        return
    # After the attention and the feed-forward layer of each layer, and after the embedding; the logits are gathered.
    assert sum(cost.count for cost in links) == 2 * 32 + 1 + 1
    assert rank.totals["payload_bytes"] == 65 * STREAM + 512 * 128_256 * 2


def test_a_rank_of_llama_70b() -> None:
    rank = populate("llama-3.1-70b", seq_len=512, tp=8)
    assert rank.totals["parameters"] == 8_820_367_360
    assert rank.totals["matmul_flops"] == 8_982_118_793_216


@pytest.mark.parametrize("ep", [1, 4])
def test_a_rank_of_mixtral_has_a_part_of_every_expert_or_some_whole(ep: int) -> None:
    rank = populate("mixtral-8x7b-v0.1", seq_len=512, tp=4, ep=ep, set={"num_layers": 2})
    assert rank.totals["parameters"] == 791_236_608
    assert rank.totals["matmul_flops"] == 237_632_487_424


def test_experts_over_replicas_get_the_tokens_of_all() -> None:
    """Of 8 replicas each has 2 of 16 sequences and an eighth of the experts: as many products as with all of them."""
    whole = populate("deepseek-v3", batch_size=2, seq_len=64, quant="none")
    rank = populate("deepseek-v3", batch_size=2, seq_len=64, dp=8, ep=8, quant="none")
    assert rank.totals["matmul_flops"] == whole.totals["matmul_flops"]
    experts = 58 * 256 * 3 * 7168 * 2048
    assert whole.totals["parameters"] - rank.totals["parameters"] == experts - experts // 8
    # Of each of 58 layers: a number for each expert, and the rows of 8 experts a token, there and back.
    rows = 2 * 64 * 8 * 7168 * 2
    assert rank.totals["payload_bytes"] == 58 * (8 * 256 + 2 * rows)
    # 1024 tokens choose among 256 experts: of its 32, a rank reads those that one of them chose.
    node = next(node for node in rank.nodes if node.path.endswith("experts.matmul of experts"))
    read = 2 * 7168 * 2048 * 2 * 32 * (1 - (1 - 8 / 256) ** (8 * 2 * 64))
    assert rank.cost(node).weight_bytes_read == pytest.approx(58 * read, rel=1e-12)


def test_the_busiest_experts_get_more_tokens() -> None:
    even, busy = (populate("mixtral-8x7b-v0.1", seq_len=64, dp=4, ep=4, imbalance=imbalance) for imbalance in (1, 1.5))
    experts = 32 * 64 * 2 * 2 * 3 * 4096 * 14_336  # a token's two experts, in all layers
    assert busy.totals["matmul_flops"] - even.totals["matmul_flops"] == experts // 2
    # So do all-to-alls: the busiest rank is sent half as many rows again, and gives as many back.
    rows = 64 * 2 * 4096 * 2
    assert busy.totals["payload_bytes"] - even.totals["payload_bytes"] == 32 * 2 * rows // 2


def test_other_ranks_have_what_is_left() -> None:
    """The 50,257 rows of GPT-2's table on 4 ranks: 12,565 each, and 12,562 on the last."""
    parameters = [populate("gpt2", tp=4, rank=rank).totals["parameters"] for rank in range(4)]
    assert parameters[0] == parameters[2] == populate("gpt2", tp=4).totals["parameters"]
    assert parameters[0] - parameters[3] == 3 * 768


def test_parts_that_are_rounded_up_are_gathered_as_they_are() -> None:
    """Llama's 128,256 logits on 5 ranks are 25,652 each, 4 more than there are; 10 tokens in 16 bits."""
    rank = populate("llama-3.1-8b", tp=5, set={"num_heads": 40, "num_kv_heads": 5, "head_dim": 128}, seq_len=10)
    assert rank.cost(rank.find("lm_head_all_gather")).payload_bytes == 10 * 5 * 25_652 * 2


def test_key_heads_that_are_fewer_than_the_ranks_are_repeated() -> None:
    """Llama's 8: each of 32 ranks keeps one whole head of keys and one of values."""
    rank = populate("llama-3.1-8b", seq_len=10, tp=32)
    assert rank.state["kv_cache"] == 32 * 2 * 1 * 10 * 128 * 2


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("openai-community/gpt2", ["h.attn.c_attn", "h.attn.c_proj"]),
        ("bigscience/bloom", ["h.self_attention.query_key_value", "h.self_attention.dense"]),
        ("google-bert/bert-base-uncased", ["self.query", "self.key", "self.value", "attention.output.dense"]),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", ["linear_attn.in_proj_qkvz", "linear_attn.in_proj_ba", "linear_attn.out_proj"]),
        ("deepseek-ai/DeepSeek-V3", ["self_attn.q_b_proj", "self_attn.o_proj"]),
    ],
)  # fmt: skip
def test_what_structure_says_of_attention(name: str, attention: list[str]) -> None:
    styles = megatron(shipped(name))
    *first, last = attention
    for part in first:
        assert {style for path, style in styles.items() if path.endswith(part)} == {"colwise"}
    assert {style for path, style in styles.items() if path.endswith(last)} == {"rowwise"}


@pytest.mark.parametrize(
    ("name", "least"), [("gpt2", 0.02), ("qwen2.5-7b-instruct", 0.001), ("bert-base-uncased", 0.02), ("t5-small", 0.01)]
)
def test_a_rank_has_half_of_what_is_divided(name: str, least: float) -> None:
    """Without a word on its plan: twice a rank less the whole is what both have, and that is as much as it says."""
    whole, rank = populate(name, seq_len=64), populate(name, seq_len=64, tp=2, comm="megatron")
    kept = 2 * rank.totals["parameters"] - whole.totals["parameters"]
    assert 0 < kept / rank.totals["parameters"] < least
    assert rank.kept_whole == pytest.approx(kept / rank.totals["parameters"], abs=1e-3)  # but biases
    assert 2 * rank.totals["matmul_flops"] == pytest.approx(whole.totals["matmul_flops"], rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tp": 3}, "tp=3 does not divide num_heads = 32 into equal parts"),
        ({"tp": 0}, "tp is a whole number from 1 to 1,048,576, not 0"),
        ({"dp": 2.0}, "dp is a whole number from 1 to 1,048,576, not 2.0"),
        ({"dp": 2**20, "tp": 2}, "a mesh has at most 1,048,576 devices, not 2,097,152"),
        ({"ep": 2}, "ep=2 is a multiple of tp=1 that divides the 1 device of a stage"),
        ({"ep": 3, "dp": 3}, "ep=3 does not divide num_experts = 8 into equal parts"),
        ({"tp": 8, "rank": 8}, "rank is a whole number from 0 to 7, not 8"),
        ({"tp": 2, "imbalance": 0.5}, "imbalance is a number from 1 to 1,048,576, not 0.5"),
        ({"imbalance": 2}, "imbalance=2 changes nothing: it is of experts that are spread, by ep"),
        ({"tp": 2, "comm": "nccl"}, "comm is transformers or megatron, not 'nccl'"),
    ],
)
def test_meshes_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        populate("mixtral-8x7b-v0.1", **options)
    assert message in str(caught.value)


def test_experts_that_a_model_has_not() -> None:
    with pytest.raises(InputError, match="ep=2 changes nothing: this model has no experts"):
        populate("llama-3.1-8b", tp=2, ep=2)


def test_a_plan_names_modules_by_pattern() -> None:
    plan = Plan({"model.layers*.mlp.up_proj": "colwise", "lm_head": "colwise_gather_output"}, "a test")
    assert plan.style_of("model.layers_0.mlp.up_proj") == "colwise"
    assert plan.style_of("model.layers.mlp") == plan.style_of("model.layers.mlp.up_proj.more") == ""
    assert plan.speaks_of("model.layers_7.mlp")
    assert not plan.speaks_of("model.norm")
    assert not plan.speaks_of("lm_head")


def test_a_module_between_has_the_part_of_the_width() -> None:
    """Up 4 x 12, act, down 12 x 4 on 3 ranks, in every formula; what comes after is whole again."""
    linear = {"num_tokens": "{batch_size}", "has_bias": "0"}
    up = {"kernel_type": "composite", "name": "up", "module": "torch.nn.modules.linear.Linear",
          "bindings": {**linear, "input_size": "{hidden_size}", "output_size": "{intermediate_size}"}}  # fmt: skip
    down = {**up, "name": "down", "bindings": {**linear, "input_size": "{intermediate_size}", "output_size": "{hidden_size}"}}  # fmt: skip
    act = composite("act", basic("{batch_size} * {intermediate_size}"))
    after = composite("after", basic("{batch_size} * {hidden_size}"))
    mlp = composite("mlp", up, act, down, after)
    config = {"hidden_size": 4, "intermediate_size": 12}
    rank = populate(template(mlp, config=config), batch_size=5, tp=3)
    assert rank.totals["matmul_flops"] == 2 * 2 * 5 * 4 * 4
    assert rank.totals["vector_flops"] == 5 * 4 + 5 * 4
    assert rank.totals["parameters"] == 2 * 4 * 4
    assert rank.totals["payload_bytes"] == 5 * 4 * 2
    uneven = populate(template(mlp, config={**config, "intermediate_size": 13}), batch_size=5, tp=3)
    assert uneven.totals["parameters"] == 2 * 4 * 5


def test_a_bias_is_added_to_the_sum_of_all_ranks_in_a_launch_of_its_own() -> None:
    """Up 4 x 12, down 12 x 4, 5 tokens, 2 ranks, 16 bits: up adds its own part of the bias as it is written."""
    linear = {"num_tokens": "{batch_size}", "has_bias": "1"}
    up = composite("up", module="torch.nn.modules.linear.Linear",
                   bindings={**linear, "input_size": "{hidden_size}", "output_size": "{intermediate_size}"})  # fmt: skip
    down = {**up, "name": "down", "bindings": {**linear, "input_size": "{intermediate_size}", "output_size": "{hidden_size}"}}  # fmt: skip
    plan = {"mlp.up": "colwise", "mlp.down": "rowwise"}
    made = template(composite("mlp", up, down), config={"hidden_size": 4, "intermediate_size": 12}, sharding=plan)
    rank = populate(made, batch_size=5, tp=2)
    first, last = (rank.find(f"mlp.{name}.bias add") for name in ("up", "down"))
    assert [node.kernel.fused for node in (first, last)] == [True, False]  # type: ignore[union-attr]
    assert (rank.cost(first).bytes, rank.cost(last).bytes) == (6 * 2, 4 * 2 + 2 * 5 * 4 * 2)
    assert (rank.cost(first).flops, rank.cost(last).flops) == (5 * 6, 5 * 4)
    assert rank.cost(rank.find("mlp.down.matmul")).bytes == 2 * (5 * 6 + 6 * 4 + 5 * 4)
    engine = populate(made, batch_size=5, tp=2, comm="megatron")
    assert engine.find("mlp.down.bias add").kernel.fused  # type: ignore[union-attr]


# ---- styles, on small templates by hand


def ranked(*kernels: dict[str, Any], plan: dict[str, str], **run: Any) -> Any:
    """Return a rank of two or more of a template with a plan: widths of 12 and 4, 10 words, 6 experts."""
    sizes = {"hidden_size": 4, "intermediate_size": 12, "vocab_size": 10, "num_experts": 6, "moe_intermediate_size": 8}
    sizes |= {"num_heads": 2, "num_kv_heads": 2}
    return populate(template(*kernels, config=sizes, sharding=plan), **{"batch_size": 5, "seq_len": 1, "tp": 2, **run})


def payloads(rank: Any) -> list[int]:
    return [rank.cost(node).payload_bytes for node in rank.nodes if node.is_link]


def test_logits_are_gathered_as_the_last_kernel_gives_them() -> None:
    """10 words on 3 ranks: 4 each, so that 12 are gathered of each of 5 tokens in 16 bits."""
    writes = ("1", "3 * {vocab_size}", "2", "{batch_size} * {vocab_size} * {a_bytes}")
    kernels = [basic("{vocab_size}", "1", write, name=f"op {place}") for place, write in enumerate(writes)]
    head = composite("head", *kernels, parameters="{vocab_size} * {hidden_size}")
    rank = ranked(head, plan={"head": "colwise_gather_output"}, tp=3)
    assert (rank.totals["parameters"], rank.totals["flops"], payloads(rank)) == (4 * 4, 4 * 4, [5 * 12 * 2])
    for style in ("colwise", "rowwise_rep"):  # neither of them gathers what no binding says
        if style == "colwise":
            rank = ranked(head, plan={"head": style}, tp=3)
            assert payloads(rank) == []
            assert "head, whose sizes are not told apart, is not" in rank.conditions
    no_words = composite("head", *kernels, parameters="{hidden_size}")
    assert payloads(ranked(no_words, plan={"head": "colwise_gather_output"}, tp=3)) == []


def sized(name: str, output: str, taken: str, **more: Any) -> dict[str, Any]:
    """Return a linear whose bindings say its sizes, of no class of PyTorch."""
    flops, read = f"2 * {{batch_size}} * {output} * {taken}", f"{output} * {taken} * {{w_bytes}}"
    bindings = {"num_tokens": "{batch_size}", "output_size": output, "input_size": taken}
    op = basic(flops, read, f"{{batch_size}} * {output}", "matmul")
    return composite(name, op, parameters=f"{output} * {taken}", bindings=bindings, **more)


def test_a_module_without_sizes_of_its_own_follows_those_of_the_part() -> None:
    up = sized("up", "{intermediate_size}", "{hidden_size}")
    scale = composite("scale", basic("{intermediate_size}"), parameters="{intermediate_size}")
    rank = ranked(up, scale, plan={"up": "colwise", "scale": "colwise"})
    assert rank.totals["parameters"] == 6 * 4 + 6
    assert "told apart" not in rank.conditions
    rank = ranked(scale, up, plan={"up": "colwise", "scale": "colwise"})
    assert rank.totals["parameters"] == 6 * 4 + 12
    assert "scale, whose sizes are not told apart, is not" in rank.conditions


def test_a_latent_and_its_rotary_part_are_put_side_by_side_again() -> None:
    plan = {"kv": "mla_kv_a_proj"}
    rank = ranked(sized("kv", "{intermediate_size}", "{hidden_size}"), plan=plan)
    copy = rank.cost(rank.find("kv.latent and rotary part side by side"))
    assert (copy.read_bytes, copy.write_bytes, copy.flops) == (5 * 12 * 2, 5 * 12 * 2, 0)
    assert (rank.totals["parameters"], payloads(rank)) == (12 * 4, [])
    assert len(ranked(composite("kv", basic("1")), plan=plan).nodes) == 2


def test_a_rank_may_have_nothing_left() -> None:
    """10 rows on 4 ranks: 3, 3, 3 and 1; on 6: 2 each, and none on the last."""
    table = composite("table", basic("1", "{vocab_size} * {w_bytes}"), parameters="{vocab_size} * {hidden_size}")
    found = [
        [
            ranked(table, plan={"table": "embedding_rowwise"}, tp=tp, rank=rank).totals["parameters"]
            for rank in range(tp)
        ]
        for tp in (4, 6, 8)
    ]
    assert found == [[12, 12, 12, 4], [8, 8, 8, 8, 8, 0], [8, 8, 8, 8, 8, 0, 0, 0]]


@pytest.mark.parametrize(("flops", "times"), [("{batch_size}", 1), ("{num_experts} * {batch_size}", 6)])
def test_experts_are_divided_once_and_give_a_token_or_each_of_them(flops: str, times: int) -> None:
    """Of the two widths the first one: half of the weights are left. What is summed is a token, or one of each."""
    size = "{num_experts} * {moe_intermediate_size} * {intermediate_size}"
    products = [basic(flops, f"{size} * {{w_bytes}}", "0", "matmul", name) for name in ("up", "down")]
    moe = composite("moe", composite("inside", *products), parameters=size)
    rank = ranked(moe, plan={"moe": "moe_tp_experts"})
    assert rank.totals["parameters"] == 6 * 8 * 12 // 2
    assert payloads(rank) == [times * 5 * 1 * 4 * 2]


def test_what_else_a_plan_says() -> None:
    """A sum of a module's results; a style that divides what is counted whole; a module around; and one that it leaves."""
    inner = sized("inner", "{intermediate_size}", "{hidden_size}")
    rank = ranked(composite("norm", basic("{hidden_size}"), parameters="7"), plan={"norm": "all_reduce"})
    assert (rank.totals["parameters"], payloads(rank)) == (7, [5 * 1 * 4 * 2])
    rank = ranked(inner, plan={"inner": "sequence_parallel"})
    assert (rank.totals["parameters"], payloads(rank)) == (48, [])
    assert "inner (sequence_parallel) is not" in rank.conditions
    rank = ranked(inner, composite("outer", inner, parameters="9"), plan={"outer.inner": "colwise"})
    assert rank.totals["parameters"] == 48 + 48 // 2 + 9


def test_a_linear_that_takes_all_inputs_takes_its_own_part_first() -> None:
    """12 inputs of 5 tokens on 2 ranks: 6 of each are read and written before, and 4 outputs summed after."""
    down = sized("down", "{hidden_size}", "{intermediate_size}")
    for style, moved in (("rowwise", 0), ("rowwise_rep", 2 * 5 * 6 * 2)):
        rank = ranked(down, plan={"down": style})
        copied = [rank.cost(node).bytes for node in rank.nodes if node.kernel.name == "own part of the input"]
        assert sum(copied) == moved
        assert (rank.totals["parameters"], payloads(rank)) == (4 * 6, [5 * 4 * 2])
    up = sized("up", "{intermediate_size}", "{hidden_size}")
    rank = ranked(up, plan={"up": "colwise_rep"}, tp=5)
    assert (rank.totals["parameters"], payloads(rank)) == (3 * 4, [5 * 15 * 2])
    fixed = sized("fixed", "512", "{hidden_size}")
    assert (
        "fixed with 512 outputs, which no size of the config says, is not"
        in ranked(fixed, plan={"fixed": "colwise"}).conditions
    )


def test_a_width_is_divided_and_not_the_stream_that_heads_are_said_to_have() -> None:
    """Heads are as wide as the stream, and divided, in q; what up takes is the stream all the same."""
    sizes = {
        "input_size": "{hidden_size}",
        "output_size": "{hidden_size}",
        "num_tokens": "{batch_size}",
        "has_bias": "0",
    }
    q = composite("q", module="torch.nn.modules.linear.Linear", bindings=sizes)
    rank = ranked(q, sized("up", "{intermediate_size}", "{hidden_size}"), plan={"q": "colwise", "up": "colwise"}, tp=2)
    assert [rank.cost(node).parameters for node in rank.kernel_tree.roots] == [16 // 2, 48 // 2]


def test_the_share_that_every_rank_has_whole() -> None:
    """Of 48 weights half, and a norm of 8: a fourth of what a rank has is not divided."""
    up, norm = sized("up", "{intermediate_size}", "{hidden_size}"), composite("norm", basic("1"), parameters="8")
    rank = ranked(up, norm, plan={"up": "colwise"})
    assert rank.kept_whole == 0.25
    assert (
        rank.devices
        == "the busiest of 2 devices (tp 2), divided by transformers' plan, 25 % of its parameters are whole on every rank"
    )
    assert rank.tree["devices"] == rank.devices
    assert "whole on every rank" not in ranked(up, plan={"up": "colwise"}).devices
    assert "whole on every rank" not in ranked(up, norm, plan={}, tp=1, dp=2).devices
    nothing = ranked(composite("act", basic("{intermediate_size}")), plan={"act": "colwise"})
    assert nothing.kept_whole == 0.0
    assert "devices" not in ranked(up, plan={}, tp=1).tree
