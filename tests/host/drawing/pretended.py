"""A service whose trainer only pretends: `compare`, `generate` and `verdict` as far as anybody sees them from outside.

The pretended verbs wait while the file "wait" is in the trainer's folder, and fail where "broken" is.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run
from tests.host.asking import Asked
from tests.waiting import until

VERBS = """
import json, pathlib, sys, time
from PIL import Image, ImageDraw
from dreambooth_ext.core.messages.message import Message
folder, verb, words = pathlib.Path(sys.argv[1]), sys.argv[4], sys.argv[5:]

def hold():
    while (folder / "wait").exists():
        time.sleep(0.02)

def drawn(path, colour, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (96, 96), colour)
    ImageDraw.Draw(picture).ellipse((20, 20, 76, 76), fill=(255 - colour[0], 140, 90))
    ImageDraw.Draw(picture).text((4, 82), text, fill="white")
    picture.save(path)

def compare():
    import argparse
    from dreambooth_ext.core.verbs import compare_options
    parser = argparse.ArgumentParser()
    compare_options.add_arguments(parser)
    given = parser.parse_args(words)
    out = pathlib.Path(given.out)
    names = ["base", *(model.name for model in compare_options.models(given))]
    prompts = compare_options.prompts(given)
    done, total = 0, len(names) * len(prompts) * given.num_images
    for place, name in enumerate(names):
        for number in range(len(prompts)):
            for index in range(given.num_images):
                if done == 2:
                    hold()
                seed = given.seed + index
                colour = (60 + 40 * place % 190, 60 + 35 * number % 190, 120)
                drawn(out / f"{name}_{number}_{seed}.png", colour, name[:12])
                done += 1
    drawn(out / "sheet.png", (90, 90, 90), "sheet")
    (out / "compare.json").write_text(json.dumps({"words": words}))

def generate():
    given = dict(word.removeprefix("--").split("=", 1) for word in words)
    hold()
    for seed in range(int(given["num-images"])):
        drawn(pathlib.Path(given["out"]) / f"0_{seed}.png", (60 + 40 * seed, 80, 120), given["prompt"])

def tag():
    options = dict(word.removeprefix("--").partition("=")[::2] for word in words[1:])
    place, out = pathlib.Path(words[0]), pathlib.Path(options["out"])
    found = {}
    out.parent.mkdir(exist_ok=True)
    (out.parent / "words.json").write_text(json.dumps(words))
    names = sorted(path.name for path in place.glob("*.png"))
    try:
        for done, name in enumerate(names):
            found[name] = f"seen {name}"
            print(f"Looking {done + 1}/{len(names)} (1 %)", file=sys.stderr, flush=True)
            hold()
    finally:
        out.write_text(json.dumps({"tagger": pathlib.Path(options["tagger"]).name, "captions": found}))

def tagger():
    files = [{"name": words[1], "size": 7, "sha256": "ab"}]
    print(json.dumps({"name": words[0], "licence": "apache-2.0", "size": 7, "files": files}))

def verdict():
    drawing = Message("stages.drawing_to_judge")
    for line in (Message("stages.loading_to_judge"), *(f"{drawing} {n}/40 (8 %)" for n in (1, 2, 3))):
        print(line, file=sys.stderr, flush=True)
        time.sleep(0.05)
    hold()
    run = pathlib.Path(words[0])
    for name in ("1", "2"):
        drawn(run / "verdict" / f"{name}.png", (90, 90, 90), name)
    (run / "verdict.json").write_text(json.dumps({"sentence": "Keep it.", "checkpoints": [], "words": words}))

try:
    if (folder / "broken").exists():
        print("| a traceback", "error: model: it is damaged.", "Drawing 1/2 (50 %)", sep="\\n", file=sys.stderr)
        sys.exit(1)
    verbs = {"compare": compare, "generate": generate, "tag": tag, "tagger": tagger, "verdict": verdict}
    verbs[verb]()
except KeyboardInterrupt:
    sys.exit(130)
"""


def pretending(folder: Path) -> Asked:
    """asked.environment.folder / "wait" and "broken" are what the verbs look at."""
    asked = Asked(folder)
    trainer: Any = asked.environment
    trainer.folder.mkdir(parents=True, exist_ok=True)
    script = folder / "pretended.py"
    script.write_text(VERBS, encoding="utf-8")
    trainer.command = lambda argv: [sys.executable, str(script), str(trainer.folder), *argv]
    repository = str(Path(__file__).resolve().parents[3])
    trainer.variables = lambda changes=None: {**os.environ, "PYTHONPATH": repository, **(changes or {})}
    return asked


def trained(asked: Asked, name: str = "anna", steps: tuple[int, ...] = (300, 600, 900), **config: Any) -> Run:
    """A run that has ended with a model of each of these steps, the last one under its name."""
    base = asked.host.folders()["checkpoint"] / "sd15.safetensors"
    base.parent.mkdir(parents=True, exist_ok=True)
    base.touch()
    values: dict[str, Any] = {"base_model": str(base), "method": "lora", "device": "cpu", **config}
    run = run_folder.create(asked.service.runs_dir, RunConfig(name=name, **values))
    for step in steps:
        stem = name if step == steps[-1] else f"{name}_{step}"
        path = run.artifacts / f"{stem}.safetensors"
        path.write_bytes(b"x" * 100)
        kind = "lora" if values["method"] == "lora" else "checkpoint"
        about = {"kind": kind, "name": stem, "file": path.name, "step": step, "final": step == steps[-1]}
        run.events.append("artifact", **about, path=str(path), size=100)
    run.write_state(status="done", step=steps[-1] if steps else 0, total=900)
    return run


def publishing(asked: Asked) -> None:
    """From now on, what is published is noted with its run, and selected, as the dispatcher does."""
    publish = asked.dispatcher.publish

    def noted(run: Run, file: str, select: bool) -> Path:
        path = publish(run, file, select)
        event = next(event for event in run.artifact_events() if event["file"] == file)
        run.events.append("published", name=event["name"], path=str(path), step=event["step"])
        if select:
            asked.host.base = str(path)
        return path

    asked.dispatcher.publish = noted  # type: ignore[method-assign]


def without_job(asked: Asked) -> None:
    until(lambda: asked.service.drawing.status() is None)


def verdict_of(run: Run, **changes: Any) -> dict[str, Any]:
    """Writes a verdict as the engine does, with its pictures; returns it."""
    files = [event["file"] for event in run.artifact_events()]
    steps = [event["step"] for event in run.artifact_events()]
    scores = [
        {"likeness": 0.45, "prompt": 0.9, "variety": 0.85, "copies": 0.02, "class_kept": 0.97, "world_kept": 0.98},
        {"likeness": 0.88, "prompt": 0.86, "variety": 0.8, "copies": 0.05, "class_kept": 0.93, "world_kept": 0.95},
        {"likeness": 0.9, "prompt": 0.6, "variety": 0.35, "copies": 0.62, "class_kept": 0.7, "world_kept": 0.8},
    ]
    states = ("undertrained", "good", "overtrained")
    folder = run.path / "verdict"
    folder.mkdir(exist_ok=True)
    prompts = ["zkz person, oil painting style", "zkz person in medieval armor"]
    pictures, proof = [], []
    for place, step in enumerate([0, *steps]):
        for number, prompt in enumerate(prompts):
            for seed in (0, 1):
                name = f"{step}_{number}_{seed}.png"
                Image.new("RGB", (96, 96), (40 * place, 60 + 60 * number, 120 + 50 * seed)).save(folder / name)
                pictures.append(
                    {"file": f"verdict/{name}", "step": step, "prompt": prompt, "seed": seed, "of": "subject"}
                )
    for number in range(6):
        Image.new("RGB", (96, 96), (200, 30 * number, 60)).save(folder / f"proof_{number}.png")
        Image.new("RGB", (96, 96), (180, 30 * number, 90)).save(folder / f"nearest_{number}.png")
        proof.append(
            {
                "file": f"verdict/proof_{number}.png",
                "step": steps[1] if len(steps) > 1 else steps[0],
                "prompt": prompts[number % 2],
                "seed": number,
                "nearest": f"verdict/nearest_{number}.png" if number < 3 else None,
                "caption": "It follows the prompt." if number % 2 else "It knows the subject.",
            }
        )
    (folder / "curves.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 5"/>')
    best = min(1, len(files) - 1)
    verdict = {
        "recommended": {
            "step": steps[best],
            "file": f"artifacts/{files[best]}",
            "sentence": f"Keep step {steps[best]}: it knows zkz, and still follows the prompt.",
        },
        "run": "good",
        "sentence": f"Keep step {steps[best]}: it knows zkz as well as any later one, still follows the prompt, and "
        "copies no photograph. From 900 on it repeats your pictures.",
        "checkpoints": [
            {"step": step, "file": f"artifacts/{file}", "state": state, "weight": 0.8, **score, "sentence": f"{state}."}
            for step, file, state, score in zip(steps, files, states, scores, strict=False)
        ],
        "base": {"likeness": 0.1, "prompt": 0.92, "variety": 0.95, "copies": 0.01, "class_kept": 1, "world_kept": 1},
        "trust": {
            "level": "medium",
            "sentence": "Judged by the base alone, which sees no small differences.",
        },
        "judge": {"name": "base", "sentence": "The base model judged; nothing was downloaded."},
        "made": "2026-11-30T12:00:00",
        "proof": proof,
        "pictures": pictures,
        "curves": ["verdict/curves.svg"],
        "next_run": {"max_train_steps": 700, "text_encoder_steps": 150},
        "next_run_sentence": "Fewer steps, and a shorter text encoder: it learned all it could by step 600.",
        **changes,
    }
    (run.path / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    return verdict
