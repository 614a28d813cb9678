"""What is asked of every point of a sweep alike."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field

from nbanalyzer.analysis.communication import ONE_NODE, Communication
from nbanalyzer.analysis.rates import Efficiency
from nbanalyzer.errors import InputError
from nbanalyzer.hardware.profiles import Profile

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """The metrics, and what they are made with.

    Attributes:
        metrics: names.
        config: as for `nbanalyzer.sweeps.sweep.sweep`, with the others.
        efficiency: at the roofline.
        profile: of estimates.
        price: $ an hour of the accelerator; None if it was not given.
        grid: g of CO2 a kWh; None if it was not given.
        mesh: where several devices are.

    """

    metrics: tuple[str, ...]
    config: object = None
    efficiency: Efficiency = field(default_factory=Efficiency)
    profile: str | os.PathLike[str] | Profile | None = None
    price: float | None = None
    grid: float | None = None
    mesh: Communication = ONE_NODE

    def require_used(self, expected: Collection[str]) -> None:
        """Raise an `InputError` if something changes none of the metrics, of which `expected` follow from estimates."""
        if self.profile is not None and not {*expected} & {*self.metrics}:
            raise InputError("a profile changes nothing but the metric estimate: ask for it, or leave profile out")
        for name, metric in (("price", "cost_per_million_tokens"), ("grid", "co2_per_million_tokens")):
            if getattr(self, name) is not None and metric not in self.metrics:
                raise InputError(f"a {name} changes nothing but {metric}: ask for it, or leave {name} out")
