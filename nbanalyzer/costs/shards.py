"""One rank of a group that shards every weight: what it keeps, and what it gathers to run.

Fully sharded data parallelism (FSDP2, `torch.distributed.fsdp.fully_shard`; ZeRO stage 3, Rajbhandari et al. 2020,
arXiv:1910.02054): a rank keeps a part of the rows of every weight. The layers are units, and all else, the root, is one
more: before a unit runs, the ranks gather its weights, and what the rank does not keep is freed after it. Rows that do
not divide are padded, so that what is gathered is as many times the first rank's part as there are ranks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.templates.template import Basic, Composite, Kernel, ModelTemplate

from .sharding import link
from .stages import layers_of

__all__ = ["EXPERTS", "RANKS", "gathered", "part_of", "rows_of"]

RANKS = variable("fsdp")
EXPERTS = "experts"
"""Name of what gathers experts apart from all else."""


def gathered(template: ModelTemplate, axes: Collection[str] = (), *, whole_experts: bool = False) -> ModelTemplate:
    """Return what one of `fsdp` ranks runs and keeps, with ``{fsdp}`` in the formulas.

    Args:
        template: complete, in the variants of the run; already divided along other axes, or not.
        axes: those of the mesh with more than one device. Experts that are spread along ``ep`` are sharded over the
            ranks that are left, as transformers does (``efsdp``), and gathered apart.
        whole_experts: whether they are spread over all these ranks already (``ep = tp * cp * fsdp``), and not sharded.

    """
    work = _Gathering(frozenset(id(layer) for layer in layers_of(template.kernels)), _expert_ranks(axes), whole_experts)
    kernels, root = work.inside(template.kernels, constant(1))
    return msgspec.structs.replace(template, kernels=(*work.gathers(root), *kernels))


def _expert_ranks(axes: Collection[str]) -> Formula:
    """Return how many ranks share the weights of the same experts."""
    if "ep" not in axes:
        return RANKS
    places = build("*", *(variable(axis) for axis in ("tp", "cp") if axis in axes), RANKS)
    return Formula("min", None, (RANKS, build("/", places, variable("ep"))))


@dataclass(frozen=True)
class _Gathering:
    """A walk over a tree that divides parameters, and gathers those of each layer."""

    layers: frozenset[int]
    expert_ranks: Formula
    whole_experts: bool

    def inside(self, kernels: Iterable[Kernel], copies: Formula) -> tuple[tuple[Kernel, ...], list[_Part]]:
        """Return the kernels, and the parts of their parameters that a rank keeps, of all copies within a unit."""
        made: list[Kernel] = []
        kept: list[_Part] = []
        for kernel in kernels:
            if isinstance(kernel, Basic):
                made.append(kernel)
                continue
            is_unit = id(kernel) in self.layers
            times = constant(1) if is_unit else build("*", copies, parse(kernel.repeat))
            subs, parts = self.inside(kernel.sub_kernels, times)
            parameters, own = kernel.parameters, parse(kernel.parameters or "0")
            are_experts = _are_experts(own)
            if own != constant(0) and not (self.whole_experts and are_experts):
                ranks = self.expert_ranks if are_experts else RANKS
                part = _part(kernel, ranks)
                parameters = str(part)
                parts = [_Part(ranks, build("*", times, part)), *parts]
            if is_unit:
                subs, parts = (*self.gathers(parts), *subs), []
            made.append(msgspec.structs.replace(kernel, parameters=parameters, sub_kernels=subs))
            kept += parts
        return tuple(made), kept

    def gathers(self, parts: Sequence[_Part]) -> Iterator[Composite]:
        """Yield what gathers a unit that keeps such parts of weights: nothing if it has none, experts apart."""
        for ranks in dict.fromkeys((RANKS, self.expert_ranks)):
            kept = [part.kept for part in parts if part.ranks == ranks]
            payload = build("*", ranks, build("+", *_counted(kept)), variable("w_bytes"))
            if kept:
                yield link("weights" if ranks == RANKS else EXPERTS, "all_gather", "fsdp", payload)


class _Part(NamedTuple):
    """Parameters that a rank keeps, of those that so many share."""

    ranks: Formula
    kept: Formula


def _counted(parts: Sequence[Formula]) -> Iterator[Formula]:
    """Yield equal parts once, with their number."""
    for part in dict.fromkeys(parts):
        yield build("*", constant(parts.count(part)), part)


def _part(kernel: Composite, ranks: Formula) -> Formula:
    """Return the first rank's part of a module's own parameters."""
    parameters = parse(kernel.parameters)
    if kernel.module.endswith(".Conv1D") and {"input_size", "output_size", "has_bias"} <= kernel.bindings.keys():
        # The one linear whose weight has a row for every input.
        given, output, bias = (parse(kernel.bindings[name]) for name in ("input_size", "output_size", "has_bias"))
        return build("+", build("*", _share(given, ranks), output), build("*", bias, _share(output, ranks)))
    rows = rows_of(kernel)
    terms = parameters.arguments if parameters.operation == "+" else (parameters,)
    return build("+", *(part_of(term, rows, ranks) for term in terms))


def rows_of(kernel: Composite) -> Formula | None:
    """Return how many rows the weights of a module have, if its bindings say so."""
    names = ("output_size", "num_embeddings", "normalized_size")
    return next((parse(kernel.bindings[name]) for name in names if name in kernel.bindings), None)


def part_of(term: Formula, rows: Formula | None, ranks: Formula) -> Formula:
    """Return a rank's part of a tensor: of its rows, which are its first size where nothing says more."""
    factors = list(term.arguments) if term.operation == "*" else [term]
    wanted = () if rows in {None, constant(1)} else rows.arguments if rows.operation == "*" else (rows,)
    if rows is not None and all(factors.count(one) >= wanted.count(one) for one in wanted):
        for one in wanted:
            factors.remove(one)
        return build("*", *factors, _share(rows, ranks))
    place = next((place for place, factor in enumerate(factors) if factor.variables), None)
    if place is None:
        return _share(term, ranks)
    return build("*", *factors[:place], _share(factors[place], ranks), *factors[place + 1 :])


def _share(size: Formula, ranks: Formula) -> Formula:
    return Formula("ceil", None, (build("/", size, ranks),))


def _are_experts(parameters: Formula) -> bool:
    """Return whether parameters are those of experts, and not of what chooses them."""
    return "num_experts" in parameters.variables and len({*parameters.variables} - {"ep", "tp"}) > 2
