"""Which model a config means: its class, the kind of model that is, and which part of it is counted."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbanalyzer.errors import ConfigError, near, quote
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.generate import hf
from nbanalyzer.generate.hf import KINDS, Kind, quiet
from nbanalyzer.templates.config_files import (
    MEDIA_PARTS,
    TEXT_PARTS,
    brought_along,
    essential,
    joined,
    of_repository,
    text_object,
    text_part,
    untyped,
)
from nbanalyzer.templates.foreign import not_taken, said_once
from nbanalyzer.templates.validity import flat

from .backbones import with_backbone
from .heads import has_plain_head, headed
from .kind import is_told_what_to_hide, kind_of, says
from .makers import made_by, maker
from .older import renamed
from .reading import reader_of
from .refusals import refused, unread

__all__ = ["Choice", "choose"]


@dataclass(frozen=True)
class Choice:
    """What is built for a config.

    Attributes:
        config: fields of what is counted, under Hugging Face's names, with ``model_type``.
        kind: how it is run: see `nbanalyzer.generate.model.kind`.
        model_class: the class to build, if it is not the one that transformers files under this kind.
        given: the config as it was given: of a multimodal model, all of it.
        within: what this is a part of that reads images or sound itself, such as an omni model: its class, or type.

    """

    config: Mapping[str, Any]
    kind: Kind
    model_class: type[Any] | None = None
    given: Mapping[str, Any] | None = None
    within: str = ""


def choose(config: Mapping[str, Any], kind: Kind | None = None) -> Choice:
    """Return what a config means: the class that its ``architectures`` name, or the text part of a multimodal model.

    Args:
        config: as people have it.
        kind: the kind of model to build, whatever the config names.

    Raises:
        ConfigError: transformers does not know the model type, or has nothing for it that reads text.

    """
    known_types, config = hf.config_classes(), renamed(config)
    filed: dict[Kind, Mapping[str, str]] = {kind: hf.architectures(kind) for kind in KINDS}
    stated = [name for name in config.get("architectures") or () if isinstance(name, str)]
    model_type, whole = config.get("model_type"), config
    if model_type not in known_types:
        # The code of some repositories is transformers' under another name: the architecture says so.
        model_type = next((found for name in stated if (found := _type_of(name, filed)) in known_types), None)
        if model_type is None:
            raise _unknown(config, known_types)
        whole = {**config, "model_type": model_type}
    _require_code_of_transformers(config, stated)
    if strange := next((name for name in stated if "Vision" in name and hf.exported(name) is None), None):
        raise ConfigError(f"transformers has no {strange}; its {model_type!r} is another model")
    config_class = known_types[model_type]
    whole = with_backbone(said_once(whole, config_class), config_class)
    _require_looked_at(whole, config_class)
    types = {_reads(class_) for name in stated if (class_ := hf.exported(name)) is not None}
    part = None if kind else _text_part(whole, config_class, types)
    if kind is None and (reading := _reading(whole, config_class, stated) or _part_that_reads(whole)):
        return reading
    named = None if kind else _named(stated, filed)
    if part is not None and part.model_type in types:
        config = _without_answer_of_whole(config)
    if named is not None and part is not None and _reads(named) == part.model_type:
        return _of_class(named, part.config, config)
    if named is not None and not _is_for(named, str(model_type)):
        raise ConfigError(
            f"contradicts itself: model_type is {model_type!r}, architectures are {', '.join(stated)}, "
            f"and {named.__name__} is of {_reads(named)!r}"
        )
    if part is not None and (of_part := _part_of(part, named, filed, config)):
        return of_part
    if part is None and named is not None and hf.reads_text(named):
        return _of_class(named, whole)
    for choice in (kind,) if kind else _order(whole, config_class, filed):
        if name := filed[choice].get(str(model_type), ""):
            return _decoder(whole, config_class, choice, name) or Choice(whole, choice)
    own = next((class_ for name in stated if (class_ := hf.exported(name)) is not None), None)
    if own is not None and _reads(own) == model_type and hf.reads_text(own):  # filed under what it is a part of
        return _of_class(own, whole)
    if makes := made_by(named or maker(str(model_type))):
        raise ConfigError(makes)
    if named is not None:
        raise unread(named, str(model_type))
    raise ConfigError(f"transformers has no language model for model_type {model_type!r}")


def _reading(whole: Mapping[str, Any], config_class: Any, stated: list[str]) -> Choice | None:
    """Return the model of a config that reads images or sound, if it is known how; None if it reads text alone.

    A config that states a text part and nothing beside it means that part. One whose class is not transformers', which
    has the type under another name, means transformers' own if it states all parts. Of one that is trained on what is
    hidden from it, as its trainer says, it is the encoder.
    """
    has_parts = any(isinstance(whole.get(key), Mapping) for key in (*MEDIA_PARTS, *_TOWERS))
    is_whole = bool(text_part(whole)) and has_parts
    has_parts |= "patch_size" in whole  # Fuyu's, which has no tower
    if text_part(whole) and not has_parts:
        return None
    found = next((class_ for name in stated if (class_ := hf.exported(name)) is not None), None)
    if not stated or (found is None and is_whole):
        found = hf.whole_class(str(whole["model_type"]))
    if found is None or not _is_for(found, str(whole["model_type"])):
        return None
    within = ""
    if is_told_what_to_hide(found) and (encoder := hf.filed_class(str(whole["model_type"]))):
        found, within = encoder, found.__name__
        whole = {**whole, "architectures": [encoder.__name__]}
    config = _made(config_class, whole)
    if reader_of(found, config) is None:
        return None
    if not text_part(whole) and text_part(parts := config.to_dict()):  # an older config, which states them beside it
        kept = {key: value for key, value in essential(parts).items() if key != "num_labels"}
        whole = {**kept, "model_type": whole["model_type"], **({"architectures": stated} if stated else {})}
    return replace(_of_class(found, whole), within=within)


_TOWERS = ("encoder_config", "vq_config", "backbone_config")
"""What configs call a tower, beside `MEDIA_PARTS`."""


def _part_that_reads(whole: Mapping[str, Any]) -> Choice | None:
    """Return the part that reads images or sound, of a model that speaks beside, or embeds; None if none does.

    What makes sound of an omni model's text, its talker and its codec, is run by another loop and takes no part in it.
    What makes an embedding of each position's state, as of ColPali's, is one short product.
    """
    embeds, known = isinstance(whole.get("vlm_config"), Mapping), hf.config_classes()
    part = whole.get("vlm_config" if embeds else text_part(whole), {})
    if not (embeds or text_part(part)) or str(part.get("model_type")) not in known:
        return None
    stated, own = (list(map(str, one.get("architectures") or ())) for one in (whole, part))
    if embeds and (without_logits := hf.filed_class(str(part["model_type"]))):
        own = [without_logits.__name__]
    found = _reading(part, known[part["model_type"]], own)
    if found is None or found.model_class is None:
        return None
    config = {**found.config, "architectures": [found.model_class.__name__]}  # some files have it under another name
    return replace(found, config=config, within=next(iter(stated), str(whole["model_type"])))


def _built(config_class: Any, whole: Mapping[str, Any]) -> Any | None:
    """Return the config as its class makes it; None if the class refuses it: building the model will say why."""
    try:
        return _made(config_class, whole)
    except ConfigError:
        return None


def _made(config_class: Any, whole: Mapping[str, Any]) -> Any:
    """Return the config as its class makes it, without what it says of labels and of loading.

    Raises:
        ConfigError: the class refuses it.

    """
    try:
        with quiet():
            return config_class(**{key: value for key, value in essential(whole).items() if key != "model_type"})
    except Exception as error:  # noqa: BLE001 - whatever the checks of a config raise
        raise refused(error) from None


def _require_code_of_transformers(config: Mapping[str, Any], stated: list[str]) -> None:
    """Raise if a config's class is one of its repository's code that transformers has not, of a type that it has.

    Where the type has the class's name (EXAONE 3.5's), transformers has taken the model up under another class.
    """
    model_type = joined(str(config.get("model_type")).replace("-", ""))
    own = brought_along(config) or next(
        (name for name in stated[:1] if of_repository(config) and not joined(name).startswith(model_type)), ""
    )
    if own and not hf.has_class(own):
        raise ConfigError(
            f"auto_map has {own}, code of its repository, which is never run here; transformers' "
            f"{config.get('model_type')!r} is another model"
        )


def _require_looked_at(whole: Mapping[str, Any], config_class: Any) -> None:
    """Raise if a config without a text part states the width of one where its class, which has one, does not look."""
    built = None if text_part(whole) else _built(config_class, whole)
    if built is None or text_object(built) is built:
        return
    width = next((size for key in VARIABLES["hidden_size"].sources if type(size := whole.get(key)) is int), None)
    if width in (None, getattr(text_object(built), "hidden_size", None)):
        return
    if problem := not_taken(whole, built):
        raise ConfigError(f"{problem}: it is in another tool's format; transformers' states a text_config")


def _decoder(whole: Mapping[str, Any], config_class: Any, kind: Kind, name: str) -> Choice | None:
    """Return the model of a part whose class is filed under the whole by its name, such as a decoder; None if none.

    What reads text is found by the name of its part.
    """
    model_class = hf.exported(name)
    parts = [key for key in getattr(config_class, "sub_configs_defaults", None) or () if key not in TEXT_PARTS]
    if model_class is None or not parts or _reads(model_class) in {"", whole["model_type"]}:
        return None
    built = _made(config_class, whole)
    for key in parts:
        part: Any = getattr(built, key, None)
        if getattr(part, "model_type", "") == _reads(model_class):
            return Choice({**essential(part.to_dict()), "model_type": part.model_type}, kind, model_class, given=whole)
    return None


def _without_answer_of_whole(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config whose text part alone says what is tied, as transformers reads it; raise if they differ."""
    key = "tie_word_embeddings"
    whole, part = config.get(key), flat(config).get(key)
    if None not in (whole, part) and whole != part:
        raise ConfigError(f"contradicts itself: {key} is {quote(whole)}, that of its text part {quote(part)}")
    return {name: value for name, value in config.items() if name != key}


def _of_class(model_class: type[Any], config: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Choice:
    return Choice(config, kind_of(model_class, config), model_class, given)


def _named(stated: list[str], filed: Mapping[Kind, Mapping[str, str]]) -> type[Any] | None:
    """Return the class that a config names; None if transformers has none, or files it as a language model."""
    if any(name in names.values() for name in stated for names in filed.values()):
        return None
    return next((found for name in stated if (found := hf.exported(name)) is not None), None)


def _reads(model_class: type[Any]) -> str:
    """Return the model type of the configs that a class is built from."""
    return str(getattr(getattr(model_class, "config_class", None), "model_type", ""))


def _is_for(model_class: type[Any], model_type: str) -> bool:
    """Return whether a class is built from configs of a model type: its own, or one that has no class of its own."""
    return _reads(model_class) == model_type or hf.whole_class(model_type) is model_class


def _type_of(name: str, filed: Mapping[Kind, Mapping[str, str]]) -> str:
    """Return the model type that a class of transformers is for, "" if it has no such class."""
    of_filed = next((type_ for names in filed.values() for type_, one in names.items() if one == name), "")
    found = None if of_filed else hf.exported(name)
    return _reads(found) if found is not None else of_filed


def _order(config: Mapping[str, Any], config_class: Any, filed: Mapping[Kind, Any]) -> tuple[Kind, ...]:
    """Return which kind of model a config means, the likeliest first."""
    stated = [str(name) for name in config.get("architectures") or ()]
    by_name = tuple(kind for kind, names in filed.items() if any(name in names.values() for name in stated))
    if says(config, config_class, "is_encoder_decoder"):
        return (*by_name, "seq2seq", "causal", "masked")
    # A BERT is in both mappings: it is a decoder if it says so.
    if config.get("model_type") in filed["masked"] and not says(config, config_class, "is_decoder"):
        return (*by_name, "masked", "causal", "seq2seq")
    return (*by_name, "causal", "seq2seq", "masked")


@dataclass(frozen=True)
class _Part:
    """The text part of a multimodal model.

    Attributes:
        config: its own, as that of a model.
        model_type: its own.
        around: the model type of what it is directly a part of.

    """

    config: Mapping[str, Any]
    model_type: str
    around: str


def _text_part(config: Mapping[str, Any], config_class: Any, types: Collection[str]) -> _Part | None:
    """Return the text part of a multimodal model, None if it is none; the default one if it is not stated.

    If its type is one of those whose classes the config names, the whole has no say in it.
    """
    found, known = None, hf.config_classes()
    while text_part(config) or any(key in (getattr(config_class, "sub_configs", None) or ()) for key in TEXT_PARTS):
        stated = config.get(text_part(config))
        try:
            with quiet():
                built = config_class(
                    **copy.deepcopy({key: value for key, value in config.items() if key != "model_type"})
                )
        except Exception:  # noqa: BLE001 - whatever the checks of a config raise; building the model will say what
            built = None
        part = next((config_part for key in TEXT_PARTS if (config_part := getattr(built, key, None)) is not None), None)
        if stated is None:
            if part is None:
                return found
            stated = essential(part.to_dict())
        model_type = stated.get("model_type", "")
        if part is not None and model_type not in known:
            model_type = part.model_type  # it may be called otherwise, or follow from the whole
        if model_type not in known:
            return found
        # The whole ties its head to the text part's embedding, whatever that says; unless the text part has the head.
        ties = config.get("tie_word_embeddings", getattr(built, "tie_word_embeddings", None))
        around = hf.multimodal(str(config.get("model_type")))
        if around is not None and not has_plain_head(around):
            ties = stated.get("tie_word_embeddings", ties)
        shared = {} if ties is None or model_type in types else {"tie_word_embeddings": ties}
        found = _Part({**stated, **shared, "model_type": model_type}, model_type, str(config.get("model_type")))
        config, config_class = {**stated, "model_type": model_type}, known[model_type]
    return found


def _part_of(
    part: _Part, named: type[Any] | None, filed: Mapping[Kind, Mapping[str, str]], given: Mapping[str, Any]
) -> Choice | None:
    """Return how a text part is counted: as a model of its own, or with the head that the whole puts on it."""
    language: tuple[Kind, ...] = ("causal", "masked")
    if says(part.config, hf.config_classes()[part.model_type], "is_encoder_decoder"):
        language = ("seq2seq", *language)
    bare = named is not None and named.__name__.endswith("Model")  # without any head
    if not bare and (kind := next((one for one in language if part.model_type in filed[one]), None)):
        return Choice(part.config, kind, given=given)
    whole = named if named is not None and _reads(named) == part.around else hf.multimodal(part.around)
    text: Any = hf.text_class(part.model_type, whole)
    if text is None or whole is None or not (bare or has_plain_head(whole)):
        return None
    return _of_class(text if bare else headed(text), part.config, given)


def _unknown(config: Mapping[str, Any], known: Any) -> ConfigError:
    model_type = config.get("model_type")
    if model_type is None:
        return ConfigError(untyped(config))
    if config.get("auto_map"):
        own = _TAKEN_UP.get(str(model_type))
        has = f"has the model as {own!r}, with a config of its own: give that" if own else "itself has no such model"
        return ConfigError(
            f"model_type {model_type!r} needs code from its repository, which is never run here; transformers {has}"
        )
    close = near(str(model_type), list(known))
    hint = f", did you mean {close[0]!r}?" if close else ""
    return ConfigError(f"transformers knows no model_type {model_type!r}{hint}")


_TAKEN_UP = {"minimax_m1": "minimax", "minimax_text_01": "minimax", "phi4mm": "phi4_multimodal"}
"""Model types of repositories' own code → transformers' for the model, whose config is not another's in other words."""
