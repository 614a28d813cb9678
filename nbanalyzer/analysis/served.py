"""Requests served in steady continuous batching: time per token, tokens a second, what fits, what it costs.

As many sequences as the clients keep open, or as fit, are written at a time. When one ends, the next one's prompt is
read in a step of the others, one prompt a step at most. With B sequences and outputs of N tokens that happens in B / N
of the steps, so that

    time per output token = step + min(1, B / N) * (step with a prompt in it - step).

With drafts a step writes t tokens of each sequence on average (`nbanalyzer.costs.drafts`): outputs take N / t steps,
and that is the time of t tokens.

The cache of a sequence is as it is in the middle of its output. Not modelled: requests that wait for their turn,
prompts that share a beginning, the time until the first token under load.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.drafts import tokens_a_step
from nbanalyzer.display import Shown, save
from nbanalyzer.errors import InputError
from nbanalyzer.quantities import seconds, si

from .capacity import Capacity
from .estimate import Interval
from .marks import COMPUTE, marks_of
from .price import Price
from .rates import routing_of
from .steps import Steps, Times

__all__ = ["Served"]


@dataclass(frozen=True, repr=False)
class Served(Shown, shown_by="served"):
    """Requests of one shape, served all the time.

    Attributes:
        steps: the steps of one rank.
        capacity: its memory.
        prompt_len, output_len: tokens per sequence.
        concurrency: sequences that clients keep open.
        price: of the devices.
        quant: the name of the scheme that weights inside the layers are served in; None if the run says it.

    Raises:
        InputError: not even one sequence fits.

    """

    steps: Steps
    capacity: Capacity
    prompt_len: int
    output_len: int
    concurrency: int
    price: Price
    quant: str | None = None

    def __post_init__(self) -> None:
        if self.max_concurrency == 0:
            cache = self.capacity.cache
            need = si(self.capacity.sequence(self.tokens), "B")
            left = f"{si(cache, 'B')} are left" if cache >= 0 else f"{si(-cache, 'B')} are lacking already"
            hint = "tp=… divides the model over several" if self.tp == 1 else "a larger tp leaves more"
            raise InputError(
                f"does not fit: a sequence of {self.tokens:,} tokens takes {need} of cache, and of "
                f"{self.steps.accelerator.name} {left}; {hint}"
            )

    @property
    def costs(self) -> Costs:
        """A pass of one rank, of an engine's list."""
        return self.steps.costs

    @property
    def tp(self) -> int:
        """Devices that a model is divided over."""
        return self.steps.tp

    @property
    def tokens(self) -> int:
        """Tokens of a sequence at its end."""
        return self.prompt_len + self.output_len

    @cached_property
    def max_concurrency(self) -> int:
        """The most sequences that fit at a time, each as long as it gets."""
        return self.capacity.sequences(self.tokens)

    @property
    def longest_context(self) -> int:
        """The most tokens of a single sequence that fit."""
        return self.capacity.longest_context

    @property
    def batch(self) -> int:
        """Sequences that are written at a time: as many as are open, or as fit."""
        return min(self.concurrency, self.max_concurrency)

    @property
    def context(self) -> int:
        """Tokens in the cache of a sequence in the middle of its output."""
        return self.prompt_len + self.output_len // 2

    # ---- time

    @cached_property
    def step(self) -> Times:
        """A step that writes one token for each sequence, with drafts `tokens_a_step`."""
        return self.steps.decode(self.batch, self.context)

    @cached_property
    def step_with_prompt(self) -> Times:
        """A step with one prompt in it."""
        return self.steps.mixed(self.batch, self.context, self.prompt_len)

    @property
    def prompt_share(self) -> float:
        """Share of the steps that have a prompt in them: B / (output_len / tokens a step), at most 1."""
        return min(1.0, self.batch * self.tokens_a_step / self.output_len)

    @property
    def tokens_a_step(self) -> float:
        """Tokens that a step writes of each sequence: more than one where drafts are accepted."""
        return float(tokens_a_step(self.costs.run))

    @cached_property
    def times(self) -> Times:
        """The time per output token, expected and at least, without an interval."""
        each = self.step + (self.step_with_prompt - self.step) * self.prompt_share
        return each * (1 / self.tokens_a_step) if self.costs.run.mtp else each

    @property
    def lower_bound(self) -> float:
        """Seconds per output token at least: the same steps, every launch at its roofline, all-reduces at the link."""
        return self.times.bound

    @property
    def time_per_output_token(self) -> Interval:
        """Seconds between two tokens of a sequence.

        Raises:
            InputError: nobody compared such estimates with measurements.

        """
        return self.steps.interval(self.times)

    @property
    def expected(self) -> float:
        """Seconds between two tokens of a sequence, without an interval; at least `lower_bound`."""
        return max(self.times.expected, self.times.bound)

    @property
    def tokens_per_second(self) -> float:
        """Tokens written a second, of all sequences, by all devices."""
        return self.batch * self.tokens_per_second_each

    @property
    def tokens_per_second_each(self) -> float:
        """Tokens written a second of each sequence, by the middle of the interval if there is one."""
        try:
            return 1 / self.time_per_output_token.value
        except InputError:
            return 1 / self.expected

    @cached_property
    def prefill(self) -> Times:
        """The pass that reads one prompt on an idle server."""
        return self.steps.prefill(self.prompt_len)

    @property
    def prefill_time(self) -> float:
        """Seconds until a prompt is read on an idle server, as expected; under load a request waits besides."""
        return max(self.prefill.expected, self.prefill.bound)

    # ---- money and energy

    @property
    def cost_per_million_tokens(self) -> float:
        """$ of a million tokens written, their prompts included; needs a price."""
        return self.price.cost_per_million_tokens(self.tokens_per_second)

    @property
    def energy_per_token(self) -> float:
        """J of a token written, its share of the prompts included; needs the board's power."""
        return self.price.energy_per_token(self.tokens_per_second)

    @property
    def kwh_per_million_tokens(self) -> float:
        """KWh of a million tokens written."""
        return self.price.kwh_per_million_tokens(self.tokens_per_second)

    @property
    def co2_per_million_tokens(self) -> float:
        """G of CO2 of a million tokens written; needs a grid."""
        return self.price.co2_per_million_tokens(self.tokens_per_second)

    # ---- in words

    @property
    def answer(self) -> str:
        """The first thing to know: the estimate, its bound, and what the batch is."""
        expected = self.not_modelled or self.steps.words_of(self.times)
        routing = routing_of(self.costs.launches, self.prompt_len)
        unknown = f", {COMPUTE}" if COMPUTE in marks_of(None, self.steps.unknown) else ""
        bound = f"bound {seconds(self.lower_bound)}{routing}{unknown}"
        return f"time per output token: estimate {expected} · {bound} · {self.batch_words}"

    @property
    def not_modelled(self) -> str:
        """Why there are no estimates, of models that nobody measured; empty if there are."""
        return self.times.not_modelled or self.prefill.not_modelled

    @property
    def batch_words(self) -> str:
        """How many sequences are written at a time, and why."""
        if self.batch < self.concurrency:
            return f"{self.batch:,} sequences at a time: no more of {self.concurrency:,} fit"
        return f"{self.batch:,} sequence{'s' if self.batch > 1 else ''} at a time"

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing the times: of the profile, and of its parameters that stand in for others."""
        if self.not_modelled:  # the answer says why
            return (*self.steps.profile.notes, *self.steps.unknown)
        found = [*self.steps.profile.notes, *self.steps.unknown, *self.steps.notes]
        try:
            _ = self.steps.spread
        except InputError as error:
            found.insert(0, f"no interval: {error}")
        return tuple(dict.fromkeys(found))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all figures, whole or not at all, as .json.

        Raises:
            InputError: another suffix, or a place that cannot be written to.

        """
        save(self, path)

    def figure(self, name: str, unit: str) -> str:
        """Return a figure of this object as text, or why there is none; "" where its price or grid was not given."""
        given = {"cost_per_million_tokens": self.price.price, "co2_per_million_tokens": self.price.grid}
        if name in given and given[name] is None:
            return ""
        try:
            return f"{getattr(self, name):.4g}{unit}"
        except InputError as error:
            return str(error)
