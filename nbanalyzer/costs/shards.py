"""One rank of a group that shards every weight: what it keeps, and what it gathers to run.

Fully sharded data parallelism (FSDP2, `torch.distributed.fsdp.fully_shard`; ZeRO stage 3, Rajbhandari et al. 2020,
arXiv:1910.02054): a rank keeps a part of the rows of every weight. The layers are units, and all else, the root, is one
more: before a unit runs, the ranks gather its weights, and what the rank does not keep is freed after it. Rows that do
not divide are padded, so that what is gathered is as many times the first rank's part as there are ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.templates.template import Basic, Composite, Kernel, ModelTemplate

from .sharding import link
from .stages import layers_of

__all__ = ["gathered", "rows_of"]

RANKS = variable("fsdp")


def gathered(template: ModelTemplate, *, whole_experts: bool = False) -> ModelTemplate:
    """Return what one of `fsdp` ranks runs and keeps, with ``{fsdp}`` in the formulas.

    Args:
        template: complete, in the variants of the run; already divided along other axes, or not.
        whole_experts: whether experts are spread over all these ranks already (``ep = fsdp * tp``), and not sharded.

    """
    work = _Gathering(frozenset(id(layer) for layer in layers_of(template.kernels)), whole_experts=whole_experts)
    kernels, root = work.inside(template.kernels, constant(1))
    return msgspec.structs.replace(template, kernels=(*_gather(root), *kernels))


class _Gathering:
    """A walk over a tree that divides parameters, and gathers those of each layer."""

    def __init__(self, layers: frozenset[int], *, whole_experts: bool) -> None:
        self.whole_experts = whole_experts
        self.layers = layers

    def inside(self, kernels: Iterable[Kernel], copies: Formula) -> tuple[tuple[Kernel, ...], list[Formula]]:
        """Return the kernels, and the parts of their parameters that a rank keeps, of all copies within a unit."""
        made: list[Kernel] = []
        kept: list[Formula] = []
        for kernel in kernels:
            if isinstance(kernel, Basic):
                made.append(kernel)
                continue
            is_unit = id(kernel) in self.layers
            times = constant(1) if is_unit else build("*", copies, parse(kernel.repeat))
            subs, parts = self.inside(kernel.sub_kernels, times)
            parameters = kernel.parameters
            if parameters and not (self.whole_experts and _are_experts(parse(parameters))):
                part = _part(kernel)
                parameters = str(part)
                parts = [build("*", times, part), *parts] if part != constant(0) else parts
            if is_unit:
                subs, parts = (*_gather(parts), *subs), []
            made.append(msgspec.structs.replace(kernel, parameters=parameters, sub_kernels=subs))
            kept += parts
        return tuple(made), kept


def _gather(parts: Sequence[Formula]) -> tuple[Composite, ...]:
    """Return the gathering of a unit that keeps such parts of weights; nothing if it has none."""
    payload = build("*", RANKS, build("+", *_counted(parts)), variable("w_bytes"))
    return (link("weights", "all_gather", "fsdp", payload),) if parts else ()


def _counted(parts: Sequence[Formula]) -> Iterator[Formula]:
    """Yield equal parts once, with their number."""
    for part in dict.fromkeys(parts):
        yield build("*", constant(parts.count(part)), part)


def _part(kernel: Composite) -> Formula:
    """Return the first rank's part of a module's own parameters."""
    parameters = parse(kernel.parameters)
    if kernel.module.endswith(".Conv1D") and {"input_size", "output_size", "has_bias"} <= kernel.bindings.keys():
        # The one linear whose weight has a row for every input.
        given, output, bias = (parse(kernel.bindings[name]) for name in ("input_size", "output_size", "has_bias"))
        return build("+", build("*", _share(given), output), build("*", bias, _share(output)))
    rows = rows_of(kernel)
    terms = parameters.arguments if parameters.operation == "+" else (parameters,)
    return build("+", *(_part_of(term, rows) for term in terms))


def rows_of(kernel: Composite) -> Formula | None:
    """Return how many rows the weights of a module have, if its bindings say so."""
    names = ("output_size", "num_embeddings", "normalized_size")
    return next((parse(kernel.bindings[name]) for name in names if name in kernel.bindings), None)


def _part_of(term: Formula, rows: Formula | None) -> Formula:
    """Return a rank's part of a tensor: of its rows, which are its first size where nothing says more."""
    factors = list(term.arguments) if term.operation == "*" else [term]
    wanted = () if rows in {None, constant(1)} else rows.arguments if rows.operation == "*" else (rows,)
    if rows is not None and all(factors.count(one) >= wanted.count(one) for one in wanted):
        for one in wanted:
            factors.remove(one)
        return build("*", *factors, _share(rows))
    place = next((place for place, factor in enumerate(factors) if factor.variables), None)
    if place is None:
        return _share(term)
    return build("*", *factors[:place], _share(factors[place]), *factors[place + 1 :])


def _share(size: Formula) -> Formula:
    return Formula("ceil", None, (build("/", size, RANKS),))


def _are_experts(parameters: Formula) -> bool:
    """Return whether parameters are those of experts, and not of what chooses them."""
    return "num_experts" in parameters.variables and len({*parameters.variables} - {"ep", "tp"}) > 2
