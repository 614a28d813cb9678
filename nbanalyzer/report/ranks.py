"""The ranks of a mesh as text and HTML: a row for each that differs."""

from __future__ import annotations

from nbanalyzer.analysis.memory import fit_of
from nbanalyzer.analysis.ranks import Rank, Ranks
from nbanalyzer.quantities import seconds, si
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

__all__ = ["fragment", "text"]

HEADINGS = ("rank", "stage", "parameters", "FLOPs", "bytes", "payload", "memory")
TIMES = ("time", "compute", "memory", "link", "")


def text(ranks: Ranks) -> str:
    """Return the ranks as aligned text."""
    return as_lines([*_heads(ranks), "", *_table(ranks).lines("  ")])


def fragment(ranks: Ranks) -> dict[str, str]:
    """Return the ranks as HTML."""
    return {"text/html": "".join(f"<div>{escape(line)}</div>" for line in _heads(ranks)) + _table(ranks).html()}


def _heads(ranks: Ranks) -> list[str]:
    run, lines = ranks.costs.run, [ranks.costs.title]
    axes = ", ".join(f"{name} {size}" for name, size in run.axes.items())
    copies = f"; each {ranks.replicas:,} times" if ranks.replicas > 1 else ""
    lines.append(f"{run.devices:,} devices: {axes}{copies}" if axes else "one device")
    if ranks.roofline:
        card = ranks.roofline.accelerator
        lines.append(f"on {card.title or card.name}; {ranks.roofline.words}")
    return lines


def _table(ranks: Ranks) -> Table:
    heads = (*HEADINGS, *(TIMES if ranks.roofline else ()))
    return Table([heads, *(_row(rank) for rank in ranks.rows)])


def _row(rank: Rank) -> tuple[str, ...]:
    cost, roofline = rank.costs.cost_of_all, rank.roofline
    cells = [
        rank.name, str(rank.stage), si(cost.parameters), si(cost.flops, "FLOP"), si(cost.bytes, "B"),
        si(cost.payload_bytes, "B"), si(rank.memory.total, "B"),
    ]  # fmt: skip
    if roofline:
        total, fit = roofline.total, fit_of(rank.memory, roofline.accelerator)
        cells += [seconds(part) for part in (total.time, total.compute, total.memory, total.link)]
        cells.append("" if fit is None or fit else "does not fit")
    return tuple(cells)
