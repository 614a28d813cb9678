"""Models' names as people type them: ``qwen3 8b``, ``Llama-3.1-8B-Instruct-FP8``, ``mixtral`` → a shipped model.

A variant of a model that was trained further, or whose weights are stored otherwise, has its structure. A name that is
begun is a model's if no other begins so.

>>> names = ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3-8B", "mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-8B")
>>> [meant(text, names) for text in ("qwen3 8b", "mixtral", "unsloth/Llama-3.1-8B-Instruct-bnb-4bit", "llama")]
['Qwen/Qwen3-8B', 'mistralai/Mixtral-8x7B-v0.1', 'meta-llama/Llama-3.1-8B', '']
>>> stored_otherwise("unsloth/Llama-3.1-8B-Instruct-bnb-4bit")
'bnb-4bit'
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nbanalyzer.text import words

__all__ = ["begun", "is_variant", "meant", "stored_otherwise"]

TRAINED = words("instruct chat it pt hf")
BASE = "base"
"""Not trained further, in a name that says a size, as Falcon3-7B-Base does; a size itself in others: whisper-base."""
SIZE = re.compile(r"\d+(?:\.\d+)?[bm]", re.ASCII)
STORED = words(
    "fp8 fp4 nvfp4 mxfp4 awq gptq gguf bnb int4 int8 4bit 8bit w4a16 w8a8 w8a16 bf16 fp16 quantized dynamic kv block",
)
DATED = re.compile(r"(?:2[3-9]|0[1-9]|1[0-2])\d\d", re.ASCII)  # year and month, or month and day
PREFIX = "meta"


def meant(text: str, names: Iterable[str]) -> str:
    """Return the one name, ``org/name``, that a text means; "" if there is none, or several."""
    org, _, last = text.strip().rpartition("/")
    parts = _parts(last)
    key, is_variant = _key(parts), len(_structure(parts)) < len(parts)
    if not key:
        return ""
    known = {name: _key(_parts(name.rpartition("/")[2])) for name in names}
    same = [name for name, own in known.items() if own == key]
    if org and not is_variant:  # another model of that name, by somebody else
        same = [name for name in same if name.casefold().startswith(f"{org.casefold()}/")]
    if same:
        return _nearest(parts, same)
    found = begun(last, names) if not org else []
    if len(found) != 1 and BASE in parts:
        return meant("-".join(part for part in parts if part != BASE), known)  # DeepSeek-V3-Base
    return found[0] if len(found) == 1 else ""


def begun(text: str, names: Iterable[str]) -> list[str]:
    """Return the names that a text begins, up to the end of one of their parts; ``llama3`` begins ``Llama-3-8B``."""
    key = _key(_parts(text))
    found = []
    for name in names:
        parts = _structure(_parts(name.rpartition("/")[2]))
        if key in {"".join(parts[:end]) for end in range(1, len(parts) + 1)}:
            found.append(name)
    return found


def is_variant(text: str, name: str) -> bool:
    """Return whether a text means a model trained further, or stored otherwise, than the shipped one of that name."""
    own, typed = (_parts(one.rpartition("/")[2]) for one in (name, text))
    return _key(own) == _key(typed) and _manner(own) != _manner(typed)


def stored_otherwise(text: str) -> str:
    """Return what a name says of how its weights are stored: ``awq``; "" if it says nothing."""
    return "-".join(part for part in _parts(text.rpartition("/")[2]) if part in STORED)


def _parts(last: str) -> list[str]:
    return [part for part in re.split(r"[\s_\-]+", last.casefold()) if part]


def _structure(parts: list[str]) -> list[str]:
    """Return the parts of a name that its structure follows from."""
    kept = [part for part in parts if part not in TRAINED and part not in STORED and not DATED.fullmatch(part)]
    if any(map(SIZE.fullmatch, parts)):
        kept = [part for part in kept if part != BASE]
    return kept[1:] if kept[:1] == [PREFIX] else kept


def _manner(parts: list[str]) -> set[str]:
    """Return the parts of a name that say how it was trained and stored; ``hf`` says neither."""
    return {*parts} - {*_structure(parts)} - {PREFIX, "hf"}


def _key(parts: list[str]) -> str:
    return "".join(_structure(parts))


def _nearest(parts: list[str], names: list[str]) -> str:
    """Return the name that shares most parts with what was typed; of several the first."""
    return max(sorted(names), key=lambda name: len({*parts} & {*_parts(name.rpartition("/")[2])}))
