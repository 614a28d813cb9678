"""Times as limits of an inverse question: the largest size whose pass takes no longer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping

from nbanalyzer.costs.run import MAX_SIZE
from nbanalyzer.errors import InputError, UnknownNameError, quote
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import seconds

from .analysis import Analysis
from .communication import ONE_NODE, Communication
from .roofline import Roofline
from .times import TIMES, time_formula

__all__ = ["Limits", "bisected"]


class Limits:
    """What times may be at most.

    Args:
        below: metric, one of `TIMES` → seconds.
        card: where the pass runs.
        profile: what estimates are made with.
        communication: where the devices are, and what is hidden of what they send.

    Raises:
        InputError: no limit, or one that is no positive number of seconds.
        UnknownNameError: a limit of something else.

    """

    def __init__(
        self, below: Mapping[str, float], card: Accelerator, profile: str | os.PathLike[str] | Profile | None,
        communication: Communication = ONE_NODE,
    ) -> None:  # fmt: skip
        if not isinstance(below, Mapping) or not below:
            raise InputError(f"below says what times may be at most, as {{'estimate': 0.02}}, not {quote(below)}")
        for metric, most in below.items():
            if metric not in TIMES:
                raise UnknownNameError("time", metric, TIMES)
            if isinstance(most, bool) or not isinstance(most, int | float) or not 0 < most < math.inf:
                raise InputError(f"{metric} is at most a positive number of seconds, not {quote(most)}")
        self.below = dict(below)
        self.card = card
        self.profile = profile
        self.communication = communication

    def __str__(self) -> str:
        return " and ".join(f"{metric} <= {seconds(most)}" for metric, most in self.below.items())

    def told(self, analysis: Analysis) -> str:
        """Return the times of a pass that are limited, in words."""
        roofline = self._timed(analysis)
        values = {"time": lambda: roofline.time, "lower_bound": lambda: roofline.lower_bound}
        values["estimate"] = lambda: roofline.estimate.value
        return ", ".join(f"{metric} {seconds(values[metric]())}" for metric in self.below)

    def _timed(self, analysis: Analysis) -> Roofline:
        where = self.communication
        return analysis.on(self.card, profile=self.profile, nodes=where.nodes, overlap=where.overlap)

    def largest(self, name: str, at: Callable[[int], Analysis], least: int) -> int | None:
        """Return the largest value of a size at which all limits hold; None if they do at no value."""
        if name != "seq_len":
            return bisected(self._holds(name, at(least)), least)
        # One new token has other kernels than several: its time says nothing of theirs.
        several = bisected(self._holds(name, at(2)), 2)
        return 1 if several is None and self._holds(name, at(1))(1) else several

    def _holds(self, name: str, analysis: Analysis) -> Callable[[int], bool]:
        roofline = self._timed(analysis)
        formulas = [(time_formula(roofline, metric, name), most) for metric, most in self.below.items()]
        return lambda value: all(formula.evaluate({name: value}) <= most for formula, most in formulas)


def bisected(holds: Callable[[int], bool], least: int) -> int | None:
    """Return the largest whole value up to `MAX_SIZE` for which `holds`, which stops holding somewhere for good."""
    if not holds(least):
        return None
    low, high = least, max(1, 2 * least)
    while high < MAX_SIZE and holds(high):
        low, high = high, 2 * high
    high = min(high, MAX_SIZE)
    if holds(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
