"""Writes networks of diffusers and transformers under the names of the original implementations.

The inverse of diffusers' conversion: single files of Stable Diffusion 1, 2, XL and ControlNet hold
their tensors so. Works on tensors with values and on meta tensors alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

Config = dict[str, Any]
Tensors = dict[str, torch.Tensor]
Rename = tuple[str, str | Callable[[re.Match[str]], str]]

# Transformer blocks have a norm1 and a norm2 too, in both layouts.
IN_RESNET = r"^((?:input|output)_blocks\.\d+\.0|middle_block\.[02])"
RESNET: list[Rename] = [
    (IN_RESNET + r"\.norm1\.", r"\1.in_layers.0."),
    (IN_RESNET + r"\.conv1\.", r"\1.in_layers.2."),
    (IN_RESNET + r"\.norm2\.", r"\1.out_layers.0."),
    (IN_RESNET + r"\.conv2\.", r"\1.out_layers.3."),
    (IN_RESNET + r"\.time_emb_proj\.", r"\1.emb_layers.1."),
    (IN_RESNET + r"\.conv_shortcut\.", r"\1.skip_connection."),
]


def renamed(tensors: Tensors, renames: list[Rename]) -> Tensors:
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def encoder_renames(layers: int) -> list[Rename]:
    def at(tail: str, last: bool = False) -> Callable[[re.Match[str]], str]:
        def place(match: re.Match[str]) -> str:
            layer = layers if last else int(match[2])
            return f"input_blocks.{1 + int(match[1]) * (layers + 1) + layer}.{tail}."

        return place

    return [
        (r"^time_embedding\.linear_1\.", "time_embed.0."),
        (r"^time_embedding\.linear_2\.", "time_embed.2."),
        (r"^add_embedding\.linear_1\.", "label_emb.0.0."),
        (r"^add_embedding\.linear_2\.", "label_emb.0.2."),
        (r"^conv_in\.", "input_blocks.0.0."),
        (r"^down_blocks\.(\d+)\.resnets\.(\d+)\.", at("0")),
        (r"^down_blocks\.(\d+)\.attentions\.(\d+)\.", at("1")),
        (r"^down_blocks\.(\d+)\.downsamplers\.0\.conv\.", at("0.op", last=True)),
        (r"^mid_block\.resnets\.0\.", "middle_block.0."),
        (r"^mid_block\.attentions\.0\.", "middle_block.1."),
        (r"^mid_block\.resnets\.1\.", "middle_block.2."),
        *RESNET,
    ]


def unet(tensors: Tensors, config: Config) -> Tensors:
    layers = config["layers_per_block"]

    def up(tail: str) -> Callable[[re.Match[str]], str]:
        return lambda m: f"output_blocks.{int(m[1]) * (layers + 1) + int(m[2])}.{tail}."

    def upsampler(match: re.Match[str]) -> str:
        block = int(match[1])
        attends = any(name.startswith(f"up_blocks.{block}.attentions.") for name in tensors)
        place = block * (layers + 1) + layers
        return f"output_blocks.{place}.{2 if attends else 1}.conv."

    return renamed(
        tensors,
        [
            (r"^up_blocks\.(\d+)\.resnets\.(\d+)\.", up("0")),
            (r"^up_blocks\.(\d+)\.attentions\.(\d+)\.", up("1")),
            (r"^up_blocks\.(\d+)\.upsamplers\.0\.conv\.", upsampler),
            (r"^conv_norm_out\.", "out.0."),
            (r"^conv_out\.", "out.2."),
            *encoder_renames(layers),
        ],
    )


def controlnet(tensors: Tensors, config: Config) -> Tensors:
    return renamed(
        tensors,
        [
            (r"^controlnet_down_blocks\.(\d+)\.", r"zero_convs.\1.0."),
            (r"^controlnet_mid_block\.", "middle_block_out.0."),
            (r"^controlnet_cond_embedding\.conv_in\.", "input_hint_block.0."),
            (r"^controlnet_cond_embedding\.conv_out\.", "input_hint_block.14."),
            (
                r"^controlnet_cond_embedding\.blocks\.(\d+)\.",
                lambda m: f"input_hint_block.{2 * int(m[1]) + 2}.",
            ),
            *encoder_renames(config["layers_per_block"]),
        ],
    )


def vae(tensors: Tensors, config: Config) -> Tensors:
    levels = len(config["block_out_channels"])
    original = renamed(
        tensors,
        [
            (r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block."),
            (r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
            (r"^decoder\.up_blocks\.(\d+)\.", lambda m: f"decoder.up.{levels - 1 - int(m[1])}."),
            (r"^(decoder\.up\.\d+)\.resnets\.", r"\1.block."),
            (r"^(decoder\.up\.\d+)\.upsamplers\.0\.", r"\1.upsample."),
            (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
            (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
            (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
            (r"\.mid_block\.attentions\.0\.to_(q|k|v)\.", r".mid.attn_1.\1."),
            (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
            (r"\.conv_norm_out\.", ".norm_out."),
            (r"\.conv_shortcut\.", ".nin_shortcut."),
        ],
    )
    for name, tensor in original.items():
        if re.search(r"\.attn_1\.(q|k|v|proj_out)\.weight$", name):
            original[name] = tensor[:, :, None, None]
    return original


def bare(tensors: Tensors) -> Tensors:
    """A text model without the module that some releases of transformers wrap it in."""
    return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}


def clip(tensors: Tensors) -> Tensors:
    """OpenAI's, as transformers 4 saved it: with a buffer of positions."""
    original = prefixed(bare(tensors), "text_model.")
    length = tensors_length(original)
    original["text_model.embeddings.position_ids"] = torch.arange(length).unsqueeze(0)
    return original


def tensors_length(tensors: Tensors) -> int:
    return tensors["text_model.embeddings.position_embedding.weight"].shape[0]


def open_clip(tensors: Tensors, last_layer: bool = False) -> Tensors:
    """OpenCLIP's. last_layer: with the layer that Stable Diffusion 2 leaves out, and what is beside
    it in published files."""
    original = renamed(
        bare(tensors),
        [
            (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
            (r"^embeddings\.token_embedding\.", "token_embedding."),
            (r"^final_layer_norm\.", "ln_final."),
            (r"^text_projection\.weight$", "text_projection"),
            (r"^encoder\.layers\.", "transformer.resblocks."),
            (r"\.layer_norm(1|2)\.", r".ln_\1."),
            (r"\.mlp\.fc1\.", ".mlp.c_fc."),
            (r"\.mlp\.fc2\.", ".mlp.c_proj."),
            (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
        ],
    )
    for name in [name for name in original if ".self_attn.q_proj." in name]:
        parts = [original.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        fused = name.replace(".self_attn.q_proj.", ".attn.in_proj_")
        original[fused] = torch.cat(parts)
    if "text_projection" in original:
        original["text_projection"] = original["text_projection"].T.contiguous()
    if last_layer:
        first = [name for name in original if name.startswith("transformer.resblocks.0.")]
        count = 1 + max(int(name.split(".")[2]) for name in original if ".resblocks." in name)
        for name in first:
            original[name.replace(".0.", f".{count}.", 1)] = torch.zeros_like(original[name])
        width = original["positional_embedding"].shape[1]
        original["text_projection"] = original["positional_embedding"].new_zeros(width, width)
    original["logit_scale"] = original["positional_embedding"].new_zeros(())
    return original
