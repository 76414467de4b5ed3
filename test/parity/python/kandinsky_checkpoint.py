"""Makes random Kandinsky 2.2 checkpoints in the published form: a prior and a decoder each.

  kandinsky_checkpoint.py --output ROOT two-levels:1 three-levels:2

PRESET:SEED lands in ROOT/PRESET-SEED-prior and ROOT/PRESET-SEED-decoder. The decoder's README.md
names the prior as on the hub. Folders that are there already are kept.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import diffusers
import torch
import transformers
from checkpoint import randomise
from make_checkpoint import made
from published_files import write_network
from published_forms import FORMS
from safetensors_file import entries_of
from vocabulary import END, START, train, vocabulary_of, write_vocabulary

Config = dict[str, Any]

MERGES = 150
LENGTH = 77
SIDE = 28
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def preset(width: int, unet: list[int], movq: list[int], layers: int, groups: int) -> Config:
    """`width` is that of the embeddings, the lists are channels level by level."""
    below = len(unet) - 1
    return {
        "unet": {
            "act_fn": "silu",
            "addition_embed_type": "image",
            "attention_head_dim": 8,
            "block_out_channels": unet,
            "cross_attention_dim": 16,
            "down_block_types": ["ResnetDownsampleBlock2D"]
            + ["SimpleCrossAttnDownBlock2D"] * below,
            "encoder_hid_dim": width,
            "encoder_hid_dim_type": "image_proj",
            "in_channels": 4,
            "layers_per_block": layers,
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "norm_num_groups": groups,
            "out_channels": 8,
            "resnet_time_scale_shift": "scale_shift",
            "sample_size": 16,
            "up_block_types": ["SimpleCrossAttnUpBlock2D"] * below + ["ResnetUpsampleBlock2D"],
        },
        "movq": {
            "block_out_channels": movq,
            "down_block_types": ["DownEncoderBlock2D"] * (len(movq) - 1)
            + ["AttnDownEncoderBlock2D"],
            "latent_channels": 4,
            "layers_per_block": 1,
            "norm_type": "spatial",
            "num_vq_embeddings": 16,
            "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * (len(movq) - 1),
            "vq_embed_dim": 4,
        },
        "prior": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": layers + 1,
            "embedding_dim": width,
            "num_embeddings": LENGTH,
        },
        "text_encoder": {
            "hidden_act": "gelu",
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "max_position_embeddings": LENGTH,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "projection_dim": width,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        },
        "image_encoder": {
            "hidden_act": "gelu",
            "hidden_size": 32,
            "image_size": SIDE,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "patch_size": 7,
            "projection_dim": width,
        },
    }


PRESETS: dict[str, Config] = {
    "two-levels": preset(24, [32, 64], [32, 32], layers=1, groups=8),
    "three-levels": preset(40, [16, 32, 48], [32, 32, 64], layers=2, groups=8),
    # The published factor, 8: pictures of the usual size are quickly drawn.
    "four-levels": preset(24, [16, 32], [32, 32, 32, 32], layers=1, groups=8),
}

# As published, fields of other classes among them.
DECODER_SCHEDULE: Config = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
    "thresholding": False,
}
PRIOR_SCHEDULE: Config = {
    "clip_sample": True,
    "clip_sample_range": 10.0,
    "num_train_timesteps": 1000,
    "prediction_type": "sample",
    "variance_type": "fixed_small_log",
}


def write_json(path: Path, value: Config) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_parts(folder: Path, parts: dict[str, torch.nn.Module], seed: int) -> None:
    """The encoders say float16 whatever their files hold, and carry buffers of old transformers."""
    form = FORMS["kandinsky22-prior"]
    for name, part in parts.items():
        randomise(part, seed)
        part.save_pretrained(folder / name)
        if not name.endswith("_encoder"):
            continue
        config, entries = folder / name / "config.json", entries_of(part.state_dict())
        write_network(folder / name, type(part).__name__, entries, form, {})
        fields = json.loads(config.read_text())
        del fields["dtype"]
        write_json(config, fields | {"torch_dtype": "float16"})


def write_index(folder: Path, class_name: str, parts: dict[str, tuple[str, str]]) -> None:
    index = {"_class_name": class_name, "_diffusers_version": "0.17.0.dev0"}
    write_json(folder / "model_index.json", index | {k: list(v) for k, v in parts.items()})


def write_scheduler(folder: Path, class_name: str, config: Config) -> None:
    written = {"_class_name": class_name, "_diffusers_version": "0.17.0.dev0", **config}
    write_json(folder / "scheduler" / "scheduler_config.json", written)


def write_tokenizer(folder: Path) -> None:
    write_vocabulary(folder, train(MERGES))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(folder / "special_tokens_map.json", special)
    config = {**special, "model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}
    write_json(folder / "tokenizer_config.json", config)


def write_image_processor(folder: Path) -> None:
    config = {
        "crop_size": SIDE,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
        "size": SIDE,
    }
    write_json(folder / "preprocessor_config.json", config)


def build_prior(folder: Path, configs: Config, seed: int) -> None:
    text = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary_of(train(MERGES))), **configs["text_encoder"]
    )
    vision = transformers.CLIPVisionConfig(**configs["image_encoder"])
    parts = {
        "prior": diffusers.PriorTransformer(**configs["prior"]),
        "text_encoder": transformers.CLIPTextModelWithProjection(text),
        "image_encoder": transformers.CLIPVisionModelWithProjection(vision),
    }
    write_parts(folder, parts, seed)
    write_tokenizer(folder / "tokenizer")
    write_image_processor(folder / "image_processor")
    write_scheduler(folder, "UnCLIPScheduler", PRIOR_SCHEDULE)
    write_index(
        folder,
        "KandinskyV22PriorPipeline",
        {
            "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
            "image_processor": ("transformers", "CLIPImageProcessor"),
            "prior": ("diffusers", "PriorTransformer"),
            "scheduler": ("diffusers", "UnCLIPScheduler"),
            "text_encoder": ("transformers", "CLIPTextModelWithProjection"),
            "tokenizer": ("transformers", "CLIPTokenizer"),
        },
    )


def build_decoder(folder: Path, configs: Config, seed: int, prior: str) -> None:
    parts = {
        "unet": diffusers.UNet2DConditionModel(**configs["unet"]),
        "movq": diffusers.VQModel(**configs["movq"]),
    }
    write_parts(folder, parts, seed)
    write_scheduler(folder, "DDPMScheduler", DECODER_SCHEDULE)
    write_index(
        folder,
        "KandinskyV22Pipeline",
        {
            "movq": ("diffusers", "VQModel"),
            "scheduler": ("diffusers", "DDPMScheduler"),
            "unet": ("diffusers", "UNet2DConditionModel"),
        },
    )
    readme = f"---\nlicense: apache-2.0\nprior:\n- {prior}\ntags:\n- text-to-image\n---\n\n# Decoder\n"
    (folder / "README.md").write_text(readme, encoding="utf-8")


def make(root: Path, name: str) -> None:
    kind, seed = name.split(":")
    configs = PRESETS[kind]
    prior, decoder = root / f"{kind}-{seed}-prior", root / f"{kind}-{seed}-decoder"
    if not prior.exists():
        made(prior, lambda folder: build_prior(folder, configs, int(seed)))
    if not decoder.exists():
        named = f"random-weights/{prior.name}"
        made(decoder, lambda folder: build_decoder(folder, configs, int(seed), named))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the folders")
    parser.add_argument("names", nargs="+", help="PRESET:SEED")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.utils.logging.disable_progress_bar()
    for name in arguments.names:
        make(arguments.output, name)


if __name__ == "__main__":
    main()
