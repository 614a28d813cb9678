"""How long a pass is expected to take on a real engine, with an interval, and where the numbers come from.

An estimate is the sum of the laws of `nbanalyzer.hardware.laws` over the launches of an engine's list
(``fusion="engine"``). Its interval is no property of the laws, whose errors do not average out over a pass: it is how
measured times spread around such estimates of models that had no part in the fit. It is never below its bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.explanation import Explanation
from nbanalyzer.costs.launch import Launch
from nbanalyzer.costs.symbolic import Symbolic
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import InputError, NotModelledError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.hardware.parameters import Spread
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import seconds, show

from .communication import MICRO, exposed
from .eager import EagerPace
from .laws import Pace

__all__ = [
    "LEVEL", "Estimate", "Interval", "expected_times", "interval_of", "share_of", "spread_of", "words_of",
]  # fmt: skip

LEVEL = 0.8
"""The share of measured times that an interval is meant to hold."""
LOW, HIGH = 1, 3  # of `Spread.ratio`: its 10 and 90 % quantiles


@dataclass(frozen=True)
class Interval:
    """A time with what it may well be instead.

    Attributes:
        low, value, high: seconds.
        level: share of measured times that lie between `low` and `high`, where that was tried.
        n: measurements that the interval comes from.
        source: where they and the parameters come from.

    """

    low: float
    value: float
    high: float
    level: float
    n: int
    source: str

    @property
    def within(self) -> str:
        """The ends, as text."""
        return f"{seconds(self.low)} … {seconds(self.high)}"

    def __str__(self) -> str:
        return f"{seconds(self.value)} ({self.within}; {100 * self.level:.0f} %)"


def interval_of(value: float, bound: float, spread: Spread, source: str) -> Interval:
    """Return the interval around an estimate, cut off at its bound: nothing is faster."""
    low, high = (max(value * spread.ratio[part], bound) for part in (LOW, HIGH))
    return Interval(low, min(max(value, bound, low), high), high, LEVEL, spread.n, spread.source or source)


def share_of(spread: Spread) -> float:
    """Return what `interval_of` makes of an estimate before it is cut off: 1, but where nothing measured is as much."""
    return min(max(1.0, spread.ratio[LOW]), spread.ratio[HIGH])


def spread_of(launches: Iterable[Launch[Any]], pace: Pace | EagerPace) -> Spread:
    """Return how measured times spread around estimates of a model with these launches.

    Servers were measured whose devices are one tensor-parallel group in one node, or copies of it.

    Raises:
        NotModelledError: nobody compared estimates of this kind with measurements.

    """
    launches = [*launches]
    # Tokens are routed to experts: such models are estimated less well.
    kind = "experts" if any(launch.kind == "experts" for launch in launches) else "dense"
    run = pace.run if isinstance(pace, Pace) else pace.costs.run
    others = [f"{name}={size}" for name, size in run.axes.items() if name not in {"tp", "dp"}]
    others += [f"mtp={run.mtp}"] if run.mtp else []
    if isinstance(pace, Pace) and any(map(pace.is_between_nodes, launches)):
        others.append("several nodes")
    spread = None if others else pace.profile.interval(kind, run.tp)
    if spread is None:
        on = "" if run.tp == 1 else f" on {run.tp:,} devices"
        on += f" over {' and '.join(others)}" if others else ""
        why = f"no estimate of {kind} models{on} by {pace.profile.name} was compared with measurements"
        missing = " and ".join(others) or (f"{run.tp:,} devices" if run.tp > 1 else f"{kind} models")
        raise NotModelledError(f"not modelled: {why}", missing)
    return spread


def words_of(spread: Spread, profile: Profile) -> str:
    """Return what stands beside many estimates: how wide their intervals are, and by which measurements."""
    low, high = spread.ratio[LOW], spread.ratio[HIGH]
    basis = f"{100 * LEVEL:.0f} % of {spread.n:,} measured times are {low:.3g} to {high:.3g} of theirs"
    return f"estimates by {profile.name}: {basis}" + (f" ({spread.source})" if spread.source else "")


class Estimate:
    """The expected time of a pass, launch by launch.

    Args:
        costs: the pass, of an engine's list.
        pace: what the engine reaches.
        bound: seconds that it takes at least.
        overlap: share of the communication that is hidden, see `nbanalyzer.analysis.communication`.

    Raises:
        NotModelledError: some launches are not modelled.

    """

    def __init__(self, costs: Costs, pace: Pace | EagerPace, bound: float, overlap: float = 0.0) -> None:
        self.costs = costs
        self.pace = pace
        self.bound = bound
        self.overlap = overlap
        self.times: Mapping[Node, float] = self._times()

    def _times(self) -> dict[Node, float]:
        found = dict.fromkeys(self.costs.nodes, 0.0)
        for launch in self.costs.launches:
            if launch.is_started and launch.times:
                found[launch.nodes[0]] = launch.times * self.pace.time_us(launch, self.costs.value_of) / MICRO
        if self.overlap:
            links = [launch.nodes[0] for launch in self.costs.launches if launch.kind == "link"]
            link = sum(found[node] for node in links)
            share = exposed(link, sum(found.values()) - link, self.overlap)
            found.update({node: share * found[node] for node in links})
        for node in reversed(self.costs.nodes):
            if node.parent:
                found[node.parent] += found[node]
        return found

    @cached_property
    def time(self) -> float:
        """Seconds of the whole pass."""
        return sum(time for node, time in self.times.items() if node.parent is None)

    def explain(self, what: str) -> Explanation:
        """Return the derivation of the time of the launch that a kernel is part of: number ← values ← law ← profile.

        Args:
            what: a kernel's path, as for `Costs.find`.

        Raises:
            UnknownNameError: there is none, or several end so.
            InputError: it is not launched, or what launches it is not modelled.

        """
        node = self.costs.find(what)
        launches = [one for one in self.costs.launches if any(node in (part, *part.around) for part in one.nodes)]
        if not launches:
            raise InputError(f"{node.path} is not launched: an engine does without it")
        lines: list[str] = []
        for launch in launches:
            lines += self._derivation(launch)
        whole = sum(self.times[launch.nodes[0]] for launch in launches)
        return Explanation(
            f"{node.path}: estimated {seconds(whole)} in the whole pass, by {self.source}", "", (*lines,), ()
        )

    def _derivation(self, launch: Launch[Number]) -> list[str]:
        law, figures = self.pace.law(launch), self.pace.figures(launch, self.costs.value_of)
        names = {str(name) for name in parse(law.law.formula).variables}
        read = [f"{{{name}}} = {float(value):.6g}" for name, value in figures.items() if name in names]
        given = [f"{{{name}}} = {value:g}" for name, value in law.constants if name in names]
        time = self.pace.time_us(launch, self.costs.value_of)
        basis = f"fitted on {law.fit.n:,} measurements" if law.fit.n else "assumed"
        return [
            f"one launch ({law.kind}, {law.precision}): {', '.join(node.path for node in launch.nodes)}",
            f"  {time:.6g} us  × {show(launch.times)} = {seconds(time * float(launch.times) / MICRO)}",
            f"  = {law.law.short}",
            *(f"    {{{name}}} = {part}" for name, part in law.law.parts.items()),
            f"  of the launch: {', '.join(read)}",
            f"  of the profile ({self.source}; {basis}): {', '.join(given)}",
            *([f"  {law.note}"] if law.note else []),
        ]

    @property
    def interval(self) -> Interval:
        """The time with its interval.

        Raises:
            NotModelledError: nobody compared estimates of this kind with measurements.

        """
        spread = spread_of(self.costs.launches, self.pace)
        return interval_of(self.time, self.bound, spread, self.source)

    @property
    def source(self) -> str:
        """The profile that the numbers come from."""
        return self.pace.profile.name


def expected_times(costs: Symbolic, pace: Pace) -> Iterator[tuple[Launch[Polynomial], Polynomial]]:
    """Yield every launch with the seconds that it is expected to take in the whole pass, by what stays free."""
    for launch in costs.launches:
        if launch.times:
            once = pace.polynomial_us(launch, costs.value_of) / MICRO
            yield launch, launch.times * launch.is_started * once
