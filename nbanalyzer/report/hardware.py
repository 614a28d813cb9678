"""Accelerators as text and HTML: one with all that is known of it, or several in a table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from nbanalyzer.errors import InputError
from nbanalyzer.hardware import PRECISIONS, Accelerator, accelerators, hardware
from nbanalyzer.quantities import si
from nbanalyzer.table import Table
from nbanalyzer.text import escape

__all__ = ["HardwareListing", "describe", "fragment", "text"]

HEADINGS = ("name", "memory", "bandwidth", "16-bit peak", "8-bit peak", "ridge at 16 bits")


def text(accelerator: Accelerator) -> str:
    """Return an accelerator in one line."""
    _, memory, bandwidth, peak, *_ = _row(accelerator)
    return f"<Accelerator {accelerator.name}: memory {memory}, bandwidth {bandwidth}, 16-bit peak {peak}>"


def fragment(accelerator: Accelerator) -> dict[str, str]:
    """Return all that is known of an accelerator, as text and as HTML."""
    facts = Table(_facts(accelerator), words=(0, 1), prose=(1,), has_head=False).html()
    title = escape(accelerator.title or accelerator.name)
    return {"text/plain": describe(accelerator), "text/html": f"<div><b>{title}</b>{facts}</div>"}


class HardwareListing:
    """Accelerators as a table: the shipped ones, or those given."""

    def __init__(self, cards: Iterable[Accelerator] | None = None) -> None:
        chosen = map(hardware, accelerators()) if cards is None else cards
        self.rows = [HEADINGS, *map(_row, chosen)]

    def __repr__(self) -> str:
        return "\n".join(Table(self.rows).lines())

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": Table(self.rows).html()}


def describe(accelerator: Accelerator) -> str:
    """Return all that is known of an accelerator, with its sources and doubts, as aligned text."""
    facts = _facts(accelerator)
    width = max(len(label) for label, _ in facts)
    lines = [accelerator.title or accelerator.name]
    for label, text in facts:
        first, other = f"  {label:<{width}}  ", " " * (width + 4)
        lines.append(textwrap.fill(text, 100, initial_indent=first, subsequent_indent=other))
    return "\n".join(lines)


def _row(card: Accelerator) -> tuple[str, ...]:
    cells = []
    for bits in (16, 8):
        try:
            cells.append((_rate(card, card.precision_for(bits)), f"{card.ridge(bits):.1f} FLOP/B"))
        except InputError:
            cells.append(("unknown", "unknown"))
    (peak, ridge), (narrow, _) = cells
    memory = si(card.memory_bytes, "B") if card.memory_bytes else "unknown"
    return (card.name, memory, si(card.bandwidth, "B/s"), peak, narrow, ridge)


def _facts(card: Accelerator) -> list[tuple[str, str]]:
    memory = f"{si(card.memory_bytes, 'B')} = {card.memory_bytes:,} bytes" if card.memory_bytes else "unknown"
    facts = [("name", card.name), ("vendor", card.vendor), ("memory", memory), ("bandwidth", si(card.bandwidth, "B/s"))]
    for name in PRECISIONS:
        text = "none in hardware" if name in card.lacks else "unknown"
        if name in card.peaks:
            text = f"{_rate(card, name)}, ridge at {card.peaks[name] / card.bandwidth:.1f} per byte"
        facts.append((f"{name} and vector" if name == "fp32" else name, text))
    one_way = ((card.link or "link", card.link_bandwidth), ("to the host", card.pcie_bandwidth))
    facts += [(label, f"{si(rate, 'B/s')} in one direction") for label, rate in one_way if rate]
    facts += [("power", si(card.power, "W") if card.power else ""), ("source", card.source), ("doubts", card.doubts)]
    return [(label, text) for label, text in facts if text.strip()]


def _rate(card: Accelerator, precision: str) -> str:
    return si(card.peaks[precision], "OP/s" if precision == "int8" else "FLOP/s")
