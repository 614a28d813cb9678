"""The placements of a search as text and HTML: the best first, then those that no other beats."""

from __future__ import annotations

from nbanalyzer.analysis.search import SHOWN, Placement, Search
from nbanalyzer.quantities import rate, seconds, si
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

__all__ = ["fragment", "text"]

HEADINGS = (
    "",
    "hardware",
    "mesh",
    "devices",
    "nodes",
    "memory",
    "left",
    "first token",
    "per token",
    "tokens/s",
    "estimate per token",
)


def text(search: Search) -> str:
    """Return the best placements as aligned text."""
    if not search.placements:
        return as_lines([*_heads(search), *_without(search)])
    return as_lines([*_heads(search), "", *_table(search).lines("  "), *_after(search), *_without(search)])


def fragment(search: Search) -> dict[str, str]:
    """Return the best placements as HTML."""
    before = "".join(f"<div>{escape(line)}</div>" for line in _heads(search))
    lines = [*(_after(search) if search.placements else ()), *_without(search)]
    after = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return {"text/html": f"{before}{_table(search).html() if search.placements else ''}{after}"}


def _heads(search: Search) -> list[str]:
    if not search.placements:
        return [f"{search.title}: no mesh fits", search.asked]
    best = search.best
    mesh = "one device" if best.devices == 1 else f"{best.devices:,} devices, {best.mesh}"
    time = seconds(best.time_per_output_token)
    return [
        f"fits on {mesh} of {best.hardware}: at least {time} a token, least {search.goal}",
        f"{search.title}; {search.asked}",
    ]


def _shown(search: Search) -> list[tuple[str, Placement]]:
    """Return the best of each accelerator, and of a single one its frontier."""
    if not search.placements:
        return []
    names = list(dict.fromkeys(one.hardware for one in search.placements))
    if len(names) == 1:
        return [("best" if one == search.best else "", one) for one in search.frontier]
    firsts = [next(one for one in search.placements if one.hardware == name) for name in names]
    return [("best" if one == search.best else "", one) for one in firsts[:SHOWN]]


def _table(search: Search) -> Table:
    rows = [_row(search, mark, one) for mark, one in _shown(search)]
    priced = any(one.cost_per_million_tokens is not None for _, one in _shown(search))
    heads = (*HEADINGS, "$ per M tokens") if priced else HEADINGS
    return Table([heads, *(row if priced else row[:-1] for row in rows)], words=(0, 1, 2))


def _row(search: Search, mark: str, one: Placement) -> tuple[str, ...]:
    estimate = search.estimate(one)
    expected = "not modelled" if isinstance(estimate, str) else str(estimate)
    cost = "" if one.cost_per_million_tokens is None else f"{one.cost_per_million_tokens:,.3g}"
    return (
        mark, one.hardware, str(one.mesh), f"{one.devices:,}", f"{one.nodes:,}", si(one.memory_bytes, "B"),
        si(one.free_bytes, "B"), seconds(one.time_to_first_token), seconds(one.time_per_output_token),
        rate(one.tokens_per_s), expected, cost,
    )  # fmt: skip


def _after(search: Search) -> list[str]:
    lines = ["", "  times are bounds: every fused kernel at its roofline, communication at the links' bandwidth"]
    others = len({one.hardware for one in search.placements}) - SHOWN
    if others > 0:
        lines.append(f"  and {others} accelerators more: .table() has all placements")
    return lines


def _without(search: Search) -> list[str]:
    """Return why some accelerators have no place."""
    if not search.without:
        return []
    names = [*search.without.items()]
    listed = "; ".join(f"{name}: {why}" for name, why in names[:3])
    return [f"  no place on {len(names)}: {listed}{'; …' if len(names) > 3 else ''}"]
