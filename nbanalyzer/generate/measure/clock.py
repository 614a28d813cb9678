"""The clocks that kernels are timed by: the processor's time of one thread, or events of a CUDA device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import torch

from nbanalyzer.progress import Progress

from .case import Case

__all__ = ["Clock", "CudaClock", "Series", "ThreadClock", "drift_of", "interleaved"]

LEAST, MOST = 3, 60  # rounds, whatever the time allows
Sampler = Callable[[int], float]
"""Called with the number of the round; returns seconds of one call of a case."""


class Clock(Protocol):
    """What times a case."""

    def sampler(self, case: Case) -> Sampler:
        """Return what times one call of the case, each time that it is called."""


class ThreadClock:
    """Times calls by the processor's time of this thread, so that other processes take no part in it."""

    def __init__(self, now: Callable[[], float] = time.thread_time) -> None:
        self.now = now

    def sampler(self, case: Case) -> Sampler:
        """Return what times one call of the case."""

        def sample(turn: int) -> float:
            work = [case.prepared(turn * case.calls + number) for number in range(case.calls)]
            begin = self.now()
            for call in work:
                call()
            return (self.now() - begin) / case.calls

        return sample


class CudaClock:
    """Times a CUDA graph by events, with nothing of its data in the cache; not yet run on a GPU.

    The calls of a case are captured once, one after the other, and replayed: what is timed is what the device does,
    not how fast Python tells it to. Before each replay a buffer larger than the cache is written, which also keeps
    the device busy until the replay is queued.

    Args:
        flush: writes that buffer.
        cuda: ``torch.cuda``.

    """

    def __init__(self, flush: Callable[[], object], cuda: Any = torch.cuda) -> None:
        self.flush, self.cuda = flush, cuda

    def sampler(self, case: Case) -> Sampler:
        """Return what times one call of the case: its graph's time, divided by its calls."""
        work = [case.prepared(number) for number in range(case.calls)]
        side = self.cuda.Stream()
        side.wait_stream(self.cuda.current_stream())
        with self.cuda.stream(side):  # libraries set themselves up outside of the graph
            for call in work:
                call()
        self.cuda.current_stream().wait_stream(side)
        graph = self.cuda.CUDAGraph()
        with self.cuda.graph(graph):
            results = [call() for call in work]
        held = [*zip(work, results, strict=True)]  # what a graph reads and writes lives as long as it does

        def sample(_turn: int) -> float:
            begin, end = self.cuda.Event(enable_timing=True), self.cuda.Event(enable_timing=True)
            self.flush()
            begin.record()
            graph.replay()
            end.record()
            self.cuda.synchronize()
            milliseconds: float = begin.elapsed_time(end)
            return milliseconds / 1000 / len(held)

        return sample


@dataclass(frozen=True)
class Series:
    """The times of one case, in the order of the rounds.

    Attributes:
        case: what was timed.
        seconds: of one call, a figure per round.

    """

    case: Case
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median time."""
        return median(self.seconds)


def interleaved(
    cases: Sequence[Case],
    clock: Clock,
    deadline: float,
    tell: Progress,
    now: Callable[[], float] = time.monotonic,
) -> list[Series]:
    """Time all cases in turn, round after round, so that a change of the machine's speed meets all of them.

    Args:
        cases: what to time.
        clock: by what.
        deadline: when to stop, on the clock `now`; `LEAST` rounds are made in any case, and `MOST` at most.
        tell: told which part of the time is over.
        now: seconds.

    Returns:
        One series per case, of equal lengths. The first round, in which memory is touched for the first time, is
        not in it.

    """
    begin = now()
    samplers = [clock.sampler(case) for case in cases]
    rounds: list[list[float]] = []
    for turn in range(MOST + 1):
        round_begin = now()
        rounds.append([sampler(turn) for sampler in samplers])
        after = now()
        tell("measuring", min((after - begin) / max(deadline - begin, 1e-9), 1.0))
        if turn >= LEAST and after + (after - round_begin) > deadline:
            break
    return [Series(case, tuple(times)) for case, times in zip(cases, zip(*rounds[1:], strict=True), strict=True)]


def drift_of(series: Sequence[Series]) -> float:
    """Return by which share the machine's speed changed: the median over cases of second half / first half."""
    halves = [(one.seconds, len(one.seconds) // 2) for one in series]
    changes = [median(times[-half:]) / median(times[:half]) for times, half in halves if half]
    return abs(median(changes) - 1) if changes else 0.0
