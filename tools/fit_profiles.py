"""Fits the shipped profiles to published kernel tables, and says how far the laws are off where they saw nothing.

``python -m tools.fit_profiles FOLDER`` reads the csv files of a folder (docs/profiles.md says which) and writes
``nbanalyzer/hardware/profiles/<card>.<engine>.json``. No row of the tables is written anywhere.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nbanalyzer.files import decode, write_whole
from nbanalyzer.hardware.laws import Law, laws
from nbanalyzer.hardware.parameters import ANY, QUANTILES, Fit
from nbanalyzer.hardware.profiles import Profile, profile

from .fitting import fitted, times
from .measurements import Array, Table, tables

__all__ = ["Outcome", "fit", "lines", "made", "main", "outcomes"]

SHIPPED = Path(__file__).parent.parent / "nbanalyzer" / "hardware" / "profiles"
SOURCE = (
    "kernel tables of github.com/ai-dynamo/aiconfigurator, commit 095f58a51 (Apache-2.0, copyright NVIDIA); parameters "
    "fitted by nbanalyzer (tools/fit_profiles.py), not copied"
)
# Of a profile: chosen on the 16-bit linears of all engines of an architecture; else that of the typical profile.
OVERLAP = 0.3
OVERLAPS = {"Ampere": 0.5, "Ada Lovelace": 0.35, "Hopper": 0.2, "Blackwell": 0.4}
CACHES = {
    "a100-sxm-80gb": 40,
    "l40s": 96,
    "h100-sxm": 50,
    "h200-sxm": 50,
    "b200-sxm": 126,
    "b300-sxm": 126,
    "gb200": 126,
}
"""MB of a card's last cache. Where a benchmark reads the same cache of keys and values again, it finds it there."""
# Of weights a benchmark takes turns with several, which together fit only where they are small. Linears have bent
# at a sixth of the cache where that matters; where it does not, there is no such parameter.
TURNS = {"a100-sxm-80gb": 6, "l40s": 6}
TILE = 64 * 64
"""Outputs that a multiprocessor takes at a time, of 16-bit linears: all engines call the same library, and half of the
regions say less of it than all cards together, on which it was chosen. Kernels of other precisions are the engines'."""
QUANTISED = {"fp8", "fp8_block", "nvfp4"}  # linears whose tables include quantising the input
# Of kernels that are part of a model: ranks wait for each other, and tokens of one text go to fewer experts than those
# of a benchmark. Both were chosen once for all engines, on published times per token (tools/accuracy.py).
ALL_ENGINES = {"skew_us": 2.0, "visited": 0.8, "kept": 1.0}
IN_MODELS = {"trtllm": {"quantize": 0.0}}  # its kernel before quantises
# No table measures these: in a CUDA graph, as times per token of whole models bear out.
ELEMENTWISE = Fit(parameters={"bandwidth": 0.75, "launch_us": 2.0}, assumed=True)
LENGTHS = {"throttle": "brief_us", "per_first_key_ns": "first_keys"}
"""Parameter → what says how long it counts, and says nothing where that is 0."""
FEWEST = 20  # rows of a colour that a law can be fitted to
LARGEST_ERROR = 0.25  # median, where a law saw nothing, of what is still modelled
WITHOUT_GRAPH = 50.0  # microseconds: a quickest linear as slow as that was not started in a graph
DIGITS = 3


@dataclass(frozen=True)
class Outcome:
    """A law fitted to a table.

    Attributes:
        table: the measurements.
        fit: parameters, with their spread; its `error` is that where the law saw nothing.
        roofline: median error of the roofline, with `typical`, that of the profile of no engine.
        left_out: why it is in no profile; empty if it is in one.

    """

    table: Table
    fit: Fit
    roofline: float
    typical: float
    left_out: str = ""


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Yield the outcome of every table of a folder."""
    plain: dict[tuple[str, str], float] = {}
    for table in tables(folder):
        place = (table.card.name, table.engine)
        found = fit(table, launch_us=plain.get(place))
        if (table.kind, table.precision) == ("linear", "bf16"):
            plain[place] = found.fit.parameters["launch_us"]
        yield found


def fit(table: Table, launch_us: float | None = None) -> Outcome:
    """Return the law of a table's class, fitted to all of it and tried on halves that it did not see.

    Args:
        table: the measurements.
        launch_us: of the engine's 16-bit linears: what a linear that quantises its input takes longer to start is
            the kernel that does so.

    """
    law = laws()[table.kind]
    constants = {
        "overlap": OVERLAPS.get(table.card.architecture, OVERLAP),
        "bytes_per_us": table.card.bandwidth / 1e6,
        "num_sms": float(table.card.num_sms or 0),
    }
    given = {name: law.parameters[name].default or 0.0 for name in ALL_ENGINES if name in law.parameters}
    if "kept" in law.parameters:
        given["cached_us"] = kept = _cached_us(table)
        if kept:
            del given["kept"]
    if table.kind == "linear":
        given |= {"quantize": 0.0, "quantize_us": 0.0}
        if (
            table.precision == "bf16"
        ):  # per element of the sum: 2 FLOPs an output, at a multiprocessor's share of the peak
            given["tile_k_ns"] = 2e9 * TILE * (table.card.num_sms or 0) / table.card.peak("bf16")
        if table.precision in QUANTISED:
            given["quantize"] = 1.0
            if launch_us is not None:  # what starting takes longer is then the other kernel's
                given["launch_us"] = launch_us
                del given["quantize_us"]
    errors = []
    for seen in (table.colour, ~table.colour):
        if min(seen.sum(), (~seen).sum()) >= FEWEST:
            found = fitted(law, _part(table.launches, seen), table.measured[seen], constants | given)
            time = times(law, _part(table.launches, ~seen), constants | given | found)
            errors.append(_errors(time, table.measured[~seen]))
    found = given | fitted(law, table.launches, table.measured, constants | given)
    found = {name: _rounded(found[name], law, name) for name in law.parameters}
    for rate, length in LENGTHS.items():
        if not found.get(rate, 1):
            found[length] = law.parameters[length].default or 0.0  # nothing begins, or ends, then
    ratio = table.measured / times(law, table.launches, constants | found)
    low, lower, middle, upper, high = (float(f"{value:.{DIGITS}g}") for value in np.quantile(ratio, QUANTILES))
    error = np.concatenate(errors) if errors else None
    result = Fit(
        parameters={name: value for name, value in found.items() if value != law.parameters[name].default},
        n=len(table.measured),
        ratio=(low, lower, middle, upper, high),
        error=None if error is None else (round(float(np.median(error)), 3), round(float(np.quantile(error, 0.9)), 3)),
        kernel=table.kernel.rpartition("/")[2],
    )
    typical = profile(None, table.card).parameters(table.kind, table.precision)
    level_one = times(law, table.launches, constants | dict(typical.values))
    left_out = ""
    if table.kind == "linear" and np.quantile(table.measured, 0.05) > WITHOUT_GRAPH:
        left_out = "not started in a graph"
    elif result.error is None or result.error[0] > LARGEST_ERROR:
        left_out = "no law"
    roofline = float(np.median(_errors(_roofline(table.launches), table.measured)))
    return Outcome(table, result, roofline, float(np.median(_errors(level_one, table.measured))), left_out)


def _cached_us(table: Table) -> float:
    """Return the most traffic that a table's benchmark finds in the card's cache, at the peak bandwidth."""
    turns = TURNS.get(table.card.name, 0) if table.kind == "linear" else 1
    bytes_kept = CACHES.get(table.card.name, 0) * 1e6 / turns if turns else 0.0
    return float(f"{bytes_kept / table.card.bandwidth * 1e6:.{DIGITS}g}")


def made(found: list[Outcome], day: str, before: Profile | None = None) -> Profile:
    """Return the profile of one engine on one card.

    Args:
        found: its outcomes.
        day: of the fit.
        before: the profile that it replaces: intervals and tests of whole models are kept.

    """
    table = found[0].table
    version = Counter(outcome.table.version for outcome in found).most_common(1)[0][0]
    classes: dict[str, dict[str, Fit]] = {}
    for outcome in found:
        own = "" if outcome.table.version == version else outcome.table.version
        new = msgspec.structs.replace(outcome.fit, version=own)
        classes.setdefault(outcome.table.kind, {})[outcome.table.precision] = new
    classes["elementwise"] = {ANY: ELEMENTWISE}
    card = table.card
    return Profile(
        card=card.name,
        architecture=card.architecture,
        engine=table.engine,
        engine_version=version,
        made=day,
        source=SOURCE,
        overlap=OVERLAPS.get(card.architecture, OVERLAP),
        peaks=dict(card.peaks),
        bandwidth=card.bandwidth,
        link=card.link,
        link_bandwidth=card.link_bandwidth,
        num_sms=card.num_sms,
        classes={kind: classes[kind] for kind in laws() if kind in classes},
        in_models=ALL_ENGINES | IN_MODELS.get(table.engine, {}),
        intervals=before.intervals if before else {},
        tested=before.tested if before else "",
    )


def lines(content: Profile) -> str:
    """Return a profile as JSON with a line for each precision of a class."""
    fields = msgspec.to_builtins(content)
    parts = []
    for name, value in fields.items():
        if not value or (name, value) == ("widened", 1.0):  # overlap is never 0 here
            continue
        text = json.dumps(value, ensure_ascii=False)
        if name in {"classes", "intervals"}:
            groups = []
            for kind, entries in value.items():
                rows = ",\n".join(f"      {json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
                groups.append(f"    {json.dumps(kind)}: {{\n{rows}\n    }}")
            text = "{\n" + ",\n".join(groups) + "\n  }"
        parts.append(f"  {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def row(outcome: Outcome) -> str:
    """Return a line for the table of errors."""
    table, error = outcome.table, outcome.fit.error or (float("nan"), float("nan"))
    return (
        f"{table.kind:<18}{table.precision:<11}{table.card.name:<14}{table.engine:<8}{outcome.fit.n:>5}"
        f"{error[0]:>8.1%}{error[1]:>8.1%}{outcome.typical:>9.1%}{outcome.roofline:>9.1%}  {outcome.left_out}"
    ).rstrip()


def _roofline(launches: Mapping[str, Array]) -> Array:
    if "message_us" in launches:
        return np.asarray(2 * (launches["num_ranks"] - 1) / launches["num_ranks"] * launches["message_us"])
    return np.asarray(np.maximum(launches["compute_us"], launches["memory_us"]))


def _errors(time: Array, measured: Array) -> Array:
    return np.asarray(np.abs(time / measured - 1))


def _part(launches: Mapping[str, Array], chosen: Any) -> dict[str, Array]:
    return {name: values[chosen] for name, values in launches.items()}


def _rounded(value: float, law: Law, name: str) -> float:
    """Return a parameter to the digits that are worth writing, within its bounds."""
    parameter = law.parameters[name]
    short = float(f"{value:.{DIGITS}g}") if value > 1e-4 else 0.0
    return min(max(short, parameter.least), parameter.most)


def main(words: list[str] | None = None) -> int:
    """Fit every profile, write them, and print the table of errors."""
    parser = argparse.ArgumentParser(prog="python -m tools.fit_profiles", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the csv files")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the profiles")
    parser.add_argument("--made", default=datetime.date.today().isoformat(), help="the day that is written into them")
    given = parser.parse_args(words)
    print(
        f"{'class':<18}{'precision':<11}{'card':<14}{'engine':<8}{'n':>5}{'median':>8}{'p90':>8}{'typical':>9}{'roofline':>9}"
    )
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes(given.folder):
        print(row(outcome), flush=True)
        if not outcome.left_out:
            groups.setdefault((outcome.table.card.name, outcome.table.engine), []).append(outcome)
    for (card, engine), found in sorted(groups.items()):
        place = given.out / f"{card}.{engine}.json"
        before = decode(place.read_bytes(), Profile, place.name) if place.exists() else None
        write_whole(place, lines(made(found, given.made, before)).encode())
    print(f"{len(groups)} profiles in {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
