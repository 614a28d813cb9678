"""Bars of where a request's FLOPs and bytes go: the prompt, and all decode steps together."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nbanalyzer.quantities import si

from .analysis import BYTES_PARTS, FLOPS_PARTS, draw_bars
from .figure import Plot, name_of

if TYPE_CHECKING:
    from nbanalyzer.analysis.request_costs import RequestCosts

__all__ = ["heading", "request_chart", "steps_of"]


def request_chart(request: RequestCosts) -> Plot:
    """Return bars of FLOPs and bytes: of the prompt, and of all decode steps."""
    figure = Figure(figsize=(11.2, 1.9), dpi=100, layout="constrained")
    title = heading(request)
    above = figure.suptitle(textwrap.fill(title, 144), fontsize="medium", parse_math=False)
    rows = []
    steps = [(steps_of(request), request.decode)] if request.steps else []
    for label, numbers in (("prompt", request.prefill.totals), *steps):
        numbers = {**numbers, "kv_bytes": numbers["kv_bytes_read"] + numbers["kv_bytes_written"]}
        rows.append((label, {name: float(number) for name, number in numbers.items()}))
    for ax, parts, unit in zip(figure.subplots(1, 2), (FLOPS_PARTS, BYTES_PARTS), ("FLOP", "B"), strict=True):
        draw_bars(ax, rows, parts, unit)
    lines = [f"FLOPs and bytes of a request: {title}"]
    width = max(len(label) for label, _ in rows)
    lines += [
        f"  {label:<{width}}  {si(numbers['flops'], 'FLOP'):>12}  {si(numbers['bytes'], 'B'):>9}"
        for label, numbers in rows
    ]
    return Plot(figure, "\n".join(lines), above, [title])


def heading(request: RequestCosts) -> str:
    """Return the heading of a plot: the model and the request in a few words."""
    sizes = f"batch {request.prefill.run.batch_size:,}, prompt {request.prompt_len:,}, output {request.output_len:,}"
    return f"{name_of(request.prefill)}: {sizes}"


def steps_of(request: RequestCosts) -> str:
    """Return what the bar of the decode steps is called."""
    return f"{request.steps_run:,} decode step{'' if request.steps_run == 1 else 's'}"
