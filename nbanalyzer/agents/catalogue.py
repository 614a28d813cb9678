"""The tools about what there is: lists, and single module templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nbanalyzer.analysis.populate import populate
from nbanalyzer.errors import shorten
from nbanalyzer.hardware.accelerators import accelerators, hardware
from nbanalyzer.quantities import si
from nbanalyzer.templates import catalog
from nbanalyzer.templates.library import MODULES

from .answers import FURTHEST, MOST_ROWS, Answer, Rows, page, place_of
from .arguments import Arguments, Kinds, Limit, Offset, read_range
from .shelf import Shelf

__all__ = ["list_", "module"]


class ListOf(Arguments, frozen=True, kw_only=True):
    """What to list."""

    kind: Annotated[Kinds, Meta(description="models, module templates, or accelerators")]
    query: Annotated[
        str, Meta(description="words of its name; of modules and accelerators, also of its description")
    ] = ""
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
    read_range("limit", asked.limit, 1, MOST_ROWS)
    read_range("offset", asked.offset, 0, FURTHEST)
    words = asked.query.casefold().split()
    found = [name for name, known in _named(shelf, asked.kind) if all(word in known.casefold() for word in words)]
    # What a model is takes longer to say than its name: of those on the page only.
    part = found[asked.offset : asked.offset + asked.limit]
    rows, _ = page([Entry(name, _ABOUT[asked.kind](name)) for name in part], asked.limit, 0)
    return Listed(kind=asked.kind, entries=rows, **place_of(len(rows), asked.offset, len(found)))


def _named(shelf: Shelf, kind: Kinds) -> Iterator[tuple[str, str]]:
    """Yield each name with the text that a query looks at."""
    if kind == "models":
        yield from (
            (short, f"{short} {name}") for name, short in zip(catalog.names(), catalog.short_names(), strict=True)
        )
        yield from ((name, f"{name} {_DRAFT}") for name in shelf.names())
    elif kind == "modules":
        yield from ((name, f"{name} {found.description}") for name, found in MODULES.items())
    else:
        yield from ((name, f"{name} {_about_card(name)}") for name in accelerators())


@cache
def _about_model(name: str) -> str:
    if name.casefold() not in catalog.aliases():
        return _DRAFT
    analysis = populate(name, seq_len=1)
    size, layers = si(analysis.totals["parameters"]), analysis.params.get("num_layers", "?")
    return f"{analysis.template.model_id}, {analysis.template.architecture}, {size} parameters, {layers} layers"


@cache
def _about_card(name: str) -> str:
    card = hardware(name)
    memory = si(card.memory_bytes, "B") if card.memory_bytes else "unknown"
    peaks = ", ".join(f"{precision} {si(peak, 'FLOP/s')}" for precision, peak in card.peaks.items())
    return f"{card.title or name}: memory {memory}, {si(card.bandwidth, 'B/s')}, {peaks}"


_DRAFT = "a saved draft"
_ABOUT: dict[Kinds, Callable[[str], str]] = {
    "models": _about_model,
    "modules": lambda name: shorten(MODULES[name].description, 160),
    "accelerators": _about_card,
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
