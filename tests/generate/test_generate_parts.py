"""What a model may be made of beside plain layers: parts that are shared, called again, left out or never called."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as attention_by_another_name
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig, PreTrainedModel

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.formulas.formula import parse, variable
from nbanalyzer.generate.check.oracle import Seen
from nbanalyzer.generate.check.positions import Position, parameters_of
from nbanalyzer.generate.fit.atoms import derived
from nbanalyzer.generate.fit.search import Atom, Fitter
from nbanalyzer.generate.fit.sizes import Sizes, Unfitted
from nbanalyzer.generate.model.meta import Answers
from nbanalyzer.generate.model.subject import Step, Subject, UnrunnableError
from nbanalyzer.generate.probe import situations
from nbanalyzer.generate.probe.cases import Cases
from nbanalyzer.generate.probe.fields import candidates
from nbanalyzer.generate.probe.observation import Observation, observe, values_of
from nbanalyzer.generate.trace.depth import Depth
from nbanalyzer.generate.trace.layers import Stack
from nbanalyzer.generate.trace.pricing import flat, work
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Operand, Operation, Scope
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.write.cache_state import by_layer, gap_of
from nbanalyzer.generate.write.conditions import Conditions
from nbanalyzer.generate.write.layers import of_layers
from nbanalyzer.generate.write.merge import Node, merged
from nbanalyzer.generate.write.template import build_template, stated
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.template import Basic, MemoryAccess, ModelTemplate
from tools.coverage import Case, shallow

TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


# ---- a model of many parts


class PartsConfig(PreTrainedConfig):  # type: ignore[misc, unused-ignore]
    model_type = "parts"

    def __init__(self, width: int = 40, depth: int = 3, inner: int = 5, vocab_size: int = 70, **others: Any) -> None:
        self.width, self.depth, self.inner, self.vocab_size = width, depth, inner, vocab_size
        self.hidden_size, self.num_hidden_layers = width, depth
        super().__init__(**others)


def linear(inputs: int, outputs: int) -> torch.nn.Linear:
    return torch.nn.Linear(inputs, outputs, bias=False)


class Block(torch.nn.Module):
    def __init__(self, width: int, shared: torch.nn.Linear) -> None:
        super().__init__()
        self.own, self.shared = linear(width, width), shared

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.own(hidden)
        result: torch.Tensor = hidden + self.shared(hidden)
        return result


class Core(torch.nn.Module):
    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(linear(width, width) for _ in range(count))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class PartsModel(PreTrainedModel):  # type: ignore[misc, unused-ignore]
    config_class = PartsConfig

    def __init__(self, config: PartsConfig) -> None:
        super().__init__(config)
        width = config.width
        self.embed = torch.nn.Embedding(config.vocab_size, width)
        shared = linear(width, width)
        self.layers = torch.nn.ModuleList(Block(width, shared) for _ in range(config.depth))
        self.core = Core(width, config.inner)
        self.tower = torch.nn.ModuleList(linear(width, width * (1 + index % 2)) for index in range(4))
        self.scale = torch.nn.Parameter(torch.ones(width, dtype=torch.float32))
        self.head = linear(width, config.vocab_size)
        self.post_init()

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        for _ in range(2):
            hidden = self.core(hidden) * self.scale
        for layer in self.tower[::2]:  # the others would read an image
            hidden = layer(hidden)
        return {"logits": self.head(hidden)}


def parts() -> Subject:
    config = PartsConfig()
    return Subject({**config.to_dict(), "model_type": "parts"}, "masked", PartsModel, config_class=PartsConfig)


def test_parts_that_are_shared_called_again_or_never_called() -> None:
    template = nbanalyzer.generate(PartsModel, PartsConfig())
    totals = populate(template, seq_len=6, batch_size=2).totals
    square = 40 * 40
    inside = 3 * square + square  # one of each block, and one that all blocks have
    inside += 5 * square + 2 * square + 2 * 2 * square  # the core's, those of the tower that are called, and the others
    assert totals["parameters"] == 2 * 70 * 40 + inside + 40
    per_token = 2 * 3 * square + 2 * 5 * square + 2 * square + 70 * 40
    assert totals["matmul_flops"] == 2 * 12 * per_token


def test_parameters_have_the_models_precision_but_for_those_that_ask_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {parameter.dtype for parameter in parts().build().parameters()} == {torch.bfloat16}
    monkeypatch.setattr(PartsModel, "_keep_in_fp32_modules_strict", ["scale"])
    kept = {name for name, one in parts().build().named_parameters() if one.dtype == torch.float32}
    assert kept == {"scale"}


# ---- calls


def call(name: str, *rows: int) -> Scope:
    """Return a module's scope with one product for each number of rows."""
    scope = Scope(name, "Linear", torch.nn.Linear(1, 1))
    for count in rows:
        left, right, out = (
            Operand("a_bytes", shape, shape, floating=True) for shape in ((count, 4), (4, 8), (count, 8))
        )
        scope.children.append(Operation("mm", "here:1", (left, right), (out,)))
    return scope


def model(*calls: Scope) -> Scope:
    return Scope("", "Model", torch.nn.Linear(1, 1), children=list(calls))


def shape(node: Node) -> list[tuple[dict[int, int], bool]]:
    return [(child.turns, child.alike) for child in node.children if isinstance(child, Node)]


def test_calls_that_differ_are_not_the_turns_of_a_loop() -> None:
    twice, once = model(call("key", 5), call("key", 7)), model(call("key", 1))
    assert shape(merged({0: twice, 1: once}, {0, 1})) == [({0: 1, 1: 1}, True), ({0: 1}, True)]
    alike = model(call("key", 5), call("key", 5))
    assert shape(merged({0: alike, 1: once}, {0, 1})) == [({0: 2, 1: 1}, True)]
    many = model(*(call("key", count) for count in (5, 5, 5, 5, 5, 2)))  # a loop, whose last turn is another
    assert shape(merged({0: many, 1: once}, {0, 1})) == [({0: 6, 1: 1}, False)]


def test_what_follows_a_call_says_whether_the_first_one_or_the_last_is_left_out() -> None:
    """Positions of what is kept, then of the queries: a step that keeps nothing more has those of the queries alone."""
    kept = model(call("rotary", 5), call("norm", 5), call("rotary", 7), call("query", 7))
    nothing = model(call("rotary", 1), call("query", 1))
    rotary = [node for node in merged({0: kept, 1: nothing}, {0, 1}).children if node.name == "rotary"]
    assert [node.seen.keys() for node in rotary] == [{0}, {0, 1}]
    more = model(call("rotary", 7), call("query", 7), call("rotary", 5), call("norm", 5))
    last = [node for node in merged({0: more, 1: nothing}, {0, 1}).children if node.name == "rotary"]
    assert [node.seen.keys() for node in last] == [{0, 1}, {0}]


def test_what_a_step_closes_says_when_something_is_run() -> None:
    steps = [(cache_len, seq_len) for cache_len in range(13) for seq_len in (1, 2, 3, 4, 5, 8, 9, 12)]
    values = {
        index: {"batch_size": 1, "seq_len": seq_len, "cache_len": cache_len}
        for index, (cache_len, seq_len) in enumerate(steps)
    }
    conditions, where = Conditions(Cases(rates=(4,)), values), frozenset(values)

    def condition(runs: Callable[[int, int], bool]) -> str:
        return str(conditions.of(frozenset(index for index in where if runs(*steps[index])), where))

    assert condition(lambda kept, new: kept % 4 + new >= 4) == "{cache_len} % 4 + {seq_len} >= 4"
    joined = condition(lambda kept, new: kept % 4 + new >= 4 and kept >= 4)  # to entries that are there
    assert joined == "({cache_len} % 4 + {seq_len} >= 4) * ({cache_len} >= 4)"
    assert condition(lambda kept, new: (kept + new) % 3 == 0) == "None"
    assert Cases().facts == ()  # without such windows nothing is looked for


def test_a_layer_keeps_what_was_seen_to_be_appended_in_it() -> None:
    """Of three layers the second runs three times, with places of its own at the cache's end."""
    stack, layers = Stack("model.layers", (0, 1, 2)), (0, 1, 2, 1, 1)
    state = {("kv_cache", place): parse(str(10**place)) for place in range(5)}
    seen = {place: f"model.layers.{layer}.attention" for place, layer in enumerate(layers)}
    found = {layer: formula.evaluate({}) for (_, layer), formula in of_layers(state, [stack], 5, seen).items()}
    assert found == {0: 1, 1: 10 + 1_000 + 10_000, 2: 100}
    alone = {key: formula for key, formula in state.items() if key[1] < 3}
    assert of_layers(alone, [stack], 3, dict.fromkeys(range(3), "model.shared.attention")) == alone
    assert of_layers(state, [stack], 5, {}) == state  # nobody saw it, and five are no turns of three


def test_the_lengths_that_show_chunks_are_beyond_the_same_windows() -> None:
    assert situations.chunk_lengths(64, ()) == (7, 128, 133)
    assert situations.chunk_lengths(64, (16,)) == (16, 128, 133)
    assert situations.chunk_lengths(64, (100,)) == (128, 133)
    assert situations.chunk_lengths(64, (130,)) == (256, 261)
    assert situations.chunk_lengths(64, (512,)) == (7, 128, 133)


def test_keys_as_many_as_a_head_is_wide_are_no_second_query() -> None:
    """What attention reads of a bias has the sizes of the queries then, and is still something else."""

    def operand(*shape: int) -> Operand:
        return Operand("a_bytes", shape, shape, floating=True)

    def read(keys: int) -> list[tuple[int, ...]]:
        inputs = (operand(2, 4, 3, 16), operand(2, 4, keys, 16), operand(2, 4, keys, 16), operand(2, 4, 3, keys))
        found = work(Operation("scaled_dot_product_attention", "", inputs, (operand(2, 3, 4, 16),)))
        return [amount.sizes for amount in found.read]

    assert read(16) == [(2, 4, 3, 16), (2, 4, 16, 16), (2, 4, 16, 16), (2, 4, 3, 16)]
    assert len(read(15)) == len(read(16))


def test_a_projection_of_two_texts_is_two_kernels() -> None:
    """T5Gemma 2 projects the decoder's text and the encoder's by the same layer, the latter in the first step only."""
    layers = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100,
    }  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    subject = Subject(
        {
            "model_type": "t5gemma2",
            "vocab_size": 100,
            "encoder": {"text_config": layers, "vision_config": vision},
            "decoder": layers,
        },
        "seq2seq",
    )
    template = build_template(subject, "x/y")
    assert list(differences(subject, template, (9, 4, 1), 7)) == []


def differences(
    subject: Subject, template: ModelTemplate, lengths: Sequence[int], encoder_len: int = 0
) -> Iterator[tuple[str, float, int]]:
    """Yield the steps whose matmul FLOPs are not those of FlopCounterMode, which some models refuse to take."""
    real = subject.build("eager", "batched_mm").requires_grad_(requires_grad=False)
    for step in subject.steps(real, 2, lengths, encoder_len):
        with torch.no_grad(), Answers(), FlopCounterMode(display=False) as counter:
            try:
                step.run()
            except UnrunnableError:
                if step.untouched:
                    continue
                raise
        sizes: dict[str, Any] = {"batch_size": 2, "seq_len": step.seq_len, "cache_len": step.cache_len}
        sizes |= {"encoder_len": encoder_len} if step.has_encoder else {}
        mine = populate(template, **sizes).totals["matmul_flops"]
        if mine != counter.get_total_flops():
            yield f"{step.seq_len} after {step.cache_len}", mine, counter.get_total_flops()


# ---- one token at a time

PROPHET = {
    "model_type": "prophetnet", "hidden_size": 64, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 100,
    "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
}  # fmt: skip


def test_a_step_that_is_refused_is_left_out() -> None:
    subject = Subject(PROPHET, "seq2seq")
    real = subject.build()
    with recording(real):
        seen = observe(subject, Depth(), 2, (9, 4, 1, 1), 7, real=True)
    assert [(one.values["seq_len"], one.values["cache_len"]) for one in seen] == [(9, 0), (1, 9), (1, 10)]
    template = build_template(subject, "x/y")
    assert list(differences(subject, template, (9, 4, 1, 1), 7)) == []


class Renamed(torch.nn.Module):
    """Attention under a name of its own, as ``from torch.nn.functional import …`` leaves it."""

    def forward(self, **_: Any) -> dict[str, Any]:
        heads = torch.empty(1, 2, 3, 4, device="meta")
        return {"logits": attention_by_another_name(heads, heads, heads)}


def test_fused_attention_is_seen_under_any_name() -> None:
    model = Renamed()
    model.config = SimpleNamespace()  # type: ignore[assignment]
    with recording(model):
        root = trace(Step(Subject({}, "masked"), model, 1, 3, 0))
    assert [one.name for one in root.operations()] == ["scaled_dot_product_attention"]


def test_a_step_that_has_changed_the_cache_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(TINY, "causal")
    real = subject.build()
    steps = []

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("too late")

    for step in subject.steps(real, 1, (5, 4, 1)):
        steps.append(step)
        if step.cache_len:
            monkeypatch.setattr(real.lm_head, "forward", fail)
            with pytest.raises(UnrunnableError, match="too late"):
                step.run()
            break
        step.run()
    assert [step.untouched for step in steps] == [False, False]


# ---- what is kept


def first_step(subject: Subject) -> Step:
    step = next(subject.steps(subject.build(), 2, (5,)))
    with Answers():
        step.run()
    return step


def test_the_state_of_the_whole_model_is_compared_with_its_cache() -> None:
    subject = Subject(TINY, "causal")
    step, values = first_step(subject), values_of(subject)
    right = "{num_layers} * 2 * {batch_size} * {num_kv_heads} * ({seq_len} + {cache_len}) * {head_dim} * {kv_bytes}"
    assert gap_of(step, {"kv_cache": parse(right)}, values) is None
    kept = 2 * 2 * 2 * 2 * 5 * 16 * 2  # layers, keys and values, sequences, heads, tokens, sizes, bytes
    for wrong in ({"kv_cache": parse(f"{right} + 1")}, {}):
        gap = gap_of(step, wrong, values)
        assert gap is not None
        assert gap.values == (kept,)


def test_layers_that_run_in_cycles_keep_keys_and_values_of_each_pass() -> None:
    """HRM: two layers in three passes."""
    config = {
        "model_type": "hrm_text", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
        "vocab_size": 100, "num_layers_per_stack": 2, "H_cycles": 1, "L_cycles": 2, "head_dim": 16,
        "num_hidden_layers": 6,
    }  # fmt: skip
    template = build_template(Subject(config, "causal"), "x/y")
    assert populate(template, batch_size=3, seq_len=7).state == {"kv_cache": 2 * 3 * 2 * 3 * 7 * 64 * 2}


def test_only_a_missing_formula_is_a_gap_of_the_state() -> None:
    broken: Any = SimpleNamespace(observations=(), real=())
    assert by_layer(broken) == {}
    broken.observations = (SimpleNamespace(),)  # which cannot even be asked what it keeps
    with pytest.raises(AttributeError):
        by_layer(broken)


# ---- sizes


def atoms(**values: tuple[int, ...]) -> list[Atom]:
    return [Atom(variable(name), numbers) for name, numbers in values.items()]


def test_a_number_is_none_beside_a_variable_that_is_the_same_wherever_it_is_seen() -> None:
    """Positions of sound are as many for any sound, and none where there is no sound."""
    fitter = Fitter(atoms(filled=(96, 72, 24, 48, 12, 0), seen=(95, 64, 24, 41, 6, 0), positions=(188,) * 5 + (0,)))
    found = fitter.fit(dict(enumerate((23, 30, 22, 29, 28))))
    assert found is not None
    assert found.evaluate({"filled": 60, "seen": 55, "positions": 188}) == 60 - 55 + 22


def test_one_condition_that_explains_a_size_is_found_before_two() -> None:
    """What is added to sound that does not fill its positions: none is left of the only run that does."""
    runs = [(1, 3), (2, 5), (1, 8), (2, 12), (1, 4), (2, 6), (1, 7), (3, 9)]
    subject: Any = SimpleNamespace(reader="of sound")
    seen = [
        Observation(
            {"batch_size": batch, "seq_len": 5, "cache_len": 0, "heard": heard, "places": 12},
            model(), (), {}, subject, real=index < 4,
        )
        for index, (batch, heard) in enumerate(runs)
    ]  # fmt: skip
    sizes = Sizes(seen, Cases(others=("{heard} < {places}",)))
    assert str(sizes.fit({index: int(heard < 12) for index, (_, heard) in enumerate(runs)}, "a size")) == (
        "1 if {heard} < {places} else 0"
    )


def test_a_length_and_what_two_kernels_add_to_it() -> None:
    fitter = Fitter(atoms(seq_len=(5, 9, 40, 17, 33), first=(2, 3, 4, 2, 5), second=(3, 2, 7, 4, 2)))
    sizes = {0: 5 + 2 + 3 - 2, 1: 9 + 3 + 2 - 2, 2: 40 + 4 + 7 - 2, 3: 17 + 2 + 4 - 2, 4: 33 + 5 + 2 - 2}
    found = fitter.fit(sizes)
    assert found is not None
    assert found.evaluate({"seq_len": 100, "first": 6, "second": 9}) == 100 + 6 + 9 - 2
    assert fitter.fit({**sizes, 4: 1}) is None


def test_what_a_size_may_be_divided_by() -> None:
    values = [
        {"hidden_size": 64, "num_heads": 8, "num_kv_heads": 2, "topk_group": 4, "conv_groups": 4},
        {"hidden_size": 96, "num_heads": 12, "num_kv_heads": 3, "topk_group": 2, "conv_groups": 2},
    ]
    found = set(derived(values))
    assert {"{num_heads} // {num_kv_heads}", "{hidden_size} // {conv_groups}"} <= found
    assert not {"{hidden_size} // {num_kv_heads}", "{hidden_size} // {topk_group}"} & found
    values[1]["conv_groups"] = 5  # 96 is no multiple of it
    assert "{hidden_size} // {conv_groups}" not in derived(values)


def test_a_cost_may_be_known_by_its_number_of_elements() -> None:
    rows = Operand("a_bytes", (2, 3, 4), (2, 3, 4), floating=True)
    operation = Operation("silu", "here:1", (rows,), (rows,), pointwise=True)
    shaped, whole = work(operation), flat(work(operation))
    assert [one.sizes for one in (*shaped.flops, *shaped.read)] == [(2, 3, 4), (2, 3, 4)]
    assert [(one.times, one.sizes, one.unit) for one in (*whole.flops, *whole.read, *whole.write)] == [
        (4, (24,), ""),
        (1, (24,), "a_bytes"),
        (1, (24,), "a_bytes"),
    ]


def test_a_list_of_one_size_for_all_layers_is_varied_as_that_size() -> None:
    config = {"model_type": "gemma3n_text", "num_hidden_layers": 2, "intermediate_size": [96, 96]}
    assert candidates(Subject.of(config))["intermediate_size"] == 96


def test_a_field_that_is_stated_otherwise_under_the_name_it_is_kept_by_is_not_varied() -> None:
    """Inkling 2 takes intermediate_size for moe_intermediate_size, a variable that is read from its own field."""
    of_text = {"model_type": "inkling2_text", "hidden_size": 64, "intermediate_size": 96}
    for other, varied in ((None, True), (96, True), (24, False)):
        text = of_text if other is None else {**of_text, "moe_intermediate_size": other}
        vision = {"hidden_size": 48, "text_hidden_size": 64, "intermediate_size": 192}  # the tower's is another field
        whole = {
            "model_type": "inkling2", "architectures": ["Inkling2ForConditionalGeneration"], "text_config": text,
            "vision_config": vision,
        }  # fmt: skip
        for config, before in ((text, ""), (whole, "text_config.")):
            found = candidates(Subject.of(config))
            assert (f"{before}intermediate_size" in found) == varied
            assert found[f"{before}moe_intermediate_size"] == 96


def test_parameters_of_a_module_that_is_called_twice_stand_above_its_calls() -> None:
    def place(path: str, kernels: str, *inside: Position) -> Position:
        nodes: list[Any] = [SimpleNamespace(kernel=SimpleNamespace(name=name)) for name in kernels.split()]
        return Position(path, nodes, [Seen(path.rpartition(".")[2], path)] * max(1, len(nodes)), [*inside])

    norm, up = place("layer.norm", "norm norm_2"), place("layer.up", "up")  # a template calls the second norm_2
    layer = place("layer", "layer", norm, up)
    inside = torch.nn.ModuleDict({"norm": linear(2, 2), "up": linear(2, 5)})
    found = parameters_of(place("", "", layer), torch.nn.ModuleDict({"layer": inside}))
    assert (found[norm], found[up], found[layer]) == (0, 10, 14)


def test_a_chunk_is_a_variable_wherever_the_config_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "model_type": "mamba2", "hidden_size": 32, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1,
        "num_hidden_layers": 1, "vocab_size": 100, "chunk_size": 16,
    }  # fmt: skip
    subject = Subject(config, "causal")
    fields = candidates(subject)
    monkeypatch.setattr(
        situations, "candidates", lambda _: {f"text_config.{name}": size for name, size in fields.items()}
    )
    with recording(subject.build()):
        assert situations.chunk_of(subject, Depth()) == "{chunk_size}"


# ---- the config beside it


def stating(subject: Subject) -> dict[str, Any]:
    """Return the config of a template that uses some variables."""
    sizes = "{head_dim} * {hidden_size} * {num_layers}"
    kernel = Basic(operation="add", unit="vector", flops=sizes, memory_access=MemoryAccess("0", "0"))
    config = dict(subject.given or subject.config)
    template = ModelTemplate(model_id="x/y", architecture="", config=config, kernels=(kernel,))
    return stated(template, subject).config


@pytest.mark.parametrize(("kind", "model_type"), [("causal", "zamba2"), ("seq2seq", "musicflamingo"), (None, "gemma3")])
def test_the_config_states_the_models_own_values(kind: Any, model_type: str) -> None:
    """Of Zamba 2, another field says what its name does not mean; of a multimodal model, a part of it."""
    subject = Subject.of({"model_type": model_type}, kind)
    known, wanted = extract_model_params(stating(subject)), values_of(subject)
    for name in ("head_dim", "hidden_size", "num_layers"):
        assert known[name] == wanted[name]


def test_a_multimodal_model_without_a_text_config_has_the_default_one() -> None:
    subject = Subject.of({"model_type": "fast_vlm"})  # how it reads images is not known
    assert (subject.kind, subject.config["model_type"]) == ("causal", "qwen2")
    assert not [name for name, _ in subject.build().named_modules() if "vision" in name]
    assert Subject.of({"model_type": "gemma3", "text_config": {"hidden_size": 64}}).config["hidden_size"] == 64
    assert shallow(Case("causal", "gemma3")).config["model_type"] == "gemma3_text"


def test_unfitted_says_what_it_saw() -> None:
    problem = Unfitted("a size", (3, 4))
    assert (problem.what, problem.values) == ("a size", (3, 4))


def test_a_long_formula_needs_many_values_to_be_believed() -> None:
    """Four numbers can be had from six variables by chance: then it is no formula of theirs."""
    chance = random.Random(5)
    names = [f"field_{place}" for place in range(12)]
    values = [{name: chance.choice((2, 3, 4, 6, 8, 12, 16, 24, 32)) for name in names} for _ in range(4)]
    fitter = Fitter(Atom(variable(name), tuple(one[name] for one in values)) for name in names)
    believed = 0
    for _ in range(8):
        sizes = {index: chance.choice((2, 3, 5, 6, 9, 10)) * 4096 * chance.choice((1, 2, 3)) for index in range(4)}
        if (found := fitter.fit_product(sizes)) is not None:
            believed += len(found.variables) > 6
    assert not believed
    real = {
        index: one["field_0"] * one["field_1"] * one["field_2"] * one["field_3"] for index, one in enumerate(values)
    }
    assert fitter.fit_product(real) is not None
