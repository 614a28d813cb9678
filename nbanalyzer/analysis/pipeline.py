"""A step of training on a pipeline of stages: how long it takes, how much of that is waiting, what is kept meanwhile.

A batch is cut into microbatches, which follow each other through the stages. A schedule says in which order a stage
runs their forward and backward passes; its bubble is the time in which it waits for other stages. The closed forms here
hold for stages that take equally long, without the time of sends: of unequal stages, put in the slowest one's times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from nbanalyzer.errors import InputError, UnknownNameError, quote
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number, normalize

__all__ = ["SCHEDULES", "Pipeline", "Schedule", "passing"]

BUSY = "{microbatches} * ({forward} + {backward})"
Time = Number | float


@dataclass(frozen=True)
class Schedule:
    """An order of forward and backward passes.

    Attributes:
        meaning: in a few words.
        bubble: formula of the time that a stage waits: the time of a step is that of its work (`BUSY`) and this.
        in_flight: formula of the most microbatches whose activations a stage keeps, each of all its layers.
        source: where it was published.
        splits: whether the gradients of weights are computed apart from, and after, those of inputs.
        chunks: the parts that a stage's layers are cut into, each with a place of its own in the pipeline; 0: any.

    """

    meaning: str
    bubble: str
    in_flight: str
    source: str
    splits: bool = False
    chunks: int = 1


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "gpipe": Schedule(
            "all forward passes, then all backward ones",
            "({pp} - 1) * ({forward} + {backward})",
            "{microbatches}",
            "Huang et al. 2019, arXiv:1811.06965",
        ),
        "1f1b": Schedule(
            "one forward, one backward, as soon as the first can go back",
            "({pp} - 1) * ({forward} + {backward})",
            "min({pp} - {stage}, {microbatches})",
            "Narayanan et al. 2021, arXiv:2104.04473, section 2.2.1",
        ),
        "interleaved": Schedule(
            "1f1b with several chunks of layers a device",
            "({pp} - 1) * ({forward} + {backward}) / {chunks}",
            "min(2 * ({pp} - {stage} - 1) + ({chunks} - 1) * {pp} + 1, {chunks} * {microbatches}) / {chunks}",
            "Narayanan et al. 2021, arXiv:2104.04473, section 2.2.2",
            chunks=0,
        ),
        "zb": Schedule(
            "1f1b whose gradients of weights fill the bubble: ZB-H1, with several chunks ZB1P",
            "({pp} - 1) * ({backward} - {weight} + max({forward} - {weight}, 0)) / {chunks}",
            "min({pp}, {microbatches})",
            "Qi et al. 2023, arXiv:2401.10241, section 2.1",
            splits=True,
            chunks=0,
        ),
        "zbv": Schedule(
            "two chunks a device, the second on the way back, gradients of weights in the bubble: ZB-V",
            "({pp} - 1) * {forward} / 2",
            "{pp}",
            "Qi et al. 2023, arXiv:2401.10241, section 6",
            splits=True,
            chunks=2,
        ),
    }
)
"""The schedules by name."""


@dataclass(frozen=True)
class Pipeline:
    """Stages, the microbatches of a step, and the order in which they run.

    Args:
        schedule: of `SCHEDULES`.
        pp: stages, as many as devices.
        microbatches: of one step.
        chunks: parts of a device's layers, of the schedules that have several.

    Raises:
        InputError: a schedule that does not go with these numbers.

    """

    schedule: str
    pp: int
    microbatches: int
    chunks: int = 1

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        for name in ("pp", "microbatches", "chunks"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is a whole number from 1, not {quote(value)}")
        if self._rule.chunks not in {0, self.chunks}:
            raise InputError(f"schedule {self.schedule} has {self._rule.chunks} chunks a device, not {self.chunks}")
        if self.chunks > 1 and self.schedule != "zbv" and self.microbatches % self.pp:
            raise InputError(
                f"schedule {self.schedule} takes rounds of pp={self.pp} microbatches: "
                f"{self.microbatches} is not a multiple of it"
            )
        least = {"zb": self.pp, "zbv": 2 * self.pp - 1}.get(self.schedule, 1)
        if self.microbatches < least:
            raise InputError(
                f"schedule {self.schedule} with pp={self.pp} is for {least} microbatches or more, "
                f"not {self.microbatches}"
            )

    @property
    def _rule(self) -> Schedule:
        return SCHEDULES[self.schedule]

    def _value(self, formula: str, **values: Time) -> Number:
        known = {"pp": self.pp, "microbatches": self.microbatches, "chunks": self.chunks}
        return parse(formula).evaluate({**known, **{name: normalize(Fraction(time)) for name, time in values.items()}})

    def _times(self, forward: Time, backward: Time, weight: Time | None) -> dict[str, Time]:
        if weight is not None and not 0 <= weight <= backward:
            raise InputError(f"weight is a part of backward, from 0 to {quote(backward)}, not {quote(weight)}")
        if self._rule.splits and weight is None:
            raise InputError(f"schedule {self.schedule} needs the time of the gradients of weights, a part of backward")
        if self.schedule == "zbv" and not forward == weight == backward - forward:
            raise InputError(
                "schedule zbv has a closed form only where the forward pass, the gradients of inputs and those of "
                f"weights take equally long, not {quote(forward)}, {quote(backward - (weight or 0))}, {quote(weight)}"
            )
        return {"forward": forward, "backward": backward, "weight": weight or 0}

    def bubble(self, forward: Time, backward: Time, weight: Time | None = None) -> Number:
        """Return the time of a step in which a stage waits.

        Args:
            forward: time of one microbatch through one stage.
            backward: time of its backward pass there, all of it.
            weight: the part of that for the gradients of weights, of the schedules that split it.

        Raises:
            InputError: times that the schedule's closed form is not for.

        """
        return self._value(self._rule.bubble, **self._times(forward, backward, weight))

    def time(self, forward: Time, backward: Time, weight: Time | None = None) -> Number:
        """Return the time of a step, from its first forward pass to its last backward one; arguments as `bubble`."""
        busy = self._value(BUSY, forward=forward, backward=backward)
        return normalize(busy + self.bubble(forward, backward, weight))

    def bubble_share(self, forward: Time, backward: Time, weight: Time | None = None) -> float:
        """Return how much of a step a stage waits, from 0 to 1; arguments as `bubble`."""
        return float(self.bubble(forward, backward, weight) / self.time(forward, backward, weight))

    def in_flight(self, stage: int) -> Number:
        """Return the most microbatches whose activations a stage keeps at a time, each of all its layers.

        Raises:
            InputError: there is no such stage.

        """
        if not 0 <= stage < self.pp:
            raise InputError(f"a pipeline of {self.pp} stages has no stage {stage}: they count from 0 to {self.pp - 1}")
        return self._value(self._rule.in_flight, stage=stage)


def passing(stages: Sequence[float], sends: Sequence[float] = ()) -> tuple[float, float]:
    """Return the time of one forward pass through a pipeline, and the least time between two that follow each other.

    A pass goes through all stages; the next one may begin as soon as the slowest stage, with its send, is free. A
    sequence's next token waits for the whole pass: only other sequences fill the stages meanwhile.

    Args:
        stages: seconds of a pass in each stage.
        sends: seconds of the send after each stage but the last.

    """
    taken = [time + send for time, send in zip(stages, [*sends, *[0.0] * (len(stages) - len(sends))], strict=True)]
    return sum(taken), max(taken)
