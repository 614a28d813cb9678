"""What was made or counted for a config, kept on disk for the next time: templates, and numbers of parameters.

They are kept as JSON in ``$NBANALYZER_CACHE``, by default ``$XDG_CACHE_HOME/nbanalyzer`` or
``~/.cache/nbanalyzer``, under a hash of everything that they follow from. What is found there is read like
any stranger's file; if it is not what was written, or if anybody else may have written it, it is made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import msgspec

from nbanalyzer.errors import InputError, NBAnalyzerError, quote
from nbanalyzer.files import decode, read_file, write_whole
from nbanalyzer.templates.config_files import essential, without_floats
from nbanalyzer.templates.library import folder
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import encode, load_model_template

__all__ = ["cache_folder", "keep_parameters", "keep_template", "kept_parameters", "kept_template", "text_of"]


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """A file in the cache: the template, and what it has to agree with.

    Attributes:
        key: hash of what the template follows from, as in the file's name.
        sha256: of the template's text.
        template: its text, as in a file of its own.

    """

    key: str
    sha256: str
    template: msgspec.Raw


def kept_template(config: Mapping[str, Any]) -> ModelTemplate | None:
    """Return the template that is kept for a config; None if there is none, or it is not what was written."""
    key = _key(config)
    path = _path(key, ".json")
    return _read(path, key) if path else None


def keep_template(config: Mapping[str, Any], template: ModelTemplate) -> None:
    """Keep a template for a config; where that cannot be, it is made again the next time."""
    key = _key(config)
    if path := _path(key, ".json"):
        _write(path, key, template)


class _Counted(msgspec.Struct, forbid_unknown_fields=True):
    """A file in the cache: the parameters of the model that transformers builds from a config.

    Attributes:
        key: hash of what they follow from, as in the file's name.
        parameters: tied ones once.

    """

    key: str
    parameters: int


def kept_parameters(config: Mapping[str, Any]) -> int | None:
    """Return how many parameters are kept for a config; None if that is not known."""
    key = _key(config)
    path = _path(key, ".parameters.json")
    with suppress(NBAnalyzerError):
        kept: _Counted | None = decode(read_file(path, private=True), _Counted, str(path)) if path else None
        return kept.parameters if kept and kept.key == key else None
    return None


def keep_parameters(config: Mapping[str, Any], count: int) -> None:
    """Keep how many parameters the model of a config has."""
    key = _key(config)
    if path := _path(key, ".parameters.json"):
        _keep(path, _Counted(key, count))


def cache_folder() -> Path | None:
    """Return where templates are kept; it may not exist. None is nowhere: the user has no home.

    Raises:
        InputError: the folder that was asked for is in the home of an unknown user.

    """
    if own := os.environ.get("NBANALYZER_CACHE"):
        try:
            return Path(own).expanduser()
        except RuntimeError:
            raise InputError(f"NBANALYZER_CACHE is {quote(own)}: there is no such home") from None
    base = os.environ.get("XDG_CACHE_HOME", "")  # which is to be ignored unless absolute, says its specification
    try:
        return (Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()) / "nbanalyzer"
    except RuntimeError:
        return None


def _key(config: Mapping[str, Any]) -> str:
    """Return a hash of all that a template follows from: the config, the packages, the module templates."""
    return hashlib.sha256(b"\0".join((text_of(config), _tools()))).hexdigest()


def text_of(config: Mapping[str, Any]) -> bytes:
    """Return what of a config says anything of its model, as JSON text that is the same for equal ones."""
    return msgspec.json.encode(without_floats(essential(config)), order="sorted")


def _path(key: str, suffix: str) -> Path | None:
    kept_in = cache_folder()
    return kept_in / f"{key[:40]}{suffix}" if kept_in else None


@cache
def _tools() -> bytes:
    """Return what a template owes to the installation: versions, module templates, the generator's own code."""
    digest = hashlib.sha256()
    for package in ("nbanalyzer", "transformers", "torch"):
        try:
            digest.update(f"{package} {version(package)}\0".encode())
        except PackageNotFoundError:  # a checkout that was never installed
            digest.update(f"{package}\0".encode())
    for file in _sources():
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.digest()


def _sources() -> Iterator[Traversable]:
    yield from _files(folder("modules"), ".json")
    yield from _files(files("nbanalyzer") / "generate", ".py")


def _files(place: Traversable, suffix: str) -> Iterator[Traversable]:
    """Yield the files of a folder and of the folders in it, in the same order everywhere."""
    for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _files(entry, suffix)
        elif entry.name.endswith(suffix):
            yield entry


def _read(path: Path, key: str) -> ModelTemplate | None:
    """Return the template in a file of the cache; None if there is none, or it is not what was written."""
    try:
        kept: _Kept = decode(read_file(path, private=True), _Kept, str(path))
        content = bytes(kept.template)
        if kept.key != key or kept.sha256 != hashlib.sha256(content).hexdigest():
            return None
        return load_model_template(content, str(path))
    except NBAnalyzerError:
        return None


def _write(path: Path, key: str, template: ModelTemplate) -> None:
    """Keep a template; where that cannot be, it is made again the next time."""
    content = encode(template).strip()
    _keep(path, _Kept(key, hashlib.sha256(content).hexdigest(), msgspec.Raw(content)))


def _keep(path: Path, kept: msgspec.Struct) -> None:
    with suppress(OSError, ValueError):  # ValueError: a folder with a null character
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(kept) + b"\n", private=True)
