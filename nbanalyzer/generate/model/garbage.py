"""Less garbage collection while a model is traced."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["seldom_collected"]

SELDOM = (100_000, 50, 50)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Let the collector look less often: a trace makes hundreds of thousands of objects, nearly all of which stay.

    Looking through them again and again takes a third of the time; memory grows by a few MiB.
    """
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
