"""For which configs a template's kernels are right: those that differ only in what its probes varied.

Each shipped template says so itself (``valid_for``), with transformers' defaults beside, so that nothing has to be
imported to decide. The rule is strict: a field that nothing is known of makes a model of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from nbanalyzer.errors import FormulaError
from nbanalyzer.formulas.formula import Formula

from .config import extract_model_params
from .config_files import NOISE, TEXT_PARTS
from .families import canonical_name
from .template import Composite, Kernel, ModelTemplate

__all__ = ["DEFAULTS", "Difference", "differences", "ever_read", "filled", "flat", "is_noise", "unstated"]

DEFAULTS = "defaults"
"""Key in a template's provenance: the sizes that its config did not state, with transformers' defaults."""

NO_COST = re.compile(
    r"_token_ids?$|_token_index$|dropout|_pdrop$|initializer|_eps$|epsilon$|"
    r"^prefix$|^(local_|global_)?rope_theta$|^rope_local_base_freq$|^rotary_emb_base$|"
    r"^(max|min)_length$|^num_beams$|^(label|id)2(id|label)$|^summary_|^gradient_checkpointing$|aux_loss"
)
"""Fields about training, labels and generation, and what only scales values."""


SAID_ANYWAY = {"rope.partial_rotary_factor": 1, "rope.type": "default"}
"""What a config may say of a model whose class does not know the field: it is so where nothing is said."""


class Difference(NamedTuple):
    """A field in which a config and the one that a template was made for differ, and which nothing is known of.

    Attributes:
        field: its name in the config.
        stated: the config's value; transformers' default where it states none.
        made_for: the value that the template was made for; None where it has no such field.
        known: whether transformers' class has such a field.

    """

    field: str
    stated: object
    made_for: object
    known: bool = True


def differences(template: ModelTemplate, config: Mapping[str, Any]) -> list[Difference]:
    """Return what keeps a template from answering for a config; nothing if it does.

    Transformers' defaults are filled in on both sides. A size may differ if the template's probes varied it, and if
    it is stated, or follows from others by the family's rules, on both sides. What a template without ``valid_for``
    was made for is only known of the fields that its config states.
    """
    validity, own, other = template.valid_for, flat(template.config), flat(config)
    aliases = validity.aliases if validity else {}
    own, other = _renamed(own, aliases), _renamed(other, aliases)
    sizes = template.variables
    pairs = {part for pair in (validity.together if validity else ()) for part in pair.split("=")}
    found: list[Difference] = []
    for key in dict.fromkeys((*other, *own)):
        if is_noise(key) or (canonical_name(key) == "tie_word_embeddings" and "tie_word_embeddings" in sizes):
            continue
        if validity is None:
            if key not in other or key not in own:
                continue
            left, right = other[key], own[key]
        else:
            missing = key not in validity.defaults
            if missing and key not in own:
                if ever_read(template, key) and SAID_ANYWAY.get(key) != other[key]:
                    found.append(Difference(key, other[key], None, known=False))
                continue
            left, right = other.get(key, validity.defaults.get(key)), own.get(key, validity.defaults.get(key))
            if key in validity.derived and key not in own and key not in other:
                continue
        if left == right or _both_uniform(left, right):
            continue
        if validity and key in validity.indifferent and all(one is None or _is_number(one) for one in (left, right)):
            continue
        varied = canonical_name(key) in sizes or (validity is not None and (key in validity.varied or key in pairs))
        follows = left is None and validity is not None and key in validity.derived
        if varied and (follows or _may_vary(left, right)):
            continue
        found.append(Difference(key, left, right))
    if validity is not None:
        found += _unequal(validity.together, validity.apart, other, own, validity.defaults)
        found += [*_unrotated(validity.defaults, config), *_uneven(template, config)]
    return found + _untied(template, config)


def _unrotated(defaults: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield a head size whose rotated part is odd: rotary positions turn pairs."""
    if "rope.type" not in defaults:
        return
    share: Any = flat(config).get("rope.partial_rotary_factor", defaults.get("rope.partial_rotary_factor"))
    size = extract_model_params(config, required=()).get("head_dim")
    if size and int(size * (share if _is_number(share) else 1)) % 2:
        yield Difference("head_dim", size, "pairs that are rotated")


def _uneven(template: ModelTemplate, config: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield sizes that do not divide others evenly, where the template's own do.

    A formula with a floor division was fitted to even ones: groups of heads, say, which may share a remainder
    in another way, or not run at all. How many layers there are of each kind was seen at other depths.
    """
    if not template.divisions:
        return
    own, other = (extract_model_params(one, required=()) for one in (template.config, config))
    for division in sorted(template.divisions, key=str):
        changed = (name for name in division.variables if own.get(name) != other.get(name))
        names = [name for name in changed if not name.endswith("layers")]
        if not names or not all(name in own and name in other for name in division.variables):
            continue
        rest = Formula("%", arguments=division.arguments)
        try:
            uneven = not rest.evaluate(own) and bool(rest.evaluate(other))
        except FormulaError:
            uneven = True
        if uneven:
            yield Difference(names[-1], other[names[-1]], own[names[-1]])


def _untied(template: ModelTemplate, config: Mapping[str, Any]) -> list[Difference]:
    """Return whether the text part of a multimodal config says something else about tying than the whole.

    Which of them decides depends on where the head is. A whole that is silent is as the template's.
    """
    if not any(isinstance(config.get(part), Mapping) for part in TEXT_PARTS):
        return []
    part, whole = flat(config).get("tie_word_embeddings"), config.get("tie_word_embeddings")
    if whole is None:
        own, validity = template.config, template.valid_for
        whole = own.get("tie_word_embeddings", flat(own).get("tie_word_embeddings"))
        if whole is None and validity is not None:
            whole = validity.defaults.get("tie_word_embeddings")
    return [] if None in (whole, part) or whole == part else [Difference("tie_word_embeddings", part, whole)]


def _may_vary(left: object, right: object) -> bool:
    """Return whether a size that was varied may be `left` where the template was made for `right`.

    Null says that it follows from others, which a template that was made for null knows as well as one for a number;
    but where a number is null in a template that has one, there is no such part (``sliding_window``).
    """
    if right is None:
        return _is_number(left) and left != 0
    return _is_number(left) and _is_number(right) and (left == 0) == (right == 0)


def filled(template: ModelTemplate, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with transformers' defaults for the sizes of a template that it does not state."""
    return _put(dict(config), unstated(template, config))


def unstated(template: ModelTemplate, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return transformers' defaults for the sizes of a template that a config does not state."""
    validity = template.valid_for
    if validity is None:
        return {}
    sizes, known = template.variables, _renamed(flat(config), validity.aliases)
    return {
        key: value
        for key, value in validity.defaults.items()
        if key not in known and key not in validity.derived and value is not None and canonical_name(key) in sizes
    }


def _put(config: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    for part in TEXT_PARTS:
        if isinstance(config.get(part), Mapping):
            return {**config, part: _put(dict(config[part]), fields)}
    return {**fields, **config}


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config's text part; those of a nested part, such as ``attn_config``, with a dot."""
    while part := next((config[key] for key in TEXT_PARTS if isinstance(config.get(key), Mapping)), None):
        config = part
    return dict(_flattened(config))


def _flattened(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and key.endswith("_config"):
            yield from ((f"{key}.{inner}", one) for inner, one in value.items() if inner != "model_type")
        elif key in _ROPES and (value is None or isinstance(value, Mapping)):
            yield from ((f"rope.{inner}", one) for inner, one in _rope(value or {}))
        elif key in _ROTATED_PARTS:
            yield "rope.partial_rotary_factor", value
        elif key not in {"model_type", "architectures"}:
            yield key, value


_ROPES = ("rope_parameters", "rope_scaling")
"""What a config says of rotary positions, by its new name and its old one."""

_ROTATED_PARTS = ("partial_rotary_factor", "rotary_pct")
"""Where older configs say which part of a head is rotated."""


def _rope(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what of rotary positions decides on what is run: their kind, and the part of a head that is rotated."""
    parts = {key: one for key, one in value.items() if isinstance(one, Mapping)}
    for key, part in parts.items():  # one kind for each kind of layer
        yield from ((f"{key}.{inner}", one) for inner, one in _rope(part))
    if not parts:
        kind = value.get("rope_type") or value.get("type") or "default"
        yield "type", "default" if kind in _PLAIN_ROPES else kind
        if value.get("partial_rotary_factor") is not None:
            yield "partial_rotary_factor", value["partial_rotary_factor"]


_PLAIN_ROPES = frozenset({"default", "linear", "llama3", "yarn", "mrope"})
"""Kinds of rotary positions whose tables are made once, with the same operations afterwards."""


def _renamed(fields: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    return {aliases.get(key, key): value for key, value in fields.items()}


def _unequal(
    together: Iterable[str], apart: Iterable[str], other: Mapping[str, Any], own: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> Iterator[Difference]:  # fmt: skip
    """Yield pairs of sizes that have to change by the same factor, and pairs that may not become equal."""

    def values(fields: Mapping[str, Any], pair: str) -> tuple[Any, ...]:
        return tuple(fields.get(key, defaults.get(key)) for key in pair.split("="))

    for pair, is_apart in (*((one, False) for one in together), *((one, True) for one in apart)):
        left, right = pair.split("=")
        (a, b), (c, d) = values(other, pair), values(own, pair)
        # What is null follows from others, in a way that is only known where both say so.
        same = [(x is None) == (y is None) for x, y in ((a, c), (b, d))]
        if not all(same):
            yield Difference(right, b, d) if same[0] else Difference(left, a, c)
        elif None in {a, b, c, d}:
            continue
        elif is_apart and a == b and c != d:
            yield Difference(left, a, c)
        elif not is_apart and a * d != b * c:
            yield Difference(left, a, c) if a != c else Difference(right, b, d)


def is_noise(key: str) -> bool:
    """Return whether a field says nothing about what a model costs."""
    part, _, _ = key.rpartition(".")
    return key in NOISE or part in NOISE or bool(NO_COST.search(key.rpartition(".")[2]))


def _both_uniform(left: object, right: object) -> bool:
    """Return whether two lists of layers, of any lengths, say the same of every layer."""
    if not isinstance(left, list) or not isinstance(right, list) or not left or not right:
        return False
    return isinstance(left[0], str) and all(one == left[0] for one in (*left, *right))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- fields that transformers' class does not declare


def ever_read(template: ModelTemplate, key: str) -> bool:
    """Return whether the code of a template's model may read a config field that its class does not declare.

    It may if the name occurs in it at all. The files are read as text; nothing is imported.
    """
    words = _words(_folder_of(template.kernels))
    return not words or any(part in words for part in key.split("."))


def _folder_of(kernels: Iterable[Kernel]) -> str:
    """Return the model type whose code the kernels were traced in, ``""`` if there is none."""
    for kernel in kernels:
        if isinstance(kernel, Composite):
            found = re.fullmatch(r"transformers\.models\.(\w+)\..*", kernel.module)
            if inner := (found[1] if found else _folder_of(kernel.sub_kernels)):
                return inner
    return ""


_SHARED = ("cache_utils.py", "configuration_utils.py", "masking_utils.py", "modeling_layers.py",
           "modeling_rope_utils.py", "modeling_utils.py", "integrations/sdpa_attention.py")  # fmt: skip
"""The code that all models share, of what reads their configs."""


@lru_cache(maxsize=64)
def _words(folder: str) -> frozenset[str]:
    """Return all words in transformers' code of a model, and in what all models share; none where it is not found."""
    spec = find_spec("transformers")
    if not folder or spec is None or not spec.submodule_search_locations:
        return frozenset()
    root = Path(next(iter(spec.submodule_search_locations)))
    own = root / "models" / folder
    files = [*own.glob("configuration_*.py"), *own.glob("modeling_*.py"), *(root / name for name in _SHARED)]
    words: set[str] = set()
    try:
        for file in files:
            words.update(re.findall(r"\w+", file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(words)
