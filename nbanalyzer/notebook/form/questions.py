"""What a click asks of a state: the largest size that fits, and the figures along a size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbanalyzer.costs.metrics import unit_of
from nbanalyzer.costs.run import MESH
from nbanalyzer.errors import InputError, NBAnalyzerError

from .state import State

__all__ = ["Along", "along", "largest"]

TIMES = ("estimate", "lower_bound", "time")
LONGEST = 2**30  # of a request: beyond it nobody asks, and what still fits is of one size
LABELS = {
    "estimate": "estimate", "lower_bound": "bound", "time": "at the roofline", "tokens_per_s": "tokens/s",
    "flops": "FLOPs", "bytes": "bytes moved",
}  # fmt: skip


def largest(state: State, name: str) -> int:
    """Return the largest value of a size at which everything fits into the memory.

    Raises:
        InputError: there is none: not even the smallest fits, or any does; or there is no hardware.
        NBAnalyzerError: the memory is not known.

    """
    if state.hardware is None:
        raise InputError("what fits is a question of hardware, and there is none: choose an accelerator")
    if state.phase == "request":
        return _largest_request(state, name)
    from nbanalyzer.analysis.solve import solve

    options = {one: value for one, value in state.options.items() if one != name}
    found = solve(state.model, state.hardware, maximize=name, nodes=state.communication.nodes, **options)  # type: ignore[arg-type]
    if found.value is None:
        raise InputError(f"{found.question}: {found.reason}")
    return found.value


def _largest_request(state: State, name: str) -> int:
    from nbanalyzer.analysis.limits import bisected
    from nbanalyzer.analysis.memory import fit_of
    from nbanalyzer.analysis.request import request
    from nbanalyzer.hardware.accelerators import hardware as find_hardware

    card = find_hardware(state.hardware or "")

    def fits(value: int) -> bool:
        try:
            asked = request(state.model, **{**state.options, name: value})
        except InputError:
            if name == "images" and value > 1:  # prompts have no room for so many
                return False
            raise
        return value <= LONGEST and bool(fit_of(asked.memory, card))

    found = bisected(fits, 1)
    question = f"largest {name} of a request that fits {card.name}"
    if found is None:
        raise InputError(f"{question}: does not fit even at {name} = 1")
    if found >= LONGEST:
        raise InputError(f"{question}: any {name} fits")
    return found


@dataclass(frozen=True)
class Along:
    """Figures along a size, everything else as it is.

    Attributes:
        state: that it belongs to, whatever its own value of the size.
        name: of the size.
        title: the model, and where it runs.
        values: of the size.
        panels: unit → label → the figures at the values, nan where there is none.
        fits: whether each fits; empty if nobody knows.
        notes: what to know before believing it.

    """

    state: State
    name: str
    title: str
    values: Sequence[int]
    panels: Mapping[str, Mapping[str, Sequence[float]]]
    fits: Sequence[bool]
    notes: Sequence[str]

    def is_of(self, state: State) -> bool:
        """Return whether a state differs from its own in the size alone."""
        others = [{**one.run, self.name: None} for one in (self.state, state)]
        rest = [
            (one.model, one.hardware, one.profile, one.phase, one.changes, one.communication, one.assumed)
            for one in (self.state, state)
        ]
        return others[0] == others[1] and rest[0] == rest[1]


def along(state: State, name: str, values: Sequence[int]) -> Along:
    """Return the figures of a state along a size.

    Raises:
        NBAnalyzerError: they cannot be worked out.

    """
    from nbanalyzer.sweeps.sweep import sweep

    options = {one: value for one, value in state.options.items() if value is not None and one != "set"}
    options = {one: value for one, value in options.items() if one not in MESH or value != 1}
    asked: dict[str, Any] = {**options, name: [*values], "set": dict(state.changes) or None}
    if state.hardware is None:
        metrics: tuple[str, ...] = ("flops", "bytes")
    else:
        metrics = (*TIMES, "tokens_per_s")
        reached = {one: value for one, value in state.assumed.options.items() if one != "price"}
        mesh = {"nodes": state.communication.nodes, "overlap": state.communication.overlap}
        asked |= {"hardware": state.hardware, "profile": state.profile, **mesh, **reached}
    try:
        found = sweep(state.model, metrics=metrics, **asked)
    except NBAnalyzerError:
        if "estimate" not in metrics:
            raise
        asked |= {"profile": None}
        found = sweep(state.model, metrics=metrics[1:], **asked)  # the rest needs no estimate
    panels: dict[str, dict[str, list[float]]] = {}
    for metric in found.metrics:
        unit = unit_of(metric)
        panels.setdefault(unit, {})[LABELS[metric]] = [float(value) for value in found.values(metric).reshape(-1)]
    fits = found.fits_at("time", found.axes) if state.hardware is not None else None
    whether = () if fits is None else tuple(bool(one) for one in fits.reshape(-1))
    where = f" on {state.hardware}" if isinstance(state.hardware, str) else ""
    return Along(state, name, f"{found.model}{where}", tuple(values), panels, whether, found.notes)
