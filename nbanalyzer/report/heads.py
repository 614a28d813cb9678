"""What stands above the table of an analysis: the totals, and on hardware the times and the memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nbanalyzer.analysis.memory import fit_text
from nbanalyzer.costs.active import active_parameters
from nbanalyzer.costs.metrics import cache_of
from nbanalyzer.quantities import count_of, rate, seconds, show, si, whole
from nbanalyzer.templates.template import Basic

if TYPE_CHECKING:
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.costs.costs import Costs

__all__ = ["headline", "sentences", "warnings"]


def sentences(analysis: Costs, roofline: Roofline | None) -> tuple[str, ...]:
    """Return the first things to know, the plain one first."""
    if roofline:
        return tuple(filter(None, (roofline.sentence, roofline.answer)))
    sentence: str = getattr(analysis, "sentence", "")
    return (sentence,) if sentence else ()


def warnings(analysis: Costs, roofline: Roofline | None) -> tuple[str, ...]:
    """Return what to know before believing the numbers."""
    return analysis.warnings if roofline is None else (*analysis.warnings, *roofline.notes)


def headline(analysis: Costs, roofline: Roofline | None = None) -> list[tuple[str, str]]:
    """Return the totals as (name, text of the exact number) pairs; with a roofline, the time and the memory too."""
    cost = analysis.cost_of_all
    weights, cache = round(cost.weight_bytes_read), round(cost.kv_bytes_read + cost.kv_bytes_written)
    rest = round(cost.bytes) - weights - cache
    lines = [
        ("FLOPs", f"{show(cost.flops)} = {show(cost.matmul_flops)} matmul + {show(cost.vector_flops)} vector"),
        ("bytes", f"{whole(cost.bytes)} = {weights:,} weights + {cache:,} cache + {rest:,} activations"),
        ("FLOPs per byte", f"{cost.arithmetic_intensity:.4g}"),
        ("parameters", f"{_parameters(analysis)} in {whole(analysis.weight_bytes)} bytes"),
    ]
    if analysis.kernel_tree.stored:
        from nbanalyzer.analysis.checkpoint import checkpoint_of  # not needed where all weights have the run's bits

        stored = checkpoint_of(analysis)
        parts = " + ".join(f"{whole(size)} {dtype}" for dtype, size in stored.parts.items())
        lines.append(("weights", f"{whole(stored.total)} bytes in {stored.name} = {parts}"))
    lines += _kept(analysis)
    if analysis.run.devices > 1:
        lines.append(("communication", f"{whole(cost.payload_bytes)} bytes{_collectives(analysis)}"))
    return lines + (_on_hardware(roofline) if roofline else [])


def _kept(analysis: Costs) -> list[tuple[str, str]]:
    """Return what is kept between passes: the cache, with its parts if it has several, and states beside it."""
    cache = cache_of(analysis.template.state)
    parts = [f"{round(analysis.state[name]):,} {name}" for name in cache if analysis.state[name]]
    of_them = f" = {' + '.join(parts)}" if len(parts) > 1 else ""
    lines = {name: f"{round(value):,} bytes" for name, value in analysis.state.items() if name not in cache[1:]}
    whole_cache = f"{round(analysis.totals['kv_cache_bytes']):,} bytes{of_them}"
    return [("KV cache", whole_cache) if name in cache else (name, size) for name, size in lines.items()]


def _parameters(analysis: Costs) -> str:
    """Return the number of parameters: as people say it, exact, and how many of them a token uses."""
    number = analysis.cost_of_all.parameters
    active = active_parameters(analysis) if analysis.run.devices == 1 else number
    used = f", {count_of(active)} of them active" if active != number else ""
    return f"{count_of(number)}{used}: {show(number)}" if number >= 1000 else show(number)


def _collectives(analysis: Costs) -> str:
    """Return how often the ranks communicate, with whom and how: `` in 65 all-reduces (tp), 1 all-gather (tp)``."""
    numbers: Counter[tuple[str, str]] = Counter()
    for node in analysis.nodes:
        if isinstance(node.kernel, Basic) and node.is_link:
            numbers[node.kernel.operation, node.kernel.group] += int(analysis.cost(node).count)
    found = [(name, group, number) for (name, group), number in numbers.items() if number]
    counts = [f"{number:,} {name}{'s' if number > 1 else ''} ({group})" for name, group, number in found]
    return f" in {', '.join(counts)}" if counts else ""


def _on_hardware(roofline: Roofline) -> list[tuple[str, str]]:
    accelerator, total = roofline.accelerator, roofline.total
    parts = (
        ("compute-bound", total.compute), ("memory-bound", total.memory), ("communication", total.link),
        ("launch overhead", total.overhead),
    )  # fmt: skip
    spent = [(name, time) for name, time in parts if time]
    split = " = " + " + ".join(f"{seconds(time)} {name}" for name, time in spent)
    split = f", all {spent[0][0]}" if len(spent) == 1 else split if spent else ""
    peaks = [f"{precision} {si(accelerator.peak(precision), 'FLOP/s')}" for precision in roofline.precisions]
    rates = ", ".join([*peaks, si(accelerator.bandwidth, "B/s")])
    mark = "".join(f", {mark}" for mark in roofline.marks)
    least, most = ("at least ", "at most ") if roofline.is_bound else ("", "")
    return [
        ("hardware", f"{accelerator.title or accelerator.name}: {rates}"),
        ("time", f"{least}{seconds(roofline.time)}{split}{mark}"),
        ("", roofline.words),
        ("tokens/s", f"{most}{rate(roofline.tokens_per_second)}{mark}"),
        ("memory", fit_text(roofline.memory, accelerator)),
    ]
