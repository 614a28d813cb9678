r"""The global variables: those that a model template's formulas may use, one row each.

A variable of kind ``runtime`` or ``convention`` is an option of an analysis; ``config`` and ``derived``
ones belong to the model and are read from its config by `nbanalyzer.templates.config.extract_model_params`.
Any other integer field of a config can be used too, under its Hugging Face name.

>>> VARIABLES["hidden_size"].sources[:2]
('hidden_size', 'n_embd')
>>> latex_symbol("num_kv_heads"), latex_symbol("rotary_dim")
('n_{kv}', '\\mathrm{rotary\\_dim}')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["ALLOWED_VARIABLES", "VARIABLES", "Kind", "Variable", "latex_symbol"]

Kind = Literal["runtime", "config", "derived", "convention"]


@dataclass(frozen=True, slots=True)
class Variable:
    """One global variable.

    Attributes:
        name: as formulas write it.
        kind: where its value comes from; ``derived`` is stated by some configs and follows from others.
        unit: of its value, e.g. ``"tokens"``; empty for a plain number.
        meaning: one line.
        latex: its symbol in math mode.
        sources: config attributes it is read from, the canonical one first; a dot leads into a nested object.
            Empty for a variable that no config has.

    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    latex: str
    sources: tuple[str, ...] = ()

    def refuses(self, value: object, least: int, most: int) -> str:
        """Return why a value is none of this variable, "" if it is one."""
        if not isinstance(value, int) or isinstance(value, bool):
            return "a whole number is needed"
        if self.unit == "0 or 1":
            return "" if value in {0, 1} else "0 or 1 is needed"
        power = f"2**{most.bit_length() - 1}"
        return "" if least <= value <= most else f"at least {least} and at most {power} is needed"


def _upright(name: str) -> str:
    """Return `name` as upright LaTeX text, its underscores escaped."""
    escaped = name.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def _field(name: str, unit: str, meaning: str, *aliases: str) -> Variable:
    """Return a config variable that keeps its Hugging Face name, with an upright symbol."""
    return Variable(name, "config", unit, meaning, _upright(name), (name, *aliases))


_RUNTIME = (
    Variable("batch_size", "runtime", "sequences", "sequences processed together", "B"),
    Variable("seq_len", "runtime", "tokens", "new tokens per sequence in this forward pass", "S"),
    Variable("cache_len", "runtime", "tokens", "tokens per sequence already in the cache", "C"),
    Variable("encoder_len", "runtime", "tokens", "tokens per sequence that the encoder reads", r"S_{\mathrm{enc}}"),
    Variable("num_images", "runtime", "images", "images in the prompts of this pass", r"n_{\mathrm{img}}"),
    Variable("image_height", "runtime", "pixels", "height of each image, as the model takes it", r"H"),
    Variable("image_width", "runtime", "pixels", "width of each image, as the model takes it", r"W"),
    Variable("tile_rows", "runtime", "tiles", "rows of tiles that each image is laid on", r"r_{\mathrm{tile}}"),
    Variable("tile_columns", "runtime", "tiles", "columns of tiles that each image is laid on", r"c_{\mathrm{tile}}"),
    Variable("kept_rows", "runtime", "patches", "rows of patches that each image covers", r"r_{\mathrm{kept}}"),
    Variable("kept_columns", "runtime", "patches", "columns of patches that each image covers", r"c_{\mathrm{kept}}"),
    Variable("shown_rows", "runtime", "patches", "rows of patches that are left of each image", r"r_{\mathrm{seen}}"),
    Variable("shown_columns", "runtime", "patches", "columns of patches that are left", r"c_{\mathrm{seen}}"),
    Variable("audio_samples", "runtime", "samples", "samples of sound per sequence", r"n_{\mathrm{smp}}"),
    Variable("w_bytes", "runtime", "bytes/element", "size of a weight", "b_{w}"),
    Variable("a_bytes", "runtime", "bytes/element", "size of an activation", "b_{a}"),
    Variable("kv_bytes", "runtime", "bytes/element", "size of what the cache keeps", "b_{kv}"),
)

_DRAFTS = (
    Variable("mtp", "runtime", "tokens", "tokens that are drafted for every step of a sequence", r"n_{\mathrm{mtp}}"),
    Variable("drafts", "runtime", "tokens", "drafts of a sequence that this pass verifies", r"n_{\mathrm{draft}}"),
)

_MESH = (
    Variable("tp", "runtime", "devices", "ranks of a tensor-parallel group", r"n_{\mathrm{tp}}"),
    Variable("ep", "runtime", "devices", "ranks that the experts are spread over", r"n_{\mathrm{ep}}"),
    Variable("pp", "runtime", "devices", "stages of a pipeline", r"n_{\mathrm{pp}}"),
    Variable("dp", "runtime", "devices", "replicas of the model", r"n_{\mathrm{dp}}"),
    Variable("fsdp", "runtime", "devices", "ranks that keep a part of every weight", r"n_{\mathrm{fsdp}}"),
    Variable("tp_rank", "runtime", "", "the place of a rank in its tensor-parallel group", r"r_{\mathrm{tp}}"),
    Variable("imbalance", "runtime", "", "tokens of the busiest rank's experts, in averages", r"\beta"),
    Variable("cp", "runtime", "devices", "ranks that share the tokens of a sequence", r"n_{\mathrm{cp}}"),
)

_SIZES = (
    Variable(
        "hidden_size", "config", "elements", "width of the residual stream", r"d_{\mathrm{model}}",
        ("hidden_size", "n_embd", "d_model", "n_embed"),
    ),
    Variable(
        "num_heads", "config", "heads", "query heads per layer", "n_{h}",
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "encoder_attention_heads"),
    ),
    Variable(
        "num_kv_heads", "derived", "heads", "key and value heads per layer; grouped: fewer than query heads", "n_{kv}",
        ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads", "attn_config.kv_n_heads"),
    ),
    Variable(
        "head_dim", "derived", "elements", "size of one query or key head", "d_{h}",
        ("head_dim", "d_kv", "kv_channels", "attention_head_dim", "d_head"),
    ),
    Variable(
        "intermediate_size", "derived", "elements", "width inside the feed-forward layer", r"d_{\mathrm{ff}}",
        (
            "intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "d_inner", "dff", "encoder_ffn_dim",
            "ffn_config.ffn_hidden_size",
        ),
    ),
    Variable(
        "vocab_size", "config", "tokens", "rows of the embedding", "V",
        ("vocab_size", "n_vocab", "padded_vocab_size"),
    ),
    Variable(
        "num_layers", "config", "layers", "layers of the model, or of its encoder if it has two halves", "L",
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
    ),
    Variable("has_bias", "config", "0 or 1", "whether this layer has a bias; the template says so", r"\mathrm{bias}"),
)  # fmt: skip

_EXPERTS = (
    Variable(
        "num_experts", "config", "experts", "routed experts per layer", "E",
        (
            "num_experts", "num_local_experts", "n_routed_experts", "num_routed_experts", "moe_num_experts",
            "ffn_config.moe_num_experts",
        ),
    ),
    Variable(
        "experts_per_token", "config", "experts", "routed experts that each token visits", "k",
        (
            "num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_top_k", "moe_topk", "moe_k",
            "top_k_experts", "num_selected_experts", "ffn_config.moe_top_k",
        ),
    ),
    Variable(
        "moe_intermediate_size", "config", "elements", "width inside an expert, if stated apart", r"d_{\mathrm{moe}}",
        ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    ),
    _field("n_shared_experts", "experts", "experts that every token visits", "num_shared_experts"),
    _field("shared_expert_intermediate_size", "elements", "width inside the shared expert"),
    _field("moe_shared_expert_intermediate_size", "elements", "width inside the shared expert"),
    _field("shared_intermediate_size", "elements", "width inside the shared feed-forward layer, 0 if none"),
    _field("intermediate_size_mlp", "elements", "width of the dense feed-forward layers between MoE layers"),
    _field("first_k_dense_replace", "layers", "leading layers with a dense feed-forward instead of experts"),
    _field("moe_layer_freq", "layers", "one layer in this many has experts"),
    _field("decoder_sparse_step", "layers", "one layer in this many has experts"),
    _field("interleave_moe_layer_step", "layers", "one layer in this many has experts"),
    _field("expert_layer_period", "layers", "one layer in this many has experts"),
    _field("expert_layer_offset", "layers", "the first layer that has experts"),
    _field("n_group", "groups", "groups of experts the router first chooses among"),
    _field("topk_group", "groups", "groups of experts a token may visit"),
    _field("num_hash_layers", "layers", "leading layers whose experts follow from the token, without a router"),
)  # fmt: skip

_ATTENTION = (
    Variable(
        "max_position_embeddings", "config", "tokens", "longest sequence the model was made for", r"S_{\mathrm{max}}",
        ("max_position_embeddings", "n_positions", "max_seq_len"),
    ),
    _field("sliding_window", "tokens", "tokens a windowed layer looks back, itself included"),
    _field("sliding_window_pattern", "layers", "one layer in this many attends to everything, others to the window"),
    _field("max_window_layers", "layers", "leading layers without a window"),
    _field("attention_window", "tokens", "tokens that attention around each token sees, both sides together"),
    _field("attention_chunk_size", "tokens", "chunk within which a chunked layer attends"),
    _field("attn_layer_period", "layers", "one layer in this many is attention"),
    _field("attn_layer_offset", "layers", "the first attention layer"),
    _field("full_attention_interval", "layers", "one layer in this many is full attention, the others are linear"),
    _field("no_rope_layer_interval", "layers", "one layer in this many has no rotary embedding"),
    _field("global_head_dim", "elements", "size of one head in the layers that attend to everything"),
    _field("num_global_key_value_heads", "heads", "key and value heads in the layers that attend to everything"),
    _field("num_kv_shared_layers", "layers", "last layers that reuse an earlier layer's keys and values"),
    _field("rotary_dim", "elements", "leading elements of a head that are rotated"),
    _field("q_lora_rank", "elements", "rank of the compressed query"),
    _field("kv_lora_rank", "elements", "rank of the compressed keys and values: the latent that is cached"),
    _field("o_lora_rank", "elements", "rank of the compressed attention output"),
    _field("o_groups", "groups", "groups of heads that the output is compressed in"),
    _field("qk_nope_head_dim", "elements", "part of a query or key head without position"),
    _field("qk_rope_head_dim", "elements", "part of a query or key head that is rotated"),
    _field("v_head_dim", "elements", "size of one value head"),
    _field("index_n_heads", "heads", "heads of the indexer that picks what attention looks at"),
    _field("index_head_dim", "elements", "size of one indexer head"),
    _field("index_topk", "tokens", "tokens that the indexer picks"),
    _field("relative_attention_num_buckets", "", "buckets of the relative position bias"),
)  # fmt: skip

_STATE_SPACE = (
    _field("state_size", "elements", "state per channel of a state-space layer"),
    _field("ssm_state_size", "elements", "state per channel of a state-space layer"),
    _field("mamba_d_state", "elements", "state per channel of a state-space layer"),
    _field("conv_kernel", "tokens", "tokens that the short convolution sees"),
    _field("mamba_d_conv", "tokens", "tokens that the short convolution sees"),
    _field("linear_conv_kernel_dim", "tokens", "tokens that the short convolution sees"),
    _field("expand", "", "inner width of a state-space layer, in hidden sizes"),
    _field("mamba_expand", "", "inner width of a state-space layer, in hidden sizes"),
    _field("time_step_rank", "elements", "rank of the state-space layer's time step"),
    _field("mamba_dt_rank", "elements", "rank of the state-space layer's time step"),
    _field("mamba_num_heads", "heads", "heads of a state-space layer"),
    _field("mamba_head_dim", "elements", "size of one state-space head"),
    _field("n_groups", "groups", "groups of state-space heads that share B and C"),
    _field("chunk_size", "tokens", "chunk that a state-space layer's prefill works in"),
    _field("linear_num_key_heads", "heads", "key heads of a linear attention layer"),
    _field("linear_num_value_heads", "heads", "value heads of a linear attention layer"),
    _field("linear_key_head_dim", "elements", "size of one key head of a linear attention layer"),
    _field("linear_value_head_dim", "elements", "size of one value head of a linear attention layer"),
)

_REST = (
    _field("tie_word_embeddings", "0 or 1", "whether the LM head's weight is the embedding"),
    _field("num_decoder_layers", "layers", "layers of the decoder in an encoder-decoder model", "decoder_layers"),
    _field("num_nextn_predict_layers", "layers", "layers that predict further tokens; not part of a forward pass"),
    _field("num_mtp_modules", "layers", "modules that predict further tokens; not part of a forward pass"),
    _field("mtp_num_hidden_layers", "layers", "layers that predict further tokens; not part of a forward pass"),
    _field("mtp_transformer_layers", "layers", "layers per module that predicts further tokens"),
    _field("word_embed_proj_dim", "elements", "width of the embedding, where it is projected to the hidden size"),
    _field("hidden_size_per_layer_input", "elements", "width of the per-layer embedding, 0 if none"),
    _field("vocab_size_per_layer_input", "tokens", "rows of the per-layer embedding"),
    _field("type_vocab_size", "tokens", "rows of the token type embedding"),
    _field("num_labels", "labels", "labels that a classifier tells apart"),
    _field("hc_mult", "", "parallel residual streams"),
)

_CONVENTIONS = (
    Variable("causal", "convention", "0 or 1", "1: attention counts its visible triangle; 0: all", r"\mathrm{causal}"),
    Variable("num_logits", "convention", "tokens", "positions per sequence that the LM head sees", r"S_{\mathrm{out}}"),
)

VARIABLES: Mapping[str, Variable] = MappingProxyType(
    {
        variable.name: variable
        for variable in (
            *_RUNTIME,
            *_DRAFTS,
            *_MESH,
            *_SIZES,
            *_EXPERTS,
            *_ATTENTION,
            *_STATE_SPACE,
            *_REST,
            *_CONVENTIONS,
        )
    }
)
"""Every global variable by name, in the order in which they are shown."""

ALLOWED_VARIABLES: frozenset[str] = frozenset(VARIABLES)


def latex_symbol(name: str) -> str:
    r"""Return the symbol of the variable `name` in math mode; an unknown name is set upright.

    >>> print(latex_symbol("hidden_size"), latex_symbol("my_field"))
    d_{\mathrm{model}} \mathrm{my\_field}
    """
    known = VARIABLES.get(name)
    return known.latex if known else _upright(name)
