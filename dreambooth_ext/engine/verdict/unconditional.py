"""Judge an unconditional run's models: how far their pictures are from the training pictures, copies, and variety.

The distance is that of FID (Heusel et al. 2017, arXiv 1706.08500), in features of the last model's own UNet instead of
an Inception network, and in as few directions as so few pictures can fill. It is put on a scale from noise (0) to the
training pictures themselves (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ...core.data.concepts import Subjects
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.runs.run_folder import Run
from ...core.verdict.decision import Judged
from ...core.verdict.scores import Scores
from ...core.verdict.verdict import Trust, Verdict, by_scores
from ..data.images import to_model
from ..models.ddpm_folder import Pipeline
from ..runtime import memory
from ..training.pixel_backbone import sample_pixels
from .drawing import FIRST_SEED, Saved, Told
from .opened_run import saved_models
from .photographs import evenly, own_entries, readable
from .scoring import COPY

COUNT = 32  # pictures of each model
STEPS = 50  # sampling steps, at most
DIRECTIONS = 8  # of the features, in which pictures are compared
MOST_PHOTOGRAPHS = 128
NOISE_TIME = 0.05  # of the noise schedule, at which pictures are looked at
AT_ONCE = 16  # pictures


@dataclass(frozen=True)
class DrawnByStep:
    """pictures: what each model drew; empty for one whose pictures are not finite."""

    models: Sequence[Saved]
    pictures: dict[int, list[Image.Image]]
    size: int


def judge(run: Run, device: torch.device, told: Told) -> tuple[Verdict, DrawnByStep]:
    """Judge every saved model of an unconditional run. Raises UserError if there is none."""
    config = run.completed()
    models = saved_models(run)
    drawn = draw(models, device, told)
    last = next((saved for saved in reversed(models) if drawn.pictures[saved.step]), None)
    entries = own_entries(run, config, Subjects.of(config))
    photographs = list(readable(evenly(entries, MOST_PHOTOGRAPHS), drawn.size).values())
    judged = [
        Judged(saved.step, saved.path.relative_to(run.path).as_posix(), Scores(), None, False) for saved in models
    ]
    base = Scores(likeness=0.0)
    if last is not None:
        measure = Measure(Pipeline(last.path, "run"), photographs, device)
        for done, each in enumerate(judged):
            told(COUNT * done, COUNT * len(judged), Message("stages.judging"))
            judged[done] = _judged(each, drawn.pictures[each.step], measure)
    told(0, 0, Message("stages.deciding"))
    return by_scores(config, judged, base, "", trust_in(len(photographs))), drawn


def trust_in(photographs: int) -> Trust:
    if photographs < COUNT:
        return Trust("low", Message("verdict.trust_few_pictures", count=photographs))
    return Trust("medium", Message("verdict.trust_own_features", count=photographs))


def _judged(judged: Judged, pictures: Sequence[Image.Image], measure: Measure) -> Judged:
    if not pictures:
        return judged
    return Judged(judged.step, judged.file, measure.scores(pictures), None, True)


def draw(models: Sequence[Saved], device: torch.device, told: Told) -> DrawnByStep:
    found: dict[int, list[Image.Image]] = {}
    size = 0
    for number, saved in enumerate(models):
        pipeline = Pipeline(saved.path, "run")
        scheduler, unet, size = pipeline.scheduler(), pipeline.unet().to(device), pipeline.size
        steps = min(STEPS, len(scheduler))
        seeds = range(FIRST_SEED, FIRST_SEED + COUNT)

        def drew(done: int, of: int, before: int = number * COUNT) -> None:
            told(before + COUNT * done // of, COUNT * len(models), Message("stages.drawing_to_judge"))

        drew(0, 1)
        try:
            found[saved.step] = sample_pixels(unet, scheduler, seeds, size, steps, drew)
        except UserError as error:
            if error.problem.code != "training.pixels_not_finite":
                raise
            found[saved.step] = []
        del unet
        memory.release()
    return DrawnByStep(models, found, size)


class Measure:
    """Scores of pictures beside the training pictures, by the features of a trained model."""

    def __init__(self, pipeline: Pipeline, photographs: Sequence[Image.Image], device: torch.device):
        self.unet = pipeline.unet().to(device).eval()
        self.scheduler = pipeline.scheduler()
        self.pixels_nchw = pixels(photographs)
        features_nc = self.features(self.pixels_nchw)
        self.directions_cd = main_directions(features_nc)
        self.known_nd = features_nc @ self.directions_cd
        self.half = self._split_distance()
        noise = torch.randn(self.pixels_nchw.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        self.noise = self._distance(self.features(noise))

    def scores(self, pictures: Sequence[Image.Image]) -> Scores:
        pixels_nchw = pixels(pictures)
        distance = self._distance(self.features(pixels_nchw))
        likeness = (self.noise - distance) / max(self.noise - self.half, 1e-6)
        flat, known = pixels_nchw.flatten(1), self.pixels_nchw.flatten(1)
        usual = torch.cdist(known, known).fill_diagonal_(float("inf")).amin(1).median()
        copies = (torch.cdist(flat, known).amin(1) < COPY * usual).float().mean()
        variety = torch.pdist(flat).mean() / torch.pdist(known).mean().clamp_min(1e-6)
        limited = [min(1.0, max(0.0, float(value))) for value in (likeness, variety, copies)]
        return Scores(likeness=limited[0], variety=limited[1], copies=limited[2])

    @torch.no_grad()
    def features(self, pixels_nchw: Tensor) -> Tensor:
        """Return the middle block's features, averaged over the picture, (n, channels)."""
        seen: list[Tensor] = []
        block: nn.Module = self.unet.mid_block
        hook = block.register_forward_hook(lambda module, given, output: seen.append(output))
        timestep = int(NOISE_TIME * self.scheduler.config.num_train_timesteps)
        noise_1chw = torch.randn((1, *pixels_nchw.shape[1:]), generator=torch.Generator().manual_seed(1))
        try:
            for part_nchw in pixels_nchw.split(AT_ONCE):
                timestep_n = torch.full((len(part_nchw),), timestep)
                noised = self.scheduler.add_noise(part_nchw, noise_1chw.expand_as(part_nchw), timestep_n)
                self.unet(noised.to(self.unet.device), timestep)
        finally:
            hook.remove()
        return torch.cat([output.float().cpu().mean(dim=(2, 3)) for output in seen])

    def _distance(self, features_nc: Tensor) -> float:
        return frechet_distance(features_nc @ self.directions_cd, self.known_nd)

    def _split_distance(self) -> float:
        """Return the distance of one half of the training pictures to the other: what no model has to be below."""
        return frechet_distance(self.known_nd[::2], self.known_nd[1::2]) if len(self.known_nd) >= 4 else 0.0


def main_directions(features_nc: Tensor) -> Tensor:
    """Return the directions in which pictures differ most, (channels, few)."""
    centred_nc = features_nc - features_nc.mean(0)
    few = min(DIRECTIONS, len(centred_nc) - 1, centred_nc.shape[1])
    return torch.linalg.svd(centred_nc, full_matrices=False).Vh[: max(1, few)].T


def pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """Return pictures of one size as pixels in [-1, 1], (n, 3, h, w)."""
    arrays = [torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) for picture in pictures]
    return to_model(torch.stack(arrays))


def frechet_distance(first_nd: Tensor, second_nd: Tensor) -> float:
    """Return the Fréchet distance of two normal distributions with these samples' means and covariances (equation 6 of
    Heusel et al. 2017)."""
    first, second = (sample.double() for sample in (first_nd, second_nd))
    first_cov, second_cov = (torch.atleast_2d(torch.cov(sample.T)) for sample in (first, second))
    # The trace of the product's square root is the sum of the square roots of its eigenvalues, which are not negative.
    root = torch.linalg.eigvals(first_cov @ second_cov).real.clamp_min(0).sqrt().sum()
    means = (first.mean(0) - second.mean(0)).square().sum()
    return float(means + first_cov.trace() + second_cov.trace() - 2 * root)
