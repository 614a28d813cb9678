"""Weights in fp8 beside transformers: the modules that its quantiser puts into a model on the meta device.

The quantiser is asked for itself: what transformers does before (whether there is a GPU, kernels, accelerate) would
leave a model of 16 bits. No size is a multiple of 128.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, PreTrainedConfig
from transformers.quantizers.auto import AutoHfQuantizer

from nbanalyzer import populate
from nbanalyzer.errors import ConfigError
from nbanalyzer.generate import cache
from nbanalyzer.generate.api import template_for
from nbanalyzer.templates import catalog

pytestmark = pytest.mark.pytorch

SIZES: dict[str, Any] = {
    "hidden_size": 192, "intermediate_size": 328, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 40, "vocab_size": 1000, "tie_word_embeddings": False,
}  # fmt: skip
DTYPES = {"e4m3": torch.float8_e4m3fn, "f32": torch.float32, "16 bits": torch.bfloat16}
BLOCK = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
TENSOR = {"quant_method": "fp8", "weight_block_size": None, "activation_scheme": "dynamic"}


def bytes_of(config: PreTrainedConfig, stated: dict[str, Any]) -> Counter[torch.dtype]:
    """Return dtype → bytes of transformers' model after its quantiser."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    quantiser = AutoHfQuantizer.from_config(dict(stated), pre_quantized=True)
    quantiser.preprocess_model(model=model, dtype=torch.bfloat16)
    found: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        found[parameter.dtype] += parameter.numel() * parameter.element_size()
    return found


@pytest.fixture(autouse=True)
def by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_COMPARE", "off")


@pytest.mark.parametrize("kind", [LlamaConfig, MixtralConfig])
@pytest.mark.parametrize(
    "stated",
    [
        BLOCK,
        TENSOR,
        {**BLOCK, "weight_block_size": [64, 32]},
        {**BLOCK, "modules_to_not_convert": ["lm_head", "model.layers.0.mlp", "o_proj"]},
        {**BLOCK, "modules_to_not_convert": ["model.layers.1.mlp.experts", "k_proj|v_proj"]},
        {**BLOCK, "modules_to_not_convert": [r"model\.layers\.\d+\.self_attn", "head"]},
        {**BLOCK, "modules_to_not_convert": ["mlp.gate", "lm"]},
    ],
)
def test_bytes_by_dtype(kind: type[PreTrainedConfig], stated: dict[str, Any]) -> None:
    experts = {"num_local_experts": 6, "num_experts_per_tok": 2} if kind is MixtralConfig else {}
    config = kind(**SIZES, **experts)
    theirs = bytes_of(config, stated)
    ours = populate({**config.to_dict(), "quantization_config": stated}, seq_len=1).checkpoint.parts
    if experts and stated["weight_block_size"]:  # files have gate and up apart, transformers' model side by side
        rows, columns = stated["weight_block_size"]
        width, hidden = SIZES["intermediate_size"], SIZES["hidden_size"]
        more = (2 * math.ceil(width / rows) - math.ceil(2 * width / rows)) * math.ceil(hidden / columns)
        theirs[torch.float32] += 4 * 6 * more * (1 if "model.layers.1.mlp.experts" in str(stated) else 2)
    assert {DTYPES[dtype]: size for dtype, size in ours.items()} == theirs


def test_static_scales() -> None:
    """Of what is multiplied, too: transformers has one for gate and up of an expert, files have two."""
    static = {**TENSOR, "activation_scheme": "static"}
    for kind, experts in ((LlamaConfig, 0), (MixtralConfig, 6)):
        config = kind(**SIZES, **({"num_local_experts": experts, "num_experts_per_tok": 2} if experts else {}))
        theirs = bytes_of(config, static)
        ours = populate({**config.to_dict(), "quantization_config": static}, seq_len=1).checkpoint.parts
        assert ours["f32"] - theirs[torch.float32] == 4 * experts * SIZES["num_hidden_layers"]
        assert ours["e4m3"] == theirs[torch.float8_e4m3fn]


def test_a_template_made_for_a_config_keeps_how_its_weights_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is traced in 16 bits, and shared by all that differ in nothing else."""
    monkeypatch.setattr(cache, "kept_template", lambda _: catalog.shipped("meta-llama/Llama-3.1-8B"))
    config = {"model_type": "llama", "mlp_bias": True}
    found = template_for({**config, "quantization_config": BLOCK}, "mine", ConfigError("", ""))
    assert found.config["quantization_config"] == BLOCK
    assert "quantization_config" not in template_for(config, "mine", ConfigError("", "")).config
