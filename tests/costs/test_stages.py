"""Which part of a model one stage of a pipeline runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from builders import ROOT, basic, composite, every_model, template

from nbanalyzer import populate
from nbanalyzer.costs.count import params_of
from nbanalyzer.costs.run import Run
from nbanalyzer.costs.stages import busiest, order_of, per_layer, range_of, stack_of, staged
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config import ModelParams
from nbanalyzer.templates.template import Composite, ModelTemplate
from nbanalyzer.templates.template_files import load_model_template

GPT2 = "openai-community/gpt2"
DEBERTA = "microsoft/deberta-v3-base"
SUMS = ("parameters", "matmul_flops")


@cache
def shipped(name: str) -> tuple[ModelTemplate, ModelParams]:
    found = catalog.shipped(name)
    return found, params_of(Tree(found), None, {})


def one_each() -> list[str]:
    """Return the shipped models that have kernels of their own, and an order in which one stage follows another."""
    others = {"google-t5/t5-small", "facebook/bart-base", "google/gemma-4-E2B-it", "google/gemma-4-E4B-it", DEBERTA}
    others.add("deepseek-ai/DeepSeek-V4-Flash")  # kinds of attention and of experts, whose lists do not say the order
    others |= {name for name in catalog.names() if catalog.shipped(name).reads is not None}
    return [name for name in catalog.names() if name not in others and not is_extension(name)]


def is_extension(name: str) -> bool:
    return "extends" in json.loads((ROOT / "models" / f"{name}.json").read_text())


def totals(model: ModelTemplate, values: Mapping[str, Number]) -> dict[str, Number]:
    tree = Tree(model)
    costs = tree.costs(values)
    found = {name: sum(getattr(costs[root], name) for root in tree.roots) for name in (*SUMS, "payload_bytes")}
    return {**found, **tree.state(values)}


def own(*kernels: Mapping[str, Any], **fields: Any) -> ModelTemplate:
    return load_model_template(json.dumps(template(*kernels, **fields)).encode())


# ---- which layers


def test_the_remainder_goes_to_the_first_stages() -> None:
    """As the docstring of transformers' `layer_range_for_rank` has it: 32 layers, 3 stages."""
    assert [range_of(32, 3, stage) for stage in range(3)] == [(0, 11), (11, 22), (22, 32)]
    assert [range_of(6, 4, stage) for stage in range(4)] == [(0, 2), (2, 4), (4, 5), (5, 6)]
    assert range_of(5, 1, 0) == (0, 5)


EVERY_SIXTH = (0, 0, 0, 0, 0, 1)
ORDERS = {
    "google/gemma-2-2b-it": (0, 1) * 13,
    "google/gemma-3-1b-it": (*EVERY_SIXTH * 4, 0, 0),
    "google/gemma-4-26B-A4B": EVERY_SIXTH * 5,  # the last layer is a full one
    "deepseek-ai/DeepSeek-V3": (0,) * 3 + (1,) * 58,
    "deepseek-ai/DeepSeek-V2-Lite": (0,) + (1,) * 26,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": (0, 0, 0, 1) * 12,
    # Attention in layer 4 of 8, experts in every second one.
    "ai21labs/Jamba-v0.1": (0, 1, 0, 1, 2, 1, 0, 1) * 4,
    # Experts in every second layer, attention to all tokens in every fourth, from 0 and without rotary embedding.
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": (0, 1, 0, 2) * 12,
    "state-spaces/mamba-2.8b-hf": (0,) + (1,) * 63,
    GPT2: (0,) * 12,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": tuple(
        map("ME*".index, "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME")
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_layers(name: str) -> None:
    assert order_of(*shipped(name)) == ORDERS[name]


def test_the_order_at_another_depth() -> None:
    model, _ = shipped("google/gemma-3-1b-it")
    assert order_of(model, params_of(Tree(model), None, {"num_layers": 8})) == (*EVERY_SIXTH, 0, 0)
    model, _ = shipped("openai/gpt-oss-20b")  # its config lists the layers
    assert order_of(model, params_of(Tree(model), None, {"num_layers": 5})) == (0, 1, 0, 1, 0)


def test_an_order_that_nothing_says() -> None:
    layers = [composite("layers_a", basic("1"), repeat="3"), composite("layers_b", basic("1"), repeat="2")]
    with pytest.raises(InputError, match="in which order own runs its layers"):
        order_of(own(*layers), {})
    listed = own(*layers, config={"kinds": ["x", "y", "x", "y", "x"], "others": ["x", "x", "y", "y", "y"]})
    assert order_of(listed, {}) == (0, 1, 0, 1, 0)


# ---- what a stage has


def test_stages_by_hand() -> None:
    """Llama-3.1-8B with 8 layers in 2 stages.

    A layer has q and o of 4096 x 4096, k and v of 4096 x 1024, three of 4096 x 14336 and two norms: 218,112,000. The
    table and the head have 128256 x 4096 each, the last norm 4096.
    """
    model, _ = shipped("meta-llama/Llama-3.1-8B")
    params = params_of(Tree(model), None, {"num_layers": 8})
    values = {**params, **Run(batch_size=3, seq_len=100).values(), "pp": 2}
    layer, table = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096, 128256 * 4096
    first, last = (totals(staged(model, params, 2, stage), values) for stage in range(2))
    assert first["parameters"] == 4 * layer + table == 1_397_784_576
    assert last["parameters"] == 4 * layer + table + 4096 == 1_397_788_672
    assert (first["payload_bytes"], last["payload_bytes"]) == (3 * 100 * 4096 * 2, 0)
    assert first["kv_cache"] == last["kv_cache"] == 4 * 2 * 3 * 8 * 100 * 128 * 2


def test_a_tied_head_keeps_a_table_of_its_own() -> None:
    model, params = shipped(GPT2)
    values = {**params, **Run().values(), "pp": 3}
    stages = [totals(staged(model, params, 3, stage), values)["parameters"] for stage in range(3)]
    layer = 12 * 768**2 + 13 * 768
    assert stages == [4 * layer + (50257 + 1024) * 768, 4 * layer, 4 * layer + 2 * 768 + 50257 * 768]


@pytest.mark.slow
@pytest.mark.parametrize("name", every_model(one_each()))
def test_the_stages_are_the_model(name: str) -> None:
    """Together they have its parameters, the head's weight twice if it is tied, its products, and what it keeps."""
    pp = 5
    model, params = shipped(name)
    values = {**params, **Run(batch_size=2, seq_len=16, cache_len=24).values(), "pp": pp}
    whole, together = totals(model, values), Counter[str]()
    for stage in range(pp):
        together.update(totals(staged(model, params, pp, stage), values))
    width = params.get("word_embed_proj_dim", params["hidden_size"])
    has_head = "LMHead" in model.architecture or not model.architecture.endswith("Model")
    table = params["vocab_size"] * width * params.get("tie_word_embeddings", 0) * has_head
    sends = (pp - 1) * 2 * 16 * params["hidden_size"] * 2
    assert together == {**whole, "parameters": whole["parameters"] + table, "payload_bytes": sends}


def test_every_stage_has_the_table_of_relative_positions() -> None:
    """DeBERTa has one for all layers, of 2 x 256 distances: four more of them on five stages."""
    model, params = shipped(DEBERTA)
    values = {**params, **Run(seq_len=16).values(), "pp": 5}
    stages = [totals(staged(model, params, 5, stage), values)["parameters"] for stage in range(5)]
    assert sum(stages) == totals(model, values)["parameters"] + 4 * 512 * 768


def test_a_head_that_holds_the_table_leaves_the_embedding_one() -> None:
    """Whichever of the two has it in the template: the first stage reads it, and so does the last."""
    table = "{vocab_size} * {hidden_size}"
    sizes = {"num_embeddings": "{vocab_size}", "embedding_dim": "{hidden_size}", "num_tokens": "{seq_len}"}
    parts = (
        composite("embed", basic(read="{hidden_size} * {w_bytes}"), bindings=sizes, parameters="0"),
        composite("layers", basic(flops="{hidden_size}"), parameters="{hidden_size}", repeat="{num_layers}"),
        composite("head", basic(flops="{vocab_size} * {hidden_size}", unit="matmul"), parameters=table),
    )
    config = {"vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 6, "num_attention_heads": 1}
    model = load_model_template(json.dumps(template(*parts, config=config)).encode())
    values = {"vocab_size": 10, "hidden_size": 4, "num_layers": 6, **Run(seq_len=2).values(), "pp": 3}
    params = params_of(Tree(model), None, {})
    stages = [totals(staged(model, params, 3, stage), values)["parameters"] for stage in range(3)]
    assert stages == [40 + 2 * 4, 2 * 4, 2 * 4 + 40]


def test_one_stage_is_the_model() -> None:
    model, params = shipped(GPT2)
    assert staged(model, params, 1, 0) is model


def test_a_stage_has_no_layers_of_a_kind_that_it_does_not_run() -> None:
    model, params = shipped("deepseek-ai/DeepSeek-V3")
    (inside, *_) = staged(model, params, 4, 1).kernels
    assert isinstance(inside, Composite)
    assert [kernel.name for kernel in inside.sub_kernels if kernel.name.startswith("layers")] == ["layers_3"]
    (inside, *_) = staged(model, params, 4, 0).kernels
    assert isinstance(inside, Composite)
    repeats = [(one.name, one.repeat) for one in inside.sub_kernels if isinstance(one, Composite) and "_" in one.name]
    assert ("layers_0", "3") in repeats
    assert ("layers_3", "13") in repeats


def test_positions_belong_to_every_stage_and_the_embedding_to_the_first() -> None:
    model, params = shipped("meta-llama/Llama-3.1-8B")
    names = []
    for stage in range(3):
        (inside, *_) = staged(model, params, 3, stage).kernels
        assert isinstance(inside, Composite)
        names.append({kernel.name for kernel in inside.sub_kernels})
    assert [("embed_tokens" in one, "rotary_emb" in one, "norm" in one) for one in names] == [
        (True, True, False),
        (False, True, False),
        (False, True, True),
    ]
    assert [("stage_send" in one) for one in names] == [True, True, False]


READERS: dict[str, dict[str, Any]] = {
    "qwen2.5-vl-7b-instruct": {"images": 2, "image_size": "448x672"},
    "qwen3-vl-30b-a3b-instruct": {"images": 2, "image_size": "448x672"},
    "paligemma-3b-pt-224": {"images": 2},
    "mistral-small-3.1-24b-instruct-2503": {"images": 2, "image_size": "448x672"},
    "voxtral-mini-3b-2507": {"audio_seconds": 60},
}


@pytest.mark.parametrize("name", every_model(READERS))
@pytest.mark.parametrize("lengths", [{"seq_len": 1024}, {"seq_len": 1, "cache_len": 1024}], ids=["prompt", "step"])
def test_the_first_stage_reads_images_and_sound(name: str, lengths: dict[str, Any]) -> None:
    run: dict[str, Any] = {**lengths}
    media = READERS[name]
    whole = populate(name, **run, **media)
    stages = [populate(name, pp=3, rank=stage, **run, **media) for stage in range(3)]
    table = whole.params["vocab_size"] * whole.params["hidden_size"] * whole.params.get("tie_word_embeddings", 0)
    assert sum(stage.totals["parameters"] for stage in stages) == whole.totals["parameters"] + table
    assert sum(stage.totals["matmul_flops"] for stage in stages) == whole.totals["matmul_flops"]
    assert sum(stage.state_bytes for stage in stages) == whole.state_bytes
    sent = lengths["seq_len"] * whole.params["hidden_size"] * 2
    assert [stage.totals.get("payload_bytes", 0) for stage in stages] == [sent, sent, 0]
    for stage, found in enumerate(stages[1:], 1):  # their work is that of text of the same length
        text: dict[str, Any] = {"images": 0} if "images" in media else {}
        assert found.totals == populate(name, pp=3, rank=stage, **run, **text).totals
    stored = [populate(name, pp=3, rank=stage, quant="fp8-channel", **run, **media) for stage in range(3)]
    all_stored = populate(name, quant="fp8-channel", **run, **media)
    assert sum(one.weight_bytes for one in stored) == all_stored.weight_bytes + 2 * table


@pytest.mark.parametrize(
    ("name", "pp", "said"),
    [
        ("qwen3-vl-30b-a3b-instruct", 24, "after each of the first 3 layers, of which the first stage has 2"),
        ("clip-vit-base-patch32", 2, "pp for openai/clip-vit-base-patch32, which reads images"),
        ("vit-base-patch16-224", 2, "pp for google/vit-base-patch16-224, which reads images"),
        ("whisper-tiny", 2, "pp for openai/whisper-tiny, which reads sound"),
    ],
)
def test_readers_that_have_no_such_stages(name: str, pp: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        populate(name, pp=pp, seq_len=16)
    assert populate("qwen3-vl-30b-a3b-instruct", pp=16, rank=0, seq_len=16).totals["flops"]  # of 3 layers each


def test_layers_of_text_that_read_images_have_no_stages() -> None:
    """As those of Llama 3.2 Vision, which attend to images in the middle of the text model."""
    reads = {"what": "images", "rule": "one size", "sizes": {"height": "224", "width": "224"}, "positions": "0"}
    attends = composite("attend", basic("{num_images} * {seq_len}", unit="matmul"))
    made = own(
        composite("tower", composite("layers", basic("{num_images}"), repeat="2")),
        composite("text", composite("layers", attends, repeat="4")), state={"kv_cache": "4 * {seq_len}"}, reads=reads,
    )  # fmt: skip
    with pytest.raises(InputError, match="layers of text read images"):
        stack_of(made)


# ---- which stage has most to do


def test_the_busiest_stage() -> None:
    model, params = shipped("meta-llama/Llama-3.1-8B")
    values = {**params, **Run().values()}
    assert busiest(Tree(model), values, 4) == 3  # 8 layers each, and a head
    assert busiest(Tree(model), values, 3) == 2  # a head is more than the layer that it has less
    model, params = shipped("meta-llama/Meta-Llama-3.1-405B")
    assert busiest(Tree(model), {**params, **Run().values()}, 4) == 0  # 32, 32, 31, 31: here it is not
    model, params = shipped("google-bert/bert-base-uncased")
    assert busiest(Tree(model), {**params, **Run(logits="last").values()}, 1) == 0
    many: dict[str, Any] = {"seq_len": 8192, "image_size": "448x672", "pp": 2}
    assert "stage 1" in populate("qwen2.5-vl-7b-instruct", images=0, **many).devices
    assert "stage 0" in populate("qwen2.5-vl-7b-instruct", images=16, **many).devices  # its tower is more than the head


@pytest.mark.parametrize(
    ("name", "pp", "stage", "said"),
    [
        (GPT2, 13, 0, "pp=13: a model of 12 layers has 1 to 12 pipeline stages"),
        (GPT2, 2, 2, "a pipeline of 2 stages has no stage 2: they count from 0 to 1"),
        ("google-t5/t5-small", 2, 0, "several lists of layers, as an encoder and a decoder"),
    ],
)
def test_what_is_no_stage(name: str, pp: int, stage: int, said: str) -> None:
    model, params = shipped(name)
    with pytest.raises(InputError, match=said):
        staged(model, params, pp, stage)


def test_models_that_have_no_stages() -> None:
    with pytest.raises(InputError, match="own has no repeated layers"):
        staged(own(composite("all", basic("1"))), {}, 2, 0)
    kept = own(composite("layers", basic("1"), repeat="4"), state={"kv_cache": "3 * {batch_size}"})
    with pytest.raises(InputError, match="which layers keep the kv_cache of own"):
        staged(kept, {}, 2, 0)


@pytest.mark.parametrize(
    ("state", "share"),
    [
        (
            "({num_layers} - 1) * {hidden_size} * {batch_size}",
            (1, "{hidden_size} * {batch_size}"),
        ),  # of those that repeat
        ("{hidden_size} * {batch_size}", (0, "{hidden_size} * {batch_size}")),
    ],
)
def test_which_layers_keep_what(state: str, share: tuple[int, str]) -> None:
    """A term that is a sum over the layers that repeat is theirs, though the one before would do, too."""
    op = basic("{hidden_size} * {batch_size} * {num_layers}", unit="matmul")
    kinds = [composite("layers_0", op), composite("layers_1", op, repeat="{num_layers} - 1")]
    made = load_model_template(json.dumps(template(*kinds, state={"kv_cache": state})).encode())
    kind, text = share
    assert per_layer(made, stack_of(made)) == {"kv_cache": [(kind, parse(text))]}


def test_stages_that_there_are_not() -> None:
    for stage in (-1, 4):
        with pytest.raises(InputError, match=f"a pipeline of 4 stages has no stage {stage}: they count from 0 to 3"):
            range_of(6, 4, stage)
    for stages in (0, 7):
        with pytest.raises(InputError, match="a model of 6 layers has 1 to 6 pipeline stages"):
            range_of(6, stages, 0)


# ---- small templates by hand


def kinds(*repeats: str) -> list[dict[str, Any]]:
    return [composite(f"layers_{place}", basic("1"), repeat=repeat) for place, repeat in enumerate(repeats)]


def test_the_last_layers_may_differ() -> None:
    """Two last ones however many there are: models of fewer layers have these first."""
    made = own(*kinds("max({num_layers} - 2, 0)", "min({num_layers}, 2)"))
    assert order_of(made, {"num_layers": 5}) == (0, 0, 0, 1, 1)


def test_layers_that_come_two_at_a_time_are_in_no_order() -> None:
    made = own(*kinds("min({num_layers}, 1)", "2 * ({num_layers} // 3)"))
    with pytest.raises(InputError, match="in which order own runs its layers"):
        order_of(made, {"num_layers": 3})


VALUES: dict[str, Number] = {"num_layers": 3, "vocab_size": 10, "hidden_size": 4, "seq_len": 2, "w_bytes": 2, "pp": 2}


def parts(*kernels: Mapping[str, Any], pp: int = 2) -> list[list[str]]:
    """Return the paths of the modules of each stage."""
    made = own(*kernels)
    stages = [Tree(staged(made, {"num_layers": 3}, pp, stage)) for stage in range(pp)]
    return [[node.path for node in tree.nodes if not node.is_basic] for tree in stages]


def test_what_stands_between_the_layers_is_every_stages() -> None:
    first, rest = kinds("1", "{num_layers} - 1")
    between = composite("between", basic("1"))
    stages = parts(composite("model", composite("text", first, between, rest)), composite("head", basic("1")))
    inside = [f"model.text.{name}" for name in ("layers_0", "between", "layers_1")]
    assert stages[0] == ["model", "model.text", *inside, "model.text.stage_send"]
    assert stages[1] == ["model", "model.text", *inside[1:], "head"]


@pytest.mark.parametrize(
    ("before", "is_every_stages"),
    [
        (composite("ids", basic("1", "8")), True),
        (composite("mask", basic("1", "8"), parameters="0"), True),
        (composite("table", basic("1", "8"), parameters="{vocab_size}"), False),
        (composite("scale", basic("{hidden_size}", "8")), False),
        (composite("scale", basic("1", "{hidden_size}"), parameters="0"), False),
        (basic("1", "8", name="arange"), True),
        (basic("1", "{hidden_size} * 8", name="lookup"), False),
    ],
)
def test_what_makes_the_input_of_the_layers_is_the_first_stages(before: dict[str, Any], is_every_stages: bool) -> None:
    made = own(before, composite("layers", basic("1"), repeat="{num_layers}"))
    for stage in (0, 1):
        names = [kernel.name for kernel in staged(made, {"num_layers": 3}, 2, stage).kernels]
        assert (before.get("name", before.get("operation")) in names) == (is_every_stages or stage == 0)


@pytest.mark.parametrize(
    ("names", "parameters", "expected"),
    [
        (("output_size", "input_size"), "0", 40),  # another module's
        (("output_size", "input_size"), "{vocab_size}", 40 + 10),  # a bias of its own
        (("output_size", "input_size"), "{hidden_size}", 4),
        (("output_size", "input_size"), "(1 - {tie_word_embeddings}) * {vocab_size} * {hidden_size}", 40),
        (("num_embeddings", "embedding_dim"), "0", 40),
        (("num_embeddings", "other"), "0", 0),
        (("output_size", "input_size"), "", 0),
    ],
)
def test_the_last_stage_has_a_head_of_its_own(names: tuple[str, str], parameters: str, expected: int) -> None:
    bindings = dict(zip(names, ("{vocab_size}", "{hidden_size}"), strict=True))
    head = composite("head", basic("1"), bindings=bindings, parameters=parameters)
    made = own(*kinds("{num_layers}"), composite("out", head))
    tree = Tree(staged(made, {"num_layers": 3}, 2, 1))
    (node,) = (node for node in tree.nodes if node.path == "out.head")
    assert node.own_parameters.evaluate({**VALUES, "tie_word_embeddings": 1}) == expected


def test_of_kinds_that_are_as_many_those_keep_it_that_use_its_sizes() -> None:
    one, two = (
        composite(f"layers_{place}", basic(f"{{{size}}} * {{seq_len}}"), repeat="{num_layers}")
        for place, size in enumerate(("head_dim", "state_size"))
    )
    made = own(one, two, state={"ssm": "{num_layers} * {state_size}", "kv_cache": "{num_layers} * {head_dim}"})
    assert per_layer(made, stack_of(made)) == {
        "ssm": [(1, parse("{state_size}"))], "kv_cache": [(0, parse("{head_dim}"))],
    }  # fmt: skip


def test_layers_whose_number_is_a_product_keep_what_is_left_of_it() -> None:
    made = own(
        composite("layers", basic("{seq_len}"), repeat="2 * {num_layers}"), state={"kv": "2 * {num_layers} * {seq_len}"}
    )
    assert per_layer(made, stack_of(made)) == {"kv": [(0, parse("{seq_len}"))]}
    other = own(
        composite("layers", basic("{seq_len}"), repeat="2 * {num_layers}"), state={"kv": "{num_layers} * {seq_len}"}
    )
    with pytest.raises(InputError, match="which layers keep the kv of own"):
        per_layer(other, stack_of(other))


@pytest.mark.parametrize(
    ("flops", "head", "stage"),
    [((30, 10), 15, 0), ((30, 10), 25, 1), ((10, 10), 1, 1), ((10, 10), 0, 0), ((12, 10), 1, 0), ((12, 10), 3, 1)],
)
def test_the_busiest_of_two_small_stages(flops: tuple[int, int], head: int, stage: int) -> None:
    """A layer of one kind and three of another: of two stages the first has the first two, the last one the head."""
    first, rest = (
        composite(f"layers_{place}", basic(str(number)), repeat=repeat)
        for place, (number, repeat) in enumerate(zip(flops, ("1", "{num_layers} - 1"), strict=True))
    )
    tree = Tree(own(composite("model", first, rest), composite("head", basic(str(head)))))
    assert busiest(tree, {**VALUES, "num_layers": 4, "kv_bytes": 2}, 2) == stage
