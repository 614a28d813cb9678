"""What somebody wants to see of a table."""

from __future__ import annotations

import pytest

from nbanalyzer.costs.view import View
from nbanalyzer.errors import InputError


def test_what_is_said_stays_until_something_else_is() -> None:
    view = View()
    assert (view.by, view.top, view.depth) == ("module", None, None)
    view.show(by="role", top=1)
    view.show(depth=3)
    view.show(top=7)
    assert (view.by, view.top, view.depth) == ("role", 7, 3)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "2"])
def test_numbers_of_rows_and_levels(value: object) -> None:
    for name in ("top", "depth"):
        with pytest.raises(InputError, match=f"{name} is a whole number from 1, not "):
            View().show(**{name: value})  # type: ignore[arg-type]


def test_what_rows_are_of() -> None:
    with pytest.raises(InputError, match="by is module or role, not 'layer'"):
        View().show(by="layer")
