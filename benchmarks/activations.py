"""What a training step takes beside weights and optimizer, counted without computing: `benchmarks.activations`.

PyTorch's fake tensors have sizes and no numbers, so a full-size UNet goes forward and backward in no memory, on any
machine, in a minute or two. Convolutions' and matrix products' scratch memory is not in it. engine/plan.py's estimate
of a run's memory rests on these numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from dreambooth_ext.engine.architecture import shipped
from dreambooth_ext.engine.pixel_base import DEFAULT
from dreambooth_ext.files import human_size

DEVICE = torch.device("cpu")


def count(family: str, resolution: int, batch: int, checkpointing: bool, half: bool) -> dict[str, int]:
    """Bytes: the UNet's "weights", what is alive besides "after forward", and at the step's "peak" (all gradients
    included; they take as much as the weights)."""
    pixels = family == "unconditional"
    config = {**DEFAULT, "sample_size": resolution} if pixels else shipped(family).unet
    with FakeTensorMode():
        unet = (UNet2DModel if pixels else UNet2DConditionModel).from_config(config).train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        weights = 4 * sum(parameter.numel() for parameter in unet.parameters())
        side = resolution if pixels else resolution // 8
        noisy_bchw = torch.randn(batch, config["in_channels"], side, side)
        timesteps_b = torch.zeros(batch, dtype=torch.long)
        words = [] if pixels else [torch.randn(batch, 77, config["cross_attention_dim"])]
        added = {}
        if "projection_class_embeddings_input_dim" in config:
            added = {"added_cond_kwargs": {"text_embeds": torch.randn(batch, 1280), "time_ids": torch.zeros(batch, 6)}}
        tracker = MemTracker()
        tracker.track_external(unet)
        with tracker:
            with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
                predicted_bchw = unet(noisy_bchw, timesteps_b, *words, **added).sample
            loss = predicted_bchw.float().pow(2).mean()
            forward = tracker.get_tracker_snapshot("current")[DEVICE]["Total"]
            loss.backward()
        peak = tracker.get_tracker_snapshot("peak")[DEVICE]["Total"]
    return {"weights": weights, "after forward": forward - weights, "peak": peak - weights}


def count_decoding(family: str, resolution: int) -> dict[str, int]:
    """Bytes: the autoencoder's "weights", and at the "peak" of drawing one picture what is alive besides; float32."""
    config = shipped(family).vae
    with FakeTensorMode(), torch.no_grad():
        vae = AutoencoderKL.from_config(config).eval()
        weights = 4 * sum(parameter.numel() for parameter in vae.parameters())
        latents_bchw = torch.randn(1, config["latent_channels"], resolution // 8, resolution // 8)
        tracker = MemTracker()
        tracker.track_external(vae)
        with tracker:
            vae.decode(latents_bchw)
        peak = tracker.get_tracker_snapshot("peak")[DEVICE]["Total"]
    return {"weights": weights, "peak": peak - weights}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations", description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=("sd1", "sd2", "sdxl", "unconditional"))
    parser.add_argument("--resolution", type=int, default=512, help="in pixels; 64 is usual for unconditional")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--half", action="store_true", help="mixed precision")
    parser.add_argument("--decoding", action="store_true", help="of the autoencoder that draws the pictures instead")
    arguments = vars(parser.parse_args(argv))
    if arguments.pop("decoding"):
        counted = count_decoding(arguments["family"], arguments["resolution"])
    else:
        counted = count(**arguments)
    for name, size in counted.items():
        print(f"{name}: {human_size(size)} ({size / 1e9:.2f} GB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
