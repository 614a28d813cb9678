"""Model families: what their code adds to a config, and what the names of config fields mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.text import words

__all__ = [
    "FAMILIES", "NOT_RUN", "STRUCTURE", "WHICH_LAYERS", "Family", "canonical_name", "says_no_size", "speaks_of_cost",
]  # fmt: skip

_CANONICAL = {alias: variable.name for variable in VARIABLES.values() for alias in (variable.name, *variable.sources)}


def canonical_name(name: str) -> str:
    """Return the variable that a config attribute is read into (``n_embd`` → ``hidden_size``), else the name."""
    return _CANONICAL.get(name, name)


@dataclass(frozen=True, slots=True)
class Family:
    """The values that a model family's code adds to its config.

    Attributes:
        ffn: intermediate_size / hidden_size where the config does not state it; 0 if it must.
        ffn_key: config field that holds this factor, `ffn` being its default.
        grouped: False if every query head has its own key and value head, whenever the config is silent.
        one_kv_head: default of the family's `multi_query` flag, which shares one key and value head among
            all query heads; None if the family has no such flag.
        even_heads: True if head_dim is an even share of hidden_size where the config does not state it.
        attention: False for a state-space family: its heads, if any, are not attention's.
        step_rank: variable that is a 16th of hidden_size, rounded up, where the config is silent or says "auto".
        tied: tie_word_embeddings where the config is silent; None if that is not known.
        sources: variables that this family reads from other attributes than the registry says.

    """

    ffn: int = 0
    ffn_key: str = ""
    grouped: bool = True
    one_kv_head: bool | None = None
    even_heads: bool = True
    attention: bool = True
    step_rank: str = ""
    tied: int | None = None
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_CHATGLM = {"num_kv_heads": ("multi_query_group_num",), "vocab_size": ("padded_vocab_size",)}
_DISTILBERT = {"hidden_size": ("dim",), "intermediate_size": ("hidden_dim",)}

_KOSMOS = {
    "hidden_size": ("embed_dim",), "num_layers": ("layers",), "num_heads": ("attention_heads",),
}  # fmt: skip

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("gpt2", "openai-gpt", "gpt-sw3", "gpt_neo", "bloom"), Family(ffn=4, grouped=False, tied=1)),
    **dict.fromkeys(("gptj", "codegen", "phi-msft"), Family(ffn=4, grouped=False, tied=0)),
    "gpt_neox_japanese": Family(ffn=4, ffn_key="intermediate_multiple_size", grouped=False, tied=1),
    "gpt_bigcode": Family(ffn=4, one_kv_head=True, tied=1),
    "falcon": Family(ffn=4, grouped=False, one_kv_head=True, tied=1),
    # Falcon's names before transformers had it.
    **dict.fromkeys(("RefinedWeb", "RefinedWebModel"), Family(ffn=4, grouped=False, one_kv_head=False, tied=1)),
    "mpt": Family(ffn=4, ffn_key="expansion_ratio", grouped=False, tied=1),
    **dict.fromkeys(("gpt_neox", "phi", "phi3", "llama"), Family(grouped=False, tied=0)),
    **dict.fromkeys(("olmo", "olmo2", "olmo3", "olmoe"), Family(grouped=False, tied=0)),
    **dict.fromkeys(("mistral", "mixtral", "deepseek_v2", "deepseek_v3", "kimi_k2"), Family(tied=0)),
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3_moe"), Family(tied=0)),
    **dict.fromkeys(("qwen3", "qwen3_next", "qwen3_5", "qwen3_5_moe", "llama4"), Family(even_heads=False, tied=0)),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma4"), Family(even_heads=False, tied=1)),
    "smollm3": Family(tied=1),
    **dict.fromkeys(("opt", "bert", "roberta", "bart", "t5"), Family(grouped=False, tied=1)),
    **dict.fromkeys(("xlm-roberta", "deberta-v2"), Family(grouped=False, tied=1)),
    **dict.fromkeys(("vit", "dinov2", "wav2vec2", "clip_text_model", "siglip_text_model"), Family(grouped=False)),
    "whisper": Family(grouped=False, tied=1),
    "distilbert": Family(grouped=False, tied=1, sources=_DISTILBERT),
    **dict.fromkeys(
        ("kosmos-2", "kosmos_2_text_model", "kosmos-2.5", "kosmos_2_5_text_model"),
        Family(grouped=False, tied=1, sources=_KOSMOS),
    ),
    "chatglm": Family(grouped=False, tied=0, sources=_CHATGLM),
    "longcat_flash": Family(grouped=False, tied=0, sources={"num_layers": ("num_layers",)}),  # each holds two halves
    **dict.fromkeys(  # not their decoders'
        ("mask2former", "oneformer"), Family(grouped=False, sources={"num_layers": ("encoder_layers",)})
    ),
    "ernie4_5_vl_moe": Family(sources={"moe_intermediate_size": ()}),  # a list: of text's experts, and of images'
    **dict.fromkeys(  # halves that state their own: what is kept is the decoder's
        ("t5gemma", "t5gemma2"), Family(even_heads=False, sources={"sliding_window": ("decoder.sliding_window",)})
    ),
    "zamba2": Family(grouped=False, tied=1, sources={"head_dim": ("attention_head_dim",)}),
    "jamba": Family(step_rank="mamba_dt_rank", tied=0),
    **dict.fromkeys(
        ("mamba", "falcon_mamba"),
        Family(ffn=2, ffn_key="expand", attention=False, step_rank="time_step_rank", tied=1),
    ),
    "mamba2": Family(ffn=2, ffn_key="expand", attention=False, tied=0),
    "rwkv": Family(ffn=4, attention=False, tied=0),
}
"""Families by model_type. Other defaults (Mistral's 8 kv heads) come from transformers."""


# What the names of other config fields mean.
NOT_SIZES = words(  # integers about generation, training or labels, scales of values, and repetitions of other fields
    "max_length min_length num_beams num_beam_groups num_return_sequences top_k no_repeat_ngram_size n_special seed",
    "encoder_no_repeat_ngram_size num_logits_to_keep pretraining_tp ep_size verbose chunk_size_feed_forward",
    "rope_theta compress_rope_theta rope_local_base_freq original_max_position_embeddings initial_context_length",
    "default_output_length initializer_factor n_ctx qk_head_dim",
)

WHICH_LAYERS = words(  # a number is a period in layers; a list or a pattern states it layer by layer
    "moe_layer_freq sliding_window_pattern decoder_sparse_step interleave_moe_layer_step expert_layer_period",
    "attn_layer_period full_attention_interval no_rope_layer_interval",
)

NOT_RUN = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
"""Layers that predict further tokens: in the checkpoint, but not run in a pass."""
NOT_SIZES_ENDS = ("_token_id", "_token_index", "_token_ids", "_id")

STRUCTURE = words(  # the kinds of the layers: read elsewhere
    "layer_types layers_block_type mlp_only_layers mlp_layer_types no_rope_layers moe_layers compress_ratios",
    "compress_rates attention_layers attention_types attn_config ffn_config per_layer_config indexer_types",
    "mtp_layers_block_type layer_rope_theta _sliding_window_pattern",
)

COST_WORDS = words(  # a field with one of these in its name that is in no table here is reported as unknown
    "expert experts moe topk window rank lora ssm state states conv mamba head heads layer layers dim latent",
    "index indexer compress mtp nextn",
)


def speaks_of_cost(name: str) -> bool:
    """Return whether a config field may change what the model costs, by its name (experts, windows, …)."""
    return not COST_WORDS.isdisjoint(name.lower().split("_"))


def says_no_size(name: str) -> bool:
    """Return whether a config field's number is no size, by its name."""
    return name in NOT_SIZES or name.endswith(NOT_SIZES_ENDS)
