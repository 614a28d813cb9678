"""A draft of a model template: what is wrong with it, what it becomes, whether its numbers are right, and its file.

Whoever drafts, a person or a program, the check decides: against PyTorch where transformers has the model, else
against what is published of it. A draft whose check fails is not saved; a template that was drafted says so in every
result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count, shortest
from nbanalyzer.display import Shown
from nbanalyzer.errors import InputError, NBAnalyzerError, TemplateError, quote, shorten
from nbanalyzer.files import read_file, write_whole, writing
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.generate.api import verify
from nbanalyzer.generate.deadline import allowed
from nbanalyzer.quantities import show
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.config_files import as_mapping, essential
from nbanalyzer.templates.template import DRAFTED, NOT_CHECKED, Composite, ModelTemplate
from nbanalyzer.templates.template_files import encode, load_model_template

from .facts import Facts, Stated
from .findings import Draft, Finding, Findings, read, validation

if TYPE_CHECKING:
    from nbanalyzer.generate.check.verification import Verification

__all__ = [
    "Check", "Draft", "Facts", "Finding", "Findings", "Row", "Source", "check", "expanded", "save", "validation",
]  # fmt: skip

COMPARED = ("parameters", "matmul FLOPs")  # with PyTorch; how a draft divides a model into operations is its own affair
STATED = {"parameters": "parameters", "flops": "FLOPs", "checkpoint_bytes": "checkpoint bytes"}
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
KEPT = ("source",)  # of the provenance that a draft states: all else there says what was checked, which it cannot know


class Row(NamedTuple):
    """One number of a draft beside what it should be.

    Attributes:
        what: what is counted, and in which run.
        stated: what it should be, as it is stated.
        counted: by the draft.
        verdict: ``"equal"``, ``"equal as rounded"``, or how far off it is.
        ok: whether it is right.

    """

    what: str
    stated: str
    counted: str
    verdict: str
    ok: bool


class Source(NamedTuple):
    """Where parameters of a draft come from: one kernel.

    Attributes:
        kernel: its path.
        module: the module template that it refers to; "" if its parameters are the draft's own.
        parameters: of all its copies.
        formula: of one copy.
        copies: how many there are.

    """

    kernel: str
    module: str
    parameters: Number
    formula: str
    copies: Number


@dataclass(frozen=True, repr=False)
class Check(Shown, shown_by="draft"):
    """A draft's numbers beside what they should be.

    Attributes:
        name: the draft's model.
        findings: what keeps it from being expanded.
        draft: the draft, expanded; None if there are findings.
        template: the same with the config that it was compared with.
        rows: what was compared.
        against: what with, in a few words; "" if there was nothing.
        sources: where its parameters come from, the largest first.
        details: where it differs from PyTorch, kernel by kernel, a line each.
        problem: why nothing could be counted, e.g. a size that its config lacks.

    """

    name: str
    findings: Findings = field(default_factory=Findings)
    draft: ModelTemplate | None = None
    template: ModelTemplate | None = None
    rows: tuple[Row, ...] = ()
    against: str = ""
    sources: tuple[Source, ...] = ()
    details: tuple[str, ...] = ()
    problem: str = ""

    @property
    def failed(self) -> bool:
        """Whether something is wrong with the draft: then it is not saved."""
        return not self.findings.ok or bool(self.problem) or not all(row.ok for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it is right."""
        return bool(self.rows) and not self.failed

    @property
    def result(self) -> str:
        """What every result of the template says of its check; ``"refused"`` if it failed."""
        if self.failed:
            return "refused"
        return f"drafted, checked against {self.against}" if self.rows else NOT_CHECKED


def expanded(draft: Draft) -> ModelTemplate | Findings:
    """Return the template that a draft becomes, in global variables only; or what keeps it from that."""
    template, found = read(draft)
    if template is None:
        return found
    found = validation(template)
    return catalog.completed(template) if found.ok else found


def check(
    draft: Draft, *, config: object = None, facts: Facts | Mapping[str, Any] | None = None, name: str = ""
) -> Check:
    """Return a draft's numbers beside PyTorch's, beside what is stated of the model, or both.

    Args:
        draft: plain JSON data, or its text.
        config: a transformers config: plain data, an object, a path or a catalogue name. The model that transformers
            builds from it is compared in parameters and matmul FLOPs, with its sizes; needs torch.
        facts: what is published: see `Facts`. They are compared at the sizes of the draft's own config, or of `config`.
        name: of the model; the draft's own if "".

    Raises:
        MissingPackageError: torch is needed and not installed.
        InputError: a fact that is no number.
        ConfigError: transformers does not know the model, or refuses the config.
        NBAnalyzerError: a model that does not run, or takes too long.

    """
    known = Facts.of(facts)
    stated = known.stated
    written, _ = read(draft)
    name = shorten(name or (written.model_id if written else "") or "draft", 100)
    own = expanded(draft)
    if isinstance(own, Findings):
        return Check(name, own)
    given = None if config is None else _fields(config)
    template = msgspec.structs.replace(own, config=own.config if given is None else given, valid_for=None)
    rows = [] if given is None else _sizes(own, given)
    against: list[str] = []
    details: tuple[str, ...] = ()
    try:
        costs = count(template, **shortest(template))
        rows += _facts(template, costs, known)
    except NBAnalyzerError as error:
        return Check(name, Findings(), own, template, tuple(rows), problem=str(error))
    if given is not None:
        verification = verify(template, random_configs=0, seconds=allowed())
        rows += _compared(verification)
        details = _details(verification, rows)
        against.append(f"transformers {version('transformers')} at its own config")
    if stated:
        against.append(f"stated {', '.join(STATED[one] for one in stated)}")
    return Check(name, Findings(), own, template, tuple(rows), " and ".join(against), tuple(_sources(costs)), details)


def save(draft: Draft, folder: str | os.PathLike[str], name: str, check: Check) -> Path:
    """Write a draft as the template of a model, whole or not at all, with what its check says; return the file's path.

    Args:
        draft: the one that was checked.
        folder: where; nothing is written anywhere else.
        name: ``"name"`` or ``"org/name"``: the file is ``<folder>/org/name.json``.
        check: of this draft.

    Raises:
        InputError: the check failed, or is of another draft; a name that leads out of the folder, or to a file that
            nobody drafted; a place that cannot be written to.

    """
    if check.failed or check.template is None:
        raise InputError(f"{check.name} is not saved: its check failed; correct the draft and check it again")
    template = expanded(draft)
    if isinstance(template, Findings) or template != check.draft:
        raise InputError(f"{check.name} is not saved: the check is of another draft")
    target = _target(folder, name)
    numbers = {row.what: {"stated": row.stated, "counted": row.counted} for row in check.rows}
    told = {key: value for key in KEPT if isinstance(value := template.provenance.get(key), str)}
    whole = msgspec.structs.replace(
        check.template, model_id=name, provenance={**told, DRAFTED: numbers, "result": check.result}
    )
    content = encode(whole)
    load_model_template(content, name)  # what is written can be read
    with writing(quote(f"{name}.json")):
        target.parent.mkdir(exist_ok=True)
        write_whole(target, content)
    return target


def _target(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the file that a template of this name is written to, inside the folder whatever the name."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"a template is saved as name or org/name, of letters, digits, '_', '.', '-': not {quote(name)}"
        )
    try:
        root = Path(folder).resolve(strict=True)
    except (OSError, ValueError):
        raise InputError(f"no folder {quote(os.fspath(folder))} to save into") from None
    target = root / f"{name}.json"
    # Of links, even those that lead to another place inside: who reads the path would think of this one.
    if target.is_symlink() or (target.parent != root and target.parent.is_symlink()):
        raise InputError(f"{quote(f'{name}.json')} is a link, or behind one: templates are saved in the folder itself")
    if target.exists() and not _is_drafted(target):
        raise InputError(f"{quote(f'{name}.json')} is there and nobody drafted it: choose another name")
    return target


def _is_drafted(path: Path) -> bool:
    try:
        return DRAFTED in load_model_template(read_file(path)).provenance
    except TemplateError:
        return False


# ---- what is compared


def _fields(config: object) -> dict[str, Any]:
    """Return the fields of a config in any of its forms, a catalogue name included."""
    found = catalog.config_of(config)[0] if isinstance(config, str | os.PathLike) else as_mapping(config)
    return essential(dict(found))


def _sizes(template: ModelTemplate, config: Mapping[str, Any]) -> list[Row]:
    """Return the sizes that the draft's own config has otherwise."""
    if not template.config:
        return []
    own = extract_model_params(template.config, required=())
    theirs = extract_model_params(config, required=())
    names = [name for name in theirs if name in own and own[name] != theirs[name] and name in template.variables]
    return [Row(f"config, {name}", f"{theirs[name]:,}", f"{own[name]:,}", "differs", ok=False) for name in names]


def _facts(template: ModelTemplate, costs: Costs, facts: Facts) -> list[Row]:
    """Return the rows of what is stated of the model."""
    rows = []
    parameters = costs.cost_of_all.parameters
    for name, stated in facts.stated.items():
        if name == "parameters":
            what, counted = name, parameters
        elif name == "flops":
            what = ", ".join(("matmul FLOPs", *(f"{size} {value}" for size, value in facts.run.items())))
            counted = count(template, **facts.run).cost_of_all.matmul_flops
        else:
            bits = facts.checkpoint_bits
            what, counted = f"checkpoint bytes, {bits} bits", normalize(Fraction(parameters * bits, 8))
        rows.append(_row(what, stated, counted))
    return rows


def _row(what: str, stated: Stated, counted: Number) -> Row:
    ok = stated.includes(counted)
    verdict = _off(counted, stated.value) if not ok else "equal as rounded" if stated.half else "equal"
    return Row(what, stated.text, show(counted), verdict, ok)


def _off(counted: Number, right: Number) -> str:
    """Return how far off a number is."""
    difference = normalize(Fraction(counted - right))
    return f"differs by {'+' if difference > 0 else ''}{show(difference)}, {100 * float(difference / right):+.3g} %"


def _compared(verification: Verification) -> list[Row]:
    """Return the rows of the whole model beside PyTorch."""
    rows = []
    for what, ours, theirs in dict.fromkeys((row.what, row.template, row.pytorch) for row in verification.totals):
        if what.startswith(COMPARED):
            equal = ours == theirs
            verdict = "equal" if equal else _off(_exact(ours), _exact(theirs)) if theirs else "differs"
            rows.append(Row(f"{what}, by PyTorch", show(_exact(theirs)), show(_exact(ours)), verdict, equal))
    return rows


def _details(verification: Verification, rows: list[Row]) -> tuple[str, ...]:
    """Return where a draft differs from PyTorch, of the numbers that do in total."""
    wrong = {row.what.removesuffix(", by PyTorch") for row in rows if not row.ok}
    places: dict[str, str] = {}
    for row in verification.differences:
        if row.what in wrong and row.path not in places and row not in verification.totals:
            numbers = f"{show(_exact(row.template))} in the draft, {show(_exact(row.pytorch))} by PyTorch"
            places[row.path] = f"{row.path}: {row.what} {numbers}"
    return tuple(places.values())


def _exact(value: float) -> Number:
    return normalize(Fraction(value))


def _sources(costs: Costs) -> list[Source]:
    """Return where the parameters come from, the largest first."""
    found = []
    for node in costs.nodes:
        each = costs.value_of(node.own_parameters)
        if each and isinstance(node.kernel, Composite):
            copies = costs.cost(node).copies
            found.append(Source(node.path, node.kernel.module, each * copies, str(node.own_parameters), copies))
    return sorted(found, key=lambda source: -source.parameters)
