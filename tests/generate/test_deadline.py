"""How long generating takes: what is said meanwhile, how it ends, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.integrations import sdpa_attention
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.llama import modeling_llama

import nbanalyzer
from nbanalyzer.errors import InputError, NBAnalyzerError
from nbanalyzer.generate import deadline
from nbanalyzer.generate.deadline import SECONDS, VARIABLE, Expired, Job, TimeLimitError, allowed, look, working
from nbanalyzer.generate.write.template import GapError
from nbanalyzer.progress import part_of, tell, watched_by

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip


class ReversedConfig(PreTrainedConfig):  # type: ignore[misc, unused-ignore]
    model_type = "reversed"

    def __init__(self, hidden_size: int = 48, num_hidden_layers: int = 3, vocab_size: int = 100, **more: Any) -> None:
        self.hidden_size, self.num_hidden_layers, self.vocab_size = hidden_size, num_hidden_layers, vocab_size
        super().__init__(**more)


class Reversed(PreTrainedModel):  # type: ignore[misc, unused-ignore]
    """Three sizes that follow from the hidden size by no formula: its digits are read backwards."""

    config_class = ReversedConfig

    def __init__(self, config: ReversedConfig) -> None:
        super().__init__(config)
        wide = int(str(config.hidden_size)[::-1])
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.hidden_size, wide), nn.Linear(wide, wide), nn.Linear(wide, config.hidden_size)
            )
            for _ in range(config.num_hidden_layers)
        )
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return CausalLMOutput(logits=self.head(hidden))  # type: ignore[arg-type, unused-ignore]


@pytest.fixture(scope="module")
def told() -> list[tuple[str, float]]:
    """What is said while a template is generated."""
    said: list[tuple[str, float]] = []
    assert nbanalyzer.generate(LLAMA, progress=lambda *step: said.append(step)).provenance["result"] == "equal"
    return said


def replaceable() -> dict[str, object]:
    """Return what a trace replaces while it runs, as it is now."""
    owners: tuple[ModuleType | type, ...] = (F, Cache, DynamicCache, sdpa_attention, modeling_llama)
    return {
        f"{owner.__name__}.{name}": value
        for owner in owners
        for name, value in vars(owner).items()
        if isinstance(value, FunctionType) or callable(value)
    }


class Clock:
    """In place of the processor's: it moves on by a second whenever somebody reads it, and never by itself."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that generating sees: every look is a second later than the one before, on a busy machine too."""
    clock = Clock()
    monkeypatch.setattr(deadline, "thread_time", clock)
    monkeypatch.setattr(deadline, "monotonic", clock)
    return clock


def failed(call: Callable[[], object], kind: type[NBAnalyzerError]) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- the end


def test_the_first_size_without_a_formula_ends_the_search() -> None:
    text = failed(lambda: nbanalyzer.generate(Reversed, ReversedConfig()), GapError)
    assert text.startswith("Reversed: layers.0.0")
    assert "more)" not in text  # of the others, nothing is known
    assert text.count("no formula found") == 1


@pytest.mark.parametrize("seconds", [1, 300, 3_000])
@pytest.mark.usefixtures("told")  # what is imported then is there before anything is compared
def test_when_time_is_over_one_line_says_so_and_nothing_stays_replaced(
    seconds: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, hooks = replaceable(), len(torch.nn.modules.module._global_forward_hooks)
    threads = torch.get_num_threads()
    monkeypatch.setenv(VARIABLE, str(seconds))
    text = failed(lambda: nbanalyzer.generate(LLAMA, model_id="some/llama"), TimeLimitError)
    assert seconds <= clock.now < seconds + 100  # a few stages are told, with a look each; the first one late ends it
    assert text.startswith(f"some/llama: no template after {seconds} s of work, the last of it ")
    assert text.endswith("; the environment variable NBANALYZER_SECONDS allows more seconds")
    assert replaceable() == before
    assert len(torch.nn.modules.module._global_forward_hooks) == hooks
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert torch.get_num_threads() == threads


def test_time_that_is_over_is_no_failure_of_what_was_tried() -> None:
    """What tries sizes goes on after any error: not after this one."""
    assert not issubclass(Expired, Exception)
    tried = 0
    with pytest.raises(Expired), working(seconds=0.05):
        while True:
            tried += 1
            try:
                look()
            except Exception:  # noqa: BLE001
                pytest.fail("taken for a failure")
    assert tried > 1
    look()  # outside, there is no limit


def test_an_interrupted_forward_pass_is_stopped_within_itself(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing 400 layers takes many looks at the clock, and the first one after the end is the last."""
    many = {**LLAMA, "num_hidden_layers": 400}
    monkeypatch.setenv(VARIABLE, "1000")
    text = failed(lambda: nbanalyzer.generate(many), TimeLimitError)
    assert "tracing all its layers" in text
    assert 1000 <= clock.now < 1100


@pytest.mark.parametrize("text", ["0", "-1", "nan", "a minute", "1e"])
def test_the_environment_says_how_many_seconds(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert failed(lambda: nbanalyzer.generate(LLAMA), InputError) == (
        f"NBANALYZER_SECONDS is {text!r}: a number of seconds is needed, inf for no limit"
    )
    for right, seconds in {"": SECONDS, "2.5": 2.5, "inf": math.inf}.items():
        monkeypatch.setenv(VARIABLE, right)
        assert allowed() == seconds


def test_no_template_is_kept_when_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "0.001")
    failed(lambda: nbanalyzer.populate("gpt2", config={**LLAMA, "model_type": "olmo2"}), NBAnalyzerError)
    assert list(tmp_path.iterdir()) == []


# ---- what is said meanwhile

STAGES = (
    "building the model", "tracing all its layers", "running it in every situation",
    "trying what hidden_size changes", "probing other sizes, 1 of 8", "probing other sizes, 8 of 8",
    "finding formulas of model.layers.0.self_attn", "counting layers of other depths", "checking",
    "checking prefill", "checking decode", "checking continuation", "done",
)  # fmt: skip


def test_every_stage_is_told_in_order(told: list[tuple[str, float]]) -> None:
    parts = [part for _, part in told]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0, 1)
    said = [what for what, _ in told]
    places = [said.index(stage) for stage in STAGES[:-4]]
    assert places == sorted(places)
    assert set(STAGES) <= set(said)
    assert said[-1] == "done"


def test_whoever_watches_is_told_unless_somebody_else_is_named() -> None:
    heard: list[tuple[str, float]] = []
    named: list[tuple[str, float]] = []
    with watched_by(lambda *step: heard.append(step)):
        with working() as job, part_of(0.5, 1):
            tell("half", 0.5)
            job.tell("whole", 1)
        with working(lambda *step: named.append(step)):
            tell("elsewhere", 0)
    assert (heard, named) == ([("half", 0.75), ("whole", 1)], [("elsewhere", 0)])


def test_without_anybody_who_watches_nothing_happens() -> None:
    with working() as job, part_of(0, 1):
        tell("alone", 1)
    assert (job.stage, job.part) == ("alone", 1)


def test_what_takes_long_is_said_again(clock: Clock) -> None:
    told: list[tuple[str, float]] = []
    job = Job(lambda what, part: told.append((what, part)), math.inf)
    job.tell("thinking", 0.5)
    job.tell("thinking hard", 0.2)
    began, clock.now = job.start, job.told  # the clock is read twice a look, so the next one is a second later or two
    while len(told) < 3:
        job.look()
    assert told[:2] == [("thinking", 0.5), ("thinking hard", 0.5)]  # nothing is undone
    assert told[2] == (f"thinking hard, {clock.now - began:.0f} s", 0.5)
    assert 1 <= clock.now - began <= 5
