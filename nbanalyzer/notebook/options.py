"""The options of a magic's line, as they were declared: what may stand there, and what may follow it."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from typing import Any
from weakref import WeakKeyDictionary

from IPython.core import magic_arguments

__all__ = ["argument", "options_of"]

# A parser does not say what it takes, so it is noted here as it is told.
_DECLARED: WeakKeyDictionary[ArgumentParser, dict[str, Action]] = WeakKeyDictionary()


class argument(magic_arguments.argument):  # noqa: N801 - a decorator, with the name that IPython gave it
    """Declare an argument of a magic, as `argparse.ArgumentParser.add_argument` does."""

    def add_to_parser(self, parser: ArgumentParser, group: Any) -> None:
        """Tell the magic's parser."""
        action = (parser if group is None else group).add_argument(*self.args, **self.kwds)
        _DECLARED.setdefault(parser, {}).update(dict.fromkeys(action.option_strings, action))


def options_of(parser: ArgumentParser) -> dict[str, Action]:
    """Return option → its `nargs` and `choices`, in the order in which the options are declared."""
    return _DECLARED.get(parser, {})
