"""Weights of models that read images, whose files leave the towers as they are: by the lists of published configs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbanalyzer import populate
from nbanalyzer.templates import catalog
from nbanalyzer.templates.quantisation import stated_in

Fields = dict[str, Any]


def listed(start: str, layers: int, *names: str) -> list[str]:
    return [f"{start}.{layer}.{name}" for layer in range(layers) for name in names]


def linears(hidden: int, width: int, layers: int, queries: int, keys: int) -> int:
    """Return the weights of a text model's linears, but for the head."""
    return layers * (2 * hidden * queries + 2 * hidden * keys + 3 * hidden * width)


def fp8(*ignored: str) -> Fields:
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": {"num_bits": 8, "dynamic": True}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": list(ignored)}


def block(*left: str) -> Fields:
    return {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": list(left)}


QWEN2, QWEN25, QWEN3 = "Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"
LLAVA, PALIGEMMA = "llava-hf/llava-1.5-7b-hf", "google/paligemma-3b-pt-224"
TEXT = {
    QWEN2: linears(1536, 8960, 28, 1536, 256),
    QWEN25: linears(3584, 18944, 28, 3584, 512),
    QWEN3: linears(2048, 6144, 28, 2048, 1024),
    LLAVA: linears(4096, 11008, 32, 4096, 4096),
    PALIGEMMA: linears(2048, 16384, 18, 2048, 256),
}
SIGLIP = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
GATED = ("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
PLAIN = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
TOWERS = {
    QWEN2: fp8(*listed("visual.blocks", 32, *PLAIN), "visual.merger.mlp.0", "visual.merger.mlp.2", "lm_head"),
    QWEN25: fp8(*listed("visual.blocks", 32, *GATED), "visual.merger.mlp.0", "visual.merger.mlp.2", "lm_head"),
    QWEN3: block(
        "lm_head", *listed("model.visual.blocks", 24, "attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"),
        "model.visual.merger.linear_fc1", "model.visual.merger.linear_fc2",
        *listed("model.visual.deepstack_merger_list", 3, "linear_fc1", "linear_fc2"),
    ),
    LLAVA: fp8(
        *listed("vision_tower.vision_model.encoder.layers", 24, *SIGLIP), "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2", "language_model.lm_head",
    ),
    PALIGEMMA: fp8(
        *listed("vision_tower.vision_model.encoder.layers", 27, *SIGLIP), "multi_modal_projector.linear",
        "language_model.lm_head",
    ),
}  # fmt: skip


def stated(name: str, fields: Fields) -> dict[str, Any]:
    """Return dtype → bytes of a shipped model whose config says how its weights are stored."""
    template = catalog.completed(catalog.shipped(name))
    config = {**template.config, "quantization_config": fields}
    return dict(populate(msgspec.structs.replace(template, config=config), seq_len=1).checkpoint.parts)


@pytest.mark.parametrize("name", TOWERS)
def test_lists_of_every_linear_of_a_tower(name: str) -> None:
    """What is left is in 8 bits, one byte each: the text model's linears."""
    assert stated(name, TOWERS[name])["e4m3"] == TEXT[name]


def test_a_list_without_one_block_of_the_tower() -> None:
    names = [name for name in TOWERS[QWEN2]["ignore"] if not name.startswith("visual.blocks.5.")]
    narrow = 1280 * (3 * 1280 + 1280 + 2 * 5120)
    assert stated(QWEN2, fp8(*names))["e4m3"] == TEXT[QWEN2] + narrow


@pytest.mark.parametrize("name", [QWEN25, QWEN3, LLAVA])
def test_gptq_is_of_the_text_models_layers(name: str) -> None:
    """Its tools go through these alone, and its configs list no tower."""
    fields = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
    assert stated(name, fields)["f16"] == 2 * TEXT[name] // 128  # a scale for each group


def test_what_a_text_part_says_is_of_its_own_weights() -> None:
    template = catalog.completed(catalog.shipped(QWEN25))
    text = {**template.config["text_config"], "quantization_config": fp8("lm_head")}
    inside = msgspec.structs.replace(template, config={**template.config, "text_config": text})
    kept = msgspec.structs.replace(
        template, config={**template.config, **stated_in(inside.config)}
    )  # as a template has it
    for one in (inside, kept):
        assert populate(one, seq_len=1).checkpoint.parts["e4m3"] == TEXT[QWEN25]
    tower = 32 * (4 * 1280 * 1280 + 3 * 1280 * 3420) + 5120 * 5120 + 5120 * 3584
    assert stated(QWEN25, fp8("lm_head"))["e4m3"] == TEXT[QWEN25] + tower
