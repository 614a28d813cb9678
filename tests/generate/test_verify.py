"""What is compared with PyTorch finds what is wrong, and says where: templates changed on purpose, and rules by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbanalyzer.analysis.populate import populate
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import InputError
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.check.equality import MismatchError, check
from nbanalyzer.generate.check.verification import Row, Verification, verify
from nbanalyzer.generate.deadline import working
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.write.template import build_template
from nbanalyzer.templates import catalog
from nbanalyzer.templates.expansion import expand
from nbanalyzer.templates.library import MODULES
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess, ModelTemplate
from nbanalyzer.templates.template_files import save_template
from tools import catalog as shipping

CONFIGS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "architectures.json").read_text())
GPT2 = "openai-community/gpt2"
LLAMA = "meta-llama/Llama-2-7b-hf"
SMALL: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 48, "n_head": 4, "n_layer": 3, "vocab_size": 100, "n_positions": 64},
    "llama": {
        "model_type": "llama", "hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 3, "vocab_size": 100, "intermediate_size": 80,
    },
    "mixtral": {
        "model_type": "mixtral", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 96, "num_local_experts": 6,
        "num_experts_per_tok": 2,
    },
    "t5": {
        "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 3,
        "num_heads": 4, "vocab_size": 100, "is_encoder_decoder": True,
    },
    "bert": {
        "model_type": "bert", "hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3,
        "intermediate_size": 80, "vocab_size": 100, "max_position_embeddings": 512,
    },
}  # fmt: skip


@cache
def generated(name: str) -> ModelTemplate:
    """Return the template of a small model, or of one of the real ones."""
    config = SMALL.get(name) or CONFIGS[name]["config"]
    return build_template(Subject.of(config), name)


# ---- a template that is right


@pytest.mark.parametrize("name", SMALL)
def test_a_right_template_is_equal(name: str) -> None:
    record = check(generated(name))
    assert record["result"] == "equal"
    runs = {what.removesuffix("_matmul_flops") for what in record["checked"] if what.endswith("_matmul_flops")}
    every = {"prefill", "decode", "prefill_last_logits", "continuation"}
    assert runs == ({"prefill"} if name == "bert" else every)
    assert {what.removesuffix("_read_bytes") for what in record["checked"] if what.endswith("_read_bytes")} >= (
        runs - {"prefill_last_logits"}
    )


def test_verification_of_a_right_template_is_one_line() -> None:
    told: list[tuple[str, float]] = []
    with working(lambda what, part: told.append((what, part))):
        found = verify(generated("mixtral"))
    assert found.ok
    assert not found.differences
    assert str(found) == (
        f"mixtral: equal to PyTorch, exactly, in all {found.compared:,} numbers compared at its real config and 2 others"
    )
    assert [part for _, part in told] == sorted(part for _, part in told)
    assert told[-1] == ("done", 1)
    assert len(set(found.configs)) == 3
    assert all("num_layers=" in change for change in found.configs[1:])
    assert len({row.path for row in found.rows}) > 8
    totals = {row.what: row.pytorch for row in found.rows if row.path == "whole model"}
    assert totals["parameters"] == oracle.parameters(Subject.of(SMALL["mixtral"]).build())
    assert totals["matmul FLOPs of prefill"] == populate(generated("mixtral"), seq_len=2048).totals["matmul_flops"]
    assert all(row.path.count(".") < 3 for row in found.rows)
    assert len(found.rows) < 400
    assert all(row.equal for row in found.rows)


# ---- a template that is wrong

Change = Callable[[Any], Any]


def changed(template: ModelTemplate, path: str, change: Change) -> ModelTemplate:
    """Return the template with the kernel at `path` replaced by what `change` makes of it."""

    def walk(kernels: tuple[Kernel, ...], parts: list[str]) -> tuple[Kernel, ...]:
        names = [kernel.name for kernel in kernels]
        place = names.index(parts[0])
        kernel = kernels[place]
        if len(parts) == 1:
            kernel = change(kernel)
        else:
            assert isinstance(kernel, Composite)
            kernel = msgspec.structs.replace(kernel, sub_kernels=walk(kernel.sub_kernels, parts[1:]))
        return (*kernels[:place], kernel, *kernels[place + 1 :])

    return msgspec.structs.replace(template, kernels=walk(template.kernels, path.split(".")))


def binding(name: str, text: str) -> Change:
    """Bind a context variable to something else, and expand the module template again."""

    def change(kernel: Composite) -> Composite:
        bare = msgspec.structs.replace(kernel, bindings={**kernel.bindings, name: text}, sub_kernels=())
        (fresh,) = expand(ModelTemplate(kernels=(bare,), config={"n_head": 1})).kernels
        assert isinstance(fresh, Composite)
        assert fresh != kernel
        return fresh

    return change


def field(name: str, text: str) -> Change:
    """Replace a formula; {was} is what it was."""

    def change(kernel: Kernel) -> Kernel:
        if name in {"read", "write"}:
            assert isinstance(kernel, Basic)
            access = kernel.memory_access
            return msgspec.structs.replace(
                kernel,
                memory_access=MemoryAccess(
                    text.replace("{was}", f"({access.read})") if name == "read" else access.read,
                    text.replace("{was}", f"({access.write})") if name == "write" else access.write,
                ),
            )
        return msgspec.structs.replace(kernel, **{name: text.replace("{was}", f"({getattr(kernel, name)})")})

    return change


WRONG: dict[str, tuple[str, str, str, str, Change]] = {  # template, kernel, its module, what is found first, change
    "gpt2 binding": (
        "gpt2", "transformer.h.attn.c_attn", "transformer.h.attn.c_attn", "prefill_vector_flops",
        binding("output_size", "2 * {hidden_size}"),
    ),
    "gpt2 coefficient": (
        "gpt2", "transformer.h.mlp.c_fc.matmul", "transformer.h.mlp.c_fc", "prefill_matmul_flops",
        field("flops", "{was} * 3 / 2"),
    ),
    "gpt2 repeat": ("gpt2", "transformer.h", "transformer.h", "parameters", field("repeat", "{num_layers} + 1")),
    "gpt2 parameters": (
        "gpt2", "transformer.ln_f", "transformer.ln_f", "parameters", field("parameters", "{hidden_size}"),
    ),
    "gpt2 read": (
        "gpt2", "transformer.h.ln_1.layer norm", "transformer.h.ln_1", "prefill_read_bytes", field("read", "{was} / 2"),
    ),
    "gpt2 activation": (
        "gpt2", "transformer.h.mlp.act", "transformer.h.mlp.act", "prefill_vector_flops",
        binding("num_elements", "{hidden_size}"),
    ),
    "gpt2 eager": (
        "gpt2", "transformer.causal_mask", "transformer", "eager_prefill_read_bytes", binding("num_keys", "{seq_len} + 1"),
    ),
    "llama binding": (
        "llama", "model.layers.self_attn.k_proj", "model.layers.self_attn.k_proj", "prefill_read_bytes",
        binding("output_size", "{hidden_size}"),
    ),
    "llama coefficient": (
        "llama", "model.layers.self_attn.o_proj.matmul", "model.layers.self_attn.o_proj", "prefill_matmul_flops",
        field("flops", "{was} / 2"),
    ),
    "llama repeat": ("llama", "model.layers", "model.layers", "parameters", field("repeat", "{num_layers} * 2")),
    "llama logits": (
        "llama", "lm_head", "lm_head", "prefill_last_logits_matmul_flops",
        binding("num_tokens", "{batch_size} * {seq_len}"),
    ),
    "llama cache": (
        "llama", "model.layers.self_attn.attention", "model.layers.self_attn", "decode_vector_flops",
        binding("num_keys", "{seq_len}"),
    ),
    "llama precision": (
        "llama", "model.layers.self_attn.q_proj.matmul", "model.layers.self_attn.q_proj", "prefill_weight_bytes_read",
        field("read", "({batch_size} * {seq_len} + {num_heads} * {head_dim}) * {hidden_size} * {a_bytes}"),
    ),
    "mixtral experts": (
        "mixtral", "model.layers.mlp.experts", "model.layers.mlp.experts", "parameters",
        field("parameters", "{was} - {hidden_size}"),
    ),
    "mixtral router": (
        "mixtral", "model.layers.mlp.gate", "model.layers.mlp.gate", "parameters", field("parameters", "{was} * 2"),
    ),
    "mixtral repeat": ("mixtral", "model.layers", "model.layers", "parameters", field("repeat", "3")),
    "t5 repeat": ("t5", "encoder.block_0", "encoder.block_0", "parameters", field("repeat", "{was} + 1")),
    "t5 calls": ("t5", "encoder", "encoder", "decode_vector_flops", field("calls", "1")),
    "bert repeat": ("bert", "bert.encoder.layer", "bert.encoder.layer", "parameters", field("repeat", "2")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_check_says_where_a_template_is_wrong(case: str) -> None:
    name, kernel, module, what, change = WRONG[case]
    wrong = changed(generated(name), kernel, change)
    with pytest.raises(MismatchError) as caught:
        check(wrong)
    assert (caught.value.path, caught.value.what) == (module, what)
    assert str(caught.value).endswith(f", first in {module}")


def test_shipped_templates_are_checked_too() -> None:
    wrong = changed(catalog.shipped(GPT2), "transformer.h.attn.c_proj", binding("has_bias", "0"))
    with pytest.raises(MismatchError, match=r"prefill_vector_flops is .* first in transformer\.h\.attn\.c_proj$"):
        check(wrong)
    wrong = changed(catalog.shipped(LLAMA), "model.layers.mlp.down_proj.matmul", field("write", "{was} + 1"))
    with pytest.raises(MismatchError, match=r"prefill_write_bytes is .* first in model\.layers\.mlp\.down_proj$"):
        check(wrong)


def test_verification_shows_differences_first() -> None:
    right = generated("gpt2")
    wrong = changed(right, "transformer.h.mlp.c_fc", binding("output_size", "3 * {hidden_size}"))
    found = verify(wrong, random_configs=1)
    assert not found.ok
    assert {row.path for row in found.differences} == {"transformer.h.mlp.c_fc"}
    assert found.differences == found.rows[: len(found.differences)]
    decode = next(row for row in found.rows if row.what == "matmul FLOPs of decode")
    # 3 layers, one token, a weight of 48 x 192; the template has 144 instead of 192.
    assert decode == Row("transformer.h.mlp.c_fc", "matmul FLOPs of decode", 3 * 2 * 48 * 144, 3 * 2 * 48 * 192)
    lines = str(found).splitlines()
    assert lines[0].startswith("gpt2: not equal to PyTorch, of ")
    assert lines[1].split() == ["kernel", "what", "template", "PyTorch", "difference"]
    assert lines[2].startswith("transformer.h.mlp.c_fc")
    assert any(line.startswith("whole model  ") for line in lines)
    assert lines[-1].startswith("config 1: ")
    assert len(lines) < 25
    assert str(verify(wrong, random_configs=1)) == str(found)
    html = found._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") == 1 + len(found.rows)
    assert "transformer.h.mlp.c_fc" in html
    assert found.table()[0][0] == "transformer.h.mlp.c_fc"


def test_what_is_only_right_at_the_real_config_is_found() -> None:
    """A size that became a number: nothing is wrong with it at the config that it came from."""
    wrong = changed(generated("llama"), "model.layers", field("repeat", "3"))
    check(wrong)
    found = verify(wrong)
    assert found.differences[0].path == "model.layers"
    assert {row.path for row in found.differences} <= {"model.layers", "model.layers.self_attn"}  # it has the cache
    assert all(", config " in row.what for row in found.differences)


def test_a_verification_escapes_what_it_shows() -> None:
    found = Verification("<b>", (Row("<i>", "&", 1, 2),), (), 1, ("",))
    assert "<b>" not in found._repr_html_()
    assert "<i>" not in found._repr_html_()
    assert "&lt;i&gt;" in found._repr_html_()


@pytest.mark.parametrize(
    ("module", "kernel", "change", "what"),
    [
        ("torch.nn.modules.linear.Linear", 1, {"flops": "0"}, "prefill_vector_flops"),  # the bias is missing
        ("torch.nn.modules.normalization.LayerNorm", 0, {"read": "({was}) / 2"}, "prefill_read_bytes"),
        ("torch.nn.modules.sparse.Embedding", 0, {"write": "({was}) * 2"}, "prefill_write_bytes"),
    ],
)
def test_a_wrong_module_template_is_caught(
    module: str, kernel: int, change: dict[str, str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was expanded with it before is no longer what the trace says."""
    template = MODULES[module]
    basic = template.kernels[kernel]
    for name, text in change.items():
        basic = field(name, text)(basic)
    kernels = (*template.kernels[:kernel], basic, *template.kernels[kernel + 1 :])
    wrong = {**MODULES, module: msgspec.structs.replace(template, kernels=kernels)}

    def again(kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
        return tuple(
            one if isinstance(one, Basic)
            else msgspec.structs.replace(
                one, sub_kernels=() if one.module == module and one.bindings else again(one.sub_kernels)
            )
            for one in kernels
        )  # fmt: skip

    bare = msgspec.structs.replace(generated("bert"), kernels=again(generated("bert").kernels))
    with pytest.raises(MismatchError) as caught:
        check(expand(bare, modules=wrong))
    assert caught.value.what == what
    path = caught.value.path
    found = next(node for node in Tree(generated("bert")).nodes if node.path == path).kernel
    assert isinstance(found, Composite)
    assert found.module == module


@pytest.mark.long
def test_a_template_for_one_depth_is_compared_at_that_depth() -> None:
    """The first of two layers converts what the second is given: how many more there would be of each is not known."""
    sizes = {"hidden_size": 64, "num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "vocab_size": 100}
    template = build_template(Subject.of({"model_type": "mamba2", "num_hidden_layers": 2, **sizes}), "mamba2")
    assert verify(template).ok
    with pytest.raises(InputError, match="num_layers=3 changes nothing"):
        populate(template, set={"num_layers": 3})


def test_another_release_that_changed_a_model_is_told_from_a_wrong_template() -> None:
    """GPT-2 as an older release of transformers might have run it: the numbers recorded are those of the template."""
    older = changed(generated("gpt2"), "transformer.h.mlp.c_fc", binding("output_size", "3 * {hidden_size}"))
    numbers = populate(older, seq_len=2048).totals
    record = {"transformers": "5.0.0", "checked": {"parameters": numbers["parameters"]}}
    moved = msgspec.structs.replace(older, provenance=record)
    first = str(verify(moved, random_configs=0)).splitlines()[0]
    assert first.startswith("gpt2: transformers changed this model since 5.0.0, which the template is right for")
    wrong = msgspec.structs.replace(older, provenance={**record, "checked": {"parameters": 1}})
    assert str(verify(wrong, random_configs=0)).startswith("gpt2: not equal to PyTorch")
    same = msgspec.structs.replace(older, provenance={**record, "transformers": version("transformers")})
    assert str(verify(same, random_configs=0)).startswith("gpt2: not equal to PyTorch")


def test_the_catalogue_tells_so_too_where_the_number_that_differs_was_not_recorded(tmp_path: Path) -> None:
    """Vector FLOPs are compared, and no record holds them: then the others decide."""
    more = changed(catalog.shipped(GPT2), "transformer.h.ln_1.layer norm", field("flops", "{was} + 1"))
    path = tmp_path / "openai-community" / "gpt2.json"
    path.parent.mkdir()
    for release, told in (("5.0.0", "transformers changed this model since 5.0.0: "), (version("transformers"), "")):
        save_template(msgspec.structs.replace(more, provenance={**more.provenance, "transformers": release}), path)
        assert shipping._verify(path).result.startswith(f"{told}openai-community/gpt2: prefill_vector_flops is ")


def test_a_whole_that_answers_for_its_own_config_alone_is_compared_there_alone() -> None:
    """Where no field may have another value, the formulas of what is read need not hold at another one."""
    shipped = catalog.shipped("google/siglip-base-patch16-224")
    found = verify(msgspec.structs.replace(shipped, valid_for=None))
    assert found.ok
    assert found.configs == ("",)
    assert shipped.valid_for is not None
    assert len(verify(shipped).configs) == 3
