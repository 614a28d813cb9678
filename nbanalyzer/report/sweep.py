"""A sweep as text and in notebooks: ranges, a coloured table, lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbanalyzer.analysis.marks import legend
from nbanalyzer.sweeps import slices
from nbanalyzer.sweeps.labels import label_of, listed, shown
from nbanalyzer.sweeps.sentence import sentence_of
from nbanalyzer.text import as_lines, escape

if TYPE_CHECKING:
    from nbanalyzer.sweeps.sweep import Sweep

__all__ = ["fragment", "text"]

# Over the colour of a cell that does not fit, on light and dark pages.
HATCH = "repeating-linear-gradient(-45deg,rgba(128,128,128,0.4) 0 2px,transparent 2px 7px),"


def text(sweep: Sweep) -> str:
    """Return the axes and, unless the sweep is lazy, the range of every metric."""
    points = "1 point" if sweep.size == 1 else f"{sweep.size:,} points"
    lines = [f"{sweep.model}: {points}{', lazy' if sweep.is_lazy else ''}", *filter(None, (sentence_of(sweep),))]
    lines += [f"  {name}: {listed(values)}" for name, values in sweep.axes.items()]
    if sweep.fixed:
        lines.append(f"  {', '.join(f'{name} {label_of(value)}' for name, value in sweep.fixed.items())}")
    notes = [f"  warning: {note}" for note in sweep.notes]
    if sweep.is_lazy:
        return as_lines([*lines, f"  metrics: {', '.join(sweep.metrics)}", *notes])
    for name in sweep.metrics:
        values = sweep.values(name)
        summary = f"{int(values.sum()):,} of {sweep.size:,}" if name == "fits" else _range(sweep, name, values)
        lines.append(f"  {name}: {summary}")
    return as_lines([*lines, *notes])


def _range(sweep: Sweep, metric: str, values: Any) -> str:
    """Return the least and the largest of a metric's values, marked, and the number of points without one."""
    count = int(np.isnan(values).sum())
    if count == values.size:
        return f"no number, no number at {count:,}"
    places = dict.fromkeys((int(np.nanargmin(values)), int(np.nanargmax(values))))
    ends = dict.fromkeys(_end(sweep, metric, values, place) for place in places)
    return f"{' to '.join(ends)}{f', no number at {count:,}' if count else ''}"


def _end(sweep: Sweep, metric: str, values: Any, place: int) -> str:
    """Return one of a metric's values with its unit and, in words, its mark."""
    at = zip(sweep.axes.items(), np.unravel_index(place, values.shape), strict=True)
    fits = sweep.fits_at(metric, {}, **{name: choices[index] for (name, choices), index in at})
    marks = () if fits is None else slices.mark_of(float(fits))
    return " ".join((shown(metric, float(values.flat[place])), *(f"({mark})" for mark in marks)))


def fragment(sweep: Sweep) -> dict[str, str]:
    """Return a sweep as ``"text/html"``, ranges and a coloured table.

    Nothing for a lazy sweep, which would have to be computed, and for a single point.
    """
    if sweep.is_lazy or not sweep.axes:
        return {}
    varying = (name for name in sweep.metrics if np.min(sweep.arrays[name]) != np.max(sweep.arrays[name]))
    metric = next(varying, sweep.metrics[0])
    numeric = [name for name, values in sweep.axes.items() if slices.is_numeric(values)]
    x = slices.longest(sweep, numeric) or slices.longest(sweep, sweep.axes)
    assert x is not None  # there are axes
    others = [name for name in sweep.axes if name != x]
    hue = slices.longest(sweep, others)
    part = sweep.sel(**{name: sweep.axes[name][0] for name in others if name != hue})
    return {"text/html": _html(sweep, part, metric, x, hue)}


def _html(sweep: Sweep, part: Sweep, metric: str, x: str, hue: str | None) -> str:
    """Return the ranges of all metrics, and one metric along two axes, in cells coloured by value."""
    head, *lines = repr(sweep).splitlines()
    parts = [f'<div style="font-size:0.92em;line-height:1.45"><div><b>{escape(head)}</b></div>']
    if sentence_of(sweep):
        parts.append(f"<div><b>{escape(lines.pop(0))}</b></div>")
    for line in lines:
        name, colon, text = line.strip().partition(": ")
        cells = (name, text) if colon else ("", name)
        parts.append(
            f'<div style="display:flex"><span style="flex:0 0 12em">{escape(cells[0])}</span>'
            f'<span style="font-variant-numeric:tabular-nums">{escape(cells[1])}</span></div>'
        )
    places = {x: slices.thinned(slices.ordered(part, x), slices.MOST_ROWS)}
    if hue:
        places = {hue: slices.thinned(slices.ordered(part, hue), slices.MOST_ROWS), **places}
    values = slices.values_of(part, metric, places).reshape(-1, len(places[x]))
    fits = slices.fits_of(part, metric, places)
    fitting = np.ones(values.shape) if fits is None else fits.reshape(values.shape)
    shares = _shares(values)
    rest = [f"{name} {label_of(value)}" for name, value in part.fixed.items() if name not in sweep.fixed]
    kind = ", ".join(word for word in (slices.rate_of(metric), slices.bound_of(sweep, metric)) if word)
    words = [f"{metric} ({kind})" if kind else metric, *rest, legend(slices.marks_of(fits))]
    caption = ", ".join(filter(None, words))
    across = [slices.tick_of(label_of(part.axes[x][place])) for place in places[x]]
    cell = 'style="padding:0.15em 0.6em;text-align:right;font-weight:normal'
    corner = rf"{escape(hue)} \ {escape(x)}" if hue else escape(x)
    rows = [f'<tr><td {cell}">{corner}</td>']
    rows[0] += "".join(f'<td {cell}">{escape(text)}</td>' for text in across) + "</tr>"
    labels = [slices.tick_of(label_of(part.axes[hue][place])) for place in places[hue]] if hue else [""]
    for label, line, row, marks in zip(labels, values, shares, fitting, strict=True):
        numbers = "".join(
            f'<td {cell};background:{"" if fit == 1 else HATCH}rgba(0,114,178,{share:.2f})">'
            f"{escape(slices.cell_of(metric, float(value), float(fit)))}</td>"
            for value, share, fit in zip(line, row, marks, strict=True)
        )
        rows.append(f'<tr><td {cell}">{escape(label)}</td>{numbers}</tr>')
    style = "margin:0.3em 0;border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:inherit;color:inherit"
    parts.append(f'<div style="margin-top:0.6em">{escape(caption)}</div>')
    parts.append(f'<table style="{style}"><tbody>{"".join(rows)}</tbody></table></div>')
    return "".join(parts)


def _shares(values: Any) -> Any:
    """Return the opacity of each cell's colour: 0 for the least finite value and nan, 0.5 for the greatest."""
    numbers = np.log(slices.within(values)) if slices.spans_decades(values) else slices.within(values)
    if np.isnan(numbers).all():
        return np.zeros(numbers.shape)
    # Halved, for the difference may exceed the largest float.
    low, high = float(np.nanmin(numbers)) / 2, float(np.nanmax(numbers)) / 2
    return np.nan_to_num(0.5 * (numbers / 2 - low) / (high - low)) if high > low else np.zeros(numbers.shape)
