"""Wholes at other sizes than their own: what a shipped template says of a changed config is what PyTorch says of it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from wholes import MORE, SMALL

from nbanalyzer import generate, populate
from nbanalyzer.costs.count import count
from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.check.comparison import comparisons
from nbanalyzer.generate.check.media import in_run, needed
from nbanalyzer.generate.model.subject import Subject, UnrunnableError
from nbanalyzer.generate.model.towers import missing
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config_fields import variable_of, with_changes
from nbanalyzer.templates.config_files import media_fields, text_fields
from nbanalyzer.templates.families import canonical_name, says_no_size
from nbanalyzer.templates.media import positions_of
from nbanalyzer.templates.template import ModelTemplate
from tools.whole_validity import validity_of_whole

EVERY = {**SMALL, **MORE}
WHOLES = [name for name in catalog.names() if catalog.shipped(name).reads and catalog.shipped(name).valid_for]
QUICK = ("Qwen/Qwen2-VL-2B-Instruct", "google/vit-base-patch16-224")
MOST = 8
"""Changes of a model that PyTorch is asked about."""
LEAST = 2
METRICS = ("matmul_flops", "vector_flops", "read_bytes", "write_bytes")


def shallow(template: ModelTemplate) -> dict[str, int]:
    """Return the least numbers of layers that a template takes, so that PyTorch is quick."""
    assert template.valid_for is not None
    layers = [key for key in template.valid_for.varied if key.endswith(("layers", ".depth"))]
    return {canonical_name(variable_of(key)): max(template.valid_for.least.get(key, 1), 2) for key in layers}


def with_layers(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config whose list of kinds of layers is as long as it has layers, as transformers wants it."""
    text = dict(text_fields(config))
    if isinstance(text.get("layer_types"), list):
        text["layer_types"] = (text["layer_types"] * 9)[: text["num_hidden_layers"]]
    return {**config, "text_config": text} if "text_config" in config else {**config, **text}


def runs_of(subject: Subject, size: str) -> dict[str, dict[str, Any]]:
    """Return a prompt with images, sound or both, and the step after it; and one of text, where there may be one."""
    assert subject.reader is not None
    reads = subject.reader.reads
    read: dict[str, Any] = dict(needed(subject))
    if reads.what == "sound":
        read = {"audio_seconds": 5}
    elif not reads.each:
        read = {"images": 3} | ({} if "height" in reads.sizes else {"image_size": size})
    if reads.audio_positions:
        read["audio_seconds"] = 5
    length = 9 + positions_of(reads, subject.params, in_run(subject, read), 2)
    found = {"first": {"batch_size": 2, "seq_len": length, **read}}
    if subject.kind != "masked":
        found["next"] = {"batch_size": 2, "seq_len": 1, "cache_len": length, **read}
    return found | ({"text": {"batch_size": 3, "seq_len": 21}} if subject.reader.optional else {})


def compare(template: ModelTemplate, changes: dict[str, int]) -> None:
    """Require that all that is counted, with changes, equals what PyTorch counts of the changed config."""
    subject = Subject.of(with_layers(with_changes(template.config, changes)))
    model = subject.build("eager", "batched_mm")
    assert populate(template, set=changes, **runs_of(subject, "60x500")["first"]).totals[
        "parameters"
    ] == oracle.parameters(model)
    seen: set[str] = set()
    said = with_changes(template.config, changes)
    own = msgspec.structs.replace(template, config=said)
    for compared in comparisons(subject, model, runs_of(subject, "60x500"), lambda run: count(own, **run)):
        assert compared.totals[0] == compared.totals[1], (compared.what, changes)
        seen.add(compared.what)
    assert {f"first_{metric}" for metric in METRICS} <= seen


def fields_of(template: ModelTemplate) -> dict[str, int]:
    """Return all whole numbers in a whole's config that are sizes, of its text and of its towers."""
    text = text_fields(template.config)
    found = {name: value for name, value in text.items() if type(value) is int and not says_no_size(name)}
    return found | {name: value for name, _, value in media_fields(template.config) if type(value) is int}


def refusal(template: ModelTemplate, changes: dict[str, int]) -> str:
    try:
        populate(template, set=changes, batch_size=1)
    except NBAnalyzerError as error:
        return str(error)
    return ""


def require_right(template: ModelTemplate) -> None:
    """Require of fields in any order that a change is refused in one line, or right; and that some are taken."""
    few, sizes = shallow(template), fields_of(template)
    chance = random.Random(template.model_id)
    taken = 0
    for field in chance.sample(sorted(sizes), len(sizes)):
        size = sizes[field]
        values = (1, 2, max(size // 2, 1), size + 1, 2 * size, 3 * size)
        for value in chance.sample(values, len(values)):
            changes = few | {canonical_name(field): value}
            if refused := refusal(template, changes):
                assert "\n" not in refused
                continue
            try:
                Subject.of(with_layers(with_changes(template.config, changes))).build()
            except NBAnalyzerError:
                continue  # transformers refuses it
            try:
                compare(template, changes)
            except UnrunnableError:
                continue  # a text is longer than there are places for
            taken += 1
            break
        if taken == MOST:
            break
    assert taken >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in WHOLES]
)
def test_a_change_that_is_taken_is_right_and_any_other_is_refused_in_one_line(name: str) -> None:
    template = catalog.shipped(name)
    if lacks := missing(template.config.get("model_type")):
        pytest.skip(f"without {lacks} no tower of it is built")
    require_right(template)


@pytest.mark.long
@pytest.mark.parametrize("family", ["gemma3", "idefics3", "internvl", "llava", "mllama", "qwen3_vl"])
def test_what_small_wholes_were_compared_at_is_right(family: str) -> None:
    """Of families that are not shipped, too; formulas that a single config gives by chance are found and held."""
    template = generate(EVERY[family], model_id=f"some/{family}")
    known = validity_of_whole(template, Subject.of(template.config))
    require_right(msgspec.structs.replace(template, valid_for=known))
