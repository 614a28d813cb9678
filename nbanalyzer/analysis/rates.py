"""What an accelerator reaches, and the seconds that a launch keeps its units busy: numbers or polynomials alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from nbanalyzer.costs.launch import Amount, Launch
from nbanalyzer.costs.run import Run
from nbanalyzer.errors import InputError, quote
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.links import Fabric
from nbanalyzer.quantities import seconds

from .communication import ONE_NODE, Communication, group_of
from .laws import arithmetic
from .marks import COMPUTE
from .quants import precision_of, scheme_of, widened

__all__ = ["ROUTING", "Efficiency", "Rates", "Unit", "bits_of", "busy", "routing_of", "starts"]

Unit = Literal["memory", "matmul", "vector", "link"]
LATEST = 1_000_000  # seconds that a kernel takes to start
ROUTING = "if tokens are routed evenly"
"""What a bound supposes of several tokens and experts: tokens that all choose the same ones read no others."""


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """What a real machine reaches, as somebody measured it; by default everything.

    Attributes:
        compute: share of the peak FLOP/s, above 0 and at most 1.
        bandwidth: share of the peak bandwidth, above 0 and at most 1.
        launch_overhead: seconds that each kernel takes beside its work.

    Raises:
        InputError: a value that cannot be; the message quotes it.

    """

    compute: float = 1.0
    bandwidth: float = 1.0
    launch_overhead: float = 0.0

    def __post_init__(self) -> None:
        for name in ("compute", "bandwidth"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise InputError(f"the {name} efficiency is a share above 0 and at most 1, not {quote(value)}")
        value = self.launch_overhead
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
            raise InputError(f"the launch overhead is a number of seconds from 0 to {LATEST:,}, not {quote(value)}")

    @property
    def is_perfect(self) -> bool:
        """Whether everything is reached."""
        return self == Efficiency()

    def words(self, fusion: str) -> str:
        """Return what times are, in words: a lower bound only if kernels are fused, since fused ones move less."""
        if self.is_perfect and fusion == "engine":
            return "lower bound: every fused kernel at its roofline, nothing between them"
        if self.is_perfect:
            return "at the roofline, operation by operation: no bound, for fused kernels move less"
        parts = (
            f"{100 * self.compute:.3g} % of the peak FLOP/s",
            f"{100 * self.bandwidth:.3g} % of the bandwidth",
            f"{seconds(self.launch_overhead)} a kernel",
        )
        return f"assumed: {', '.join(parts)}"


@dataclass(frozen=True)
class Rates:
    """What an accelerator reaches at most, for a run's precisions.

    Args:
        accelerator: which.
        run: its bits decide which of the accelerator's peaks counts, of weights that are in no scheme.
        efficiency: shares of the peaks.
        communication: where the devices of the run's mesh are.

    """

    accelerator: Accelerator
    run: Run
    efficiency: Efficiency = Efficiency()
    communication: Communication = ONE_NODE

    @cached_property
    def fabric(self) -> Fabric:
        """The links between the devices of the run's mesh.

        Raises:
            InputError: they do not fit into the nodes.

        """
        return self.accelerator.fabric(self.run.axes, self.communication.nodes)

    def precision(self, sizes: frozenset[str]) -> str | None:
        """Return the precision that products over operands of these sizes run in, see `bits_of`; None if unknown."""
        return self.accelerator.known_precision(bits_of(self.run, sizes))

    def name_of(self, launch: Launch[Any]) -> str | None:
        """Return the precision that a launch's matrix products run in; None if its peak is not known."""
        scheme = scheme_of(launch)
        if scheme is None:
            return self.precision(launch.sizes)
        return arithmetic(self.accelerator, precision_of(scheme, self.accelerator))

    def rate_of(self, launch: Launch[Any]) -> float | None:
        """Return the FLOP/s of a launch's matrix products; None if not known."""
        name = self.name_of(launch)
        return None if name is None else self.accelerator.peak(name) * self.efficiency.compute

    @cached_property
    def vector(self) -> float | None:
        """FLOP/s of everything else, in fp32 as the vector units compute; None if not known."""
        peak = self.accelerator.vector_peak
        return None if peak is None else peak * self.efficiency.compute

    @cached_property
    def bandwidth(self) -> float:
        """Bytes a second to and from the memory."""
        return self.accelerator.bandwidth * self.efficiency.bandwidth

    def notes(self, launches: Iterable[Launch[Any]]) -> tuple[str, ...]:
        """Return what to know before believing the times of launches."""
        name, run, known = self.accelerator.name, self.run, self.accelerator.known_precision
        launches = list(launches)
        notes = []
        if not all(map(known, (run.w_bit, run.a_bit, run.kv_bit or run.a_bit))):
            used = {bits_of(run, launch.sizes) for launch in launches if launch.matmul_flops}
            if unknown := [bits for bits in sorted(used) if not known(bits)]:
                bits = " and ".join(f"{one}-bit" for one in unknown)
                notes.append(f"{COMPUTE}: {name}'s {bits} peak is not known: products take no time here, bytes do")
        if self.vector is None:
            notes.append(f"{name}'s vector peak is not known: vector FLOPs take no time here, bytes do")
        return (*notes, *widened(launches, self.accelerator))


def bits_of(run: Run, sizes: frozenset[str]) -> int:
    """Return the bits that a kernel computes in: the widest of what it reads and writes.

    4-bit weights beside 16-bit activations are widened before they are multiplied (w4a16), so only what is narrow
    on both sides runs at the narrow peak.
    """
    assert run.kv_bit is not None
    bits = {"w_bytes": run.w_bit, "a_bytes": run.a_bit, "kv_bytes": run.kv_bit}
    return max((bits[name] for name in sizes), default=run.a_bit)


def busy(launch: Launch[Amount], rates: Rates) -> dict[Unit, Any]:
    """Return unit → seconds that a launch keeps it busy in the whole pass; a pass waits for the longest of them.

    The times are of the launch's kind: numbers, as ``float``, or polynomials. Units that it has no work for are left
    out, as is work whose peak is not known of the accelerator: see `Rates.notes`.

    Raises:
        InputError: the bandwidth of a link is not known, or the devices do not fit into the nodes.

    """
    found: dict[Unit, Any] = {}
    if launch.bytes:
        found["memory"] = launch.times * launch.bytes / rates.bandwidth
    if launch.matmul_flops and (rate := rates.rate_of(launch)) is not None:
        found["matmul"] = launch.times * launch.matmul_flops / rate
    if launch.vector_flops and rates.vector is not None:
        found["vector"] = launch.times * launch.vector_flops / rates.vector
    if launch.payload:
        found["link"] = launch.times * launch.payload / rates.fabric.rate(*group_of(launch))
    return found


def routing_of(launches: Iterable[Launch[Any]], tokens: int) -> str:
    """Return what a bound of a pass over so many tokens supposes: `ROUTING` if they are routed to experts, else ""."""
    return f" {ROUTING}" if tokens > 1 and any(launch.kind == "experts" for launch in launches) else ""


def starts(launch: Launch[Amount]) -> Amount:
    """Return how often the device is told to start something for a launch in the whole pass."""
    return launch.times * launch.is_started * launch.steps
