"""Every row of nbanalyzer/generate/hints.py is needed: without it, its model has no template, or another one.

Of expressions, another formula is enough: one that is longer, or in variables that follow other fields of the config.
"""

from __future__ import annotations

import os
from functools import cache
from itertools import product
from typing import Any

import pytest
from prompts import PROMPTS
from tilings import TILINGS
from wholes import MORE

from nbanalyzer import NBAnalyzerError, populate
from nbanalyzer.generate import hints
from nbanalyzer.generate.hf import KINDS, architectures
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.write.template import build_template
from nbanalyzer.templates.template import Composite, Kernel, ModelTemplate
from nbanalyzer.templates.template_files import encode
from tools.coverage import Case, shallow

TABLES = (
    "LIMITS",
    "POOLS",
    "CONVOLUTIONS",
    "HALVINGS",
    "CHUNKS",
    "EXPRESSIONS",
    "FIXED_CHUNKS",
    "SIMILAR",
    "STATES",
    "ABSORBED",
    "WHOLE_BLOCKS",
)
QUICK = {"falcon", "llama", "llama4_text", "mistral", "mpt", "squeezebert"}  # `make hints` takes away every row
ROWS = [
    pytest.param(table, place, id=f"{table}-{hint.name}-{hint.model}")
    for table in TABLES
    for place, hint in enumerate(getattr(hints, table))
    if hint.model in QUICK or os.environ.get("THOROUGH")
]
MASKED = {"fnet", "funnel", "longformer", "mobilebert", "perceiver", "squeezebert"}
FIELDS: dict[str, dict[str, Any]] = {  # other types at their defaults
    "bloom": {"n_head": 112, "hidden_size": 896},  # as many heads as BLOOM has
    "longt5": {"encoder_attention_type": "transient-global"},
    "switch_transformers": {"expert_capacity": 16},  # so that experts are full
}


@cache
def subject_of(model_type: str) -> Subject:
    if model_type in (reading := MORE | PROMPTS | TILINGS):  # with its images
        return Subject.of(reading[model_type])
    kind = "masked" if model_type in MASKED else next(kind for kind in KINDS if model_type in architectures(kind))
    return shallow(Case(kind, model_type)).with_fields(FIELDS.get(model_type, {}))


def template_of(model_type: str) -> ModelTemplate | str:
    """Return a model's template, or why there is none."""
    try:
        return build_template(subject_of(model_type), f"default/{model_type}")
    except NBAnalyzerError as problem:
        return str(problem)


usual_template = cache(template_of)


def numbers_of(template: ModelTemplate, kind: str) -> list[object]:
    """Return what a template says at lengths that are whole chunks, others, and fewer than a convolution sees."""
    read: dict[str, Any] = {"encoder_len": 512} if kind == "seq2seq" else {}
    variants: list[dict[str, Any]] = [{}, *([{"mla": "absorbed"}] if b'"absorbed"' in encode(template) else [])]
    runs = product((1, 2, 37, 512), (0,) if kind == "masked" else (0, 600, 9000))
    analyses = [
        populate(template, batch_size=2, seq_len=seq_len, cache_len=cache_len, **read, **variant)
        for seq_len, cache_len in runs
        for variant in variants
    ]
    return [(analysis.totals, analysis.state) for analysis in analyses]


@pytest.mark.pytorch
@pytest.mark.parametrize(("table", "place"), ROWS)
def test_a_row_is_needed_by_its_model(table: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = getattr(hints, table)
    model_type = rows[place].model
    usual = usual_template(model_type)
    assert not isinstance(usual, str), usual
    monkeypatch.setattr(hints, table, rows[:place] + rows[place + 1 :])
    without = template_of(model_type)
    if isinstance(without, str):
        return  # no template
    if table == "SIMILAR":  # the numbers are the same; but the call is no module template any more
        assert len(bound(without.kernels, rows[place].says[0])) < len(bound(usual.kernels, rows[place].says[0]))
    elif table in {"EXPRESSIONS", "FIXED_CHUNKS"}:
        assert without.kernels != usual.kernels
    else:
        kind = subject_of(model_type).kind
        assert numbers_of(without, kind) != numbers_of(usual, kind)


def bound(kernels: tuple[Kernel, ...], module: str) -> list[Composite]:
    """Return the calls that are this module template."""
    composites = [kernel for kernel in kernels if isinstance(kernel, Composite)]
    inner = [call for kernel in composites for call in bound(kernel.sub_kernels, module)]
    return [kernel for kernel in composites if kernel.module == module] + inner
