"""What a line of ``%draft`` says: the draft, where to save it, and the facts that it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbanalyzer.errors import InputError, quote
from nbanalyzer.files import read_file

from .arguments import Arguments

__all__ = ["facts", "source", "target"]


def source(arguments: Arguments, cell: str | None) -> Any:
    """Return the draft: the cell, what a ``$name`` is, or what is in a file."""
    named = arguments.options.draft
    if (named is None) == (cell is None):
        raise InputError("%draft takes one draft: the path of a .json file, $draft, or the cell of %%draft")
    if cell is not None:
        return cell
    draft = arguments.value(named)
    is_text = isinstance(draft, str) and draft.lstrip().startswith("{")  # of a $name
    return read_file(draft) if isinstance(draft, str | Path) and not is_text else draft


def target(arguments: Arguments) -> Path | None:
    """Return where the template is to be saved, or None."""
    if not arguments.options.save:
        return None
    path = Path(arguments.path(arguments.options.save))
    if path.suffix != ".json":
        raise InputError(f"--save takes the path of a .json file, not {quote(str(path))}")
    return path


def facts(arguments: Arguments) -> dict[str, Any]:
    """Return what the line states of the model; sizes and switches are of the run that its FLOPs are of."""
    options = arguments.options
    stated = arguments.values(("parameters", "flops", "checkpoint_bytes"))
    if options.checkpoint_bits is not None:
        if "checkpoint_bytes" not in stated:
            raise InputError("--checkpoint_bits needs --checkpoint_bytes")
        stated["checkpoint_bits"] = arguments.number("--checkpoint_bits", options.checkpoint_bits)
    if run := arguments.run():
        if "flops" not in stated:
            raise InputError(f"--{next(iter(run))} is of the run of --flops: state both")
        stated["run"] = run
    return stated
