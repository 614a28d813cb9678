"""The fields of a config that may be sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.config_files import MEDIA_PARTS, look, media_fields, same_for_all, text_part
from nbanalyzer.templates.families import FAMILIES, canonical_name, says_no_size

from .observation import values_of

__all__ = ["candidates", "last", "says_which_layer"]


def candidates(subject: Subject) -> dict[str, int]:
    """Return the integer fields that may be sizes, with their values."""
    config = subject.hf_config().to_dict()
    found = dict(_integers(config))
    if subject.reader is not None:
        found |= dict(_beside(config))
        found = {name: value for name, value in found.items() if last(name) not in subject.reader.held}
    found |= dict(_of_family(config))
    # What a class reads and does not keep under any name, such as the heads of some layers; a tower's may be called so.
    own = (last(name) for name in found if name.partition(".")[0] not in MEDIA_PARTS)
    kept = {canonical_name(name) for name in (*config, *own)}
    stated = {name: value for name, value in _integers(subject.config) if last(name) in _NAMED}
    stated = {name: value for name, value in stated.items() if not _is_said_otherwise(subject, name, value)}
    found |= {name: value for name, value in stated.items() if canonical_name(last(name)) not in kept}
    # What is null follows from others; stated, it can be told from them.
    values = values_of(subject)
    if subject.model_class is not None:  # it may have a head of its own
        found |= {name: values[name] for name in ("num_labels",) if name in values}
    for name in ("intermediate_size", "head_dim"):
        if name in values:
            for source in VARIABLES[name].sources:
                if source in config and config[source] is None:
                    found.setdefault(source, values[name])
    return found


def _is_said_otherwise(subject: Subject, path: str, value: int) -> bool:
    """Return whether a config states another value for a field under the name that its class keeps the field by.

    Of an intermediate_size that the class keeps as moe_intermediate_size, transformers takes the first, and who reads
    the config the second. Varied, the first would give formulas in the second, which are wrong at what is stated.
    """
    *parts, name = path.split(".")
    config: Any = subject.hf_config()
    stated: Any = subject.config
    for part in parts:
        config, stated = getattr(config, part, None), stated.get(part, {})  # a key may have a dot itself
    kept = getattr(config, "attribute_map", {}).get(name)
    return type(other := stated.get(kept)) is int and other != value


def _of_family(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the fields of parts, such as a decoder, that a family reads a variable from."""
    family = FAMILIES.get(str(config.get("model_type")))
    for path in (path for paths in (family.sources.values() if family else ()) for path in paths if "." in path):
        if type(value := look(config, path)) is int:
            yield path, value


def _beside(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the fields of what reads images and sound, and those of the whole that stand beside its parts."""
    for name, path, value in media_fields(config):
        if type(value) is int and value > 0 and not (says_no_size(name) or says_which_layer(name) or name in _DEPTHS):
            yield path, value


_DEPTHS = frozenset({"vision_depth", "audio_depth"})
"""Fields that say how many layers there are, beside those that are called so."""


def _integers(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    if text := text_part(config):  # of what stands beside it, such as a vision tower, no variable tells the sizes
        yield from _integers(config[text], f"{prefix}{text}.")
        return
    for name, stated in config.items():
        value = same_for_all(stated) if name in _NAMED else stated
        if isinstance(value, Mapping) and name.endswith("_config") and not prefix:
            yield from (field for field in _integers(value, f"{name}.") if field[0] in _NAMED)
        elif isinstance(value, bool) or says_no_size(name) or says_which_layer(name):
            continue
        elif isinstance(value, int) and value > 0:
            yield prefix + name, value


def last(name: str) -> str:
    """Return a field's name without the parts of the config that it is in."""
    return name.rpartition(".")[2]


_NAMED = frozenset(source for variable in VARIABLES.values() for source in variable.sources)

_NO_SIZE = re.compile(r"layers?$|^_|pattern|interval|period|offset|freq|sparse_step|dense_replace|iters$")
"""Fields that say which layer is what, or the number of repetitions."""


def says_which_layer(name: str) -> bool:
    """Return whether a field may say which layer is what, or the number of repetitions."""
    return bool(_NO_SIZE.search(name))
