"""The tools that help to choose: what fits, and variants side by side."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.comparison import MOST, compare
from nbanalyzer.analysis.memory import Fit
from nbanalyzer.analysis.solve import solve
from nbanalyzer.costs.metrics import unit_of
from nbanalyzer.costs.run import MEDIA, SIZES, SWITCHES
from nbanalyzer.errors import InputError, UnknownNameError
from nbanalyzer.hardware.accelerators import accelerators, hardware
from nbanalyzer.quantities import plain, si

from .answers import Answer, Rows, finite, page
from .arguments import Limit, Names, Nodes, Offset, Overlap, Pass, Values
from .passes import Number, analysis_of
from .shelf import Shelf, card_of

__all__ = ["compare_", "fit"]

MOST_CHANGES = 15
Size = Literal["batch_size", "seq_len", "cache_len", "images"]


class FitOf(Pass, frozen=True, kw_only=True):
    """What has to fit, and where."""

    hardware: Annotated[
        str, Meta(description="an accelerator: find the largest size that fits; left out: list what holds the pass")
    ] = ""
    maximize: Annotated[Size, Meta(description="of which size to find the largest; leave that size out")] = "batch_size"
    limit: Limit = 50
    offset: Offset = 0


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """An accelerator that holds a pass.

    Attributes:
        name: which.
        memory_bytes: what it has.
        free_bytes: what is left.

    """

    name: str
    memory_bytes: int
    free_bytes: Number


class Fitted(Rows, frozen=True, kw_only=True):
    """What fits.

    Attributes:
        model: its id and class.
        conditions: of the pass, at the size that was found.
        needed_bytes: what has to be in memory, at least: weights, cache, the largest activations.
        question: what was asked.
        value: the largest size; None if none fits, if all do, or if no hardware was given.
        reason: why there is no value.
        formula: the inequality that was solved.
        cards: the accelerators that hold the pass, the smallest memory first; without hardware only.

    """

    model: str
    conditions: str
    needed_bytes: Number
    question: str
    value: int | None
    reason: str
    formula: str
    cards: list[Card]

    def words(self) -> str:
        """Return the answer first."""
        if self.formula or self.reason or self.value is not None:
            found = self.reason if self.value is None else f"{self.value:,}"
            heads = [f"{self.question}: {found}", *([f"from {self.formula}"] if self.formula else [])]
        else:
            heads = [f"{self.question}: {self.total} hold {si(self.needed_bytes, 'B')}"]
        cards = [f"{card.name}: {si(card.memory_bytes, 'B')}, {si(card.free_bytes, 'B')} left" for card in self.cards]
        return "\n".join([*heads, self.model, self.conditions, *cards, *self.rest])


def fit(shelf: Shelf, asked: FitOf) -> Fitted:
    """Find the largest batch_size, seq_len, cache_len or number of images that fits into an accelerator's memory.

    Without hardware: which accelerators hold the pass, and how much each has left.
    """
    if not asked.hardware:
        analysis = analysis_of(shelf, asked)
        known = [card for card in map(hardware, accelerators()) if card.memory_bytes is not None]
        fits = [one for one in (Fit(analysis.memory, card) for card in known) if one]
        fits.sort(key=lambda one: one.capacity)
        cards = [Card(name=one.accelerator.name, memory_bytes=one.capacity, free_bytes=plain(one.free)) for one in fits]
        rows, place = page(cards, asked.limit, asked.offset)
        question, value, reason, formula = "accelerators that hold the pass", None, "", ""
    else:
        model, config = shelf.subject(asked)
        found = solve(model, card_of(asked.hardware), maximize=asked.maximize, config=config, **asked.run())
        analysis, question, value = found.analysis, found.question, found.value
        reason, formula = found.reason, found.formula
        rows, place = page([], asked.limit, asked.offset)
    return Fitted(
        model=analysis.title,
        conditions=analysis.conditions,
        needed_bytes=plain(analysis.memory.total),
        question=question,
        value=value,
        reason=reason,
        formula=formula,
        cards=rows,
        **place,
    )


class Compare(Pass, frozen=True, kw_only=True):
    """What to put side by side."""

    models: Annotated[Names, Meta(description="several models, in place of model")] = msgspec.field(
        default_factory=list
    )
    hardware: Annotated[Names, Meta(description="one accelerator or several")] = msgspec.field(default_factory=list)
    nodes: Nodes = 1
    overlap: Overlap = 0.0
    values: Annotated[
        Values, Meta(description='option of a pass → the values to compare, e.g. {"w_bit": [16, 8, 4]}')
    ] = msgspec.field(default_factory=dict)


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One of those that are compared.

    Attributes:
        label: what tells it from the others.
        model: its id and class.
        totals: metric → number; time in seconds at the roofline, fits as 0 or 1.

    """

    label: str
    model: str
    conditions: str
    totals: dict[str, Number | None]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A module in all variants.

    Attributes:
        path: where it is.
        values: its numbers, in the order of the variants; 0 where there is no such module.

    """

    path: str
    values: list[Number | None]


class Compared(Answer, frozen=True, kw_only=True):
    """Variants side by side.

    Attributes:
        variants: two to six.
        metric: what the modules are compared in.
        modules: those that differ most.
        warnings: what to know before believing the numbers.

    """

    variants: list[Variant]
    metric: str
    modules: list[Change]
    warnings: list[str]

    def words(self) -> str:
        """Return the totals of each, in a line."""
        rows = []
        for one in self.variants:
            numbers = (f"{name} {_shown(name, value)}" for name, value in one.totals.items() if value is not None)
            rows.append(f"{one.label}: {', '.join(numbers)}")
        parts = [f"{one.path}: {', '.join(map(_plain_text, one.values))}" for one in self.modules[:8]]
        notes = [f"warning: {text}" for text in self.warnings]
        return "\n".join([*rows, f"{self.metric} by module, what differs most first:", *parts, *notes])


def compare_(shelf: Shelf, asked: Compare) -> Compared:
    """Put two to six variants side by side: models, precisions, conventions, accelerators; and what differs most."""
    several = _values(asked)
    if asked.models and (asked.model or asked.config is not None):
        raise InputError("give model or models, not both")
    if len(asked.models) > MOST:
        raise InputError(f"a comparison is of 2 to {MOST} variants, not {len(asked.models)}")
    subjects = [shelf.source(name) for name in asked.models]
    config = None
    if not subjects:
        model, config = shelf.subject(asked)
        subjects = [model]
    cards = [card_of(name) for name in asked.hardware[: MOST + 1]]
    options = {**asked.run(), **several}
    card: Any = (cards[0] if len(cards) == 1 else cards) if cards else None
    found = compare(*subjects, hardware=card, nodes=asked.nodes, overlap=asked.overlap, config=config, **options)
    metric = "time" if "time" in found.metrics else "bytes"
    rows = list(found.by_module(metric).items())[:MOST_CHANGES]
    variants = [
        Variant(
            label=one.label or one.analysis.title,
            model=one.analysis.title,
            conditions=one.analysis.conditions,
            totals={name: finite(one.metric(name)) for name in found.metrics},
        )
        for one in found.variants
    ]
    modules = [Change(path=path, values=[finite(value) for value in values]) for path, values in rows]
    return Compared(variants=variants, metric=metric, modules=modules, warnings=list(found.warnings[:12]))


def _values(asked: Compare) -> dict[str, Any]:
    known = (*SIZES, *MEDIA, *SWITCHES)
    fixed = asked.run()
    for name in asked.values:
        if name not in known:
            raise UnknownNameError("option of a pass", name, known)
        if name in fixed:
            raise InputError(f"{name} is given twice: as itself, and in values")
    return {name: values[: MOST + 1] for name, values in asked.values.items()}


def _shown(metric: str, value: Number) -> str:
    unit = unit_of(metric)
    return f"{value:.4g} s" if unit == "s" else si(value, "B" if unit == "bytes" else "")


def _plain_text(value: Number | None) -> str:
    return "none" if value is None else f"{value:.4g}"
