"""Layers that predict further tokens: whose files have them, and how many."""

from __future__ import annotations

import pytest

from nbanalyzer.templates.mtp import layers_in, layout_of, says_layers


@pytest.mark.parametrize(
    ("model_type", "params", "layers"),
    [
        ("deepseek_v3", {"num_nextn_predict_layers": 2}, 2),
        ("deepseek_v3", {}, 0),
        ("deepseek_v32", {"num_nextn_predict_layers": 1}, 1),
        ("glm4_moe", {}, 1),
        ("glm4_moe", {"num_nextn_predict_layers": 0}, 0),
        ("qwen3_next", {}, 1),
        ("qwen3_5", {}, 0),
        ("qwen3_5_moe_text", {"mtp_num_hidden_layers": 3}, 3),
        ("llama", {"num_nextn_predict_layers": 2}, 0),
        (None, {"num_mtp_modules": 2}, 0),
    ],
)
def test_how_many_there_are(model_type: str | None, params: dict[str, int], layers: int) -> None:
    assert layers_in(params, model_type) == layers


def test_what_there_is_beside_a_decoder_layer() -> None:
    """DeepSeek's and GLM's files repeat embedding and head, Qwen's do not."""
    for model_type in ("deepseek_v3", "deepseek_v32", "glm4_moe"):
        found = layout_of(model_type)
        assert found is not None
        assert (found.joint, found.norms, found.has_copies) == ("eh_proj", ("enorm", "hnorm"), True)
    for model_type in ("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"):
        found = layout_of(model_type)
        assert found is not None
        assert (found.joint, found.has_copies) == ("fc", False)
        assert found.norms == ("pre_fc_norm_embedding", "pre_fc_norm_hidden")
    assert layout_of("llama") is layout_of(None) is None


def test_what_a_config_says() -> None:
    assert says_layers({"num_mtp_modules": 3, "hidden_size": 8}) == "num_mtp_modules=3"
    assert says_layers({"num_nextn_predict_layers": 0}) == says_layers({}) == ""
