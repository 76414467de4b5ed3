"""Sample grids for judging the model by eye, made with diffusers.

    python sample.py --model models/demo --data data.npz --out folder [--grids text strength negative colour vae]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image, ImageDraw

import common
from captions import article
from prepare import STYLES

CELL, GAP, LEFT, TOP = 96, 4, 150, 18
Grid = list[tuple[str, list[Image.Image]]]

TEXT_NOUNS = "apple|cat|penguin|pizza|hamburger|rocket|house|heart|rose|guitar|sailboat|owl".split("|")
MORE_NOUNS = "dog|castle|strawberry|car|tree|fish|crown|tiger face|butterfly|airplane|smiley|umbrella".split("|")
CHANGES = [
    ("house", "noto", "castle, noto style"),
    ("apple", "3d", "strawberry, 3d style"),
    ("sailboat", "noto", "sailboat, 3d style"),
    ("cat face", "3d", "tiger face, 3d style"),
    ("penguin", "3d", "penguin, noto style"),
    ("car", "flat", "a blue car, flat style"),
]
NEGATIVES = [
    ("an apple, 3d style", "red"),
    ("a heart, 3d style", "red"),
    ("a house", "3d style, flat style"),
    ("a car", "noto style"),
    ("a book, flat style", "green"),
    ("a butterfly", "orange"),
]
COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "pink"]
COLOUR_NOUNS = ["car, flat style", "apple, 3d style", "t-shirt, noto style", "butterfly, flat style"]


def draw_grid(columns: list[str], rows: Grid) -> Image.Image:
    width = LEFT + len(columns) * (CELL + GAP)
    picture = Image.new("RGB", (width, TOP + len(rows) * (CELL + GAP)), (222, 222, 222))
    pen = ImageDraw.Draw(picture)
    for place, title in enumerate(columns):
        pen.text((LEFT + place * (CELL + GAP) + 2, 3), title, fill="black")
    for line, (title, cells) in enumerate(rows):
        top = TOP + line * (CELL + GAP)
        pen.multiline_text((4, top + 4), title, fill="black")
        for place, cell in enumerate(cells):
            picture.paste(cell.resize((CELL, CELL), Image.Resampling.BICUBIC), (LEFT + place * (CELL + GAP), top))
    return picture


def to_image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(((pixels + 1.0) * 127.5).round().byte().permute(1, 2, 0).numpy())


class Sampler:
    def __init__(self, model: Path, data: common.Data, steps: int, guidance: float, device: str) -> None:
        self.text = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)
        self.image = StableDiffusionImg2ImgPipeline(**self.text.components, requires_safety_checker=False)
        for pipeline in (self.text, self.image):
            pipeline.set_progress_bar_config(disable=True)
        self.data, self.steps, self.guidance = data, steps, guidance

    def original(self, noun: str, style: str) -> Image.Image:
        for entry in self.data.demo:
            if (entry["noun"], entry["style"], entry["copy"]) == (noun, style, False):
                pixels = common.on_white(self.data.pictures[[entry["picture"]]])[0]
                return to_image(pixels)
        raise ValueError(f"no picture of {noun} in {style}")

    def from_text(
        self, prompts: list[str], negative: list[str] | None = None, seed: int = 1, guidance: float | None = None
    ) -> list[Image.Image]:
        generators = [torch.Generator().manual_seed(seed) for _ in prompts]
        return self.text(
            prompts,
            negative_prompt=negative,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance if guidance is None else guidance,
            generator=generators,
        ).images

    def from_image(
        self, prompts: list[str], images: list[Image.Image], strength: float, seed: int = 1
    ) -> list[Image.Image]:
        generators = [torch.Generator().manual_seed(seed) for _ in prompts]
        return self.image(
            prompts,
            image=images,
            strength=strength,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=generators,
        ).images


def text_grid(sampler: Sampler, nouns: list[str]) -> Image.Image:
    rows = [(f"{style} style", sampler.from_text([f"{noun}, {style} style" for noun in nouns])) for style in STYLES]
    return draw_grid(nouns, rows)


def strength_grid(sampler: Sampler) -> Image.Image:
    inputs = [sampler.original(noun, style) for noun, style, _ in CHANGES]
    strengths = [place / 10 for place in range(2, 11)]
    columns = [sampler.from_image([prompt for _, _, prompt in CHANGES], inputs, strength) for strength in strengths]
    rows = [
        (f"{noun}\n({style})\n-> " + prompt.replace(", ", "\n"), [inputs[line], *(column[line] for column in columns)])
        for line, (noun, style, prompt) in enumerate(CHANGES)
    ]
    return draw_grid(["input", *(f"strength {strength}" for strength in strengths)], rows)


def negative_grid(sampler: Sampler) -> Image.Image:
    """The same seed without and with a negative prompt, at three guidance scales."""
    scales = (1.0, 3.0, 6.0)
    prompts = [prompt for prompt, _ in NEGATIVES]
    negatives = [negative for _, negative in NEGATIVES]
    columns: list[list[Image.Image]] = []
    titles: list[str] = []
    for guidance in scales:
        columns += [
            sampler.from_text(prompts, None, guidance=guidance),
            sampler.from_text(prompts, negatives, guidance=guidance),
        ]
        titles += [f"guidance {guidance:g}", "with negative"]
    rows = [
        (f"{prompt}\nnegative:\n{negative}", [column[line] for column in columns])
        for line, (prompt, negative) in enumerate(NEGATIVES)
    ]
    return draw_grid(titles, rows)


def colour_grid(sampler: Sampler) -> Image.Image:
    rows: Grid = []
    for phrase in COLOUR_NOUNS:
        noun = phrase.partition(",")[0]
        rows.append((phrase, sampler.from_text([article(f"{colour} {phrase}", noun) for colour in COLOURS])))
    return draw_grid(COLOURS, rows)


def vae_grid(sampler: Sampler) -> Image.Image:
    """Originals above what the autoencoder makes of them."""
    rows: Grid = []
    vae = sampler.text.vae
    for style in STYLES:
        originals = [sampler.original(noun, style) for noun in TEXT_NOUNS]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in originals]))
        batch = pixels.float().permute(0, 3, 1, 2) / 127.5 - 1.0
        with torch.no_grad():
            output = vae.decode(vae.encode(batch).latent_dist.mean).sample.clamp(-1.0, 1.0)
        decoded = [to_image(pixels) for pixels in output]
        rows += [(f"{style}\noriginal", originals), (f"{style}\ndecoded", decoded)]
    return draw_grid(TEXT_NOUNS, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--grids", nargs="+", default=["text", "more", "strength", "negative", "colour", "vae"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = common.load_data(arguments.data)
    sampler = Sampler(arguments.model, data, arguments.steps, arguments.guidance, arguments.device)
    makers = {
        "text": ("text-to-image", lambda: text_grid(sampler, TEXT_NOUNS)),
        "more": ("text-to-image-more", lambda: text_grid(sampler, MORE_NOUNS)),
        "strength": ("img2img-strength", lambda: strength_grid(sampler)),
        "negative": ("negative-prompt", lambda: negative_grid(sampler)),
        "colour": ("colour-words", lambda: colour_grid(sampler)),
        "vae": ("autoencoder", lambda: vae_grid(sampler)),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.grids:
        title, make = makers[name]
        make().save(arguments.out / f"demo-{title}.png", optimize=True)


if __name__ == "__main__":
    main()
