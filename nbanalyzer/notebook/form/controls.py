"""The controls of a form: a number with a slider and an entry, and how widgets receive messages and are closed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any
from weakref import WeakMethod

from ipywidgets import Button, Checkbox, HBox, Layout, SelectionSlider, Text, ToggleButton, VBox, Widget

from nbanalyzer.analysis.options import read_real
from nbanalyzer.costs.run import read_whole
from nbanalyzer.errors import InputError

from .lifecycle import in_turn

__all__ = [
    "Fold", "Real", "Size", "Switch", "add_classes", "close", "everything", "following", "keep_order", "labelled",
    "listen_in_turn", "stops", "weakly",
]  # fmt: skip

LABEL = "7.4em"
FOLDED, UNFOLDED = "▸", "▾"
Number = int | float
ROUTE = "_reply_subshell_for"  # the hook by which ipykernel asks a comm which thread handles a message


def stops(least: int, most: int, *also: int) -> list[int]:
    """Return the stops of a slider: powers of two and the values halfway, 1, 2, 3, 4, 6, 8, …, and the ends."""
    places = {value for value in (least, *also) if value >= 0}
    power = 1
    while power <= most:
        places |= {value for value in (power, power * 3 // 2) if least <= value <= most}
        power *= 2
    return sorted(places)


class Size:
    """A whole number: a labelled entry that takes any, or arithmetic, and a slider over `stops`.

    Args:
        name: of the option or variable.
        label: the text before it.
        value: the initial number; None, if `optional`, for an empty entry.
        places: the stops of the slider.
        tip: one sentence, shown under the mouse.
        changed: called without arguments when the user has changed it.
        optional: what an empty entry says, if it may be empty.
        actions: short buttons after the slider: text → its tooltip, and what is called with the name.

    """

    def __init__(
        self, name: str, label: str, value: Number | None, places: Sequence[Number], tip: str,
        changed: Callable[[], None], *, optional: str = "", label_width: str = LABEL,
        actions: Mapping[str, tuple[str, Callable[[str], None]]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.name = name
        self._places = list(places)
        self._changed = changed
        self._optional = optional
        self.is_following = False
        self.entry = Text(
            value=_text(value), description=label, continuous_update=False, placeholder=optional,
            tooltip=tip, layout=Layout(flex="0 0 auto", width=f"calc({label_width} + 5.5em)"),
            style={"description_width": label_width},
        )  # fmt: skip
        self.slider = SelectionSlider(
            options=[(text, place) for text, place in zip(self.texts, self._places, strict=True)],
            index=self._nearest(value), readout=False,
            tooltip=f"{label}: arrow keys step through {self.texts[0]} to {self.texts[-1]}",
            layout=Layout(flex="1 1 4em", width="auto", min_width="3em", margin="2px 10px 2px 8px"),
        )  # fmt: skip
        self.actions = {
            text: Button(description=text, tooltip=f"{text} {about}", layout=Layout(width="2.7em", flex="0 0 auto"))
            for text, (about, _) in actions.items()
        }
        for text, (_, act) in actions.items():
            self.actions[text].add_class("nb-short")
            self.actions[text].add_class(f"nb-do-{text}")
            self.actions[text].on_click(lambda _, act=act: act(name))
        self.box = HBox(
            [self.entry, self.slider, *self.actions.values()], layout=Layout(width="100%", align_items="center")
        )
        for widget, part in ((self.box, "nb-size"), (self.entry, "nb-entry"), (self.slider, "nb-slider")):
            widget.add_class(part)
        self.box.add_class(f"nb-{name}")
        self.entry.observe(self._typed, "value")
        self.slider.observe(self._dragged, "value")

    @property
    def texts(self) -> list[str]:
        """The stops of the slider, as they are said."""
        return [f"{place:,}" for place in self._places]

    @property
    def places(self) -> list[Any]:
        """The stops of the slider, numbers."""
        return [*self._places]

    @property
    def value(self) -> Any:
        """The number; None, if it is optional and the entry is empty.

        Raises:
            InputError: the entry holds no such number.

        """
        text = self.entry.value.strip()
        if not text and self._optional:
            return None
        if not text:
            raise InputError(f"{self.name} is {self._kind}, and the entry is empty")
        return self._read(text)

    _kind = "a whole number"

    def _read(self, text: str) -> Number:
        return read_whole(self.name, text)

    def show(self, value: Number | None) -> None:
        """Show a number, without a call of `changed`."""
        with following(self):
            self.entry.value = _text(value)
            self.slider.index = self._nearest(value)

    def _nearest(self, value: Number | None) -> int:
        if value is None:
            return 0
        index = bisect_left(self._places, value)
        if index == len(self._places):
            return index - 1
        is_below = index > 0 and value - self._places[index - 1] < self._places[index] - value
        return index - 1 if is_below else index

    def _typed(self, _: object) -> None:
        if self.is_following:
            return
        with suppress(InputError):  # `changed` reports it
            self.show(self.value)
        self._changed()

    def _dragged(self, change: Any) -> None:
        if not self.is_following:
            with following(self):
                self.entry.value = _text(change["new"])
            self._changed()


class Real(Size):
    """A number that need not be whole, see `Size`."""

    _kind = "a number"

    def _read(self, text: str) -> Number:
        return read_real(self.name, text)


class Switch:
    """A config value that is 0 or 1: a box to tick, used as a `Size` is."""

    texts: Sequence[str] = ()

    def __init__(self, name: str, value: int, tip: str, changed: Callable[[], None]) -> None:
        self.name = name
        self.is_following = False
        self._changed = changed
        self.box = Checkbox(
            value=bool(value), description=name, indent=False, tooltip=tip,
            layout=Layout(width="auto", margin="2px 2px 2px 0.6em"),
        )  # fmt: skip
        self.box.add_class(f"nb-{name}")
        self.box.observe(self._ticked, "value")

    @property
    def value(self) -> int:
        """1 if it is ticked, else 0."""
        return int(self.box.value)

    def show(self, value: int) -> None:
        """Show a value, without a call of `changed`."""
        with following(self):
            self.box.value = bool(value)

    def _ticked(self, _: object) -> None:
        if not self.is_following:
            self._changed()


class Fold:
    """A button, and controls below it that it unfolds: not an accordion, which cannot be reached by keyboard.

    Args:
        title: the text of the button.
        tip: one sentence, shown under the mouse.
        unfolded: called when it was unfolded or folded.

    """

    def __init__(self, title: str, tip: str, unfolded: Callable[[], None]) -> None:
        self._title = title
        self._unfolded = unfolded
        self.toggle = ToggleButton(
            description=f"{FOLDED} {title}", tooltip=tip, layout=Layout(width="calc(100% - 4px)")
        )
        self.toggle.add_class("nb-fold")
        self.body = VBox([], layout=Layout(width="100%", display="none"))
        for part in (self.toggle, self.body):
            part.add_class("nb-wide")
        self.toggle.observe(self._pressed, "value")

    def say(self, values: Mapping[str, Any]) -> None:
        """Say beside the title what is not as usual."""
        text = f": {', '.join(f'{name}={value}' for name, value in values.items())}" if values else ""
        self.toggle.description = f"{UNFOLDED if self.toggle.value else FOLDED} {self._title}{text}"

    def _pressed(self, _: object) -> None:
        self._unfolded()
        self.body.layout.display = "" if self.toggle.value else "none"


def _text(value: Number | None) -> str:
    return "" if value is None else f"{value:.12g}" if isinstance(value, float) else f"{value}"


@contextmanager
def following(control: Any) -> Iterator[None]:
    """Let a control follow a state: what changes inside, as its `is_following` says, is no wish of the user's."""
    control.is_following = True
    try:
        yield
    finally:
        control.is_following = False


def labelled(width: str = "calc(100% - 4px)") -> dict[str, Any]:
    """Return the style and the layout of a control with a label before it."""
    return {"style": {"description_width": LABEL}, "layout": {"width": width}}


def add_classes(owner: object, name: str) -> None:
    """Give an object's widgets the names of their attributes, as classes of CSS; its `widget`, this name."""
    for attribute, part in vars(owner).items():
        if isinstance(part, Widget):
            part.add_class(f"nb-{name if attribute == 'widget' else attribute}")


def weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls a method as long as its object lives, without keeping the object alive."""
    reference = WeakMethod(method)

    def call(*arguments: Any, **options: Any) -> None:
        if (target := reference()) is not None:
            target(*arguments, **options)

    return call


def everything(widget: Widget) -> Iterator[Widget]:
    """Yield a widget, all widgets inside it, and their layouts and styles, which are widgets too."""
    for child in getattr(widget, "children", ()):
        yield from everything(child)
    for part in ("layout", "style"):
        if isinstance(owned := getattr(widget, part, None), Widget):
            yield owned
    yield widget


def listen_in_turn(widget: Widget) -> None:
    """Let a widget, and all inside it, handle the browser's messages one at a time, see `in_turn`."""
    for part in everything(widget):
        if part.comm is not None:
            part.comm.handle_msg = in_turn(partial(type(part.comm).handle_msg, part.comm))  # never wrapped twice
            keep_order(part.comm)


def keep_order(comm: Any) -> None:
    """Let a widget's messages go to the thread that the browser names, in the order in which it sends them.

    ipykernel 7.4 hands them to the thread from which that widget last sent a message: a click could overtake the
    choice before it. There is no public way to change this. An ipykernel without the hook is left alone.
    """
    if hasattr(comm, ROUTE):
        setattr(comm, ROUTE, None)


def close(widget: Widget) -> None:
    """Close a widget and all that belongs to it."""
    for part in [*everything(widget)]:
        part.close()
