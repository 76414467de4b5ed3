"""Writes test/golden/architecture-configs.json: configs as today's libraries save them.

    python scripts/export/golden_configs.py test/golden/architecture-configs.json

Each is saved by the library's own class, built from the few figures below, so that every
field has the default of today.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    PriorTransformer,
    UNet2DConditionModel,
    VQModel,
)
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

_DOWN = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
_UP = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
_KL_F8 = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}

_SDXL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_SDXL_UP = ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]

_MODELS: dict[str, tuple[type, dict[str, Any]]] = {
    "unet-sd1": (UNet2DConditionModel, {"cross_attention_dim": 768}),
    "unet-sd1-inpainting": (UNet2DConditionModel, {"cross_attention_dim": 768, "in_channels": 9}),
    "unet-sd2": (
        UNet2DConditionModel,
        {
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
        },
    ),
    "unet-lcm": (UNet2DConditionModel, {"cross_attention_dim": 768, "time_cond_proj_dim": 256}),
    "unet-sdxl": (UNet2DConditionModel, {**_SDXL, "up_block_types": _SDXL_UP}),
    "unet-sdxl-refiner": (
        UNet2DConditionModel,
        {
            **_SDXL,
            "block_out_channels": [384, 768, 1536, 1536],
            "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2, "DownBlock2D"],
            "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
            "transformer_layers_per_block": 4,
            "attention_head_dim": [6, 12, 24, 24],
            "cross_attention_dim": 1280,
            "projection_class_embeddings_input_dim": 2560,
        },
    ),
    "unet-x4-upscaler": (
        UNet2DConditionModel,
        {
            "in_channels": 7,
            "block_out_channels": [256, 512, 512, 1024],
            "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
            "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
            "cross_attention_dim": 1024,
            "only_cross_attention": [True, True, True, False],
            "use_linear_projection": True,
            "num_class_embeds": 1000,
        },
    ),
    "unet-x2-upscaler": (
        UNet2DConditionModel,
        {
            "in_channels": 8,
            "out_channels": 5,
            "block_out_channels": [384, 384, 768, 768],
            "down_block_types": ["KDownBlock2D", *["KCrossAttnDownBlock2D"] * 3],
            "mid_block_type": None,
            "up_block_types": [*["KCrossAttnUpBlock2D"] * 3, "KUpBlock2D"],
            "layers_per_block": 4,
            "attention_head_dim": 64,
            "cross_attention_dim": 768,
            "norm_num_groups": None,
            "act_fn": "gelu",
            "time_embedding_type": "fourier",
            "timestep_post_act": "gelu",
            "time_cond_proj_dim": 896,
            "resnet_time_scale_shift": "scale_shift",
            "conv_in_kernel": 1,
            "conv_out_kernel": 1,
        },
    ),
    "unet-kandinsky-2-2": (
        UNet2DConditionModel,
        {
            "out_channels": 8,
            "block_out_channels": [384, 768, 1152, 1536],
            "down_block_types": ["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
            "layers_per_block": 3,
            "attention_head_dim": 64,
            "cross_attention_dim": 768,
            "encoder_hid_dim": 1280,
            "encoder_hid_dim_type": "image_proj",
            "addition_embed_type": "image",
            "resnet_time_scale_shift": "scale_shift",
        },
    ),
    "controlnet-sd1": (ControlNetModel, {"cross_attention_dim": 768}),
    "controlnet-sdxl": (ControlNetModel, _SDXL),
    "autoencoder-kl-f8": (AutoencoderKL, _KL_F8),
    "autoencoder-kl-f4": (
        AutoencoderKL,
        {
            **_KL_F8,
            "block_out_channels": [128, 256, 512],
            "down_block_types": ["DownEncoderBlock2D"] * 3,
            "up_block_types": ["UpDecoderBlock2D"] * 3,
        },
    ),
    "autoencoder-tiny-f8": (AutoencoderTiny, {}),
    "movq-kandinsky2": (
        VQModel,
        {
            "block_out_channels": [128, 256, 256, 512],
            "layers_per_block": 2,
            "down_block_types": ["DownEncoderBlock2D"] * 3 + ["AttnDownEncoderBlock2D"],
            "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 3,
            "latent_channels": 4,
            "vq_embed_dim": 4,
            "num_vq_embeddings": 16384,
            "norm_type": "spatial",
        },
    ),
    "prior-kandinsky2": (PriorTransformer, {"embedding_dim": 1280}),
}

_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
    "eos_token_id": 2,
}
_CLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "hidden_act": "gelu",
    "eos_token_id": 2,
}
_CLIP_G = {
    **_CLIP_H,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
_TEXT_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip-vit-l14-text": ("CLIPTextModel", _CLIP_L),
    "clip-vit-h14-text": ("CLIPTextModel", _CLIP_H),
    "clip-vit-bigg14-text": ("CLIPTextModel", _CLIP_G),
    "clip-vit-bigg14-text-projection": ("CLIPTextModelWithProjection", _CLIP_G),
}
_VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
}
_VIT_BIGG = {
    "hidden_size": 1664,
    "intermediate_size": 8192,
    "num_attention_heads": 16,
    "num_hidden_layers": 48,
    "patch_size": 14,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_VISION_CONFIGS: dict[str, tuple[str, CLIPVisionConfig | CLIPConfig]] = {
    "clip-vit-bigg14-vision": ("CLIPVisionModelWithProjection", CLIPVisionConfig(**_VIT_BIGG)),
    "safety-checker-vit-l14": (
        "StableDiffusionSafetyChecker",
        CLIPConfig(vision_config=_VIT_L, projection_dim=768),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    configs: dict[str, dict[str, Any]] = {}
    for name, (model_class, figures) in _MODELS.items():
        with torch.device("meta"):
            model = model_class(**figures)
        with tempfile.TemporaryDirectory() as folder:
            model.save_config(folder)
            config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        configs[name] = {"className": model_class.__name__, "config": config}
    for name, (class_name, figures) in _TEXT_CONFIGS.items():
        config = json.loads(CLIPTextConfig(**figures).to_json_string(use_diff=True))
        configs[name] = {"className": class_name, "config": config}
    for name, (class_name, vision_config) in _VISION_CONFIGS.items():
        config = json.loads(vision_config.to_json_string(use_diff=True))
        configs[name] = {"className": class_name, "config": config}
    output.write_text(json.dumps(configs, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
