"""How a model is divided over the ranks of a group: module → style.

transformers has a plan for many models, and a template keeps it. Others are divided by **Megatron's rules**, which see
the structure of a template only: attention by heads, feed-forward layers by their width, experts by theirs, embedding
and head by the vocabulary. Serving engines divide so too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.templates.styles import matches
from nbanalyzer.templates.template import Basic, Composite, Kernel, ModelTemplate

from .run import Layout

__all__ = ["REPEATED", "WHOLE_EXPERTS", "Plan", "has_experts", "heads_of", "is_attention", "megatron", "plan_of"]

WHOLE_EXPERTS = "ep_dispatch_experts"
VOCABULARY = variable("vocab_size")
HIDDEN = variable("hidden_size")
ATTENTION = ("num_heads", "num_kv_heads", "num_global_key_value_heads")
HEADS = (ATTENTION, ("linear_num_value_heads", "linear_num_key_heads"), ("mamba_num_heads", "n_groups"))
"""Variables that count heads, together with those that are grouped with them."""
REPEATED = frozenset(ATTENTION[1:])
"""Heads that several ranks keep where they are fewer than the ranks, one each."""


@dataclass(frozen=True)
class Plan:
    """Module → style, see `nbanalyzer.costs.sharding`.

    Attributes:
        styles: path of modules, with ``*`` in a name → transformers' name of a style.
        source: whose plan it is, in a few words.

    """

    styles: Mapping[str, str]
    source: str

    def style_of(self, path: str) -> str:
        """Return the style of a module; "" if the plan does not name it."""
        names = path.split(".")
        return next((style for pattern, style in self.styles.items() if matches(pattern.split("."), names)), "")

    def speaks_of(self, path: str) -> bool:
        """Return whether the plan names a module below this one."""
        names = path.split(".")
        below = (pattern.split(".") for pattern in self.styles)
        return any(len(parts) > len(names) and matches(parts[: len(names)], names) for parts in below)


def plan_of(template: ModelTemplate, layout: Layout) -> Plan:
    """Return the plan by which a complete template is divided along the axes of a mesh."""
    has_whole_experts = "ep" in layout.axes
    styles = dict(template.expert_sharding if has_whole_experts else template.sharding)
    source = "transformers' plan"
    if layout.comm == "megatron" or not styles:
        source = "Megatron's rules" + ("" if layout.comm == "megatron" else ": transformers has no plan for it")
        styles = megatron(template)
        if has_whole_experts:
            styles |= {path: WHOLE_EXPERTS for path, style in styles.items() if style == "moe_tp_experts"}
    if "tp" not in layout.axes:
        styles = {path: style for path, style in styles.items() if style == WHOLE_EXPERTS}
    return Plan(styles, source)


def megatron(template: ModelTemplate) -> dict[str, str]:
    """Return path → style by the structure of a complete template, in the order of the pass."""
    styles: dict[str, str] = {}
    waiting: list[_Linear] = []  # linears since the last one that was divided by its inputs
    has_attended = False
    for path, kernel in _modules(template.kernels):
        if has_experts(kernel):
            styles[path] = "moe_tp_experts"
        elif _is_embedding(kernel):
            styles[path] = "embedding_rowwise"
        elif is_attention(kernel):
            has_attended = True
        elif not _is_linear(kernel):
            continue
        elif _size(kernel, "output_size") == VOCABULARY:
            styles[path] = "colwise_gather_output"
        else:
            last = _Linear(path, kernel)
            heads = heads_of(last.input)
            if heads == ATTENTION and not has_attended:
                heads = ()  # as wide as the stream, no more
            first = [one for one in waiting if (heads_of(one.output) == heads if heads else one.gives(last))]
            if first and set(last.output.variables) == {"hidden_size"}:
                styles |= {one.path: "colwise" for one in first} | {path: "rowwise"}
                waiting, has_attended = [], False
            else:
                waiting.append(last)
    return styles


class _Linear(NamedTuple):
    """A linear, with its place."""

    path: str
    kernel: Composite

    @property
    def output(self) -> Formula:
        """What it gives for each token."""
        return parse(self.kernel.bindings["output_size"])

    @property
    def input(self) -> Formula:
        """What it takes of each token."""
        return parse(self.kernel.bindings["input_size"])

    def gives(self, other: _Linear) -> bool:
        """Return whether it gives the width that another one takes, or several times that: gate and up together."""
        width = other.input
        if width in {self.input, HIDDEN}:
            return False
        factor, *rest = self.output.arguments if self.output.operation == "*" else (constant(1), self.output)
        return self.output == width or (factor.operation == "number" and build("*", *rest) == width)


def heads_of(size: Formula) -> tuple[str, ...]:
    """Return what counts the heads that a size is for, see `HEADS`; () if it is for none.

    Some templates say hidden_size for attention heads times their size.
    """
    used = set(size.variables)
    tied = ATTENTION if "hidden_size" in used and used <= {"hidden_size", "head_dim"} else ()
    return next((heads for heads in HEADS if used.intersection(heads)), tied)


def is_attention(kernel: Composite) -> bool:
    """Return whether a module is attention: products of two activations, for every head."""
    if {"num_heads", "num_queries", "num_keys"} <= kernel.bindings.keys():
        return True
    products = [child for child in kernel.sub_kernels if isinstance(child, Basic) and child.unit == "matmul"]
    bare = [child for child in products if "{w_bytes}" not in child.memory_access.read]
    return len(bare) > 1 and all("{num_heads}" in child.flops for child in bare)


def _is_embedding(kernel: Composite) -> bool:
    """Return whether a module has a row of weights for every token of the vocabulary, and looks them up."""
    rows = _size(kernel, "num_embeddings")
    if rows is not None:
        return rows == VOCABULARY
    has_rows = "vocab_size" in parse(kernel.parameters or "0").variables
    return has_rows and not any(isinstance(child, Basic) and child.unit == "matmul" for child in kernel.sub_kernels)


def _is_linear(kernel: Composite) -> bool:
    return {"input_size", "output_size"} <= kernel.bindings.keys()


def has_experts(kernel: Composite) -> bool:
    """Return whether a module holds the weights of all experts: products with more than one of them."""
    products = [child for child in kernel.sub_kernels if isinstance(child, Basic) and child.unit == "matmul"]
    return len(products) > 1 and "num_experts" in parse(kernel.parameters or "0").variables


def _size(kernel: Composite, name: str) -> Formula | None:
    return parse(kernel.bindings[name]) if name in kernel.bindings else None


def _modules(kernels: Sequence[Kernel], path: str = "") -> Iterator[tuple[str, Composite]]:
    for kernel in kernels:
        if isinstance(kernel, Composite):
            here = f"{path}.{kernel.name}" if path else kernel.name
            yield here, kernel
            yield from _modules(kernel.sub_kernels, here)
