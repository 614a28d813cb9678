"""From a model's config to the values of the global variables.

Every family names its sizes its own way and leaves some to its code. The names are a table in
`nbanalyzer.formulas.variables`, what the code adds is one in `nbanalyzer.templates.families`.

>>> config = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_inner": None, "vocab_size": 50257}
>>> params = extract_model_params(config)
>>> params["intermediate_size"], params["num_kv_heads"], params["head_dim"], params["tie_word_embeddings"]
(3072, 12, 64, 1)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from nbanalyzer.errors import ConfigError, InputError, UnknownNameError, quote, shorten
from nbanalyzer.formulas.variables import VARIABLES, Variable

from .config_files import (
    config_file,
    fields_of,
    look,
    media_fields,
    object_of,
    put,
    read_config,
    same_for_all,
    text_fields,
    text_object,
    text_path,
    with_labels,
)  # fmt: skip
from .families import _CANONICAL, FAMILIES, STRUCTURE, WHICH_LAYERS, Family, says_no_size, speaks_of_cost
from .foreign import not_taken

__all__ = ["LARGEST", "ModelParams", "extract_model_params", "with_overrides"]

LARGEST = 2**40  # of any size; a larger one is a typing error
MOST_LISTED = 10_000  # layers or labels that transformers may make lists of

_ALWAYS = ("hidden_size", "num_layers", "vocab_size")
_HEADS = ("num_heads", "num_kv_heads", "head_dim")
_POSITIVE = frozenset({*_ALWAYS, *_HEADS, "intermediate_size"})
_MLA_HEAD = ("qk_nope_head_dim", "qk_rope_head_dim")
_SILENT = (None, "auto")  # values of a field that leave it to the family's code
_PLAIN = Variable("", "config", "", "a field that the registry has no row for", "")


class ModelParams(dict[str, int]):
    """The values of a model's global variables: canonical name → int, other integer fields under their own names.

    Attributes:
        model_type: as the config states it, ``""`` if it does not.
        unknown: config keys that nbanalyzer does not know, with names that may concern cost.
        defaults: variables that the config does not state, by transformers' default.
        note: on images or sound that are among the values, "" if none was made of them.

    """

    def __init__(
        self,
        values: Mapping[str, int],
        model_type: str = "",
        unknown: tuple[str, ...] = (),
        defaults: tuple[str, ...] = (),
    ) -> None:
        super().__init__(values)
        self.model_type, self.unknown, self.defaults = model_type, unknown, defaults
        self.note = ""


def extract_model_params(
    config: object, overrides: Mapping[str, int] | None = None, required: Collection[str] | None = None
) -> ModelParams:
    """Read a model's global variables from its config.

    `config` is a transformers config object, a mapping, or the path of a ``config.json`` or of its folder.
    Of a multimodal config, the text part is read; null is the same as absent. In an encoder-decoder model,
    num_layers counts the encoder's layers and num_decoder_layers the decoder's.

    hidden_size, num_layers and vocab_size must be known of every model; num_heads, num_kv_heads and head_dim
    unless it is a state-space model; intermediate_size unless it has experts. Where a mapping or a file lacks
    one of them, transformers' class for its model_type is asked (this imports transformers, never the network).
    With latent attention (MLA), head_dim is that of a whole query or key: qk_nope_head_dim + qk_rope_head_dim.

    `overrides` are values under canonical or Hugging Face names. They replace the config's before anything is
    derived: another hidden_size of GPT-2 is another intermediate_size too.

    `required` are the variables that must be found, instead of those that every model has: a user's template may
    need few.

    Raises:
        ConfigError: the config cannot be read, lacks a value, or contradicts itself.
        UnknownNameError: an override names nothing that this model has.
        InputError: an override is not a size, or is an option of the analysis.

    """
    reader = _Reader.open(config)
    reader.required = required
    if overrides:
        reader.override(overrides)
    return reader.read()


def with_overrides(config: object, overrides: Mapping[str, int]) -> Mapping[str, Any]:
    """Return the fields of a config's text part with `overrides` in their places, see `extract_model_params`."""
    reader = _Reader.open(config)
    reader.override(overrides)
    return reader.text


@dataclass(slots=True)
class _Reader:
    """The reading of one config.

    Attributes:
        text: the fields of the text part: a copy, into which overrides and defaults are written.
        model_type: of the whole config.
        where: the config's name in errors.
        inside: the path of the part that its fields are in.
        family: what the model's code adds.
        source: the text part's transformers object, given or built for its defaults; else None.
        asked: whether a `source` has been looked for: then the rules may assume what is usual.
        overridden: variables whose values the user gave.
        required: variables that must be found; None for those that every model of its kind has.
        beside: sizes of what reads images and sound, in a multimodal config.

    """

    text: dict[str, Any]
    model_type: str
    where: str
    inside: str
    family: Family
    source: object = None
    asked: bool = False
    overridden: frozenset[str] = frozenset()
    required: Collection[str] | None = None
    beside: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, config: object) -> _Reader:
        """Take `config` in any of its three forms."""
        if isinstance(config, str | os.PathLike):
            path = config_file(config)
            return cls.of(read_config(path), str(path))
        if isinstance(config, Mapping):
            return cls.of(config)
        if isinstance(config, type) or not callable(getattr(config, "to_dict", None)):
            raise InputError(f"a config is a transformers config, a mapping or a path, not {shorten(repr(config))}")
        reader = cls.of(fields_of(config))
        reader.source, reader.asked = text_object(config), True
        reader.fill(name for name in (*_ALWAYS, "num_heads", "num_kv_heads") if reader.stated(name) is None)
        return reader

    @classmethod
    def of(cls, whole: Mapping[str, Any], where: str = "") -> _Reader:
        """Return a reader of the text part of `whole`."""
        text = text_fields(whole)
        for stated in (whole.get("model_type"), text.get("model_type")):
            if not isinstance(stated, str | None):
                raise ConfigError(f"model_type is {quote(stated)}: a name is needed", where)
        name = str(whole.get("model_type") or text.get("model_type") or "")
        part_type = str(text.get("model_type") or name).removesuffix("_text")
        family = FAMILIES.get(part_type, Family(even_heads=False))
        where = where or f"{name} config".lstrip()
        reader = cls(dict(with_labels(text)), name, where, text_path(whole), family)
        if whole.get("tie_word_embeddings") is not None:  # the whole model ties, whatever its text part states
            reader.text["tie_word_embeddings"] = whole["tie_word_embeddings"]
        beside = ((name, value) for name, _, value in media_fields(whole) if not says_no_size(name))
        reader.beside = {name: value for name, value in beside if type(value) is int}
        if text.get("use_sliding_window") is False:  # then transformers ignores the window's size
            reader.text |= dict.fromkeys({"sliding_window", "max_window_layers"} & text.keys())
        return reader

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the config fields that the variable `name` is read from in this family."""
        return self.family.sources.get(name, VARIABLES[name].sources)

    # ---- reading

    def read(self) -> ModelParams:
        """Return all values, derived ones included."""
        values = self.variables()
        filled: tuple[str, ...] = ()
        if missing := self.missing(values):
            self.source, self.asked = self.source or text_object(self.build()), True
            if problem := not_taken(self.text, self.source):
                raise self.error(problem)
            self.fill(missing)
            values = self.variables()
            filled = tuple(name for name in missing if self.stated(name) is not None)
        if missing := self.missing(values):
            looked = (f"{name} (looked for {', '.join(self.sources(name))})" for name in missing)
            raise self.error(f"no value for {'; '.join(looked)}")
        heads, groups = values.get("num_heads", 0), values.get("num_kv_heads", 0)
        if heads and groups and heads % groups:
            raise self.error(f"num_heads {heads} is not a multiple of num_kv_heads {groups}")
        return ModelParams(values | self.other_integers(), self.model_type, self.unknown(), filled)

    def missing(self, values: Mapping[str, int]) -> list[str]:
        """Return the required variables that `values` lacks."""
        if self.required is not None:
            return [name for name in VARIABLES if name in self.required and name not in values]
        heads = _HEADS if self.family.attention else ()
        feed_forward = () if "num_experts" in values else ("intermediate_size",)
        return [name for name in (*_ALWAYS, *heads, *feed_forward) if name not in values]

    def variables(self) -> dict[str, int]:
        """Return the stated variables, and those that follow by the family's rules."""
        values = {name: value for name in VARIABLES if (value := self.stated(name)) is not None}
        for name, rule in _RULES.items():
            if name not in self.overridden and (value := rule(self, values)) is not None:
                values[name] = value
        return values

    def stated(self, name: str) -> int | None:
        """Return the value that the config states for the variable `name`, else None."""
        stated: dict[str, int] = {}
        for key in self.sources(name):
            value = look(self.text, key)
            by_layer = name in WHICH_LAYERS or name == "conv_kernel"  # of several convolutions
            listed = isinstance(value, str | list | tuple)
            if "vocab_size" not in self.text and listed and isinstance(same_for_all(value), str | list | tuple):
                continue  # what reads images states sizes stage by stage
            if value not in _SILENT and not (by_layer and listed):
                stated[key] = self.size(key, value, VARIABLES[name])
        if len(set(stated.values())) > 1:
            raise self.error(f"contradicts itself: {', '.join(f'{key} is {value}' for key, value in stated.items())}")
        return next(iter(stated.values()), None)

    def size(self, key: str, value: object, variable: Variable) -> int:
        """Return the config's `value` as an int; raise if it is none."""
        if isinstance(value, bool) and variable.unit == "0 or 1":
            return int(value)
        value = same_for_all(value)
        if problem := variable.refuses(value, least=int(variable.name in _POSITIVE), most=LARGEST):
            raise self.error(f"{self.inside}{key} is {quote(value)}: {problem}")
        assert isinstance(value, int)
        return value

    def other_integers(self) -> dict[str, int]:
        """Return the integer fields that are no registered variable's."""
        integers = {key: value for key, value in self.text.items() if type(value) is int}
        own = {key: value for key, value in integers.items() if key not in _CANONICAL and not says_no_size(key)}
        return {**self.beside, **own}

    def unknown(self) -> tuple[str, ...]:
        """Return the unknown keys with names that may concern cost."""
        own = {key for keys in self.family.sources.values() for key in keys} | {self.family.ffn_key}
        return tuple(
            key
            for key, value in self.text.items()
            if isinstance(value, int | list | tuple | Mapping)
            and not isinstance(value, bool)
            and value not in ([], (), {})
            and speaks_of_cost(key)
            and not (key in _CANONICAL or key in STRUCTURE or key in own or says_no_size(key))
        )

    # ---- the rules: each returns a derived value, None to leave the variable as it is

    def feed_forward(self, values: Mapping[str, int]) -> int | None:
        """Return a multiple of hidden_size."""
        key = self.family.ffn_key
        factor = self.family.ffn if self.text.get(key) is None else self.size(key, self.text[key], _PLAIN)
        if "intermediate_size" in values or not factor or "hidden_size" not in values:
            return None
        return factor * values["hidden_size"]

    def kv_heads(self, values: Mapping[str, int]) -> int | None:
        """Return 1 if all query heads share one; the number of query heads if the family never groups them."""
        one = self.family.one_kv_head
        if one is not None and self.text.get("multi_query", one) and not self.text.get("new_decoder_architecture"):
            return 1
        if "num_kv_heads" in values or not self.family.attention:
            return None
        # A transformers object without a number of key and value heads has one for each query head.
        return values.get("num_heads") if self.source is not None or not self.family.grouped else None

    def head_size(self, values: Mapping[str, int]) -> int | None:
        """Return the sum of an MLA head's parts; else hidden_size / num_heads."""
        if all(part in values for part in _MLA_HEAD):
            return sum(values[part] for part in _MLA_HEAD)
        even = self.family.attention and (self.family.even_heads or self.asked)
        if "head_dim" in values or not even or not {"hidden_size", "num_heads"} <= values.keys():
            return None
        size, rest = divmod(values["hidden_size"], values["num_heads"])
        if rest and self.required is not None and "head_dim" not in self.required:
            return None
        if rest:
            sizes = f"hidden_size {values['hidden_size']} is not a multiple of num_heads {values['num_heads']}"
            raise self.error(f"{sizes}, and no head_dim is given")
        return size

    def tied(self, values: Mapping[str, int]) -> int | None:
        """Return the family's default."""
        return None if "tie_word_embeddings" in values else self.family.tied

    def step_rank(self, name: str, values: Mapping[str, int]) -> int | None:
        """Return a 16th of hidden_size, rounded up, if the family derives `name` so."""
        if name in values or name != self.family.step_rank or "hidden_size" not in values:
            return None
        return -(-values["hidden_size"] // 16)

    # ---- overriding

    def override(self, overrides: Mapping[str, int]) -> None:
        """Replace the config's values by `overrides`, under the names that the config uses."""
        self.forget_derived()
        given: dict[str, str] = {}
        for name, value in overrides.items():
            target = self.target(name)
            if given.setdefault(target, name) != name:
                raise InputError(f"{given[target]} and {name} are the same variable: give one of them")
            variable = VARIABLES.get(target, _PLAIN)
            if problem := variable.refuses(value, least=int(target in _POSITIVE), most=LARGEST):
                raise InputError(f"{name} = {quote(value)}: {problem}")
            sources = self.sources(target) if target in VARIABLES else (target,)
            for key in [key for key in sources if look(self.text, key) is not None] or sources[:1]:
                put(self.text, key, value)
        self.overridden = frozenset(given)

    def target(self, name: str) -> str:
        """Return the variable or config field that an override called `name` means."""
        own = {key: variable for variable, keys in self.family.sources.items() for key in keys}
        target = own.get(name) or _CANONICAL.get(name, name)
        if (known := VARIABLES.get(target)) and known.kind in {"runtime", "convention"}:
            raise InputError(f"{name} is not part of a model: give it as an option of its own")
        if target == "has_bias":
            raise InputError("has_bias differs from layer to layer: it is set in the template")
        if target == "head_dim" and all(part in self.text for part in _MLA_HEAD):
            raise InputError(f"head_dim is {' + '.join(_MLA_HEAD)} in this model: give these")
        held = (name for name in VARIABLES if any(key in self.text for key in self.sources(name)))
        choices = dict.fromkeys((*_ALWAYS, *_HEADS, "intermediate_size", *held, *self.other_integers()))
        if target not in choices:
            raise UnknownNameError("model variable", name, choices)
        return target

    def forget_derived(self) -> None:
        """Drop the values that the config's class derived itself, so that they follow the overrides."""
        if self.source is None:
            return
        stated = {name: value for name in VARIABLES if (value := self.stated(name)) is not None}
        for name, rule in _RULES.items():
            rest = {variable: value for variable, value in stated.items() if variable != name}
            for key in self.sources(name):
                if key in self.text and getattr(type(self.source), key, None) in _SILENT:
                    with suppress(ConfigError):  # no rule gives this value
                        if self.text[key] == rule(self, rest):
                            del self.text[key]

    # ---- transformers

    def build(self) -> object:
        """Return transformers' config object for these fields, None if it knows no such model."""
        for key, value in self.text.items():
            if ("layers" in key or key == "num_labels") and isinstance(value, int) and value > MOST_LISTED:
                raise self.error(
                    f"{key} is {quote(value)}: transformers, asked for a size that is missing, lists them all"
                )
        try:
            return object_of(self.text)
        except ConfigError as error:
            raise self.error(error.problem) from None

    def fill(self, missing: Iterable[str]) -> None:
        """Copy the `missing` variables from the transformers object, as far as it has them."""
        fields = fields_of(self.source)
        for name in missing:
            keys = self.sources(name)
            # Attributes come second: some are computed, and some cannot be read where layers differ.
            values = chain((look(fields, key) for key in keys), (getattr(self.source, key, None) for key in keys))
            if (value := next((value for value in values if value is not None), None)) is not None:
                put(self.text, keys[0], value)

    def error(self, problem: str) -> ConfigError:
        """Return the error for a problem of this config."""
        return ConfigError(problem, self.where)


_RULES: Mapping[str, Callable[[_Reader, Mapping[str, int]], int | None]] = {
    "intermediate_size": _Reader.feed_forward,
    "num_kv_heads": _Reader.kv_heads,
    "head_dim": _Reader.head_size,
    "tie_word_embeddings": _Reader.tied,
    "time_step_rank": lambda reader, values: reader.step_rank("time_step_rank", values),
    "mamba_dt_rank": lambda reader, values: reader.step_rank("mamba_dt_rank", values),
}


def integer_fields(config: Mapping[str, Any]) -> frozenset[str]:
    """Return the integer fields that are variables under their own names."""
    return frozenset(_Reader.of(config).other_integers())
