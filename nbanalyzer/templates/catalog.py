"""Name → model template or config: shipped, a file, or a config in the Hugging Face cache.

Everything here works offline. A name is only looked up among the shipped ones or in the Hugging Face cache; it
never becomes part of a path unchecked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from nbanalyzer.errors import ConfigError, TemplateError, UnknownNameError, near, quote, shorten
from nbanalyzer.files import decode, read_file

from .artifacts import in_place_of_config, kind_of_file
from .config_files import CONFIG, brought_along, read_config, text_fields
from .expansion import expand
from .library import folder
from .spelling import begun, is_variant, meant
from .template import ModelTemplate
from .template_files import load_model_template
from .validity import DEFAULTS, Difference, differences, filled, unstated

__all__ = [
    "KERNELS_OF", "NAMED", "aliases", "base", "completed", "config_for", "config_of", "for_config", "known_as", "like",
    "look_up", "names", "require_fit", "shipped", "short_names",
]  # fmt: skip

KERNELS_OF = "kernels of"
"""Key in a template's provenance: the id of the shipped template whose kernels it has."""

NAMED = "named"
"""The same: what was asked for, if the template is of a model with the same structure."""

TEMPLATE_FIELDS = {*ModelTemplate.__struct_fields__} - {"architecture"}  # no config has any of them
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


@cache
def names() -> tuple[str, ...]:
    """Return the ids of the shipped models, ``"org/name"``, sorted."""
    folders = (org for org in folder("models").iterdir() if org.is_dir())
    files = ((org, file.name) for org in folders for file in org.iterdir() if file.name.endswith(".json"))
    return tuple(sorted((f"{org.name}/{name.removesuffix('.json')}" for org, name in files), key=str.casefold))


@cache
def aliases() -> Mapping[str, str]:
    """Return every accepted spelling in lower case → id: with or without org, ``meta-`` and ``-hf``."""
    spellings: dict[str, set[str]] = {}
    for name in names():
        last = name.rpartition("/")[2].casefold()
        for spelling in {name.casefold(), last, last.removeprefix("meta-"), last.removesuffix("-hf")}:
            spellings.setdefault(spelling, set()).add(name)
    return {spelling: min(ids) for spelling, ids in spellings.items() if len(ids) == 1}


def short_names() -> tuple[str, ...]:
    """Return the shortest spelling of every shipped model, for lists and completion."""
    shortest: dict[str, str] = {}
    for spelling, name in aliases().items():
        if name not in shortest or len(spelling) < len(shortest[name]):
            shortest[name] = spelling
    return tuple(shortest[name] for name in names())


def config_of(name: str | os.PathLike[str]) -> tuple[Mapping[str, Any], str]:
    """Return the config of a model, and its id or the path of its file.

    Raises:
        NBAnalyzerError: as for `look_up`.

    """
    model, where = look_up(name)
    return (model.config if isinstance(model, ModelTemplate) else model), where


def look_up(name: str | os.PathLike[str]) -> tuple[ModelTemplate | Mapping[str, Any], str]:
    """Return the complete template of that name or file, or else the config; and its id or path.

    Args:
        name: a shipped model (``"gpt2"``, ``"openai-community/gpt2"``, any case), the path of a model template
            or of a config.json, or a model whose config is in the Hugging Face cache.

    Raises:
        UnknownNameError: no such model; near names are suggested. Nothing is ever downloaded.
        TemplateError: the file is not a model template.
        ConfigError: the file is not a config.

    """
    text = os.fspath(name)
    if text.casefold() in aliases():
        template = shipped(aliases()[text.casefold()])
        return template, template.model_id
    if path := _path(text):
        if path.parent.is_dir() and path.name == CONFIG and not path.exists():
            raise ConfigError(in_place_of_config(path.parent), str(path.parent))
        model = _from_file(path)
        return model, (model.model_id if isinstance(model, ModelTemplate) else "") or str(path)
    is_name = bool(HUB_NAME.fullmatch(text)) and ".." not in text
    if is_name and (cached := _hub_cache(text)):
        return read_config(cached), text
    if kind := kind_of_file(text):
        raise UnknownNameError("model", text, (), f"This is {kind}.")
    if name := known_as(text):
        return (_named(shipped(name), text) if is_variant(text, name) else shipped(name)), name
    if is_name:
        hint = "It is neither in the catalogue (--list) nor in the Hugging Face cache"
        if "/" in text:
            hint += f"; `hf download {text} config.json` puts its config there, if it exists"
        raise UnknownNameError("model", text, like(text), f"{hint}.")
    raise UnknownNameError(
        "model", text, (), "A model is a catalogue name (--list), org/name, or the path of a .json file."
    )


def known_as(text: str) -> str:
    """Return the id of the shipped model that a text means, however it is spelled; "" if it is none."""
    return aliases().get(text.casefold()) or meant(text, names()) or ""


def like(text: str) -> list[str]:
    """Return the shipped models that a text may mean: those that it begins, or else all."""
    short = {name: name if "/" in text else one for name, one in zip(names(), short_names(), strict=True)}
    found = [short[name] for name in begun(text.rpartition("/")[2], names())]
    return found or [*names(), *short_names()]


def _named(template: ModelTemplate, text: str) -> ModelTemplate:
    """Return a shipped template with what was asked for, which has its structure."""
    return msgspec.structs.replace(template, provenance={**template.provenance, NAMED: shorten(text)})


def _path(text: str) -> Path | None:
    """Return the path of a .json file, or of the config.json in a folder, if the text is one; it may not exist."""
    if not text:
        return None
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return path / CONFIG
    except (OSError, ValueError, RuntimeError):  # too long, a null character, no home folder
        return None
    return path if path.suffix == ".json" else None


def config_for(name: str, template: str | os.PathLike[str]) -> Mapping[str, Any] | None:
    """Return the config of the model `name`, to be used with a given template.

    None stands for the template's own: if it is equal, or if `name` is not known and the template has one.
    """
    own, _ = config_of(template)
    try:
        config, _ = config_of(name)
    except UnknownNameError:
        if own:
            return None
        raise
    return None if config == own else config


def completed(template: ModelTemplate) -> ModelTemplate:
    """Return the template with all the kernels and the state that its numbers need.

    References to modules are expanded; a template that extends another gets its kernels and state.

    Raises:
        TemplateError: it extends a model that is not shipped, or has kernels of its own as well; it refers to an
            unknown module, or lacks bindings.

    """
    if not template.extends:
        return expand(template)
    where = template.model_id
    if template.kernels:
        raise TemplateError(f"a template has kernels of its own or extends {template.extends!r}, not both", where)
    if template.extends not in names():
        close = near(template.extends, names())
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise TemplateError(f"extends {template.extends!r}, which is not in the catalogue{hint}", where)
    return _extended(template, shipped(template.extends))


def _extended(template: ModelTemplate, base: ModelTemplate) -> ModelTemplate:
    return msgspec.structs.replace(
        base,
        model_id=template.model_id,
        architecture=template.architecture or base.architecture,
        config=template.config,
        valid_for=template.valid_for or base.valid_for,
        reads=template.reads or base.reads,
        provenance=template.provenance,
    )


@cache
def shipped(name: str) -> ModelTemplate:
    """Return a shipped model's complete template by its id, one of `names`."""
    template = _file(name)
    return _extended(template, shipped(template.extends)) if template.extends else template


def base(name: str) -> str:
    """Return the id of the shipped model whose kernels one of `names` has: itself, or the one that it extends."""
    return _file(name).extends or name


@cache
def _file(name: str) -> ModelTemplate:
    org, _, last = name.partition("/")
    file = folder("models") / org / f"{last}.json"
    return load_model_template(file.read_bytes(), f"models/{name}.json")


def _from_file(path: Path) -> ModelTemplate | Mapping[str, Any]:
    content = read_file(path)
    data = decode(content, Any, str(path))
    if isinstance(data, dict) and data and not data.keys() & TEMPLATE_FIELDS:
        return read_config(path)
    return completed(load_model_template(content, str(path)))


def _hub_cache(name: str) -> Path | None:
    """Return the path of a config.json that the Hugging Face cache holds, without any network."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:  # then the cache is empty
        return None
    try:
        file = try_to_load_from_cache(name, "config.json")
    except ValueError:  # it is stricter about names than HUB_NAME
        return None
    return Path(file) if isinstance(file, str) else None


def for_config(config: Mapping[str, Any], where: str = "config") -> ModelTemplate:
    """Return the shipped template that is valid for the config, with this config.

    Raises:
        ConfigError: none is; the message names the field that differs from the nearest one's. Or it has not as many
            kinds of layers as layers.

    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str | None):
        raise ConfigError(f"model_type is {quote(model_type)}: a name is needed", where)
    text = text_fields(config)
    kinds, layers = text.get("layer_types"), text.get("num_hidden_layers")
    if isinstance(kinds, list) and isinstance(layers, int) and len(kinds) != layers:
        raise ConfigError(f"contradicts itself: num_hidden_layers is {layers}, layer_types has {len(kinds)}", where)
    alike = [name for name in names() if _file(name).config.get("model_type") == model_type]
    # Templates with kernels of their own first, as those that extend them add only a config; for a config that states
    # no architecture, that of another such one before an encoder alone.
    stated = config.get("architectures")
    bases = [
        shipped(name)
        for name in sorted(
            alike, key=lambda name: (bool(_file(name).extends), _file(name).config.get("architectures") != stated)
        )
    ]
    refused: list[tuple[ModelTemplate, list[Difference]]] = []
    for base in bases:
        if not base.valid_for:
            continue
        if not (unfit := _unfit(base, config)):
            defaults = unstated(base, config)
            record = {KERNELS_OF: base.model_id} | ({DEFAULTS: defaults} if defaults else {})
            return msgspec.structs.replace(base, model_id=where, config=filled(base, config), provenance=record)
        refused.append((base, unfit))
    if refused:
        base, unfit = min(refused, key=lambda pair: len(pair[1]))
        raise ConfigError(_message(base, unfit[0]), where)
    types = sorted({str(_file(name).config.get("model_type")) for name in names()})
    raise ConfigError(f"no shipped template is of model_type {quote(model_type)}: there are {', '.join(types)}", where)


def require_fit(base: ModelTemplate, config: Mapping[str, Any], where: str) -> None:
    """Raise unless a template is valid for a config.

    Raises:
        ConfigError: it is not; the message names the first field that differs.

    """
    for unfit in _unfit(base, config)[:1]:
        raise ConfigError(_message(base, unfit), where)


def _unfit(base: ModelTemplate, config: Mapping[str, Any]) -> list[Difference]:
    """Return the differences that make a template invalid for a config, its architecture included."""
    stated = config.get("architectures")
    if isinstance(stated, list) and stated and base.architecture and base.architecture not in stated:
        return [Difference("architectures", stated, [base.architecture])]
    if own := brought_along(config):
        return [Difference("auto_map", own, base.architecture)]
    return differences(base, config)


def _message(base: ModelTemplate, unfit: Difference) -> str:
    name = base.model_id or "the template"
    said = f"the config says {unfit.field} = {quote(unfit.stated)}"
    if not unfit.known:
        return f"{said}, and nothing is known of that for {name}"
    return f"{said}, {name} was made for {shorten(json.dumps(unfit.made_for), 60)}"
