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
    "kimi_k25": {"media_placeholder_token_id": "image_token_id"},
}
"""Model type → fields that its class takes in place of its own, whatever these state."""

_PARTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "kimi_k25": ("vision_config", {
        "vt_hidden_size": "hidden_size", "vt_intermediate_size": "intermediate_size",
        "vt_num_attention_heads": "num_attention_heads", "vt_num_hidden_layers": "num_hidden_layers",
        "init_pos_emb_height": "pos_emb_height", "init_pos_emb_width": "pos_emb_width",
        "init_pos_emb_time": "pos_emb_time",
    }),
    "florence2": ("vision_config", {"dim_embed": "embed_dim"}),
}  # fmt: skip
"""Model type → a part of its config, and the fields of that as its first code called them."""


def _under_new_names(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with the class's own fields in place of older ones, which would hide changes of these."""
    model_type = str(config.get("model_type"))
    if model_type == "florence2":
        config = _florence(config)
    part, names = _PARTS.get(model_type, ("", {}))
    if isinstance(stated := config.get(part), Mapping):
        config = {**config, part: _with_names(stated, names)}
    return _with_names(config, _FIELDS.get(model_type, {}))


def _with_names(config: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """Return fields under other names, those of them that say something."""
    old = {key: name for key, name in names.items() if config.get(key) is not None}
    if not old:
        return config
    kept = {key: value for key, value in config.items() if key not in old}
    return kept | {name: config[key] for key, name in old.items()}


def _florence(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config of Florence-2 as Microsoft published it, with the parts' types that transformers has."""
    types = {"vision_config": ("davit", "florence_vision"), "text_config": ("florence2_language", "bart")}
    for part, (old, new) in types.items():
        stated = config.get(part)
        if isinstance(stated, Mapping) and stated.get("model_type", old) == old:
            config = {**config, part: {**stated, "model_type": new}}
    return config


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
