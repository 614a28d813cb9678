"""What products of weights in a scheme run in on an accelerator: as they are stored, or widened first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nbanalyzer.hardware.parameters import ARITHMETIC
from nbanalyzer.templates.schemes import Scheme, scheme_named
from nbanalyzer.templates.template import Composite

if TYPE_CHECKING:
    from nbanalyzer.costs.launch import Launch
    from nbanalyzer.hardware.accelerators import Accelerator

__all__ = ["precision_of", "scheme_of", "widened"]

WIDENED = {"fp8": "int8_wo", "fp8_block": "int8_wo", "int8": "int8_wo", "nvfp4": "int4_wo", "mxfp4": "mxfp4_wo"}
"""Precision of a scheme → that of its products where a card lacks the arithmetic: weights are unpacked to 16 bits."""
NEEDS = {"mxfp4": "fp4"}
"""Precision → the arithmetic that a card has to have for it, where that is not its own."""


def scheme_of(launch: Launch[Any]) -> Scheme | None:
    """Return the scheme of a launch's weights; None if the run's bits say it."""
    for node in launch.nodes:
        kernel = node.parent.kernel if node.parent else None
        if node.stored and isinstance(kernel, Composite) and kernel.scheme:
            return scheme_named(kernel.scheme)
    return None


def precision_of(scheme: Scheme, accelerator: Accelerator) -> str:
    """Return the precision of products with such weights on an accelerator, by the names of profiles."""
    own = scheme.precision
    return own if _needed(own) in accelerator.peaks or own not in WIDENED else WIDENED[own]


def widened(launches: Iterable[Launch[Any]], accelerator: Accelerator) -> tuple[str, ...]:
    """Return which schemes of some launches' weights the arithmetic of an accelerator is not made for, a line each."""
    found: dict[str, None] = {}
    for scheme in dict.fromkeys(map(scheme_of, launches)):
        if scheme is None or precision_of(scheme, accelerator) == scheme.precision:
            continue
        lacking = _needed(scheme.precision)
        line = f"weights are unpacked and multiplied in 16 bits: {accelerator.name} has no {lacking} for {scheme.name}"
        found[line] = None
    return tuple(found)


def _needed(precision: str) -> str:
    """Return the arithmetic that a card has to have for a precision of profiles."""
    return NEEDS.get(precision, ARITHMETIC.get(precision, precision))
