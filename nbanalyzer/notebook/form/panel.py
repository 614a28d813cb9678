"""The form's widgets: inputs on one side, answers on the other; on a narrow page one below the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipywidgets import HTML, Button, HBox, Layout, Text, VBox

from nbanalyzer.errors import NBAnalyzerError

from . import view
from .controls import add_classes, close, labelled, listen_in_turn
from .inputs import Inputs
from .result import Answer
from .roofline_svg import roofline_svg

__all__ = ["Panel"]

NARROW = {"width": "auto"}
ROW = {"flex_flow": "row wrap", "width": "100%"}


class Panel:
    """All widgets of a form.

    Args:
        answer: the initial answer.
        asked: called when the user has changed an input.
        pin, unpin: called when the user pins the state, or unpins it.
        saved: called with a file name when the user saves.

    """

    def __init__(
        self, answer: Answer, *, asked: Callable[[], None], pin: Callable[[], None], unpin: Callable[[], None],
        saved: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._shows_line = False
        self.inputs = Inputs(answer.state, answer.analysis, asked)
        self.error, self.heading, self.headline = _html(), _html(), _html()
        self.roofline, self.bars, self.memory, self.changes = _html(), _html(), _html(), _html()
        self.pin = Button(description="Pin", tooltip="keep this state, and show changes since", layout=NARROW)
        self.unpin = Button(description="Unpin", tooltip="show no changes any more", layout=NARROW)
        self.copy = Button(description="Copy as magic", tooltip="the line that gives the same numbers", layout=NARROW)
        self.magic = Text(description="magic", **labelled("100%"))
        self.copied = _html()
        self.file = Text(
            value="whatif.html", description="file", tooltip=".csv, .json, .html or .png", **labelled("17em")
        )
        self.save = Button(description="Save", tooltip="write the present state to the file", layout=NARROW)
        self.saved = _html()
        actions = HBox([self.pin, self.unpin, self.copy], layout=ROW)
        saving = HBox([self.file, self.save], layout=ROW)
        left = VBox(
            [self.inputs.widget, actions, self.magic, self.copied, saving, self.saved],
            layout=Layout(flex="1 1 20em", min_width="0", max_width="30em"),
        )
        right = VBox(
            [self.heading, self.headline, self.changes, self.memory, self.roofline, self.bars],
            layout=Layout(flex="3 1 22em", min_width="0", overflow="hidden"),
        )
        columns = HBox([left, right], layout=Layout(flex_flow="row wrap", width="100%", grid_gap="0.5em 1.5em"))
        self.widget = VBox([self.error, columns], layout=Layout(width="100%"))
        add_classes(self, "whatif")
        right.add_class("nb-answers")
        self.pin.on_click(lambda _: pin())
        self.unpin.on_click(lambda _: unpin())
        self.save.on_click(lambda _: saved(self.file.value))
        self.copy.on_click(self._copied)
        self._answer = answer
        listen_in_turn(self.widget)
        self.show(answer, None)

    def show(self, answer: Answer, pinned: Answer | None) -> None:
        """Show an answer; what is hidden is not drawn."""
        self._answer = answer
        self.inputs.show(answer.state, answer.analysis)
        self.error.value = ""
        self.heading.value = view.heading(answer)
        self.headline.value = view.figures(answer, pinned)
        self.changes.value = view.changes(answer.since(pinned)) if pinned else ""
        self.memory.value = view.memory(answer)
        if answer.roofline:
            title = f"{answer.name} on {answer.roofline.accelerator.name}"
            self.roofline.value = roofline_svg(answer.roofline, title)
        _visible(self.roofline, answer.roofline is not None)
        self.bars.value = view.bars(answer)
        _visible(self.unpin, pinned is not None)
        self._show_line()

    def say(self, error: str) -> None:
        """Show an error above the last good state."""
        self.error.value = view.error_line(error)

    def said(self, text: str, *, is_error: bool) -> None:
        """Show the result of saving."""
        self.saved.value = view.error_line(text, is_first=True) if is_error else view.remark(text)

    def _copied(self, _: object) -> None:
        self._shows_line = True
        self._show_line()

    def _show_line(self) -> None:
        _visible(self.magic, self._shows_line)
        _visible(self.copied, self._shows_line)
        if not self._shows_line:
            return
        try:
            self.magic.value = self._answer.state.magic
            self.copied.value = view.remark("It follows the form. To take it along: click into it, Ctrl+A, Ctrl+C.")
        except NBAnalyzerError as error:
            self.magic.value = ""
            self.copied.value = view.error_line(str(error), is_first=True)

    def close(self) -> None:
        """Close all widgets."""
        close(self.widget)
        close(self.inputs.reset)  # which is not always inside


def _html() -> HTML:
    return HTML(layout=Layout(width="100%", margin="0.15em 0"))


def _visible(widget: Any, shown: object) -> None:
    widget.layout.display = "" if shown else "none"
