"""Published kernel tables, as what the laws read: one table per class of kernel, precision, card and engine.

The tables are those of ai-dynamo/aiconfigurator (Apache-2.0), a csv file per class of kernel. What a launch computes
and moves is counted here as the package counts it: FLOPs and bytes of whole operands, activations of 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nbanalyzer.hardware.accelerators import Accelerator, hardware
from nbanalyzer.hardware.parameters import ANY, ARITHMETIC

__all__ = ["ENGINES", "Array", "Table", "colour", "counted", "tables", "without_copies"]

Array = npt.NDArray[np.float64]

CARDS = {
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200",
    "l40s": "l40s",
}
ENGINES = ("vllm", "sglang", "trtllm")
# Precision of the tables → ours, with the bytes of a weight.
PRECISIONS = {
    "bfloat16": ("bf16", 2.0),
    "fp8": ("fp8", 1.0),
    "fp8_static": ("fp8_static", 1.0),
    "fp8_block": ("fp8_block", 1.0),
    "sq": ("int8", 1.0),
    "int8_wo": ("int8_wo", 1.0),
    "int4_wo": ("int4_wo", 0.5),
    "nvfp4": ("nvfp4", 0.5),
    "w4a16_mxfp4": ("mxfp4_wo", 0.5),
    "w4a8_mxfp4_mxfp8": ("mxfp4", 0.5),
}
# Arithmetic and cache of attention → precision, with the bytes of a cached element.
ATTENTION = {
    ("bfloat16", "bfloat16"): ("bf16", 2.0),
    ("bfloat16", "fp8"): ("fp8_cache", 1.0),
    ("fp8", "fp8"): ("fp8", 1.0),
}
ACTIVATION = 2.0  # bytes
FEWEST = 40  # rows of a table that is worth a fit
COPIED = 0.9  # share of equal times from which a table is a copy of another
SHORTEST = 128  # cached tokens of a decode that a law is fitted to
SHARED = 32  # query heads to a key head: where more share one, other kernels run, which read the cache again
REGION = 4.0  # side of a region of shapes, as a factor


@dataclass(frozen=True)
class Table:
    """The measurements of one class of kernel at one precision.

    Attributes:
        card: the accelerator, with `engine` and its `version`.
        kind: class of kernel.
        precision: as in a profile.
        kernel: what was called.
        launches: variable of the law → its value for each measurement.
        measured: microseconds of each.
        colour: which of two colours the region of shapes has, so that neighbours differ.
        rows: the shapes, for a look at what a law misses.

    """

    card: Accelerator
    engine: str
    version: str
    kind: str
    precision: str
    kernel: str
    launches: dict[str, Array]
    measured: Array
    colour: npt.NDArray[np.bool_]
    rows: pd.DataFrame


def tables(folder: Path) -> Iterator[Table]:
    """Yield every table of a folder that carries a fit, in a fixed order."""
    for kind, (name, group, read) in READERS.items():
        rows = pd.read_csv(folder / name, dtype={"ver": str, "us": float})
        rows = rows[np.isfinite(rows.us) & (rows.us > 0) & rows.card.isin(CARDS) & rows.engine.isin(ENGINES)]
        if "op" in rows:  # the engines' own all-reduce, started as part of a graph
            rows = rows[(rows.op == "custom_all_reduce") & ~rows.kernel_source.str.contains("eager")]
        if rows.empty:
            continue
        keys = [column for column in rows.columns if column != "us"]
        rows = rows.groupby(keys, dropna=False).us.median().reset_index()
        for key, found in without_copies(rows).groupby(["card", "engine", *group], dropna=False):
            card, engine = map(str, key[:2])
            # Kernels are not mixed: the one that most of the shapes ran on stands for the engine.
            version, kernel = found.groupby(["ver", "kernel_source"]).size().sort_values(kind="stable").index[-1]
            one = found[(found.ver == version) & (found.kernel_source == kernel)].reset_index(drop=True)
            on = hardware(CARDS[card])
            if (table := read(on, one)) is not None:
                precision, launches, regions, kept = table
                if kept.sum() >= FEWEST:
                    yield Table(
                        on, engine, version, kind, precision, kernel,
                        {key: np.broadcast_to(value, kept.shape)[kept] for key, value in launches.items()},
                        one.us.to_numpy(float)[kept], regions[kept], one[kept],
                    )  # fmt: skip


def without_copies(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without tables whose times are those of an earlier one, of another card or engine."""
    shapes = [name for name in rows.columns if name not in {"card", "engine", "ver", "kernel_source", "us"}]
    found = {key: part.groupby(shapes, dropna=False).us.median() for key, part in rows.groupby(["card", "engine"])}
    copied = set()
    for first, second in combinations(found, 2):
        both = pd.concat([found[first], found[second]], axis=1, join="inner")
        if len(both) >= FEWEST // 2 and (both.iloc[:, 0] == both.iloc[:, 1]).mean() >= COPIED:
            copied.add(second)
    return rows[[pair not in copied for pair in zip(rows.card, rows.engine, strict=True)]]


def counted(card: Accelerator, precision: str, flops: Any, **moved: Any) -> dict[str, Array]:
    """Return the microseconds that arithmetic and traffic take at the card's peaks.

    Args:
        card: whose peaks.
        precision: of a profile; its arithmetic may be of another.
        flops: of matrix products.
        moved: bytes, by what they are: weight, cache, activation.

    """
    parts = {f"{name}_us": np.asarray(number, float) / card.bandwidth * 1e6 for name, number in moved.items()}
    compute = np.asarray(flops, float) / card.peak(ARITHMETIC.get(precision, precision)) * 1e6
    return {"compute_us": compute, "memory_us": np.asarray(sum(parts.values())), **parts}


def colour(first: Any, second: Any) -> npt.NDArray[np.bool_]:
    """Return a colour for each pair of sizes, by its region, of a factor 4 a side.

    Of the published regions every second one is at hand, the squares of one colour of a chessboard; stripes of
    diagonals part those again.
    """
    places = [np.floor(np.log(np.asarray(size, float)) / np.log(REGION) + 1e-9) for size in (first, second)]
    return np.asarray((places[0] + places[1]) // 2 % 2 == 1)


Read = tuple[str, dict[str, Array], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Precision, variables, colours, and which rows serve a fit."""


def _linear(card: Accelerator, rows: pd.DataFrame) -> Read | None:
    precision, width = PRECISIONS[rows.gemm_dtype.iloc[0]]
    if ARITHMETIC.get(precision, precision) not in card.peaks:
        return None
    m, n, k = (rows[name].to_numpy(float) for name in ("m", "n", "k"))
    launches = counted(card, precision, 2 * m * n * k, weight=n * k * width, activation=ACTIVATION * m * (k + n))
    launches |= {"num_tokens": m, "input_size": k, "output_size": n}
    return precision, launches, colour(m, n * k), np.ones(m.shape, bool)


def _attention(
    card: Accelerator, rows: pd.DataFrame, queries: Array, pairs: Array, cached: Array
) -> tuple[str, dict[str, Array]] | None:
    """Return the precision and the variables of attention, for amounts of one sequence."""
    precision, width = ATTENTION[rows.attn_dtype.iloc[0], rows.kv_cache_dtype.iloc[0]]
    if ARITHMETIC.get(precision, precision) not in card.peaks:
        return None
    batch, heads, kv_heads, size = (
        rows[name].to_numpy(float) for name in ("batch_size", "num_heads", "num_key_value_heads", "head_dim")
    )
    launches = counted(
        card, precision, 4 * batch * heads * pairs * size,
        cache=2 * batch * kv_heads * cached * size * width, activation=2 * batch * heads * queries * size * ACTIVATION,
    )  # fmt: skip
    launches |= {"context": pairs / queries, "num_sequences": batch, "num_heads": heads, "num_kv_heads": kv_heads}
    return precision, launches | {"num_tokens": batch * queries}


def _decode(card: Accelerator, rows: pd.DataFrame) -> Read | None:
    window = rows.window_size.to_numpy(float)
    context = rows.step.to_numpy(float) + 1
    seen = np.where(window > 0, np.minimum(context, window), context)
    found = _attention(card, rows, np.ones(context.shape), seen, seen)
    if found is None:
        return None
    heads = rows.num_heads.to_numpy(float)
    kept = (context >= SHORTEST) & (window == 0)  # below, another kernel runs
    kept &= heads <= SHARED * rows.num_key_value_heads.to_numpy(float)
    return *found, colour(rows.step, rows.batch_size * heads), kept


def _prefill(card: Accelerator, rows: pd.DataFrame) -> Read | None:
    length, window = rows.isl.to_numpy(float), rows.window_size.to_numpy(float)
    reach = np.where(window > 0, np.minimum(length, window), length)
    pairs = reach * (reach + 1) / 2 + (length - reach) * reach
    found = _attention(card, rows, length, pairs, length)
    if found is None:
        return None
    return *found, colour(length, rows.batch_size * rows.num_heads), (window == 0)


def _experts(card: Accelerator, rows: pd.DataFrame) -> Read | None:
    if rows.moe_dtype.iloc[0] not in PRECISIONS:
        return None
    precision, width = PRECISIONS[rows.moe_dtype.iloc[0]]
    if ARITHMETIC.get(precision, precision) not in card.peaks:
        return None
    tokens, hidden, inner, chosen, experts, parts = (
        rows[name].to_numpy(float)
        for name in ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size")
    )
    inner = inner / parts
    touched = experts * (1 - (1 - chosen / experts) ** tokens)
    launches = counted(
        card, precision, 6 * tokens * chosen * hidden * inner,
        weight=touched * 3 * hidden * inner * width, activation=ACTIVATION * tokens * chosen * (2 * hidden + 3 * inner),
    )  # fmt: skip
    launches |= {"experts_touched": touched, "num_tokens": tokens}
    return precision, launches, colour(tokens, hidden * inner * experts), np.ones(tokens.shape, bool)


def _all_reduce(card: Accelerator, rows: pd.DataFrame) -> Read | None:
    if card.link_bandwidth is None or not card.link.startswith("NVLink"):
        return None  # over PCIe the tables of different engines differ fourfold: no law
    ranks, size = rows.num_gpus.to_numpy(float), rows.message_size.to_numpy(float)
    launches = {"message_us": size * ACTIVATION / card.link_bandwidth * 1e6, "num_ranks": ranks}
    launches["rank_doublings"] = np.log2(ranks)
    return ANY, launches, colour(size, size), np.ones(size.shape, bool)


READERS: dict[str, tuple[str, list[str], Callable[[Accelerator, pd.DataFrame], Read | None]]] = {
    "linear": ("gemm.csv", ["gemm_dtype"], _linear),
    "decode_attention": ("decode_attention.csv", ["attn_dtype", "kv_cache_dtype"], _decode),
    "prefill_attention": ("prefill_attention.csv", ["attn_dtype", "kv_cache_dtype"], _prefill),
    "experts": ("moe.csv", ["moe_dtype"], _experts),
    "all_reduce": ("all_reduce.csv", [], _all_reduce),
}
