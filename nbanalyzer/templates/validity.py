"""The configs that a template's kernels are valid for: those that differ only in fields that its probes varied.

Each shipped template states them (``valid_for``), with transformers' defaults, so that nothing has to be imported to
decide. The rule is strict: a difference in an unknown field makes a model of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from nbanalyzer.errors import FormulaError
from nbanalyzer.formulas.formula import Formula

from .config import extract_model_params
from .config_fields import flat, of_whole, placed, variable_of
from .config_files import NOISE, put, text_part
from .families import canonical_name
from .media import variables_of
from .template import Composite, Kernel, ModelTemplate, Validity, walk

__all__ = [
    "DEFAULTS", "Difference", "changeable", "differences", "ever_read", "filled", "flat", "is_noise", "unstated",
]  # fmt: skip

DEFAULTS = "defaults"
"""Key in a template's provenance: transformers' defaults of the sizes that its config did not state."""

NO_COST = re.compile(
    r"_token_ids?$|_token_index$|dropout|_pdrop$|initializer|_eps$|epsilon$|"
    r"^prefix$|^(local_|global_)?rope_theta$|^rope_local_base_freq$|^rotary_emb_base$|"
    r"^(max|min)_length$|^num_beams$|^(label|id)2(id|label)$|^summary_|^gradient_checkpointing$|aux_loss"
)
"""Fields about training, labels and generation, and scales of values."""

SAID_ANYWAY = {"rope.partial_rotary_factor": 1, "rope.type": "default"}
"""Values of fields that a config's class does not know, and that hold without the field too."""


class Difference(NamedTuple):
    """A field by which a config differs from the one that a template was made for, with unknown effect.

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
    """Return the differences that make a template invalid for a config.

    Transformers' defaults are filled in on both sides. A size may differ if the template's probes varied it, and if
    it is stated, or follows from others by the family's rules, on both sides. Of a template without ``valid_for``,
    only the fields that both configs state are compared. Of a whole that reads images or sound, the fields of all its
    parts are, and those that may differ are listed: a formula that has one may stand beside a number that follows
    from it.
    """
    validity, is_whole = template.valid_for or Validity(), template.reads is not None
    fields_of = of_whole if is_whole else flat
    own, stated = (_renamed(fields_of(fields), validity.aliases) for fields in (template.config, config))
    sizes = frozenset[str]() if is_whole else template.variables
    varied = _varied(validity)
    result: list[Difference] = []
    for key in dict.fromkeys((*stated, *own)):
        if is_noise(key) or (canonical_name(key) == "tie_word_embeddings" and "tie_word_embeddings" in sizes):
            continue
        if template.valid_for is None and not (key in stated and key in own):
            continue
        if key not in validity.defaults and key not in own:
            if ever_read(template, key) and SAID_ANYWAY.get(key) != stated[key]:
                result.append(Difference(key, stated[key], None, known=False))
            continue
        left, right = stated.get(key, validity.defaults.get(key)), own.get(key, validity.defaults.get(key))
        is_derived = key in validity.derived
        if left == right or _both_uniform(left, right) or (is_derived and key not in own and key not in stated):
            continue
        if key in validity.indifferent and all(value is None or _is_number(value) for value in (left, right)):
            continue
        if (canonical_name(key) in sizes or key in varied) and (
            (left is None and is_derived) or _may_vary(left, right)
        ):
            continue
        result.append(Difference(key, left, right))
    result += _unequal(validity.together, validity.apart, stated, own, validity.defaults)
    result += _below(validity, stated)
    result += _unrotated(validity.defaults, config)
    result += _uneven(template, config) if template.valid_for else ()
    return result if is_whole else result + _untied(template, config)


def changeable(template: ModelTemplate) -> tuple[str, ...]:
    """Return the variables of a whole that reads images or sound that may have other values, see `differences`."""
    known = {canonical_name(variable_of(key)) for key in _varied(template.valid_for or Validity())}
    return tuple(sorted(known))


def _varied(validity: Validity) -> frozenset[str]:
    return frozenset({*validity.varied, *(part for pair in validity.together for part in pair.split("="))})


def _below(validity: Validity, stated: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield fields with a smaller value than the formulas hold for."""
    for key, least in validity.least.items():
        value: Any = stated.get(key)
        if _is_number(value) and value < least:
            yield Difference(key, value, f"{least} or more")


def _unrotated(defaults: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield a head size with an odd rotated part: rotary positions rotate pairs."""
    if "rope.type" not in defaults:
        return
    share: Any = flat(config).get("rope.partial_rotary_factor", defaults.get("rope.partial_rotary_factor"))
    if isinstance(share, float) and not isfinite(share):
        yield Difference("rope.partial_rotary_factor", share, defaults.get("rope.partial_rotary_factor"))
        return
    size = extract_model_params(config, required=()).get("head_dim")
    if size and int(size * (share if _is_number(share) else 1)) % 2:
        yield Difference("head_dim", size, "pairs that are rotated")


def _uneven(template: ModelTemplate, config: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield sizes that leave a remainder in a floor division, where the template's own leave none.

    The formula was fitted without remainders: groups of heads may share one in another way, or not run at all.
    Numbers of layers are exempt: the probes varied the depth.
    """
    if not template.divisions:
        return
    own, sizes = (extract_model_params(fields, required=()) for fields in (template.config, config))
    for division in sorted(template.divisions, key=str):
        changed = (name for name in division.variables if own.get(name) != sizes.get(name))
        names = [name for name in changed if not name.endswith("layers")]
        if not names or not all(name in own and name in sizes for name in division.variables):
            continue
        remainder = Formula("%", arguments=division.arguments)
        try:
            is_uneven = not remainder.evaluate(own) and bool(remainder.evaluate(sizes))
        except FormulaError:
            is_uneven = True
        if is_uneven:
            yield Difference(names[-1], sizes[names[-1]], own[names[-1]])


def _untied(template: ModelTemplate, config: Mapping[str, Any]) -> list[Difference]:
    """Return the difference if text part and whole of a multimodal config disagree about tied embeddings.

    Which one holds depends on where the head is. If the whole does not state it, the template's config does.
    """
    if not text_part(config):
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

    Null in the template's config means that the size follows from others: any number may replace it. Null in the
    other config may mean that there is no such part (``sliding_window``).
    """
    if right is None:
        return _is_number(left) and left != 0
    return _is_number(left) and _is_number(right) and (left == 0) == (right == 0)


def filled(template: ModelTemplate, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the defaults of `unstated` filled in."""
    if template.reads is None:
        return _put(dict(config), unstated(template, config))
    found = dict(config)
    for key, value in unstated(template, config).items():
        put(found, placed(found, key), value)
    return found


def unstated(template: ModelTemplate, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return transformers' defaults for the sizes of a template that a config does not state."""
    validity = template.valid_for
    if validity is None:
        return {}
    is_whole = template.reads is not None
    known = _renamed(of_whole(config) if is_whole else flat(config), validity.aliases)
    sizes = template.variables | (variables_of(template.reads) if template.reads else frozenset())
    return {
        key: value
        for key, value in validity.defaults.items()
        if key not in known and key not in validity.derived and value is not None
        if canonical_name(variable_of(key) if is_whole else key) in sizes
    }


def _put(config: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    if part := text_part(config):
        return {**config, part: _put(dict(config[part]), fields)}
    return {**fields, **config}


def _renamed(fields: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    return {aliases.get(key, key): value for key, value in fields.items()}


def _unequal(
    together: Iterable[str], apart: Iterable[str], stated: Mapping[str, Any], own: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> Iterator[Difference]:  # fmt: skip
    """Yield differences in pairs of sizes that have to change by the same factor, or must not be equal."""

    def values(fields: Mapping[str, Any], pair: str) -> tuple[Any, ...]:
        return tuple(fields.get(key, defaults.get(key)) for key in pair.split("="))

    for pair, is_apart in (*((pair, False) for pair in together), *((pair, True) for pair in apart)):
        left, right = pair.split("=")
        (a, b), (c, d) = values(stated, pair), values(own, pair)
        # Null means that a size follows from others, by a rule that only holds if it is null on both sides.
        same = [(x is None) == (y is None) for x, y in ((a, c), (b, d))]
        if not all(same):
            yield Difference(right, b, d) if same[0] else Difference(left, a, c)
        elif any(value is None for value in (a, b, c, d)):
            continue
        elif not all(map(_is_number, (a, b, c, d))):
            if (a, b) != (c, d):
                yield Difference(left, a, c) if a != c else Difference(right, b, d)
        elif is_apart and a == b and c != d:
            yield Difference(left, a, c)
        elif not is_apart and a * d != b * c:
            yield Difference(left, a, c) if a != c else Difference(right, b, d)


def is_noise(key: str) -> bool:
    """Return whether a field has no influence on what a model costs."""
    part, _, _ = key.rpartition(".")
    return key in NOISE or part in NOISE or bool(NO_COST.search(key.rpartition(".")[2]))


def _both_uniform(left: object, right: object) -> bool:
    """Return whether two lists, of any lengths, have the same word for every layer."""
    if not isinstance(left, list) or not isinstance(right, list) or not left or not right:
        return False
    return isinstance(left[0], str) and all(layer == left[0] for layer in (*left, *right))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- fields that transformers' class does not declare


def ever_read(template: ModelTemplate, key: str) -> bool:
    """Return whether the code of a template's model may read a config field that its class does not declare.

    It may if the name occurs in the code. The files are read as text; nothing is imported.
    """
    words = _words(_folder_of(template.kernels))
    return not words or any(part in words for part in key.split("."))


def _folder_of(kernels: Iterable[Kernel]) -> str:
    """Return the model type whose code the kernels were traced in; "" if there is none."""
    modules = (kernel.module for _, kernel in walk(kernels) if isinstance(kernel, Composite))
    found = (re.fullmatch(r"transformers\.models\.(\w+)\..*", module) for module in modules)
    return next((match[1] for match in found if match), "")


_SHARED = ("cache_utils.py", "configuration_utils.py", "masking_utils.py", "modeling_layers.py",
           "modeling_rope_utils.py", "modeling_utils.py", "integrations/sdpa_attention.py")  # fmt: skip
"""The shared code that reads configs."""


@lru_cache(maxsize=64)
def _words(folder: str) -> frozenset[str]:
    """Return all words in transformers' code of a model and in the shared code; none if it is not found."""
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
