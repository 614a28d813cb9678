"""What is said of a config in one line: of one that transformers builds no model from, or that nothing runs here."""

from __future__ import annotations

import re
from typing import Any

from nbanalyzer.errors import ConfigError, shorten
from nbanalyzer.generate import hf

__all__ = ["refused", "unread"]

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


def unread(model_class: type[Any], model_type: str) -> ConfigError:
    """Return the error for a class of models whose forward pass takes what is known of none, such as time series."""
    names = [name for name in hf.parameters_of_forward(model_class) if name not in {"self", "kwargs"}]
    name, first = model_class.__name__, next(iter(names), "nothing")
    single = model_type.removesuffix("_video")  # its frames by themselves
    if single != model_type and single in hf.config_classes():
        return ConfigError(
            f"{name} follows a video from frame to frame (its pass takes {first}): it is not counted; one image is, "
            f"of a config that says model_type {single!r}, and no architectures"
        )
    return ConfigError(f"{name} does not read text alone (its pass takes {first}): how it reads that is not known")
