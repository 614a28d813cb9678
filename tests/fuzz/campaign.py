"""A run of many cases: counted, timed, and what goes wrong made small."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import process_time, time
from typing import Any

from sympy.core.cache import clear_cache

from nbanalyzer.errors import NBAnalyzerError

__all__ = ["MOST_SECONDS", "Campaign", "Finding", "Watch", "run"]

MOST_SECONDS = 1.0  # of processor time, of one call
PATIENCE = 20  # seconds until a call is given up


class TooSlowError(Exception):
    """A call took longer than anybody waits."""


@dataclass(frozen=True)
class Finding:
    """Something that must not be: which case, what happened, and the smallest case in which it still does."""

    campaign: str
    seed: int
    problem: str
    case: Any

    def __str__(self) -> str:
        text = repr(self.case)
        return (
            f"{self.campaign}, seed {self.seed}: {self.problem}\n    {text if len(text) < 2000 else text[:2000] + '…'}"
        )


@dataclass
class Watch:
    """What a case's calls do: how many of each kind there were, how long the longest took."""

    counts: Counter[str] = field(default_factory=Counter)
    longest: dict[str, tuple[float, int]] = field(default_factory=dict)
    seed: int = 0

    def call(self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return what a call returns, or None if it is refused in one line; anything else is raised."""
        begin = process_time()
        try:
            found = function(*arguments, **options)
        except NBAnalyzerError as error:
            text = str(error)
            assert text, f"{name}: an error without words"
            assert "\n" not in text, f"{name}: an error of several lines"
            assert text.isprintable(), f"{name}: an error that cannot be printed"
            self.counts[f"{name} refused"] += 1
            return None
        finally:
            took = process_time() - begin
            if took > self.longest.get(name, (0.0, 0))[0]:
                self.longest[name] = took, self.seed
            if took > MOST_SECONDS:
                raise TooSlowError(f"{name} took more than {MOST_SECONDS} s")
        self.counts[name] += 1
        return found


@dataclass(frozen=True)
class Campaign:
    """A kind of input: how a case is made, what is done with it, how it is made smaller."""

    name: str
    make: Callable[[random.Random], Any]
    check: Callable[[Any, Watch, random.Random], None]
    smaller: Callable[[Any], Iterator[Any]]


def run(campaign: Campaign, first: int, count: int, watch: Watch) -> list[Finding]:
    """Return what goes wrong in so many cases, seeded one after the other; of one kind the first."""
    found: dict[str, Finding] = {}
    for seed in range(first, first + count):
        watch.seed = seed
        case = campaign.make(random.Random(f"{campaign.name} {seed}"))
        problem = _problem(campaign, case, seed, watch)
        if problem.startswith("TooSlow") and _again(campaign, case, seed) != problem:
            watch.counts["slow once, not again"] += 1  # an import, or Python cleaning up: no cost of this case
            problem = ""
        if problem and problem not in found:
            found[problem] = Finding(campaign.name, seed, problem, _minimal(campaign, case, seed, problem))
    return [*found.values()]


def _again(campaign: Campaign, case: Any, seed: int) -> str:
    """Return what goes wrong with a case when nothing is left of having tried it before."""
    clear_cache()
    return _problem(campaign, case, seed, Watch())


def _problem(campaign: Campaign, case: Any, seed: int, watch: Watch) -> str:
    """Return what goes wrong with a case, in words that are the same for the same cause; '' if nothing does."""
    try:
        with _patience():
            campaign.check(case, watch, random.Random(seed))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        trace, place = error.__traceback__, ""
        while trace:
            name = trace.tb_frame.f_code.co_filename
            place = f"{name.rpartition('/')[2]}:{trace.tb_lineno}" if "nbanalyzer" in name else place
            trace = trace.tb_next
        words = str(error).splitlines()[0][:120] if isinstance(error, AssertionError | TooSlowError) else ""
        return f"{type(error).__name__} {words or f'at {place}'}"
    return ""


@contextmanager
def _patience() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlowError("a call never ends")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _minimal(campaign: Campaign, case: Any, seed: int, problem: str) -> Any:
    """Return the smallest case found within half a minute in which the same goes wrong."""
    end = time() + 30
    again = True
    while again and time() < end:
        again = False
        for smaller in campaign.smaller(case):
            if time() > end:
                break
            if _again(campaign, smaller, seed) == problem:
                case, again = smaller, True
                break
    return case
