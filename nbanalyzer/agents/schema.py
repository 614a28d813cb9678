"""JSON schemas of structs, with what their docstrings say of each field."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

__all__ = ["schema_of"]

REFERENCE = "#/$defs/{name}"
FIELD = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)
NULL = {"type": "null"}


def schema_of(kind: type[msgspec.Struct], *, may_be_null: bool = True) -> dict[str, Any]:
    """Return the JSON schema of a struct: an object at its root, other structs beside it.

    Args:
        kind: the struct.
        may_be_null: False leaves null out, where it stands for a field that is not given.

    """
    (root,), others = msgspec.json.schema_components([kind], ref_template=REFERENCE)
    own = others.pop(root["$ref"].rpartition("/")[2])
    for part in (own, *others.values()):
        _describe(part)
        if not may_be_null:
            part["properties"] = {name: _without_null(one) for name, one in part["properties"].items()}
    own.pop("title", None)
    return {**own, **({"$defs": others} if others else {})}


def _describe(part: dict[str, Any]) -> None:
    """Put what a docstring says of the fields where they are."""
    first, _, fields = inspect.cleandoc(part.pop("description", "")).partition("Attributes:\n")
    if first:
        part["description"] = " ".join(first.split())
    for name, meaning in FIELD.findall(fields):
        if name in part["properties"]:
            part["properties"][name].setdefault("description", " ".join(meaning.split()))


def _without_null(one: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in one.get("anyOf", ()) if choice != NULL]
    if one.get("default", 0) is not None or not choices:
        return one
    rest = {name: value for name, value in one.items() if name not in {"anyOf", "default"}}
    return {**rest, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}
