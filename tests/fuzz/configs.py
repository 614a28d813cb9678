"""Configs: shipped ones with something changed; read, and used with templates. None is generated from."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from nbanalyzer import extract_model_params, populate
from nbanalyzer.errors import NBAnalyzerError

from .campaign import Campaign, Watch
from .damage import HOSTILE, damaged, smaller
from .templates import shipped

__all__ = ["CONFIGS", "prepare"]

FIELDS = ("quantization_config", "dtype", "auto_map", "trust_remote_code", "to_dict", "model_type", "text_config", "architectures", "n_head", "hidden_size", "num_layers", "sliding_window", "layer_types", "num_key_value_heads")  # fmt: skip


def prepare() -> None:
    """Import what transformers has for these configs, once: no case's time."""
    for kind in sorted({str(data["config"].get("model_type")) for data, _ in shipped("models") if "config" in data}):
        with suppress(NBAnalyzerError):
            extract_model_params({"model_type": kind})


def made(rng: random.Random) -> Any:
    """Return a shipped template's place, and a config that is nearly its own."""
    templates = [data for data, size in shipped("models") if size < 60_000 and "kernels" in data]
    place = rng.randrange(len(templates))
    config = templates[place]["config"]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        config = damaged(rng, config)
        if isinstance(config, dict) and rng.random() < 0.3:
            config = {**config, rng.choice(FIELDS): rng.choice(HOSTILE)}
    return [place, {"text_config": config, "model_type": "llava"} if rng.random() < 0.05 else config]


def check(case: Any, watch: Watch, rng: random.Random) -> None:
    """Do with a config what the package does with one."""
    if not (isinstance(case, list) and len(case) == 2):
        return
    place, config = case
    template = [data for data, size in shipped("models") if size < 60_000 and "kernels" in data][place]
    watch.call("extract", extract_model_params, config)
    watch.call("populate with it", populate, template, config=config)
    name = rng.choice((*FIELDS, "n_layer", "vocab_size", "nope", ""))
    watch.call("populate set", populate, template, set={name: rng.choice(HOSTILE)})
    watch.call("populate in the template", populate, {**template, "config": config})


CONFIGS = Campaign("configs", made, check, smaller)
