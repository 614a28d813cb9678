"""A measured profile in a few lines: peaks, and how near its laws are to what was measured."""

from __future__ import annotations

from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import si
from nbanalyzer.table import Table

__all__ = ["summary"]


def summary(profile: Profile) -> str:
    """Return what a profile is of, what the machine reached, and by how much its laws are off, kind by kind."""
    peaks = [f"{si(peak, 'FLOP/s')} in {precision}" for precision, peak in profile.peaks.items()]
    memory = [f"{si(profile.bandwidth, 'B/s')} of memory"] if profile.bandwidth else []
    lines = [f"{profile.card}, {profile.engine} {profile.engine_version}: {profile.source} on {profile.made}."]
    lines += [f"It reached {', '.join([*peaks, *memory])}."] if peaks or memory else []
    lines += [f"{note}." for note in profile.notes]
    rows = [
        (kind, precision, f"{fit.n:,}", f"{fit.ratio[1]:.2f} … {fit.ratio[3]:.2f}")
        for kind, fits in profile.classes.items()
        for precision, fit in fits.items()
        if fit.ratio
    ]
    if rows:
        heads = ("kernels", "precision", "n", "measured / law, 10 … 90 %")
        lines += Table([heads, *rows], words=range(4)).lines()
    return "\n".join(lines)
