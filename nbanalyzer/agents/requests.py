"""The tool about whole requests: a prompt is read, tokens are written; alone, or served all the time."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from msgspec import Meta

from nbanalyzer.analysis.estimate import Interval
from nbanalyzer.analysis.request import request
from nbanalyzer.analysis.request_timing import RequestTiming
from nbanalyzer.analysis.served import Served
from nbanalyzer.errors import InputError
from nbanalyzer.quantities import plain

from .answers import Answer, finite
from .arguments import Hardware, read_range
from .passes import Number
from .shelf import Shelf, card_of, profile_of

__all__ = ["request_"]

MOST_OUTPUT = 1_000_000
_Length = {"minimum": 1, "maximum": MOST_OUTPUT}


class RequestOf(Hardware, frozen=True, kw_only=True):
    """Which request, and where."""

    prompt_len: Annotated[int, Meta(description="tokens that are read", extra_json_schema=_Length)]
    output_len: Annotated[int, Meta(description="tokens that are written", extra_json_schema=_Length)]
    concurrency: Annotated[
        int | None,
        Meta(
            description="sequences kept open in continuous batching; needs hardware", extra_json_schema={"minimum": 1}
        ),
    ] = None
    price: Annotated[float | None, Meta(description="$ an hour of a device; needs hardware")] = None


class Requested(Answer, frozen=True, kw_only=True):
    """What a request costs.

    Attributes:
        model: its id and class.
        prompt: metric → number of the pass that reads the prompt.
        decode: metric → sum over all decode steps.
        totals: metric → both together.
        memory_bytes: what has to be in memory at the end, at least.
        times: figure → seconds or tokens a second, on the accelerator; those of estimates as low, value, high, or why
            there is none.
        served: the same in continuous batching, if a concurrency was given.
        notes: what to know before believing the numbers, and where the template is from.
        report: all of it in lines.

    """

    model: str
    conditions: str
    prompt: dict[str, Number]
    decode: dict[str, Number]
    totals: dict[str, Number]
    memory_bytes: Number
    times: dict[str, Any] | None
    served: dict[str, Any] | None
    notes: list[str]
    report: list[str]

    def words(self) -> str:
        """Return the report."""
        return "\n".join([*self.notes, *self.report])


def request_(shelf: Shelf, asked: RequestOf) -> Requested:
    """Say what a whole request costs: a prompt is read, then token after token is written.

    With hardware, the times to the first token and per token, as a bound and as expected; with concurrency, the same
    requests served all the time: tokens a second, the most sequences that fit, $ per million tokens at a price.
    """
    reached = asked.reached()
    if reached.pop("overlap"):
        raise InputError("a request takes no overlap: in a step of a served request the ranks wait for each other")
    read_range("prompt_len", asked.prompt_len, 1, 2**40)
    read_range("output_len", asked.output_len, 1, MOST_OUTPUT)
    if not asked.hardware and (asked.concurrency is not None or asked.price is not None):
        raise InputError("concurrency and price need hardware: nbanalyzer_list lists the names")
    if asked.seq_len is not None or asked.cache_len is not None or asked.encoder_len is not None:
        raise InputError("a request takes prompt_len and output_len, not seq_len, cache_len and encoder_len")
    model, config = shelf.subject(asked)
    found = request(
        model,
        config=config,
        prompt_len=asked.prompt_len,
        output_len=asked.output_len,
        **asked.run(),
    )
    timing: RequestTiming | None = None
    served: Served | None = None
    if asked.hardware:
        card, profile = card_of(asked.hardware), profile_of(asked.profile)
        timing = found.on(card, profile=profile, price=asked.price, **reached)
        served = None if asked.concurrency is None else timing.served(asked.concurrency)
    report = [repr(one) for one in (timing or found, served) if one is not None]
    return Requested(
        model=found.prefill.title,
        conditions=found.prefill.conditions,
        prompt=found.prefill.totals,
        decode=found.decode,
        totals=found.totals,
        memory_bytes=plain(found.memory.total),
        times={name: _figure(timing, name) for name in _TIMES} if timing else None,
        served={name: _figure(served, name) for name in _SERVED} if served else None,
        notes=[*found.prefill.notes, *found.prefill.warnings],
        report="\n".join(report).splitlines()[:60],
    )


_TIMES = (
    "time_to_first_token", "time_per_output_token", "time", "tokens_per_second", "prefill_time", "estimate",
    "lower_bound",
)  # fmt: skip
_SERVED = (
    "time_per_output_token", "lower_bound", "tokens_per_second", "tokens_per_second_each", "max_concurrency",
    "longest_context", "batch", "cost_per_million_tokens", "energy_per_token",
)  # fmt: skip


def _figure(result: object, name: str) -> Any:
    """Return a figure as plain data, or why there is none."""
    try:
        value = getattr(result, name)
    except InputError as error:
        return str(error)
    if isinstance(value, Interval):
        return {key: finite(part) if isinstance(part, float) else part for key, part in asdict(value).items()}
    return finite(value)
