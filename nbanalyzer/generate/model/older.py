"""Older names: of model types that transformers has taken up under another one, and of their configs' fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["renamed"]

_PHI = {
    "n_embd": "hidden_size", "n_head": "num_attention_heads", "n_head_kv": "num_key_value_heads",
    "n_layer": "num_hidden_layers", "n_inner": "intermediate_size", "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
}  # fmt: skip
_FALCON = {"n_head": "num_attention_heads", "n_head_kv": "num_kv_heads", "n_layer": "num_hidden_layers"}

_TYPES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "RefinedWeb": ("falcon", _FALCON),
    "RefinedWebModel": ("falcon", _FALCON),
    "phi-msft": ("phi", _PHI),
    "mixformer-sequential": ("phi", _PHI),
    "stablelm_epoch": ("stablelm", {"norm_eps": "layer_norm_eps", "rope_pct": "partial_rotary_factor"}),
    "Yi": ("llama", {}),
    "aquila": ("llama", {}),
}
"""Model type before transformers had the model → its name there, and the fields that are called otherwise."""


def renamed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config under the names that transformers has for what it says; any other one as it is."""
    old = config.get("model_type")
    if not isinstance(old, str) or old not in _TYPES:
        return _spelled_out(_under_new_names(config))
    model_type, names = _TYPES[old]
    found = {names.get(key, key): value for key, value in config.items() if value is not None or key not in names}
    found["model_type"] = model_type
    if model_type == "falcon":  # what the code did where keys are grouped
        found.setdefault("new_decoder_architecture", config.get("n_head_kv") is not None)
    if model_type == "phi":
        return _phi(found)
    return found


_FIELDS: Mapping[str, Mapping[str, str]] = {
    "bloom": {"n_embed": "hidden_size"},
    "falcon": {"n_embed": "hidden_size"},
    "lfm2": {"block_ff_dim": "intermediate_size"},
}
"""Model type → fields that its class takes in place of its own, whatever these state."""


def _under_new_names(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with the class's own fields in place of older ones, which would hide changes of these."""
    names = _FIELDS.get(str(config.get("model_type")), {})
    old = {key: name for key, name in names.items() if config.get(key) is not None}
    if not old:
        return config
    kept = {key: value for key, value in config.items() if key not in old}
    return kept | {name: config[key] for key, name in old.items()}


_KINDS = {"L": "sliding_attention", "G": "full_attention"}


def _spelled_out(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config that says layer by layer what a pattern such as ``"LLLG"`` repeats."""
    pattern, layers = config.get("sliding_window_pattern"), config.get("num_hidden_layers")
    if not isinstance(pattern, str) or not pattern or not _KINDS.keys() >= set(pattern):
        return config
    if config.get("layer_types") is not None or not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
        return config
    kinds = [_KINDS[pattern[layer % len(pattern)]] for layer in range(layers)]
    return {**config, "layer_types": kinds}


_MOST_LAYERS = 100_000


def _phi(config: dict[str, Any]) -> Mapping[str, Any]:
    """Return a config of Phi with what its first code derived."""
    width, heads, rotated = (config.get(key) for key in ("hidden_size", "num_attention_heads", "rotary_dim"))
    if isinstance(width, int) and isinstance(heads, int) and heads > 0:
        config.setdefault("intermediate_size", 4 * width)
        if isinstance(rotated, int):
            config["partial_rotary_factor"] = config.pop("rotary_dim") * heads / width
    return config
