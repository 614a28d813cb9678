"""Towers of timm: what is said without that package; how images of PerceptionLM are cut, and those of Fuyu padded."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from towers import STAGES, TIMM, TOWERS

import nbanalyzer
from nbanalyzer.errors import ConfigError
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.model import towers
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.trace.depth import shallow
from nbanalyzer.generate.trace.layers import stacks
from nbanalyzer.templates.media import RULES, Media, positions_of
from nbanalyzer.templates.template import Composite, Kernel
from nbanalyzer.templates.tiles import SEARCHES


@pytest.mark.slow
def test_without_timm_the_text_part_is_counted_and_the_package_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent: Any = lambda name: None if name == "timm" else object()  # noqa: E731
    monkeypatch.setattr(towers, "find_spec", absent)
    template = nbanalyzer.generate(TIMM["perception_lm"], model_id="some/model")
    expected = "the text part of PerceptionLMForConditionalGeneration (without timm no tower of images is built)"
    assert template.reads is None
    assert template.part == expected
    assert expected in str(nbanalyzer.populate(template))


SIZES = {"tile": 448, "most": 36}


@pytest.mark.parametrize(
    ("height", "width", "canvas"),
    [
        (448, 448, (6, 6)),  # a square is largest on the largest square
        (896, 448, (8, 4)),  # as wide on 8 x 4 as on 9 x 4, and the smaller comes last
        (448, 4480, (2, 18)),  # enlarged 1.8 times; 1.2 times on 3 x 12
        (6000, 6000, (6, 6)),  # larger than any canvas: the largest of its own shape
        (100, 20000, (1, 36)),
        (20000, 100, (36, 1)),
    ],
)
def test_canvases_by_hand(height: int, width: int, canvas: tuple[int, int]) -> None:
    assert SEARCHES["roomy canvas"](height, width, SIZES)[:2] == canvas


def test_canvases_are_those_of_the_processor() -> None:
    pytest.importorskip("torchvision")
    from transformers.models.perception_lm.image_processing_perception_lm import PerceptionLMImageProcessor

    chance, processor = random.Random(1), PerceptionLMImageProcessor()
    for number in range(600):
        tile, most = chance.choice((448, 224, 56)), chance.choice((36, 12, 4))
        height, width = chance.randint(1, 3000), chance.randint(1, 3000)
        if number % 3 == 0:  # on whole tiles, where canvases tie
            height, width = tile * chance.randint(1, 7), tile * chance.randint(1, 7)
        processor.max_num_tiles = most
        found = processor._fit_image_to_canvas(width, height, tile)
        columns, rows = found or processor._find_closest_aspect_ratio(width, height, tile)
        assert SEARCHES["roomy canvas"](height, width, {"tile": tile, "most": most})[:2] == (rows, columns)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (300, 500, (300, 510)),  # 10 x 16.7 patches of 30
        (1, 1, (30, 30)),
        (1080, 1920, (1080, 1920)),
        (2160, 1920, (1080, 960)),  # halved
        (1081, 1000, (1080, 1020)),  # by 1080 / 1081: 999 wide
        (100, 4000, (60, 1920)),  # by 1920 / 4000: 48 high
    ],
)
def test_images_in_whole_patches_by_hand(height: int, width: int, expected: tuple[int, int]) -> None:
    assert RULES["bounded"](height, width, {"factor": 30, "tallest": 1080, "widest": 1920})[:2] == expected


@pytest.mark.slow
def test_emu3_on_the_meta_device_counts_what_the_cpu_does() -> None:
    """Of images smaller than its processor makes them, which a CPU takes minutes for."""
    subject, media, found = Subject.of(TOWERS["emu3"]), Media(3, 16, 28), []
    assert subject.reader is not None
    assert positions_of(subject.reader.reads, subject.params, media, 2) == 2 * 4 * (7 + 1)  # two of three in one prompt
    for own in (subject, replace(subject, device="cpu")):
        steps = own.steps(own.build("eager"), 2, (75, 3), media=media)
        found.append([int(oracle.flops(step).cost.matmul_flops) for step in steps])
    assert found[0] == found[1]
    assert found[0][0] > found[0][1] > 0


@pytest.mark.parametrize(
    ("package", "config"),
    [
        ("natten", {"model_type": "dinat", "architectures": ["DinatForImageClassification"]}),
        ("timm", {"model_type": "detr", "architectures": ["DetrForObjectDetection"], "dilation": True}),
    ],
)
def test_a_package_that_is_missing_is_named_in_one_line(package: str, config: dict[str, Any]) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(nbanalyzer.NBAnalyzerError) as raised:
        nbanalyzer.generate(config, model_id="some/model")
    needs = f"needs the package {package}, which is not installed: install it and try again"
    assert re.fullmatch(rf"some/model: \w+ {needs}", str(raised.value))


# ---- stages

REPEATED = {
    "swin_in_pairs": {"layers_1.blocks_0": "3", "layers_1.blocks_1": "3"},  # one of two shifts its windows
    "pool_former": {"block_1.PoolFormerLayer": "3"},
    "resnet_in_rows": {"stages_0.layers_1": "3"},  # the first one of a stage changes the width
}


@pytest.mark.slow
@pytest.mark.parametrize("family", REPEATED)
def test_blocks_of_a_stage_that_are_alike_are_one_kernel(family: str) -> None:
    template = nbanalyzer.generate(STAGES[family], model_id="some/model")

    def repeats(kernels: tuple[Kernel, ...], inside: str = "") -> dict[str, str]:
        found: dict[str, str] = {}
        for kernel in kernels:
            if isinstance(kernel, Composite):
                path = f"{inside}.{kernel.name}"
                found |= {path: kernel.repeat} | repeats(kernel.sub_kernels, path)
        return found

    found = repeats(template.kernels)
    for path, repeat in REPEATED[family].items():
        assert [found[name] for name in found if name.endswith(f".{path}")] == [repeat]


def test_of_stages_as_many_blocks_are_kept_as_show_every_kind() -> None:
    """Beside layers that a field of the config counts; the width of the first stage is that of its input."""
    _, depth = shallow(Subject.of(STAGES["detr"]), least=2)
    assert depth.fields["encoder_layers"] == depth.fields["decoder_layers"] == 2
    assert {path.rpartition("encoder.")[2]: count for path, count in depth.cut.items()} == {"stages.0.layers": 1}
    assert depth.with_all_blocks().cut == {}


def _stage(width: int, *kinds: int) -> torch.nn.Sequential:
    """Return blocks that are called one after the other; those of a kind have convolutions of a size."""
    return torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Conv2d(width, width, kind)) for kind in kinds))


def test_stages_that_are_lists_in_a_list_show_their_blocks() -> None:
    """As those of timm's MobileNet: no `ModuleList`, and two kinds of blocks that alternate."""
    model = torch.nn.ModuleDict({"blocks": torch.nn.Sequential(_stage(4, 1, 3, 1, 3, 1), _stage(6, 5, 1, 1))})
    found = [(stack.path, stack.alike, stack.in_stage) for stack in stacks(model, {})]
    assert found == [("blocks.0", (0, 1, 0, 1, 0), True), ("blocks.1", (0, 1, 1), True)]
    several = torch.nn.ModuleDict({"blocks": torch.nn.Sequential(_stage(4, 1, 3), _stage(6, 5, 1))})
    assert stacks(several, {}) == []  # no block is repeated


def test_a_whole_is_compared_with_no_text_part(monkeypatch: pytest.MonkeyPatch) -> None:
    absent: Any = lambda name: None if name == "timm" else object()  # noqa: E731
    monkeypatch.setattr(towers, "find_spec", absent)
    towers.require_packages(TIMM["gemma3n"], whole=False)
    towers.require_packages(STAGES["detr"], whole=True)
    with pytest.raises(ConfigError, match=r"without timm no tower of images is built, .*: install it$"):
        towers.require_packages(TIMM["gemma3n"], whole=True)


def _experts(width: int, count: int) -> torch.nn.Module:
    return torch.nn.ModuleDict({"experts": torch.nn.ModuleList(torch.nn.Linear(width, 3) for _ in range(count))})


@pytest.mark.parametrize(
    "layers",
    [
        [torch.nn.Linear(4, 4), _experts(4, 3)],  # one layer with experts is no stage
        [_experts(4, 3), _experts(4, 3), _experts(5, 3)],  # two of the same sizes are layers
    ],
)
def test_what_is_no_stage(layers: list[torch.nn.Module]) -> None:
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(layers)})
    assert [(stack.path, stack.in_stage) for stack in stacks(model, {})] == [("layers", False)]
    stages = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([_experts(4, 3), _experts(5, 1)])})
    assert [(stack.path, stack.in_stage) for stack in stacks(stages, {})] == [("layers.0.experts", True)]
