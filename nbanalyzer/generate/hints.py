"""What single architectures need beside the general search: one row each, with a model type that needs it.

A row is a hint, never a fact: it says what to try, and the template that comes of it is compared with PyTorch.
tests/generate/test_hints.py takes each row away and shows that its model then fails. Rows about configs stand
with the configs: `nbanalyzer.templates.config`, and ``FAMILIES`` in `nbanalyzer.formulas.variables`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

__all__ = [
    "ABSORBED",
    "CHUNKS",
    "CONVOLUTIONS",
    "EXPRESSIONS",
    "FIXED_CHUNKS",
    "HALVINGS",
    "LIMITS",
    "POOLS",
    "SIMILAR",
    "STATES",
    "WHOLE_BLOCKS",
    "Hint",
    "expressions",
]


class Hint(NamedTuple):
    """One row.

    Attributes:
        name: what it is about: a regular expression for config fields, or the end of a name; "" if about none.
        model: a model type that needs it.
        says: what follows.
        other: a regular expression for a second config field.

    """

    name: str
    model: str
    says: tuple[str, ...] = ()
    other: str = ""

    def matches(self, field: str) -> bool:
        """Return whether it is about this config field."""
        return bool(re.search(self.name, field))


LIMITS = (
    Hint("window", "mistral"),
    Hint("^attention_chunk_size$", "llama4_text"),
    Hint("^index_topk$", "deepseek_v32"),
    Hint("^expert_capacity$", "switch_transformers"),
)
"""Fields that limit how many tokens are attended to, or go to an expert: probes have values below their texts."""

POOLS = (Hint("^indexer_compress_ratio$", "qwen4_exp_text", other="^indexer_budget$"),)
"""Fields that say how many tokens are scored as one; the other says how many tokens are taken by their scores."""

CONVOLUTIONS = (Hint("conv|kernel", "mamba2"),)
"""Fields that say how many tokens a convolution sees: a step with fewer does something else."""

FIXED_CHUNKS = (Hint("^attention_chunk_size$", "llama4_text"),)
"""Fields with the size of a window that does not slide: each token sees the earlier ones of its chunk."""

HALVINGS = (Hint("^block_sizes$", "funnel"),)
"""Lists with the sizes of blocks of layers: before each but the first, the sequence is pooled to half its length."""

CHUNKS = (
    Hint("chunk_size$", "mamba2", ("seq_len", "8")),
    Hint("^block_size$", "minimax", ("seq_len", "8"), other="^linear_attn_alpha_factor$"),  # BigBird's is none
    Hint("attention_window$", "longformer", ("seq_len", "2")),  # made narrow, for the model needs data
    Hint("attention_window$", "led", ("encoder_len", "2")),
    Hint("^local_radius$", "longt5", ("encoder_len", "2", "(<field> + 1)")),
    Hint("64", "qwen3_next", ("seq_len", "64")),
)
"""Fields with the size of a chunk that attention works in, or that size itself, where the model's code states it.

They say which length is divided: of the new tokens, or of the encoder's text; the smallest size that is tried; and how
large a chunk is, if not as the field says.
"""

WHOLE_BLOCKS = (Hint("^global_block_size$", "longt5"),)
"""Fields with the size of a block of the encoder's text that all of it sees, once the block is whole."""

_KEPT = ("min({cache_len}, <field> - 1)", "min({cache_len} + {seq_len}, <field> - 1)")
_IN_BLOCKS = "{seq_len} // <field> * <field> ** 2 + ({seq_len} % <field>) ** 2"


def _stages(name: str) -> str:
    return " + ".join(f"({{{name}}} > {2**power})" for power in range(21))


_POWERS = " + ".join(f"{2**power} * ({{num_heads}} >= {2 ** (power + 1)})" for power in range(9))


def _of_step(upto: Callable[[str], str]) -> str:
    """Return what is added up over the new tokens, from what the first tokens of a text come to, as many as are named.

    The first sees one token, itself, the last all of them.
    """
    return f"{upto('({cache_len} + {seq_len})')} - {upto('{cache_len}')}"


def _pools(seen: str) -> str:
    return f"({seen} // <field> * (2 * {seen} + 2 - <field> * ({seen} // <field> + 1)) // 2)"


def _pools_taken(seen: str) -> str:
    return f"({_pools(f'min({seen}, <other> - 1)')} + <other> // <field> * max({seen} - <other> + 1, 0))"


def _left_over(seen: str) -> str:
    rest = f"({seen} % <field>)"
    return f"(({seen} // <field> * <field> * (<field> - 1) + {rest} * ({rest} + 1)) // 2)"


def _before_a_pool(seen: str) -> str:
    few = f"min({seen}, <field> - 1)"
    return f"({few} * ({few} + 1) // 2)"


EXPRESSIONS = (
    # What a sliding window or a chunk leaves of the cache; not that of a tower, which may be wider than any text here.
    Hint("^(?!(vision|audio)_).*window", "mistral", _KEPT),
    Hint("^attention_chunk_size$", "llama4_text", _KEPT),
    # What a text is padded to a multiple of: the chunks of attention.
    Hint("^attention_window$", "longformer", ("ceil({seq_len} / <field>)",)),
    Hint("^attention_window$", "led", ("ceil({encoder_len} / <field>)",)),
    Hint("^local_radius$", "longt5", ("<field> + 1", "ceil({encoder_len} / (<field> + 1))")),
    Hint("^mem_len$", "xlnet", ("min({cache_len}, <field>)", "min({cache_len} + {seq_len}, <field>)")),
    Hint("^index_topk$", "deepseek_v32", ("min({cache_len} + {seq_len}, <field>)",)),
    # What new tokens see, where several are scored as one: whole ones, those that are taken, tokens left over, those
    # that are seen before there is a whole one; and how many see one.
    Hint(
        "^indexer_compress_ratio$",
        "qwen4_exp_text",
        (
            *map(_of_step, (_pools, _pools_taken, _left_over, _before_a_pool)),
            _of_step(lambda seen: f"max({seen} - <field> + 1, 0)"),
        ),
        other="^indexer_budget$",
    ),
    # The chunks that a scan works in.
    Hint("^(?!attention_).*chunk_size$", "mamba2", ("ceil({seq_len} / <field>)",)),
    # The blocks that lightning attention works in, and the tokens that those of each see: all of them, in the last one
    # those that are left.
    Hint("^block_size$", "minimax", ("ceil({seq_len} / <field>)", _IN_BLOCKS)),
    # The size of a head, where no field states it.
    Hint("heads$", "mobilebert", ("<other> // <field>",), other="bottleneck_size$"),
    Hint("^(?!num_kv_).*heads$", "perceiver", ("<other> // <field>",), other="hidden_size$"),
    Hint("heads$", "perceiver", ("<other> // <field>",), other="latents$"),
    # How many tokens a convolution's padded input has.
    Hint("conv|kernel", "mamba2", ("max({seq_len}, <field>)",)),
    # The chunks of linear attention, whose size is a number in the model's code.
    Hint("", "qwen3_next", ("ceil({seq_len} / 64)",)),
    # What a sequence is filled up with to whole chunks: two kinds of attention may have their own, of 64 tokens each.
    Hint("^local_attn_chunk_length$", "reformer", ("64 - {seq_len} % 64",)),
    # The rows of experts with weights, where routing is uniform: those without have theirs, too.
    Hint(
        "^zero_expert_num$",
        "longcat_flash",
        ("{batch_size} * {seq_len} * {experts_per_token} * {num_experts} // ({num_experts} + <field>)",),
    ),
    # The tokens of a sequence that experts have room for.
    Hint(
        "^expert_capacity$",
        "switch_transformers",
        ("min({seq_len}, {num_experts} * <field>)", "min({encoder_len}, {num_experts} * <field>)"),
    ),
    # The largest power of 2 up to the heads, from which ALiBi's slopes are made: they may be 112, as in BLOOM.
    Hint("^num_heads$", "bloom", (f"1 + {_POWERS}",)),
    # Images of each sequence, where all have as many as the one that has most.
    Hint("^num_images$", "mllama", ("ceil({num_images} / {batch_size})",)),
    # The text of a prompt that begins with a number of queries, of one image or four frames, and it with those of one.
    Hint("^num_query_tokens$", "instructblip", ("{seq_len} - <field>",)),
    Hint("^num_query_tokens$", "instructblipvideo", ("{seq_len} - 4 * <field>", "{seq_len} - 3 * <field>")),
    # Words and image of a page, which attend to each other.
    Hint("^page_positions$", "layoutlmv3", ("{seq_len} + <field>",)),
    # The tokens of text, where experts of their own read those of images.
    Hint("^image_tokens$", "ernie4_5_vl_moe", ("{batch_size} * {seq_len} - {num_images} * <field>",)),
    # The stages of a Fourier transform, of the tokens and of what each is: their logarithms, rounded up.
    Hint("^tpu_short_seq_length$", "fnet", tuple(map(_stages, ("seq_len", "hidden_size")))),
    # How wide an adapter is.
    Hint("^adapter_reduction_factor$", "xmod", ("<other> // <field>",), other="^hidden_size$"),
    # How many heads share one, also where each has its own.
    Hint("^linear_num_key_heads$", "qwen3_next", ("<other> // <field>",), other="^linear_num_value_heads$"),
)
"""Expressions that a size may be, with ``<field>`` and ``<other>`` for the variables."""

_LLAMA = "transformers.models.llama.modeling_llama"

SIMILAR = (
    Hint("Linear", "falcon", ("torch.nn.modules.linear.Linear",)),
    Hint("LayerNorm", "squeezebert", ("torch.nn.modules.normalization.LayerNorm",)),
    Hint("Norm", "mistral", (f"{_LLAMA}.LlamaRMSNorm",)),
    Hint("RotaryEmbedding", "mistral", (f"{_LLAMA}.LlamaRotaryEmbedding",)),
    Hint("apply_rotary_pos_emb", "mistral", (f"{_LLAMA}.apply_rotary_pos_emb",)),
    Hint("_mask", "mpt", ("transformers.masking_utils.eager_mask",)),
)
"""Ends of the names of classes and functions → the module template of another one, if it says exactly their cost."""

STATES = (
    Hint("keys", "llama", ("kv_cache",)),
    Hint("values", "llama", ("kv_cache",)),
    Hint("conv_states", "mamba", ("conv_state",)),
    Hint("recurrent_states", "mamba", ("recurrent_state",)),
    Hint("indexer_keys", "deepseek_v32", ("indexer_cache",)),
)
"""Attributes of transformers' caches → what a template's state calls them."""

ABSORBED = (
    Hint(
        "kv_b_proj",
        "deepseek_v3",
        ("latent_size={kv_lora_rank}", "nope_head_dim={qk_nope_head_dim}", "rope_head_dim={qk_rope_head_dim}"),
    ),
)
"""Layers that expand a latent which can also be attended to as it is → context variables of the absorbed variant."""


def expressions(names: Iterable[str]) -> Iterator[str]:
    """Yield the expressions that these variables take part in, as formulas."""
    names = list(names)
    for hint in EXPRESSIONS:
        for name in filter(hint.matches, names) if hint.name else ("",):
            for other in (other for other in names if re.search(hint.other, other)) if hint.other else ("",):
                for text in hint.says:
                    yield text.replace("<field>", f"{{{name}}}").replace("<other>", f"{{{other}}}")
