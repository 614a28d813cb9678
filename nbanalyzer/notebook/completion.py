"""Completion of the magics' lines: model names, options and their choices."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any

from IPython.core.completer import SimpleCompletion, context_matcher

from nbanalyzer.templates import catalog

from .options import PARSERS, LineParser

__all__ = ["complete"]

SEVERAL = frozenset({"compare", "sweep"})  # the magics that take more than one model
ANYWHERE = frozenset({"model", "accelerator"})  # kinds of names of which any part is typed: 3.1, h100
CALL = re.compile(r"^\s*(?:[\w, ]+=\s*)?%{1,2}(?P<magic>\w+)\s+(?P<words>[^\n]*)$")


@context_matcher(identifier="nbanalyzer.populate", priority=100)  # type: ignore[untyped-decorator, unused-ignore]
def complete(context: Any) -> dict[str, Any]:
    """Return the completions at the cursor on a magic's line; none on other lines."""
    call = CALL.match(context.text_until_cursor)
    if call is None or call["magic"] not in PARSERS:
        return {"completions": []}
    *before, word = call["words"].split(" ")
    candidates, kind = _candidates(PARSERS[call["magic"]](), [text for text in before if text], word)
    fitting = [text for text in candidates if text.casefold().startswith(word.casefold())]
    if not fitting and kind in ANYWHERE and len(word) > 1:
        fitting = [text for text in candidates if word.casefold() in text.casefold()]
    # Where none fits, a path or a $name is being written, which other matchers complete.
    suppress = bool(fitting) or word.startswith("-")
    completions = [SimpleCompletion(text=text, type=kind) for text in fitting]
    return {"completions": completions, "matched_fragment": word, "suppress": suppress, "ordered": True}


def _candidates(parser: LineParser, before: list[str], word: str) -> tuple[list[str], str]:
    """Return the candidates at the cursor and their kind, given the words before it and the word being written."""
    from nbanalyzer.hardware.accelerators import accelerators

    magic, options = parser.prog, parser.options
    leading = list(takewhile(lambda text: not text.startswith("-"), before))
    taking = next((text for text in reversed(before) if text in options), "")  # the last option on the line
    taken = before[len(before) - before[::-1].index(taking) :] if taking else []
    if word.startswith("-"):
        given = {text for text in before if text.startswith("--") and text != "--set"}
        return [option for option in options if option not in given], "option"
    if taking and (not taken or options[taking].nargs == "+"):
        if taking == "--set":
            return [f"{name}=" for name in _settable(before)], "variable"
        if taking == "--config" and magic == "draft":
            return [*catalog.short_names(), *catalog.names()], "model"
        if taking == "--hardware":
            return [name for name in accelerators() if name not in taken], "accelerator"
        if choices := options[taking].choices:
            return [choice for choice in choices if choice not in taken], "value"
        if options[taking].nargs != 0:
            return [], "value"
    if magic == "calibrate" or (leading and (taking or magic not in SEVERAL)):
        return [option for option in options if option not in before], "option"
    if magic == "draft":  # a file's name, or $draft: other matchers complete them
        return [], "path"
    if magic == "hardware":
        return accelerators(), "accelerator"
    return [name for name in (*catalog.short_names(), *catalog.names()) if name not in leading], "model"


def _settable(before: list[str]) -> list[str]:
    """Return the config variables that the model on the line uses."""
    name = catalog.known_as(before[0])
    if not name:
        return []
    from nbanalyzer.analysis.populate import populate

    analysis = populate(name, seq_len=1)
    return sorted(variable for variable in analysis.variables if variable in analysis.params)
