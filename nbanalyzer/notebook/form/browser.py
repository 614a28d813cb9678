"""What only the browser can do for a form: the clipboard, downloads, what screen readers hear, the page's width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files

from anywidget import AnyWidget
from traitlets import Bool, Dict, Int, List, Unicode

__all__ = ["Browser"]

FOLDER = files(__package__)
SCRIPT = FOLDER.joinpath("browser.js").read_text(encoding="utf-8")
STYLE = FOLDER.joinpath("browser.css").read_text(encoding="utf-8")


class Browser(AnyWidget):  # type: ignore[misc, unused-ignore]
    """The buttons that copy, and a script that looks after the form around them.

    Attributes:
        lines: what can be copied, each with the name of its button; one without a line says why there is none.
        places: size → the texts of its slider's stops: a slider itself knows their numbers only.
        is_stale: whether what is shown is not what the controls say.
        turn: counts what was shown: then names and values are looked at again.

    """

    _esm = Unicode(SCRIPT).tag(sync=True)
    _css = Unicode(STYLE).tag(sync=True)
    lines = List(Dict()).tag(sync=True)
    places = Dict().tag(sync=True)
    is_stale = Bool(default_value=False).tag(sync=True)
    turn = Int(0).tag(sync=True)

    def follow(self, lines: Mapping[str, str], places: Mapping[str, Sequence[str]], *, is_stale: bool) -> None:
        """Hand on what is shown now, in one message."""
        with self.hold_sync():
            self.lines = [{"name": name, "line": line} for name, line in lines.items()]
            self.places = {name: [*texts] for name, texts in places.items()}
            self.is_stale = is_stale
            self.turn += 1

    def download(self, name: str, content: bytes) -> None:
        """Let the browser save a file among its downloads."""
        self.send({"download": name}, [content])
