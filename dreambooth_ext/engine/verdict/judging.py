"""Judge a run's saved models by what they draw: everything is drawn first, then the base looks at all of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from ...core.messages.message import Message
from ...core.verdict.decision import Judged, least_harm, recommended
from ...core.verdict.scores import Scores
from ...core.verdict.verdict import Verdict, by_scores, trust_in
from ..pictures.faces import why_not
from ..sampling.painter import DrawingOptions, load_painter
from .base_judge import BaseJudge
from .drawing import BASE, By, Drawn, Of, Saved, Told, drawn, wanted
from .face_judge import FaceJudge
from .opened_run import OpenedRun
from .scoring import Evidence, Kind, Seen, faces_of, nearest_photographs, scores
from .vision_judge import VisionJudge

STEPS = 20  # sampling steps of a picture
WEIGHTS = (0.6, 0.8, 1.2)  # of the recommended LoRA, beside 1
WEIGHTED = ("lora", "hypernetwork")  # kinds that draw at a weight
LEAST_FACES = 2  # photographs with one that tell how alike pictures of the same person are
Vision = VisionJudge | FaceJudge
Item = TypeVar("Item")
BETTER = 1.1  # times as good another weight must be to be recommended


@dataclass
class Findings:
    """What was drawn and found. nearest: the most similar photograph of each subject picture, by its place in
    `drawn`."""

    verdict: Verdict
    drawn: Sequence[Drawn]
    nearest: dict[int, Path]
    judge: str  # its name
    judged_by: Message


def judge(opened: OpenedRun, device: torch.device, asked: Vision | None, told: Told) -> Findings:
    """Judge every saved model of the run. asked: judges likeness in the base's place where it can.

    Raises UserError if a model cannot be opened or draws what is not finite.
    """
    vision, by, photographs = appointed(opened, asked)
    court = Court(opened, device, vision, told)
    known = court.judge(opened.models, Message("stages.drawing_to_judge"), with_base=True)
    judged = [_judged(opened, saved, known.get((saved.step, 1.0))) for saved in opened.models]
    base = known[BASE]
    kept = recommended(judged, base)
    if kept is not None and (others := at_other_weights(opened, kept)):
        known = court.judge(others, Message("stages.drawing_at_weights"), with_base=False)
        judged = [_at_best_weight(each, known) if each.step == kept.step else each for each in judged]
    verdict = by_scores(opened.config, judged, base, opened.prompts.word, trust_in(photographs, base))
    nearest = nearest_photographs(court.evidence, list(opened.photographs))
    return Findings(verdict, court.evidence.drawn, nearest, vision.name if vision else "base", by)


def appointed(opened: OpenedRun, asked: Vision | None) -> tuple[Vision | None, Message, int]:
    """Return who judges likeness (None: the base), the sentence that says so, and by how many photographs. A face
    recogniser is set aside where it would find hardly a face."""
    base, count = Message("verdict.judged_by_base"), len(opened.photographs)
    if asked is None:
        return None, base, count
    if not isinstance(asked, FaceJudge):
        return asked, Message("verdict.judged_by_model", name=asked.name), count
    faces = 0
    reason = Message("verdict.no_opencv") if why_not() else None
    if opened.config.subject_type == "style":
        reason = Message("verdict.style_has_no_face")
    if reason is None:
        faces = len(faces_of(asked.features(list(opened.photographs.values()))))
        if faces < max(LEAST_FACES, count / 2):
            reason = Message("verdict.few_faces", count=faces, total=count)
    if reason is not None:
        return None, Message("verdict.set_aside", judged=base, name=asked.name, reason=reason), count
    return asked, Message("verdict.judged_by_face", name=asked.name, count=faces, total=count), faces


def _judged(opened: OpenedRun, saved: Saved, found: Scores | None) -> Judged:
    """found: None for a model that could not draw."""
    weight = 1.0 if saved.kind in WEIGHTED else None
    return Judged(saved.step, opened.place(saved), found or Scores(), weight, is_finite=found is not None)


def at_other_weights(opened: OpenedRun, kept: Judged) -> list[Saved]:
    saved = next(each for each in opened.models if each.step == kept.step)
    return [dataclasses.replace(saved, weight=weight) for weight in WEIGHTS if saved.kind in WEIGHTED]


def _at_best_weight(judged: Judged, known: dict[By, Scores]) -> Judged:
    """The same model at the weight that harms least, if that is clearly better than 1."""
    at_weights = [
        dataclasses.replace(judged, scores=each, weight=weight)
        for (step, weight), each in known.items()
        if step == judged.step
    ]
    usual = next(each for each in at_weights if each.weight == 1.0)
    best = max(at_weights, key=least_harm)
    return best if least_harm(best) > BETTER * least_harm(usual) else usual


class Court:
    """Draws by models of one run and judges the pictures. What it has seen once is not looked at again."""

    def __init__(self, opened: OpenedRun, device: torch.device, vision: Vision | None, told: Told):
        self.opened, self.device, self.vision, self.told = opened, device, vision, told
        self.asked = wanted(opened.prompts)
        whole: Kind = "style" if opened.config.subject_type == "style" else "subject"
        self.evidence = Evidence.none("face" if isinstance(vision, FaceJudge) else whole)

    @property
    def options(self) -> DrawingOptions:
        config, size = self.opened.config, self.opened.size
        return {
            "width": size,
            "height": size,
            "steps": STEPS,
            "cfg_scale": config.validation_guidance_scale,
            "sampler": config.validation_sampler,
            "negative_prompt": config.validation_negative_prompt,
        }

    def judge(self, models: Sequence[Saved], stage: Message, with_base: bool) -> dict[By, Scores]:
        """Let models draw, and return the scores of all that have drawn so far. stage: what drawing is called."""
        found = self._draw(models, stage, with_base)
        painter = load_painter(self.opened.base, self.device, self.opened.config.clip_skip)
        self._look(BaseJudge(painter, self.opened.size), found)
        self.told(0, 0, Message("stages.deciding"))
        return scores(self.evidence)

    def _draw(self, models: Sequence[Saved], stage: Message, with_base: bool) -> list[Drawn]:
        """Return the pictures of models that could draw all that was asked."""
        drew = self._counting(len(self.asked) * (len(models) + with_base), stage)
        arguments = (self.opened.base, models, self.asked, self.device, self.options, self.opened.config.clip_skip)
        found = list(drawn(*arguments, drew, with_base))
        counts = Counter(each.by for each in found)
        return [each for each in found if counts[each.by] == len(self.asked)]

    def _counting(self, total: int, stage: Message) -> Callable[[int], None]:
        """Return what is called with a number of pictures each time that so many more are done."""
        done = 0

        def more(count: int) -> None:
            nonlocal done
            done += count
            self.told(done, total, stage)

        more(0)
        return more

    def _look(self, base: BaseJudge, found: Sequence[Drawn]) -> None:
        """Add pictures to the evidence, some at once."""
        photographs = [] if len(self.evidence.photographs) else list(self.opened.photographs.values())
        looked = self._counting(len(photographs) + len(found), Message("stages.judging"))
        if photographs:
            parts = split(photographs, base.at_once)
            self.evidence.photographs = Seen.all_of([self._seen(base, part, looked) for part in parts])
        plain = [each.plain or each.prompt for each in self.opened.prompts.subject]
        seen: list[Seen] = []
        tables: dict[Of, dict[By, list[Tensor]]] = {"subject": {}, "world": {}}
        prompts: dict[Of, Sequence[str]] = {"subject": plain, "world": self.opened.prompts.world}
        for part in split(found, base.at_once):
            some = self._seen(base, [each.picture for each in part], lambda count: None)
            seen.append(some)
            for of, table in tables.items():
                for by, losses in self._losses(base, part, some, of, prompts[of]).items():
                    table.setdefault(by, []).append(losses)
            looked(len(part))
        subject, world = ({by: torch.cat(rows) for by, rows in table.items()} for table in tables.values())
        self.evidence.add(found, Seen.all_of(seen), subject, world)

    def _seen(self, base: BaseJudge, pictures: Sequence[Image.Image], looked: Callable[[int], None]) -> Seen:
        latents_nchw = base.latents(pictures)
        features_npc = self.vision.features(pictures) if self.vision else base.features(latents_nchw)
        looked(len(pictures))
        return Seen(features_npc, latents_nchw)

    def _losses(
        self, base: BaseJudge, found: Sequence[Drawn], seen: Seen, of: Of, prompts: Sequence[str]
    ) -> dict[By, Tensor]:
        """Return each model's table, (n, prompts), of its pictures of one kind."""
        rows = [row for row, each in enumerate(found) if each.wanted.of == of]
        if len(prompts) < 2 or not rows:
            return {}
        table = base.losses(seen.latents_nchw[rows], prompts)
        by = [found[row].by for row in rows]
        return {one: table[[index for index, each in enumerate(by) if each == one]] for one in dict.fromkeys(by)}


def split(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]
