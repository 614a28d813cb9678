"""What some models take beside tokens: images, sound, drafts. Their controls are made for the models that do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ipywidgets import HBox, Layout, Text

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.drafts import ACCEPTANCE
from nbanalyzer.costs.run import MEDIA, SIZES
from nbanalyzer.errors import InputError, quote
from nbanalyzer.templates.media import room_for
from nbanalyzer.templates.mtp import layers_in

from .controls import Fold, Real, Size, close, following, labelled, listen_in_turn, stops

__all__ = ["EXTRAS", "ExtraControls", "extras_of", "images_in", "require_extras"]

DRAFTS = ("mtp", "acceptance")
EXTRAS: Mapping[str, str] = {
    "mtp": SIZES["mtp"], "acceptance": "share of drafts that are accepted (0.85 for one, DeepSeek-V3's)", **MEDIA
}  # fmt: skip
"""Option → its meaning."""
LABELS = {"mtp": "drafts (mtp)", "acceptance": "acceptance", "audio_seconds": "seconds", "image_size": "size, HxW"}
LACKS = {
    **dict.fromkeys(DRAFTS, "has no layer that predicts further tokens"), **dict.fromkeys(MEDIA, "reads no such thing"),
    "images": "reads no images beside a text",
}  # fmt: skip
SHARES = [share / 20 for share in range(21)]
IMAGES = stops(0, 256)


def extras_of(analysis: Analysis) -> dict[str, int | None]:
    """Return the options that a model has beside those of tokens → the usual value."""
    reads, found = analysis.template.reads, dict[str, int | None]()
    if layers_in(analysis.params, analysis.template.config.get("model_type")) == 1:
        found |= {"mtp": 0, "acceptance": None}
    if reads and reads.what == "sound":
        found["audio_seconds"] = None
    elif reads:
        found |= ({} if reads.each else {"images": reads.usual}) | (
            {} if "height" in reads.sizes else {"image_size": None}
        )
        found |= {"audio_seconds": None} if reads.audio_positions else {}
    return found


def require_extras(options: Mapping[str, Any], has: Mapping[str, Any]) -> None:
    """Raise an `InputError` if options are given that a model does not have."""
    for name in EXTRAS.keys() - has.keys():
        if options.get(name) is not None and (name, options[name]) != ("mtp", 0):
            raise InputError(f"{name}={quote(options[name])}: this model {LACKS[name]}")


def images_in(analysis: Analysis, run: Mapping[str, Any]) -> list[int]:
    """Return the numbers of images along the slider, of a state's run, that its prompts have room for."""
    assert analysis.template.reads is not None
    length = run.get("prompt_len", run.get("seq_len", 1))
    room = room_for(analysis.template.reads, analysis.params, length, run["batch_size"])
    return [images for images in IMAGES if room is None or images <= room or run.get("cache_len")]


class Words:
    """A text, used as a `Size` is; None if the entry is empty."""

    texts: tuple[str, ...] = ()

    def __init__(self, name: str, tip: str, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.is_following = False
        self.entry = Text(
            description=LABELS[name], continuous_update=False, placeholder="448x672", tooltip=tip, **labelled("16em")
        )
        self.box = HBox([self.entry], layout=Layout(width="100%"))
        self.box.add_class(f"nb-{name}")
        self.entry.add_class("nb-entry")
        self.entry.observe(self._typed, "value")

    @property
    def value(self) -> str | None:
        """The text."""
        return self.entry.value.strip() or None

    def show(self, value: str | None) -> None:
        """Show a text, without a call of `changed`."""
        with following(self):
            self.entry.value = value or ""

    def _typed(self, _: object) -> None:
        if not self.is_following:
            self._changed()


class ExtraControls:
    """The group of controls of what a model takes beside tokens, hidden for those that take nothing else.

    Args:
        changed: called without arguments when the user has changed something.
        actions: of the number of images, see `Size`.

    """

    def __init__(self, changed: Callable[[], None], actions: Mapping[str, tuple[str, Callable[[str], None]]]) -> None:
        self._changed = changed
        self._actions = actions
        self._run: Mapping[str, Any] = {}
        self._has: tuple[str, ...] = ()
        self._fold = Fold(
            "beside tokens", "images or sound that the model reads, tokens that it drafts", self._unfolded
        )
        self.toggle, self.body = self._fold.toggle, self._fold.body
        self.numbers: dict[str, Size | Words] = {}

    def read(self) -> dict[str, Any]:
        """Return the options that the controls are set to.

        Raises:
            InputError: an entry holds no number.

        """
        return {name: number.value for name, number in self.numbers.items()}

    def show(self, run: Mapping[str, Any], usual: Mapping[str, Any], *, has_hardware: bool) -> None:
        """Show the values of a run, of a model that has options with these usual values; what is folded is not made."""
        self._run = run
        if tuple(usual) != self._has:
            self._has = tuple(usual)
            self.body.children = []
            for number in self.numbers.values():
                close(number.box)
            self.numbers = {}
        self._fold.say({name: run[name] for name in usual if run[name] not in (None, usual[name])})
        self.toggle.layout.display = "" if usual else "none"
        self.body.layout.display = "" if usual and self.toggle.value else "none"
        if usual and self.toggle.value and not self.numbers:
            self._build()
        for name, number in self.numbers.items():
            number.show(run[name])
            if isinstance(number, Size) and "max" in number.actions:
                number.actions["max"].layout.display = "" if has_hardware else "none"
        self._usual, self._has_hardware = usual, has_hardware

    def _unfolded(self) -> None:
        if self._has:
            self.show(self._run, self._usual, has_hardware=self._has_hardware)

    def _build(self) -> None:
        makers: Mapping[str, Callable[[], Size | Words]] = {
            "mtp": lambda: self._size("mtp", stops(0, 8)),
            "acceptance": lambda: self._real("acceptance", SHARES, str(ACCEPTANCE)),
            "images": lambda: self._size("images", IMAGES, self._actions),
            "image_size": lambda: Words("image_size", EXTRAS["image_size"], self._changed),
            "audio_seconds": lambda: self._real("audio_seconds", [0, *stops(1, 3600)], "as usual"),
        }
        self.numbers = {name: makers[name]() for name in self._has}
        self.body.children = [number.box for number in self.numbers.values()]
        listen_in_turn(self.body)

    def _size(
        self, name: str, places: list[int], actions: Mapping[str, tuple[str, Callable[[str], None]]] | None = None
    ) -> Size:
        return Size(name, LABELS.get(name, name), 0, places, EXTRAS[name], self._changed, actions=actions or {})

    def _real(self, name: str, places: list[float], empty: str) -> Real:
        return Real(name, LABELS[name], None, places, EXTRAS[name], self._changed, optional=empty)
