"""Models that find things in images: their backbones, what only their losses need, and what they keep."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from finders import FINDERS
from wholes import VIT

import nbanalyzer
from nbanalyzer.generate import hf
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.model import demands
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.media import Media


def media_of(subject: Subject) -> Media:
    """Return what one pass reads."""
    if "audio" in str(subject.config) or "encoder_config" in subject.config:
        return Media(audio_samples=160_000)
    side = subject.config.get("backbone_config", {}).get("image_size", 64)
    return Media(2, side, side)


@pytest.mark.parametrize("family", FINDERS)
def test_the_meta_device_counts_what_the_cpu_does(family: str) -> None:
    found = []
    for subject in (own := Subject.of(FINDERS[family]), replace(own, device="cpu")):
        model = subject.build("eager", "batched_mm")
        step = next(subject.steps(model, 2, (11,), media=media_of(subject)))
        found.append(int(oracle.flops(step).cost.matmul_flops))
    assert found[0] == found[1] + UNCOUNTED.get(family, 0)
    assert found[1] > 0


# An LSTM is one operation on the CPU, of which FlopCounterMode counts nothing: two layers, each with products of its
# input and of its state, of two sequences x 20 x 4 gates of 20.
UNCOUNTED = {"parakeet_tdt": 2 * 2 * (2 * 2 * 20 * 4 * 20)}


@pytest.mark.long
@pytest.mark.parametrize("family", ["maskformer", "grounding-dino"])
def test_from_a_config_to_a_template(family: str) -> None:
    template = nbanalyzer.generate(FINDERS[family], model_id="some/model")
    assert template.provenance["result"] == "equal"
    assert not template.part


# ---- backbones

# Of torchvision's classifiers (11,689,512, 25,557,032 and 44,549,160 parameters) without the head of 1000 classes, and
# without batch norms, which are frozen: two numbers for each of 4,800, 26,560 and 52,672 channels.
BACKBONES = {
    "resnet18": 11_689_512 - 513 * 1000 - 2 * 4_800,
    "resnet50": 25_557_032 - 2049 * 1000 - 2 * 26_560,
    "resnet101": 44_549_160 - 2049 * 1000 - 2 * 52_672,
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("kwargs", [{}, {"in_chans": 3, "out_indices": [1, 2, 3, 4]}])
def test_a_resnet_of_timm_is_built_without_it_and_nothing_is_looked_up(
    name: str, kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("timm"):
        pytest.skip("timm is installed")
    from transformers import backbone_utils

    monkeypatch.setattr(backbone_utils, "hf_api", lambda: pytest.fail("the Hub is asked"))
    config = {
        "model_type": "detr", "architectures": ["DetrForObjectDetection"], "backbone": name, "use_timm_backbone": True,
        "use_pretrained_backbone": True, "backbone_kwargs": kwargs,
    }  # fmt: skip
    model: Any = Subject.of(config).build()
    backbone = model.model.backbone
    assert sum(one.numel() for one in backbone.parameters()) == BACKBONES[name]
    assert backbone.intermediate_channel_sizes == (
        [64, 128, 256, 512] if name == "resnet18" else [256, 512, 1024, 2048]
    )


# ---- losses


def test_what_only_a_loss_needs_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import import_utils

    absent = (lambda: False, "{0} requires the scipy library but it was not found")
    monkeypatch.setitem(import_utils.BACKENDS_MAPPING, hf._OF_LOSSES, absent)
    subject = Subject.of(FINDERS["mask2former"])
    assert sum(one.numel() for one in subject.build().parameters()) > 0
    assert import_utils.BACKENDS_MAPPING[hf._OF_LOSSES] is absent


def test_the_layers_of_one_half_are_no_contradiction() -> None:
    config = {"model_type": "mask2former", "num_hidden_layers": 10, "encoder_layers": 6, "decoder_layers": 10}
    assert extract_model_params(config, required=())["num_layers"] == 6


# ---- what is kept from a pass


class _Placed(torch.nn.Module):
    @lru_cache(maxsize=1)  # noqa: B019 - as transformers' own
    def places(self, size: int) -> int:
        return size


def test_what_a_method_keeps_is_dropped() -> None:
    module = _Placed()
    assert module.places(3) == module.places(3)
    assert _Placed.places.cache_info()[:2] == (1, 1)  # hits, misses
    demands.forget(torch.nn.Sequential(module))
    assert _Placed.places.cache_info().currsize == 0


def test_each_pass_is_counted_as_the_first() -> None:
    subject = Subject.of(FINDERS["maskformer"])
    model: Any = subject.build()
    embedder = next(one for one in model.modules() if type(one).__name__.endswith("SinePositionEmbedding"))
    made = []
    kind: Any = type(embedder)
    kept = next(iter(demands._keeping(kind)))
    for _ in range(2):
        next(subject.steps(model, 2, (5,), media=media_of(subject))).run()
        made.append(kept.cache_info().misses)
    assert made == [1, 1]  # counted anew after each clearing, though both are of one size


# ---- sizes


def test_the_side_of_images_may_be_stated_by_a_part() -> None:
    sides = []
    for config in (FINDERS["sam2"], VIT):
        subject = Subject.of(config)
        assert subject.reader is not None
        sides.append(subject.reader.reads.sizes["height"])
    assert sides == ["64", "{image_size}"]
