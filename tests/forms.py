"""Forms for the tests of the notebook: made, and closed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nbanalyzer.notebook.form.panel import Panel
from nbanalyzer.notebook.form.whatif import WhatIf

__all__ = ["Make", "forms", "panel_of"]

Make = Callable[..., WhatIf]


def forms(usual: str) -> Iterator[Make]:
    """Yield a function that makes forms, of the usual model if none is named; they are closed in the end."""
    made: list[WhatIf] = []

    def form(model: Any = usual, **options: Any) -> WhatIf:
        made.append(WhatIf(model, **options))
        _ = made[-1].widget
        return made[-1]

    yield form
    for one in made:
        one.close()


def panel_of(form: WhatIf) -> Panel:
    """Return the widgets of a form."""
    _ = form.widget
    assert form._panel is not None
    return form._panel
