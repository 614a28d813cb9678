"""Schemes that weights are served in: which weights, how many bits, and the precision of their products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbanalyzer.errors import InputError, quote

if TYPE_CHECKING:
    from nbanalyzer.costs.launch import Launch
    from nbanalyzer.hardware.accelerators import Accelerator

__all__ = ["QUANTS", "Quant", "quant_of"]


@dataclass(frozen=True)
class Quant:
    """How the weights inside the layers are served.

    Attributes:
        precision: of the products, by the names of profiles.
        bits: of a weight, its share of the scales included.
        kinds: of the launches whose weights are meant, see `Launch`.
        rest: bits of the other weights, as of embeddings and the head.

    """

    precision: str
    bits: float
    kinds: frozenset[str] = frozenset({"linear", "experts"})
    rest: float = 16

    def of(self, launch: Launch[Any]) -> bool:
        """Return whether the weights of a launch are served so."""
        return launch.kind in self.kinds and launch.nodes[0].block is not None

    def precision_of(self, launch: Launch[Any], accelerator: Accelerator) -> str:
        """Return the precision of a launch's products on an accelerator, by the names of profiles."""
        wanted = self.precision if self.of(launch) else "bf16"
        return "mxfp4_wo" if wanted == "mxfp4" and "fp4" not in accelerator.peaks else wanted


QUANTS: Mapping[str, Quant] = {
    "bf16": Quant("bf16", 16),
    "fp8": Quant("fp8", 8),
    "fp8_block": Quant("fp8_block", 8 + 32 / 128**2),
    "nvfp4": Quant("nvfp4", 4 + 8 / 16),
    "mxfp4": Quant("mxfp4", 4 + 8 / 32, frozenset({"experts"})),
    "int8": Quant("int8_wo", 8),
    "int4": Quant("int4_wo", 4 + 16 / 128),
    "q4_0": Quant("int4_wo", 4 + 16 / 32, rest=6 + 9 / 16),
    "q4_k_m": Quant("int4_wo", 4.85, rest=6 + 9 / 16),
}
"""Name → scheme: fp8 with a scale a tensor, fp8_block one (fp32) a block of 128 x 128, nvfp4 one (fp8) for 16, mxfp4
one (8 bits) for 32, int4 one (16 bits) for 128. int8 and int4 narrow weights only, and multiply in bf16; mxfp4 those of
experts, which are multiplied by 8-bit activations where a card has units of 4 bits. q4_0 and q4_k_m are llama.cpp's:
a scale of 16 bits for 32, or a mixture of 4 and 6 bits, with the head in q6_k."""


def quant_of(name: str) -> Quant:
    """Return a scheme by its name.

    Raises:
        InputError: there is none of this name.

    """
    if not isinstance(name, str) or name not in QUANTS:
        raise InputError(f"quant is one of {', '.join(QUANTS)}, not {quote(name)}")
    return QUANTS[name]
