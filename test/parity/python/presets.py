"""Architectures of the random checkpoints. Each is as small as its classes allow, and together they
cover what a loader or an exporter may take for granted by mistake: levels, heads, factors, lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

Config = dict[str, Any]

CROSS_DOWN = "CrossAttnDownBlock2D"
PLAIN_DOWN = "DownBlock2D"

# The schedule of Stable Diffusion 1.x, without the fields that its published files lack.
SD1_SCHEDULE: Config = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "trained_betas": None,
}

# clip_sample is none of PNDM's fields: it stands in published files for the schedulers that have it.
PNDM: Config = {
    **SD1_SCHEDULE,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "clip_sample": False,
}
DDIM: Config = {**SD1_SCHEDULE, "clip_sample": False, "set_alpha_to_one": False}

# With fields of other classes, as published.
SDXL_SCHEDULE: Config = {
    **SD1_SCHEDULE,
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
    "clip_sample": False,
}


@dataclass(frozen=True)
class Preset:
    unet: Config
    vae: Config
    # None in the refiner of Stable Diffusion XL, which has the second text encoder only.
    text: Config | None
    scheduler: str
    schedule: Config
    pad_token: str = "<|endoftext|>"
    merges: int = 150
    # With a projection: Stable Diffusion XL.
    text_2: Config | None = None
    pipeline: str = "StableDiffusionPipeline"
    # Of the x4 upscaler: how noise is added to the small picture.
    low_res_schedule: Config | None = None
    index: Config = field(default_factory=dict)


def unet_config(
    channels: list[int], down: list[str], sample_size: int, cross: int, **more: Any
) -> Config:
    up = [name.replace("Down", "Up") for name in reversed(down)]
    return {
        "sample_size": sample_size,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": channels,
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": cross,
        **more,
    }


def vae_config(channels: list[int], **more: Any) -> Config:
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "sample_size": 64,
        **more,
    }


def text_config(width: int, layers: int, length: int, **more: Any) -> Config:
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": length,
        "projection_dim": width,
        "hidden_act": "quick_gelu",
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        **more,
    }


PRESETS: dict[str, Preset] = {
    # The smallest of Stable Diffusion 1.x's form; eight heads at every level.
    "two-levels": Preset(
        unet=unet_config(
            [32, 64], [CROSS_DOWN, PLAIN_DOWN], 16, 32, layers_per_block=1, attention_head_dim=8
        ),
        vae=vae_config([32, 32], layers_per_block=1),
        text=text_config(32, 2, 77),
        scheduler="PNDMScheduler",
        schedule=PNDM,
    ),
    # Stable Diffusion 2.1's form: heads by level, linear projections, attention in float32,
    # v-prediction, gelu, "!" as padding; and a text length of its own.
    "three-levels": Preset(
        unet=unet_config(
            [32, 64, 64],
            [CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN],
            16,
            48,
            layers_per_block=2,
            attention_head_dim=[2, 4, 8],
            use_linear_projection=True,
            upcast_attention=True,
        ),
        vae=vae_config([32, 32, 64], layers_per_block=1, scaling_factor=0.25),
        text=text_config(48, 3, 24, hidden_act="gelu"),
        scheduler="DDIMScheduler",
        schedule={**DDIM, "prediction_type": "v_prediction"},
        pad_token="!",
        merges=200,
    ),
    # Stable Diffusion 1.5 with every width divided by ten or more; factor 8.
    "four-levels": Preset(
        unet=unet_config(
            [32, 64, 96, 96],
            [CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN],
            8,
            32,
            layers_per_block=2,
            attention_head_dim=8,
        ),
        vae=vae_config([32, 32, 64, 64], layers_per_block=2),
        text=text_config(32, 3, 77),
        scheduler="PNDMScheduler",
        schedule=PNDM,
    ),
    # An autoencoder that keeps the size, other group sizes, attention only below the first level,
    # the autoencoder's attention left out, and a sigma-space scheduler with v-prediction.
    "factor-one": Preset(
        unet=unet_config(
            [32, 48],
            [PLAIN_DOWN, CROSS_DOWN],
            24,
            32,
            layers_per_block=1,
            attention_head_dim=4,
            norm_num_groups=16,
        ),
        vae=vae_config(
            [32], layers_per_block=1, norm_num_groups=16, mid_block_add_attention=False
        ),
        text=text_config(32, 2, 24),
        scheduler="EulerDiscreteScheduler",
        schedule={
            **SD1_SCHEDULE,
            "timestep_spacing": "linspace",
            "prediction_type": "v_prediction",
        },
    ),
    # What the repository keeps for `npm test`: everything as narrow as it gets.
    "golden": Preset(
        unet=unet_config(
            [16, 32],
            [CROSS_DOWN, PLAIN_DOWN],
            16,
            16,
            layers_per_block=1,
            attention_head_dim=4,
            norm_num_groups=8,
        ),
        vae=vae_config([16, 16], layers_per_block=1, norm_num_groups=8),
        text=text_config(16, 2, 24),
        scheduler="PNDMScheduler",
        schedule=PNDM,
        merges=60,
    ),
    # Stable Diffusion XL: two text encoders, sizes beside the pooled text, several transformer
    # blocks a level, zeros for a missing negative prompt.
    "xl-base": Preset(
        unet=unet_config(
            [32, 64],
            [PLAIN_DOWN, CROSS_DOWN],
            16,
            80,
            layers_per_block=1,
            attention_head_dim=[2, 4],
            transformer_layers_per_block=[1, 2],
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        ),
        vae=vae_config([32, 32], layers_per_block=1, scaling_factor=0.13025, force_upcast=True),
        text=text_config(32, 3, 77),
        text_2=text_config(48, 3, 77, hidden_act="gelu", projection_dim=24),
        scheduler="EulerDiscreteScheduler",
        schedule=SDXL_SCHEDULE,
        pipeline="StableDiffusionXLPipeline",
        index={"force_zeros_for_empty_prompt": True},
    ),
    # Its refiner: the second text encoder only, five numbers with an aesthetic score, and an
    # autoencoder whose latents have a mean and a deviation.
    "xl-refiner": Preset(
        unet=unet_config(
            [32, 64],
            [PLAIN_DOWN, CROSS_DOWN],
            16,
            48,
            layers_per_block=1,
            attention_head_dim=[2, 4],
            transformer_layers_per_block=2,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=5 * 8 + 24,
        ),
        vae=vae_config(
            [32, 32],
            layers_per_block=1,
            scaling_factor=0.13025,
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.8, 1.1, 2.0],
        ),
        text=None,
        text_2=text_config(48, 3, 77, hidden_act="gelu", projection_dim=24),
        scheduler="EulerDiscreteScheduler",
        schedule=SDXL_SCHEDULE,
        pad_token="!",
        pipeline="StableDiffusionXLImg2ImgPipeline",
        index={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
    ),
    # A latent consistency model: its UNet is told the guidance scale.
    "lcm": Preset(
        unet=unet_config(
            [32, 64],
            [CROSS_DOWN, PLAIN_DOWN],
            16,
            32,
            layers_per_block=1,
            attention_head_dim=8,
            time_cond_proj_dim=32,
        ),
        vae=vae_config([32, 32], layers_per_block=1),
        text=text_config(32, 2, 77),
        scheduler="LCMScheduler",
        schedule={**SD1_SCHEDULE, "original_inference_steps": 50, "steps_offset": 0},
        pipeline="LatentConsistencyModelPipeline",
    ),
    # The x2 upscaler: sees the small latents, embeds its time with random frequencies, predicts the
    # clean latents and a variance.
    "upscaler-x2": Preset(
        unet=unet_config(
            [32, 32, 64, 64],
            ["KDownBlock2D", *["KCrossAttnDownBlock2D"] * 3],
            16,
            32,
            in_channels=8,
            out_channels=5,
            layers_per_block=2,
            attention_head_dim=16,
            act_fn="gelu",
            conv_in_kernel=1,
            conv_out_kernel=1,
            mid_block_type=None,
            norm_num_groups=None,
            resnet_time_scale_shift="scale_shift",
            time_cond_proj_dim=128 + 32,
            time_embedding_type="fourier",
            timestep_post_act="gelu",
        ),
        vae=vae_config([32, 32], layers_per_block=1),
        text=text_config(32, 2, 77),
        scheduler="EulerDiscreteScheduler",
        schedule={
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "interpolation_type": "log_linear",
            "prediction_type": "original_sample",
            "trained_betas": None,
        },
        pipeline="StableDiffusionLatentUpscalePipeline",
    ),
    # The x4 upscaler: sees the small picture with noise, whose level is a class; cross-attention
    # only; three levels in the autoencoder.
    "upscaler-x4": Preset(
        unet=unet_config(
            [32, 64],
            [PLAIN_DOWN, CROSS_DOWN],
            16,
            32,
            in_channels=7,
            layers_per_block=1,
            attention_head_dim=8,
            num_class_embeds=1000,
            only_cross_attention=[True, False],
            use_linear_projection=True,
        ),
        vae=vae_config([32, 32, 32], layers_per_block=1, scaling_factor=0.08333),
        text=text_config(32, 3, 77, hidden_act="gelu"),
        scheduler="DDIMScheduler",
        schedule={
            **DDIM,
            "beta_start": 0.0001,
            "beta_end": 0.02,
            "prediction_type": "v_prediction",
        },
        low_res_schedule={
            "beta_start": 0.0001,
            "beta_end": 0.02,
            "beta_schedule": "scaled_linear",
            "clip_sample": True,
            "num_train_timesteps": 1000,
            "trained_betas": None,
            "variance_type": "fixed_small",
        },
        pad_token="!",
        pipeline="StableDiffusionUpscalePipeline",
        index={"max_noise_level": 350},
    ),
}

# As SD-Turbo and SDXL-Turbo were published.
TURBO_SCHEDULE: Config = {
    **SDXL_SCHEDULE,
    "sigma_max": None,
    "sigma_min": None,
    "timestep_spacing": "trailing",
    "timestep_type": "discrete",
}
PRESETS["turbo"] = replace(
    PRESETS["three-levels"], scheduler="EulerDiscreteScheduler", schedule=TURBO_SCHEDULE
)
PRESETS["xl-turbo"] = replace(
    PRESETS["xl-base"], scheduler="EulerAncestralDiscreteScheduler", schedule=TURBO_SCHEDULE
)

# Stable Diffusion XL as a latent consistency model.
PRESETS["xl-lcm"] = replace(
    PRESETS["xl-base"],
    unet={**PRESETS["xl-base"].unet, "time_cond_proj_dim": 24},
    scheduler="LCMScheduler",
    schedule={**SDXL_SCHEDULE, "original_inference_steps": 50},
)

# What a ControlNet has no use for.
_UNET_ONLY = ("sample_size", "out_channels", "up_block_types")


def controlnet_config(preset: str, **more: Any) -> Config:
    """For the preset's UNet and the factor of its autoencoder."""
    unet, vae = PRESETS[preset].unet, PRESETS[preset].vae
    embedding = [16, 32, 64, 96][: len(vae["block_out_channels"])]
    return {
        **{name: value for name, value in unet.items() if name not in _UNET_ONLY},
        "conditioning_embedding_out_channels": embedding,
        **more,
    }


# ControlNets, each for a checkpoint above.
CONTROLNETS: dict[str, Config] = {
    "control": controlnet_config("two-levels"),
    "control-bgr": controlnet_config("two-levels", controlnet_conditioning_channel_order="bgr"),
    "control-pool": controlnet_config("two-levels", global_pool_conditions=True),
    "control-xl": controlnet_config("xl-base"),
    "control-refiner": controlnet_config("xl-refiner"),
}
