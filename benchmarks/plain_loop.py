"""A plain training loop, to compare with: `python -m benchmarks.plain_loop JOB.json`.

It does a case's work in the manner of diffusers' own examples (dreambooth/train_dreambooth.py; for SDXL, with what its
LoRA scripts keep in memory): the whole pipeline loaded in fp32, pictures decoded and encoded by the VAE in every step,
torch's AdamW as it comes, gradients clipped, the training state by `accelerator.save_state`, the model by
`save_pretrained` as a diffusers folder in fp32. Two choices go beyond those scripts, in the plain loop's favour:
gradients are set to None, and SDXL's text encoders are let go once the prompt is encoded.

With "cached" in the job it encodes pictures and the prompt once and lets the VAE go, as our engine does: what is left
of a difference is then the loops' own.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.optimization import get_scheduler
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dreambooth_ext.core.system import files
from dreambooth_ext.engine.runtime import memory

from .cases import Case

WEIGHT_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Pictures(Dataset):
    """Each picture decoded, resized and cut to its square when it is asked for, with the prompt's tokens."""

    def __init__(self, folder: Path, size: int, input_ids: Tensor):
        self.paths = sorted(folder.iterdir())
        self.size, self.input_ids = size, input_ids

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        picture = Image.open(self.paths[index]).convert("RGB")
        scale = self.size / min(picture.size)
        picture = picture.resize([round(side * scale) for side in picture.size], Image.BILINEAR)
        left, top = ((side - self.size) // 2 for side in picture.size)
        picture = picture.crop((left, top, left + self.size, top + self.size))
        pixels_hwc = torch.from_numpy(np.asarray(picture).copy())
        return {"pixel_values": pixels_hwc.permute(2, 0, 1) / 127.5 - 1, "input_ids": self.input_ids}


class Cached(Dataset):
    """The same with each picture's latents, sampled from its posterior when they are asked for."""

    def __init__(self, pictures: Pictures, vae: torch.nn.Module, device: torch.device):
        self.posteriors = []
        with torch.no_grad():
            for item in pictures:
                self.posteriors.append(vae.encode(item["pixel_values"][None].to(device)).latent_dist)
        self.factor, self.input_ids = vae.config.scaling_factor, pictures.input_ids

    def __len__(self) -> int:
        return len(self.posteriors)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"latents": self.posteriors[index].sample()[0] * self.factor, "input_ids": self.input_ids}


class PlainLoop:
    def __init__(self, case: Case, job: dict[str, Any]):
        self.case, self.job = case, job
        self.events: list[dict[str, Any]] = []
        self.accelerator = Accelerator(mixed_precision=case.precision, cpu=case.device == "cpu")
        self.dtype = WEIGHT_DTYPES[case.precision]
        self.is_sdxl = (Path(job["configs"]) / "text_encoder_2").is_dir()
        assert not (self.is_sdxl and case.text_encoder), "the scripts do not train SDXL's text encoders in full"

    def note(self, type: str, **data: Any) -> None:
        """As our engine's events, but kept in memory until the end."""
        use = memory.use(self.accelerator.device)
        self.events.append({"type": type, "time": time.time(), "memory": use, **data})

    def pipeline(self, **parts: Any) -> Any:
        kind = StableDiffusionXLPipeline if self.is_sdxl else StableDiffusionPipeline
        extra = {} if self.is_sdxl else {"safety_checker": None, "feature_extractor": None}
        return kind.from_single_file(
            self.job["base"], config=self.job["configs"], torch_dtype=torch.float32, **extra, **parts
        )

    def run(self) -> None:
        set_seed(0)
        self.load()
        self.note("loaded")
        self.prepare()
        self.train()
        self.save()

    def load(self) -> None:
        pipeline = self.pipeline()
        self.unet, self.vae = pipeline.unet, pipeline.vae
        self.tokenizers = [pipeline.tokenizer] + ([pipeline.tokenizer_2] if self.is_sdxl else [])
        self.encoders = [pipeline.text_encoder] + ([pipeline.text_encoder_2] if self.is_sdxl else [])
        self.noise_scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)

    def prepare(self) -> None:
        case, device = self.case, self.accelerator.device
        self.vae.requires_grad_(False)
        for encoder in self.encoders:
            encoder.requires_grad_(case.text_encoder)
        self.unet.requires_grad_(True).train()
        if case.checkpointing:
            self.unet.enable_gradient_checkpointing()
            if case.text_encoder:
                self.encoders[0].gradient_checkpointing_enable()
        self.parameters = [*self.unet.parameters()]
        if case.text_encoder:
            self.parameters += self.encoders[0].train().parameters()
        self.optimizer = make_optimizer(case.optimizer, self.parameters, self.job["rate"])
        self.prepare_conditioning(device)
        data = Pictures(Path(self.job["pictures"]), case.resolution, self.input_ids)
        # SDXL's VAE overflows in fp16, so its scripts leave it in fp32
        self.vae.to(device, dtype=torch.float32 if self.is_sdxl or self.job["cached"] else self.dtype)
        if self.job["cached"]:
            data = Cached(data, self.vae, device)
            self.vae = None
            gc.collect()
        self.loader = DataLoader(data, batch_size=case.batch, shuffle=True)
        self.lr_scheduler = get_scheduler("constant", optimizer=self.optimizer)
        prepared = (self.unet, self.optimizer, self.loader, self.lr_scheduler)
        self.unet, self.optimizer, self.loader, self.lr_scheduler = self.accelerator.prepare(*prepared)
        if case.text_encoder:
            self.encoders = [self.accelerator.prepare(self.encoders[0])]

    def prepare_conditioning(self, device: torch.device) -> None:
        """The prompt's tokens; for SDXL, and where everything is cached, what the text encoders make of them."""
        tokens = [
            t(self.job["prompt"], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            for t in self.tokenizers
        ]
        self.input_ids, self.embedded = tokens[0][0], None
        if not self.case.text_encoder:
            for encoder in self.encoders:
                encoder.to(device, dtype=self.dtype)
        if self.is_sdxl:
            with torch.no_grad():
                first = self.encoders[0](tokens[0].to(device), output_hidden_states=True)
                second = self.encoders[1](tokens[1].to(device), output_hidden_states=True)
            self.embedded = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
            self.pooled = second[0]
        elif self.job["cached"] and not self.case.text_encoder:
            with torch.no_grad():
                self.embedded = self.encoders[0](tokens[0].to(device))[0]
        if self.embedded is not None:
            self.encoders = []
            gc.collect()

    def train(self) -> None:
        endless = itertools.chain.from_iterable(itertools.repeat(self.loader))
        for step, batch in enumerate(itertools.islice(endless, self.case.steps), 1):
            loss = self.loss(batch)
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.lr_scheduler.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.note("step", step=step, loss=loss.detach().item())

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        latents = self.latents(batch)
        noise = torch.randn_like(latents)
        count = self.noise_scheduler.config.num_train_timesteps
        timesteps = torch.randint(0, count, (len(latents),), device=latents.device)
        noisy = self.noise_scheduler.add_noise(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, **self.conditioning(batch)).sample
        return F.mse_loss(predicted.float(), noise.float())

    def latents(self, batch: dict[str, Tensor]) -> Tensor:
        if self.vae is None:
            return batch["latents"]
        pixels = batch["pixel_values"].to(dtype=self.vae.dtype)
        return self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor

    def conditioning(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        count = len(batch["input_ids"])
        if self.embedded is None:
            return {"encoder_hidden_states": self.encoders[0](batch["input_ids"])[0]}
        found = {"encoder_hidden_states": self.embedded.expand(count, -1, -1)}
        if self.is_sdxl:
            side = self.case.resolution
            time_ids = torch.tensor([[side, side, 0, 0, side, side]], device=self.pooled.device).expand(count, -1)
            found["added_cond_kwargs"] = {"text_embeds": self.pooled.expand(count, -1), "time_ids": time_ids}
        return found

    def save(self) -> None:
        out = Path(self.job["out"])
        self.note("status", status="saving")
        self.accelerator.save_state(str(out / "state"))
        self.note("checkpoint")
        self.note("status", status="saving")
        parts = {"unet": self.accelerator.unwrap_model(self.unet)}
        if self.encoders:
            parts["text_encoder"] = self.accelerator.unwrap_model(self.encoders[0])
        self.pipeline(**parts).save_pretrained(str(out / "model"))
        self.note("artifact", size=sum(p.stat().st_size for p in (out / "model").rglob("*") if p.is_file()))


def make_optimizer(name: str, parameters: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    if name == "adamw8bit":
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(parameters, lr=rate, weight_decay=1e-2)
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    return kind(parameters, lr=rate, weight_decay=1e-2)


def main(argv: list[str]) -> int:
    job = files.read_json(Path(argv[0]))
    loop = PlainLoop(Case(**job["case"]), job)
    try:
        loop.run()
    finally:
        files.write_json(Path(job["events"]), loop.events)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
