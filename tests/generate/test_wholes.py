"""Models whose images are cut into tiles, and others of all kinds: at sizes that no probe had, in all that is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch
from documents import DOCUMENTS
from newest import NEWEST
from prompts import PROMPTS
from recordings import CODES, SOUNDS, VIDEOS
from tilings import TILINGS
from torch.utils.flop_counter import FlopCounterMode
from towers import STAGES, SWIN, TIMM, TOWERS, WITHOUT_TIMM
from wholes import LLAVA, MORE, SMALL, TOWER

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.costs.count import count
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.check.comparison import comparisons
from nbanalyzer.generate.check.media import in_run
from nbanalyzer.generate.deadline import VARIABLE
from nbanalyzer.generate.model.subject import Subject, UnrunnableError
from nbanalyzer.generate.trace.depth import count_fields, shallow
from nbanalyzer.generate.trace.layers import stacks
from nbanalyzer.templates import catalog
from nbanalyzer.templates.media import positions_of

SIZES = ("112x168", "300x500", "60x500")
"""On a canvas, off it, and a strip."""
FLAT = "4x700"
"""A strip that leaves no row of patches of a canvas, which it is laid on."""

QUICK = ("llava_next", "internvl")
MANY = ("llava_next", "mllama", "pixtral", "voxtral")
"""Ways to read: tiles, beside the text, on a grid, and sound. All others are asked by `make long`."""

LATER = {**NEWEST, **TILINGS, **TOWERS, **SOUNDS, **DOCUMENTS}
READ = {**MORE, **PROMPTS, **LATER}
EVERY = {**SMALL, **READ}
IN_PROMPT = tuple(name for name, config in EVERY.items() if "text_config" in config and "clip" not in name)
_ONE_EACH = {"siglip", "blip-2", "blip_asked", "blip2_t5", "instructblip", "instructblipvideo"}
_ONE_PASS = {"diffusion_gemma"}  # no step goes on from another
IN_PROMPT = tuple(name for name in IN_PROMPT if name not in _ONE_EACH | _ONE_PASS)
IN_PROMPT += (
    "chameleon",
    "idefics",
    "idefics_resampled",
    "phi4_multimodal",
    "t5gemma2",
)  # their text model is not a part of its own


def marked(names: tuple[str, ...], quick: tuple[str, ...] = QUICK, seldom: Any = pytest.mark.slow) -> list[Any]:
    needs = {name: (WITHOUT_TIMM,) if name in TIMM else () for name in names}
    return [pytest.param(name, marks=needs[name] + (() if name in quick else (seldom,))) for name in names]


def runs_of(subject: Subject, size: str) -> dict[str, dict[str, Any]]:
    """Return a prefill of three images, or of some sound, in two sequences, and what goes on from it."""
    assert subject.reader is not None
    read: dict[str, Any] = {"image_size": size} | ({} if subject.reader.reads.each else {"images": 3})
    if subject.reader.reads.what == "sound":
        read = {"audio_seconds": 7}
    elif subject.reader.reads.audio_positions and size != SIZES[2]:
        read["audio_seconds"] = 7.3 if size == SIZES[0] else 0.4
    length = 11 + positions_of(subject.reader.reads, subject.params, in_run(subject, read), 2)
    if subject.reader.reads.encoded:
        read, length = {**read, "encoder_len": length}, 11
    return {
        "first": {"batch_size": 2, "seq_len": length, **read},
        "next": {"batch_size": 2, "seq_len": 3, "cache_len": length, **read},
    }


@pytest.mark.parametrize(
    "family",
    [
        *marked((*MORE, *PROMPTS)),
        *marked(tuple(name for name in LATER if name != "emu3"), MANY, pytest.mark.long),
    ],
)
def test_the_meta_device_counts_what_the_cpu_does(family: str) -> None:
    """On the CPU all tensors are real, and transformers checks that placeholders and images agree."""
    subject = Subject.of(EVERY[family])
    for size in SIZES:
        found: list[list[int]] = []
        for own in (subject, replace(subject, device="cpu")):
            first, after = runs_of(own, size).values()
            if own.reader is not None and own.reader.reads.each:
                first = {"batch_size": 2, "seq_len": first["seq_len"]}
            lengths = (first["seq_len"], after["seq_len"])
            model = own.build("eager", "batched_mm")
            steps = own.steps(model, 2, lengths, first.get("encoder_len", 0), media=in_run(own, first))
            found.append([int(oracle.flops(step).cost.matmul_flops) for step in steps])
        assert found[0] == found[1]
        assert found[0][0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("family", marked(IN_PROMPT, MANY, pytest.mark.long))
def test_all_that_is_counted_holds_at_sizes_that_no_probe_had(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLOPs, traffic by the trace, and what is kept: of a prompt with images, and of the step after it."""
    monkeypatch.setenv(VARIABLE, "inf")  # Qwen4-Exp takes a minute and a half
    config = EVERY[family]
    template = nbanalyzer.generate(config, model_id="some/model")
    assert template.provenance["result"] == "equal"
    subject = Subject.of(config)
    model = subject.build("eager", "batched_mm")
    seen: set[str] = set()
    on_canvases = template.reads is not None and template.reads.rule == "listed canvases"
    for size in (*SIZES[1:], *((FLAT,) if on_canvases else ())):
        runs = runs_of(subject, size)
        for compared in comparisons(subject, model, runs, lambda run: count(template, **run)):
            assert compared.totals[0] == compared.totals[1], compared.what
            seen.add(compared.what)
    metrics = ("matmul_flops", "vector_flops", "read_bytes", "write_bytes", "state_bytes")
    assert {f"{run}_{metric}" for run in ("first", "next") for metric in metrics} <= seen
    if template.reads is not None and template.reads.rule == "one size":
        run = runs_of(subject, SIZES[0])["first"]  # with as much sound, if it is heard
        given = [populate(template, **{**run, "image_size": size}) for size in SIZES[:2]]
        assert given[0].totals == given[1].totals
        assert f"images of {SIZES[1]} are resized to" in given[1].conditions


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    marked(
        ("blip2_t5", "trocr", "layoutlmv3", "clipseg", "blip_asked", "pi0", "xclip", "voice"),
        ("layoutlmv3", "pi0"),
        pytest.mark.long,
    ),
)
def test_beside_a_prompt_or_before_a_decoder_all_that_is_counted_is_equal(family: str) -> None:
    """FLOPs, traffic and what is kept, by the check that every template has to pass."""
    template = nbanalyzer.generate(EVERY[family], model_id="some/model")
    assert template.provenance["result"] == "equal"
    assert template.reads is not None


def test_a_prompt_with_too_little_room_is_refused_on_the_meta_device_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, a mask takes any number of features: what is computed would be wrong, and nobody would say so."""
    subject = Subject.of(LLAVA)
    assert subject.reader is not None
    reads = subject.reader.reads
    few = replace(subject.reader, reads=msgspec.structs.replace(reads, positions="{image_tokens} - 1"))
    monkeypatch.setattr(type(subject), "reader", few)
    subject = Subject.of(LLAVA)
    step = next(subject.steps(subject.build("eager"), 1, (40,), media=in_run(subject, {"images": 1})))
    with pytest.raises(UnrunnableError, match="has room for 960 numbers"):  # 15 positions of 64, where 16 are read
        oracle.flops(step)


@pytest.mark.long
def test_actions_are_denoised_once_after_a_prompt_that_is_read_in_the_same_pass() -> None:
    """Of PI0, by FlopCounterMode on the CPU; it writes no text, so that there are no requests."""
    config = EVERY["pi0"]
    template = nbanalyzer.generate(config, model_id="some/model")
    model = replace(Subject.of(config), device="cpu").build("eager")
    words = torch.ones((3, 20), dtype=torch.long)
    words[:, :16] = 7
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = model(
            input_ids=words, pixel_values=torch.zeros(3, 1, 3, 56, 56).bfloat16(),
            pixel_attention_mask=torch.ones(3, 1, dtype=torch.bool), state=torch.zeros(3, 9).bfloat16(),
        )  # fmt: skip
    assert out.logits.shape == (3, 6, 10)
    assert populate(template, batch_size=3, seq_len=20).totals["matmul_flops"] == counter.get_total_flops()
    with pytest.raises(nbanalyzer.NBAnalyzerError, match="keeps nothing from one pass to the next"):
        nbanalyzer.request(template, prompt_len=20, output_len=4)


@pytest.mark.long
def test_a_cache_that_forgets_what_was_written_is_counted_by_what_it_keeps() -> None:
    """Of Unlimited-OCR, by FlopCounterMode, on the cache of transformers' own: a window of 8 beside the prompt."""
    config = EVERY["unlimited_ocr"]
    template = nbanalyzer.generate(config, model_id="some/model")
    model = replace(Subject.of(config), device="cpu").build("eager", "batched_mm")
    with torch.no_grad():
        cache = model(input_ids=torch.ones((2, 30), dtype=torch.long)).cache
        for written in range(20):
            with FlopCounterMode(display=False) as counter:
                cache = model(input_ids=torch.ones((2, 1), dtype=torch.long), cache=cache).cache
            found = populate(template, batch_size=2, seq_len=1, cache_len=30 + min(written, 7))
            assert found.totals["matmul_flops"] == counter.get_total_flops()
    assert "cache_len counts what is kept: the prompt, and the last 7 tokens written" in found.conditions
    asked = nbanalyzer.request(template, prompt_len=30, output_len=8, batch_size=2)
    assert asked.decode["matmul_flops"] == sum(
        populate(template, batch_size=2, seq_len=1, cache_len=30 + written).totals["matmul_flops"]
        for written in range(7)
    )
    with pytest.raises(nbanalyzer.NBAnalyzerError, match=r"output_len=9: of what .* keeps the last 7 tokens"):
        nbanalyzer.request(template, prompt_len=30, output_len=9)
    with pytest.raises(nbanalyzer.NBAnalyzerError, match="not modelled: sweeps of requests"):
        nbanalyzer.sweep(template, prompt_len=30, output_len=[4, 6])


@pytest.mark.long
def test_a_block_is_denoised_once_after_its_prompt() -> None:
    """Of DiffusionGemma, by FlopCounterMode on the CPU, with images and without; the block is not of the prompt."""
    config = EVERY["diffusion_gemma"]
    template = nbanalyzer.generate(config, model_id="some/model")
    subject = replace(Subject.of(config), device="cpu")
    model = subject.build("eager", "batched_mm")
    for size in SIZES:
        first = runs_of(subject, size)["first"]
        step = next(subject.steps(model, 2, (first["seq_len"],), media=in_run(subject, first)))
        assert oracle.flops(step).cost.matmul_flops == populate(template, **first).totals["matmul_flops"]
    for batch, length in ((1, 5), (3, 40)):  # below the window, and beyond it
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            out = model(
                input_ids=torch.ones((batch, length), dtype=torch.long),
                decoder_input_ids=torch.ones((batch, 6), dtype=torch.long),
            )
        assert out.logits.shape == (batch, 6, 120)
        found = populate(template, batch_size=batch, seq_len=length)
        assert found.totals["matmul_flops"] == counter.get_total_flops()
    with pytest.raises(nbanalyzer.NBAnalyzerError, match="keeps nothing from one pass to the next"):
        nbanalyzer.request(template, prompt_len=20, output_len=4)


@pytest.mark.long
def test_images_among_an_encoders_words_are_positions_of_the_encoder() -> None:
    """Of T5Gemma 2, by FlopCounterMode on the CPU; a decoder's length makes no room for them."""
    config = EVERY["t5gemma2"]
    template = nbanalyzer.generate(config, model_id="some/model")
    model = replace(Subject.of(config), device="cpu").build("eager")
    words = torch.ones((2, 19), dtype=torch.long)
    words[0, 3:11] = words[1, :4] = 7  # two images, and one
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(
            input_ids=words, decoder_input_ids=torch.ones((2, 5), dtype=torch.long),
            pixel_values=torch.zeros(3, 3, 56, 56).bfloat16(),
        )  # fmt: skip
    found = populate(template, batch_size=2, seq_len=5, encoder_len=19, images=3)
    assert found.totals["matmul_flops"] == counter.get_total_flops()
    with pytest.raises(nbanalyzer.NBAnalyzerError, match=r"encoder_len=7 counts all positions .* which alone are 8:"):
        populate(template, batch_size=2, seq_len=500, encoder_len=7, images=3)
    room = nbanalyzer.solve(template, "h100-sxm", maximize="images", seq_len=500, encoder_len=19)
    assert room.value == 19 // 4


# ---- as they are shipped, against a table that was made beforehand, without this package

LLAMA_3_2: dict[str, Any] = {
    "model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"],
    "text_config": {
        "model_type": "mllama_text_model", "hidden_size": 4096, "num_hidden_layers": 40, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "pad_token_id": 128004,
        "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
    },
    "vision_config": {
        "hidden_size": 1280, "num_hidden_layers": 32, "num_global_layers": 8, "attention_heads": 16,
        "intermediate_size": 5120, "image_size": 560, "patch_size": 14, "max_num_tiles": 4, "vision_output_dim": 7680,
        "intermediate_layers_indices": [3, 7, 15, 23, 30],
    },
}  # fmt: skip


@pytest.mark.long
def test_sizes_of_a_published_config_that_no_field_explains_are_found() -> None:
    """Each of its tiles is 1601 positions, filled up to 1608: with 5,120 numbers each, more than a number may be."""
    template = nbanalyzer.generate(LLAMA_3_2, model_id="some/model")
    totals = nbanalyzer.populate(template, seq_len=8, images=1).totals
    assert totals["parameters"] == oracle.parameters(Subject.of(LLAMA_3_2).build())


def kimi() -> dict[str, Any]:
    config, _ = catalog.config_of("moonshotai/Kimi-K2-Instruct")
    text = {key: value for key, value in config.items() if key not in {"architectures", "quantization_config"}}
    kind = {"model_type": "kimi_k25", "architectures": ["Kimi_K25ForConditionalGeneration"]}
    return {**kind, "tie_word_embeddings": False, "text_config": {**text, "model_type": "deepseek_v3"}}


TABLE: dict[str, tuple[Any, int, dict[str, int]]] = {
    "Llama-3.2-11B-Vision": (
        lambda: LLAMA_3_2, 10_670_220_835, dict.fromkeys(("448x672", "896x896", "300x500"), 41_007_966_916_608)
    ),
    "Llama-4-Scout": (
        lambda: dict(catalog.config_of("meta-llama/Llama-4-Scout-17B-16E-Instruct")[0]), 108_641_793_536,
        {"448x672": 333_438_452_971_520, "896x896": 657_287_678_423_040},
    ),
    "Kimi-K2.5": (kimi, 1_026_879_353_328, {"448x672": 57_655_373_594_624, "896x896": 156_129_929_723_904}),
}  # fmt: skip
"""Parameters, and matmul FLOPs of two images and 64 tokens of text."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_real_sizes_are_those_of_the_table(name: str) -> None:
    make, parameters, sizes = TABLE[name]
    subject = Subject.of({"vision_config": {}, **make()})
    model = subject.build("eager", "batched_mm")
    assert subject.reader is not None
    assert oracle.parameters(model) == parameters
    for size, expected in sizes.items():
        media = in_run(subject, {"images": 2, "image_size": size})
        taken = positions_of(subject.reader.reads, subject.params, media, 1)
        step = next(subject.steps(model, 1, (taken + 64,), media=media))
        assert oracle.flops(step).cost.matmul_flops == expected


# ---- encoders of any shape

SHAPES: dict[str, dict[str, Any]] = {
    "resnet": {
        "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "embedding_size": 16,
        "hidden_sizes": [16, 32], "depths": [2, 2],
    },
    "convnext": {
        "model_type": "convnext", "architectures": ["ConvNextForImageClassification"], "hidden_sizes": [16, 32, 48, 64],
        "depths": [1, 1, 2, 1], "image_size": 96,
    },
    "swin": SWIN,
    "dpt": {  # its neck takes what each of the layers sees
        "model_type": "dpt", "architectures": ["DPTForDepthEstimation"], "hidden_size": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "intermediate_size": 80, "image_size": 64, "patch_size": 16, "fusion_hidden_size": 16,
        "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 16, 24, 32],
    },
    "clip": {
        "model_type": "clip", "architectures": ["CLIPForImageClassification"],
        "vision_config": TOWER, "text_config": {"hidden_size": 48},
    },
    "audio-spectrogram-transformer": {
        "model_type": "audio-spectrogram-transformer", "architectures": ["ASTForAudioClassification"],
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80,
        "max_length": 100, "num_mel_bins": 32,
    },
}  # fmt: skip
"""Towers whose sizes no single field says."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    marked(
        (*SHAPES, *STAGES, *VIDEOS),
        ("resnet", "convnext", "dpt", "clip", "timesformer", "vivit", "yolos"),
        pytest.mark.long,
    ),
)
def test_what_no_field_explains_is_a_number_of_its_own_config(family: str) -> None:
    config = {**SHAPES, **STAGES, **VIDEOS}[family]
    template = nbanalyzer.generate(config, model_id="some/model")
    assert template.provenance["result"] == "equal"
    subject = replace(Subject.of(config), device="cpu")
    model = subject.build("eager")
    for batch in (1, 7):
        expected = oracle.flops(next(subject.steps(model, batch, (1,), media=in_run(subject, {})))).cost.matmul_flops
        assert populate(template, batch_size=batch).totals["matmul_flops"] == expected


@pytest.mark.slow
def test_a_number_of_one_config_answers_for_no_other() -> None:
    template = nbanalyzer.generate(SHAPES["resnet"], model_id="some/model")
    with pytest.raises(nbanalyzer.NBAnalyzerError, match="answers for its own config alone"):
        populate(template, set={"num_labels": 5})


def test_two_towers_of_one_depth_are_each_counted_by_its_own_field() -> None:
    subject = Subject.of(PROMPTS["qwen2_5_omni_thinker"])
    assert subject.config["vision_config"]["depth"] == subject.config["audio_config"]["encoder_layers"]
    fields = subject.fields()
    found = count_fields(fields, stacks(subject.build(), fields))
    assert found["vision_config.depth"].path == "model.visual.blocks"
    assert found["audio_config.encoder_layers"].path == "model.audio_tower.layers"
    assert found["text_config.num_hidden_layers"].path == "model.language_model.layers"


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("granite_speech", {"text_config.num_hidden_layers": 2, "encoder_config.num_layers": 2}),
        ("instructblip", {"vision_config.num_hidden_layers": 2, "qformer_config.num_hidden_layers": 2}),
        ("parakeet", {"encoder_config.num_hidden_layers": 2}),
    ],
)
def test_a_part_of_any_name_is_traced_with_few_of_its_layers(family: str, fields: dict[str, int]) -> None:
    """Of parts of 7 layers, whatever the config calls them: else time grows with the model, not with what it does."""
    subject = Subject.of(EVERY[family]).with_fields(dict.fromkeys(fields, 7))
    _, depth = shallow(subject, least=2)
    assert {name: depth.fields.get(name) for name in fields} == fields


@pytest.mark.slow
@pytest.mark.parametrize("side", [56, 224])
def test_an_image_before_each_text_takes_positions_but_no_tokens(side: int) -> None:
    """Of GIT: with more positions an image than a short prompt has, too; by FlopCounterMode on the CPU."""
    config = {**PROMPTS["git"], "vision_config": {**PROMPTS["git"]["vision_config"], "image_size": side}}
    template = nbanalyzer.generate(config, model_id="some/model")
    positions = (side // 14) ** 2 + 1
    model = replace(Subject.of(config), device="cpu").build("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = model(
            input_ids=torch.ones((3, 11), dtype=torch.long), pixel_values=torch.zeros(3, 3, side, side).bfloat16()
        )
    assert out.logits.shape == (3, positions + 11, 120)
    found = populate(template, batch_size=3, seq_len=positions + 11)
    assert found.totals["matmul_flops"] == counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize("family", CODES)
def test_a_position_is_a_token_with_codes_or_codes_alone(family: str) -> None:
    """By FlopCounterMode on the CPU; what is kept by hand."""
    template = nbanalyzer.generate(CODES[family], model_id="some/model")
    model = replace(Subject.of(CODES[family]), device="cpu").build("eager")
    tokens = torch.zeros((3, 11, 6 if family == "kyutai" else 3), dtype=torch.long)
    text = torch.zeros((3, 17), dtype=torch.long)
    given = {"input_ids": tokens} if family == "kyutai" else {"input_ids": text, "decoder_input_ids": tokens}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**given)
    found = populate(template, batch_size=3, seq_len=11, encoder_len=None if family == "kyutai" else 17)
    assert found.totals["matmul_flops"] == counter.get_total_flops()
    # Three layers keep keys and values of 16 in bf16: of four heads, or of two and of what they read of the encoder.
    kept = 11 * 4 if family == "kyutai" else 11 * 2 + 17 * 4
    assert found.totals["kv_cache_bytes"] == 3 * 2 * 3 * kept * 16 * 2
