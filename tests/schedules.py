"""Pipelines played out pass by pass: an independent check of closed forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

__all__ = ["Action", "played"]

Action = tuple[str, int, int]
"""``"F"`` forward, ``"B"`` backward or its halves ``"I"`` (inputs) and ``"W"`` (weights); stage; microbatch."""


def played(tables: Sequence[Sequence[Action]], times: Mapping[str, Fraction]) -> tuple[Fraction, list[int]]:
    """Return the time of a step, and the most activations that each device keeps at a time.

    Every device runs its actions in order, each as soon as what it needs is there: a forward pass that of the stage
    before, gradients of inputs those of the stage after, gradients of weights those of inputs.

    Args:
        tables: the actions of each device.
        times: of an action of each kind.

    """
    last = max(stage for table in tables for _, stage, _ in table)
    done: dict[Action, Fraction] = {}
    clock, place = [Fraction(0)] * len(tables), [0] * len(tables)
    kept, most = [0] * len(tables), [0] * len(tables)
    while any(at < len(table) for at, table in zip(place, tables, strict=True)):
        before = list(place)
        for device, table in enumerate(tables):
            while place[device] < len(table):
                kind, stage, microbatch = table[place[device]]
                needed: list[Action] = []
                if kind == "F":
                    needed += [("F", stage - 1, microbatch)] if stage else []
                elif kind == "W":
                    needed.append(("I", stage, microbatch))
                else:
                    needed.append(("F", stage, microbatch))
                    needed += [("I", stage + 1, microbatch)] if stage < last else []
                if not all(other in done for other in needed):
                    break
                clock[device] = max([clock[device], *(done[other] for other in needed)]) + times[kind]
                done["I" if kind == "B" else kind, stage, microbatch] = clock[device]
                kept[device] += {"F": 1, "I": 0, "B": -1, "W": -1}[kind]
                most[device] = max(most[device], kept[device])
                place[device] += 1
        assert place != before, "every device waits for another one"
    return max(clock), most
