"""Writes LoRA and textual inversion files with random values, in the forms that people have.

  make_adapters.py CHECKPOINT --output FOLDER

The peft files are saved by diffusers itself. The others are the same kind of factors under the names
that Kohya's scripts and early diffusers gave them. names.json lists, for UNets like Stable Diffusion
1.x's and XL's, what the original code calls each layer and what diffusers makes of that name.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import diffusers
import torch
import transformers
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from safetensors.torch import save_file

State = dict[str, torch.Tensor]
Layers = dict[str, torch.nn.Module]


def layers_of(module: torch.nn.Module) -> Layers:
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {name: part for name, part in module.named_modules() if isinstance(part, kinds)}


def factors(layer: torch.nn.Module, rank: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """down and up, whose product is about a quarter of the layer's own weight."""
    shape = layer.weight.shape
    inputs = math.prod(shape[1:])
    down = torch.randn((rank, *shape[1:]), generator=generator) / math.sqrt(inputs)
    up = torch.randn((shape[0], rank), generator=generator) * 0.25 / math.sqrt(rank)
    return down, up.reshape(shape[0], rank, *(1 for _ in shape[2:]))


def peft_state(layers: Layers, rank: Callable[[str], int], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, layer in layers.items():
        down, up = factors(layer, rank(name), generator)
        state[f"{name}.lora_A.weight"] = down
        state[f"{name}.lora_B.weight"] = up
    return state


def peft_metadata(state: State) -> dict[str, object]:
    """What peft's LoraConfig holds, with other alphas and ranks for some layers."""
    ranks = {key.split(".lora_B.")[0]: up.shape[1] for key, up in state.items() if ".lora_B." in key}
    usual = 4
    return {
        "r": usual,
        "lora_alpha": 6,
        "rank_pattern": {f"^{name}": rank for name, rank in ranks.items() if rank != usual},
        "alpha_pattern": {f"^{name}": 12 for i, name in enumerate(ranks) if i % 3 == 0},
        "target_modules": list(ranks),
    }


def kohya_state(
    networks: dict[str, Layers],
    rank: int,
    seed: int,
    alpha: float | None,
    rename: Callable[[str, str], str] = lambda prefix, name: name,
) -> State:
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for prefix, layers in networks.items():
        for name, layer in layers.items():
            key = f"{prefix}_{rename(prefix, name).replace('.', '_')}"
            down, up = factors(layer, rank, generator)
            state[f"{key}.lora_down.weight"] = down
            state[f"{key}.lora_up.weight"] = up
            if alpha is not None:
                state[f"{key}.alpha"] = torch.tensor(alpha)
    return state


def half(state: State) -> State:
    return {key: value.to(torch.float16) for key, value in state.items()}


def early_state(unet: Layers, text: Layers, seed: int) -> State:
    """Attention processors with layers of their own, as diffusers wrote them in its first version."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, layer in unet.items():
        match = re.match(r"(.*attn\d)\.to_(q|k|v|out)(\.0)?$", name)
        if match is None:
            continue
        down, up = factors(layer, 4, generator)
        key = f"unet.{match[1]}.processor.to_{match[2]}_lora"
        state[f"{key}.down.weight"], state[f"{key}.up.weight"] = down, up
    for name, layer in text.items():
        match = re.match(r"(.*self_attn)\.(q|k|v|out)_proj$", name)
        if match is None:
            continue
        down, up = factors(layer, 4, generator)
        key = f"text_encoder.text_model.{match[1]}.to_{match[2]}_lora"
        state[f"{key}.down.weight"], state[f"{key}.up.weight"] = down, up
    return state


def linear_layer_state(unet: Layers, text: Layers, seed: int) -> State:
    """`lora.down` and `lora_linear_layer.down`, diffusers' names before peft."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for prefix, layers, word in (("unet.", unet, "lora"), ("text_encoder.text_model.", text, "lora_linear_layer")):
        for name, layer in layers.items():
            down, up = factors(layer, 4, generator)
            state[f"{prefix}{name}.{word}.down.weight"] = down
            state[f"{prefix}{name}.{word}.up.weight"] = up
    return state


RESIDUAL = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def original_name(unet: diffusers.UNet2DConditionModel, name: str) -> str:
    """What the original code calls a layer; checked below with diffusers' own conversion."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    per_block = unet.config.layers_per_block
    side, *rest = name.split(".")
    block = 0 if side == "mid_block" else int(rest.pop(0))
    kind, index, *inner = rest
    part = ".".join(inner)
    part = RESIDUAL.get(part, part)
    if side == "mid_block":
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}.{part}"
    step = per_block + 1
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * step}.0.op"
    if kind == "upsamplers":
        attends = hasattr(unet.up_blocks[block], "attentions")
        return f"output_blocks.{block * step + per_block}.{2 if attends else 1}.{part}"
    position = 1 if kind == "attentions" else 0
    if side == "down_blocks":
        return f"input_blocks.{block * step + int(index) + 1}.{position}.{part}"
    return f"output_blocks.{block * step + int(index)}.{position}.{part}"


def as_diffusers_reads(unet: diffusers.UNet2DConditionModel, original: str) -> str:
    key = f"lora_unet_{original.replace('.', '_')}"
    state = {f"{key}.{part}.weight": torch.zeros(1, 1) for part in ("lora_down", "lora_up")}
    state = _maybe_map_sgm_blocks_to_diffusers(state, unet.config)
    converted, _ = _convert_non_diffusers_lora_to_diffusers(state)
    peft = convert_unet_state_dict_to_peft({k.removeprefix("unet."): v for k, v in converted.items()})
    (name,) = {k.split(".lora_")[0] for k in peft}
    return name


def xl_unet() -> diffusers.UNet2DConditionModel:
    """Stable Diffusion XL's form: two transformer depths, text and time as added conditions."""
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )


def names(unet: diffusers.UNet2DConditionModel) -> dict[str, object]:
    layers = layers_of(unet)
    table = []
    for name in layers:
        original = original_name(unet, name)
        table.append([original.replace(".", "_"), name, as_diffusers_reads(unet, original)])
    shapes = {name: list(value.shape) for name, value in unet.named_parameters()}
    return {"layers_per_block": unet.config.layers_per_block, "shapes": shapes, "names": table}


def write_loras(pipe: diffusers.StableDiffusionPipeline, folder: Path) -> None:
    unet, text = layers_of(pipe.unet), layers_of(pipe.text_encoder)
    both = {"lora_unet": unet, "lora_te": text}

    def peft(name: str, unet_state: State, text_state: State, with_metadata: bool = False) -> None:
        metadata = (
            {
                "unet_lora_adapter_metadata": peft_metadata(unet_state),
                "text_encoder_lora_adapter_metadata": peft_metadata(text_state),
            }
            if with_metadata
            else {}
        )
        pipe.save_lora_weights(
            folder,
            unet_lora_layers=unet_state,
            text_encoder_lora_layers=text_state,
            weight_name=f"{name}.safetensors",
            **metadata,
        )

    for rank in (4, 16):
        peft(f"peft-{rank}", peft_state(unet, lambda _: rank, rank), peft_state(text, lambda _: rank, 9))
    mixed = lambda name: 6 if "conv" in name or "fc" in name else 4  # noqa: E731
    peft("peft-metadata", peft_state(unet, mixed, 5), peft_state(text, mixed, 6), True)
    attention = {name: layer for name, layer in unet.items() if "attn" in name}
    peft("peft-attention", peft_state(attention, lambda _: 4, 7), peft_state(text, lambda _: 4, 8))

    def text_model(prefix: str, name: str) -> str:
        return f"text_model.{name}" if prefix == "lora_te" else name

    def original(prefix: str, name: str) -> str:
        return text_model(prefix, name) if prefix == "lora_te" else original_name(pipe.unet, name)

    # diffusers takes an upsampler for an attention where the block has none.
    read = {
        name: layer
        for name, layer in unet.items()
        if as_diffusers_reads(pipe.unet, original_name(pipe.unet, name)) == name
    }

    states = {
        "kohya-4-alpha": kohya_state(both, 4, 11, 2.0, text_model),
        "kohya-16-alpha": kohya_state(both, 16, 12, 8.0, text_model),
        "kohya-4": kohya_state(both, 4, 13, None, text_model),
        "kohya-16-half": half(kohya_state(both, 16, 14, 24.0, text_model)),
        "kohya-original": kohya_state({**both, "lora_unet": read}, 4, 15, 3.0, original),
        "early": early_state(unet, text, 16),
        "linear-layer": linear_layer_state(unet, text, 17),
    }
    for name, state in states.items():
        save_file(state, folder / f"{name}.safetensors", metadata={"format": "pt"})


def write_xl_loras(pipe: diffusers.StableDiffusionXLPipeline, folder: Path) -> None:
    unet, first, second = (
        layers_of(part) for part in (pipe.unet, pipe.text_encoder, pipe.text_encoder_2)
    )
    pipe.save_lora_weights(
        folder,
        unet_lora_layers=peft_state(unet, lambda _: 4, 21),
        text_encoder_lora_layers=peft_state(first, lambda _: 4, 22),
        text_encoder_2_lora_layers=peft_state(second, lambda _: 4, 23),
        weight_name="peft-4.safetensors",
    )
    # Kohya's scripts leave these as they are, and diffusers misreads their names.
    unet = {name: layer for name, layer in unet.items() if not name.startswith("add_embedding.")}
    second = {name: layer for name, layer in second.items() if name != "text_projection"}

    def text_model(prefix: str, name: str) -> str:
        return name if prefix == "lora_unet" else f"text_model.{name.removeprefix('text_model.')}"

    networks = {"lora_unet": unet, "lora_te1": first, "lora_te2": second}
    state = kohya_state(networks, 16, 24, 8.0, text_model)
    save_file(state, folder / "kohya-16-alpha.safetensors", metadata={"format": "pt"})


def write_xl_inversions(widths: tuple[int, int], folder: Path) -> None:
    generator = torch.Generator().manual_seed(4)
    first, second = (torch.randn(2, width, generator=generator) for width in widths)
    save_file({"clip_l": first, "clip_g": second}, folder / "inversion-pair.safetensors")


def write_inversions(width: int, folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    files = {
        "inversion-one": {"<thing>": torch.randn(width, generator=generator)},
        "inversion-row": {"<row>": torch.randn(1, width, generator=generator)},
        "inversion-four": {"<style>": torch.randn(4, width, generator=generator)},
        "inversion-emb-params": {"emb_params": torch.randn(3, width, generator=generator).half()},
    }
    for name, state in files.items():
        save_file(state, folder / f"{name}.safetensors")
    torch.save(files["inversion-four"], folder / "inversion-four.bin")
    columns = torch.randn(width, 2, generator=generator)
    nested = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(columns.T)},
        "name": "nested-style",
        "step": 10,
        "sd_checkpoint": None,
    }
    torch.save(nested, folder / "inversion-nested.pt")
    torch.save(torch.randn(1, width, generator=generator).half(), folder / "inversion-bare.bin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    arguments.output.mkdir(parents=True, exist_ok=True)
    index = json.loads((arguments.checkpoint / "model_index.json").read_text(encoding="utf-8"))
    if index["_class_name"].startswith("StableDiffusionXL"):
        pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(
            arguments.checkpoint, local_files_only=True
        )
        write_xl_loras(pipe, arguments.output)
        encoders = (pipe.text_encoder, pipe.text_encoder_2)
        widths = tuple(encoder.config.hidden_size for encoder in encoders)
        write_xl_inversions(widths, arguments.output)
        return
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        arguments.checkpoint, safety_checker=None, local_files_only=True
    )
    write_loras(pipe, arguments.output)
    write_inversions(pipe.text_encoder.config.hidden_size, arguments.output)
    tables = {"sd": names(pipe.unet), "xl": names(xl_unet())}
    (arguments.output / "names.json").write_text(json.dumps(tables))


if __name__ == "__main__":
    main()
