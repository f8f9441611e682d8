"""What a run writes during training: models, previews and TensorBoard curves."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from PIL import Image

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ...core.facts.distribution import FSDP
from ...core.facts.methods import MODEL_KINDS, PROMPTED_METHODS
from ...core.messages.message import Message
from ...core.runs.run_folder import Run
from ...core.system import files
from ..data.dataset import Dataset
from ..formats import hub_upload
from ..formats.metadata import ADAPTERS, modelspec, pictures_metadata, training_metadata
from ..formats.verified_write import Exported
from ..models.base import Base
from ..runtime import distributed
from ..runtime.control import Control
from .method import CarriedByPictures, Method


class Saver:
    """Writes a run's models, previews and curves."""

    def __init__(
        self,
        run: Run,
        config: ResolvedConfig,
        base: Base,
        method: Method,
        control: Control,
        dataset: Dataset,
        accelerator: Accelerator,
    ):
        self.run, self.config, self.base = run, config, base
        self.method, self.control, self.dataset, self.accelerator = method, control, dataset, accelerator
        self._told_of_base = False
        self._is_first = accelerator.is_main_process
        self._writer = self._open_tracker()

    def _open_tracker(self):
        if self.config.report_to != "tensorboard" or not self._is_first:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            self.control.warn(Problem("training.no_tensorboard", "report_to", error=str(error)))
            return None
        return SummaryWriter(str(self.run.path / "tensorboard"))

    def close(self) -> None:
        if self._writer:
            self._writer.close()

    def is_due(self, step: int, total: int) -> bool:
        """Whether an intermediate save is scheduled for this step of a run of `total` steps."""
        config = self.config
        if not config.checkpointing_start_step <= step < total or step == 0:
            return False
        if every := config.save_every_n_epochs:
            now, before = (self.dataset.order.epoch_of(n, self.accelerator.num_processes) for n in (step, step - 1))
            return now // every > before // every
        return config.checkpointing_steps > 0 and step % config.checkpointing_steps == 0

    def has_model(self, step: int) -> bool:
        """Whether the intermediate model of this step has been written."""
        return any(event["step"] == step and not event["final"] for event in self.run.artifact_events())

    def has_previews(self, step: int) -> bool:
        """Whether all previews of this step have been written (each is written completely or not at all)."""
        config = self.config
        pictures = len(config.validation_prompts) * config.validation_num_images
        wanted = pictures if config.method in PROMPTED_METHODS else 1
        return len(list((self.run.samples / str(step)).glob("[0-9]*.png"))) >= max(1, wanted)

    def track(self, step: int, loss: float, rates: dict[str, float]) -> None:
        if self._writer:
            self._writer.add_scalar("loss", loss, step)
            for name, rate in rates.items():
                self._writer.add_scalar(f"lr/{name}", rate, step)

    def track_validation(self, step: int, loss: float) -> None:
        if self._writer:
            self._writer.add_scalar("validation_loss", loss, step)

    def track_measurement(self, measured: dict[str, Any]) -> None:
        """Add a measurement's numbers to the curves. measured: as in its event."""
        numbers = {name: measured[name] for name in ("held", "class", "drift", "word")}
        numbers |= {f"learned/{name}": ratio for name, ratio in measured["learned"].items()}
        for name, number in numbers.items():
            if self._writer and number is not None:
                self._writer.add_scalar(f"measured/{name}", number, measured["step"])

    def _base_is_the_same(self) -> bool:
        """Whether the base's files are unchanged. Warns the first time they are not."""
        what = self.base.files.change()
        if what and not self._told_of_base:
            self._told_of_base = True
            draws = self.config.method in PROMPTED_METHODS  # previews need the base's VAE
            code = "base.changed_without_previews" if draws else "base.changed_meanwhile"
            self.control.warn(Problem(code, self.base.files.field, change=what))
        return not what

    def model(self, step: int, final: bool, stops: bool = False) -> None:
        """Write the model to the run's artifacts: as <name> if final, else as <name>_<step>.

        stops: the user stops the run with this save, to try the model.
        """
        config = self.config
        name = config.name if final else f"{config.name}_{step}"
        path = self.run.artifacts / config.model_file(name)
        exported = self.method.export(
            self.base,
            path,
            precision=config.save_precision,
            metadata=self._metadata(name, step),
            activation_text=self._activation_text(),
            preview=self._preview(),
            zero_terminal_snr=config.zero_terminal_snr,
        )
        if not self.run.exists():  # deleted meanwhile: no model that nobody lists is to be left of it
            files.remove(self.run.artifacts)
            self.run.check_exists()
        self._base_is_the_same()  # only to warn: an export that needs the base's weights has failed already
        for made in (exported, *exported.others):
            self.control.events.append(
                "artifact",
                kind=made.kind or MODEL_KINDS[config.method],
                name=made.path.stem,
                file=made.path.name,
                step=step,
                final=final,
                stops=stops,
                path=str(made.path),
                size=files.size(made.path),
                sha256=made.sha256,
                sidecars=[sidecar.name for sidecar in made.sidecars],
            )
        if final and config.push_to_hub:
            self._push(exported)

    def _push(self, exported: Exported) -> None:
        """Upload the model to Hugging Face. A failure only warns, since the model can still be uploaded by hand."""
        samples = self._newest_samples()
        try:
            address = hub_upload.push(
                self.config, self.base.name, exported.path, exported.sidecars, self._activation_text(), samples
            )
        except hub_upload.FAILURES as error:
            why = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason'}"
            self.control.warn(Problem("training.not_uploaded", "push_to_hub", error=why[:300], path=exported.path))
            return
        self.control.events.append("uploaded", name=self.config.name, address=address)

    def _newest_samples(self) -> list[Path]:
        """Return the preview pictures of the last step that has any, without step 0, which shows the base."""
        drawn = [path for path in self.run.samples.glob("*/[0-9]*.png") if path.parent.name != "0"]
        drawn.sort(key=lambda path: (int(path.parent.name), path.name))
        return [path for path in drawn if path.parent == drawn[-1].parent]

    def _metadata(self, name: str, step: int) -> dict[str, str]:
        """Return the model file's metadata: title, base, training settings and pictures."""
        pictures = [p.entry for p in self.dataset.pictures]
        about = modelspec(
            self.base,
            title=name,
            resolution=self.config.resolution,
            adapter=ADAPTERS.get(self.config.method, ""),
            trigger_phrase=self._activation_text(),
        )
        made = training_metadata(
            self.config,
            self.base,
            steps=step,
            started_at=self.run.state()["created"],
            num_train_images=sum(not entry.is_class for entry in pictures),
            num_reg_images=sum(entry.is_class for entry in pictures),
            num_epochs=int(self.dataset.order.epochs(step, self.accelerator.num_processes)),
        )
        return {**about, **made, **pictures_metadata(pictures, self.dataset.order.bucket_counts), **self.method.about()}

    def _activation_text(self) -> str:
        """Return the activation text: the instance prompts, or the rare words in the file names."""
        prompts = dict.fromkeys(concept.instance_prompt for concept in self.dataset.concepts)
        words = [p for p in prompts if p and "[" not in p]
        return ", ".join(words or sorted({p.entry.identifier for p in self.dataset.pictures if p.entry.identifier}))

    def _preview(self) -> Image.Image | None:
        """Open the newest preview picture, if there is one."""
        drawn = self._newest_samples()
        return Image.open(drawn[-1]) if drawn else None

    def preview(self, step: int) -> None:
        """Draw the preview prompts with the current weights. This does not affect training. Where models are sharded,
        all processes draw them and the first one writes them."""
        config, sharded = self.config, self.config.distribution == FSDP
        if config.method in PROMPTED_METHODS and not config.validation_prompts:
            self.control.warn(Problem("training.no_preview_prompts", "validation_prompts"))
            return
        if config.method in PROMPTED_METHODS:
            same = self._base_is_the_same()  # else its VAE may be another's
            if not (all(distributed.of_all(same)) if sharded else same):
                return
        carried = None
        if config.save_image_with_embedding and isinstance(self.method, CarriedByPictures):
            carried = self.method.carried(self.base)
        folder = self.run.samples / str(step)
        if self._is_first:
            folder.mkdir(exist_ok=True)
        told = functools.partial(self.control.progress, Message("stages.previews"))
        for drawn in self.method.backbone.drawn(config, self.base, told):
            if not self._is_first:
                continue
            path = folder / f"{drawn.index}_{drawn.seed}.png"
            with files.replacing(path) as temporary:
                drawn.picture.save(temporary, pnginfo=carried)
            self.control.events.append("sample", step=step, prompt=drawn.prompt, seed=drawn.seed, path=str(path))
