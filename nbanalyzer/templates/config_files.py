"""A model's config in its three forms: a config.json, plain data, a transformers object."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from nbanalyzer.errors import ConfigError, TemplateError, shorten
from nbanalyzer.files import read_file
from nbanalyzer.formulas.variables import VARIABLES

from .artifacts import kind_of_object

__all__ = [
    "MEDIA_PARTS",
    "as_mapping",
    "brought_along",
    "config_file",
    "essential",
    "fields_of",
    "joined",
    "look",
    "media_fields",
    "object_of",
    "of_repository",
    "put",
    "quiet",
    "read_config",
    "same_for_all",
    "text_fields",
    "text_object",
    "text_part",
    "text_path",
    "untyped",
    "with_dots",
    "with_floats",
    "with_labels",
    "without_floats",
]  # fmt: skip

MAX_CONFIG_BYTES = 8 * 2**20  # the largest known is a quarter of this, most of it names of classes

# How transformers writes the numbers that JSON lacks.
FLOAT = "__float__"
FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}

CONFIG = "config.json"
QUANTISED = "quantization_config"

# Where a multimodal config keeps its language model.
TEXT_PARTS = ("thinker_config", "text_config", "llm_config", "language_config")

# Where it keeps what reads images and sound.
MEDIA_PARTS = ("vision_config", "audio_config")

# Fields about how a model is loaded, run and labelled.
NOISE = frozenset(
    {"_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype", "auto_map", "quantization_config",
     "quantization",
     "use_cache", "id2label", "label2id", "problem_type", "task_specific_params", "return_dict", "output_attentions",
     "output_hidden_states", "torchscript", "_attn_implementation", "attn_implementation", "_experts_implementation",
     "experts_implementation", "transformers.js_config", "init_config"}
)  # fmt: skip


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the JSON object in the file `path`; a file that holds none is a `ConfigError`.

    ``Infinity``, ``-Infinity`` and ``NaN`` are read in Python's notation and in transformers'.
    """
    try:
        content = read_file(path, MAX_CONFIG_BYTES)
        config = json.loads(content.decode())
        if re.search(rb"\\u[dD]", content):  # half a surrogate pair cannot be written
            json.dumps(config, ensure_ascii=False).encode()
        fields = with_floats(config)
    except TemplateError as error:
        raise ConfigError(f"cannot be read: {error.problem}", error.where) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg}, line {error.lineno}, column {error.colno}", str(path)) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, an endless number, endless brackets
        raise ConfigError(f"not JSON: {shorten(str(error), 100)}", str(path)) from None
    if not isinstance(fields, dict):
        raise ConfigError(f"a config is a JSON object, not {shorten(json.dumps(config))}", str(path))
    return fields | _stated_beside(path) if not fields.get(QUANTISED) and path.name == CONFIG else fields


def _stated_beside(path: Path) -> dict[str, Any]:
    """Return what a file beside a config says of how weights are stored: NVIDIA's, of models that it exports."""
    beside = path.with_name("hf_quant_config.json")
    if not beside.is_file():
        return {}
    stated = read_config(beside)
    return {QUANTISED: {**stated, "quant_method": "modelopt"}}


def same_for_all(value: Any) -> Any:
    """Return the entry of a list with one for each layer, all the same: that is what it says; else the value."""
    return value[0] if isinstance(value, list) and value and value.count(value[0]) == len(value) else value


def with_floats(value: Any) -> Any:
    """Return plain data with a float in place of ``{"__float__": "Infinity"}``, which is how transformers writes it."""
    if isinstance(value, dict):
        if value.keys() == {FLOAT} and isinstance(name := value[FLOAT], str) and name in FLOATS:
            return FLOATS[name]
        return {key: with_floats(part) for key, part in value.items()}
    return [with_floats(part) for part in value] if isinstance(value, list) else value


def without_floats(value: Any) -> Any:
    """Return plain data that JSON can hold: the inverse of `with_floats`."""
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, Mapping):
        return {key: without_floats(part) for key, part in value.items()}
    return [without_floats(part) for part in value] if isinstance(value, list | tuple) else value


def config_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a config, which may be given as that of its folder."""
    file = Path(path)
    with suppress(OSError, ValueError):  # a name too long, or with a null: reading it raises the error
        file = file / "config.json" if file.is_dir() else file
    return file


def as_mapping(config: object) -> Mapping[str, Any]:
    """Return the fields of a config in any of the forms that `extract_model_params` takes."""
    if isinstance(config, str | os.PathLike):
        return read_config(config_file(config))
    return config if isinstance(config, Mapping) else fields_of(config)


def fields_of(config: object) -> dict[str, Any]:
    """Return the fields of a transformers config object; none of any other object."""
    if not callable(to_dict := getattr(config, "to_dict", None)):
        return {}
    try:
        return dict(to_dict())
    except Exception as error:  # noqa: BLE001 - its code may raise anything
        problem = shorten(f"{type(error).__name__}: {' '.join(str(error).split())}", 100)
        raise ConfigError(f"transformers cannot write down its own {type(config).__name__}: {problem}") from None


def object_of(fields: Mapping[str, Any]) -> object:
    """Return transformers' config object of these fields; None for an unknown model, or without transformers."""
    name = fields.get("model_type")
    with quiet():
        try:
            from transformers import CONFIG_MAPPING
        except ImportError:
            return None
        if name not in CONFIG_MAPPING:
            return None
        kind = CONFIG_MAPPING[name]
        # A field with the name of a method would replace the method.
        taken = {"model_type", *NOISE, *(key for key in fields if callable(getattr(kind, key, None)))}
        try:
            built: object = kind(**{key: value for key, value in fields.items() if key not in taken})
        except Exception as error:  # noqa: BLE001 - whatever a class's own checks raise
            problem = shorten(" ".join(str(error).split()), 200)
            raise ConfigError(f"transformers cannot read it: {problem}") from None
        return built


def brought_along(config: Mapping[str, Any]) -> str:
    """Return the model class of a repository's own code that a config has in place of its architecture; "" for none.

    Where such code only repeats what transformers has, it has the architecture's name: Jina's `XLMRobertaLoRA`, with
    rotary embeddings and adapters, is no `XLMRobertaModel`.
    """
    stated, found = config.get("architectures"), of_repository(config)
    if not isinstance(stated, list) or not stated:
        return ""
    same = {joined(name) for name in stated if isinstance(name, str)}
    return "" if any(joined(name) in same for name in found) else next(iter(found), "")


def of_repository(config: Mapping[str, Any]) -> list[str]:
    """Return the model classes that a config's auto_map finds in its repository."""
    entries = config.get("auto_map")
    return [
        entry.rpartition(".")[2]
        for key, entry in (entries.items() if isinstance(entries, Mapping) else ())
        if isinstance(key, str) and key.startswith("AutoModel") and isinstance(entry, str)
    ]


def joined(name: str) -> str:
    """Return a class's name as it is compared: repositories write Ernie4_5_ForCausalLM for Ernie4_5ForCausalLM."""
    return name.replace("_", "").lower()


def essential(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config as plain data, without the fields that do not describe the model's structure.

    Without ``auto_map``, transformers loads no foreign code.
    """
    try:
        content = msgspec.json.encode(without_floats(_without_noise(with_labels(config))))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"a config is plain data: {shorten(str(error), 100)}") from None
    plain: dict[str, Any] = with_floats(msgspec.json.decode(content))
    return plain


def with_labels(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config with num_labels, a classifier's size, where it states only the labels' names."""
    names = config.get("id2label")
    if not isinstance(names, Mapping) or not names or "num_labels" in config:
        return config
    return {**config, "num_labels": len(names)}


def _without_noise(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_noise(part) for key, part in value.items() if key not in NOISE}
    return value


def untyped(config: Mapping[str, Any]) -> str:
    """Return the message for a config with neither model type nor class."""
    if kind := kind_of_object(config):
        return f"this is no config of a model, but {kind}"
    marks = {"type_vocab_size": "bert", "n_embd": "gpt2", "d_kv": "t5"}
    likely = next((model_type for key, model_type in marks.items() if key in config), "llama")
    return f'the config has no model_type, which says which model it is: add it, such as "model_type": "{likely}"'


def text_fields(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a config's text part."""
    while part := text_part(config):
        config = config[part]
    return config


def text_part(config: Mapping[str, Any]) -> str:
    """Return the field of a config that holds its text part, "" if none does."""
    return next((key for key in TEXT_PARTS if isinstance(config.get(key), Mapping)), "")


def text_path(config: Mapping[str, Any]) -> str:
    """Return what stands before a field of a config's text part in its path: ``text_config.``, "" if it has none."""
    part = text_part(config)
    return f"{part}.{text_path(config[part])}" if part else ""


def media_fields(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield the fields of a multimodal config beside its text part: name of the variable, path of the field, value.

    A field of ``vision_config`` is a variable with ``vision_`` before its name; those of the whole keep theirs, with
    ``whole_`` before it where the text part has another one of that name, or may have one.
    """
    parts = [(key, config[key]) for key in MEDIA_PARTS if isinstance(config.get(key), Mapping)]
    for key, part in parts:
        prefix = key.removesuffix("config")
        yield from ((f"{prefix}{name}", f"{key}.{name}", value) for name, value in part.items())
    if (parts or "patch_size" in config) and text_part(config):  # Fuyu has no tower
        text = text_fields(config)
        own = ((name, value) for name, value in config.items() if not isinstance(value, Mapping))
        taken = {*text, *VARIABLES}
        yield from ((f"whole_{name}" if name in taken else name, name, value) for name, value in own)


def with_dots(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config, those of its parts with a dot: of text, of what reads images or sound, of others.

    Another part is one that says how many layers it has, such as a Q-Former's or a speech encoder's.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        layers = key.endswith("_config") and isinstance(value, Mapping) and any(map(_LAYERS.search, value))
        if key in {*TEXT_PARTS, *MEDIA_PARTS} or layers:
            found |= {f"{key}.{name}": inner for name, inner in dict(value or {}).items()}
        else:
            found[key] = value
    return found


_LAYERS = re.compile(r"(^|_)layers?$")


def text_object(config: object) -> object:
    """Return the text part of a transformers config object."""
    while part := next((part for key in TEXT_PARTS if (part := getattr(config, key, None)) is not None), None):
        config = part
    return config


def look(config: Mapping[str, Any], key: str) -> object:
    """Return the field `key`, in which a dot leads into a nested object; None if there is none."""
    if "." not in key:
        return config.get(key)
    outer, inner = key.split(".")
    nested = config.get(outer)
    return nested.get(inner) if isinstance(nested, Mapping) else None


def put(config: dict[str, Any], key: str, value: object) -> None:
    """Set the field `key`, in which a dot leads into a nested object; that is copied, not changed."""
    outer, _, inner = key.partition(".")
    if inner:
        nested = dict(config.get(outer, {}))
        put(nested, inner, value)
        value = nested
    config[outer] = value


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' advice on stderr within the context."""
    names = {"TRANSFORMERS_VERBOSITY": "error", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
