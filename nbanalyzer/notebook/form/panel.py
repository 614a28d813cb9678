"""The form's widgets: inputs on one side, answers on the other; on a narrow page one below the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipywidgets import HTML, Button, Combobox, Dropdown, HBox, Layout, VBox

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.notebook.settings import THEMES
from nbanalyzer.templates import catalog

from . import view
from .browser import Browser
from .chart_svg import along_svg
from .controls import add_classes, close, labelled, listen_in_turn
from .inputs import Inputs
from .lines import lines
from .questions import Along
from .result import Answer
from .roofline_svg import roofline_svg
from .save import FORMATS

__all__ = ["Actions", "Panel"]

NARROW = {"width": "auto"}
ROW = {"flex_flow": "row wrap", "width": "100%"}


@dataclass(frozen=True)
class Actions:
    """What is called when the user does something.

    Attributes:
        asked: an input was changed.
        pin, unpin, undo, reset: their buttons.
        download: with the format of the file.
        beside: another model is to stand beside the first.
        largest: with the name of a size, which is to be the largest that fits.
        swept: with the name of a size, along which figures are to be plotted; with an empty one, no longer.

    """

    asked: Callable[[], None]
    pin: Callable[[], None]
    unpin: Callable[[], None]
    undo: Callable[[], None]
    reset: Callable[[], None]
    download: Callable[[str], None]
    beside: Callable[[str], None]
    largest: Callable[[str], None]
    swept: Callable[[str], None]


@dataclass(frozen=True)
class Shown:
    """What a form shows.

    Attributes:
        answer: the present state's.
        pinned: the answer that was pinned, or None.
        other: the same state's with another model, or why there is none; None if nobody asked.
        along: figures along a size, or None.
        can_undo: whether there was another state before.

    """

    answer: Answer
    pinned: Answer | None = None
    other: Answer | str | None = None
    along: Along | None = None
    can_undo: bool = False


class Panel:
    """All widgets of a form.

    Args:
        shown: what it shows first.
        actions: called when the user does something.

    """

    def __init__(self, shown: Shown, actions: Actions) -> None:
        state, analysis = shown.answer.state, shown.answer.analysis
        self.inputs = Inputs(state, analysis, actions.asked, actions.largest, actions.swept)
        self.error, self.heading, self.headline, self.status = _html(), _html(), _html(), _html()
        self.roofline, self.bars, self.memory, self.changes = _html(), _html(), _html(), _html()
        self.along, self.compared = _html(), _html()
        self.undo = _button("Undo", "back to what it was before the last control was moved", actions.undo)
        self.reset_all = _button("Reset", "back to what the form began with", actions.reset)
        self.pin = _button("Pin", "keep this state, and show changes since", actions.pin)
        self.unpin = _button("Unpin", "show no changes any more", actions.unpin)
        self.close_along = _button("Close the plot", "show the plot no longer", lambda: actions.swept(""))
        self.beside = Combobox(
            description="side by side", options=catalog.short_names(), continuous_update=False, ensure_option=False,
            placeholder="another model", tooltip="a second model, under the same conditions", **labelled(),
        )  # fmt: skip
        self.format = Dropdown(
            description="file", options=[*FORMATS], value="html", **labelled("14em"),
            tooltip="csv and json: the numbers; html: a page with every formula; png: the picture",
        )  # fmt: skip
        self.download = _button("Download", "the present state as a file", lambda: actions.download(self.format.value))
        self.browser = Browser()
        self.close_along.layout.align_self = "flex-start"
        doing = HBox([self.undo, self.reset_all, self.pin, self.unpin], layout=Layout(**ROW))
        saving = HBox([self.format, self.download], layout=Layout(**ROW))
        controls = VBox(
            [doing, self.inputs.widget, self.beside, saving, self.browser],
            layout=Layout(flex="1 1 20em", min_width="0", max_width="30em"),
        )
        plot = VBox([self.along, self.close_along], layout=Layout(width="100%"))
        answers = VBox(
            [self.heading, self.headline, self.memory, self.compared, self.changes, plot, self.roofline, self.bars],
            layout=Layout(flex="3 1 22em", min_width="0", overflow="hidden"),
        )
        columns = HBox([controls, answers], layout=Layout(flex_flow="row wrap", width="100%", grid_gap="0.5em 1.5em"))
        self.widget = VBox([self.error, self.status, columns], layout=Layout(width="100%"))
        add_classes(self, "whatif")
        named = ((controls, "controls"), (answers, "answers"), (columns, "columns"), (plot, "plot"))
        wide = ((part, "wide") for part in (self.heading, self.compared, self.changes, plot, self.bars))
        for part, name in (*named, *wide):
            part.add_class(f"nb-{name}")
        self.beside.observe(lambda change: actions.beside(change["new"]), "value")
        listen_in_turn(self.widget)
        self.show(shown)

    def show(self, shown: Shown) -> None:
        """Show an answer; what is hidden is not drawn."""
        answer, pinned, other = shown.answer, shown.pinned, shown.other
        self.inputs.show(answer.state, answer.analysis)
        self.error.value = self.status.value = ""
        self.heading.value = view.heading(answer)
        self.headline.value = view.figures(answer, pinned)
        self.changes.value = view.changes(answer.since(pinned), pinned) if pinned else ""
        self.memory.value = view.memory(answer, pinned)
        if answer.roofline:
            title = f"{answer.name} on {answer.roofline.accelerator.name}"
            self.roofline.value = roofline_svg(answer.roofline, title, pinned.roofline if pinned else None)
        _visible(self.roofline, answer.roofline is not None)
        self.bars.value = view.bars(answer, pinned)
        _visible(self.unpin, pinned is not None)
        self.undo.disabled = not shown.can_undo
        self.compared.value = view.beside(answer, other) if isinstance(other, Answer) else view.remark(other or "")
        _visible(self.compared, other is not None)
        self._show_along(answer, shown.along)
        self.browser.follow(_lines(answer), self.inputs.places, is_stale=False)

    def _show_along(self, answer: Answer, along: Along | None) -> None:
        _visible(self.along, along is not None)
        _visible(self.close_along, along is not None)
        if along is None:
            self.along.value = ""
            return
        size = self.inputs.sizes.get(along.name)
        label = size.entry.description if size else along.name
        is_same = along.is_of(answer.state)
        title = along.title if is_same else f"{along.title}. Of an earlier state: press ∿ beside {label} again"
        self.along.value = along_svg(along, label, answer.state.run.get(along.name) if is_same else None, title)

    def dress(self, theme: str) -> None:
        """Show the form in the colours of a theme, or in those of the page."""
        for name in THEMES:
            (self.widget.add_class if name == theme else self.widget.remove_class)(f"nb-theme-{name}")

    def say(self, error: str) -> None:
        """Show an error above the last good state."""
        self.error.value = view.error_line(error)
        self.status.value = ""
        self.browser.follow({}, self.inputs.places, is_stale=True)

    def tell(self, text: str) -> None:
        """Show an answer in words; the state is still what the controls say."""
        self.status.value = view.remark(text)

    def close(self) -> None:
        """Close all widgets."""
        close(self.widget)
        close(self.inputs.reset)  # which is not always inside


def _lines(answer: Answer) -> dict[str, str]:
    """Return what can be copied, or why nothing can."""
    try:
        return {f"%{magic}": line for magic, line in lines(answer.state).items()}
    except NBAnalyzerError as error:
        return {"line": str(error)}


def _html() -> HTML:
    return HTML(layout=Layout(width="100%", margin="0.15em 0"))


def _button(text: str, tip: str, press: Callable[[], None]) -> Button:
    button = Button(description=text, tooltip=tip, layout=Layout(**NARROW))
    button.on_click(lambda _: press())
    return button


def _visible(widget: Any, shown: object) -> None:
    widget.layout.display = "" if shown else "none"
