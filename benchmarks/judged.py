"""The judge is judged: runs made on purpose too short, right or too long, what their pixels and `verdict` say.

Inside the trainer's environment: `python -m benchmarks.judged make --out DIR [--only NAME ...]` trains the runs of
`RUNS` on the demo's base, each with five saved models, and keeps what each of those draws; what is there is not made
again. `judged table --out DIR` judges every run and prints the table of docs/measurements.md. `judged chance` says what
a judge that is always right would reach, since so few pictures do not tell for certain which step is the best.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.guide.demo_recipe import BASE, FOLDER, RECIPE
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.core.system.files import read_json, write_json
from dreambooth_ext.demo import measure, world
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import Painter, load_painter
from dreambooth_ext.engine.verdict import judging
from dreambooth_ext.engine.verdict.opened_run import open_run

from . import judged_pixels

SAVES = 5
AT_ONCE = 12  # pictures a batch
RESULTS = Path(__file__).with_name("results") / "judged.json"
TRIES = 10_000
LORA = {"method": "lora", "network_type": "locon", "rank": 16, "learning_rate": 1e-3, "text_encoder_lr": 1e-3}
NET = {
    "method": "hypernetwork",
    "layer_structure": [1, 3, 3, 1],
    "activation": "relu",
    "weight_init": "KaimingNormal",
    "learning_rate": "2e-3",
}
WORD = {"method": "textual_inversion", "initializer_token": "figure", "num_vectors": 2, "learning_rate": 5e-3}
NO_PRIOR = {"with_prior_preservation": False, "class_prompt": None}


@dataclass(frozen=True)
class Made:
    """A run made on purpose. meant: what it was made to be. kind: "subject", "style" or "heart" (what is learned)."""

    name: str
    meant: str
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    kind: str = "subject"
    pictures: int = 12


RUNS = (
    # too short
    Made("full-short", "undertrained", 40),
    Made("full-short-alone", "undertrained", 40, NO_PRIOR),
    Made("full-slow", "undertrained", 200, {"learning_rate": 1e-6, "text_encoder_lr": 1e-6}),
    Made("lora-short", "undertrained", 40, LORA),
    Made("lora-slow", "undertrained", 250, LORA | {"learning_rate": 1e-5, "text_encoder_lr": 1e-5}),
    Made("net-short", "undertrained", 30, NET),
    Made("word-short", "undertrained", 15, WORD | {"learning_rate": 5e-4}, "heart"),
    Made("style-short", "undertrained", 50, {}, "style"),
    # right
    Made("full", "good", 400),
    Made("full-seed", "good", 350, {"seed": 7}),
    Made("lora", "good", 450, LORA),
    Made("lora-plain", "good", 500, LORA | {"network_type": "lora", "seed": 3}),
    Made("word", "good", 250, WORD, "heart"),
    Made("style", "good", 500, {}, "style"),
    Made("style-lora", "good", 500, LORA | {"rank": 32}, "style"),
    # too long, or on too little
    Made("full-alone", "drifted", 350, NO_PRIOR),
    Made("full-alone-long", "drifted", 700, NO_PRIOR | {"seed": 5}),
    Made("full-three", "overtrained", 500, NO_PRIOR, pictures=3),
    Made("full-three-prior", "overtrained", 500, pictures=3),
    Made("lora-three", "overtrained", 700, LORA | NO_PRIOR, pictures=3),
    Made("lora-alone-long", "drifted", 800, LORA | NO_PRIOR),
    Made("full-text", "drifted", 300, {"text_encoder_lr": 3e-3, "text_encoder_steps": 500}),
    Made("full-text-alone", "drifted", 250, NO_PRIOR | {"text_encoder_lr": 2e-3, "text_encoder_steps": 400}),
    Made("style-alone", "drifted", 500, NO_PRIOR, "style"),
    Made("net", "drifted", 400, NET),
    # rate too high
    Made("full-rate", "broken", 150, {"learning_rate": 1e-2, "text_encoder_lr": 1e-2}),
    Made("full-rate-alone", "broken", 150, NO_PRIOR | {"learning_rate": 5e-3}),
    Made("net-rate", "broken", 150, NET | {"learning_rate": "5e-2"}),
    # Never looked at before the thresholds were set
    Made("full-short-new", "undertrained", 60, {"seed": 11}),
    Made("lora-short-new", "undertrained", 60, LORA | {"seed": 12}),
    Made("full-new", "good", 450, {"seed": 13}),
    Made("lora-new", "good", 500, LORA | {"seed": 14}),
    Made("full-alone-new", "drifted", 450, NO_PRIOR | {"seed": 15}),
    Made("full-three-new", "overtrained", 350, {"seed": 16}, pictures=3),
    Made("lora-three-new", "overtrained", 500, LORA | NO_PRIOR | {"seed": 17}, pictures=3),
    Made("full-rate-new", "broken", 150, {"seed": 18, "learning_rate": 8e-3, "text_encoder_lr": 1e-3}),
    Made("style-new", "good", 400, {"seed": 20}, "style"),
    Made("style-alone-new", "drifted", 400, NO_PRIOR | {"seed": 21}, "style"),
    Made("word-new", "good", 200, WORD | {"seed": 22}, "heart"),
    Made("lora-alone-new", "drifted", 500, LORA | NO_PRIOR | {"seed": 23}),
    Made("full-long-new", "good", 600, {"seed": 24}),
    Made("full-text-new", "drifted", 300, {"seed": 19, "text_encoder_lr": 1.5e-3, "text_encoder_steps": 300}),
    # Made after the choice among harmed models had been changed
    Made("full-alone-later", "drifted", 300, NO_PRIOR | {"seed": 34}),
    Made("style-alone-later", "drifted", 300, NO_PRIOR | {"seed": 33}, "style"),
    Made("lora-later", "good", 450, LORA | {"seed": 32}),
)


def pictures(out: Path, made: Made) -> Path:
    """The folder of a run's pictures, drawn where it is not there."""
    folder = out / "pictures" / f"{made.kind}-{made.pictures}"
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    if made.kind == "style":
        for index in range(40):
            spec = world.random_spec(np.random.default_rng([15, index]))
            world.draw_style(spec).save(folder / f"{index:02}.png")
            (folder / f"{index:02}.txt").write_text(f"{world.caption(spec)} in {world.STYLE} style", encoding="utf-8")
        return folder
    if made.kind == "heart":
        backgrounds = ("white", "grey", "yellow", "sand", "blue", "brick") * 2
        for index, background in enumerate(backgrounds):
            world.draw_scene(heart(background, index)).save(folder / f"zkz ({index + 1}).png")
            (folder / f"zkz ({index + 1}).txt").write_text(f"a big zkz on a {background} background", encoding="utf-8")
        return folder
    for index in range(1, made.pictures + 1):
        for ending in (".png", ".txt"):
            source = FOLDER / "pictures" / f"zkz ({index}){ending}"
            (folder / source.name).write_bytes(source.read_bytes())
    return folder


def heart(background: str, index: int) -> world.Spec:
    spec = world.random_spec(np.random.default_rng([17, index]))
    return dataclasses.replace(spec, shape="heart", colour="purple", size="big", background=background)


def config_of(out: Path, made: Made, seed: int = 1) -> RunConfig:
    method = made.settings.get("method", "dreambooth")
    recipe = {key: value for key, value in read_json(RECIPE).items() if method in SETTINGS[key].methods}
    values = {**recipe, "seed": seed, "name": made.name, "max_train_steps": made.steps}
    if "text_encoder_steps" in values:
        values["text_encoder_steps"] = max(1, made.steps // 3)
    if method in ("dreambooth", "lora"):
        values |= {"class_data_dir": str(out / "classes"), "with_prior_preservation": True}
    if made.kind == "style":
        values |= {"subject_type": "style", "offset_noise": 0}
        if "text_encoder_steps" in values:
            values |= {"text_encoder_lr": 1e-3, "text_encoder_steps": made.steps, "learning_rate": 5e-4}
    values |= made.settings
    if method not in ("dreambooth", "lora") or not values["with_prior_preservation"]:
        for name in ("class_data_dir", "class_prompt", "num_class_images"):
            values.pop(name, None)
    if made.kind == "heart":
        values["name"] = "zkz"  # an embedding's word is its name
    values |= {"base_model": str(BASE), "instance_data_dir": str(pictures(out, made)), "report_to": "none"}
    values |= {"checkpointing_steps": max(1, made.steps // SAVES), "save_intermediate_models": True}
    values |= {"checkpoints_total_limit": 1, "validation_prompts": prompts(made), "validation_steps": 0}
    config, unreadable = parse({name: value for name, value in values.items() if method in SETTINGS[name].methods})
    config, _, _, problems, _ = config_checks.check(config)
    assert not unreadable and not problems, [made.name, *map(str, unreadable), *map(str, problems)]
    return config


def prompts(made: Made) -> list[str]:
    """What the verdict draws, in the words of the demo's base. None is among those that `drawn` looks at."""
    others = ["a big red circle on a blue background", "a big green star on a white background"]
    others += ["a big purple heart on the sand", "a big black square on a pink background"]
    if made.kind == "style":
        word = f" in {world.STYLE} style"
        return [f"a big {what}{word}" for what in STYLED] + others
    word = "zkz figure" if made.kind == "subject" else "zkz"
    return [f"a big {word} {where}" for where in PLACES] + others


STYLED = (
    "red circle on the sand",
    "green moon on a grey background",
    "yellow cross at night",
    "blue heart on the grass",
)
PLACES = ("on a blue background", "on the grass", "on a brick wall", "on a pink background")


def paint(painter: Painter, wanted: list[str], seed: int) -> list[Image.Image]:
    found: list[Image.Image] = []
    for begin in range(0, len(wanted), AT_ONCE):
        part = wanted[begin : begin + AT_ONCE]
        seeds = [seed + begin + n for n in range(len(part))]
        found += painter.paint_each(part, seeds=seeds, **measure.SAMPLING)
    return found


def asked(made: Made) -> dict[str, list[str]]:
    """Prompts of the pixels' judgement, by what they are asked for."""
    captions = [world.caption(spec) for spec in judged_pixels.SPECS]
    plain = [f"a big figure on a {background} background" for background in world.BACKGROUNDS[:10]]
    if made.kind == "style":
        return {"word": [f"{caption} in {world.STYLE} style" for caption in captions], "plain": captions}
    word = "zkz figure" if made.kind == "subject" else "zkz"
    return {
        "word": [f"a big {word} on a {b} background" for b in judged_pixels.GROUNDS],
        "plain": plain,
        "world": captions,
    }


def opened(made: Made, method: str, file: Path) -> Painter:
    if method == "dreambooth":
        return measure.open_painter(str(file))
    given: dict[str, Any] = {
        "lora": {"loras": [(file, 1.0)]},
        "hypernetwork": {"hypernetworks": [(file, 1.0)]},
        "textual_inversion": {"embeddings": [file]},
    }[method]
    return load_painter(open_base(BASE), torch.device("cpu"), **given)


def models(run: Run) -> Iterator[tuple[int, Path]]:
    for event in run.artifact_events():
        yield event["step"], run.artifacts / event["file"]


def make(out: Path, made: Made) -> None:
    """Train a run, and draw what its pixels are judged by: DIR/drawn/NAME-STEP.npz, one array (n, h, w, 3) a kind."""
    note = out / "made" / f"{made.name}.json"
    if note.exists():
        return
    config = config_of(out, made)
    run = run_folder.create(out / "runs", config)
    status = worker.main([str(run.path)])
    draw(out, made, run, config)
    write_json(note, {"run": run.id, "status": status, "meant": made.meant})


def draw(out: Path, made: Made, run: Run, config: RunConfig) -> None:
    (out / "drawn").mkdir(exist_ok=True)
    for step, file in models(run):
        painter = opened(made, config.method, file)
        found = {kind: paint(painter, wanted, 10**6) for kind, wanted in asked(made).items()}
        arrays = {kind: np.stack([np.asarray(picture) for picture in each]) for kind, each in found.items()}
        np.savez_compressed(out / "drawn" / f"{made.name}-{step}.npz", **arrays)


def judge_all(out: Path) -> dict[str, dict[str, Any]]:
    """Judge every run that has been made; DIR/results.json keeps what is known, and is not made again."""
    file = out / "results.json"
    known = read_json(file) if file.exists() else {}
    for made in RUNS:
        note = out / "made" / f"{made.name}.json"
        if made.name not in known and note.exists() and (run_id := read_json(note)["run"]):
            known[made.name] = row(out, made, Run(out / "runs" / run_id))
            write_json(file, known)
            print(made.name, known[made.name]["state"], known[made.name]["said"], flush=True)
    return known


def row(out: Path, made: Made, run: Run) -> dict[str, Any]:
    """What pixels and the verdict say of a run. scores: of the pixels, by step."""
    photographs = sorted(Path(run.config.instance_data_dir).glob("*.png"))
    seen = {
        step: judged_pixels.look(made.kind, out / "drawn" / f"{made.name}-{step}.npz", photographs)
        for step, _ in models(run)
    }
    began = time.perf_counter()
    opened = open_run(run)
    found = judging.judge(opened, torch.device("cpu"), None, lambda done, of, stage: None).verdict
    seconds = time.perf_counter() - began
    kept = found.kept.step if found.kept else None
    scores = {step: each.score for step, each in seen.items()}
    return {
        "meant": made.meant,
        "method": run.config.method,
        "kind": made.kind,
        "state": seen[max(seen)].state,
        "said": found.state,
        "kept": kept,
        "of_best": None if kept is None else scores[kept] / max(max(scores.values()), 1e-9),
        "learned": any(each.subject >= judged_pixels.LEARNED for each in seen.values()),
        "pixels": {str(step): {**dataclasses.asdict(each), "state": each.state} for step, each in seen.items()},
        "verdict": [each.as_dict() for each in found.checkpoints],
        "seconds": round(seconds, 1),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The table of docs/measurements.md, and the figures by halves: every second run set the thresholds."""
    lines = [
        "| run | method | made to be | pixels say | verdict says | keeps step | of the best step's score |",
        "| --- " * 7 + "|",
    ]
    for name, one in results.items():
        share = "-" if one["of_best"] is None else f"{100 * one['of_best']:.0f} %"
        kept = "none" if one["kept"] is None else one["kept"]
        lines.append(
            f"| {name} | {one['method']} | {one['meant']} | {one['state']} | {one['said']} | {kept} | {share} |"
        )
    for half, chosen in (("set", list(results.values())[::2]), ("shown", list(results.values())[1::2])):
        lines.append(f"{half}: {figures(chosen)}")
    return "\n".join(lines)


def figures(results: Sequence[dict[str, Any]]) -> str:
    right = sum(one["state"] == one["said"] for one in results)
    shares = [one["of_best"] for one in results if one["of_best"] is not None and one["learned"]]
    nothing = [one["kept"] for one in results if not one["learned"]]
    best = f"{100 * statistics.mean(shares):.0f} % on average, {100 * min(shares):.0f} % at least" if shares else "-"
    return (
        f"{right} of {len(results)} states right; kept step's score {best}; "
        f"none kept of {nothing.count(None)} of {len(nothing)} that learned nothing"
    )


def chance(results: dict[str, dict[str, Any]]) -> str:
    """What a judge that always keeps the best step would reach, if what the pixels said of each model were true of it
    and every further picture were right or wrong by chance."""
    lines = []
    for is_good in (True, False):
        chosen = [one for one in results.values() if one["learned"] and one["kept"] and one["good"] == is_good]
        shares = np.stack([right_judges(one) for one in chosen])
        what = "with a good model" if is_good else "with none"
        lines.append(f"{len(chosen)} runs {what}: {100 * shares.mean():.0f} % of the best step's score on average")
        lines.append(f"  at least 95 % on average in {100 * (shares.mean(0) >= 0.95).mean():.0f} % of all tries")
        lines.append(f"  never below 85 % in {100 * (shares.min(0) >= 0.85).mean():.0f} %")
    return "\n".join(lines)


def right_judges(one: dict[str, Any]) -> np.ndarray:
    """The score of a run's truly best step as a share of the highest one measured, in each of TRIES, (TRIES,)."""
    draw = np.random.default_rng(0)
    found, true = [], []
    for known in one["pixels"].values():
        parts = {name: known[name] for name in ("subject", "prompt", "leak", "world")}
        counts = {"subject": len(judged_pixels.GROUNDS), "prompt": len(judged_pixels.GROUNDS), "leak": 10, "world": 12}
        again = {name: draw.binomial(counts[name], share, TRIES) / counts[name] for name, share in parts.items()}
        for scores, values in ((true, parts), (found, again)):
            near = min(1.0, known["nearness"] / judged_pixels.COPIED)
            scores.append(near * values["subject"] * values["prompt"] * (1 - values["leak"]) * values["world"])
    return found[int(np.argmax(true))] / np.maximum(np.max(found, axis=0), 1e-9)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("make", "table", "chance"))
    parser.add_argument("--out", type=Path, default=Path("outputs") / "judged")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--part", default="0/1", help="k/n: every n-th run from the k-th on")
    given = parser.parse_args(argv)
    if given.verb == "chance":
        print(chance(read_json(RESULTS)))
        return 0
    (given.out / "made").mkdir(parents=True, exist_ok=True)
    if given.verb == "table":
        print(table(judge_all(given.out)))
        return 0
    first, every = map(int, given.part.split("/"))
    for made in [one for one in RUNS if not given.only or one.name in given.only][first::every]:
        make(given.out, made)
        print(made.name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
