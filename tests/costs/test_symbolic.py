"""A template's costs with sizes left free, against populating at every size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import builders
import pytest

from nbanalyzer import populate
from nbanalyzer.analysis.closed_form import working_sets
from nbanalyzer.costs.metrics import KERNEL_METRICS
from nbanalyzer.costs.run import Run
from nbanalyzer.costs.symbolic import Symbolic, free_values
from nbanalyzer.errors import TemplateError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.quantities import plain

FREE = ("batch_size", "seq_len", "cache_len")
POINTS = ((1, 1, 0), (3, 40, 0), (2, 1, 700), (1, 9, 5_000))
MODELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gpt2", {"attn": "eager", "logits": "last"}),
    ("llama-3.1-8b", {"w_bit": 5, "kv_bit": 3}),
    ("mixtral-8x7b-v0.1", {}),
    ("deepseek-v3.2", {}),
    ("qwen3-next-80b-a3b-instruct", {}),
    ("gemma-3-1b-it", {"causal": "on"}),
    ("mamba-2.8b-hf", {}),
    ("t5-small", {}),
    ("t5-small", {"encoder_len": 33}),
)


def free(name: str, run: dict[str, Any], *names: str) -> Symbolic:
    analysis = populate(name, **run)
    return analysis.symbolic(*names)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "run"), MODELS)
def test_every_metric_at_every_size(name: str, run: dict[str, Any]) -> None:
    symbolic = free(name, run, *FREE)
    for point in POINTS:
        values: dict[str, Any] = dict(zip(FREE, point, strict=True))
        analysis = populate(name, **run, **values)
        for metric in (*KERNEL_METRICS, "activation_bytes", "parameters", "weight_bytes"):
            found = analysis.totals.get(metric, 0)  # of one device, nothing is communicated
            assert plain(symbolic.metric(metric).evaluate(values)) == found, (metric, point)
        assert {key: plain(one.evaluate(values)) for key, one in symbolic.state.items()} == analysis.state
        assert symbolic.tokens.evaluate(values) == point[0] * point[1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "run"), MODELS)
def test_launches_add_up_and_the_largest_working_set_is_the_memorys(name: str, run: dict[str, Any]) -> None:
    symbolic = free(name, run, *FREE)
    for point in POINTS:
        values: dict[str, Any] = dict(zip(FREE, point, strict=True))
        analysis = populate(name, **run, **values)
        for metric in ("matmul_flops", "vector_flops", "bytes"):
            parts = (one.times.evaluate(values) * getattr(one, metric).evaluate(values) for one in symbolic.launches)
            assert plain(sum(parts)) == analysis.totals[metric]
        assert max(one.evaluate(values) for one in working_sets(symbolic)) == analysis.memory.activations
        found: Number = 0
        for nodes in (launch.nodes for launch in analysis.launches):
            if any(analysis.cost(node).flops or analysis.cost(node).bytes for node in nodes):
                found += analysis.cost(nodes[0]).count * nodes[0].steps
        idle = (
            one.times.evaluate(values) * one.steps
            for one in symbolic.launches
            if not (one.bytes + one.matmul_flops + one.vector_flops).evaluate(values)
        )
        assert sum(one.times.evaluate(values) * one.steps for one in symbolic.launches) - sum(idle) == found


def test_sizes_of_the_architecture_may_be_free() -> None:
    analysis = populate("llama-3.1-8b", seq_len=7)
    symbolic = analysis.symbolic("num_layers", "vocab_size")
    for layers, words in ((1, 10), (32, 128_256), (80, 1000)):
        changed = populate("llama-3.1-8b", seq_len=7, set={"num_layers": layers, "vocab_size": words})
        for metric in ("flops", "bytes", "parameters"):
            found = symbolic.metric(metric).evaluate({"num_layers": layers, "vocab_size": words})
            assert found == changed.totals[metric]


def test_logits_follow_the_length_unless_only_the_last_are_wanted() -> None:
    every, last = (free("gpt2", {"logits": logits}, "seq_len").metric("matmul_flops") for logits in ("all", "last"))
    head = 2 * 768 * 50_257
    assert every.evaluate({"seq_len": 100}) - last.evaluate({"seq_len": 100}) == 99 * head
    assert every.evaluate({"seq_len": 1}) == last.evaluate({"seq_len": 1})


def test_an_error_names_the_kernel() -> None:
    kernel = {"kernel_type": "basic", "operation": "op", "unit": "vector", "flops": "1 / {cache_len}",
              "memory_access": {"read": "1", "write": "0"}}  # fmt: skip
    part = {"kernel_type": "composite", "name": "part", "sub_kernels": [kernel]}
    analysis = populate({"model_id": "own", "kernels": [part]}, cache_len=3)
    with pytest.raises(TemplateError, match=r"part\.op"):
        Symbolic(analysis.kernel_tree, {**analysis.values, "cache_len": 0}).metric("flops")


# ---- by hand


def basic(flops: str, read: str = "0", name: str = "op", **fields: Any) -> dict[str, Any]:
    return builders.basic(flops, read, name=name, **fields)


def own(*kernels: dict[str, Any], names: tuple[str, ...] = FREE, **run: Any) -> Symbolic:
    analysis = populate(builders.template(builders.composite("part", *kernels)), **run)
    return analysis.symbolic(*names)


def test_what_follows_from_what_is_free_follows_still() -> None:
    run = Run(batch_size=2, seq_len=5, cache_len=7, logits="all")
    assert free_values(run, frozenset()) == run.values()
    found = free_values(run, frozenset({"seq_len"}))
    assert str(found["num_logits"]) == "seq_len"
    assert str(found["encoder_len"]) == "7"  # as many as are cached
    assert "seq_len" not in found
    assert found["batch_size"] == 2
    assert free_values(replace(run, logits="last"), frozenset({"seq_len"}))["num_logits"] == 1
    drafts = free_values(Run(seq_len=1, cache_len=7, mtp=2, acceptance=0.5, logits="last"), frozenset({"seq_len"}))
    assert (drafts["drafts"], drafts["num_logits"], drafts["mtp"]) == (0, 1, 2)  # of a prompt
    encoder = free_values(run, frozenset({"cache_len"}))["encoder_len"]
    assert isinstance(encoder, Polynomial)
    assert [encoder.evaluate({"cache_len": cached}) for cached in (0, 1, 9)] == [5, 1, 9]
    assert free_values(run, frozenset({"batch_size"}))["encoder_len"] == 7
    assert free_values(replace(run, encoder_len=3), frozenset({"cache_len"}))["encoder_len"] == 3


@pytest.mark.parametrize(
    ("text", "doubted"),
    [
        ("{seq_len} - 1", False),  # a size of at least 1
        ("{seq_len} * {batch_size} - 1", False),
        ("{seq_len} - 2", True),
        ("{cache_len} - 1", True),
        ("max({cache_len} - 1, 0)", False),
        ("max({seq_len} - 1, {cache_len} - 1)", False),
        ("5", False),
    ],
)
def test_what_might_be_negative_is_told(text: str, doubted: bool) -> None:
    symbolic = own(basic(f"{text}"), seq_len=4, cache_len=4)
    symbolic.metric("flops")
    assert [str(doubt) for doubt in symbolic.doubts] == ([str(symbolic.metric("flops"))] if doubted else [])


@pytest.mark.parametrize(
    ("flops", "read", "started"),
    [
        ("{batch_size}", "0", {(3, 0): 1, (1, 5): 1}),
        ("{cache_len}", "0", {(3, 0): 0, (1, 5): 1}),
        ("0", "{cache_len} * {batch_size}", {(3, 0): 0, (1, 5): 1}),
        ("{cache_len}", "{w_bytes}", {(3, 0): 1, (1, 5): 1}),
        ("{batch_size} * {seq_len} + {cache_len}", "0", {(3, 0): 1, (1, 5): 1}),
    ],
)
def test_what_has_nothing_to_do_is_not_started(flops: str, read: str, started: dict[tuple[int, int], int]) -> None:
    (launch,) = own(basic(flops, read)).launches
    for (batch, cached), expected in started.items():
        values = {"batch_size": batch, "seq_len": 2, "cache_len": cached}
        assert launch.is_started.evaluate(values) == expected
    if all(started.values()):
        assert launch.is_started.is_constant


@pytest.mark.parametrize("unit", ["matmul", "vector"])
def test_work_and_traffic_do_not_make_up_for_each_other(unit: str) -> None:
    kernel = {**basic("{cache_len}", "{cache_len}"), "unit": unit}
    (launch,) = own(kernel).launches
    for cached in (0, 3):
        values = {"batch_size": 1, "seq_len": 1, "cache_len": cached}
        assert launch.is_started.evaluate(values) == (cached > 0)
        assert (launch.bytes.evaluate(values), launch.activations.evaluate(values)) == (cached, cached)


def test_working_sets_that_may_be_the_largest() -> None:
    """Neither what never runs nor what another is always larger than."""

    def part(name: str, read: str, **fields: Any) -> dict[str, Any]:
        return {"kernel_type": "composite", "name": name, "sub_kernels": [basic("0", read)], **fields}

    kernels = [
        part("small", "3 * {seq_len}"),
        part("large", "5 * {seq_len}"),
        part("smaller", "4 * {seq_len}"),
        part("other", "{cache_len} * 2"),
        part("never", "100 * {seq_len}", repeat="{n}"),
        part("later", "200 * {seq_len}", repeat="{cache_len}"),
    ]
    analysis = populate({"model_id": "own", "kernels": kernels, "config": {"n": 0}})
    symbolic = analysis.symbolic(*FREE)
    sets = working_sets(symbolic)
    found = [[one.evaluate({"seq_len": 7, "cache_len": cached}) for one in sets] for cached in (0, 3, 60)]
    assert found == [[35, 0, 0], [35, 6, 1400], [35, 120, 1400]]


def test_equal_launches_are_taken_together() -> None:
    one, other = basic("3 * {seq_len}", name="a"), basic("4 * {seq_len}", name="c")
    first, second = own(one, {**one, "operation": "b"}, other).launches
    assert (first.times.number, second.times.number) == (2, 1)
    assert [node.path for node in first.nodes] == ["part.a"]
    assert len(own(one, {**one, "operation": "b", "steps": 2}).launches) == 2  # started twice as often
    assert len(own(basic("0", "4 * {w_bytes}", "a"), basic("0", "4 * {a_bytes}", "b")).launches) == 2  # other sizes


MOVED = "5 * {w_bytes} + 7 * {cache_len} * {kv_bytes} + {batch_size} * {a_bytes}"
STATE = {"kv_cache": "{batch_size} * {cache_len} * {kv_bytes}", "ssm": "8 * {batch_size}"}


def counted(**run: Any) -> Symbolic:
    """Return three layers of 10 weights, a product and a vector kernel each, and a module that shares its weights."""
    product = builders.basic("2 * {batch_size} * {seq_len}", MOVED, "11 * {kv_bytes} + {seq_len} * {a_bytes}", "matmul")
    layers = builders.composite("layers", product, basic("4 * {seq_len}"), parameters="10", repeat="3")
    shared = builders.composite("shared", basic("0", "{w_bytes}"), parameters="100", shared=True)
    return populate(builders.template(layers, shared, state=STATE), **run).symbolic(*FREE)


def test_every_metric_of_three_small_layers() -> None:
    """2 sequences of 3 tokens after 5, in 16 bits."""
    found, values = counted(), {"batch_size": 2, "seq_len": 3, "cache_len": 5}
    read, written, weights, cached, appended = 3 * (10 + 70 * 1 + 4) + 2, 3 * (22 + 6), 3 * 10 + 2, 3 * 70, 3 * 22
    expected = {
        "matmul_flops": 3 * 2 * 2 * 3, "vector_flops": 3 * 4 * 3, "flops": 36 + 36, "read_bytes": read, "write_bytes": written,
        "bytes": read + written, "weight_bytes_read": weights, "kv_bytes_read": cached, "kv_bytes_written": appended,
        "activation_bytes": 3 * 4 + 3 * 6, "parameters": 30, "weight_bytes": 60, "payload_bytes": 0,
    }  # fmt: skip
    assert {name: found.metric(name).evaluate(values) for name in expected} == expected
    assert {name: one.evaluate(values) for name, one in found.state.items()} == {"kv_cache": 2 * 5 * 2, "ssm": 16}
    assert found.tokens.evaluate(values) == 6
    assert found.value_of(parse("{batch_size} * {a_bytes}")).evaluate(values) == 4
    product, vector, other = found.launches
    assert [one.times.number for one in (product, vector, other)] == [3, 3, 1]
    parts = (product.weights, product.cache, product.activations, product.bytes)
    assert [one.evaluate(values) for one in parts] == [10, 70 + 22, 4 + 6, 10 + 92 + 10]


def test_weights_that_are_stored_are_their_bytes() -> None:
    """Two layers of 128 x 256 in fp8, a scale of 4 bytes for each of two blocks, and a norm of 256 in 16 bits."""
    sizes = {"input_size": "256", "output_size": "128", "num_tokens": "{seq_len}", "has_bias": "0"}
    up = builders.composite("up", module="torch.nn.modules.linear.Linear", bindings=sizes)
    norm = builders.composite("norm", basic("1", "256 * {w_bytes}"), parameters="256")
    made = builders.template(builders.composite("layers", up, norm, repeat="{num_layers}"), config={"num_layers": 2})
    found = populate(made, quant="fp8-block", seq_len=4)
    expected = 2 * (128 * 256 + 2 * 4 + 256 * 2)
    assert found.totals["weight_bytes"] == found.symbolic().metric("weight_bytes").number == expected
    assert found.totals["weight_bytes_read"] == found.symbolic().metric("weight_bytes_read").number == expected
    for metric, number in (("weight_bytes", expected), ("weight_bytes_read", expected), ("kv_bytes_read", 0)):
        assert found.formula_text(metric).evaluate(found.values) == number
    assert found.number("weight_bytes", found.find("up")) == 2 * (128 * 256 + 2 * 4)


def test_products_of_an_engine_that_only_differ_in_their_sizes_are_two() -> None:
    """Of 8 x 2 and 2 x 8 all amounts are alike, not their time; one at the top stands in no module."""

    def product(name: str, taken: str, block: str = "1") -> dict[str, Any]:
        bound = {"num_tokens": "{batch_size}", "input_size": taken, "output_size": "3"}
        op = builders.basic("32 * {batch_size}", "16 * {w_bytes} + 10 * {a_bytes}", "0", "matmul", "op")
        return builders.composite(name, builders.composite("in", op, bindings=bound), repeat=block)

    analysis = populate(builders.template(product("a", "8"), product("b", "2")), fusion="engine")
    assert len(analysis.symbolic().launches) == 2
    analysis = populate(builders.template(product("a", "8"), product("b", "8")), fusion="engine")
    (both,) = analysis.symbolic().launches
    assert both.times.number == 2
    analysis = populate(builders.template(product("a", "8"), product("b", "8", "3")), fusion="engine")
    assert [one.times.number for one in analysis.symbolic().launches] == [1, 3]  # inside layers, and outside
    top = builders.basic("32", "16 * {w_bytes}", "0", "matmul", "op")
    (alone,) = populate(builders.template(top), fusion="engine").symbolic().launches
    assert (alone.kind, alone.matmul_flops.number) == ("linear", 32)


def test_a_launch_takes_as_many_steps_as_its_first_kernel() -> None:
    first, second = basic("1", "12", name="a", steps=3), basic("2", "18", name="b", fused=True)
    (launch,) = own(first, second).launches
    assert (launch.steps, launch.activations.number, launch.bytes.number) == (3, 10, 30)


@pytest.mark.parametrize("fusion", ["none", "engine"])
def test_what_is_sent_is_in_launches_of_its_own(fusion: str) -> None:
    """3 sequences of 2 tokens with 4 elements each, in 16 bits, twice."""
    norm = builders.composite("norm", basic("{hidden_size}", "{w_bytes}"), repeat="2")
    made = builders.template(norm, config={"hidden_size": 4}, sharding={"norm": "all_reduce"})
    rank = populate(made, tp=2, batch_size=3, seq_len=2, fusion=fusion, comm="transformers")
    found = [(one.kind, one.times.number, one.payload.number) for one in rank.symbolic().launches if one.kind == "link"]
    assert found == [("link", 1, 3 * 2 * 4 * 2)]
    assert all(not one.payload for one in rank.symbolic().launches if one.kind != "link")


def test_all_formulas_together_have_so_many_terms_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 1 of repeats and calls, and two terms of FLOPs."""
    kernel = basic("{batch_size} + {seq_len}")
    monkeypatch.setattr("nbanalyzer.costs.symbolic.MAX_TERMS", 3)
    assert str(own(kernel).metric("flops")) == "batch_size + seq_len"
    monkeypatch.setattr("nbanalyzer.costs.symbolic.MAX_TERMS", 2)
    with pytest.raises(TemplateError, match=r"part\.op: multiplied out, all formulas have more than 2 terms"):
        own(kernel).metric("flops")
