"""Weights in fp8 and in compressed-tensors' formats beside transformers: the modules that its quantiser puts into a
model on the meta device.

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
from groups import fake_group
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, PreTrainedConfig, Qwen3MoeConfig
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


@pytest.mark.parametrize(
    "stated",
    [BLOCK, {**BLOCK, "weight_block_size": [64, 32]}, {**BLOCK, "modules_to_not_convert": ["lm_head", "o_proj"]}],
)
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_what_a_rank_keeps_of_stored_tensors(stated: dict[str, Any], ranks: int) -> None:
    """As `fully_shard` cuts the parameters of transformers' model after its quantiser: 8 ranks have 2 rows of scales."""
    config = LlamaConfig(**SIZES)
    with fake_group(ranks), torch.device("meta"):
        mesh = init_device_mesh("cpu", (ranks,))
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        AutoHfQuantizer.from_config(dict(stated), pre_quantized=True).preprocess_model(
            model=model, dtype=torch.bfloat16
        )
        for layer in (*model.model.layers, model):
            fully_shard(layer, mesh=mesh)
        held = [parameter.to_local() for parameter in model.parameters()]
        kept = sum(part.numel() * part.element_size() for part in held)
        layers = [parameter.to_local() for parameter in model.model.layers.parameters()]
        gathered = sum(part.numel() * part.element_size() for part in layers) * ranks
    found = populate({**config.to_dict(), "quantization_config": stated}, seq_len=1, fsdp=ranks)
    assert found.weight_bytes == kept
    sent = {node.path: found.cost(node).count * found.value_of(node.payload) for node in found.nodes if node.is_link}
    (of_layers,) = [size for path, size in sent.items() if "layers" in path]
    assert of_layers == gathered
    assert sum(sent.values()) == found.totals["payload_bytes"] == ranks * kept


def test_static_scales() -> None:
    """Of what is multiplied, too: transformers has one for gate and up of an expert, files have two."""
    static = {**TENSOR, "activation_scheme": "static"}
    for kind, experts in ((LlamaConfig, 0), (MixtralConfig, 6)):
        config = kind(**SIZES, **({"num_local_experts": experts, "num_experts_per_tok": 2} if experts else {}))
        theirs = bytes_of(config, static)
        ours = populate({**config.to_dict(), "quantization_config": static}, seq_len=1).checkpoint.parts
        assert ours["f32"] - theirs[torch.float32] == 4 * experts * SIZES["num_hidden_layers"]
        assert ours["e4m3"] == theirs[torch.float8_e4m3fn]


# ---- compressed-tensors

PRESETS = {  # scheme of the package → its format, intermediate_size and head_dim, which its group divides
    "FP8_DYNAMIC": ("float-quantized", 328, 40), "FP8": ("float-quantized", 328, 40),
    "FP8_BLOCK": ("float-quantized", 328, 40), "W8A8": ("int-quantized", 328, 40),
    "W4A16": ("pack-quantized", 352, 48), "NVFP4": ("nvfp4-pack-quantized", 336, 40),
    "NVFP4A16": ("nvfp4-pack-quantized", 336, 40), "MXFP4": ("mxfp4-pack-quantized", 352, 48),
}  # fmt: skip
EXPERTS = 6


class Expert(nn.Module):
    """An expert as files have it; transformers' model has all of a layer in two parameters of three dimensions."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, width, bias=False, dtype=torch.bfloat16)
        self.up_proj = nn.Linear(hidden, width, bias=False, dtype=torch.bfloat16)
        self.down_proj = nn.Linear(width, hidden, bias=False, dtype=torch.bfloat16)


def preset(name: str, ignored: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return sizes, and the ``quantization_config`` that the package writes for one of its schemes."""
    package = "compressed_tensors.quantization.quant_scheme"
    why = "compressed-tensors and accelerate, whose modules are compared with, are not installed"
    pytest.importorskip("accelerate", reason=why)
    scheme = pytest.importorskip(package, reason=why).preset_name_to_scheme(name, ["Linear"]).model_dump(mode="json")
    form, width, head = PRESETS[name]
    if name == "W4A16":
        scheme["weights"]["group_size"] = 32  # in place of 128
    stated = {"quant_method": "compressed-tensors", "quantization_status": "compressed", "format": form,
              "ignore": ignored, "config_groups": {"group_0": {**scheme, "format": form}}}  # fmt: skip
    return {**SIZES, "intermediate_size": width, "head_dim": head}, stated


def compressed(config: PreTrainedConfig, stated: dict[str, Any], *, apart: bool) -> Counter[torch.dtype]:
    """Return dtype → bytes of transformers' model after its quantiser, each expert a module of its own if `apart`."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        if apart:
            sizes = config.hidden_size, config.intermediate_size
            for layer in model.model.layers:
                layer.mlp.experts = nn.ModuleList(Expert(*sizes) for _ in range(EXPERTS))
    quantiser: Any = AutoHfQuantizer.from_config(dict(stated), pre_quantized=True)
    quantiser.use_fp8_kernel = False  # of the form for a GPU; transformers sets it when it looks for one
    quantiser.preprocess_model(model=model, dtype=torch.bfloat16)
    found: Counter[torch.dtype] = Counter()
    for tensor in model.state_dict().values():
        found[tensor.dtype] += tensor.nbytes
    return found


def counted(config: PreTrainedConfig, stated: dict[str, Any]) -> Counter[torch.dtype]:
    """Return dtype → bytes that are counted; the shape of packed weights is two numbers of 64 bits."""
    raw = torch.int64 if stated["format"] == "pack-quantized" else torch.uint8
    dtypes = {**DTYPES, "i8": torch.int8, "i32": torch.int32, "u8": raw, "e8m0": torch.uint8}
    found: Counter[torch.dtype] = Counter()
    parts = populate({**config.to_dict(), "quantization_config": stated}, seq_len=1).checkpoint.parts
    for dtype, size in parts.items():
        found[dtypes[dtype]] += int(size)
    return found


def of_kind(kind: type[PreTrainedConfig], sizes: dict[str, Any]) -> PreTrainedConfig:
    experts: dict[str, Any] = {}
    if kind is MixtralConfig:
        experts = {"num_local_experts": EXPERTS, "num_experts_per_tok": 2}
    elif kind is Qwen3MoeConfig:
        width = sizes["intermediate_size"]
        experts = {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": width}
    return kind(**sizes, **experts)


@pytest.mark.parametrize("kind", [LlamaConfig, MixtralConfig, Qwen3MoeConfig])
@pytest.mark.parametrize("name", PRESETS)
def test_formats_of_compressed_tensors(kind: type[PreTrainedConfig], name: str) -> None:
    sizes, stated = preset(name, ["lm_head", "re:.*mlp.gate$"])
    config = of_kind(kind, sizes)
    theirs = compressed(config, stated, apart=kind is not LlamaConfig)
    assert len(theirs) > 1
    assert counted(config, stated) == theirs


@pytest.mark.parametrize("kind", [LlamaConfig, MixtralConfig])
@pytest.mark.parametrize(
    "ignored",
    [
        [],  # the head, too
        ["Linear"],
        ["lm_head", "model.layers.0.mlp.down_proj", "model.layers.0.self_attn.o_proj"],
        ["lm_head", r"re:.*layers\.1\..*"],
        ["lm_head", "re:.*self_attn"],
    ],
)
def test_what_compressed_tensors_ignores(kind: type[PreTrainedConfig], ignored: list[str]) -> None:
    sizes, stated = preset("FP8_DYNAMIC", ignored)
    config = of_kind(kind, sizes)
    assert counted(config, stated) == compressed(config, stated, apart=kind is not LlamaConfig)


@pytest.mark.parametrize("name", PRESETS)
def test_compressed_tensors_leaves_experts_of_transformers_as_they_are(name: str) -> None:
    """They are no linear modules there: its model is equal, as it stands, where a config ignores them."""
    sizes, stated = preset(name, ["lm_head", "re:.*mlp.gate$", "re:.*experts.*"])
    config = of_kind(MixtralConfig, sizes)
    theirs = compressed(config, stated, apart=False)
    assert counted(config, stated) == theirs
    assert compressed(config, {**stated, "ignore": ["lm_head", "re:.*mlp.gate$"]}, apart=False) == theirs


# ---- templates made for a config


def test_a_template_made_for_a_config_keeps_how_its_weights_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is traced in 16 bits, and shared by all that differ in nothing else."""
    monkeypatch.setattr(cache, "kept_template", lambda _: catalog.shipped("meta-llama/Llama-3.1-8B"))
    config = {"model_type": "llama", "mlp_bias": True}
    found = template_for({**config, "quantization_config": BLOCK}, "mine", ConfigError("", ""))
    assert found.config["quantization_config"] == BLOCK
    assert "quantization_config" not in template_for(config, "mine", ConfigError("", "")).config
