"""A model template against the real model: equal, or an error that says where not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec

from nbanalyzer.costs.count import count
from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.generate.deadline import look
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.data import on_one_thread
from nbanalyzer.generate.model.subject import NeedsDataError, Subject
from nbanalyzer.generate.model.towers import require_packages
from nbanalyzer.generate.probe.observation import values_of
from nbanalyzer.generate.trace.recorder import seldom_collected
from nbanalyzer.generate.write.variants import has_eager, without_eager
from nbanalyzer.quantities import plain
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import ModelTemplate

from . import samples
from .comparison import Comparison, comparisons, parameters_alone
from .positions import culprits
from .runs import RUNS, Run, runs_of

__all__ = ["MismatchError", "check", "checked", "checked_under"]


RECORDED = ("parameters", "matmul_flops", "_read_bytes", "_write_bytes", "prefill_state_bytes")
"""Endings of what the provenance says; the rest is compared as well."""

OTHERS = 4
"""Random sizes that are compared where the model's own cannot be."""

TINY = "equal at tiny sizes on the CPU; at its own, only the parameters were compared"
"""The result of a model that needs data and is too large to be run with some."""


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
    if subject is None:
        require_packages(template.config, whole=template.reads is not None)
        subject = Subject.of(template.config)
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
        compared = comparisons(subject, model, runs, lambda run: count(template, **run), eager=eager)
        with closing(compared):  # a traceback would keep it open, and the model's functions replaced
            return _equal(template, compared)

    try:
        found = equal(runs)
    except MismatchError as mismatch:
        # Some make a longer table of positions for what is longer than they were made for.
        most = values_of(subject).get("max_position_embeddings", 0) or _positions_of_a_part(subject)
        if not 0 < most < max(run["seq_len"] + run.get("cache_len", 0) for run in runs.values()):
            raise
        runs = runs_of(subject, model, most=most)
        try:
            found = equal(runs)
        except MismatchError:
            raise mismatch from None
    other = {name: dict(run) for name, run in runs.items() if run != RUNS.get(name)}
    return {**versions, "checked": found, **({"runs": other} if other else {}), "result": "equal"}


def _positions_of_a_part(subject: Subject) -> int:
    """Return how many positions the shortest table of a part has, as TrOCR's decoder; 0 if none says."""
    parts = (part for part in subject.hf_config().to_dict().values() if isinstance(part, Mapping))
    stated = (part.get("max_position_embeddings") for part in parts)
    return min((number for number in stated if type(number) is int and number > 0), default=0)


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


def _checked_with_data(template: ModelTemplate, subject: Subject, problem: NeedsDataError) -> dict[str, Any]:
    """Return the record of a template that equals PyTorch at all sizes that its model is run at on the CPU."""
    checked = _equal(template, [parameters_alone(template, subject)])
    sizes: list[str] = []
    for other in samples.runnable(subject, problem, OTHERS):
        model = other.build("eager", "batched_mm")
        runs = runs_of(other, model, samples.RUNS)
        change = samples.named(template, subject, other)
        costs_of = partial(samples.analysed, template, other)
        compared = comparisons(other, model, runs, costs_of, eager=has_eager(template.kernels))
        with closing(compared):
            found = _equal(template, compared, change)
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


def _equal(template: ModelTemplate, compared: Iterable[Comparison], change: str = "") -> dict[str, int | float]:
    """Return what of the numbers is recorded, if all are equal.

    Raises:
        MismatchError: the first that is not; `change` says at which other sizes.

    """
    recorded: dict[str, int | float] = {}
    for comparison in compared:
        look()
        ours, theirs = comparison.totals
        if ours != theirs:
            path = next((place.path for place in culprits(comparison.whole, comparison.numbers)), "")
            what = f"{comparison.what} with {change}" if change else comparison.what
            raise MismatchError(template.model_id, what, plain(ours), plain(theirs), path)
        if comparison.what.endswith(RECORDED):
            recorded[comparison.what] = plain(theirs)
    return recorded
