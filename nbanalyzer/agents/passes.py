"""The tools about one forward pass: what it costs, and why."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.analysis.populate import populate
from nbanalyzer.analysis.roofline import Roofline
from nbanalyzer.costs.explanation import Derivation
from nbanalyzer.costs.metrics import PASS_METRICS
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import InputError, shorten
from nbanalyzer.quantities import plain, si
from nbanalyzer.report.analysis import headline

from .answers import Answer, Rows, finite, page
from .arguments import Hardware, Limit, Offset, Pass, read_range
from .shelf import Shelf, card_of, profile_of

__all__ = ["Number", "analysis_of", "analyze", "explain"]

Number = int | float
MOST_DEPTH = 30
LONGEST = 1_500
"""Characters of a formula in an answer."""


class Analyze(Hardware, frozen=True, kw_only=True):
    """Which pass, and how much of it to show."""

    depth: Annotated[
        int,
        Meta(description="levels of modules to show", extra_json_schema={"minimum": 1, "maximum": MOST_DEPTH}),
    ] = 4
    limit: Limit = 50
    offset: Offset = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A module, or a kernel beside modules; a module's numbers are the sum of what is inside.

    Attributes:
        path: where it is, as explain takes it.
        count: how often it runs in the pass.
        parameters: of all copies.
        flops: of all runs.
        bytes: moved by all runs.
        time: seconds of all runs at the roofline; None without hardware.

    """

    path: str
    count: Number
    parameters: Number
    flops: Number
    bytes: Number
    time: float | None = None


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """A pass on an accelerator.

    Attributes:
        accelerator: its name.
        answer: estimate, bound and fit, in a line.
        time: seconds at the roofline, with the efficiencies that were given.
        lower_bound: seconds that it takes at least on a serving engine.
        estimate: low, value and high in seconds, with their source; or why there is none.
        bound_by: what most of the time is spent on, memory or compute.
        memory_bytes: what has to be in memory, at least.
        fits: whether it does; None if the size of the memory is not known.

    """

    accelerator: str
    answer: str
    time: float | None
    lower_bound: float | None
    estimate: dict[str, Any] | str
    bound_by: str
    memory_bytes: Number
    fits: bool | None


class Analyzed(Rows, frozen=True, kw_only=True):
    """What a pass costs.

    Attributes:
        model: its id and class.
        conditions: the sizes and conventions that were counted with, and where the template is from.
        warnings: what to know before believing the numbers.
        totals: metric → number of the whole pass.
        hardware: times, if an accelerator was given.
        rows: the modules, in the order of the pass.

    """

    model: str
    conditions: str
    warnings: list[str]
    totals: dict[str, Number]
    hardware: Times | None
    heads: Annotated[list[str], Meta(description="the totals in words")]
    rows: list[Row]

    def words(self) -> str:
        """Return the totals, and the modules that move most."""
        notes = [f"warning: {text}" for text in self.warnings]
        answer = [f"{self.hardware.accelerator}: {self.hardware.answer}"] if self.hardware else []
        rows = [f"{row.path} x{row.count}: {si(row.flops)} FLOPs, {si(row.bytes, 'B')}" for row in self.rows[:12]]
        return "\n".join([self.model, self.conditions, *notes, *answer, *self.heads, *rows, *self.rest])


def analyze(shelf: Shelf, asked: Analyze) -> Analyzed:
    """Say what one forward pass of a model costs: FLOPs, bytes, parameters, cache, module by module.

    With hardware, also how long it takes at least, what is expected, and whether it fits. A decode step is seq_len=1
    with a cache_len.
    """
    analysis = analysis_of(shelf, asked)
    roofline = roofline_of(analysis, asked)
    nodes = analysis.rows(read_range("depth", asked.depth, 1, MOST_DEPTH))
    rows, place = page([_row(analysis, roofline, node) for node in nodes], asked.limit, asked.offset)
    return Analyzed(
        model=analysis.title,
        conditions=analysis.conditions,
        warnings=[*analysis.warnings, *(roofline.notes if roofline else ())],
        totals=analysis.totals,
        hardware=times_of(roofline) if roofline else None,
        heads=[f"{name}: {text}" for name, text in headline(analysis)],
        rows=rows,
        **place,
    )


def analysis_of(shelf: Shelf, asked: Pass) -> Analysis:
    """Return the analysis of a pass."""
    model, config = shelf.subject(asked)
    return populate(model, config=config, **asked.run())


def roofline_of(analysis: Analysis, asked: Hardware) -> Roofline | None:
    """Return a pass on the accelerator that was named, if one was."""
    reached = asked.reached()
    if not asked.hardware:
        return None
    return analysis.on(card_of(asked.hardware), profile=profile_of(asked.profile), **reached)


def times_of(roofline: Roofline) -> Times:
    """Return a roofline as data."""
    estimate = roofline.summary["estimate"]
    return Times(
        accelerator=roofline.accelerator.name,
        answer=roofline.answer,
        time=finite(roofline.time),
        lower_bound=finite(roofline.lower_bound),
        estimate=dict(estimate) if isinstance(estimate, dict) else str(estimate),
        bound_by=str(roofline.bound),
        memory_bytes=plain(roofline.memory.total),
        fits=None if roofline.fit is None else bool(roofline.fit),
    )


def _row(analysis: Analysis, roofline: Roofline | None, node: Node) -> Row:
    cost = analysis.cost(node)
    return Row(
        path=node.path,
        count=plain(cost.count),
        parameters=plain(cost.parameters),
        flops=plain(cost.flops),
        bytes=plain(cost.bytes),
        time=finite(roofline.timings[node].time) if roofline else None,
    )


class Explain(Hardware, frozen=True, kw_only=True):
    """Which number of which pass."""

    what: Annotated[
        str,
        Meta(
            description="the path of a module or kernel, as analyze gives it (an end of it will do: h.attn.c_attn), or "
            f"a metric of the whole pass: {', '.join(PASS_METRICS)}"
        ),
    ]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The derivation of one number.

    Attributes:
        what: which.
        in_module: the formula of the module template, in context variables; empty if it is from none.
        in_model: the same in global variables.
        with_values: the same with values.
        number: its value, for one execution.
        count: executions.

    """

    what: str
    in_module: str
    in_model: str
    with_values: str
    number: Number
    count: Number


class Explained(Answer, frozen=True, kw_only=True):
    """Where a number comes from.

    Attributes:
        model: its id and class.
        conditions: what was counted with.
        title: what is explained.
        bindings: context variable = formula = value, a line each; of a time, its derivation.
        steps: number ← values ← formula ← module template.

    """

    model: str
    conditions: str
    title: str
    bindings: list[str]
    steps: list[Step]
    text: Annotated[str, Meta(description="the same as lines")]

    def words(self) -> str:
        """Return the derivations as lines."""
        return "\n".join([self.model, self.conditions, self.text])


def explain(shelf: Shelf, asked: Explain) -> Explained:
    """Say where a number comes from: number, formula with values, formula, module template and bindings.

    With hardware, where the estimated time of a kernel comes from.
    """
    analysis = analysis_of(shelf, asked)
    roofline = roofline_of(analysis, asked)
    if not asked.what.strip():
        raise InputError("what is empty: give the path of a module, or a metric")
    found = roofline.explain(asked.what) if roofline else analysis.explain(asked.what)
    kept, _ = page([_step(one) for one in found.derivations], 200, 0)
    return Explained(
        model=analysis.title,
        conditions=analysis.conditions,
        title=found.title,
        bindings=[shorten(line, 300) for line in found.bindings[:40]],
        steps=kept,
        text=shorten(repr(found), 3_000),
    )


def _step(found: Derivation) -> Step:
    formulas = {name: shorten(getattr(found, name), LONGEST) for name in ("in_module", "in_model", "with_values")}
    return Step(what=found.what, number=plain(found.number), count=plain(found.count), **formulas)
