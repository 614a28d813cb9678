"""Expanding: what depends on the place of use comes from the bindings, all the way down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import pytest
from builders import error_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbanalyzer import expand, populate
from nbanalyzer.errors import NBAnalyzerError, UnresolvedVariablesError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.variables import ALLOWED_VARIABLES
from nbanalyzer.templates.expansion import findings, with_variants
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess, ModelTemplate, ModuleTemplate
from nbanalyzer.templates.template_files import load_model_template
from nbanalyzer.templates.validation import validate_template

GPT2 = "transformers.models.gpt2.modeling_gpt2.GPT2LMHeadModel"
TOKENS = "{batch_size} * {seq_len}"


def walk(kernels: tuple[Kernel, ...], path: str = "") -> Iterator[tuple[str, Kernel]]:
    for kernel in kernels:
        here = f"{path}.{kernel.name}" if path else kernel.name
        yield here, kernel
        if isinstance(kernel, Composite):
            yield from walk(kernel.sub_kernels, here)


def composite(template: ModelTemplate, path: str) -> Composite:
    found = dict(walk(template.kernels))[path]
    assert isinstance(found, Composite)
    return found


def basic(flops: str = "0", read: str = "0", write: str = "0", operation: str = "op") -> Basic:
    return Basic(operation=operation, unit="vector", flops=flops, memory_access=MemoryAccess(read, write))


def module(name: str, variables: str, *kernels: Kernel, parameters: str = "0", state: str = "") -> ModuleTemplate:
    return ModuleTemplate(
        class_name=name,
        description="",
        variables={variable: f"the {variable}" for variable in variables.split()},
        parameters=parameters,
        state={"kv_cache": state} if state else {},
        kernels=kernels,
    )


def use(name: str, bindings: Mapping[str, str] | None = None, as_: str = "part", **fields: Any) -> Composite:
    return Composite(name=as_, module=name, bindings=dict(bindings or {}), **fields)


def library(*modules: ModuleTemplate) -> dict[str, ModuleTemplate]:
    return {each.class_name: each for each in modules}


# ---- the repair that the project exists for


@pytest.mark.parametrize(
    ("path", "name", "bound"),
    [
        ("transformer.h.attn.c_attn", "output_size", "3 * {hidden_size}"),
        ("transformer.h.attn.c_attn", "input_size", "{hidden_size}"),
        ("transformer.h.attn.c_proj", "output_size", "{hidden_size}"),
        ("transformer.h.mlp.c_fc", "output_size", "{intermediate_size}"),
        ("transformer.h.mlp.c_proj", "input_size", "{intermediate_size}"),
        ("transformer.h.mlp.c_proj", "output_size", "{hidden_size}"),
        ("transformer.h.mlp.act", "num_elements", "{batch_size} * {seq_len} * {intermediate_size}"),
        ("lm_head", "output_size", "{vocab_size}"),
    ],
)
def test_gpt2_binds_what_the_place_of_use_knows(path: str, name: str, bound: str) -> None:
    assert composite(expand(GPT2), path).bindings[name] == bound


def test_c_attn_is_costed_in_global_variables() -> None:
    c_attn = composite(expand(GPT2), "transformer.h.attn.c_attn")
    matmul, bias = c_attn.sub_kernels
    assert isinstance(matmul, Basic)
    assert isinstance(bias, Basic)
    values = {"batch_size": 2, "seq_len": 5, "hidden_size": 7, "w_bytes": 2, "a_bytes": 4}
    tokens, rows, columns = 2 * 5, 7, 3 * 7
    assert parse(matmul.flops).evaluate(values) == 2 * tokens * rows * columns
    assert parse(matmul.memory_access.read).evaluate(values) == tokens * rows * 4 + rows * columns * 2
    assert parse(matmul.memory_access.write).evaluate(values) == tokens * columns * 4
    assert parse(bias.flops).evaluate(values) == tokens * columns
    assert parse(c_attn.parameters).evaluate(values) == rows * columns + columns


def test_only_global_variables_are_left() -> None:
    for name in (GPT2, "transformers.models.gpt2.modeling_gpt2.GPT2MLP"):
        template = expand(name)
        assert validate_template(template) == []
        for _, kernel in walk(template.kernels):
            texts = (
                [kernel.flops, kernel.memory_access.read, kernel.memory_access.write]
                if isinstance(kernel, Basic)
                else [kernel.repeat, kernel.parameters or "0", *kernel.bindings.values()]
            )
            assert all(ALLOWED_VARIABLES.issuperset(parse(text).variables) for text in texts)


@pytest.mark.slow
def test_the_nodes_of_shipped_templates_are_what_their_bindings_expand_to() -> None:
    from nbanalyzer import modules
    from nbanalyzer.analysis.populate import template_of as model
    from nbanalyzer.templates.catalog import names
    from nbanalyzer.templates.template import Basic, Composite

    def basics(kernels: tuple[Kernel, ...]) -> list[Basic]:
        found: list[Basic] = []
        for kernel in kernels:
            found += [kernel] if isinstance(kernel, Basic) else basics(kernel.sub_kernels)
        return found

    def bound(kernels: tuple[Kernel, ...]) -> list[Composite]:
        inner = [kernel for kernel in kernels if isinstance(kernel, Composite)]
        own = [kernel for kernel in inner if kernel.bindings and kernel.module in modules]
        return [*own, *(found for kernel in inner for found in bound(kernel.sub_kernels))]

    for name in names():
        nodes = bound(model(name).kernels)
        assert len(nodes) > 3
        for node in nodes:
            alone = Composite(name="alone", module=node.module, bindings=node.bindings)
            whole = ModelTemplate(
                model_id="alone", kernels=(alone,), config=model(name).config, reads=model(name).reads
            )
            assert basics(expand(whole).kernels) == basics(node.sub_kernels)


# ---- expanding one's own modules

LINEAR = module(
    "my.Linear",
    "rows input_size output_size",
    basic("2 * {rows} * {input_size} * {output_size}"),
    parameters="{input_size} * {output_size}",
)


def test_bindings_go_through_several_levels() -> None:
    mlp = module(
        "my.MLP",
        "width rows",
        use("my.Linear", {"rows": "{rows}", "input_size": "{hidden_size}", "output_size": "{width} + 1"}, "up"),
        use("my.Linear", {"rows": "{rows}", "input_size": "{width} + 1", "output_size": "{hidden_size}"}, "down"),
    )
    block = module("my.Block", "factor", use("my.MLP", {"width": "{factor} * {hidden_size}", "rows": TOKENS}, "mlp"))
    model = module("my.Model", "", use("my.Block", {"factor": "4 - 1"}, "layers", repeat="{num_layers}"))
    template = expand(model, modules=library(LINEAR, mlp, block, model), model_id="me/mine")
    assert template.model_id == "me/mine"
    assert [path for path, _ in walk(template.kernels)] == [
        "layers", "layers.mlp", "layers.mlp.up", "layers.mlp.up.op", "layers.mlp.down", "layers.mlp.down.op",
    ]  # fmt: skip
    values = {"batch_size": 2, "seq_len": 3, "hidden_size": 5, "num_layers": 7}
    up = dict(walk(template.kernels))["layers.mlp.up.op"]
    assert isinstance(up, Basic)
    width = (4 - 1) * 5 + 1
    assert parse(up.flops).evaluate(values) == 2 * (2 * 3) * 5 * width
    totals = populate(template, config={"hidden_size": 5, "num_layers": 7}, batch_size=2, seq_len=3).totals
    assert totals["flops"] == 7 * 2 * (2 * (2 * 3) * 5 * width)
    assert totals["parameters"] == 7 * 2 * 5 * width


def test_variables_of_the_same_name_at_two_levels_do_not_mix() -> None:
    inner = module("my.Inner", "x y", basic("{x} - {y}"))
    outer = module("my.Outer", "x y", use("my.Inner", {"x": "{y}", "y": "{x}"}))
    template = expand(outer, {"x": "{seq_len}", "y": "{batch_size}"}, modules=library(inner, outer))
    (node,) = [kernel for _, kernel in walk(template.kernels) if isinstance(kernel, Basic)]
    assert node.flops == "{batch_size} - {seq_len}"


def test_a_number_can_be_bound_too() -> None:
    template = expand(LINEAR, {"rows": 3, "input_size": 4, "output_size": 5}, modules=library(LINEAR))
    assert populate(template).totals["flops"] == 2 * 3 * 4 * 5
    assert populate(template).totals["parameters"] == 4 * 5


def test_a_module_is_found_by_its_last_name_too() -> None:
    bindings = {"rows": "1", "input_size": "2", "output_size": "3"}
    fc = {"kernel_type": "composite", "name": "fc", "module": "Linear", "bindings": bindings}
    template = expand({"kernels": [fc]}, modules=library(LINEAR))
    assert composite(template, "fc").module == "my.Linear"
    assert populate(template).totals["flops"] == 2 * 1 * 2 * 3


def test_a_repeat_of_zero_drops_the_module() -> None:
    norm = module("my.Norm", "", basic("{seq_len}"))
    layer = module("my.Layer", "has_norm", use("my.Norm", as_="norm", repeat="{has_norm}"), use("my.Norm", as_="last"))
    modules = library(norm, layer)
    assert [path for path, _ in walk(expand(layer, {"has_norm": "0"}, modules=modules).kernels)] == ["last", "last.op"]
    kept = expand(layer, {"has_norm": "1"}, modules=modules)
    assert [path for path, _ in walk(kept.kernels)] == ["norm", "norm.op", "last", "last.op"]
    assert composite(kept, "norm").repeat == "1"


def test_what_costs_nothing_is_dropped() -> None:
    layer = module("my.Layer", "has_bias", basic("{has_bias} * {seq_len}", operation="bias"), basic("{seq_len}"))
    found = [kernel.name for _, kernel in walk(expand(layer, {"has_bias": 0}, modules=library(layer)).kernels)]
    assert "bias" not in found
    assert "op" in found
    dropout = expand({"kernels": [{"kernel_type": "composite", "name": "drop", "module": "Dropout"}]})
    assert dropout.kernels == ()


def test_state_is_summed_over_places_repeats_and_layers() -> None:
    cache = module("my.Cache", "size", basic("{size}"), state="{size} * {kv_bytes}")
    layer = module("my.Layer", "", use("my.Cache", {"size": "3"}, "a", repeat="2"), use("my.Cache", {"size": "5"}, "b"))
    model = module("my.Model", "", use("my.Layer", as_="layers", repeat="{num_layers}"), use("my.Cache", {"size": "7"}))
    template = expand(model, modules=library(cache, layer, model))
    for layers in (1, 4):
        totals = populate(template, config={"num_layers": layers}, kv_bit=32).totals
        assert totals["kv_cache_bytes"] == (layers * (2 * 3 + 5) + 7) * 4


def test_a_model_template_keeps_its_own_state() -> None:
    cache = module("my.Cache", "size", basic("{size}"), state="{size}")
    data = {"state": {"kv_cache": "11"}, "kernels": [{"kernel_type": "composite", "name": "c", "module": "my.Cache",
            "bindings": {"size": "3"}}]}  # fmt: skip
    assert populate(expand(data, modules=library(cache))).totals["kv_cache_bytes"] == 11
    silent = {"kernels": data["kernels"]}
    assert populate(expand(silent, modules=library(cache))).totals["kv_cache_bytes"] == 3  # then it is the modules'


def test_own_parameters_replace_the_modules() -> None:
    tied = use("my.Linear", {"rows": "1", "input_size": "2", "output_size": "3"}, "head", parameters="0 * {vocab_size}")
    model = module("my.Model", "", tied, use("my.Linear", tied.bindings, "free"))
    totals = populate(expand(model, modules=library(LINEAR, model)), config={"vocab_size": 9}).totals
    assert totals["parameters"] == 2 * 3


def test_expanding_a_complete_template_changes_nothing() -> None:
    from nbanalyzer.analysis.populate import template_of as model

    for name in ("gpt2", "qwen2-7b-instruct", "mistral-7b-v0.1"):
        assert expand(model(name)) == model(name)


# ---- variants


def test_a_variant_takes_the_same_bindings() -> None:
    fast = module("my.Fast", "n", basic("{n}", operation="fast"))
    slow = module("my.Slow", "n", basic("10 * {n}", operation="slow"))
    model = module("my.Model", "", use("my.Fast", {"n": "{seq_len}"}, "attention", variants={"eager": "my.Slow"}))
    modules = library(fast, slow, model)
    template = expand(model, modules=modules)
    assert [path for path, _ in walk(template.kernels)] == ["attention", "attention.fast"]
    varied, found = with_variants(template, frozenset({"eager"}), modules)
    assert found == {"eager"}
    assert [path for path, _ in walk(varied.kernels)] == ["attention", "attention.slow"]
    (slow_kernel,) = composite(varied, "attention").sub_kernels
    assert isinstance(slow_kernel, Basic)
    assert parse(slow_kernel.flops).evaluate({"seq_len": 3}) == 30
    assert with_variants(template, frozenset(), modules) == (template, frozenset({"eager"}))
    both = use("my.Fast", {"n": "1"}, "attention", variants={"eager": "my.Slow", "absorbed": "my.Fast"})
    varied, _ = with_variants(ModelTemplate(kernels=(both,)), frozenset({"absorbed", "eager"}), modules)
    assert composite(varied, "attention").module == "my.Slow"  # of two that are chosen, the one named first


def test_a_variant_that_takes_other_bindings_is_an_error_at_once() -> None:
    fast = module("my.Fast", "n", basic("{n}"))
    for other in (module("my.Slow", "n m", basic("{n} * {m}")), module("my.Slow", "", basic("1"))):
        model = module("my.Model", "", use("my.Fast", {"n": "1"}, "attention", variants={"eager": "my.Slow"}))
        message = error_of(lambda model=model, other=other: expand(model, modules=library(fast, other, model)))  # type: ignore[misc]
        assert "attention" in message
        assert "Slow" in message


def test_gpt2_and_llama_have_an_eager_variant() -> None:
    for name in ("gpt2", "llama-2-7b"):
        sdpa, eager = (populate(name, seq_len=64, attn=attn) for attn in ("sdpa", "eager"))
        assert sdpa.totals["matmul_flops"] == eager.totals["matmul_flops"]
        assert sdpa.totals["parameters"] == eager.totals["parameters"]
        assert sdpa.totals["bytes"] < eager.totals["bytes"]


# ---- what cannot be expanded


def test_a_missing_binding_is_named_with_its_meaning_and_path() -> None:
    bindings = {"num_tokens": TOKENS, "input_size": "{hidden_size}", "has_bias": "1"}
    attention = module("my.Attention", "", use("transformers.pytorch_utils.Conv1D", bindings, "c_attn"))
    block = module("my.Block", "", use("my.Attention", as_="attn"))
    from nbanalyzer.templates.library import MODULES

    modules = {
        **library(attention, block),
        "transformers.pytorch_utils.Conv1D": MODULES["transformers.pytorch_utils.Conv1D"],
    }
    with pytest.raises(UnresolvedVariablesError) as caught:
        expand(block, modules=modules)
    assert caught.value.variables == ("output_size",)
    message = str(caught.value)
    assert "unresolved template variables: ['output_size']" in message
    assert "attn.c_attn: " in message
    assert "nf, the weight's columns" in message


def test_the_root_needs_its_bindings_too() -> None:
    message = error_of(lambda: expand("torch.nn.modules.linear.Linear", {"input_size": 1, "has_bias": 0}))
    assert "unresolved template variables: ['num_tokens', 'output_size']" in message


def test_every_missing_binding_of_a_module_is_listed_in_order() -> None:
    model = module("my.Model", "", use("my.Linear", {"input_size": "1"}, "fc"))
    message = error_of(lambda: expand(model, modules=library(LINEAR, model)))
    assert "unresolved template variables: ['rows', 'output_size']" in message
    assert message.startswith("fc: ")


def test_a_context_variable_in_a_binding_is_not_global() -> None:
    message = error_of(lambda: expand(LINEAR, {"rows": "{num_tokens}", "input_size": 1, "output_size": 1}))
    assert "unresolved template variables: {num_tokens}" in message


def test_a_binding_that_nothing_uses_is_an_error_that_names_the_near_one() -> None:
    good = {"rows": "1", "input_size": "2", "output_size": "3"}
    model = module("my.Model", "", use("my.Linear", {**good, "outputs_size": "3"}, "fc"))
    message = error_of(lambda: expand(model, modules=library(LINEAR, model)))
    assert message == "fc: unused binding 'outputs_size': Linear has no such variable, did you mean 'output_size'?"
    message = error_of(lambda: expand(LINEAR, {**good, "zzz": 1}))
    assert "unused binding 'zzz'" in message
    assert "rows, input_size, output_size" in message


def test_a_cycle_is_named() -> None:
    a = module("my.A", "", use("my.B", as_="b"))
    b = module("my.B", "", use("my.C", as_="c"))
    c = module("my.C", "", use("my.B", as_="again"))
    message = error_of(lambda: expand(a, modules=library(a, b, c)))
    assert message == "b.c.again: modules refer to each other in a cycle: my.B → my.C → my.B"
    itself = module("my.Self", "", use("my.Self", as_="me"))
    assert "my.Self → my.Self" in error_of(lambda: expand(itself, modules=library(itself)))


def test_a_module_used_twice_is_no_cycle() -> None:
    pair = module("my.Pair", "", use("my.Leaf", as_="one"), use("my.Leaf", as_="two"))
    top = module("my.Top", "", use("my.Pair", as_="a"), use("my.Pair", as_="b"))
    template = expand(top, modules=library(pair, top, module("my.Leaf", "", basic("1"))))
    assert populate(template).totals["flops"] == 4


def test_an_unknown_module_suggests_the_near_one() -> None:
    model = module("my.Model", "", use("my.Linaer", as_="fc"))
    assert error_of(lambda: expand(model, modules=library(LINEAR, model))) == (
        "fc: no module template named 'my.Linaer'. Did you mean 'my.Linear'?"
    )
    message = error_of(lambda: expand("torch.nn.modules.linear.Linnear"))
    assert "Did you mean" in message
    assert "'torch.nn.modules.linear.Linear'" in message
    assert error_of(lambda: expand("qqqqq")).startswith("no module template named 'qqqqq'")


def test_an_ambiguous_last_name_is_not_guessed() -> None:
    message = error_of(lambda: expand("eager_attention_forward"))
    assert "gpt2.modeling_gpt2.eager_attention_forward" in message
    assert "llama.modeling_llama.eager_attention_forward" in message


def test_suggestions_are_made_for_what_is_written() -> None:
    good = {"rows": "1", "input_size": "2", "output_size": "3"}
    model = module("my.Model", "", use("my.Linear", {**good, "outputs_size": "3", "zzz": "4"}, "fc"))
    message = error_of(lambda: expand(model, modules=library(LINEAR, model)))
    assert message.endswith("unused binding 'outputs_size': Linear has no such variable, did you mean 'output_size'?")
    # Far from every whole name, near the last part of one.
    long = module("some.package.of.a.long.name.Attention", "", basic("1"))
    message = error_of(lambda: expand("Atention", modules=library(long)))
    assert message == "no module template named 'Atention'. Did you mean 'Attention'?"


def test_a_container_that_is_never_called_is_dropped() -> None:
    def paths(**fields: Any) -> list[str]:
        empty = Composite(name="never", sub_kernels=(basic("1"),), **fields)
        model = module("my.Model", "called", empty, Composite(name="always", sub_kernels=(basic("1"),)))
        template = expand(model, {"called": "0"}, modules=library(model))
        return [path for path, _ in walk(template.kernels)]

    twice = module("my.Twice", "called", Composite(name="it", sub_kernels=(basic("1"),), calls="2 * {called}"))
    assert (
        composite(expand(twice, {"called": "{num_layers}"}, modules=library(twice)), "it").calls == "2 * {num_layers}"
    )
    assert paths(calls="{called}") == ["always", "always.op"]
    assert paths(calls="{called} - 1")[0] == "never"  # no business of expanding
    assert paths(calls="{called}", parameters="7")[0] == "never"  # never run, and there


def test_what_is_never_called_keeps_the_parameters_inside() -> None:
    """Layers that predict further tokens: in the checkpoint, and not run in a pass."""
    parts = {"rows": "1", "input_size": "{hidden_size}", "output_size": "{hidden_size}"}
    extra = Composite(name="extra", sub_kernels=(use("my.Linear", parts), basic("1")), calls="0", repeat="2")
    template = expand(
        ModelTemplate(config={"hidden_size": 6, "num_layers": 1}, kernels=(extra,)), modules=library(LINEAR)
    )
    totals = populate(template, seq_len=1).totals
    assert (totals["parameters"], totals["flops"]) == (2 * 6 * 6, 0)


def test_as_many_kernels_as_a_template_may_have() -> None:
    """2 * 1,499 kernels and the two that hold them are 3,000."""
    half = module("my.Half", "", *(basic("1", operation=f"op{number}") for number in range(1_499)))
    whole = module("my.Whole", "", use("my.Half", as_="a"), use("my.Half", as_="b"))
    assert sum(1 for _ in walk(expand(whole, modules=library(half, whole)).kernels)) == 3_000
    more = module("my.More", "", *whole.kernels, basic("0"))  # that it is left out does not make it less work
    message = error_of(lambda: expand(more, modules=library(half, more)))
    assert message == "more than 3,000 kernels: what repeats is one kernel with a repeat"


def test_as_many_operations_as_bindings_may_put_in() -> None:
    """25 times a binding of 2,000 operations are 50,000, of which nothing is left."""
    long = f"max({', '.join(['{x}'] * 1_999)})"
    model = module("my.Model", "a b", basic(" + ".join(["0 * {a}"] * 25), "{seq_len}"), basic("{a} * 0 + {b}"))
    both = module("my.Both", "a b", basic(" + ".join(["0 * {a}"] * 25 + ["{b}"])))
    bindings: dict[str, str | int] = {"a": long, "b": "3"}
    template = expand(model, bindings, modules=library(model), config={"x": 1})
    assert populate(template).totals["flops"] == 3
    message = error_of(lambda: expand(both, bindings, modules=library(both), config={"x": 1}))
    assert "the bindings put 50,001 operations into this formula" in message


def test_a_long_name_makes_a_short_message() -> None:
    error_of(lambda: expand("x" * 9_000))
    error_of(lambda: expand("torch.add", {"num_elements": 1, "x" * 9_000: 1}))
    error_of(lambda: expand("torch.add", {"num_elements": "x" * 9_000}))


def test_a_bad_formula_in_a_binding_is_placed() -> None:
    model = module("my.Model", "", use("my.Linear", {"rows": "1 +", "input_size": "1", "output_size": "1"}, "fc"))
    assert "fc, bindings.rows: expected a number" in error_of(lambda: expand(model, modules=library(LINEAR, model)))
    bad: dict[str, str | int] = {"rows": "seq_len", "input_size": 1, "output_size": 1}
    assert "bindings.rows: unknown name 'seq_len', a variable is written {seq_len}" in error_of(
        lambda: expand(LINEAR, bad)
    )


def chain(length: int, binding: str) -> ModelTemplate:
    steps = [module(f"m{n}", "x", use(f"m{n + 1}", {"x": binding}, "next")) for n in range(length)]
    modules = library(*steps, module(f"m{length}", "x", basic("{x}")))
    return expand("m0", {"x": "{seq_len}"}, modules=modules)


def test_a_long_chain_of_modules_expands_or_says_that_it_is_too_deep() -> None:
    assert populate(chain(20, "{x} + 1"), seq_len=3).totals["flops"] == 3 + 20
    for length in (150, 400, 2_000):
        try:
            chain(length, "{x}")
        except NBAnalyzerError as error:
            assert len(str(error)) < 400  # noqa: PT017 - either way is fine, but no other error


def test_modules_refer_to_each_other_thirty_deep_and_no_deeper() -> None:
    """A chain of `length` steps has `length + 1` modules."""
    assert populate(chain(29, "{x}"), seq_len=3).totals["flops"] == 3
    assert "modules refer to each other more than 30 deep" in error_of(lambda: chain(30, "{x}"))


def test_a_few_operations_that_bindings_nest_deeply_are_refused() -> None:
    """20 quotients and 20 sums, put in twice: each inside the next, 80 numbers and one variable; 60 deep is the limit."""
    nested = "{x}"
    for _ in range(20):
        nested = f"({nested} // 2 + 1)"
    message = error_of(lambda: chain(2, nested))
    assert "the bindings make" in message
    assert "a formula of 161 operations, 81 deep" in message


def test_an_error_of_a_whole_template_names_the_model() -> None:
    kernel = Basic(operation="op", unit="vector", flops="{nobody}", memory_access=MemoryAccess("0", "0"))
    own = ModelTemplate(model_id="my/model", config={"model_type": "my"}, kernels=(kernel,))
    assert error_of(lambda: expand(own)).startswith("my/model")


def test_a_chain_that_doubles_its_formula_is_stopped() -> None:
    """2 ** 14 terms: far beyond the length of a formula, and small enough to see it end."""
    error_of(lambda: chain(14, "{x} + {x}"))


# ---- property: expanding commutes with evaluating

OPERATIONS = ("+", "*", "-", "//", "%")


@st.composite
def formulas(draw: st.DrawFn, names: tuple[str, ...], depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.one_of(st.integers(0, 9).map(str), st.sampled_from(names).map(lambda name: f"{{{name}}}")))
    left, right = (draw(formulas(names, depth - 1)) for _ in range(2))
    kind = draw(st.sampled_from((*OPERATIONS, "if", "max", "/")))
    if kind == "if":
        return f"({left} if {right} > {draw(st.integers(0, 20))} else {right})"
    if kind == "max":
        return f"max({left}, {right})"
    if kind in {"//", "%", "/"}:
        return f"({left}) {kind} (max({right}, 0) + 1)"
    return f"({left}) {kind} ({right})"


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_expanding_then_evaluating_is_evaluating_the_bindings_first(data: st.DataObject) -> None:
    leaf_names, global_names = ("a", "b"), ("batch_size", "seq_len", "cache_len")
    # The variables are used once each whatever the random part does: a module must use what it declares.
    flops, read = (f"0 * ({{a}} + {{b}}) + {data.draw(formulas(leaf_names))}" for _ in range(2))
    middle = {name: data.draw(formulas(("p", "q"), 2)) for name in leaf_names}
    outer = {name: data.draw(formulas(global_names, 2)) for name in ("p", "q")}
    values: dict[str, int] = {name: data.draw(st.integers(1, 9)) for name in global_names}
    leaf = module("my.Leaf", "a b", basic(flops, read, "1"))
    node = module("my.Node", "p q", use("my.Leaf", middle), basic("0 * ({p} + {q})", write="1", operation="other"))
    template = expand(node, outer, modules=library(leaf, node))

    inner: dict[str, int | Fraction] = {name: parse(text).evaluate(values) for name, text in outer.items()}
    inner = {name: parse(text).evaluate(inner) for name, text in middle.items()}
    found = next(kernel for _, kernel in walk(template.kernels) if kernel.name == "op")
    assert isinstance(found, Basic)
    assert parse(found.flops).evaluate(values) == parse(flops).evaluate(inner)
    assert parse(found.memory_access.read).evaluate(values) == parse(read).evaluate(inner)


def test_an_expanded_template_survives_the_file() -> None:
    from nbanalyzer.templates.template_files import encode

    template = expand(GPT2, model_id="me/copy", config={"n_embd": 4, "model_type": "gpt2"})
    assert load_model_template(encode(template)) == template


def test_what_stands_in_for_a_wrong_formula_hides_no_other() -> None:
    """What would repeat 0 times is left out, and what is wrong inside it would be, too."""
    inside = Composite(name="inside", module="no.such")
    made = ModelTemplate(model_id="own", kernels=(Composite(name="outer", repeat="3 *", sub_kernels=(inside,)),))
    first, second = map(str, findings(made))
    assert first.startswith("outer, repeat: ")
    assert "no.such" in second
