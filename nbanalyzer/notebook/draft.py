"""``%draft``: how a template that is being written stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython import display
from IPython.core.magic import Magics, line_cell_magic, magics_class

from nbanalyzer.errors import InputError, quote
from nbanalyzer.files import read_file

from .magics import reads_options
from .progress import bar

if TYPE_CHECKING:
    from nbanalyzer.analysis.draft import Check

    from .arguments import Arguments

__all__ = ["DraftMagics"]


@magics_class
class DraftMagics(Magics):
    """The magic for drafts."""

    @line_cell_magic
    @reads_options
    def draft(self, arguments: Arguments, cell: str | None = None) -> Check:
        """Show the state of a draft of a template: what is unresolved, and its numbers beside what they should be.

        As a cell magic, the cell is the draft, in JSON.
        """
        from nbanalyzer.analysis.draft import check, save

        draft = _draft(arguments, cell)
        target = _target(arguments)
        with bar(self.shell):
            found = check(draft, config=arguments.config(), facts=_facts(arguments))
        if target is not None:
            if found.failed:  # then what is wrong is shown beside the error that nothing is saved
                display.display(found)
            save(draft, target.parent, target.stem, found)
        return found


def _draft(arguments: Arguments, cell: str | None) -> Any:
    named = arguments.options.draft
    if (named is None) == (cell is None):
        raise InputError("%draft takes one draft: the path of a .json file, $draft, or the cell of %%draft")
    if cell is not None:
        return cell
    draft = arguments.value(named)
    is_text = isinstance(draft, str) and draft.lstrip().startswith("{")  # of a $name
    return read_file(draft) if isinstance(draft, str | Path) and not is_text else draft


def _target(arguments: Arguments) -> Path | None:
    if not arguments.options.save:
        return None
    path = Path(arguments.path(arguments.options.save))
    if path.suffix != ".json":
        raise InputError(f"--save takes the path of a .json file, not {quote(str(path))}")
    return path


def _facts(arguments: Arguments) -> dict[str, Any]:
    """Return what the line states of the model; sizes and switches are of the run that its FLOPs are of."""
    options = arguments.options
    facts: dict[str, Any] = {}
    for name in ("parameters", "flops", "checkpoint_bytes"):
        if (text := getattr(options, name)) is not None:
            facts[name] = arguments.value(text)
    if options.checkpoint_bits is not None:
        if "checkpoint_bytes" not in facts:
            raise InputError("--checkpoint_bits needs --checkpoint_bytes")
        facts["checkpoint_bits"] = arguments.number("--checkpoint_bits", options.checkpoint_bits)
    if run := arguments.run():
        if "flops" not in facts:
            raise InputError(f"--{next(iter(run))} is of the run of --flops: state both")
        facts["run"] = run
    return facts
