"""What is wrong with a draft of a model template: everything at once, each with its place and what would put it right.

A draft is a template that somebody, or something, is still writing: plain JSON data, or its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbanalyzer.errors import (
    ConfigError,
    InputError,
    NBAnalyzerError,
    TemplateError,
    UnresolvedVariablesError,
    near,
    quote,
    shorten,
)  # fmt: skip
from nbanalyzer.files import convert, decode
from nbanalyzer.formulas.variables import ALLOWED_VARIABLES
from nbanalyzer.templates import catalog, expansion
from nbanalyzer.templates.families import canonical_name
from nbanalyzer.templates.library import MODULES
from nbanalyzer.templates.template import Basic, Composite, Kernel, ModelTemplate
from nbanalyzer.templates.validation import MAX_LEVELS, DisallowedVariable, require_size
from nbanalyzer.text import as_lines, printable

__all__ = ["Draft", "Finding", "Findings", "read", "validation"]

Draft = str | bytes | Mapping[str, Any] | ModelTemplate
"""A model template that is being written: plain JSON data, or its text."""

MAX_CHARACTERS = 4 * 2**20  # of a draft's text; the largest shipped template has a tenth


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a draft.

    Attributes:
        place: where in the draft's JSON, e.g. ``"$.kernels[1].bindings"``.
        kernel: path of the kernel there, e.g. ``"model.layers.mlp.up_proj"``; "" for the model itself.
        problem: what is wrong, and what would put it right.
        missing: variable → what to bind it to, of each binding that is missing there.

    """

    place: str
    kernel: str
    problem: str
    missing: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        problem = str(NBAnalyzerError(self.problem))  # one line of printable text, however long what it quotes
        return f"{printable(self.place)}{f' ({printable(self.kernel)})' if self.kernel else ''}: {problem}"


@dataclass(frozen=True)
class Findings:
    """All that is wrong with a draft, in the order of its text."""

    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is."""
        return not self.findings

    @property
    def lines(self) -> list[str]:
        """One line for each."""
        return [*map(str, self.findings)]

    def __str__(self) -> str:
        return as_lines(self.lines) if self.findings else "in global variables only: nothing is unresolved"


def validation(draft: Draft) -> Findings:
    """Return all that is wrong with a draft: fields, names, formulas, modules, and every variable that nothing binds.

    Args:
        draft: plain JSON data, or its text; a template will do as well.

    Raises:
        InputError: the draft is neither.

    """
    template, found = read(draft)
    return found if template is None else _findings(template)


def read(draft: Draft) -> tuple[ModelTemplate | None, Findings]:
    """Return the template that a draft says, its modules not yet looked for, or what keeps it from being one."""
    if isinstance(draft, ModelTemplate):
        return draft, Findings()
    data: object = draft
    if isinstance(draft, str | bytes):
        if len(draft) > MAX_CHARACTERS:
            return None, _one(f"larger than {MAX_CHARACTERS // 2**20} MiB, which no template is")
        try:
            data = decode(draft.encode() if isinstance(draft, str) else draft, Any, "draft")
        except TemplateError as error:
            return None, _one(f"{error.problem}{error.where.removeprefix('draft')}")
        except UnicodeEncodeError:
            return None, _one("not UTF-8 text")
        if not isinstance(data, Mapping):
            return None, _one(f"a draft is a JSON object with kernels, not {quote(data)}")
    if not isinstance(data, Mapping):
        raise InputError(f"a draft is JSON data or its text, not of type {type(data).__name__}")
    if misfits := _misfits(data):
        return None, Findings(tuple(misfits))
    try:
        return convert(data, ModelTemplate, "draft"), Findings()
    except TemplateError as error:
        return None, _one(error.problem, error.where.rpartition(", ")[2].replace("draft", "$"))


def _one(problem: str, place: str = "$") -> Findings:
    return Findings((Finding(place, "", problem),))


# ---- its fields


def _misfits(data: Mapping[str, Any]) -> list[Finding]:
    """Return every field that is not as the format says, the first one of each kernel."""
    found: list[Finding] = []
    try:
        convert({name: value for name, value in data.items() if name != "kernels"}, ModelTemplate, "$")
    except TemplateError as error:
        found.append(_misfit(error, "$", ""))
    kernels = data.get("kernels")
    if not (kernels or data.get("extends") or found):
        found.append(Finding("$", "", "a template without kernels: there is nothing to count"))
    waiting = [(f"$.kernels[{number}]", "", 1, one) for number, one in _numbered(kernels)]
    seen = 0
    while waiting:
        place, above, level, kernel = waiting.pop(0)
        seen += 1
        try:
            require_size(seen, 0)
            if level > MAX_LEVELS:
                raise TemplateError(f"kernels are nested more than {MAX_LEVELS} deep", "$")
        except TemplateError as error:
            return [*found, Finding(place, above, error.problem)]
        kind = kernel.get("kernel_type") if isinstance(kernel, Mapping) else None
        if not isinstance(kernel, Mapping) or kind not in ("basic", "composite"):
            problem = f'a kernel has "kernel_type": "basic" or "composite", not {quote(kind)}'
            found.append(Finding(place, above, problem))
            continue
        name = kernel.get("operation" if kind == "basic" else "name")
        path = ".".join(filter(None, (above, shorten(str(name or "")))))
        own = {key: value for key, value in kernel.items() if key != "sub_kernels" or kind == "basic"}
        try:
            _ = convert(own, Basic, "$") if kind == "basic" else convert(own, Composite, "$")
        except TemplateError as error:
            found.append(_misfit(error, place, path))
        if kind == "composite":
            inner = _numbered(kernel.get("sub_kernels"))
            waiting = [(f"{place}.sub_kernels[{number}]", path, level + 1, one) for number, one in inner] + waiting
    return found


def _numbered(kernels: object) -> Iterator[tuple[int, Any]]:
    return enumerate(kernels) if isinstance(kernels, list | tuple) else iter(())


def _misfit(error: TemplateError, place: str, kernel: str) -> Finding:
    inside = error.where.rpartition(", ")[2].removeprefix("$")
    return Finding(f"{place}{inside}", kernel, f"{error.problem}: docs/templates.md lists the fields")


# ---- its names, formulas and modules


def _findings(template: ModelTemplate) -> Findings:
    if template.extends:
        try:
            catalog.completed(template)
        except NBAnalyzerError as error:
            return _one(getattr(error, "problem", str(error)))
        return Findings()
    try:
        wrong = expansion.findings(template)
    except ConfigError as error:
        return _one(error.problem, "$.config")
    nodes = {"": ("$", None)} | {path: (place, kernel) for path, place, kernel in _walk(template)}
    found: list[Finding] = []
    uses: dict[tuple[str, str], list[DisallowedVariable]] = {}
    for one in wrong:
        if isinstance(one, DisallowedVariable):
            uses.setdefault((one.path, one.variable), []).append(one)
        else:
            found.append(_refused(one, nodes))
    for (path, variable), places in uses.items():
        beside = {other for where, other in uses if where == path}
        users = [one for one in MODULES if variable in MODULES[one].variables]
        users = [one for one in users if beside <= MODULES[one].variables.keys()] or users
        found.append(_unbound(path, variable, [use.field for use in places], nodes, users))
    order = {path: number for number, path in enumerate(nodes)}
    return Findings(tuple(sorted(found, key=lambda one: order.get(one.kernel, 0))))


def _walk(template: ModelTemplate) -> Iterator[tuple[str, str, Kernel]]:
    """Yield the path of every kernel, its place in the JSON, and the kernel itself."""
    waiting = [("", f"$.kernels[{number}]", kernel) for number, kernel in enumerate(template.kernels)]
    while waiting:
        above, place, kernel = waiting.pop(0)
        path = f"{above}.{kernel.name}" if above else kernel.name
        yield path, place, kernel
        if isinstance(kernel, Composite):
            inner = enumerate(kernel.sub_kernels)
            waiting = [(path, f"{place}.sub_kernels[{number}]", sub) for number, sub in inner] + waiting


Nodes = Mapping[str, tuple[str, Kernel | None]]


def _refused(error: TemplateError, nodes: Nodes) -> Finding:
    """Return what the expansion refuses."""
    where, part = error.where, ""
    if where not in nodes:
        where, _, part = where.rpartition(", ")
    while where not in nodes:  # it is inside a module: the kernel that refers to it
        where, part = where.rpartition(".")[0], ""
    place = nodes[where][0] + (f".{part}" if part else "")
    if isinstance(error, UnresolvedVariablesError):
        meanings = MODULES[error.module].variables
        return Finding(f"{place}.bindings", where, error.problem, {name: meanings[name] for name in error.variables})
    return Finding(place, where, error.problem)


def _unbound(path: str, variable: str, parts: list[str], nodes: Nodes, users: list[str]) -> Finding:
    """Return the finding for a variable that is not global in formulas of one kernel.

    Args:
        path: of the kernel.
        variable: its name.
        parts: the fields whose formulas use it.
        nodes: path → place in the JSON, and kernel.
        users: the modules whose variable it may be.

    """
    place, kernel = nodes.get(path, nodes[""])
    if isinstance(kernel, Basic):
        kernel = nodes.get(path.removesuffix(f".{kernel.name}"), nodes[""])[1]
    named = kernel.module.rpartition(".")[2] if isinstance(kernel, Composite) else ""
    users = [one for one in users if one.rpartition(".")[2] == named] or users
    missing = {variable: MODULES[users[0]].variables[variable]} if users else {}
    problem = f"unresolved template variable {{{variable}}} in {', '.join(parts)}: "
    if users and isinstance(kernel, Composite) and kernel.sub_kernels and variable in kernel.bindings:
        problem += f"the bindings reach a module's own kernels only: leave out sub_kernels, refer to {_names(users)}"
    elif users:
        problem += f"it is {missing[variable]} where {_names(users)} is used: refer to the module and bind it there"
    else:
        canonical = canonical_name(variable)  # n_embd is hidden_size
        close = [canonical] if canonical in ALLOWED_VARIABLES else near(variable, ALLOWED_VARIABLES, 1)
        fields = "global are the variables of nbanalyzer.ALLOWED_VARIABLES, and integer fields of the draft's config"
        problem += f"did you mean {{{close[0]}}}?" if close else fields
    return Finding(f"{place}.{parts[0]}", path, problem, missing)


def _names(modules: list[str]) -> str:
    names = list(dict.fromkeys(one.rpartition(".")[2] for one in modules))
    return " or ".join(names[:3])
