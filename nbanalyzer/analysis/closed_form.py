"""Time and memory of a pass as formulas of what stays free: the rules of `roofline` and `memory`, over polynomials."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from nbanalyzer.costs.symbolic import Symbolic, never_negative
from nbanalyzer.formulas.polynomial import Atom, Polynomial
from nbanalyzer.formulas.program import Expression
from nbanalyzer.formulas.simplify import applied
from nbanalyzer.hardware.laws import exact

from .estimate import expected_times, share_of, spread_of
from .laws import Pace
from .memory import LAYERS_AT_ONCE, gathered
from .rates import Rates, busy, starts

__all__ = ["as_polynomial", "expected_of", "kept_of", "memory_of", "time_of", "working_sets"]

MOST_COMPARED = 64  # working sets that are compared with each other: more hide nothing worth the time


def time_of(costs: Symbolic, rates: Rates) -> Expression:
    """Return the seconds of a pass: the sum of the longest of each launch's times, and of what starting them takes.

    What is longer in every case, as most kernels' traffic is, needs no comparison.
    """
    decided: list[Polynomial] = []
    links: list[Polynomial] = []
    undecided: list[tuple[Polynomial, ...]] = []
    for launch in costs.launches:
        times = [time for time in dict.fromkeys(busy(launch, rates).values()) if time]
        longest = [
            time for time in times if not any(never_negative(other - time) for other in times if other is not time)
        ]
        if launch.kind == "link":
            links += longest
        elif len(longest) > 1:
            undecided.append((*longest,))
        else:
            decided += longest
        if rates.efficiency.launch_overhead:
            decided.append(starts(launch) * Fraction(rates.efficiency.launch_overhead))
    return _overlapped(Polynomial.sum(decided), undecided, Polynomial.sum(links), rates.communication.overlap)


def _overlapped(
    rest: Polynomial, undecided: Sequence[tuple[Polynomial, ...]], links: Polynomial, overlap: float
) -> Expression:
    """Return the seconds of communication and of the rest, of which the shorter is hidden in part.

    rest + links - overlap * min(rest, links) is the larger of what is left if the one is shorter, and if the other is.
    """
    if not overlap or not links:
        return Expression("sum", (rest + links, *(Expression("max", each) for each in undecided)))
    left = 1 - exact(overlap)
    scaled = [tuple(part * left for part in each) for each in undecided]
    hidden = _overlapped(rest, undecided, links * left, 0), _overlapped(rest * left, scaled, links, 0)
    return Expression("max", hidden)


def expected_of(costs: Symbolic, pace: Pace) -> Expression:
    """Return the seconds that a pass is expected to take, as `Roofline.estimate` says: never below its bound.

    Args:
        costs: of an engine's list.
        pace: what the engine reaches.

    Raises:
        InputError: some launches are not modelled, or nobody compared such estimates with measurements.

    """
    share = exact(share_of(spread_of(costs.launches, pace)))
    rates = Rates(pace.accelerator, pace.run, communication=pace.communication)
    launches = [(launch, time * share) for launch, time in expected_times(costs, pace)]
    links = Polynomial.sum(time for launch, time in launches if launch.kind == "link")
    rest = Polynomial.sum(time for launch, time in launches if launch.kind != "link")
    estimate = _overlapped(rest, (), links, pace.communication.overlap)
    if not pace.communication.overlap and all(
        _is_above(time, least) for launch, time in launches for least in busy(launch, rates).values()
    ):
        return estimate
    return Expression("max", (estimate, time_of(costs, rates)))


def _is_above(time: Polynomial, least: Polynomial) -> bool:
    """Return whether a launch's expected time is provably at least its time on one unit, as most are."""
    if any(factor < 0 and any(_is_max(atom) for atom, _ in term) for term, factor in time.terms.items()):
        return False
    return any(never_negative(_at_least(time, place) - least) for place in range(2))


def _at_least(time: Polynomial, place: int) -> Polynomial:
    """Return a time with one of its two arguments in place of every ``max``."""
    return time.replace(lambda atom: atom.arguments[place] if _is_max(atom) else Polynomial.of(atom))


def _is_max(atom: Atom) -> bool:
    return atom.operation == "max" and len(atom.arguments) == 2


def as_polynomial(expression: Polynomial | Expression) -> Polynomial:
    """Return a sum or a largest one as a polynomial, which can be summed and differentiated."""
    if isinstance(expression, Polynomial):
        return expression
    parts = tuple(map(as_polynomial, expression.parts))
    return applied({"sum": "+", "max": "max"}[expression.operation], parts)


def kept_of(costs: Symbolic) -> Polynomial:
    """Return the bytes that are there during the whole pass: weights, also those that are gathered, and state."""
    root, layers = gathered(costs.launches)
    largest = applied("max", tuple(layers)) if len(layers) > 1 else Polynomial.sum(layers)
    return Polynomial.sum([costs.metric("weight_bytes"), *costs.state.values(), *root, largest * LAYERS_AT_ONCE])


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
