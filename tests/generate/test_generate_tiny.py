"""Models whose code needs data: made tiny, run on the CPU, and compared there; or refused, if the cost depends on it."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import PreTrainedConfig, PreTrainedModel

import nbanalyzer
from nbanalyzer import ModelTemplate, populate
from nbanalyzer.generate.check import comparison, equality, samples, verification
from nbanalyzer.generate.check.equality import MismatchError, check
from nbanalyzer.generate.check.oracle import flops, traffic
from nbanalyzer.generate.check.samples import UnvariedError, runnable
from nbanalyzer.generate.model import data
from nbanalyzer.generate.model.data import ALIKE, TooLargeError, fill, tokens
from nbanalyzer.generate.model.subject import NeedsDataError, Subject, UnrunnableError
from nbanalyzer.generate.probe.observation import values_of
from nbanalyzer.generate.probe.tiny import DataDependentError, tiny
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Operand, Operation, Scope
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.write.template import build_template
from nbanalyzer.report.template import summary

LONGFORMER = {
    "model_type": "longformer", "hidden_size": 80, "intermediate_size": 112, "num_hidden_layers": 3, "vocab_size": 100,
    "num_attention_heads": 5, "attention_window": [32, 32, 32], "max_position_embeddings": 300, "pad_token_id": 1,
}  # fmt: skip
JETMOE: dict[str, Any] = {
    "model_type": "jetmoe", "hidden_size": 96, "intermediate_size": 80, "num_hidden_layers": 2, "vocab_size": 200,
    "kv_channels": 24, "num_key_value_heads": 3, "num_attention_heads": 6, "num_local_experts": 5,
    "num_experts_per_tok": 2,
}  # fmt: skip
PROBLEM = NeedsDataError("5 tokens", "no data")


@pytest.fixture(scope="module")
def jetmoe() -> ModelTemplate:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("nbanalyzer.generate.write.template"), "PROBES_OF_TINY", 6)  # quicker
        return build_template(Subject.of(JETMOE), "x/jetmoe")


# ---- real models


def test_attention_in_windows_from_a_config_to_a_checked_template(tmp_path: Path) -> None:
    """Longformer: 70 tokens are padded to 96, in 5 overlapping chunks of 32 keys each, and 3 of what is put together."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LONGFORMER), encoding="utf-8")
    template = nbanalyzer.generate(path, model_id="x/longformer")
    record = template.provenance
    assert (record["result"], record["device"], record["sizes"]) == ("equal", "cpu", [""])  # small as it is
    assert template.config["attention_window"] == [32, 32, 32]

    width, window, inner = 80, 32, 112
    layer = 3 * 2 * width * width + 2 * width * width + 2 * 2 * width * inner  # by token: q, k, v; out; the MLP
    padded, chunks, halves = 96, 5, 6
    scores, values = 2 * chunks * window * window * width, 2 * halves * (window // 2) * (3 * window // 2) * width
    head = 2 * 70 * width * (width + 100)
    totals = populate(template, batch_size=2, seq_len=70).totals
    assert totals["matmul_flops"] == 2 * (3 * (padded * layer + scores + values) + head)
    assert totals["parameters"] == sum(one.numel() for one in Subject.of(LONGFORMER).build().parameters())


def test_a_loop_over_experts_is_one_product_of_all_rows(jetmoe: ModelTemplate) -> None:
    """JetMoE: experts for queries, outputs and the MLP; keys and values are shared."""
    width, inner, kv, experts, each = 96, 80, 24 * 3, 5, 2
    routers = 2 * 2 * width * experts
    attention = 2 * width * 2 * kv + each * 2 * (2 * width * kv)  # keys and values; queries and outputs of experts
    feed_forward = each * 2 * (width * 2 * inner + inner * width)
    scores = 2 * 2 * (8 + 40) * each * kv
    totals = populate(jetmoe, batch_size=1, seq_len=8, cache_len=40).totals
    assert totals["matmul_flops"] == 8 * (2 * (routers + attention + feed_forward + scores) + 2 * width * 200)
    real = sum(one.numel() for one in Subject.of(JETMOE).build().parameters())
    assert totals["parameters"] == real
    # A token reads two experts of five, many tokens nearly all of them.
    one, many = (populate(jetmoe, seq_len=length).totals["weight_bytes_read"] for length in (1, 4000))
    stacks = 2 * experts * (2 * width * kv + 3 * width * inner) * 2
    assert many - one == stacks * (experts - each) // experts + 3999 * width * 2  # and rows of the embedding


def test_what_is_too_large_is_compared_at_tiny_sizes_and_says_so(
    jetmoe: ModelTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "LARGEST", 10_000)
    monkeypatch.setattr(equality, "OTHERS", 0)
    subject = Subject.of(JETMOE)
    record = check(jetmoe, subject)
    assert record["result"] == "equal at tiny sizes on the CPU; at its own, only the parameters were compared"
    assert record["checked"] == {"parameters": populate(jetmoe, seq_len=1).totals["parameters"]}
    assert "" not in record["sizes"]
    own = values_of(subject)
    for name in ("hidden_size", "vocab_size", "intermediate_size"):  # each was seen as it is, and tiny
        assert {f"{name}={own[name]}" in sizes or f"{name}=" not in sizes for sizes in record["sizes"]} == {True, False}
    text = summary(msgspec.structs.replace(jetmoe, provenance=record))
    assert "compared at tiny sizes on the CPU only" in text
    assert text.count("FLOPs") == 0

    monkeypatch.setattr(verification, "runnable", lambda *given: islice(runnable(*given), 1))
    found = verification.verify(jetmoe, subject, random_configs=1)
    assert found.ok
    assert found.tiny
    assert "tiny configs on the CPU, and its real parameters" in str(found)


def test_a_number_that_is_a_tiny_size_does_not_pass(jetmoe: ModelTemplate, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.of(JETMOE)
    size = values_of(tiny(subject, PROBLEM))["intermediate_size"]
    wrong = msgspec.json.decode(
        msgspec.json.encode(jetmoe).replace(b"{intermediate_size}", str(size).encode()), type=ModelTemplate
    )
    with pytest.raises(MismatchError, match="parameters"):
        check(wrong, subject)
    monkeypatch.setattr(samples, "LARGEST", 10_000)
    monkeypatch.setattr(comparison, "count", lambda *_a, **_k: populate(jetmoe, seq_len=1))  # parameters are right
    with pytest.raises(MismatchError, match=r"with .*hidden_size="):
        check(wrong, subject)


def test_a_size_that_was_never_another_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "LARGEST", 10_000)
    monkeypatch.setattr(samples, "drawn", lambda _small, _count: iter(()))
    monkeypatch.setattr(samples, "restored", lambda _subject, small: iter([small.with_fields({"hidden_size": 96})]))
    with pytest.raises(UnvariedError, match=r"other values of .*vocab_size") as caught:
        list(runnable(Subject.of(JETMOE), PROBLEM, 0))
    assert "hidden_size" not in str(caught.value)


# ---- what is refused


class RoutedConfig(PreTrainedConfig):  # type: ignore[misc, unused-ignore]
    model_type = "routed"

    def __init__(self, hidden_size: int = 48, num_experts: int = 4, vocab_size: int = 70, **others: Any) -> None:
        self.hidden_size, self.num_experts, self.vocab_size = hidden_size, num_experts, vocab_size
        self.num_hidden_layers = 1
        super().__init__(**others)


class RoutedModel(PreTrainedModel):  # type: ignore[misc, unused-ignore]
    """Only tokens of the first expert are computed: how many they are, the data decides."""

    config_class = RoutedConfig

    def __init__(self, config: RoutedConfig) -> None:
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.router = torch.nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.expert = torch.nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.post_init()

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embed(input_ids).flatten(0, 1)
        chosen = (self.router(hidden).argmax(-1) == 0).nonzero()[:, 0]
        return {"logits": hidden.index_add(0, chosen, self.expert(hidden[chosen]))}


def test_a_cost_that_depends_on_the_data_is_no_template() -> None:
    with pytest.raises(DataDependentError, match=r"the cost depends on the data: .* nonzero \(test_generate_tiny.py"):
        nbanalyzer.generate(RoutedModel, RoutedConfig())


class BrokenModel(RoutedModel):
    """Needs data, and does not run with any."""

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        rows = input_ids.nonzero() if input_ids.is_meta else input_ids
        return {"logits": self.embed(rows).reshape(-1, 7, -7)}


def test_what_runs_nowhere_is_an_error_about_the_meta_device() -> None:
    with pytest.raises(UnrunnableError, match="does not run"):
        nbanalyzer.generate(BrokenModel, RoutedConfig())


def test_a_large_model_is_never_allocated() -> None:
    config = {"model_type": "llama", "hidden_size": 65_536, "num_hidden_layers": 2}
    with pytest.raises(TooLargeError, match=r"parameters are more than the 150,000,000"):
        replace(Subject.of(config), device="cpu").build()


# ---- what runs without data


def test_a_model_that_runs_on_the_meta_device_is_never_run_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object) -> None:
        raise AssertionError

    for name in ("require_small", "fill", "tokens"):
        monkeypatch.setattr(data, name, never)
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    template = nbanalyzer.generate(config)
    assert template.provenance["result"] == "equal"
    assert not {"device", "sizes"} & template.provenance.keys()


def test_the_same_trace_with_data_and_without() -> None:
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    costs = []
    for device in ("meta", "cpu"):
        subject = replace(Subject.of(config), device=device)
        model = subject.build()
        with recording(model):
            seen = [traffic(trace(step), 2 * step.seq_len).cost for step in subject.steps(model, 2, (9, 4, 1))]
        eager = [flops(step).cost for step in subject.steps(subject.build("eager"), 2, (9, 4, 1))]
        costs.append((seen, [one.matmul_flops for one in eager]))
    assert costs[0] == costs[1]


# ---- data


def test_tokens_are_inside_the_vocabulary_and_plain() -> None:
    config = {"pad_token_id": 0, "eos_token_id": [1, 2], "bos_token_id": None, "num_layers": 3}
    drawn = tokens(config, 6, (40, 50), 1)
    assert set(drawn.flatten().tolist()) == {3, 4, 5}
    assert torch.equal(drawn, tokens(config, 6, (40, 50), 1))
    assert not torch.equal(drawn, tokens(config, 6, (40, 50), 2))
    assert set(tokens(config, 6, (4, 5), ALIKE).flatten().tolist()) == {3}


def test_weights_are_the_same_each_time() -> None:
    one, two, three = (torch.nn.Linear(300, 300) for _ in range(3))
    fill(one, 1)
    fill(two, 1)
    fill(three, 2)
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, three.weight)
    assert len({tuple(row) for row in one.weight.tolist()}) == 300


def test_a_layer_of_experts_in_a_scope() -> None:
    """Three experts of a stack of four were visited, with 5, 0 and 2 rows; another product of the module stays."""
    from nbanalyzer.generate.trace.grouping import group_experts

    def operand(size: str, *shape: int) -> Operand:
        return Operand(size, shape, shape, floating=True)

    def product(rows: int, out: int = 16, line: str = "m.py:3") -> Operation:
        return Operation(
            "mm", line, (operand("a_bytes", rows, 8), operand("w_bytes", 8, out)), (operand("a_bytes", rows, out),)
        )

    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.empty(4, 16, 8, device="meta"))
    rows = tuple(operand("a_bytes", count, 16) for count in (5, 0, 2))
    joined = Operation("cat", "m.py:4", rows, (operand("a_bytes", 7, 16),))
    other = product(9, 3, "m.py:5")
    scope = Scope("experts", "Experts", module, children=[*map(product, (5, 0, 2)), joined, other])
    group_experts(scope)
    together, cat, rest = scope.children
    assert isinstance(together, Operation)
    assert isinstance(cat, Operation)
    assert together.name == "_grouped_mm"
    assert [one.shape for one in (*together.inputs, *together.outputs)] == [(7, 8), (4, 8, 16), (7, 16)]
    assert [one.shape for one in cat.inputs] == [(7, 16)]
    assert rest is other
