"""The metrics: name, unit, and formula for a kernel.

>>> METRICS["kv_bytes_read"].unit
'B'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.templates.template import Basic

from .tree import OWNED_TRAFFIC, Node

__all__ = [
    "BY_MODULE", "KERNEL_METRICS", "METRICS", "MONEY", "OF_ENGINE", "OF_ESTIMATE", "OWNED", "PASS_METRICS",
    "RANK_METRICS",
    "REQUEST_SUMS", "Metric", "cache_of", "is_timed", "metric_formula", "metrics_of", "unit_of",
]  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: e.g. ``"bytes"``.
        unit: e.g. ``"B"``; "" for a truth value.
        of_kernel: its formula for one execution of a basic kernel; None if it is no sum over kernels.
        is_summed: whether a request's is the sum over its passes.
        needs: ``"hardware"`` if it needs an accelerator, ``"request"`` if it needs a request as well, ``"served"`` if
            that is served.
        more_is_better: whether larger values are better.

    """

    name: str
    unit: str
    of_kernel: Callable[[Node], Formula] | None = None
    is_summed: bool = False
    needs: Literal["", "hardware", "request", "served"] = ""
    more_is_better: bool = False


def _flops(node: Node, unit: str | None) -> Formula:
    assert isinstance(node.kernel, Basic)
    return node.parts[0] if unit in {None, node.kernel.unit} else constant(0)


def _owned(node: Node, metric: str) -> Formula:
    """Return the formula of the weights' or the cache's share of a kernel's traffic."""
    name, part = OWNED_TRAFFIC[metric]
    formula = node.parts[part]
    stored = node.stored if metric == "weight_bytes_read" and node.stored else constant(0)
    if name not in formula.variables:
        return stored
    doubled = formula.substitute({name: build("*", constant(2), variable(name))})
    return build("+", build("-", doubled, formula), stored)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("flops", "FLOP", lambda node: _flops(node, None), is_summed=True),
        Metric("matmul_flops", "FLOP", lambda node: _flops(node, "matmul"), is_summed=True),
        Metric("vector_flops", "FLOP", lambda node: _flops(node, "vector"), is_summed=True),
        Metric("bytes", "B", lambda node: build("+", node.parts[1], node.parts[2]), is_summed=True),
        Metric("read_bytes", "B", lambda node: node.parts[1], is_summed=True),
        Metric("write_bytes", "B", lambda node: node.parts[2], is_summed=True),
        Metric("weight_bytes_read", "B", lambda node: _owned(node, "weight_bytes_read"), is_summed=True),
        Metric("activation_bytes", "B", is_summed=True),
        Metric("kv_bytes_read", "B", lambda node: _owned(node, "kv_bytes_read"), is_summed=True),
        Metric("kv_bytes_written", "B", lambda node: _owned(node, "kv_bytes_written"), is_summed=True),
        Metric("parameters", "elements"),
        Metric("weight_bytes", "B"),
        Metric("kv_cache_bytes", "B"),
        Metric("arithmetic_intensity", "FLOP/B", more_is_better=True),
        Metric("memory_bytes", "B"),
        Metric("payload_bytes", "B", lambda node: node.payload, is_summed=True),
        Metric("time", "s", is_summed=True, needs="hardware"),
        Metric("lower_bound", "s", is_summed=True, needs="hardware"),
        Metric("estimate", "s", is_summed=True, needs="hardware"),
        Metric("tokens_per_s", "tokens/s", needs="hardware", more_is_better=True),
        Metric("cost_per_million_tokens", "$", needs="hardware"),
        Metric("energy_per_token", "J", needs="hardware"),
        Metric("co2_per_million_tokens", "g", needs="hardware"),
        Metric("time_to_first_token", "s", needs="request"),
        Metric("time_per_output_token", "s", needs="request"),
        Metric("prefill_time", "s", needs="served"),
        Metric("tokens_per_s_each", "tokens/s", needs="served", more_is_better=True),
        Metric("max_concurrency", "sequences", needs="served", more_is_better=True),
        Metric("fits", "", needs="hardware", more_is_better=True),
    )
}
"""Name → metric, in the order of tables."""

KERNEL_METRICS = tuple(name for name, metric in METRICS.items() if metric.of_kernel)
"""The metrics that are sums over basic kernels."""
PASS_METRICS = tuple(METRICS)[: tuple(METRICS).index("memory_bytes")]
"""The metrics of one pass that need nothing but its formulas: the names of `Costs.totals`."""
RANK_METRICS = (*PASS_METRICS, "payload_bytes")
"""The same of one rank of several devices."""
REQUEST_SUMS = tuple(name for name in PASS_METRICS if METRICS[name].is_summed)
"""The metrics of `PASS_METRICS` that are summed over a request's passes."""
BY_MODULE = ("flops", "bytes", "parameters", "time")
"""The metrics that are compared module by module."""
MONEY = ("cost_per_million_tokens", "energy_per_token", "co2_per_million_tokens")
"""What time costs, in money, energy and carbon: names of `nbanalyzer.analysis.price.Price`."""
OF_ESTIMATE = ("estimate", *MONEY)
"""The metrics that follow from an estimate."""
OF_ENGINE = ("lower_bound", *OF_ESTIMATE)
"""The metrics of the list that a serving engine launches, whatever list the others are of."""
OWNED = tuple(OWNED_TRAFFIC)
"""The traffic of weights and cache; the rest is the activations'."""


def cache_of(state: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the states that make up the cache, ``kv_cache_bytes``.

    They are keys and values, and all else whose size depends on how many tokens there were: latents, keys of an
    indexer, entries that stand for many tokens and the buffers that they come from. A recurrence's state is not.

    Args:
        state: name → formula of a template's.

    """
    return tuple(name for name, text in state.items() if name == "kv_cache" or "cache_len" in parse(text).variables)


def metrics_of(states: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all metrics of a model with these states, each of which has its bytes."""
    return (*METRICS, *(f"{name}_bytes" for name in states if f"{name}_bytes" not in METRICS))


def is_timed(metric: str) -> bool:
    """Return whether a metric is a time or follows from one, so that it means little where the pass does not fit."""
    return metric in METRICS and bool(METRICS[metric].needs) and metric != "fits"


def unit_of(metric: str) -> str:
    """Return a metric's unit; a name that is not in the table is a state of the model, in bytes."""
    return METRICS[metric].unit if metric in METRICS else "B"


def metric_formula(nodes: Sequence[Node], metric: str) -> Formula:
    """Return the formula of a metric summed over the kernels among `nodes` and below, repeats included.

    Args:
        nodes: kernels, none below another.
        metric: one of `KERNEL_METRICS`, activation_bytes, parameters or weight_bytes.

    """
    if metric in {"parameters", "weight_bytes"}:
        is_stored = metric == "weight_bytes" and any(node.is_stored for node in _below(nodes))
        own = (node.own_weight_bytes if is_stored else node.own_parameters for node in _below(nodes))
        total = build("+", *(build("*", node.copies, one) for node, one in zip(_below(nodes), own, strict=True)))
        return build("*", total, variable("w_bytes")) if metric == "weight_bytes" and not is_stored else total
    if metric == "activation_bytes":
        owned = build("+", *(metric_formula(nodes, name) for name in OWNED))
        return build("-", metric_formula(nodes, "bytes"), owned)
    of_kernel = METRICS[metric].of_kernel
    assert of_kernel is not None
    return build("+", *(build("*", node.times, of_kernel(node)) for node in _below(nodes) if node.is_basic))


def _below(nodes: Sequence[Node]) -> list[Node]:
    return [kernel for node in nodes for kernel in (node, *_below(node.children))]
