"""How transformers divides a module over the devices of a group: the styles of its plans, and what they are for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from nbanalyzer.errors import TemplateError, near, quote

from .template import Basic, Kernel, ModelTemplate

__all__ = ["STYLES", "matches", "sharding_errors"]

MOST, LONGEST = 300, 1_000  # paths of a plan; characters of a path
STYLES: Mapping[str, str] = {
    "colwise": "a linear of which each device has some outputs",
    "colwise_gather_output": "the same, and all outputs are gathered: all_gather",
    "colwise_rep": "older name of colwise_gather_output",
    "rowwise": "a linear of which each device has the weights of some inputs, which it has: all_reduce of the outputs",
    "rowwise_split_input": "the same, but all inputs are there, and each device takes its own: all_reduce",
    "rowwise_rep": "older name of rowwise_split_input",
    "packed_colwise": "colwise, of two matrices in one, such as gate and up: some outputs of either",
    "packed_rowwise": "rowwise, of two matrices in one",
    "embedding_rowwise": "an embedding of which each device has some tokens: all_reduce",
    "embedding_colwise": "an embedding of which each device has some sizes of all tokens: all_gather",
    "moe_tp_experts": "experts of which each device has a part of each: all_reduce",
    "moe_identity_expert": "an expert that gives what it is given: as nothing is divided, each device gives its share",
    "ep_dispatch_experts": "experts of which each device has some, whole: all_reduce where the devices have the same "
    "tokens, all_to_all where they have not",
    "grouped_gemm": "the weights of such experts",
    "mla_kv_a_proj": "as it is on each device; its gradient is not",
    "replicated_with_grad_allreduce": "as it is on each device; its gradient is summed",
    "all_reduce": "a module whose results are summed: all_reduce",
    "sequence_parallel": "a norm of which each device has some positions",
    "local_params": "a module that works with its own part of its parameters",
    "replicate": "as it is on each device",
}
"""Style → what it means in the forward pass."""


def matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Return whether the names of a path are those of a pattern, which may have ``*`` in them."""
    return len(pattern) == len(path) and all(map(fnmatchcase, path, pattern))


def sharding_errors(template: ModelTemplate) -> Iterator[TemplateError]:
    """Yield what is wrong with the plans of a template that has its kernels: unknown styles, patterns for nothing.

    The last name of a pattern may be that of a parameter, which is no kernel.
    """
    paths = [*_paths(template.kernels)] if template.sharding or template.expert_sharding else []
    for field in ("sharding", "expert_sharding"):
        if len(getattr(template, field)) > MOST:
            yield TemplateError(f"more than {MOST} paths: what repeats is one, with *", field)
            return
        for pattern, style in getattr(template, field).items():
            if style not in STYLES:
                close = near(style, STYLES)
                hint = f", did you mean {close[0]!r}?" if close else f": there are {', '.join(sorted(STYLES))}"
                yield TemplateError(f"{quote(style)} is no style of transformers' plans{hint}", f"{field}, {pattern}")
            names = pattern[:LONGEST].split(".")
            if not any(matches(names, path) or matches(names[:-1], path) for path in paths):
                yield TemplateError(f"{quote(pattern)} is the path of no kernel, nor of a parameter of one", field)


def _paths(kernels: Sequence[Kernel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for kernel in kernels:
        if not isinstance(kernel, Basic):
            path = (*above, kernel.name)
            yield path
            yield from _paths(kernel.sub_kernels, path)
