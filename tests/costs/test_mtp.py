"""Multi-token prediction: what files hold, what a decode step with drafts runs, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from builders import basic, composite, error_of, template

from nbanalyzer import Accelerator, populate, request, sweep
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count
from nbanalyzer.costs.drafts import tokens_a_step
from nbanalyzer.costs.mtp import head_of, require_drafts
from nbanalyzer.costs.names import tied_to
from nbanalyzer.costs.run import Run
from nbanalyzer.errors import NotModelledError
from nbanalyzer.files import convert
from nbanalyzer.templates.template import Composite, ModelTemplate

STEP: dict[str, Any] = {"seq_len": 1, "cache_len": 2048}

# What the hub counts of the elements in published files (safetensors metadata), and of them what no template has: the
# routers' e_score_correction_bias, a number for each expert of a layer with experts.
DEEPSEEK_V3 = {"bf16": 3_918_786_560, "e4m3": 680_571_043_840, "f32": 41_555_600}
DEEPSEEK_V32_EXP, DEEPSEEK_V32 = 685_396_921_376, 685_355_329_792  # with scales, and without
GLM_45, GLM_5, QWEN3_NEXT = 358_337_791_296, 753_864_139_008, 81_324_862_720
QWEN35 = {
    "9b": 9_653_104_368,
    "27b": 27_781_427_952,
    "35b-a3b": 35_951_822_704,
    "122b-a10b": 125_086_497_008,
    "397b-a17b": 403_397_928_944,
}


def elements(model: str) -> Fraction:
    """Return the elements of a checkpoint in 16 bits."""
    return Fraction(populate(model, quant="none", **STEP).checkpoint.total, 2)


def test_a_checkpoint_is_that_of_deepseeks_files() -> None:
    parts = populate("deepseek-v3", **STEP).checkpoint.parts
    assert parts["16 bits"] == 2 * DEEPSEEK_V3["bf16"]
    assert parts["e4m3"] == DEEPSEEK_V3["e4m3"]
    assert parts["f32"] == 4 * (DEEPSEEK_V3["f32"] - 59 * 256)  # 58 layers with experts, and the one that drafts


def test_a_checkpoint_is_that_of_deepseek_v32s_files() -> None:
    assert elements("deepseek-v3.2") == DEEPSEEK_V32 - 59 * 256
    assert populate("deepseek-v3.2", **STEP).checkpoint.parts["f32"] == 4 * (DEEPSEEK_V32_EXP - DEEPSEEK_V32)


def test_a_checkpoint_is_that_of_glms_files() -> None:
    assert elements("glm-4.5") == GLM_45 - 90 * 160
    assert elements("glm-5") == GLM_5 - 76 * 256  # without copies of embedding and head


def test_a_checkpoint_is_that_of_qwens_files() -> None:
    assert elements("qwen3-next-80b-a3b-instruct") == QWEN3_NEXT


@pytest.mark.parametrize("size", QWEN35)
def test_a_checkpoint_is_that_of_qwens_files_with_the_vision_tower(size: str) -> None:
    assert elements(f"qwen3.5-{size}") == QWEN35[size]


def test_the_layer_that_drafts_by_hand() -> None:
    """Qwen3.5-27B: full attention with a gate, a gated MLP, the joint, and seven norms."""
    hidden, heads, kv_heads, head, width = 5120, 24, 4, 256, 17408
    attention = (2 * heads + 2 * kv_heads) * head * hidden + hidden * heads * head + 2 * head
    layer = attention + 3 * hidden * width + 2 * hidden
    own = layer + 2 * hidden * hidden + 3 * hidden
    without, with_drafts = (populate("qwen3.5-27b", mtp=mtp, **STEP) for mtp in (0, 1))
    assert without.checkpoint.mtp == 2 * own
    assert with_drafts.totals["parameters"] - without.totals["parameters"] == own
    assert with_drafts.checkpoint == populate("qwen3.5-27b", mtp=1, **STEP).checkpoint
    assert with_drafts.checkpoint.total == without.checkpoint.total  # files are what they are
    state = 2 * kv_heads * head * 2  # bytes of a token in the cache
    assert without.state["kv_cache"] == 16 * 2049 * state
    assert with_drafts.state["kv_cache"] == 17 * 2050 * state
    assert with_drafts.state["recurrent_state"] == 2 * without.state["recurrent_state"]  # one for the draft


def test_copies_are_in_the_files_and_not_in_memory() -> None:
    both = 2 * 151_552 * 5120  # embedding and head
    found = populate("glm-4.5", mtp=1, **STEP)
    assert found.checkpoint.total - found.totals["weight_bytes"] == 2 * both
    assert found.checkpoint.mtp == 2 * (
        found.totals["parameters"] - populate("glm-4.5", **STEP).totals["parameters"] + both
    )


def test_the_layers_of_a_tower_do_not_draft() -> None:
    shipped = populate("qwen3.5-27b", **STEP)
    block = Composite(name="blocks", repeat="3", parameters="{hidden_size} * {hidden_size}")
    tower = Composite(name="tower", sub_kernels=(block,))
    kernels = (tower, *shipped.kernel_tree.source.kernels)
    whole = populate(msgspec.structs.replace(shipped.kernel_tree.source, kernels=kernels), **STEP)
    assert whole.checkpoint.mtp == shipped.checkpoint.mtp
    assert whole.checkpoint.total - shipped.checkpoint.total == 2 * 3 * 5120 * 5120


def test_a_model_that_reads_images_drafts_text() -> None:
    """Its embedding stands outside its text model; the head is like that of Qwen3.5-27B, of the same sizes."""
    whole, text = (populate(name, mtp=1, **STEP) for name in ("qwen3.6-27b", "qwen3.5-27b"))
    assert whole.checkpoint.mtp == text.checkpoint.mtp > 0
    assert whole.totals["matmul_flops"] == text.totals["matmul_flops"]


def test_a_shared_head_is_said_to_be_the_models() -> None:
    found = populate("glm-4.5", mtp=1, fusion="engine", **STEP)
    assert tied_to(found.find("mtp.lm_head"), found) == "lm_head"
    assert tied_to(found.find("model.layers_3.self_attn.q_proj"), found) == ""


def test_converters_leave_it_out() -> None:
    for quant in ("mlx-4", "gguf-q4_k_m"):
        assert populate("glm-4.5", quant=quant, **STEP).checkpoint.mtp == 0
    assert populate("minimax-m2.5", **STEP).checkpoint.mtp == 0  # its own files have none


def matmul_of_head(tokens: int, keys: int) -> int:
    """Return the products of Qwen3.5-27B's layer that drafts, over so many new tokens, and its head over one."""
    hidden, heads, kv_heads, head, width, words = 5120, 24, 4, 256, 17408, 248_320
    linears = (2 * heads + 2 * kv_heads) * head * hidden + hidden * heads * head + 3 * hidden * width
    linears += 2 * hidden * hidden
    return 2 * tokens * linears + 4 * tokens * keys * heads * head + 2 * words * hidden


@pytest.mark.parametrize("mtp", [1, 2, 3])
def test_a_step_verifies_drafts_and_drafts_anew(mtp: int) -> None:
    """The model over its new token and the drafts, and the head: over as many, and then over one, time after time."""
    cached = 2048
    found = populate("glm-4.5", mtp=mtp, acceptance=0.8, **STEP)
    model = populate("glm-4.5", seq_len=1 + mtp, cache_len=cached)
    of_model = sum(found.cost(node).matmul_flops for node in found.kernel_tree.roots[:2])
    assert of_model == model.totals["matmul_flops"]
    first, more = found.kernel_tree.roots[2:]
    assert (first.kernel.name, found.cost(first).count) == ("mtp", 1)
    assert (more.kernel.name, found.cost(more).count) == ("mtp_more", mtp - 1)
    hybrid = populate("qwen3.5-27b", mtp=mtp, acceptance=0.8, **STEP)
    drafted = [hybrid.cost(node).matmul_flops for node in hybrid.kernel_tree.roots[2:]]
    further = sum(matmul_of_head(1, cached + 1 + mtp + number + 1) for number in range(mtp - 1))
    assert drafted == [matmul_of_head(1 + mtp, cached + 1 + mtp), further]


def test_experts_are_woken_by_drafts() -> None:
    """Tokens of one sequence are routed like those of two: 160 experts, 8 of a token, three matrices of 16 bits each."""
    found = populate("glm-4.5", mtp=1, **STEP)
    (experts,) = (node for node in found.nodes if node.path == "model.layers_3.mlp.experts")
    woken = 160 * (1 - Fraction(160 - 8, 160) ** 2)
    assert found.cost(experts).weight_bytes_read == 89 * woken * 3 * 5120 * 1536 * 2


def test_a_recurrence_goes_on_token_by_token() -> None:
    """A rejected draft needs the state before it: two steps of one token, and not a chunk."""
    one, two = (populate("qwen3.5-27b", mtp=mtp, **STEP) for mtp in (0, 1))
    name = "torch_recurrent_gated_delta_rule"
    (before,), (after,) = ([node for node in each.nodes if node.path.endswith(name)] for each in (one, two))
    assert two.cost(after).count == 2 * one.cost(before).count > 0
    assert two.cost(after).flops == 2 * one.cost(before).flops
    assert not any(two.cost(node).count for node in two.nodes if node.path.endswith("torch_chunk_gated_delta_rule"))


def test_a_prompt_verifies_nothing() -> None:
    plain, drafting = (populate("glm-4.5", seq_len=64, mtp=mtp) for mtp in (0, 1))
    of_model = sum(drafting.cost(node).matmul_flops for node in drafting.kernel_tree.roots[:2])
    assert of_model == plain.totals["matmul_flops"]
    assert drafting.state["kv_cache"] == plain.state["kv_cache"] * 93 / 92


@pytest.mark.parametrize("model", ["glm-4.5", "deepseek-v3", "qwen3.5-27b"])
def test_products_of_an_engine_are_those_of_pytorch(model: str) -> None:
    options: dict[str, Any] = {"mtp": 2, "acceptance": 0.8, "logits": "all", "causal": "off", **STEP}
    options |= {"mla": "absorbed"} if model == "deepseek-v3" else {}
    eager, engine = (populate(model, fusion=fusion, **options) for fusion in ("none", "engine"))
    assert eager.totals["matmul_flops"] == engine.totals["matmul_flops"]
    assert eager.totals["bytes"] > engine.totals["bytes"]


def test_ranks_share_the_layer_that_drafts() -> None:
    whole, half = (populate("glm-4.5", mtp=1, comm="megatron", tp=tp, **STEP) for tp in (1, 2))
    experts = [next(n for n in each.nodes if n.path == "mtp.layers_0.mlp.experts") for each in (whole, half)]
    assert whole.cost(experts[0]).parameters == 2 * half.cost(experts[1]).parameters == 160 * 3 * 5120 * 1536
    assert any(node.is_link for node in half.nodes if node.path.startswith("mtp."))


# ---- tokens a step


@pytest.mark.parametrize(
    ("mtp", "share", "tokens"), [(0, 0.5, 1), (1, 0.85, 1.85), (2, 0.5, 1.75), (3, 1, 4), (3, 0, 1)]
)
def test_tokens_a_step(mtp: int, share: float, tokens: float) -> None:
    assert tokens_a_step(Run(mtp=mtp, acceptance=share)) == Fraction(str(tokens))
    if 0 < share < 1:  # Leviathan et al., in closed form
        exact = Fraction(str(share))
        assert (1 - exact ** (mtp + 1)) / (1 - exact) == Fraction(str(tokens))


def test_the_usual_acceptance_is_said() -> None:
    assert (
        "mtp 1: 1.85 tokens a step at acceptance 0.85, the least in DeepS"
        in populate("glm-4.5", mtp=1, **STEP).conditions
    )
    given = populate("glm-4.5", mtp=1, acceptance=0.7, **STEP).conditions
    assert "1.7 tokens a step at acceptance 0.7" in given
    assert "mtp" not in populate("glm-4.5", **STEP).conditions


LENGTHS: dict[str, Any] = {"prompt_len": 32, "output_len": 9}


def test_a_request_has_so_many_fewer_steps() -> None:
    found = request("glm-4.5", mtp=2, acceptance=0.5, **LENGTHS)
    steps = [populate("glm-4.5", mtp=2, acceptance=0.5, seq_len=1, cache_len=32 + n, logits="last") for n in range(8)]
    for metric in ("matmul_flops", "weight_bytes_read"):
        assert found.decode[metric] == pytest.approx(sum(step.totals[metric] for step in steps) / 1.75, rel=1e-12)
    timing = found.on("h200-sxm")
    times = [step.on("h200-sxm").time for step in steps]
    assert timing.time_per_output_token == pytest.approx(sum(times) / 8 / 1.75)
    assert timing.time == pytest.approx(timing.time_to_first_token + sum(times) / 1.75)
    assert "4.6 decode steps" in repr(found)


@pytest.mark.slow
def test_a_sweep_is_each_of_its_requests() -> None:
    metrics = ["flops", "time_per_output_token", "lower_bound", "memory_bytes"]
    axes: dict[str, Any] = {"mtp": [0, 1], "output_len": [2, 9], "acceptance": 0.6, "fusion": "engine"}
    found = sweep("glm-4.5", prompt_len=32, hardware="h200-sxm", metrics=metrics, **axes).table().reset_index()
    for _, row in found.iterrows():
        one = request(
            "glm-4.5",
            prompt_len=32,
            output_len=int(row["output_len"]),
            mtp=int(row["mtp"]),
            acceptance=0.6,
            fusion="engine",
        )
        timing = one.on("h200-sxm")
        assert row["flops"] == pytest.approx(one.totals["flops"], rel=1e-12)
        assert row["time_per_output_token"] == pytest.approx(timing.time_per_output_token, rel=1e-9)
        assert row["lower_bound"] == pytest.approx(timing.lower_bound, rel=1e-9)
        assert row["memory_bytes"] == pytest.approx(float(one.memory.total), rel=1e-12)


def test_a_sweep_of_passes_tells_steps_from_prompts() -> None:
    found = (
        sweep("glm-4.5", seq_len=[1, 8], cache_len=[64, 2048], mtp=[0, 1], metrics=["flops", "bytes"])
        .table()
        .reset_index()
    )
    for _, row in found.iterrows():
        lengths: dict[str, Any] = {name: int(row[name]) for name in ("seq_len", "cache_len", "mtp")}
        one = populate("glm-4.5", **lengths).totals
        assert (row["flops"], row["bytes"]) == pytest.approx((one["flops"], one["bytes"]), rel=1e-12)


@pytest.mark.slow
def test_estimates_with_drafts_have_no_interval() -> None:
    timing = request("glm-4.5", mtp=1, tp=8, quant="fp8", **LENGTHS).on("h200-sxm")
    assert "no interval: mtp=1 not measured" in timing.words_of("estimate")
    assert timing.expected > timing.lower_bound
    with pytest.raises(NotModelledError):
        _ = timing.estimate
    assert "no interval: mtp=1 not measured" in timing.served(8).answer


# ---- refused


@pytest.mark.parametrize(
    ("model", "options", "problem"),
    [
        ("gpt2", {"mtp": 1, **STEP}, "openai-community/gpt2 has no layers that predict further tokens: leave mtp out"),
        ("kimi-k2-instruct", {"mtp": 1, **STEP}, "has no layers that predict further tokens"),
        (
            "minimax-m2.5",
            {"mtp": 1, **STEP},
            "its config says num_mtp_modules=3, and no files that hold them are known",
        ),
        ("glm-4.5", {"mtp": 2, **STEP}, "mtp=2 needs acceptance"),
        ("glm-4.5", {"mtp": 1, "seq_len": 1}, "a pass of one token after none has no drafts to verify: give cache_len"),
        ("glm-4.5", {"mtp": 1, "pp": 2, **STEP}, "not modelled: mtp=1 with pp=2"),
        ("glm-4.5", {"mtp": 1, "tp": 2, **STEP}, "transformers has no plan for a head that drafts: comm=megatron"),
        ("glm-4.5", {"mtp": -1, **STEP}, "mtp is a whole number from 0 to 64, not -1"),
        ("glm-4.5", {"mtp": 1, "acceptance": 1.5, **STEP}, "acceptance is a number from 0 to 1, not 1.5"),
        ("glm-4.5", {"acceptance": 0.5, **STEP}, "acceptance=0.5 changes nothing: it is of drafts, by mtp"),
    ],
)
def test_what_is_refused(model: str, options: dict[str, Any], problem: str) -> None:
    assert problem in error_of(lambda: populate(model, **options))


def test_drafts_are_of_one_layer() -> None:
    config = {**populate("deepseek-v3", **STEP).template.config, "num_nextn_predict_layers": 2}
    assert "not modelled: mtp=1 by 2 layers" in error_of(lambda: populate("deepseek-v3", config=config, mtp=1, **STEP))
    one, two = (
        populate("deepseek-v3", **STEP).checkpoint.mtp,
        populate("deepseek-v3", config=config, **STEP).checkpoint.mtp,
    )
    assert two == 2 * one


def test_a_sweep_refuses_steps_after_nothing() -> None:
    asked: dict[str, Any] = {"seq_len": 1, "cache_len": [2048, 0], "mtp": 1, "metrics": ["flops"]}
    assert "give cache_len" in error_of(lambda: sweep("glm-4.5", **asked))
    prompts: dict[str, Any] = {"prompt_len": [8, 1], "output_len": 4, "mtp": 1, "metrics": ["flops"]}
    assert "a prompt of one token has no drafts" in error_of(lambda: sweep("glm-4.5", **prompts))


# ---- a small template by hand


def small(model_type: str = "glm4_moe", **config: int) -> ModelTemplate:
    """Return a template with a table of 100 x 8, 3 layers of 50 weights, a norm of 8, and a head of 100 x 8."""
    rows = "{vocab_size} * {hidden_size}"
    table = composite("embed", basic("0", "{hidden_size} * {w_bytes}", "{a_bytes}"), parameters=rows)
    layer = composite(
        "layers",
        basic("2 * {seq_len}", "50 * {w_bytes}", "{a_bytes}", "matmul"),
        parameters="50",
        repeat="{num_layers}",
    )
    norm = composite("norm", basic("1", "{hidden_size} * {w_bytes}", "{a_bytes}"), parameters="{hidden_size}")
    product = basic(f"2 * {{num_logits}} * {rows}", f"{rows} * {{w_bytes}}", "{a_bytes}", "matmul")
    head = composite("head", product, parameters=rows)
    sizes = {"model_type": model_type, "vocab_size": 100, "hidden_size": 8, "num_layers": 3, **config}
    state = {"kv_cache": "{num_layers} * {batch_size} * ({cache_len} + {seq_len}) * {kv_bytes}"}
    made = template(composite("model", table, layer, norm), head, config=sizes, state=state)
    return convert(made, ModelTemplate, "own")


def of_head(layers: int, model_type: str = "glm4_moe") -> Costs:
    return count(head_of(small(model_type), layers=layers), seq_len=4, batch_size=2)


def test_a_small_head() -> None:
    """The joint of 16 x 8, a norm before each half, one layer and the last norm; of the pass, each sequence's last token."""
    own = 2 * 8 * 8 + 3 * 8 + 50
    found = of_head(0)
    assert found.totals["parameters"] == own
    assert found.cost(found.find("mtp.head")).matmul_flops == 2 * 1 * 100 * 8
    assert found.cost(found.find("mtp.eh_proj")).matmul_flops == 2 * (2 * 4) * 16 * 8
    assert found.cost(found.find("mtp.concatenate")).bytes == 2 * (2 * 2 * 4 * 8 * 2)
    assert found.state["kv_cache"] == 2 * 4 * 2
    assert [node.kernel.name for node in found.nodes if node.depth == 1] == [
        "embed", "enorm", "hnorm", "concatenate", "eh_proj", "layers_0", "norm", "head",
    ]  # fmt: skip
    # As files have them: GLM's with copies of embedding and head in each, Qwen's without.
    assert of_head(2).totals["parameters"] == 2 * (own + 2 * 800)
    assert of_head(2, "qwen3_next").totals["parameters"] == 2 * own


def test_what_a_small_checkpoint_holds() -> None:
    own = 2 * 8 * 8 + 3 * 8 + 50
    found = populate(small(num_nextn_predict_layers=2), **STEP)
    assert found.checkpoint.mtp == 2 * (own + 1600) * 2
    assert found.checkpoint.total - found.checkpoint.mtp == (1600 + 150 + 8) * 2
    assert populate(small(num_nextn_predict_layers=0), **STEP).checkpoint.mtp == 0
    drafting = populate(small(), mtp=1, **STEP)
    assert drafting.totals["parameters"] == 1758 + own
    assert drafting.state["kv_cache"] == (3 + 1) * 2050 * 2


@pytest.mark.parametrize(
    ("made", "run", "problem"),
    [
        (small("llama"), {"mtp": 1}, "mtp=1: own has no layers that predict further tokens: leave mtp out"),
        (small("llama", num_mtp_modules=2), {"mtp": 1}, "config says num_mtp_modules=2, and no files"),
        (small("deepseek_v3"), {"mtp": 1}, "has no layers that predict further tokens"),
        (small(), {"mtp": 2}, "mtp=2 needs acceptance"),
        (small(num_nextn_predict_layers=2), {"mtp": 1}, "not modelled: mtp=1 by 2 layers (num_nextn_predict_layers=2)"),
        (small(), {"mtp": 1, "cache_len": 0}, "give cache_len"),
        (small(), {"mtp": 1, "cp": 2}, "not modelled: mtp=1 with cp=2"),
        (small(), {"mtp": 1, "tp": 2}, "comm=megatron divides it"),
    ],
)
def test_what_is_refused_of_a_small_model(made: ModelTemplate, run: dict[str, Any], problem: str) -> None:
    asked = Run(**{**STEP, **run})
    assert problem in error_of(
        lambda: require_drafts(made, {k: v for k, v in made.config.items() if k != "model_type"}, asked)
    )


@pytest.mark.parametrize("run", [{"mtp": 1}, {"mtp": 1, "seq_len": 2, "cache_len": 0}, {"mtp": 2, "acceptance": 0}])
def test_what_is_not_refused(run: dict[str, Any]) -> None:
    require_drafts(small(), {"hidden_size": 8}, Run(**{**STEP, **run}))


def test_a_request_with_drafts_takes_fewer_steps_of_a_small_model() -> None:
    """One draft and a half of them accepted: three steps of 1.5 tokens are as long as two would be."""
    card = Accelerator(name="card", bandwidth=1e3, peaks={"bf16": 1e9, "fp32": 1e9})
    timing = request(small(), mtp=1, acceptance=0.5, prompt_len=5, output_len=4).on(card)
    steps = [
        populate(small(), mtp=1, acceptance=0.5, seq_len=1, cache_len=5 + n, logits="last").on(card) for n in range(3)
    ]
    together = sum(step.time for step in steps)
    assert timing.time == pytest.approx(timing.time_to_first_token + together / 1.5)
    assert timing.time_per_output_token == pytest.approx(together / 3 / 1.5)


def test_an_engine_launches_the_layer_that_drafts_and_its_further_passes() -> None:
    """Every launch is of kernels of its own; all together they are what the pass moves."""
    for fusion, kinds in (("none", {""}), ("engine", {"linear"})):
        found = populate(small(), mtp=2, acceptance=0.5, fusion=fusion, **STEP)
        nodes = [node for launch in found.launches for node in launch.nodes]
        assert {launch.kind for launch in found.launches} == kinds
        assert len(nodes) == len({*nodes})
        assert {node.path.partition(".")[0] for node in nodes} == {"model", "head", "mtp", "mtp_more"}
        assert sum(one.times * one.bytes for one in found.launches) == found.totals["bytes"]
        assert sum(one.times * one.matmul_flops for one in found.launches) == found.totals["matmul_flops"]
        prepared = {node.path for node, rule in found.kernel_tree.rules.items() if rule == "preparation"}
        norms = {f"{part}.{name}.op" for part in ("mtp", "mtp_more") for name in ("enorm", "hnorm", "norm")}
        assert {"model.norm.op", *norms} <= prepared if fusion == "engine" else not prepared  # of weights alone


def test_a_rank_holds_layers_that_are_not_known() -> None:
    assert populate(small(num_nextn_predict_layers=1), **STEP).checkpoint.mtp > 0
    assert populate(small(num_nextn_predict_layers=1), dp=2, **STEP).checkpoint.mtp == 0


def test_a_model_without_a_head_a_table_or_a_last_norm_drafts_nothing() -> None:
    whole = small()
    model, head = whole.kernels
    assert isinstance(model, Composite)
    table, layers, norm = model.sub_kernels
    replaced = msgspec.structs.replace
    for kernels, said in (
        ((model,), "whose embedding or head is not found"),
        ((replaced(model, sub_kernels=(table, layers)), head), "whose embedding or head is not found"),
        ((replaced(model, sub_kernels=(layers, norm)), head), "whose embedding or head is not found"),
        ((replaced(model, sub_kernels=(table, norm)), head), "whose layers are not found"),
    ):
        made = replaced(whole, kernels=kernels)
        assert error_of(lambda made=made: head_of(made)) == f"not modelled: mtp for own, {said}"  # type: ignore[misc]
