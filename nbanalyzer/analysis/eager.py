"""How long a pass takes where PyTorch runs it kernel by kernel, by a profile that was measured there."""

from __future__ import annotations

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.kinds import BROADER, amounts_of, in_microseconds, kind_of
from nbanalyzer.costs.launch import Launch
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.profiles import Profile

__all__ = ["eager_time", "launch_us"]


def eager_time(costs: Costs, profile: Profile, precision: str) -> float:
    """Return the seconds that a pass takes, kernel after kernel.

    Args:
        costs: of the pass.
        profile: with the kinds of kernels of `nbanalyzer.costs.kinds`.
        precision: that it runs in, one of the profile's.

    Raises:
        InputError: the profile has nothing for a kind of kernel, or for this precision.

    """
    total = 0.0
    for launch in costs.launches:
        if launch.is_started and launch.times:
            total += float(launch.times) * launch_us(launch, costs, profile, precision)
    return total / 1e6


def launch_us(launch: Launch[Number], costs: Costs, profile: Profile, precision: str) -> float:
    """Return the microseconds of one run of a launch."""
    kind = kind_of(launch, costs)
    parameters = profile.parameters(kind if kind in profile.classes else BROADER.get(kind, kind), precision)
    assert profile.bandwidth is not None
    amounts = in_microseconds(amounts_of(launch, costs), profile.peaks[parameters.precision], profile.bandwidth)
    return parameters.time_us(amounts)
