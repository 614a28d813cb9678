"""Sharded weights by hand: what a rank keeps, and what it gathers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from builders import composite, template

from nbanalyzer import populate
from nbanalyzer.analysis.sharded_data import units_of
from nbanalyzer.costs.shards import gathered
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import load_model_template

FSDP = {"fsdp": 8}


def own(*kernels: Mapping[str, Any]) -> ModelTemplate:
    return load_model_template(json.dumps(template(*kernels)).encode())


def kept(parameters: str, ranks: int, **fields: Any) -> int:
    """Return the parameters that the first rank keeps of a module."""
    tree = Tree(gathered(own(composite("part", parameters=parameters, **fields))))
    return int(tree.nodes[-1].own_parameters.evaluate({"fsdp": ranks, "w_bytes": 2}))


def linear(output: str, given: str, bias: str = "0") -> dict[str, Any]:
    return {"bindings": {"output_size": output, "input_size": given, "has_bias": bias}}


@pytest.mark.parametrize(
    ("parameters", "fields", "ranks", "rows"),
    [
        ("10 * (4 + 1)", linear("10", "4", "1"), 4, 3 * 5),  # ceil(10 / 4) rows, with their bias
        ("10 * (4 + 1)", {**linear("10", "4", "1"), "module": "x.Conv1D"}, 4, 1 * 10 + 3),  # 4 rows of 10, bias of 10
        ("7", linear("1", "7"), 4, 7),  # one row, whole on the first rank
        ("2 * 5 * 3 * 4", {}, 2, 2 * 5 * 3 * 4 // 2),  # nothing but numbers: by parts
        ("12", {"bindings": {"normalized_size": "12"}}, 5, 3),
    ],
)
def test_rows_are_divided(parameters: str, fields: dict[str, Any], ranks: int, rows: int) -> None:
    assert kept(parameters, ranks, **fields) == rows


def test_llama_by_hand() -> None:
    """A layer has 218,112,000 parameters, all else 2 tables of 128256 x 4096 and a norm; all divide by 8."""
    layer, root = 218_112_000, 2 * 128256 * 4096 + 4096
    rank = populate("llama-3.1-8b", fsdp=8)
    assert rank.totals["parameters"] * 8 == 32 * layer + root == 8_030_261_248
    assert rank.totals["payload_bytes"] == 2 * 8_030_261_248
    links = [node for node in rank.nodes if node.is_link]
    assert [rank.value_of(node.payload) for node in links] == [2 * root, 2 * layer]
    assert [rank.cost(node).count for node in links] == [1, 32]
    assert rank.totals["matmul_flops"] == populate("llama-3.1-8b").totals["matmul_flops"]


def test_experts_are_rows_until_there_are_fewer_than_ranks() -> None:
    """Mixtral: 8 experts of 3 x 4096 x 14336; the ninth rank and all after it keep none, and gather all the same."""
    expert, layers = 3 * 4096 * 14336, 32
    whole = 46_702_792_704 - layers * 8 * expert
    assert populate("mixtral-8x7b-v0.1", fsdp=8).totals["parameters"] == layers * expert + whole // 8
    sixteen = populate("mixtral-8x7b-v0.1", fsdp=16).totals
    assert sixteen["parameters"] == layers * (expert + 4096) + (whole - layers * 8 * 4096) // 16  # a router has 8 rows
    assert sixteen["payload_bytes"] == 2 * 16 * sixteen["parameters"]


def test_experts_that_are_spread_over_all_ranks_are_not_gathered() -> None:
    rank = populate("mixtral-8x7b-v0.1", fsdp=8, ep=8)
    expert = 3 * 4096 * 14336
    assert rank.totals["parameters"] == populate("mixtral-8x7b-v0.1", fsdp=8).totals["parameters"]
    (layer,) = [node for node in rank.nodes if node.is_link and node.path.startswith("model.layers.weights")]
    attention = 2 * 4096**2 + 2 * 4096 * 1024
    assert rank.value_of(layer.payload) == 2 * (attention + 2 * 4096 + 8 * 4096) < 2 * expert


def test_experts_that_are_spread_over_some_ranks_are_sharded_over_the_rest() -> None:
    """8 experts over 4 of 8 ranks: two ranks share two experts, keep one each and gather both."""
    rank = populate("mixtral-8x7b-v0.1", fsdp=8, ep=4)
    expert = 3 * 4096 * 14336
    gathers = {node.path: rank.value_of(node.payload) for node in rank.nodes if node.is_link and "gather" in node.path}
    assert gathers["model.layers.experts_all_gather.all-gather"] == 2 * 2 * expert
    attention = 2 * 4096**2 + 2 * 4096 * 1024
    assert gathers["model.layers.weights_all_gather.all-gather"] == 2 * (attention + 2 * 4096 + 8 * 4096)
    assert rank.totals["parameters"] == populate("mixtral-8x7b-v0.1", fsdp=8).totals["parameters"]
    assert rank.memory.buffers == gathers["weights_all_gather.all-gather"] + 2 * sum(
        payload for path, payload in gathers.items() if path.startswith("model.layers")
    )
    with pytest.raises(InputError, match="experts that are spread over some of the shards"):
        units_of(rank)


def test_the_formulas_are_read_easily() -> None:
    (node,) = [node for node in populate("llama-3.1-8b", fsdp=8).nodes if node.path == "model.embed_tokens"]
    assert node.own_parameters == parse("{hidden_size} * ceil({vocab_size} / {fsdp})")


def test_both_halves_of_an_encoder_and_decoder_have_layers() -> None:
    rank = populate("t5-small", fsdp=4)
    gathers = [node.path for node in rank.nodes if node.is_link]
    assert [path.split(".")[0] for path in gathers].count("encoder") == 2
    assert [path.split(".")[0] for path in gathers].count("decoder") == 2


def test_what_has_no_weights_is_not_gathered() -> None:
    """Neither a layer nor all else; of a term the first factor is divided that is a size, the others stay."""
    for parameters in ("0", ""):
        tree = Tree(gathered(own(composite("layers", composite("act", parameters=parameters), repeat="4"))))
        assert [node for node in tree.nodes if node.is_link] == []
    made = kept("3 * {fsdp} * 5", 4)
    assert made == 3 * 1 * 5


def test_parts_of_a_layer_that_are_alike_are_gathered_with_their_number() -> None:
    """Two modules of 10 rows on 4 ranks: 3 of each, so that 2 x 4 x 3 are gathered, in 16 bits; a third one of 8."""
    inside = [composite(name, parameters=rows) for name, rows in (("a", "10"), ("b", "10"), ("c", "8"))]
    tree = Tree(gathered(own(composite("layers", *inside, repeat="4"), composite("norm", parameters="6"))))
    links = [node.payload.evaluate({"fsdp": 4, "w_bytes": 2}) for node in tree.nodes if node.is_link]
    assert links == [2 * 4 * 2, 2 * 4 * (3 + 3 + 2)]
