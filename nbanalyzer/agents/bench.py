"""Where calls are worked on: a few threads beside the loop, so that a long call holds up no short one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Event

from nbanalyzer.errors import InputError
from nbanalyzer.generate.deadline import VARIABLE, Expired, allowed, working

from .shelf import Shelf
from .tool import Reply, Tool

__all__ = ["Bench"]

WORKERS = 4
MOST_WAITING = 200
"""Calls at a time, those that wait for a worker included."""


class _Abandoned(BaseException):
    """Nobody waits for the answer any more."""


class Bench:
    """A few workers, and a bounded number of calls that wait for one."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.waiting = 0
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="nbanalyzer")

    async def call(self, tool: Tool, arguments: object) -> Reply:
        """Return what a call of a tool comes to; if it is cancelled, what can stop stops at its next look."""
        if self.waiting >= MOST_WAITING:
            return Reply(str(InputError(f"{MOST_WAITING} calls are waiting already: ask again later")), None)
        abandoned = Event()
        self.waiting += 1
        try:
            context = copy_context()
            work = self._workers.submit(context.run, _worked, tool, self.shelf, arguments, abandoned)
            return await asyncio.wrap_future(work)
        finally:
            self.waiting -= 1
            abandoned.set()


def _worked(tool: Tool, shelf: Shelf, arguments: object, abandoned: Event) -> Reply:
    def look(_what: str, _part: float) -> None:
        if abandoned.is_set():
            raise _Abandoned

    try:
        seconds = allowed()
        with working(look, seconds):  # a check traces a model, which may take as long as it likes
            return tool.call(shelf, arguments)
    except InputError as error:
        return Reply(str(error), None)
    except Expired:
        return Reply(f"no answer after {seconds:g} s of work; the environment variable {VARIABLE} allows more", None)
    except _Abandoned:
        return Reply("the call was cancelled", None)
