"""Models that read images whole and in crops that are partly filled, and sound: Phi-4-multimodal."""

from __future__ import annotations

from typing import Any

import torch

from nbanalyzer.templates.media import evaluated

from .hearing import Sound, beside
from .reader import Reader
from .sounds import BANKS
from .tiles import tile_pixels, tiled

__all__ = ["phi4"]


def phi4(config: Any) -> Reader | None:
    """Return the reader of Phi-4-multimodal: of crops, what shows the image is kept, and each row gets an end.

    None if crops are of another size than the tower's images, or of an odd number of patches, of which two are pooled.
    """
    vision, audio = config.vision_config, config.audio_config
    if vision.crop_size != vision.image_size or vision.image_size // vision.patch_size % 2 or audio.time_reduction != 8:
        return None
    variables = {
        "image_tiles": "{tile_rows} * {tile_columns} + 1",
        "tile_side": "{vision_image_size} // {vision_patch_size} // 2",
        "seen_rows": "ceil({kept_rows} / 2)",
        "seen_columns": "ceil({kept_columns} / 2)",
        "image_padded": "{kept_rows} * {kept_columns} < 4 * {tile_rows} * {tile_columns} * {tile_side} ** 2",
        "image_tokens": "{seen_rows} * ({seen_columns} + 1) + 1 + {tile_side} * ({tile_side} + 1)",
    }

    def images(step: Any, tiles: int) -> dict[str, Any]:
        own, media = step.model.config.vision_config, step.media
        count, side = media.num_images, own.image_size // own.patch_size
        shown = torch.zeros((media.tile_rows * side, media.tile_columns * side), dtype=torch.bool)
        shown[: media.kept_rows, : media.kept_columns] = True
        crops = shown.view(media.tile_rows, side, media.tile_columns, side).transpose(1, 2).reshape(-1, side, side)
        masks = torch.cat([torch.ones((1, side, side), dtype=torch.bool), crops])
        sizes = [media.tile_rows * own.crop_size, media.tile_columns * own.crop_size]
        return {
            "image_pixel_values": tile_pixels(step, count, tiles),
            "image_sizes": torch.tensor([sizes] * count),
            "image_attention_mask": masks.expand(count, -1, -1, -1),
        }

    def heard(step: Any) -> dict[str, Any]:
        values = evaluated(reads, step.subject.params, step.media)
        frames, tokens = (int(values[name]) for name in ("audio_frames", "audio_tokens"))
        features = step.floats(step.batch_size, frames, step.model.config.audio_config.input_size)
        sizes = torch.full((step.batch_size,), tokens)
        several = {"audio_attention_mask": torch.ones((step.batch_size, frames), dtype=torch.bool)}
        return {
            "audio_input_features": features,
            "audio_embed_sizes": sizes,
            **(several if step.batch_size > 1 else {}),  # its processor masks no sound that is alone
        }

    reader = tiled(
        config, "padded canvas", {"patch": "{vision_patch_size}", "most": "36"}, variables, images,
        held=("image_size", "patch_size", "crop_size", "feature_layer", "input_size", "time_reduction"),
        cases=("{image_padded} > 0",), least=(2, 1 - vision.feature_layer),
    )  # fmt: skip
    found = beside(
        reader,
        Sound(
            {
                "audio_frames": BANKS,
                "audio_len_1": "ceil({audio_frames} / 2)",
                "audio_len_2": "ceil({audio_frames} / 4)",
                "audio_tokens": "ceil({audio_frames} / 8)",
            },
            heard,
            held=("nemo_final_size",),
            cases=(
                "({audio_samples} > 0) * ({num_images} > 0)",
                "({audio_samples} > 0) * ({num_images} == 0)",
            ),
            most=40,  # positions of longer sound are cut at 500, by a view that a batch of several does not have
        ),
    )
    reads = found.reads
    return found
