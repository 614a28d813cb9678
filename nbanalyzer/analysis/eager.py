"""How long a pass takes where PyTorch runs it kernel by kernel, by a profile that was measured there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.kinds import BROADER, amounts_of, in_microseconds, kind_of
from nbanalyzer.costs.launch import Launch
from nbanalyzer.errors import InputError, NotModelledError, quote
from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.accelerators import Accelerator, accelerators, hardware
from nbanalyzer.hardware.parameters import Parameters
from nbanalyzer.hardware.profiles import Profile

__all__ = ["EAGER", "EagerPace", "machine_of"]

EAGER = "pytorch"
"""The engine of profiles that are measured with PyTorch's own operations."""
BITS = {32: "fp32", 16: "bf16"}


@dataclass(frozen=True)
class EagerPace:
    """What a machine reaches when PyTorch runs a pass kernel by kernel; see `nbanalyzer.analysis.laws.Pace`.

    Args:
        profile: with the kinds of kernels of `nbanalyzer.costs.kinds`.
        costs: of the pass, in PyTorch's list.

    """

    profile: Profile
    costs: Costs

    @property
    def precision(self) -> str:
        """The precision that the pass runs in.

        Raises:
            InputError: activations of a size that PyTorch does not compute in.

        """
        bits = self.costs.run.a_bit
        if bits not in BITS:
            raise NotModelledError(
                f"not modelled: activations of {bits} bits by {quote(self.profile.engine)}: 16 or 32 are"
            )
        return BITS[bits]

    def law(self, launch: Launch[Number]) -> Parameters:
        """Return the law of a launch, with the profile's parameters.

        Raises:
            InputError: the profile has nothing for its kind of kernel, or for its precision.

        """
        kind = kind_of(launch, self.costs)
        return self.profile.parameters(
            kind if kind in self.profile.classes else BROADER.get(kind, kind), self.precision
        )

    def figures(self, launch: Launch[Number], value_of: Callable[[Formula], Number]) -> dict[str, float]:  # noqa: ARG002
        """Return what the law reads of one run of a launch.

        Raises:
            InputError: the profile does not say what its shares are of.

        """
        precision = self.law(launch).precision
        peak, bandwidth = self.profile.peaks.get(precision), self.profile.bandwidth
        if peak is None or bandwidth is None:
            lacking = "bandwidth" if bandwidth is None else f"peak at {precision}"
            raise NotModelledError(f"not modelled: the profile of {self.profile.name} has no {lacking}")
        return in_microseconds(amounts_of(launch, self.costs), peak, bandwidth)

    def time_us(self, launch: Launch[Number], value_of: Callable[[Formula], Number]) -> float:
        """Return the microseconds that one run of a launch takes."""
        return self.law(launch).time_us(self.figures(launch, value_of))


def machine_of(profile: Profile) -> Accelerator:
    """Return the machine that a profile was measured on: that of the catalogue, or what the profile knows of it.

    Raises:
        InputError: the profile says nothing of its machine.

    """
    if profile.engine != EAGER and profile.card in accelerators():
        return hardware(profile.card)
    if profile.bandwidth is None or not profile.peaks:
        raise InputError(f"{profile.name} is for any card: say which hardware")
    return Accelerator(name=profile.card, bandwidth=profile.bandwidth, peaks=profile.peaks, source=profile.source)
