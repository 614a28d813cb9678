"""Magics that are imported when they are first used, so that ``%load_ext`` stays quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from IPython.core.magic import no_var_expand

__all__ = ["LATE", "Late", "parser_of"]

# magic → its module here, the class there, and the name of its parser
LATE = {
    "generate": ("generating", "Generate", "GENERATE"),
    "verify": ("generating", "Generate", "VERIFY"),
    "compare": ("comparing", "Compare", "COMPARE"),
    "hardware": ("comparing", "Compare", "HARDWARE"),
    "whatif": ("whatif", "WhatIfMagic", "WHATIF"),
    "sweep": ("axes", "SweepMagic", "SWEEP"),
}


def _module(name: str) -> Any:
    return import_module(f".{LATE[name][0]}", __package__)


def parser_of(name: str) -> Any:
    """Return the parser of a late magic's line."""
    return getattr(_module(name), LATE[name][2])


class Late:
    """A line magic that stands for the one of this name."""

    def __init__(self, shell: Any, name: str) -> None:
        self._shell = shell
        self.__name__ = name
        no_var_expand(self)  # braces belong to templates

    def _magic(self) -> Any:
        magics = getattr(_module(self.__name__), LATE[self.__name__][1])
        return getattr(magics(self._shell), self.__name__)

    def __call__(self, line: str) -> Any:
        """Run the magic."""
        return self._magic()(line)

    def getdoc(self) -> str:
        """Return what ``?`` shows: IPython asks for it by this name."""
        return str(self._magic().__doc__)
