"""The tools, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .answers import Answer
from .catalogue import list_, module
from .choices import compare_, fit
from .drafts import check_, expand, save_, validate
from .grids import sweep_
from .meshes import meshes
from .passes import analyze, explain
from .requests import request_
from .shelf import Shelf
from .tool import Tool

__all__ = ["TOOLS"]

_READ: tuple[Callable[[Shelf, Any], Answer], ...] = (
    list_, analyze, explain, request_, fit, meshes, compare_, sweep_, module, validate, expand, check_,
)  # fmt: skip
TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in (*map(Tool, _READ), Tool(save_, writes=True))}
"""Name → tool, in the order in which they are listed."""
