"""A comparison as text and HTML: shared conditions, the totals, and the modules that differ most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

from nbanalyzer.analysis.comparison import Comparison, Variant, ratio
from nbanalyzer.analysis.estimate import LEVEL
from nbanalyzer.analysis.marks import legend, signed
from nbanalyzer.analysis.times import TIMES
from nbanalyzer.costs.metrics import unit_of
from nbanalyzer.costs.run import MESH, SIZES
from nbanalyzer.quantities import amount, count_of, seconds, si
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

__all__ = ["fragment", "text"]

MOST_ROWS = 12  # modules; `Comparison.modules` has all


def text(comparison: Comparison) -> str:
    """Return the comparison as aligned text."""
    parts = [_heads(comparison), *(Table(rows).lines() for rows in tables(comparison))]
    return "\n\n".join(map(as_lines, parts))


def fragment(comparison: Comparison) -> dict[str, str]:
    """Return the comparison as HTML."""
    lines = [escape(line) for line in _heads(comparison)]
    if comparison.sentence:
        lines[0] = f"<b>{lines[0]}</b>"
    heads = "".join(f"<div>{line}</div>" for line in lines)
    return {"text/html": heads + "<br>".join(Table(rows).html() for rows in tables(comparison))}


def tables(comparison: Comparison) -> list[list[tuple[str, ...]]]:
    """Return the rows of the totals and, if any differ, of the modules; the first of each are the headings."""
    return [rows for rows in (_totals(comparison), _modules(comparison)) if rows]


def _heads(comparison: Comparison) -> list[str]:
    """Return the conditions that all variants share: model, run, accelerator, efficiency; and the warnings."""
    variants = comparison.variants
    analyses = [variant.analysis for variant in variants]
    rooflines = [variant.roofline for variant in variants if variant.roofline]
    shared = [_only(analysis.title for analysis in analyses)]
    used = {name for analysis in analyses for name in analysis.variables}
    used |= {axis for analysis in analyses for axis in analysis.run.axes}
    used |= {"mtp"} if any(analysis.run.mtp for analysis in analyses) else set()
    used |= {"rank"} if any(analysis.run.rank is not None for analysis in analyses) else set()
    sizes = [name for name in SIZES if name not in {"encoder_len", "rank", "mtp", *MESH} or name in used]
    runs = [{name: getattr(analysis.run, name) for name in sizes} | analysis.conventions for analysis in analyses]
    same = [name for name in runs[0] if all(run.get(name) == runs[0][name] for run in runs)]
    shared.append(", ".join(f"{name} {runs[0][name]}" for name in same))
    if rooflines:
        name = _only(roofline.accelerator.title or roofline.accelerator.name for roofline in rooflines)
        several = [roofline for roofline in rooflines if roofline.analysis.run.devices > 1]
        efficiency = _only(roofline.words for roofline in several or rooflines)
        signs = legend(mark for variant in variants for mark in variant.marks)
        shared.append("; ".join(filter(None, (f"on {name}" if name else "", efficiency, signs))))
        shared.append(f"estimates by {', '.join(dict.fromkeys(one.profile.name for one in rooflines))}")
    if comparison.sentence:
        shared.insert(0, comparison.sentence)
    return [line for line in shared if line] + [f"warning: {warning}" for warning in comparison.warnings]


def _totals(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the totals: metric, the first variant's number, the others' with the ratio."""
    variants = comparison.variants
    names = [(comparison.called(name), name) for name in comparison.metrics]
    rows: list[tuple[str, ...]] = [("", *(variant.label for variant in variants))]
    for label, name in names:
        rows.append((label, *_beside(name, [one.metric(name) for one in variants], variants)))
        if name == "estimate" and any(variant.within for variant in variants):
            rows.append((f"{LEVEL:.0%} within", *(variant.within for variant in variants)))
    return rows


def _modules(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the modules, or roles, that differ, by time if there is one, else by bytes; nothing if none does."""
    metric = "time" if "time" in comparison.metrics else "bytes"
    by, found = comparison.aligned(metric)
    ranked = {path: numbers for path, numbers in found.items() if by == "role" or min(numbers) < max(numbers)}
    if not ranked:
        return []
    rows = [(f"{comparison.called(metric)}, by {by}", *(variant.label for variant in comparison.variants))]
    rows += [(path, *_parts(metric, numbers, comparison.variants)) for path, numbers in [*ranked.items()][:MOST_ROWS]]
    if (more := len(ranked) - MOST_ROWS) > 0:
        rows.append((f"and {more} more that differ{'s' if more == 1 else ''}", *[""] * len(comparison.variants)))
    return rows


def _beside(metric: str, numbers: Sequence[float | None], variants: Sequence[Variant]) -> tuple[str, ...]:
    """Return the numbers with their marks and, behind those of the others, the ratio to the first."""
    if metric == "fits":
        return tuple(map(_fits, variants))
    if metric == "devices":
        return tuple(f"{number:,}" for number in numbers)
    if metric in {"estimate", "lower_bound"}:
        texts = ["not modelled" if number is None or isnan(number) else seconds(number) for number in numbers]
    else:
        texts = [_shown(metric, number) for number in numbers]
    if metric in TIMES:
        texts = [signed(text, variant.marks) for text, variant in zip(texts, variants, strict=True)]
    ratios = ["", *(f"  {ratio(numbers[0], number)}".rstrip() for number in numbers[1:])]
    return tuple(f"{text}{against}" for text, against in zip(texts, ratios, strict=True))


def _parts(metric: str, numbers: Sequence[float], variants: Sequence[Variant]) -> tuple[str, ...]:
    """Return the numbers of a module or role as `_beside` does; where a variant has none of it, a dash."""
    texts = _beside(metric, numbers, variants)
    return tuple(text if number else "-" for number, text in zip(numbers, texts, strict=True))


def _fits(variant: Variant) -> str:
    fit = variant.roofline.fit if variant.roofline else None
    if fit is None:
        return "memory unknown"
    return "yes" if fit else f"no, {si(-fit.free, 'B')} short"


def _only(texts: Iterable[str]) -> str:
    """Return the text if all are equal, else ""."""
    different = {*texts}
    return different.pop() if len(different) == 1 else ""


def _shown(metric: str, value: float | None) -> str:
    if metric == "parameters":
        return count_of(value or 0)
    unit = "s" if metric in TIMES else unit_of(metric)
    return amount(value or 0, "" if unit == "elements" else unit)
