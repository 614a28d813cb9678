"""Shipped models against the numbers of parameters that their publishers give: a config may be of no model."""

from __future__ import annotations

import pytest

from nbanalyzer import populate

PARAMETERS = {  # of the safetensors on the hub, a tied head once; of encoders alone without the head
    "BAAI/bge-large-en-v1.5": 335_141_888,
    "BAAI/bge-small-en-v1.5": 33_360_000,
    "EleutherAI/gpt-neo-1.3B": 1_315_575_808,
    "EleutherAI/gpt-neo-125m": 125_198_592,
    "EleutherAI/gpt-neo-2.7B": 2_651_307_520,
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "EleutherAI/pythia-1b": 1_011_781_632,
    "EleutherAI/pythia-2.8b": 2_775_208_960,
    "EleutherAI/pythia-410m": 405_334_016,
    "FacebookAI/roberta-base": 124_645_632,
    "FacebookAI/roberta-large": 355_359_744,
    "FacebookAI/xlm-roberta-base": 278_043_648,
    "FacebookAI/xlm-roberta-large": 559_890_432,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "Qwen/QwQ-32B": 32_763_876_352,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-Coder-32B": 32_763_876_352,
    "Qwen/Qwen2.5-Coder-7B": 7_615_616_512,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": 480_154_875_392,
    "Qwen/Qwen3-Embedding-0.6B": 595_776_512,
    "Qwen/Qwen3-Embedding-4B": 4_021_774_336,
    "Qwen/Qwen3-Embedding-8B": 7_567_295_488,
    "Qwen/Qwen3-VL-32B-Instruct": 33_357_390_064,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "allenai/OLMo-1B-hf": 1_176_764_416,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "codellama/CodeLlama-13b-hf": 13_016_028_160,
    "codellama/CodeLlama-34b-hf": 33_743_970_304,
    "codellama/CodeLlama-7b-hf": 6_738_546_688,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": 70_553_706_496,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": 8_030_261_248,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": 14_770_033_664,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": 32_763_876_352,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "distilbert/distilbert-base-uncased": 66_362_880,
    "facebook/opt-13b": 12_853_473_280,
    "google/gemma-2-27b-it": 27_227_128_320,
    "google/siglip-so400m-patch14-384": 877_960_498,
    "google-t5/t5-base": 222_903_552,
    "google-t5/t5-large": 737_668_096,
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": 986_109_441,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "microsoft/Phi-3.5-mini-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "mistralai/Mistral-7B-Instruct-v0.2": 7_241_732_096,
    "mistralai/Mistral-Large-Instruct-2407": 122_610_069_504,
    "mistralai/Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "mistralai/Mixtral-8x22B-v0.1": 140_620_634_112,
    "mosaicml/mpt-7b": 6_649_286_656,
    "openai/clip-vit-base-patch16": 149_620_737,
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-large-patch14-336": 427_944_193,
    "openai/whisper-base": 72_593_920,
    "openai/whisper-large-v3-turbo": 808_878_080,
    "openai/whisper-medium": 763_857_920,
    "openai/whisper-small": 241_734_912,
    "openai/whisper-tiny": 37_760_640,
    "sentence-transformers/all-MiniLM-L6-v2": 22_713_216,
    "state-spaces/mamba-130m-hf": 129_135_360,
    "state-spaces/mamba-370m-hf": 371_516_416,
    "state-spaces/mamba-790m-hf": 793_204_224,
    "tiiuae/Falcon3-10B-Base": 10_305_653_760,
    "tiiuae/Falcon3-1B-Base": 1_669_408_768,
    "tiiuae/Falcon3-3B-Base": 3_227_655_168,
    "tiiuae/Falcon3-7B-Base": 7_455_550_464,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_has_as_many_parameters_as_its_publisher_says(name: str) -> None:
    assert populate(name, seq_len=1).totals["parameters"] == PARAMETERS[name]


def test_exaone_counts_what_is_not_embedded() -> None:
    """Its model card says 30.95 B without embeddings: a table of 102,400 rows of 5,120, and a head of the same size."""
    whole = populate("exaone-4.0-32b", seq_len=1).totals["parameters"]
    assert round((whole - 2 * 102_400 * 5_120) / 1e9, 2) == 30.95
