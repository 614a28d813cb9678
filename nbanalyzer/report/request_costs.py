"""What a request costs, whatever it runs on, as text and HTML: the sentence first, then prompt and decode steps."""

from __future__ import annotations

from nbanalyzer.analysis.request_costs import RequestCosts
from nbanalyzer.quantities import si
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

from .analysis import page

__all__ = ["FORMATS", "fragment", "heads", "parts", "text"]

HEADINGS = ("", "FLOPs", "bytes moved", "of weights", "of the cache", "of activations")


def text(request: RequestCosts) -> str:
    """Return a request as aligned text."""
    return as_lines([*heads(request), request.sentence, "", *parts(request).lines("  "), f"  {_memory(request)}"])


def fragment(request: RequestCosts) -> dict[str, str]:
    """Return a request as HTML."""
    title, conditions = (escape(line) for line in heads(request))
    said = f"<div><b>{title}</b></div><div>{conditions}</div><div><b>{escape(request.sentence)}</b></div>"
    return {"text/html": f"{said}{parts(request).html()}<div>{escape(_memory(request))}</div>"}


def heads(request: RequestCosts) -> list[str]:
    """Return the model and the conditions, a line each."""
    return [request.title, request.conditions]


def parts(request: RequestCosts) -> Table:
    """Return the costs of the prompt, of all decode steps, and of both."""
    steps = request.steps_run
    columns = {"prompt": request.prefill.totals}
    if steps:
        columns |= {f"{steps:,} decode step{'' if steps == 1 else 's'}": request.decode, "together": request.totals}
    rows: list[tuple[str, ...]] = [HEADINGS]
    for name, numbers in columns.items():
        cache = numbers["kv_bytes_read"] + numbers["kv_bytes_written"]
        sizes = (numbers["bytes"], numbers["weight_bytes_read"], cache, numbers["activation_bytes"])
        rows.append((name, si(numbers["flops"], "FLOP"), *(si(size, "B") for size in sizes)))
    return Table(rows)


def _memory(request: RequestCosts) -> str:
    memory = request.memory
    return f"memory at the end: {si(memory.total, 'B')}, of it cache {si(memory.state, 'B')}"


def _page(request: RequestCosts) -> str:
    return page(request.title, fragment(request)["text/html"] + request.plot().html())


FORMATS = {"html": _page}
"""Suffix of a request's file → its content."""
