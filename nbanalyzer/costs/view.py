"""Which rows the table of a pass has, as its text and its HTML show it."""

from __future__ import annotations

from nbanalyzer.errors import InputError, quote

__all__ = ["VIEWS", "View"]

VIEWS = ("module", "role")
"""What the rows of a table are of."""


class View:
    """What somebody wants to see of a table.

    Attributes:
        by: one of `VIEWS`: modules inside one another, or their roles.
        top: the largest rows only, the largest first; None for all, in the order of the pass.
        depth: the outermost levels of modules only; None for all.

    """

    by = "module"
    top: int | None = None
    depth: int | None = None

    def show(self, *, by: str | None = None, top: int | None = None, depth: int | None = None) -> None:
        """Say which rows its text and its HTML have, as far as it is said: see `VIEWS`.

        Args:
            by: ``"module"`` for the tree of modules, ``"role"`` for embedding, attention, MLP, norms, head, ….
            top: the largest rows only, the largest first.
            depth: the outermost levels of the tree only.

        Raises:
            InputError: a value that cannot be.

        """
        if by is not None and by not in VIEWS:
            raise InputError(f"by is {' or '.join(VIEWS)}, not {quote(by)}")
        for name, number in (("top", top), ("depth", depth)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise InputError(f"{name} is a whole number from 1, not {quote(number)}")
        self.by, self.top, self.depth = by or self.by, top or self.top, depth or self.depth
