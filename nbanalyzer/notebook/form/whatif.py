"""The form that answers *what if*: model, hardware, phase and sizes on one side, figures and pictures on the other."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from IPython import display

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.analysis.comparison import Comparison
from nbanalyzer.analysis.populate import Source
from nbanalyzer.analysis.roofline import Roofline
from nbanalyzer.display import write
from nbanalyzer.errors import InputError, NBAnalyzerError
from nbanalyzer.notebook.settings import current

from . import lifecycle
from .lifecycle import in_turn
from .lines import magic
from .questions import Along, along, largest
from .result import Answer
from .save import FORMATS, content_of
from .state import State, begin, changed, differences, known_model
from .view import static

if TYPE_CHECKING:
    from nbanalyzer.analysis.request import Request

    from .panel import Panel, Shown

__all__ = ["WhatIf"]

WIDGET = "application/vnd.jupyter.widget-view+json"
KEPT = 32  # answers: going back to one of them costs nothing
PAST = 100  # states that can be gone back to
PAUSE = 1.0  # seconds after which the same slider makes another step


class WhatIf:
    """A form whose figures follow while a slider moves, and beside it a table that stays in the notebook.

    >>> form = WhatIf("llama-3.1-8b", hardware="h100-sxm", phase="decode", cache_len=2048)
    >>> form
    WhatIf(llama-3.1-8b, decode, on h100-sxm)
    >>> form.magic
    '%populate llama-3.1-8b --hardware h100-sxm --seq_len 1 --cache_len 2048'
    >>> form.change(w_bit=4)
    >>> form.figures["parameters"]
    '8.030 B'

    Args:
        model: the initial model, as for `populate`.
        options: ``hardware``; ``profile``, what estimates are made with; ``compute_efficiency``,
            ``bandwidth_efficiency`` and ``launch_overhead``, as for `Analysis.on`; a ``price``, $ an hour of a device;
            ``nodes`` and ``overlap``, of several devices;
            ``phase``: ``"prefill"``, ``"decode"`` or ``"request"``; ``set``; the values of a run, or ``prompt_len`` and
            ``output_len`` of a request.

    Attributes:
        error: why the last change could not be followed, in one line; empty if it could.

    Raises:
        NBAnalyzerError: an impossible initial state.

    """

    def __init__(self, model: Source = "gpt2", **options: Any) -> None:
        self._answers: OrderedDict[object, Answer] = OrderedDict()
        self._answer = self._answered(begin(model, **options))
        self._begun = self.state
        self._past: list[State] = []
        self._moved: tuple[frozenset[str], float] = (frozenset(), 0.0)  # what changed last, and when
        self._pinned: Answer | None = None
        self._other: Source | None = None
        self._along: Along | None = None
        self._panel: Panel | None = None
        self.error = ""

    # ---- its answer

    @property
    def state(self) -> State:
        """The last state that could be computed."""
        return self._answer.state

    @property
    def analysis(self) -> Analysis:
        """The pass whose modules are shown: of a request its last step."""
        return self._answer.analysis

    @property
    def roofline(self) -> Roofline | None:
        """That pass on the accelerator, if there is one."""
        return self._answer.roofline

    @property
    def request(self) -> Request | None:
        """The whole request, in that phase."""
        return self._answer.request

    @property
    def figures(self) -> dict[str, str]:
        """The headline figures, as they are shown."""
        return {name: figure.text for name, figure in self._answer.figures.items()}

    @property
    def magic(self) -> str:
        """The line that gives the same numbers: ``%populate …``, of a request ``%request …``."""
        return magic(self.state)

    @property
    def comparison(self) -> Comparison | None:
        """The pinned pass beside the present one, if something is pinned."""
        return self._answer.since(self._pinned) if self._pinned else None

    # ---- its actions

    @in_turn
    def change(self, **options: Any) -> None:
        """Set values, as the controls do.

        Raises:
            NBAnalyzerError: impossible values; nothing has changed then.

        """
        self._accept(self._answered(changed(self.state, **options)))

    @in_turn
    def pin(self) -> None:
        """Keep the present state; from now on every figure shows its change."""
        self._pinned = self._answer
        self._show()

    @in_turn
    def unpin(self) -> None:
        """Show no more changes."""
        self._pinned = None
        self._show()

    @in_turn
    def undo(self) -> None:
        """Go back to the state before the last option was changed; after a mistake, to the last good state."""
        if not self.error and self._past:
            self._answer = self._answered(self._past.pop())
            self._moved = (frozenset(), 0.0)
        self.error = ""
        self._show()

    @in_turn
    def reset(self) -> None:
        """Go back to the state that the form began with; `undo` takes it back."""
        self._accept(self._answered(self._begun))

    @in_turn
    def beside(self, model: Source | None) -> None:
        """Show another model side by side with the form's own, under the same conditions; None: no longer.

        Raises:
            NBAnalyzerError: there is no such model.

        """
        if model is not None:
            changed(self.state, model=model)
        self._other = model
        self._show()

    @in_turn
    def largest(self, name: str) -> None:
        """Set a size to the largest that fits the accelerator's memory.

        Raises:
            NBAnalyzerError: there is none, or there is no hardware.

        """
        self.change(**{name: largest(self.state, name)})

    @in_turn
    def sweep(self, name: str) -> None:
        """Plot the figures along a size, over the stops of its slider; an empty name takes the plot away.

        Raises:
            NBAnalyzerError: they cannot be worked out.

        """
        self._along = along(self.state, name, self._built().inputs.places_of(name)) if name else None
        self._show()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the present state in the format of the suffix: .csv, .json, .html or .png.

        Raises:
            InputError: another suffix, or a place that cannot be written to.

        """
        write(self._answer, path, FORMATS)

    def close(self) -> None:
        """Close the form and all its widgets."""
        lifecycle.forget(self)
        if self._panel:
            self._finalizer()
            self._panel = None

    @property
    def widget(self) -> Any:
        """The form as a widget, for use inside another one; built on first use."""
        return self._built().widget

    @in_turn
    def _built(self) -> Panel:
        if self._panel is None:
            from .controls import weakly
            from .panel import Actions, Panel

            actions = Actions(
                asked=weakly(self._asked), pin=weakly(self.pin), unpin=weakly(self.unpin), undo=weakly(self.undo),
                reset=weakly(self.reset), download=weakly(self._download), beside=weakly(self._beside),
                largest=weakly(self._largest), swept=weakly(self._swept),
            )  # fmt: skip
            self._panel = Panel(self._shown(), actions)
            # The registry of widgets keeps them alive: they are closed with the form.
            self._finalizer = weakref.finalize(self, self._panel.close)
            self._finalizer.atexit = False
        return self._panel

    def _answered(self, state: State) -> Answer:
        profile = state.profile if isinstance(state.profile, str | None) else id(state.profile)
        key = (state.key, state.hardware, profile, state.communication, state.assumed)
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key]
        before = getattr(self, "_answer", None)
        try:
            answer = Answer(state, before)
        except (ArithmeticError, RecursionError) as error:
            raise InputError(f"this cannot be worked out: {error}") from None
        self._answers[key] = answer
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return answer

    def _accept(self, answer: Answer) -> None:
        self._remember(answer.state)
        self._answer = answer
        self.error = ""
        self._show()

    def _remember(self, state: State) -> None:
        """Remember the state that another one follows; what moves without a pause is one step back."""
        if state == self.state:
            return
        moved, now = differences(self.state, state), monotonic()
        is_going_on = moved == self._moved[0] and now - self._moved[1] < PAUSE
        self._moved = (moved, now)
        if not (is_going_on and self._past):
            self._past = [*self._past[-PAST:], self.state]

    def _shown(self) -> Shown:
        from .panel import Shown

        other: Answer | str | None = None
        if self._other is not None:
            try:
                other = self._answered(changed(self.state, model=self._other))
            except NBAnalyzerError as error:
                other = f"{self._other}: {error}"
        return Shown(self._answer, self._pinned, other, self._along, can_undo=bool(self._past))

    def _show(self) -> None:
        if self._panel:
            self._panel.show(self._shown())

    # ---- what the controls ask

    def _asked(self) -> None:
        """Follow the controls; an error is shown in the form, and the last good state stays."""
        panel = self._built()
        try:
            answer = self._answered(changed(self.state, **panel.inputs.read()))
        except NBAnalyzerError as error:
            self.error = str(error)
            panel.say(self.error)
        else:
            self._accept(answer)

    def _told(self, act: Callable[[], None]) -> None:
        """Do what a button asks; if it cannot be done, say why."""
        try:
            act()
        except NBAnalyzerError as error:
            self._built().tell(str(error))

    def _beside(self, text: str) -> None:
        self._told(lambda: self.beside(known_model(text) if text.strip() else None))

    def _largest(self, name: str) -> None:
        self._told(lambda: self.largest(name))

    def _swept(self, name: str) -> None:
        self._told(lambda: self.sweep(name))

    def _download(self, suffix: str) -> None:
        name = f"{self._answer.name}-{self.state.phase}.{suffix}"
        self._told(lambda: self._built().browser.download(name, content_of(self._answer, suffix)))

    # ---- how it is shown

    def __repr__(self) -> str:
        return f"WhatIf({self.state!r})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """Return the form, and for those who show no widgets the table; Jupyter asks `_ipython_display_`."""
        what = (
            "A form of Jupyter's widgets, which move in JupyterLab, Notebook, VS Code and Colab; elsewhere it is this"
        )
        goes_on = f"{what} table, and <code>form.change(…)</code> goes on."
        table = self._table()["text/html"]
        return {**self._view(), "text/html": f'<div style="opacity:0.8">{goes_on}</div>{table}'}

    def _view(self) -> dict[str, Any]:
        self._built().dress(current().theme)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        # Shown where no widget can be: in an untrusted notebook, and in an exported one.
        needs = "A form stands here while a kernel runs: run the cell to see it."
        return {WIDGET: view, "text/plain": repr(self), "text/html": f'<div style="opacity:0.8">{needs}</div>'}

    def _ipython_display_(self) -> None:
        lifecycle.keep(self)
        display.display(self._view(), raw=True)
        if not lifecycle.is_page():
            display.display(self._table(), raw=True)

    def _table(self) -> dict[str, str]:
        """Return the table that stays in a notebook, in the theme of the settings; the form hides all of it."""
        plain = static(self._answer)
        dressed = current().dress({**plain})
        if dressed != plain:
            dressed["text/html"] = f'<div class="nb-began">{dressed["text/html"]}</div>'
        return dressed
