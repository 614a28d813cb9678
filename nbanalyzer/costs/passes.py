"""The passes that a request consists of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["PHASES", "Passes", "passes_of"]

PHASES = ("prefill", "decode", "request")
"""The prompt is read; one token more is written; or both, the whole request."""


class Passes(NamedTuple):
    """The lengths in each pass of a request, as formulas of `REQUEST`: name → formula.

    Attributes:
        first: reads the prompt, and gives the first token.
        step: any decode step, by its `cache_len`.
        last: the last decode step, with the most in the cache.

    """

    first: Mapping[str, str]
    step: Mapping[str, str]
    last: Mapping[str, str]


def passes_of(*, has_encoder: bool) -> Passes:
    """Return a request's passes: the prompt's gives the first token, each decode step another one.

    If an encoder reads the prompt, the decoder begins with one token.
    """
    encoder = {"encoder_len": "{prompt_len}"} if has_encoder else {}
    start = "1" if has_encoder else "{prompt_len}"
    return Passes(
        {"seq_len": start, "cache_len": "0", **encoder},
        {"seq_len": "1", "cache_len": "{cache_len}", **encoder},
        {"seq_len": "1", "cache_len": f"{start} + {{output_len}} - 2", **encoder},
    )
