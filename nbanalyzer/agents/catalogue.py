"""The tools about what there is: lists, and single module templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.populate import populate
from nbanalyzer.errors import shorten
from nbanalyzer.hardware.accelerators import accelerators, hardware
from nbanalyzer.quantities import si
from nbanalyzer.templates import catalog
from nbanalyzer.templates.library import MODULES

from .answers import Answer, Rows, page
from .arguments import Arguments, Kinds, Limit, Offset
from .shelf import Shelf

__all__ = ["ListOf", "Listed", "ModuleOf", "ModuleTold", "list_", "module"]


class ListOf(Arguments, frozen=True, kw_only=True):
    """What to list."""

    kind: Annotated[Kinds, Meta(description="models, module templates, or accelerators")]
    query: Annotated[str, Meta(description="words that a name or its description has to contain")] = ""
    limit: Limit = 50
    offset: Offset = 0


class Entry(msgspec.Struct, frozen=True):
    """One of a list.

    Attributes:
        name: what other tools call it.
        about: what it is, in a few words.

    """

    name: str
    about: str


class Listed(Rows, frozen=True, kw_only=True):
    """A part of a list."""

    kind: Kinds
    entries: list[Entry]

    def words(self) -> str:
        """Return a line for each."""
        rows = [f"{entry.name}: {entry.about}" for entry in self.entries]
        return "\n".join([f"{self.total} {self.kind}", *rows, *self.rest])


def list_(shelf: Shelf, asked: ListOf) -> Listed:
    """List models, module templates or accelerators by name, all of them or those that a query matches."""
    words = asked.query.casefold().split()
    found = [
        entry
        for entry in _ENTRIES[asked.kind](shelf)
        if all(word in f"{entry.name} {entry.about}".casefold() for word in words)
    ]
    rows, place = page(found, asked.limit, asked.offset)
    return Listed(kind=asked.kind, entries=rows, **place)


def _models(shelf: Shelf) -> Iterable[Entry]:
    for name, short in zip(catalog.names(), catalog.short_names(), strict=True):
        analysis = populate(name, seq_len=1)
        size, layers = si(analysis.totals["parameters"]), analysis.params.get("num_layers", "?")
        yield Entry(short, f"{name}, {analysis.template.architecture}, {size} parameters, {layers} layers")
    for name in shelf.names():
        yield Entry(name, "a saved draft")


def _modules(_: Shelf) -> Iterable[Entry]:
    for name in MODULES:
        yield Entry(name, shorten(MODULES[name].description, 160))


def _accelerators(_: Shelf) -> Iterable[Entry]:
    for name in accelerators():
        card = hardware(name)
        memory = si(card.memory_bytes, "B") if card.memory_bytes else "unknown"
        peaks = ", ".join(f"{precision} {si(peak, 'FLOP/s')}" for precision, peak in card.peaks.items())
        yield Entry(name, f"{card.title or name}: memory {memory}, {si(card.bandwidth, 'B/s')}, {peaks}")


_ENTRIES: dict[str, Callable[[Shelf], Iterable[Entry]]] = {
    "models": _models,
    "modules": _modules,
    "accelerators": _accelerators,
}


class ModuleOf(Arguments, frozen=True, kw_only=True):
    """Which module template."""

    name: Annotated[str, Meta(description="class name that nbanalyzer_list gives for modules")]


class ModuleTold(Answer, frozen=True, kw_only=True):
    """A module template.

    Attributes:
        class_name: what a draft refers to, in "module".
        description: what it computes.
        variables: context variable → its meaning; a draft binds all of them.
        template: all of it, as data.

    """

    class_name: str
    description: str
    variables: dict[str, str]
    template: dict[str, Any]

    def words(self) -> str:
        """Return its variables, a line each."""
        rows = [f"bind {{{name}}}: {meaning}" for name, meaning in self.variables.items()]
        return "\n".join([f"{self.class_name}: {self.description}", *rows])


def module(_: Shelf, asked: ModuleOf) -> ModuleTold:
    """Show a module template: its formulas, and the context variables that a draft has to bind where it uses it."""
    found = MODULES[asked.name]
    return ModuleTold(
        class_name=found.class_name,
        description=found.description,
        variables=found.variables,
        template=msgspec.to_builtins(found),
    )
