"""Bad values of configs: each ends in one line that names its field by its path and quotes the value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

import pytest
from towers import STAGES, TIMM, TOWERS
from wholes import MORE, QWEN2_5, VIT
from wholes import SMALL as FIRST

from nbanalyzer import generate, populate
from nbanalyzer.errors import ConfigError, NBAnalyzerError, quote
from nbanalyzer.generate import cache
from nbanalyzer.generate.deadline import TimeLimitError
from nbanalyzer.generate.model.values import MOST, MOST_LABELS, odd_values, require_bounded

SMALL = {**FIRST, **MORE}
VISION: Any = QWEN2_5["vision_config"]
HUGE = 10**12
NEEDED = {int: "a whole number", list: "a list of whole numbers"}


def changed(config: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a config with another value of a field."""
    key, _, rest = path.partition(".")
    return {**config, key: changed(config[key], rest, value) if rest else value}


def refusal(config: Mapping[str, Any]) -> str:
    with pytest.raises(NBAnalyzerError) as caught:
        generate(config)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 400
    return said


CASES: dict[str, tuple[Mapping[str, Any], str, object, str]] = {
    "what its class does not declare": (QWEN2_5, "vision_config.patch_size", "1/0", f"{NEEDED[int]} or "),
    "no number for a tower": (QWEN2_5, "vision_config.num_heads", math.nan, f"{NEEDED[int]} is needed"),
    "a tower without heads": (SMALL["pixtral"], "vision_config.num_attention_heads", None, f"{NEEDED[int]} is needed"),
    "half a layer of text": (QWEN2_5, "text_config.num_hidden_layers", 1.5, "whole number"),
    "a list where a reader divides": (QWEN2_5, "vision_config.patch_size", [], "no empty one"),
    "nothing to divide by": (SMALL["siglip"], "vision_config.patch_size", 0, "1 or more is needed"),
    "less than nothing": (SMALL["voxtral"], "audio_config.intermediate_size", -1, "1 or more is needed"),
    "what none declares": (QWEN2_5, "text_config.rope_parameters.mrope_section", [-1, 1, 1], "split_sizes"),
    "too large": (VIT, "hidden_size", HUGE, f"no more than {MOST:,} is possible"),
    "more labels than are named": (VIT, "num_labels", MOST_LABELS + 1, f"no more than {MOST_LABELS:,} is possible"),
    "too large in a list": (STAGES["segformer"], "hidden_sizes", [8, 16, 24, HUGE], "is possible"),
    "null for a list": (STAGES["resnet_in_rows"], "depths", None, f"{NEEDED[list]} is needed"),
    "a list that is too short": (SMALL["wav2vec2"], "conv_dim", [1], "conv_stride"),
    "no part": (QWEN2_5, "vision_config", "", "an object is needed"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_value_is_named_and_quoted(name: str) -> None:
    config, path, value, why = CASES[name]
    said = refusal(changed(config, path, value))
    shown = "null" if value is None else quote(value)
    assert f"{path} is {shown}: " in said
    assert why in said


def test_a_tower_that_transformers_refuses_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text part alone would be another model."""
    monkeypatch.setattr(cache, "kept_template", lambda _config: None)
    with pytest.raises(ConfigError, match=r"vision_config\.num_attention_heads is 'x': a whole number is needed"):
        populate(changed(SMALL["llava"], "vision_config.num_attention_heads", "x"))


def test_what_is_no_odder_than_another_value_is_not_blamed() -> None:
    """Two fields are odd, and one of them is why: the other stays unnamed, whatever their order is."""
    for order in (1, -1):
        part = {**VISION, "initializer_range": -1.0, "patch_size": 0}
        vision = dict(list(part.items())[::order])
        said = refusal({**QWEN2_5, "vision_config": vision})
        assert "vision_config.patch_size is 0: " in said
        assert "initializer_range" not in said


def test_an_error_that_no_value_is_to_blame_for_stays_as_it_is() -> None:
    said = refusal({**VIT, "architectures": ["ViTForNothing"], "model_type": "vitt"})
    assert "transformers knows no model_type 'vitt', did you mean 'vit'?" in said


@pytest.mark.parametrize("name", ["qwen2_5_vl", "whisper", "wav2vec2", "clip", "gemma3", "chameleon"])
def test_what_works_has_nothing_that_no_class_declares(name: str) -> None:
    config = {**SMALL, **TOWERS}[name]
    require_bounded(config)
    assert [odd.path for odd in odd_values(config) if odd.rank == 0] == []


VALUES: tuple[object, ...] = (
    None, "", "x", [], {}, [1], -1, 0, 1.5, HUGE, True, "1/0", math.nan, math.inf, [[1, 2], [3]],
)  # fmt: skip


def fields_of(config: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield the paths of all values that say what a model is."""
    for key, value in config.items():
        if isinstance(value, Mapping) and key != "vocabulary_map":
            yield from fields_of(value, f"{before}{key}.")
        elif key not in {"model_type", "architectures"}:
            yield f"{before}{key}"


@pytest.mark.long
def test_any_value_of_any_field_is_taken_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers takes is answered, or takes longer than it may here; all else is one line on the field."""
    monkeypatch.setenv("NBANALYZER_SECONDS", "2")
    chance = Random(8)
    configs = [{**SMALL, **TOWERS, **STAGES}[name] for name in sorted({**SMALL, **TOWERS, **STAGES}.keys() - TIMM)]
    for _ in range(120):
        config, value = chance.choice(configs), chance.choice(VALUES)
        path = chance.choice([*fields_of(config)])
        try:
            generate(changed(config, path, value))
        except TimeLimitError:
            continue
        except NBAnalyzerError as error:
            said = str(error)
            assert len(said) < 400, said
            assert path.rpartition(".")[2] in said, (path, value, said)
            shown = {quote(value), "null" if value is None else quote(value).lower()}
            assert any(one in said for one in shown), (path, value, said)
