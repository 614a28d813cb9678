"""What sees the image in a model that finds things in it: stated by the name that it has in timm, or as a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from nbanalyzer.generate import hf

__all__ = ["with_backbone"]

_RESNETS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
"""What timm calls a ResNet → how its layers are made, and how many each stage has: as transformers' own."""

_WIDTHS = {"basic": [64, 128, 256, 512], "bottleneck": [256, 512, 1024, 2048]}


def with_backbone(config: Mapping[str, Any], config_class: Any) -> Mapping[str, Any]:
    """Return a config that states its backbone as a config, for which nothing is looked up at the Hub.

    Where timm is not installed, its ResNets are transformers' own, which have as many parameters.

    Args:
        config: with ``model_type``.
        config_class: transformers' class for it.

    """
    if "backbone_config" not in getattr(config_class, "__dataclass_fields__", {}):
        return config
    name = config.get("backbone")
    if isinstance(name, str) and "/" not in name and config.get("backbone_config") is None:
        stated = config.get("backbone_kwargs")
        if config.get("use_timm_backbone", True) and isinstance(stated, Mapping) and stated:
            kept = {key: value for key, value in config.items() if key not in {"backbone", "backbone_kwargs"}}
            config = {**kept, "backbone_config": {"model_type": "timm_backbone", "backbone": name, **stated}}
    if find_spec("timm") is not None:
        return config
    own = _own(_backbone_of(config, config_class))
    dropped = {"backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone"}
    kept = {key: value for key, value in config.items() if key not in dropped}
    return {**kept, "backbone_config": own} if own else config


def _backbone_of(config: Mapping[str, Any], config_class: Any) -> Any:
    """Return the config of a backbone as its whole's class makes it; None if the class refuses the whole."""
    fields = copy.deepcopy({key: value for key, value in config.items() if key != "model_type"})
    try:
        with hf.quiet():
            return getattr(config_class(**fields), "backbone_config", None)
    except Exception:  # noqa: BLE001 - building the model will say why
        return None


def _own(backbone: Any) -> dict[str, Any] | None:
    """Return transformers' own config of one of timm's ResNets, None of any other backbone, or one that is dilated."""
    name = str(getattr(backbone, "backbone", "")).partition(".")[0]  # behind a dot: which weights
    if getattr(backbone, "model_type", "") != "timm_backbone" or name not in _RESNETS:
        return None
    if getattr(backbone, "output_stride", None) not in {None, 32}:
        return None
    layer, depths = _RESNETS[name]
    return {
        "model_type": "resnet",
        "layer_type": layer,
        "depths": list(depths),
        "hidden_sizes": _WIDTHS[layer],
        "embedding_size": 64,
        "num_channels": backbone.num_channels,
        "out_indices": list(backbone.out_indices),
    }
