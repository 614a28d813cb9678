"""The inputs of `nbanalyzer.generate` and `nbanalyzer.verify`, their checks, and the results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from nbanalyzer.errors import ConfigError, InputError, NBAnalyzerError, quote, shorten
from nbanalyzer.files import convert
from nbanalyzer.generate.check.equality import checked
from nbanalyzer.generate.check.oracle import parameters
from nbanalyzer.generate.model.blame import values_named
from nbanalyzer.generate.model.kind import kind_of
from nbanalyzer.generate.model.makers import made_by
from nbanalyzer.generate.model.subject import NeedsDataError, Subject, UnrunnableError
from nbanalyzer.generate.model.towers import require_packages
from nbanalyzer.generate.model.values import require_bounded
from nbanalyzer.generate.probe.fields import last, says_which_layer
from nbanalyzer.generate.write.template import build_template, run_once
from nbanalyzer.progress import part_of
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config_files import (
    MEDIA_PARTS,
    TEXT_PARTS,
    as_mapping,
    essential,
    text_fields,
    text_object,
    text_part,
)
from nbanalyzer.templates.families import canonical_name, says_no_size
from nbanalyzer.templates.foreign import not_taken
from nbanalyzer.templates.quantisation import stated_in
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.validation import check_names

from . import hf
from .check import verification
from .deadline import VARIABLE, Expired, Job, TimeLimitError
from .hf import KINDS

__all__ = ["MAX_LAYERS", "GenerationError", "count_parameters", "generate", "subject_of", "verify"]

MAX_LAYERS = 1000  # that a model may have to be traced: all of them are built once, and run to be checked

BUILDING = 0.8  # the part of the work that is done when the check begins


class GenerationError(NBAnalyzerError):
    """A model that the generator fails on: a gap of its own, or of the model's code; its cause is what Python said."""


def generate(model: object, config: object, model_id: str, job: Job) -> ModelTemplate:
    """Return a model's template, traced and checked; see `nbanalyzer.generate`."""
    check_names(ModelTemplate(model_id=model_id))
    if isinstance(model, type) or hasattr(model, "named_parameters"):
        return _generated(model, config, model_id, job)
    with values_named(_fields(model)[0], _try):
        return _generated(model, config, model_id, job)


def _try(config: Mapping[str, Any]) -> None:
    """Do what a template begins with."""
    subject, _ = subject_of(config)
    _require_taken(subject)
    with suppress(NeedsDataError):
        run_once(subject)


def _generated(model: object, config: object, model_id: str, job: Job) -> ModelTemplate:
    job.stage = "reading the config"  # too short to be reported: no progress bar for an unknown name
    with _reported(model_id, job):
        subject, model_id = subject_of(model, config, model_id)
    with _reported(model_id, job):
        _require_taken(subject)
        with part_of(0, BUILDING), _sizes_named(subject), _makers_named(subject):
            template = build_template(subject, model_id)
        job.tell("checking", BUILDING)
        with part_of(BUILDING, 1):
            template, record = checked(template, subject)
    job.tell("done", 1)
    stated = {} if isinstance(model, type) or hasattr(model, "named_parameters") else stated_in(_fields(model)[0])
    provenance = {**template.provenance, **record}
    return msgspec.structs.replace(template, config={**template.config, **stated}, provenance=provenance)


def count_parameters(config: Mapping[str, Any], *, whole: bool = False) -> int:
    """Return the parameters of a config's model; see `nbanalyzer.generate`."""
    require_packages(config, whole=whole)
    subject, _ = subject_of(config)
    _require_taken(subject)
    return parameters(subject.build())


def verify(
    model: object, model_class: type[Any] | None, random_configs: int, job: Job, ranks: tuple[int, int] = (1, 1)
) -> verification.Verification:
    """Return the comparison of a template with PyTorch; see `nbanalyzer.verify`."""
    tp, ep = ranks
    for name, value in (("tp", tp), ("ep", ep)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is a whole number above 0, not {quote(value)}")
    if ep not in {1, tp}:
        raise InputError(f"ep is 1 or {tp}, as tp is, not {ep}: in other groups ranks have different tokens")
    if not isinstance(model, ModelTemplate | Mapping):
        raise InputError(f"verify takes a name, a path or a template, not {quote(model)}")
    template = model if isinstance(model, ModelTemplate) else convert(model, ModelTemplate, "template")
    template = catalog.completed(template)
    if not template.config:
        raise ConfigError("the template has no config, so that there is no model to compare it with", template.model_id)
    _require_depth(template.config)
    with _reported(template.model_id, job):
        require_packages(template.config, whole=template.reads is not None)
    subject = Subject.of(template.config) if model_class is None else _own(model_class, template.config)
    with _reported(template.model_id, job):
        return verification.verify(template, subject, random_configs=random_configs, tp=tp, ep=ep)


@contextmanager
def _reported(model_id: str, job: Job) -> Iterator[None]:
    """Say in one line of which model what is done inside fails, and in which stage of the job."""
    try:
        yield
    except Expired:
        raise TimeLimitError(
            f"{model_id or 'model'}: no template after {job.seconds:g} s of work, the last of it {job.stage}; "
            f"the environment variable {VARIABLE} allows more seconds"
        ) from None
    except ConfigError as error:
        raise ConfigError(error.problem, error.where or model_id) from None
    except NBAnalyzerError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {shorten(' '.join(str(error).split()), 160)}"
        raise GenerationError(f"{model_id or 'model'}: {job.stage} failed with {problem}") from error


@contextmanager
def _sizes_named(subject: Subject) -> Iterator[None]:
    """Say which size is 0 where something is divided by it, as by what a norm runs over."""
    try:
        yield
    except ZeroDivisionError:
        fields = [name for name, value in subject.fields().items() if type(value) is int and value == 0]
        sizes = [name for name in fields if not (says_no_size(last(name)) or says_which_layer(last(name)))]
        if not sizes:
            raise
        raise ConfigError(
            f"{' and '.join(sizes)} {'is' if len(sizes) == 1 else 'are'} 0, and a part of the model would have nothing "
            "in it: a size is 1 or more, or null where the model can do without"
        ) from None


@contextmanager
def _makers_named(subject: Subject) -> Iterator[None]:
    """Say of a model that makes sound, and does not run on tokens, what it is."""
    try:
        yield
    except UnrunnableError as error:
        if makes := made_by(subject.model_class):
            raise ConfigError(makes) from error
        raise


def subject_of(model: object, config: object = None, model_id: str = "") -> tuple[Subject, str]:
    """Return the model under study and its name: `model_id`, or what it is called where it comes from.

    Raises:
        UnknownNameError: no such model.
        ConfigError: not a config, or one that transformers has no language model for.
        InputError: neither a name, nor a config, nor a class.

    """
    if isinstance(model, type):
        return _own(model, config), model_id or model.__name__
    if config is not None:
        raise InputError("a config beside the model is for a class of one's own: give one of them")
    if hasattr(model, "named_parameters") and hasattr(model, "config"):
        return _own(type(model), model.config), model_id or type(model).__name__
    fields, name = _fields(model)
    name = model_id or name
    try:
        _require_sense(fields)
        _require_depth(fields)
        require_bounded(fields)
        subject = Subject.of(fields)
        # Without auto_map, transformers has nowhere to take foreign code from.
        given = None if subject.given is None else essential(subject.given)
        subject = replace(subject, config=essential(subject.config), given=given)
    except ConfigError as error:
        raise ConfigError(error.problem, error.where or name) from None
    return subject, name


def _fields(model: object) -> tuple[Mapping[str, Any], str]:
    """Return the config that is meant, and what its model is called."""
    if isinstance(model, str | os.PathLike):
        config, where = catalog.config_of(model)
        path = Path(where)
        if path.suffix == ".json":
            where = path.resolve().parent.name if path.name == "config.json" else path.stem
        return config, where or str(config.get("model_type", "model"))
    if not isinstance(model, Mapping) and not callable(getattr(model, "to_dict", None)):
        raise InputError(f"generate takes a name, a path, a config or a class, not {quote(model)}")
    config = as_mapping(model)
    named = (config.get("_name_or_path"), config.get("model_type"), "model")
    return config, next(shorten(name) for name in named if isinstance(name, str) and name.isprintable() and name)


def _require_sense(config: Mapping[str, Any]) -> None:
    """Raise if what a config says of its model is no name, or names two models."""
    model_type, stated = config.get("model_type"), config.get("architectures") or []
    if not isinstance(model_type, str | None):
        raise ConfigError(f"model_type is {quote(model_type)}: a name is needed")
    if not isinstance(stated, list | tuple):
        raise ConfigError(f"architectures is {quote(stated)}: a list of names is needed")
    for key in (*TEXT_PARTS, *MEDIA_PARTS):
        if not isinstance(config.get(key), Mapping | None):  # else its model would be taken for one without that part
            raise ConfigError(f"{key} is {quote(config[key])}: an object is needed")
    mappings = [hf.architectures(kind) for kind in KINDS]
    types = [
        model_type,
        *(part.get("model_type") for key in TEXT_PARTS if isinstance(part := config.get(key), Mapping)),
    ]
    own = {mapping[name] for mapping in mappings for name in types if isinstance(name, str) and name in mapping}
    others = [name for name in stated if any(name in mapping.values() for mapping in mappings)]
    whole = hf.whole_class(model_type) if isinstance(model_type, str) else None  # it may be another type's class
    if own and others and own.isdisjoint(others) and (whole is None or whole.__name__ not in others):
        raise ConfigError(f"contradicts itself: model_type is {model_type!r}, architectures are {', '.join(others)}")


def _own(model_class: type[Any], config: object) -> Subject:
    """Return the subject of a class of one's own."""
    if not hasattr(model_class, "_from_config"):
        raise InputError(f"{model_class.__name__} is not derived from transformers' PreTrainedModel")
    if config is None:
        raise InputError(f"generate({model_class.__name__}, config): a class needs a config beside it")
    config_class: Any = type(config)
    if isinstance(config, str | os.PathLike | Mapping):
        config_class = getattr(model_class, "config_class", None) or type(None)
    if isinstance(config, type) or not hasattr(config_class, "to_dict"):
        raise InputError(f"the config of {model_class.__name__} is a transformers config, not {quote(config)}")
    fields = essential(as_mapping(config))
    _require_depth(fields)
    if hf.exported(model_class.__name__) is model_class:  # its name is enough to find it again
        fields["architectures"] = [model_class.__name__]
    kind, fields = kind_of(model_class, fields), {"model_type": str(config_class.model_type), **fields}
    return Subject(fields, kind, model_class, config_class=config_class)


def _require_depth(config: Mapping[str, Any], where: str = "") -> None:
    """Raise if a part of a config has more layers than are traced: transformers makes lists that are as long."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _require_depth(value, f"{where}{key}.")
            continue
        numbers = value if isinstance(value, list) else [value]
        layers = sum(number for number in numbers if isinstance(number, int)) if canonical_name(key) in _DEPTHS else 0
        layers = len(value) if key == "layer_types" and isinstance(value, list) else layers
        if layers > MAX_LAYERS:
            raise ConfigError(
                f"{where}{key} says {layers:,} layers, and a model is traced with at most {MAX_LAYERS:,}: generate "
                "its template with fewer, and set num_layers when you populate it"
            )


_DEPTHS = frozenset({"num_layers", "num_encoder_layers", "num_decoder_layers", "depth", "depths"})


def _require_taken(subject: Subject) -> None:
    """Raise if transformers' class does not take the sizes that the config states."""
    config, built = subject.config, subject.hf_config()
    if subject.reader is not None and text_part(config):  # the whole repeats sizes of its parts
        config, built = text_fields(config), text_object(built)
    if subject.config_class is None and (problem := not_taken(config, built)):
        raise ConfigError(problem)
