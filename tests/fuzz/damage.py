"""Plain data, as JSON has it, with something changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

__all__ = ["HOSTILE", "damaged", "smaller"]

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 64, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e300, float("nan"), float("inf"),
    "", "x", "0", "-1", "1e9", "{", "{seq_len}", "{nope}", "{seq_len} // 0", "9 ** 9 ** 9", "1 / 3", "a\nb", "\x1b[31m",
    "<script>alert(1)</script>", "../../etc/passwd", "a" * 300, "é", "\u202e", [], {}, [1, "a"], {"a": 1}, [[[[[]]]]],
    [12, 12], {"model_type": "llama"}, "1 / (10**64 * 10**64)", "({seq_len} - 9) * 2",
)  # fmt: skip


def damaged(rng: random.Random, data: Any, hostile: tuple[Any, ...] = HOSTILE) -> Any:
    """Return a copy with one place changed: a value replaced, left out, doubled, or moved."""
    places = [*_places(data)]
    if not places:
        return rng.choice(hostile)
    path = rng.choice(places)
    kind = rng.randrange(5)

    def change(holder: Any, key: Any) -> None:
        if kind == 0 and isinstance(holder, dict):
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == 2:
            holder[key] = _at(data, rng.choice(places))
        elif kind == 3 and isinstance(holder, dict):
            holder[rng.choice(("name", "kernels", "module", "extra", "repeat", key + "x"))] = holder.pop(key)
        else:
            holder[key] = rng.choice(hostile)

    return _changed(data, path, change)


def smaller(data: Any) -> Iterator[Any]:
    """Yield copies with something left out, the outermost first."""

    def drop(holder: Any, key: Any) -> None:
        del holder[key]

    for path in sorted(_places(data), key=len):
        yield _changed(data, path, drop)


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        if len(path) < 40:
            yield from _places(value, (*path, key))


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def _changed(data: Any, path: tuple[Any, ...], change: Any) -> Any:
    """Return a copy in which `change` was applied to the holder of a place; what lies beside it is shared."""
    key, *rest = path
    copy = data.copy()
    if rest:
        copy[key] = _changed(data[key], tuple(rest), change)
    else:
        change(copy, key)
    return copy
