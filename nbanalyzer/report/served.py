"""Served requests as text and HTML: the answer first, then each figure with what it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from nbanalyzer.analysis.served import Served
from nbanalyzer.analysis.steps import Times
from nbanalyzer.costs.drafts import words_of
from nbanalyzer.costs.run import MAX_SIZE
from nbanalyzer.errors import InputError
from nbanalyzer.quantities import rate, seconds, si
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

__all__ = ["FORMATS", "as_json", "fragment", "text"]


def text(served: Served) -> str:
    """Return served requests as aligned text."""
    return as_lines([*heads(served), *_table(served).lines("  "), *_warnings(served)])


def fragment(served: Served) -> dict[str, str]:
    """Return served requests as HTML."""
    before = "".join(f"<div>{escape(line)}</div>" for line in heads(served))
    after = "".join(f"<div>{escape(line)}</div>" for line in _warnings(served))
    return {"text/html": f"{before}{_table(served).html()}{after}"}


def heads(served: Served) -> list[str]:
    """Return the answer, the model and the conditions, a line each."""
    steps, run = served.steps, served.costs.run
    weights = f"weights {served.quant}" if served.quant else f"w_bit {run.w_bit}"
    sizes = f"prompt {served.prompt_len:,}, output {served.output_len:,}, concurrency {served.concurrency:,}"
    card = steps.accelerator.title or steps.accelerator.name
    devices = card if served.tp == 1 else f"{served.tp} x {card}"
    engine = f"{steps.profile.name}, steady continuous batching"
    drafted, words = served.costs.template.drafted, words_of(run)
    drafts = f", {words}" if words else ""
    return [
        served.answer,
        f"{served.costs.title}{f'; {drafted}' if drafted else ''}",
        f"{sizes}; {weights}, cache {run.kv_bit} bits{drafts}; on {devices}; {engine}",
    ]


def _warnings(served: Served) -> list[str]:
    notes = (f"  note: {one}" for one in served.notes)
    return ["  not modelled: waiting for a turn, prompts that share a beginning", *notes]


def _table(served: Served) -> Table:
    share = f"in {100 * served.prompt_share:.3g} % of the steps"
    all_of_them = "of all sequences" + (f", by {served.tp} devices" if served.tp > 1 else "")
    written = f"{served.tokens_a_step:.3g} tokens" if served.costs.run.mtp else "one token"
    step, mixed, prefill = served.step, served.step_with_prompt, served.prefill
    most = "at most " if served.not_modelled else ""
    each = 1 / served.lower_bound if served.not_modelled else served.tokens_per_second_each
    times = [
        ("step", _time(step), f"{written} for each sequence, {served.context:,} in its cache"),
        ("step with a prompt in it", _time(mixed), share),
        ("tokens/s", f"{most}{rate(served.batch * each)}", all_of_them),
        ("tokens/s each", f"{most}{rate(each)}", "of one sequence"),
        ("prefill time", _time(prefill), "idle server: one prompt, nothing else"),
    ]
    # What a state-space model keeps does not grow with the tokens.
    longest = f"{served.longest_context:,}" if served.longest_context < MAX_SIZE else "no limit"
    rows = [
        *times,
        ("most sequences", f"{served.max_concurrency:,}", f"of {served.tokens:,} tokens that fit at a time"),
        ("longest context", longest, "tokens of a single sequence"),
        ("memory", si(served.capacity.taken, "B"), served.capacity.words),
    ]
    price, grid = served.price.price or 0, served.price.grid or 0
    money = (
        ("$ per million tokens", "cost_per_million_tokens", "", f"at $ {price:g} an hour each"),
        ("energy per token", "energy_per_token", " J", "at the board's rated power"),
        ("kWh per million tokens", "kwh_per_million_tokens", "", ""),
        ("g CO2 per million tokens", "co2_per_million_tokens", "", f"at {grid:g} g a kWh"),
    )
    for label, name, unit, note in () if served.not_modelled else money:
        if figure := served.figure(name, unit):
            rows.append((label, figure, note))
    return Table(rows, words=(0, 2), prose=(2,), has_head=False)


def _plain(served: Served) -> dict[str, Any]:
    """Return served requests as plain data; what is not modelled says so."""

    def one(name: str) -> Any:
        try:
            value = getattr(served, name)
        except InputError as error:
            return str(error)
        return asdict(value) if name == "time_per_output_token" else value

    steps, capacity = served.steps, served.capacity
    where = {"model": served.costs.title, "accelerator": steps.accelerator.name, "profile": steps.profile.name}
    times = {name: _plain_times(getattr(served, name)) for name in ("step", "step_with_prompt")}
    memory = {"taken": capacity.taken, **capacity.parts, "cache": capacity.cache}
    return {**where, **{name: one(name) for name in NAMES}, **times, "memory": memory, "notes": list(served.notes)}


def _plain_times(times: Times) -> dict[str, Any]:
    return {"expected": times.estimate, "bound": times.bound}


def _time(times: Times) -> str:
    return f"at least {seconds(times.bound)}" if times.not_modelled else seconds(times.expected)


def as_json(served: Served) -> str:
    """Return served requests as JSON."""
    return msgspec.json.format(msgspec.json.encode(_plain(served)), indent=2).decode() + "\n"


NAMES = (
    "time_per_output_token", "lower_bound", "expected", "tokens_per_second", "tokens_per_second_each",
    "prefill_time", "batch", "concurrency", "max_concurrency", "longest_context", "prompt_len", "output_len", "tp",
    "quant", "prompt_share", "cost_per_million_tokens", "energy_per_token", "kwh_per_million_tokens",
    "co2_per_million_tokens",
)  # fmt: skip
"""What stands in a file of served requests."""
FORMATS = {"json": as_json}
"""Suffix of a file → its content."""
