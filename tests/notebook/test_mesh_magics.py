"""Several devices in the notebook: the options of every magic, what they reach, and what they refuse in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import nbanalyzer
from nbanalyzer.analysis.ranks import Ranks
from nbanalyzer.analysis.search import Search
from nbanalyzer.costs.run import MESH
from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError

STREAM = 512 * 4096 * 2  # bytes of 512 tokens in Llama-3.1-8B
LLAMA = "llama-3.1-8b --plot none --seq_len 512"


def run(shell: InteractiveShell, magic: str, line: str) -> Any:
    return shell.run_line_magic(magic, line)


# ---- what reaches the numbers


def test_a_rank_of_eight(shell: InteractiveShell) -> None:
    found = run(shell, "populate", f"{LLAMA} --tp 8")
    assert found.totals["parameters"] == 1_004_015_616
    assert found.totals["matmul_flops"] * 8 == nbanalyzer.populate("llama-3.1-8b", seq_len=512).totals["matmul_flops"]
    assert found.totals["payload_bytes"] == 65 * STREAM + 512 * 128_256 * 2
    assert "the busiest of 8 devices (tp 8), divided by transformers' plan" in repr(found)
    assert "65 all-reduces (tp), 1 all-gather (tp)" in repr(found)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--tp 2 --comm megatron", {"tp": 2, "comm": "megatron"}),
        ("--tp $four --rank 3", {"tp": 4, "rank": 3}),
        ("--pp '2 * 2' --rank=1", {"pp": 4, "rank": 1}),
        ("--fsdp 4 --dp 2 --cp 2", {"fsdp": 4, "dp": 2, "cp": 2}),
        ("--ep 4 --dp 4 --imbalance 1.5", {"ep": 4, "dp": 4, "imbalance": 1.5}),
    ],
)
def test_every_axis_reaches_the_run(shell: InteractiveShell, words: str, options: dict[str, Any]) -> None:
    shell.user_ns["four"] = 4
    found = run(shell, "populate", f"mixtral-8x7b-v0.1 --plot none {words}")
    assert {name: getattr(found.run, name) for name in options} == options
    assert found.totals == nbanalyzer.populate("mixtral-8x7b-v0.1", **options).totals
    asked = run(shell, "request", f"mixtral-8x7b-v0.1 --prompt_len 100 --output_len 4 {words}")
    expected = nbanalyzer.request("mixtral-8x7b-v0.1", prompt_len=100, output_len=4, **options)
    assert asked.totals == expected.totals
    assert asked.prefill.run == expected.prefill.run
    assert f"one of {asked.prefill.run.devices} devices" in repr(asked)


def test_imbalance_is_of_experts_alone(shell: InteractiveShell) -> None:
    line = "mixtral-8x7b-v0.1 --ep 4 --dp 4 --seq_len 512 --plot none --imbalance 1 1.5"
    even, uneven = run(shell, "compare", line).variants
    assert [one.label for one in (even, uneven)] == ["imbalance 1.0", "imbalance 1.5"]
    experts = 32 * 2 * (2 * 512) * 3 * 4096 * 14336  # layers, per multiply-add, rows of a rank, three matrices
    more = uneven.analysis.totals["matmul_flops"] - even.analysis.totals["matmul_flops"]
    assert more == pytest.approx(0.5 * experts, rel=1e-3)


def test_all_ranks(shell: InteractiveShell, shown: list[Any]) -> None:
    found = run(shell, "populate", "llama-3.1-8b --seq_len 16 --pp 4 --rank all --hardware h100-sxm")
    assert isinstance(found, Ranks)
    assert [one.name for one in found.rows] == ["0", "1", "2", "3"]
    held = [one.memory.weights for one in found.rows]
    whole = nbanalyzer.populate("llama-3.1-8b").memory.weights
    assert sum(held) == whole
    assert shown == []


def test_where_devices_are(shell: InteractiveShell) -> None:
    found = run(shell, "populate", f"{LLAMA} --tp 8 --hardware h100-sxm --nodes 2 --overlap 0.5")
    rank = nbanalyzer.populate("llama-3.1-8b", seq_len=512, tp=8)
    assert found.time == rank.on("h100-sxm", nodes=2, overlap=0.5).time
    assert len({found.time, rank.on("h100-sxm", nodes=2).time, rank.on("h100-sxm").time}) == 3
    assert "over 2 nodes, 50 % of the communication is hidden behind the rest" in repr(found)
    several = run(shell, "compare", f"{LLAMA} --tp 8 16 --hardware h100-sxm --nodes 2 --overlap 0.5")
    assert several.variants[0].roofline.time == found.time
    asked = run(shell, "request", "llama-3.1-8b --prompt_len 10 --output_len 3 --tp 16 --hardware h100-sxm --nodes 2")
    request = nbanalyzer.request("llama-3.1-8b", prompt_len=10, output_len=3, tp=16)
    assert asked.time == request.on("h100-sxm", nodes=2).time


def test_a_sweep_over_devices(shell: InteractiveShell) -> None:
    line = "llama-3.1-8b --tp 1,2,4,8 --seq_len 512 --metric payload_bytes time --hardware h100-sxm"
    found = run(shell, "sweep", line)
    assert found.values("payload_bytes").tolist() == [0, *[65 * STREAM + 512 * 128_256 * 2] * 3]
    times = [nbanalyzer.populate("llama-3.1-8b", seq_len=512, tp=tp).on("h100-sxm").time for tp in (1, 2, 4, 8)]
    assert found.values("time").tolist() == pytest.approx(times, rel=1e-9)
    spread = run(shell, "sweep", f"{line} --nodes 2 --overlap 0.5 --tp 2:8:*2")
    rank = nbanalyzer.populate("llama-3.1-8b", seq_len=512, tp=8)
    assert spread.values("time")[-1] == pytest.approx(rank.on("h100-sxm", nodes=2, overlap=0.5).time, rel=1e-9)


def test_fit_with_all_its_options(shell: InteractiveShell) -> None:
    shell.user_ns |= {"dollars": 2.5, "batch": 4}
    line = (
        "llama-3.1-8b --hardware h100-sxm l40s --batch_size $batch --w_bit 8 --a_bit 16 --kv_bit 8 --prompt_len 100 "
        "--output_len '4 * 5' --minimize cost --where '{tp} <= 2' '{nodes} == 1' --max_devices 8 --price $dollars "
        "--profile vllm --memory_fraction 0.8 --set num_layers=16"
    )
    found = run(shell, "fit", line)
    assert isinstance(found, Search)
    expected = nbanalyzer.fit(
        "llama-3.1-8b", hardware=["h100-sxm", "l40s"], batch_size=4, w_bit=8, a_bit=16, kv_bit=8, prompt_len=100,
        output_len=20, minimize="cost", where=("{tp} <= 2", "{nodes} == 1"), max_devices=8, price=2.5, profile="vllm",
        memory_fraction=0.8, set={"num_layers": 16},
    )  # fmt: skip
    assert found.placements == expected.placements
    assert found.placements
    assert all(one.tp <= 2 and one.devices <= 8 for one in found.placements)
    assert repr(found) == repr(expected)
    config = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 10, "n_positions": 32}
    shell.user_ns["config"] = config
    small = run(shell, "fit", "gpt2 --config $config --hardware h100-sxm")
    assert small.best.devices == 1
    assert small.best.memory_bytes < 10_000_000


# ---- what is refused

CELL: dict[str, Any] = {
    "config": {"hidden_size": 8},
    "kernels": [
        {
            "kernel_type": "basic", "operation": "sum", "unit": "link", "flops": "0", "collective": "all_reduce",
            "group": "tp", "payload": "{hidden_size}", "memory_access": {"read": "0", "write": "0"},
        }
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("magic", "line", "kind", "message"),
    [
        ("populate", "gpt2 --tp 0", InputError, "tp is a whole number from 1 to 1,048,576, not 0"),
        ("populate", "gpt2 --tp eight", InputError, "--tp is a whole number, not 'eight'; a notebook variable is $eight"),
        ("populate", "gpt2 --tp 8", InputError, "tp=8 does not divide num_heads = 12 into equal parts"),
        ("populate", "gpt2 --ep 2 --dp 2", InputError, "ep=2 changes nothing: this model has no experts to spread"),
        ("populate", "mixtral-8x7b-v0.1 --ep 3", InputError, "ep=3 is a multiple of tp=1 that divides the 1 device of a stage"),
        ("populate", "mixtral-8x7b-v0.1 --ep 2 --tp 4", InputError, "ep=2 is a multiple of tp=4 that divides the 4 devices"),
        ("populate", "gpt2 --pp 13", InputError, "pp=13: a model of 12 layers has 1 to 12 pipeline stages"),
        ("populate", "gpt2 --fsdp 2000000", InputError, "fsdp is a whole number from 1 to 1,048,576, not 2000000"),
        ("populate", "gpt2 --fsdp 2000 --dp 2000", InputError, "a mesh has at most 1,048,576 devices, not 4,000,000"),
        ("populate", "gpt2 --tp 2 --rank 2", InputError, "rank is a whole number from 0 to 1, not 2"),
        ("populate", "gpt2 --tp 2 --rank -1", InputError, "rank is a whole number from 0 to 1, not -1"),
        ("populate", "gpt2 --tp 2 --rank some", InputError, "--rank is a whole number, not 'some'"),
        ("populate", "gpt2 --imbalance 0.5", InputError, "imbalance is a number from 1 to 1,048,576, not 0.5"),
        ("populate", "gpt2 --imbalance much", InputError, "--imbalance is a number, not 'much'"),
        ("populate", "gpt2 --comm nccl", InputError, "invalid choice: 'nccl' (choose from 'transformers', 'megatron')"),
        ("populate", "gpt2 --nodes 2", InputError, "--nodes needs --hardware NAME: %hardware lists the names"),
        ("populate", "gpt2 --overlap 0.5", InputError, "--overlap needs --hardware NAME"),
        ("populate", "llama-3.1-8b --tp 16 --hardware h100-sxm", InputError, "needs 16 devices, a node of h100-sxm has 8: give --nodes 2"),
        ("populate", "gpt2 --tp 4 --hardware h100-sxm --nodes 3", InputError, "4 devices do not spread evenly over 3 nodes"),
        ("populate", "gpt2 --tp 4 --hardware h100-sxm --nodes 0", InputError, "nodes is a whole number from 1 to 100,000, not 0"),
        ("populate", "gpt2 --tp 4 --hardware h100-sxm --nodes two", InputError, "--nodes is a whole number, not 'two'"),
        ("populate", "gpt2 --tp 4 --hardware h100-sxm --overlap 2", InputError, "a share from 0 to 1 of the communication that is hidden, not 2.0"),
        ("populate", "gpt2 --tp 4 --hardware h100-sxm --overlap half", InputError, "--overlap is a number, not 'half'"),
        ("populate", "gpt2 --tp 2 --hardware apple-m2-ultra", InputError, "the link bandwidth of apple-m2-ultra is not known"),
        ("request", "gpt2 --tp 4 --rank all", InputError, "--rank all is of one pass"),
        ("request", "gpt2 --tp 4 --rank 5", InputError, "rank is a whole number from 0 to 3, not 5"),
        ("request", "gpt2 --tp 2 --nodes 2", InputError, "--nodes needs --hardware NAME"),
        ("request", "gpt2 --tp 2 --overlap 0.5", UnknownNameError, "no option of %request named '--overlap'"),
        ("request", "gpt2 --pp 13", InputError, "pp=13: a model of 12 layers"),
        ("request", "gpt2 --tp 2 --fusion none", InputError, "tp=2 is of a serving engine, which fuses kernels"),
        ("compare", "gpt2 --tp 1 2 --nodes 2", InputError, "nodes and overlap need hardware"),
        ("compare", "gpt2 --tp 1 2 --hardware h100-sxm --nodes many", InputError, "--nodes is a whole number, not 'many'"),
        ("compare", "gpt2 --tp 1 5", InputError, "tp=5 does not divide num_heads = 12"),
        ("compare", "gpt2 --tp 1 2 --imbalance x", InputError, "--imbalance is a number, not 'x'"),
        ("sweep", "gpt2 --tp 1,x", InputError, "--tp is a whole number, not 'x'"),
        ("sweep", "gpt2 --tp 1,5 --metric bytes", InputError, "tp=5 does not divide num_heads = 12"),
        ("sweep", "gpt2 --comm nccl", InputError, "invalid choice: 'nccl'"),
        ("sweep", "gpt2 --tp 1,2 --metric payload_bytes time", InputError, "time needs hardware"),
        ("sweep", "gpt2 --tp 1,2 --metric bytes --nodes 2", InputError, "nodes and overlap need hardware"),
        ("sweep", "llama-3.1-8b --tp 2,16 --metric time --hardware h100-sxm", InputError, "give --nodes 2"),
        ("whatif", "gpt2 --nodes 2", InputError, "nodes=2 is of links, and there is no hardware"),
        ("whatif", "gpt2 --rank 1", UnknownNameError, "no option of %whatif named '--rank'"),
        ("fit", "", InputError, "%fit takes one model"),
        ("fit", "gpt22", UnknownNameError, "no model named 'gpt22'"),
        ("fit", "gpt2 --minimize power", InputError, "invalid choice: 'power'"),
        ("fit", "gpt2 --minimize cost", InputError, "a cost needs a price"),
        ("fit", "gpt2 --where '{tpp} < 2'", UnknownNameError, "no field of a placement named 'tpp'. Did you mean 'tp'"),
        ("fit", "gpt2 --where tp", InputError, "in where: unknown name 'tp'"),
        ("fit", "gpt2 --where '{cost_per_million_tokens} < 1'", InputError, "a cost needs a price"),
        ("fit", "gpt2 --max_devices 0", InputError, "max_devices is a whole number from 1 to 1,024, not 0"),
        ("fit", "gpt2 --max_devices many", InputError, "--max_devices is a whole number, not 'many'"),
        ("fit", "gpt2 --batch_size 0", InputError, "batch_size is a whole number from 1"),
        ("fit", "gpt2 --prompt_len 0", InputError, "prompt_len is a whole number from 1"),
        ("fit", "gpt2 --hardware mi300", UnknownNameError, "Which of 'mi300a', 'mi300x'?"),
        ("fit", "gpt2 --memory_fraction 0", InputError, "memory_fraction is a share above 0 and at most 1, not 0.0"),
        ("fit", "gpt2 --price=-1", InputError, "price is a number of $ an hour from 0 to 1,000,000, not -1.0"),
        ("fit", "gpt2 --price x", InputError, "--price is a number, not 'x'"),
        ("fit", "gpt2 --profile nope", UnknownNameError, "no engine named 'nope'"),
        ("fit", "gpt2 --profile nope --hardware h100-sxm", UnknownNameError, "no engine named 'nope'"),
        ("fit", "gpt2 --tp 2", UnknownNameError, "no option of %fit named '--tp'"),
        ("fit", "gpt2 --set num_layers", InputError, "--set takes name=number, not 'num_layers'"),
        ("fit", "bert-base-uncased --hardware h100-sxm", InputError, "writes no text"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    shell: InteractiveShell, shown: list[Any], magic: str, line: str, kind: type[NBAnalyzerError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        run(shell, magic, line)
    text = str(caught.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 400
    assert shown == []
    assert caught.value._render_traceback_() == [f"{type(caught.value).__name__}: {text}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collective": "broadcast"}, "broadcast"),
        ({"group": "nodes"}, "nodes"),
        ({"payload": "{hidden}"}, "hidden"),
    ],
)
def test_a_template_of_other_collectives_is_refused(
    shell: InteractiveShell, change: dict[str, str], message: str
) -> None:
    cell = {**CELL, "kernels": [{**CELL["kernels"][0], **change}]}
    with pytest.raises(NBAnalyzerError) as caught:
        shell.run_cell_magic("populate", "--plot none --tp 2", json.dumps(cell))
    assert f"'{message}'" in str(caught.value) or f"{{{message}}}" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_template_of_another_style_is_refused(shell: InteractiveShell) -> None:
    cell = {**CELL, "sharding": {"sum": "colwize"}}
    with pytest.raises(NBAnalyzerError, match="'colwize' is no style of transformers' plans, did you mean 'colwise'"):
        shell.run_cell_magic("populate", "--plot none --tp 2", json.dumps(cell))


# ---- completion


def completions(shell: InteractiveShell, text: str) -> list[str]:
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(text, len(text)) if found.text]


def test_completion(shell: InteractiveShell) -> None:
    for magic in ("populate", "request", "compare", "sweep", "whatif", "draft"):
        found = completions(shell, f"%{magic} gpt2 --")
        assert {f"--{name}" for name in (*MESH, "comm")} <= {*found}, magic
        assert ("--nodes" in found) == (magic != "draft")
        assert ("--overlap" in found) == (magic not in {"draft", "request"})
        assert ("--rank" in found) == (magic != "whatif")
    assert completions(shell, "%populate gpt2 --comm ") == ["transformers", "megatron"]
    assert completions(shell, "%compare gpt2 --comm megatron ") == ["transformers"]
    assert completions(shell, "%populate gpt2 --tp 8 --no") == ["--nodes"]
    assert completions(shell, "%populate gpt2 --imb") == ["--imbalance"]
    assert completions(shell, "f = %fit gpt2-x") == ["gpt2-xl"]
    assert completions(shell, "%fit gpt2 --minimize ") == ["devices", "cost", "time_per_output_token"]
    assert completions(shell, "%fit gpt2 --hardware l4 h100-s") == ["h100-sxm"]
    assert completions(shell, "%fit gpt2 --max") == ["--max_devices"]
    assert completions(shell, "%fit gpt2 --set num_h") == ["num_heads="]
    assert "--tp" not in completions(shell, "%fit gpt2 --")


def test_fit_is_documented_as_itself(shell: InteractiveShell) -> None:
    found = shell.object_inspect("%fit")
    assert "%fit " in found["docstring"]
    assert "--max_devices" in found["docstring"]
