"""Templates in files: read and checked, written whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from nbanalyzer.files import decode, read_file, write_whole

from .config_files import without_floats
from .template import ModelTemplate, ModuleTemplate
from .validation import check_module, require_valid

__all__ = ["as_json", "encode", "load_model_template", "load_module_template", "load_template", "save_template"]


def load_model_template(source: str | os.PathLike[str] | bytes, where: str = "") -> ModelTemplate:
    """Return the model template in a file, or in the bytes of one; it is always validated.

    Raises:
        TemplateError: not readable, malformed JSON (with line and column), a wrong or unknown field (with its
            path in the file), a formula that cannot be read.
        UnresolvedVariablesError: it uses variables that are not global.

    """
    content, where = _read(source, where)
    return require_valid(decode(content, ModelTemplate, where), where)


def load_template(source: str | os.PathLike[str] | bytes, where: str = "") -> ModuleTemplate | ModelTemplate:
    """Return the module or model template in a file, or in the bytes of one; see the functions for each kind."""
    content, where = _read(source, where)
    data = decode(content, Any, where)
    is_module = isinstance(data, dict) and "class_name" in data
    return load_module_template(content, where) if is_module else load_model_template(content, where)


def load_module_template(source: str | os.PathLike[str] | bytes, where: str = "") -> ModuleTemplate:
    """Return the module template in a file, or in the bytes of one; its formulas and variables are checked.

    Raises:
        TemplateError: as for `load_model_template`, or a variable that is neither declared nor global, or one
            that is declared and never used.

    """
    content, where = _read(source, where)
    return check_module(decode(content, ModuleTemplate, where), where)


def save_template(template: ModelTemplate | ModuleTemplate, path: str | os.PathLike[str]) -> None:
    """Write the template as readable JSON, whole or not at all; missing folders are made.

    Raises:
        OSError: the file cannot be written.

    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode(template))


def encode(template: msgspec.Struct) -> bytes:
    """Return the template as the JSON text of its file."""
    return msgspec.json.format(as_json(template), indent=2) + b"\n"


def as_json(template: msgspec.Struct) -> bytes:
    """Return the template as JSON text in one line."""
    return msgspec.json.encode(without_floats(msgspec.to_builtins(template)))


def _read(source: str | os.PathLike[str] | bytes, where: str) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, where or "template"
    return read_file(source), where or str(source)
