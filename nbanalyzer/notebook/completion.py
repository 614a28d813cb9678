"""Completion of the magics' lines: model names, options and their choices."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from IPython.core.completer import SimpleCompletion, context_matcher

from nbanalyzer import catalog

from .generating import GENERATE, VERIFY
from .magics import PARSER

__all__ = ["complete"]

PARSERS: Mapping[str, ArgumentParser] = {"populate": PARSER, "generate": GENERATE, "verify": VERIFY}
CALL = re.compile(r"^\s*(?:[\w, ]+=\s*)?%{1,2}(?P<magic>populate|generate|verify)\s+(?P<words>[^\n]*)$")


@context_matcher(identifier="nbanalyzer.populate", priority=100)  # type: ignore[untyped-decorator, unused-ignore]
def complete(context: Any) -> dict[str, Any]:
    """Return what can stand at the cursor on a magic's line; nothing on other lines."""
    call = CALL.match(context.text_until_cursor)
    if call is None:
        return {"completions": []}
    *before, word = call["words"].split(" ")
    pool, kind = _pool(PARSERS[call["magic"]], [text for text in before if text], word)
    found = [SimpleCompletion(text=text, type=kind) for text in pool if text.casefold().startswith(word.casefold())]
    # Where nothing of ours fits, a path or a $name is being written, which others know.
    suppress = bool(found) or word.startswith("-")
    return {"completions": found, "matched_fragment": word, "suppress": suppress, "ordered": True}


def _pool(parser: ArgumentParser, before: list[str], word: str) -> tuple[list[str], str]:
    options = {option: action for action in parser._actions for option in action.option_strings}  # noqa: SLF001
    previous = before[-1] if before else ""
    if word.startswith("-"):
        given = {text for text in before if text.startswith("--") and text != "--set"}
        return [option for option in options if option not in given], "option"
    if previous in options and (choices := options[previous].choices):
        return list(choices), "value"
    if previous == "--set":
        return [f"{name}=" for name in _settable(before)], "variable"
    if previous in options and options[previous].nargs != 0:
        return [], "value"
    if any(not text.startswith("-") for text in before[:1]):
        return [option for option in options if option not in before], "option"
    return [*catalog.short_names(), *catalog.names()], "model"


def _settable(before: list[str]) -> list[str]:
    """Return the config variables that the model on the line uses."""
    name = catalog.aliases().get(before[0].casefold(), "")
    if not name:
        return []
    from nbanalyzer.populate import populate

    analysis = populate(name, seq_len=1)
    return sorted(variable for variable in analysis.variables if variable in analysis.params)
