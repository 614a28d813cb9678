"""Models that read sound beside images: how many positions it takes, and what is said where it is not counted."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from newest import NEWEST
from prompts import PROMPTS
from tilings import TILINGS
from towers import WITHOUT_TIMM
from wholes import MORE

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.costs.count import count
from nbanalyzer.errors import InputError
from nbanalyzer.generate.check.comparison import comparisons
from nbanalyzer.generate.check.media import in_run
from nbanalyzer.generate.check.oracle import parameters
from nbanalyzer.generate.model.hearing import unified_speech
from nbanalyzer.generate.model.subject import NOTHING, Subject
from nbanalyzer.generate.probe import sampling, situations
from nbanalyzer.generate.probe.cases import Cases
from nbanalyzer.generate.trace.depth import Depth
from nbanalyzer.report.analysis import as_text
from nbanalyzer.templates import catalog
from nbanalyzer.templates.media import Media, evaluated, positions_of, room_for
from nbanalyzer.templates.template import ModelTemplate, Reads
from tools.whole_validity import runs_of

BOTH = {
    "gemma4": MORE["gemma4"],
    "gemma4_unified": NEWEST["gemma4_unified"],
    "phi4_multimodal": TILINGS["phi4_multimodal"],
    **{name: PROMPTS[name] for name in PROMPTS if name.endswith("_thinker")},
}
"""Models whose prompts may have images and sound."""


def reads_of(config: dict[str, Any]) -> tuple[Any, dict[str, int]]:
    subject = Subject.of(config)
    assert subject.reader is not None
    return subject.reader.reads, dict(subject.params)


def processors_own(family: str, samples: int) -> int:
    """Return how many places transformers' processor leaves for so many samples."""
    if family == "gemma4":
        import numpy as np
        from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

        extractor = SimpleNamespace(frame_length=320, hop_length=160)
        processor: Any = SimpleNamespace(feature_extractor=extractor, audio_seq_length=750)
        return int(Gemma4Processor._compute_audio_num_tokens(processor, np.zeros(samples), 16000))
    if family == "gemma4_unified":
        from transformers.models.gemma4_unified.processing_gemma4_unified import Gemma4UnifiedProcessor

        unified: Any = SimpleNamespace(feature_extractor=SimpleNamespace(audio_samples_per_token=640))
        return int(Gemma4UnifiedProcessor._compute_audio_num_tokens(unified, range(samples), 16000))
    if family == "phi4_multimodal":
        import torch
        from transformers.models.phi4_multimodal.feature_extraction_phi4_multimodal import (
            Phi4MultimodalFeatureExtractor,
        )

        own = Phi4MultimodalFeatureExtractor()
        frames = (torch.tensor(samples) - own.win_length) // own.hop_length + 1
        return int(own._compute_audio_embed_size(frames * own.audio_feat_stride))
    if family.startswith("qwen2_5"):
        from transformers.models.qwen2_5_omni.processing_qwen2_5_omni import _get_feat_extract_output_lengths as halved

        return int(halved(-(-samples // 160)))  # of a mask of all samples, every 160th
    from transformers.models.qwen3_omni_moe.processing_qwen3_omni_moe import _get_feat_extract_output_lengths

    return int(_get_feat_extract_output_lengths(samples // 160, 50))


@pytest.mark.parametrize("family", BOTH)
def test_sound_takes_as_many_positions_as_its_processor_leaves(family: str) -> None:
    reads, params = reads_of(BOTH[family])
    chance = random.Random(3)
    for samples in (16_000, 160_000, 480_000, *(chance.randint(1_000, 480_000) for _ in range(300))):
        found = positions_of(reads, params, Media(audio_samples=samples), 3)
        assert found == processors_own(family, samples)


def test_gemma_3n_hears_as_many_spectra_as_its_processor_makes() -> None:
    """Whatever they are, they are 188 positions; of 30 s, as many are left of the 2,997 spectra themselves."""
    import numpy as np
    from transformers import Gemma3nAudioConfig, Gemma3nAudioFeatureExtractor

    extract = Gemma3nAudioFeatureExtractor()
    sound = unified_speech(SimpleNamespace(audio_config=Gemma3nAudioConfig()))
    reads = Reads(what="sound", variables=dict(sound.variables), audio_positions="{audio_tokens}")
    params = {"audio_soft_tokens_per_image": 188}
    for samples in (8_033, 16_000, 16_001, 16_128, 100_000, 479_999, 480_000):
        found = evaluated(reads, params, Media(audio_samples=samples))
        spectra = extract([np.zeros(samples, dtype=np.float32)], return_tensors="np")["input_features"]
        assert found["audio_frames"] == spectra.shape[1]
        assert found["audio_tokens"] == 188
    assert found["audio_frames"] == 2997
    assert found["audio_seen"] == 188  # a quarter of a quarter, rounded up


@pytest.mark.parametrize(
    ("family", "tokens"),
    [
        ("gemma4", 250),
        ("gemma4_unified", 250),
        ("phi4_multimodal", 125),
        ("qwen2_5_omni_thinker", 250),
        ("qwen3_omni_moe_thinker", 130),
    ],
)
def test_ten_seconds_are_so_many_positions(family: str, tokens: int) -> None:
    """Gemma 4: 999 whole spectra, halved twice, up, or 40 ms each; Phi-4: 998, three times.

    Qwen2.5: 1000, halved twice; Qwen3: 13 of each second.
    """
    reads, params = reads_of(BOTH[family])
    assert positions_of(reads, params, Media(audio_samples=160_000), 1) == tokens


@pytest.mark.parametrize("family", BOTH)
def test_images_and_sound_of_a_prompt_stand_one_after_the_other(family: str) -> None:
    """Three images of two sequences are two of one of them; each sequence has sound of its own."""
    subject = Subject.of(BOTH[family])
    reads, params = reads_of(BOTH[family])
    both = in_run(subject, {"images": 3, "image_size": "112x168", "audio_seconds": 4})
    image, sound = (
        positions_of(reads, params, one, 1) for one in (both.seen._replace(num_images=1), both._replace(num_images=0))
    )
    assert min(image, sound) > 0
    assert positions_of(reads, params, both, 2) == 2 * image + sound
    step = next(subject.steps(subject.build(), 2, (2 * image + sound + 5,), media=both))
    ids = step.prompt(7, 8)
    assert [[int((row == token).sum()) for token in (7, 8)] for row in ids] == [[2 * image, sound], [image, sound]]
    values = {**params, **both._asdict()}
    assert room_for(reads, values, 2 * image + sound - 1, 1) == 1
    assert room_for(reads, values, sound - 1, 1) == 0


@pytest.mark.parametrize("family", BOTH)
def test_of_what_is_not_read_every_variable_is_nothing(family: str) -> None:
    subject = Subject.of(BOTH[family])
    reads, params = reads_of(BOTH[family])
    both = in_run(subject, {"images": 1, "image_size": "112x168", "audio_seconds": 4})
    seen, heard = (evaluated(reads, params, one) for one in (both.seen, Media(audio_samples=both.audio_samples)))
    assert {value for name, value in seen.items() if name.startswith("audio_")} == {0}
    assert heard["image_tokens"] == heard["image_patches"] * heard["num_images"] == 0
    assert min(seen["image_tokens"], heard["audio_tokens"]) > 0


def test_more_sound_than_is_read_is_refused() -> None:
    with pytest.raises(InputError, match="audio_seconds=31: this model reads 30 seconds at most"):
        in_run(Subject.of(MORE["gemma4"]), {"audio_seconds": 31})


@pytest.mark.parametrize("family", ["apertus1p5", "muse_spark", "dots3_note"])
def test_sound_that_is_not_counted_is_no_images(family: str) -> None:
    """It was said that such a model reads images, as if it heard nothing."""
    whole, _ = reads_of(NEWEST[family])
    assert not whole.audio_positions
    template = catalog.shipped("Qwen/Qwen2-VL-2B-Instruct")
    hearing = msgspec.structs.replace(
        template, config={**template.config, "audio_config": NEWEST[family]["audio_config"]}
    )
    with pytest.raises(
        InputError, match=r"^audio_seconds=2.5 is not counted: this model reads sound as well as images"
    ):
        populate(hearing, audio_seconds=2.5)
    with pytest.raises(InputError, match=r"^audio_seconds changes nothing: this model reads images"):
        populate(template, audio_seconds=2.5)


def test_what_a_text_part_does_not_read_is_not_called_without_effect() -> None:
    template = catalog.shipped("openai-community/gpt2")
    part = msgspec.structs.replace(
        template,
        config={**template.config, "architectures": ["SomeForConditionalGeneration"]},
        provenance={**template.provenance, "part": "text"},
    )
    with pytest.raises(InputError, match=r"^audio_seconds=2 is not counted: this is the text part of SomeForCond"):
        populate(part, audio_seconds=2)


@pytest.mark.long
def test_a_step_after_sound_costs_what_one_after_text_does() -> None:
    template = nbanalyzer.generate(BOTH["qwen2_5_omni_thinker"], model_id="some/model")
    heard = populate(template, seq_len=1, cache_len=300, audio_seconds=10)
    assert heard.totals["matmul_flops"] == populate(template, seq_len=1, cache_len=300).totals["matmul_flops"]
    both = populate(template, seq_len=400, audio_seconds=10, images=1, image_size="112x168")
    assert "images 1 of 112x168, audio_seconds 10" in str(both)
    only = populate(template, seq_len=400, audio_seconds=10)
    assert only.cost(only.find("model.visual")).matmul_flops == 0
    tower = only.cost(only.find("model.audio_tower"))
    assert tower.matmul_flops == both.cost(both.find("model.audio_tower")).matmul_flops
    # 1000 spectra of 8, in chunks of 20: convolutions of three, 48 wide, the second one on every other place.
    convolved = 2 * 3 * 48 * (8 * 1000 + 48 * 500)
    # 500 places in 50 chunks of 10: four layers of four products of 48 x 48, an MLP of 80, and scores and their sums.
    layer = 2 * 500 * (4 * 48 * 48 + 2 * 48 * 80) + 2 * 2 * 50 * 10 * 10 * 48
    assert tower.matmul_flops == convolved + 4 * layer + 2 * 250 * 48 * 64
    with pytest.raises(InputError, match="seq_len=249 counts all positions"):
        populate(template, seq_len=249, audio_seconds=10)


@pytest.mark.long
def test_the_thinker_of_an_omni_model_is_read_from_the_config_of_all_of_it() -> None:
    """Its class in such files is none of transformers'; what speaks is run by a loop of its own."""
    thinker = {**BOTH["qwen2_5_omni_thinker"], "architectures": ["Qwen2OmniNaViTThinkerForConditionalGeneration"]}
    omni = {
        "model_type": "qwen2_5_omni", "architectures": ["Qwen2_5OmniModel"], "thinker_config": thinker,
        "talker_config": {"model_type": "qwen2_5_omni_talker"}, "enable_audio_output": True,
    }  # fmt: skip
    template = nbanalyzer.generate(omni, model_id="some/model")
    assert template.provenance["result"] == "equal"
    heard = populate(template, seq_len=400, audio_seconds=10, images=1, image_size="112x168")
    alone = Subject.of(BOTH["qwen2_5_omni_thinker"]).build()
    assert heard.totals["parameters"] == parameters(alone)
    assert heard.cost(heard.find("model.visual")).matmul_flops > 0
    head = as_text(heard).splitlines()[0]
    assert head == "some/model (Qwen2_5OmniThinkerForConditionalGeneration: a part of Qwen2_5OmniModel)"
    assert type(Subject.of(template.config).build()) is type(alone)


@pytest.mark.parametrize("name", BOTH)
def test_one_sequence_and_several_read_images_and_sound_alone_and_together(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what depends on blocks of sound seems to depend on images, or on how many sequences there are."""
    read: set[tuple[bool, bool, bool]] = set()

    def observe(_subject: Subject, _depth: Depth, batch: int, *_lengths: Any, media: Media = NOTHING, **_: Any) -> Any:
        read.add((batch > 1, media.num_images > 0, media.audio_samples > 0))
        return []

    monkeypatch.setattr(situations, "observe", observe)
    subject = Subject.of(BOTH[name])
    assert subject.reader is not None
    situations.base_runs(subject, Depth(), Cases(others=subject.reader.cases))
    assert read == set(itertools.product((True, False), repeat=3))


def test_one_block_of_sound_and_several_are_heard_by_one_sequence_and_by_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copies are made of several blocks, or of several sequences: chance alone left three of Gemma 4's out."""
    subject = Subject.of(BOTH["gemma4"])
    assert subject.reader is not None
    reads = subject.reader.reads
    heard: set[tuple[bool, bool, bool]] = set()

    def observe(_subject: Subject, _depth: Depth, batch: int, *_lengths: Any, media: Media = NOTHING, **_: Any) -> Any:
        if media.audio_samples:
            heard.add((batch > 1, media.num_images > 0, evaluated(reads, subject.params, media)["audio_blocks"] > 1))
        return []

    monkeypatch.setattr(situations, "observe", observe)
    situations.base_runs(subject, Depth(), Cases(others=subject.reader.cases))
    assert heard == set(itertools.product((True, False), repeat=3))


@pytest.mark.long
def test_what_several_sequences_alone_do_follows_another_width_of_the_sound_encoder() -> None:
    """Few probes hear sound in several sequences: with one of them, a width was taken for a number."""
    template = nbanalyzer.generate(MORE["gemma4"], model_id="some/model")
    own = template.config["audio_config"]
    config = {**template.config, "audio_config": {**own, "hidden_size": 2 * own["hidden_size"]}}
    require_heard(msgspec.structs.replace(template, config=config), Subject.of(config))


def test_sizes_of_three_parts_are_drawn_apart() -> None:
    """Else all become multiples of each other, and of two it is not seen which one something follows from."""
    base = {"text_config.head_dim": 256, "audio_config.num_heads": 8, "audio_config.hidden_size": 1024}
    drawn = {"text_config.head_dim": 256 * 15, "audio_config.num_heads": 24, "audio_config.hidden_size": 3072}
    for across in (False, True):
        change: dict[str, Any] = dict(drawn)
        sampling._keep_ratios(change, base, random.Random(1), sampling._ANYTHING, across=across)
        assert change["audio_config.hidden_size"] % change["audio_config.num_heads"] == 0
        assert (change["audio_config.hidden_size"] % change["text_config.head_dim"] == 0) == across


@pytest.mark.parametrize("name", ["gemma4", "phi4_multimodal"])
def test_widths_are_compared_where_images_and_sound_are_read(name: str) -> None:
    """A template of Gemma 4 was held right for any width of a tower that no compared run went through."""
    several, one = runs_of(Subject.of(BOTH[name]))
    assert several["first"]["batch_size"] == 2
    assert all({"images", "audio_seconds"} <= run.keys() for run in (*several.values(), one["one"]))


def require_heard(template: ModelTemplate, subject: Subject) -> None:
    """Require that sound of some lengths, in one sequence and in several, costs what PyTorch says.

    Gemma 4's blocks are 12 positions of 40 ms: 0.4825 s fill one, 0.9625 s two; 0.3 and 1 s do not. Of 0.29 s, 28
    spectra are whole, for 7 positions; filled up to 8 ms there are 29, and an eighth that is left out.
    """
    lengths = ((2, 0.3), (2, 0.29), (2, 0.4825), (3, 0.9625), (2, 1), (1, 0.4825))
    runs = {f"{of} x {long} s": {"batch_size": of, "seq_len": 300, "audio_seconds": long} for of, long in lengths}
    model = subject.build("eager", "batched_mm")
    for compared in comparisons(subject, model, runs, lambda run: count(template, **run)):
        assert compared.totals[0] == compared.totals[1], compared.what


@pytest.mark.long
@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        "google/gemma-4-E2B-it",
        "google/gemma-4-E4B-it",
        *(pytest.param(f"google/gemma-3n-{size}-it", marks=WITHOUT_TIMM) for size in ("E2B", "E4B")),
    ],
)
def test_sound_in_blocks_is_counted_for_a_narrower_encoder_too(name: str, part: int) -> None:
    config = dict(catalog.completed(catalog.shipped(name)).config)
    config["audio_config"] = {**config["audio_config"], "hidden_size": config["audio_config"]["hidden_size"] // part}
    require_heard(catalog.for_config(config), Subject.of(config))
