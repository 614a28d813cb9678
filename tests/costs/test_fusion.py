"""What a serving engine launches: which kernels are one, and what is left to read and to write."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from builders import basic, composite, error_of, every_model, template
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbanalyzer import compare, populate, request, sweep
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count, fused
from nbanalyzer.costs.fusion import fused as fused_tree
from nbanalyzer.costs.launch import Launch
from nbanalyzer.costs.tree import Node, Tree
from nbanalyzer.errors import NBAnalyzerError, NotModelledError
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.report.analysis import as_html
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template_files import load_model_template

BF16 = 2


def engine(model: str, **run: Any) -> Costs:
    """Return the costs of a pass of a shipped model as an engine launches it."""
    return count(catalog.completed(catalog.shipped(model)), fusion="engine", **run)


def own(*kernels: Mapping[str, Any], **fields: Any) -> Costs:
    """Return the same of a template of one's own."""
    content = json.dumps(template(*kernels, **fields)).encode()
    return count(load_model_template(content), fusion="engine", batch_size=3)


def layer(node: Node) -> Node | None:
    """Return the outermost module around a kernel that repeats, or that some passes skip."""
    block = node.block
    while block and block.block:
        block = block.block
    return block


def of_layers(costs: Costs) -> dict[str, list[Launch[Number]]]:
    """Return path of a layer → its launches in this pass."""
    found: dict[str, list[Launch[Number]]] = {}
    for launch in costs.launches:
        around = layer(launch.nodes[0])
        if around and launch.times and launch.is_started:
            found.setdefault(around.path, []).append(launch)
    return found


def names(launch: Launch[Number]) -> list[str]:
    """Return the names of a launch's kernels."""
    return [node.kernel.name for node in launch.nodes]


# ---- one layer by hand


@pytest.mark.parametrize(("batch", "new", "cached"), [(2, 16, 0), (64, 1, 2048), (3, 8, 100)])
def test_a_llama_layer_is_nine_launches(batch: int, new: int, cached: int) -> None:
    tokens, hidden, wide, queries, keys = batch * new, 4096, 14336, 32 * 128, 8 * 128
    (launches,) = of_layers(engine("meta-llama/Llama-3.1-8B", batch_size=batch, seq_len=new, cache_len=cached)).values()
    context = 2 * batch * (cached + new) * keys  # elements of keys and values that attention reads
    elements = {
        # the add of the MLP before with the norm: two are read, the sum and the norm are written
        "chain 0": 4 * tokens * hidden + hidden,
        "linear 1": tokens * hidden + hidden * (queries + 2 * keys) + tokens * (queries + 2 * keys),
        # rope and the append: q, k and v are read, q is written, k and v go into the cache
        "chain 2": tokens * (queries + 2 * keys) + tokens * queries + 2 * tokens * keys,
        "attention 3": tokens * queries + context + tokens * queries,
        "linear 4": tokens * queries + queries * hidden + tokens * hidden,
        "chain 5": 4 * tokens * hidden + hidden,
        "linear 6": tokens * hidden + 2 * hidden * wide + 2 * tokens * wide,
        "chain 7": 3 * tokens * wide,  # the activation, times the other half
        "linear 8": tokens * wide + wide * hidden + tokens * hidden,
    }
    found = {f"{launch.kind} {place}": launch.bytes for place, launch in enumerate(launches)}
    assert found == {name: BF16 * number for name, number in elements.items()}
    assert all(launch.times == 32 for launch in launches)


def test_outside_the_layers_llama_looks_up_normalises_and_gives_the_last_logits() -> None:
    batch, new, hidden, words = 2, 16, 4096, 128256
    costs = engine("meta-llama/Llama-3.1-8B", batch_size=batch, seq_len=new)
    found = [launch for launch in costs.launches if layer(launch.nodes[0]) is None and launch.is_started]
    tokens = batch * new
    lookup = 8 * tokens + 2 * BF16 * tokens * hidden  # ids are int64
    # The last add reads two, and writes the stream that nobody needs, where the first layer's norm reads one: what the
    # final norm reads is counted with the layers' launches.
    norm = BF16 * (tokens * hidden + hidden)
    head = BF16 * (batch * hidden + hidden * words + batch * words)
    assert [(launch.kind, launch.bytes) for launch in found] == [("chain", lookup), ("chain", norm), ("linear", head)]


def test_the_stream_is_read_and_written_as_often_as_by_an_engine() -> None:
    # An engine's norms: the first reads the embedding, all others add; each writes what is normalised, all but the
    # first and the last the stream too. Llama has two of them a layer, and one after.
    layers, tokens, hidden = 32, 16, 4096
    read, written = 1 + 2 * (2 * layers), 2 * layers + 1 + (2 * layers - 1)
    costs = engine("meta-llama/Llama-3.1-8B", seq_len=tokens)
    norms = [
        launch
        for launch in costs.launches
        if any("layernorm" in n.path or "model.norm" in n.path for n in launch.nodes)
    ]
    moved = sum(launch.activations * launch.times for launch in norms)
    assert moved == BF16 * tokens * hidden * (read + written)


def test_what_follows_from_positions_alone_is_not_launched() -> None:
    costs = engine("meta-llama/Llama-3.1-8B", seq_len=16)
    launched = {node for launch in costs.launches for node in launch.nodes}
    left = {node.path.rpartition(".")[0] for node in costs.nodes if node.is_basic and node not in launched}
    assert left == {"model", "model.rotary_emb"}


@pytest.mark.parametrize("run", [{"seq_len": 512}, {"seq_len": 1, "cache_len": 512}], ids=["prefill", "decode"])
@pytest.mark.parametrize("size", ["8B", "32B"])
def test_text_costs_a_whole_what_its_text_model_costs(size: str, run: Mapping[str, Any]) -> None:
    # Qwen3-VL's text model is Qwen3's of the same size; its tower stands before the layers, and nothing is read from it.
    text, whole = (engine(f"Qwen/{name}", **run) for name in (f"Qwen3-{size}", f"Qwen3-VL-{size}-Instruct"))
    assert whole.totals["parameters"] > text.totals["parameters"]
    assert whole.totals["bytes"] == text.totals["bytes"]
    assert sum(launch.times for launch in whole.launches) == sum(launch.times for launch in text.launches)


# ---- families, against the lists of engines
# c: a chain of vector kernels, l: linears with the same input, a: attention, e: routed experts, s: a scan.

DENSE = "clcalclcl"  # add + norm, qkv, rope + append, attention, o, add + norm, gate + up, activation, down
PARALLEL = "clcallcl"  # one norm for attention and MLP: no add between them
POST_NORM = "lcalclclc"  # the norm after attention and after the MLP, with the add
ROUTED = "clcalclce"  # the MLP is a router, its top k, and the experts
SHARED = "clcalclcelcl"  # and a shared expert beside them: gate + up, activation, down
GATED = "clcalclcllce"  # the shared expert first; the router and the shared expert's gate read the same
LATENT = "clclclcalclcl"  # down, norm, q up, norm + rope + append, kv up, keys together, attention
LATENT_ROUTED = "clclclcalclcelcl"
ABSORBED = "clclclallclcl"  # keys absorbed into q, attention on the latent, its output expanded
ABSORBED_ROUTED = "clclclallclcelcl"
CONV = "cllc"  # of a scan's layer: norm, in, convolution, its activation
DELTA = "cllccsclclcl"  # gates, scan, gated norm, out; then an MLP
DELTA_GATED = "cllccsclclcllce"
OUTPUT_GATED = "clcaclclcl"  # the output of attention is multiplied by a gate

LAYERS: Mapping[str, tuple[set[str], set[str]]] = {
    name: (prefill, decode)
    for names, prefill, decode in [
        ("Bloom GPT2 GPTNeo GPTNeoX Gemma Gemma2 Gemma3 Llama Mistral Mpt OPT Olmo Phi3 Qwen2 Qwen3 SmolLM3", {DENSE}, {DENSE}),
        ("Falcon GPTJ Phi", {PARALLEL}, {PARALLEL}),
        ("Exaone4 Olmo2 Olmo3", {POST_NORM}, {POST_NORM}),
        ("Bert DistilBert Roberta XLMRoberta", {"lalclclc"}, {"lalclclc"}),  # as post-norm, without a cache to append to
        ("GptOss MiniMaxM2 Mixtral Olmoe Qwen3Moe", {ROUTED}, {ROUTED}),
        ("Gemma4", {"clcalclclclce"}, {"clcalclclclce"}),  # a dense MLP, then a router of its own
        ("Glm4Moe", {DENSE, SHARED}, {DENSE, SHARED}),
        ("Qwen2Moe", {GATED}, {GATED}),
        ("DeepseekV3", {LATENT, LATENT_ROUTED}, {ABSORBED, ABSORBED_ROUTED}),
        ("DeepseekV2", {LATENT, LATENT_ROUTED}, {ABSORBED, ABSORBED_ROUTED}),
        # An indexer scores all tokens, absorbed or not: its q and k, rope + append, its scores.
        ("DeepseekV32 GlmMoeDsa", {"clclcllcalcalclcl", "clclcllcalcalclcelcl"}, {"clclcllcalallclcl", "clclcllcalallclcelcl"}),
        # A convolution, x_proj, three norms in one, dt_proj, scan, out, then an MLP or experts.
        ("Jamba", {DENSE, "cllclclslclcl", "cllclclslclce"}, {DENSE, "clclclclslclcl", "clclclclslclce"}),
        ("NemotronH", {"clcal", "clcelcl", "cllcscl"}, {"clcal", "clcelcl", "clclcscl"}),
        ("Qwen3Next", {"clcaclclcllce", DELTA_GATED}, {"clcaclclcllce", "clclccsclclcllce"}),
        ("Qwen3_5", {OUTPUT_GATED, DELTA}, {OUTPUT_GATED, "clclccsclclcl"}),
        ("Qwen3_5Moe", {"clcaclclcllce", DELTA_GATED}, {"clcaclclcllce", "clclccsclclcllce"}),
    ]
    for name in names.split()
}  # fmt: skip
OF_MODEL = {
    "deepseek-ai/DeepSeek-V2-Lite": (
        {"clclcalclcl", "clclcalclcelcl"},
        {"clclallclcl", "clclallclcelcl"},
    ),  # one q_proj
    "facebook/opt-350m": ({POST_NORM}, {POST_NORM}),
    "google/gemma-4-31B-it": ({DENSE}, {DENSE}),
    # After the MLP, inputs of the layer's own: gate, product, projection; the norm and the add join the next layer's.
    **dict.fromkeys(("google/gemma-4-E2B-it", "google/gemma-4-E4B-it"), ({DENSE + "clcl"}, {DENSE + "clcl"})),
    "nvidia/Nemotron-H-56B-Base-8K": ({"clcal", "clcl", "cllcscl"}, {"clcal", "clcl", "clclcscl"}),  # no experts
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": ({SHARED}, {SHARED}),
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": ({DENSE, SHARED}, {DENSE, SHARED}),
}


def family(model: str) -> str:
    """Return what a model's class is called, without what it ends in."""
    name = catalog.completed(catalog.shipped(model)).architecture
    for end in ("LMHeadModel", "ForCausalLM", "ForMaskedLM", "ForConditionalGeneration", "Model"):
        name = name.removesuffix(end)
    return name


READING = {  # towers are like no engine's; of those whose family is above, text runs as there
    name
    for name in catalog.names()
    if catalog.shipped(name).reads is not None and family(name) not in LAYERS and name not in OF_MODEL
}
MAMBA = {name for name in catalog.names() if catalog.base(name) == "state-spaces/mamba-2.8b-hf"}
STACKS = {name for name in catalog.names() if catalog.base(name) in {"facebook/bart-base", "google-t5/t5-small"}}
SCORES = {"microsoft/deberta-v3-base", "microsoft/deberta-v3-large"}  # of relative positions, which no engine adds
STREAMS = {"deepseek-ai/DeepSeek-V4-Flash"}  # mixed by products around attention: refused, see below
UNLIKE_ANY = MAMBA | STACKS | SCORES | READING | STREAMS  # the first two below


@pytest.mark.parametrize("model", every_model(but=UNLIKE_ANY))
def test_layers_are_launched_as_engines_launch_their_family(model: str) -> None:
    expected = OF_MODEL.get(model) or LAYERS[family(model)]
    for run, wanted in zip(({"seq_len": 512}, {"seq_len": 1, "cache_len": 512}), expected, strict=True):
        found = of_layers(engine(model, **run)).values()
        assert {"".join(launch.kind[0] for launch in launches) for launches in found} == wanted


def test_a_mamba_layer_is_its_products_its_convolution_and_its_scan() -> None:
    for run, conv in (({"seq_len": 512}, "lc"), ({"seq_len": 1, "cache_len": 512}, "clc")):
        launches = of_layers(engine("state-spaces/mamba-2.8b-hf", **run))["backbone.layers_1"]
        # add + norm, in, convolution, x_proj, dt_proj, scan, out
        assert "".join(launch.kind[0] for launch in launches) == f"cl{conv}llsl"


def test_a_decoder_layer_of_t5_attends_twice() -> None:
    (launches,) = of_layers(engine("google-t5/t5-small", seq_len=1, cache_len=512)).values()
    # self attention, cross attention with what is cached of the encoder, MLP
    assert "".join(launch.kind[0] for launch in launches) == "clcal" + "clal" + "clcl"


# ---- rules


def test_eager_attention_is_one_launch_and_reads_the_cache_as_it_is() -> None:
    # Gemma 2 has eager attention only: copies for every head, scores, a cap, a mask, softmax.
    batch, new, cached = 2, 1, 300
    layers = of_layers(engine("google/gemma-2-2b-it", batch_size=batch, seq_len=new, cache_len=cached))
    (attention,) = [one for one in layers["model.layers_full_attention"] if one.kind == "attention"]
    queries, keys = 8 * 256, 4 * 256
    assert attention.bytes == BF16 * (2 * batch * new * queries + 2 * batch * (cached + new) * keys)
    assert {"copy", "tanh", "softmax", "matmul (2)"} <= set(names(attention))


def test_attention_with_sinks_reads_them_and_no_scores() -> None:
    batch, new, cached = 2, 1, 100
    layers = of_layers(engine("openai/gpt-oss-20b", batch_size=batch, seq_len=new, cache_len=cached))
    (attention,) = [one for one in layers["model.layers_full_attention"] if one.kind == "attention"]
    assert attention.cache == BF16 * 2 * batch * (cached + new) * 8 * 64
    assert attention.activations + attention.weights == BF16 * (2 * batch * new * 64 * 64 + 64)


def test_routed_experts_are_one_launch_that_reads_a_token_once() -> None:
    tokens, hidden, wide, experts, chosen = 7, 4096, 14336, 8, 2
    launches = of_layers(engine("mistralai/Mixtral-8x7B-v0.1", seq_len=tokens))["model.layers"]
    (launch,) = [one for one in launches if one.kind == "experts"]
    visited = experts * (1 - (1 - chosen / experts) ** tokens)
    assert float(launch.weights) == pytest.approx(BF16 * visited * 3 * hidden * wide, rel=1e-12)
    assert launch.activations == 2 * BF16 * tokens * hidden
    assert launch.matmul_flops == 2 * tokens * chosen * 3 * hidden * wide


def test_experts_that_get_every_token_read_it_once_all_the_same() -> None:
    # transformers repeats each token for every expert of Llama 4, and adds up what all of them give.
    tokens, hidden = 7, 5120
    launches = of_layers(engine("meta-llama/Llama-4-Scout-17B-16E-Instruct", seq_len=tokens))[
        "language_model.model.layers_full_attention"
    ]
    (launch,) = [one for one in launches if one.kind == "experts"]
    assert {"repeat", "mul", "sum"} <= set(names(launch))
    assert launch.activations == 2 * BF16 * tokens * hidden


def test_absorbed_attention_reads_the_latent_once() -> None:
    batch, cached, heads, latent, rope = 4, 500, 128, 512, 64
    costs = engine("deepseek-ai/DeepSeek-V3", batch_size=batch, seq_len=1, cache_len=cached)
    attentions = [one for one in costs.launches if one.kind == "attention"]
    assert sum(one.times for one in attentions) == 61
    for one in attentions:
        assert one.cache == BF16 * batch * (cached + 1) * (latent + rope)
        assert one.activations == BF16 * batch * heads * (latent + rope + latent)


@pytest.mark.parametrize(
    "model",
    [
        "deepseek-ai/DeepSeek-V3",
        pytest.param("deepseek-ai/DeepSeek-V3.2", marks=pytest.mark.slow),
        pytest.param("zai-org/GLM-5", marks=pytest.mark.slow),
        pytest.param("moonshotai/Kimi-K2-Instruct", marks=pytest.mark.slow),
    ],
)
def test_what_is_not_expanded_is_all_that_absorbed_attention_leaves_out(model: str) -> None:
    """An indexer runs either way: all weights are there, and its products."""
    expanded, absorbed = (populate(model, seq_len=1, cache_len=500, mla=mla) for mla in ("expanded", "absorbed"))
    assert absorbed.totals["parameters"] == expanded.totals["parameters"]
    paths = [{node.path.rpartition(".")[2] for node in costs.nodes} for costs in (expanded, absorbed)]
    assert (
        ("indexer" in paths[0]) == ("indexer" in paths[1]) == (model in {"deepseek-ai/DeepSeek-V3.2", "zai-org/GLM-5"})
    )


def test_a_decode_step_of_a_scan_reads_and_writes_the_state_once() -> None:
    batch, inner, state = 16, 5120, 16
    costs = engine("state-spaces/mamba-2.8b-hf", batch_size=batch, seq_len=1, cache_len=100)
    scan = next(one for one in costs.launches if one.kind == "scan" and one.times == 1 and one.nodes[0].block)
    assert scan.nodes[0].path.startswith("backbone.layers_0.mixer.mamba_selective_state_update")
    kept = 2 * 4 * batch * inner * state
    assert kept <= scan.activations <= kept + 5 * BF16 * batch * inner + 4 * inner * state + 4 * BF16 * batch * state


@pytest.mark.slow
def test_a_config_that_is_not_shipped_is_fused_by_the_same_rules() -> None:
    # 01-ai/Yi-6B
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
        "num_attention_heads": 32, "num_key_value_heads": 4, "num_hidden_layers": 32, "vocab_size": 64000,
        "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "tie_word_embeddings": False,
    }  # fmt: skip
    (launches,) = of_layers(populate(config, fusion="engine", seq_len=1, cache_len=10)).values()
    assert "".join(launch.kind[0] for launch in launches) == DENSE
    assert launches[1].weights == BF16 * 4096 * (4096 + 2 * 4 * 128)
    assert launches[6].weights == BF16 * 2 * 4096 * 11008


# ---- what no rule is about


def product(name: str, flops: str = "2 * {batch_size}") -> dict[str, Any]:
    """Return a product without weights."""
    return basic(flops, f"2 * {X}", X, "matmul", name)


def test_a_product_that_no_rule_is_about_is_refused_in_one_line() -> None:
    attention = composite("attn", linear("q"), product("scores"), product("values"), linear("o"))
    assert [one.kind for one in own(attention).launches] == ["linear", "attention", "linear"]
    mixed = composite("layer", product("mix"), attention, linear("mlp"), product("mix again"))
    message = error_of(lambda: own(mixed), NotModelledError)
    assert message == (
        "not modelled: what an engine launches of own: no rule is about its product layer.mix; "
        "fusion=none has PyTorch's list"
    )
    alone = own(linear("images"), linear("texts"), product("compare"))  # beside all modules: a launch of its own
    assert names(alone.launches[-1]) == ["compare"]
    cases = [
        product(f"{name} {case}", f"2 if {{batch_size}} {case} else 0") for name in "qv" for case in ("== 1", "> 1")
    ]
    assert "no rule is about its product attn.q == 1" in error_of(lambda: own(composite("attn", *cases)))


@pytest.mark.parametrize("model", STREAMS)
def test_with_hardware_a_model_without_rules_has_the_times_of_pytorchs_list_alone(model: str) -> None:
    run: dict[str, Any] = {"seq_len": 1, "cache_len": 8192, "tp": 8}
    error_of(lambda: populate(model, fusion="engine", **run), NotModelledError)
    analysis = populate(model, **run)
    roofline = analysis.on("h200-sxm")
    assert roofline.time > 0
    assert math.isnan(roofline.lower_bound)
    assert roofline.answer.startswith("estimate not modelled: what an engine launches of deepseek-ai/DeepSeek-V4-Flash")
    assert " · no bound · fits" in roofline.answer
    summary = json.loads(json.dumps(roofline.summary, allow_nan=False))
    assert summary["lower_bound"] is None
    assert summary["estimate"].startswith("not modelled: what an engine")
    timing = request(model, prompt_len=9, output_len=3).on("h200-sxm")
    assert timing.time > 0
    assert math.isnan(timing.lower_bound)
    assert " · no bound · does not fit" in timing.answer
    error_of(lambda: timing.served(4), NotModelledError)
    error_of(lambda: request(model, prompt_len=9, output_len=3, tp=8), NotModelledError)  # it is of an engine
    both = compare(model, "llama-3.1-8b", hardware="h200-sxm", seq_len=1, cache_len=100)
    assert [*both.table().loc["lower_bound"].isna()] == [True, False]
    assert "nan" not in repr(both)
    metrics = ["time", "lower_bound", "estimate"]
    table = sweep(
        model=[model, "llama-3.1-8b"], seq_len=1, cache_len=[10, 20], hardware="h200-sxm", metrics=metrics
    ).table()
    for metric in metrics:
        assert [math.isnan(number) for number in table[metric]] == [metric != "time"] * 2 + [False] * 2


def linear(
    name: str, read: str = "{batch_size} * {a_bytes}", write: str = "{batch_size} * {a_bytes}"
) -> dict[str, Any]:
    """Return a module that is a product with 8 weights."""
    return composite(name, basic("2", f"{read} + 8 * {{w_bytes}}", write, "matmul", "matmul"), parameters="8")


X = "{batch_size} * {a_bytes}"


def test_a_chain_reads_what_comes_in_and_writes_what_goes_out() -> None:
    wide = f"5 * {X}"
    costs = own(
        linear("in"),
        basic("1", X, wide, name="up"),
        basic("1", wide, wide, name="act"),
        basic("1", wide, X),
        linear("out"),
    )
    assert [(one.kind, one.bytes) for one in costs.launches] == [
        ("linear", 2 * 3 * BF16 + 8 * BF16), ("chain", 2 * 3 * BF16), ("linear", 2 * 3 * BF16 + 8 * BF16),
    ]  # fmt: skip


def test_what_is_read_outside_a_chain_is_written() -> None:
    wide = f"5 * {X}"
    chain = basic("1", X, wide, name="one"), basic("1", wide, X, name="two")
    costs = own(linear("in"), *chain, linear("after", X), linear("later", wide, wide))
    (launch,) = [one for one in costs.launches if one.kind == "chain"]
    assert launch.bytes == BF16 * 3 * (1 + 5 + 1)


def test_linears_with_the_same_input_read_it_once() -> None:
    layers = composite("block", basic("1", X, f"3 * {X}", name="norm"), *(linear(name, f"3 * {X}") for name in "qkv"))
    costs = own(linear("embed"), layers)
    launch = costs.launches[-1]
    assert [node.parent and node.parent.kernel.name for node in launch.nodes] == ["q", "k", "v"]
    assert launch.bytes == BF16 * (3 * 3 + 3 * 8 + 3 * 3)


def test_linears_on_two_sides_of_a_kernel_are_two() -> None:
    costs = own(linear("one"), basic("1", X, X, name="act"), linear("two"))
    assert [launch.kind for launch in costs.launches] == ["linear", "chain", "linear"]


@pytest.mark.parametrize(
    ("between", "kinds"),
    [
        (("act", "norm"), ["chain", "linear", "chain", "linear"]),  # the transform in a head of RoBERTa
        (("act",), ["chain", "linear", "chain"]),  # of a gated feed-forward: both linears read what comes in
        (("norm",), ["chain", "linear", "chain"]),  # of queries, each normed before the keys are made
    ],
)
def test_an_activation_and_a_norm_part_two_linears(between: tuple[str, ...], kinds: list[str]) -> None:
    def kernel(name: str) -> dict[str, Any]:
        if name == "act":
            return basic("1", X, X, name="act")
        return composite(name, basic("5", f"{X} + 3 * {{w_bytes}}", X, name="norm"), parameters="3")

    lookup = basic("1", "8 * {batch_size} + 24 * {w_bytes}", X, name="lookup")
    costs = own(lookup, composite("head", linear("dense"), *map(kernel, between), linear("decoder", X, f"5 * {X}")))
    assert [launch.kind for launch in costs.launches] == kinds
    if len(kinds) == 4:
        # each linear reads three numbers of 2 bytes and 8 weights, and writes three, or fifteen
        assert [launch.bytes for launch in costs.launches if launch.kind == "linear"] == [
            BF16 * (3 + 8 + 3), BF16 * (3 + 8 + 15)
        ]  # fmt: skip


def test_linears_before_and_after_a_block_are_two() -> None:
    lookup = basic("{batch_size}", "8 * {batch_size} + 24 * {w_bytes}", X, name="lookup")
    layers = composite(
        "layers", linear("mlp", f"5 * {X}", f"7 * {X}"), basic("1", f"7 * {X}", f"3 * {X}", name="act"), repeat="2"
    )
    costs = own(lookup, linear("q", X, f"5 * {X}"), layers, linear("k", X, f"5 * {X}"))
    assert [launch.kind for launch in costs.launches] == ["chain", "linear", "linear", "chain", "linear"]


def test_steps_of_one_operation_are_one_kernel() -> None:
    costs = own(linear("up"), basic("8", f"8 * {X}", f"8 * {X}", name="gelu", steps=8), linear("down"))
    assert costs.launches[1].bytes == 2 * 3 * BF16
    assert costs.launches[1].steps == 1
    # Each step of four reads the weights, the kernel reads them once.
    scaled = basic("4", f"4 * {X} + 32 * {{w_bytes}}", f"4 * {X}", name="scale", steps=4)
    costs = own(linear("up"), scaled, linear("down"))
    assert costs.launches[1].bytes == (2 * 3 + 8) * BF16


def test_a_copy_that_only_changes_a_layout_is_not_launched() -> None:
    costs = own(linear("up"), basic("0", X, X, name="copy"), linear("down"))
    assert [launch.kind for launch in costs.launches] == ["linear", "linear"]


def test_a_residual_add_runs_with_the_norm_that_the_layer_begins_with() -> None:
    add = basic("1", f"2 * {X}", X, name="add")
    layers = composite("layers", basic("1", X, X, name="norm"), linear("mlp"), add, repeat="4")
    costs = own(linear("embed"), layers)
    chain = next(launch for launch in costs.launches if launch.kind == "chain")
    assert names(chain) == ["add", "norm"]
    assert (chain.times, chain.bytes) == (4, BF16 * 3 * 4)


def test_weights_of_a_preparation_are_read_once_by_what_uses_it() -> None:
    """24 weights are made a table beforehand, which two kernels of a chain read."""
    costs = own(
        linear("q"),
        basic("0", "24 * {w_bytes}", "96", name="convert"),
        basic("24", "96", "96", name="exp"),
        basic("1", f"{X} + 96", X, name="scale"),
        basic("1", f"{X} + 96", X, name="shift"),
        linear("out"),
    )
    (chain,) = [launch for launch in costs.launches if launch.kind == "chain"]
    assert names(chain) == ["scale", "shift"]
    assert chain.bytes == BF16 * (3 + 24 + 3)


STATE = "4 * {batch_size} * {hidden_size}"
OF_STATE: dict[str, Any] = {"config": {"hidden_size": 24, "num_layers": 1}, "state": {"recurrent": STATE}}


def test_a_scan_reads_its_state_and_writes_it() -> None:
    update, read = basic("1", f"{STATE} + {X}", STATE, name="update"), basic("1", STATE, X, name="read")
    costs = own(linear("in"), update, read, linear("out"), **OF_STATE)
    assert [launch.kind for launch in costs.launches] == ["linear", "scan", "linear"]
    assert costs.launches[1].bytes == BF16 * (3 + 3) + 2 * 4 * 3 * 24


def test_a_copy_of_the_state_in_a_scan_reads_nothing_beside_it() -> None:
    """The state is read once and written once, though a kernel copies what a product made as large."""
    copy = basic("0", STATE, STATE, name="copy")
    update, read = basic("1", f"{STATE} + {X}", STATE, name="update"), basic("1", STATE, X, name="read")
    costs = own(linear("in"), linear("first", X, STATE), copy, update, read, linear("out"), **OF_STATE)
    scan = next(launch for launch in costs.launches if launch.kind == "scan")
    assert names(scan) == ["copy", "update", "read"]
    assert scan.bytes == BF16 * (3 + 3) + 2 * 4 * 3 * 24


def test_what_only_copies_a_state_makes_no_scan() -> None:
    costs = own(
        linear("in"), basic("1", X, X, name="act"), basic("0", STATE, STATE, name="keep"), linear("out"), **OF_STATE
    )
    assert [launch.kind for launch in costs.launches] == ["linear", "chain", "linear"]


def test_what_nobody_made_counts_nothing() -> None:
    """Beside what the product gave, a chain reads 8 bytes a sequence, as identifiers of a table."""
    wide = "{batch_size} * {hidden_size} * {a_bytes}"
    mix = basic("1", f"{wide} + 8 * {{batch_size}}", wide, name="mix")
    costs = own(linear("in", wide, wide), mix, linear("out", wide, wide), config={"hidden_size": 640})
    assert costs.launches[1].bytes == BF16 * 3 * (640 + 640)


def test_the_last_kernel_that_writes_leaves_the_result_of_a_pass() -> None:
    costs = own(linear("in"), basic("1", X, X, name="act"), basic("{batch_size}", "8 * {w_bytes}", "0", name="count"))
    assert names(costs.launches[1]) == ["act", "count"]
    assert costs.launches[1].bytes == BF16 * (3 + 8 + 3)
    assert [getattr(node.kernel, "fused", None) for node in costs.launches[1].nodes] == [False, True]


def test_a_result_is_written_as_the_cast_after_it_leaves_it() -> None:
    """A layer ends in fp32, four bytes an element, which are cast to two before the head reads them."""
    wide = "4 * {batch_size}"
    layers = composite("layers", linear("mlp"), basic("1", X, wide, name="norm"), repeat="2")
    costs = own(linear("embed"), layers, basic("0", wide, X, name="cast"), linear("head"))
    chain = next(launch for launch in costs.launches if launch.kind == "chain")
    assert (names(chain), chain.times, chain.bytes) == (["norm"], 2, BF16 * (3 + 3))


# ---- everything


RUNS = ({"batch_size": 1, "seq_len": 2048}, {"batch_size": 64, "seq_len": 1, "cache_len": 2048}, {"batch_size": 1, "seq_len": 1, "cache_len": 1}, {"batch_size": 64, "seq_len": 32, "cache_len": 1000})  # fmt: skip


# SigLIP pools by attention whose sizes are cases of one image and of several: of one image, the add after it is taken to
# read a tensor that has the size of its two only for several.
CASES = {"google/siglip-base-patch16-224"}


@pytest.mark.parametrize("model", every_model(but=CASES | STREAMS))
def test_a_launch_never_moves_more_than_its_kernels_one_by_one(model: str) -> None:
    shipped = catalog.completed(catalog.shipped(model))
    for run in RUNS:
        costs = fused(count(shipped, **run))
        chosen = {"logits": costs.run.logits, "causal": costs.run.causal} | (
            {"mla": costs.run.mla} if costs.is_latent else {}
        )
        eager = count(shipped, **run, **chosen)
        assert costs.cost_of_all.matmul_flops == eager.cost_of_all.matmul_flops
        assert costs.cost_of_all.parameters == eager.cost_of_all.parameters
        same = dict(zip(costs.nodes, eager.nodes, strict=True))
        for launch in costs.launches:
            unfused = sum(eager.costs[same[node]].bytes for node in launch.nodes)
            assert launch.bytes * launch.times <= unfused
            assert launch.bytes >= launch.weights + launch.cache
            assert launch.activations >= 0
        cache = eager.cost_of_all.kv_bytes
        assert costs.cost_of_all.kv_bytes <= cache


@pytest.mark.slow
@pytest.mark.parametrize("model", ["openai-community/gpt2", "openai/gpt-oss-20b", "ai21labs/Jamba-v0.1"])
def test_fusing_twice_changes_no_flops(model: str) -> None:
    costs = engine(model, seq_len=1, cache_len=9)
    again = Costs(fused_tree(costs.kernel_tree), costs.params, costs.run)
    assert again.cost_of_all.matmul_flops == costs.cost_of_all.matmul_flops


def test_a_template_without_kernels_and_a_block_that_runs_0_times_are_fused() -> None:
    assert own(composite("nothing")).launches == []
    add = basic("1", f"2 * {X}", X, name="add")
    costs = own(composite("layers", basic("1", X, X, name="norm"), linear("mlp"), add, repeat="0"))
    assert all(launch.times == launch.is_started == 0 for launch in costs.launches)


FORMULAS = st.sampled_from(
    ["0", X, f"2 * {X}", f"{X} + 8 * {{batch_size}}", "8 * {w_bytes}", f"{X} + 8 * {{w_bytes}}", f"{X} + 4 * {{kv_bytes}}",
     "4 * {seq_len}", f"{X} if {{seq_len}} > 1 else 0", f"max({X}, 3)", "{batch_size} * {seq_len} * {hidden_size} / 3"]
)  # fmt: skip
BASICS = st.builds(
    basic, st.sampled_from(["0", "1", "{batch_size}"]), FORMULAS, FORMULAS, st.sampled_from(["vector", "matmul"]),
    st.sampled_from(["copy", "add", "matmul"]), fused=st.booleans(), steps=st.integers(1, 3),
)  # fmt: skip
MODULES = st.recursive(
    BASICS,
    lambda inside: st.builds(
        lambda subs, repeat, parameters: composite("sub", *subs, repeat=repeat, parameters=parameters),
        st.lists(inside, max_size=5), st.sampled_from(["1", "0", "3", "{num_layers}"]), st.sampled_from(["0", "8", "8 * {num_experts}"]),
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MODULES, max_size=5), st.booleans())
def test_any_tree_is_fused_or_refused_in_one_line(kernels: list[dict[str, Any]], has_config: bool) -> None:
    sizes = {"hidden_size": 24, "num_layers": 2, "num_experts": 4}
    kernels = [one if one["kernel_type"] == "composite" else composite("module", one) for one in kernels]
    for place, kernel in enumerate(kernels):
        kernel["name"] = f"module_{place}"
    content = json.dumps(template(*kernels, config=sizes if has_config else {})).encode()
    try:
        eager = count(load_model_template(content), batch_size=5, seq_len=3, causal="on", logits="last")
    except NBAnalyzerError:
        return
    try:
        costs = fused(eager)
    except NotModelledError:
        return
    assert costs.cost_of_all.matmul_flops == eager.cost_of_all.matmul_flops
    assert costs.cost_of_all.bytes <= eager.cost_of_all.bytes
    assert all(launch.activations >= 0 for launch in costs.launches)
    assert isinstance(costs.kernel_tree, Tree)


# ---- what is shown


def test_an_explanation_says_in_which_launch_a_kernel_runs_and_with_what() -> None:
    costs = engine("meta-llama/Llama-3.1-8B", seq_len=16)
    assert (
        "launch 4 (chain): x * cos, negate half, join halves, rotated * sin, add; one launch with: self_attn.cache"
        in repr(costs.explain("rotary"))
    )
    assert "not launched, an engine does without: positions to fp32" in repr(costs.explain("rotary_emb"))
    assert "launch" not in repr(count(costs.template, seq_len=16).explain("rotary"))


def test_html_and_table_say_the_same() -> None:
    analysis = populate("meta-llama/Llama-3.1-8B", fusion="engine", seq_len=16)
    assert "one launch with: layers.mlp_add" in as_html(analysis)
    table = analysis.table()
    ends = {
        path.rpartition("layers.")[2]: number
        for path, number in zip(map(str, table.index), table["launch"], strict=True)
    }
    assert ends["mlp_add.add"] == ends["input_layernorm.weight"] == 2
    assert [ends[f"self_attn.{name}_proj.matmul"] for name in "qkv"] == [3, 3, 3]
    assert ends["self_attn"] == 0
    assert "launch" not in populate("meta-llama/Llama-3.1-8B", seq_len=16).table().columns
