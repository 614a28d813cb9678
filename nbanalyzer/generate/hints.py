"""What single architectures need beside the general search: one row each, with a model type that needs it.

A row is a hint, never a fact: it says what to try, and the template that comes of it is compared with PyTorch.
tests/generate/test_hints.py takes each row away and shows that its model then fails. Rows about configs stand
with the configs: `nbanalyzer.templates.config`, and ``FAMILIES`` in `nbanalyzer.formulas.variables`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = [
    "ABSORBED",
    "CHUNKS",
    "CONVOLUTIONS",
    "EXPRESSIONS",
    "LIMITS",
    "SIMILAR",
    "STATES",
    "Absorbed",
    "Chunk",
    "Expression",
    "Field",
    "Similar",
    "State",
    "any_matches",
    "expressions",
]


# ---- fields that say what a step runs


class Field(NamedTuple):
    """Config fields of one meaning.

    Attributes:
        field: a regular expression for their names.
        model: a model type that needs the row.

    """

    field: str
    model: str


LIMITS = (
    Field("window", "mistral"),
    Field("^attention_chunk_size$", "llama4_text"),
    Field("^index_topk$", "deepseek_v32"),
    Field("^mem_len$", "xlnet"),
)
"""Fields that limit how many tokens are attended to: probes have values that are shorter than their texts."""

CONVOLUTIONS = (Field("conv|kernel", "mamba"),)
"""Fields that say how many tokens a convolution sees: a step with fewer does something else."""


def any_matches(rows: Iterable[Field], name: str) -> bool:
    """Return whether a field is one of these."""
    return any(re.search(row.field, name) for row in rows)


class Chunk(NamedTuple):
    """What attention may divide a sequence into.

    Attributes:
        field: a regular expression for the field with the size of a chunk; or that size, where the code states it.
        length: which length is divided: of the new tokens, or of the encoder's text.
        least: smaller values are no chunks.
        model: a model type that needs the row.

    """

    field: str
    length: str
    least: int
    model: str


CHUNKS = (
    Chunk("chunk_size$", "seq_len", 8, "mamba2"),
    # What a text is padded to is made narrow where there is data.
    Chunk("attention_window$", "seq_len", 2, "longformer"),
    Chunk("attention_window$", "encoder_len", 2, "led"),
    Chunk("64", "seq_len", 64, "qwen3_next"),
)


# ---- sizes that are no product or sum of variables


class Expression(NamedTuple):
    """Expressions that a size may be.

    Attributes:
        field: a regular expression for a variable; "" if the expressions need none.
        texts: formulas, with ``<field>`` for its name, and ``<other>`` for that of each other variable.
        model: a model type that needs them.
        other: a regular expression for other variables.

    """

    field: str
    texts: tuple[str, ...]
    model: str
    other: str = ""


_POWERS = " + ".join(f"{2**power} * ({{num_heads}} >= {2 ** (power + 1)})" for power in range(9))

EXPRESSIONS: tuple[Expression, ...] = (
    # What a sliding window or a chunk leaves of the cache.
    Expression("window", ("min({cache_len}, <field> - 1)", "min({cache_len} + {seq_len}, <field> - 1)"), "mistral"),
    Expression(
        "^attention_chunk_size$",
        ("min({cache_len}, <field> - 1)", "min({cache_len} + {seq_len}, <field> - 1)"),
        "llama4_text",
    ),
    # What a text is padded to a multiple of: the chunks of attention.
    Expression("^attention_window$", ("ceil({seq_len} / <field>)",), "longformer"),
    Expression("^attention_window$", ("ceil({encoder_len} / <field>)",), "led"),
    Expression("^mem_len$", ("min({cache_len}, <field>)", "min({cache_len} + {seq_len}, <field>)"), "xlnet"),
    Expression("^index_topk$", ("min({cache_len} + {seq_len}, <field>)",), "deepseek_v32"),
    # The chunks that a scan works in.
    Expression("^(?!attention_).*chunk_size$", ("ceil({seq_len} / <field>)",), "mamba2"),
    # The size of a head, where no field states it.
    Expression("^(?!num_kv_).*heads$", ("<other> // <field>",), "deberta-v2", "hidden_size$"),
    Expression("heads$", ("<other> // <field>",), "mobilebert", "bottleneck_size$"),
    Expression("heads$", ("<other> // <field>",), "perceiver", "latents$"),
    # How many tokens a convolution's padded input has.
    Expression("conv|kernel", ("max({seq_len}, <field>)",), "lfm2"),
    # The chunks of linear attention, whose size is a number in the model's code.
    Expression("", ("ceil({seq_len} / 64)",), "qwen3_next"),
    # The largest power of 2 up to the heads, which ALiBi's slopes are made from.
    Expression("^num_heads$", (f"1 + {_POWERS}",), "bloom"),
    # How many of one sort share one of another sort.
    Expression("^num_kv_heads$", ("<other> // <field>",), "llama", "^num_heads$"),
    Expression("^n_group$", ("<other> // <field>",), "deepseek_v3", "^num_experts$"),
    Expression("^n_groups$", ("<other> // <field>",), "mamba2", "^num_heads$"),
    Expression("^n_groups$", ("<other> // <field>",), "nemotron_h", "^mamba_num_heads$"),
    Expression("^linear_num_key_heads$", ("<other> // <field>",), "qwen3_next", "^linear_num_value_heads$"),
)


def expressions(names: Iterable[str]) -> Iterator[str]:
    """Yield the expressions of `EXPRESSIONS` that these variables take part in, as formulas."""
    names = list(names)
    for row in EXPRESSIONS:
        for name in [name for name in names if re.search(row.field, name)] if row.field else [""]:
            for other in [other for other in names if re.search(row.other, other)] if row.other else [""]:
                for text in row.texts:
                    yield text.replace("<field>", f"{{{name}}}").replace("<other>", f"{{{other}}}")


# ---- calls and caches


class Similar(NamedTuple):
    """Classes or functions that may cost what a module template says of another one, which is then made sure of.

    Attributes:
        template: the class name of the module template.
        ending: of the other names.
        model: a model type that needs the row.

    """

    template: str
    ending: str
    model: str


_LLAMA = "transformers.models.llama.modeling_llama"

SIMILAR = (
    Similar("torch.nn.modules.linear.Linear", "Linear", "bitnet"),
    Similar("torch.nn.modules.sparse.Embedding", "Embedding", "bart"),
    Similar("torch.nn.modules.normalization.LayerNorm", "LayerNorm", "deberta"),
    Similar(f"{_LLAMA}.LlamaRMSNorm", "Norm", "mistral"),
    Similar(f"{_LLAMA}.LlamaRotaryEmbedding", "RotaryEmbedding", "mistral"),
    Similar(f"{_LLAMA}.apply_rotary_pos_emb", "apply_rotary_pos_emb", "mistral"),
    Similar("transformers.masking_utils.eager_mask", "_mask", "mistral"),
)


class State(NamedTuple):
    """What a tensor of transformers' caches is called in a template's state.

    Attributes:
        attribute: that holds the tensor.
        name: in the template.
        model: a model type that needs the row.

    """

    attribute: str
    name: str
    model: str


STATES = (
    State("keys", "kv_cache", "llama"),
    State("values", "kv_cache", "llama"),
    State("conv_states", "conv_state", "mamba"),
    State("recurrent_states", "recurrent_state", "mamba"),
    State("indexer_keys", "indexer_cache", "deepseek_v32"),
)


class Absorbed(NamedTuple):
    """Attention to a latent that a linear layer expands, and that can also be attended to as it is.

    Attributes:
        expansion: the layer's name.
        sizes: context variable of the absorbed module template → formula.
        model: a model type that needs the row.

    """

    expansion: str
    sizes: dict[str, str]
    model: str


ABSORBED = (
    Absorbed(
        "kv_b_proj",
        {
            "latent_size": "{kv_lora_rank}",
            "nope_head_dim": "{qk_nope_head_dim}",
            "rope_head_dim": "{qk_rope_head_dim}",
        },
        "deepseek_v3",
    ),
)
