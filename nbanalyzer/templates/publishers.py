"""What a name says of how weights are stored: which scheme a publisher means, or which schemes it may be.

A name is taken for a scheme only where the publisher's files were compared with it, see ``docs/quantisation.md``.

>>> meant_by("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B"), meant_by("qwen3-32b-awq", "Qwen/Qwen3-32B")
('fp8-block:scale_bytes=2', 'awq-4-g128')
>>> meant_by("nvidia/Llama-3.1-8B-Instruct-FP8", "meta-llama/Llama-3.1-8B")
''
>>> may_mean("nvidia/Llama-3.1-8B-Instruct-FP8")
('fp8', 'fp8-block', 'fp8-channel')
"""

from __future__ import annotations

from collections.abc import Mapping

from .spelling import stored_otherwise

__all__ = ["may_mean", "meant_by"]

_PUBLISHED: Mapping[tuple[str, str], str] = {
    ("qwen", "fp8"): "fp8-block:scale_bytes=2",
    ("qwen", "awq"): "awq-4-g128",
    **dict.fromkeys((("redhatai", "fp8-dynamic"), ("neuralmagic", "fp8-dynamic")), "fp8-channel"),
    ("unsloth", "bnb-4bit"): "nf4-dq",
    **{("mlx-community", f"{bits}bit"): f"mlx-{bits}" for bits in (4, 5, 6, 8)},
}
"""Publisher, and how a name ends → the scheme of its files."""
_MARKS: Mapping[str, tuple[str, ...]] = {
    "gptq-int8": ("gptq-8-g128",), "gptq": ("gptq-4-g128",), "awq": ("awq-4-g128",), "gguf": ("gguf-q4_k_m",),
    "mxfp4": ("mxfp4",), "nvfp4": ("nvfp4",), "fp4": ("nvfp4", "mxfp4"), "fp8": ("fp8", "fp8-block", "fp8-channel"),
    "bnb-8bit": ("bnb-int8",), "bnb": ("nf4-dq", "nf4"), "w4a16": ("w4a16",), "w8a16": ("w8a16",), "w8a8": ("int8",),
    "int8": ("int8", "bnb-int8"), "8bit": ("bnb-int8", "mlx-8"), "int4": ("w4a16", "torchao-int4"),
    "4bit": ("nf4-dq", "mlx-4", "gptq-4-g128"),
}  # fmt: skip
"""Part of what a name says → the schemes that it may mean, the first part that is in it."""


def meant_by(text: str, name: str) -> str:
    """Return the scheme of the files that a name means, of a model with the structure of a shipped one; "" if unknown.

    Args:
        text: as it was typed; without a publisher, the model's own is meant.
        name: of the shipped model.

    """
    org = (text if "/" in text else name).partition("/")[0]
    return _PUBLISHED.get((org.casefold(), stored_otherwise(text)), "")


def may_mean(text: str) -> tuple[str, ...]:
    """Return the schemes that weights may be stored in whose name says so; none if it does not, or has 16 bits."""
    stored = stored_otherwise(text)
    return next((schemes for mark, schemes in _MARKS.items() if mark in stored), ())
