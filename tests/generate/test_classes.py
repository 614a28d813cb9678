"""The class that a config's `architectures` names is the class that is counted, or the first line says what is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from newest import NEWEST
from recordings import VIDEOS
from torch.utils.flop_counter import FlopCounterMode

import nbanalyzer
from nbanalyzer import ModelTemplate, populate
from nbanalyzer.errors import ConfigError
from nbanalyzer.generate import hf
from nbanalyzer.generate.model.choice import choose
from nbanalyzer.generate.model.makers import made_by
from nbanalyzer.report.analysis import as_html, as_md, as_text

SIZES = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 80}
BERT = {"model_type": "bert", **SIZES, "vocab_size": 90, "max_position_embeddings": 2100, "type_vocab_size": 2}
LLAMA = {"model_type": "llama", **SIZES, "num_key_value_heads": 2, "vocab_size": 90, "max_position_embeddings": 4096}
NEOX = {"model_type": "gpt_neox", **SIZES, "vocab_size": 90, "max_position_embeddings": 4096, "pad_token_id": 1}
T5 = {"model_type": "t5", "d_model": 48, "num_heads": 4, "num_layers": 2, "d_ff": 80, "d_kv": 20, "vocab_size": 90}
BART = {
    "model_type": "bart", "d_model": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 80, "decoder_ffn_dim": 64, "vocab_size": 90,
    "max_position_embeddings": 2100, "is_encoder_decoder": True,
}  # fmt: skip
CLIP = {"model_type": "clip_text_model", **SIZES, "vocab_size": 90, "max_position_embeddings": 77}
GPT = {"model_type": "openai-gpt", "n_embd": 48, "n_head": 4, "n_layer": 2, "vocab_size": 90, "n_positions": 2100}
LABELS = {"id2label": {str(number): f"label {number}" for number in range(7)}}
TOKENS = 19


def named(config: dict[str, Any], name: str, **more: Any) -> dict[str, Any]:
    return {**config, "architectures": [name], **more}


def real(config: dict[str, Any]) -> torch.nn.Module:
    """Return transformers' model of the class that a config names, built without any of this package."""
    cls = getattr(transformers, config["architectures"][0])
    fields = {key: value for key, value in config.items() if key not in {"model_type", "architectures"}}
    with torch.device("meta"):
        model: torch.nn.Module = cls._from_config(cls.config_class(**fields), attn_implementation="eager")
    return model.eval()


def parameters(config: dict[str, Any]) -> int:
    return sum(one.numel() for one in real(config).parameters())


def flops(config: dict[str, Any], **inputs: tuple[int, ...]) -> int:
    tokens = {name: torch.zeros(shape, dtype=torch.long, device="meta") for name, shape in inputs.items()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        real(config)(**tokens)
    return int(counter.get_total_flops())


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (named(BERT, "BertModel"), {"input_ids": (3, TOKENS)}),
        (named(BERT, "BertForSequenceClassification", **LABELS), {"input_ids": (3, TOKENS)}),
        (named(BERT, "BertForMultipleChoice"), {"input_ids": (1, 3, TOKENS)}),
        (named(BERT, "BertForQuestionAnswering"), {"input_ids": (3, TOKENS)}),
        (named(T5, "T5EncoderModel"), {"input_ids": (3, TOKENS)}),
        (named(BART, "BartModel"), {"input_ids": (3, 11), "decoder_input_ids": (3, TOKENS)}),
        (named(BART, "BartForQuestionAnswering"), {"input_ids": (3, TOKENS)}),
        (named(LLAMA, "LlamaModel"), {"input_ids": (3, TOKENS)}),
        (named(LLAMA, "LlamaForSequenceClassification", pad_token_id=1, **LABELS), {"input_ids": (3, TOKENS)}),
        (named(LLAMA, "LlamaForTokenClassification", **LABELS), {"input_ids": (3, TOKENS)}),
        (named(CLIP, "CLIPTextModel"), {"input_ids": (3, TOKENS)}),
        (named(GPT, "OpenAIGPTLMHeadModel"), {"input_ids": (3, TOKENS)}),
    ],
    ids=lambda value: value["architectures"][0] if "architectures" in value else "",
)
def test_the_class_that_is_named_is_counted(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    template = nbanalyzer.generate(config)
    encoder: dict[str, Any] = {"encoder_len": 11} if "decoder_input_ids" in shapes else {}
    analysis = populate(template, batch_size=3, seq_len=TOKENS, **encoder)
    assert template.architecture == config["architectures"][0]
    assert template.provenance["result"] == "equal"
    assert analysis.totals["parameters"] == parameters(config)
    assert analysis.totals["matmul_flops"] == flops(config, **shapes)
    assert analysis.warnings == ()
    assert as_text(analysis).splitlines()[0].endswith(f"({template.architecture})")


def test_the_last_logits_alone_of_a_model_that_keeps_nothing() -> None:
    template = nbanalyzer.generate(named(GPT, "OpenAIGPTLMHeadModel"))
    runs = [populate(template, batch_size=3, seq_len=TOKENS, logits=logits).totals for logits in ("all", "last")]
    assert runs[0]["matmul_flops"] - runs[1]["matmul_flops"] == 2 * 3 * (TOKENS - 1) * 48 * 90


@pytest.fixture(scope="module")
def classifier() -> ModelTemplate:
    """A sequence classifier on a decoder, without a token to fill up with: it has the class's two labels."""
    return nbanalyzer.generate(named(LLAMA, "LlamaForSequenceClassification"))


def test_labels_are_a_size_like_any_other(classifier: ModelTemplate) -> None:
    assert classifier.config["num_labels"] == 2
    wider = named(LLAMA, "LlamaForSequenceClassification", **LABELS)
    assert populate(classifier, set={"num_labels": 7}).totals["parameters"] == parameters(wider)
    assert populate(classifier, config=wider).totals["parameters"] == parameters(wider)


def test_a_head_on_a_decoder_keeps_its_cache(classifier: ModelTemplate) -> None:
    """Unless its output leaves it out, as that of a token classifier does: then nothing is kept."""
    assert populate(classifier, batch_size=2, seq_len=6).totals["kv_cache_bytes"] == 2 * 2 * 2 * 2 * 6 * 12 * 2
    assert "decode_matmul_flops" in classifier.provenance["checked"]
    token = nbanalyzer.generate(named(LLAMA, "LlamaForTokenClassification"))
    assert (token.state, populate(token).totals["kv_cache_bytes"]) == ({}, 0)


@pytest.mark.parametrize("name", ["GPTNeoXForSequenceClassification", "GPTNeoXModel"])
def test_a_field_that_no_code_looks_at_does_not_make_an_encoder(name: str) -> None:
    """GPT-NeoX's configs say that it is no decoder, as BERT's do, and its code never asks."""
    template = nbanalyzer.generate(named(NEOX, name))
    assert populate(template, batch_size=2, seq_len=6).totals["kv_cache_bytes"] == 2 * 2 * 2 * 6 * 48 * 2
    assert "decode_matmul_flops" in template.provenance["checked"]
    assert nbanalyzer.generate(named(BERT, "BertModel")).state == {}


def test_of_a_model_that_is_told_what_is_hidden_from_it_the_encoder_is_counted() -> None:
    """VideoMAE as it is published: its trainer says which patches its decoder makes up."""
    config = named(VIDEOS["videomae"], "VideoMAEForPreTraining")
    template = nbanalyzer.generate(config, model_id="some/model")
    analysis = populate(template, batch_size=2)
    assert as_text(analysis).startswith("some/model (VideoMAEModel: a part of VideoMAEForPreTraining)")
    encoder = named(config, "VideoMAEModel")
    assert analysis.totals["parameters"] == parameters(encoder)
    shape = (2, config["num_frames"], 3, config["image_size"], config["image_size"])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        real(encoder)(torch.zeros(shape, device="meta"))
    assert analysis.totals["matmul_flops"] == counter.get_total_flops()


def test_a_class_with_its_config_is_found_again() -> None:
    fields = {key: value for key, value in BERT.items() if key != "model_type"}
    template = nbanalyzer.generate(transformers.BertModel, transformers.BertConfig(**fields))
    assert template.config["architectures"] == ["BertModel"]
    assert nbanalyzer.verify(template, random_configs=0).ok


@pytest.mark.parametrize(
    ("config", "architecture", "said"),
    [
        (named(LLAMA, "LlamaBidirectionalModel"), "LlamaForCausalLM", "in place of LlamaBidirectionalModel"),
        (
            {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "is_encoder_decoder": True},
            "WhisperForCausalLM",
            "the decoder of WhisperForConditionalGeneration",
        ),
        (
            {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}},
            "Gemma3ForCausalLM",
            "the text part of Gemma3ForConditionalGeneration",
        ),
        ({"model_type": "gemma3", "text_config": {}}, "Gemma3ForCausalLM", "the text part of gemma3"),
    ],
)
def test_the_first_line_says_what_is_counted_instead(config: dict[str, Any], architecture: str, said: str) -> None:
    analysis = populate(ModelTemplate(model_id="some/model", architecture=architecture, config=config))
    text, page, markdown = as_text(analysis).splitlines()[0], as_html(analysis), as_md(analysis).splitlines()[0]
    assert text == f"some/model ({architecture}: {said})"
    assert f"<b>{text}</b>" in page
    assert said in markdown
    assert analysis.tree["part"] == said
    assert analysis.warnings == ()


def test_what_cannot_be_counted_is_refused_in_a_line() -> None:
    with pytest.raises(ConfigError, match=r"PatchTSTModel does not read text alone \(its pass takes past_values\)"):
        choose({"model_type": "patchtst", "architectures": ["PatchTSTModel"]})
    with pytest.raises(ConfigError, match=r"Sam2VideoModel follows a video .*one image is, .* model_type 'sam2'"):
        choose({"model_type": "sam2_video", "architectures": ["Sam2VideoModel"]})
    assert choose({"model_type": "sam2"}).model_class is not None
    with pytest.raises(ConfigError, match="contradicts itself: model_type is 'llama', architectures are BertModel"):
        choose(named(LLAMA, "BertModel"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "bark"}, "BarkModel makes sound, by more than a pass over tokens: it is not counted; a part"),
        ({"model_type": "pocket_tts"}, "PocketTTSForConditionalGeneration makes sound, by more"),
        ({"model_type": "univnet"}, "UnivNetModel makes sound of spectra: it is not counted; a model that reads or"),
        ({"model_type": "encodec"}, "EncodecModel is a codec, which makes codes of sound and sound of codes: it is"),
        ({"model_type": "mimi", "architectures": ["MimiModel"]}, "MimiModel is a codec"),
        ({"model_type": "speecht5", "architectures": ["SpeechT5ForTextToSpeech"]}, "SpeechT5ForTextToSpeech makes"),
        (
            {"model_type": "musicgen", "architectures": ["MusicgenForConditionalGeneration"]},
            "MusicgenForConditionalGeneration",
        ),
    ],
)
def test_what_makes_sound_is_refused_by_what_it_is(config: dict[str, Any], said: str) -> None:
    """It was said what Python said of tokens in place of sound: "not enough values to unpack"."""
    with pytest.raises(ConfigError, match=f"^some/model: {said}"):
        nbanalyzer.generate(config, model_id="some/model")


def test_what_writes_tokens_is_none_that_is_refused() -> None:
    for name in ("LlamaForCausalLM", "WhisperForConditionalGeneration", "Wav2Vec2ForCTC", "T5Model", "SpeechT5Model"):
        assert made_by(hf.exported(name)) == ""
    assert made_by(None) == ""


@pytest.mark.parametrize("family", ["glmga", "shieldgemma2"])
def test_a_class_is_that_of_every_type_that_it_is_filed_under(family: str) -> None:
    """transformers has no class of these types' own; its mapping names another type's."""
    found = choose(NEWEST[family])
    assert found.config["model_type"] == family
    assert found.model_class is not None
    assert found.model_class.config_class.model_type != family
    with pytest.raises(ConfigError, match=f"contradicts itself: model_type is '{family}', architectures are Llava"):
        choose(named(NEWEST[family], "LlavaForConditionalGeneration"))


def test_only_models_are_found_under_a_name() -> None:
    assert hf.exported("BertModel") is transformers.BertModel
    for name in ("AutoModel", "Trainer", "BertConfig", "models", "pipeline", "__version__", "Nobody", "Bert Model", ""):
        assert hf.exported(name) is None


@pytest.mark.parametrize("stated", [True, False])
def test_t5_shares_its_embedding_whatever_its_config_says(stated: bool) -> None:
    """transformers takes `tie_word_embeddings: false` of T5 v1.1 for "do not scale": the head is tied all the same."""
    config = named(T5, "T5ForConditionalGeneration", tie_word_embeddings=stated)
    template = nbanalyzer.generate(config)
    assert populate(template).totals["parameters"] == parameters(config)
    assert "tie_word_embeddings" not in template.variables


def test_a_head_that_is_tied_as_the_config_says_is_a_choice() -> None:
    tied, free = (named(LLAMA, "LlamaForCausalLM", tie_word_embeddings=one) for one in (True, False))
    template = nbanalyzer.generate(tied)
    assert populate(template).totals["parameters"] == parameters(tied)
    assert populate(template, set={"tie_word_embeddings": 0}).totals["parameters"] == parameters(free)
