"""Randomly sized variants of a model, and the template's prediction of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import with_media
from nbanalyzer.costs.run import Run as Options
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.generate.model.data import LARGEST
from nbanalyzer.generate.model.meta import Answers
from nbanalyzer.generate.model.subject import NeedsDataError, Subject
from nbanalyzer.generate.probe.observation import values_of
from nbanalyzer.generate.probe.sampling import probes, space_of
from nbanalyzer.generate.probe.tiny import restored, tiny
from nbanalyzer.generate.trace.depth import Depth, shallow
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.expansion import with_variants
from nbanalyzer.templates.template import ModelTemplate

from .media import in_run, needed
from .oracle import parameters

__all__ = ["RUNS", "UnvariedError", "analysed", "drawn", "named", "runnable"]

RUNS: Mapping[str, Mapping[str, Any]] = {
    "prefill": {"batch_size": 1, "seq_len": 37},
    "decode": {"batch_size": 1, "seq_len": 1, "cache_len": 37},
    "prefill_last_logits": {"batch_size": 3, "seq_len": 21, "logits": "last"},
    "continuation": {"batch_size": 3, "seq_len": 5, "cache_len": 21},
}
"""Name → the run that is compared, at sizes that are not the model's own."""

SEED = 29  # other sizes than those that the template was fitted to


class UnvariedError(NBAnalyzerError):
    """A model that is only run where a size is not its own, and not in every step at any other such size.

    A number in a formula could be that size, and nothing would have shown it.
    """


def runnable(subject: Subject, problem: NeedsDataError, count: int) -> Iterator[Subject]:
    """Yield models to compare instead of one whose code needs data: they run on the CPU.

    First the model itself, if it is small; then tiny ones with one size each as it really is, and `count` ones drawn.

    Args:
        subject: the real model.
        problem: why it does not run on the meta device.
        count: the number of random ones; fewer are found where the config's rules leave little room.

    Raises:
        NeedsDataError: the `problem`, if no tiny model runs.
        UnvariedError: after all of them: a size that was made tiny never was another one.

    """
    own = replace(subject, device="cpu")
    if parameters(subject.build()) <= LARGEST and _runs(own):
        yield own
        return
    small = tiny(subject, problem)
    base, real = values_of(small), values_of(subject)
    left = {name for name, value in base.items() if value != real[name]}
    for other in chain(filter(_runs, map(_shallow, restored(subject, small))), drawn(small, count) if count else ()):
        left -= {name for name, value in values_of(other).items() if value != base.get(name)}
        yield other
    if left:
        names = ", ".join(sorted(left))
        raise UnvariedError(
            f"made small to be run on the CPU, the model could not be compared at other values of {names}"
        )


def _shallow(subject: Subject) -> Subject:
    """Return the model with two layers, or as many as show all kinds, so that a wide one is not too large."""
    return subject.with_fields(shallow(replace(subject, device="meta"), least=2)[1].config())


def drawn(subject: Subject, count: int, *, deepen: bool = True) -> Iterator[Subject]:
    """Yield the model at other sizes, as they are drawn to fit templates to, and with other numbers of layers.

    Without `deepen` it has as many layers as it really has, for templates that only answer for those.
    """
    few, depth = shallow(subject)
    fields = subject.fields()
    found: list[Subject] = []
    with recording(subject.build()):  # closed before anything is yielded
        for observations in probes(space_of(few, depth), 4 * count, deepen=False, seed=SEED):
            other = observations[0].subject
            if deepen:
                other = _deeper(other, depth, 1 + len(found), fields)
            else:
                other = other.with_fields({name: fields[name] for name in depth.config()})
            if _runs(other):
                found.append(other)
            if len(found) >= count:
                break
    yield from found


def _runs(subject: Subject) -> bool:
    """Return whether a model runs with eager attention too, which asks more of its sizes."""
    try:
        read = in_run(subject, needed(subject))
        for step in subject.steps(subject.build("eager", "batched_mm"), 1, (4, 1), 5, read):
            with Answers():
                step.run()
    except NBAnalyzerError:
        return False
    return True


def _deeper(subject: Subject, depth: Depth, more: int, real: Mapping[str, Any]) -> Subject:
    """Return the model with `more` layers, or one more if the `real` one has `more`, where its config can say so."""
    if any(real.get(name) == count for name, count in depth.config(more).items()):
        more += 1
    for layers in (more, 0):
        deeper = subject.with_fields(depth.config(layers))
        with suppress(NBAnalyzerError):
            deeper.build()
            return deeper
    return subject


def analysed(template: ModelTemplate, subject: Subject, run: Mapping[str, Any]) -> Costs:
    """Return what a template says of a run of a model at other sizes than its own."""
    options = Options.of(**run)
    tree = Tree(with_variants(template, frozenset({options.attn}))[0])
    params = with_media(template, extract_model_params(subject.hf_config(), required=()), options)
    return Costs(tree, params, options)


def named(template: ModelTemplate, real: Subject, other: Subject) -> str:
    """Describe the sizes that a template uses, and that differ in the `other` model."""
    before, after = (extract_model_params(subject.hf_config(), required=()) for subject in (real, other))
    names = (name for name in Tree(template).variables if name in after and after[name] != before.get(name))
    return ", ".join(f"{name}={after[name]}" for name in sorted(names))
