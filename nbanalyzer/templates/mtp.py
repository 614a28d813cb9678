"""Layers that predict further tokens (multi-token prediction, MTP): what checkpoints have of them, by model type.

transformers leaves them out of its models. Each joins the embedding of a token with the hidden state of the one before
it, both normalised, in one linear, runs one more decoder layer, and ends with a norm and the model's head
(DeepSeek-V3, arXiv 2412.19437, section 2.2). The table holds the model types whose published files were found to have
exactly these tensors, see ``docs/mtp.md``; of others nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .families import NOT_RUN

__all__ = ["MtpLayout", "layers_in", "layout_of", "says_layers"]


@dataclass(frozen=True)
class MtpLayout:
    """The tensors of a layer that predicts further tokens, beside those of a decoder layer like the last one.

    Attributes:
        joint: the linear of twice the hidden size that joins embedding and hidden state.
        norms: those of the embedding and of the hidden state before it.
        has_copies: whether the files hold the embedding and the head once more for each layer, the model's own.
        unsaid: how many layers there are where the config does not say it.

    """

    joint: str
    norms: tuple[str, str]
    has_copies: bool
    unsaid: int = 0


_NEXTN = MtpLayout("eh_proj", ("enorm", "hnorm"), has_copies=True)
_QWEN = MtpLayout("fc", ("pre_fc_norm_embedding", "pre_fc_norm_hidden"), has_copies=False)
_LAYOUTS: Mapping[str, MtpLayout] = {
    **dict.fromkeys(("deepseek_v3", "deepseek_v32"), _NEXTN),
    "glm4_moe": MtpLayout(_NEXTN.joint, _NEXTN.norms, has_copies=True, unsaid=1),  # transformers' default
    "glm_moe_dsa": MtpLayout(_NEXTN.joint, _NEXTN.norms, has_copies=False),
    "qwen3_next": MtpLayout(_QWEN.joint, _QWEN.norms, has_copies=False, unsaid=1),  # its config has no such field
    **dict.fromkeys(("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"), _QWEN),
}


def layout_of(model_type: object) -> MtpLayout | None:
    """Return what the files of models of a type have for each such layer; None if nobody looked."""
    return _LAYOUTS.get(model_type) if isinstance(model_type, str) else None


def says_layers(params: Mapping[str, int]) -> str:
    """Return the field, with its number, by which a config says that there are such layers; "" if it does not."""
    return next((f"{name}={params[name]}" for name in NOT_RUN if params.get(name)), "")


def layers_in(params: Mapping[str, int], model_type: object) -> int:
    """Return how many such layers the files of a model have, as far as it is known."""
    layout = layout_of(model_type)
    if layout is None:
        return 0
    return next((int(params[name]) for name in NOT_RUN if name in params), layout.unsaid)
