"""What drafts of further tokens are worth: how many tokens a decode step writes, by the share that is accepted.

With N drafts a step, each accepted with probability a if all before it are, a step writes

    1 + a + … + a^N = (1 - a^(N + 1)) / (1 - a)

tokens of each sequence on average: Leviathan et al. 2023, arXiv 2211.17192, equation 1.
"""

from __future__ import annotations

from fractions import Fraction

from .run import Run

__all__ = ["ACCEPTANCE", "tokens_a_step", "words_of"]

ACCEPTANCE = 0.85
"""Share of first drafts that are accepted: DeepSeek-V3's report has 85 to 90 % (arXiv 2412.19437, section 5.4.3)."""


def tokens_a_step(run: Run) -> Fraction:
    """Return the tokens that a decode step of a run writes of each sequence, on average: 1 without drafts."""
    return sum((_share(run) ** number for number in range(1, run.mtp + 1)), start=Fraction(1))


def words_of(run: Run) -> str:
    """Return the drafts of a run, what a step writes, and whose the acceptance is, in words; "" without drafts."""
    if not run.mtp:
        return ""
    whose = ", the least in DeepSeek-V3's report" if run.acceptance is None else ""
    share = f"{float(_share(run)):g}"
    return f"mtp {run.mtp}: {float(tokens_a_step(run)):.3g} tokens a step at acceptance {share}{whose}"


def _share(run: Run) -> Fraction:
    return Fraction(str(ACCEPTANCE if run.acceptance is None else run.acceptance))
