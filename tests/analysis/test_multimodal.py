"""Shipped models that read images and sound, against a table that was made beforehand, without this package."""

from __future__ import annotations

from typing import Any

import pytest

import nbanalyzer
from nbanalyzer.analysis.memory import Fit
from nbanalyzer.analysis.served import Served
from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.hardware.accelerators import hardware
from nbanalyzer.templates import catalog

TEXT = 64
L40S = hardware("l40s")
SIZES = ("448x672", "896x896")

# Parameters; matmul FLOPs of two images and 64 tokens, at both sizes, of the whole and of its tower and projector.
GRIDS: dict[str, tuple[int, tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "Qwen/Qwen2-VL-2B-Instruct": (
        2_208_985_600, (7_387_742_208_000, 23_257_122_078_720), (4_700_158_033_920, 15_969_728_593_920), (384, 1024)
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        8_292_166_656, (16_115_845_562_368, 42_946_283_962_368), (4_073_025_699_840, 11_290_898_595_840), (384, 1024)
    ),
    "Qwen/Qwen3-VL-2B-Instruct": (
        2_127_532_032, (4_159_220_219_904, 12_283_589_689_344), (1_818_243_366_912, 6_057_111_846_912), (294, 784)
    ),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": (
        31_070_754_032, (6_731_039_309_824, 20_033_106_345_984), (2_430_403_411_968, 8_010_536_583_168), (294, 784)
    ),
}  # fmt: skip
ONE_SIZE = {
    "llava-hf/llava-1.5-7b-hf": (7_063_427_072, 17_656_446_124_032, 576),
    "google/paligemma-3b-pt-224": (2_923_466_480, 3_379_167_756_288, 256),
    "google/gemma-3-27b-it": (27_432_406_640, 42_377_353_887_744, 256),
}
# In tiles of 144 positions each, and one of the whole image: 2 x 2 and 3 x 3.
TILES = {"448x672": (333_438_452_971_520, 5 * 144), "896x896": (657_287_678_423_040, 10 * 144)}
# As their publishers have them.
PARAMETERS = {
    "google/vit-base-patch16-224": 86_567_656, "openai/clip-vit-large-patch14": 427_616_513,
    "google/siglip-base-patch16-224": 203_155_970, "openai/whisper-large-v3": 1_543_490_560,
    "facebook/wav2vec2-base-960h": 94_396_320, "facebook/dinov2-base": 86_580_480,
    "Qwen/Qwen3.6-27B": 54_713_457_120 // 2,  # bytes of a checkpoint in bf16
    "google/gemma-3-4b-it": 4_300_079_472, "google/gemma-3-12b-it": 12_187_325_040,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108_641_793_536,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": 401_583_781_376,
    # Without the layer that predicts a further token, see docs/mtp.md.
    "Qwen/Qwen3.5-9B": 9_653_104_368 - 243_290_624, "Qwen/Qwen3.5-27B": 27_781_427_952 - 424_699_392,
    "Qwen/Qwen3.5-35B-A3B": 35_951_822_704 - 844_640_768,
    "Qwen/Qwen3.5-122B-A10B": 125_086_497_008 - 2_523_679_232,
    "Qwen/Qwen3.5-397B-A17B": 403_397_928_944 - 6_595_568_128,
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_images_on_a_grid(name: str) -> None:
    parameters, wholes, towers, positions = GRIDS[name]
    for size, whole, tower, taken in zip(SIZES, wholes, towers, positions, strict=True):
        found = nbanalyzer.populate(name, images=2, image_size=size, seq_len=2 * taken + TEXT)
        assert found.totals["parameters"] == parameters
        assert found.totals["matmul_flops"] == whole
        assert found.cost(found.find("model.visual")).matmul_flops == tower
        with pytest.raises(NBAnalyzerError, match=f"{2 * taken:,}: it is at least that"):
            nbanalyzer.populate(name, images=2, image_size=size, seq_len=2 * taken - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_SIZE)
def test_images_of_one_size(name: str) -> None:
    parameters, whole, taken = ONE_SIZE[name]
    found = nbanalyzer.populate(name, images=2, seq_len=2 * taken + TEXT)
    assert (found.totals["parameters"], found.totals["matmul_flops"]) == (parameters, whole)
    resized = nbanalyzer.populate(name, images=2, image_size="300x500", seq_len=2 * taken + TEXT)
    assert resized.totals == found.totals
    assert "images of 300x500 are resized to" in resized.conditions


@pytest.mark.parametrize("size", TILES)
def test_images_in_tiles(size: str) -> None:
    whole, taken = TILES[size]
    found = nbanalyzer.populate("Llama-4-Scout", images=2, image_size=size, seq_len=2 * taken + TEXT)
    assert found.totals["matmul_flops"] == whole


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert nbanalyzer.populate(name, seq_len=4).totals["parameters"] == PARAMETERS[name]


@pytest.mark.parametrize("name", [*GRIDS, *ONE_SIZE])
def test_without_images_the_text_part_is_computed_and_all_weights_are_there(name: str) -> None:
    alone = nbanalyzer.populate(name, seq_len=100)
    assert alone.totals["weight_bytes"] == 2 * alone.totals["parameters"]
    tower = alone.find("model.visual" if "Qwen" in name else "model.vision_tower")
    assert alone.cost(tower).flops == alone.cost(tower).bytes == 0
    assert alone.cost(tower).parameters > 0


@pytest.mark.parametrize("name", [*GRIDS, *ONE_SIZE])
def test_a_step_after_images_costs_what_one_after_text_does(name: str) -> None:
    size: dict[str, Any] = {"image_size": "448x672"} if name in GRIDS else {}
    after = nbanalyzer.populate(name, images=2, seq_len=1, cache_len=2000, **size)
    assert after.totals == nbanalyzer.populate(name, seq_len=1, cache_len=2000).totals


def test_of_more_images_each_costs_the_same() -> None:
    """Qwen's tower attends to each image by itself: it is proportional to their number, once its weights are read."""
    towers = [
        found.cost(found.find("model.visual")).matmul_flops
        for images in (1, 2, 5)
        for found in [
            nbanalyzer.populate("Qwen/Qwen2-VL-2B-Instruct", images=images, image_size="300x500", seq_len=4000)
        ]
    ]
    assert towers[1] == 2 * towers[0]
    assert towers[2] == 5 * towers[0]


def test_sound_of_any_length_is_read_in_frames_of_400_samples() -> None:
    """25 ms every 20 ms: the encoder's layers see one position for each; the last product counts them."""
    for seconds, frames in ((0.025, 1), (1, 49), (10.5, 524)):
        found = nbanalyzer.populate("facebook/wav2vec2-base-960h", audio_seconds=seconds)
        assert found.cost(found.find("lm_head")).matmul_flops == 2 * frames * 768 * 32


def test_a_request_reads_images_with_its_prompt() -> None:
    name = "Qwen/Qwen2-VL-2B-Instruct"
    asked: dict[str, Any] = {"prompt_len": 1000, "output_len": 10}
    images: dict[str, Any] = {"images": 1, "image_size": "448x672"}
    with_images, alone = nbanalyzer.request(name, **asked, **images), nbanalyzer.request(name, **asked)
    tower = nbanalyzer.populate(name, seq_len=1000, **images)
    more = with_images.totals["matmul_flops"] - alone.totals["matmul_flops"]
    assert more == tower.cost(tower.find("model.visual")).matmul_flops


def test_a_sweep_over_images_of_requests() -> None:
    """Whose prompts are longer than a pass usually is, and have no room for these images at that length."""
    run: dict[str, Any] = {"output_len": 64, "image_size": "896x896"}
    name = "qwen2.5-vl-7b-instruct"
    found = nbanalyzer.sweep(name, prompt_len=[2048, 4096], images=[0, 2], metrics=["flops", "bytes"], **run)
    for metric in ("flops", "bytes"):
        each = [
            nbanalyzer.request(name, prompt_len=length, images=images, **run).totals[metric]
            for length in (2048, 4096)
            for images in (0, 2)
        ]
        assert [*found.values(metric).reshape(-1)] == pytest.approx(each, rel=1e-12)
    with pytest.raises(NBAnalyzerError, match="seq_len=2047 counts all positions"):
        nbanalyzer.sweep(name, prompt_len=[2047, 4096], images=2, metrics=["flops"], **run)


def test_a_sweep_over_images() -> None:
    name = "Qwen/Qwen2-VL-2B-Instruct"
    found = nbanalyzer.sweep(name, images=[0, 3], image_size="448x672", seq_len=[2000, 3000], metrics=["matmul_flops"])
    for images in (0, 3):
        for length in (2000, 3000):
            one = nbanalyzer.populate(name, images=images, image_size="448x672", seq_len=length)
            point = found.sel(images=images, seq_len=length).values("matmul_flops")
            assert float(point) == one.totals["matmul_flops"]
    with pytest.raises(NBAnalyzerError, match="seq_len=100"):
        nbanalyzer.sweep(name, images=3, image_size="448x672", seq_len=[3000, 100], metrics=["flops"])


def test_a_sweep_over_sizes_of_a_tower() -> None:
    name = "Qwen/Qwen2-VL-2B-Instruct"
    run: dict[str, Any] = {"images": 2, "image_size": "448x672", "seq_len": 832}
    found = nbanalyzer.sweep(name, vision_depth=[16, 32], num_layers=[14, 28], metrics=["flops", "read_bytes"], **run)
    for depth in (16, 32):
        for layers in (14, 28):
            one = nbanalyzer.populate(name, set={"vision_depth": depth, "num_layers": layers}, **run)
            for metric in ("flops", "read_bytes"):
                assert float(found.sel(vision_depth=depth, num_layers=layers).values(metric)) == one.totals[metric]


BAD: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("gpt2", {"images": 1}, "images=1 changes nothing: this model reads text alone"),
    ("gpt2", {"audio_seconds": 1.5}, "audio_seconds=1.5 changes nothing: this model reads text alone"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"images": 1}, 'image_size="448x672"'),
    ("Qwen/Qwen2-VL-2B-Instruct", {"images": 1, "image_size": "9x5000"}, "9x5000: its sides differ"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"images": 1, "image_size": "big"}, "not 'big'"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"images": 1, "image_size": "0x9"}, "not '0x9'"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"images": -1}, "not -1"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"audio_seconds": 2}, "this model reads images"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"set": {"hidden_size": 3072}}, "set hidden_size=3072: no formula says all that"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"set": {"vision_hidden_size": 8}}, "which takes other values of intermediate_size"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"set": {"vision_num_heads": 7}}, "vision_num_heads = 7, Qwen"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"set": {"vision_depth": 0}}, "vision_config.depth = 0"),
    ("Qwen/Qwen2-VL-2B-Instruct", {"set": {"tower_depth": 8}}, "tower_depth"),
    ("google/vit-base-patch16-224", {"images": 3}, "batch_size says how many"),
    ("facebook/wav2vec2-base-960h", {"audio_seconds": -2}, "not -2"),
    ("facebook/wav2vec2-base-960h", {"audio_seconds": 0}, "audio_seconds=0 is too short"),
    ("google/gemma-3n-E2B-it", {"audio_seconds": 256 / 16_000}, "audio_seconds=0.016 is too short"),  # of 32 ms
    ("facebook/wav2vec2-base-960h", {"audio_seconds": 399 / 16_000}, "is too short: nothing of it is left"),
    ("openai/whisper-large-v3", {"audio_seconds": 31}, "30 seconds at most"),
)


@pytest.mark.parametrize(("name", "run", "said"), BAD)
def test_bad_input_is_one_line(name: str, run: dict[str, Any], said: str) -> None:
    with pytest.raises(NBAnalyzerError) as caught:
        nbanalyzer.populate(name, **run)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_formula_of_what_is_read_is_used() -> None:
    for name in catalog.names():
        template = catalog.shipped(name)
        if template.reads is not None:
            assert template.reads.what in {"images", "sound"}


def test_a_served_prompt_with_images_takes_what_its_tower_takes() -> None:
    """Prompts are of equal lengths, so that the text model's part of a step is the same with images and without."""

    def served(**media: Any) -> Served:
        asked = nbanalyzer.request("qwen2.5-vl-7b-instruct", prompt_len=4096, output_len=64, **media)
        return asked.on("h100-sxm", profile="vllm").served(concurrency=8)

    text, whole = served(), served(images=3, image_size="896x896")
    assert whole.step == text.step  # a step without a prompt in it reads no image
    for name in ("expected", "bound"):
        alone = getattr(whole.prefill, name) - getattr(text.prefill, name)
        within = getattr(whole.step_with_prompt, name) - getattr(text.step_with_prompt, name)
        assert alone == pytest.approx(within, rel=1e-9) != 0


@pytest.mark.parametrize(("batch_size", "seq_len", "most"), [(1, 4096, 10), (1, 383 + 384, 1), (3, 800, 6)])
def test_as_many_images_as_prompts_have_room_for(batch_size: int, seq_len: int, most: int) -> None:
    """An image of 448 x 672 is 16 x 24 tokens."""
    run: dict[str, Any] = {"batch_size": batch_size, "seq_len": seq_len, "image_size": "448x672"}
    found = nbanalyzer.solve("qwen2.5-vl-7b-instruct", "h200-sxm", maximize="images", **run)
    assert found.value == most
    assert found.sentence == f"At most {most} image{'s' * (most > 1)}: the prompts have room for no more."
    assert found.analysis.run.images == most


def test_the_most_images_that_fit() -> None:
    run: dict[str, Any] = {"seq_len": 77}
    found = nbanalyzer.solve("clip-vit-large-patch14", "l40s", maximize="images", **run)
    assert found.value is not None
    for value, fits in ((found.value, True), (found.value + 1, False)):
        assert bool(Fit(nbanalyzer.populate("clip-vit-large-patch14", images=value, **run).memory, L40S)) is fits
    timed = nbanalyzer.solve("clip-vit-large-patch14", "l40s", maximize="images", below={"lower_bound": 0.1}, **run)
    assert timed.value is not None
    for value, holds in ((timed.value, True), (timed.value + 1, False)):
        passed = nbanalyzer.populate("clip-vit-large-patch14", images=value, **run)
        assert (passed.on("l40s").lower_bound <= 0.1) is holds
    points = found.plot().figure.axes[0].lines[0].get_data()
    for x, needed in [*zip(*points, strict=True)][:3]:
        memory = nbanalyzer.populate("clip-vit-large-patch14", images=int(x), **run).memory
        assert needed == float(memory.total)


@pytest.mark.parametrize(
    ("model", "run", "message"),
    [
        ("gpt2", {}, "reads text alone"),
        ("vit-base-patch16-224", {}, "one image a sequence"),
        ("voxtral-mini-3b-2507", {}, "reads sound"),
        ("qwen2.5-vl-7b-instruct", {"seq_len": 8192}, "say theirs"),
        ("qwen2.5-vl-7b-instruct", {"seq_len": 1, "cache_len": 64, "image_size": "448x672"}, "no difference after a"),
        ("qwen2.5-vl-7b-instruct", {"seq_len": 100, "image_size": "448x672"}, "which alone are 384"),
    ],
)
def test_images_that_are_no_question(model: str, run: dict[str, Any], message: str) -> None:
    with pytest.raises(NBAnalyzerError, match=message):
        nbanalyzer.solve(model, "h100-sxm", maximize="images", **run)
    with pytest.raises(NBAnalyzerError, match="a balance is of tokens or sequences"):
        nbanalyzer.solve(model, "h100-sxm", balance="images", **run)
