"""Schemes that weights are stored in: which tensors there are in place of a matrix, as formulas, and which matrices.

The files ``schemes/<name>.json`` lie beside modules and models. A formula speaks of ``{out}`` and ``{in}``, the sizes
of the matrix, and of the scheme's own variables; what a name such as ``gptq-4-g128`` sets these to is one of its
*presets*.

>>> scheme_named("fp8-block").values
(('rows', 128), ('columns', 128), ('scale_bytes', 4))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from typing import Literal

import msgspec

from nbanalyzer.errors import FormulaError, InputError, TemplateError, near, quote
from nbanalyzer.files import decode
from nbanalyzer.formulas.formula import Formula, parse

from .library import folder
from .template import Tensor, _Struct

__all__ = [
    "DTYPES", "MODEL", "NONE", "Format", "Preset", "Role", "Rule", "Scheme", "SchemeFile", "dtype_of", "refused",
    "scheme_named", "scheme_names", "with_values",
]  # fmt: skip

NONE = "none"
"""In place of a scheme's name: all weights have the bits of the run, whatever the config says."""
MODEL = "model"
"""The dtype of all that no scheme narrows: the run's bits of a weight."""

DTYPES: Mapping[str, Fraction] = {
    "f32": Fraction(4), "f16": Fraction(2), "bf16": Fraction(2), "i32": Fraction(4), "u32": Fraction(4),
    "i8": Fraction(1), "u8": Fraction(1), "e4m3": Fraction(1), "e8m0": Fraction(1),
    "q4_0": Fraction(18), "q4_1": Fraction(20), "q5_0": Fraction(22), "q5_1": Fraction(24), "q8_0": Fraction(34),
    "q4_k": Fraction(144), "q5_k": Fraction(176), "q6_k": Fraction(210),
}  # fmt: skip
"""Dtype → bytes of an element; of llama.cpp's, of a block."""
FLOATS: Mapping[int, str] = {4: "f32", 2: MODEL, 1: "e8m0"}
"""Bytes of a scale → its dtype, where a scheme leaves it open."""

Role = Literal["linear", "expert", "head", "embedding", "router"]
"""What a matrix is of: a linear, an expert, the output embedding, the input embedding, what chooses experts."""

SIZES = ("out", "in")
LARGEST, FEWEST = 1_000_000, -1_000


class Format(_Struct, frozen=True, kw_only=True):
    """The tensors in place of a matrix.

    Attributes:
        tensors: what is stored; formulas over ``{out}``, ``{in}`` and the scheme's variables.
        requires: what has to be true of the sizes, each a condition.
        otherwise: the format to take where it is not; "" where the scheme cannot store such a matrix.

    """

    tensors: tuple[Tensor, ...]
    requires: tuple[str, ...] = ()
    otherwise: str = msgspec.field(default="", name="else")


class Rule(_Struct, frozen=True, kw_only=True):
    """Which matrices have a format: those that all conditions hold for.

    Attributes:
        format: its name.
        roles: what they are of; empty for all roles of the scheme.
        modules: last names of their modules; empty for all.
        when: a condition over the model's sizes and ``{layer}``; "" for always.
        count: in how many of ``{num_layers}`` layers it holds, where layers are alike and `when` speaks of them.

    """

    format: str
    roles: tuple[Role, ...] = ()
    modules: tuple[str, ...] = ()
    when: str = ""
    count: str = ""


class Preset(_Struct, frozen=True, kw_only=True):
    """A scheme with values for its variables.

    Attributes:
        values: of all its variables.
        rules: in place of the scheme's.
        precision: in place of the scheme's.

    """

    values: dict[str, int]
    rules: tuple[Rule, ...] = ()
    precision: str = ""


class SchemeFile(_Struct, frozen=True, kw_only=True):
    """A family of schemes, as in its file.

    Attributes:
        name: of the file.
        description: what it does, in a sentence.
        source: the code that writes it.
        variables: variable → its meaning.
        presets: name, as users write it → the values.
        precision: of the products, by the names of profiles, see `nbanalyzer.hardware.parameters.KNOWN`.
        roles: the matrices that it narrows where nobody says which.
        only_in_layers: whether only those inside the layers.
        leaves_out: paths of modules, as globs, that it leaves out where nobody says which.
        rules: which matrices have which format, the first that fits; the rest has the only format.
        formats: name → the tensors.
        rest: dtype of all other weights; "" for that of the run.
        has_mtp: whether its files keep layers that predict further tokens: converters leave them out.
        unsharded: why ranks do not shard its tensors (`torch.distributed.fsdp.fully_shard`); "" if they do.

    """

    name: str
    description: str
    source: str
    variables: dict[str, str] = msgspec.field(default_factory=dict)
    presets: dict[str, Preset]
    precision: str
    roles: tuple[Role, ...]
    only_in_layers: bool = False
    leaves_out: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    formats: dict[str, Format]
    rest: str = ""
    has_mtp: bool = True
    unsharded: str = ""


@dataclass(frozen=True)
class Scheme:
    """A scheme with values: ``gptq-4-g128``, or ``gptq-4-g128:group=32``.

    Attributes:
        preset: the name of its preset.
        values: variable → value, all of them.

    """

    preset: str
    values: tuple[tuple[str, int], ...]

    @cached_property
    def file(self) -> SchemeFile:
        """The family that it is of."""
        return _file(_presets()[self.preset])

    @property
    def name(self) -> str:
        """As users write it: the preset, and what differs from it."""
        usual = self.file.presets[self.preset].values
        others = [f"{name}={value}" for name, value in self.values if usual[name] != value]
        return f"{self.preset}:{','.join(others)}" if others else self.preset

    @property
    def precision(self) -> str:
        """The precision of its products, by the names of profiles."""
        own = self.file.presets[self.preset].precision or self.file.precision
        return "int8_wo" if own == "int4_wo" and dict(self.values).get("bits", 4) > 4 else own

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Which matrices have which format."""
        own = self.file.presets[self.preset].rules or self.file.rules
        return own if len(self.file.formats) > 1 else (*own, Rule(format=next(iter(self.file.formats))))

    def tensors(self, name: str, output: Formula, taken: Formula) -> Iterator[Tensor]:
        """Yield the tensors of a format in place of a matrix of `output` x `taken` elements.

        Args:
            name: of the format.
            output: rows of the matrix.
            taken: columns of the matrix.

        """
        known = dict(self.values)
        sizes: dict[str, Formula | int] = {"out": output, "in": taken, **known}
        for tensor in self.file.formats[name].tensors:
            elements = parse(tensor.elements).substitute(sizes)
            if not _is_nothing(parse(tensor.elements), known):
                rows = str(_folded(parse(tensor.rows).substitute(sizes))) if tensor.rows else ""
                dtype, text = dtype_of(tensor, known), str(_folded(elements))
                yield msgspec.structs.replace(tensor, dtype=dtype, elements=text, rows=rows)

    def requirements(self, name: str, output: Formula, taken: Formula) -> Iterator[tuple[str, Formula]]:
        """Yield what has to be true of a matrix in a format: over ``in`` and ``out``, and over the model's sizes."""
        sizes: dict[str, Formula | int] = {"out": output, "in": taken, **dict(self.values)}
        for text in self.file.formats[name].requires:
            shown = str(parse(text).substitute(dict(self.values))).replace("{", "").replace("}", "")
            yield shown, parse(text).substitute(sizes)


def dtype_of(tensor: Tensor, values: Mapping[str, int]) -> str:
    """Return the dtype of a tensor, which may be that of so many bytes as a variable says."""
    if not tensor.dtype.startswith("{"):
        return tensor.dtype
    return FLOATS[values[tensor.dtype.strip("{}")]]


def scheme_names() -> tuple[str, ...]:
    """Return the names of all presets, as users write them."""
    return tuple(_presets())


def scheme_named(text: str) -> Scheme:
    """Return the scheme of a name, which may set variables: ``gptq-4-g128:group=32``.

    Raises:
        InputError: there is none, or it has no such variable.

    """
    if not isinstance(text, str):
        raise InputError(f"quant is {NONE} or the name of a scheme, such as fp8-block, not {quote(text)}")
    return _named(text)


@lru_cache(maxsize=256)
def _named(text: str) -> Scheme:
    name, _, changes = text.partition(":")
    if name not in _presets():
        begun = [preset for preset in _presets() if _plain(preset).startswith(_plain(name))] if name else []
        close = begun[:3] or near(name, _presets())
        some = f"a scheme, such as {' or '.join(close)}" if close else f"one of {', '.join(scheme_names())}"
        raise InputError(f"quant is {NONE} or {some}, not {quote(text)}")
    scheme = Scheme(name, tuple(_file(_presets()[name]).presets[name].values.items()))
    given: dict[str, int] = {}
    for change in changes.split(",") if changes else ():
        variable, equals, number = change.partition("=")
        if not equals or not number.lstrip("-").isdecimal() or len(number) > 7:
            raise InputError(f"quant={quote(text)}: after the colon stand VARIABLE=NUMBER, not {quote(change)}")
        given[variable.strip()] = int(number)
    return with_values(scheme, given)


def _plain(name: str) -> str:
    """Return a name as people type it, without what separates its parts."""
    return "".join(filter(str.isalnum, name.casefold()))


def with_values(scheme: Scheme, values: Mapping[str, int]) -> Scheme:
    """Return a scheme with other values of some variables.

    Raises:
        InputError: it has no such variable, or the value cannot be.

    """
    known = dict(scheme.values)
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{scheme.preset} has no variable {quote(name)}: it has {', '.join(known) or 'none'}")
        if problem := refused(name, value):
            raise InputError(f"{name} of {scheme.preset} is {problem}, not {quote(value)}")
    return Scheme(scheme.preset, tuple((known | dict(values)).items()))


def refused(name: str, value: object) -> str:
    """Return what a variable's value is, if it is not that."""
    if isinstance(value, bool) or not isinstance(value, int) or not FEWEST <= value <= LARGEST:
        return f"a whole number to {LARGEST:,}"
    if name == "bits" and not 1 <= value <= 16:
        return "a number of bits from 1 to 16"
    if name == "scale_bytes" and value not in FLOATS:
        return "1, 2 or 4"
    if name in {"rows", "columns"} and value < 1:
        return "a whole number from 1"
    return "-1 or a whole number from 1" if name == "group" and (value < -1 or value == 0) else ""


def _is_nothing(elements: Formula, values: Mapping[str, int]) -> bool:
    """Return whether a tensor has no elements whatever the sizes are: a variable of the scheme leaves it out."""
    return all(elements.evaluate({**values, **dict.fromkeys(SIZES, size)}) == 0 for size in (1, 3840))


def _folded(formula: Formula) -> Formula:
    """Return a formula with an ``if`` decided where its condition has no variables."""
    return formula.substitute({})


@cache
def _presets() -> Mapping[str, str]:
    """Return preset → the name of its file."""
    return {preset: name for name in _names() for preset in _file(name).presets}


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(file.name.removesuffix(".json") for file in folder("schemes").iterdir()))


@cache
def _file(name: str) -> SchemeFile:
    where = f"schemes/{name}.json"
    return checked(decode((folder("schemes") / f"{name}.json").read_bytes(), SchemeFile, where), where)


def checked(file: SchemeFile, where: str) -> SchemeFile:
    """Return a family of schemes, its formulas and names checked.

    Raises:
        TemplateError: a formula that cannot be read, a variable, format or dtype that there is not.

    """
    known = {*SIZES, *file.variables}
    for name, form in file.formats.items():
        if form.otherwise and form.otherwise not in file.formats:
            raise TemplateError(f"no format {quote(form.otherwise)}", f"{where}, formats.{name}.else")
        texts = [(f"tensors.{tensor.name}", tensor.elements) for tensor in form.tensors]
        texts += [(f"tensors.{tensor.name}, rows", tensor.rows) for tensor in form.tensors if tensor.rows]
        texts += [("requires", text) for text in form.requires]
        texts += [(f"tensors.{t.name}, dtype", t.dtype) for t in form.tensors if t.dtype.startswith("{")]
        for place, text in texts:
            _check_formula(text, known, f"{where}, formats.{name}.{place}")
        for tensor in form.tensors:
            if tensor.dtype not in {*DTYPES, MODEL} and not tensor.dtype.startswith("{"):
                raise TemplateError(f"no dtype {quote(tensor.dtype)}", f"{where}, formats.{name}.tensors.{tensor.name}")
    for preset, one in file.presets.items():
        if one.values.keys() != file.variables.keys():
            raise TemplateError("a preset has a value for every variable, and no others", f"{where}, presets.{preset}")
        for rule in (*one.rules, *file.rules):
            if rule.format not in file.formats:
                raise TemplateError(f"no format {quote(rule.format)}", f"{where}, presets.{preset}")
            for text in filter(None, (rule.when, rule.count)):
                _check_formula(text, None, f"{where}, presets.{preset}")
    return file


def _check_formula(text: str, known: set[str] | None, where: str) -> None:
    try:
        used = parse(text).variables
    except FormulaError as error:
        raise TemplateError(str(error), where) from None
    for name in used:
        if known is not None and name not in known:
            raise TemplateError(f"no variable {{{name}}}: there are {', '.join(sorted(known))}", where)
