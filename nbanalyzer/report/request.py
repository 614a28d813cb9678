"""A request with its times on an accelerator, as text and HTML: the answer first."""

from __future__ import annotations

from nbanalyzer.analysis.memory import fit_text
from nbanalyzer.analysis.request_timing import RequestTiming
from nbanalyzer.errors import InputError
from nbanalyzer.quantities import rate, seconds
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

from .analysis import page
from .request_costs import heads, parts

__all__ = ["FORMATS", "fragment", "text"]

ESTIMATES = (
    ("prefill, idle server", "prefill_time"),
    ("each output token", "estimate_per_output_token"),
    ("request", "estimate"),
)
"""Rows of what is expected: name → the property of a timing."""


def text(timing: RequestTiming) -> str:
    """Return the times of a request as aligned text."""
    costs = parts(timing.request).lines("  ")
    return as_lines([*_heads(timing), *Table(_rows(timing), words=(0, 1), has_head=False).lines("  "), "", *costs])


def fragment(timing: RequestTiming) -> dict[str, str]:
    """Return the times of a request as HTML."""
    first, *others = _heads(timing)
    lines = f"<div><b>{escape(first)}</b></div>" + "".join(f"<div>{escape(line.strip())}</div>" for line in others)
    times = Table(_rows(timing), words=(0, 1), has_head=False).html()
    return {"text/html": f"{lines}{times}{parts(timing.request).html()}"}


def _heads(timing: RequestTiming) -> list[str]:
    accelerator = timing.accelerator
    return [
        timing.sentence or timing.answer,
        *([timing.answer] if timing.sentence else ()),
        *heads(timing.request),
        f"  on {accelerator.title or accelerator.name}; {timing.prefill.words}",
        *(f"  warning: {note}" for note in timing.notes),
        f"  {fit_text(timing.request.memory, accelerator)}",
    ]


def _rows(timing: RequestTiming) -> list[tuple[str, str]]:
    """Return what takes how long: at the roofline, then as it is expected to."""
    bound, most = ("at least ", "at most ") if timing.prefill.is_bound else ("", "")
    mark = "".join(f", {mark}" for mark in timing.marks)
    per_device = rate(timing.tokens_per_second / timing.request.tp)
    rows = [
        ("time to first token", f"{bound}{seconds(timing.time_to_first_token)}{mark}"),
        ("time per output token", f"{bound}{seconds(timing.time_per_output_token)}{mark}"),
        ("whole request", f"{bound}{seconds(timing.time)}{mark}"),
        ("tokens/s per GPU", f"{most}{per_device}{mark}"),
    ]
    try:
        expected = [(f"estimate, {label}", f"{timing.words_of(name)}{mark}") for label, name in ESTIMATES]
    except InputError as error:
        return [*rows, ("estimate", str(error))]
    return [*rows, *expected, ("estimates by", timing.profile.name), *_money(timing)]


def _money(timing: RequestTiming) -> list[tuple[str, str]]:
    found = []
    if timing.price.price is not None:
        found.append(("$ per million tokens", f"{timing.cost_per_million_tokens:.4g}, alone on the devices"))
    if timing.accelerator.power is not None:
        found.append(("energy per token", f"{timing.energy_per_token:.4g} J, at the board's rated power"))
        if timing.price.grid is not None:
            found.append(("g CO2 per million tokens", f"{timing.co2_per_million_tokens:.4g}"))
    return found


def _page(timing: RequestTiming) -> str:
    return page(timing.request.title, fragment(timing)["text/html"] + timing.plot().html())


FORMATS = {"html": _page}
"""Suffix of the file of a request's times → its content."""
