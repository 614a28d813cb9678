"""The tools about drafts of templates: what is wrong, what it becomes, whether its numbers are right, and its file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.draft import Check, Facts, Finding, Findings, check, expanded, save, validation
from nbanalyzer.errors import InputError, quote, shorten
from nbanalyzer.quantities import plain
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import Basic, Kernel

from .answers import Answer, Rows, page
from .arguments import Arguments, Limit, Offset
from .passes import Number
from .shelf import Shelf

__all__ = ["check_", "expand", "save_", "validate"]

LONGEST = 600
"""Characters of a formula in an answer."""
MOST_LINES = 30

Draft = Annotated[
    dict[str, Any] | str,
    Meta(description="a model template, as data or as its JSON text: the resource nbanalyzer://formats has the fields"),
]


class DraftOf(Arguments, frozen=True, kw_only=True):
    """A draft."""

    draft: Draft


class PagesOfDraft(DraftOf, frozen=True, kw_only=True):
    """A draft, and which part of a long answer."""

    limit: Limit = 50
    offset: Offset = 0


# ---- what is wrong


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    Attributes:
        place: where in the draft's JSON.
        kernel: the path of the kernel there; empty for the model itself.
        problem: what is wrong, and what would put it right.
        missing: context variable → what it means, of each binding that is missing there.

    """

    place: str
    kernel: str
    problem: str
    missing: dict[str, str]


class Validated(Rows, frozen=True, kw_only=True):
    """All that is wrong with a draft.

    Attributes:
        ok: whether nothing is.
        rows: what is, in the order of the draft.

    """

    ok: bool
    rows: list[Wrong]

    def words(self) -> str:
        """Return a line for each."""
        if self.ok:
            return "in global variables only: nothing is unresolved. Check it next."
        found = [f"{one.place}{f' ({one.kernel})' if one.kernel else ''}: {one.problem}" for one in self.rows]
        return "\n".join([f"to be put right: {self.total}", *found, *self.rest])


def validate(_: Shelf, asked: PagesOfDraft) -> Validated:
    """List all that is wrong with a draft: every field, name and formula, and every variable that nothing binds.

    Each comes with its place, its kernel, and the binding that is missing there.
    """
    found = validation(asked.draft)
    rows, place = page([_wrong(one) for one in found.findings], asked.limit, asked.offset)
    return Validated(ok=found.ok, rows=rows, **place)


def _wrong(one: Finding) -> Wrong:
    text = str(one)
    problem = text.partition(": ")[2] or text
    missing = {shorten(name): shorten(meaning, 200) for name, meaning in one.missing.items()}
    return Wrong(place=shorten(one.place, 200), kernel=shorten(one.kernel, 200), problem=problem, missing=missing)


# ---- what it becomes


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel in global variables; formulas that it does not have are empty.

    Attributes:
        path: where it is.
        module: the module template that it is from.
        repeat: copies.
        calls: how often each copy runs.
        parameters: of one copy.
        unit: of a basic kernel, matmul or vector.

    """

    path: str
    module: str = ""
    repeat: str = ""
    calls: str = ""
    parameters: str = ""
    unit: str = ""
    flops: str = ""
    read: str = ""
    write: str = ""


class Expanded(Rows, frozen=True, kw_only=True):
    """The template that a draft becomes.

    Attributes:
        model: its id.
        state: name → formula of the bytes kept between passes.
        rows: its kernels, in the order of a pass.

    """

    model: str
    state: dict[str, str]
    rows: list[Node]

    def words(self) -> str:
        """Return the kernels' formulas."""
        state = [f"state {name}: {text}" for name, text in self.state.items()]
        rows = [f"{one.path}: {one.parameters or one.flops or one.repeat}" for one in self.rows]
        return "\n".join([f"{self.model}: {self.total} kernels", *state, *rows, *self.rest])


def expand(_: Shelf, asked: PagesOfDraft) -> Expanded:
    """Show what a draft becomes: every kernel with its formulas in global variables, module templates put in."""
    found = expanded(asked.draft)
    if isinstance(found, Findings):
        number = len(found.findings)
        raise InputError(f"{number} to be put right first, nbanalyzer_validate lists them: {found.lines[0]}")
    rows, place = page(list(_nodes(found.kernels)), asked.limit, asked.offset)
    state = {name: shorten(text, LONGEST) for name, text in list(found.state.items())[:8]}
    return Expanded(model=found.model_id or "draft", state=state, rows=rows, **place)


def _nodes(kernels: tuple[Kernel, ...], above: str = "") -> Iterator[Node]:
    for kernel in kernels:
        path = f"{above}.{kernel.name}" if above else kernel.name
        if isinstance(kernel, Basic):
            access = kernel.memory_access
            flops, read, write = (shorten(text, LONGEST) for text in (kernel.flops, access.read, access.write))
            yield Node(path=path, unit=kernel.unit, flops=flops, read=read, write=write)
            continue
        repeat, calls, own = (shorten(text, LONGEST) for text in (kernel.repeat, kernel.calls, kernel.parameters))
        yield Node(path=path, module=kernel.module, repeat=repeat, calls=calls, parameters=own)
        yield from _nodes(kernel.sub_kernels, path)


# ---- whether its numbers are right


class CheckOf(DraftOf, frozen=True, kw_only=True):
    """A draft, and what to hold it against."""

    config: Annotated[
        dict[str, Any] | str | None,
        Meta(
            description="a transformers config as data, or the name of a catalogue model: compared with PyTorch, in "
            "parameters and matmul FLOPs; needs torch"
        ),
    ] = None
    facts: Annotated[
        Facts | None,
        Meta(
            description='what is published of the model: {"parameters": "7.6B"}, {"flops": …, "run": {"seq_len": …}}, '
            '{"checkpoint_bytes": …}; exact numbers, or texts as they are written'
        ),
    ] = None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a draft beside what it should be.

    Attributes:
        what: is compared.
        stated: what it should be.
        counted: by the draft.
        verdict: equal, equal as rounded, or how far off it is.
        ok: whether it is right.

    """

    what: str
    stated: str
    counted: str
    verdict: str
    ok: bool


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where parameters of a draft come from: one kernel, of so many copies."""

    kernel: str
    module: str
    parameters: Number
    formula: str
    copies: Number


class Checked(Answer, frozen=True, kw_only=True):
    """A draft's numbers beside what they should be.

    Attributes:
        ok: whether something was compared, and all of it is right.
        result: what every result of the template would say; "refused" if something is wrong.
        rows: what was compared.
        sources: where the draft's parameters come from, the largest first.
        details: where it differs from PyTorch.
        findings: what keeps it from being counted.

    """

    ok: bool
    result: str
    rows: list[Compared]
    sources: list[Origin]
    details: list[str]
    findings: list[str]
    report: Annotated[list[str], Meta(description="all of it in lines")]

    def words(self) -> str:
        """Return the report."""
        return "\n".join(self.report)


def check_(_: Shelf, asked: CheckOf) -> Checked:
    """Hold a draft against PyTorch's own count of a config, against published numbers, or both.

    Without either the draft is only counted, and would be saved as "drafted, not checked".
    """
    found = _check(asked)
    sources = [
        Origin(
            kernel=shorten(one.kernel, 200), module=shorten(one.module, 200), parameters=plain(one.parameters),
            formula=shorten(one.formula, 200), copies=plain(one.copies),
        )
        for one in found.sources[:15]
    ]  # fmt: skip
    findings = [*found.findings.lines, *([found.problem] if found.problem else [])]
    return Checked(
        ok=found.ok,
        result=found.result,
        rows=[Compared(**row._asdict()) for row in found.rows[:MOST_LINES]],
        sources=sources,
        details=[shorten(line, 300) for line in found.details[:10]],
        findings=findings[:10],
        report=[shorten(line, 200) for line in repr(found).splitlines()[:20]],
    )


def _check(asked: CheckOf, name: str = "") -> Check:
    config: Any = asked.config
    if isinstance(config, str) and config.casefold() not in catalog.aliases():
        raise InputError(f"config is data, or the name of a catalogue model, not {quote(config)}")
    facts = None if asked.facts is None else msgspec.to_builtins(asked.facts)
    return check(asked.draft, config=config, facts=facts, name=name)


# ---- its file


class SaveOf(CheckOf, frozen=True, kw_only=True):
    """A draft, what to hold it against, and its name."""

    name: Annotated[str, Meta(description="what it is called from then on: name or org/name, no path")]


class Saved(Answer, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        model: the name under which the other tools find it.
        path: of the file.
        result: what every result of it says.
        rows: what was compared.

    """

    model: str
    path: str
    result: str
    rows: list[Compared]

    def words(self) -> str:
        """Return what was written."""
        rows = [f"{one.what}: {one.counted}, {one.verdict}" for one in self.rows]
        return "\n".join([f"saved as {self.model}: {self.result}", self.path, *rows])


def save_(shelf: Shelf, asked: SaveOf) -> Saved:
    """Check a draft, and write it as a template under a name, if nothing is wrong with it; whole or not at all.

    Only into the folder that the server was started with. What was not compared is saved as "drafted, not checked".
    """
    folder = shelf.place()
    if asked.name.casefold() in catalog.aliases():
        raise InputError(f"{quote(asked.name)} is a model of the catalogue: choose another name")
    found = _check(asked, asked.name if len(asked.name) <= 200 else "")
    if found.failed:
        wrong = [f"{row.what} is {row.stated}, the draft has {row.counted}" for row in found.rows if not row.ok]
        reasons = [*found.findings.lines, found.problem, *wrong]
        raise InputError(f"not saved, the check refuses it: {'; '.join(filter(None, reasons))}")
    path = save(asked.draft, folder, asked.name, found)
    rows = [Compared(**row._asdict()) for row in found.rows[:MOST_LINES]]
    return Saved(model=asked.name, path=str(path), result=found.result, rows=rows)
