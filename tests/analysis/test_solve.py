"""Inverse questions, against trying: the value that is found fits, the next one does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import basic, composite, error_of, template

from nbanalyzer import Accelerator, Analysis, Solution, populate, solve
from nbanalyzer.analysis.limits import bisected as _bisected
from nbanalyzer.analysis.solve import _most
from nbanalyzer.costs.run import MAX_SIZE
from nbanalyzer.errors import InputError, UnknownNameError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.simplify import expanded

CARD = Accelerator(name="card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
LARGE = Accelerator(name="large", memory_bytes=2 * 10**12, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})

FITS: list[tuple[str, str, Accelerator, dict[str, Any]]] = [
    ("llama-3.1-8b", "batch_size", CARD, {"seq_len": 1, "cache_len": 4096}),  # linear
    ("llama-3.1-8b", "cache_len", CARD, {"seq_len": 1, "batch_size": 3}),
    ("llama-3.1-8b", "cache_len", CARD, {"seq_len": 1, "w_bit": 4, "kv_bit": 4}),
    ("llama-3.1-8b", "seq_len", CARD, {"attn": "eager"}),  # quadratic: the scores
    ("gpt2", "seq_len", CARD, {"attn": "eager", "batch_size": 2}),
    ("gpt2", "batch_size", CARD, {"seq_len": 1024}),
    ("gemma-3-1b-it", "cache_len", CARD, {"seq_len": 1}),  # sliding and full layers
    ("gpt-oss-20b", "cache_len", CARD, {"seq_len": 1, "w_bit": 4}),
    ("mixtral-8x7b-v0.1", "batch_size", LARGE, {"seq_len": 1, "cache_len": 100}),  # experts
    ("mixtral-8x7b-v0.1", "seq_len", LARGE, {}),
    ("deepseek-v3", "cache_len", LARGE, {"seq_len": 1}),
    ("qwen3-next-80b-a3b-instruct", "seq_len", LARGE, {}),  # chunks of 64 tokens
    ("mamba-2.8b-hf", "batch_size", CARD, {"seq_len": 1, "cache_len": 5}),
    ("bert-base-uncased", "seq_len", CARD, {}),
]


def at(found: Solution, model: str, value: int, run: dict[str, Any]) -> Analysis:
    options: dict[str, Any] = {**run, found.variable: value}
    return populate(model, **options)


@pytest.mark.parametrize(("model", "name", "card", "run"), FITS)
def test_the_largest_fits_and_the_next_does_not(model: str, name: Any, card: Accelerator, run: dict[str, Any]) -> None:
    found = solve(model, card, maximize=name, **run)
    assert found.variable == name
    assert found.value is not None
    assert found.value > 1
    assert at(found, model, found.value, run).fits(card)
    assert not at(found, model, found.value + 1, run).fits(card)
    assert getattr(found.analysis.run, name) == found.value
    assert f"{name} = {found.value:,}" in repr(found)


def test_the_cache_that_fits_by_hand() -> None:
    """Weights 16,060,522,496 bytes; 131,072 a token; the widest working set is the LM head's, hidden and logits."""
    head = (4096 + 128_256) * 2
    tokens = (24 * 10**9 - 16_060_522_496 - head) // 131_072
    found = solve("llama-3.1-8b", CARD, maximize="cache_len", seq_len=1)
    assert found.value == tokens - 1  # one of them is new
    assert found.formula == f"{16_060_522_496 + 131_072 + head:,} + 131,072 * cache_len <= 24,000,000,000"


def test_the_answer_does_not_shrink_with_the_memory() -> None:
    values = []
    for size in (17, 18, 20, 40, 400):
        card = Accelerator(name="some", memory_bytes=size * 10**9, bandwidth=1e12)
        values.append(solve("llama-3.1-8b", card, maximize="batch_size", seq_len=128).value or 0)
    assert values == sorted(values)
    assert len(set(values)) == 5


def test_what_does_not_fit_at_all_says_by_how_much() -> None:
    found = solve("llama-3.1-70b", CARD, maximize="batch_size", seq_len=1)
    assert found.value is None
    need = populate("llama-3.1-70b", seq_len=1, batch_size=1).memory.total
    assert found.reason == f"does not fit even at batch_size = 1, by {float(need - 24 * 10**9) / 1e9:.1f} GB"
    assert found.reason in repr(found)


def test_any_length_fits_where_all_is_bounded() -> None:
    """Every layer of Mistral 7B v0.1 sees 4,096 tokens."""
    found = solve("mistral-7b-v0.1", CARD, maximize="cache_len", seq_len=1)
    assert found.value is None
    assert found.reason == "any cache_len fits: beyond some size it needs no more memory"
    assert populate("mistral-7b-v0.1", seq_len=1, cache_len=MAX_SIZE).fits(CARD)
    assert found.is_unbounded
    assert solve("mamba-2.8b-hf", CARD, maximize="cache_len", seq_len=1).is_unbounded  # a state of one size
    with pytest.raises(InputError, match="cache_len makes no difference to this model"):
        solve("bert-base-uncased", CARD, maximize="cache_len", seq_len=1)


# ---- where the bound turns


def times(analysis: Analysis, card: Accelerator) -> tuple[float, float]:
    """Return how long all matrix products take at their peak, and all traffic at the bandwidth."""
    whole = analysis.cost_of_all
    return float(whole.matmul_flops) / card.peaks["bf16"], float(whole.bytes) / card.bandwidth


BALANCES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama-3.1-8b", "batch_size", {"seq_len": 1, "cache_len": 0}),
    ("llama-3.1-8b", "batch_size", {"seq_len": 1, "cache_len": 128}),
    ("llama-3.1-8b", "seq_len", {}),
    ("llama-3.1-8b", "seq_len", {"batch_size": 8, "logits": "last"}),
    ("gemma-3-1b-it", "seq_len", {}),
    ("deepseek-v3", "batch_size", {"seq_len": 4, "mla": "absorbed"}),  # experts: a power of the tokens
]


@pytest.mark.parametrize(("model", "name", "run"), BALANCES)
def test_the_bound_turns_there_and_not_before(model: str, name: Any, run: dict[str, Any]) -> None:
    found = solve(model, CARD, balance=name, **run)
    assert found.value is not None
    assert found.value > 1
    compute, memory = times(at(found, model, found.value, run), CARD)
    assert compute >= memory
    compute, memory = times(at(found, model, found.value - 1, run), CARD)
    assert compute < memory


def test_a_bound_that_never_turns() -> None:
    """Each sequence of a decode step reads its own cache: at a long one, no batch makes it compute-bound."""
    found = solve("llama-2-7b", CARD, balance="batch_size", seq_len=1, cache_len=4096)
    assert found.value is None
    assert found.reason == "none: it waits for its memory at every size"
    compute, memory = times(populate("llama-2-7b", seq_len=1, cache_len=4096, batch_size=10**9), CARD)
    assert compute < memory


def test_a_bound_that_is_turned_already() -> None:
    slow = Accelerator(name="slow", bandwidth=1e12, peaks={"bf16": 1e10})
    found = solve("gpt2", slow, balance="seq_len")
    assert found.value == 1
    compute, memory = times(populate("gpt2", seq_len=1), slow)
    assert compute > memory


def own(matmul_flops: str, read: str) -> dict[str, Any]:
    """Return a model of one matrix product."""
    access = {"read": read, "write": "0"}
    basic = {"kernel_type": "basic", "operation": "product", "unit": "matmul", "flops": matmul_flops}
    part = {"kernel_type": "composite", "name": "part", "sub_kernels": [{**basic, "memory_access": access}]}
    return {"model_id": "own", "kernels": [part]}


def test_the_balance_by_hand() -> None:
    """A product of 3e11 FLOP takes 3 ms at 1e14 FLOP/s; 1e9 bytes take 1 ms, another 1e10 once 10 ms: 2 B against 10."""
    found = solve(own("3 * 10**11 * {batch_size}", "10**9 * {batch_size} + 10**10"), CARD, balance="batch_size")
    assert found.value == 5
    each = "0.002 s more of products than of traffic for each batch_size"
    assert found.formula == f"{each}, against 0.01 s of traffic whatever it is"
    # One byte more, and 5 are too few.
    found = solve(own("3 * 10**11 * {batch_size}", "10**9 * {batch_size} + 10**10 + 1"), CARD, balance="batch_size")
    assert found.value == 6
    # Products that never catch up: no inequality is shown that would have no solution.
    never = solve(own("10**10 * {batch_size}", "10**9 * {batch_size} + 10**10"), CARD, balance="batch_size")
    assert (never.value, never.formula) == (None, "")


@pytest.mark.parametrize(
    ("read", "capacity", "value", "formula"),
    [
        ("3 * {batch_size}", 10, 3, "3 * batch_size <= 10"),
        ("3 * {batch_size}", 9, 3, "3 * batch_size <= 9"),
        ("3 * {batch_size}", 8, 2, "3 * batch_size <= 8"),
        ("3 * {batch_size} + 7", 10, 1, "7 + 3 * batch_size <= 10"),
        ("2 * {batch_size} ** 2 + 3 * {batch_size}", 65, 5, "3 * batch_size + 2 * batch_size**2 <= 65"),
        ("2 * {batch_size} ** 2 + 3 * {batch_size}", 64, 4, "3 * batch_size + 2 * batch_size**2 <= 64"),
        ("{batch_size} ** 2 / 3", 12, 6, "0.3333333333 * batch_size**2 <= 12"),
        ("{batch_size} ** 2 / 3", 11, 5, "0.3333333333 * batch_size**2 <= 11"),
        (
            "{batch_size} ** 2 / 3 + {batch_size} / 2 + 1 / 4",
            13,
            5,
            "0.25 + 0.5 * batch_size + 0.3333333333 * batch_size**2 <= 13",
        ),
        ("{batch_size} ** 3", 26, 2, "1 * batch_size**3 <= 26"),  # no root in closed form: by bisection
        ("{batch_size} ** 3", 27, 3, "1 * batch_size**3 <= 27"),
        ("{batch_size} ** 3", 1, 1, "1 * batch_size**3 <= 1"),
    ],
)
def test_the_largest_by_hand(read: str, capacity: int, value: int, formula: str) -> None:
    card = Accelerator(name="tiny", memory_bytes=capacity, bandwidth=1e12, peaks={"bf16": 1e14})
    found = solve(own("0", f"({read}) * {{a_bytes}} / 2"), card, maximize="batch_size")
    assert (found.value, found.formula) == (value, formula)


@pytest.mark.parametrize("least", [0, 1])
@pytest.mark.parametrize(
    "most", [0, 1, 2, 3, 4, 5, 7, 8, 9, 1000, 2**39 - 1, 2**39, 2**39 + 1, MAX_SIZE - 1, MAX_SIZE, MAX_SIZE + 1]
)
def test_bisection_finds_the_last_that_holds(most: int, least: int) -> None:
    asked: list[int] = []

    def holds(value: int) -> bool:
        asked.append(value)
        return value <= most

    assert _bisected(holds, least) == (None if most < least else min(most, MAX_SIZE))
    assert len(asked) <= 1 + 41 + 41  # doubled to 2**40, then halved
    assert least <= min(asked)
    assert max(asked) <= MAX_SIZE


def test_what_fits_at_every_size_and_at_none() -> None:
    card = Accelerator(name="tiny", memory_bytes=10, bandwidth=1e12, peaks={"bf16": 1e14})
    bounded = solve(own("0", "min(3 * {batch_size}, 10) * {a_bytes} / 2"), card, maximize="batch_size")
    assert bounded.value is None
    assert bounded.is_unbounded
    none = solve(own("0", "({batch_size} ** 3 + 10) * {a_bytes} / 2"), card, maximize="batch_size")
    assert (none.value, none.is_unbounded) == (None, False)
    assert none.reason == "does not fit even at batch_size = 1, by 1 B"
    assert none.formula == "10 + 1 * batch_size**3 <= 10"


# ---- bad input


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({}, InputError, "solve takes maximize=… or balance=… of batch_size, seq_len, cache_len, images, not []"),
        ({"maximize": "batch_size", "balance": "batch_size"}, InputError, "not ['batch_size', 'batch_size']"),
        ({"maximize": "num_layers"}, InputError, "not ['num_layers']"),
        ({"maximize": "seq_len", "seq_len": 4}, InputError, "seq_len is what is solved for: it takes no value"),
        ({"maximize": "seq_len", "batch_size": 0}, InputError, "batch_size is a whole number from 1"),
        ({"maximize": "seq_len", "hardware": "h1000"}, UnknownNameError, "no accelerator named 'h1000'"),
        ({"maximize": "seq_len", "model": "gpt3"}, UnknownNameError, "no model named 'gpt3'"),
        ({"maximize": "seq_len", "hardware": Accelerator(name="x", bandwidth=1e12)}, InputError, "the memory of x is not known"),
        ({"balance": "seq_len", "hardware": "apple-m5"}, InputError, "the bf16 or fp16 peak of 'apple-m5' is not known"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be(options: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as caught:
        solve(options.pop("model", "gpt2"), options.pop("hardware", CARD), **options)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_balance_says_whether_it_fits() -> None:
    found = solve("llama-3.1-8b", CARD, balance="seq_len")
    assert found.fit == repr(found.analysis.fits(CARD))
    assert repr(found).splitlines()[-1] == f"  {found.fit}"
    assert solve("llama-3.1-70b", CARD, balance="seq_len").fit.startswith("does not fit: ")
    unknown = Accelerator(name="unknown", bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
    assert solve("gpt2", unknown, balance="seq_len").fit.startswith("memory unknown: ")
    assert solve("llama-3.1-8b", CARD, maximize="batch_size", seq_len=1).fit == ""


# ---- several devices


@pytest.mark.parametrize(
    "run",
    [
        {"tp": 8, "seq_len": 1, "cache_len": 4096},
        {"fsdp": 8, "seq_len": 1, "cache_len": 4096},
        {"pp": 4, "seq_len": 1, "cache_len": 4096},
        {"tp": 2, "cp": 2, "seq_len": 64},
        {"tp": 8, "fusion": "engine", "seq_len": 64, "w_bit": 8},
    ],
)
def test_the_most_that_fits_a_rank(run: dict[str, Any]) -> None:
    found = solve("llama-3.1-8b", CARD, maximize="batch_size", **run)
    assert found.value is not None
    assert at(found, "llama-3.1-8b", found.value, run).fits(CARD)
    assert not at(found, "llama-3.1-8b", found.value + 1, run).fits(CARD)
    assert "devices" in repr(found)


def test_the_most_that_fits_a_rank_by_hand() -> None:
    """Of 24 GB a rank's 1,004,015,616 weights of 2 bytes; a sequence keeps one head's 4,097 keys and values in 32 layers."""
    found = solve("llama-3.1-8b", CARD, maximize="batch_size", seq_len=1, cache_len=4096, tp=8)
    each = 32 * 2 * 4097 * 128 * 2
    most = (24 * 10**9 - 2 * 1_004_015_616) // each
    assert found.value is not None
    assert 0.99 * most < found.value <= most  # beside the largest activations


@pytest.mark.parametrize("metric", ["time", "lower_bound"])
@pytest.mark.parametrize("where", [{"nodes": 2}, {"nodes": 2, "overlap": 0.5}, {"nodes": 2, "overlap": 1.0}])
def test_times_of_a_rank_are_limits(metric: str, where: dict[str, Any]) -> None:
    run: dict[str, Any] = {"tp": 16, "seq_len": 1, "cache_len": 4096}
    found = solve("llama-3.1-8b", "h100-sxm", maximize="batch_size", below={metric: 0.003}, **where, **run)
    assert found.value is not None
    times = [
        getattr(at(found, "llama-3.1-8b", value, run).on("h100-sxm", **where), metric)
        for value in (found.value, found.value + 1)
    ]
    assert times[0] <= 0.003 < times[1]


def test_devices_that_no_node_has_are_refused_where_links_matter() -> None:
    run: dict[str, Any] = {"tp": 16, "seq_len": 1, "cache_len": 4096}
    with pytest.raises(InputError, match="tp=16 needs 16 devices, a node of h100-sxm has 8: give --nodes 2"):
        solve("llama-3.1-8b", "h100-sxm", maximize="batch_size", below={"time": 0.003}, **run)
    with pytest.raises(InputError, match="overlap is a share from 0 to 1"):
        solve("llama-3.1-8b", "h100-sxm", maximize="batch_size", overlap=7, **run)
    assert solve("llama-3.1-8b", "h100-sxm", maximize="batch_size", **run).value
    balance = solve("llama-3.1-8b", "h100-sxm", balance="seq_len", tp=16)  # between products and traffic
    assert balance.value == solve("llama-3.1-8b", "h100-sxm", balance="seq_len", tp=16, nodes=2).value


def test_the_answer_is_a_sentence_made_from_the_numbers() -> None:
    found = solve("llama-3.1-8b", CARD, maximize="batch_size", seq_len=1, cache_len=4096)
    need = found.analysis.memory
    assert need.state < need.weights  # 16 of 24 GB
    share = f"{100 * float(need.weights / need.total):.0f} %"
    assert (
        found.sentence == f"At most {found.value} sequences: the weights are {share} of the memory that is needed then."
    )
    assert repr(found).splitlines()[2] == found.sentence
    assert f"<b>{found.sentence}</b>" in found._repr_mimebundle_()["text/html"]
    none = solve("deepseek-v3", CARD, maximize="batch_size", seq_len=1)
    assert none.sentence.startswith("Does not fit even at batch_size = 1, by ")
    turn = solve("llama-3.1-8b", CARD, balance="batch_size", seq_len=1, cache_len=100)
    assert turn.sentence.startswith(f"From {turn.value:,} sequences on, arithmetic takes as long as traffic.")
    slow = solve("llama-3.1-8b", CARD, maximize="batch_size", seq_len=1, below={"lower_bound": 0.017})
    assert slow.sentence.endswith("the memory would hold more, but that would take too long.")


def test_what_the_picture_has_is_what_another_pass_needs(tmp_path: Path) -> None:
    found = solve("llama-3.1-8b", CARD, maximize="cache_len", seq_len=1)
    whole, weights, cache = found.plot().figure.axes[0].lines[:3]
    for x, needed, stored, kept in zip(*whole.get_data(), weights.get_ydata(), cache.get_ydata(), strict=True):
        memory = populate("llama-3.1-8b", seq_len=1, cache_len=int(x)).memory
        assert (needed, stored, kept) == (memory.total, memory.weights, memory.state)
    found.save(tmp_path / "found.html")
    saved = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert "<svg" in saved
    assert found.sentence in saved
    turn = solve("gpt2", CARD, balance="batch_size", seq_len=1)
    products, traffic = (line.get_ydata() for line in turn.plot().figure.axes[0].lines[:2])
    assert turn.value is not None
    xs = [*turn.plot().figure.axes[0].lines[0].get_xdata()]
    assert [products[place] >= traffic[place] for place, x in enumerate(xs)] == [x >= turn.value for x in xs]


def test_the_answer_of_a_small_model_in_words() -> None:
    """60 bytes of weights, and a kernel that reads 8 and writes 2 elements of 2 bytes."""
    made = template(composite("part", basic("1", "8 * {a_bytes}", "2 * {a_bytes}"), parameters="30"))
    analysis = populate(made, seq_len=1)
    words = "the weights are 75 % of the memory that is needed then."
    assert Solution("batch_size", 1, "", "", analysis).sentence == f"At most 1 sequence: {words}"
    assert Solution("batch_size", 2, "", "", analysis).sentence == f"At most 2 sequences: {words}"
    assert Solution("batch_size", None, "", "", analysis, reason="none: x").sentence == "None: x."
    turn = "on, arithmetic takes as long as traffic."
    first, second = (Solution("batch_size", size, "", "", analysis, is_balance=True).sentence for size in (1, 2))
    assert first == f"From 1 sequence {turn}"
    assert second == f"From 2 sequences {turn} With fewer, the pass waits for its memory."
    timed = Solution("cache_len", 1, "", "", analysis, is_timed=True).sentence
    assert timed.startswith("At most 1 token in the cache: the memory would hold more")
    assert timed.endswith("would take too long.")


def test_what_no_size_changes_fits_at_any() -> None:
    made = template(composite("part", basic("{batch_size}", "8 * {a_bytes}", "2 * {a_bytes}"), parameters="30"))
    card = Accelerator(name="card", memory_bytes=80, bandwidth=1e12, peaks={"bf16": 1e14})
    found = solve(made, card, maximize="batch_size", seq_len=1)
    assert (found.value, found.is_unbounded) == (None, True)
    small = solve(
        made,
        Accelerator(name="card", memory_bytes=79, bandwidth=1e12, peaks={"bf16": 1e14}),
        maximize="batch_size",
        seq_len=1,
    )
    assert (small.value, small.is_unbounded) == (None, False)


def test_what_never_fits_is_found_beside_what_does() -> None:
    """Of two working sets the one of 20 bytes fits at no batch, whatever the other one has room for."""
    reads = [basic("1", f"({text}) * {{a_bytes}}", "0") for text in ("3 * {batch_size}", "20")]
    card = Accelerator(name="tiny", memory_bytes=10, bandwidth=1e12, peaks={"bf16": 1e14})
    for kernels in (reads, reads[::-1]):
        found = solve(template(composite("part", *kernels)), card, maximize="batch_size", a_bit=8)
        assert (found.value, found.is_unbounded) == (None, False)
        assert found.reason == "does not fit even at batch_size = 1, by 10 B"


@pytest.mark.parametrize(
    ("need", "capacity", "value"),
    [
        ("{batch_size}", 10, 10),
        ("{batch_size} ** 2", 10, 3),
        ("{batch_size} ** 2 + {batch_size}", 12, 3),
        ("{batch_size} ** 2 + {batch_size}", 11, 2),
        ("{batch_size} ** 2 + 11", 10, None),
        ("5 * {batch_size} + 6", 10, None),
        ("{batch_size} / 2 + 1 / 2", 1, 1),
        ("{batch_size} ** 3 + {batch_size} ** 2 + {batch_size} + 1", 15, 2),
    ],
)
def test_the_root_in_whole_numbers(need: str, capacity: int, value: int | None) -> None:
    assert _most(expanded(parse(need), {}), "batch_size", capacity, 1) == value


def test_an_empty_cache_may_be_all_that_fits() -> None:
    assert _most(expanded(parse("3 * {cache_len} + 10"), {}), "cache_len", 10, 0) == 0
    assert _most(expanded(parse("3 * {cache_len} + 11"), {}), "cache_len", 10, 0) is None
    assert _most(expanded(parse("{cache_len} ** 2 + 10"), {}), "cache_len", 10, 0) == 0
    assert _most(expanded(parse("10"), {}), "cache_len", 10, 0) == MAX_SIZE
    assert _most(expanded(parse("21 / 2"), {}), "cache_len", 10, 0) is None


def test_a_balance_of_products_that_gain_from_the_start() -> None:
    found = solve(own("3 * 10**11 * {batch_size}", "10**9 * {batch_size}"), CARD, balance="batch_size")
    each = "0.002 s more of products than of traffic for each batch_size"
    assert (found.value, found.formula) == (1, f"{each}, against 0 s of traffic whatever it is")
    same = solve(own("3 * 10**11", "10**9 + {batch_size} * 0"), CARD, balance="batch_size")
    assert (same.value, same.formula) == (1, "")
    square = solve(own("10**11 * {batch_size} ** 2", "2 * 10**9 * {batch_size}"), CARD, balance="batch_size")
    assert (square.value, square.formula) == (2, "")  # a ms times the square against two times the batch


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ({"kv_cache": "90 * ({cache_len} + {seq_len})"}, "cache is"),
        ({"ssm_state": "90 * ({cache_len} + {seq_len})"}, "state is"),
        ({"kv_cache": "90 * ({cache_len} + {seq_len})", "ssm_state": "1"}, "state is"),
        ({"kv_cache": "1"}, "weights are"),
    ],
)
def test_what_has_the_most_of_the_memory_is_named(state: dict[str, str], name: str) -> None:
    """10 bytes of weights, and 90 of state for one token."""
    made = template(composite("part", basic("1", "{a_bytes}", "0"), parameters="10"), state=state)
    found = Solution("cache_len", 1, "", "", populate(made, seq_len=1, w_bit=8, a_bit=8))
    assert f" in the cache: the {name} " in found.sentence


def test_a_limit_of_time_beside_that_of_memory() -> None:
    """3 bytes a sequence, of which 10 hold three; a byte takes a second."""
    card = Accelerator(name="tiny", memory_bytes=10, bandwidth=1, peaks={"fp8": 1e14, "fp32": 1e14})
    made = template(composite("part", basic("0", "3 * {batch_size} * {a_bytes}", "0")))

    def found(seconds: float, size: int = 10) -> Solution:
        on = Accelerator(name="tiny", memory_bytes=size, bandwidth=1, peaks=card.peaks)
        return solve(made, on, maximize="batch_size", below={"time": seconds}, w_bit=8, a_bit=8)

    assert [(one.value, one.is_timed) for one in map(found, (5.9, 6, 8.9, 9, 100))] == [
        (1, True), (2, True), (2, True), (3, False), (3, False),
    ]  # fmt: skip
    late = found(2)
    assert (late.value, late.is_timed) == (None, True)
    assert late.reason.startswith("takes longer even at batch_size = 1: ")
    none = found(100, 2)
    assert (none.value, none.is_timed, none.reason) == (None, False, "does not fit even at batch_size = 1, by 1 B")


def test_what_a_limit_and_a_profile_go_with() -> None:
    ask: dict[str, Any] = {"seq_len": 1, "cache_len": 9}
    found = solve("gpt2", "h100-sxm", maximize="batch_size", below={"estimate": 0.01}, profile="vllm", **ask)
    assert found.is_timed
    assert found.analysis.on("h100-sxm", profile="vllm").expected <= 0.01
    alone = "a profile changes nothing but estimates: give below={'estimate': …}, or leave it out"
    for below in (None, {"time": 0.01}, {}):
        message = error_of(
            lambda below=below: solve("gpt2", CARD, maximize="batch_size", below=below, profile="vllm", **ask)  # type: ignore[misc]
        )
        assert message == alone
    with pytest.raises(InputError, match="below limits what is maximized: it goes with maximize=…"):
        solve("gpt2", CARD, balance="batch_size", below={"time": 0.01}, **ask)


def test_a_balance_needs_the_peak_of_its_products_alone() -> None:
    lacking = Accelerator(name="lacking", bandwidth=1e12, peaks={"fp8": 1e14})
    message = error_of(lambda: solve(own("{batch_size}", "1"), lacking, balance="batch_size"))
    assert "peak of 'lacking' is not known" in message
    vector = template(composite("part", basic("{batch_size}", "1", "0", "vector")))
    assert solve(vector, lacking, balance="batch_size").value is None
