"""Configs as people have them: under older names, without a model type, silent, or in another tool's format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import nbanalyzer
from nbanalyzer import ModelTemplate, populate
from nbanalyzer.errors import ConfigError, InputError
from nbanalyzer.generate.check.equality import MismatchError, check, checked
from nbanalyzer.generate.model.choice import choose
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.write.variants import has_eager
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.foreign import not_taken, said_once

SIZES = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 80}
OTHER_TOOL = {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 80, "vocab_size": 90}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path / "cache"))


def parameters(model_class: Any, **fields: Any) -> int:
    with torch.device("meta"):
        model = model_class(model_class.config_class(**fields))
    return sum(one.numel() for one in model.parameters())


def error_of(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        populate(config)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- which model it is


def test_a_class_is_enough_to_know_the_model() -> None:
    sizes = {**SIZES, "vocab_size": 90, "max_position_embeddings": 512, "type_vocab_size": 2}
    analysis = populate({"architectures": ["BertModel"], **sizes}, seq_len=8)
    assert analysis.template.architecture == "BertModel"
    assert analysis.totals["parameters"] == parameters(transformers.BertModel, **sizes)


def test_a_decoder_that_sees_both_ways_is_an_encoder() -> None:
    """As EmbeddingGemma: no cache, and windows on either side."""
    sizes = {**SIZES, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 90, "sliding_window": 6,
             "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 12}  # fmt: skip
    config = {"model_type": "gemma3_text", "architectures": ["Gemma3TextModel"], **sizes}
    both = populate({**config, "use_bidirectional_attention": True}, seq_len=16)
    assert both.template.state == {}
    assert both.totals["parameters"] == parameters(transformers.Gemma3TextModel, **sizes)
    linears = 2 * 16 * 2 * (48 * 12 * (2 * 4 + 2 * 2) + 3 * 48 * 80)
    assert both.totals["matmul_flops"] == linears + 2 * 2 * 2 * 16 * 16 * 48  # two products a layer, all pairs


@pytest.mark.parametrize(
    ("config", "likely"),
    [({**SIZES, "type_vocab_size": 2}, "bert"), ({"n_embd": 48, "n_layer": 2}, "gpt2"), (SIZES, "llama")],
)
def test_without_either_a_line_says_what_to_add(config: dict[str, Any], likely: str) -> None:
    assert f'the config has no model_type, which says which model it is: add it, such as "model_type": "{likely}"' in (
        error_of(config)
    )
    with pytest.raises(ConfigError, match="the config has no model_type"):
        choose(config)


@pytest.mark.parametrize(
    ("old", "model_class", "new"),
    [
        (
            {"model_type": "RefinedWebModel", "n_head": 4, "n_layer": 2, "multi_query": True, "bias": False},
            transformers.FalconForCausalLM,
            {"num_attention_heads": 4, "num_hidden_layers": 2, "multi_query": True, "bias": False},
        ),
        (
            {"model_type": "RefinedWeb", "n_head": 4, "n_head_kv": 2, "n_layer": 2, "bias": False},
            transformers.FalconForCausalLM,
            {"num_attention_heads": 4, "num_kv_heads": 2, "num_hidden_layers": 2, "bias": False,
             "new_decoder_architecture": True},
        ),
        (
            {"model_type": "phi-msft", "n_embd": 48, "n_head": 4, "n_head_kv": None, "n_layer": 2, "n_inner": None,
             "rotary_dim": 6},
            transformers.PhiForCausalLM,
            {"num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 192, "partial_rotary_factor": 0.5},
        ),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else None,
)  # fmt: skip
def test_older_names_of_what_transformers_has(old: dict[str, Any], model_class: Any, new: dict[str, Any]) -> None:
    shared = {"hidden_size": 48, "vocab_size": 90} if "n_embd" not in old else {"vocab_size": 90}
    subject = Subject.of({**old, **shared})
    found = sum(one.numel() for one in subject.build().parameters())
    assert found == parameters(model_class, **{"hidden_size": 48, "vocab_size": 90, **new})
    if "partial_rotary_factor" in new:
        assert subject.hf_config().rope_parameters["partial_rotary_factor"] == new["partial_rotary_factor"]


# ---- what it leaves out


@pytest.mark.parametrize("biased", [False, True], ids=["bound", "generated"])
def test_sizes_that_are_left_out_are_transformers_and_a_note_lists_them(biased: bool) -> None:
    stated = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "attention_bias": biased}
    analysis = populate({"model_type": "llama", **stated}, seq_len=8)
    assert analysis.totals["parameters"] == parameters(transformers.LlamaForCausalLM, **stated)
    (note,) = (note for note in analysis.notes if "defaults" in note)
    own = transformers.LlamaConfig()
    assert note.startswith("not in the config, transformers' defaults: ")
    for field in ("intermediate_size", "vocab_size"):
        assert f"{field}={getattr(own, field)}" in note
    assert "hidden_size" not in note
    assert "num_key_value_heads" not in note  # as many as query heads: that follows, it is no default


def test_a_config_that_says_it_all_has_no_such_note() -> None:
    analysis = populate({"model_type": "llama", **SIZES, "num_key_value_heads": 2, "vocab_size": 90}, seq_len=8)
    assert not [note for note in analysis.notes if "defaults" in note]


# ---- what is not taken


def test_what_transformers_refuses_names_the_field_once() -> None:
    message = error_of({"model_type": "gpt2", "n_embd": "48", "n_layer": 2, "n_head": 4, "vocab_size": 90})
    assert message == "config: transformers refuses this config: Field 'n_embd' expected int, got str (value: '48')"


def test_another_tools_format_is_refused() -> None:
    assert "LlamaConfig does not take n_layers = 2, which it knows as num_hidden_layers" in error_of(
        {"model_type": "llama", **OTHER_TOOL}
    )
    llama = transformers.LlamaConfig()
    assert "it states no hidden_size, and LlamaConfig does not know dim, hidden_dim" in not_taken(
        {"dim": 48, "hidden_dim": 80, "vocab_size": 32000}, llama
    )
    # Pix2Struct's and CLAP's text parts, of which only what is not the default is stated, and what their makers had.
    silent = {"encoder_hidden_size": 48, "fusion_num_hidden_layers": 2}
    assert not_taken(silent, transformers.models.pix2struct.Pix2StructTextConfig()) == ""
    with pytest.raises(ConfigError, match="it states no hidden_size"):
        extract_model_params({"model_type": "llama", "dim": 48, "hidden_dim": 80, "num_hidden_layers": 2})


def test_a_composite_class_that_ignores_the_sizes_is_refused() -> None:
    config = {"model_type": "mine", "architectures": ["EncoderDecoderModel"], **SIZES, "vocab_size": 90}
    assert "EncoderDecoderConfig does not take hidden_size = 48" in error_of(config)


def test_a_text_model_stated_where_the_whole_does_not_look_is_not_counted_by_default() -> None:
    """LLaVA's own files: its language model beside the type, and no part of it, for which transformers takes Llama 7B."""
    stated = {**SIZES, "hidden_size": 5120, "vocab_size": 32000, "mm_vision_tower": "openai/clip-vit-large-patch14-336"}
    config = {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], **stated}
    assert "LlavaConfig does not take hidden_size = 5120: it is in another tool's format" in error_of(config)
    assert "does not take hidden_size = 5120" in error_of({"model_type": "llava", **stated})
    older = {"model_type": "qwen2_vl", **SIZES, "num_key_value_heads": 2, "vocab_size": 90}  # its class does look there
    assert choose(older).config["text_config"]["hidden_size"] == 48


@pytest.mark.parametrize(
    "config",
    [
        transformers.GPT2Config(n_embd=48, n_layer=2, n_head=4),
        transformers.DistilBertConfig(dim=48, n_heads=4, n_layers=2, hidden_dim=80),
        transformers.T5Config(d_model=48, num_layers=2),
        transformers.BloomConfig(hidden_size=48, n_layer=2),
        transformers.MambaConfig(hidden_size=48, d_inner=96),
        transformers.XLMConfig(emb_dim=48, n_layers=2),
        transformers.Gemma3nTextConfig(intermediate_size=80, num_hidden_layers=2),  # it keeps a list, one a layer
    ],
    ids=lambda config: type(config).__name__,
)
def test_every_family_is_taken_under_its_own_names(config: Any) -> None:
    assert not_taken(config.to_dict(), config) == ""


SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}


@pytest.mark.parametrize(
    ("config_class", "fields"),
    [
        (transformers.SwinConfig, {**SWIN, "hidden_size": 32}),  # 16, doubled between the two stages
        (transformers.Swinv2Config, {**SWIN, "hidden_size": 32}),
        (transformers.SegformerConfig, {"hidden_sizes": [8, 16, 24, 32], "image_size": 224}),
        (transformers.BertConfig, {"num_labels": 2}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_class_makes_of_others_may_be_stated(config_class: Any, fields: dict[str, Any]) -> None:
    """Published configs state what an older release stored; a width that their stages do not have is refused."""
    assert not_taken(fields, config_class(**fields)) == ""
    if "hidden_size" in fields:
        wrong = {**fields, "hidden_size": 48}
        assert "does not take hidden_size = 48" in not_taken(wrong, config_class(**wrong))


def test_an_older_name_that_the_class_itself_takes_is_taken() -> None:
    """The published configs of the smaller BLOOMs state their width as n_embed."""
    config = {"model_type": "bloom", "n_embed": 64, "n_layer": 3, "num_attention_heads": 8, "vocab_size": 90,
              "seq_length": 64}  # fmt: skip
    analysis = populate(config, seq_len=8)
    assert analysis.totals["parameters"] == parameters(
        transformers.BloomForCausalLM, hidden_size=64, n_layer=3, n_head=8, vocab_size=90
    )
    rest = {name: value for name, value in config.items() if name != "n_embed"}
    assert "it states no hidden_size, and BloomConfig does not know seq_length" in error_of(rest)


@pytest.mark.parametrize("other", [{}, {"attention_bias": True}])  # bound to a shipped template, and generated
def test_positions_that_scale_with_the_length_cost_what_others_do(other: dict[str, Any]) -> None:
    llama = {"model_type": "llama", **SIZES, "num_key_value_heads": 4, "vocab_size": 90, **other}
    scaled = {**llama, "rope_scaling": {"type": "dynamic", "factor": 8.0}}
    one, two = (populate(config, seq_len=16).totals for config in (llama, scaled))
    assert one["parameters"] == two["parameters"]
    assert one["matmul_flops"] == two["matmul_flops"]
    assert one["vector_flops"] == two["vector_flops"]


def test_a_size_that_is_stated_twice_counts_under_the_name_that_the_class_knows() -> None:
    llama = {"model_type": "llama", **SIZES, "num_key_value_heads": 4, "vocab_size": 90}
    twice = {**llama, "ffn_hidden_size": 80, "n_layer": 2, "mine": 80, "n_head": 3}
    known = transformers.LlamaConfig
    assert said_once(twice, known) == {**llama, "mine": 80, "n_head": 3}  # what contradicts stays, and is told
    assert said_once(llama, known) is llama
    analysis = populate({**llama, "attention_bias": True, "ffn_hidden_size": 80, "n_layer": 2}, seq_len=8)
    assert analysis.totals["parameters"] == parameters(
        transformers.LlamaForCausalLM, **SIZES, num_key_value_heads=4, vocab_size=90, attention_bias=True
    )


def test_a_silent_text_part_is_no_other_tools_format() -> None:
    """Some multimodal models leave all of it to the defaults of Llama."""
    assert not_taken({"model_type": "llama", "vocab_size": 32064}, transformers.LlamaConfig(vocab_size=32064)) == ""


def test_a_size_that_is_each_layers_own_is_taken() -> None:
    """transformers refuses to read it of the whole config: Step 3.7's layers with a window have heads of their own."""
    from transformers.models.step3p7.configuration_step3p7 import Step3p7TextConfig

    kinds = ["full_attention", "sliding_attention"]
    fields = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_sliding_attention_heads": 8}
    built = Step3p7TextConfig(**fields, layer_types=kinds, sliding_window=16)
    with pytest.raises(RuntimeError, match="per-layer attribute"):
        _ = built.num_attention_heads
    assert not_taken(fields, built) == ""


@pytest.mark.parametrize("point", [[0, 0], [56], [56, 28], [True, 56], "56x56", None])
def test_a_canvas_is_of_whole_tiles(point: object) -> None:
    config = {
        "model_type": "llava_next", "architectures": ["LlavaNextForConditionalGeneration"], "image_token_index": 7,
        "image_grid_pinpoints": [[56, 112], point], "text_config": {"model_type": "llama", **SIZES, "vocab_size": 90},
        "vision_config": {"model_type": "clip_vision_model", **SIZES, "image_size": 56, "patch_size": 14},
    }  # fmt: skip
    assert f"image_grid_pinpoints has {point!r}: a canvas is of whole tiles of 56 pixels" in error_of(config)


# ---- what no formula uses


@pytest.mark.parametrize("name", catalog.names())
def test_shipped_models_give_no_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_COMPARE", "off")
    positions = extract_model_params(catalog.shipped(name).config, required=()).get("max_position_embeddings", 128)
    assert populate(name, seq_len=min(128, positions)).warnings == ()


def test_layers_that_predict_further_tokens_are_said_not_to_be_run() -> None:
    notes = populate("DeepSeek-V3", seq_len=4).notes
    assert any(note.startswith("num_nextn_predict_layers=1: predict further tokens, in the ch") for note in notes)
    notes = populate("MiniMax-M2.5", seq_len=4).notes  # whose files have none
    assert any(note.startswith("not counted: num_mtp_modules=3, which predict further tokens") for note in notes)
    assert not any("predict" in note for note in populate("gpt2", seq_len=4).notes)


def test_a_template_that_nobody_checked_is_still_doubted() -> None:
    config = {"model_type": "mine", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 9, "num_experts": 4}
    template = ModelTemplate(model_id="some/model", config=config)
    (warning,) = populate(template, seq_len=4).warnings
    assert warning.endswith("no formula uses it: num_experts")


def test_what_transformers_reads_nothing_of_is_a_warning() -> None:
    config = {"model_type": "llama", **SIZES, "vocab_size": 90, "attention_bias": True, "num_secret_experts": 8}
    (warning,) = populate(config, seq_len=4).warnings
    assert warning.endswith("no formula uses it: num_secret_experts")


# ---- lists, patterns and numbers in the same place


def test_which_layer_is_what_may_be_a_list_or_a_pattern() -> None:
    sizes = {**SIZES, "num_key_value_heads": 4, "vocab_size": 90}
    config = {"model_type": "deepseek_v3", **sizes, "moe_layer_freq": [0, 1]}
    assert "moe_layer_freq" not in extract_model_params(config)
    assert extract_model_params({**config, "moe_layer_freq": 1})["moe_layer_freq"] == 1
    config = {"model_type": "exaone4", **SIZES, "num_hidden_layers": 5, "sliding_window": 16}
    layers = Subject.of({**config, "sliding_window_pattern": "LLG"}).hf_config().layer_types
    assert layers == ["sliding_attention", "sliding_attention", "full_attention"] * 1 + ["sliding_attention"] * 2
    for pattern in ("", "LLX", None, 3):
        assert "layer_types" not in Subject.of({**config, "sliding_window_pattern": pattern}).config


def test_null_lists_and_unknown_fields_are_taken_as_they_come() -> None:
    sizes = {**SIZES, "vocab_size": 90, "attention_bias": True}
    odd = {"head_dim": None, "rope_scaling": None, "moe_layer_freq": [0, 1], "notes": {"a": [1, {"b": None}]}}
    analysis = populate({"model_type": "llama", **sizes, **odd}, seq_len=4)
    assert analysis.totals["parameters"] == parameters(transformers.LlamaForCausalLM, **sizes)


# ---- what is right but for a part


def test_a_refusal_of_transformers_is_no_tree_of_modules() -> None:
    config = {"model_type": "bert", **SIZES, "vocab_size": 90, "add_cross_attention": True}
    message = error_of(config)
    assert message.endswith(
        "transformers refuses this config: BertLayer should be used as a decoder model if cross attention is added"
    )


def test_a_model_that_makes_its_table_of_positions_longer_is_compared_within_it() -> None:
    """M2M100 computes its sinusoids anew for what is longer than it was made for; the first comparison is."""
    config = {
        "model_type": "m2m_100", "d_model": 48, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "vocab_size": 90,
        "max_position_embeddings": 300,
    }  # fmt: skip
    record = nbanalyzer.generate(config).provenance
    assert record["result"] == "equal"
    assert all(run["seq_len"] + run.get("cache_len", 0) <= 300 for run in record["runs"].values())
    assert record["runs"]["prefill"]["seq_len"] == 150


def test_an_eager_variant_that_is_wrong_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"model_type": "llama", **SIZES, "vocab_size": 90, "attention_bias": True}
    template = nbanalyzer.generate(config)
    assert has_eager(template.kernels)
    wrong = iter([MismatchError("llama", "eager_prefill_vector_flops", 320, 0)])

    def once(template: ModelTemplate, subject: Subject) -> dict[str, Any]:
        for problem in wrong:
            raise problem
        return check(template, subject)

    monkeypatch.setattr(sys.modules[checked.__module__], "check", once)
    found, record = checked(template, Subject.of(config))
    assert record["result"] == "equal"
    assert not has_eager(found.kernels)
    assert populate(found, seq_len=9).totals == populate(template, seq_len=9).totals
    with pytest.raises(InputError, match="no attention variant 'eager'"):
        populate(found, seq_len=9, attn="eager")


@pytest.mark.slow
def test_files_of_a_model_that_is_not_shipped_are_counted_whole() -> None:
    """GLM-4.5-Air: the hub counts 110,468,824,832 elements, 128 of them in each router's correction."""
    config = {
        **catalog.shipped("zai-org/GLM-4.5").config, "hidden_size": 4096, "num_hidden_layers": 46, "n_routed_experts": 128,
        "intermediate_size": 10944, "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "use_qk_norm": False,
    }  # fmt: skip
    found = populate(config, seq_len=1).checkpoint
    assert found.total == 2 * (110_468_824_832 - 46 * 128)
    assert populate(config, seq_len=1, cache_len=8, mtp=1).checkpoint.total == found.total


JINA = "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"


@pytest.mark.parametrize(
    ("model_type", "stated", "brought", "said"),
    [
        ("xlm-roberta", "XLMRobertaModel", {"AutoModel": JINA}, "XLMRobertaLoRA"),
        ("bert", "JinaBertForMaskedLM", {"AutoModelForMaskedLM": "modeling_bert.JinaBertForMaskedLM"}, "JinaBertForMaskedLM"),
        ("exaone", "ExaoneForCausalLM", {"AutoModelForCausalLM": "modeling_exaone.ExaoneForCausalLM"}, ""),
        ("ernie4_5", "Ernie4_5_ForCausalLM", {"AutoModelForCausalLM": "modeling.Ernie4_5_ForCausalLM"}, ""),
        ("mpt", "MPTForCausalLM", {"AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM"}, ""),
        ("bert", "JinaBertForMaskedLM", {"AutoConfig": "configuration_bert.JinaBertConfig"}, ""),
        ("bert", "BertModel", {"AutoModel": ["modeling_bert.Other", None]}, ""),
    ],
)  # fmt: skip
def test_code_of_a_repository_is_another_model_unless_it_repeats_transformers(
    model_type: str, stated: str, brought: dict[str, Any], said: str
) -> None:
    """Jina's embedding models have adapters and other positions under the types of BERT and XLM-RoBERTa."""
    config = {"model_type": model_type, "architectures": [stated], "auto_map": brought}
    if not said:
        assert Subject.of(config).build() is not None
        return
    with pytest.raises(ConfigError, match=f"auto_map has {said}, code of its repository"):
        nbanalyzer.populate({**config, "hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096})
