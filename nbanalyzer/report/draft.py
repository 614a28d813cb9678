"""A draft's check as text and HTML: the verdict, what is wrong, the numbers row by row, where parameters come from."""

from __future__ import annotations

from collections.abc import Sequence

from nbanalyzer.analysis.draft import Check
from nbanalyzer.quantities import show
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

__all__ = ["fragment", "text"]

MOST_FINDINGS = 40
MOST_SOURCES = 12
MOST_DETAILS = 8


def text(check: Check) -> str:
    """Return the check as aligned text."""
    lines = [_head(check), *(f"  {line}" for line in _lines(check))]
    for title, table in _tables(check):
        lines += [*([f"  {title}"] if title else []), *table.lines("  ")]
    return as_lines([*lines, *(f"  {line}" for line in _first(check.details, MOST_DETAILS))])


def fragment(check: Check) -> dict[str, str]:
    """Return the check as HTML."""
    parts = [f"<div><b>{escape(_head(check))}</b></div>"]
    parts += [f"<div>{escape(line)}</div>" for line in _lines(check)]
    for title, table in _tables(check):
        parts += [*([f"<div>{escape(title)}</div>"] if title else []), table.html()]
    parts += [f"<div>{escape(line)}</div>" for line in _first(check.details, MOST_DETAILS)]
    return {"text/html": "".join(parts)}


def _head(check: Check) -> str:
    """Return the verdict."""
    if number := len(check.findings.findings):
        return f"{check.name}: {number} {'thing is' if number == 1 else 'things are'} to be put right first"
    if check.problem:
        return f"{check.name}: it cannot be counted"
    if not check.rows:
        return f"{check.name}: {check.result}: neither a config nor a fact of the model is stated"
    wrong = sum(not row.ok for row in check.rows)
    return f"{check.name}: {f'refused, {wrong} of {len(check.rows)} numbers differ' if wrong else check.result}"


def _lines(check: Check) -> list[str]:
    """Return what is wrong with the draft as such."""
    return _first(check.findings.lines, MOST_FINDINGS) + ([check.problem] if check.problem else [])


def _tables(check: Check) -> list[tuple[str, Table]]:
    found = []
    if check.rows:
        rows = [("number", "stated", "draft", "verdict"), *(row[:4] for row in check.rows)]
        found.append(("", Table(rows, words=(0, 3))))
    if check.sources and not check.ok:
        shown = check.sources[:MOST_SOURCES]
        sources = [
            (one.kernel, one.module.rpartition(".")[2], show(one.copies), one.formula, show(one.parameters))
            for one in shown
        ]
        rest = check.sources[MOST_SOURCES:]
        if rest:
            sources.append((f"and {len(rest)} more", "", "", "", show(sum(one.parameters for one in rest))))
        heads = ("kernel", "module", "copies", "each", "parameters")
        found.append(("its parameters come from", Table([heads, *sources], words=(0, 1, 3))))
    return found


def _first(lines: Sequence[str], most: int) -> list[str]:
    """Return the first ones, and how many more there are."""
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more]
