"""Which kernel reads what another one wrote, told from sizes and order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builders import basic, composite, template

from nbanalyzer.costs.flow import OTHER_RUN, PASSES, RUN, Flow, flow_of
from nbanalyzer.costs.regions import regions_of
from nbanalyzer.costs.tree import Node, Tree
from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import load_model_template

X, Y = "{batch_size} * {hidden_size} * {a_bytes}", "{batch_size} * {intermediate_size} * {a_bytes}"
CONFIG = {"hidden_size": 640, "intermediate_size": 1920, "num_heads": 10, "head_dim": 64}


def own(content: Mapping[str, Any]) -> ModelTemplate:
    """Return a template from plain data."""
    return load_model_template(json.dumps(content).encode())


def flow(*kernels: Mapping[str, Any]) -> tuple[Flow, dict[str, Node]]:
    """Return the flow of a template of one's own, and its basic kernels by name."""
    tree = Tree(own(template(*kernels, config=CONFIG)))
    nodes = {node.kernel.name: node for node in tree.nodes if node.is_basic}
    return flow_of(tree, regions_of(tree)), nodes


def linear(name: str, read: str, write: str, weights: str = "{hidden_size} * {intermediate_size}") -> dict[str, Any]:
    """Return a module that is a product with weights."""
    product = basic("2 * {batch_size}", f"{read} + {weights} * {{w_bytes}}", write, "matmul", name)
    return composite(f"{name}_proj", product, parameters=weights)


def vector(name: str, read: str, write: str, flops: str = "{batch_size}") -> dict[str, Any]:
    """Return a vector kernel."""
    return basic(flops, read, write, name=name)


def sources(of: Flow, node: Node) -> list[str]:
    """Return the names of the kernels whose results another one reads."""
    return sorted(source.writer.kernel.name for source in of.sources[node])


def test_a_kernel_reads_the_tensors_whose_sizes_add_up_to_what_it_reads() -> None:
    found, nodes = flow(linear("up", X, Y), linear("down", Y, X), vector("join", f"{X} + {Y}", f"{X} + {Y}"))
    assert sources(found, nodes["down"]) == ["up"]
    assert sources(found, nodes["join"]) == ["down", "up"]
    assert found.unknown == {nodes["up"]}  # what it reads was made by nobody


def test_sizes_that_are_equal_by_chance_are_told_apart() -> None:
    # 10 heads of 64 are as wide as the hidden size, in this model.
    heads = "{batch_size} * {num_heads} * {head_dim} * {a_bytes}"
    found, nodes = flow(
        linear("embed", X, X), linear("q", X, heads), vector("rotate", heads, heads), linear("gate", X, Y)
    )
    assert sources(found, nodes["rotate"]) == ["q"]
    assert sources(found, nodes["gate"]) == ["embed"]


def test_sizes_that_only_the_model_says_are_equal_are_matched_all_the_same() -> None:
    heads = "{batch_size} * {num_heads} * {head_dim} * {a_bytes}"
    found, nodes = flow(linear("q", X, heads), vector("act", heads, heads), linear("out", X, X))
    assert sources(found, nodes["out"]) == ["act"]


def test_a_packed_product_is_read_in_parts_and_its_rest_stays_unread() -> None:
    third = "{batch_size} * {hidden_size} * {a_bytes}"
    found, nodes = flow(
        linear("qkv", X, "3 * {batch_size} * {hidden_size} * {a_bytes}"),
        vector("append", f"2 * {third}", "2 * {batch_size} * {hidden_size} * {kv_bytes}", "0"),
        vector("scale", third, third),
    )
    assert sources(found, nodes["append"]) == sources(found, nodes["scale"]) == ["qkv"]
    sizes = [found.sources[nodes[name]][0].size[1] for name in ("append", "scale")]
    assert sizes[0] == 2 * sizes[1]
    assert found.sources[nodes["scale"]][0].total[1] == 3 * sizes[1]


def test_each_output_of_a_kernel_is_a_tensor() -> None:
    top = vector("topk", Y, "{batch_size} * 2 * {a_bytes} + 8 * {batch_size} * 2")
    found, nodes = flow(linear("route", X, Y), top, vector("weigh", "{batch_size} * 2 * {a_bytes}", "{batch_size}"))
    read = found.sources[nodes["weigh"]]
    assert [str(one.formula) for one in read] == ["{batch_size} * 2 * {a_bytes}"]
    assert read[0].is_whole


def test_a_residual_is_added_to_the_stream_and_not_to_what_was_made_from_it() -> None:
    layer = composite(
        "layers", vector("norm", X, X), linear("up", X, Y), vector("act", Y, Y), linear("down", Y, X),
        vector("add", f"2 * {X}", X), repeat="{num_layers}",
    )  # fmt: skip
    found, nodes = flow(linear("embed", X, X), layer)
    assert sources(found, nodes["add"]) == ["down", "embed"]
    assert found.residual == {nodes["add"]}


def test_two_branches_of_one_layer_are_added_before_the_stream() -> None:
    layer = composite(
        "layers", vector("norm", X, X), linear("one", X, X), linear("two", X, Y), linear("three", Y, X),
        vector("add", f"2 * {X}", X), vector("add all", f"2 * {X}", X), repeat="{num_layers}",
    )  # fmt: skip
    found, nodes = flow(linear("embed", X, X), layer)
    assert sources(found, nodes["two"]) == ["norm"]  # and not what another linear gave
    assert sources(found, nodes["add"]) == ["one", "three"]
    assert sources(found, nodes["add all"]) == ["add", "embed"]
    assert found.residual == {nodes["add all"]}


def test_positions_masks_and_tables_are_preparations_and_what_depends_on_tokens_is_none() -> None:
    table = "{seq_len} * {head_dim} * {a_bytes}"
    found, nodes = flow(
        vector("arange", "0", "{seq_len} * 8", "0"),
        vector("cos", "{seq_len} * 8", table),
        vector("lookup", "8 * {batch_size} + {batch_size} * {hidden_size} * {w_bytes}", X, "0"),
        linear("q", X, Y),
        vector("rotate", f"{Y} + {table}", Y),
    )
    assert set(found.preparations) == {nodes["arange"], nodes["cos"]}
    assert sources(found, nodes["rotate"]) == ["cos", "q"]


def test_what_follows_from_weights_alone_is_prepared_and_its_weights_are_remembered() -> None:
    found, nodes = flow(
        linear("q", X, Y),
        vector("convert", "{hidden_size} * {w_bytes}", "4 * {hidden_size}", "0"),
        vector("exp", "4 * {hidden_size}", "4 * {hidden_size}", "{hidden_size}"),
        vector("scale", f"{Y} + 4 * {{hidden_size}}", Y),
    )
    assert dict(found.preparations) == {nodes[name]: [nodes["convert"]] for name in ("convert", "exp")}
    assert sources(found, nodes["scale"]) == ["exp", "q"]


def test_kernels_of_passes_that_exclude_each_other_do_not_read_from_each_other() -> None:
    step, many = "({cache_len} > 0) * ({seq_len} == 1)", "max({seq_len} > 1, {cache_len} == 0)"
    found, nodes = flow(
        linear("in", X, Y),
        composite("update", vector("step", Y, Y), calls=step),
        composite("scan", vector("all", Y, Y), calls=many),
    )
    assert sources(found, nodes["step"]) == sources(found, nodes["all"]) == ["in"]


def test_a_state_is_what_the_template_says_is_kept_beside_the_cache() -> None:
    state = "4 * {batch_size} * {hidden_size} * {head_dim}"
    tree = Tree(
        own(
            template(
                composite("mixer", vector("update", state, state), vector("read", state, X)),
                config=CONFIG,
                state={"recurrent_state": "{num_layers} * {batch_size} * {head_dim} * {hidden_size} * 4"},
            )
        )
    )
    found = flow_of(tree, regions_of(tree))
    assert [node.kernel.name for node in found.states] == ["update"]


def test_a_template_without_config_and_one_without_kernels_have_a_flow() -> None:
    tree = Tree(own(template(linear("up", X, Y), linear("down", Y, X))))
    found = flow_of(tree, {})
    assert [sources(found, node) for node in tree.nodes if node.is_basic] == [[], ["up"]]
    assert flow_of(Tree(own(template(composite("nothing")))), {}).sources == {}


def test_two_amounts_are_compared_in_every_pass() -> None:
    found = Flow(passes=[{"batch_size": 1, "seq_len": 5}, {"batch_size": 64, "seq_len": 1}])
    two, three, tokens = (parse(text) for text in ("2 * {batch_size}", "3 * {batch_size}", "4 * {seq_len}"))
    assert found.never_more(two, three)
    assert not found.never_more(three, two)
    assert found.never_more(two, two)
    assert not found.never_more(two, tokens)  # 128 sequences are more than 4 tokens
    assert not found.never_more(tokens, two)  # and 20 tokens more than 2 sequences


def test_what_reads_nothing_is_prepared_after_a_product_as_well() -> None:
    found, nodes = flow(
        linear("q", X, Y), vector("arange", "0", "{seq_len} * 8", "0"), vector("mask", "{seq_len} * 8", "{seq_len}", "0"),
        vector("count", "{seq_len}", "{seq_len} * 2", "{seq_len}"),
    )  # fmt: skip
    assert set(found.preparations) == {nodes["arange"], nodes["mask"]}


HEADS = "{batch_size} * {num_heads} * {head_dim} * {a_bytes}"
"""As much as `X` in this model, of which nobody but the model says so."""


def attention() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two products of attention."""
    scores, cache = "{batch_size} * {num_heads} * {cache_len} * {a_bytes}", "{cache_len} * {kv_bytes}"
    return (
        basic("2 * {batch_size}", f"{HEADS} + {cache}", scores, "matmul", "scores"),
        basic("2 * {batch_size}", f"{scores} + {cache}", HEADS, "matmul", "values"),
    )


def test_a_kernel_reads_again_what_has_its_size_and_not_what_only_equals_it() -> None:
    found, nodes = flow(linear("embed", X, X), linear("q", X, HEADS), vector("act", HEADS, Y), vector("gate", X, Y))
    assert sources(found, nodes["gate"]) == ["embed"]


def test_attention_reads_queries_and_not_what_only_equals_them() -> None:
    found, nodes = flow(
        linear("embed", X, X), composite("attn", linear("q", X, HEADS), linear("gate", X, X), *attention())
    )
    assert sources(found, nodes["scores"]) == ["q"]
    # The same where both have been read before.
    peek = vector("peek", f"{HEADS} + {X}", "{batch_size} * {a_bytes}")
    found, nodes = flow(
        linear("embed", X, X), composite("attn", linear("q", X, HEADS), linear("gate", X, X), peek, *attention())
    )
    assert sources(found, nodes["peek"]) == ["gate", "q"]
    assert sources(found, nodes["scores"]) == ["q"]


def test_beside_what_nobody_made_the_latest_tensor_is_read() -> None:
    small = "{batch_size} * {a_bytes}"
    mix = vector("mix", f"{X} + 8 * {{batch_size}}", X)
    found, nodes = flow(linear("one", "0", small), linear("two", "0", X), mix)
    assert found.unknown == {nodes["mix"]}
    assert sources(found, nodes["mix"]) == ["two"]


def test_a_linear_reads_what_another_gave_rather_than_what_only_equals_its_input() -> None:
    found, nodes = flow(
        linear("one", "0", X), linear("q", "0", HEADS), vector("act", HEADS, HEADS), linear("out", X, Y)
    )
    assert sources(found, nodes["out"]) == ["one"]
    # What is not a linear's is read before a linear's, where both have its size.
    found, nodes = flow(linear("one", "0", X), linear("q", "0", HEADS), vector("act", HEADS, X), linear("out", X, Y))
    assert sources(found, nodes["out"]) == ["act"]


def test_attention_reads_two_tensors_at_most_beside_what_was_made_for_it() -> None:
    small = "{batch_size} * {a_bytes}"
    parts = [linear(name, "0", f"{HEADS} / {share}") for name, share in (("half", 2), ("third", 4), ("fourth", 4))]
    made = (linear("q", "0", HEADS), vector("rope", HEADS, HEADS), vector("peek", HEADS, small))
    found, nodes = flow(*parts, composite("attn", *made, *attention()))
    assert sources(found, nodes["peek"]) == ["rope"]
    assert sources(found, nodes["scores"]) == ["rope"]


def test_attention_reads_a_part_of_a_packed_product_and_nothing_old_of_the_same_size() -> None:
    small = "{batch_size} * {a_bytes}"
    packed = f"3 * {HEADS}"
    found, nodes = flow(
        linear("old", "0", HEADS),
        vector("use", HEADS, small),
        composite("attn", linear("qkv", "0", packed), *attention()),
    )
    assert sources(found, nodes["use"]) == ["old"]
    assert sources(found, nodes["scores"]) == ["qkv"]


def test_what_attention_leaves_of_a_packed_product_stays_unread() -> None:
    small, rest = "{batch_size} * {a_bytes}", f"2 * {HEADS}"
    found, nodes = flow(
        linear("old", "0", rest), vector("use", rest, small), linear("qkv", "0", f"3 * {HEADS}"),
        composite("attn", *attention()), vector("append", rest, small),
    )  # fmt: skip
    assert sources(found, nodes["scores"]) == ["qkv"]
    assert sources(found, nodes["append"]) == ["qkv"]


def test_lengths_are_different_primes_so_that_no_product_equals_another() -> None:
    names = ("batch_size", "seq_len", "cache_len", "encoder_len", "a_bytes")
    for run in (RUN, OTHER_RUN):
        lengths = [int(run[name]) for name in names]
        assert len(set(lengths)) == len(lengths)
        assert all(length % factor for length in lengths for factor in range(2, length))
        assert min(lengths) > 4  # bytes of fp32
    assert all(RUN[name] != OTHER_RUN[name] for name in names[:4])


def test_amounts_are_compared_in_prefills_steps_and_passes_of_several_tokens_after_others() -> None:
    lengths = {(one["batch_size"], one["seq_len"], one["cache_len"]) for one in PASSES}
    assert lengths == {
        (batch, new, cached) for batch in (1, 64) for new, cached in ((2048, 0), (1, 0), (1, 2048), (64, 1000))
    }
    assert all(one["encoder_len"] == (one["cache_len"] or one["seq_len"]) for one in PASSES)
    assert {one["a_bytes"] for one in PASSES} == {2}


def test_attention_reads_two_of_what_only_equals_its_operands_at_most() -> None:
    small = "{batch_size} * {a_bytes}"
    parts = [linear(name, "0", f"{X} / {share}") for name, share in (("half", 2), ("third", 4), ("fourth", 4))]
    made = (linear("q", "0", HEADS), vector("peek", HEADS, small))
    found, nodes = flow(*parts, composite("attn", *made, *attention()))
    assert sources(found, nodes["peek"]) == ["q"]
    assert sources(found, nodes["scores"]) == ["q"]


def test_what_is_made_for_attention_is_unread_until_its_last_product() -> None:
    scores = "{batch_size} * {num_heads} * {num_heads} * {a_bytes}"
    products = (
        basic("2 * {batch_size}", f"2 * {HEADS}", scores, "matmul", "scores"),
        basic("2 * {batch_size}", f"{scores} + {HEADS}", HEADS, "matmul", "values"),
    )
    made = [linear(name, "0", HEADS) for name in ("q", "k", "v")]
    found, nodes = flow(linear("other", "0", HEADS), composite("attn", *made, *products))
    assert "other" not in {*sources(found, nodes["scores"]), *sources(found, nodes["values"])}


def test_a_kernel_reads_a_part_of_what_its_own_module_gave_rather_than_something_old_of_that_size() -> None:
    small, packed = "{batch_size} * {a_bytes}", f"3 * {X}"
    product = basic("2 * {batch_size}", "{hidden_size} * {w_bytes}", packed, "matmul", "qkv")
    found, nodes = flow(
        linear("old", "0", X), vector("use", X, small),
        composite("mix", product, vector("scale", X, X), parameters="{hidden_size}"),
    )  # fmt: skip
    assert sources(found, nodes["use"]) == ["old"]
    assert sources(found, nodes["scale"]) == ["qkv"]


def test_attention_reads_a_part_of_what_a_vector_kernel_made_for_it_rather_than_something_old() -> None:
    small = "{batch_size} * {a_bytes}"
    rope = vector("rope", HEADS, f"3 * {HEADS}")
    found, nodes = flow(
        linear("old", "0", HEADS), vector("use", HEADS, small), composite("attn", linear("q", "0", HEADS), rope, *attention()),
    )  # fmt: skip
    assert sources(found, nodes["use"]) == ["old"]
    assert sources(found, nodes["rope"]) == ["q"]
    assert sources(found, nodes["scores"]) == ["rope"]


def test_sizes_are_told_apart_by_their_place_but_small_ones_are_kept() -> None:
    """A size of 48 or more is as much larger as its place by name; what no config says is in steps of 10 from 1,000."""
    sizes = {"head_dim": 47, "hidden_size": 48, "intermediate_size": 640}
    kernels = (vector(name, "0", f"{{{name}}} * {{a_bytes}}") for name in (*sizes, "num_experts", "vocab_size"))
    tree = Tree(own(template(*kernels, config=sizes)))
    found = flow_of(tree, {})
    assert sorted(tree.variables) == ["a_bytes", "batch_size", *sizes, "num_experts", "vocab_size"]
    assert {node.kernel.name: tuple(size / 7 for size in found.written[node]) for node in tree.nodes} == {
        "head_dim": (47, 47), "hidden_size": (48 + 4, 48), "intermediate_size": (640 + 5, 640),
        "num_experts": (1000 + 10 * 6 + 6,) * 2, "vocab_size": (1000 + 10 * 7 + 7,) * 2,
    }  # fmt: skip
    assert all(one["intermediate_size"] == 640 for one in found.passes)


def test_what_no_length_is_in_the_passes_that_are_looked_at() -> None:
    for run in (RUN, OTHER_RUN):
        assert run["num_logits"] == 5  # as many as the new tokens of the first
        assert [run[name] for name in ("causal", "w_bytes", "kv_bytes", "tp_rank")] == [0, 0, 0, 0]
        assert [run[name] for name in ("tp", "ep", "pp", "dp", "fsdp", "cp", "imbalance")] == [1] * 7


def test_amounts_that_are_equal_are_never_more() -> None:
    found = Flow(passes=[{"batch_size": 3}])
    assert found.never_more(parse("2 * {batch_size}"), parse("{batch_size} + {batch_size}"))


SMALL, PACKED = "{batch_size} * {a_bytes}", f"3 * {X}"


def test_a_stage_begins_with_what_the_stage_before_sent() -> None:
    """Once: what a later kernel reads and nobody made is unknown."""
    weights = f"{X} + {{hidden_size}} * {{w_bytes}}"
    layer = composite(
        "layers", vector("norm", weights, Y), linear("up", Y, Y), linear("down", Y, X), vector("add", f"2 * {X}", X),
        vector("peek", X, "0"), vector("odd", f"100 * {X}", X), repeat="{num_layers}",
    )  # fmt: skip
    found, nodes = flow(vector("arange", "0", "{seq_len} * 8", "0"), layer)
    (sent,) = found.sources[nodes["norm"]]
    assert (sent.writer.kernel.name, sent.formula, sent.is_stream) == ("arange", parse(X), True)
    assert sources(found, nodes["add"]) == ["arange", "down"]
    assert found.residual == {nodes["add"]}
    assert found.unknown == {nodes["odd"]}


def test_what_adds_nothing_is_no_residual() -> None:
    for flops, residual in (("{batch_size}", ["add"]), ("0", [])):
        add = vector("add", f"2 * {X}", X, flops)
        layer = composite("layers", vector("norm", X, X), linear("up", X, Y), linear("down", Y, X), add, repeat="2")
        found, _ = flow(linear("embed", X, X), layer)
        assert [node.kernel.name for node in found.residual] == residual


SCORES = "{batch_size} * {num_heads} * {cache_len} * {a_bytes}"
THREE = (
    basic("2 * {batch_size}", f"2 * {HEADS}", SCORES, "matmul", "scores"),
    basic("{batch_size}", SCORES, SCORES, name="softmax"),
    basic("2 * {batch_size}", f"{SCORES} + {HEADS}", HEADS, "matmul", "values"),
)
"""Attention with a kernel between its products, whose result is larger than all else."""


def test_what_is_made_for_attention_is_its_own_until_the_end_and_nobody_elses_then() -> None:
    made = [linear(name, "0", HEADS) for name in ("q", "k", "v", "rest")]
    attention = composite("attn", *made, *THREE)
    found, nodes = flow(linear("other", "0", HEADS), attention)
    read = {*sources(found, nodes["scores"]), *sources(found, nodes["values"])}
    assert read == {"rest", "v", "k", "softmax"}  # the latest three, and not the other one
    assert sources(found, nodes["softmax"]) == ["scores"]
    found, nodes = flow(attention, linear("o", HEADS, Y), vector("late", HEADS, X))
    assert sources(found, nodes["o"]) == ["values"]
    assert sources(found, nodes["late"]) == ["values"]  # and not q, which nobody has read


def test_what_is_inside_attention_is_not_read_outside() -> None:
    made = [linear(name, "0", HEADS) for name in ("q", "k", "v")]
    found, nodes = flow(composite("attn", *made, *THREE), vector("late", SCORES, "0"), linear("o", HEADS, Y))
    assert found.unknown == {nodes["late"]}
    assert sources(found, nodes["o"]) == ["values"]


def test_attention_is_not_linear_in_what_it_reads_but_experts_are() -> None:
    decoy = vector("decoy", "0", HEADS)
    made = [linear(name, "0", HEADS) for name in ("q", "k", "v")]
    found, nodes = flow(linear("in", "0", X), decoy, composite("attn", *made, *THREE), linear("o", HEADS, Y))
    assert sources(found, nodes["o"]) == ["values"]
    weights = "{num_experts} * {hidden_size}"
    experts = composite("experts", *(
        basic("2 * {batch_size}", f"{X} + {weights} * {{w_bytes}}", X, "matmul", name) for name in ("one", "two")
    ), parameters=weights)  # fmt: skip
    found, nodes = flow(linear("in", "0", Y), vector("act", Y, X), experts, linear("out", X, Y))
    assert sources(found, nodes["out"]) == ["act"]


def test_copies_of_keys_go_into_the_first_product_and_those_of_values_into_the_second() -> None:
    cached, copied = "{cache_len} * {num_heads} * {kv_bytes}", "{cache_len} * {num_heads} * {a_bytes}"
    attend = (
        vector("copy k", cached, copied, "0"), vector("copy v", cached, copied, "0"),
        basic("2 * {batch_size}", f"{HEADS} + {copied}", SCORES, "matmul", "scores"),
        basic("2 * {batch_size}", f"{SCORES} + {copied}", HEADS, "matmul", "values"),
    )  # fmt: skip
    found, nodes = flow(composite("attn", linear("q", "0", HEADS), *attend))
    assert sources(found, nodes["scores"]) == ["copy k", "q"]
    assert sources(found, nodes["values"]) == ["copy v", "scores"]


def test_forty_tensors_are_looked_at_beside_those_outside_all_layers() -> None:
    def after(number: int, read: str, *, inside: bool = True) -> tuple[list[str], bool]:
        first = linear("first", "0", PACKED)
        rest = [vector(f"op {place}", "0", SMALL) for place in range(number)]
        reader = vector("reader", read, "0")
        if not inside:
            found, nodes = flow(first, composite("layers", *rest, reader, repeat="2"))
        else:
            found, nodes = flow(composite("layers", first, *rest, reader, repeat="2"))
        return sources(found, nodes["reader"]), nodes["reader"] in found.unknown

    for read in (PACKED, X):  # all of it, and a part
        assert after(39, read) == (["first"], False)
        assert "first" not in after(40, read)[0]
    assert after(60, PACKED, inside=False) == (["first"], False)


def test_a_part_is_of_the_latest_tensor_that_is_larger() -> None:
    """Past smaller ones, prepared ones, and those of passes that exclude this one."""
    step, many = "({cache_len} > 0) * ({seq_len} == 1)", "max({seq_len} > 1, {cache_len} == 0)"
    table = vector("arange", "0", "{seq_len} * 80000", "0")
    found, nodes = flow(
        linear("old", "0", f"5 * {X}"), linear("qkv", "0", PACKED), vector("small", "0", SMALL), table,
        composite("update", vector("step", "0", f"7 * {X}"), calls=step),
        composite("scan", vector("part", X, "0"), vector("other", SMALL, "0"), calls=many),
    )  # fmt: skip
    assert sources(found, nodes["part"]) == ["qkv"]
    assert sources(found, nodes["other"]) == ["small"]  # which is still there


def test_a_part_is_smaller_in_this_model() -> None:
    """639 of 640, whatever numbers they have where sizes are told apart."""
    sizes = {**CONFIG, "z_other": 639}
    other = "{batch_size} * {z_other} * {a_bytes}"
    tree = Tree(own(template(linear("one", "0", X), vector("part", other, "0"), config=sizes)))
    found = flow_of(tree, {})
    (reader,) = (node for node in tree.nodes if node.kernel.name == "part")
    assert sources(found, reader) == ["one"]


def test_parts_take_the_place_of_the_whole() -> None:
    parts = linear("qkv", "0", PACKED), vector("part", X, "0"), vector("all", PACKED, "0")
    found, nodes = flow(composite("layers", *parts, repeat="2"))
    assert sources(found, nodes["all"]) == ["qkv", "qkv"]
    assert [one.is_whole for one in found.sources[nodes["all"]]] == [False, False]


def test_products_and_what_is_fused_and_what_reads_the_cache_are_no_preparations() -> None:
    weights = "{hidden_size} * {w_bytes}"
    product = basic("{hidden_size}", weights, "{hidden_size}", "matmul", "product")
    found, nodes = flow(
        vector("cached", "{cache_len} * {kv_bytes}", "{cache_len}", "0"), vector("convert", weights, "{hidden_size}", "0"),
        composite("part", product, basic("{hidden_size}", weights, "{hidden_size}", name="bias", fused=True)),
    )  # fmt: skip
    assert set(found.preparations) == {nodes["convert"]}


def test_a_linear_reads_one_tensor_that_is_no_linears_or_else_any() -> None:
    found, nodes = flow(vector("act", "0", X), linear("q", "0", X), composite("next", linear("out", X, Y)))
    assert sources(found, nodes["out"]) == ["act"]  # though the other one is later
    halves = [vector(name, "0", f"{X} / 2") for name in ("one", "two")]
    found, nodes = flow(linear("q", "0", X), *halves, composite("next", linear("out", X, Y)))
    assert sources(found, nodes["out"]) == ["q"]


def attending(*before: Mapping[str, Any], read: str = HEADS) -> list[str]:
    """Return what the first product of attention reads, in a module with what stands before it."""
    products = (
        basic("2 * {batch_size}", read, SCORES, "matmul", "scores"),
        basic("2 * {batch_size}", f"{SCORES} + {{cache_len}} * {{kv_bytes}}", HEADS, "matmul", "values"),
    )
    found, nodes = flow(linear("big", "0", f"5 * {X}"), composite("attn", *before, *products))
    return sources(found, nodes["scores"])


def test_what_attention_reads_first() -> None:
    q, k = (linear(name, "0", HEADS) for name in "qk")
    gate, more, narrow = linear("gate", "0", X), linear("more", "0", X), linear("narrow", "0", SMALL)
    late = linear("late", "0", f"7 * {HEADS}")
    rope, turn, packed = vector("rope", "0", HEADS), vector("turn", "0", X), vector("packed", "0", f"3 * {HEADS}")
    assert attending(q, k, gate, read=f"2 * {HEADS}") == ["k", "q"]  # two of its size, and none that only equals them
    assert attending(gate, more, read=f"2 * {HEADS}") == ["gate", "more"]  # rather than a part of another
    assert attending(packed, late) == ["packed"]  # a part of what a vector kernel made for it, not of a linear's
    assert attending(packed, vector("peek", f"3 * {HEADS}", "0"), late) == ["late"]  # once that was read
    both = vector("peek", f"{HEADS} + {X}", "0")
    assert attending(narrow, rope, turn, both) == ["rope"]  # what was read before, of its size
    assert attending(narrow, turn, vector("peek", X, "0")) == ["turn"]  # or what only equals it


def test_a_product_reads_what_is_unread_and_only_equals_its_input_before_what_was_read() -> None:
    peek, act = vector("peek", X, "0"), vector("act", HEADS, HEADS)
    found, nodes = flow(linear("one", "0", X), peek, linear("q", "0", HEADS), act, linear("out", X, Y))
    assert sources(found, nodes["out"]) == ["act"]


def test_a_vector_kernel_reads_what_only_equals_its_input_before_a_part_of_another() -> None:
    big, q, gate = linear("big", "0", f"5 * {X}"), linear("q", "0", HEADS), vector("gate", X, Y)
    found, nodes = flow(q, big, gate)
    assert sources(found, nodes["gate"]) == ["q"]
    found, nodes = flow(q, vector("peek", HEADS, "0"), big, vector("use", f"5 * {X}", "0"), gate)
    assert sources(found, nodes["gate"]) == ["q"]  # both were read
    found, nodes = flow(big, vector("use", f"5 * {X}", "0"), gate)
    assert sources(found, nodes["gate"]) == ["big"]
    assert found.unknown == {nodes["gate"]}


def test_what_follows_a_preparation_continues_it_until_there_was_a_product() -> None:
    tables = [vector(f"arange {place}", "0", f"{{seq_len}} * {place}", "0") for place in (8, 9, 10)]
    next_, reads = vector("next", "{seq_len} * 1000", SMALL), ["arange 10"]
    found, nodes = flow(*tables, next_)
    assert (sources(found, nodes["next"]), found.unknown) == (reads, set())
    found, nodes = flow(linear("q", "0", SMALL), *tables, next_)
    assert (sources(found, nodes["next"]), found.unknown) == (reads, {nodes["next"]})
    lookup = vector("lookup", "{batch_size} * {hidden_size} * {w_bytes}", SMALL)
    found, nodes = flow(*tables, lookup, next_)
    assert (sources(found, nodes["next"]), found.unknown) == (["lookup"], {nodes["next"]})


def test_a_kernel_does_not_read_a_part_of_its_own_product_that_was_read() -> None:
    product = basic("2 * {batch_size}", "{hidden_size} * {w_bytes}", PACKED, "matmul", "qkv")
    part = composite("mix", product, vector("peek", PACKED, "0"), vector("scale", X, X), parameters="{hidden_size}")
    found, nodes = flow(linear("old", "0", X), vector("use", X, "0"), part)
    assert sources(found, nodes["scale"]) == ["old"]


def test_three_tensors_at_most_and_two_beside_a_table_are_read_together() -> None:
    sizes = [f"{{batch_size}} * {{hidden_size}} * {{a_bytes}} * {number}" for number in (2, 4, 8, 16)]
    made = [linear(f"l{place}", "0", size) for place, size in enumerate(sizes)]
    for number in (2, 3, 4):
        found, nodes = flow(*made, vector("join", " + ".join(sizes[:number]), "0"))
        assert (nodes["join"] in found.unknown) == (number > 3)
        assert sources(found, nodes["join"]) == ([f"l{place}" for place in range(number)] if number < 4 else ["l3"])
    table = "{seq_len} * {head_dim} * {a_bytes}"
    for number in (1, 2, 3):
        join = vector("join", " + ".join((*sizes[:number], table)), "0")
        found, nodes = flow(vector("cos", "0", table, "0"), *made[:3], join)
        assert ("cos" in sources(found, nodes["join"])) == (number < 3)
        assert (nodes["join"] in found.unknown) == (number == 3)


def test_of_what_nobody_made_the_latest_tensor_alone_is_read() -> None:
    made = [linear(name, "0", SMALL) for name in ("one", "two", "three")]
    found, nodes = flow(*made, vector("mix", f"{X} + 8 * {{batch_size}}", X))
    assert sources(found, nodes["mix"]) == ["three"]


def test_of_passes_that_exclude_this_one_nothing_of_its_size_is_read() -> None:
    step, many = "({cache_len} > 0) * ({seq_len} == 1)", "max({seq_len} > 1, {cache_len} == 0)"
    inside = composite("update", vector("step", "0", X), calls=step), composite("scan", vector("all", X, Y), calls=many)
    found, nodes = flow(linear("in", "0", SMALL), *inside)
    assert sources(found, nodes["all"]) == []
    assert found.unknown == {nodes["all"]}


def test_parts_leave_the_tensors_after_theirs() -> None:
    kernels = (
        linear("qkv", "0", PACKED),
        vector("small", "0", SMALL),
        vector("part", X, "0"),
        vector("other", SMALL, "0"),
    )
    found, nodes = flow(composite("layers", *kernels, repeat="2"))
    assert [sources(found, nodes[name]) for name in ("part", "other")] == [["qkv"], ["small"]]


def test_one_byte_beside_a_table_is_read() -> None:
    table = "{seq_len} * {head_dim} * {a_bytes}"
    kernels = (
        vector("cos", "0", table, "0"),
        linear("q", "0", X),
        vector("flag", "0", "1"),
        vector("use", f"{table} + 1", "0"),
    )
    found, nodes = flow(*kernels)
    assert sources(found, nodes["use"]) == ["cos", "flag"]


def test_nothing_that_is_inside_attention_is_taken_for_a_part_outside() -> None:
    extra, twice = vector("extra", SCORES, f"2 * {SCORES}"), f"2 * {SCORES}"
    made = [linear(name, "0", HEADS) for name in ("q", "k", "v")]
    found, nodes = flow(composite("attn", *made, THREE[0], extra, *THREE[1:]), vector("late", twice, "0"))
    assert sources(found, nodes["extra"]) == ["scores"]
    assert found.unknown == {nodes["late"]}
    assert sources(found, nodes["late"]) == ["values"]
    late = vector("peek", HEADS, "0"), vector("late", twice, "0")
    found, nodes = flow(composite("attn", *made, THREE[0], extra, *THREE[1:]), *late)
    assert sources(found, nodes["late"]) == []  # nothing is left that could be a part of it


def test_vector_kernels_of_attention_read_any_copy() -> None:
    cached, copied = "{cache_len} * {num_heads} * {kv_bytes}", "{cache_len} * {num_heads} * {a_bytes}"
    copies = [vector(f"copy {name}", cached, copied, "0") for name in "kv"]
    products = (
        basic("2 * {batch_size}", f"{HEADS} + {copied}", SCORES, "matmul", "scores"),
        basic("2 * {batch_size}", f"{SCORES} + {copied}", HEADS, "matmul", "values"),
    )
    turn = vector("turn", copied, f"3 * {copied}")
    found, nodes = flow(composite("attn", linear("q", "0", HEADS), *copies, turn, *products))
    assert sources(found, nodes["turn"]) == ["copy v"]  # the latest
