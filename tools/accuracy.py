"""How far estimates are off the times per token of published servers, and the intervals of the shipped profiles.

``python -m tools.accuracy FOLDER`` reads the servers of a folder (`end_to_end.csv`; docs/profiles.md says where it is
from), estimates each of them, writes docs/accuracy.md, and writes into the profiles how measured times spread around
estimates. No parameter of a law is fitted here. The intervals are: those of a model are made without it when they are
judged, and with all models when they are shipped. No row of the servers is written anywhere.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

import nbanalyzer
from nbanalyzer.errors import InputError
from nbanalyzer.files import write_whole
from nbanalyzer.hardware.parameters import ANY, QUANTILES, Spread
from nbanalyzer.hardware.profiles import Profile

from .fit_profiles import SHIPPED, lines

__all__ = ["Row", "expected", "intervals", "judged", "main", "missed", "page", "rows"]

PAGE = Path(__file__).parent.parent / "docs" / "accuracy.md"
MODELS = {
    "Qwen3-235B": "qwen3-235b-a22b", "Qwen3-32B": "qwen3-32b", "3.1-8B": "llama-3.1-8b", "3.1-70B": "llama-3.1-70b",
    "gpt-oss-120b": "gpt-oss-120b",
}  # fmt: skip
"""Part of a published name → catalogue name."""
STORED = {"bf16": "none"}
"""What measurements call how weights are stored → the scheme, where it is not its name."""
SCHEMES = {"mxfp4 experts": "mxfp4", "float16": "bf16", "bfloat16": "bf16", "fp16": "bf16"}
CLASSES = {"1": (1, 1), "2-4": (2, 4), "8": (5, 8)}
"""Number of devices, as profiles have it → fewest and most."""
OUTER = (0.10, 0.90)  # the quantiles between which 80 % lie

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A published server, and what is said of it.

    Attributes:
        model, card, engine, quant: by the names of the catalogue, of profiles and of schemes.
        tp: devices.
        measured: seconds per output token; `estimated` with the engine's profile, `typical` with that of no engine,
            `bound` at the roofline.

    """

    model: str
    card: str
    engine: str
    quant: str
    tp: int
    measured: float
    estimated: float
    typical: float
    bound: float

    @property
    def kind(self) -> str:
        """What profiles tell apart: dense models, and those with experts."""
        return "experts" if "oss" in self.model or "a22b" in self.model else "dense"

    @property
    def devices(self) -> str:
        """The class of `tp`."""
        return next(name for name, (fewest, most) in CLASSES.items() if fewest <= self.tp <= most)

    @property
    def group(self) -> tuple[str, str, str, str, str]:
        """What was measured together."""
        return self.model, self.card, self.engine, self.quant, self.devices


def rows(folder: Path) -> Iterator[Row]:
    """Yield the servers that can be estimated; those with expert parallelism are not modelled."""
    table = pd.read_csv(folder / "end_to_end.csv")
    table["tp_size"] = table.tp_size.fillna(1).astype(int)
    table = table[table.moe_ep_size.fillna(1) <= 1]
    texts, numbers = ["model_path", "system", "backend", "prec"], ["tp_size", "isl", "osl", "batch_size"]
    for _, part in table.groupby([*texts, *numbers], sort=True):  # the same server more than once: its median
        path, system, engine, scheme = (str(part[name].iloc[0]) for name in texts)
        tp, prompt, output, batch = (int(part[name].iloc[0]) for name in numbers)
        model = next(name for part_of, name in MODELS.items() if part_of in path)
        card, quant = system.replace("_", "-"), SCHEMES.get(scheme, scheme.replace("_", "-"))
        if model == "qwen3-235b-a22b" and quant == "fp8":
            quant = "fp8-block"  # so its weights are published
        request = nbanalyzer.request(model, prompt_len=prompt, output_len=output, tp=tp, quant=STORED.get(quant, quant))
        try:
            own, typical = (request.on(card, profile=name).served(concurrency=batch) for name in (engine, None))
        except InputError as error:
            print(f"left out: {model} {card} {engine} tp {tp}: {error}", file=sys.stderr)
            continue
        if own.batch == batch:
            seconds = float(np.median(part.silicon_tpot_ms)) / 1e3
            yield Row(model, card, engine, quant, tp, seconds, own.expected, typical.expected, own.lower_bound)


def ratios(found: Iterable[Row], which: str = "estimated") -> Array:
    """Return measured / estimated."""
    return np.array([row.measured / getattr(row, which) for row in found])


def spread(found: list[Row], which: str = "estimated") -> tuple[float, ...]:
    """Return the quantiles of measured / estimated; a group of n servers counts as much as the root of n."""
    sizes = Counter(row.group for row in found)
    order = sorted(found, key=lambda row: row.measured / getattr(row, which))
    weights = np.array([1 / math.sqrt(sizes[row.group]) for row in order])
    places = (np.cumsum(weights) - weights / 2) / weights.sum()
    return tuple(float(value) for value in np.interp(QUANTILES, places, ratios(order, which)))


def related(found: list[Row], engine: str) -> list[Row]:
    """Return the rows that an interval of an engine is made from: its own, if of two models or more, else all."""
    own = [row for row in found if row.engine == engine]
    return own if len({row.model for row in own}) > 1 else found


def missed() -> tuple[float, ...]:
    """Return measured / law of experts' kernels, the middle of all shipped profiles.

    All layers of a model have experts of one shape: what the law misses of it does not average out over a pass.
    """
    shipped = [msgspec.json.decode(path.read_bytes(), type=Profile) for path in sorted(SHIPPED.glob("*.json"))]
    fits = [fit.ratio for one in shipped for fit in one.classes.get("experts", {}).values() if fit.ratio]
    return tuple(float(value) for value in np.median(fits, axis=0))


def expected(found: list[Row], part: list[Row], kernels: tuple[float, ...], which: str = "estimated") -> Array:
    """Return the quantiles of measured / estimated of models with experts.

    Few of them were measured, and those say little of another. So the interval holds what dense models and experts'
    kernels miss, two errors that have nothing to do with each other: the squares of their distances from the middle, as
    logarithms, add up. And it holds what measured models with experts miss.

    Args:
        found: dense servers, on as many devices.
        part: those of models with experts; none if there are none.
        kernels: measured / law of experts' kernels, as `missed` has it.
        which: ``"estimated"`` or ``"typical"``.

    """
    middle = len(QUANTILES) // 2
    logs = np.log([spread(found, which), kernels])
    distances = np.sqrt(np.sum((logs - logs[:, [middle]]) ** 2, axis=0)) * np.sign(np.arange(len(QUANTILES)) - middle)
    together: Array = np.exp(logs[:, middle].sum() + distances)
    if not part:
        return together
    own = np.array(spread(part, which))
    parts = np.minimum(own, together)[:middle], own[[middle]], np.maximum(own, together)[middle + 1 :]
    return np.asarray(np.concatenate(parts))


def judged(found: list[Row], dense: list[Row], kernels: tuple[float, ...]) -> tuple[float, float]:
    """Return the share of rows inside an interval that was made without their model, and its median half-width.

    Args:
        found: of one kind and class of devices.
        dense: the dense ones of that class.
        kernels: as for `expected`.

    """
    inside: list[bool] = []
    widths: list[float] = []
    for model, engine in sorted({(row.model, row.engine) for row in found}):
        others, plain = ([row for row in rows if row.model != model] for rows in (found, dense))
        others, plain = ([row for row in rows if row.engine == engine] or rows for rows in (others, plain))
        if not plain:
            continue
        is_dense = found[0].kind == "dense"
        quantiles = spread(others) if is_dense else expected(plain, others, kernels)
        low, high = (float(quantiles[QUANTILES.index(part)]) for part in OUTER)
        for ratio in ratios([row for row in found if (row.model, row.engine) == (model, engine)]):
            inside.append(low <= ratio <= high)
            widths.append((high - low) / 2)
    return (float(np.mean(inside)), float(np.median(widths))) if inside else (math.nan, math.nan)


def intervals(found: list[Row], kernels: tuple[float, ...], engine: str = "") -> dict[str, dict[str, Spread]]:
    """Return what a profile carries: ``dense`` or ``experts`` → devices → spread; without an engine of typical ones."""
    made: dict[str, dict[str, Spread]] = {}
    which = "estimated" if engine else "typical"
    for devices in CLASSES:
        dense, experts = (
            [row for row in found if (row.kind, row.devices) == (kind, devices)] for kind in ("dense", "experts")
        )
        if engine:
            dense, experts = related(dense, engine), related(experts, engine)
        if not dense:
            continue
        kinds = {"dense": spread(dense, which)}
        if experts:
            kinds["experts"] = tuple(expected(dense, experts, kernels, which))
        for kind, quantiles in kinds.items():
            part = dense if kind == "dense" else experts
            source = f"{len({row.group for row in part})} groups of published servers, docs/accuracy.md"
            if kind == "experts":
                source = source.replace(",", " with experts, dense ones and experts' kernels,", 1)
            low, lower, middle, upper, high = (round(float(value), 3) for value in quantiles)
            made.setdefault(kind, {})[devices] = Spread(
                n=len(part), ratio=(low, lower, middle, upper, high), source=source
            )
    return made


def errors(found: list[Row], which: str) -> str:
    """Return mean, median and 90 % quantile of the error, in per cent."""
    off = np.abs(1 / ratios(found, which) - 1)
    return f"{100 * off.mean():.1f} / {100 * np.median(off):.1f} / {100 * np.quantile(off, 0.9):.0f}"


def page(found: list[Row], kernels: tuple[float, ...]) -> str:
    """Return docs/accuracy.md."""
    low, high = (kernels[QUANTILES.index(part)] for part in OUTER)
    text = [INTRODUCTION.replace("LOW", f"{low:.2f}").replace("HIGH", f"{high:.2f}"), "## By class\n", HEADINGS]
    for kind in ("dense", "experts"):
        for devices in CLASSES:
            part = [row for row in found if (row.kind, row.devices) == (kind, devices)]
            if not part:
                continue
            dense = [row for row in found if (row.kind, row.devices) == ("dense", devices)]
            share, width = judged(part, dense, kernels)
            cells = (kind, devices, len(part), *(errors(part, which) for which in ("estimated", "typical", "bound")))
            covered = "one model" if math.isnan(share) else f"{100 * share:.0f} %, ±{100 * width:.0f} %"
            text.append(
                f"| {' | '.join(map(str, cells))} | {covered} | {sum(row.measured < row.bound for row in part)} |"
            )
    text += ["\n## By model, card and engine\n", "| model | card | engine | quant | devices | n | estimate | typical |"]
    text.append("|---|---|---|---|---:|---:|---:|---:|")
    for group in sorted({row.group for row in found}):
        part = [row for row in found if row.group == group]
        cells = (*group, len(part), errors(part, "estimated"), errors(part, "typical"))
        text.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*text, CLOSING])


def main(words: list[str] | None = None) -> int:
    """Estimate the servers of a folder; write the page and the intervals."""
    parser = argparse.ArgumentParser(prog="accuracy", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="with end_to_end.csv")
    found, kernels = list(rows(parser.parse_args(words).folder)), missed()
    for path in sorted(SHIPPED.glob("*.json")):
        before = msgspec.json.decode(path.read_bytes(), type=Profile)
        engine = "" if before.card == ANY else before.engine
        write_whole(path, lines(msgspec.structs.replace(before, intervals=intervals(found, kernels, engine))).encode())
    write_whole(PAGE, page(found, kernels).encode())
    print(f"{len(found)} servers: {PAGE}")
    return 0


INTRODUCTION = """# How far off is it?

Times per output token of published servers in steady continuous batching, against `request(…).on(card,
profile=engine).served(concurrency=…)`. Made by `make accuracy` from the servers of ai-dynamo/aiconfigurator
(commit 095f58a51, Apache-2.0, `silicon_sample.csv`); their rows are not part of this project.

Laws are fitted to kernels measured alone; of servers they have seen nothing but two numbers that are the same for
all engines: how long ranks wait for each other, and how many of the experts tokens really visit (docs/profiles.md).
Typical figures, three numbers for all cards, were chosen on the dense ones. "bound" is the roofline of the fused list.
Errors are |estimate / measured − 1| in per cent: mean / median / 90 % quantile. "inside" is how many of the measured
times lie within the interval, if that is made **without the model** that it is judged on, and half its width. Intervals
are of an engine's own servers where those are of two models or more, else of all.

Of models with experts two are measured, too few to say how far off a third may be: the quantiles of one hold few of the
other's times. Their interval is wider, by a rule that was not fitted to them: what dense models on as many devices
miss, and what the law misses of experts' kernels (measured / law, LOW to HIGH in the middle of all profiles), which
does not average out, as all layers have experts of one shape. The two have nothing to do with each other, so the
squares of their distances from the middle, as logarithms, add up. Where measured models with experts, others than the
one judged, lie farther out, it is widened to their quantiles. On 8 devices it holds more than it should: dense models
are off by more there than gpt-oss-120b, the one model with experts that was measured on so many.
No rule that leaves out the judged model was found with all three classes at 72 to 90 %, as two models do not agree:
that takes 0.54 to 0.93 of this width (as a logarithm) on one device, where only gpt-oss-120b was measured, 0.96 to 1.62
on 2-4, where Qwen3-235B on vLLM takes 1.6 times its estimate and is inside 23 times in 100, and 0.60 to 0.65 on 8. A
width for each class would be chosen on what it is judged by. Tried, with what is inside on 1, 2-4 and 8 devices: dense
models' quantiles alone 67, 50 and 79 %, experts' kernels' alone 93, 63 and 100 %, those of the engine's own profile in
place of the middle of all 93, 75 and 100 %, both around 1 in place of their middles 93, 76 and 100 %, dense models of
all classes together 85, 77 and 100 %, as their middle is off. A correction for how few there are only widens.
"""
HEADINGS = """| models | devices | servers | engine's profile | typical | bound | inside | below the bound |
|---|---:|---:|---:|---:|---:|---:|---:|"""
CLOSING = """
## Cards of one's own

Typical figures against 19 published speeds of llama.cpp, one sequence, Llama 2 7B and Llama 3 8B in f16, q4_0 and
q4_k_m (github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference at 00dd2bde; tests/analysis/test_own_cards.py): estimated
tokens a second are 12.9 / 8.2 / 27 % off; on GeForce RTX 3090, 4080 and 4090 (12 of them) 5.1 / 5.1 / 10 %, on Apple's
M1 to M3 (7) 26.1 / 22.3 / 44 %: those reach 40 to 84 % of what the bound allows, the M1 Max with q4_k_m least. None was
measured faster than its bound, which is 46 % off in the median.

## What is not in it

- Expert parallelism, speculative decoding, prefixes that prompts share, requests that wait: not modelled, and left out.
- The time until the first token of a loaded server: it depends on how clients start. What is shown is the prefill of
  an idle server, and is called so.
- Latent attention (DeepSeek), linear attention and state-space models: no measured kernels are at hand, no estimate.
- Other people's: aiconfigurator 0.12, run with its defaults, was 16 to 19 % off on 239 dense servers of the same
  tables. As they publish it, on data of their own: inference-sim 11.8 % end to end over 38 experiments, mlsysim ±10 to
  25 % over five, a roofline with one fixed share of the peak 48 % (inference-sim, issue 436).
"""


if __name__ == "__main__":
    sys.exit(main())
