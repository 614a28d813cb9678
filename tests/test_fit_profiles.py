"""tools/fit_profiles.py: on made-up tables of laws with known parameters, which it has to find again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbanalyzer.files import decode
from nbanalyzer.hardware.accelerators import hardware
from nbanalyzer.hardware.laws import laws
from nbanalyzer.hardware.profiles import Profile
from tools.fit_profiles import main, outcomes
from tools.fitting import fitted, times
from tools.measurements import colour, tables, without_copies

CARD = hardware("h100-sxm")
GEMM = {"card": "h100_sxm", "engine": "vllm", "ver": "1.0", "gemm_dtype": "bfloat16", "kernel_source": "cublas"}
EMPTY = {
    "prefill_attention.csv": "card,engine,ver,kernel_source,attn_dtype,kv_cache_dtype,window_size,batch_size,isl,step,num_heads,num_key_value_heads,head_dim,us",
    "decode_attention.csv": "card,engine,ver,kernel_source,attn_dtype,kv_cache_dtype,window_size,batch_size,isl,step,num_heads,num_key_value_heads,head_dim,us",
    "moe.csv": "card,engine,ver,kernel_source,moe_dtype,distribution,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,us",
    "all_reduce.csv": "op,card,engine,ver,kernel_source,num_gpus,message_size,us",
}


def linears(noise: float = 0.0, seed: int = 0, **changes: Any) -> pd.DataFrame:
    """Return linears of 80 % of the H100's peak and 90 % of its bandwidth, 3 us to start and 0.5 ns for each of K."""
    random = np.random.default_rng(seed)
    m = 2.0 ** random.integers(0, 14, 400)
    n, k = 1024.0 * random.integers(1, 12, 400), 512.0 * random.integers(1, 12, 400)
    compute = 2 * m * n * k / 989.4e6 / 0.8
    memory = 2 * (n * k + m * k + m * n) / 3.35e6 / 0.9
    us = np.maximum(compute, memory) + 0.3 * np.minimum(compute, memory) + 3 + 0.0005 * k
    us = us * np.exp(noise * random.standard_normal(400))
    return pd.DataFrame(GEMM | {"m": m.astype(int), "n": n.astype(int), "k": k.astype(int), "us": us} | changes)


def folder_of(path: Path, **files: pd.DataFrame) -> Path:
    path.mkdir(exist_ok=True)
    for name, header in {"gemm.csv": ",".join([*GEMM, "m", "n", "k", "us"]), **EMPTY}.items():
        (path / name).write_text(header + "\n")
    for stem, rows in files.items():
        rows.to_csv(path / f"{stem}.csv", index=False)
    return path


# ---- the search


@pytest.mark.parametrize("name", [name for name in laws() if not name.startswith("eager_")])
def test_parameters_are_found_again(name: str) -> None:
    law = laws()[name]
    random = np.random.default_rng(1)
    launches = {
        "compute_us": np.exp(random.uniform(-3, 7, 500)), "memory_us": np.exp(random.uniform(1, 7, 500)),
        "input_size": 2.0 ** random.integers(8, 16, 500), "output_size": 2.0 ** random.integers(8, 15, 500), "num_tokens": 2.0 ** random.integers(0, 14, 500),
        "context": 2.0 ** random.integers(7, 17, 500), "num_sequences": 2.0 ** random.integers(0, 8, 500),
        "num_heads": random.choice([8.0, 32.0], 500), "num_kv_heads": random.choice([1.0, 3.0, 8.0], 500), "experts_touched": random.uniform(1, 200, 500),
        "message_us": np.exp(random.uniform(-5, 6, 500)), "num_ranks": random.choice([2.0, 4.0, 8.0], 500),
    }  # fmt: skip
    launches["rank_doublings"] = np.log2(launches["num_ranks"])
    launches["activation_us"] = launches["memory_us"] * random.uniform(0.01, 0.9, 500)
    fixed = {
        "overlap": 0.3,
        "num_sms": 132.0,
        "bytes_per_us": 3.35e6,
        "quantize": 0.0,
        "quantize_us": 0.0,
        "skew_us": 0.0,
        "visited": 1.0,
        "cached_us": 20.0,
    }
    true = {
        "compute": 0.7, "bandwidth": 0.8, "launch_us": 5.0, "per_k_ns": 0.9, "longest_k": 6000.0, "tile_k_ns": 9.0, "per_token_ns": 2.0, "throttle": 0.12, "brief_us": 60.0, "kept": 3.0,
        "undivided": 0.1, "undivided_multi_head": 0.3, "unfilled": 0.6, "per_context_ns": 0.8, "per_first_key_ns": 9.0, "first_keys": 1500.0, "wave_us": 2.0, "wave_context_ns": 0.5, "activation_bandwidth": 0.4,
        "per_expert_us": 0.5, "uneven": 0.3, "per_rank_us": 0.5, "second_step_us": 3.0, "link": 0.7,
    }  # fmt: skip
    wanted = {key: true[key] for key in law.parameters if key in true}
    measured = times(law, launches, fixed | wanted)
    outliers = random.random(500) < 0.05
    found = fitted(law, launches, np.where(outliers, 3 * measured, measured), fixed)
    assert found == pytest.approx(wanted, rel=0.08)


def test_a_multiprocessor_has_a_tile_of_its_own(tmp_path: Path) -> None:
    """Of 16-bit linears all cards say how large: 64 x 64 outputs, each of two FLOPs an element of the sum."""
    (outcome,) = outcomes(folder_of(tmp_path, gemm=linears()))
    each = 2 * 64 * 64 / (989.4e12 / 132) * 1e9
    assert outcome.fit.parameters["tile_k_ns"] == pytest.approx(each, rel=0.005)


def test_bounds_hold() -> None:
    """Kernels that are faster than the peak allows say that they reach all of it."""
    law = laws()["elementwise"]
    memory = np.geomspace(1, 1000, 50)
    found = fitted(law, {"compute_us": memory / 100, "memory_us": memory}, memory / 2, {"overlap": 0.3, "compute": 1.0})
    assert found == {"bandwidth": 1.0, "launch_us": 0.0}


def test_neighbours_that_are_there_have_another_colour() -> None:
    """Of a chessboard's squares of one colour, the four that meet a square at its corners."""
    for i in range(8):
        for j in range(8):
            if (i + j) % 2 == 0:
                here, *around = (colour(4.0**a, 4.0**b) for a, b in ((i, j), (i + 1, j + 1), (i + 2, j), (i, j + 2)))
                assert all(other != here for other in around)
    assert colour(4**3, 4**3) == colour(4**4 - 1, 4**4 - 1) == colour(4**4, 4**2)


# ---- what is read


def test_the_shipped_shape_of_a_table(tmp_path: Path) -> None:
    (table,) = tables(folder_of(tmp_path, gemm=linears()))
    assert (table.card, table.engine, table.version, table.kernel) == (CARD, "vllm", "1.0", "cublas")
    assert (table.kind, table.precision) == ("linear", "bf16")
    row = int(np.flatnonzero(table.rows.m == 16)[0])
    m, n, k = (int(table.rows[name].iloc[row]) for name in ("m", "n", "k"))
    assert table.launches["compute_us"][row] == pytest.approx(2 * m * n * k / 989.4e12 * 1e6)
    assert table.launches["memory_us"][row] == pytest.approx(2 * (m * n + n * k + m * k) / 3.35e12 * 1e6)
    assert table.launches["activation_us"][row] == pytest.approx(2 * (m * n + m * k) / 3.35e12 * 1e6)


def test_bad_rows_and_strangers_are_dropped(tmp_path: Path) -> None:
    good = linears()
    bad = [good.head(9).assign(us=value) for value in (0, -1, np.nan, np.inf)]
    strange = [good.assign(card="h999"), good.assign(engine="mine"), good.assign(gemm_dtype="nvfp4")]
    rare = good.head(100).assign(kernel_source="another", us=1e6)
    (table,) = tables(folder_of(tmp_path, gemm=pd.concat([rare, *bad, good, *strange])))
    unique = good.drop_duplicates(["m", "n", "k"])
    assert len(table.measured) == len(unique)
    assert sorted(table.measured) == pytest.approx(sorted(unique.us))


def test_copies_count_once() -> None:
    first = linears(0.1)
    other = linears(0.1).assign(us=lambda rows: rows.us * 1.01)
    copied = first.assign(engine="sglang", ver="2")
    found = without_copies(pd.concat([copied, first, other.assign(card="h200_sxm")]))
    assert {*zip(found.card, found.engine, strict=True)} == {("h100_sxm", "sglang"), ("h200_sxm", "vllm")}


def test_all_reduces_without_a_graph_or_over_pcie_are_dropped(tmp_path: Path) -> None:
    sizes = 2 ** np.arange(7, 28)
    rows = pd.concat(
        pd.DataFrame(
            {"op": op, "card": card, "engine": "vllm", "ver": "1", "kernel_source": source, "num_gpus": ranks,
             "message_size": sizes, "us": factor * (4 + 0.5 * (ranks - 1) + 2 * (ranks - 1) / ranks * 2 * sizes / 450e3 / 0.7)}
        )
        for card in ("h100_sxm", "l40s") for ranks in (2, 4, 8)
        for op, source, factor in (
            ("custom_all_reduce", "graph", 1), ("custom_all_reduce", "vLLM_eager", 5), ("nccl_all_reduce", "NCCL", 9)
        )
    )  # fmt: skip
    (outcome,) = outcomes(folder_of(tmp_path, all_reduce=rows))
    assert (outcome.table.card.name, outcome.fit.n) == ("h100-sxm", 63)
    assert outcome.fit.parameters["link"] == pytest.approx(0.7, rel=0.02)
    assert outcome.fit.parameters["launch_us"] == pytest.approx(4, rel=0.02)


# ---- what is written


@pytest.mark.slow
def test_a_profile_is_written_and_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder_of(tmp_path / "data", gemm=linears(0.05))
    out = tmp_path / "out"
    out.mkdir()
    words = [str(data), "--out", str(out), "--made", "2026-01-02"]
    assert main(words) == 0
    (file,) = out.iterdir()
    assert file.name == "h100-sxm.vllm.json"
    text = file.read_text()
    found = decode(text.encode(), Profile, "x")
    assert (found.card, found.engine, found.made, found.architecture) == ("h100-sxm", "vllm", "2026-01-02", "Hopper")
    assert found.peaks == dict(CARD.peaks)
    assert {*found.classes} == {"linear", "elementwise"}
    assert found.classes["elementwise"]["any"].assumed
    fit = found.classes["linear"]["bf16"]
    assert fit.parameters["compute"] == pytest.approx(0.8, rel=0.03)
    assert fit.parameters["bandwidth"] == pytest.approx(0.9, rel=0.03)
    # Noise of 5 %: half of it lies within 0.67 of that, the 5 % quantile at 1.64.
    assert fit.ratio is not None
    assert fit.ratio[0] == pytest.approx(np.exp(-1.64 * 0.05), abs=0.02)
    assert fit.error is not None
    assert fit.error[0] == pytest.approx(0.034, abs=0.01)
    said = capsys.readouterr().out
    assert "linear" in said
    assert "1 profiles" in said
    # What another tool found out about whole models stays.
    spread = {"n": 3, "ratio": [0.8, 0.9, 1.0, 1.1, 1.2]}
    file.write_text(json.dumps(json.loads(text) | {"intervals": {"dense": {"1": spread}}, "tested": "yes"}))
    assert main(words) == 0
    again = json.loads(file.read_text())
    assert again.pop("intervals") == {"dense": {"1": spread}}
    assert again.pop("tested") == "yes"
    assert again == json.loads(text)


def test_a_kernel_that_quantises_is_told_from_the_product(tmp_path: Path) -> None:
    plain = linears()
    n, k, m = (plain[name].to_numpy(float) for name in ("n", "k", "m"))
    compute, memory = 2 * m * n * k / 1978.9e6 / 0.8, (n * k + 2 * m * k + 2 * m * n) / 3.35e6 / 0.9
    us = np.maximum(compute, memory) + 0.3 * np.minimum(compute, memory) + 3 + 0.0005 * k + 2 + 3 * m * k / 3.35e6 / 0.9
    rows = pd.concat([plain, plain.assign(gemm_dtype="fp8", us=us)]).assign(engine="trtllm")
    bf16, fp8 = outcomes(folder_of(tmp_path, gemm=rows))
    assert bf16.fit.parameters["launch_us"] == pytest.approx(3, rel=0.02)
    assert fp8.fit.parameters["launch_us"] == bf16.fit.parameters["launch_us"]
    assert fp8.fit.parameters["quantize"] == 1
    assert fp8.fit.parameters["quantize_us"] == pytest.approx(2, rel=0.05)


def test_what_was_started_without_a_graph_is_not_modelled(tmp_path: Path) -> None:
    (outcome,) = outcomes(folder_of(tmp_path, gemm=linears().assign(us=lambda rows: rows.us + 70)))
    assert outcome.left_out == "not started in a graph"
    out = tmp_path / "out"
    out.mkdir()
    assert main([str(tmp_path), "--out", str(out)]) == 0
    assert not [*out.iterdir()]


@pytest.mark.slow
def test_what_no_law_explains_is_not_modelled(tmp_path: Path) -> None:
    (outcome,) = outcomes(folder_of(tmp_path, gemm=linears(1.0)))
    assert outcome.left_out == "no law"
