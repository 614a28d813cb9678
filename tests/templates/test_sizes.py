"""Sizes that images are given which are read as they come: those of transformers' processors, and by hand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nbanalyzer.errors import InputError
from nbanalyzer.templates.media import RULES


def sides(count: int, longest: int = 3000) -> Iterator[tuple[int, int]]:
    """Yield so many sizes, squares and strips among them."""
    chance = random.Random(1)
    for number in range(count):
        height, width = chance.randint(1, longest), chance.randint(1, longest)
        yield height, (width, height, chance.randint(1, 12))[number % 10 if number % 10 < 3 else 0]


STUBBED = """
import json, sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import MagicMock

class Stub(ModuleType):
    __path__ = []
    def __getattr__(self, name):
        return MagicMock()

for name in ("", ".io", ".transforms", ".transforms.functional", ".transforms.v2", ".transforms.v2.functional"):
    module = Stub("torchvision" + name)
    module.__spec__ = ModuleSpec(module.__name__, None)
    sys.modules[module.__name__] = module

from torch import zeros
from transformers.models.apertus1p5 import image_processing_apertus1p5 as apertus
from transformers.models.gemma4_unified import image_processing_gemma4_unified as gemma
from transformers.models.inkling.image_processing_inkling import divide_to_patches
from transformers.models.muse_glimmer import image_processing_muse_glimmer as muse

def tried(call, *given):
    try:
        return call(*given)
    except ValueError:
        return None

print(json.dumps([
    [
        tried(muse.smart_resize, height, width, 28, 4096), tried(muse.smart_resize, height, width, 28, 64),
        tried(apertus.smart_resize, height, width, 16, 128 * 128, 1400 * 1400),
        tried(gemma.get_aspect_ratio_preserving_size, height, width, 16, 280 * 9, 3),
        len(divide_to_patches(zeros(1, height, width), 40)),
    ]
    for height, width in json.loads(sys.argv[1])
]))
"""
"""Functions of processors whose modules want torchvision, and do not use it: in a process without it."""


@pytest.mark.slow
@pytest.mark.pytorch
def test_sizes_are_those_of_processors_that_want_torchvision() -> None:
    every = list(sides(400))
    done = subprocess.run(
        [sys.executable, "-c", STUBBED, json.dumps(every)], capture_output=True, text=True, check=True, timeout=300
    )
    rules = (
        ("alike", {"factor": 28, "most": 4096}),
        ("alike", {"factor": 28, "most": 64}),
        ("grid", {"factor": 16, "least": 128 * 128, "most": 1400 * 1400}),
        ("budget", {"factor": 48, "most": 280}),
    )
    for (height, width), found in zip(every, json.loads(done.stdout), strict=True):
        for (rule, sizes), expected in zip(rules, found[:-1], strict=True):
            if expected is None:
                with pytest.raises(InputError):
                    RULES[rule](height, width, sizes)
            else:
                assert list(RULES[rule](height, width, sizes)[:2]) == expected, (rule, height, width)
        assert RULES["any size"](height, width, {})[:2] == (height, width)
        assert -(-height // 40) * (width // 40 + 1) == found[-1]  # Inkling's rows, and one column more than are whole


@pytest.mark.pytorch
def test_sizes_are_those_of_transformers() -> None:
    """GLM-4V's two frames of an image count twice."""
    from transformers.models.cosmos3_edge.image_processing_pil_cosmos3_edge import smart_resize as cosmos
    from transformers.models.glm46v.image_processing_pil_glm46v import smart_resize as glm4
    from transformers.models.glmga.image_processing_pil_glmga import smart_resize as glmga
    from transformers.models.hy_v4_vl.image_processing_pil_hy_v4_vl import smart_resize as hunyuan

    for height, width in sides(500):
        few = {"factor": 28, "least": 112 * 112 // 2, "most": 28 * 28 * 200}
        for resize in (glm4, glmga):
            given = (2, height, width, 2, 28, 112 * 112, 2 * 28 * 28 * 200)
            try:
                expected = resize(*given)
            except ValueError:
                with pytest.raises(InputError):
                    RULES["enlarged grid"](height, width, few)
            else:
                assert RULES["enlarged grid"](height, width, few)[:2] == expected
        if max(height, width) <= 200 * min(height, width):
            sizes = {"factor": 32, "least": 512 * 512, "most": 2048 * 2048}
            assert RULES["grid"](height, width, sizes)[:2] == hunyuan(height, width, 32, 512 * 512, 2048 * 2048)
            sizes = {"factor": 32, "least": 256 * 256, "most": 4096 * 4096}
            found = cosmos(1, height, width, 1, 32, 256 * 256, 4096 * 4096)
            assert RULES["enlarged grid"](height, width, sizes)[:2] == found


def test_by_hand() -> None:
    """300x500 is 10.7 x 17.9 patches of 28: 11 x 18 is most alike of those around."""
    assert RULES["alike"](300, 500, {"factor": 28, "most": 4096})[:2] == (308, 504)
    # 280 x 280 is 10 x 10; of 64 at most 8 x 8.
    assert RULES["alike"](280, 280, {"factor": 28, "most": 64})[:2] == (224, 224)
    # 14 x 70 is made 28 x 140 first.
    assert RULES["enlarged grid"](14, 70, {"factor": 28, "least": 1, "most": 10**6})[:2] == (28, 140)
