"""The fields of a whole's config under names of their own, and changes in their places."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.templates.config_fields import of_whole, placed, variable_of, with_changes

WHOLE: dict[str, Any] = {
    "model_type": "seeing", "architectures": ["Seeing"], "projection_dim": 5, "tie_word_embeddings": False,
    "text_config": {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "num_key_value_heads": 2, "intermediate_size": 9, "vocab_size": 7},
    "vision_config": {"model_type": "eye", "depth": 3, "hidden_size": 6, "dtype": "float32"},
}  # fmt: skip


def test_every_field_has_a_name_of_its_own() -> None:
    found = of_whole(WHOLE)
    assert found["hidden_size"] == 8
    assert found["vision_config.hidden_size"] == 6
    assert found["whole.projection_dim"] == 5
    assert found["text_config.model_type"] == "llama"  # another kind of text model is another model
    assert found["vision_config.model_type"] == "eye"
    assert not {"vision_config.dtype", "whole.architectures", "whole.model_type"} & found.keys()
    assert of_whole({"model_type": "vit", "hidden_size": 6}) == {"hidden_size": 6}


@pytest.mark.parametrize(
    ("key", "variable", "path"),
    [
        ("vision_config.depth", "vision_depth", "vision_config.depth"),
        ("whole.projection_dim", "projection_dim", "projection_dim"),
        ("vocab_size", "vocab_size", "text_config.vocab_size"),
    ],
)
def test_a_key_is_a_variable_and_a_place(key: str, variable: str, path: str) -> None:
    assert (variable_of(key), placed(WHOLE, key)) == (variable, path)


def test_changes_are_made_where_the_config_has_them() -> None:
    changed = with_changes(WHOLE, {"vision_depth": 12, "num_layers": 4, "projection_dim": 10, "vision_hidden_size": 1})
    assert changed["vision_config"] == {**WHOLE["vision_config"], "depth": 12, "hidden_size": 1}
    assert changed["text_config"] == {**WHOLE["text_config"], "num_hidden_layers": 4}
    assert {**changed, "vision_config": 0, "text_config": 0} == {
        **WHOLE, "projection_dim": 10, "vision_config": 0, "text_config": 0
    }  # fmt: skip
    assert WHOLE["vision_config"]["depth"] == 3
    assert with_changes(WHOLE, {}) == WHOLE
    with pytest.raises(NBAnalyzerError, match="vision_width"):
        with_changes(WHOLE, {"vision_width": 3})
