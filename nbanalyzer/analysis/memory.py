"""What has to be in an accelerator's memory during a pass, and whether it is enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.launch import Amount, Launch
from nbanalyzer.costs.tree import Node
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.quantities import gib, show, si
from nbanalyzer.templates.template import Basic
from nbanalyzer.text import as_lines

if TYPE_CHECKING:
    from nbanalyzer.hardware.accelerators import Accelerator

__all__ = ["LAYERS_AT_ONCE", "Fit", "Memory", "fit_of", "fit_text", "gathered", "memory_of", "memory_size"]

LAYERS_AT_ONCE = 2  # of gathered weights: the layer that runs, and the next one


@dataclass(frozen=True)
class Memory:
    """What a pass needs, in bytes.

    Attributes:
        weights: every parameter once, at its precision.
        state: what is kept between steps, as it is after the pass: KV cache, latent, state-space state.
        activations: what the kernel with the largest working set reads and writes of activations. A real pass also
            keeps what lies beside that kernel (the residual stream, allocator's gaps), so this is a lower bound: 30 to
            90 % of what PyTorch was seen to hold. One exception: where a kernel stands for a loop
            over the tokens, as in Mamba's scan, it counts the loop's traffic, which may be slightly more than is held.
        largest: path of that kernel.
        buffers: weights that a rank gathers from others to run: all that is outside the layers, which stays, and two
            layers, the one that runs and the next one, which is gathered meanwhile. 0 if every rank has its weights.

    """

    weights: Number
    state: Number
    activations: Number
    largest: str
    buffers: Number = 0

    @property
    def parts(self) -> dict[str, Number]:
        """Its parts by name; buffers only where there are some."""
        parts = {"weights": self.weights, "state": self.state, "activations": self.activations}
        return parts | ({"buffers": self.buffers} if self.buffers else {})

    @property
    def total(self) -> Number:
        """All of it."""
        return normalize(sum(self.parts.values()))

    def __repr__(self) -> str:
        rows = (
            ("weights", self.weights, ""),
            ("state", self.state, "kept between steps"),
            ("activations", self.activations, f"largest working set: {self.largest}"),
            *([("buffers", self.buffers, "gathered weights: two layers, and what is outside")] if self.buffers else []),
            ("total", self.total, "at least"),
        )
        width = max(len(show(number)) for _, number, _ in rows)
        return as_lines(f"{name:<12}{show(number):>{width}} B  {note}".rstrip() for name, number, note in rows)


@dataclass(frozen=True)
class Fit:
    """Whether a pass fits into an accelerator's memory: true in a condition if it does.

    Attributes:
        memory: what is needed, at least.
        accelerator: where.

    Raises:
        InputError: the accelerator's memory size is not known.

    """

    memory: Memory
    accelerator: Accelerator

    def __post_init__(self) -> None:
        memory_size(self.accelerator)

    @property
    def capacity(self) -> int:
        """The accelerator's memory in bytes."""
        return memory_size(self.accelerator)

    @property
    def free(self) -> Number:
        """Bytes left; negative if it does not fit."""
        return normalize(self.capacity - self.memory.total)

    def __bool__(self) -> bool:
        return self.free >= 0

    @property
    def short(self) -> str:
        """The answer in a few words: ``fits, 52.7 GB left``."""
        return f"fits, {si(self.free, 'B')} left" if self else f"does not fit, {si(-self.free, 'B')} short"

    def __repr__(self) -> str:
        need = f"{si(self.memory.total, 'B')} of {gib(self.capacity)} on {self.accelerator.name}"
        answer, left = self.short.split(", ")
        return f"{answer}: {need}, {left}"


def memory_size(accelerator: Accelerator) -> int:
    """Return the bytes of an accelerator's memory.

    Raises:
        InputError: they are not known.

    """
    if accelerator.memory_bytes is None:
        raise InputError(f"the memory of {accelerator.name} is not known: give an Accelerator with memory_bytes")
    return accelerator.memory_bytes


def fit_of(memory: Memory, accelerator: Accelerator) -> Fit | None:
    """Return whether a need fits into an accelerator's memory; None if the size of that is not known."""
    return None if accelerator.memory_bytes is None else Fit(memory, accelerator)


def fit_text(memory: Memory, accelerator: Accelerator) -> str:
    """Return whether a need fits, in words."""
    unknown = f"memory unknown: {si(memory.total, 'B')} needed, and how much {accelerator.name} has is not known"
    return unknown if (fit := fit_of(memory, accelerator)) is None else repr(fit)


def memory_of(costs: Costs) -> Memory:
    """Return what a pass needs: weights, the state after it, and the activations of the launch that has most."""
    running = [launch for launch in costs.launches if launch.times]
    largest = max(running, key=lambda launch: launch.activations, default=None)
    sets = (largest.activations, largest.nodes[0].path) if largest else (0, "")
    root, layers = gathered(costs.launches)
    buffers = sum(root) + LAYERS_AT_ONCE * max(layers, default=0)
    return Memory(costs.weight_bytes, costs.state_bytes, *sets, normalize(buffers))


def gathered(launches: Iterable[Launch[Amount]]) -> tuple[list[Amount], list[Amount]]:
    """Return the bytes that each kernel gathers of weights outside the layers, and of those inside."""
    root: list[Amount] = []
    layers: dict[Node, Amount] = {}
    for launch in launches:
        kernel, layer = launch.nodes[0].kernel, launch.nodes[0].module_around
        if not isinstance(kernel, Basic) or (kernel.collective, kernel.group) != ("all_gather", "fsdp"):
            continue
        if layer is None:
            root.append(launch.payload)
        else:  # experts are gathered apart
            layers[layer] = layers[layer] + launch.payload if layer in layers else launch.payload
    return root, list(layers.values())
