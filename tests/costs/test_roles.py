"""Roles and names of rows: by structure, for families that name their parts differently."""

from __future__ import annotations

from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer import populate
from nbanalyzer.costs.active import active_parameters
from nbanalyzer.costs.names import called, help_of, tied_to
from nbanalyzer.costs.roles import roles_of
from nbanalyzer.costs.tree import Tree
from nbanalyzer.files import convert
from nbanalyzer.templates.template import ModelTemplate

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


# ---- a small template by hand


def product(name: str, read: str = "{a_bytes}", unit: str = "matmul") -> dict[str, Any]:
    return basic("2 * {seq_len}", read, "{a_bytes}", unit, name)


def linear(name: str, size: str = "{hidden_size}") -> dict[str, Any]:
    return composite(name, product("matmul", f"{size} * {{w_bytes}} + {{a_bytes}}"), parameters=size)


def vector(name: str, read: str = "{a_bytes}", module: str = "") -> dict[str, Any]:
    return composite(name, basic("1", read, "{a_bytes}", name="op"), module=module)


def roles_in(*inside: dict[str, Any], more: tuple[dict[str, Any], ...] = ()) -> dict[str, str]:
    """Return the roles of the leaves of a layer, with an embedding before and a head after it, by path."""
    rows = "{vocab_size} * {hidden_size}"
    table = composite(
        "table", basic("0", f"{rows} * {{w_bytes}}", "1", name="look up"), module="x.Embedding", parameters=rows
    )
    layer = composite("layers", *inside, repeat="2")
    made = template(vector("ids"), table, vector("norm_0", module="x.LayerNorm"), layer, *more)
    return {node.path: role for node, role in roles_of(Tree(convert(made, ModelTemplate, "own"))).items()}


def test_what_stands_outside_the_layers() -> None:
    head = linear("out", "{vocab_size} * {hidden_size}")
    found = roles_in(
        linear("up"), more=(vector("last", module="x.RMSNorm"), vector("pool"), head, composite("nothing"))
    )
    assert found == {
        "ids": "embedding", "table": "embedding", "norm_0": "norms", "layers.up": "MLP / experts", "last": "norms",
        "pool": "head", "out": "head", "nothing": "other",
    }  # fmt: skip


def test_what_stands_inside_a_layer() -> None:
    attention = composite("scores", product("scores"), vector("softmax"), product("values"))
    found = roles_in(
        vector("ln", module="x.Norm"), composite("attn", linear("q"), attention, linear("o"), vector("rotate")),
        composite("mlp", linear("up"), vector("act"), linear("down")), vector("plus", module="torch.add"),
        vector("plain"), vector("wide", "{intermediate_size} * {a_bytes}"), vector("wider", "{moe_intermediate_size} * {a_bytes}"),
        vector("named", "{intermediate_size_x} * {a_bytes}"), linear("alone"),
    )  # fmt: skip
    inside = {path.removeprefix("layers."): role for path, role in found.items() if path.startswith("layers.")}
    assert {role for path, role in inside.items() if path.startswith("attn.")} == {"attention"}
    assert {role for path, role in inside.items() if path.startswith("mlp.")} == {"MLP / experts"}
    assert [inside[name] for name in ("ln", "plus", "plain", "wide", "wider", "named", "alone")] == [
        "norms", "residual adds", "other", "MLP / experts", "MLP / experts", "MLP / experts", "MLP / experts",
    ]  # fmt: skip


def test_a_scan_has_what_is_around_it() -> None:
    """One product without weights, beside two linears: these belong to the state space, and not to an MLP."""
    scan = composite("scan", product("scan"), basic("1", "{a_bytes}", "{a_bytes}", name="decay"))
    found = roles_in(composite("mixer", linear("in"), scan, vector("gate"), linear("out")), vector("beside"))
    assert {role for path, role in found.items() if ".mixer." in path} == {"state space"}
    assert found["layers.beside"] == "other"


def test_layers_of_a_class_need_not_repeat() -> None:
    """A first layer that differs is one of them; without linears nothing that repeats is a layer."""
    first = composite("first", linear("up"), vector("plain"), module="x.Layer")
    rest = composite("rest", linear("up"), vector("plain"), module="x.Layer", repeat="3")
    made = template(vector("before"), first, rest, vector("after"))
    found = {node.path: role for node, role in roles_of(Tree(convert(made, ModelTemplate, "own"))).items()}
    assert [found[name] for name in ("before", "first.plain", "rest.plain", "after")] == [
        "embedding", "other", "other", "head",
    ]  # fmt: skip
    made = template(composite("loop", vector("plain"), repeat="3"), linear("up"))
    found = {node.path: role for node, role in roles_of(Tree(convert(made, ModelTemplate, "own"))).items()}
    assert found == {"loop.plain": "head", "up": "head"}


def test_a_table_is_called_an_embedding_and_looked_up() -> None:
    """Wherever it stands; a product of that name is none, nor is what reads no weights, nor weights of another name."""
    weights = "{hidden_size} * {w_bytes}"
    leaves = {
        "table": composite("table", basic("0", weights), module="x.Embedding"),
        "product": composite("product", basic("2", weights, unit="matmul"), module="x.Embedding"),
        "empty": composite("empty", basic("1"), module="x.Embedding"),
        "other": composite("other", basic("0", weights), module="x.Scale"),
    }
    found = roles_in(linear("up"), more=tuple(leaves.values()))
    assert {name: found[name] for name in leaves} == {
        "table": "embedding", "product": "head", "empty": "head", "other": "head",
    }  # fmt: skip


def test_without_layers_all_that_has_weights_is_after_them() -> None:
    made = template(composite("one", basic("1")), linear("two"))
    found = {node.path: role for node, role in roles_of(Tree(convert(made, ModelTemplate, "own"))).items()}
    assert found == {"one": "head", "two": "head"}
