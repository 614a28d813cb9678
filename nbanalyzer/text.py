"""Text of strangers, as it may be shown: on a terminal, in HTML, in Markdown, in a spreadsheet.

Names, descriptions and fields come from files that anybody may have written. Here, once for all that shows them,
stands what of it would be read as something else than text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

__all__ = ["as_attribute", "as_cell", "as_lines", "as_markdown", "escape", "printable", "short_paths", "words"]

# What MathJax leaves alone, whichever its version.
UNTYPESET = "tex2jax_ignore mathjax_ignore"


def words(*lines: str) -> frozenset[str]:
    """Return all words of some lines: a set that is written as a text."""
    return frozenset(word for line in lines for word in line.split())


def printable(text: str) -> str:
    """Return the text with nothing in it that steers a terminal, turns its direction or begins another line."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else " " if one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)


def as_lines(lines: Iterable[str]) -> str:
    """Return the lines as one text, in which each of them is a line."""
    return "\n".join(map(printable, lines))


def escape(text: str) -> str:
    """Return the text for the content of an HTML element, where nothing of it is markup or mathematics."""
    # Front ends look for $…$ and \(…\) in what they show. Alone in an element, neither finds its other half.
    plain = as_attribute(text)
    if "$" not in plain and "\\" not in plain:  # nearly always
        return plain
    return re.sub(r"[$\\]", rf'<span class="{UNTYPESET}">\g<0></span>', plain)


def as_attribute(text: str) -> str:
    """Return the text for the value of an HTML attribute, or for a title, neither of which has elements in it."""
    return html.escape(printable(text))


def as_markdown(text: str) -> str:
    """Return the text for Markdown, in one line, where nothing of it is markup or mathematics."""
    return re.sub(r"[&<>$\\|*_`~#\[\]]", _in_markdown, printable(text))


def _in_markdown(found: re.Match[str]) -> str:
    one = found[0]
    if one in "&<>":
        return html.escape(one)
    # A backslash before these is not enough: front ends look for mathematics before and after Markdown is read.
    # Alone in an element they never find their second one; GitHub's own advice for a $ is the same.
    return f"<span>&#{ord(one)};</span>" if one in "$\\" else f"\\{one}"


def as_cell(value: object) -> object:
    """Return a value for a cell of a CSV file: text that a spreadsheet would take for a formula begins with ``'``."""
    if not isinstance(value, str):
        return value
    begins = value[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"}
    return f"'{printable(value)}" if begins else printable(value)


def short_paths(paths: Sequence[str]) -> list[str]:
    """Return the last two parts of every path, and as many of its first ones as tell it from the others.

    >>> short_paths(["h.attn.c_proj", "h.mlp.c_proj", "encoder.layers.mlp.fc1", "decoder.layers.mlp.fc1"])
    ['attn.c_proj', 'mlp.c_proj', 'encoder … mlp.fc1', 'decoder … mlp.fc1']
    """
    parts = [path.split(".") for path in paths]
    names = [".".join(part[-2:]) for part in parts]
    for first in range(1, max(map(len, parts), default=0)):
        twice = {name for name in names if names.count(name) > 1}
        for index, part in enumerate(parts):
            if names[index] in twice:
                short = f"{'.'.join(part[:first])} … {'.'.join(part[-2:])}"
                names[index] = short if first + 2 < len(part) else ".".join(part)
    return names
