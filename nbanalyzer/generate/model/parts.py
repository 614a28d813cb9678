"""Parts of a config of which nothing is stated: what the whole's class says of them."""

from __future__ import annotations

from typing import Any

from nbanalyzer.templates.config_files import essential

__all__ = ["own_part"]


def own_part(config: Any, name: str) -> dict[str, Any]:
    """Return what a whole's class says of one of its parts that the part's own class does not, which is silent else.

    Canary's encoder hears 128 bands of sound, for example, and one of the encoder's class 80. Lists of layers, which
    follow from the number of them, are not among them.
    """
    part: Any = getattr(config, name, None)
    if not hasattr(part, "to_dict"):
        return {}
    own, usual = (essential(one.to_dict()) for one in (part, type(part)()))
    return {field: value for field, value in own.items() if field == "model_type" or value != usual.get(field)}
