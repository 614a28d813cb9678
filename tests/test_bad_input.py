"""Bad input: each is an error of ours, one short line that quotes what is wrong, and nothing is half done."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import basic, composite
from builders import template as own

from nbanalyzer import (
    Accelerator,
    compare,
    expand,
    extract_model_params,
    parse_formula,
    populate,
    request,
    solve,
    validate_template,
)
from nbanalyzer.errors import (
    ConfigError,
    FormulaError,
    InputError,
    NBAnalyzerError,
    TemplateError,
    UnknownNameError,
    UnresolvedVariablesError,
    near,
    shorten,
)

HUGE = 10**5_000  # Python refuses to print it
LONG = "x" * 9_000
GRID = np.arange(9).reshape(3, 3)  # prints on three lines


def part(*subs: Mapping[str, Any], name: str = "part", **fields: Any) -> dict[str, Any]:
    return composite(name, *subs, **fields)


def show(model: Any, **run: Any) -> None:
    """Populate, and look at the result in every way there is."""
    analysis = populate(model, **run)
    repr(analysis)
    analysis._repr_mimebundle_()
    json.dumps(analysis.tree)
    analysis.table()
    analysis.formula("flops")
    repr(analysis.explain("flops"))


def the_error(call: Callable[[], object]) -> NBAnalyzerError:
    with pytest.raises(NBAnalyzerError) as caught:
        call()
    return caught.value


def check(error: NBAnalyzerError) -> None:
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1
    assert message == message.strip()
    assert len(message) < 400
    assert error._render_traceback_() == [f"{type(error).__name__}: {message}"]
    error.__traceback__ = error.__context__ = None  # distributed, once imported, has them pickled too
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == message
    assert vars(again) == vars(error)


def gpt2(**options: Any) -> Callable[[], object]:
    return lambda: populate("gpt2", **options)


def template(data: Any, **run: Any) -> Callable[[], object]:
    return lambda: show(data, **run)


CARD = Accelerator(name="card", memory_bytes=10**9, bandwidth=1e12, peaks={"bf16": 1e14})
NAMELESS = Accelerator(name="x" * 900, bandwidth=1e12)


# name → what is done, the kind of error, what the message quotes
BAD: dict[str, tuple[Callable[[], object], type[NBAnalyzerError], str]] = {
    "unknown model": (lambda: populate("gtp2"), UnknownNameError, "'gtp2'"),
    "model outside the catalogue": (lambda: populate("../../etc/passwd"), UnknownNameError, "'../../etc/passwd'"),
    "model of another type": (lambda: populate(3.5), InputError, "float"),  # type: ignore[arg-type]
    "unknown option": (gpt2(sequence_len=5), UnknownNameError, "'sequence_len'"),
    "unknown option, near": (gpt2(seqlen=5), UnknownNameError, "'seq_len'"),
    "unknown option, long": (gpt2(**{LONG: 5}), UnknownNameError, "xxx"),
    "unknown option with a newline": (gpt2(**{"a\nb": 5}), UnknownNameError, "a\\nb"),
    "negative": (gpt2(seq_len=-3), InputError, "-3"),
    "zero": (gpt2(batch_size=0), InputError, "not 0"),
    "negative cache": (gpt2(cache_len=-1), InputError, "-1"),
    "large": (gpt2(seq_len=2**40 + 1), InputError, str(2**40 + 1)),
    "larger": (gpt2(seq_len=10**300), InputError, "seq_len"),
    "huge": (gpt2(seq_len=HUGE), InputError, "seq_len"),
    "huge and negative": (gpt2(cache_len=-HUGE), InputError, "cache_len"),
    "a float": (gpt2(seq_len=2.5), InputError, "2.5"),
    "a whole float": (gpt2(seq_len=2.0), InputError, "2.0"),
    "not a number": (gpt2(seq_len=float("nan")), InputError, "nan"),
    "infinite": (gpt2(seq_len=float("inf")), InputError, "inf"),
    "text": (gpt2(seq_len="2048"), InputError, "'2048'"),
    "long text": (gpt2(seq_len=LONG), InputError, "xxx"),
    "text with a newline": (gpt2(seq_len="a\nb"), InputError, "a\\nb"),
    "none": (gpt2(seq_len=None), InputError, "None"),
    "a bool": (gpt2(seq_len=True), InputError, "True"),
    "an array": (gpt2(seq_len=GRID), InputError, "array"),
    "no bits": (gpt2(w_bit=0), InputError, "w_bit"),
    "too many bits": (gpt2(kv_bit=65), InputError, "65"),
    "half bits": (gpt2(a_bit=1.5), InputError, "1.5"),
    "unknown choice": (gpt2(attn="flash"), InputError, "'flash'"),
    "choice of another type": (gpt2(logits=["last"]), InputError, "last"),
    "long choice": (gpt2(logits=LONG), InputError, "xxx"),
    "choice with a newline": (gpt2(attn="a\nb"), InputError, "a\\nb"),
    "an array as choice": (gpt2(causal=GRID), InputError, "array"),
    "no truth value": (gpt2(causal="perhaps"), InputError, "'perhaps'"),
    "set without effect": (gpt2(set={"num_kv_heads": 4}), InputError, "num_kv_heads=4"),
    "set of an unknown name": (gpt2(set={"hidden": 4}), UnknownNameError, "'hidden'"),
    "set of a long name": (gpt2(set={LONG: 4}), UnknownNameError, "xxx"),
    "set of a number": (gpt2(set={5: 4}), NBAnalyzerError, "5"),
    "set to text": (gpt2(set={"hidden_size": "many"}), InputError, "'many'"),
    "set to long text": (gpt2(set={"hidden_size": LONG}), InputError, "xxx"),
    "set to a float": (gpt2(set={"hidden_size": 1.5}), InputError, "1.5"),
    "set to a negative": (gpt2(set={"hidden_size": -4}), InputError, "-4"),
    "set to a huge one": (gpt2(set={"hidden_size": HUGE}), InputError, "hidden_size"),
    "set to an array": (gpt2(set={"hidden_size": GRID}), InputError, "array"),
    "set to what contradicts": (gpt2(set={"hidden_size": 1000}), ConfigError, "1000"),
    "set that is a list": (gpt2(set=["num_heads=4"]), InputError, "num_heads=4"),
    "set that is text": (gpt2(set="num_heads=4"), InputError, "num_heads=4"),
    "config that is none": (gpt2(config=5), InputError, "5"),
    "config of nothing": (gpt2(config={}), ConfigError, "hidden_size"),
    "config nowhere": (gpt2(config="/no/such/config.json"), ConfigError, "/no/such/config.json"),
    "config with a long name": (gpt2(config="a" * 5_000), ConfigError, "aaa"),
    "config with a nul": (gpt2(config="a\0b"), ConfigError, "null"),
    "config of another model": (gpt2(config={"model_type": "bloom", "n_embd": 4}), ConfigError, "bloom"),
    "config of a long type": (gpt2(config={"model_type": LONG}), ConfigError, "xxx"),
    "template that is a list": (lambda: validate_template([]), TemplateError, "array"),  # type: ignore[arg-type]
    "unknown field": (template(own(basic("1"), colour=1)), TemplateError, "colour"),
    "unknown long field": (template(own(basic("1"), **{LONG: 1})), TemplateError, "xxx"),
    "unknown field with a newline": (template(own(basic("1"), **{"a\nb": 1})), TemplateError, "a"),
    "disallowed variable": (template(own(basic("{output_size}"))), UnresolvedVariablesError, "{output_size}"),
    "many disallowed variables": (
        template(own(*(basic(f"{{{chr(97 + n) * 100}}}") for n in range(9)))), UnresolvedVariablesError, "aaa",
    ),
    "disallowed far down": (
        template(own(part(part(part(part(basic("{v}"), name="d" * 99), name="c" * 99), name="b" * 99), name="a" * 99))),
        UnresolvedVariablesError, "{v}",
    ),
    "disallowed in a model with a long name": (
        template(own(basic("{v}")) | {"model_id": LONG}), NBAnalyzerError, "",
    ),
    "disallowed in a model with a newline": (template(own(basic("{v}")) | {"model_id": "a\nb"}), NBAnalyzerError, ""),
    "disallowed in a binding with a newline": (
        template(own(part(basic("1"), bindings={"a\nb": "{v}"}))), TemplateError, "",
    ),
    "disallowed in a binding with a long name": (
        template(own(part(basic("1"), bindings={LONG: "{v}"}))), TemplateError, "xxx",
    ),
    "bad formula in a state with a newline": (template(own(basic("1"), state={"a\nb": "1 +"})), TemplateError, "1 +"),
    "bad name": (template(own(part(basic("1"), name="a/../b"))), TemplateError, "'a/../b'"),
    "operation with a newline": (template(own(basic(name="a\nb"))), TemplateError, "a\\nb"),
    "unknown module": (lambda: expand(own(part(module="Linaer"))), TemplateError, "'Linaer'"),
    "module with a long name": (lambda: expand(own(part(module=LONG))), TemplateError, "xxx"),
    "binding with a long name": (lambda: expand("torch.add", {"num_elements": 1, LONG: 1}), TemplateError, "xxx"),
    "missing binding": (lambda: expand("torch.add"), UnresolvedVariablesError, "['num_elements']"),
    "extends nothing": (template({"extends": "openai/gpt2"}), TemplateError, "'openai/gpt2'"),
    "extends a long name": (template({"extends": LONG}), TemplateError, "xxx"),
    "tower": (template(own(basic("9**9**9"))), NBAnalyzerError, "9 ** 9 ** 9"),
    "tower of variables": (
        template(own(basic("{seq_len} ** {seq_len}")), seq_len=10**6), NBAnalyzerError, "{seq_len} ** {seq_len}",
    ),
    "parentheses": (template(own(basic("(" * 10_000))), NBAnalyzerError, "((("),
    "ten thousand and one": (template(own(basic("1" * 10_001))), NBAnalyzerError, "10,001"),
    "division by zero": (template(own(basic("1 / {cache_len}"))), NBAnalyzerError, "1 / {cache_len}"),
    "negative cost": (template(own(basic("1 - {seq_len}"))), TemplateError, "1 - {seq_len}"),
    "negative cost of a thousand digits": (
        template(own(basic("0 - " + " * ".join(["10**64"] * 100)))), NBAnalyzerError, "10 ** 64",
    ),
    "negative state": (template(own(basic("1"), state={"kv_cache": "0 - 5"})), NBAnalyzerError, "-5"),
    "half a repeat": (template(own(part(basic("1"), repeat="1 / 2"))), TemplateError, "1/2"),
    "value that is missing": (template(own(basic("{hidden_size}"))), ConfigError, "hidden_size"),
    "unknown metric": (lambda: populate("gpt2").formula("flop"), UnknownNameError, "'flop'"),
    "unknown kernel": (lambda: populate("gpt2").explain("a\nb"), UnknownNameError, "a\\nb"),
    "long kernel": (lambda: populate("gpt2").find(LONG), UnknownNameError, "xxx"),
    "depth zero": (lambda: populate("gpt2").table(0), InputError, "0"),
    "depth of text": (lambda: populate("gpt2").table(LONG), InputError, "xxx"),  # type: ignore[arg-type]
    "depth of an array": (lambda: populate("gpt2").table(GRID), InputError, "array"),  # type: ignore[arg-type]
    "file type": (lambda: populate("gpt2").save("x.pdf"), InputError, "'x.pdf'"),
    "long file type": (lambda: populate("gpt2").save(LONG), InputError, "xxx"),
    "file with a nul": (lambda: populate("gpt2").save("a\0b.json"), InputError, "a\\x00b.json"),
    "file under a file": (lambda: populate("gpt2").save("/etc/passwd/x.json"), InputError, "/etc/passwd/x.json"),
    "unknown accelerator": (lambda: populate("gpt2").on("h1000"), UnknownNameError, "'h1000'"),
    "long accelerator": (lambda: populate("gpt2").on(LONG), UnknownNameError, "xxx"),
    "accelerator with a newline": (lambda: populate("gpt2").fits("a\nb"), UnknownNameError, "a\\nb"),
    "accelerator with a nul": (lambda: populate("gpt2").on("a\0b.json"), InputError, "a\ufffdb.json"),
    "accelerator of another type": (lambda: populate("gpt2").on(GRID), InputError, "array"),  # type: ignore[arg-type]
    "no accelerator": (lambda: populate("gpt2").on(None), InputError, "say which hardware"),
    "peak that is not known": (lambda: CARD.ridge(8), InputError, "the fp8 or int8 peak"),
    "balance without a peak": (lambda: solve("gpt2", "apple-m5", balance="seq_len"), InputError, "known peaks: fp32"),
    "balance without a peak, long": (lambda: solve("gpt2", NAMELESS, balance="seq_len"), InputError, "xxx"),
    "memory that is not known": (lambda: populate("gpt2").fits("core-i9-13900k"), InputError, "core-i9-13900k"),
    "memory that is not known, long": (lambda: populate("gpt2").fits(NAMELESS), InputError, "xxx"),
    "no efficiency": (lambda: populate("gpt2").on(CARD, compute_efficiency=0), InputError, "not 0"),
    "efficiency of an array": (lambda: populate("gpt2").on(CARD, compute_efficiency=GRID), InputError, "array"),  # type: ignore[arg-type]
    "efficiency of text": (lambda: populate("gpt2").on(CARD, bandwidth_efficiency=LONG), InputError, "xxx"),  # type: ignore[arg-type]
    "negative overhead": (lambda: populate("gpt2").on(CARD, launch_overhead=-1), InputError, "-1"),
    "huge overhead": (lambda: populate("gpt2").on(CARD, launch_overhead=HUGE), InputError, "thousands of digits"),
    "comparison of one": (lambda: compare("gpt2"), InputError, "not 1"),
    "comparison of an unknown model": (lambda: compare("gpt2", "gpt9"), UnknownNameError, "'gpt9'"),
    "comparison of too many": (lambda: compare("gpt2", seq_len=range(1, 10**6)), InputError, "not 999999"),
    "comparison by an unknown metric": (lambda: compare("gpt2", "gpt2").modules(LONG), UnknownNameError, "xxx"),
    "comparison on an unknown accelerator": (lambda: compare("gpt2", hardware=["t4", "t5"]), UnknownNameError, "'t5'"),
    "prompt of nothing": (lambda: request("gpt2", prompt_len=0, output_len=1), InputError, "prompt_len"),
    "output of nothing": (lambda: request("gpt2", prompt_len=1, output_len=0), InputError, "output_len"),
    "output of an array": (lambda: request("gpt2", prompt_len=1, output_len=GRID), InputError, "array"),  # type: ignore[arg-type]
    "huge output": (lambda: request("gpt2", prompt_len=1, output_len=HUGE), InputError, "output_len"),
    "request of an encoder": (lambda: request("bert-base-uncased", prompt_len=4, output_len=4), InputError, "keeps nothing"),
    "nothing to solve": (lambda: solve("gpt2", CARD), InputError, "maximize=…"),
    "solving for text": (lambda: solve("gpt2", CARD, maximize=LONG), InputError, "xxx"),  # type: ignore[arg-type]
    "solving for an array": (lambda: solve("gpt2", CARD, balance=GRID), InputError, "array"),  # type: ignore[arg-type]
    "solving what is given": (lambda: solve("gpt2", CARD, maximize="seq_len", seq_len=5), InputError, "seq_len"),
    "solving without memory": (lambda: solve("gpt2", NAMELESS, maximize="seq_len"), InputError, "xxx"),
    "formula": (lambda: parse_formula("2 * x"), FormulaError, "2 * ▸ x"),
    "config path": (lambda: extract_model_params("/no/such/file"), ConfigError, "/no/such/file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, kind, quoted = BAD[name]
    error = the_error(call)
    assert isinstance(error, kind)
    assert quoted in str(error)
    check(error)
    assert list(tmp_path.iterdir()) == []


EITHER: dict[str, dict[str, Any]] = {
    "surrogate in the name": own(basic("1")) | {"model_id": "\ud800"},
    "surrogate in a description": own(part(basic("1"), description="\ud800")),
    "config that is no json": own(basic("1"), config={"a": object()}),
    "config of numpy integers": own(basic("{a}"), config={"a": np.int64(4)}),
    "cost beyond a float": own(basic(" * ".join(["10**64"] * 10))),
    "bytes beyond a float": own(basic("1", " * ".join(["10**64"] * 10))),
    "repeats beyond a float": own(part(basic("1"), repeat=" * ".join(["10**64"] * 10))),
    "cost of a thousand digits": own(basic(" * ".join(["10**64"] * 100))),
    "state of a thousand digits": own(basic("1"), state={"kv_cache": " * ".join(["10**64"] * 100)}),
}


@pytest.mark.parametrize("name", EITHER)
def test_what_might_be_shown_is_shown_or_refused(name: str) -> None:
    """Refusing and showing are both fine; any other error is not."""
    try:
        show(EITHER[name])
    except NBAnalyzerError as error:
        check(error)


def test_an_option_that_is_not_there_lists_the_choices_once() -> None:
    message = str(the_error(gpt2(foo=1)))
    assert message.count("batch_size") == 1
    assert "kv_bit" in message


@pytest.mark.parametrize("depth", [100, 200, 400, 1_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_deep_template_is_shown_or_refused(depth: int) -> None:
    kernel = basic("1")
    for _ in range(depth):
        kernel = {"kernel_type": "composite", "name": "a", "sub_kernels": [kernel]}
    try:
        show(own(kernel))
    except NBAnalyzerError as error:
        check(error)


def test_a_cause_is_not_shown_beside_the_line() -> None:
    for name in ("disallowed variable", "division by zero", "bad formula in a state with a newline", "config nowhere"):
        error = the_error(BAD[name][0])
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


# ---- the kinds of error


@pytest.mark.parametrize(
    ("error", "line", "fields"),
    [
        (NBAnalyzerError("plain"), "plain", {}),
        (InputError("bad"), "bad", {}),
        (
            FormulaError("odd", "1 + x", 4),
            "odd, at column 5 of '1 + ▸ x'",
            {"problem": "odd", "formula": "1 + x", "position": 4},
        ),
        (FormulaError("odd", "1 + x"), "odd: '1 + x'", {"problem": "odd", "formula": "1 + x", "position": None}),
        (TemplateError("odd"), "odd", {"problem": "odd", "where": ""}),
        (TemplateError("odd", "x.json, h"), "x.json, h: odd", {"problem": "odd", "where": "x.json, h"}),
        (
            UnresolvedVariablesError("odd", "h", ("a", "a")),
            "h: odd",
            {"problem": "odd", "where": "h", "variables": ("a", "a")},
        ),
        (ConfigError("odd", "gpt2"), "gpt2: odd", {"problem": "odd", "where": "gpt2"}),
        (
            UnknownNameError("model", "gtp2", ["gpt2", "bloom"], "Look around."),
            "no model named 'gtp2'. Did you mean 'gpt2'? Look around.",
            {"what": "model", "name": "gtp2", "choices": ("gpt2", "bloom"), "hint": "Look around."},
        ),
        (
            UnknownNameError("thing", "z", ["aa", "bb"]),
            "no thing named 'z'. There are: aa, bb.",
            {"what": "thing", "name": "z", "choices": ("aa", "bb"), "hint": ""},
        ),
        (UnknownNameError("thing", "z"), "no thing named 'z'.", {"choices": ()}),
    ],
)
def test_every_kind_of_error_is_one_line_and_survives_pickling(
    error: NBAnalyzerError, line: str, fields: dict[str, object]
) -> None:
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert type(each) is type(error)
        assert str(each) == line
        assert {name: getattr(each, name) for name in fields} == fields
        assert each._render_traceback_() == [f"{type(error).__name__}: {line}"]


def test_the_kinds_are_also_what_python_calls_them() -> None:
    for kind in (InputError, FormulaError, TemplateError, ConfigError):
        assert issubclass(kind, ValueError)
        assert issubclass(kind, NBAnalyzerError)
    assert issubclass(UnknownNameError, LookupError)


def test_a_long_formula_is_quoted_around_the_place() -> None:
    message = str(the_error(lambda: parse_formula("1 + " * 500 + "x" + " + 1" * 500)))
    assert "▸ x + 1" in message
    assert "at column 2001 of" in message
    assert len(message) < 250


def test_near_names_and_short_text() -> None:
    assert near("GTP2", ["bloom", "gpt2", "opt"]) == ["gpt2"]
    assert near("zzz", ["bloom"]) == []
    assert near("abcd1", [f"abcd{n}" for n in range(2, 9)], 2) != []
    assert len(near("abcd1", [f"abcd{n}" for n in range(2, 9)], 2)) == 2
    assert shorten("a" * 60) == "a" * 60
    assert shorten("a" * 61) == "a" * 59 + "…"
