"""Write a verdict into its run's folder: verdict.json, the pictures that it was made from, proof, and curves."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...core.charts.line_chart import Curve, svg_file
from ...core.messages.message import Message, beside
from ...core.runs.run_folder import Run
from ...core.system import files
from ...core.verdict import verdict_file
from ...core.verdict.decision import Judged
from ...core.verdict.scores import LABELS
from ...core.verdict.verdict import Verdict
from ..sampling.infotext import infotext, save_png
from .drawing import BASE_STEP, FIRST_SEED, Drawn
from .judging import STEPS, Findings
from .opened_run import OpenedRun
from .unconditional import DrawnByStep

PROOF = {"subject": 3, "photo": 1, "class": 1, "world": 1}  # pictures of the recommended model, or the last


def write(opened: OpenedRun, findings: Findings) -> dict[str, Any]:
    """Write everything; returns what verdict.json holds. An earlier verdict is replaced as a whole."""
    folder = verdict_file.folder(opened.run)
    with files.replacing(folder) as new:
        new.mkdir()
        names = [_save(opened, each, new) for each in findings.drawn]
        proof = _proof(opened, findings, names, new)
        curves = _curves(findings.verdict, new)
    pictures = [_listed(each, name) for each, name in zip(findings.drawn, names, strict=True)]
    content = _content(findings.verdict, findings.judge, findings.judged_by, proof, pictures, curves)
    verdict_file.write(opened.run, content)
    return content


def write_unconditional(run: Run, verdict: Verdict, drawn: DrawnByStep) -> dict[str, Any]:
    """The same for a run without prompts, whose pictures have only a seed."""
    with files.replacing(verdict_file.folder(run)) as new:
        new.mkdir()
        pictures = []
        for saved in drawn.models:
            for number, picture in enumerate(drawn.pictures[saved.step]):
                seed = FIRST_SEED + number
                name = f"{saved.step}_{seed}.png"
                picture.save(new / name)
                known = {"step": saved.step, "weight": 1.0, "prompt": "", "seed": seed, "of": "subject"}
                pictures.append({"file": _place(name), **known})
        curves = _curves(verdict, new)
    step = (verdict.kept or verdict.checkpoints[-1].judged).step
    proof = [{**each, "nearest": None, "caption": f"seed {each['seed']}"} for each in pictures if each["step"] == step]
    content = _content(verdict, "own", Message("verdict.judged_by_own"), proof[:6], pictures, curves)
    verdict_file.write(run, content)
    return content


def write_losses(run: Run, verdict: Verdict) -> dict[str, Any]:
    """The same for a verdict by losses alone; it never replaces one that was made from pictures."""
    content = _content(verdict, "losses", Message("verdict.judged_by_losses"), [], [], [])
    if not (verdict_file.read(run) or {}).get("pictures"):
        verdict_file.write(run, content)
    return content


def _content(
    verdict: Verdict,
    judge: str,
    judged_by: Message,
    proof: list[dict[str, Any]],
    pictures: list[dict[str, Any]],
    curves: list[str],
) -> dict[str, Any]:
    return {
        **verdict.as_dict(),
        "judge": {"name": judge, **beside("sentence", judged_by)},
        "made": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "proof": proof,
        "pictures": pictures,
        "curves": curves,
    }


def _place(name: str) -> str:
    return f"{verdict_file.FOLDER}/{name}"


def _listed(drawn: Drawn, name: str) -> dict[str, Any]:
    asked = drawn.wanted
    known = {"step": drawn.step, "weight": drawn.weight, "prompt": asked.prompt, "seed": asked.seed, "of": asked.of}
    return {"file": _place(name), **known}


def _save(opened: OpenedRun, drawn: Drawn, folder: Path) -> str:
    asked, config = drawn.wanted, opened.config
    weight = "" if drawn.weight == 1 else f"-{drawn.weight:g}"
    name = f"{drawn.step}{weight}_{asked.of}_{asked.number}_{asked.seed}.png"
    text = infotext(
        prompt=asked.prompt,
        negative_prompt=config.validation_negative_prompt,
        seed=asked.seed,
        steps=STEPS,
        sampler=config.validation_sampler,
        cfg_scale=config.validation_guidance_scale,
        width=opened.size,
        height=opened.size,
        clip_skip=config.clip_skip,
        model=opened.base.name,
        model_hash=None,
    )
    save_png(drawn.picture, folder / name, text)
    return name


def _proof(opened: OpenedRun, findings: Findings, names: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """The pictures that prove the sentence, of the recommended model (else the last), beside the nearest photograph."""
    verdict = findings.verdict
    of = verdict.kept or verdict.checkpoints[-1].judged
    left, found = dict(PROOF), []
    photographs: dict[Path, str] = {}
    for row, each in _most_telling(findings, of):
        if each.wanted.of not in left or not left[each.wanted.of]:
            continue
        left[each.wanted.of] -= 1
        near = findings.nearest.get(row)
        if near is not None and near not in photographs:
            photographs[near] = _save_photograph(opened.photographs[near], folder, len(photographs))
        known = _listed(each, names[row])
        caption = f"{each.wanted.prompt} (seed {each.wanted.seed})"
        found.append({**known, "nearest": _place(photographs[near]) if near else None, "caption": caption})
    return found


def _most_telling(findings: Findings, of: Judged) -> list[tuple[int, Drawn]]:
    """A model's pictures with their rows, a different prompt each time before one comes again."""
    weight = 1.0 if of.weight is None else of.weight
    own = [(row, each) for row, each in enumerate(findings.drawn) if each.by == (of.step, weight)]
    return sorted(own, key=lambda pair: (pair[1].wanted.seed % 10, pair[1].wanted.number))


def _save_photograph(picture: Image.Image, folder: Path, number: int) -> str:
    name = f"nearest_{number}.png"
    with files.replacing(folder / name) as temporary:
        picture.save(temporary)
    return name


def _curves(verdict: Verdict, folder: Path) -> list[str]:
    """The scores over the steps as an SVG, with the base at step 0."""
    rows = [(BASE_STEP, verdict.base), *((each.judged.step, each.judged.scores) for each in verdict.checkpoints)]
    steps = [step for step, _ in rows]
    curves = [Curve(label, steps, [getattr(scores, name) for _, scores in rows]) for name, label in LABELS.items()]
    drawing = svg_file(str(Message("verdict.scores_by_step")), curves, max(steps))
    if not drawing:
        return []
    files.write_text(folder / "scores.svg", drawing)
    return [_place("scores.svg")]
