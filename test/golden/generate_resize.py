"""Writes resize.json: what Pillow and diffusers make of small pictures.

    python test/golden/generate_resize.py

Pictures come from a small linear congruential generator that the test has too (`seed`), so that
only results are stored: base64 of RGB bytes, or of little-endian float32 values.
Needs the packages of scripts/python/requirements.txt; Pillow's version matters, since 13 resizes
columns before rows where that is less work.
"""

import base64
import json
from pathlib import Path

import numpy as np
import PIL
import torch
from diffusers import __version__ as diffusers_version
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# From size, to size: enlarged, shrunk, one way each, to and from one pixel, the same.
SIZES = [
    ((17, 13), (5, 4)),
    ((17, 13), (23, 19)),
    ((9, 31), (14, 7)),
    ((31, 9), (7, 14)),
    ((13, 13), (13, 5)),
    ((13, 13), (5, 13)),
    ((1, 7), (4, 3)),
    ((6, 5), (1, 1)),
    ((1, 1), (3, 2)),
    ((8, 6), (8, 6)),
    ((48, 40), (11, 7)),
]

REDUCING = [
    ((37, 29), (5, 4), "bicubic", 1.0),
    ((40, 30), (7, 29), "bicubic", 1.0),
    ((41, 33), (6, 5), "lanczos", 2.0),
    ((33, 41), (4, 9), "box", 1.5),
]


def picture(width: int, height: int, seed: int, harsh: bool = False) -> Image.Image:
    """Noise; `harsh` is black and white only, which makes filters overshoot."""
    values = bytearray(width * height * 3)
    state = seed
    for i in range(len(values)):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        value = state >> 24
        values[i] = (255 if value > 127 else 0) if harsh else value
    return Image.frombytes("RGB", (width, height), bytes(values))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def resizes() -> list[dict]:
    cases = []
    jobs = [(a, b, name, None) for a, b in SIZES for name in FILTERS] + REDUCING
    for seed, (source, target, name, gap) in enumerate(jobs, start=1):
        harsh = seed % 3 == 0
        image = picture(*source, seed, harsh)
        resized = image.resize(target, FILTERS[name], reducing_gap=gap)
        cases.append(
            {
                "seed": seed,
                "harsh": harsh,
                "from": source,
                "to": target,
                "filter": name,
                "reducingGap": gap,
                "rgb": text(resized.tobytes()),
            }
        )
    return cases


def preprocessed() -> list[dict]:
    jobs = [
        ([(19, 21)], {}, 8, "lanczos", None, True),
        ([(16, 8)], {}, 8, "lanczos", None, True),
        ([(17, 9), (12, 30)], {}, 4, "lanczos", None, True),
        ([(9, 9)], {"height": 19, "width": 10}, 8, "lanczos", None, True),
        ([(40, 21)], {"height": 8, "width": 13}, 4, "bicubic", 1, True),
        ([(11, 10)], {}, 8, "lanczos", None, False),
    ]
    cases = []
    for seed, (sizes, size, multiple, name, gap, normalize) in enumerate(jobs, start=1001):
        processor = VaeImageProcessor(
            vae_scale_factor=multiple, resample=name, do_normalize=normalize, reducing_gap=gap
        )
        images = [picture(*s, seed + 100 * i) for i, s in enumerate(sizes)]
        result = processor.preprocess(images, **size).numpy()
        cases.append(
            {
                "seeds": [seed + 100 * i for i in range(len(sizes))],
                "from": sizes,
                "multipleOf": multiple,
                "filter": name,
                "reducingGap": gap,
                "normalize": normalize,
                **size,
                "shape": result.shape,
                "data": text(result.astype("<f4").tobytes()),
            }
        )
    return cases


def postprocessed() -> dict:
    """All values that lie near a rounding boundary, as the network would give them."""
    halves = (np.arange(256, dtype=np.float64) + 0.5) / 255
    near = np.concatenate([np.nextafter(halves.astype("<f4"), np.float32(side)) for side in (0, 2)])
    values = np.concatenate([halves.astype("<f4"), near, np.arange(256, dtype="<f4") / 255])
    values = np.clip(values, 0, 1).astype("<f4")
    values = np.concatenate([values, np.zeros(-len(values) % 48, "<f4")]).reshape(1, 3, 4, -1)
    array = VaeImageProcessor.pt_to_numpy(torch.from_numpy(values))
    image = VaeImageProcessor.numpy_to_pil(array)[0]
    return {"shape": values.shape, "data": text(values.tobytes()), "rgb": text(image.tobytes())}


def grid() -> dict:
    from diffusers.utils import make_image_grid

    sizes = [(7, 5), (7, 5), (4, 8), (9, 3), (7, 5), (12, 12)]
    images = [picture(*size, 2000 + i) for i, size in enumerate(sizes)]
    plain, squares = make_image_grid(images, 2, 3), make_image_grid(images, 3, 2, resize=6)
    return {
        "seeds": [2000 + i for i in range(len(sizes))],
        "from": sizes,
        "plain": {"size": plain.size, "rgb": text(plain.tobytes())},
        "squares": {"size": squares.size, "rgb": text(squares.tobytes())},
    }


def main() -> None:
    golden = {
        "versions": {"pillow": PIL.__version__, "diffusers": diffusers_version},
        "resize": resizes(),
        "preprocess": preprocessed(),
        "postprocess": postprocessed(),
        "grid": grid(),
    }
    lines = json.dumps(golden, indent=1)
    Path(__file__).with_name("resize.json").write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
