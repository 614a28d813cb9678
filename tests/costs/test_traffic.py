"""What a launch reads and writes, by hand on small templates: 3 sequences, in 16 bits; a linear has 8 weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from builders import basic, composite, template

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count
from nbanalyzer.costs.traffic import Group, idle
from nbanalyzer.templates.template_files import load_model_template

X = "{batch_size} * {a_bytes}"
STATE = "4 * {batch_size} * {hidden_size}"
OF_STATE: dict[str, Any] = {"config": {"hidden_size": 24, "num_layers": 1}, "state": {"recurrent": STATE}}
KEPT = 4 * 3 * 24


def engine(*kernels: Mapping[str, Any], seq_len: int = 1, cache_len: int = 0, **fields: Any) -> Costs:
    content = json.dumps(template(*kernels, **fields)).encode()
    return count(load_model_template(content), fusion="engine", batch_size=3, seq_len=seq_len, cache_len=cache_len)


def times(number: float, text: str = X) -> str:
    return f"{number} * {text}"


def linear(name: str, read: str = X, write: str = X, *more: dict[str, Any], weights: int = 8) -> dict[str, Any]:
    product = basic("2", f"{read} + {weights} * {{w_bytes}}", write, "matmul", "matmul")
    return composite(name, product, *more, parameters=str(weights))


def moved(costs: Costs) -> list[tuple[str, float]]:
    """Return the kind of every launch, and what it moves in elements of 16 bits."""
    return [(launch.kind, float(launch.bytes) / 2) for launch in costs.launches]


# ---- linears


def test_linears_that_share_their_input_read_it_once_and_their_biases_each() -> None:
    bias = basic("1", "5 * {w_bytes}", "0", name="bias add", fused=True)
    first, second = linear("q", X, times(7), bias), linear("k", X, times(2), bias)
    costs = engine(linear("embed"), composite("attn", basic("1", X, X, name="norm"), first, second))
    assert moved(costs)[2] == ("linear", 3 + 2 * (8 + 5) + 3 * (7 + 2))
    assert [node.kernel.name for node in costs.launches[2].nodes] == ["matmul", "bias add", "matmul", "bias add"]


# ---- scans


def test_a_state_is_read_by_one_token_and_written_by_all() -> None:
    """A prompt begins with none. Two kernels that compute it are one update."""
    for flops, read in (("1", KEPT), ("{seq_len}", 0)):
        first = basic(flops, f"{STATE} + {X}", STATE, name="first")
        for updates in ((first,), (first, basic(flops, STATE, STATE, name="second"))):
            costs = engine(linear("in"), *updates, basic("1", STATE, X, name="read"), linear("out"), **OF_STATE)
            assert moved(costs)[1] == ("scan", 3 + 3 + (KEPT + read) / 2)


# ---- attention and experts


CACHE, COPY = "5 * {batch_size} * {kv_bytes}", "35 * {batch_size} * {a_bytes}"
COPIES = [basic("0", CACHE, COPY, name=f"copy {name}") for name in ("keys", "values")]


@pytest.mark.parametrize("more", [0, 1])
def test_attention_reads_queries_and_cache_and_writes_its_result(more: int) -> None:
    """Of 3 sequences 2 elements each, 5 of keys and 5 of values, and 2 of the result; no copies, scores or sums of them.

    What the first product reads beside (35 more) is read.
    """
    queries, scores = times(2), "11 * {batch_size} * {a_bytes}"
    wide = linear("wide", X, COPY)
    attend = (
        basic("2", f"{queries} + {COPY}" + more * f" + {COPY}", scores, "matmul", "scores"),
        basic("1", scores, scores, name="softmax"),
        basic("2", f"{scores} + {COPY}", times(2), "matmul", "values"),
    )
    costs = engine(
        linear("embed"), composite("attn", wide, linear("q", X, queries), *COPIES, *attend), linear("o", times(2))
    )
    (launch,) = [one for one in costs.launches if one.kind == "attention"]
    assert float(launch.bytes) / 2 == 3 * (2 + 5 + 5 + 2) + more * 3 * 35
    assert float(launch.cache) / 2 == 3 * 10


def test_attention_whose_products_have_weights_reads_these() -> None:
    """A product with 8 weights between the two: its input is made in the launch, but it is read all the same."""
    scores, part = times(11), times(6)
    attend = (
        basic("2", f"{times(2)} + {CACHE}", scores, "matmul", "scores"),
        basic("2", f"{scores} + 8 * {{w_bytes}}", part, "matmul", "project"),
        basic("2", f"{part} + {CACHE}", times(2), "matmul", "values"),
    )
    costs = engine(linear("q", X, times(2)), composite("attn", *attend, parameters="8"), linear("o", times(2)))
    (launch,) = [one for one in costs.launches if one.kind == "attention"]
    assert float(launch.bytes) / 2 == 3 * (2 + 5) + (3 * 11 + 8) + 3 * 5 + 3 * 2


def test_experts_read_a_token_and_their_weights_and_write_it() -> None:
    weights = "{num_experts} * 6"
    products = [
        basic("2", f"{times(4)} + {weights} * {{w_bytes}}", times(9), "matmul", "up"),
        basic("1", times(9), times(9), name="act"),
        basic("2", f"{times(9)} + {weights} * {{w_bytes}}", times(2), "matmul", "down"),
        basic("1", f"{times(2)} + 7 * {{w_bytes}}", f"{X} + {times(8)}", name="sum"),
    ]
    experts = composite("experts", *products, parameters=weights)
    costs = engine(linear("in"), composite("moe", experts), linear("out"), config={"num_experts": 4})
    (launch,) = [one for one in costs.launches if one.kind == "experts"]
    assert float(launch.bytes) / 2 == 3 * 1 + 2 * 24 + 3 * (1 + 8)


# ---- chains


def test_a_packed_tensor_is_read_once_in_its_parts() -> None:
    """Of 9 elements a kernel reads 2, another one 3, a third one all: 9 are read."""
    parts = [basic("1", times(number), "0", name=f"part {number}") for number in (2, 3)]
    whole = basic("1", times(9), X, name="whole")
    for number, kernels in ((2, parts[:1]), (5, parts), (9, [*parts, whole]), (9, [whole]), (9, [whole, *parts])):
        costs = engine(linear("qkv", X, times(9)), *kernels, linear("out"))
        assert moved(costs)[1] == ("chain", 3 * (number + (whole in kernels)))  # and its result, if it has one


def test_what_is_read_twice_in_a_chain_is_read_once() -> None:
    twice = [basic("1", times(4), X, name="one"), basic("1", f"{times(4)} + {X}", X, name="two")]
    assert moved(engine(linear("up", X, times(4)), *twice, linear("out")))[1] == ("chain", 3 * (4 + 1))


def test_each_step_of_a_kernel_reads_weights_that_a_launch_reads_once() -> None:
    steps = basic("4", f"{times(4)} + 4 * 6 * {{w_bytes}}", times(4), name="scale", steps=4)
    assert moved(engine(linear("up"), steps, linear("out")))[1] == ("chain", 3 + 6 + 3)


def test_a_result_that_only_part_of_is_read_outside_is_written_in_part() -> None:
    """9 elements, of which a product reads 4; inside, a vector kernel reads all. Into the cache, too: the whole is left."""
    for read, cache, written in ((4, "0", 4), (9, "0", 9), (4, "2 * {batch_size} * {kv_bytes}", 4)):
        made = basic("1", X, times(9), name="make"), basic("1", times(9), cache, name="use")
        last = linear("out", times(read), X)
        found = moved(engine(linear("in"), *made, last))[1]
        assert found == ("chain", 3 * (1 + written) + (3 * 2 if cache != "0" else 0))


def test_what_only_kernels_outside_read_is_written_whole() -> None:
    made = basic("1", X, times(9), name="make")
    assert moved(engine(linear("in"), made, linear("out", times(4), X)))[1] == ("chain", 3 * (1 + 9))


def test_a_kernel_after_a_block_reads_what_is_written_in_it() -> None:
    """Nothing in the launch of the layer reads its result, a vector kernel outside does; what nobody reads is not written."""
    layer = composite("layers", linear("mlp"), basic("1", X, f"{times(4)} + {times(6)}", name="norm"), repeat="2")
    costs = engine(linear("embed"), layer, basic("1", times(4), X, name="act"), linear("head"))
    assert [one for one in moved(costs) if one[0] == "chain"] == [("chain", 3 * (1 + 4)), ("chain", 3 * (4 + 1))]


def test_the_first_result_is_left_where_nobody_reads_any() -> None:
    last = basic("1", X, f"{times(4)} + {times(6)}", name="last")
    assert moved(engine(linear("in"), last))[1] == ("chain", 3 * (1 + 4))
    kept = basic("1", X, "6 * {batch_size} * {kv_bytes}", name="append")
    assert moved(engine(linear("in"), kept))[1] == ("chain", 3 * (1 + 6))


@pytest.mark.parametrize(("cast", "written"), [(0.5, 0.5), (3, 1)])
def test_a_cast_after_a_launch_makes_its_result_smaller_and_never_larger(cast: float, written: float) -> None:
    layers = composite("layers", linear("mlp"), basic("1", X, X, name="norm"), repeat="2")
    wide = times(cast) if cast > 1 else f"{X} / 2"
    costs = engine(linear("embed"), layers, basic("0", X, wide, name="cast"), linear("head", wide))
    assert next(one for one in moved(costs) if one[0] == "chain") == ("chain", 3 * (1 + written))


def test_what_is_wide_as_the_stream_is_read_once_as_well() -> None:
    """Of 640 elements, whatever number they have where sizes are told apart."""
    wide = "{batch_size} * {hidden_size} * {a_bytes}"
    twice = basic("1", wide, X, name="one"), basic("1", f"{wide} + {X}", X, name="two")
    costs = engine(linear("up", X, wide), *twice, linear("out"), config={"hidden_size": 640})
    assert moved(costs)[1] == ("chain", 3 * (640 + 1))


def test_what_does_not_run_costs_nothing_and_is_no_part_of_another() -> None:
    costs = engine(linear("in"), basic("0", X, X, name="copy"), linear("out"))
    (copy,) = (node for node in costs.nodes if node.kernel.name == "copy")
    for kernel in (copy.kernel, idle(copy)):
        assert (kernel.flops, kernel.memory_access.read, kernel.memory_access.write) == ("0", "0", "0")  # type: ignore[union-attr]
        assert (kernel.steps, kernel.fused) == (1, False)  # type: ignore[union-attr]
    assert Group(None, "chain").carried == 0


def test_one_element_and_then_all_of_a_wide_tensor_are_all_of_it() -> None:
    """However little was read before, and whatever number 640 has where sizes are told apart."""
    wide = "{batch_size} * {hidden_size} * {a_bytes}"
    kernels = basic("1", X, "0", name="one"), basic("1", wide, X, name="all")
    costs = engine(linear("up", X, wide), *kernels, linear("out"), config={"hidden_size": 640})
    assert moved(costs)[1] == ("chain", 3 * (640 + 1))
