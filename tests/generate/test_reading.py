"""Models that read images and sound: on the meta device as on the CPU, with transformers' own checks on."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from recordings import VIDEOS
from transformers import CanaryConfig
from wholes import LLAVA, MORE, QWEN2_5, SMALL, VIT

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.errors import ConfigError, InputError
from nbanalyzer.generate import hf, hints
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.check.media import in_run
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.media import RULES, positions_of

RUNS: tuple[dict[str, Any], ...] = (
    {"images": 3, "image_size": "112x168"},
    {"images": 1, "image_size": "300x200"},
    {"audio_seconds": 0.4},
    {"audio_seconds": 31},
)


def counted(subject: Subject, run: dict[str, Any]) -> list[int]:
    """Return the matmul FLOPs of a prefill with images or sound, and of a step after it."""
    model = subject.build("eager", "batched_mm")
    reader = subject.reader
    assert reader is not None
    media = in_run(subject, run)
    length = positions_of(reader.reads, subject.params, media, 2) + 11
    steps = subject.steps(model, 2, (length, 1), media=media)
    return [int(oracle.flops(step).cost.matmul_flops) for step in steps]


@pytest.mark.parametrize("family", SMALL)
def test_the_meta_device_counts_what_the_cpu_does(family: str) -> None:
    """On the CPU all tensors are real, and transformers checks that placeholders and images agree."""
    subject = Subject.of(SMALL[family])
    assert subject.reader is not None
    what = subject.reader.reads.what
    for run in RUNS:
        if ("images" in run) != (what == "images"):
            continue
        if family == "whisper" and run.get("audio_seconds", 0) > 30:
            continue  # it reads so many at most
        asked = {} if subject.reader.reads.each and what == "images" else run
        found = counted(subject, asked)
        assert found == counted(replace(subject, device="cpu"), asked)
        assert found[0] > 0


def test_nothing_is_checked_less_than_by_transformers() -> None:
    """With one placeholder too few, the CPU's run fails: so the counts that agree say something."""
    subject = replace(Subject.of(LLAVA), device="cpu")
    model = subject.build("eager")
    media = in_run(subject, {"images": 1})
    step = next(subject.steps(model, 1, (20,), media=media))
    inputs = step._inputs(0)
    place = int((inputs["input_ids"] == 7).nonzero()[0, 1])
    inputs["input_ids"][0, place] = 8
    with pytest.raises(ValueError, match="do not match"), torch.no_grad():
        model(**inputs)


@pytest.mark.parametrize("config", [VIT, QWEN2_5], ids=["vit", "qwen2_5_vl"])
def test_from_a_config_to_a_template_that_holds_at_other_sizes(config: dict[str, Any]) -> None:
    """Sizes that no probe had; the oracle is FlopCounterMode on the CPU."""
    template = nbanalyzer.generate(config, model_id="some/model")
    subject = replace(Subject.of(config), device="cpu")
    assert template.provenance["result"] == "equal"
    if template.reads is not None and template.reads.each:
        assert populate(template, batch_size=2).totals["matmul_flops"] == counted(subject, {})[0]
        return
    for images, size in ((1, "300x500"), (2, "448x84"), (5, "140x280")):
        run: dict[str, Any] = {"images": images, "image_size": size}
        assert subject.reader is not None
        length = positions_of(subject.reader.reads, subject.params, in_run(subject, run), 2) + 11
        expected, step = counted(subject, run)
        assert populate(template, batch_size=2, seq_len=length, **run).totals["matmul_flops"] == expected
        after = populate(template, batch_size=2, seq_len=1, cache_len=length, **run)
        assert after.totals["matmul_flops"] == step
    alone = populate(template, seq_len=40)
    assert alone.totals["parameters"] == oracle.parameters(subject.build())
    assert alone.cost(alone.find("model.visual")).matmul_flops == 0


# ---- processors


def test_sizes_on_a_grid_are_those_of_transformers() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    chance = random.Random(1)
    for _ in range(500):
        height, width = chance.randint(1, 3000), chance.randint(1, 3000)
        sizes = {"factor": chance.choice((28, 32)), "least": 3136, "most": chance.choice((1_003_520, 12_845_056))}
        try:
            expected = smart_resize(height, width, sizes["factor"], sizes["least"], sizes["most"])
        except ValueError:
            with pytest.raises(InputError):
                RULES["grid"](height, width, sizes)
            continue
        assert RULES["grid"](height, width, sizes)[:2] == expected


def test_sizes_within_a_budget_are_those_of_transformers() -> None:
    from transformers.models.gemma4.image_processing_pil_gemma4 import get_aspect_ratio_preserving_size

    chance = random.Random(1)
    for _ in range(500):
        height, width = chance.randint(1, 3000), chance.choice((chance.randint(1, 3000), chance.randint(1, 12)))
        pooled, most = chance.choice((2, 3)), chance.choice((70, 280, 1120))
        expected = get_aspect_ratio_preserving_size(height, width, 16, most * pooled**2, pooled)
        assert RULES["budget"](height, width, {"factor": 16 * pooled, "most": most})[:2] == expected


def test_a_part_without_fused_attention_leaves_the_others_theirs() -> None:
    config: Any = Subject.of(MORE["gemma4"]).build().config
    assert config.text_config._attn_implementation == "sdpa"
    assert config.audio_config._attn_implementation == "eager"


def test_a_tower_that_transformers_does_not_have_is_no_text_model() -> None:
    """Nomic's text model is of the same model type."""
    with pytest.raises(ConfigError, match="transformers has no NomicVisionModel; its 'nomic_bert' is another model"):
        Subject.of({"model_type": "nomic_bert", "architectures": ["NomicVisionModel"], "img_size": 224})


def test_what_older_configs_say_of_a_decoder_makes_no_encoder_of_it() -> None:
    """A release that wrote down every field said that a model of language is no decoder, too."""
    said, whole = {"is_decoder": False, "add_cross_attention": False}, dict[str, Any](LLAVA)
    subject = Subject.of({**whole, **said, "text_config": {**whole["text_config"], **said}})
    assert subject.kind == "causal"
    assert subject.reader is not None


@pytest.mark.slow
def test_a_video_is_so_many_frames_and_one_a_sequence() -> None:
    """Frames are taken two by two: 2 x 16 patches, each 14 x 14 x 2 x 3 numbers made 48."""
    template = nbanalyzer.generate(VIDEOS["videomae"], model_id="some/model")
    found = populate(template, batch_size=3)
    assert "a video of 4 frames of 56x56 each" in str(found)
    patches = found.cost(found.find("videomae.embeddings.patch_embeddings"))
    assert patches.matmul_flops == 2 * 3 * 2 * 16 * 48 * (14 * 14 * 2 * 3)
    with pytest.raises(InputError, match="one video a sequence, so that batch_size says how many"):
        populate(template, images=2)
    with pytest.raises(InputError, match="audio_seconds changes nothing: this model reads videos"):
        populate(template, audio_seconds=2)


def test_a_tower_of_a_whole_is_found_by_what_it_takes() -> None:
    """Transformers says of Llama 4's and Llama 3.2's that they read tokens first, as the wholes do."""
    names = ("MllamaVisionModel", "Llama4VisionModel", "LlavaForConditionalGeneration")
    found = [class_ for name in names if (class_ := hf.exported(name)) is not None]
    assert [hf.main_input(class_) for class_ in found] == ["pixel_values", "pixel_values", "input_ids"]


def test_a_window_of_a_tower_is_none_of_the_text() -> None:
    """It was taken for one where no text of a probe was longer: Qwen3-ASR's tower has a window of 800."""
    window = next(hint for hint in hints.EXPRESSIONS if "window" in hint.name and hint.model == "mistral")
    assert window.matches("sliding_window")
    assert not window.matches("audio_n_window_infer")
    assert not window.matches("vision_window_size")


def test_a_part_of_which_nothing_is_stated_is_the_wholes_own() -> None:
    """Canary's encoder hears 128 bands of sound; an encoder of its class, of which one field is stated, hears 80."""
    encoder = CanaryConfig().encoder_config
    assert encoder.num_mel_bins != type(encoder)().num_mel_bins
    subject = Subject.of({"model_type": "canary", "architectures": ["CanaryForConditionalGeneration"]})
    few = subject.with_fields({"encoder_config.num_hidden_layers": 1}).hf_config().encoder_config
    assert (few.num_hidden_layers, few.num_mel_bins) == (1, encoder.num_mel_bins)
