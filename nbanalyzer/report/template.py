"""What a generated template is, in one paragraph that is the same every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nbanalyzer.costs.count import count
from nbanalyzer.templates.template import Basic, Kernel, ModelTemplate

__all__ = ["Summary", "summary"]


class Summary:
    """A paragraph about a template, that shows itself."""

    def __init__(self, template: ModelTemplate) -> None:
        self.text = summary(template)

    def __repr__(self) -> str:
        return self.text


def summary(template: ModelTemplate) -> str:
    """Return what a template is of, how much of it there is, and what of it was found equal to PyTorch."""
    kernels = [*_all(template.kernels)]
    basic = sum(isinstance(kernel, Basic) for kernel in kernels)
    parameters = count(template, seq_len=1).totals["parameters"]
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
    """Yield what was compared in the same runs: ``prefill_read_bytes`` is of a run, ``parameters`` of none."""
    runs: dict[str, list[str]] = {}
    for name in names:
        run, _, metric = name.rpartition("_")
        run, _, first = run.rpartition("_")
        runs.setdefault(f"{first} {metric}".strip(), []).append(run.replace("_", " "))
    metrics: dict[tuple[str, ...], list[str]] = {}
    for metric, names_of_runs in runs.items():
        metrics.setdefault(tuple(filter(None, names_of_runs)), []).append(metric.replace("flops", "FLOPs"))
    for where, what in metrics.items():
        yield ", ".join(what) + (f" ({', '.join(where)})" if where else "")


def _all(kernels: Iterable[Kernel]) -> Iterator[Kernel]:
    for kernel in kernels:
        yield kernel
        if not isinstance(kernel, Basic):
            yield from _all(kernel.sub_kernels)
