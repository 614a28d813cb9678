"""How nbanalyzer's answer for a config compares with the truth, and which reasons are the commonest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["BUG", "OVER_TIME", "Answer", "Count", "Kind", "Outcome", "Truth", "classified", "ranked", "reason_of"]


BUG, OVER_TIME = "a bug", "over time"
"""What `Answer.kind` is where there is no error that a user is meant to see."""


@dataclass(frozen=True)
class Count:
    """What a model costs; `flops` are those of its matrix products, None where it could not be run."""

    parameters: int
    flops: int | None


@dataclass(frozen=True)
class Answer:
    """What nbanalyzer says of a config: numbers, or an error.

    Attributes:
        count: the numbers, None if it gives none.
        architecture: the class that it says it counts.
        first_line: of the result.
        says: its notes and warnings.
        error: the line that it gives instead of numbers.
        kind: the error's class; or one of the two above.
        wall, cpu: seconds.

    """

    count: Count | None = None
    architecture: str = ""
    first_line: str = ""
    says: str = ""
    error: str = ""
    kind: str = ""
    wall: float = 0.0
    cpu: float = 0.0


@dataclass(frozen=True)
class Truth:
    """What PyTorch says of a config.

    Attributes:
        architecture: the class that was built.
        whole: its numbers, None if it could not be built.
        text: of a model with other parts beside its text part, that part's.
        problem: why there is no `whole`, or why it has no FLOPs.

    """

    architecture: str = ""
    whole: Count | None = None
    text: Count | None = None
    problem: str = ""


Kind = Literal[
    "exact",
    "exact, text part",
    "exact, another class, said so",
    "wrong",
    "unproven",
    "refused",
    "no model",
    "over time",
]
"""``unproven``: numbers where PyTorch builds nothing; ``no model``: refused, and PyTorch builds nothing either."""


@dataclass(frozen=True)
class Outcome:
    """How an answer compares with the truth, and why."""

    kind: Kind
    reason: str = ""


def classified(answer: Answer, truth: Truth, other: Truth | None = None) -> Outcome:
    """Return how an answer compares with the truth.

    Args:
        answer: what nbanalyzer says.
        truth: what PyTorch says of the class that the config names.
        other: the same of the class that nbanalyzer counts, if it is another. That one, or a part of the model, is
            right only if the first line says so.

    """
    if answer.kind == OVER_TIME:
        return Outcome("over time", answer.error)
    if answer.count is None:
        bug = f"{answer.kind}: " if answer.kind == BUG else ""
        return Outcome("refused" if truth.whole or truth.text else "no model", bug + answer.error)
    if truth.whole and _same(answer.count, truth.whole):
        return Outcome("exact", "" if truth.whole.flops is not None else "parameters only")
    if _same(answer.count, truth.text) or (other and _same(answer.count, other.whole) and truth.text):
        if re.search(r"\btext\b", answer.first_line):
            return Outcome("exact, text part")
        return Outcome("wrong", f"the text part of {truth.architecture}, and the first line does not say so")
    if truth.whole is None:
        return Outcome("unproven", truth.problem)
    if other and _same(answer.count, other.whole):
        instead = f"{answer.architecture} instead of {truth.architecture}"
        if truth.architecture in answer.first_line:
            return Outcome("exact, another class, said so", instead)
        where = "only a warning says so" if truth.architecture in answer.says else "nothing says so"
        return Outcome("wrong", f"{instead}, {where}")
    return Outcome("wrong", _difference(answer, truth.architecture, truth.whole))


def _same(one: Count, other: Count | None) -> bool:
    if other is None:
        return False
    return one.parameters == other.parameters and (None in (one.flops, other.flops) or one.flops == other.flops)


def _difference(answer: Answer, named: str, true: Count) -> str:
    assert answer.count is not None
    pairs = (
        ("parameters", answer.count.parameters, true.parameters),
        ("FLOPs", answer.count.flops, true.flops),
    )
    found = [
        f"{what} {ours:,} instead of {theirs:,}"
        for what, ours, theirs in pairs
        if None not in (ours, theirs) and ours != theirs
    ]
    return f"{answer.architecture} for {named}: {', '.join(found)}"


def reason_of(text: str, name: str = "") -> str:
    """Return a reason without what is this one config's alone, so that reasons can be counted."""
    text = re.sub(r"^\S*\.json[:,] ", "", text)
    text = re.sub(r": there are .*", "", text)
    if name:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    text = re.sub(r"\d[\d,._]*", "#", text)
    return text[:160]


def ranked(outcomes: Iterable[tuple[str, Outcome]]) -> list[tuple[Kind, str, list[str]]]:
    """Return (kind, reason, names), the commonest first, of (name, outcome) pairs."""
    names: dict[tuple[Kind, str], list[str]] = {}
    for name, outcome in outcomes:
        names.setdefault((outcome.kind, reason_of(outcome.reason, name)), []).append(name)
    return [
        (kind, reason, who) for (kind, reason), who in sorted(names.items(), key=lambda one: (-len(one[1]), one[0]))
    ]
