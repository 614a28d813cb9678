"""Which weights of a model are stored in which scheme: as its config says, or as it is asked for.

Raises `ConfigError` for what is not understood: weights are never taken to have 16 bits because nobody knows better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec

from nbanalyzer.errors import ConfigError, quote

from .choices import Choice, Quantisation
from .config_files import MEDIA_PARTS, TEXT_PARTS
from .schemes import NONE, scheme_named

__all__ = ["FIELDS", "asked_for", "quantisation_in", "stated_in"]

FIELDS = ("quantization_config", "quantization")
"""Where a config says it: transformers' name, and MLX's."""
OF_TEXT = "only_of_text_part"
"""What is added to it where a text part beside a tower says it, which goes no further."""
MOST = 1_000_000  # bytes of what is stated: the longest lists name every layer's modules


@lru_cache(maxsize=256)
def asked_for(name: str) -> Quantisation | None:
    """Return what a scheme does to any model, by its name; None for ``"none"``.

    Raises:
        InputError: there is no such scheme.

    """
    if name == NONE:
        return None
    scheme = scheme_named(name)
    file = scheme.file
    left = Choice(None, file.leaves_out, "glob")
    taken = Choice(scheme, roles=file.roles, only_in_layers=file.only_in_layers)
    return Quantisation((left, taken) if file.leaves_out else (taken,), scheme)


def stated_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config that say how weights are stored, those of its text part among them."""
    found = {name: config[name] for name in FIELDS if config.get(name)}
    if found:
        others = [part[name] for part in _parts(config) for name in FIELDS if part.get(name)]
        said = [one if not isinstance(one, Mapping) else {**one, OF_TEXT: True} for one in found.values()]
        for other in others:
            if (other if not isinstance(other, Mapping) else {**other, OF_TEXT: True}) not in said:
                raise ConfigError("quantization_config of the whole and of the text part say different things")
        return found | ({"expert_dtype": config["expert_dtype"]} if config.get("expert_dtype") else {})
    inside = next((stated_in(part) for part in _parts(config) if any(part.get(name) for name in FIELDS)), {})
    if not any(isinstance(config.get(name), Mapping) for name in MEDIA_PARTS):
        return inside
    return {name: {**one, OF_TEXT: True} if isinstance(one, Mapping) else one for name, one in inside.items()}


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for name in TEXT_PARTS if isinstance(part := config.get(name), Mapping)]


def quantisation_in(config: Mapping[str, Any], where: str = "") -> Quantisation | None:
    """Return how a config says that weights are stored; None if it says nothing. What its text part says is of that.

    Args:
        config: under Hugging Face's names, or MLX's.
        where: the config's file or model, for messages.

    Raises:
        ConfigError: a method that is not known, lists that contradict each other, or values that cannot be.

    """
    if not any(name in config for name in FIELDS) and not any(name in config for name in TEXT_PARTS):
        return None  # nearly always
    try:
        stated = stated_in(config)
        if not stated:
            return None
        try:
            content = msgspec.json.encode(stated)  # in its order: some lists go by the first that fits
        except (TypeError, ValueError, RecursionError):
            raise ConfigError("quantization_config is no plain data") from None
        if len(content) > MOST:
            raise ConfigError(f"quantization_config has {len(content):,} bytes, and {MOST:,} are the most")
        found = _read(content, str(config.get("model_type") or ""), any(name in config for name in TEXT_PARTS))
        if not any(isinstance(one, Mapping) and OF_TEXT in one for one in stated.values()):
            return found
        return replace(found, choices=tuple(replace(one, only_in_text=True) for one in found.choices))
    except ConfigError as error:
        raise ConfigError(error.problem, error.where or where) from None


@lru_cache(maxsize=64)
def _read(content: bytes, model_type: str, has_parts: bool) -> Quantisation:
    stated = msgspec.json.decode(content)
    both = [stated[name] for name in FIELDS if name in stated]
    for one in both:
        if not isinstance(one, Mapping):
            raise ConfigError(f"quantization_config is an object, not {quote(one)}")
    if len(both) == 2 and both[0].get("quant_method") in {None, "mlx"} and both[0] != both[1]:
        raise ConfigError("quantization_config and quantization say different things")
    is_mlx = "quantization" in stated and (len(both) == 1 or both[0].get("quant_method") in {None, "mlx"})
    fields = {**both[-1], "quant_method": both[-1].get("quant_method", "mlx")} if is_mlx else dict(both[0])
    if "expert_dtype" in stated:
        fields["expert_dtype"] = stated["expert_dtype"]
    from .methods import read

    found = read(fields, model_type)
    prefixes = ("language_model.model.", "model.language_model.") if has_parts else ()
    return replace(found, is_stated=True, prefixes=prefixes)
