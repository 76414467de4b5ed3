"""Files of torch.save and single files, and what torch and diffusers themselves read from them.

  write_files.py CHECKPOINT OUTPUT

CHECKPOINT is a small Stable Diffusion folder. OUTPUT gets

  tensors/NAME.bin + NAME.safetensors    what torch.save writes, and the same values in rows
  legacy.bin                             the form before PyTorch 1.6
  bin/, shards/                          the checkpoint with .bin files, whole and in shards
  single/NAME.safetensors|ckpt           the original layout
  single/NAME/COMPONENT.safetensors      what diffusers' own conversion makes of it
  single/NAME/config                     configurations, where they are not CHECKPOINT's
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2] / "golden"))
import original_layout as original  # noqa: E402

Tensors = dict[str, torch.Tensor]


def rows(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def odd_tensors() -> Tensors:
    base = torch.arange(24.0).reshape(2, 3, 4)
    return OrderedDict(
        plain=base,
        transposed=base.permute(2, 0, 1),
        stepped=base[:, ::2, 1::2],
        narrowed=base[1:, 1:],
        expanded=torch.ones(3, 1).expand(3, 5),
        channels_last=torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        tied=base,
        parameter=torch.nn.Parameter(torch.randn(3)),
        turned_parameter=torch.nn.Parameter(torch.randn(3, 2)).t(),
        scalar=torch.tensor(7.5),
        empty=torch.zeros(0, 4),
        half=torch.randn(5).half(),
        bfloat=torch.randn(5).bfloat16(),
        double=torch.randn(5).double(),
        position_ids=torch.arange(77).unsqueeze(0),
        int32=torch.arange(3, dtype=torch.int32),
        int8=torch.arange(-3, 3, dtype=torch.int8),
        uint8=torch.arange(3, dtype=torch.uint8),
        bool=torch.tensor([True, False]),
    )


def write_tensors(folder: Path) -> None:
    folder.mkdir()
    torch.manual_seed(0)
    odd = odd_tensors()
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    state = module.state_dict()
    training = {
        "state_dict": state,
        "epoch": 3,
        "global_step": 2**40,
        "huge": -(2**70),
        "learning_rate": 1e-4,
        "loops": [{"a": (1, None, True)}, ["x", b"bytes"]],
        "optimizer_states": [optimizer.state_dict()],
        "epsilon": {},
    }
    files: dict[str, tuple[Any, Tensors, dict[str, Any]]] = {
        "odd": (odd, odd, {}),
        "plain-dictionary": (dict(odd), odd, {}),
        "parameters": (dict(module.named_parameters()), dict(module.named_parameters()), {}),
        "state-dict": (state, state, {}),
        "training": (training, state, {"pickle_protocol": 4}),
        "protocol-3": (odd, odd, {"pickle_protocol": 3}),
        "protocol-4": (odd, odd, {"pickle_protocol": 4}),
    }
    for name, (value, tensors, options) in files.items():
        torch.save(value, folder / f"{name}.bin", **options)
        save_file(rows(tensors), folder / f"{name}.safetensors")


def write_bin(source: Path, target: Path, **options: Any) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    for part, kind in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL)):
        model = kind.from_pretrained(source / part)
        model.save_pretrained(target / part, safe_serialization=False, **options)
    text = load_file(source / "text_encoder/model.safetensors")
    named = {f"text_model.{name}": tensor for name, tensor in text.items()}
    length = named["text_model.embeddings.position_embedding.weight"].shape[0]
    named["text_model.embeddings.position_ids"] = torch.arange(length).unsqueeze(0)
    torch.save(OrderedDict(named), target / "text_encoder/pytorch_model.bin")


def loaded(folder: Path, part: str) -> Tensors:
    [file] = (folder / part).glob("*.safetensors")
    return load_file(file)


def config_of(folder: Path, part: str) -> dict[str, Any]:
    return json.loads((folder / part / "config.json").read_text(encoding="utf-8"))


def convert(kind: Any, file: Path, config: Path, part: str) -> Tensors:
    """What diffusers' own conversion makes of one network of a single file."""
    if kind in (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection):
        checkpoint = diffusers.loaders.single_file_utils.load_single_file_checkpoint(str(file))
        model = create_diffusers_clip_model_from_ldm(
            kind, checkpoint, subfolder=part, config=str(config), local_files_only=True
        )
        return {n.removeprefix("text_model."): t for n, t in model.state_dict().items()}
    return kind.from_single_file(
        str(file), config=str(config), subfolder=part, local_files_only=True
    ).state_dict()


def write_single(
    file: Path, tensors: Tensors, config: Path, parts: dict[str, Any]
) -> None:
    if file.suffix == ".ckpt":
        torch.save({"state_dict": tensors, "global_step": 1}, file)
    else:
        save_file(rows(tensors), file)
    folder = file.with_suffix("")
    folder.mkdir()
    for part, kind in parts.items():
        save_file(rows(convert(kind, file, config, part)), folder / f"{part}.safetensors")


def common(folder: Path) -> Tensors:
    unet = original.unet(loaded(folder, "unet"), config_of(folder, "unet"))
    vae = original.vae(loaded(folder, "vae"), config_of(folder, "vae"))
    return original.prefixed(unet, "model.diffusion_model.") | original.prefixed(
        vae, "first_stage_model."
    )


def save_random(model: torch.nn.Module, folder: Path) -> None:
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    model.save_pretrained(folder)


def text_config(width: int, layers: int, act: str) -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        vocab_size=96,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=16,
        projection_dim=width,
        hidden_act=act,
        eos_token_id=2,
    )


def make_xl(folder: Path) -> None:
    """Stable Diffusion XL's form, as narrow as its classes allow."""
    blocks = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]
    widths = {"block_out_channels": [32, 32, 64], "norm_num_groups": 16}
    attention = {
        "down_block_types": blocks,
        "transformer_layers_per_block": [1, 2, 3],
        "attention_head_dim": [2, 2, 4],
        "cross_attention_dim": 32 + 48,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 48,
    }
    up = [name.replace("Down", "Up") for name in reversed(blocks)]
    save_random(
        diffusers.UNet2DConditionModel(sample_size=8, up_block_types=up, **widths, **attention),
        folder / "unet",
    )
    save_random(
        diffusers.AutoencoderKL(
            block_out_channels=[16, 32],
            norm_num_groups=16,
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            scaling_factor=0.13025,
        ),
        folder / "vae",
    )
    save_random(transformers.CLIPTextModel(text_config(32, 2, "quick_gelu")), folder / "text_encoder")
    save_random(
        transformers.CLIPTextModelWithProjection(text_config(48, 3, "gelu")), folder / "text_encoder_2"
    )
    save_random(
        diffusers.ControlNetModel(
            conditioning_embedding_out_channels=[16, 16, 32, 32],
            **widths,
            **attention,
        ),
        folder / "controlnet",
    )
    diffusers.EulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def write_singles(checkpoint: Path, folder: Path) -> None:
    folder.mkdir()
    text = loaded(checkpoint, "text_encoder")
    parts = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel,
    }
    clip = original.prefixed(original.clip(text), "cond_stage_model.transformer.")
    open_clip = original.prefixed(original.open_clip(text), "cond_stage_model.model.")
    write_single(folder / "clip.safetensors", common(checkpoint) | clip, checkpoint, parts)
    write_single(folder / "clip-pickled.ckpt", common(checkpoint) | clip, checkpoint, parts)
    write_single(folder / "open-clip.safetensors", common(checkpoint) | open_clip, checkpoint, parts)

    xl = folder / "xl-config"
    make_xl(xl)
    first = original.clip(loaded(xl, "text_encoder"))
    second = original.open_clip(loaded(xl, "text_encoder_2"))
    texts = original.prefixed(first, "conditioner.embedders.0.transformer.") | original.prefixed(
        second, "conditioner.embedders.1.model."
    )
    both = {**parts, "text_encoder_2": transformers.CLIPTextModelWithProjection}
    write_single(folder / "xl.safetensors", common(xl) | texts, xl, both)

    # diffusers converts the original layout for Stable Diffusion 1 and 2; for XL there is its own only.
    control = {"controlnet": diffusers.ControlNetModel}
    configs = folder / "controlnet-config"
    shared = ("down_block_types", "block_out_channels", "layers_per_block", "cross_attention_dim")
    more = ("attention_head_dim", "use_linear_projection")
    unet = config_of(checkpoint, "unet")
    save_random(
        diffusers.ControlNetModel(
            conditioning_embedding_out_channels=[16, 16, 32, 32],
            **{name: unet[name] for name in (*shared, *more)},
        ),
        configs / "controlnet",
    )
    tensors = original.controlnet(loaded(configs, "controlnet"), config_of(configs, "controlnet"))
    with_prefix = original.prefixed(tensors, "control_model.")
    write_single(folder / "controlnet.safetensors", with_prefix, configs, control)
    write_single(folder / "controlnet-xl.safetensors", loaded(xl, "controlnet"), xl, control)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    output: Path = arguments.output
    write_tensors(output / "tensors")
    torch.save({"w": torch.ones(2)}, output / "legacy.bin", _use_new_zipfile_serialization=False)
    write_bin(arguments.checkpoint, output / "bin")
    write_bin(arguments.checkpoint, output / "shards", max_shard_size="400KB")
    with torch.no_grad():
        write_singles(arguments.checkpoint, output / "single")


if __name__ == "__main__":
    main()
