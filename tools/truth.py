"""What a config's model costs, as PyTorch counts the class that the config names, on the meta device.

This takes nothing from nbanalyzer, so that it can be held against it: transformers builds the model, with eager
attention and experts by batched products, and FlopCounterMode counts a prefill.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tools.outcomes import Count, Truth

__all__ = ["NoModelError", "truth"]

DEFAULTS = (
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_MAPPING_NAMES",
)  # fmt: skip
"""Where the class is found that is meant if a config names none; many encoders are in the third one too."""

WIDTHS = ("hidden_size", "d_model", "n_embd", "embed_dim", "hidden_sizes", "embedding_size", "dim_model")


class NoModelError(Exception):
    """transformers makes no model of this config, or none of the sizes that it states."""


def truth(config: Mapping[str, Any], seq_len: int, named: str = "") -> Truth:
    """Return what PyTorch counts for a config, for a prefill of so many tokens.

    Args:
        config: the content of a config file.
        seq_len: tokens; an encoder reads as many.
        named: the class, if not the one that the config names.

    """
    try:
        model_class = _class_of(config, named)
        model = _built(model_class, _config_for(model_class, config))
    except NoModelError as error:
        part = config.get("text_config")
        text = None
        if isinstance(part, Mapping) and not named:
            text = truth({**part, "architectures": None}, seq_len).whole
        return Truth(named or next(iter(_stated(config)), ""), text=text, problem=str(error))
    parameters, flops, problem = _parameters([model]), None, ""
    try:
        flops = _flops(model, seq_len)
    except Exception as error:  # noqa: BLE001 - whatever a model's code does on the meta device
        problem = f"built, and does not run: {_line(error)}"
    text = _text_part(model, flops, seq_len)
    return Truth(model_class.__name__, Count(parameters, flops), text, problem)


def _stated(config: Mapping[str, Any]) -> list[str]:
    return [name for name in config.get("architectures") or () if isinstance(name, str)]


def _class_of(config: Mapping[str, Any], named: str) -> Any:
    """Return the class that a config names; transformers' own for its model type if it names none that there is."""
    for name in [named] if named else _stated(config):
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if named:
        raise NoModelError(f"transformers has no class {named}")
    model_type = config.get("model_type")
    names = [getattr(modeling_auto, mapping).get(model_type) for mapping in DEFAULTS]
    if config.get("is_decoder"):
        names.insert(0, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type))
    for name in filter(None, names):
        return getattr(transformers, name if isinstance(name, str) else name[0])
    raise NoModelError(f"transformers knows neither model_type {model_type!r} nor architectures {_stated(config)}")


def _config_for(model_class: Any, config: Mapping[str, Any]) -> Any:
    """Return the config object that a class is built from: the whole, or its text part if the class wants that."""
    fields = {key: value for key, value in config.items() if key not in {"auto_map", "quantization_config"}}
    wanted = model_class.config_class
    config_class = CONFIG_MAPPING[fields["model_type"]] if fields.get("model_type") in CONFIG_MAPPING else wanted
    aliases: Mapping[str, str] = getattr(config_class, "attribute_map", None) or {}
    known = {*vars(config_class()), *aliases, *aliases.values()}
    parts = [value for value in fields.values() if isinstance(value, Mapping)]
    widths = [name for name in (*WIDTHS, aliases.get("hidden_size", "hidden_size")) if name in known]
    if not any(name in fields for name in widths) and not any(name in part for part in parts for name in WIDTHS):
        raise NoModelError("no width is stated under a name that transformers knows")
    try:
        with _quiet():
            found = config_class.from_dict(fields)
            return found if isinstance(found, wanted) else _part(found, wanted)
    except NoModelError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the checks of a config raise
        raise NoModelError(f"transformers refuses this config: {_line(error)}") from None


def _part(config: Any, wanted: Any) -> Any:
    for part in (config.get_text_config(), *(getattr(config, name, None) for name in config.sub_configs)):
        if isinstance(part, wanted):
            return part
    raise NoModelError(f"{wanted.__name__} is wanted, the config is a {type(config).__name__}")


def _built(model_class: Any, config: Any) -> Any:
    options = {"attn_implementation": "eager", "experts_implementation": "batched_mm", "dtype": torch.bfloat16}
    try:
        with _quiet(), torch.device("meta"), Answers():
            try:
                model = model_class._from_config(config, **options)  # noqa: SLF001 - no public name
            except (TypeError, ValueError) as error:
                if "experts" not in str(error):
                    raise
                model = model_class._from_config(config, **{**options, "experts_implementation": None})  # noqa: SLF001
    except Exception as error:  # noqa: BLE001 - whatever a layer's checks raise
        raise NoModelError(f"transformers does not build it: {_line(error)}") from None
    return model.eval()


def _parameters(modules: Iterable[torch.nn.Module]) -> int:
    return sum({id(one): one.numel() for module in modules for one in module.parameters()}.values())


def _flops(model: Any, seq_len: int) -> int:
    """Return the FLOPs of a prefill; what is no text is left out where the model can do without."""
    problem: Exception | None = None
    for inputs in _inputs(model, seq_len):
        try:
            with torch.no_grad(), _quiet(), Answers(), FlopCounterMode(display=False) as counter:
                model(**inputs)
            return int(counter.get_total_flops())
        except Exception as error:  # noqa: BLE001 - the next inputs may do
            problem = problem or error
    raise problem or TypeError("takes nothing that is known here")


def _inputs(model: Any, seq_len: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield what a model may be called with, the least first."""
    takes, config = inspect.signature(model.forward).parameters, model.config
    ids = torch.empty((1, seq_len), dtype=torch.long, device="meta")
    text = {"input_ids": ids} if "input_ids" in takes else {}
    if config.is_encoder_decoder and "decoder_input_ids" in takes:
        text["decoder_input_ids"] = ids
    if "input_ids" in takes:
        yield text
    if "pixel_values" in takes:
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        channels = getattr(vision, "num_channels", 3)
        yield text | {"pixel_values": torch.empty((1, channels, height, width), dtype=torch.bfloat16, device="meta")}
    if "input_features" in takes and hasattr(config, "num_mel_bins"):
        length = 2 * getattr(config, "max_source_positions", 1500)
        sound = torch.empty((1, config.num_mel_bins, length), dtype=torch.bfloat16, device="meta")
        yield text | {"input_features": sound}
    if "input_values" in takes:
        yield {"input_values": torch.empty((1, 16_000), dtype=torch.bfloat16, device="meta")}


def _text_part(model: Any, flops: int | None, seq_len: int) -> Count | None:
    """Return what the decoder and the head of a model with other parts cost; None if it has no other parts."""
    config = model.config
    if config.get_text_config() is config or config.is_encoder_decoder:
        return None
    try:
        decoder, head = model.get_decoder(), model.get_output_embeddings()
    except Exception:  # noqa: BLE001 - a model without either
        return None
    if decoder is None or decoder is model or head is None:
        return None
    if flops is None:
        try:
            flops = _flops(decoder, seq_len) + 2 * seq_len * head.weight.numel()
        except Exception:  # noqa: BLE001 - as above
            flops = None
    return Count(_parameters([decoder, head]), flops)


class Answers(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Says true, or 1, where a model's code asks for a value, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer ``tensor.item()``; leave all else to PyTorch."""
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:  # noqa: SLF001 - tensor.item()
            return True if args[0].dtype == torch.bool else 1
        return func(*args, **(kwargs or {}))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
