"""Time and memory of a pass as formulas of what stays free: the rules of `roofline` and `memory`, over polynomials."""

from __future__ import annotations

from fractions import Fraction

from nbanalyzer.costs.symbolic import Symbolic
from nbanalyzer.formulas.polynomial import Atom, Polynomial
from nbanalyzer.formulas.program import Expression

from .rates import Rates, busy, starts

__all__ = ["kept_of", "memory_of", "time_of", "working_sets"]

MOST_COMPARED = 64  # working sets that are compared with each other: more hide nothing worth the time


def time_of(costs: Symbolic, rates: Rates) -> Expression:
    """Return the seconds of a pass: the sum of the longest of each launch's times, and of what starting them takes.

    What is longer in every case, as most kernels' traffic is, needs no comparison.
    """
    decided: list[Polynomial] = []
    undecided: list[Expression] = []
    for launch in costs.launches:
        times = [time for time in dict.fromkeys(busy(launch, rates).values()) if time]
        longest = [
            time for time in times if not any((other - time).never_negative for other in times if other is not time)
        ]
        if len(longest) > 1:
            undecided.append(Expression("max", tuple(longest)))
        else:
            decided += longest
        if rates.efficiency.launch_overhead:
            decided.append(starts(launch) * Fraction(rates.efficiency.launch_overhead))
    return Expression("sum", (Polynomial.sum(decided), *undecided))


def kept_of(costs: Symbolic) -> Polynomial:
    """Return the bytes that are there during the whole pass, weights and state."""
    return Polynomial.sum([costs.metric("weight_bytes"), *costs.state.values()])


def working_sets(costs: Symbolic) -> list[Polynomial]:
    """Return the bytes of activations of one run of each launch, without those that are never the largest."""
    found: list[Polynomial] = []
    for launch in costs.launches:
        if not launch.times:
            continue
        largest = launch.activations
        if not launch.times.is_constant:  # an encoder, for example, that this pass does not run
            largest = largest * Polynomial.of(Atom("!=", (launch.times, Polynomial({}))))
        if len(found) >= MOST_COMPARED:
            found.append(largest)
        elif not any((other - largest).never_negative for other in found):
            found = [other for other in found if not (largest - other).never_negative] + [largest]
    return found or [Polynomial({})]


def memory_of(costs: Symbolic, *others: Symbolic) -> Expression:
    """Return the bytes that have to be in memory, see `nbanalyzer.analysis.memory.Memory`.

    Args:
        costs: the pass, of several the last one: what it keeps is there at the end.
        others: further passes, of which the activations may be larger.

    """
    sets = [one for each in (*others, costs) for one in working_sets(each)]
    return Expression("sum", (kept_of(costs), Expression("max", tuple(sets))))
