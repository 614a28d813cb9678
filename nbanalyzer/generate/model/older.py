"""Older names: of model types that transformers has taken up under another one, and of their configs' fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbanalyzer.templates.config_files import put

__all__ = ["renamed"]


@dataclass(frozen=True)
class _Older:
    """How a config of a type was published before transformers had its model, or beside it.

    Attributes:
        type: what transformers calls the type, "" if the same.
        fields: older name → the class's own, in whose place it stands whatever that states; a dot leads into a part.
        values: field → older value → the class's own; None is the value of a field that a part does not state.
        follows: field that was not stated → positive integers, and what it is of them.
        spent: those of them that the class has not.

    """

    type: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[object, Any]] = field(default_factory=dict)
    follows: Mapping[str, tuple[tuple[str, ...], Callable[..., Any]]] = field(default_factory=dict)
    spent: tuple[str, ...] = ()


_FALCON = _Older(
    "falcon",
    {"n_head": "num_attention_heads", "n_head_kv": "num_kv_heads", "n_layer": "num_hidden_layers"},
    follows={"new_decoder_architecture": (("num_kv_heads",), lambda _heads: True)},  # where keys are grouped
)
_PHI = _Older(
    "phi",
    {
        "n_embd": "hidden_size", "n_head": "num_attention_heads", "n_head_kv": "num_key_value_heads",
        "n_layer": "num_hidden_layers", "n_inner": "intermediate_size", "n_positions": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
    },
    follows={
        "intermediate_size": (("hidden_size",), lambda width: 4 * width),
        "partial_rotary_factor": (
            ("rotary_dim", "num_attention_heads", "hidden_size"),
            lambda rotated, heads, width: rotated * heads / width,
        ),
    },
    spent=("rotary_dim",),
)  # fmt: skip

_OLDER: Mapping[str, _Older] = {
    "RefinedWeb": _FALCON,
    "RefinedWebModel": _FALCON,
    "phi-msft": _PHI,
    "mixformer-sequential": _PHI,
    "stablelm_epoch": _Older("stablelm", {"norm_eps": "layer_norm_eps", "rope_pct": "partial_rotary_factor"}),
    "Yi": _Older("llama"),
    "aquila": _Older("llama"),
    "bloom": _Older(fields={"n_embed": "hidden_size"}),
    "falcon": _Older(fields={"n_embed": "hidden_size"}),
    "lfm2": _Older(fields={"block_ff_dim": "intermediate_size"}),
    "kimi_k25": _Older(
        fields={
            "media_placeholder_token_id": "image_token_id",
            "vision_config.vt_hidden_size": "vision_config.hidden_size",
            "vision_config.vt_intermediate_size": "vision_config.intermediate_size",
            "vision_config.vt_num_attention_heads": "vision_config.num_attention_heads",
            "vision_config.vt_num_hidden_layers": "vision_config.num_hidden_layers",
            "vision_config.init_pos_emb_height": "vision_config.pos_emb_height",
            "vision_config.init_pos_emb_width": "vision_config.pos_emb_width",
            "vision_config.init_pos_emb_time": "vision_config.pos_emb_time",
        }
    ),
    "florence2": _Older(
        fields={"vision_config.dim_embed": "vision_config.embed_dim"},
        values={
            "vision_config.model_type": {None: "florence_vision", "davit": "florence_vision"},
            "text_config.model_type": {None: "bart", "florence2_language": "bart"},
        },
    ),
}
"""Model type → how a config of it may be older than its class."""


def renamed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config under the names that transformers has for what it says; any other one as it is."""
    row = _OLDER.get(str(config.get("model_type")))
    return _spelled_out(config if row is None else _up_to_date(config, row))


def _up_to_date(config: Mapping[str, Any], row: _Older) -> Mapping[str, Any]:
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    if row.type:
        found["model_type"] = row.type
    for old, new in row.fields.items():
        part, name = _holder(found, old)
        if name in part and (stated := part.pop(name)) is not None:
            put(found, new, stated)
    for place, values in row.values.items():
        part, name = _holder(found, place)
        stated = part.get(name)
        if (stated is None or isinstance(stated, str)) and stated in values:
            part[name] = values[stated]
    for name, (needs, rule) in row.follows.items():
        numbers = [found.get(one) for one in needs]
        if name not in found and all(type(one) is int and one > 0 for one in numbers):
            found[name] = rule(*numbers)
            found = {key: value for key, value in found.items() if key not in row.spent or key not in needs}
    return found


def _holder(config: dict[str, Any], place: str) -> tuple[dict[str, Any], str]:
    """Return what holds a field, and its name there; of a part that is not stated, what is set there is lost."""
    part, _, name = place.rpartition(".")
    holder = config.get(part) if part else config
    return (holder if isinstance(holder, dict) else {}), name


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
