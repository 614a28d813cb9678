"""Files of strangers and our own: read within bounds, with the place of what is wrong; written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import InputError, TemplateError, quote

__all__ = ["convert", "decode", "read_file", "write_whole", "writing"]

MAX_FILE_BYTES = 32 * 2**20  # the largest shipped template is a thousandth of this
TEMPORARY = ".nbanalyzer-"
LEFT_OVER = 3600.0  # seconds after which a temporary file is nobody's: its writer was killed

Struct = TypeVar("Struct", bound=msgspec.Struct)


# ---- writing


def write_whole(path: str | os.PathLike[str], content: bytes, *, private: bool = False) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename.

    A link is followed, and a file that is there keeps its owner and its mode. What is there and no file, such as a
    pipe or ``/dev/null``, is written to and stays what it is.

    Args:
        path: where; the folder is there.
        content: all of it.
        private: nobody but the owner may read or write it, whatever was there.

    Raises:
        OSError: it cannot be written.
        ValueError: a path that holds a null character.

    """
    if (descriptor := _own_descriptor(path)) is not None:
        _write_into(os.dup(descriptor), content)
        return
    try:
        before = os.stat(path)  # noqa: PTH116 - a Path would drop a slash at the end
    except FileNotFoundError:
        before = None
    if before is None or stat.S_ISREG(before.st_mode):
        _replace(Path(os.path.realpath(path)), content, None if private else before, private=private)
    elif stat.S_ISFIFO(before.st_mode) or stat.S_ISCHR(before.st_mode):
        # Without waiting: a pipe that nobody reads is an error, not a silence.
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
        os.set_blocking(handle, True)
        _write_into(handle, content)
    else:
        problem = os.strerror(errno.EISDIR) if stat.S_ISDIR(before.st_mode) else "is neither a file nor a pipe"
        raise OSError(errno.EISDIR, problem, os.fspath(path))


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Say in one line what could not be written inside, and why.

    Args:
        what: the file, as the user named it.

    Raises:
        InputError: the system would not write it.

    """
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a path that holds a null character
        raise InputError(f"{what} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _own_descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return the number of the open file of this process that a path such as ``/dev/stdout`` stands for.

    It may be a file, which is neither replaced nor begun anew: what the shell appends to keeps what it has.
    """
    place = Path(path)
    for _ in range(8):
        parent = os.path.realpath(place.parent)
        if parent == f"/proc/{os.getpid()}/fd" and place.name.isdecimal():
            return int(place.name)
        if not place.is_symlink():
            return None
        place = parent / place.readlink()
    return None


def _write_into(handle: int, content: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _replace(target: Path, content: bytes, before: os.stat_result | None, *, private: bool) -> None:
    if before is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    _sweep(target.parent)
    temporary = target.parent / f"{TEMPORARY}{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o600 if private else 0o666)  # the system takes the umask off
    try:
        with os.fdopen(handle, "wb") as file:
            if before is not None:
                with suppress(OSError):  # only root may give files away
                    os.chown(temporary, before.st_uid, before.st_gid)
                temporary.chmod(stat.S_IMODE(before.st_mode) & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave the new name without the content
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sweep(folder: Path) -> None:
    """Take away what killed processes have left in a folder."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - names only, of folders with very many files too
            if name.startswith(TEMPORARY):
                left = folder / name
                with suppress(OSError):
                    if time.time() - left.lstat().st_mtime > LEFT_OVER:
                        left.unlink()


# ---- reading


def read_file(path: str | os.PathLike[str], most: int = MAX_FILE_BYTES, *, private: bool = False) -> bytes:
    """Return the bytes of a file: a template, a config, or another of JSON.

    Only regular files are read, and no more than `most` bytes: a pipe that nobody writes to, or ``/dev/zero``, would
    have no end.

    Args:
        path: where.
        most: bytes that it may have.
        private: it must be this user's own, and nobody else's to write.

    Raises:
        TemplateError: it cannot be read, or is none of these.

    """
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
    try:
        handle = os.open(path, flags)
        try:
            content = _content(handle, most, private=private)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:  # ValueError: a path that holds a null character
        raise TemplateError(getattr(error, "strerror", None) or str(error), str(path)) from None
    if len(content) > most:
        raise TemplateError(f"larger than {most // 2**20} MiB, which no template or config is", str(path))
    return content


def _content(handle: int, most: int, *, private: bool) -> bytes:
    found = os.fstat(handle)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "a pipe or a device, not a file")
    if private and hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise PermissionError(errno.EACCES, "somebody else may have written it")
    with os.fdopen(handle, "rb", closefd=False) as file:
        return file.read(most + 1)


def convert(data: object, kind: type[Struct], where: str) -> Struct:
    """Return plain data as `kind`, a msgspec struct; what does not fit is reported with its path."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _misfit(error, where) from None
    except UnicodeEncodeError as error:
        raise TemplateError(f"{quote(error.object)} is no text: it holds half a character", where) from None
    except RecursionError:
        raise TemplateError("nested too deep", where) from None


def decode(content: bytes, kind: Any, where: str) -> Any:
    """Return JSON text as `kind`, e.g. `ModelTemplate`; what is wrong with it is reported with its place.

    `Any` also takes the numbers that Python writes beside JSON's, ``Infinity`` and ``NaN``: configs have them.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise _misfit(error, where) from None
    except msgspec.DecodeError as error:
        if kind is Any and re.search(rb"Infinity|NaN", content):
            with suppress(ValueError, RecursionError):
                return json.loads(content.decode())
        raise _malformed(error, content, where) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise TemplateError(
            "nested too deep" if isinstance(error, RecursionError) else "not UTF-8 text", where
        ) from None


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
