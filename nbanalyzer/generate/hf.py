"""The one file that knows transformers: its registries, how a model is built and called, and what it keeps.

What moves from release to release is found by what is there: values, annotations, signatures. What is not found is an
error that names the class, its parameters and the release, never a guess.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Literal

import torch

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.templates.config_files import joined, with_labels

__all__ = [
    "KINDS", "MASKS", "Kind", "UnknownConventionError", "appends", "architectures", "build", "cache_argument",
    "cache_in", "config_classes", "default_of", "distribute", "encoded_inputs", "exported", "filed_class",
    "fused_attention_switch", "has_class", "is_filed", "kept_in_fp32", "main_input", "model_class", "multimodal",
    "parameters_of_forward", "plans", "quiet", "reads_media", "reads_text", "release", "takes_cache", "text_class",
    "tied_weights", "transduces", "vocabulary", "wants_choices", "wants_padding", "whole_class",
]  # fmt: skip

Kind = Literal["causal", "seq2seq", "masked"]

KINDS: Mapping[Kind, tuple[str, str]] = {
    "seq2seq": ("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    "causal": ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    "masked": ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
}
"""Kind of model → transformers' class for it, and its mapping of the model types that have one."""

MASKS = "transformers.masking_utils"
"""The module whose functions make masks."""

_OLD_CACHES = ("state", "mems")
"""Names of what models keep from step to step without transformers' `Cache`: RWKV and XLNet."""

_OVERWRITES = frozenset({"update_conv_state", "update_recurrent_state"})
"""Methods of a cache that replace a state instead of appending tokens; models compute it themselves."""


class UnknownConventionError(NBAnalyzerError):
    """Something that this release of transformers does in a way that is not known here."""


def _unknown(what: str, found: str) -> UnknownConventionError:
    """Return the error for what was looked for, and what is there instead."""
    return UnknownConventionError(f"transformers {release()} has no {what} that nbanalyzer knows: {found}")


def release() -> str:
    """Return the version of transformers."""
    return version("transformers")


# ---- registries


def config_classes() -> Mapping[object, Any]:
    """Return model type → class of its config; a class is imported when it is looked up."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    mapping: Mapping[object, Any] = CONFIG_MAPPING  # any value may be asked for
    return mapping


def default_of(config: Any, field: str) -> Any:
    """Return what a config's class says in a field by default, None if nothing, or if that follows from others."""
    try:
        with quiet():
            return with_labels(type(config)().to_dict()).get(field)
    except Exception:  # noqa: BLE001 - a class may need some fields
        return None


@cache
def architectures(kind: Kind) -> Mapping[str, str]:
    """Return model type → name of its class, of all types that have a model of this kind."""
    from transformers.models.auto import modeling_auto

    found = getattr(modeling_auto, name := KINDS[kind][1], None)
    if found is None:
        raise _unknown(f"mapping {name}", modeling_auto.__name__)
    # Of a type with several classes, the first is what the automatic class builds.
    return MappingProxyType({key: name if isinstance(name, str) else name[0] for key, name in found.items()})


def model_class(kind: Kind) -> Any:
    """Return transformers' automatic class for a kind of model."""
    import transformers

    return getattr(transformers, KINDS[kind][0])


@cache
@cache
def _class_names() -> frozenset[str]:
    import transformers

    return frozenset(joined(name) for name in dir(transformers))


def has_class(name: str) -> bool:
    """Return whether transformers has a class of a name, however its words are joined."""
    return joined(name) in _class_names()


def exported(name: str) -> type[Any] | None:
    """Return the class of models that transformers exports under a name, None if there is none."""
    import transformers

    if not re.fullmatch(r"[A-Z]\w*", name, re.ASCII):  # no module of it, such as what runs pipelines
        return None
    try:
        with quiet():
            found = getattr(transformers, name, None)
    except Exception:  # noqa: BLE001 - what the class needs besides transformers may be missing
        return None
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return found if is_model and getattr(found, "config_class", None) is not None else None


def reads_text(model_class: type[Any]) -> bool:
    """Return whether token ids are all that a model needs."""
    takes = parameters_of_forward(model_class)
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needs = {name for name, taken in takes.items() if taken.default is taken.empty and taken.kind not in open_ended}
    return "input_ids" in takes and needs <= {"self", "input_ids"}


def multimodal(model_type: str) -> type[Any] | None:
    """Return the class of the models of a type that read images and text, None if transformers has none."""
    return filed_class(model_type, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES")


def filed_class(model_type: str, mapping: str = "MODEL_MAPPING_NAMES") -> type[Any] | None:
    """Return the class that one of transformers' mappings has first for a model type, None if there is none."""
    from transformers.models.auto import modeling_auto

    found = getattr(modeling_auto, mapping, {}).get(model_type)
    return exported(found if isinstance(found, str) else next(iter(found))) if found else None


_WHOLE = ("IMAGE_TEXT_TO_TEXT", "SPEECH_SEQ_2_SEQ", "ZERO_SHOT_IMAGE_CLASSIFICATION", "IMAGE_CLASSIFICATION", "CTC")
"""The mappings of models that read images or sound, those that read most first."""


def whole_class(model_type: str) -> type[Any] | None:
    """Return the class of the models of a type that read images or sound, None if transformers files none."""
    for name in (*(f"MODEL_FOR_{kind}_MAPPING_NAMES" for kind in _WHOLE), "MODEL_MAPPING_NAMES"):
        class_ = filed_class(model_type, name)
        if class_ is not None and (main_input(class_) != "input_ids" or reads_media(class_)):
            return class_
    return None


def is_filed(model_class: type[Any], *purposes: str) -> bool:
    """Return whether transformers files a class under one of these purposes, as its mappings call them."""
    from transformers.models.auto import modeling_auto

    names = (f"MODEL_FOR_{purpose}{rest}" for purpose in purposes for rest in ("_MAPPING_NAMES", "_NAMES"))
    return any(model_class.__name__ in getattr(modeling_auto, name, {}).values() for name in names)


def main_input(model_class: type[Any]) -> str:
    """Return what transformers calls a model's main input; if that is the whole's, whose part it is, its first one."""
    name, takes = str(getattr(model_class, "main_input_name", "input_ids")), parameters_of_forward(model_class)
    return name if name in takes else next((own for own in takes if own != "self"), "")


def reads_media(model_class: type[Any]) -> bool:
    """Return whether a model takes images or sound beside tokens."""
    media = ("pixel_values", "flattened_patches", "pixel_values_videos", "input_features", "input_values")
    return any(name.endswith((*media, "mm_encoder_outputs")) for name in parameters_of_forward(model_class))


def transduces(model_class: type[Any]) -> bool:
    """Return whether a model scores what it has heard beside each token on its own, step by step: RNN-T and TDT."""
    return "decoder_cache" in parameters_of_forward(model_class)


def text_class(model_type: str, whole: type[Any] | None) -> type[Any] | None:
    """Return the class of models without a head for a text part's type, found in the code of the `whole` if need be."""
    if found := filed_class(model_type):
        return found
    near = vars(sys.modules[whole.__module__]).values() if whole is not None else ()
    models = (class_ for class_ in near if isinstance(class_, type) and issubclass(class_, torch.nn.Module))
    own = (one for one in models if getattr(getattr(one, "config_class", None), "model_type", "") == model_type)
    return next((class_ for class_ in own if class_.__name__.endswith("TextModel") and reads_text(class_)), None)


def wants_choices(model_class: type[Any]) -> bool:
    """Return whether a model takes questions, each with several texts to choose among."""
    return model_class.__name__.endswith("ForMultipleChoice")


def wants_padding(model_class: type[Any]) -> bool:
    """Return whether a model looks for the last token of each text, and so needs one that fills short ones up."""
    return model_class.__name__.endswith("ForSequenceClassification")


# ---- building


def build(builder: Any, config: Any, attn: str, experts: str = "") -> torch.nn.Module:
    """Return the model of a config, in bf16; `attn` and `experts` say how it attends and mixes, if not by default."""
    make = getattr(builder, "from_config", None) or getattr(builder, "_from_config", None)
    if make is None:
        raise _unknown("way to build a model from its config", f"class {builder.__name__}")
    options: dict[str, Any] = {"attn_implementation": attn or None, "dtype": torch.bfloat16}
    if experts:
        options["experts_implementation"] = experts
    with quiet(), _without_losses():
        model: torch.nn.Module = make(config, **options)
    return model


_OF_LOSSES = "scipy"
"""The package that models which find things build the matching for their loss with, and do not run without labels."""


@contextmanager
def _without_losses() -> Iterator[None]:
    """Let transformers take the package of losses for installed while it builds a model: no loss is computed here."""
    from transformers.utils import import_utils

    asked: dict[str, Any] = getattr(import_utils, "BACKENDS_MAPPING", {})
    found = asked.get(_OF_LOSSES)
    if found is None:
        yield
        return
    asked[_OF_LOSSES] = (lambda: True, found[1])
    try:
        yield
    finally:
        asked[_OF_LOSSES] = found


def kept_in_fp32(model: torch.nn.Module) -> tuple[str, ...]:
    """Return parts of the names of the parameters that stay in fp32 whatever the model's precision is."""
    names = ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
    return tuple(part for name in names for part in getattr(model, name, None) or ())


def tied_weights(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that are another one's, if the config says so."""
    return tuple(getattr(model, "_tied_weights_keys", None) or ())


# ---- sharing among ranks


def plans(model: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return a model's plans for tensor and for expert parallelism: module or parameter, with * for layers → style."""
    if not all(hasattr(model, name) for name in ("tp_plan", "ep_plan")):
        raise _unknown("tp_plan and ep_plan", f"class {type(model).__name__}")
    return dict(model.tp_plan or {}), dict(model.ep_plan or {})


def distribute(model: Any, tp: int, ep: int, exchange: str) -> dict[str, str]:
    """Leave a rank its part of a model; return the names of its groups → what they share. A process group is open.

    `exchange` is how experts get their tokens.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from transformers.distributed import DistributedConfig
    from transformers.distributed.utils import TransformersDeviceMesh

    sizes = DistributedConfig(tp_size=tp, ep_size=ep, ep_implementation=exchange)
    dense = init_device_mesh("cpu", (1, 1, 1, tp), mesh_dim_names=("pp", "dp_replicate", "fsdp", "tp"))
    experts = init_device_mesh("cpu", (1, 1, tp // ep, ep), mesh_dim_names=("pp", "dp_replicate", "efsdp", "ep"))
    type(model).maybe_distribute_model(model, sizes, TransformersDeviceMesh(dense, experts))
    return {mesh.get_group(name).group_name: name for mesh, name in ((experts, "ep"), (dense, "tp"))}


# ---- calling


def parameters_of_forward(model_class: type[Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a model's forward pass by name."""
    return inspect.signature(model_class.forward).parameters


def cache_argument(model_class: type[Any]) -> str:
    """Return the parameter of a model's forward pass that takes what the pass before has kept.

    It is called as transformers' own lists say, or annotated as a `Cache`; older models keep lists of tensors.

    Raises:
        UnknownConventionError: there is none.

    """
    takes = parameters_of_forward(model_class)
    annotated = tuple(name for name, parameter in takes.items() if "Cache" in str(parameter.annotation))
    for name in (*_listed(), *annotated, *_OLD_CACHES):
        if name in takes:
            return name
    names = ", ".join(name for name in takes if name != "self")
    raise _unknown("parameter for the cache", f"the forward pass of {model_class.__name__} takes {names}")


def takes_cache(model_class: type[Any]) -> bool:
    """Return whether a model's forward pass takes what the pass before has kept."""
    try:
        return bool(cache_argument(model_class))
    except UnknownConventionError:
        return False


def cache_in(output: Any) -> Any:
    """Return what a forward pass keeps for the next one: the field that holds a `Cache`, else lists of states; or None.

    The cache of an encoder-decoder is a `Cache` too, whatever the field is called.
    """
    from transformers.cache_utils import Cache

    fields: Mapping[str, Any] = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    found = next((value for value in fields.values() if isinstance(value, Cache)), None)
    if found is not None:
        return found
    # Models with a cache of their own give it back under a name that they take it by.
    return next((fields[name] for name in (*_listed(), *_OLD_CACHES) if fields.get(name) is not None), None)


def _listed() -> tuple[str, ...]:
    """Return the names that transformers itself looks for, the newest first."""
    from transformers.generation import utils

    return ("cache", *getattr(utils, "ALL_CACHE_NAMES", ()), "past_key_values", "cache_params")


def encoded_inputs(hidden: torch.Tensor) -> Any:
    """Return an encoder's output as a decoder takes it."""
    from transformers.modeling_outputs import BaseModelOutput

    found: Any = BaseModelOutput(last_hidden_state=hidden)
    found.router_logits = found.attention_mask = None  # decoders of some hand them on
    return found


def vocabulary(model: torch.nn.Module) -> int:
    """Return how many token ids a model's text part has."""
    config: Any = model.config
    stated = getattr(config.get_text_config(), "vocab_size", None)
    embedding: Any = None if stated else model.get_input_embeddings()  # type: ignore[operator]
    return int(stated or embedding.num_embeddings)


# ---- what is looked at while a model runs


def appends() -> tuple[tuple[Any, str], ...]:
    """Return the methods that append new tokens to a cache, as class and name."""
    from transformers.cache_utils import Cache

    found = [name for name in vars(Cache) if name.startswith("update") and name not in _OVERWRITES]
    if "update" not in found:
        raise _unknown("method that appends to a cache", f"Cache has {', '.join(sorted(vars(Cache)))}")
    return tuple((Cache, name) for name in found)


def fused_attention_switch() -> tuple[Any, str]:
    """Return the function, as module and name, that says whether fused attention shares grouped keys by itself."""
    from transformers.integrations import sdpa_attention

    name = "use_gqa_in_sdpa"
    if not isinstance(getattr(sdpa_attention, name, None), Callable):  # type: ignore[arg-type]
        raise _unknown(f"function {name}", sdpa_attention.__name__)
    return sdpa_attention, name


@contextmanager
def quiet() -> Iterator[None]:
    """Keep advice from stderr: on token ids outside a small vocabulary, on positions beyond the model's limit."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    if before != logging.CRITICAL:  # each change clears the caches of all loggers
        logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before != logging.CRITICAL:
            logging.set_verbosity(before)
