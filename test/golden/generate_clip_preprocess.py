"""Writes clip-preprocess.json: what transformers' CLIPImageProcessor makes of small pictures.

    python test/golden/generate_clip_preprocess.py

Pictures come from the generator of generate_resize.py, which the tests have too. Small results are
stored whole, as base64 of little-endian float32 values; those of CLIP's own size as their SHA-256.
The Pillow backend is asked for by name: torchvision resizes otherwise.
Needs the packages of scripts/python/requirements.txt.
"""

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from generate_resize import picture
from transformers import CLIPImageProcessorPil

PUBLISHED = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
SMALL = {**PUBLISHED, "size": {"shortest_edge": 6}, "crop_size": {"height": 6, "width": 6}}

# The config, the pictures' sizes.
CASES: list[tuple[str, dict[str, Any], list[tuple[int, int]]]] = [
    ("the published form", PUBLISHED, [(300, 260)]),
    ("a small picture in the published form", PUBLISHED, [(31, 57)]),
    ("an empty config", {}, [(225, 224)]),
    ("objects as sizes", SMALL, [(17, 13), (13, 17), (6, 6), (7, 40)]),
    ("odd margins", {**SMALL, "crop_size": 5}, [(17, 13), (13, 18)]),
    ("a crop larger than the picture", {**SMALL, "crop_size": 9}, [(17, 13), (8, 31)]),
    (
        "a stretched picture that is cut to another form",
        {**SMALL, "size": {"height": 5, "width": 9}, "crop_size": {"height": 7, "width": 4}},
        [(17, 13)],
    ),
    ("sizes as lists", {**SMALL, "size": [6, 8], "crop_size": [4, 5]}, [(17, 13)]),
    ("another filter", {**SMALL, "resample": 1}, [(17, 13)]),
    ("no resizing", {**SMALL, "do_resize": False}, [(17, 13), (4, 9)]),
    ("no cropping", {**SMALL, "do_center_crop": False}, [(17, 13), (17, 13)]),
    ("no rescaling", {**SMALL, "do_rescale": False}, [(17, 13)]),
    ("another factor", {**SMALL, "rescale_factor": 0.01}, [(17, 13)]),
    ("no normalising", {**SMALL, "do_normalize": False}, [(17, 13)]),
    ("one number for all channels", {**SMALL, "image_mean": 0.5, "image_std": 0.25}, [(17, 13)]),
]


def case(name: str, config: dict[str, Any], sizes: list[tuple[int, int]]) -> dict[str, Any]:
    processor = CLIPImageProcessorPil(**config)
    images = [picture(*size, seed + 1) for seed, size in enumerate(sizes)]
    pixels = np.asarray(processor(images, return_tensors="np").pixel_values, dtype="<f4")
    data = pixels.tobytes()
    stored = {"data": base64.b64encode(data).decode("ascii")}
    if len(data) > 8192:
        stored = {"sha256": sha256(data).hexdigest()}
    return {"name": name, "config": config, "sizes": sizes, "shape": pixels.shape, **stored}


def main() -> None:
    cases = [case(*arguments) for arguments in CASES]
    golden = {"transformers": transformers.__version__, "cases": cases}
    text = json.dumps(golden, indent=1)
    Path(__file__).with_name("clip-preprocess.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
