"""Whole runs on tiny models, for the tests of the run: pictures, a base, a run folder, a worker in this process or not.

trainer = training.Trainer(tmp_path)
run = trainer.train(max_train_steps=4)               # in this process; asserts that it ended well
training.weights(run), training.optimizer(run)       # of its newest training state
"""

from __future__ import annotations

import copy
import functools
import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from PIL import Image
from torch import Tensor

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.models import base_model
from dreambooth_ext.engine.training import training_state
from tests import tiny

CLIPTokenizer = base_model.CLIPTokenizer  # importing transformers here would be before the engine does
REPOSITORY = Path(__file__).parents[1]
USUAL: dict[str, Any] = {
    "method": "dreambooth",
    "name": "taught",
    "instance_prompt": "a photo of sksper person",
    "resolution": 64,
    "learning_rate": 1e-3,
    "text_encoder_steps": 0,
    "max_train_steps": 4,
    "checkpointing_steps": 0,
    "checkpoints_total_limit": None,
    "save_precision": "fp32",
    "report_to": "none",
    "device": "cpu",
    "mixed_precision": "no",
    "optimizer": "adamw",
    "seed": 7,
}


DRAWS = ("validation_steps", "validation_prompts", "class_prompt", "with_prior_preservation")
PIXELS: dict[str, Any] = {  # what an unconditional run needs instead
    "method": "unconditional",
    "base_model": "",
    "instance_prompt": None,
    "instance_data_dir": "",
    "text_encoder_steps": None,
    "ddpm_num_inference_steps": 2,
    "resolution": 32,
}


def draw(path: Path, number: int, size: tuple[int, int] = (64, 64), caption: str | None = None) -> None:
    """A noise picture, the same for the same number, and its caption file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def pictures(
    folder: Path, count: int = 3, *, sizes: tuple[tuple[int, int], ...] = ((64, 64),), captions: bool = False
) -> str:
    for i in range(count):
        caption = f"a red thing, number {i}, on grass, at noon" if captions else None
        draw(folder / f"sksper ({i + 1}).png", i, sizes[i % len(sizes)], caption)
    return str(folder)


def pixel_settings(folder: Path, **settings: Any) -> dict[str, Any]:
    """Of an unconditional run on a few pictures, with a UNet of 80 thousand numbers."""
    config = tiny.pixel_config(folder)
    return {**PIXELS, "train_data_dir": pictures(folder / "pictures"), "model_config": str(config), **settings}


class Trainer:
    """Makes runs in `folder`: one base of a family, one folder of pictures, settings on top of `USUAL`."""

    def __init__(self, folder: Path, family: str = "sd1", *, base: dict[str, Any] | None = None, **settings: Any):
        self.folder = folder
        self.base = tiny.single_file(folder, family, **(base or {}))
        self.settings = {**USUAL, "base_model": str(self.base), **settings}
        if "instance_data_dir" not in settings and "concepts" not in settings:
            self.settings["instance_data_dir"] = pictures(folder / "pictures")

    def config(self, **settings: Any) -> RunConfig:
        """The settings as a run keeps them; wrong ones are an error of the test."""
        given = {**self.settings, **settings}
        if given["text_encoder_steps"]:
            given = {"text_encoder_lr": given["learning_rate"], **given}
        prior = given.get("with_prior_preservation") is not False
        draws_classes = prior and any(concept.get("class_prompt") for concept in given.get("concepts", ()))
        draws = any(given.get(name) for name in DRAWS if prior or not name.startswith("class"))
        if given["method"] != "unconditional" and (draws_classes or draws):
            given = {"validation_inference_steps": 1, **given}
        config, problems = parse(given)
        assert not problems, problems
        completed, _, _, problems, _ = config_checks.check(config)
        assert not problems, list(map(str, problems))
        return completed

    def create(self, **settings: Any) -> Run:
        return run_folder.create(self.folder / "runs", self.config(**settings))

    def train(self, *, ends: int = worker.DONE, **settings: Any) -> Run:
        run = self.create(**settings)
        assert go_on(run) == ends, log(run)
        return run


def go_on(run: Run, total: int | None = None) -> int:
    """The run's worker, in this process. Returns its exit status."""
    forget_accelerate()
    # On a busy disk fsync takes longer than the training; tests/engine/worker/test_kill.py has it
    with mock.patch("os.fsync"), mock.patch.object(base_model, "CLIPTokenizer", tokenizer):
        return worker.main([str(run.path)] + (["--total", str(total)] if total else []))


def tokenizer(*files: str, **options: Any) -> Any:
    """The same as one that is made of the files, without reading a megabyte of them for each run."""
    seen = tuple((file, os.stat(file).st_mtime_ns, os.stat(file).st_size) for file in files)
    made = read_tokenizer(seen, tuple(options.items()))
    return copy.deepcopy(made, {id(kept): kept for kept in (made.encoder, made.decoder, made.bpe_ranks, made.cache)})


@functools.lru_cache(maxsize=4)
def read_tokenizer(files: tuple[tuple[str, int, int], ...], options: tuple[tuple[str, Any], ...]) -> Any:
    return CLIPTokenizer(*(file for file, _, _ in files), **dict(options))


def forget_accelerate() -> None:
    """accelerate keeps one state a process, and refuses another precision in it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


def has(package: str) -> bool:
    """Whether a package that the lock leaves out is installed."""
    return importlib.util.find_spec(package) is not None


def start(run: Run, total: int | None = None, **environment: str) -> subprocess.Popen:
    """The run's worker as a process of its own, as a host starts it."""
    command = [sys.executable, "-m", "dreambooth_ext.engine.worker", str(run.path)]
    with (run.path / "log.txt").open("ab") as stream:
        return subprocess.Popen(
            command + (["--total", str(total)] if total else []),
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def log(run: Run) -> str:
    """What went wrong, for an assertion's message."""
    said = [event for event in run.events.read() if event["type"] in ("error", "warning")]
    path = run.path / "log.txt"
    return "\n".join([*map(str, said), path.read_text(encoding="utf-8")[-3000:] if path.exists() else ""])


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    return [event for event in run.events.read() if event["type"] == kind]


def losses(run: Run) -> list[float]:
    return [event["loss"] for event in events(run, "step")]


def newest(run: Run) -> training_state.Checkpoint:
    return training_state.found(run.checkpoints)[-1]


def weights(run: Run, step: int | None = None) -> dict[str, Tensor]:
    """All trained weights of a training state (the newest), by "component/key"; copies."""
    state = newest(run) if step is None else training_state.Checkpoint(run.checkpoints / str(step))
    return {f"{name}/{key}": tensors[key].clone() for name, tensors in state.weights().items() for key in tensors}


def trainer_state(run: Run) -> dict[str, Any]:
    """The newest optimizer, EMA and scaler state."""
    return newest(run).trainer()


def artifact(run: Run) -> dict[str, Tensor]:
    """The finished model's tensors, as they are in the file; of several files, by "name/key"."""
    paths = sorted({run.artifacts / e["file"] for e in run.artifact_events() if e["final"]})
    found = {(path.stem, key): tensor.clone() for path in paths for key, tensor in tensors(path).items()}
    return {key if len(paths) == 1 else f"{name}/{key}": tensor for (name, key), tensor in found.items()}


def tensors(path: Path) -> dict[str, Tensor]:
    """All that are in a model's file."""
    from dreambooth_ext.engine.tensors.tensor_file import open_tensors
    from dreambooth_ext.engine.tensors.torch_pickle import load_pickle

    if path.is_dir():
        path = path / "unet" / "diffusion_pytorch_model.safetensors"
    return dict(flat(load_pickle(path))) if path.suffix == ".pt" else dict(open_tensors(path).items())


def flat(thing: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a nested structure, by their places in it."""
    if isinstance(thing, Tensor):
        yield place, thing
    elif isinstance(thing, Mapping | list | tuple):
        for key, inner in thing.items() if isinstance(thing, Mapping) else enumerate(thing):
            yield from flat(inner, f"{place}/{key}")


def difference(one: Any, other: Any, place: str = "") -> str:
    """Where two nested structures of tensors and numbers first differ, bit by bit; "" where they do not."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return "" if same else f"{place}: {one.flatten()[:4]} and {other.flatten()[:4]}"
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{place}: only one side has {sorted(map(str, one.keys() ^ other.keys()))[:5]}"
        pairs = [(key, one[key], other[key]) for key in one]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return f"{place}: {len(one)} and {len(other)} items"
        pairs = [(index, a, b) for index, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return "" if one == other else f"{place}: {one!r} and {other!r}"
    return next((found for key, a, b in pairs if (found := difference(a, b, f"{place}/{key}"))), "")


def assert_same_run(one: Run, other: Run) -> None:
    """Two runs came to the same weights and the same optimizer, EMA and scaler state, bit by bit."""
    assert newest(one).step == newest(other).step
    assert difference(weights(one), weights(other)) == ""
    assert difference(copy.copy(trainer_state(one)), trainer_state(other)) == ""


def work_in_child(path: str) -> None:
    """The run's worker in a process that was forked: what `start` does, without importing torch for seconds."""
    gc.freeze()  # else a run's own collections look through all that is imported
    torch.set_num_threads(1)
    with (Path(path) / "log.txt").open("a", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.exit(worker.main([path]))
