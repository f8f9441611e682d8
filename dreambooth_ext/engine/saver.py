"""What a run shows and hands over on its way: preview pictures, models, curves."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

from .. import files
from ..concepts import concepts
from ..config import KINDS, RunConfig
from ..runs import Run
from .base import Base
from .control import Control
from .dataset import Dataset
from .metadata import modelspec, pictures_metadata, training_metadata
from .sampling import draw, make_sampler


class Saver:
    def __init__(
        self,
        run: Run,
        config: RunConfig,
        base: Base,
        method: Any,
        control: Control,
        dataset: Dataset,
        accelerator: Accelerator,
    ):
        self.run, self.config, self.base = run, config, base
        self.method, self.control, self.dataset, self.accelerator = method, control, dataset, accelerator
        self._writer = self._open_tracker()

    def _open_tracker(self):
        if self.config.report_to != "tensorboard" or not self.accelerator.is_main_process:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            self.control.warn(f"TensorBoard's curves are not written ({error}).", "report_to")
            return None
        return SummaryWriter(str(self.run.path / "tensorboard"))

    def close(self) -> None:
        if self._writer:
            self._writer.close()

    def has_model(self, step: int) -> bool:
        """Whether the model of this step, on the way, has been written."""
        return any(event["step"] == step and not event["final"] for event in self.run.artifact_events())

    def track(self, step: int, loss: float, rates: dict[str, float]) -> None:
        if self._writer:
            self._writer.add_scalar("loss", loss, step)
            for name, rate in rates.items():
                self._writer.add_scalar(f"lr/{name}", rate, step)

    def track_validation(self, step: int, loss: float) -> None:
        if self._writer:
            self._writer.add_scalar("validation_loss", loss, step)

    def model(self, step: int, final: bool) -> None:
        """Write the model as it is into the run's artifacts: <name>, or <name>_<step> on the way."""
        config = self.config
        name = config.name if final else f"{config.name}_{step}"
        path = self.run.artifacts / f"{name}.{config.model_format}"
        exported = self.method.export(
            self.base,
            path,
            precision=config.save_precision,
            metadata=self._metadata(name, step),
            activation_text=self._activation_text(),
            preview=self._preview(),
            zero_terminal_snr=config.zero_terminal_snr,
        )
        self.control.events.append(
            "artifact",
            kind=KINDS[config.method],
            name=name,
            file=path.name,
            step=step,
            final=final,
            path=str(path),
            size=path.stat().st_size,
            sha256=exported.sha256,
            sidecars=[sidecar.name for sidecar in exported.sidecars],
        )

    def _metadata(self, name: str, step: int) -> dict[str, str]:
        """What the file says of itself and of its making."""
        pictures = [p.entry for p in self.dataset.pictures]
        about = modelspec(
            self.base,
            title=name,
            resolution=self.config.resolution,
            adapter=self.config.method if self.config.method == "lora" else "",
            trigger_phrase=self._activation_text(),
        )
        made = training_metadata(
            self.config,
            self.base,
            steps=step,
            started_at=self.run.state()["created"],
            num_train_images=sum(not entry.is_class for entry in pictures),
            num_reg_images=sum(entry.is_class for entry in pictures),
            num_epochs=int(step * self.accelerator.num_processes / self.dataset.steps_per_epoch),
        )
        return {**about, **made, **pictures_metadata(pictures, self.dataset.bucket_counts), **self.method.about()}

    def _activation_text(self) -> str:
        """The words that call the subject: the prompt, or the identifiers of the file names."""
        prompts = dict.fromkeys(concept.instance_prompt for concept in concepts(self.config))
        words = [p for p in prompts if p and "[" not in p]
        return ", ".join(words or sorted({p.entry.identifier for p in self.dataset.pictures if p.entry.identifier}))

    def _preview(self) -> Image.Image | None:
        """The newest preview picture that was drawn."""
        drawn = sorted(self.run.samples.glob("*/[0-9]*.png"), key=lambda path: (int(path.parent.name), path.name))
        return Image.open(drawn[-1]) if drawn else None

    def preview(self, step: int) -> None:
        """Draw the preview prompts with the model as it is. Training goes on as if nothing had happened."""
        config = self.config
        if not config.validation_prompts:
            self.control.warn("there are no preview prompts.", "validation_prompts", "Give some in the settings.")
            return
        folder = self.run.samples / str(step)
        folder.mkdir(parents=True, exist_ok=True)
        device = self.method.backbone.prompts.device
        vae = self.base.vae(torch.float32).to(device)
        for index, prompt in enumerate(config.validation_prompts):
            seeds = [config.validation_seed + n for n in range(config.validation_num_images)]
            for seed in seeds:
                picture = self._draw(vae, prompt, seed)
                path = folder / f"{index}_{seed}.png"
                with files.replacing(path) as temporary:
                    picture.save(temporary)
                self.control.events.append("sample", step=step, prompt=prompt, seed=seed, path=str(path))

    @torch.no_grad()
    def _draw(self, vae: torch.nn.Module, prompt: str, seed: int) -> Image.Image:
        config, backbone = self.config, self.method.backbone
        (picture,) = draw(
            backbone.unet,
            vae,
            make_sampler(config.validation_sampler, self.base.scheduler_config),
            backbone.prompts.drawn([prompt]),
            backbone.prompts.negative([config.validation_negative_prompt]),
            seeds=[seed],
            width=config.resolution,
            height=config.resolution,
            steps=config.validation_inference_steps,
            cfg_scale=config.validation_guidance_scale,
        )
        return picture
