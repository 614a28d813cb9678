"""How a class of models is run: as an encoder-decoder, token after token on what is kept, or in one pass."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from nbanalyzer.generate import hf
from nbanalyzer.generate.hf import KINDS, Kind

__all__ = ["is_told_what_to_hide", "kind_of", "says"]


def kind_of(model_class: type[Any], config: Mapping[str, Any]) -> Kind:
    """Return how a class of models is run: as transformers files it, else by what its forward pass takes.

    One with a decoder of its own is run as an encoder-decoder, one that keeps something as a causal model, and all
    others as masked ones: in one pass.
    """
    for kind in KINDS:
        if model_class.__name__ in hf.architectures(kind).values():
            return kind
    takes = hf.parameters_of_forward(model_class)
    if {"noise", "timestep"} <= takes.keys() or "self_conditioning_logits" in takes:
        return "masked"  # it denoises what stands beside the prompt, and keeps that of the prompt alone
    if hf.transduces(model_class):
        return "masked"
    if "decoder_input_ids" in takes:  # without a cache, both halves read the same text, once
        return "seq2seq" if hf.takes_cache(model_class) else "masked"
    if config.get("is_encoder_decoder") and not hf.exported(model_class.__name__):
        return "seq2seq"
    # An encoder takes a cache too, and keeps none unless its config makes a decoder of it.
    encodes = not hasattr(model_class, "generate") and "text_config" not in config
    no_decoder = says(config, getattr(model_class, "config_class", None), "is_decoder") is False
    if encodes and no_decoder and _looks_at("is_decoder", model_class):
        return "masked"
    if config.get("use_bidirectional_attention") in {True, "all"} and model_class.__name__.endswith("Model"):
        return "masked"  # a decoder as an encoder, as of EmbeddingGemma: every token sees those after it
    keeps = hf.takes_cache(model_class) or "use_cache" in takes
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    return "causal" if keeps or (open_ended and not hf.exported(model_class.__name__)) else "masked"


def _looks_at(field: str, model_class: type[Any]) -> bool:
    """Return whether the code beside a class looks at a field: GPT-NeoX has an `is_decoder` that says nothing."""
    own = model_class.__module__
    beside = (one for one in vars(sys.modules[own]).values() if isinstance(one, type) and one.__module__ == own)
    methods = (value for one in beside for value in vars(one).values() if callable(value))
    codes = (getattr(inspect.unwrap(method), "__code__", None) for method in methods)
    return any(code is not None and field in code.co_names for code in codes)


def is_told_what_to_hide(model_class: type[Any]) -> bool:
    """Return whether a model's forward pass has to be told which patches are hidden from it: VideoMAE's training."""
    hidden = hf.parameters_of_forward(model_class).get("bool_masked_pos")
    return hidden is not None and hidden.default is hidden.empty


def says(config: Mapping[str, Any], config_class: Any, field: str) -> Any:
    """Return what a config says in a field, by its class's default if it is silent; None if there is no such field."""
    return config.get(field, getattr(config_class, field, None))
