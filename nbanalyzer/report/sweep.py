"""What a sweep shows of itself in a notebook: ranges, a table in colours, lines."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from nbanalyzer.sweeps.slices import (
    MOST_ROWS,
    bound_of,
    cell_of,
    is_numeric,
    longest,
    ordered,
    rate_of,
    spans_decades,
    thinned,
    tick_of,
    values_of,
    within,
)
from nbanalyzer.sweeps.sweep import label_of, listed, shown
from nbanalyzer.text import as_lines, escape

if TYPE_CHECKING:
    from nbanalyzer.sweeps.sweep import Sweep

__all__ = ["fragment", "text"]


def text(sweep: Sweep) -> str:
    """Return the axes, and the range of every metric that is computed already."""
    points = "1 point" if sweep.size == 1 else f"{sweep.size:,} points"
    lines = [f"{sweep.model}: {points}{', lazy' if sweep.is_lazy else ''}"]
    lines += [f"  {name}: {listed(values)}" for name, values in sweep.axes.items()]
    if sweep.fixed:
        lines.append(f"  {', '.join(f'{name} {label_of(value)}' for name, value in sweep.fixed.items())}")
    if sweep.is_lazy:
        return as_lines([*lines, f"  metrics: {', '.join(sweep.metrics)}"])
    for name in sweep.metrics:
        values = sweep.values(name)
        said = f"{int(values.sum()):,} of {sweep.size:,}" if name == "fits" else _range(name, values)
        lines.append(f"  {name}: {said}")
    return as_lines(lines)


def _range(metric: str, values: Any) -> str:
    """Return the least and the largest of a metric's values, and at how many points there is none."""
    known = values[~np.isnan(values)]
    low, high = (shown(metric, float(end)) for end in (known.min(), known.max())) if known.size else ("no number",) * 2
    missing = f", no number at {values.size - known.size:,}" if known.size < values.size else ""
    return f"{low} to {high}{missing}" if low != high else f"{low}{missing}"


def fragment(sweep: Sweep) -> dict[str, bytes | str]:
    """Return the rich forms of a sweep: ``"text/html"``, ranges and a coloured table; ``"image/png"``, in base64.

    Of a lazy sweep, which would have to be computed, and of a single point there are none. Lines are drawn if there is
    an axis of numbers. Front ends that know HTML show the table, which is a picture itself; others the lines.
    """
    if sweep.is_lazy or not sweep.axes:
        return {}
    varying = (name for name in sweep.metrics if np.min(sweep.arrays[name]) != np.max(sweep.arrays[name]))
    metric = next(varying, sweep.metrics[0])
    numeric = [name for name, values in sweep.axes.items() if is_numeric(values)]
    x = longest(sweep, numeric) or longest(sweep, sweep.axes)
    assert x is not None  # there are axes
    others = [name for name in sweep.axes if name != x]
    hue = longest(sweep, others)
    part = sweep.sel(**{name: sweep.axes[name][0] for name in others if name != hue})
    found: dict[str, bytes | str] = {"text/html": _html(sweep, part, metric, x, hue)}
    if numeric:
        png = part.plot(metric, x=x, hue=hue)._repr_png_()
        found["image/png"] = base64.b64encode(png).decode("ascii")
    return found


def _html(sweep: Sweep, part: Sweep, metric: str, x: str, hue: str | None) -> str:
    """Return the ranges of all metrics, and one metric along two axes, in cells coloured by value."""
    head, *lines = repr(sweep).splitlines()
    found = [f'<div style="font-size:0.92em;line-height:1.45"><div><b>{escape(head)}</b></div>']
    for line in lines:
        name, colon, text = line.strip().partition(": ")
        cells = (name, text) if colon else ("", name)
        found.append(
            f'<div style="display:flex"><span style="flex:0 0 12em">{escape(cells[0])}</span>'
            f'<span style="font-variant-numeric:tabular-nums">{escape(cells[1])}</span></div>'
        )
    places = {x: thinned(ordered(part, x), MOST_ROWS)}
    if hue:
        places = {hue: thinned(ordered(part, hue), MOST_ROWS), **places}
    values = values_of(part, metric, places).reshape(-1, len(places[x]))
    shares = _shares(values)
    rest = [f"{name} {label_of(value)}" for name, value in part.fixed.items() if name not in sweep.fixed]
    bound = bound_of(sweep, metric)
    kind = ", ".join(one for one in (rate_of(metric), bound) if one)
    caption = ", ".join([f"{metric} ({kind})" if kind else metric, *rest])
    across = [tick_of(label_of(part.axes[x][place])) for place in places[x]]
    cell = 'style="padding:0.15em 0.6em;text-align:right;font-weight:normal'
    corner = rf"{escape(hue)} \ {escape(x)}" if hue else escape(x)
    rows = [f'<tr><td {cell}">{corner}</td>']
    rows[0] += "".join(f'<td {cell}">{escape(text)}</td>' for text in across) + "</tr>"
    labels = [tick_of(label_of(part.axes[hue][place])) for place in places[hue]] if hue else [""]
    for label, line, row in zip(labels, values, shares, strict=True):
        numbers = "".join(
            f'<td {cell};background:rgba(0,114,178,{share:.2f})">{escape(cell_of(metric, float(value)))}</td>'
            for value, share in zip(line, row, strict=True)
        )
        rows.append(f'<tr><td {cell}">{escape(label)}</td>{numbers}</tr>')
    style = "margin:0.3em 0;border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:inherit;color:inherit"
    found.append(f'<div style="margin-top:0.6em">{escape(caption)}</div>')
    found.append(f'<table style="{style}"><tbody>{"".join(rows)}</tbody></table></div>')
    return "".join(found)


def _shares(values: Any) -> Any:
    """Return how deep each cell's colour is: 0 for the least finite value and no number, 0.5 for the greatest."""
    numbers = np.log(within(values)) if spans_decades(values) else within(values)
    if np.isnan(numbers).all():
        return np.zeros(numbers.shape)
    low, high = float(np.nanmin(numbers)) / 2, float(np.nanmax(numbers)) / 2  # halves: so far apart as no float is
    return np.nan_to_num(0.5 * (numbers / 2 - low) / (high - low)) if high > low else np.zeros(numbers.shape)
