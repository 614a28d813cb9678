"""What kind of kernel a launch is, and what the laws of time read of it: by its structure, not by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nbanalyzer.errors import NotModelledError
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.template import Basic, Composite

from .launch import Launch
from .metrics import cache_of
from .tree import Node

if TYPE_CHECKING:
    from .costs import Costs

__all__ = ["BROADER", "amounts_of", "in_microseconds", "kind_of"]

BROADER: Mapping[str, str] = {
    "transposed_linear": "linear",
    "product": "linear",
    "append": "elementwise",
    "exp": "elementwise",
    "tanh": "elementwise",
}
"""Kind → the kind whose law serves where a profile does not tell it apart."""

MICROSECONDS: Mapping[str, str] = {
    "memory_us": "bytes",
    "weight_us": "weight_bytes",
    "cache_us": "cache_bytes",
    "activation_us": "activation_bytes",
    "kept_us": "kept_bytes",
}
"""Variable of laws → the bytes that it is the time of, at the peak bandwidth."""

TRANSPOSED = frozenset({"transformers.pytorch_utils.Conv1D"})
"""Modules that store a weight as inputs x outputs, the other way round than `torch.nn.Linear`."""

FUNCTIONS: Mapping[str, str] = {
    "torch.nn.modules.activation.SiLU": "exp",
    "torch.nn.modules.activation.GELU": "exp",
    "transformers.activations.SiLUActivation": "exp",
    "transformers.activations.GELUActivation": "exp",
    "transformers.activations.QuickGELUActivation": "exp",
    "transformers.activations.GELUTanh": "tanh",
    "transformers.activations.NewGELUActivation": "tanh",
    "transformers.activations.FastGELUActivation": "tanh",
    "torch.nn.functional.softmax": "exp",
}
"""Module or function → what it computes element by element that costs more than an addition."""

OPERATIONS: Mapping[str, str] = {
    "exp": "exp",
    "sigmoid": "exp",
    "silu": "exp",
    "gelu": "exp",
    "softmax": "exp",
    "log": "exp",
    "cos and sin": "exp",
    "tanh": "tanh",
    "softplus": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
"""Operation of a traced module → the same."""


def kind_of(launch: Launch[Number], costs: Costs) -> str:
    """Return the kind of kernel that a launch of a pass is.

    Returns:
        ``"linear"``, ``"transposed_linear"`` (its weight is stored as inputs x outputs), ``"decode_attention"``,
        ``"prefill_attention"``, ``"product"`` (of two activations), ``"append"`` (to the cache), ``"exp"`` and
        ``"tanh"`` (elementwise, with such a function in it), or ``"elementwise"``.

    """
    products = [node for node in launch.nodes if _basic(node).unit == "matmul"]
    if any(node.stored for node in launch.nodes):
        raise NotModelledError("not modelled: weights in a scheme, operation by operation: quant=none has 16 bits")
    if any("w_bytes" in node.uses[1] for node in products):
        return "transposed_linear" if _module(products[0]) in TRANSPOSED else "linear"
    if len(products) > 1:  # scores and values in one kernel
        return "decode_attention" if costs.run.seq_len == 1 else "prefill_attention"
    if products:
        return "product"
    if any("kv_bytes" in node.uses[2] for node in launch.nodes):
        return "append"
    node = launch.nodes[0]
    return FUNCTIONS.get(_module(node)) or OPERATIONS.get(_basic(node).operation.partition(" (")[0], "elementwise")


def amounts_of(launch: Launch[Number], costs: Costs) -> dict[str, float]:
    """Return what one run of a launch reads, writes and computes.

    Returns:
        ``matmul_flops``; ``bytes`` and, of these, ``weight_bytes``, ``cache_bytes`` and ``activation_bytes``;
        ``kept_bytes``, what the cache that it appends to holds afterwards; ``steps``; ``num_elements`` that each step
        writes; and of a product with weights ``num_tokens``, ``input_size`` and ``output_size``.

    """
    times = launch.times or 1
    written = sum(costs.costs[node].write_bytes for node in launch.nodes) / times
    size = costs.values["a_bytes"] if any("a_bytes" in node.uses[2] for node in launch.nodes) else 4
    found = {
        "matmul_flops": launch.matmul_flops,
        "bytes": launch.bytes,
        "weight_bytes": launch.weights,
        "cache_bytes": launch.cache,
        "activation_bytes": launch.bytes - launch.weights - launch.cache,
        "kept_bytes": _kept(launch, costs),
        "steps": launch.steps,
        "num_elements": written / size / launch.steps,
    }
    return {name: float(value) for name, value in (found | _sizes(launch, costs)).items()}


def in_microseconds(amounts: Mapping[str, float], peak: float, bandwidth: float) -> dict[str, float]:
    """Return the variables of laws for what a launch does, as `amounts_of` returns it.

    Args:
        amounts: FLOPs, bytes and sizes.
        peak: FLOP/s of its precision.
        bandwidth: bytes/s.

    """
    found = {name: 1e6 * amounts[part] / bandwidth for name, part in MICROSECONDS.items()}
    return {**amounts, **found, "compute_us": 1e6 * amounts["matmul_flops"] / peak}


def _sizes(launch: Launch[Number], costs: Costs) -> dict[str, float]:
    """Return the sizes of a product with weights, from its FLOPs and its traffic: 2 M K N, K N, M K and M N."""
    node = next((node for node in launch.nodes if _basic(node).unit == "matmul"), launch.nodes[0])
    cost, values = costs.costs[node], costs.values
    weights = float(cost.weight_bytes_read / values["w_bytes"])
    if not (weights and cost.matmul_flops):
        return {"num_tokens": 0.0, "input_size": 0.0, "output_size": 0.0}
    tokens, size = float(cost.matmul_flops) / 2 / weights, float(values["a_bytes"])
    runs, read = float(cost.count), float(cost.read_bytes - cost.weight_bytes_read)
    return {
        "num_tokens": tokens,
        "input_size": read / size / tokens / runs,
        "output_size": float(cost.write_bytes) / size / tokens / runs,
    }


def _kept(launch: Launch[Number], costs: Costs) -> float:
    """Return the bytes of the cache that a launch appends to: its share of the pass's, by what it appends."""
    own = sum(costs.costs[node].kv_bytes_written for node in launch.nodes)
    if not own:
        return 0.0
    share = float(own) / float(costs.cost_of_all.kv_bytes_written) / float(launch.times)
    return sum(costs.state[name] for name in cache_of(costs.template.state)) * share


def _basic(node: Node) -> Basic:
    assert isinstance(node.kernel, Basic)
    return node.kernel


def _module(node: Node) -> str:
    kernel = node.parent.kernel if node.parent else None
    return kernel.module if isinstance(kernel, Composite) else ""
