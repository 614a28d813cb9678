"""What a model keeps for the next step, as formulas: caches of keys and values, latents, states of a recurrence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbanalyzer.formulas.formula import Formula, build, constant, variable
from nbanalyzer.generate import hints
from nbanalyzer.generate.fit.sizes import Gap, Unfitted
from nbanalyzer.generate.model.subject import Step
from nbanalyzer.generate.trace.tensors import kept_sizes

from .assemble import Assembly

__all__ = ["added", "by_layer", "gap_of"]


def by_layer(assembly: Assembly) -> dict[tuple[str, int], Formula]:
    """Return (name, layer) → bytes of what is kept there after a step.

    Raises:
        Gap: a size of it has no formula.

    """
    named = {hint.name: hint.says[0] for hint in hints.STATES}
    found: dict[tuple[str, int], list[Formula]] = {}
    slots: dict[tuple[str, int, int], dict[int, Any]] = {}
    for index, observation in enumerate(assembly.observations):
        count: dict[tuple[str, int], int] = {}
        for tensor in observation.kept:
            key = (tensor.name, tensor.layer)
            count[key] = count.get(key, 0) + 1
            slots.setdefault((*key, count[key]), {})[index] = tensor.operand
    for (name, layer, _), operands in slots.items():
        if not any(index in operands for index in assembly.real):
            continue
        try:
            dims = assembly.dims({index: operand.shape for index, operand in operands.items()}, "a size of the state")
        except Unfitted as problem:
            raise Gap(f"layer {layer}", f"{problem.what} {name}", problem.values) from None
        unit = next(iter(operands.values())).size
        size = variable(unit) if unit.endswith("bytes") else constant(int(unit))
        whole = build("*", *dims, size)
        missing = [index for index in assembly.real if index not in operands] if assembly.cases.rates else []
        if any(whole.evaluate({**assembly.observations[index].values, "kv_bytes": 1}) for index in missing):
            real = frozenset(assembly.real)
            if (condition := assembly.conditions.of(real & operands.keys(), real)) is None:
                raise Gap(f"layer {layer}", f"when {name} is kept", ())
            whole = build("if", whole, condition, constant(0))
        found.setdefault((named.get(name, name.strip("_")), layer), []).append(whole)
    return {key: added(parts) for key, parts in found.items()}


def gap_of(step: Step, state: Mapping[str, Formula], values: Mapping[str, int]) -> Gap | None:
    """Return what is wrong with the formulas of the state after a step of the whole model, None if nothing is."""
    real = {"batch_size": step.batch_size, "seq_len": step.seq_len, "cache_len": 0, "encoder_len": step.encoder_len}
    mine = sum(formula.evaluate({**values, **real, "kv_bytes": 2}) for formula in state.values())
    elements, others = kept_sizes(step.after)
    seen = 2 * elements + others
    return None if mine == seen else Gap("state", "the bytes that are kept", (seen,))


def added(parts: list[Formula]) -> Formula:
    """Return a sum; of the same part several times, as a product."""
    texts = [str(part) for part in parts]
    if len(parts) > 1 and len(set(texts)) == 1:
        return build("*", constant(len(parts)), parts[0])
    return build("+", *parts)
