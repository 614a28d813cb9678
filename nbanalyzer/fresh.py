"""Templates for configs that no shipped one fits: made when asked for, checked, and kept on disk.

They are kept as JSON in ``$NBANALYZER_CACHE``, by default ``$XDG_CACHE_HOME/nbanalyzer`` or
``~/.cache/nbanalyzer``, under a hash of everything that they follow from. What is found there is read like
any stranger's file; if it is not what was written, it is made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from .errors import ConfigError, MissingPackageError, NBAnalyzerError
from .files import decode, read_file, write_whole
from .progress import tell
from .shipped import folder
from .source import essential
from .templates import ModelTemplate, encode, load_model_template

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
    if not isinstance(config.get("model_type") or config.get("architectures"), str | list):
        raise unfit
    tell("looking in the cache", 0)
    key = _key(config)
    path = cache_folder() / f"{key[:40]}.json"
    template = _read(path, key)
    if template is None:
        from .generate import generate  # needs torch: only now, and only here

        try:
            template = generate(dict(config), model_id=where)
        except MissingPackageError as missing:
            raise ConfigError(f"{unfit.problem}; {missing}", unfit.where) from None
        template = msgspec.structs.replace(template, provenance={MADE: "for this config", **template.provenance})
        _write(path, key, template)
    return msgspec.structs.replace(template, model_id=where)


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
    return _parameters(msgspec.json.encode(essential(config), order="sorted"))


@lru_cache(maxsize=256)
def _parameters(content: bytes) -> int | None:
    config = msgspec.json.decode(content)
    key = _key(config)
    path = cache_folder() / f"{key[:40]}.parameters.json"
    try:
        kept: _Counted = decode(read_file(path), _Counted, str(path))
        if kept.key == key:
            return kept.parameters
    except NBAnalyzerError:
        pass
    from .generate import count_parameters  # needs torch: only now, and only here

    tell("comparing its parameters with PyTorch's", 0)
    try:
        count = count_parameters(config)
    except NBAnalyzerError:
        return None
    _keep(path, _Counted(key, count))
    return count


def cache_folder() -> Path:
    """Return where templates are kept; it may not exist."""
    if own := os.environ.get("NBANALYZER_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")  # which is to be ignored unless absolute, says its specification
    return (Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()) / "nbanalyzer"


def _key(config: Mapping[str, Any]) -> str:
    """Return a hash of all that a template follows from: the config, the packages, the module templates."""
    text = msgspec.json.encode(essential(config), order="sorted")
    return hashlib.sha256(b"\0".join((text, _tools()))).hexdigest()


@cache
def _tools() -> bytes:
    """Return what a template owes to the installation: versions, module templates, the generator's own code."""
    digest = hashlib.sha256()
    for package in ("nbanalyzer", "transformers"):
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
        kept: _Kept = decode(read_file(path), _Kept, str(path))
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(kept) + b"\n")
    except OSError:
        pass
