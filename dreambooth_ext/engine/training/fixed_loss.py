"""What a run measures of itself on the way: always with the same pictures, noise and timesteps, beside the base.

The training loss is drawn anew at each step and says nothing. On fixed draws it does (DVAR, Voronov et al. 2023, arXiv
2302.04841), and its ratio to the base's by noise level shows overfitting (APT, arXiv 2507.02687). Measuring has its own
random numbers and does not affect training. `core.verdict.measuring` says how much is measured and when.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.errors import UserError
from ...core.facts.distribution import FSDP
from ...core.system.files import require_ordinary
from ...core.verdict import measuring, regions
from ...core.verdict.measuring import BINS, Sizes
from ...core.verdict.words import subject_words
from ..data.dataset import Dataset
from ..data.picture import Picture
from ..runtime import distributed
from ..runtime.seeds import generator
from ..tensors.tensor_file import open_tensors, save_tensors
from .method import Method
from .noise import draw_noise
from .validation_loss import resting

FILE = "base_losses.safetensors"  # in the run's folder: what the base came to
LEAST = 1e-12  # losses below count as this
ALIKE = 0.02  # by how much the same latents may differ, made on two machines
FROM, TO = 0.4, 0.95  # noise levels of `drift`, as shares of all timesteps: where prompts count


@dataclass(frozen=True)
class Sample:
    """A picture at one noise level, on the CPU. input (c, h, w) with all channels of the UNet; target (c, h, w): the
    right prediction or, of `drift`, the base's; mask (1, h, w): weight of each latent pixel."""

    caption: str
    timestep: int
    input_chw: Tensor
    target_chw: Tensor
    time_ids_6: Tensor
    mask_1hw: Tensor | None = None


class FixedLoss:
    """A run's measurements. Call `begin` before the first step, or `resume` after a later one.

    held, classes, learned: the pictures to take in turn. history: the measurements so far, as in their events. Of
    sharded models all processes measure, with what the first one's folder has.
    """

    def __init__(self, config: ResolvedConfig, dataset: Dataset, folder: Path, total: int, resumed: bool):
        self.config, self.dataset, self.path = config, dataset, folder / FILE
        self.history: list[dict[str, Any]] = []
        known = Known.read(self.path) if resumed else None
        self._known = distributed.of_first(known) if config.distribution == FSDP else known
        own = [picture for picture in dataset.pictures if not picture.entry.is_class]
        self._of_class = [picture for picture in dataset.pictures if picture.entry.is_class]
        self._pictures = self._in_turn(own)
        sizes = self._known.sizes if self._known else Sizes() if resumed else None
        about = {"pictures": len(own), "held": len(dataset.held), "classes": len(self._of_class)}
        self.plan = measuring.planned(config, total, **about, sizes=sizes)
        if dataset.inpainting and self.plan.sizes.drift:  # there is no picture whose masked part could be given
            fewer = dataclasses.replace(self.plan.sizes, drift=0)
            self.plan = dataclasses.replace(self.plan, sizes=fewer)
        self._words = subject_words(config, dataset.concepts, (picture.entry for picture in own))
        self._has_given_up = False
        self._goes_on = False  # although it was good enough
        self._samples: dict[str, list[Sample]] = {}
        self._base: dict[str, list[float]] = {}

    def _in_turn(self, pictures: Sequence[Picture]) -> list[Picture]:
        """The pictures shuffled, with the concepts taking turns."""
        draw = generator(self.config.seed, "measured pictures")
        order = [pictures[i] for i in torch.randperm(len(pictures), generator=draw).tolist()]
        counts: dict[int, int] = {}
        turns = []
        for picture in order:
            counts[picture.entry.concept] = counts.get(picture.entry.concept, -1) + 1
            turns.append(counts[picture.entry.concept])
        return [order[i] for i in sorted(range(len(order)), key=lambda i: turns[i])]

    def is_due(self, step: int) -> bool:
        return step in self.plan.steps

    def has_ended(self) -> bool:
        """Whether a run that stops when it is good is to stop: it overfits or, where no picture is kept back to tell,
        learns nothing more. One that its user lets go on from there goes on."""
        return not self._goes_on and regions.of(self.history).is_over

    def give_up(self) -> None:
        """Measure nothing more. The steps stay due: other processes wait there for what this one says."""
        self._has_given_up = True

    # --- captions

    @property
    def captions(self) -> list[str]:
        """The captions that are measured and that no batch has."""
        return [*self._unrelated(), *filter(None, self._unworded())]

    def _unrelated(self) -> list[str]:
        return measuring.unrelated_prompts(self.config, self._words, self.plan.sizes.drift)

    def _unworded(self) -> list[str | None]:
        """Of each sample of `learned` its caption without the word."""
        concepts = self.dataset.concepts
        chosen = _chosen(self._pictures, self.plan.sizes.learned if self.plan.sizes.word else 0)
        return [measuring.without_word(self.config, p.entry, concepts[p.entry.concept], self._words) for p in chosen]

    # --- measuring

    @torch.no_grad()
    def begin(self, method: Method, device: torch.device) -> None:
        """Measure the base, and keep what it came to in the run's folder."""
        with resting(method.backbone):
            self._make_samples(method, device)
            if self.plan.sizes.drift:
                self._samples["drift"] = self._of_base(method, device)
            self._base = self._losses(method, device, PARTS)
        if distributed.is_first():
            Known(self.plan.sizes, self._base, self._samples.get("drift", []), self._fingerprint()).write(self.path)

    def resume(self, events: Sequence[dict[str, Any]], step: int) -> None:
        """Restore the measurements up to `step` from the run's events. Of a step measured twice, the later counts."""
        known = {event["step"]: event for event in events if event["type"] == "measurement" and event["step"] <= step}
        self.history = [known[at] for at in sorted(known)]
        self._goes_on = regions.of(self.history).is_over

    @torch.no_grad()
    def measure(self, method: Method, device: torch.device, step: int) -> dict[str, Any] | None:
        """Measure, first at step 0. Return what the event says; None if a loss is not finite, or after `give_up`.
        Raises UserError if the pictures are not those that the base was measured on."""
        if self._has_given_up:
            return None
        if step == 0:
            self.begin(method, device)
        with resting(method.backbone):
            if not self._samples:
                self._continue(method, device)
            losses = self._base if step == 0 else self._losses(method, device, self._due(step))
        if not _are_finite(self._base):
            self.give_up()  # there is nothing to compare with
        if self._has_given_up or not _are_finite(losses):
            return None
        measured = {"step": step, **self._event(losses)}
        self.history.append(measured)
        return {**measured, **regions.of(self.history).as_dict()}

    def _due(self, step: int) -> Sequence[str]:
        return PARTS if step in self.plan.whole else OFTEN

    def _event(self, losses: dict[str, list[float]]) -> dict[str, Any]:
        """Return the ratios to the base's losses, and the other numbers of `core.runs.events`."""
        ratios = {part: self._ratios(part, losses.get(part, [])) for part in ("learned", "held", "classes")}
        with_word = [losses["learned"][index] for index in self._worded()]
        effect = _mean_ratio(with_word, losses["word"]) if "word" in losses else None
        norms = [sample.target_chw.square().mean().item() for sample in self._samples["drift"]]
        drift = [loss / max(norm, LEAST) for loss, norm in zip(losses.get("drift", []), norms, strict=False)]
        return {
            "learned": _by_bin(ratios["learned"]),
            "held": _geometric(ratios["held"]),
            "held_bins": _by_bin(ratios["held"]) or None,
            "class": _geometric(ratios["classes"]),
            "drift": sum(drift) / len(drift) if drift else None,
            "word": None if effect is None else 1 - effect,
        }

    def _ratios(self, part: str, losses: list[float]) -> list[float]:
        pairs = zip(losses, self._base[part] if losses else [], strict=True)
        return [max(now, LEAST) / max(base, LEAST) for now, base in pairs]

    def _losses(self, method: Method, device: torch.device, parts: Sequence[str]) -> dict[str, list[float]]:
        """Return the mean squared error of each of these parts' samples with the method's current weights."""
        known = {part: samples for part, samples in self._samples.items() if part in parts}
        order = [(part, index) for part, samples in known.items() for index in range(len(samples))]
        found = {part: [math.nan] * len(samples) for part, samples in known.items()}
        samples = [self._samples[part][index] for part, index in order]
        for indexes, predicted_bchw in self._predicted(method, samples, device):
            some = [samples[i] for i in indexes]
            errors_bchw = (predicted_bchw - torch.stack([sample.target_chw for sample in some])).square()
            for index, sample, error_chw in zip(indexes, some, errors_bchw, strict=True):
                weighed = error_chw if sample.mask_1hw is None else error_chw * sample.mask_1hw
                part, place = order[index]
                found[part][place] = weighed.mean().item()
        return found

    def _predicted(
        self, method: Method, samples: Sequence[Sample], device: torch.device
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the indexes of samples of one size, at most as many as in a batch, and what the model predicts of
        them, (b, c, h, w) on the CPU."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, sample in enumerate(samples):
            groups.setdefault(tuple(sample.input_chw.shape), []).append(index)
        size = self.config.train_batch_size
        for indexes in (group[at : at + size] for group in groups.values() for at in range(0, len(group), size)):
            some = [samples[index] for index in indexes]
            predicted_bchw = method.backbone.predicted(
                torch.stack([sample.input_chw for sample in some]).to(device),
                torch.tensor([sample.timestep for sample in some], device=device),
                [sample.caption for sample in some],
                torch.stack([sample.time_ids_6 for sample in some]).to(device),
            )
            yield indexes, predicted_bchw.cpu()

    # --- samples

    def _make_samples(self, method: Method, device: torch.device) -> None:
        sizes, held, classes = self.plan.sizes, self.dataset.held, self._of_class
        places = {"learned": self._pictures, "held": held, "classes": classes}
        self._samples = {
            part: self._noised(method, device, part, pictures, getattr(sizes, part))
            for part, pictures in places.items()
        }
        captions = self._unworded()
        learned = [self._samples["learned"][index] for index in self._worded()]
        texts = [captions[index] for index in self._worded()]
        self._samples["word"] = [
            dataclasses.replace(sample, caption=text) for sample, text in zip(learned, texts, strict=True) if text
        ]
        self._samples["drift"] = []

    def _worded(self) -> list[int]:
        """The indexes of the samples of `learned` that are measured without the word, too: with much noise and with a
        middle amount, where captions count."""
        each = self.plan.sizes.learned // len(BINS)
        found = [index for pair in zip(range(each, 2 * each), range(2 * each, 3 * each), strict=True) for index in pair]
        captions = self._unworded()
        return [index for index in found[: self.plan.sizes.word] if captions[index]]

    def _noised(
        self, method: Method, device: torch.device, part: str, pictures: Sequence[Picture], count: int
    ) -> list[Sample]:
        """Return `count` samples from little noise to much, of the pictures in turn."""
        process, found = method.objective.process, []
        for index, picture in enumerate(_chosen(pictures, count)):
            batch = self.dataset.fixed(picture, "measured", part, index).to(device)
            draw = generator(self.config.seed, "measured noise", part, index)
            latents_bchw, extra_bchw = (
                None if t is None else t.float().cpu() for t in method.backbone.latents(batch, draw)
            )
            assert latents_bchw is not None
            timestep = _spread(process.timesteps, index, count)
            draws = draw_noise(latents_bchw, range(timestep, timestep + 1), self.config, draw)
            perturbation = 0 if draws.perturbation_bchw is None else draws.perturbation_bchw
            input_bchw = process.noised(latents_bchw, draws.noise_bchw + perturbation, draws.timesteps_b)
            if extra_bchw is not None:
                input_bchw = torch.cat([input_bchw, extra_bchw], dim=1)
            target_bchw = process.target(latents_bchw, draws.noise_bchw, draws.timesteps_b)
            mask = None if batch.masks_b1hw is None else batch.masks_b1hw[0].cpu()
            ids_6 = batch.time_ids_b6[0].cpu()
            found.append(Sample(batch.captions[0], timestep, input_bchw[0], target_bchw[0], ids_6, mask))
        return found

    def _of_base(self, method: Method, device: torch.device) -> list[Sample]:
        """Return samples of unrelated prompts with the base's predictions as targets.

        There are no pictures of these prompts. What the base sees in pure noise stands for them: a blurred picture, to
        which noise is added again.
        """
        process, side = method.objective.process, self.config.resolution
        ids_6 = torch.tensor([side, side, 0, 0, side, side], dtype=torch.float32)
        last, channels = len(process.weights_t) - 1, self._samples["learned"][0].target_chw.shape[0]
        shape = (channels, side // 8, side // 8)
        first = []
        for index, prompt in enumerate(self._unrelated()):
            noise_chw = torch.randn(shape, generator=generator(self.config.seed, "drift", index, 0))
            first.append(Sample(prompt, last, noise_chw, noise_chw, ids_6))
        second: list[Sample] = list(first)
        for indexes, predicted_bchw in self._predicted(method, first, device):
            for index, predicted_chw in zip(indexes, predicted_bchw, strict=True):
                at = torch.tensor([last])
                seen_bchw = process.denoised(first[index].input_chw[None], predicted_chw[None], at)
                seen_bchw = seen_bchw / max(1.0, seen_bchw.std().item())
                timestep = int((FROM + (TO - FROM) * (index + 0.5) / len(first)) * last)
                noise_bchw = torch.randn((1, *shape), generator=generator(self.config.seed, "drift", index, 1))
                input_bchw = process.noised(seen_bchw, noise_bchw, torch.tensor([timestep]))
                second[index] = Sample(first[index].caption, timestep, input_bchw[0], noise_bchw[0], ids_6)
        return self._targeted(method, second, device)

    def _targeted(self, method: Method, samples: list[Sample], device: torch.device) -> list[Sample]:
        found = list(samples)
        for indexes, predicted_bchw in self._predicted(method, samples, device):
            for index, predicted_chw in zip(indexes, predicted_bchw, strict=True):
                found[index] = dataclasses.replace(samples[index], target_chw=predicted_chw.clone())
        return found

    # --- what is kept

    def _continue(self, method: Method, device: torch.device) -> None:
        """Make the samples again, and take what the base came to from the run's folder."""
        self._make_samples(method, device)
        known = self._known or Known.read(self.path)
        mine, theirs = self._fingerprint(), known.fingerprint if known else None
        if not known or theirs is None or not theirs.is_like(mine):
            raise UserError("training.measured_others", "measure_progress")
        self._base = known.losses
        self._samples["drift"] = known.drift

    def _fingerprint(self) -> Fingerprint:
        samples = [sample for part in ("learned", "held", "classes", "word") for sample in self._samples[part]]
        texts = json.dumps([(sample.caption, sample.timestep) for sample in samples])
        sums = [[sample.target_chw.mean().item(), sample.input_chw.std().item()] for sample in samples]
        return Fingerprint(hashlib.sha256(texts.encode()).hexdigest(), torch.tensor(sums))


@dataclass(frozen=True)
class Fingerprint:
    """What tells whether samples are those of another time: their captions and timesteps, and sums of their numbers,
    (n, 2), which differ a little from machine to machine."""

    captions: str
    sums_n2: Tensor

    def is_like(self, other: Fingerprint) -> bool:
        same = self.captions == other.captions and self.sums_n2.shape == other.sums_n2.shape
        return same and torch.allclose(self.sums_n2, other.sums_n2, rtol=ALIKE, atol=ALIKE)


@dataclass(frozen=True)
class Known:
    """What the base came to, as the run's folder keeps it: a resumed run no longer has the base's weights."""

    sizes: Sizes
    losses: dict[str, list[float]]
    drift: list[Sample]
    fingerprint: Fingerprint

    def write(self, path: Path) -> None:
        tensors = {f"losses.{part}": torch.tensor(own, dtype=torch.float64) for part, own in self.losses.items() if own}
        tensors["sums"] = self.fingerprint.sums_n2
        for index, sample in enumerate(self.drift):
            tensors |= {f"drift.{index}.input": sample.input_chw.contiguous()}
            tensors |= {f"drift.{index}.target": sample.target_chw.contiguous()}
            tensors |= {f"drift.{index}.time_ids": sample.time_ids_6.clone()}
        prompts = [(sample.caption, sample.timestep) for sample in self.drift]
        about = {"sizes": asdict(self.sizes), "prompts": prompts, "captions": self.fingerprint.captions}
        save_tensors(tensors, path, {"measured": json.dumps(about)})

    @classmethod
    def read(cls, path: Path) -> Known | None:
        """Return what a file has; None if there is none, as of a run of an earlier version, or if it is damaged."""
        try:
            require_ordinary(path)
            with contextlib.closing(open_tensors(path)) as file:
                about = json.loads(file.metadata["measured"])
                tensors = {name: tensor.clone() for name, tensor in file.items()}
            losses = {part: tensors[f"losses.{part}"].tolist() if f"losses.{part}" in tensors else [] for part in PARTS}
            drift = [
                Sample(caption, timestep, *(tensors[f"drift.{n}.{name}"] for name in ("input", "target", "time_ids")))
                for n, (caption, timestep) in enumerate(about["prompts"])
            ]
            return cls(Sizes(**about["sizes"]), losses, drift, Fingerprint(about["captions"], tensors["sums"]))
        except (OSError, UserError, ValueError, LookupError, TypeError):
            return None


PARTS = tuple(field.name for field in dataclasses.fields(Sizes))
OFTEN = ("learned", "held")  # parts of a measurement that is not whole


def _chosen(pictures: Sequence[Picture], count: int) -> list[Picture]:
    return [pictures[index % len(pictures)] for index in range(count)]


def _spread(timesteps: range, index: int, count: int) -> int:
    """The index-th of `count` timesteps, evenly spread: the middle of its part."""
    return timesteps.start + int(len(timesteps) * (index + 0.5) / count)


def _are_finite(losses: dict[str, list[float]]) -> bool:
    return all(map(math.isfinite, (loss for part in losses.values() for loss in part)))


def _by_bin(ratios: list[float]) -> dict[str, float]:
    each = len(ratios) // len(BINS)
    return {name: _geometric(ratios[n * each : (n + 1) * each]) or 0.0 for n, name in enumerate(BINS)} if each else {}


def _geometric(ratios: list[float]) -> float | None:
    """The geometric mean, in which twice and half cancel out; None of nothing."""
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if ratios else None


def _mean_ratio(losses: list[float], others: list[float]) -> float | None:
    return _geometric([max(a, LEAST) / max(b, LEAST) for a, b in zip(losses, others, strict=True)])
