"""What PyTorch is not asked: sizes that are known, first weights without memory, and what its counter has no rule for."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from newest import NEWEST
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from towers import SWIN

from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.hf import quiet
from nbanalyzer.generate.model.meta import Answers
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.model.tables import unfilled
from nbanalyzer.generate.probe import sampling
from nbanalyzer.generate.probe.observation import observe, structure
from nbanalyzer.generate.probe.situations import media_of
from nbanalyzer.generate.trace.depth import Depth

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": 2, "vocab_size": 99}
MAMBA = {"model_type": "mamba", "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "vocab_size": 99}
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 99,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(2, 3, 32, 20), (1, 1, 101, 64), (5, 7, 1, 1), (3, 1, 1, 1), (1, 7, 3, 1)])
def test_an_image_of_another_size_is_in_memory_as_pytorch_has_it(mode: str, shape: tuple[int, ...]) -> None:
    batch, channels, height, width = shape
    rows = torch.empty(shape, device="meta", dtype=torch.bfloat16)
    last = torch.empty((batch, height, width, channels), device="meta", dtype=torch.float32).permute(0, 3, 1, 2)
    options: tuple[dict[str, Any], ...] = ({"size": (40, 50)}, {"scale_factor": 2.5})
    for image in (rows, last, rows.expand(batch, channels, height, width)[:, :, ::2]):
        for option in options:
            known = functional.interpolate(image, mode=mode, align_corners=False, **option)
            with Answers():
                answered = functional.interpolate(image, mode=mode, align_corners=False, **option)
            assert answered.shape == known.shape
            assert answered.stride() == known.stride()
            assert answered.dtype == known.dtype


def test_first_weights_are_drawn_where_there_is_memory() -> None:
    with unfilled(None):
        assert torch.nn.Linear(3, 4, device="meta").weight.is_meta
        assert torch.nn.Embedding(30, 4).weight.std() > 0.5  # of a normal distribution
        assert 0 < torch.nn.Linear(30, 40).weight.abs().max() <= 1 / 30**0.5


@pytest.mark.parametrize("config", [GPT2, MAMBA, MIXTRAL], ids=lambda config: config["model_type"])
def test_the_counter_counts_the_same_whatever_is_answered_before_it(config: dict[str, Any]) -> None:
    subject = Subject.of(config)
    model = subject.build("eager", "batched_mm")
    for step, again in zip(*(subject.steps(model, 2, (7, 3, 1)) for _ in range(2)), strict=True):
        with quiet(), torch.no_grad(), Answers(), FlopCounterMode(display=False) as counter:
            step.run()
        seen = oracle.flops(again)
        assert seen.cost.matmul_flops == counter.get_total_flops() > 0


def test_to_build_a_model_leaves_its_config() -> None:
    subject = Subject.of(GPT2)
    config, fields = subject.hf_config(), subject.fields()
    model: Any = subject.build("eager")
    assert model.config is not config
    assert subject.hf_config() is config
    assert subject.fields() == fields
    assert model.config._attn_implementation == "eager" != config._attn_implementation


def test_no_probe_is_looked_for_where_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    def observed(answers: list[int]) -> list[list[Any]]:
        found.clear()

        def look(_draws: object, _subject: Subject, situation: int) -> list[Any]:
            found.append(situation)
            return [situation] if len(found) in answers else []

        monkeypatch.setattr(sampling._Draws, "observed", look)
        return [*sampling.probes(space, 16, deepen=False)]

    subject = Subject.of(GPT2)
    space = sampling.space_of(subject, Depth())
    assert observed([]) == []
    assert len(found) == sampling.HOPELESS
    assert len(observed([sampling.HOPELESS])) == 1
    assert len(found) == sampling.ATTEMPTS * 16  # one was found: there may be more


def test_of_few_models_that_are_drawn_many_do_what_the_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swin does something else with a window that does not divide its patches."""
    drawn = itertools.count(1)
    whole = sampling._Draws.observed

    def counted(draws: Any, subject: Subject, situation: int) -> list[Any]:
        if next(drawn) > 40:
            pytest.fail("of forty, fewer than four are like the model")
        return whole(draws, subject, situation)

    monkeypatch.setattr(sampling._Draws, "observed", counted)
    space = sampling.space_of(Subject.of(SWIN), Depth())
    assert len([*itertools.islice(sampling.probes(space, 16, deepen=False), 4)]) == 4


def test_no_more_experts_are_drawn_than_are_chosen() -> None:
    """A list says that there are four of each layer: six are four, and no formula of six gives what is run."""
    trial = sampling._Trial(Subject.of(NEWEST["dots3_note"]), Depth(), 0)
    field = "vision_config.num_experts_per_tok"
    assert trial.distinct(field, [4, 6, 10], 2) == [4]
    assert trial.distinct("vision_config.moe_intermediate_size", [80, 120], 40) == [80, 120]


def test_fewer_logits_change_no_product_but_theirs() -> None:
    """The last positions of several sequences are one matrix then; what a projector makes of an image never is."""
    subject = Subject.of({**NEWEST["shieldgemma2"], "architectures": ["ShieldGemma2ForImageClassification"]})
    media, taken = media_of(subject, random.Random(1), 2, 2)
    runs = [observe(subject, Depth(), 2, (taken + 9,), 0, real=True, keep=keep, media=media)[0] for keep in ((), (3,))]
    assert structure(runs[0]) == structure(runs[1])
