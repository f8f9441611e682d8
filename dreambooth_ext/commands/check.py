"""`check`: show the plan of a run and every problem, without training."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any

from ..core.captions import word_warnings
from ..core.checks import config_checks, config_warnings
from ..core.data import picture_entries
from ..core.errors import Problem
from ..core.facts.methods import PROMPTED_METHODS
from ..core.guide import completion
from ..core.messages.message import beside
from ..core.runs import event_text
from ..core.system import files
from ..core.system.terminal import say
from ..host.environment.environment import Environment
from ..host.service.deep_check import DeepCheck
from .support import config_options, delivery
from .support.exit_status import BAD_INPUT, DONE
from .train import add_places

HELP = "show the plan of a run and every problem, without training"
USAGE = (
    "python -m dreambooth_ext check [--config FILE] [--<setting> VALUE ...] "
    "[--webui|--comfyui|--sdnext|--output-dir DIR] [--json]"
)

ENCODED = {
    "before": ", encoded before training",
    "meanwhile": ", encoded in the first epoch",
    "always": ", encoded in each step",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_places(parser)
    config_options.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    config, choices, entries, problems, subjects = config_options.complete_arguments(arguments)
    count = picture_entries.trained(entries)
    problems += config_checks.folder_problems("runs_dir", arguments.runs_dir)
    folders = delivery.checked_folders(arguments, config, problems)
    clashes = delivery.clashes(arguments, config, entries, subjects, folders)
    warnings: list[Any] = [
        *config_warnings.warnings(config, count),
        *picture_entries.warnings(config, entries, subjects),
        *word_warnings.warnings(config, subjects),
        *clashes,
    ]
    plan: dict[str, Any] = {}
    if (config.base_model or config.method not in PROMPTED_METHODS) and not any(
        problem.field in ("base_model", "runs_dir") for problem in problems
    ):
        usable, _ = completion.fill_in(config_checks.usable(config, problems), count, subjects)
        environment = Environment()
        environment.ensure()
        with contextlib.closing(DeepCheck(environment, arguments.runs_dir)) as deep_check:
            answer = deep_check.inspect(usable)
        plan = answer["plan"]
        problems += config_checks.independent(map(Problem.from_dict, answer["problems"]), problems)
        warnings += map(Problem.from_dict, answer["warnings"])
        if problems and not plan.get("pictures"):
            plan = {}  # of nothing
    if arguments.json:
        filled = {name: {"value": c.value, **beside("reason", c.reason)} for name, c in choices.items()}
        told = {"problems": [p.as_dict() for p in problems], "warnings": list(map(str, warnings))}
        report = {"plan": plan, **told, "filled_in": filled}
        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        config_options.print_choices(choices)
        config_options.print_warnings(warnings)
        config_options.print_problems(problems)
        if plan:
            say(*describe(plan), stream=sys.stdout)
    return BAD_INPUT if problems else DONE


def describe(plan: dict[str, Any]) -> list[str]:
    size, precision = files.human_size, event_text.precision(plan)
    if plan["weight_precision"] == "bf16":
        precision += ", weights in bf16"
    encoded = ENCODED.get(plan["encodes"], "")
    if plan["frozen_precision"] != "bf16":
        precision += f", base in {plan['frozen_precision']}"
    if plan["offload"] != "off":
        precision += f", {float(plan['offload']):.0%} of the UNet's blocks in the computer's memory"
    precision += ", VAE in bands" if plan["vae_tiling"] == "on" else ""
    precision += ", compiled" if plan["compile"] == "on" else ""
    kept = f", {plan['held']} kept back (keep_back_pictures)" if plan["held"] else ""
    times = f"{plan['measurements']} times, about {plan['measuring']:.1%} of the time (measure_progress)"
    if not plan["measurements"]:
        times = "not at all"
    pictures = f"{plan['pictures']}, class pictures {plan['class_pictures']}{kept}" if plan["pictures"] else "in shards"
    epochs = f" ({plan['epochs']:g} epochs)" if plan["epochs"] else ""
    device = plan["device"]
    if plan["processes"] > 1:
        device += f", {plan['processes']} processes ({plan['distribution']})"
    each = ", each process" if plan["processes"] > 1 else ""
    return [
        f"base       {plan['family']}, {plan['resolution']} pixels",
        f"pictures   {pictures}{encoded}",
        f"measured   {times}",
        f"steps      {plan['steps']}{epochs}, text encoder {plan['text_encoder_steps']}",
        f"device     {device}, {plan['optimizer']}, precision {precision}",
        f"memory     about {size(plan['memory'])} of {size(plan['memory_available'])}{each}",
        f"disk       up to {size(plan['disk'])} of {size(plan['disk_available'])} free",
    ]
