"""Every number that a template and PyTorch both give, side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count, shortest
from nbanalyzer.costs.tree import Node
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.template import Basic, ModelTemplate

from . import oracle
from .oracle import Seen
from .positions import Layers, Position, parameters_of, positions
from .ranks import Rank, Sent
from .runs import Run, measured

__all__ = ["Comparison", "comparisons", "of_rank", "parameters_alone"]

Numbers = Callable[[Position], tuple[Number, Number]]
"""From a place to a number by the template, and by PyTorch."""


@dataclass(frozen=True)
class Comparison:
    """One number, in total and at each place in the model.

    Attributes:
        what: its name in the provenance, e.g. ``"decode_matmul_flops"``.
        run: the run's name, "" for what belongs to none.
        metric: what is counted.
        whole: the model.
        numbers: from a place to the number by the template, and by PyTorch.

    """

    what: str
    run: str
    metric: str
    whole: Position
    numbers: Numbers

    @property
    def totals(self) -> tuple[Number, Number]:
        """Of the whole model: by the template, and by PyTorch."""
        return self.numbers(self.whole)


def comparisons(
    subject: Subject,
    model: torch.nn.Module,
    runs: Mapping[str, Run],
    costs_of: Callable[[Run], Costs],
    *,
    eager: bool = False,
    traced: bool = True,
) -> Generator[Comparison, None, None]:
    """Yield everything that is compared in some runs: parameters, then each run by each oracle.

    Args:
        subject: the real model.
        model: as FlopCounterMode counts it.
        runs: name → options.
        costs_of: what the template says of a run.
        eager: whether eager attention is compared too.
        traced: whether runs are traced; if not, only parameters, matmul FLOPs and what is kept are compared, and only
            their totals mean something.

    """
    layers: Layers | None = None
    for seen in measured(subject, model, runs, eager=eager, traced=traced):
        costs = costs_of(seen.run)
        first = layers is None
        if layers is None:  # a prefill is traced first
            layers = oracle.layers_of(subject, model, seen.root) if seen.root is not None else {}
        whole = positions(_roots(costs), seen.seen, layers)
        if first:
            places = parameters_of(whole, model)
            yield Comparison("parameters", "", "parameters", whole, _parameters(costs, places))
        for metric in seen.metrics:
            yield Comparison(f"{seen.name}_{metric}", seen.name, metric, whole, _costs(costs, metric))
        for size in (2, 1):  # so that it is seen what of it is kept in the model's precision
            pair = (_state(costs, size), seen.kept[0] * size + seen.kept[1])
            metric = "state_bytes" if size == 2 else "state_bytes_at_8_bit"
            yield Comparison(f"{seen.name}_{metric}", seen.name, metric, Position(""), _always(pair))


def parameters_alone(template: ModelTemplate, subject: Subject) -> Comparison:
    """Return what can be compared of a model that does not run."""
    costs = count(template, **shortest(template))
    whole = Position("", _roots(costs))
    return Comparison(
        "parameters", "", "parameters", whole, _parameters(costs, {whole: oracle.parameters(subject.build())})
    )


def of_rank(rank: Rank, costs: Costs) -> Iterator[Comparison]:
    """Yield what is compared of one rank's pass: parameters, matmul FLOPs, traffic, and what it sends.

    How tokens reach whole experts depends on where they are: of those, and of what chooses them, only parameters and
    matmul FLOPs are compared.

    Args:
        rank: by PyTorch.
        costs: the template's, of the same run and mesh.

    """
    sent: dict[str, tuple[int, int]] = {}
    for one in rank.sent:
        number, payload = sent.get(one.collective, (0, 0))
        sent[one.collective] = number + 1, payload + one.payload
    said: dict[str, tuple[Number, Number]] = dict.fromkeys(sent, (0, 0))
    for node, cost in costs.costs.items():
        if isinstance(node.kernel, Basic) and node.kernel.unit == "link":
            number_, payload_ = said.get(node.kernel.collective, (0, 0))
            said[node.kernel.collective] = number_ + cost.count, payload_ + cost.payload_bytes
    for name, numbers in said.items():
        for what, ours, theirs in zip(("number", "payload_bytes"), numbers, sent.get(name, (0, 0)), strict=True):
            yield Comparison(f"{name}_{what}", "", f"{name} {what}", Position(""), _always((normalize(ours), theirs)))
    for seen in rank.measured:
        whole = positions(_roots(costs), seen.seen, rank.layers)
        if seen.root is not None:
            places = parameters_of(whole, rank.model)
            yield Comparison("parameters", "", "parameters", whole, _parameters(costs, places))
            with_payloads(seen.seen, rank.sent)
            yield Comparison("payload_bytes", "", "payload_bytes", whole, _costs(costs, "payload_bytes"))
        if seen.root is None or rank.ep == 1:
            for metric in seen.metrics:
                yield Comparison(metric, "", metric, whole, _costs(costs, metric))


def with_payloads(seen: Seen, sent: Sequence[Sent]) -> None:
    """Note what was sent with the modules around those that caused it, as a template has it beside them."""
    for one in sent:
        place = seen
        place.cost.payload_bytes += one.payload
        while inner := next((child for child in place.children if one.path.startswith(f"{child.path}.")), None):
            place = inner
            place.cost.payload_bytes += one.payload


def _roots(costs: Costs) -> list[Node]:
    return [node for node in costs.nodes if node.parent is None]


def _parameters(costs: Costs, places: Mapping[Position, int]) -> Numbers:
    return lambda place: (place.by_template(costs.costs, "parameters"), places[place])


def _costs(costs: Costs, metric: str) -> Numbers:
    return lambda place: (place.by_template(costs.costs, metric), place.by_pytorch(metric))


def _always(pair: tuple[Number, Number]) -> Numbers:
    return lambda _place: pair


def _state(costs: Costs, size: int) -> Number:
    """Return the bytes of all that is kept, with elements of the cache of `size` bytes."""
    values = {**costs.values, "kv_bytes": size}
    return normalize(sum((parse(text).evaluate(values) for text in costs.template.state.values()), start=0))
