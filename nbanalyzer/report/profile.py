"""A measured profile in a few lines: peaks, and how near its laws are to what was measured."""

from __future__ import annotations

from nbanalyzer.hardware.profiles import Profile
from nbanalyzer.quantities import si

__all__ = ["Summary", "summary"]


class Summary:
    """The `summary` of a profile, as shown in a notebook."""

    def __init__(self, profile: Profile) -> None:
        self.text = summary(profile)

    def __repr__(self) -> str:
        return self.text


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
        widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(4)]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *rows)]
    return "\n".join(lines)
