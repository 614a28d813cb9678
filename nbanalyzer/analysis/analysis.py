"""What one forward pass costs, and what can be asked of it: does it fit, how long does it take."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from nbanalyzer import display
from nbanalyzer.costs.costs import Costs
from nbanalyzer.display import Picture, Shown
from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.grammar import Number

from .memory import Fit, Memory, memory_of

if TYPE_CHECKING:
    from nbanalyzer.hardware.accelerators import Accelerator
    from nbanalyzer.hardware.profiles import Profile

    from .checkpoint import Checkpoint
    from .ranks import Ranks
    from .roofline import Roofline

__all__ = ["Analysis"]


class Analysis(Costs, Shown, shown_by="analysis"):
    """A model template with values put in: the numbers of one pass, see `Costs`, and its questions."""

    @cached_property
    def sentence(self) -> str:
        """The first thing to know, in one or two plain sentences: where the FLOPs or the bytes are."""
        from .sentence import sentence_of

        return sentence_of(self)

    @cached_property
    def active_parameters(self) -> Number:
        """The parameters that a token uses: of experts only those that it visits."""
        from nbanalyzer.costs.active import active_parameters

        return active_parameters(self)

    @cached_property
    def memory(self) -> Memory:
        """What has to be in memory during the pass: weights, state after it, and the largest activations."""
        return memory_of(self)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What the weights weigh as they are stored, by dtype, and what the pass reads of them."""
        from .checkpoint import checkpoint_of

        return checkpoint_of(self)

    def fits(self, hardware: str | os.PathLike[str] | Accelerator) -> Fit:
        """Return whether the pass fits into an accelerator's memory: a `Fit`, true if it does.

        Args:
            hardware: a name of the hardware catalogue, the path of an accelerator's JSON, or an `Accelerator`.

        Raises:
            NBAnalyzerError: no such accelerator, or its memory is not known.

        """
        from nbanalyzer.hardware.accelerators import hardware as find_hardware

        return Fit(self.memory, find_hardware(hardware))

    def on(
        self,
        hardware: str | os.PathLike[str] | Accelerator | None = None,
        *,
        compute_efficiency: float = 1.0,
        bandwidth_efficiency: float = 1.0,
        launch_overhead: float = 0.0,
        profile: str | os.PathLike[str] | Profile | None = None,
        nodes: int = 1,
        overlap: float = 0.0,
    ) -> Roofline:
        """Return how long the pass takes on an accelerator: kernel by kernel at the roofline, and as it is expected to.

        Args:
            hardware: a name of the hardware catalogue, the path of an accelerator's JSON, or an `Accelerator`; None for
                the machine that `profile` was measured on, see `nbanalyzer.calibrate`.
            compute_efficiency: share of the peak FLOP/s that is reached, above 0 and at most 1.
            bandwidth_efficiency: share of the peak bandwidth that is reached, above 0 and at most 1.
            launch_overhead: seconds that each kernel takes beside its work.
            profile: what estimates are made with: an engine (``"vllm"``, ``"sglang"``, ``"trtllm"``), the path of a
                profile's JSON, or a `Profile`; None for figures that are typical of all.
            nodes: that the devices of the run's mesh are spread over.
            overlap: share of the communication, 0 to 1, that is hidden behind the rest.

        Raises:
            NBAnalyzerError: no such accelerator, or no such profile for it.

        """
        from nbanalyzer.hardware.accelerators import hardware as find_hardware
        from nbanalyzer.hardware.profiles import profile as find_profile

        from .communication import Communication
        from .eager import machine_of
        from .rates import Efficiency
        from .roofline import Roofline

        efficiency = Efficiency(
            compute=compute_efficiency, bandwidth=bandwidth_efficiency, launch_overhead=launch_overhead
        )
        mesh = Communication(nodes, overlap)
        if hardware is None:
            measured = find_profile(profile)
            machine = machine_of(measured)
            return Roofline(self, machine, efficiency, find_profile(measured, machine), mesh)
        card = find_hardware(hardware)
        return Roofline(self, card, efficiency, find_profile(profile, card), mesh)

    def ranks(self, roofline: Roofline | None = None) -> Ranks:
        """Return all ranks of the run's mesh that differ: what each keeps, and with a roofline for how long it runs."""
        from .ranks import Ranks

        return Ranks(self, roofline)

    def plot(self, what: str = "both") -> Picture:
        """Return a picture of where ``"flops"``, ``"bytes"`` or ``"both"`` go, by module."""
        if what not in {"flops", "bytes", "both"}:
            raise InputError(f"a plot is of flops, bytes or both, not {quote(what)}")
        return display.figure(self, "cost_plot", what)

    def save(self, path: str | os.PathLike[str], roofline: Roofline | None = None) -> None:
        """Write the analysis, whole or not at all, in the format of the suffix: .json, .csv, .md or .html.

        With a `roofline`, its times are part of it.

        Raises:
            InputError: another suffix, or a place that cannot be written to.

        """
        display.save(roofline or self, path)
