"""What a form has for some models only: images, sound, drafts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from forms import Make, forms, panel_of

import nbanalyzer
from nbanalyzer.errors import InputError
from nbanalyzer.notebook.form.extras import ExtraControls
from nbanalyzer.notebook.form.whatif import WhatIf


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that makes forms; they are closed afterwards."""
    yield from forms("llama-3.1-8b")


def unfolded(form: WhatIf) -> ExtraControls:
    extras = panel_of(form).inputs.extras
    extras.toggle.value = True
    return extras


def test_drafts_are_asked_of_models_that_draft(make: Make) -> None:
    form = make("deepseek-v3", hardware="h200-sxm", phase="decode", cache_len=1000)
    extras = panel_of(form).inputs.extras
    assert (extras.toggle.layout.display, extras.toggle.description) == ("", "▸ beside tokens")
    assert list(unfolded(form).numbers) == ["mtp", "acceptance"]
    extras.numbers["mtp"].entry.value = "2"
    assert panel_of(form).error.value.count("needs acceptance") == 1  # and the last state stays
    assert form.state.run["mtp"] == 0
    extras.numbers["acceptance"].entry.value = "0.8"
    assert (form.state.run["mtp"], form.state.run["acceptance"]) == (2, 0.8)
    assert "mtp 2: 2.44 tokens a step at acceptance 0.8" in panel_of(form).heading.value  # 1 + 0.8 + 0.64
    assert extras.toggle.description == "▾ beside tokens: mtp=2, acceptance=0.8"
    passed = nbanalyzer.populate("deepseek-v3", seq_len=1, cache_len=1000, mtp=2, acceptance=0.8)
    assert form.analysis.totals == passed.totals
    assert "--mtp 2 --acceptance 0.8" in form.magic
    panel_of(form).inputs.model.value = "gpt2"
    assert (extras.toggle.layout.display, extras.numbers) == ("none", {})
    assert "mtp" not in form.magic


@pytest.mark.slow
def test_images_are_asked_of_models_that_read_them(make: Make) -> None:
    form = make("qwen2.5-vl-7b-instruct", hardware="l40s", seq_len=4096)
    extras = unfolded(form)
    assert list(extras.numbers) == ["images", "image_size"]
    extras.numbers["images"].entry.value = "3"
    assert "say theirs" in panel_of(form).error.value
    extras.numbers["image_size"].entry.value = "448x672"
    run: dict[str, Any] = {"images": 3, "image_size": "448x672"}
    assert form.analysis.totals == nbanalyzer.populate("qwen2.5-vl-7b-instruct", seq_len=4096, **run).totals
    assert "--images 3 --image_size 448x672" in form.magic
    images = extras.numbers["images"]
    images.actions["max"].click()  # type: ignore[union-attr]
    assert form.state.run["images"] == 4096 // 384  # 16 x 24 tokens each
    panel_of(form).inputs.phase.value = "request"
    images.actions["max"].click()  # type: ignore[union-attr]
    assert form.state.run["images"] == 4096 // 384
    images.actions["∿"].click()  # type: ignore[union-attr]
    assert "images" in panel_of(form).along.value
    panel_of(form).inputs.hardware.value = "none"
    assert images.actions["max"].layout.display == "none"  # type: ignore[union-attr]
    panel_of(form).inputs.model.value = "voxtral-mini-3b-2507"
    assert list(extras.numbers) == ["audio_seconds"]


def test_models_of_text_have_no_such_controls(make: Make) -> None:
    extras = panel_of(make()).inputs.extras
    assert (extras.toggle.layout.display, extras.body.layout.display) == ("none", "none")
    assert panel_of(make("vit-base-patch16-224")).inputs.extras.toggle.layout.display == "none"  # of one size, one each


@pytest.mark.parametrize(
    ("model", "option", "says"),
    [
        ("gpt2", {"images": 2}, "images=2: this model reads no images beside a text"),
        ("vit-base-patch16-224", {"images": 2}, "reads no images beside a text"),
        ("gpt2", {"audio_seconds": 2}, "audio_seconds=2: this model reads no such thing"),
        ("llama-3.1-8b", {"mtp": 1}, "mtp=1: this model has no layer that predicts further tokens"),
        ("llama-3.1-8b", {"acceptance": 0.5}, "this model has no layer that predicts further tokens"),
        ("qwen2.5-vl-7b-instruct", {"images": 2, "image_size": "big"}, "image_size is height x width"),
    ],
)
def test_what_a_model_does_not_have(model: str, option: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        WhatIf(model, **option)
