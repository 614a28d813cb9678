"""A template answers only for what it was made for: one field of every shipped config is changed, and PyTorch asked."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nbanalyzer import generate, populate
from nbanalyzer.analysis.populate import template_of as model
from nbanalyzer.errors import ConfigError, InputError, NBAnalyzerError
from nbanalyzer.generate import api, pipeline
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.meta import Answers
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.model.towers import missing
from nbanalyzer.templates import catalog
from nbanalyzer.templates.catalog import KERNELS_OF, for_config, names
from nbanalyzer.templates.config_files import TEXT_PARTS
from nbanalyzer.templates.template import ModelTemplate, Validity
from nbanalyzer.templates.template_files import load_model_template
from nbanalyzer.templates.validity import differences, filled, flat

THOROUGH = bool(os.environ.get("THOROUGH"))  # `make fields`: every change, and FLOPs too
SAMPLE, REFUSED = 2, 5  # of each template with kernels of its own
TOKENS = 16
NEMOTRON = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"


@pytest.fixture(autouse=True)
def by_rule_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the rules: no comparison behind them makes good what they let pass."""
    monkeypatch.setenv("NBANALYZER_COMPARE", "off")


def changed(config: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """Return the config with a field of its text part set, or left out if the value is `...`."""
    for part in TEXT_PARTS:
        if isinstance(config.get(part), dict):
            return {**config, part: changed(config[part], field, value)}
    rest = {name: one for name, one in config.items() if name != field}
    return rest if value is ... else {**rest, field: value}


def changes(config: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield a field and another value for it, of all that transformers' class has, `...` for one left out."""
    whole = flat(Subject.of(config).hf_config().to_dict())
    for field in sorted(whole):
        value = whole[field]
        if "." in field:
            continue
        if isinstance(value, bool):
            yield field, not value
        elif isinstance(value, int):
            yield from ((field, one) for one in (2 * value, value // 2, value + 1, 0) if one != value)
        elif isinstance(value, float):
            yield from ((field, one) for one in (0.0, 0.5 * value, 1.0) if one != value)
        elif value is None:
            yield from ((field, one) for one in (2, 64, True))
        elif isinstance(value, list):
            yield from ((field, one) for one in ([], value[::-1], value[:1] * len(value)) if one != value)
        if field in flat(config):
            yield field, ...
            yield field, None


def pytorch(config: dict[str, Any]) -> tuple[int, int]:
    """Return the parameters of the model that transformers builds, and the matmul FLOPs of a prefill."""
    subject = Subject.of(config)
    whole = subject.build("eager", "batched_mm")
    count = sum(one.numel() for one in whole.parameters())
    if not THOROUGH:
        return count, 0
    step = next(subject.steps(whole, 1, (TOKENS,), TOKENS))
    with quiet(), torch.no_grad(), Answers(), FlopCounterMode(display=False) as counter:
        step.run()
    return count, counter.get_total_flops()


@pytest.mark.parametrize("name", [name for name in names() if THOROUGH or catalog._file(name).kernels])
def test_a_config_with_one_field_changed_is_right_or_refused(name: str) -> None:
    config = dict(model(name).config)
    if lacks := missing(config.get("model_type")):
        pytest.skip(f"without {lacks} no tower of it is built")
    asked = [*changes(config)]
    random.Random(name).shuffle(asked)
    compared = refused = 0
    for field, value in asked:
        if not THOROUGH and compared >= SAMPLE and refused >= REFUSED:
            break
        other = changed(config, field, value)
        try:
            found = populate(for_config(other), seq_len=TOKENS).totals
        except NBAnalyzerError:
            refused += 1
            continue
        if not THOROUGH and compared >= SAMPLE:
            continue
        try:
            count, flops = pytorch(other)
        except NBAnalyzerError:
            continue  # transformers refuses the value
        assert found["parameters"] == count, (field, value)
        assert not THOROUGH or found["matmul_flops"] == flops, (field, value)
        compared += 1
    assert compared >= SAMPLE or model(name).reads is not None  # whose parts hang together, see test_whole_changes.py
    assert refused >= REFUSED


# ---- what was wrong before, found in the field: parameters by PyTorch

FIELD: dict[str, tuple[str, dict[str, Any], str]] = {
    "a projection around the embedding": ("opt-1.3b", {"word_embed_proj_dim": 512}, "word_embed_proj_dim"),
    "norms after": ("opt-1.3b", {"do_layer_norm_before": False}, "do_layer_norm_before"),
    "no biases": ("opt-1.3b", {"enable_bias": False}, "enable_bias"),
    "norms without weights": ("opt-1.3b", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine"),
    "every second layer dense": ("qwen3-30b-a3b", {"decoder_sparse_step": 2}, "decoder_sparse_step"),
    "dense here": ("qwen1.5-moe-a2.7b", {"mlp_only_layers": [0]}, "mlp_only_layers"),
    "experts without biases": ("qwen1.5-moe-a2.7b", {"qkv_bias": False}, "qkv_bias"),
    "another pattern": ("qwen3-next-80b-a3b-instruct", {"full_attention_interval": 3}, "full_attention_interval"),
    "a key for every head": ("falcon-7b", {"multi_query": False}, "multi_query|new_decoder_architecture"),
    "attention without biases": ("pythia-160m", {"attention_bias": False}, "attention_bias"),
    "linears with biases": ("mamba-2.8b", {"use_bias": True}, "use_bias"),
    "cross attention": ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    "attention at other layers": ("jamba-v0.1", {"attn_layer_period": 4, "attn_layer_offset": 2}, "attn_layer_"),
}


@pytest.mark.parametrize("case", FIELD)
def test_fields_that_say_how_a_model_is_built(case: str) -> None:
    name, change, field = FIELD[case]
    config = {**model(name).config, **change}
    with pytest.raises(ConfigError, match=field):
        for_config(config)


@pytest.mark.parametrize(
    ("name", "field", "value", "said"),
    [
        ("gemma-2-9b-it", "num_attention_heads", [16], r"\[16\]"),
        ("gemma-2-9b-it", "num_attention_heads", [], r"num_attention_heads"),
        ("opt-1.3b", "word_embed_proj_dim", {"a": 1}, "word_embed_proj_dim"),
        ("mamba-130m-hf", "state_size", [16, 17], "state_size"),
        ("phi-2", "partial_rotary_factor", float("nan"), "partial_rotary_factor"),
        ("phi-2", "partial_rotary_factor", float("inf"), "partial_rotary_factor"),
    ],
)
def test_values_of_another_kind_make_another_model(name: str, field: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        for_config({**model(name).config, field: value})


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import nbanalyzer
config = dict(nbanalyzer.populate("gpt2").template.config)
print(nbanalyzer.populate({**config, "n_layer": 3}).notes)
try:
    nbanalyzer.populate({**config, "add_cross_attention": True})
except nbanalyzer.NBAnalyzerError as error:
    print(error)
"""


def test_the_field_that_is_new_is_named_where_there_is_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    notes, refused = done.stdout.splitlines()
    assert "kernels of openai-community/gpt2, by rule" in notes
    assert re.search(r"add_cross_attention = True, .* made for false; .*pip install torch", refused)


def test_a_model_of_its_own_is_made_where_torch_is(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path))
    tiny = {"n_embd": 32, "n_head": 2, "n_layer": 2, "vocab_size": 100}
    config = {**model("gpt2").config, **tiny, "scale_attn_by_inverse_layer_idx": True}
    analysis = populate(config, seq_len=4)
    assert analysis.totals["parameters"] == pytorch(config)[0]
    assert analysis.notes == ("template made for this config, equal to PyTorch",)


# ---- the comparison behind the rules


def test_what_is_bound_is_compared_once_and_said(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path))
    monkeypatch.delenv("NBANALYZER_COMPARE")
    api._parameters.cache_clear()
    config = {**model("gpt2").config, "n_layer": 2}
    said = "kernels of openai-community/gpt2, its parameters compared with PyTorch's: equal"
    assert populate(config).notes == (said,)
    assert len([*tmp_path.iterdir()]) == 1
    api._parameters.cache_clear()
    monkeypatch.setattr(pipeline, "count_parameters", None)  # nobody is asked a second time
    assert populate(config).notes == (said,)
    monkeypatch.setenv("NBANALYZER_COMPARE", "off")
    assert "by rule" in populate(config).notes[0]
    assert populate("gpt2").notes == ()


def test_where_the_rules_are_wrong_pytorch_decides(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path))
    monkeypatch.delenv("NBANALYZER_COMPARE")
    api._parameters.cache_clear()
    monkeypatch.setattr(catalog, "differences", lambda *_: [])
    config = {**model("gpt2").config, "n_embd": 32, "n_head": 2, "n_layer": 2, "add_cross_attention": True}
    with pytest.raises(NBAnalyzerError) as caught:  # a decoder that attends to an encoder that is not there
        assert populate(config).totals["parameters"] == pytorch(config)[0]
        raise ConfigError("equal")
    assert len(str(caught.value).splitlines()) == 1


# ---- rules, one by one

MADE_FOR = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_inner": None, "bias": True, "n_layer": 2}


def template(**validity: Any) -> ModelTemplate:
    known = {"defaults": {**MADE_FOR, "window": 8, "kind": "a", "experts": 0}, **validity}
    kernel = {"kernel_type": "composite", "name": "h", "parameters": "{hidden_size} * {num_layers}",
              "module": "transformers.models.gpt2.modeling_gpt2.GPT2Model"}  # fmt: skip
    return ModelTemplate(
        model_id="own", config=MADE_FOR, valid_for=Validity(**known),
        kernels=load_model_template(json.dumps({"kernels": [kernel]}).encode()).kernels,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("validity", "change", "unfit"),
    [
        ({}, {"n_embd": 32}, ()),  # a formula uses it
        ({}, {"n_head": 2}, ("n_head",)),
        ({"varied": ("n_head",)}, {"n_head": 2}, ()),
        ({"varied": ("n_head",)}, {"n_head": 0}, ("n_head",)),
        ({"varied": ("n_head",)}, {"n_head": None}, ("n_head",)),
        ({"varied": ("n_head",), "derived": ("n_head",)}, {"n_head": None}, ()),
        ({"varied": ("n_inner",)}, {"n_inner": 100}, ()),  # null follows from others; so it was a size of its own
        ({"varied": ("experts",)}, {"experts": 4}, ("experts",)),  # 0 is another model
        ({"indifferent": ("window",)}, {"window": 99}, ()),
        ({"indifferent": ("window",)}, {"window": None}, ()),
        ({"indifferent": ("window",)}, {"window": "8"}, ("window",)),
        ({}, {"kind": "b"}, ("kind",)),
        ({}, {"kind": "a"}, ()),  # transformers' default, stated
        ({}, {"bias": False}, ("bias",)),
        ({}, {"attn_pdrop": 0.3, "eos_token_id": 5, "id2label": {"0": "x"}}, ()),
        ({}, {"n_positions_of_the_year": 3}, ()),  # no code of transformers reads it
        ({}, {"resid_pdrop_x": 1, "add_cross_attention": True}, ("add_cross_attention",)),
        ({"varied": ("n_head",), "aliases": {"num_attention_heads": "n_head"}}, {"num_attention_heads": 2}, ()),
        ({"together": ("n_embd=n_head",)}, {"n_head": 8}, ("n_head",)),
        ({"together": ("n_embd=n_head",), "varied": ("n_head",)}, {"n_embd": 128, "n_head": 8}, ()),
        ({"together": ("n_embd=n_head",), "varied": ("n_head",)}, {"n_embd": 128}, ("n_embd",)),
        ({"apart": ("n_embd=n_head",), "varied": ("n_head",)}, {"n_embd": 8, "n_head": 8}, ("n_embd",)),
    ],
)
def test_which_difference_matters(validity: dict[str, Any], change: dict[str, Any], unfit: tuple[str, ...]) -> None:
    config = {**MADE_FOR, **change}
    if "num_attention_heads" in change:
        del config["n_head"]
    assert tuple(one.field for one in differences(template(**validity), config)) == unfit


def test_layers_of_one_kind_are_alike_at_any_depth() -> None:
    whole = template(defaults={**MADE_FOR, "layer_types": ["full"] * 2})
    assert differences(whole, {**MADE_FOR, "n_layer": 3, "layer_types": ["full"] * 3}) == []
    assert [one.field for one in differences(whole, {**MADE_FOR, "layer_types": ["full", "linear"]})] == ["layer_types"]


@pytest.mark.parametrize(
    ("rope", "same"),
    [
        ({"rope_type": "llama3", "factor": 8.0}, True),
        ({"type": "linear", "factor": 2.0}, True),
        ({"rope_type": "dynamic", "factor": 2.0}, True),  # within the longest sequence
        ({"rope_type": "longrope", "factor": 2.0}, False),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, False),
        (None, True),
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_rotary_positions_matter_by_their_kind_and_share(key: str, rope: object, same: bool) -> None:
    whole = template(defaults={**MADE_FOR, "rope.type": "default"})
    assert (differences(whole, {**MADE_FOR, key: rope}) == []) is same


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("Qwen/Qwen3-30B-A3B", {"norm_topk_prob": True, "rope_scaling": None, "router_aux_loss_coef": 0.001}),
        ("deepseek-ai/DeepSeek-V3", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}),
        ("openai/gpt-oss-20b", {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}),
        ("HuggingFaceTB/SmolLM2-135M", {"transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"q4f16": "float16"}}}),
        ("EleutherAI/pythia-160m", {"rotary_pct": 0.25, "rotary_emb_base": 10000}),
        ("google/gemma-3-1b-it", {"rope_local_base_freq": 10000}),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {"partial_rotary_factor": 1.0}),
        ("facebook/opt-6.7b", {"prefix": "</s>"}),
        ("microsoft/Phi-3-mini-4k-instruct", {"sliding_window": 2047}),
    ],
)  # fmt: skip
def test_a_shipped_template_answers_for_the_config_that_the_hub_has(name: str, hub: dict[str, Any]) -> None:
    assert for_config({**model(name).config, **hub}).config.items() >= hub.items()


def test_the_part_of_a_head_that_is_rotated_matters_by_its_older_names_too() -> None:
    for name in ("rotary_pct", "partial_rotary_factor"):
        with pytest.raises(ConfigError, match=r"says rope\.partial_rotary_factor = 0\.5, .* was made for 0\.25"):
            for_config({**model("EleutherAI/pythia-160m").config, name: 0.5})


@pytest.mark.parametrize("change", [{"n_groups": 9}, {"n_groups": 3, "mamba_num_heads": 48}])
def test_groups_that_do_not_divide_what_they_divided(change: dict[str, int]) -> None:
    """64 of a head by 8 groups is even, by 3 it is not: the formulas were fitted to even ones."""
    config = model(NEMOTRON).config
    with pytest.raises(ConfigError, match=f"n_groups = {change['n_groups']}, .* made for 8"):
        for_config({**config, **change})
    four = for_config({**config, "n_groups": 4})
    width = 2 * 4 * 128  # of what the groups share, read and written
    per_layer = width * 2688 + width * (4 + 1)  # of the projection in; of the convolution, with its bias
    less = config["hybrid_override_pattern"].count("M") * per_layer
    assert populate(four).totals["parameters"] == populate(NEMOTRON).totals["parameters"] - less


@pytest.mark.parametrize("head_dim", [1, 7])
def test_a_head_of_which_an_odd_part_is_rotated_is_another_model(head_dim: int) -> None:
    with pytest.raises(ConfigError, match=f"head_dim = {head_dim}, .* made for .*pairs"):
        for_config({**model("llama-2-70b-hf").config, "head_dim": head_dim})


@pytest.mark.parametrize(
    ("name", "tied", "named", "count"),  # parameters by transformers' classes, 5.24
    [
        ("google/gemma-3-4b-it", False, "Gemma3ForConditionalGeneration", 4300079472),  # the whole ties, by default
        ("google/gemma-3-4b-it", False, "Gemma3ForCausalLM", 3880263168 + 262208 * 2560),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", True, "Llama4ForConditionalGeneration", 0),
    ],
)
def test_who_ties_an_embedding_depends_on_where_the_head_is(name: str, tied: bool, named: str, count: int) -> None:
    config = dict(model(name).config)
    other = {**config, "text_config": {**config["text_config"], "tie_word_embeddings": tied}}
    with pytest.raises(ConfigError, match="tie_word_embeddings"):
        for_config(other)
    if not count:  # its head is in the text part, which ties it
        text = config["text_config"]
        count = populate(name).totals["parameters"] - text["vocab_size"] * text["hidden_size"]
    other.pop("tie_word_embeddings", None)  # as published: the part alone says it
    subject = Subject.of({**other, "architectures": [named]})
    assert sum(one.numel() for one in subject.build().parameters()) == count


def test_an_embedding_that_is_tied_by_the_whole_and_not_by_its_part() -> None:
    config = dict(model("google/gemma-4-26B-A4B").config)
    other = {**config, "text_config": {**config["text_config"], "tie_word_embeddings": False}}
    with pytest.raises(ConfigError, match=r"tie_word_embeddings = False, .* made for true"):
        for_config(other)
    with pytest.raises(
        ConfigError, match="contradicts itself: tie_word_embeddings is True, that of its text part False"
    ):
        generate({**other, "architectures": ["Gemma4ForCausalLM"]})


@pytest.mark.parametrize("value", [[], {}, "yes"])
def test_tying_is_no_list(value: object) -> None:
    config = dict(model("google/gemma-4-26B-A4B").config)
    for other in (
        {**config, "tie_word_embeddings": value},
        {**config, "text_config": {**config["text_config"], "tie_word_embeddings": value}},
    ):
        with pytest.raises(ConfigError, match="tie_word_embeddings"):
            for_config(other)


def test_defaults_are_filled_in_for_sizes_that_a_config_leaves_out() -> None:
    whole = template(defaults={**MADE_FOR, "n_embd": 48}, derived=("n_layer",))
    config = {"model_type": "gpt2", "n_head": 4}
    assert filled(whole, config) == {**config, "n_embd": 48}  # of n_layer it is known that it follows from others


def test_a_template_of_ones_own_knows_what_it_states() -> None:
    own = ModelTemplate(config=MADE_FOR, kernels=template().kernels)
    assert differences(own, {**MADE_FOR, "n_embd": 8, "unheard": 3}) == []
    assert [one.field for one in differences(own, {**MADE_FOR, "n_head": 8})] == ["n_head"]


# ---- values that are set


def test_values_are_set_together() -> None:
    few = populate("llama-3.1-8b", set={"num_heads": 4, "num_kv_heads": 2}, seq_len=3)
    assert few.values["num_kv_heads"] == 2
    with pytest.raises(ConfigError, match="num_heads 4 is not a multiple of num_kv_heads 8"):
        populate("llama-3.1-8b", set={"num_heads": 4})
    with pytest.raises(InputError, match="max_position_embeddings=2 changes nothing"):
        populate("llama-3.1-8b", set={"num_heads": 4, "num_kv_heads": 2, "max_position_embeddings": 2})


def test_a_value_that_changes_how_the_model_is_built_is_refused() -> None:
    with pytest.raises(NBAnalyzerError, match="word_embed_proj_dim"):
        populate("opt-1.3b", set={"word_embed_proj_dim": 512})
    both = populate("opt-1.3b", set={"word_embed_proj_dim": 512, "hidden_size": 512}, seq_len=3)
    assert (
        both.totals["parameters"]
        == pytorch({**model("opt-1.3b").config, "word_embed_proj_dim": 512, "hidden_size": 512})[0]
    )


def test_every_shipped_template_says_what_it_is_valid_for() -> None:
    for name in names():
        whole = model(name)
        assert whole.valid_for is not None or whole.reads is not None, name
        assert differences(whole, whole.config) == [], name
        assert KERNELS_OF not in whole.provenance
