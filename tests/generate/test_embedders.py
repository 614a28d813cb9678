"""Models that embed pages and questions, position by position: one that reads images and text, and a short product."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from wholes import MORE, SMALL, TEXT, TOWER

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.check.media import in_run
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.report.analysis import as_text

pytestmark = pytest.mark.pytorch

READ = {**SMALL, **MORE}
MODERN: dict[str, Any] = {
    "model_type": "modernvbert", "image_token_id": 7, "pixel_shuffle_factor": 2, "architectures": ["ModernVBertModel"],
    "text_config": {**TEXT, "model_type": "modernbert", "pad_token_id": 0, "local_attention": 16},
    "vision_config": {**TOWER, "model_type": "siglip_vision_model"},
}  # fmt: skip


def embedder(name: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"model_type": name.lower(), "architectures": [f"{name}ForRetrieval"], "vlm_config": part} | {
        "embedding_dim": 16
    }


EMBEDDERS = {
    "ColPali": embedder("ColPali", READ["paligemma"]),
    "beside its text": {**embedder("ColPali", READ["paligemma"]), "text_config": READ["paligemma"]["text_config"]},
    "ColQwen2": embedder("ColQwen2", READ["qwen2_vl"]),
    "ColModernVBert": embedder("ColModernVBert", MODERN),
}


@pytest.mark.parametrize("name", EMBEDDERS)
def test_the_part_that_reads_images_is_all_but_the_last_product(name: str) -> None:
    """It computes no logits; a layer of 16 outputs, with a bias, is left out, and the name says of what it is a part."""
    config = EMBEDDERS[name]
    subject = Subject.of(config)
    assert subject.reader is not None
    assert [subject.within] == config["architectures"]
    model_class = getattr(transformers, subject.within)
    with torch.device("meta"):
        whole = model_class(model_class.config_class.from_dict(config))
    assert oracle.parameters(whole) - oracle.parameters(subject.build()) == 16 * (TEXT["hidden_size"] + 1)


@pytest.mark.long
def test_an_encoder_of_tiles_and_text_is_counted_whole() -> None:
    """Two images of 100x50 are, of 56 pixels a side, four tiles by two each, and one of all: 4 positions a tile."""
    template = nbanalyzer.generate(EMBEDDERS["ColModernVBert"], model_id="some/model")
    run: dict[str, Any] = {"seq_len": 100, "images": 2, "image_size": "50x100"}
    found = populate(template, **run)
    assert as_text(found).startswith("some/model (ModernVBertModel: a part of ColModernVBertForRetrieval)")
    subject = Subject.of(EMBEDDERS["ColModernVBert"])
    media = in_run(subject, run)
    step = next(subject.steps(subject.build("eager"), 1, (100,), media=media))
    assert found.totals["matmul_flops"] == oracle.flops(step).cost.matmul_flops
    patches = 2 * (4 * 2 + 1) * 16  # of 14 pixels
    assert found.cost(found.find("vision_model.embeddings")).matmul_flops == 2 * patches * 3 * 14 * 14 * 48
