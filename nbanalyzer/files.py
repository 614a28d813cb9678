"""Files of strangers and our own: read within bounds, with the place of what is wrong; written whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import TemplateError

__all__ = ["convert", "decode", "read_file", "write_whole"]

MAX_FILE_BYTES = 32 * 2**20  # the largest shipped template is a thousandth of this

Struct = TypeVar("Struct", bound=msgspec.Struct)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)  # mkstemp makes it private
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def convert(data: object, kind: type[Struct], where: str) -> Struct:
    """Return plain data as `kind`, a msgspec struct; what does not fit is reported with its path."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _misfit(error, where) from None
    except RecursionError:
        raise TemplateError("nested too deep", where) from None


def decode(content: bytes, kind: Any, where: str) -> Any:
    """Return JSON text as `kind`, e.g. `ModelTemplate`; what is wrong with it is reported with its place."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise _misfit(error, where) from None
    except msgspec.DecodeError as error:
        raise _malformed(error, content, where) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise TemplateError(
            "nested too deep" if isinstance(error, RecursionError) else "not UTF-8 text", where
        ) from None


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a template file; a file that cannot be one is a `TemplateError`."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path that holds a null character
        raise TemplateError(getattr(error, "strerror", None) or "cannot be read", str(path)) from None
    if len(content) > MAX_FILE_BYTES:
        raise TemplateError(f"larger than {MAX_FILE_BYTES // 2**20} MiB, this is no template", str(path))
    return content


def _malformed(error: msgspec.DecodeError, content: bytes, where: str) -> TemplateError:
    """Return the error for text that is no JSON, with line and column where the reader stopped."""
    found = re.search(r"\(byte (\d+)\)", str(error))
    at = int(found[1]) if found else len(content)
    line = content.count(b"\n", 0, at) + 1
    column = at - (content.rfind(b"\n", 0, at) + 1) + 1
    problem = str(error).split(" (byte")[0].removeprefix("JSON is malformed: ")
    return TemplateError(f"malformed JSON: {problem}", f"{where}, line {line}, column {column}")


def _misfit(error: msgspec.ValidationError, where: str) -> TemplateError:
    problem, _, path = str(error).partition(" - at ")
    return TemplateError(problem.replace("`", "'"), f"{where}, {path.strip('`')}" if path else where)
