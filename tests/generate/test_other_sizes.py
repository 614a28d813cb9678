"""What if the model had other layers, or other sizes: every shipped template has the parameters of the model built so."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer.analysis.populate import populate
from nbanalyzer.errors import InputError, NBAnalyzerError
from nbanalyzer.generate.check.oracle import parameters
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.probe.fields import candidates
from nbanalyzer.generate.trace.depth import count_fields
from nbanalyzer.generate.trace.layers import stacks
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config import extract_model_params

WITHOUT_RULE = {
    # its 52 layers are spelled out in the config, one letter each, and follow no period
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "nvidia/Nemotron-H-56B-Base-8K",
}
REFUSED = {"EleutherAI/gpt-neo-125m", "EleutherAI/gpt-neo-1.3B", "EleutherAI/gpt-neo-2.7B"}
"""At another depth by transformers, where another field says the kinds of layers as well."""
STRUCTURE = ("hidden_size", "word_embed_proj_dim")
"""Of OPT: where they differ there is a projection, and where they are equal there is none."""


OF_TEXT = [
    name
    for name in catalog.names()
    if catalog.base(name) == name  # others extend one of these: the same formulas
    and catalog.shipped(name).reads is None  # wholes are of their own config's sizes
]


def of_depth(config: dict[str, Any], depth: int) -> Subject:
    """Return the model with so many layers, its lists of layers cut, or gone on with as they repeat themselves."""
    subject = Subject.of(config)
    fields = subject.hf_config().to_dict()
    found = stacks(subject.build(), fields)
    change: dict[str, Any] = dict.fromkeys(count_fields(fields, found), depth)
    lengths = {len(stack.alike) for stack in found}
    for name, value in subject.config.items():
        if isinstance(value, list) and len(value) in lengths:
            period = next(
                (size for size in range(1, len(value)) if all(value[i] == value[i % size] for i in range(len(value)))),
                len(value),
            )
            change[name] = [value[index % period] for index in range(depth)]
    return subject.with_fields(change)


@pytest.mark.parametrize("name", [name for name in OF_TEXT if name not in {*WITHOUT_RULE, *REFUSED}])
@pytest.mark.parametrize("depth", [7, 20])
def test_at_another_depth(name: str, depth: int) -> None:
    config = dict(catalog.shipped(name).config)
    model = of_depth(config, depth).build()
    own = extract_model_params(config)
    change = {name: depth for name in ("num_layers", "num_decoder_layers") if name in own}
    assert populate(name, set=change, seq_len=1).totals["parameters"] == parameters(model)


@pytest.mark.parametrize("name", sorted(WITHOUT_RULE))
def test_where_no_rule_says_which_layers_there_would_be(name: str) -> None:
    with pytest.raises(InputError, match="changes nothing"):
        populate(name, set={"num_layers": 20})


LONG = ("-V4-Flash", "-V3.2", "GLM-5")
"""Ends of names of models that take ten seconds each, by the indexer that all of them have."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name.endswith(LONG) else ()) for name in OF_TEXT]
)
def test_one_size_doubled_or_halved(name: str) -> None:
    subject = Subject.of(dict(catalog.shipped(name).config))
    compared = 0
    for path, value in candidates(subject).items():
        field = path.rpartition(".")[2]
        if "/opt-" in name and field in STRUCTURE:
            continue
        for other in (2 * value, value // 2):
            try:
                model = subject.with_fields({path: other}).build()
                found = populate(name, set={field: other}, seq_len=1).totals["parameters"]
            except NBAnalyzerError:
                continue  # transformers refuses the size, or no formula uses it, which is said
            assert found == parameters(model), (field, other)
            compared += 1
    assert compared >= 6
