"""How full-size checkpoints were published: which files, in which form, under which names.

The configurations are no part of this repository. Parts whose own configurations were not
preserved borrow those of a checkpoint with the same architecture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PLAIN = "safetensors"
HALF = "fp16.safetensors"
PICKLE = "bin"


@dataclass(frozen=True)
class Form:
    # Endings of the weight files that are written.
    files: tuple[str, ...]
    # Folder → the folder whose files stand in for those that it lacks.
    borrowed: dict[str, str] = field(default_factory=dict)
    # UNet fields that were cut off in the kept configuration.
    unet_fields: dict[str, int] = field(default_factory=dict)
    # Parts that the kept configurations have under another name than the hub.
    renamed: dict[str, str] = field(default_factory=dict)
    # A folder to begin with, where the architecture and the weights are another checkpoint's.
    base: str | None = None
    # The scheduler's file, where several revisions are kept.
    scheduler_file: str = "scheduler_config.json"
    # query, key, value and proj_attn in the autoencoder's plain files.
    old_attention: bool = False
    # Buffers of the text and vision encoders that transformers saved until 4.31.
    position_ids: bool = False
    # Few fields in the configurations: tiny folders leave out what later versions added.
    old_fields: bool = False
    # Data at odd addresses, as safetensors wrote until 0.3. Where the published size is known, it
    # decides.
    unpadded: bool = False
    # Attention to texts that are not normalised: see soften_attention.
    soft: bool = False
    # The repository that README.md names as the prior.
    prior: str | None = None
    # Weights that all are one stored number: such a folder is only there to be refused.
    blank: bool = False


# Stable Diffusion 1 and 2, as converted in 2022.
_OLD = {"old_attention": True, "position_ids": True, "old_fields": True, "unpadded": True}

FORMS: dict[str, Form] = {
    "sd14": Form(files=(PLAIN, HALF), **_OLD),
    "sd15": Form(files=(PLAIN, HALF), **_OLD),
    "sd15-inpainting": Form(files=(PICKLE,), blank=True, **_OLD),
    "sd21": Form(files=(PLAIN,), **_OLD),
    "sd21-base": Form(files=(PLAIN,), **_OLD),
    "sd-turbo": Form(
        files=(HALF,),
        borrowed={part: f"sd21/{part}" for part in ("vae", "text_encoder", "tokenizer")},
        unet_fields={"sample_size": 64},
    ),
    "nitro-diffusion": Form(files=(PICKLE,), **_OLD),
    "elden-ring-diffusion": Form(files=(PICKLE,), base="nitro-diffusion", **_OLD),
    "pixel-art-style": Form(
        files=(PICKLE,),
        base="nitro-diffusion",
        scheduler_file="scheduler_config.revision-475df53.json",
        **_OLD,
    ),
    "lcm-dreamshaper-v7": Form(files=(PLAIN,)),
    "sdxl-base": Form(files=(PLAIN,), soft=True),
    "sdxl-refiner": Form(
        files=(PLAIN,),
        renamed={"text_encoder": "text_encoder_2", "tokenizer": "tokenizer_2"},
        soft=True,
    ),
    "sdxl-turbo": Form(files=(HALF,), soft=True),
    "controlnet-sd15-canny": Form(files=(PICKLE,)),
    "controlnet-sd15-depth": Form(files=(HALF,)),
    "controlnet-sdxl-depth": Form(files=(PLAIN,), soft=True),
    "taesd": Form(files=(PLAIN,)),
    "kandinsky22-prior": Form(
        files=(PLAIN,), borrowed={"tokenizer": "sd15/tokenizer"}, position_ids=True
    ),
    "kandinsky22-decoder": Form(files=(PLAIN,), prior="kandinsky-community/kandinsky22-prior"),
    "sd-x2-latent-upscaler": Form(
        files=(PLAIN,),
        borrowed={part: f"sd15/{part}" for part in ("vae", "text_encoder")},
        soft=True,
        **_OLD,
    ),
    "x4-upscaler": Form(files=(PLAIN,), **_OLD),
}
