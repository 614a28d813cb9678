"""The time of a pass at the roofline as a formula: sizes and what the accelerator reaches stay symbols.

A launch takes the longest of its times: ``max(FLOPs / peak, bytes / bandwidth)``; a pass the sum over its launches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from nbanalyzer.costs.breakdown import Part
from nbanalyzer.costs.launch import Launch
from nbanalyzer.costs.metrics import METRICS
from nbanalyzer.costs.roles import roles_of
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import NotModelledError
from nbanalyzer.formulas.formula import Formula, build, constant, variable
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.accelerators import PRECISIONS
from nbanalyzer.hardware.laws import exact

from .rates import Rates, Unit, busy

if TYPE_CHECKING:
    from nbanalyzer.costs.costs import Costs

__all__ = ["MEANINGS", "parts_of", "rates_of", "time_formula"]

BANDWIDTH, VECTOR, OVERHEAD = "bandwidth", "vector_peak", "launch_overhead"
WORK: Mapping[Unit, str] = {"matmul": "matmul_flops", "vector": "vector_flops", "memory": "bytes"}
"""What keeps a unit busy: its metric."""
MEANINGS: Mapping[str, str] = {
    BANDWIDTH: "bytes a second to and from the memory, as far as they are reached",
    VECTOR: "FLOP/s of the vector units, as far as they are reached",
    OVERHEAD: "seconds that each kernel takes beside its work",
    **{f"{name}_peak": f"FLOP/s of {name} matrix products, as far as they are reached" for name in PRECISIONS},
}
"""Symbol of what an accelerator reaches → what it is."""


def time_formula(costs: Costs, rates: Rates, within: Collection[Node] | None = None) -> Formula:
    """Return the seconds of a pass, or of some kernels in it: a sum of the longest times of launches.

    Raises:
        NotModelledError: the pass runs on several devices.

    """
    _require_one_device(costs)
    launches = [one for one in costs.launches if one.is_started and (within is None or one.nodes[0] in within)]
    return costs.in_sizes(build("+", *(_seconds(one, rates, [*busy(one, rates)]) for one in launches)))


def rates_of(costs: Costs, rates: Rates) -> dict[str, Number]:
    """Return the symbols of `time_formula` that are the accelerator's → their values."""
    found: dict[str, float] = {BANDWIDTH: rates.bandwidth, OVERHEAD: rates.efficiency.launch_overhead}
    if rates.vector is not None:
        found[VECTOR] = rates.vector
    for launch in costs.launches:
        if (name := rates.name_of(launch)) is not None and (rate := rates.rate_of(launch)) is not None:
            found[f"{name}_peak"] = rate
    return {name: exact(value) for name, value in found.items()}


def parts_of(costs: Costs, rates: Rates) -> list[Part]:
    """Return the seconds of every module, each launch's by what it waits for in this pass: no ``max`` is left."""
    _require_one_device(costs)
    values = {**costs.values, **rates_of(costs, rates)}
    nodes, roles = costs.modules(with_empty=True), roles_of(costs.kernel_tree)
    own: dict[Node, list[Launch[Number]]] = {}
    for launch in filter(lambda one: one.is_started, costs.launches):
        most = max(launch.nodes, key=lambda node: (costs.cost(node).matmul_flops, costs.cost(node).bytes))
        own.setdefault(next(node for node in (most, *most.around) if node in roles), []).append(launch)
    found = []
    for node, label in zip(nodes, costs.labels(nodes), strict=True):
        if node in own:
            times = [busy(launch, rates) for launch in own[node]]
            longest: list[Unit] = [max(one, key=lambda unit, one=one: one[unit]) for one in times]  # type: ignore[misc]
            terms = [_seconds(launch, rates, [unit]) for launch, unit in zip(own[node], longest, strict=True)]
            formula = costs.in_sizes(build("+", *terms))
            waits = " and ".join(dict.fromkeys("memory" if unit == "memory" else "compute" for unit in longest))
            found.append(Part(f"{label}, {waits}-bound", roles[node], formula, formula.evaluate(values)))
    return found


def _seconds(launch: Launch[Number], rates: Rates, units: Sequence[Unit]) -> Formula:
    """Return the seconds of a launch: the longest of its times on some units, and of starting it."""
    rate = {"memory": BANDWIDTH, "vector": VECTOR, "matmul": f"{rates.name_of(launch)}_peak"}
    times = [build("/", _work(launch.nodes, WORK[unit]), variable(rate[unit])) for unit in units]
    once = build("max", *times) if len(times) > 1 else build("+", *times)
    if rates.efficiency.launch_overhead:
        once = build("+", once, build("*", constant(launch.steps), variable(OVERHEAD)))
    return build("*", launch.nodes[0].times, once)


def _work(nodes: Sequence[Node], metric: str) -> Formula:
    of_kernel = METRICS[metric].of_kernel
    assert of_kernel is not None
    return build("+", *(of_kernel(node) for node in nodes))


def _require_one_device(costs: Costs) -> None:
    if costs.run.devices > 1:
        raise NotModelledError(
            f"not modelled: a formula of the time on {costs.run.devices:,} devices; explain and formula have it of one"
        )
