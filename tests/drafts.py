"""Drafts of templates that several tests begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builders import composite, template

__all__ = ["BOUND", "CONFIG", "draft", "gpt2", "linear", "mimo", "mimo_parameters", "norm", "use"]

TOKENS = "{batch_size} * {seq_len}"
CONFIG = {"hidden_size": 12, "intermediate_size": 40, "vocab_size": 100, "num_hidden_layers": 3}


def linear(name: str, rows: str, columns: str = "", **fields: Any) -> dict[str, Any]:
    """Return a use of Linear; without `columns`, as in the users' report, output_size is bound to nothing."""
    bindings = {"num_tokens": TOKENS, "input_size": rows, "has_bias": "0"}
    bindings |= {"output_size": columns} if columns else {}
    return {"kernel_type": "composite", "name": name, "module": "Linear", "bindings": bindings, **fields}


def draft(c_attn: str = "", lm_head: str = "", **fields: Any) -> dict[str, Any]:
    """Return the users' draft: two Linears, by default both without an output_size."""
    layer = composite("h", linear("c_attn", "{hidden_size}", c_attn), repeat="{num_layers}")
    return template(layer, linear("lm_head", "{hidden_size}", lm_head), config=CONFIG, **fields)


BOUND = draft("3 * {hidden_size}", "{vocab_size}")


# ---- GPT-2, as the users' agent wrote it

GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257, "n_positions": 1024}


def gpt2() -> dict[str, Any]:
    """Return a draft of GPT-2 in which c_attn and lm_head are bound to no output_size."""
    sizes = {"num_kv_heads": "{num_heads}", "head_dim": "{head_dim}", "v_head_dim": "{head_dim}"}
    visible = "{seq_len} * {cache_len} + {seq_len} * ({seq_len} + 1) / 2"
    tokens = {"num_sequences": "{batch_size}", "num_queries": "{seq_len}", "num_keys": "{cache_len} + {seq_len}"}
    rows = {"num_tokens": TOKENS, "input_size": "{hidden_size}"}
    attention = {**tokens, "num_visible": visible, "num_heads": "{num_heads}", **sizes, "from_cache": "1"}
    kept = {"num_sequences": "{batch_size}", "num_new": "{seq_len}", "kept_len": "{cache_len} + {seq_len}", **sizes}
    wide = {"normalized_size": "{hidden_size}", "has_weight": "1", "has_bias": "1"}
    table = {"num_tokens": TOKENS, "embedding_dim": "{hidden_size}"}
    attn = composite(
        "attn",
        use("c_attn", "Conv1D", **rows, has_bias="1"),
        use("cache", "transformers.cache_utils.Cache.update", **kept),
        use("attention", "scaled_dot_product_attention", **attention),
        use("c_proj", "Conv1D", **rows, output_size="{hidden_size}", has_bias="1"),
    )
    layer = (
        use("ln_1", "LayerNorm", num_tokens=TOKENS, **wide),
        attn,
        use("ln_2", "LayerNorm", num_tokens=TOKENS, **wide),
    )
    transformer = composite(
        "transformer",
        use("wte", "Embedding", **table, num_embeddings="{vocab_size}"),
        use("wpe", "Embedding", **table, num_embeddings="{max_position_embeddings}"),
        composite("h", *layer, use("mlp", "GPT2MLP"), repeat="{num_layers}"),
        use("ln_f", "LayerNorm", num_tokens=TOKENS, **wide),
    )
    head = {"num_tokens": "{batch_size} * {num_logits}", "input_size": "{hidden_size}", "has_bias": "0"}
    return template(
        transformer, {**use("lm_head", "Linear", **head), "parameters": "0"}, model_id="own/gpt2", config=GPT2
    )


# ---- a model that transformers has no class for

MIMO = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 500, "tie_word_embeddings": False,
    "num_nextn_predict_layers": 2, "wide_intermediate_size": 320,
}  # fmt: skip
LLAMA = {
    "has_qkv_bias": "1", "has_o_bias": "0", "has_qk_norm": "0", "past_len": "{cache_len}",
    "kept_len": "{cache_len} + {seq_len}",
    "visible_scores": "{seq_len} * {cache_len} + {seq_len} * ({seq_len} + 1) / 2",
}  # fmt: skip


def use(name: str, module: str, repeat: str = "", **bindings: str) -> dict[str, Any]:
    found = {"kernel_type": "composite", "name": name, "module": module, "bindings": bindings}
    return {**found, "repeat": repeat} if repeat else found


def norm(name: str) -> dict[str, Any]:
    return use(name, "LlamaRMSNorm", num_tokens=TOKENS, normalized_size="{hidden_size}")


def gated(width: str) -> dict[str, Any]:
    return composite(
        "mlp",
        linear("gate_proj", "{hidden_size}", width),
        use("act_fn", "SiLUActivation", num_elements=f"{TOKENS} * {width}"),
        linear("up_proj", "{hidden_size}", width),
        linear("down_proj", width, "{hidden_size}"),
    )


def block(name: str, width: str, repeat: str, *more: Mapping[str, Any]) -> dict[str, Any]:
    attention = use("self_attn", "LlamaAttention", **LLAMA)
    parts = (norm("input_layernorm"), attention, norm("post_attention_layernorm"), gated(width))
    return composite(name, *more, *parts, repeat=repeat)


def mimo(mtp_input: str = "2 * {hidden_size}") -> dict[str, Any]:
    """Return a draft of a made-up model: layers of two widths, and layers that predict the tokens after the next.

    Those share embedding and head, and read a token's embedding beside the hidden state before it.
    """
    embedding = {"num_tokens": TOKENS, "num_embeddings": "{vocab_size}", "embedding_dim": "{hidden_size}"}
    joins = (norm("token_layernorm"), norm("hidden_layernorm"), linear("input_proj", mtp_input, "{hidden_size}"))
    return template(
        composite(
            "model",
            use("embed_tokens", "Embedding", **embedding),
            block("narrow_layers", "{intermediate_size}", "{num_layers} - 1"),
            block("wide_layer", "{wide_intermediate_size}", "1"),
            norm("norm"),
            block("mtp_layers", "{intermediate_size}", "{num_nextn_predict_layers}", *joins),
        ),
        linear("lm_head", "{hidden_size}", "{vocab_size}"),
        model_id="own/mimo",
        config=MIMO,
    )


def mimo_parameters() -> int:
    """Return them by hand, layer by layer."""
    hidden, heads, groups, vocab = 64, 8 * 8, 2 * 8, 500
    attention = (hidden * heads + heads) + 2 * (hidden * groups + groups) + heads * hidden
    narrow, wide = (2 * hidden + attention + 3 * hidden * width for width in (160, 320))
    predicting = narrow + 2 * hidden + 2 * hidden * hidden
    return vocab * hidden + 3 * narrow + wide + hidden + 2 * predicting + vocab * hidden
