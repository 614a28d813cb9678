"""What each fusion rule took away, for every shipped model, against counts of the modules in its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

import pytest
from builders import every_model, own_kernels

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count
from nbanalyzer.costs.launch import Launch
from nbanalyzer.costs.tree import Node
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import Composite

RULES = {"chain", "residual", "append", "shared input", "attention", "scan", "experts", "preparation", "layout"}
# Projections that read the same: by the names that transformers gives them.
SIDE_BY_SIDE = (
    {"q_proj", "k_proj", "v_proj"}, {"query", "key", "value"}, {"gate_proj", "up_proj"}, {"w1", "w3"},
    {"q_a_proj", "kv_a_proj_with_mqa"}, {"q_proj", "kv_a_proj_with_mqa"}, {"gate", "shared_expert_gate"},
    {"q_lin", "k_lin", "v_lin"}, {"query_proj", "key_proj", "value_proj"}, {"in_proj_qkvz", "in_proj_ba"}, {"in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b"},
)  # fmt: skip


@lru_cache(maxsize=4)
def passes(model: str) -> tuple[Costs, Costs]:
    """Return a pass as PyTorch runs it, and as an engine does."""
    template = catalog.completed(catalog.shipped(model))
    return count(template, seq_len=512, causal="on", logits="last"), count(template, seq_len=512, fusion="engine")


def launched(launches: Iterable[Launch[Number]]) -> Number:
    return sum(launch.times for launch in launches if launch.is_started)


def removed(model: str) -> Counter[str]:
    """Return rule → the launches of PyTorch's list that it took away."""
    eager, engine = passes(model)
    rules = {node.path: rule for node, rule in engine.kernel_tree.rules.items()}
    found: Counter[str] = Counter()
    for launch in eager.launches:
        if launch.is_started and launch.nodes[0].path in rules:
            found[rules[launch.nodes[0].path]] += int(launch.times)
    return found


def module(node: Node) -> str:
    """Return the class of a module, without its package."""
    return node.kernel.module.rpartition(".")[2] if isinstance(node.kernel, Composite) else ""


def modules(model: str) -> Iterator[tuple[Node, int]]:
    """Yield the modules that run, and how often."""
    eager, _ = passes(model)
    for node in eager.nodes:
        if not node.is_basic and eager.costs[node].count:
            yield node, int(eager.costs[node].count)


def kernels(model: str, node: Node) -> int:
    """Return how many launches a module is in PyTorch's list, below it too, in one of its runs."""
    eager, _ = passes(model)
    times = eager.costs[node].count
    inside = [
        launch for launch in eager.launches if launch.is_started and launch.nodes[0].path.startswith(f"{node.path}.")
    ]
    return int(sum(launch.times for launch in inside) / times)


def family(model: str) -> str:
    name = passes(model)[0].template.architecture
    for end in ("LMHeadModel", "ForCausalLM", "ForMaskedLM", "ForConditionalGeneration", "Model"):
        name = name.removesuffix(end)
    return name


WHOLES = {"Gemma3", "Gemma4", "Llama4", "Qwen3_5", "Qwen3_5Moe"}
"""Families that are shipped with their towers alone: of a pass over text, the rules are those of text models."""
MODELS = tuple(  # another tower has its own rules, and where streams are mixed by products, there are none
    name
    for name in own_kernels()
    if (catalog.shipped(name).reads is None or family(name) in WHOLES) and name != "deepseek-ai/DeepSeek-V4-Flash"
)
PER_LAYER = {
    "Bart": 5, "Bloom": 2, "DebertaV2": 2, "Falcon": 1, "Gemma4": 2, "google/gemma-4-E2B-it": 3, "google/gemma-4-E4B-it": 3,
}  # fmt: skip
"""Residual adds of a layer that are no module of their own, or that do not stand alone: Gemma 4 adds its MLP to its
experts before it adds to the stream, and E2B and E4B add inputs of each layer's own; Falcon adds attention and MLP at
once. BART has two in a layer of its encoder and three in one of its decoder; DeBERTa adds scores, too."""
UNCOUNTED = {
    # No modules of their own; T5's encoder does not end as its decoder does; inputs of each layer's own are added up
    # outside E2B's and E4B's text model.
    "residual": {"Mamba", "T5", "google/gemma-4-E2B-it", "google/gemma-4-E4B-it"},
    # q, k, v of their layers, but k and v alone where they are the encoder's; DeBERTa's q and k run for distances too.
    "shared input": {"T5", "Bart", "DebertaV2"},
    "append": {"T5", "DeepseekV2", "DeepseekV3", "DeepseekV32", "GlmMoeDsa"},  # parts of a latent, keys of an indexer
    # Of biases, sinks and decays, which follow from weights, and of masks inside the layers.
    "preparation": {
        "Bloom", "DeepseekV3", "DeepseekV32", "GptOss", "Gemma2", "Glm4Moe", "Jamba", "Llama4", "Mamba", "Mpt", "NemotronH",
        "OPT", "Qwen3Next", "Qwen3_5", "Qwen3_5Moe", "T5", "Bert", "Bart", "DistilBert", "DebertaV2", "GPTNeo", "GlmMoeDsa",
        "Roberta", "XLMRoberta",
        "google/gemma-4-E2B-it", "google/gemma-4-E4B-it",  # of layers that have no keys of their own
        "Qwen/Qwen3-Embedding-0.6B",  # no module is around positions
    },
    "attention": {"Bloom", "DebertaV2", "DeepseekV32", "GPTNeo", "Gemma2", "GlmMoeDsa", "GptOss", "Mpt"},  # eager: as many kernels as each happens to have
    "experts": {"Llama4"},  # with what spreads every token to all of them, beside the module
    "scan": {"Jamba", "Mamba", "NemotronH", "Qwen3Next", "Qwen3_5", "Qwen3_5Moe"},  # kernels of a chunked loop
}  # fmt: skip
"""Rule → families, or models, of which the modules do not say how many launches it takes away: there the sum alone is tested."""


@pytest.mark.parametrize("model", every_model(MODELS))
def test_what_is_left_is_what_no_rule_took(model: str) -> None:
    """Of products and of vector kernels apart: no rule takes away a product but those that leave it in a launch."""
    eager, engine = passes(model)
    found = removed(model)
    assert found.keys() <= RULES
    assert launched(eager.launches) - found.total() == launched(engine.launches)
    linears = [one for one in eager.launches if one.matmul_flops and engine_kind(model, one) == "linear"]
    assert launched(linears) - found["shared input"] == launched(one for one in engine.launches if one.kind == "linear")
    assert sum(one.times * one.matmul_flops for one in eager.launches) == sum(
        one.times * one.matmul_flops for one in engine.launches
    )


def engine_kind(model: str, launch: Launch[Number]) -> str:
    """Return the kind of the engine's launch that a kernel of PyTorch's list runs in."""
    return kinds(model).get(launch.nodes[0].path, "")


@lru_cache(maxsize=4)
def kinds(model: str) -> dict[str, str]:
    return {node.path: launch.kind for launch in passes(model)[1].launches for node in launch.nodes}


def by_hand(model: str) -> Counter[str]:
    """Return rule → how many launches it has to take away, by the names and classes of modules."""
    found: Counter[str] = Counter()
    for node, times in modules(model):
        name, parent = module(node), node.parent
        names = {child.kernel.name for child in node.children}
        for side_by_side in SIDE_BY_SIDE:
            if len(same := names & side_by_side) > 1:
                found["shared input"] += times * (len(same) - 1)
                names -= same
        if parent and name == "add" and node.kernel.name.endswith("_add") and node.block:
            is_of_stream = not module(parent).endswith(("MoE", "Moe", "SparseMoeBlock"))
            found["residual"] += times * is_of_stream
        if parent and name == "update":  # of a cache: a launch of its own, unless vector kernels run before it
            before = parent.children[: parent.children.index(node)]
            found["append"] += times * any(
                "rotary" in one.kernel.name or one.kernel.name.startswith("mul") or one.kernel.name.endswith("_norm")
                for one in before
            )
        if name.endswith("RotaryEmbedding"):
            found["preparation"] += times * kernels(model, node)
        if name.endswith(("Model", "Norm")):
            found["preparation"] += sum(map(int, _prepared(model, node)))
        if node.kernel.name == "experts":
            found["experts"] += times * (kernels(model, node) - 1)
    if per_layer := PER_LAYER.get(model) or PER_LAYER.get(family(model)):
        found["residual"] = per_layer * passes(model)[0].params["num_layers"]
    return found


def _prepared(model: str, node: Node) -> Iterator[Number]:
    """Yield how often each kernel runs that is about positions, in a model, or about the weight alone, in a norm."""
    for launch in passes(model)[0].launches:
        first = launch.nodes[0]
        used = {name for uses in first.uses for name in uses}
        is_norm = module(node).endswith("Norm")
        others = {"batch_size", "seq_len"} if is_norm else {"hidden_size", "vocab_size", "word_embed_proj_dim"}
        if launch.is_started and first.parent is node and not used & others:
            yield launch.times


@pytest.mark.parametrize("model", every_model(MODELS))
def test_each_rule_takes_what_the_modules_say(model: str) -> None:
    found, expected = removed(model), by_hand(model)
    for rule in RULES - {"chain", "layout"}:  # what is left of the sum
        if UNCOUNTED.get(rule, set()).isdisjoint({family(model), model}):
            assert found[rule] == expected[rule], rule


@pytest.mark.long
def test_families_are_left_out_of_no_rule_without_need() -> None:
    """All that is named is there, and of many models every rule is counted."""
    families = {family(model) for model in MODELS}
    assert set().union(*UNCOUNTED.values()) <= families | {*MODELS}
    left = set().union(*UNCOUNTED.values())
    counted = [model for model in MODELS if left.isdisjoint({family(model), model})]
    assert len(counted) >= 25


def test_a_llama_layer_by_rule() -> None:
    """By hand: two norms of 8 kernels with an add each, rotary of 5 with the append, the activation and its product."""
    layers = 32
    per_layer = {"residual": 2, "chain": 2 * (8 - 1) + (5 - 1) + 1, "append": 1, "shared input": 2 + 1}
    outside = {"chain": 8 - 1, "preparation": 2 + 6}  # the last norm; positions; their cosines and sines
    expected = {rule: layers * per_layer.get(rule, 0) + outside.get(rule, 0) for rule in {*per_layer, *outside}}
    assert removed("meta-llama/Llama-3.1-8B") == expected


def test_what_devices_send_is_a_launch_of_its_own_in_both_lists() -> None:
    """On two devices no rule takes more away: 66 collectives, two a layer, one of the vocabulary at either end."""
    template = catalog.completed(catalog.shipped("meta-llama/Llama-3.1-8B"))
    eager = count(template, seq_len=512, causal="on", logits="last", comm="megatron", tp=2)
    engine = count(template, seq_len=512, fusion="engine", tp=2)
    for costs in (eager, engine):
        assert launched(one for one in costs.launches if one.kind == "link") == 2 * 32 + 2
    assert engine.kernel_tree.division == eager.kernel_tree.division
    taken = {node.path for node in engine.kernel_tree.rules}
    gone = launched(one for one in eager.launches if one.nodes[0].path in taken)
    assert gone == removed("meta-llama/Llama-3.1-8B").total()
    assert launched(eager.launches) - gone == launched(engine.launches)


def test_the_table_says_the_rule() -> None:
    _, engine = passes("openai-community/gpt2")
    rules = engine.table()["rule"]
    assert rules["transformer.h.ln_1.layer norm"] == "residual"
    assert rules["transformer.arange"] == "preparation"
    assert rules["transformer.h.mlp_add.add"] == rules["transformer.h.attn.c_attn.bias add"] == ""
    assert "rule" not in passes("openai-community/gpt2")[0].table()
