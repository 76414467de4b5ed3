"""The noise that diffusers' DPMSolverSDEScheduler takes from torchsde, over the steps of a run.

    python test/parity/sde-noise.py COUNT

Prints the levels and, for the noise of each evaluation, its products with itself and with the one
before, averaged over COUNT independent draws.
"""

import json
import sys

import diffusers
import torch


def main() -> None:
    count = int(sys.argv[1])
    scheduler = diffusers.DPMSolverSDEScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", noise_sampler_seed=3
    )
    scheduler.set_timesteps(4)
    # With a sample and a predicted noise of zero, what comes out is the step's own noise.
    zero = torch.zeros(1, count)
    noises = [scheduler.step(zero, t, zero).prev_sample for t in scheduler.timesteps[:-1]]
    products = [
        {
            "own": (noise * noise).mean().item(),
            "previous": (noise * noises[i - 1]).mean().item() if i > 0 else 0,
        }
        for i, noise in enumerate(noises)
    ]
    print(json.dumps({"sigmas": scheduler.sigmas.tolist(), "products": products}))


if __name__ == "__main__":
    main()
