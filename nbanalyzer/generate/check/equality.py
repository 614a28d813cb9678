"""A model template against the real model: equal, or an error that says where not."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec
import torch

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count
from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.generate.deadline import look
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.data import on_one_thread
from nbanalyzer.generate.model.subject import NeedsDataError, Subject
from nbanalyzer.generate.probe.observation import values_of
from nbanalyzer.generate.trace.recorder import seldom_collected
from nbanalyzer.generate.trace.scope import ATTENTION
from nbanalyzer.generate.write.variants import without_eager
from nbanalyzer.quantities import plain
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import Composite, Kernel, ModelTemplate

from . import oracle, samples
from .positions import Layers, Position, culprits, parameters_of, positions
from .runs import RUNS, Run, measured, runs_of

__all__ = ["Comparison", "MismatchError", "check", "checked", "checked_under", "comparisons", "has_eager", "prefill_of"]


RECORDED = ("parameters", "matmul_flops", "_read_bytes", "_write_bytes", "prefill_state_bytes")
"""Endings of what the provenance says; the rest is compared as well."""

OTHERS = 4
"""So many random sizes are compared where the model's own cannot be."""

TINY = "equal at tiny sizes on the CPU; at its own, only the parameters were compared"
"""The result of a model that needs data and is too large to be run with some."""

Numbers = Callable[[Position], tuple[Number, Number]]
"""From a place to a number by the template, and by PyTorch."""


class MismatchError(NBAnalyzerError):
    """A model template whose number is not PyTorch's.

    Attributes:
        model_id: the template's.
        what: the number's name in the provenance, e.g. ``"decode_matmul_flops"``.
        template: the template's number.
        pytorch: PyTorch's.
        path: of the innermost kernel where they differ, "" if it cannot be told.

    """

    def __init__(self, model_id: str, what: str, template: float, pytorch: float, path: str = "") -> None:
        super().__init__(model_id, what, template, pytorch, path)
        self.model_id, self.what, self.template, self.pytorch = model_id, what, template, pytorch
        self.path = path

    def message(self) -> str:
        """Return both numbers, by how much they differ, and where."""
        place = f", first in {self.path}" if self.path else ""
        return (
            f"{self.model_id}: {self.what} is {self.template:,} by the template and {self.pytorch:,} by PyTorch, "
            f"a difference of {self.template - self.pytorch:+,}{place}"
        )


def checked(template: ModelTemplate, subject: Subject) -> tuple[ModelTemplate, dict[str, Any]]:
    """Return a template that equals PyTorch with the record of its check, see `check`.

    A variant with eager attention that is not right throughout is left out.
    """
    try:
        return template, check(template, subject)
    except MismatchError as problem:
        if not problem.what.startswith("eager_"):
            raise
    template = msgspec.structs.replace(template, kernels=without_eager(template.kernels))
    return template, check(template, subject)


@quiet()
@seldom_collected()
@on_one_thread()
def check(template: ModelTemplate, subject: Subject | None = None) -> dict[str, Any]:
    """Return the provenance record of a template that equals PyTorch, exactly, at its own config.

    A model whose code needs data is compared on the CPU, at sizes that can be run there: then the record says which.

    Compared are the parameters; the matmul FLOPs of `RUNS` (and of a run beyond each sliding window or chunk, and of
    one shorter than a convolution) by FlopCounterMode; vector FLOPs and bytes, those of weights and of the cache among
    them, of all but the last logits by tracing every operation, with fused attention, and with eager attention too if
    the template has that variant throughout; and the bytes of all that is kept, after each run.

    Args:
        template: complete, or extending a shipped one.
        subject: the model to compare with; that of the template's config if None.

    Returns:
        ``{"transformers": version, "torch": version, "checked": {name: number, …}, "result": "equal"}``, and
        ``"runs"`` with the sizes of those that are not as in `RUNS`. Of a model that was run on the CPU, ``"device"``
        and ``"sizes"``, which of them were not its own in each comparison, "" for none; ``"checked"`` is what was
        compared at its own ones.

    Raises:
        MismatchError: the first number that differs.
        NBAnalyzerError: the template cannot be populated, or transformers cannot build or run its config.

    """
    template = catalog.completed(template)
    subject = subject or Subject.of(template.config)
    model = subject.build("eager", "batched_mm")
    versions = {
        "transformers": version("transformers"),
        "torch": version("torch").partition("+")[0],  # the build, +cpu or +cu…, makes no difference here
    }
    try:
        runs = runs_of(subject, model)
    except NeedsDataError as problem:
        return versions | _checked_with_data(template, subject, problem)
    eager = has_eager(template.kernels)

    def equal(runs: Mapping[str, Run]) -> dict[str, int | float]:
        return _equal(template, comparisons(subject, model, runs, lambda run: count(template, **run), eager))

    try:
        found = equal(runs)
    except MismatchError as mismatch:
        # Some make a longer table of positions for what is longer than they were made for.
        most = values_of(subject).get("max_position_embeddings", 0)
        if not 0 < most < max(run["seq_len"] + run.get("cache_len", 0) for run in runs.values()):
            raise
        runs = runs_of(subject, model, most=most)
        try:
            found = equal(runs)
        except MismatchError:
            raise mismatch from None
    other = {name: dict(run) for name, run in runs.items() if run != RUNS.get(name)}
    return {**versions, "checked": found, **({"runs": other} if other else {}), "result": "equal"}


def checked_under(template: ModelTemplate, own: Mapping[str, float]) -> str:
    """Return the release of transformers that a template was right for, if that explains why it is not right now.

    It does if another one is installed, and the template still says what PyTorch said when it was checked.

    Args:
        template: with its provenance.
        own: numbers by the template, by their names in the provenance.

    """
    release, checked = template.provenance.get("transformers"), template.provenance.get("checked")
    if not isinstance(release, str) or not isinstance(checked, Mapping) or release == version("transformers"):
        return ""
    recorded = {name: checked[name] for name in own if name in checked}
    return release if recorded and all(own[name] == number for name, number in recorded.items()) else ""


def prefill_of(template: ModelTemplate) -> dict[str, float]:
    """Return a prefill's numbers by a template, by their names in the provenance."""
    runs = template.provenance.get("runs")
    run = runs.get("prefill", RUNS["prefill"]) if isinstance(runs, Mapping) else RUNS["prefill"]
    totals = count(template, **run).totals
    return {"parameters": totals["parameters"]} | {f"prefill_{name}": value for name, value in totals.items()}


def _checked_with_data(template: ModelTemplate, subject: Subject, problem: NeedsDataError) -> dict[str, Any]:
    """Return the record of a template that equals PyTorch at all sizes that its model is run at on the CPU."""
    ours, theirs = (
        count(template, **samples.RUNS["prefill"]).totals["parameters"],
        oracle.parameters(subject.build()),
    )
    if ours != theirs:
        raise MismatchError(template.model_id, "parameters", ours, theirs)
    checked: dict[str, int | float] = {"parameters": theirs}
    sizes: list[str] = []
    for other in samples.runnable(subject, problem, OTHERS):
        model = other.build("eager", "batched_mm")
        runs = runs_of(other, model, samples.RUNS)
        change = samples.named(template, subject, other)
        analysed = partial(samples.analysed, template, other)
        found = _equal(template, comparisons(other, model, runs, analysed, has_eager(template.kernels)), change)
        checked |= {} if change else found
        sizes.append(change)
    own = "" in sizes
    return {
        "checked": checked,
        "device": "cpu",
        "sizes": sizes,
        **({"runs": {name: dict(run) for name, run in runs.items()}} if own else {}),
        "result": "equal" if own else TINY,
    }


def _equal(
    template: ModelTemplate, compared: Generator[Comparison, None, None], change: str = ""
) -> dict[str, int | float]:
    """Return what of the numbers is recorded, if all are equal.

    Raises:
        MismatchError: the first that is not; `change` says at which other sizes.

    """
    found: dict[str, int | float] = {}
    with closing(compared):  # a traceback would keep it open, and the model's functions replaced
        for one in compared:
            look()
            ours, theirs = one.numbers(one.whole)
            if ours != theirs:
                path = next((place.path for place in culprits(one.whole, one.numbers)), "")
                what = f"{one.what} with {change}" if change else one.what
                raise MismatchError(template.model_id, what, plain(ours), plain(theirs), path)
            if one.what.endswith(RECORDED):
                found[one.what] = plain(theirs)
    return found


@dataclass(frozen=True)
class Comparison:
    """One number, in total and at each place that it can be told of.

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


def comparisons(
    subject: Subject,
    model: torch.nn.Module,
    runs: Mapping[str, Run],
    analysed: Callable[[Run], Costs],
    eager: bool,
) -> Generator[Comparison, None, None]:
    """Yield everything that is compared in some runs: parameters, then each run by each oracle.

    Args:
        subject: the real model.
        model: as FlopCounterMode counts it.
        runs: name → options.
        analysed: what the template says of a run.
        eager: whether eager attention is compared too.

    """
    layers: Layers | None = None
    for one in measured(subject, model, runs, eager=eager):
        analysis = analysed(one.run)
        first = layers is None
        if layers is None:
            assert one.root is not None  # a prefill is traced first
            layers = oracle.layers_of(subject, model, one.root)
        whole = positions([node for node in analysis.nodes if node.parent is None], one.seen, layers)
        if first:
            places = parameters_of(whole, model)
            yield Comparison("parameters", "", "parameters", whole, _parameters(analysis, places))
        for metric in one.metrics:
            yield Comparison(f"{one.name}_{metric}", one.name, metric, whole, _costs(analysis, metric))
        for size in (2, 1):  # so that it is seen what of it is kept in the model's precision
            pair = (_state(analysis, size), one.kept[0] * size + one.kept[1])
            metric = "state_bytes" if size == 2 else "state_bytes_at_8_bit"
            yield Comparison(f"{one.name}_{metric}", one.name, metric, Position(""), _always(pair))


def _parameters(analysis: Costs, places: Mapping[Position, int]) -> Numbers:
    return lambda place: (place.by_template(analysis.costs, "parameters"), places[place])


def _costs(analysis: Costs, metric: str) -> Numbers:
    return lambda place: (place.by_template(analysis.costs, metric), place.by_pytorch(metric))


def _always(pair: tuple[Number, Number]) -> Numbers:
    return lambda _place: pair


def _state(analysis: Costs, size: int) -> Number:
    """Return the bytes of all that is kept, with elements of the cache of `size` bytes."""
    values = {**analysis.values, "kv_bytes": size}
    return normalize(sum((parse(text).evaluate(values) for text in analysis.template.state.values()), start=0))


def has_eager(kernels: Iterable[Kernel]) -> bool:
    """Return whether all attention in a template has an eager variant, and there is some."""
    found = [kernel for kernel in _composites(kernels) if kernel.module == ATTENTION]
    return bool(found) and all("eager" in kernel.variants for kernel in found)


def _composites(kernels: Iterable[Kernel]) -> Iterator[Composite]:
    for kernel in kernels:
        if isinstance(kernel, Composite):
            yield kernel
            yield from _composites(kernel.sub_kernels)
