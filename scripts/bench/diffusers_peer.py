"""The peer of the benchmarks: diffusers on the CPU, told what to do by lines of JSON on standard input.

Each answer is one line of JSON with the seconds that the task alone took. Imports are not counted.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image


class Peer:
    def __init__(self) -> None:
        self.pipe: StableDiffusionImg2ImgPipeline | None = None

    def load(self, folder: str, variant: str | None = None) -> dict[str, Any]:
        begin = time.perf_counter()
        self.pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
            folder, variant=variant, safety_checker=None, requires_safety_checker=False, torch_dtype=torch.float32
        )
        seconds = time.perf_counter() - begin
        self.pipe.set_progress_bar_config(disable=True)
        return {"seconds": seconds}

    def img2img(self, image: str, prompt: str, steps: int, strength: float, guidance: float, seed: int) -> dict[str, Any]:
        assert self.pipe is not None
        picture = Image.open(image).convert("RGB")
        begin = time.perf_counter()
        drawn = self.pipe(
            prompt=prompt,
            image=picture,
            num_inference_steps=steps,
            strength=strength,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "mean": float(np.asarray(drawn).mean())}

    def unet(self, height: int, width: int, batch: int) -> dict[str, Any]:
        assert self.pipe is not None
        unet = self.pipe.unet
        generator = torch.Generator().manual_seed(0)
        sample = torch.randn(batch, unet.config.in_channels, height, width, generator=generator)
        text = torch.randn(batch, 77, unet.config.cross_attention_dim, generator=generator)
        begin = time.perf_counter()
        with torch.no_grad():
            unet(sample, 500, text)
        return {"seconds": time.perf_counter() - begin}


def main() -> None:
    peer = Peer()
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        name = task.pop("task")
        print(json.dumps(getattr(peer, name)(**task)), flush=True)


if __name__ == "__main__":
    main()
