"""`demo`: train a model in a few minutes on the bundled base and pictures, and draw pictures before and after."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..core.checks import config_checks
from ..core.config.parsing import parse
from ..core.errors import UserError
from ..core.guide import demo_recipe
from ..core.runs import run_folder
from ..core.system.terminal import say
from ..host.environment.environment import Environment
from ..host.hosts import publishing_targets
from .support import config_options, delivery
from .support.exit_status import BAD_INPUT, DONE
from .support.run_output import Follower

MODELS = 4  # that are saved on the way
HELP = "train a new subject on the bundled base, and draw pictures before and after"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = Path("outputs", "demo")
    parser.add_argument("--out", type=Path, metavar="DIR", default=default, help=f"default: {default}")
    parser.add_argument("--max-train-steps", type=int, metavar="N", help="train for this many steps instead")


def run(arguments: argparse.Namespace) -> int:
    out = arguments.out.absolute()
    if out.is_file():
        raise UserError("settings.folder_is_file", "out", folder=str(out))
    (out / publishing_targets.WEBUI_FOLDERS["checkpoint"]).mkdir(parents=True, exist_ok=True)
    config = demo_config(arguments.max_train_steps)
    environment = Environment()
    environment.ensure()
    say(f"1 of 3: drawing {len(demo_recipe.PROMPTS)} prompts with the base")
    if code := draw_pictures(environment, demo_recipe.BASE, out / "before"):
        return code
    count = len(list(demo_recipe.PICTURES.glob("*.png")))
    say(f"2 of 3: training on {count} pictures of 'zkz', of which one is kept back")
    target = publishing_targets.webui_folder(out, "checkpoint")
    wanted = delivery.wished({"checkpoint": str(target)}, intermediate=False)
    run = run_folder.create(out / "runs", config, wanted.as_dict() if wanted else None)
    with delivery.claimed(run):
        if code := Follower(run, environment, wanted).train():
            return code
    model = target / config.model_file(config.name)
    say("3 of 3: drawing the same prompts and seeds with the new model")
    if code := draw_pictures(environment, model, out / "after"):
        return code
    sheet = out / "comparison.png"
    folders = [str(out / "before"), str(out / "after")]
    if code := environment.run_inside(["-m", "dreambooth_ext.demo.sheet", str(sheet), *folders]):
        return code
    for label, path in {"pictures": demo_recipe.PICTURES, "model": model, "comparison": sheet, "run": run.path}.items():
        say(f"{label:<11} {path}", stream=sys.stdout)
    say(f'next        python -m dreambooth_ext verdict "{run.path}"', stream=sys.stdout)
    return DONE


def demo_config(steps: int | None) -> Any:
    """The bundled recipe with the bundled base and pictures, completed and checked like any other."""
    values = demo_recipe.settings()
    if steps is not None:
        values["max_train_steps"] = steps
    values["checkpointing_steps"] = max(1, values["max_train_steps"] // MODELS)  # for the verdict to choose from
    config, unreadable = parse(values)
    config, _, _, problems, _ = config_checks.check(config)
    if unreadable or problems:
        config_options.print_problems([*unreadable, *problems])
        raise SystemExit(BAD_INPUT)
    return config


def draw_pictures(environment: Environment, model: Path, folder: Path) -> int:
    prompts = [word for prompt in demo_recipe.PROMPTS for word in ("--prompt", prompt)]
    options = ["--model", str(model), "--out", str(folder), "--seed", "1", "--num-images", "4", "--batch-size", "4"]
    options += ["--cfg-scale", "3", "--steps", "20"]
    return environment.run_inside(["-m", "dreambooth_ext.engine", "generate", *options, *prompts])
