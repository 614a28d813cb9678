"""Colours that are told apart by colour-blind readers, on white and on black."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.colors import LinearSegmentedColormap

__all__ = ["COLORS", "ORDERED", "contrast", "ink"]

# Okabe and Ito's palette without the yellow, orange and sky blue darker: as lines, 3 : 1 on white and on black.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#BF8000", "#2E8FCF", "#000000", "#999999")
# From blue to orange, which is an order for all readers, by way of violet; 3 : 1 on white and on black.
ORDERED = LinearSegmentedColormap.from_list(
    "ordered", ("#2a7fd4", "#7f74dd", "#b062c8", "#cf4f9f", "#d95a70", "#bd7a10")
)
DARK, LIGHT = (
    "#000001",
    "white",
)  # text on a colour: the dark one is not quite grey, which would become the page's colour


def ink(color: Sequence[float]) -> str:
    """Return the colour of text on a colour, which is red, green, blue from 0 to 1: at least 4.5 : 1."""
    return DARK if contrast(color, (0.0, 0.0, 0.0)) >= contrast(color, (1.0, 1.0, 1.0)) else LIGHT


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the ratio of contrast of two colours, as the Web Content Accessibility Guidelines define it."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: Sequence[float]) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
