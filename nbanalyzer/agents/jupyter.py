"""The tools for Jupyter's own MCP server, which looks for them under the entry point ``jupyter_server_mcp.tools``.

It takes plain functions by name, ``"module:function"``, and reads their signatures: here are functions with a tool's
name, its arguments and its description. What is wrong is raised, which that server reports.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from nbanalyzer.errors import InputError

from .shelf import Shelf
from .tool import Tool
from .tools import TOOLS

__all__ = ["NAMES", "function_of"]

NAMES = [f"{__name__}:{name}" for name in TOOLS]
"""What the entry point gives."""


def __getattr__(name: str) -> Callable[..., dict[str, Any]]:
    if name not in TOOLS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return function_of(TOOLS[name])


def function_of(tool: Tool) -> Callable[..., dict[str, Any]]:
    """Return a tool as a plain function; nothing can be saved from there."""

    def function(**arguments: Any) -> dict[str, Any]:
        reply = tool.call(Shelf(), arguments)
        if reply.data is None:
            raise InputError(reply.text)
        return {"answer": reply.text, **reply.data}

    hints = get_type_hints(tool.takes, include_extras=True)
    parameters = []
    for field in msgspec.structs.fields(tool.takes):
        made = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        default = inspect.Parameter.empty if field.required else made
        kind, hint = inspect.Parameter.KEYWORD_ONLY, _plain(hints[field.name])
        parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=hint))
    function.__name__ = function.__qualname__ = tool.name
    function.__doc__ = tool.description
    function.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": dict[str, Any]}
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what inspect looks for
        parameters, return_annotation=dict[str, Any]
    )
    return function


def _plain(hint: Any) -> Any:
    """Return a type as that server understands it: structs as objects, and descriptions as texts."""
    if get_origin(hint) is Annotated:
        base, *notes = get_args(hint)
        words = [note.description for note in notes if isinstance(note, msgspec.Meta) and note.description]
        return Annotated[_plain(base), words[-1]] if words else _plain(base)
    if get_origin(hint) in (Union, UnionType):
        return reduce(or_, map(_plain, get_args(hint)))
    return dict[str, Any] if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else hint
