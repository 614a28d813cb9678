"""What was made or counted for a config, kept on disk for the next time: templates, and numbers of parameters.

They are kept as JSON in ``$NBANALYZER_CACHE``, by default ``$XDG_CACHE_HOME/nbanalyzer`` or
``~/.cache/nbanalyzer``, under a hash of everything that they follow from. What is found there is read like
any stranger's file; if it is not what was written, or if anybody else may have written it, it is made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
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


class _Kept(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A file in the cache: a template or a number of parameters, and what it has to agree with.

    Attributes:
        key: hash of what it follows from, as in the file's name.
        sha256: of the template's text.
        template: its text, as in a file of its own.
        parameters: of the model that transformers builds from the config, tied ones once.

    """

    key: str
    sha256: str = ""
    template: msgspec.Raw = msgspec.Raw()
    parameters: int | None = None


def kept_template(config: Mapping[str, Any]) -> ModelTemplate | None:
    """Return the template that is kept for a config; None if there is none, or it is not what was written."""
    kept = _read(config, ".json")
    if kept and kept.sha256 == hashlib.sha256(kept.template).hexdigest():
        with suppress(NBAnalyzerError):
            return load_model_template(bytes(kept.template))
    return None


def keep_template(config: Mapping[str, Any], template: ModelTemplate) -> None:
    """Keep a template for a config; where that cannot be, it is made again the next time."""
    content = encode(template).strip()
    _write(config, ".json", sha256=hashlib.sha256(content).hexdigest(), template=msgspec.Raw(content))


def kept_parameters(config: Mapping[str, Any]) -> int | None:
    """Return how many parameters are kept for a config; None if that is not known."""
    kept = _read(config, ".parameters.json")
    return kept.parameters if kept else None


def keep_parameters(config: Mapping[str, Any], count: int) -> None:
    """Keep how many parameters the model of a config has."""
    _write(config, ".parameters.json", parameters=count)


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


@cache
def _tools() -> bytes:
    """Return what a template owes to the installation: versions, module templates, the generator's own code."""
    digest = hashlib.sha256()
    for package in ("nbanalyzer", "transformers", "torch"):
        try:
            digest.update(f"{package} {version(package)}\0".encode())
        except PackageNotFoundError:  # a checkout that was never installed
            digest.update(f"{package}\0".encode())
    for place, pattern in ((folder("modules"), "*.json"), (files("nbanalyzer") / "generate", "*.py")):
        for file in sorted(Path(str(place)).rglob(pattern)):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.digest()


def _place(config: Mapping[str, Any], suffix: str) -> tuple[str, Path | None]:
    """Return a config's key, and its file in the cache if there is a cache."""
    key, kept_in = _key(config), cache_folder()
    return key, kept_in / f"{key[:40]}{suffix}" if kept_in else None


def _read(config: Mapping[str, Any], suffix: str) -> _Kept | None:
    """Return what is in a config's file; None if there is none, or it is not what was written."""
    key, path = _place(config, suffix)
    with suppress(NBAnalyzerError):
        kept: _Kept | None = decode(read_file(path, private=True), _Kept, str(path)) if path else None
        return kept if kept and kept.key == key else None
    return None


def _write(config: Mapping[str, Any], suffix: str, **content: Any) -> None:
    key, path = _place(config, suffix)
    with suppress(OSError, ValueError):  # ValueError: a folder with a null character
        if path:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, msgspec.json.encode(_Kept(key, **content)) + b"\n", private=True)
