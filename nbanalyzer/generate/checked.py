"""A model template against the real model: equal, or an error that says where not."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.populate import populate
from nbanalyzer.templates import ModelTemplate

from . import oracle

__all__ = ["RUNS", "MismatchError", "check"]

RUNS: Mapping[str, Mapping[str, Any]] = {
    "prefill": {"batch_size": 1, "seq_len": 2048},
    "prefill_last_logits": {"batch_size": 1, "seq_len": 2048, "logits": "last"},
    "decode": {"batch_size": 1, "seq_len": 1, "cache_len": 2048},
    "continuation": {"batch_size": 2, "seq_len": 16, "cache_len": 100},
}
"""Name → the run whose matmul FLOPs are compared, as ``<name>_matmul_flops``."""


class MismatchError(NBAnalyzerError):
    """A model template whose number is not PyTorch's.

    Attributes:
        model_id: the template's.
        what: the number's name in the provenance, e.g. ``"decode_matmul_flops"``.
        template: the template's number.
        pytorch: PyTorch's.

    """

    def __init__(self, model_id: str, what: str, template: float, pytorch: int) -> None:
        super().__init__(model_id, what, template, pytorch)
        self.model_id, self.what, self.template, self.pytorch = model_id, what, template, pytorch

    def message(self) -> str:
        """Return both numbers, and by how much they differ."""
        return (
            f"{self.model_id}: {self.what} is {self.template:,} by the template and {self.pytorch:,} by PyTorch, "
            f"a difference of {self.template - self.pytorch:+,}"
        )


def check(template: ModelTemplate) -> dict[str, Any]:
    """Return the provenance record of a template that equals PyTorch, exactly, at its own config.

    Compared are the parameters, the matmul FLOPs of `RUNS` (and of a run beyond the sliding window where there
    is one) by FlopCounterMode, and the elements of the key and value cache after the prefill.

    Args:
        template: complete, or extending a shipped one.

    Returns:
        ``{"transformers": version, "torch": version, "checked": {name: number, …}, "result": "equal"}``

    Raises:
        MismatchError: the first number that differs.
        NBAnalyzerError: the template cannot be populated, or transformers refuses its config.

    """
    model = oracle.build(template.config)
    runs = dict(RUNS)
    # transformers ignores the field where the config also says use_sliding_window false.
    if (window := template.config.get("sliding_window")) and template.config.get("use_sliding_window", True):
        runs["beyond_window"] = {"batch_size": 1, "seq_len": 16, "cache_len": window + 100}
    prefill = populate(template, **RUNS["prefill"], kv_bit=8).totals  # one byte an element

    checked: dict[str, int] = {}

    def compare(what: str, by_template: float, by_pytorch: int) -> None:
        if by_template != by_pytorch:
            raise MismatchError(template.model_id, what, by_template, by_pytorch)
        checked[what] = by_pytorch

    compare("parameters", prefill["parameters"], oracle.parameters(model))
    for name, run in runs.items():
        by_template = populate(template, **run).totals["matmul_flops"]
        compare(f"{name}_matmul_flops", by_template, oracle.matmul_flops(model, **run))
    if "kv_cache" in template.state:
        compare("kv_cache_elements", prefill["kv_cache_bytes"], oracle.cache_elements(model, **RUNS["prefill"]))
    return {
        "transformers": version("transformers"),
        "torch": version("torch").partition("+")[0],  # the build, +cpu or +cu…, makes no difference here
        "checked": checked,
        "result": "equal",
    }
