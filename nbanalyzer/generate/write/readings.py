"""Which module template says what a call costs, and what its context variables are there.

A template is bound twice over: from the attributes of the module (or the tensors that a function was given), and
by the operations that were seen inside: what the template says must be exactly what they add up to, in
matrix and vector FLOPs, in bytes read and written for each kind of memory, and in parameters. A class that
only shares its code with the one that a template was written for, as MistralRMSNorm with LlamaRMSNorm, is so
recognized by its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from math import prod
from typing import Any

from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate import hints
from nbanalyzer.generate.trace.pricing import total, work
from nbanalyzer.generate.trace.scope import APPEND, ATTENTION, Operand, Operation, Scope
from nbanalyzer.templates.library import MODULES
from nbanalyzer.templates.template import Basic, ModuleTemplate

__all__ = ["BYTES", "Counted", "candidates", "context", "counted", "promised"]

Context = dict[str, int]

BYTES: Mapping[str, int] = {"w_bytes": 3, "a_bytes": 5, "kv_bytes": 7}
"""Sizes of elements to compare with: different ones, so that nothing is taken for something else."""

Counted = tuple[Fraction, Fraction, Fraction, Fraction]
"""Matmul FLOPs, vector FLOPs, bytes read, bytes written."""


def counted(operations: Iterable[Operation], tokens: int) -> Counted:
    """Return what operations add up to; `tokens` are those that are routed to experts."""
    matmul = vector = read = write = Fraction(0)
    for operation in operations:
        cost = work(operation)
        flops = total(cost.flops, tokens, BYTES)
        matmul, vector = (matmul + flops, vector) if cost.kind == "matmul" else (matmul, vector + flops)
        vector += total(cost.extra, tokens, BYTES)
        read += total(cost.read, tokens, BYTES)
        write += total(cost.write, tokens, BYTES)
    return matmul, vector, read, write


def conversion(operation: Operation) -> bool:
    """Return whether an operation converts to or from fp32, which a model in fp32 does not need."""
    if operation.name != "_to_copy" or not operation.inputs:
        return False
    sizes = (operation.inputs[0].size, operation.outputs[0].size)
    return "4" in sizes and any(size.endswith("bytes") for size in sizes)


def promised(template: ModuleTemplate, bound: Context) -> Counted:
    """Return what a template says with these context variables."""
    values = {**bound, **BYTES, "causal": 0}
    matmul = vector = read = write = Fraction(0)
    for kernel in template.kernels:
        assert isinstance(kernel, Basic)
        flops = Fraction(parse(kernel.flops).evaluate(values))
        matmul, vector = (matmul + flops, vector) if kernel.unit == "matmul" else (matmul, vector + flops)
        read += Fraction(parse(kernel.memory_access.read).evaluate(values))
        write += Fraction(parse(kernel.memory_access.write).evaluate(values))
    return matmul, vector, read, write


def candidates(target: str) -> list[ModuleTemplate]:
    """Return the module templates that a class or function of this name may have, the likeliest first."""
    if target in MODULES and target in _READERS:
        return [MODULES[target]]
    short = target.rpartition(".")[2]
    return [MODULES[hint.says[0]] for hint in hints.SIMILAR if short.endswith(hint.name)]


def context(template: ModuleTemplate, scope: Scope) -> Context | None:
    """Return the context variables of a template at a call, None where they do not fit it."""
    try:
        return _READERS[template.class_name](scope)
    except (AttributeError, IndexError, ValueError, TypeError):
        return None


# ---- readings: from a call to context variables


def _floats(scope: Scope) -> list[Operand]:
    return [operand for operand in scope.inputs if operand.floating]


def _linear(scope: Scope) -> Context:
    module: Any = scope.module
    rows = scope.inputs[0]
    return {
        "num_tokens": prod(rows.shape[:-1]),
        "input_size": module.in_features,
        "output_size": module.out_features,
        "has_bias": int(module.bias is not None),
    }


def _conv1d(scope: Scope) -> Context:
    module: Any = scope.module
    rows = scope.inputs[0]
    return {"num_tokens": prod(rows.shape[:-1]), "input_size": module.nx, "output_size": module.nf, "has_bias": 1}


def _embedding(scope: Scope) -> Context:
    module: Any = scope.module
    return {
        "num_tokens": prod(scope.inputs[0].shape),
        "num_embeddings": module.num_embeddings,
        "embedding_dim": module.embedding_dim,
    }


def _layer_norm(scope: Scope) -> Context:
    module: Any = scope.module
    (size,) = module.normalized_shape
    return {
        "num_tokens": prod(scope.inputs[0].shape) // size,
        "normalized_size": size,
        "has_weight": int(module.weight is not None),
        "has_bias": int(module.bias is not None),
    }


def _rms_norm(scope: Scope) -> Context:
    module: Any = scope.module
    (size,) = module.weight.shape
    return {"num_tokens": prod(_floats(scope)[0].shape) // size, "normalized_size": size}


def _activation(scope: Scope) -> Context:
    return {"num_elements": prod(_floats(scope)[0].shape)}


def _rotary_tables(scope: Scope) -> Context:
    cos = scope.outputs[0]
    return {"num_positions": prod(cos.shape[:-1]), "rotary_dim": cos.shape[-1]}


def _rotary(scope: Scope) -> Context:
    query, key = _floats(scope)[:2]
    sequences, heads, positions, size = query.shape
    return {
        "num_sequences": sequences,
        "num_positions": positions,
        "num_heads": heads,
        "num_kv_heads": key.shape[1],
        "head_dim": size,
    }


def _append(scope: Scope) -> Context:
    key, value_ = scope.inputs
    sequences, heads, new, size = key.shape
    return {
        "num_sequences": sequences,
        "num_new": new,
        "kept_len": 0,  # what the cache keeps is not seen here
        "num_kv_heads": heads,
        "head_dim": size,
        "v_head_dim": value_.shape[-1],
    }


def _attention(scope: Scope) -> Context:
    query, key, value_ = scope.inputs[:3]
    sequences, heads, queries, size = query.shape
    return {
        "num_sequences": sequences,
        "num_queries": queries,
        "num_keys": key.shape[2],
        "num_visible": queries * key.shape[2],
        "num_heads": heads,
        "num_kv_heads": key.shape[1],
        "head_dim": size,
        "v_head_dim": value_.shape[-1],
        "from_cache": int(key.size == value_.size == "kv_bytes"),
    }


def _mask(scope: Scope) -> Context:
    sequences, _, queries, keys = scope.outputs[0].shape
    return {
        "num_sequences": sequences,
        "num_queries": queries,
        "num_keys": keys,
        "has_window": int("window" in scope.target),
    }


_LLAMA = "transformers.models.llama.modeling_llama"
_GPT2 = "transformers.models.gpt2.modeling_gpt2"
EAGER = (f"{_LLAMA}.eager_attention_forward", f"{_GPT2}.eager_attention_forward")
"""The module templates of eager attention."""

_READERS: Mapping[str, Callable[[Scope], Context]] = {
    "torch.nn.modules.linear.Linear": _linear,
    "transformers.pytorch_utils.Conv1D": _conv1d,
    "torch.nn.modules.sparse.Embedding": _embedding,
    "torch.nn.modules.normalization.LayerNorm": _layer_norm,
    f"{_LLAMA}.LlamaRMSNorm": _rms_norm,
    f"{_LLAMA}.LlamaRotaryEmbedding": _rotary_tables,
    f"{_LLAMA}.apply_rotary_pos_emb": _rotary,
    "torch.nn.modules.activation.GELU": _activation,
    "torch.nn.modules.activation.ReLU": _activation,
    "torch.nn.modules.activation.SiLU": _activation,
    "transformers.activations.FastGELUActivation": _activation,
    "transformers.activations.GELUActivation": _activation,
    "transformers.activations.GELUTanh": _activation,
    "transformers.activations.NewGELUActivation": _activation,
    "transformers.activations.QuickGELUActivation": _activation,
    "transformers.activations.SiLUActivation": _activation,
    "transformers.masking_utils.eager_mask": _mask,
    APPEND: _append,
    ATTENTION: _attention,
    **dict.fromkeys(EAGER, _attention),
}
"""Module template → how its variables are read."""
