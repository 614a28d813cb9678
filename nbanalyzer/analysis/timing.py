"""How long a kernel takes at the roofline, by what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Bound", "Timing"]

Bound = Literal["compute", "memory", "link", "overhead"]


@dataclass(slots=True)
class Timing:
    """How long a kernel, or all below a module, takes in the whole pass, repeats included; seconds.

    Attributes:
        time: at the roofline.
        compute: of that, in kernels that wait for the matrix or vector units.
        memory: of that, in kernels that wait for the memory.
        link: of that, in communication, without what is hidden behind the rest.
        overhead: of that, the launches'.

    """

    compute: float = 0.0
    memory: float = 0.0
    link: float = 0.0
    overhead: float = 0.0

    @property
    def time(self) -> float:
        """All of it."""
        return self.compute + self.memory + self.link + self.overhead

    @property
    def bound(self) -> Bound:
        """What most of the time is spent on."""
        parts: tuple[Bound, ...] = ("memory", "compute", "link", "overhead")
        return max(parts, key=lambda part: getattr(self, part))

    def include(self, other: Timing) -> None:
        """Add another's times."""
        self.compute += other.compute
        self.memory += other.memory
        self.link += other.link
        self.overhead += other.overhead
