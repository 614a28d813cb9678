"""The same model with tiny sizes, to be run on the CPU where its code asks for data.

It has the layers of the model and their kinds; only what is wide is made narrow. The template that is fitted to
it is that of any size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.generate.model.data import ALIKE, LARGEST
from nbanalyzer.generate.model.subject import NeedsDataError, Subject
from nbanalyzer.generate.trace.depth import Depth, shallow
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.progress import tell

from .fields import candidates
from .observation import observe, values_of
from .situations import base_runs

__all__ = ["DataDependentError", "require_determined", "restored", "tiny"]

NARROW = 16
"""Sizes up to this one stay as they are: they are counts, of heads, groups and experts."""

LEAST = 4
"""No size becomes smaller, derived ones such as that of a head included: of 1, PyTorch makes something else."""

POSITIONS = "position"  # a table of them is long, but as narrow as the model
LONGEST = (192, 1)  # at least as many tokens as any probe has
_CHOICE = re.compile(r"expert|top_?k")
FACTORS = (64, 32, 16, 8, 4, 2)


class DataDependentError(NBAnalyzerError):
    """A model that does more with some data than with other of the same sizes: no formula gives its cost."""


def tiny(subject: Subject, problem: NeedsDataError) -> Subject:
    """Return the model with tiny sizes, on the CPU.

    All wide sizes are divided by the same number, so that what divides another, or is a product of others, still is
    so; but for one that the model cannot do with.

    Raises:
        NeedsDataError: the `problem`, if no such model runs.
        ConfigError: transformers refuses the config.

    """
    subject = subject.with_fields(_said_once(subject))
    few, depth = shallow(subject)
    for number, change in enumerate(_changes(candidates(subject))):
        tell(f"looking for tiny sizes that it runs with, try {number + 1}", 0)
        if _runs(replace(few.with_fields(change), device="cpu"), depth, values_of(few)):
            return replace(subject.with_fields(change), device="cpu", largest=LARGEST // 4)
    raise problem


def restored(subject: Subject, small: Subject) -> Iterator[Subject]:
    """Yield the `small` model with one of its sizes each as the real `subject` has it."""
    real = candidates(subject.with_fields(_said_once(subject)))
    for name, size in candidates(small).items():
        if size != real.get(name, size):
            yield replace(small.with_fields({name: real[name]}), largest=LARGEST)


def _said_once(subject: Subject) -> dict[str, int]:
    """Return the sizes that a config states layer by layer, all the same, if one number will do."""
    known = values_of(subject)
    once = {
        name: value[0]
        for name, value in subject.config.items()
        if isinstance(value, list) and value and value.count(value[0]) == len(value) and known.get(name) == value[0]
    }
    with suppress(NBAnalyzerError):
        subject.with_fields(once).build()
        return once
    return {}


def _changes(sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield candidate reductions of the config, the smallest first: of all wide sizes, or of all but one."""
    wide = [name for name, size in sizes.items() if size > NARROW and POSITIONS not in name]
    every = [{name: max(sizes[name] // factor, 2) for name in wide} for factor in FACTORS]
    but_one = [{**change, name: sizes[name]} for change in every for name in wide]
    tried = (*every[:-2], *but_one, *every[-2:], {})  # to leave one as it is makes a smaller model than to halve all
    yield from (change for change in tried if _keeps_choices(sizes, {**sizes, **change}))


def _keeps_choices(sizes: Mapping[str, int], others: Mapping[str, int]) -> bool:
    """Return whether experts are still fewer than those they are chosen from, and whatever else is chosen."""
    named = [name for name in sizes if _CHOICE.search(name)]
    return all(others[left] < others[right] for left in named for right in named if sizes[left] < sizes[right])


def _runs(subject: Subject, depth: Depth, real: Mapping[str, int]) -> bool:
    """Return whether a model runs, and none of its sizes is so small that its code does something else with it."""
    with suppress(NBAnalyzerError):
        values = values_of(subject)
        if all(values.get(name, 0) >= min(size, LEAST) for name, size in real.items()):
            model = depth.shorten(subject.build())
            with recording(model):
                observe(subject, depth, 2, LONGEST, 13, real=True)
            return True
    return False


def require_determined(subject: Subject, depth: Depth) -> None:
    """Raise if what a model costs depends on the data that it is run on.

    Args:
        subject: where there is data.
        depth: its few layers.

    Raises:
        DataDependentError: other tokens or weights make other sizes.

    """
    usual, *others = (base_runs(replace(subject, seed=seed), depth) for seed in (subject.seed, 2, ALIKE))
    for other in others:
        for run, again in zip(usual, other, strict=True):
            for left, right in zip_longest(run.root.operations(), again.root.operations()):
                if left is None or right is None or left.done != right.done:
                    place = f"{left.name} ({left.line})" if left and right else "how much is run"
                    raise DataDependentError(
                        f"the cost depends on the data: as many other tokens make other sizes in {place}"
                    )
