"""Accelerators: what the hardware can do at best, as far as it is known.

Figures are peaks of dense arithmetic, in SI units. A precision that the hardware has no unit for is in
`Accelerator.lacks`; one that is neither there nor in `Accelerator.peaks` is unknown, and stays so. The catalogue,
``accelerators.json``, is a list of objects with the fields of `Accelerator`, each with its source.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from nbanalyzer.display import Shown
from nbanalyzer.errors import InputError, TemplateError, UnknownNameError, quote
from nbanalyzer.files import decode, read_file
from nbanalyzer.formulas.grammar import Number

from .links import TOPOLOGIES, Fabric, Link, placement, read_nodes

__all__ = ["PRECISIONS", "Accelerator", "accelerators", "checked_text", "from_file", "hardware", "is_path"]

PRECISIONS = ("fp4", "fp8", "int8", "bf16", "fp16", "tf32", "fp32")
# What operands of up to so many bits are computed in, the best first. Either of a pair does: they run at one rate.
CHAIN = ((4.0, ("fp4",)), (8.0, ("fp8", "int8")), (16.0, ("bf16", "fp16")), (math.inf, ("fp32",)))
UNITS = {
    **dict.fromkeys(("bandwidth", "link_bandwidth", "network_bandwidth", "pcie_bandwidth"), "bytes/s"),
    "power": "W",
}
ACCUMULATED = ("fp16", "fp8")  # what matrix units may add up in fp16 as well
LARGEST = 1e27  # of any figure: far above all hardware, far below what overflows
LONGEST = 1000  # of any text, in characters


class Accelerator(Shown, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one accelerator can do at best.

    >>> card = Accelerator(name="my-card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
    >>> card.ridge(16)
    100.0

    Attributes:
        name: what it is called, e.g. ``"h100-sxm"``.
        memory_bytes: bytes of its memory, None if unknown.
        bandwidth: of that memory, bytes/s.
        peaks: precision → dense FLOP/s (int8: operations/s), of those that are known. ``"fp32"`` is the rate of
            the ordinary units, hence also of vector work; the others are rates of the matrix units.
        fp16_accumulate: precision → dense FLOP/s with fp16 accumulation, of those that are faster with it, as on
            GeForce. Nothing is computed from it: PyTorch accumulates in fp32, at the rate in `peaks`.
        lacks: the precisions that its matrix units do not have. What is in neither is unknown.
        title: its full name, with `vendor`, who makes it.
        architecture: what its maker calls it, e.g. ``"Hopper"``: cards of one reach alike shares of their peaks.
        num_sms: streaming multiprocessors, compute units on AMD; None if unknown.
        link: what connects it to its like in a node, with `link_bandwidth`, of all links of a device together, bytes/s
            in one direction, and `link_latency`, seconds of one step, in which every device sends once.
        topology: ``"switched"``, all of it leads to any other device; ``"pairwise"``, every two devices have a link of
            their own; ``"neighbours"``, each is joined to some, as in a ring or torus.
        switches_add: the switches, in a node and between nodes, can add up what passes them.
        devices_per_node: that are connected so; 8 of what goes into servers and says nothing else.
        network: what connects nodes, with `network_bandwidth`, of one device, and `network_latency`, as of the link.
        pcie_bandwidth: to the host, bytes/s in one direction.
        power: W.
        source: where the figures come from, with `doubts`: where sources disagree, and what is missing.

    Raises:
        InputError: a value that cannot be.

    """

    shown_by: ClassVar[str] = "hardware"

    name: str
    memory_bytes: int | None = None
    bandwidth: float
    peaks: Mapping[str, float] = {}
    fp16_accumulate: Mapping[str, float] = {}
    lacks: tuple[str, ...] = ()
    title: str = ""
    vendor: str = ""
    architecture: str = ""
    num_sms: int | None = None
    link: str = ""
    link_bandwidth: float | None = None
    link_latency: float | None = None
    topology: str = "switched"
    switches_add: bool = False
    devices_per_node: int = 8
    network: str = ""
    network_bandwidth: float | None = None
    network_latency: float | None = None
    pcie_bandwidth: float | None = None
    power: float | None = None
    source: str = ""
    doubts: str = ""

    def __post_init__(self) -> None:
        put = msgspec.structs.force_setattr
        for field in ("name", "title", "vendor", "architecture", "link", "network", "source", "doubts"):
            checked_text(field, getattr(self, field), int(field == "name"))
        for field, unit in UNITS.items():
            if (value := getattr(self, field)) is not None or field == "bandwidth":
                put(self, field, _figure(field, value, unit))
        for field in ("link_latency", "network_latency"):
            if (time := getattr(self, field)) is not None:
                if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= 1:
                    raise InputError(f"{field} is a number of seconds from 0 to 1, not {quote(time)}")
                put(self, field, float(time))
        if self.topology not in TOPOLOGIES:
            raise InputError(f"topology is one of {', '.join(TOPOLOGIES)}, not {quote(self.topology)}")
        if not isinstance(self.switches_add, bool):
            raise InputError(f"switches_add is true or false, not {quote(self.switches_add)}")
        whole = {"memory_bytes": "bytes", "num_sms": "multiprocessors", "devices_per_node": "devices"}
        for field, unit in whole.items():
            if (size := getattr(self, field)) is not None or field == "devices_per_node":
                if not _figure(field, size, unit).is_integer():
                    raise InputError(f"{field} is a whole number of {unit}, not {quote(size)}")
                put(self, field, int(size))
        for field in ("peaks", "fp16_accumulate"):
            if not isinstance(rates := getattr(self, field), Mapping):
                raise InputError(f"{field} is a dict of precision → FLOP/s, not {quote(rates)}")
        if isinstance(self.lacks, str) or not isinstance(self.lacks, Iterable):
            raise InputError(f"lacks is a list of precisions, not {quote(self.lacks)}")
        peaks = {_known(key): _figure(f"the {key} peak", value, "FLOP/s") for key, value in self.peaks.items()}
        lacks = {_known(key, PRECISIONS[:-1]) for key in self.lacks}  # everything computes fp32 somewhere
        if both := sorted(lacks & peaks.keys()):
            raise InputError(f"{quote(both[0])} is in both peaks and lacks: hardware has it or lacks it")
        faster = {
            _known(key, ACCUMULATED): _figure(f"the {key} rate in fp16_accumulate", value, "FLOP/s")
            for key, value in self.fp16_accumulate.items()
        }
        if wrong := [key for key, rate in faster.items() if rate <= peaks.get(key, math.inf)]:
            raise InputError(f"fp16_accumulate has {quote(wrong[0])}, at no higher rate than that in peaks")
        put(self, "peaks", MappingProxyType({key: peaks[key] for key in PRECISIONS if key in peaks}))
        put(self, "fp16_accumulate", MappingProxyType(faster))
        put(self, "lacks", tuple(key for key in PRECISIONS if key in lacks))

    def __hash__(self) -> int:
        return hash((self.name, self.memory_bytes, self.bandwidth))

    def __reduce__(self) -> tuple[Any, ...]:  # mapping proxies have no pickle of their own
        plain = {"peaks": dict(self.peaks), "fp16_accumulate": dict(self.fp16_accumulate)}
        return partial(type(self), **msgspec.structs.asdict(self) | plain), ()

    def precision_for(self, bits: Number) -> str:
        """Return the precision that a product of operands of `bits` bits is computed in.

        It is the narrowest that holds them and that the hardware does not lack: fp4, then fp8 or int8, then bf16
        or fp16, then fp32. More than 16 bits are fp32: PyTorch leaves TF32 off unless told otherwise.

        Raises:
            InputError: the peak of that precision is not known; or `bits` is not positive.

        """
        if known := self.known_precision(bits):
            return known
        raise self._unknown(self._choices(bits))

    def known_precision(self, bits: Number) -> str | None:
        """Return what `precision_for` returns; None if the peak of that precision is not known."""
        return next((name for name in self._choices(bits) if name in self.peaks), None)

    def _choices(self, bits: Number) -> list[str]:
        """Return the narrowest precisions that hold operands of `bits` bits and that the hardware does not lack."""
        if isinstance(bits, bool) or not isinstance(bits, Real) or not bits > 0:
            raise InputError(f"bits is a positive number, not {quote(bits)}")
        fitting = ([name for name in names if name not in self.lacks] for width, names in CHAIN if bits <= width)
        return next(filter(None, fitting))  # fp32 is never lacking

    def peak(self, precision: str) -> float:
        """Return the dense peak at a precision, FLOP/s (int8: operations/s).

        Raises:
            InputError: there is no such precision, or the hardware lacks it, or its peak is not known.

        """
        if _known(precision) in self.lacks:
            has = ", ".join(self.peaks) or "none"
            raise InputError(f"{quote(self.name)} has no {precision} in its matrix units (known peaks: {has})")
        if precision not in self.peaks:
            raise self._unknown([precision])
        return self.peaks[precision]

    @property
    def vector_peak(self) -> float | None:
        """The peak of vector work, FLOP/s: that of the ordinary units at fp32. None if unknown."""
        return self.peaks.get("fp32")

    @property
    def node_link(self) -> Link | None:
        """What connects the devices of a node; None if its bandwidth is not known."""
        if self.link_bandwidth is None:
            return None
        pairs, adds = self.topology == "pairwise", self.switches_add
        return Link(self.link, self.link_bandwidth, self.link_latency, self.devices_per_node, pairs, adds)

    @property
    def network_link(self) -> Link | None:
        """What connects nodes, of one device; None if its bandwidth is not known."""
        if self.network_bandwidth is None:
            return None
        return Link(self.network, self.network_bandwidth, self.network_latency, adds=self.switches_add)

    def fabric(self, sizes: Mapping[str, int], nodes: int = 1) -> Fabric:
        """Return the links between the devices of a mesh.

        Args:
            sizes: axis of the mesh → devices along it.
            nodes: to spread them over.

        Raises:
            InputError: they do not fit, see `nbanalyzer.hardware.links.placement`.

        """
        groups = placement(sizes, self.name, self.devices_per_node, read_nodes(nodes))
        return Fabric(self.name, self.node_link, self.network_link, groups)

    def ridge(self, bits: Number) -> float:
        """Return the ridge point of the roofline for operands of `bits` bits, FLOP/B.

        With fewer operations per byte moved, memory is the limit; with more, arithmetic is. Williams, Waterman
        and Patterson, "Roofline", CACM 52 (4), 2009.

        Raises:
            InputError: as for `precision_for`.

        """
        return self.peaks[self.precision_for(bits)] / self.bandwidth

    def _unknown(self, names: Sequence[str]) -> InputError:
        return InputError(
            f"the {' or '.join(names)} peak of {quote(self.name)} is not known (known peaks: "
            f"{', '.join(self.peaks) or 'none'}): give an Accelerator with it, peaks={{{names[0]!r}: …}}"
        )


MAKERS = frozenset({"nvidia", "amd", "intel", "google", "geforce", "tesla", "radeon", "apple", "rtx"})
BUILT = re.compile(r"sxm\d?|pcie|nvl|\d+gb|rtx|apple|rx")
"""Parts of a name that say who makes a card, and how a chip is built in, not which it is."""


def accelerators() -> list[str]:
    """Return the names of the shipped accelerators, in the order of the catalogue."""
    return list(_shipped())


def hardware(which: str | os.PathLike[str] | Accelerator) -> Accelerator:
    """Return an accelerator.

    Args:
        which: the name of a shipped one, e.g. ``"h100-sxm"`` (any case; ``_`` and spaces are as good as ``-``);
            the path of a JSON file that holds one, with the fields of `Accelerator`; or an accelerator.

    Raises:
        UnknownNameError: no such accelerator; near names are suggested.
        InputError: the file cannot be read, or holds no accelerator, or several.

    """
    if isinstance(which, Accelerator):
        return which
    if not isinstance(which, str | os.PathLike):
        raise InputError(f"an accelerator is a name, the path of a .json file or an Accelerator, not {quote(which)}")
    text = os.fspath(which)
    if is_path(which):
        held = from_file(text, Accelerator | list[Accelerator])
        cards: list[Accelerator] = held if isinstance(held, list) else [held]
        if len(cards) != 1:
            raise InputError(f"{text}: holds {len(cards)} accelerators, give a file with one")
        return cards[0]
    name = "-".join(text.casefold().replace("_", " ").replace("-", " ").split())
    if found := _meant(name):
        return _shipped()[found]
    close = [known for known in _shipped() if name and (known.startswith(name) or name.startswith(f"{known}-"))]
    raise UnknownNameError("accelerator", text, close or _shipped(), "The path of a file ends in .json.")


def _meant(name: str) -> str:
    """Return the shipped accelerator that a name means; "" if there is none, or several.

    What a chip is built into may be left out: ``h100`` is the one of servers (SXM), of several the one with most
    memory, as ``a100`` is that of 80 GB. What says which chip it is, such as ``ti``, may not.
    """
    if name in _shipped() or not name:
        return name
    parts = {*re.sub(r"\brtx(?=\d)", "rtx-", name).split("-")}
    found = [card for card in _shipped().values() if _differing(parts, card)]
    if len(found) > 1:
        found = [card for card in found if any(part.startswith("sxm") for part in card.name.split("-"))] or found
        most = max(card.memory_bytes or 0 for card in found)
        found = [card for card in found if card.memory_bytes == most]
    return found[0].name if len(found) == 1 else ""


def _differing(typed: set[str], card: Accelerator) -> bool:
    """Return whether all that is typed is of a card, or says who makes it, and what is left out is no chip."""
    known = {*card.name.split("-")}
    said = known | MAKERS | {f"{(card.memory_bytes or 0) / 2**30:g}gb"}
    return typed <= said and bool(typed & known - MAKERS) and all(map(BUILT.fullmatch, known - typed))


@cache
def _shipped() -> Mapping[str, Accelerator]:
    content = (files("nbanalyzer.hardware") / "accelerators.json").read_bytes()
    return {card.name: card for card in decode(content, list[Accelerator], "accelerators.json")}


def is_path(which: str | os.PathLike[str]) -> bool:
    """Return whether this is the path of a JSON file, not a name."""
    return not isinstance(which, str) or which.casefold().endswith(".json") or bool({"/", os.sep} & {*which})


def from_file(path: str, kind: Any) -> Any:
    """Return what a JSON file holds, as `kind`.

    Raises:
        InputError: it cannot be read, or holds something else.

    """
    try:
        return decode(read_file(Path(path).expanduser()), kind, path)
    except (TemplateError, RuntimeError) as error:  # RuntimeError: nobody's home
        raise InputError(str(error)) from None


def checked_text(field: str, text: object, least: int) -> None:
    """Raise an `InputError` unless a field is printable text of at least so many characters, and not too many."""
    if not isinstance(text, str) or not text.isprintable() or not least <= len(text) <= LONGEST:
        raise InputError(f"{field} is {least} to {LONGEST:,} printable characters, not {quote(text)}")


def _figure(what: str, value: object, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or value < 1 or not value <= LARGEST:
        raise InputError(f"{what} is a number from 1 to {LARGEST:.0e}, in {unit}, not {quote(value)}")
    return float(value)


def _known(precision: object, choices: Sequence[str] = PRECISIONS) -> str:
    if not isinstance(precision, str) or precision not in choices:
        raise InputError(f"a precision is one of {', '.join(choices)} here, not {quote(precision)}")
    return precision
