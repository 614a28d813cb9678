"""Compares what formulas say that a checkpoint weighs with published sizes, row by row.

The sizes lie in a folder of their own, which is read and not kept: ``given.tsv`` with a line for each (model, scheme,
total_size, kind) and ``configs/`` beside it. What the config of a model does not say and its files have is an *addend*:
a named tensor whose bytes are computed from the model's sizes. ``docs/quantisation.md`` has the method and the results.

Run as ``python -m tools.checkpoints FOLDER [--markdown]``. It needs torch, for the vision towers of some rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.analysis.populate import populate
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.schemes import scheme_named
from nbanalyzer.templates.template import Composite

__all__ = ["Result", "compared", "main"]

HEADER = 160  # bytes that a tensor takes in the header of a safetensors file, at most
APART = 256  # bytes by which the headers of llama.cpp's files of one model may differ

# Name of a row's scheme in the folder → as nbanalyzer writes it.
SCHEMES: Mapping[str, str | None] = {
    "awq-g128": "awq-4-g128", "bf16": "none", "fp32": "none", "mxfp4": None, "bnb-nf4-dq": "nf4-dq",
    "ct-fp8-channel": "fp8-channel", "fp8-tensor-static": "fp8", "fp8-block-bf16scale": "fp8-block:scale_bytes=2",
    "gptq4-g128": "gptq-4-g128:zero_bias=1", "gptq3-g-1": "gptq-3-g128:group=-1,zero_bias=1", "mlx4-g64": "mlx-4",
    "mlx5-g64": "mlx-5", "mlx6-g64": "mlx-6", "mlx8-g64": "mlx-8", "mlx-mxfp4-g32": "mlx-mxfp4",
}  # fmt: skip
# Part of a row's model → the shipped model whose sizes it has, where the folder has no config for it.
MODELS: Mapping[str, str] = {
    "Qwen2.5-7B": "qwen2.5-7b-instruct", "Qwen3-8B": "qwen3-8b", "Qwen3-32B": "qwen3-32b", "Qwen3-30B": "qwen3-30b-a3b",
    "gemma-2-9b": "gemma-2-9b-it", "Llama-3.2-1B": "llama-3.2-1b", "Llama-3.1-8B": "llama-3.1-8b",
    "Llama-3.1-70B": "llama-3.1-70b", "Llama-3.3-70B": "llama-3.1-70b", "Nemotron-70B": "llama-3.1-70b",
    "Llama-2-7b": "llama-2-7b", "Kimi-K2.5": "kimi-k2-instruct", "Meta-Llama-3.1-8B": "llama-3.1-8b",
}  # fmt: skip
# Language model that transformers has as a part only → one that is built alike.
ALIKE: Mapping[str, str] = {"qwen2_5_vl": "qwen2", "mistral4": "deepseek_v3"}
PUBLISHERS = ("deepseek-ai/", "zai-org/", "Qwen/")
"""Whose own files hold the layers that predict further tokens: converters and transformers leave them out."""
MOLMO = 8_021_025_280
"""Parameters of Molmo-7B-D, ``total_parameters`` of its index: transformers has no such model."""


@dataclass(frozen=True)
class Result:
    """A published size beside what formulas say.

    Attributes:
        model, scheme, kind: of the row.
        published: bytes.
        formula: bytes of all tensors.
        addends: what the files have and the config does not say: name → bytes, part of `formula`.
        tensors: how many are stored.
        verdict: how the two compare.

    """

    model: str
    scheme: str
    kind: str
    published: int
    formula: int
    addends: Mapping[str, int]
    tensors: int = 0
    verdict: str = ""

    @property
    def difference(self) -> int:
        """What is published beyond the formula."""
        return self.published - self.formula


def compared(folder: Path) -> list[Result]:
    """Return the results for all rows of a folder."""
    with (folder / "given.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return _judged([_result(row, folder) for row in rows])


def _result(row: Mapping[str, str], folder: Path) -> Result:
    model, scheme, published = row["model"], row["scheme"], int(row["total_size"])
    for part, special in SPECIAL.items():
        if part in model:
            size, addends = special(row)
            return Result(model, scheme, row["kind"], published, size, addends)
    source, config = _source(row, folder)
    quant = SCHEMES.get(scheme, scheme)
    if model.startswith(PUBLISHERS) and "quantization_config" in config:
        quant = None  # which layers are narrow is not only a scheme's affair
    run: dict[str, Any] = {"w_bit": 32} if scheme == "fp32" else {"quant": quant} if quant else {}
    analysis = populate(source, seq_len=1, **run)
    addends = _addends(row, analysis, config)
    size = int(analysis.totals["weight_bytes"]) + sum(addends.values())
    return Result(model, scheme, row["kind"], published, size, addends, _tensors(analysis))


def _source(row: Mapping[str, str], folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """Return the model of a row, as `populate` takes it, and its config if it is the folder's."""
    path = folder / "configs" / row["config_file"]
    if row["config_file"] and path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        stated = SCHEMES.get(row["scheme"], "") is None or row["model"].startswith(PUBLISHERS)
        return path if stated else _text_of(config), config
    return next(name for part, name in MODELS.items() if part in row["model"]), {}


def _text_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the language model alone: the vision tower is an addend."""
    fields = dict(config.get("text_config") or config)
    fields["model_type"] = ALIKE.get(fields["model_type"], fields["model_type"])
    if fields["model_type"] == "deepseek_v3":
        del fields["head_dim"]  # of queries and keys, here of two parts
    dropped = {"vision_config", "quantization", "quantization_config", "architectures", "rope_scaling"}
    ties = {"tie_word_embeddings": config["tie_word_embeddings"]} if "tie_word_embeddings" in config else {}
    return {**{name: value for name, value in fields.items() if name not in dropped}, **ties}


# ---- what the files have and the config does not say


def _addends(row: Mapping[str, str], analysis: Analysis, config: Mapping[str, Any]) -> dict[str, int]:
    """Return name → bytes of the tensors of a row that its config does not speak of."""
    model, scheme, sizes = row["model"], row["scheme"], analysis.params
    found: dict[str, int] = {}
    if model.startswith(PUBLISHERS) and (ahead := analysis.checkpoint.mtp):
        found["layers that predict further tokens"] = int(ahead)
        if sizes.model_type in {"deepseek_v3", "deepseek_v32", "glm4_moe"}:
            gates = [node for node in analysis.nodes if node.path.endswith(".mlp.gate")]
            layers = 1 + int(sum(analysis.costs[node].copies for node in gates))
            found["e_score_correction_bias, fp32"] = 4 * layers * sizes["num_experts"]
    if "vision_config" in config and analysis.template.reads is None and not scheme.startswith("gguf"):
        found["vision tower, 16 bits"] = 2 * _vision(config)
    if scheme.startswith("gguf") and "Llama-3" in model:
        found["rope_freqs, fp32"] = 4 * sizes["head_dim"] // 2
    if "MiniMax" in model:
        layers, experts = sizes["num_layers"], sizes["num_experts"]
        found["e_score_correction_bias, fp32"] = 4 * layers * experts
        found["routers' scales in fp32"] = 4 * layers * experts * (sizes["hidden_size"] // 64)
    if "Nemotron-3-Nano" in model:
        names = [node for node in analysis.nodes if node.path.endswith("layers_moe") or "linear_attention" in node.path]
        by_path = {node.path.rpartition(".")[2]: analysis.costs[node].copies for node in names}
        found["e_score_correction_bias, fp32"] = int(4 * by_path["layers_moe"] * sizes["num_experts"])
        found["A_log in fp32"] = int(2 * by_path["layers_linear_attention"] * sizes["mamba_num_heads"])
    return found


def _vision(config: Mapping[str, Any]) -> int:
    """Return the parameters outside the language model of transformers' model, built without weights."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    fields = {name: value for name, value in config.items() if name not in {"model_type", "quantization"}}
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[config["model_type"]](**fields))
    own = [(name, one) for name, one in model.named_parameters() if "language_model" not in name]
    return sum(one.numel() for name, one in own if not name.startswith("lm_head"))


def _kimi(_: Mapping[str, str]) -> tuple[int, Mapping[str, int]]:
    """Return how many elements the packed tensors hold: experts only, as the list of what is left out says."""
    left = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"]
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    stated = {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": left}
    shipped = populate("kimi-k2-instruct", seq_len=1).template.config
    config = {**shipped, "quantization_config": {**stated, "config_groups": {"group_0": group}}}
    packed = populate("kimi-k2-instruct", config=config, seq_len=1).checkpoint.tensors["weight_packed"]
    return int(packed * 2), {}


def _block(_: Mapping[str, str]) -> tuple[int, Mapping[str, int]]:
    """Return the bytes of the feed-forward layers of 28 of Qwen3-8B's layers."""
    analysis = populate("qwen3-8b", seq_len=1, quant="nvfp4")
    nodes = [node for node in analysis.nodes if node.path.endswith(("gate_proj", "up_proj", "down_proj"))]
    return int(sum(map(analysis.own_weight_bytes, nodes)) * 28 / analysis.params["num_layers"]), {}


def _molmo(_: Mapping[str, str]) -> tuple[int, Mapping[str, int]]:
    """Return the bytes of Molmo-7B-D: four fused linears a layer in nf4, all else by the index's count in 16 bits."""
    hidden, kv, width, layers = 3584, 4 * 128, 18944, 28
    linears = ((hidden + 2 * kv, hidden), (hidden, hidden), (2 * width, hidden), (hidden, width))
    scheme = scheme_named("nf4:state=-1")
    size = Fraction(0)
    for output, taken in linears:
        for tensor in scheme.tensors("nf4", parse(str(output)), parse(str(taken))):
            width_of = {"u8": 1, "f32": 4}[tensor.dtype]
            size += layers * Fraction(parse(tensor.elements).evaluate({})) * width_of
    rest = MOLMO - layers * sum(output * taken for output, taken in linears)
    return int(size) + 2 * rest, {"all else by the index's count": 2 * rest}


SPECIAL: Mapping[str, Callable[[Mapping[str, str]], tuple[int, Mapping[str, int]]]] = {
    "Kimi-K2.5": _kimi, "ZDTaichu": _block, "Molmo": _molmo,
}  # fmt: skip


# ---- verdicts


def _tensors(analysis: Analysis) -> int:
    """Return how many tensors a checkpoint has, experts one by one."""
    count: Number = 0
    for node in analysis.nodes:
        if not isinstance(node.kernel, Composite) or not node.own_parameters.variables:
            continue
        each = len(node.kernel.weights) or 1 + ("has_bias" in node.kernel.bindings)
        experts = analysis.params.get("num_experts", 1) if node.path.endswith("experts") else 1
        count += analysis.costs[node].copies * each * experts
    return int(count)


def _judged(results: Sequence[Result]) -> list[Result]:
    """Return the results with verdicts, which for llama.cpp's files follow from the others of the same model."""
    headers: dict[str, list[int]] = {}
    for one in results:
        if one.scheme.startswith("gguf") and 0 < one.difference < 10_000_000:
            headers.setdefault(_base(one.model), []).append(one.difference)
    return [Result(**{**vars(one), "verdict": _verdict(one, headers.get(_base(one.model), []))}) for one in results]


def _verdict(one: Result, headers: Sequence[int]) -> str:
    if one.difference == 0:
        return "equal"
    if one.scheme.startswith("gguf"):
        if one.difference not in headers:
            return "differs"
        spread = max(headers) - min(headers)
        alike = f"of {len(headers)} files within {spread} B" if len(headers) > 1 else "of one file"
        return f"header with the vocabulary, {alike}" if spread <= APART else "differs"
    if one.scheme == "bnb-nf4-dq":
        return "digits of a state" if abs(one.difference) <= 3 * one.tensors else "differs"
    each = one.difference / max(one.tensors, 1)
    return f"header, {each:.0f} B a tensor" if one.kind == "file" and 0 < each < HEADER else "differs"


def _base(model: str) -> str:
    return model.partition("-GGUF")[0]


# ---- shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the rows of a folder; return 1 if more than the two known ones differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--markdown", action="store_true", help="as the table of docs/quantisation.md")
    options = parser.parse_args(arguments)
    os.environ.setdefault("NBANALYZER_COMPARE", "off")
    results = compared(options.folder)
    edges = ("| ", " | ", " |") if options.markdown else ("", "  ", "")
    if options.markdown:
        print("| model | scheme | published | formula | difference | |\n|---|---|---|---|---|---|")
    for one in results:
        named = f" ({', '.join(one.addends)})" if one.addends else ""
        numbers = (f"{one.published:,}", f"{one.formula:,}", f"{one.difference:,}")
        print(edges[0] + edges[1].join((one.model, one.scheme, *numbers, one.verdict + named)) + edges[2])
    equal = sum(one.verdict == "equal" for one in results)
    differing = [one for one in results if one.verdict == "differs"]
    print(f"\n{equal} of {len(results)} equal, {len(results) - equal - len(differing)} up to what stands beside")
    return int(len(differing) > 2)


if __name__ == "__main__":
    sys.exit(main())
