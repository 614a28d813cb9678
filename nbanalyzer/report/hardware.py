"""Accelerators as text and HTML: one with all its facts, or several in a table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from nbanalyzer.errors import InputError
from nbanalyzer.hardware.accelerators import PRECISIONS, Accelerator, accelerators, hardware
from nbanalyzer.quantities import gib, seconds, si
from nbanalyzer.table import Table
from nbanalyzer.text import escape

__all__ = ["describe", "fragment", "listing", "text"]

HEADINGS = ("name", "architecture", "memory", "bandwidth", "16-bit peak", "8-bit peak", "ridge at 16 bits")


def text(accelerator: Accelerator) -> str:
    """Return an accelerator in one line."""
    memory = gib(accelerator.memory_bytes) if accelerator.memory_bytes else "unknown"
    _, _, _, bandwidth, peak, *_ = _row(accelerator)
    return f"<Accelerator {accelerator.name}: memory {memory}, bandwidth {bandwidth}, 16-bit peak {peak}>"


def fragment(accelerator: Accelerator) -> dict[str, str]:
    """Return the facts of an accelerator, as text and as HTML."""
    facts = Table(_facts(accelerator), words=(0, 1), prose=(1,), has_head=False).html()
    title = escape(accelerator.title or accelerator.name)
    return {"text/plain": describe(accelerator), "text/html": f"<div><b>{title}</b>{facts}</div>"}


def listing(listed: Iterable[Accelerator] | None = None) -> Table:
    """Return accelerators as a table: the shipped ones, grouped by who makes them, or those given."""
    if listed is None:
        cards = [hardware(name) for name in accelerators()]
        makers = list(dict.fromkeys(card.vendor for card in cards))
        kinds = list(dict.fromkeys((card.vendor, card.architecture) for card in cards))
        listed = sorted(
            cards,
            key=lambda card: (makers.index(card.vendor), kinds.index((card.vendor, card.architecture)), card.name),
        )
    return Table([HEADINGS, *map(_row, listed)], words=(0, 1))


def describe(accelerator: Accelerator) -> str:
    """Return the facts of an accelerator, with sources and doubts, as aligned text."""
    facts = _facts(accelerator)
    width = max(len(label) for label, _ in facts)
    lines = [accelerator.title or accelerator.name]
    for label, text in facts:
        first, rest = f"  {label:<{width}}  ", " " * (width + 4)
        lines.append(textwrap.fill(text, 100, initial_indent=first, subsequent_indent=rest))
    return "\n".join(lines)


def _row(device: Accelerator) -> tuple[str, ...]:
    cells = []
    for bits in (16, 8):
        try:
            cells.append((_rate(device, device.precision_for(bits)), f"{device.ridge(bits):.1f} FLOP/B"))
        except InputError:
            cells.append(("unknown", "unknown"))
    (peak, ridge), (narrow, _) = cells
    memory = gib(device.memory_bytes).partition(" (")[0] if device.memory_bytes else "unknown"
    made = device.architecture if device.vendor in device.architecture else f"{device.vendor} {device.architecture}"
    return (device.name, made.strip(), memory, si(device.bandwidth, "B/s"), peak, narrow, ridge)


def _facts(device: Accelerator) -> list[tuple[str, str]]:
    memory = f"{gib(device.memory_bytes)} = {device.memory_bytes:,} bytes" if device.memory_bytes else "unknown"
    bandwidth, power = si(device.bandwidth, "B/s"), si(device.power, "W") if device.power else ""
    facts = [("name", device.name), ("vendor", device.vendor), ("architecture", device.architecture)]
    facts += [("multiprocessors", str(device.num_sms or "")), ("memory", memory), ("bandwidth", bandwidth)]
    for name in PRECISIONS:
        text = "none in hardware" if name in device.lacks else "unknown"
        if name in device.peaks:
            text = f"{_rate(device, name)}, ridge at {device.peaks[name] / device.bandwidth:.1f} per byte"
        if name in device.fp16_accumulate:
            text += f"; {si(device.fp16_accumulate[name], 'FLOP/s')} with fp16 accumulation"
        facts.append((f"{name} and vector" if name == "fp32" else name, text))
    facts += [(device.link or "link", _link(device)), (device.network or "network", _network(device))]
    if device.pcie_bandwidth:
        facts.append(("to the host", f"{si(device.pcie_bandwidth, 'B/s')} in one direction"))
    facts += [("power", power), ("source", device.source), ("doubts", device.doubts)]
    return [(label, text) for label, text in facts if text.strip()]


def _link(device: Accelerator) -> str:
    """Return what connects the devices of a node, in words; empty if its bandwidth is not known."""
    if device.link_bandwidth is None:
        return ""
    step = f", {seconds(device.link_latency)} a step" if device.link_latency else ""
    adds = " that adds" if device.switches_add else ""
    how = {"switched": f"through a switch{adds}", "pairwise": "every two joined", "neighbours": "neighbours joined"}
    nodes = f"up to {device.devices_per_node:,} a node, {how[device.topology]}"
    return f"{si(device.link_bandwidth, 'B/s')} in one direction{step}; {nodes}"


def _network(device: Accelerator) -> str:
    """Return what connects nodes, in words; empty if its bandwidth is not known."""
    if device.network_bandwidth is None:
        return ""
    step = f", {seconds(device.network_latency)} a step" if device.network_latency else ""
    return f"{si(device.network_bandwidth, 'B/s')} a device in one direction{step}; between nodes"


def _rate(device: Accelerator, precision: str) -> str:
    return si(device.peaks[precision], "OP/s" if precision == "int8" else "FLOP/s")
