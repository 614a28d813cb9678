"""Profiles: what an engine reaches on a card, as parameters of the laws, with their source."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec

from nbanalyzer.errors import InputError, NotModelledError, UnknownNameError, quote
from nbanalyzer.files import decode

from .accelerators import PRECISIONS, Accelerator, checked_text, from_file, is_path
from .laws import laws
from .parameters import ANY, FALLBACKS, Fit, Parameters, Spread, checked_fit

__all__ = ["TYPICAL", "Profile", "encoded", "profile", "profiles"]

TYPICAL = "typical"
"""The profile of no engine in particular: the same shares and launch time for every kernel on every card."""
WIDER = 1.5  # times the logarithms of an interval, where a profile serves another card of its architecture
LINKS = {"all_reduce"}  # classes whose time the link decides
MODELS = ("dense", "experts")  # kinds that have intervals of their own
AGREE = 0.01  # by which a card's figures may differ from those that a profile was fitted with


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engine reaches on a card.

    Attributes:
        card: the accelerator that it was fitted on; ``"any"`` for one that serves all.
        architecture: of that card, empty if unknown.
        engine: what ran the kernels, e.g. ``"vllm"``.
        engine_version: of it; a class that is of another version says so itself.
        made: the day of the fit, ``YYYY-MM-DD``.
        source: where the measurements come from, and under which licence.
        overlap: share of the shorter of arithmetic and traffic that is not hidden by the longer, 0 to 1.
        peaks: precision → FLOP/s that the shares refer to.
        bandwidth: bytes/s that they refer to.
        link: what connects cards, with `link_bandwidth`, bytes/s in one direction.
        num_sms: multiprocessors of the card, None if unknown.
        classes: class of kernel → precision → what was fitted; a class without precisions is under ``"any"``.
        in_models: parameter → its value where the kernel is part of a model, if it is not that of the kernel alone.
        intervals: ``"dense"`` or ``"experts"`` → number of devices (``"1"``, ``"2-4"``) → measured / estimated time
            per token of models that had no part in the fit.
        tested: against what else, in words.
        notes: what a reader of an estimate has to know, e.g. that the profile is another card's.
        widened: how much wider `intervals` are than they were measured, as a power of the ratio: 1 if they are not.

    """

    card: str
    architecture: str = ""
    engine: str
    engine_version: str = ""
    made: str = ""
    source: str
    overlap: float
    peaks: dict[str, float] = {}
    bandwidth: float | None = None
    link: str = ""
    link_bandwidth: float | None = None
    num_sms: int | None = None
    classes: dict[str, dict[str, Fit]]
    in_models: dict[str, float] = {}
    intervals: dict[str, dict[str, Spread]] = {}
    tested: str = ""
    notes: tuple[str, ...] = ()
    widened: float = 1.0

    def __post_init__(self) -> None:
        for field in ("card", "architecture", "engine", "engine_version", "made", "source", "link", "tested"):
            checked_text(field, getattr(self, field), int(field in {"card", "engine", "source"}))
        for note in self.notes:
            checked_text("a note", note, 1)
        if not (_is_number(self.overlap) and 0 <= self.overlap <= 1):
            raise InputError(f"overlap is a number from 0 to 1, not {quote(self.overlap)}")
        if not (_is_number(self.widened) and 1 <= self.widened <= 10):
            raise InputError(f"widened is a number from 1 to 10, not {quote(self.widened)}")
        for name in self.peaks:
            if name not in PRECISIONS:
                raise InputError(f"peaks: a precision is one of {', '.join(PRECISIONS)}, not {quote(name)}")
        figures = {"bandwidth": self.bandwidth, "link_bandwidth": self.link_bandwidth, "num_sms": self.num_sms}
        for name, value in [*figures.items(), *((f"the {key} peak", peak) for key, peak in self.peaks.items())]:
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise InputError(f"{name} is a positive number, not {quote(value)}")
        for kind, fits in self.classes.items():
            for precision, fit in fits.items():
                checked_fit(kind, precision, fit)
        for name in self.in_models:
            if not any(name in law.parameters for law in laws().values()):
                raise InputError(f"in_models: no law has a parameter {quote(name)}")
            for kind in self.classes:
                for precision in self.classes[kind]:
                    self.parameters(kind, precision, in_model=True)
        for kind, spreads in self.intervals.items():
            if kind not in MODELS:
                raise InputError(f"intervals are of {' and '.join(MODELS)} models, not of {quote(kind)}")
            for devices in spreads:
                _devices(kind, devices)

    def __hash__(self) -> int:
        return hash((self.card, self.engine, self.engine_version, self.made, self.source))

    @property
    def name(self) -> str:
        """The engine, its version and the card, e.g. ``vllm 0.19.0 on h100-sxm``; ``typical`` for that of no engine."""
        if self.card == ANY:
            return self.engine
        return " ".join(filter(None, (self.engine, self.engine_version, f"on {self.card}")))

    def parameters(self, kind: str, precision: str = ANY, *, in_model: bool = False) -> Parameters:
        """Return the law of a class of kernel at a precision, with this profile's parameters in it.

        Where the profile lacks the precision, the nearest that was measured is taken, and `Parameters.note` says so.

        Args:
            kind: a class of `nbanalyzer.hardware.laws.laws`, e.g. ``"linear"``.
            precision: e.g. ``"bf16"``, ``"fp8_block"``; ``"any"`` for a class that has none.
            in_model: as part of a model, with `in_models`, not alone, as it was measured.

        Raises:
            UnknownNameError: no such class.
            NotModelledError: the profile has nothing for it.

        """
        known = {**laws(), **dict.fromkeys(self.classes)}
        if kind not in known:
            raise UnknownNameError("class of kernel", kind, known)
        fits = self.classes.get(kind, {})
        used = next((name for name in (precision, ANY, *FALLBACKS.get(precision, ())) if name in fits), None)
        if used is None:
            has = f"has {', '.join(fits)}" if fits else "has none of that class"
            place = f"the profile of {self.engine} on {self.card}"
            raise NotModelledError(f"{kind} at {quote(precision)} is not modelled: {place} {has}")
        fit = fits[used]
        law = laws()[fit.law or kind]
        given = {name: value for name, value in self.in_models.items() if in_model and name in law.parameters}
        values = {**law.values(fit.parameters | given), "overlap": self.overlap}
        constants = dict(values)
        if self.bandwidth is not None:
            constants["bytes_per_us"] = self.bandwidth / 1e6
        if self.num_sms is not None:
            constants["num_sms"] = self.num_sms
        note = "" if used in {precision, ANY} else f"{kind} at {precision} not measured: {used} stands in"
        return Parameters(kind, used, values, law, fit, note, tuple(constants.items()))

    def interval(self, kind: str, num_devices: int) -> Spread | None:
        """Return how measured time per token spreads around estimates of models that had no part in the fit.

        Args:
            kind: ``"dense"`` or ``"experts"``.
            num_devices: that the model is divided over.

        Returns:
            the spread of that number of devices, or None if nothing was measured; wider if the profile is borrowed.

        """
        for text, found in self.intervals.get(kind, {}).items():
            fewest, most = _devices(kind, text)
            if fewest <= num_devices <= most:
                ratio = tuple(value**self.widened for value in found.ratio)
                return msgspec.structs.replace(found, ratio=ratio)
        return None


def profiles() -> list[str]:
    """Return the names of the shipped profiles, ``card.engine``, and ``"typical"``."""
    return [*_shipped()]


def profile(which: str | os.PathLike[str] | Profile | None = None, card: Accelerator | None = None) -> Profile:
    """Return the profile of an engine on a card.

    Where no profile is of this card, the nearest card of its architecture serves: then `Profile.notes` says so and
    intervals are wider.

    Args:
        which: an engine, e.g. ``"vllm"``; the path of a ``.json`` file that holds a profile; a profile; None or
            ``"typical"`` for that of no engine in particular.
        card: that it is for; None takes a file or a profile as it is.

    Raises:
        UnknownNameError: no such engine, or nothing of it for a card of this architecture.
        InputError: the file cannot be read or holds no profile, or it is another card's.

    """
    if isinstance(which, Profile):
        return _on(which, card, which.card)
    if which is None:
        which = TYPICAL
    if not isinstance(which, str | os.PathLike):
        raise InputError(f"a profile is an engine, the path of a .json file or a Profile, not {quote(which)}")
    text = os.fspath(which)
    if is_path(which):
        return _on(from_file(text, Profile), card, text)
    engine = text.strip().casefold().replace("-", "")
    if engine == TYPICAL:
        return _on(_shipped()[TYPICAL], card, TYPICAL)
    of_engine = [found for found in _shipped().values() if found.engine == engine]
    if not of_engine:
        known = dict.fromkeys(found.engine for found in _shipped().values())
        raise UnknownNameError("engine", text, known, "The path of a profile ends in .json.")
    if card is None:
        raise InputError(f"the profile of {quote(text)} is one of several: say for which card")
    own = [found for found in of_engine if found.card == card.name]
    like = [found for found in of_engine if found.architecture and found.architecture == card.architecture]
    if not own and not like:
        names = ", ".join(found.card for found in of_engine)
        hint = f"There are profiles of {engine} on {names}; {TYPICAL!r} is for any card."
        raise UnknownNameError("profile", f"{engine} on {card.name}", (), hint)
    return _on(own[0] if own else min(like, key=lambda found: _distance(found, card)), card, engine)


def encoded(found: Profile) -> bytes:
    """Return a profile as the text of its file."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


@cache
def _shipped() -> Mapping[str, Profile]:
    folder = files("nbanalyzer.hardware") / "profiles"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    names.sort(key=lambda name: name != f"{TYPICAL}.json")
    return {name.removesuffix(".json"): decode((folder / name).read_bytes(), Profile, name) for name in names}


def _on(found: Profile, card: Accelerator | None, name: str) -> Profile:
    """Return a profile as it serves a card: with this card's figures, and with notes if they are not its own."""
    if card is None:
        return found
    notes, widened, classes = found.notes, found.widened, found.classes
    if found.card == card.name:
        for precision in sorted(found.peaks.keys() & card.peaks.keys()):
            if not math.isclose(found.peaks[precision], card.peaks[precision], rel_tol=AGREE):
                peaks = f"{found.peaks[precision]:.4g} FLOP/s, the card has {card.peaks[precision]:.4g}"
                notes = (*notes, f"shares refer to a {precision} peak of {peaks}")
        if found.bandwidth is not None and not math.isclose(found.bandwidth, card.bandwidth, rel_tol=AGREE):
            rates = f"{found.bandwidth:.4g} bytes/s, the card has {card.bandwidth:.4g}"
            notes = (*notes, f"shares refer to a bandwidth of {rates}")
    elif found.card != ANY:
        if not found.architecture or found.architecture != card.architecture:
            raise InputError(
                f"{name}: a profile of {quote(found.card)}, not of {quote(card.name)}, which is no card of its "
                f"architecture: take that card, or {TYPICAL!r}, which is for any"
            )
        notes = (*notes, f"no profile of {card.name}: that of {found.card}, which has the same architecture")
        widened = min(widened * WIDER, 10.0)
        if found.link.partition(" ")[0] != card.link.partition(" ")[0]:  # NVLink says nothing of PCIe
            classes = {kind: fits for kind, fits in classes.items() if kind not in LINKS}
    return msgspec.structs.replace(
        found,
        classes=classes,
        peaks=dict(card.peaks),
        bandwidth=card.bandwidth,
        link=card.link,
        link_bandwidth=card.link_bandwidth,
        num_sms=card.num_sms or found.num_sms,
        notes=notes,
        widened=widened,
    )


def _distance(found: Profile, card: Accelerator) -> float:
    """Return how far a profile's card is from another: the logarithms of bandwidth and peaks that both have."""
    pairs = [(found.bandwidth or card.bandwidth, card.bandwidth)]
    pairs += [(found.peaks[name], card.peaks[name]) for name in sorted(found.peaks.keys() & card.peaks.keys())]
    return sum(abs(math.log(ours / theirs)) for ours, theirs in pairs) / len(pairs)


def _devices(kind: str, text: str) -> tuple[int, int]:
    """Return the fewest and the most devices that ``"2-4"`` or ``"8"`` is for."""
    fewest, dash, most = text.partition("-")
    if not fewest.isdecimal() or not (most.isdecimal() if dash else True) or len(text) > 20:
        raise InputError(f"intervals of {kind}: a number of devices is written 8 or 2-4, not {quote(text)}")
    found = int(fewest), int(most or fewest)
    if not 1 <= found[0] <= found[1]:
        raise InputError(f"intervals of {kind}: from 1, the fewest devices before the most, not {quote(text)}")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
