"""What a config's quantisation method means: which scheme, of which modules. A function for each method.

Sources: transformers ``quantizers/`` and ``utils/quantization_config.py``, compressed-tensors
``quantization/quant_args.py`` and ``utils/match.py``, NVIDIA Model-Optimizer ``export/quant_utils.py``, GPTQModel
``quantization/config.py``, mlx-lm ``utils.py``, auto-round ``auto_round_extension/torch/qlinear_torch.py``, vLLM
``quantization/quark/schemes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from nbanalyzer.errors import ConfigError, InputError, quote

from .choices import Choice, Quantisation
from .method_fields import HEAD, LINEARS, WEIGHTS, Fields, block_sides, leaving, listed, mapping, whole_number
from .schemes import MODEL, Scheme, scheme_named, with_values
from .template import Tensor

__all__ = ["METHODS", "read"]

UNSAID = (
    "mtp.*eh_proj", "*.indexer.weights_proj", "*.scorer.weights_proj",
    "*.compressor.kv_proj", "*.compressor.gate_proj", "*.indexer.kv_proj", "*.indexer.gate_proj",
)  # fmt: skip
"""What DeepSeek's block-wise files leave out though no list says so: V3's joint of the layer that predicts further
tokens, V3.2's weights of the indexer's heads; both by the numbers of elements of each dtype that the hub counts. V4's
weights of the indexer's heads and what its compressors project, by the bytes of each dtype in its files."""


def read(fields: Fields, model_type: str) -> Quantisation:
    """Return what the fields of a ``quantization_config`` mean.

    Args:
        fields: with quant_method.
        model_type: of the model, which decides on the scales of block-wise fp8.

    Raises:
        ConfigError: a method that is not known, or values that it does not have.

    """
    method = fields.get("quant_method") or _guessed(fields)
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(
            f"the quantisation method {quote(method)} is not known: there are {', '.join(METHODS)}. w_bit=… or quant=… "
            "counts its weights otherwise"
        )
    try:
        return METHODS[method](fields, model_type)
    except (InputError, ConfigError) as error:
        problem = error.problem if isinstance(error, ConfigError) else str(error)
        name = problem.partition(" ")[0]
        path = next((path for path in _paths(fields) if path.rpartition(".")[2] == name), "")
        said = f".{path}{problem.removeprefix(name)}" if path else f": {problem}"
        raise ConfigError(f"quantization_config{said}") from None


def _paths(fields: Fields) -> Iterator[str]:
    """Yield the paths of all fields, those of nested objects with dots."""
    for key, value in fields.items():
        yield key
        if isinstance(value, Mapping):
            yield from (f"{key}.{path}" for path in _paths(value))


def _guessed(fields: Fields) -> object:
    """Return the method of a config that does not name it, as older ones; None if nothing tells."""
    marks = {
        "config_groups": "compressed-tensors", "quant_algo": "modelopt", "quantization": "modelopt",
        "load_in_4bit": "bitsandbytes", "load_in_8bit": "bitsandbytes", "zero_point": "awq", "desc_act": "gptq",
    }  # fmt: skip
    return next((method for mark, method in marks.items() if mark in fields), None)


# ---- methods


def _fp8(fields: Fields, model_type: str) -> Quantisation:
    block = fields.get("weight_block_size")
    notes: tuple[str, ...] = ()
    if block is None:
        is_static = fields.get("activation_scheme", "dynamic") == "static"
        scheme = with_values(scheme_named("fp8"), {"static": int(is_static)})
    else:
        rows, columns = block_sides(block, "weight_block_size")
        size = _scale_bytes(fields, model_type)
        values = {"rows": rows, "columns": columns, "scale_bytes": size}
        scheme = with_values(scheme_named("fp8-block"), values)
        notes = (f"scales of {size} bytes, as {model_type or 'such models'} have them: the config does not say it",)
    left = listed(fields, "modules_to_not_convert", "ignored_layers")
    choices = leaving(scheme, left)
    if left is None:
        choices = (Choice(None, UNSAID, "glob"), *choices)
    if fields.get("expert_dtype") in ("fp4", "mxfp4"):
        choices = (Choice(scheme_named("mxfp4"), roles=("expert",)), *choices)
    return Quantisation(choices, scheme, notes=notes)


def _fbgemm_fp8(fields: Fields, _: str) -> Quantisation:
    scheme = scheme_named("torchao-fp8")  # the same tensors: a scale of 4 bytes for every output
    return Quantisation(leaving(scheme, listed(fields, "modules_to_not_convert")), scheme)


def _scale_bytes(fields: Fields, model_type: str) -> int:
    """Return the bytes of a scale of block-wise fp8: no config says them, published files do."""
    if fields.get("scale_fmt") == "ue8m0" and model_type == "deepseek_v4":
        return 1
    return 2 if model_type.startswith("qwen") else 4


def _mxfp4(fields: Fields, _: str) -> Quantisation:
    scheme = scheme_named("mxfp4")
    return Quantisation(leaving(scheme, listed(fields, "modules_to_not_convert"), roles=("expert",)), scheme)


def _gptq(fields: Fields, _: str) -> Quantisation:
    base = _gptq_scheme(fields)
    choices: list[Choice] = []
    dynamic = fields.get("dynamic")
    if dynamic is not None:
        if not isinstance(dynamic, Mapping):
            raise ConfigError(f"dynamic is an object of patterns, not {quote(dynamic)}")
        for pattern, changes in dynamic.items():
            text = pattern.removeprefix("+:").removeprefix("-:")
            if pattern.startswith("-:"):
                choices.append(Choice(None, (text,), "regex"))
            else:
                changed = _gptq_scheme({**fields, **mapping(changes, pattern)})
                choices.append(Choice(changed, (text,), "regex", LINEARS))
    blocks = fields.get("modules_in_block_to_quantize")
    if blocks:
        if not isinstance(blocks, list | tuple):
            raise ConfigError(f"modules_in_block_to_quantize is a list of names, not {quote(blocks)}")
        names = [name for group in blocks for name in (group if isinstance(group, list | tuple) else [group])]
        if not all(isinstance(name, str) for name in names):
            raise ConfigError(f"modules_in_block_to_quantize is a list of names, not {quote(blocks)}")
        choices.append(Choice(base, tuple(f"*.{name}" for name in names), "glob", WEIGHTS, only_in_layers=True))
    else:
        choices.append(Choice(base, roles=WEIGHTS, only_in_layers=True))
    if fields.get("lm_head") is True:
        choices.append(Choice(base, roles=HEAD))
    return Quantisation(tuple(choices), base)


def _gptq_scheme(fields: Fields) -> Scheme:
    values = {"bits": whole_number(fields, "bits"), "group": whole_number(fields, "group_size", default=128)}
    return with_values(scheme_named("gptq-4-g128"), {**values, "ordered": int(fields.get("desc_act") is True)})


def _awq(fields: Fields, _: str) -> Quantisation:
    values = {
        "bits": whole_number(fields, "bits", "w_bit"),
        "group": whole_number(fields, "group_size", "q_group_size"),
    }
    scheme = with_values(scheme_named("awq-4-g128"), values)
    return Quantisation(leaving(scheme, listed(fields, "modules_to_not_convert"), always=True), scheme)


def _bitsandbytes(fields: Fields, _: str) -> Quantisation:
    has_4, has_8 = (any(fields.get(f"{start}load_in_{bits}bit") is True for start in ("", "_")) for bits in (4, 8))
    if has_4 == has_8:
        raise ConfigError("bitsandbytes loads in 4 or in 8 bits: one of load_in_4bit and load_in_8bit is true")
    scheme = scheme_named("bnb-int8")
    if has_4:
        is_nested = fields.get("bnb_4bit_use_double_quant") is True
        state = -1 if fields.get("bnb_4bit_compute_dtype") == "float16" else 0  # its name is a character shorter
        scheme = scheme_named("nf4-dq") if is_nested else with_values(scheme_named("nf4"), {"state": state})
    return Quantisation(leaving(scheme, listed(fields, "llm_int8_skip_modules")), scheme)


def _compressed_tensors(fields: Fields, _: str) -> Quantisation:
    groups = mapping(fields.get("config_groups"), "config_groups")
    if not groups:
        raise ConfigError("compressed-tensors without config_groups says no scheme")
    sparsity = mapping(fields.get("sparsity_config") or {}, "sparsity_config")
    if sparsity.get("format", "dense") != "dense":
        raise ConfigError(f"the sparsity {quote(sparsity.get('format'))} of compressed-tensors is not known")
    choices = []
    if ignored := listed(fields, "ignore", "ignored_layers"):
        choices.append(Choice(None, ignored, "compressed-tensors"))
    schemes = []
    for name, group in groups.items():
        group = mapping(group, name)
        if group.get("weights") is None:
            continue
        scheme = _of_tensors(group, str(group.get("format") or fields.get("format") or ""))
        schemes.append(scheme)
        choices.append(Choice(scheme, listed(group, "targets") or ("Linear",), "compressed-tensors"))
    if not schemes:
        raise ConfigError("no group of compressed-tensors says what weights are")
    stated = fields.get("kv_cache_scheme")
    return Quantisation(tuple(choices), schemes[0], _kv_bits(stated), _kv_scale(stated))


def _of_tensors(group: Fields, form: str) -> Scheme:
    """Return the scheme of a group of compressed-tensors."""
    weights, activations = mapping(group["weights"], "weights"), group.get("input_activations")
    kind, bits, strategy = (
        weights.get("type", "int"),
        whole_number(weights, "num_bits"),
        weights.get("strategy") or "tensor",
    )
    size = weights.get("group_size") or 0
    if kind == "float" and bits == 8 and strategy == "block":
        rows, columns = block_sides(weights.get("block_structure") or [128, 128], "block_structure")
        return with_values(scheme_named("fp8-block"), {"rows": rows, "columns": columns, "scale_bytes": 2})
    if kind == "float" and bits == 8 and strategy == "channel":
        return scheme_named("fp8-channel")
    if kind == "float" and bits == 8 and strategy == "tensor":
        is_static = isinstance(activations, Mapping) and not activations.get("dynamic")
        return with_values(scheme_named("fp8"), {"scale_bytes": 2, "static": int(is_static)})
    if kind == "float" and bits == 4 and size == 16:
        return scheme_named("nvfp4" if activations else "nvfp4-a16")
    if kind == "float" and bits == 4 and size == 32:
        return scheme_named("mxfp4")
    packed = form in {"pack-quantized", "marlin-24", ""} and strategy in {"group", "channel", "tensor"}
    if kind == "int" and packed and not activations:
        values = {"bits": bits, "group": whole_number(weights, "group_size", default=-1)}
        ordered = weights.get("actorder") in ("group", "dynamic")
        values |= {"asymmetric": int(weights.get("symmetric") is False), "ordered": int(ordered)}
        return with_values(scheme_named("w4a16"), values)
    if kind == "int" and bits == 8 and strategy == "channel":
        return scheme_named("int8")
    raise ConfigError(f"weights of {bits} bits, {kind}, by {strategy} in {quote(form)} are no scheme that is known")


def _modelopt(fields: Fields, model_type: str) -> Quantisation:
    fields = mapping(fields["quantization"], "quantization") if "quantization" in fields else fields
    kv_bits = _kv_bits(fields.get("kv_cache_scheme") or fields.get("kv_cache_quant_algo"))
    kv_scale = Tensor("scale", "f32", "1", is_read=False) if kv_bits else None
    left = listed(fields, "ignore", "exclude_modules", "modules_to_not_convert") or ()
    choices = [Choice(None, left, "glob")] if left else []
    algorithm = fields.get("quant_algo")
    if algorithm == "MIXED_PRECISION":
        layers = mapping(fields.get("quantized_layers"), "quantized_layers")
        named = [
            Choice(_algorithm(mapping(one, name).get("quant_algo"), model_type), (name,), "exact")
            for name, one in layers.items()
        ]
        if not named:
            raise ConfigError("MIXED_PRECISION of modelopt without quantized_layers says no scheme")
        first = next(choice.scheme for choice in named if choice.scheme)
        return Quantisation((*named, *choices), first, kv_bits, kv_scale)
    scheme = _algorithm(algorithm, model_type)
    return Quantisation((*choices, Choice(scheme, roles=LINEARS)), scheme, kv_bits, kv_scale)


def _algorithm(name: object, model_type: str) -> Scheme:
    """Return the scheme of one of modelopt's algorithms."""
    known = {"FP8": "fp8", "NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4-a16", "FP8_PER_CHANNEL_PER_TOKEN": "torchao-fp8",
             "FP8_PB_WO": "fp8-block", "MXFP4": "mxfp4"}  # fmt: skip
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"the algorithm {quote(name)} of modelopt is not known: there are {', '.join(known)}")
    scheme = scheme_named(known[name])
    return with_values(scheme, {"scale_bytes": 2}) if name == "FP8_PB_WO" and model_type.startswith("qwen") else scheme


def _torchao(fields: Fields, _: str) -> Quantisation:
    kind = fields.get("quant_type")
    values = fields.get("quant_type_kwargs") or {}
    if isinstance(kind, Mapping):
        stated = mapping(kind.get("default"), "quant_type.default")
        kind, values = stated.get("_type"), mapping(stated.get("_data") or {}, "quant_type.default._data")
    known = {"int4_weight_only": "torchao-int4", "Int4WeightOnlyConfig": "torchao-int4",
             "int8_dynamic_activation_int8_weight": "int8", "Int8DynamicActivationInt8WeightConfig": "int8",
             "float8_weight_only": "torchao-fp8", "float8_dynamic_activation_float8_weight": "torchao-fp8",
             "Float8WeightOnlyConfig": "torchao-fp8",
             "Float8DynamicActivationFloat8WeightConfig": "torchao-fp8"}  # fmt: skip
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(f"the type {quote(kind)} of torchao is not known: there are {', '.join(known)}")
    scheme = scheme_named(known[kind])
    if scheme.preset == "torchao-int4":
        scheme = with_values(scheme, {"group": whole_number(values, "group_size", default=128)})
    return Quantisation(leaving(scheme, listed(fields, "modules_to_not_convert")), scheme)


def _hqq(fields: Fields, _: str) -> Quantisation:
    stated = mapping(fields.get("quant_config") or {}, "quant_config")
    weights = mapping(stated.get("weight_quant_params") or {}, "weight_quant_params")
    values = {"bits": whole_number(weights, "nbits"), "group": whole_number(weights, "group_size", default=64)}
    scheme = with_values(scheme_named("hqq-4-g64"), values)
    return Quantisation(leaving(scheme, listed(fields, "skip_modules") or ("lm_head",)), scheme)


def _auto_round(fields: Fields, _: str) -> Quantisation:
    form, kind = fields.get("packing_format") or "auto_round", fields.get("data_type") or "int"
    if kind != "int" or not str(form).startswith("auto_round") or "fp8" in str(form):
        raise ConfigError(f"auto-round's {quote(form)} of type {quote(kind)} is not known: integers in auto_round are")

    def scheme(changes: Fields) -> Scheme | None:
        merged = {**fields, **changes}
        if whole_number(merged, "bits") >= 16:
            return None
        sizes = {"bits": whole_number(merged, "bits"), "group": whole_number(merged, "group_size")}
        return with_values(scheme_named("awq-4-g128"), sizes)  # the same tensors, packed in another order

    base, stated = scheme({}), mapping(fields.get("extra_config") or {}, "extra_config")
    if base is None:
        raise ConfigError(f"auto-round with bits={fields['bits']} stores nothing otherwise")
    others = [Choice(scheme(mapping(one, name)), (name,), "regex") for name, one in stated.items()]
    return Quantisation((*others, Choice(base, roles=WEIGHTS, only_in_layers=True)), base)


def _bitnet(fields: Fields, _: str) -> Quantisation:
    if fields.get("quantization_mode", "offline") != "offline" or fields.get("use_rms_norm"):
        raise ConfigError("bitnet is known with quantization_mode='offline' and without use_rms_norm")
    scheme = scheme_named("bitnet")
    return Quantisation(leaving(scheme, listed(fields, "modules_to_not_convert")), scheme)


def _quark(fields: Fields, _: str) -> Quantisation:
    left = listed(fields, "exclude") or ()
    choices = [Choice(None, left, "glob")] if left else []
    if fields.get("layer_type_quant_config"):
        raise ConfigError("layer_type_quant_config of quark is not known")
    kept = mapping(fields.get("export") or {}, "export").get("kv_cache_group")
    for name, one in mapping(fields.get("layer_quant_config") or {}, "layer_quant_config").items():
        choices.append(Choice(_of_quark(mapping(one, name), name), (name,), "glob", LINEARS))
    scheme = _of_quark(mapping(fields.get("global_quant_config"), "global_quant_config"), "global_quant_config")
    scale = Tensor("scale", "f32", "1", is_read=False) if kept else None
    return Quantisation((*choices, Choice(scheme, roles=LINEARS)), scheme, 8 if kept else None, scale)


def _of_quark(stated: Fields, name: str) -> Scheme:
    """Return the scheme of some modules in a file by Quark: its scales of fp8 have 4 bytes, those of fp4 one."""
    weight, inputs = mapping(stated.get("weight"), f"{name}.weight"), stated.get("input_tensors")
    said = tuple(weight.get(key) for key in ("dtype", "qscheme"))
    if said == ("fp8_e4m3", "per_tensor"):
        is_static = isinstance(inputs, Mapping) and not inputs.get("is_dynamic")
        return with_values(scheme_named("fp8"), {"static": int(is_static)})
    if said == ("fp8_e4m3", "per_channel"):
        return scheme_named("torchao-fp8")
    if said == ("fp4", "per_group") and weight.get("group_size") == 32 and weight.get("scale_format") == "e8m0":
        return scheme_named("mxfp4")
    raise ConfigError(f"weights in {quote(said[0])} {quote(said[1])} by quark, of {quote(name)}, are not known")


def _mlx(fields: Fields, _: str) -> Quantisation:
    base, everything = _mlx_scheme(fields), scheme_named("mlx-4").file.roles
    choices: list[Choice] = []
    for path, changes in fields.items():
        if isinstance(changes, Mapping):
            choices.append(Choice(_mlx_scheme({**fields, **changes}), (path,), "exact"))
        elif changes is False and "." in path:
            choices.append(Choice(None, (path,), "exact"))
    choices.append(Choice(None, base.file.leaves_out, "glob"))
    return Quantisation((*choices, Choice(base, roles=everything)), base)


def _mlx_scheme(fields: Fields) -> Scheme:
    mode, bits, group = fields.get("mode", "affine"), whole_number(fields, "bits"), whole_number(fields, "group_size")
    if mode == "affine":
        return with_values(scheme_named("mlx-4"), {"bits": bits, "group": group, "router_bits": bits})
    if (mode, bits, group) == ("mxfp4", 4, 32):
        return scheme_named("mlx-mxfp4")
    raise ConfigError(f"MLX's mode {quote(mode)} of {bits} bits in groups of {group} is not known")


def _kv_bits(stated: object) -> int | None:
    """Return the bits of an element of the cache, as a scheme for it says."""
    if stated is None:
        return None
    if isinstance(stated, Mapping):
        return whole_number(stated, "num_bits")
    known = {"FP8": 8, "INT8": 8, "NVFP4": 4}
    if not isinstance(stated, str) or stated not in known:
        raise ConfigError(f"the scheme {quote(stated)} of the cache is not known: there are {', '.join(known)}")
    return known[stated]


def _kv_scale(stated: object) -> Tensor | None:
    """Return a scale of the cache in compressed-tensors' files: one for all heads or for each; none if it is dynamic.

    Source: compressed-tensors ``quantization/lifecycle/initialize.py``, `initialize_attn_qparams`.
    """
    if not isinstance(stated, Mapping) or stated.get("dynamic"):
        return None
    strategy = stated.get("strategy") or "tensor"
    elements = {"tensor": "1", "attn_head": "{num_kv_heads}"}
    if not isinstance(strategy, str) or strategy not in elements:
        raise ConfigError(f"scales of the cache by {quote(strategy)} are not known: there are {', '.join(elements)}")
    return Tensor("scale", MODEL, elements[strategy], is_read=False)


METHODS: Mapping[str, Callable[[Fields, str], Quantisation]] = {
    "fp8": _fp8, "mxfp4": _mxfp4, "gptq": _gptq, "awq": _awq, "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors, "modelopt": _modelopt, "torchao": _torchao, "hqq": _hqq, "mlx": _mlx,
    "fbgemm_fp8": _fbgemm_fp8, "auto-round": _auto_round, "intel/auto-round": _auto_round, "bitnet": _bitnet,
    "quark": _quark,
}  # fmt: skip
"""Method, as ``quant_method`` says it → how its fields are read."""
