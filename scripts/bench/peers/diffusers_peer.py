"""A peer of the benchmarks: diffusers in one process, told what to do by lines of JSON on standard input.

Each answer is one line of JSON, with the seconds that the task alone took where it is timed. Imports
are not counted.

  diffusers_peer.py THREADS DEVICE
"""

import gc
import json
import sys
import time
import traceback
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

CLASSES = {
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
    "text_encoder": transformers.CLIPTextModel,
}


class Peer:
    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.network: Any = None
        self.pipe: Any = None
        self.dtype = torch.float32
        self.inputs: dict[str, torch.Tensor] = {}

    def open(
        self,
        folder: str,
        part: str,
        dtype: str,
        channels_last: bool,
        compile: str | None,
        variant: str | None = None,
    ) -> dict[str, Any]:
        """Holds one network of a checkpoint folder, in place of what was held."""
        self.close()
        self.dtype = getattr(torch, dtype)
        network = CLASSES[part].from_pretrained(f"{folder}/{part}", torch_dtype=self.dtype, variant=variant)
        network = network.eval().requires_grad_(False).to(self.device)
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.network = network
        if compile is not None:
            self.compile(part, compile)
        return {"done": True}

    def compile(self, part: str, mode: str) -> None:
        import torch._inductor.config as inductor

        inductor.freezing = self.device.type == "cpu"
        options = {"dynamic": False, **({} if mode == "default" else {"mode": mode})}
        if part == "vae":
            self.network.decoder = torch.compile(self.network.decoder, **options)
            self.network.encoder = torch.compile(self.network.encoder, **options)
        else:
            self.network = torch.compile(self.network, **options)

    def close(self) -> dict[str, Any]:
        self.network = self.pipe = None
        torch._dynamo.reset()
        gc.collect()
        return {"done": True}

    def normal(self, seed: int, *shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return values.to(self.device, self.dtype)

    def timed(self, run: Any, save: str | None) -> dict[str, Any]:
        with torch.no_grad():
            self.wait()
            if self.device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()
                # What errors are measured against is float32 throughout.
                torch.backends.cudnn.allow_tf32 = save is None
            begin = time.perf_counter()
            result = run()
            self.wait()
            seconds = time.perf_counter() - begin
        if save is not None:
            result.float().cpu().contiguous().numpy().tofile(save)
        return {"seconds": seconds}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def unet(self, batch: int, height: int, width: int, save: str | None = None) -> dict[str, Any]:
        config = self.network.config
        sample, text = self.normal(0, batch, 4, height, width), self.normal(1, batch, 77, config.cross_attention_dim)
        # On the device, as pipelines have it.
        timestep = torch.tensor(500, device=self.device)
        added = self.added(config, batch)
        return self.timed(
            lambda: self.network(sample, timestep, text, added_cond_kwargs=added, return_dict=False)[0], save
        )

    def added(self, config: Any, batch: int) -> dict[str, torch.Tensor] | None:
        """What Stable Diffusion XL is told beside the text: it as a whole, and sizes."""
        if config.addition_embed_type != "text_time":
            return None
        sizes = torch.tensor([[1024, 1024, 0, 0, 1024, 1024]] * batch)
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        return {
            "text_embeds": self.normal(2, batch, pooled),
            "time_ids": sizes.to(self.device, self.dtype),
        }

    def decode(self, height: int, width: int, save: str | None = None) -> dict[str, Any]:
        latents = self.normal(0, 1, 4, height, width)
        return self.timed(lambda: self.network.decode(latents, return_dict=False)[0], save)

    def encode(self, height: int, width: int, save: str | None = None) -> dict[str, Any]:
        pixels = self.normal(0, 1, 3, height, width)
        return self.timed(lambda: self.network.encode(pixels).latent_dist.mean, save)

    def text_encoder(self, tokens: list[list[int]], save: str | None = None) -> dict[str, Any]:
        ids = torch.tensor(tokens, device=self.device)
        return self.timed(lambda: self.network(ids, return_dict=False)[0], save)

    def load(
        self,
        folder: str,
        dtype: str,
        channels_last: bool = False,
        compile: str | None = None,
        variant: str | None = None,
        offload: str = "none",
    ) -> dict[str, Any]:
        """A whole image-to-image pipeline, which stays. What is done to it afterwards is not timed."""
        self.close()
        self.dtype = getattr(torch, dtype)
        options = {"torch_dtype": self.dtype, "variant": variant}
        with open(f"{folder}/model_index.json") as index:
            if "safety_checker" in json.load(index):
                options |= {"safety_checker": None, "requires_safety_checker": False}
        begin = time.perf_counter()
        self.pipe = diffusers.AutoPipelineForImage2Image.from_pretrained(folder, **options)
        if offload == "none":
            self.pipe.to(self.device)
        elif offload == "model":
            self.pipe.enable_model_cpu_offload(device=self.device)
        else:
            self.pipe.enable_sequential_cpu_offload(device=self.device)
        self.wait()
        seconds = time.perf_counter() - begin
        self.pipe.set_progress_bar_config(disable=True)
        unet, vae = self.pipe.unet, self.pipe.vae
        if channels_last:
            unet.to(memory_format=torch.channels_last)
            vae.to(memory_format=torch.channels_last)
        if compile is not None:
            self.network = unet
            self.compile("unet", compile)
            self.pipe.unet = self.network
            self.network = vae
            self.compile("vae", compile)
        self.network = self.pipe.unet
        return {"seconds": seconds}

    def loop(self, image: str, size: int, steps: int) -> dict[str, Any]:
        """Seconds of a guided step whose UNet answers at once."""
        picture = Image.open(image).convert("RGB").resize((size, size))
        noise = torch.randn(2, 4, 64, 64, dtype=self.dtype, device=self.device)
        self.pipe.unet.forward = lambda *_, **__: (noise,)
        times = []

        def note(_pipe: Any, _step: int, _timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
            times.append(time.perf_counter())
            return kept

        self.pipe(
            prompt="a castle",
            image=picture,
            num_inference_steps=steps,
            strength=1,
            output_type="latent",
            callback_on_step_end=note,
        )
        return {"seconds": (times[-1] - times[0]) / (len(times) - 1)}

    def memory(self) -> dict[str, Any]:
        """The most resident memory so far; on a GPU, the most that tensors took there."""
        if self.device.type == "cuda":
            return {"megabytes": torch.cuda.max_memory_allocated(self.device) / 1e6}
        with open("/proc/self/status") as status:
            peak = next(line for line in status if line.startswith("VmHWM"))
        return {"megabytes": int(peak.split()[1]) * 1024 / 1e6}

    def img2img(
        self, image: str, prompt: str, steps: int, strength: float, guidance: float, seed: int, size: int | None = None
    ) -> dict[str, Any]:
        picture = Image.open(image).convert("RGB")
        if size is not None:
            picture = picture.resize((size, size))
        self.wait()
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

    def flop(self, folder: str, part: str, run: str, shape: list[int]) -> dict[str, Any]:
        """Multiplications and additions of matrix products, convolutions and attention in one run."""
        from torch.utils.flop_counter import FlopCounterMode

        batch, height, width = shape
        with torch.device("meta"):
            config = CLASSES[part].config_class if part == "text_encoder" else CLASSES[part]
            if part == "text_encoder":
                network = CLASSES[part](config.from_pretrained(f"{folder}/{part}"))
            else:
                network = CLASSES[part].from_config(CLASSES[part].load_config(f"{folder}/{part}"))
            network = network.eval()
            counter = FlopCounterMode(display=False)
            with torch.no_grad(), counter:
                if run == "unet":
                    text = torch.empty(batch, 77, network.config.cross_attention_dim)
                    with torch.device("cpu"):
                        added = self.added(network.config, batch)
                    if added is not None:
                        like = {"dtype": torch.float32, "device": "meta"}
                        added = {name: torch.empty_like(value, **like) for name, value in added.items()}
                    network(torch.empty(batch, 4, height, width), torch.empty(1), text, added_cond_kwargs=added)
                elif run == "decode":
                    network.decode(torch.empty(batch, 4, height, width))
                elif run == "encode":
                    network.encode(torch.empty(batch, 3, height, width))
                else:
                    network(torch.zeros(batch, width, dtype=torch.int64))
        return {"flop": counter.get_total_flops()}


def main() -> None:
    threads, device = sys.argv[1:]
    torch.set_num_threads(int(threads))
    peer = Peer(device)
    hello = {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "cpuCapability": torch.backends.cpu.get_cpu_capability(),
    }
    if peer.device.type == "cuda":
        hello |= {"gpu": torch.cuda.get_device_name(peer.device), "cuda": torch.version.cuda}
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        name = task.pop("task")
        try:
            answer = getattr(peer, name)(**task)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
