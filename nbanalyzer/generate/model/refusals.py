"""What transformers says of a config that it builds no model from, in one line."""

from __future__ import annotations

import re

from nbanalyzer.errors import ConfigError, shorten

__all__ = ["refused"]

_TREE = re.compile(r"\b(\w+)\(\n.*\n\)", re.DOTALL)
"""A module as PyTorch shows it, with all that is in it."""

_OF_FIELD = re.compile(r"^Validation error for field '\w+': \w+Error: (?=Field ')")
"""What transformers' checks say before what names the field once more."""

_LACKS = re.compile(r"(\w+) requires the (\w+) library but it was not found")
"""What it says of a package that is not installed, before a paragraph of advice."""


def refused(error: Exception) -> ConfigError:
    """Return the error for a config that transformers refuses with another one."""
    said = " ".join(_TREE.sub(r"\1", str(error)).split())
    if lacks := _LACKS.search(said):
        return ConfigError(f"{lacks[1]} needs the package {lacks[2]}, which is not installed: install it and try again")
    problem = shorten(_OF_FIELD.sub("", said) or type(error).__name__, 200)
    return ConfigError(f"transformers refuses this config: {problem}")
