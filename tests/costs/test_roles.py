"""Roles and names of rows: by structure, for families that name their parts differently."""

from __future__ import annotations

import pytest

from nbanalyzer import populate
from nbanalyzer.costs.active import active_parameters
from nbanalyzer.costs.names import called, help_of, tied_to
from nbanalyzer.costs.roles import roles_of

ROLES = {
    "gpt2": {"wte": "embedding", "wpe": "embedding", "arange": "embedding", "ln_1": "norms", "c_attn": "attention",
             "attn.c_proj": "attention", "cache": "attention", "c_fc": "MLP / experts", "act": "MLP / experts",
             "mlp.c_proj": "MLP / experts", "attn_add": "residual adds", "ln_f": "norms", "lm_head": "head"},
    "opt-125m": {"embed_tokens": "embedding", "embed_positions": "embedding", "out_proj": "attention",
                 "fc1": "MLP / experts", "activation_fn": "MLP / experts", "fc2": "MLP / experts"},
    "bert-base-uncased": {"word_embeddings": "embedding", "self.query": "attention",
                          "attention.output.dense": "attention", "intermediate.dense": "MLP / experts",
                          "layer.output.dense": "MLP / experts", "predictions.decoder": "head"},
    "mixtral-8x7b-v0.1": {"rotary_emb": "embedding", "self_attn.rotary": "attention", "gate": "MLP / experts",
                          "matmul of experts": "MLP / experts", "sort": "MLP / experts"},
    "jamba-v0.1": {"layers_1.mamba.in_proj": "state space", "layers_1.mamba.mamba_selective_scan": "state space"},
    "t5-small": {"decoder.block_1.layer_1.EncDecAttention.q": "attention",
                 "encoder.block_0.layer_1.DenseReluDense.wi": "MLP / experts"},
}  # fmt: skip


@pytest.mark.parametrize("model", ROLES)
def test_roles(model: str) -> None:
    analysis = populate(model, seq_len=4)
    roles = roles_of(analysis.kernel_tree)
    for path, role in ROLES[model].items():
        assert roles[analysis.find(path)] == role, path
    assert {*roles} == {node for node in analysis.nodes if node.is_last and not node.is_part}


def test_links_communicate() -> None:
    analysis = populate("llama-3.1-8b", seq_len=4, tp=2)
    roles = roles_of(analysis.kernel_tree)
    links = {node.parent or node for node in analysis.nodes if node.is_link}
    assert links
    assert links == {node for node, role in roles.items() if role == "communication"}


def test_names_say_what_a_kernel_is_there_for() -> None:
    gpt2 = populate("gpt2", seq_len=4)
    names = called(gpt2)
    said = {node.path: name for node, name in names.items()}
    assert said["transformer.arange"] == "position ids"
    assert said["transformer.add"] == "position ids after the cache"
    assert said["transformer.add (2)"] == "token + position embedding"
    assert said["transformer.h"] == "h × 12"
    assert said["transformer.h.attn.cache"] == "append to the cache"
    mixtral = populate("mixtral-8x7b-v0.1", seq_len=4)
    said = {node.path.partition("experts.")[2]: name for node, name in called(mixtral).items()}
    assert said["matmul of experts"] == "gate and up projection of the experts"
    assert said["matmul of experts (2)"] == "down projection of the experts"
    assert said["sort"] == "tokens sorted by expert"
    jamba = populate("jamba-v0.1", seq_len=4)  # under a condition, a name says which
    assert any(" if " in name or " × " in name for name in called(jamba).values())


@pytest.mark.parametrize("model", ["gpt2", "mixtral-8x7b-v0.1", "deepseek-v3.2", "t5-small", "jamba-v0.1"])
def test_siblings_have_different_names(model: str) -> None:
    analysis = populate(model, seq_len=4)
    named = [(node.parent, name) for node, name in called(analysis).items() if node.is_basic]
    assert len(named) == len({*named})


def test_a_head_without_weights_of_its_own_says_whose_it_has() -> None:
    for model, table in (("gpt2", "wte"), ("bert-base-uncased", "word_embeddings"), ("llama-3.2-1b", "embed_tokens")):
        analysis = populate(model, seq_len=4)
        (found,) = {name for node in analysis.nodes if (name := tied_to(node, analysis))}
        assert found == table
    untied = populate("llama-3.1-8b", seq_len=4)
    assert not any(tied_to(node, untied) for node in untied.nodes)
    assert help_of(untied.find("lm_head"), untied) == "matrix product: a vector of 4,096 becomes one of 128,256"


@pytest.mark.parametrize(
    ("model", "layers", "hidden", "width", "experts", "visited"),
    [("mixtral-8x7b-v0.1", 32, 4096, 14336, 8, 2), ("qwen3-30b-a3b", 48, 2048, 768, 128, 8)],
)
def test_active_parameters(model: str, layers: int, hidden: int, width: int, experts: int, visited: int) -> None:
    """Of each layer's experts, three matrices each, a token visits some; it uses everything else."""
    analysis = populate(model, seq_len=4)
    unused = layers * (experts - visited) * 3 * hidden * width
    assert active_parameters(analysis) == analysis.totals["parameters"] - unused


def test_all_of_a_dense_model_is_active() -> None:
    analysis = populate("llama-3.1-8b", seq_len=4)
    assert analysis.active_parameters == analysis.totals["parameters"]
    assert "active" not in repr(analysis)
    assert "46.7 B, 12.9 B of them active: 46,702,792,704 in" in repr(populate("mixtral-8x7b-v0.1", seq_len=4))
