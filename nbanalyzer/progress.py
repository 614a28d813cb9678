"""How far a long job is: told by who does it, shown by who asked for it.

>>> with watched_by(lambda what, part: print(f"{what} {part:.0%}")):
...     tell("tracing", 0.5)
tracing 50%
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from shutil import get_terminal_size

__all__ = ["Progress", "on_terminal", "part_of", "show_with", "shown", "tell", "watched_by", "watcher"]

Progress = Callable[[str, float], None]
"""Called with what is being done and which part of the whole job is done, 0 to 1."""

CLEAR = "\r\x1b[K"  # back to the beginning of the line, and everything behind it away

_watcher: ContextVar[Progress | None] = ContextVar("watcher", default=None)
_shows: list[Callable[[], AbstractContextManager[None]]] = []  # at most one: who shows what nobody watches yet


@contextmanager
def watched_by(progress: Progress) -> Iterator[None]:
    """Show the jobs inside, however deep, with `progress`."""
    before = _watcher.set(progress)
    try:
        yield
    finally:
        _watcher.reset(before)


def watcher() -> Progress:
    """Return whoever watches the job, or nobody, who may be told as well."""
    return _watcher.get() or (lambda _what, _part: None)


def tell(what: str, part: float) -> None:
    """Say how far the job is to whoever watches it."""
    watcher()(what, part)


def show_with(factory: Callable[[], AbstractContextManager[None]] | None) -> None:
    """Choose what shows the jobs that nobody watches: a function that returns what they run in, None as at first."""
    _shows[:] = [factory] if factory else []


def shown() -> AbstractContextManager[None]:
    """Return what a long job runs in, so that it is seen how far it is: see `show_with`, else on a terminal."""
    if _watcher.get() is not None:
        return nullcontext()
    return _shows[0]() if _shows else on_terminal()


@contextmanager
def part_of(begin: float, end: float) -> Iterator[None]:
    """Take the whole of each job inside for the part of this one from `begin` to `end`.

    >>> with watched_by(lambda what, part: print(f"{what} {part:.0%}")), part_of(0.5, 0.7):
    ...     tell("probing", 0.5)
    probing 60%
    """
    outer = _watcher.get()
    if outer is None:
        yield
        return
    with watched_by(lambda what, part: outer(what, begin + (end - begin) * part)):
        yield


@contextmanager
def on_terminal() -> Iterator[None]:
    """Keep a line on stderr that says how far the jobs inside are, and clear it in the end; silent in a pipe."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return

    def show(what: str, part: float) -> None:
        room = get_terminal_size().columns - len(" 100%") - 1  # of two lines, only one would be cleared
        sys.stderr.write(f"{CLEAR}{what[:room]} {part:.0%}")
        sys.stderr.flush()

    try:
        with watched_by(show):
            yield
    finally:
        sys.stderr.write(CLEAR)
        sys.stderr.flush()
