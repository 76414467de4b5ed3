"""Makes small networks with random weights and writes what they compute, for the test in Node.

    python networks.py FOLDER

FOLDER becomes a checkpoint folder whose components are the networks, some in the form of published
files beside the form of today; answers.json names inputs and outputs, little-endian float32 files.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
from diffusers import AutoencoderTiny, PriorTransformer, VQModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from weights import random_values

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
    "projection_dim": 24,
}
PICTURES = 12


class Writer:
    """Collects tensors under names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, Any] = {}

    def save(self, name: str, tensor: Tensor) -> None:
        file = self.folder / f"{name}.f32"
        file.write_bytes(tensor.detach().float().contiguous().numpy().astype("<f4").tobytes())
        self.answers[name] = {"file": str(file), "shape": list(tensor.shape)}


def randomise(model: nn.Module, seed: int = 1) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.data.copy_(random_values(name, tuple(parameter.shape), seed))
    return model.eval()


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def movq(writer: Writer) -> nn.Module:
    model = randomise(
        VQModel(
            block_out_channels=[32, 64],
            down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
            up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
            latent_channels=4,
            vq_embed_dim=4,
            num_vq_embeddings=16,
            norm_type="spatial",
        )
    )
    pixels = noise(1, 2, 3, 20, 12).clamp(-1, 1)
    latents = model.encode(pixels).latents
    writer.save("movq.pixels", pixels)
    writer.save("movq.latents", latents)
    writer.save("movq.decoded", model.decode(latents, force_not_quantize=True).sample)
    return model


def prior(writer: Writer) -> nn.Module:
    model = randomise(
        PriorTransformer(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            embedding_dim=24,
            num_embeddings=9,
        )
    )
    sample, pooled, hidden = noise(2, 3, 24), noise(3, 3, 24), noise(4, 3, 9, 24)
    mask = torch.arange(9) < torch.tensor([[3], [9], [1]])
    predicted = model(sample, torch.tensor(777), pooled, hidden, mask).predicted_image_embedding
    writer.save("prior.sample", sample)
    writer.save("prior.pooled", pooled)
    writer.save("prior.hidden", hidden)
    writer.save("prior.mask", mask)
    writer.save("prior.predicted", predicted)
    writer.save("prior.denormalized", model.post_process_latents(predicted))
    return model


def image_encoder(writer: Writer) -> nn.Module:
    model = randomise(CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, hidden_act="gelu")))
    pixels = noise(5, 2, 3, 28, 28)
    writer.save("image_encoder.pixels", pixels)
    writer.save("image_encoder.embeddings", model(pixels).image_embeds)
    return model


def tiny(writer: Writer) -> nn.Module:
    model = randomise(
        AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 2, 1),
            num_decoder_blocks=(2, 1, 1),
        )
    )
    pixels = noise(6, 2, 3, 24, 16).clamp(-1, 1)
    latents = model.encode(pixels).latents
    writer.save("vae.pixels", pixels)
    writer.save("vae.latents", latents)
    writer.save("vae.decoded", model.decode(latents).sample)
    return model


def pictures() -> list[Image.Image]:
    """Blots of colour in several sizes."""
    sizes = [(40, 30), (28, 28), (31, 57)]
    made = []
    for i in range(PICTURES):
        coarse = (noise(20 + i, 4, 5, 3) * 70 + 128).clamp(0, 255).to(torch.uint8)
        made.append(Image.fromarray(coarse.numpy(), "RGB").resize(sizes[i % 3]))
    return made


def checked_pixels(folder: Path) -> Tensor:
    size = VISION["image_size"]
    processor = CLIPImageProcessorPil(size=size, crop_size=size)
    processor.save_pretrained(folder / "feature_extractor")
    images = pictures()
    (folder / "pictures").mkdir()
    for i, image in enumerate(images):
        image.save(folder / "pictures" / f"{i}.png")
    return processor(images, return_tensors="pt").pixel_values


def safety_checker(writer: Writer, pixels: Tensor) -> nn.Module:
    vision = {name: value for name, value in VISION.items() if name != "projection_dim"}
    config = CLIPConfig(vision_config=vision, projection_dim=VISION["projection_dim"])
    model = randomise(StableDiffusionSafetyChecker(config))
    set_thresholds(model, pixels)
    special, concepts = similarities(model, pixels)
    writer.answers["safety_checker"] = {
        "flagged": flags_of(model, pixels),
        "special": beyond(special, model.special_care_embeds_weights),
        # What would be flagged if special concepts changed nothing.
        "flaggedAnyway": beyond(concepts, model.concept_embeds_weights),
    }
    return model


def flags_of(model: nn.Module, pixels: Tensor) -> list[bool]:
    return model(clip_input=pixels, images=list(pixels))[1]


def similarities(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    embeds = model.visual_projection(model.vision_model(pixels)[1])
    picture = nn.functional.normalize(embeds)
    special, concepts = (
        picture @ nn.functional.normalize(table).t()
        for table in (model.special_care_embeds, model.concept_embeds)
    )
    return special, concepts


def beyond(similarity: Tensor, thresholds: Tensor) -> list[bool]:
    return (((similarity - thresholds) * 1000).round() > 0).any(dim=1).tolist()


def set_thresholds(model: nn.Module, pixels: Tensor) -> None:
    """So that some pictures are flagged, some are not, and some only for a special concept."""
    special, concepts = similarities(model, pixels)
    model.special_care_embeds_weights.data.copy_(special.sort(dim=0).values[-3])
    # Alternately a little above the closest picture, which strictness makes up for, and between
    # the two closest; most concepts are out of reach.
    closest = concepts.sort(dim=0).values
    for i in range(concepts.shape[1]):
        threshold = closest[-1, i] + 0.004 if i % 2 == 0 else closest[-2:, i].mean()
        model.concept_embeds_weights.data[i] = threshold if i < 4 else 1


def publish_checker(folder: Path, writer: Writer, images: Tensor) -> None:
    """The safety checker as Stable Diffusion 1.5 has it in float16: wrapped twice, with a buffer."""
    source, target = folder / "safety_checker", folder / "safety_checker_published"
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    wrapper = "vision_model.vision_model."
    tensors = {
        name.replace("vision_model.", wrapper): tensor.half()
        for name, tensor in load_file(source / "model.safetensors").items()
    }
    tensors[f"{wrapper}embeddings.position_ids"] = torch.arange(17).unsqueeze(0)
    save_file(tensors, target / "model.fp16.safetensors", metadata={"format": "pt"})
    model = StableDiffusionSafetyChecker.from_pretrained(
        target, variant="fp16", torch_dtype=torch.float32
    )
    writer.answers["safety_checker_published"] = {"flagged": flags_of(model, images)}


def unwrap_encoder(folder: Path) -> None:
    """The image encoder without the wrapping module, as transformers 5 saves text encoders."""
    source, target = folder / "image_encoder", folder / "image_encoder_unwrapped"
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    tensors = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    writer = Writer(folder)
    pixels = checked_pixels(folder)
    with torch.no_grad():
        models = {
            "movq": movq(writer),
            "prior": prior(writer),
            "image_encoder": image_encoder(writer),
            "vae": tiny(writer),
            "safety_checker": safety_checker(writer, pixels),
        }
    index: dict[str, Any] = {"_class_name": "NoPipeline"}
    for name, model in models.items():
        model.save_pretrained(folder / name)
        index[name] = ["diffusers", type(model).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    publish_checker(folder, writer, pixels)
    unwrap_encoder(folder)
    (folder / "answers.json").write_text(json.dumps(writer.answers, indent=1))


if __name__ == "__main__":
    main()
