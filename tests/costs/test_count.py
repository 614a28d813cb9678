"""From a template, sizes and a run to costs: what is refused, and what a pass is counted from."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from builders import basic, composite, error_of, template

from nbanalyzer import Analysis, populate
from nbanalyzer.costs.count import again, as_run, count, fused, shortest, tree_again, whole
from nbanalyzer.costs.run import Run
from nbanalyzer.errors import ConfigError, InputError
from nbanalyzer.files import convert
from nbanalyzer.templates.template import ModelTemplate

SIZES = {"num_layers": 4, "hidden_size": 8}
LAYER = composite("layers", basic("{seq_len} * {hidden_size}"), parameters="{hidden_size}", repeat="{num_layers}")


def own(*kernels: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return template(*(kernels or (LAYER,)), **{"config": SIZES, **fields})


# ---- images, on a template by hand

READS = {
    "what": "images", "rule": "one size", "sizes": {"height": "28", "width": "14"}, "usual": 1, "positions": "6",
    "variables": {"num_patches": "{num_images} * {image_height} // 14 * ({image_width} // 14)"},
}  # fmt: skip
SEES = composite("tower", basic("10 * {num_patches}"))


def seeing(model_id: str = "own", *, writes: bool = True, **run: Any) -> Analysis:
    state = {"kv_cache": "{num_layers} * ({cache_len} + {seq_len})"} if writes else {}
    made = {**own(LAYER, SEES, reads=READS, state=state), "model_id": model_id}
    return populate(made, **{"seq_len": 20, **run})


def test_images_are_in_the_pass_and_in_its_line() -> None:
    """One of 28 x 14 is two patches, and takes 6 of 20 positions."""
    for number in (1, 2):
        found = seeing(images=number)
        assert found.totals["flops"] == 4 * 20 * 8 + 10 * 2 * number
        assert "image" in found.conditions
    assert seeing().totals == seeing(images=1).totals
    assert "image" not in populate(own(), seq_len=20).conditions
    assert seeing(images=3, seq_len=18).totals["flops"] > 0
    message = error_of(lambda: seeing(images=3, seq_len=17), InputError)
    assert message.startswith("seq_len=17 counts all positions of a sequence, those of images too, which alone are 18")
    assert seeing(images=3, seq_len=17, cache_len=1).totals["flops"] > 0  # they were read before


@pytest.mark.parametrize(("model_id", "name"), [("own", "own"), ("", "a model")])
def test_a_model_that_reads_images_alone_has_no_stages(model_id: str, name: str) -> None:
    said = f"not modelled: pp for {name}, which reads images"
    assert error_of(lambda: seeing(model_id, writes=False, pp=2)) == said
    assert seeing(model_id, writes=False, dp=2).run.devices == 2
    for axis, note in (
        ("pp", "stage 0 with layers 0 to 1, and what reads images"),
        ("cp", "every rank of cp reads all images"),
    ):
        assert note in seeing(model_id, **{axis: 2, "rank": 0}).conditions  # type: ignore[arg-type]


def test_a_model_that_reads_text_alone() -> None:
    assert error_of(lambda: populate(own(), images=1)) == "images=1 changes nothing: this model reads text alone"
    assert "image_size='28x28' changes nothing" in error_of(lambda: populate(own(), image_size="28x28")).replace(
        "=28x28", "='28x28'"
    )


def test_a_template_that_reads_images_answers_for_its_own_config() -> None:
    made = own(LAYER, SEES, reads=READS)
    said = "the template of 'own' reads images and answers for its own config alone; generate one for the other"
    assert error_of(lambda: populate(made, set={"num_layers": 2})) == f"set num_layers: {said}"
    assert error_of(lambda: populate(made, config={**SIZES, "num_layers": 2})) == f"num_layers is 2: {said}"


def test_a_template_that_reads_images_takes_other_values_of_what_is_known() -> None:
    known = {"varied": ["num_layers"], "least": {"num_layers": 2}, "defaults": SIZES}
    made = own(LAYER, SEES, reads=READS, valid_for=known)
    run: dict[str, Any] = {"images": 0, "seq_len": 2}
    assert populate(made, set={"num_layers": 3}, **run).totals["flops"] == 3 * 2 * 8
    assert populate(made, config={**SIZES, "num_layers": 3}, **run).totals["flops"] == 3 * 2 * 8
    said = (
        "set hidden_size=16: no formula says all that follows from it in own, which takes other values of num_layers; "
        "generate a template for a config.json with it"
    )
    assert error_of(lambda: populate(made, set={"hidden_size": 16})) == said
    changes: tuple[dict[str, Any], ...] = ({"set": {"num_layers": 1}}, {"config": {**SIZES, "num_layers": 1}})
    for change in changes:
        assert 'says num_layers = 1, own was made for "2 or more"' in error_of(
            partial(populate, made, **change), ConfigError
        )


# ---- configs and changes


def test_a_config_of_another_type_is_refused() -> None:
    made = own(config={**SIZES, "model_type": "mine"})
    said = "this config is a 'yours', the template of 'own' is a 'mine'"
    assert error_of(lambda: populate(made, config={**SIZES, "model_type": "yours"}), ConfigError).endswith(said)
    for config in ({**SIZES, "model_type": "mine"}, SIZES, {**SIZES, "model_type": ""}):
        assert populate(made, config=config, seq_len=2).totals["flops"] == 4 * 2 * 8
    assert populate(own(), config={**SIZES, "model_type": "yours"}, seq_len=2).totals["flops"] == 64


def test_a_change_without_effect_is_refused() -> None:
    assert populate(own(), set={"num_layers": 2}, seq_len=1).totals["flops"] == 16
    said = "set vocab_size=5 changes nothing: no formula of this template uses it, they use hidden_size, num_layers"
    assert error_of(lambda: populate(own(), set={"vocab_size": 5})) == said
    together = own(valid_for={"varied": ["hidden_size", "vocab_size"], "together": ["hidden_size=vocab_size"]})
    assert "vocab_size" not in error_of(lambda: populate(together, set={"num_heads": 3})).partition(":")[0]


def test_a_variable_without_a_value_is_named_with_its_user() -> None:
    made = own(LAYER, composite("head", basic("{my_size}")), config={**SIZES, "my_size": 3})
    said = "the config has no {my_size} (looked for my_size), and head.op needs it"
    assert said in error_of(lambda: populate(made, config=SIZES), ConfigError)
    kept = own(state={"kv_cache": "{my_size}"}, config={**SIZES, "my_size": 3})
    assert "and its state needs it" in error_of(lambda: populate(kept, config=SIZES), ConfigError)


def test_a_length_that_no_encoder_reads_is_refused() -> None:
    said = "encoder_len=5 changes nothing: this model has no encoder of its own"
    assert error_of(lambda: populate(own(), encoder_len=5)) == said
    reads = own(LAYER, composite("encoder", basic("{encoder_len}")))
    assert populate(reads, seq_len=1, encoder_len=5).totals["flops"] == 32 + 5


# ---- runs


def test_a_stage_is_counted_with_its_own_layers() -> None:
    assert populate(own(), seq_len=2, pp=2).totals["flops"] == 2 * 2 * 8
    assert populate(own(), seq_len=2, pp=1).totals["flops"] == 4 * 2 * 8
    alone = own(composite("alone", basic("{seq_len}")))
    assert populate(alone, seq_len=2).totals["flops"] == 2  # no layers are asked for
    assert "pipeline stages" in error_of(lambda: populate(alone, pp=2))


def test_the_same_in_another_run() -> None:
    made = convert(own(), ModelTemplate, "own")
    first = count(made, seq_len=2)
    second = again(first, Run(seq_len=5, logits="last"))
    assert (first.totals["flops"], second.totals["flops"], second.params) == (64, 160, first.params)
    engine = fused(first)
    assert (engine.run.fusion, engine.run.seq_len, fused(engine)) == ("engine", 2, engine)
    assert tree_again(first.kernel_tree, Run(), ()) is tree_again(first.kernel_tree, Run(), {"num_layers": 9}.items())


def test_whole_numbers_are_those_of_python() -> None:
    import numpy as np

    run = as_run({"seq_len": np.int64(5), "imbalance": 1, "causal": True})
    assert (run.seq_len, type(run.seq_len), run.causal) == (5, int, "on")
    assert [whole(value) for value in (True, 2.5, "x")] == [True, 2.5, "x"]


def test_the_shortest_pass_has_room_for_an_image() -> None:
    """Of a model whose every prompt has one, as BLIP-2's, which may keep nothing for a next step."""
    cases: tuple[tuple[dict[str, Any], int], ...] = (({"each": True}, 6), ({}, 6), ({"usual": 0}, 1))
    for more, length in cases:
        made = convert(own(reads={**READS, **more}), ModelTemplate, "own")
        assert shortest(made) == {"seq_len": length}
        assert count(made, seq_len=length).totals["parameters"] == 4 * 8
    assert shortest(convert(own(), ModelTemplate, "own")) == {"seq_len": 1}


def test_weights_have_the_bits_of_the_run_where_costs_are_compared() -> None:
    made = convert(own(config={**SIZES, "quantization_config": {"quant_method": "fp8"}}), ModelTemplate, "own")
    assert count(made, seq_len=2).kernel_tree.stored is None
    assert count(made, seq_len=2, quant="none", w_bit=4).totals["weight_bytes"] == 4 * 8 / 2


def test_a_scheme_of_what_a_model_has_not_is_refused() -> None:
    said = "quant='mxfp4' changes nothing: it is of experts, and this model has none"
    assert error_of(lambda: populate(own(), quant="mxfp4")) == said


def test_a_variant_that_a_template_has_not_is_refused() -> None:
    assert error_of(lambda: populate(own(), attn="eager")) == "own has no attention variant 'eager'"
    assert "this template has no attention variant" in error_of(
        lambda: populate({**own(), "model_id": ""}, attn="eager")
    )
    assert populate(own(attention="eager"), attn="eager", seq_len=2).conventions["attn"] == "eager"
