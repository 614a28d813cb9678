"""Inverse questions: what is the most that fits, and where does the bound turn, answered from the formulas."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from nbanalyzer import display
from nbanalyzer.costs.run import MAX_SIZE
from nbanalyzer.costs.symbolic import Symbolic
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import percent, si
from nbanalyzer.templates.media import room_for

from .analysis import Analysis
from .closed_form import kept_of, working_sets
from .communication import Communication
from .limits import Limits, bisected
from .memory import Fit, fit_text
from .populate import Source, populate
from .rates import Rates, bits_of, busy

__all__ = ["SOLVABLE", "Solution", "solve"]

SOLVABLE = ("batch_size", "seq_len", "cache_len", "images")
LEAST: Mapping[str, int] = {"batch_size": 1, "seq_len": 1, "cache_len": 0, "images": 1}
COUNTED: Mapping[str, str] = {
    "batch_size": "sequences", "seq_len": "tokens in a pass", "cache_len": "tokens in the cache", "images": "images",
}  # fmt: skip
"""What a size is a number of."""
IN_FORMULAS: Mapping[str, str] = {"images": "num_images"}
"""Sizes that formulas have by another name."""

Size = Literal["batch_size", "seq_len", "cache_len", "images"]


@dataclass(frozen=True, repr=False)
class Solution(Shown, shown_by="solution"):
    """The answer to an inverse question.

    Attributes:
        variable: what was solved for.
        value: the whole number that answers, or None if there is none; `reason` then says why.
        question: what was asked, in words.
        formula: the inequality that was solved, in numbers and the variable; empty where it is not one formula.
        analysis: the pass at `value`; the one at the smallest size, if there is no answer.
        reason: why there is no answer, e.g. ``"does not fit even at batch_size = 1"``.
        is_unbounded: whether there is none because every size fits.
        fit: of a balance, whether the pass at `value` fits into the memory, in words.
        accelerator: on what.
        is_balance: whether a balance was asked for, not what fits.
        is_timed: whether a limit of time decides, and not the memory.
        is_full: whether the prompt has no room for more, although the memory does.

    """

    variable: str
    value: int | None
    question: str
    formula: str
    analysis: Analysis
    reason: str = ""
    is_unbounded: bool = False
    fit: str = ""

    accelerator: Accelerator | None = None
    is_balance: bool = False
    is_timed: bool = False
    is_full: bool = False

    @property
    def in_formulas(self) -> str:
        """The name of the variable in formulas."""
        return IN_FORMULAS.get(self.variable, self.variable)

    @property
    def sentence(self) -> str:
        """The answer in a plain sentence."""
        if self.value is None:
            return f"{self.reason[:1].upper()}{self.reason[1:]}."
        many, _, where = COUNTED[self.variable].partition(" ")
        what = f"{many.removesuffix('s') if self.value == 1 else many} {where}".rstrip()
        if self.is_balance:
            fewer = " With fewer, the pass waits for its memory." if self.value > LEAST[self.variable] else ""
            return f"From {self.value:,} {what} on, arithmetic takes as long as traffic.{fewer}"
        if self.is_full:
            return f"At most {self.value:,} {what}: the prompts have room for no more."
        if self.is_timed:
            return f"At most {self.value:,} {what}: the memory would hold more, but that would take too long."
        need = self.analysis.memory
        part = max(need.parts, key=lambda name: need.parts[name])
        name = "cache" if part == "state" and set(self.analysis.state) == {"kv_cache"} else part
        verb = "are" if name.endswith("s") else "is"
        share = percent(float(need.parts[part] / need.total))
        return f"At most {self.value:,} {what}: the {name} {verb} {share} of the memory that is needed then."

    def plot(self) -> Picture:
        """Return the memory that is needed along the variable, beside what there is."""
        return display.figure(self, "solution_chart")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the answer, whole or not at all: a page, .html."""
        display.save(self, path)


def solve(
    model: Source,
    hardware: str | os.PathLike[str] | Accelerator,
    *,
    maximize: Size | None = None,
    balance: Size | None = None,
    below: Mapping[str, float] | None = None,
    profile: str | os.PathLike[str] | Profile | None = None,
    nodes: int = 1,
    overlap: float = 0.0,
    config: object = None,
    set: Mapping[str, int] | None = None,  # noqa: A002 - the users' word: --set
    **run: Any,
) -> Solution:
    """Return the largest size that fits into memory and time, or the smallest at which the pass is compute-bound.

    Both follow from the formulas: the root of a polynomial where the formula is one of degree 1 or 2 in the variable;
    else, as with a sliding window or experts, by bisection of the exact formula, which never shrinks with the size.

    Args:
        model: as for `populate`.
        hardware: a name of the hardware catalogue, the path of an accelerator's JSON, or an `Accelerator`.
        maximize: of what to find the largest that fits: ``"batch_size"``, ``"seq_len"``, ``"cache_len"``, or
            ``"images"`` in prompts of `seq_len` positions, which have room for so many.
        balance: of which of the first three to find the smallest at which all matrix products at their peak take as
            long as all traffic at the bandwidth: where a pass turns from memory- to compute-bound.
        below: with `maximize`, the seconds that times of the pass may be at most: ``{"estimate": 0.02}``; as well
            ``"lower_bound"`` and ``"time"``, of the kernels that the run chooses.
        profile: what estimates are made with, as for `Analysis.on`.
        nodes: that the devices of the mesh are spread over, as for `Analysis.on`; what fits is one rank's.
        overlap: share of the communication that is hidden, as for `Analysis.on`.
        config: as for `populate`.
        set: as for `populate`.
        run: the other values, as for `populate`.

    Raises:
        NBAnalyzerError: bad input, or figures of the accelerator that are not known.

    """
    asked = [name for name in (maximize, balance) if name is not None]
    if len(asked) != 1 or not isinstance(asked[0], str) or asked[0] not in SOLVABLE:
        raise InputError(f"solve takes maximize=… or balance=… of {', '.join(SOLVABLE)}, not {quote(asked)}")
    (name,) = asked
    if name in run:
        raise InputError(f"{name} is what is solved for: it takes no value")
    if balance in IN_FORMULAS:
        raise InputError(
            f"balance={quote(balance)}: a balance is of tokens or sequences; ask for maximize={quote(balance)}"
        )
    card = find_hardware(hardware)
    if below is not None and maximize is None:
        raise InputError("below limits what is maximized: it goes with maximize=…")
    if profile is not None and "estimate" not in (below or {}):
        raise InputError("a profile changes nothing but estimates: give below={'estimate': …}, or leave it out")
    mesh = Communication(nodes, overlap)
    limits = None if below is None else Limits(below, card, profile, mesh)

    def at(value: int) -> Analysis:
        return populate(model, config=config, set=set, **run, **{name: value})

    start = at(LEAST[name])
    symbolic = start.symbolic(IN_FORMULAS.get(name, name))
    if maximize:
        found = _largest(name, start, at, symbolic, Fit(start.memory, card))
        found = found if limits is None else _in_time(found, start, at, limits)
    else:
        found = _balance(name, start, at, symbolic, Rates(card, start.run))
    return replace(found, accelerator=card, is_balance=balance is not None)


def _largest(name: str, start: Analysis, at: Callable[[int], Analysis], symbolic: Symbolic, fit: Fit) -> Solution:
    question = f"largest {name} that fits into {si(fit.capacity, 'B')} of {fit.accelerator.name}"
    needs = [kept_of(symbolic) + activations for activations in working_sets(symbolic)]
    free = IN_FORMULAS.get(name, name)
    if free not in start.variables:
        raise InputError(f"{name} makes no difference to this model")
    if name == "images" and start.run.cache_len:
        raise InputError(f"images make no difference after a cache, of cache_len={start.run.cache_len:,}: leave it out")
    found = [(_most(need, free, fit.capacity, LEAST[name]), need) for need in needs]
    value, need = min(found, key=lambda one: -1 if one[0] is None else one[0])
    if value is None:
        reason = f"does not fit even at {name} = {LEAST[name]}, by {si(-fit.free, 'B')}"
        return Solution(name, None, question, _inequality(need, name, fit.capacity), start, reason)
    room = _room(start) if name == "images" else None
    if room is not None and value > room:
        return Solution(name, room, question, "", at(room), is_full=True)
    if value == MAX_SIZE:  # a sliding window, a state of one size
        reason = f"any {name} fits: beyond some size it needs no more memory"
        return Solution(name, None, question, "", start, reason, is_unbounded=True)
    return Solution(name, value, question, _inequality(need, name, fit.capacity), at(value))


def _in_time(found: Solution, start: Analysis, at: Callable[[int], Analysis], limits: Limits) -> Solution:
    """Return the answer of `_largest` within limits of time."""
    name, question = found.variable, f"{found.question}, with {limits}"
    most = limits.largest(found.in_formulas, at, LEAST[name])
    if most is None:
        reason = f"takes longer even at {name} = {LEAST[name]}: {limits.told(start)}"
        return Solution(name, None, question, "", start, reason, is_timed=True)
    fits = MAX_SIZE if found.is_unbounded else found.value
    if fits is None or most >= fits:
        reason = f"any {name} fits, and takes no longer" if found.is_unbounded else found.reason
        return replace(found, question=question, reason=reason)
    return Solution(name, most, question, "", at(most), is_timed=True)


def _room(start: Analysis) -> int | None:
    """Return how many images prompts have room for; None if they need none."""
    reads, run = start.template.reads, start.run
    assert reads is not None
    assert run.encoder_len is not None
    return room_for(reads, start.params, run.encoder_len if reads.encoded else run.seq_len, run.batch_size)


def _inequality(need: Polynomial, name: str, capacity: int) -> str:
    powers = need.by_power(IN_FORMULAS.get(name, name))
    if powers is None or not all(rest.is_constant for rest in powers.values()):
        return ""
    terms = []
    for power, rest in sorted(powers.items()):
        number = f"{float(rest.number):,.10g}" if isinstance(rest.number, Fraction) else f"{rest.number:,}"
        terms.append(number if power == 0 else f"{number} * {name}" + (f"**{power}" if power > 1 else ""))
    return f"{' + '.join(terms)} <= {capacity:,}"


def _most(need: Polynomial, name: str, capacity: int, least: int) -> int | None:
    """Return the largest whole value at which a polynomial that never shrinks is at most `capacity`."""
    powers = need.by_power(name)
    if powers is not None and powers.keys() <= {0, 1, 2} and all(rest.is_constant for rest in powers.values()):
        free, slope, bend = (Fraction(powers[power].number) if power in powers else Fraction(0) for power in (0, 1, 2))
        left = capacity - free
        if left < 0:
            return None
        if bend == 0 and slope == 0:
            return MAX_SIZE
        # The root of bend x² + slope x = left, rounded down: in integers, so that nothing is lost.
        value = math.floor(left / slope) if bend == 0 else _root(bend, slope, left)
        return None if value < least else min(value, MAX_SIZE)
    return bisected(lambda value: need.evaluate({name: value}) <= capacity, least)


def _root(bend: Fraction, slope: Fraction, left: Fraction) -> int:
    common = math.lcm(bend.denominator, slope.denominator, left.denominator)
    a, b, c = int(bend * common), int(slope * common), int(left * common)
    return (math.isqrt(b * b + 4 * a * c) - b) // (2 * a)


def _balance(name: str, start: Analysis, at: Callable[[int], Analysis], symbolic: Symbolic, rates: Rates) -> Solution:
    card = rates.accelerator
    question = f"smallest {name} at which all matrix products take {card.name} as long as all traffic"
    for launch in symbolic.launches:
        if launch.matmul_flops:
            card.precision_for(bits_of(rates.run, launch.sizes))  # there is no balance with an unknown peak
    times = [busy(launch, rates) for launch in symbolic.launches if launch.kind != "link"]
    compute = Polynomial.sum(units["matmul"] for units in times if "matmul" in units)
    memory = Polynomial.sum(units["memory"] for units in times if "memory" in units)

    def is_memory_bound(value: int) -> bool:
        return compute.evaluate({name: value}) < memory.evaluate({name: value})

    least = LEAST[name]
    last = bisected(is_memory_bound, least)
    value = least if last is None else last + 1 if last < MAX_SIZE else None
    powers = (compute - memory).by_power(name)
    formula = ""
    if powers is not None and powers.keys() <= {0, 1} and 1 in powers:
        gain, cost = powers[1].number, -powers.get(0, Polynomial({})).number
        each = f"{float(gain):.4g} s more of products than of traffic for each {name}"
        formula = f"{each}, against {float(cost):.4g} s of traffic whatever it is" if gain > 0 else ""
    if value is None:
        return Solution(name, None, question, formula, start, "none: it waits for its memory at every size")
    analysis = at(value)
    return Solution(name, value, question, formula, analysis, fit=fit_text(analysis.memory, card))
