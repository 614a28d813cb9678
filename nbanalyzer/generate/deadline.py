"""How long generating a template may take, and what is said meanwhile.

The clock is looked at between any two operations of a model and between any two formulas: that needs neither signals
nor threads. It is the processor's time of the thread at work, so that a busy machine finds what an idle one does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic, thread_time

from nbanalyzer.errors import InputError, NBAnalyzerError, quote
from nbanalyzer.progress import Progress, watched_by, watcher

__all__ = ["SECONDS", "VARIABLE", "Expired", "Job", "TimeLimitError", "allowed", "look", "working"]

VARIABLE = "NBANALYZER_SECONDS"
"""The environment variable that says how many seconds generating may take."""

SECONDS = 55.0
"""Without it: with what lies between two looks at the clock, a minute."""

BETWEEN = 0.02  # seconds between two looks at the processor's time

SILENT = 1.0  # seconds, then what is being done is said again


class TimeLimitError(NBAnalyzerError):
    """A model whose template is not there in time."""


class Expired(BaseException):
    """The time is over."""


class Job:
    """Work with a time limit, which reports its progress.

    Attributes:
        seconds: of the processor, in this thread.
        stage: what is being done.
        part: which part of it is done, 0 to 1; it never shrinks.

    """

    def __init__(self, progress: Progress, seconds: float) -> None:
        self.progress, self.seconds = progress, seconds
        self.stage, self.part = "", 0.0
        self.start = self.told = thread_time()
        self.next = monotonic()

    def tell(self, what: str, part: float) -> None:
        """Say what is being done from now on."""
        self.stage, self.part = what, min(max(part, self.part), 1.0)
        self.told = thread_time()
        self.progress(what, self.part)

    def look(self) -> None:
        """Look at the clock; say again what is being done if that takes long.

        Raises:
            Expired: the time is over.

        """
        clock = monotonic()
        if clock < self.next:
            return  # this one is quick to read
        self.next = clock + BETWEEN
        now = thread_time()
        if now - self.start >= self.seconds:
            raise Expired
        if now - self.told >= SILENT:
            self.told = now
            self.progress(f"{self.stage}, {now - self.start:.0f} s", self.part)


_job: ContextVar[Job | None] = ContextVar("job", default=None)


@contextmanager
def working(progress: Progress | None = None, seconds: float = math.inf) -> Iterator[Job]:
    """Limit the time of what is done inside, and report to `progress`, or to the progress bar that is shown."""
    job = Job(progress or watcher(), seconds)
    outer = _job.set(job)
    try:
        with watched_by(job.tell):
            yield job
    finally:
        _job.reset(outer)


def look() -> None:
    """Look at the clock of the job that this is part of, if it is part of one.

    Raises:
        Expired: its time is over.

    """
    if job := _job.get():
        job.look()


def allowed() -> float:
    """Return how many seconds generating a template may take.

    Raises:
        InputError: the environment says something else than a number of seconds.

    """
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = 0
    if not seconds > 0:
        raise InputError(f"{VARIABLE} is {quote(text)}: a number of seconds is needed, inf for no limit")
    return seconds
