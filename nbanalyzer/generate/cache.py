"""Templates for configs that no shipped one fits: made when asked for, checked, and kept on disk.

They are kept as JSON in ``$NBANALYZER_CACHE``, by default ``$XDG_CACHE_HOME/nbanalyzer`` or
``~/.cache/nbanalyzer``, under a hash of everything that they follow from. What is found there is read like
any stranger's file; if it is not what was written, or if anybody else may have written it, it is made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from nbanalyzer.errors import ConfigError, InputError, MissingPackageError, NBAnalyzerError, quote
from nbanalyzer.files import decode, read_file, write_whole
from nbanalyzer.progress import tell
from nbanalyzer.templates.config_files import essential, untyped, with_floats, without_floats
from nbanalyzer.templates.library import folder
from nbanalyzer.templates.template import ModelTemplate, encode, load_model_template
from nbanalyzer.text import printable

__all__ = ["MADE", "cache_folder", "parameters_of", "template_for"]

MADE = "made"
"""Key in the provenance of a template that was made when asked for."""


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


def template_for(config: Mapping[str, Any], where: str, unfit: ConfigError) -> ModelTemplate:
    """Return the template that the config's own model gives, from the cache if it is there.

    Args:
        config: under Hugging Face's names.
        where: the config's file or name: the result's id.
        unfit: why no shipped template fits.

    Raises:
        ConfigError: transformers refuses the config, or torch, which is needed, is not installed.
        NBAnalyzerError: a model that cannot be traced, or differs from PyTorch.

    """
    label = printable(where) if len(where) <= 200 else f"…{printable(where)[-199:]}"
    if not isinstance(config.get("model_type") or config.get("architectures"), str | list):
        raise ConfigError(untyped(config), where) if config.get("model_type") is None else unfit
    tell("looking in the cache", 0)
    key = _key(config)
    path = _path(key, ".json")
    template = _read(path, key) if path else None
    if template is None:
        from . import generate  # needs torch: only now, and only here

        try:
            template = generate(dict(config), model_id=label)
        except MissingPackageError as missing:
            raise ConfigError(f"{unfit.problem}; {missing}", unfit.where) from None
        template = msgspec.structs.replace(template, provenance={MADE: "for this config", **template.provenance})
        if path:
            _write(path, key, template)
    return msgspec.structs.replace(template, model_id=label)


class _Counted(msgspec.Struct, forbid_unknown_fields=True):
    """A file in the cache: the parameters of the model that transformers builds from a config.

    Attributes:
        key: hash of what they follow from, as in the file's name.
        parameters: tied ones once.

    """

    key: str
    parameters: int


def parameters_of(config: Mapping[str, Any]) -> int | None:
    """Return how many parameters PyTorch counts in a config's model, from the cache if it is there.

    None if nobody can say: torch is not installed, `NBANALYZER_COMPARE` is ``"off"``, or transformers cannot build it.
    """
    if os.environ.get("NBANALYZER_COMPARE", "") == "off" or find_spec("torch") is None:
        return None
    return _parameters(_text(config))


@lru_cache(maxsize=256)
def _parameters(content: bytes) -> int | None:
    config = with_floats(msgspec.json.decode(content))
    key = _key(config)
    path = _path(key, ".parameters.json")
    with suppress(NBAnalyzerError):
        kept: _Counted | None = decode(read_file(path, private=True), _Counted, str(path)) if path else None
        if kept and kept.key == key:
            return kept.parameters
    from . import count_parameters  # needs torch: only now, and only here

    tell("comparing its parameters with PyTorch's", 0)
    try:
        count = count_parameters(config)
    except NBAnalyzerError:
        return None
    if path:
        _keep(path, _Counted(key, count))
    return count


def cache_folder() -> Path | None:
    """Return where templates are kept; it may not exist. None is nowhere: the user has no home.

    Raises:
        InputError: the folder that was asked for is in nobody's home.

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
    return hashlib.sha256(b"\0".join((_text(config), _tools()))).hexdigest()


def _text(config: Mapping[str, Any]) -> bytes:
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
    for place, suffix in ((folder("modules"), ".json"), (files("nbanalyzer") / "generate", ".py")):
        yield from sorted((file for file in place.iterdir() if file.name.endswith(suffix)), key=lambda file: file.name)


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
