"""A generated template in one paragraph, deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nbanalyzer.costs.count import count, shortest
from nbanalyzer.templates.template import Basic, Kernel, ModelTemplate

__all__ = ["summary"]


def summary(template: ModelTemplate) -> str:
    """Return a template's model, its size, and the numbers that were found equal to PyTorch's."""
    kernels = [*_all(template.kernels)]
    basic = sum(isinstance(kernel, Basic) for kernel in kernels)
    parameters = count(template, **shortest(template)).totals["parameters"]
    size = f"{parameters:,} parameters, {basic:,} kernels in {len(kernels) - basic:,} modules and functions"
    lines = [f"{template.model_id}: {template.architecture}, {size}."]
    checked = template.provenance.get("checked")
    if isinstance(checked, Mapping) and checked:
        lines.append(f"Equal to PyTorch's own counts, exactly: {'; '.join(_compared(checked))}.")
    if template.provenance.get("result", "equal") != "equal":
        sizes = template.provenance.get("sizes") or ()
        lines.append(
            f"Its code needs data, so that all else was compared at tiny sizes on the CPU only: {len(sizes)} configs."
        )
    return "\n".join(lines)


def _compared(names: Iterable[str]) -> Iterator[str]:
    """Yield the metrics compared in the same runs: ``prefill_read_bytes`` is of a run, ``parameters`` of none."""
    runs_of: dict[str, list[str]] = {}
    for name in names:
        run, _, metric = name.rpartition("_")
        run, _, first = run.rpartition("_")
        runs_of.setdefault(f"{first} {metric}".strip(), []).append(run.replace("_", " "))
    metrics_of: dict[tuple[str, ...], list[str]] = {}
    for metric, runs in runs_of.items():
        metrics_of.setdefault(tuple(filter(None, runs)), []).append(metric.replace("flops", "FLOPs"))
    for common, metrics in metrics_of.items():
        yield ", ".join(metrics) + (f" ({', '.join(common)})" if common else "")


def _all(kernels: Iterable[Kernel]) -> Iterator[Kernel]:
    for kernel in kernels:
        yield kernel
        if not isinstance(kernel, Basic):
            yield from _all(kernel.sub_kernels)
