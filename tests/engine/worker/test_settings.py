"""No setting is without effect: each one, changed in a run that uses it, is seen in what the run made.

A new setting needs a row here: where to look, another value, and what else has to be set for it to matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dreambooth_ext.core.config import devices
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.data import hub_dataset
from dreambooth_ext.engine.formats import hub_upload
from dreambooth_ext.engine.runtime import compilation
from dreambooth_ext.engine.streaming import conditions
from tests import shards, tiny, training
from tests.training import Trainer

# --- where to look


def learned(run: Run) -> str:
    """The trained weights, to the last bit."""
    return digest(training.weights(run))


def model(run: Run) -> str:
    """The finished model's numbers, to the last bit."""
    return digest(training.artifact(run))


def digest(tensors: dict[str, torch.Tensor]) -> str:
    made = hashlib.sha256()
    for key in sorted(tensors):
        made.update(key.encode() + str(tensors[key].dtype).encode())
        made.update(tensors[key].detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return made.hexdigest()


def steps(run: Run) -> int:
    return len(training.losses(run))


def names(run: Run) -> list[str]:
    """The files that a run leaves, without those that belong to one process."""
    kept = ("artifacts", "checkpoints", "samples", "tensorboard")
    files = [path.relative_to(run.path).parts for path in run.path.rglob("*")]
    return sorted({"/".join(parts[:2]) if parts[0] == "tensorboard" else "/".join(parts) for parts in files
                   if parts[0] in kept and len(parts) > 1 and "tfevents" not in parts[-1]}
                  | {parts[0] for parts in files if parts[0] == "tensorboard"})  # fmt: skip


def states(run: Run) -> list[int]:
    return sorted(int(path.name) for path in run.checkpoints.iterdir())


def validated(run: Run) -> list[int]:
    return [event["step"] for event in training.events(run, "validation")]


def measured(run: Run) -> list[int]:
    return [event["step"] for event in training.events(run, "measurement")]


def kept_back(run: Run) -> tuple[int, int]:
    return run.state()["plan"]["pictures"], run.state()["plan"]["held"]


def previews(run: Run) -> list[tuple[str, str]]:
    drawn = sorted(run.samples.glob("*/*.png"))
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in drawn]


def carried(run: Run) -> set[bool]:
    found = set()
    for path in run.samples.glob("*/*.png"):
        with Image.open(path) as picture:
            found.add("sd-ti-embedding" in picture.text)
    return found


def class_pictures(run: Run) -> int:
    return run.state()["plan"]["class_pictures"]


def stages(run: Run) -> list[str]:
    return sorted({event["stage"] for event in training.events(run, "status") if "stage" in event})


def names_of_weights(run: Run) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in training.artifact(run).values()]


def uploads(run: Run) -> list[tuple[str, bool]]:
    return UPLOADS.get(run.id, [])


def latents(run: Run) -> int:
    return len(list((run.path.parent / "latents").rglob("*.latents")))


# --- what matters when

PRIOR = {"class_prompt": "a photo of a person", "num_class_images": 2}
CAPTIONS = {"use_captions": True, "instance_prompt": None, "method": "finetune"}
TAGS = {**CAPTIONS, "shuffle_tags": True, "max_train_steps": 4}
PREVIEWS = {"validation_prompts": ["a photo of sksper person"], "validation_steps": 2}
TEXT = {"text_encoder_steps": 2, "text_encoder_lr": 1e-3}
MULTIRES = {"multires_noise_iterations": 4}
SAVES = {"checkpointing_steps": 1, "max_train_steps": 3}
MEASURED = {"max_train_steps": 48, "train_batch_size": 3, "gradient_accumulation_steps": 6}
LONG = {"instance_prompt": "sksper person, " + "and so on, " * 40, "max_token_length": 75}
V = {"base_model": "v"}
XL = {"base_model": "sdxl", **TEXT}
LORA = {"method": "lora", "rank": 4}
CONVOLUTIONS = {**LORA, "target_modules": ["attention", "convolutions"]}
HYPER = {"method": "hypernetwork"}
TAUGHT = {"method": "textual_inversion", "instance_prompt": None, "prompt_template": "subject"}
PIVOTAL = {**LORA, "placeholder_token": "sksper", "embedding_lr": 1e-2, "embedding_steps": 2}
WIDE = {"instance_data_dir": "wide"}
MASKED = {"instance_data_dir": "masked"}
PIXELS = {"method": "unconditional"}
GRIDS = {**PIXELS, "validation_steps": 2}
AVERAGE = {**PIXELS, "use_ema": True, "max_train_steps": 3}
UNNAMED = {"method": "finetune", "instance_data_dir": "", "instance_prompt": None}
PUSHED = {"push_to_hub": True, "max_train_steps": 1}

# setting: where to look, another value, what else is set. "wide" and the like are made by the fixture `lab`.
SEEN: dict[str, tuple[Callable[[Run], Any], Any, dict[str, Any]]] = {
    "method": (learned, "finetune", {"instance_prompt": "a cat", "use_captions": None}),
    "name": (names, "other", {}),
    "base_model": (learned, "other", {}),
    "subject_type": (learned, "style", {"offset_noise": None}),
    "prediction_type": (learned, "v_prediction", {}),
    "instance_data_dir": (learned, "other", {}),
    "instance_prompt": (learned, "a cat", {}),
    "class_prompt": (learned, "a photo of a dog", PRIOR),
    "class_data_dir": (learned, "class", PRIOR),
    "with_prior_preservation": (learned, False, {"class_prompt": "a person", "class_data_dir": "class"}),
    "num_class_images": (class_pictures, 1, PRIOR),
    "prior_loss_weight": (learned, 0.5, PRIOR),
    "concepts": (learned, "concepts", {"instance_data_dir": "", "instance_prompt": None}),
    "resolution": (learned, 128, {}),
    "enable_bucket": (learned, True, {**WIDE, "resolution": 256}),
    "center_crop": (learned, False, WIDE),
    "random_flip": (learned, True, {}),
    "use_captions": (learned, True, {}),
    "caption_extension": (learned, ".words", CAPTIONS),
    "shuffle_tags": (learned, True, CAPTIONS),
    "keep_tokens": (learned, 2, TAGS),
    "caption_dropout": (learned, 1.0, CAPTIONS),
    "cache_latents": (stages, False, {}),
    "cache_latents_to_disk": (latents, True, {}),
    "latent_sampling": (learned, "deterministic", {}),
    "alpha_as_loss_weight": (learned, True, {"instance_data_dir": "clear"}),
    "masked_loss": (learned, True, MASKED),
    "mask_dir": (learned, "masks", {**MASKED, "masked_loss": True}),
    "unmasked_weight": (learned, 0.5, {**MASKED, "masked_loss": True}),
    "normalize_masked_area_loss": (learned, False, {**MASKED, "masked_loss": True, "optimizer": "sgd"}),
    "masked_prior_preservation_weight": (learned, 1.0, {**MASKED, "masked_loss": True}),
    "dataset_config": (learned, "kohya", {"instance_data_dir": "", "instance_prompt": None, "method": "finetune"}),
    "repeats_from_folders": (learned, True, {"instance_data_dir": "folders", "max_train_steps": 3}),
    "balance_folders": (learned, True, {"instance_data_dir": "folders", "max_train_steps": 3}),
    "captions_per_picture": (
        learned,
        "random",
        {**CAPTIONS, "instance_data_dir": "folders", "caption_extension": ".lines"},
    ),
    "caption_column": (learned, "prompt", {**CAPTIONS, "instance_data_dir": "folders"}),
    "tag_dropout": (learned, 0.7, CAPTIONS),
    "caption_separator": (learned, "e", {**CAPTIONS, "tag_dropout": 0.7}),
    "validation_split": (learned, 1, {}),
    "train_shards_path_or_url": (learned, "shards", UNNAMED),
    "shuffle_buffer": (learned, 1, {**UNNAMED, "train_shards_path_or_url": "shards"}),
    "validation_loss_steps": (validated, 1, {"validation_split": 1, "validation_loss_steps": 2}),
    "measure_progress": (measured, False, MEASURED),
    "keep_back_pictures": (kept_back, False, {"instance_data_dir": "eleven"}),
    "stop_when_good": (steps, True, MEASURED),
    "max_train_steps": (steps, 3, {}),
    "num_train_epochs": (steps, 1, {"max_train_steps": None, "num_train_epochs": 2}),
    "train_batch_size": (learned, 2, {}),
    "gradient_accumulation_steps": (learned, 2, {}),
    "learning_rate": (learned, 5e-4, {}),
    "text_encoder_lr": (learned, 5e-4, TEXT),
    "text_encoder_2_lr": (learned, 5e-4, XL),
    "text_encoder_steps": (learned, 1, TEXT),
    "lr_scheduler": (learned, "linear", {}),
    "lr_warmup_steps": (learned, 1, {"lr_scheduler": "linear"}),
    "lr_num_cycles": (learned, 2, {"lr_scheduler": "cosine_with_restarts", "max_train_steps": 4}),
    "lr_power": (learned, 2.0, {"lr_scheduler": "polynomial"}),
    "optimizer": (learned, "lion", {}),
    "optimizer_args": (learned, {"betas": [0.5, 0.9]}, {}),
    "weight_decay": (learned, 0.5, {}),
    "max_grad_norm": (learned, 0.01, {"optimizer": "sgd"}),
    "clip_grad_mode": (learned, "value", {"optimizer": "sgd", "max_grad_norm": 1e-4}),
    "clip_skip": (learned, 2, {}),
    "max_token_length": (learned, 150, LONG),
    "use_ema": (model, True, {}),
    "ema_decay": (model, 0.1, {"use_ema": True, "max_train_steps": 3}),
    "seed": (learned, 8, {}),
    "loss_type": (learned, "l1", {}),
    "huber_c": (learned, 0.5, {"loss_type": "huber"}),
    "huber_schedule": (learned, "constant", {"loss_type": "smooth_l1"}),
    "network_type": (learned, "loha", LORA),
    "rank": (learned, 8, LORA),
    "alpha": (learned, 1.0, LORA),
    "text_encoder_rank": (learned, 2, {**LORA, **TEXT}),
    "conv_rank": (learned, 2, CONVOLUTIONS),
    "target_modules": (learned, ["attention"], LORA),
    "block_ranks": (learned, {"mid_block": 2}, LORA),
    "network_dropout": (learned, 0.5, LORA),
    "use_rslora": (learned, True, LORA),
    "loraplus_lr_ratio": (learned, 4.0, LORA),
    "lokr_factor": (learned, 2, {**LORA, "network_type": "lokr"}),
    "network_weights": (learned, "lora", {"method": "lora"}),
    # not by what a state keeps: that also says what the network is
    "enable_sizes": (training.losses, [16], HYPER),
    "layer_structure": (training.losses, [1, 2, 2, 1], HYPER),
    "activation": (training.losses, "swish", HYPER),
    "activate_output": (training.losses, True, {**HYPER, "activation": "swish"}),
    "weight_init": (training.losses, "XavierUniform", HYPER),
    "layer_norm": (training.losses, True, HYPER),
    "dropout": (training.losses, [0, 0.5, 0], HYPER),
    "hypernetwork_weights": (training.losses, "hypernetwork", HYPER),
    "placeholder_token": (learned, "aaa, bbb", TAUGHT),
    "initializer_token": (learned, "red cat", TAUGHT),
    "num_vectors": (learned, 2, TAUGHT),
    "prompt_template": (learned, "style", TAUGHT),
    "embedding_norm": (learned, 0.5, TAUGHT),
    "embedding_weights": (learned, "embedding", TAUGHT),
    "embedding_lr": (learned, 1e-3, PIVOTAL),
    "embedding_steps": (learned, 1, PIVOTAL),
    "bundle_embedding": (names, False, PIVOTAL),
    "save_image_with_embedding": (carried, True, {**TAUGHT, **PREVIEWS}),
    "snr_gamma": (learned, 1.0, {"min_timestep": 0, "max_timestep": 300}),
    "debiased_estimation": (learned, True, {}),
    "offset_noise": (learned, 0.1, {}),
    "adaptive_noise_scale": (learned, 0.5, {}),
    "multires_noise_iterations": (learned, 4, {}),
    "multires_noise_discount": (learned, 0.8, MULTIRES),
    "ip_noise_gamma": (learned, 0.1, {}),
    "min_timestep": (learned, 900, {}),
    "max_timestep": (learned, 100, {}),
    "zero_terminal_snr": (learned, True, V),
    "mixed_precision": (learned, "bf16", {}),
    "weight_precision": (learned, "bf16", {"mixed_precision": "bf16"}),
    "vae_tiling": (learned, "on", {}),
    "frozen_precision": (learned, "int8", {"method": "lora"}),
    "checkpointing_steps": (states, 1, {}),
    "save_every_n_epochs": (
        states,
        1,
        {"instance_data_dir": "other", "max_train_steps": 4, "checkpointing_steps": 0, "checkpoints_total_limit": None},
    ),
    "checkpointing_start_step": (states, 2, {**SAVES, "checkpoints_total_limit": None}),
    "checkpoints_total_limit": (states, 1, SAVES),
    "save_intermediate_models": (names, False, SAVES),
    "save_precision": (model, "bf16", {}),
    "save_format": (names, "ckpt", {}),
    "validation_prompts": (previews, ["a house"], PREVIEWS),
    "validation_steps": (names, 1, PREVIEWS),
    "validation_negative_prompt": (previews, "ugly", PREVIEWS),
    "validation_num_images": (names, 2, PREVIEWS),
    "validation_inference_steps": (previews, 2, PREVIEWS),
    "validation_guidance_scale": (previews, 3.0, PREVIEWS),
    "validation_sampler": (previews, "Euler a", {**PREVIEWS, "validation_inference_steps": 3}),
    "validation_seed": (previews, 3, PREVIEWS),
    "report_to": (names, "tensorboard", {}),
    "train_data_dir": (learned, "other", PIXELS),
    "dataset_name": (learned, "me/other", PIXELS),
    "model_config": (names_of_weights, "wide_config", PIXELS),
    "ddpm_num_steps": (learned, 500, {**PIXELS, "ddpm_num_inference_steps": 2}),
    "ddpm_beta_schedule": (learned, "squaredcos_cap_v2", PIXELS),
    "ddpm_num_inference_steps": (previews, 3, GRIDS),
    "ema_inv_gamma": (model, 10.0, AVERAGE),
    "ema_power": (model, 0.1, AVERAGE),
    "push_to_hub": (uploads, True, {"max_train_steps": 1}),
    "hub_model_id": (uploads, "me/other", PUSHED),
    "hub_private_repo": (uploads, True, PUSHED),
    # They change how, not what, is computed: a look at the model that is set up, below.
    "gradient_checkpointing": (lambda run: SET_UP[run.id], True, {}),
    "attention": (lambda run: SET_UP[run.id], "eager", {}),
    "compile": (lambda run: SET_UP[run.id], "on", {}),
    "offload": (lambda run: SET_UP[run.id], "0.5", {"max_grad_norm": 0}),
    # What several processes share; tests/engine/distribution has it trained
    "distribution": (lambda run: run.config.distribution, "fsdp", {}),
    # How many the launcher starts; tests/engine/launching has them trained
    "processes": (lambda run: devices.processes(run.config.device, run.config.processes), 2, {}),
    "device": (lambda run: DEVICES[run.id], "cpu:0", {}),  # the same place, under a name that torch keeps apart
}
SET_UP: dict[str, tuple] = {}
UPLOADS: dict[str, list[tuple[str, bool]]] = {}
DEVICES: dict[str, str] = {}


def clear(folder: Path) -> str:
    """Pictures whose left half is transparent."""
    for path in Path(training.pictures(folder)).glob("*.png"):
        with Image.open(path) as picture:
            alpha = Image.new("L", picture.size)
            alpha.paste(255, (32, 0, 64, 64))
            picture.putalpha(alpha)
            picture.save(path)
    return str(folder)


def masked(folder: Path, mark: str, box: tuple[int, int, int, int] = (32, 0, 64, 64)) -> str:
    """Pictures with masks beside them; without a mark, masks alone."""
    for path in Path(training.pictures(folder)).glob("*.png"):
        mask = Image.new("L", (64, 64))
        mask.paste(255, box)
        mask.save(path.with_name(f"{path.stem}{mark}.png"))
    return str(folder)


class Lab:
    """Everything that rows can name, and each run made once."""

    def __init__(self, folder: Path):
        self.trainer = Trainer(folder)
        (folder / "unconditional").mkdir()
        self.pixels = Trainer(folder / "unconditional", **training.pixel_settings(folder / "unconditional"))
        self.known = {
            ("base_model", "v"): tiny.single_file(folder, "sd2", prediction_type="v_prediction"),
            ("base_model", "sdxl"): tiny.single_file(folder, "sdxl"),
            ("base_model", "other"): tiny.single_file(folder, name="other", seed=1),
            ("instance_data_dir", "wide"): training.pictures(folder / "wide", sizes=((320, 192),)),
            ("instance_data_dir", "other"): training.pictures(folder / "other", 2),
            ("instance_data_dir", "eleven"): training.pictures(folder / "eleven", 11),
            ("instance_data_dir", "clear"): clear(folder / "clear"),
            ("instance_data_dir", "masked"): masked(folder / "masked", "-masklabel"),
            ("mask_dir", "masks"): masked(folder / "masks_apart", "", (0, 0, 64, 16)),
            ("train_data_dir", "other"): folder / "other",
            ("model_config", "wide_config"): tiny.pixel_config(folder / "wide", block_out_channels=[16, 16]),
            ("train_shards_path_or_url", "shards"): shards.write(folder / "shards", (4, 4)),
            ("class_data_dir", "class"): training.pictures(folder / "class", 2, sizes=((80, 80),)),
        }
        folders = folder / "folders"
        training.pictures(folders / "3_few", 1)
        training.pictures(folders / "many", 4)
        rows = [{"file_name": p.relative_to(folders).as_posix(), "text": f"a thing {p.name}", "prompt": f"a {p.name}"}
                for p in sorted(folders.glob("*/*.png"))]  # fmt: skip
        (folders / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        for row in rows:
            (folders / row["file_name"]).with_suffix(".lines").write_text("one thing\nanother", encoding="utf-8")
        self.known["instance_data_dir", "folders"] = str(folders)
        (folder / "kohya.toml").write_text(
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'other'\nclass_tokens = 'x'", encoding="utf-8"
        )
        self.known["dataset_config", "kohya"] = str(folder / "kohya.toml")
        lora = self.trainer.train(method="lora", max_train_steps=1)
        self.known["network_weights", "lora"] = lora.artifacts / "taught.safetensors"
        hypernetwork = self.trainer.train(method="hypernetwork", max_train_steps=1)
        self.known["hypernetwork_weights", "hypernetwork"] = hypernetwork.artifacts / "taught.pt"
        word = self.trainer.train(**TAUGHT, max_train_steps=1)
        self.known["embedding_weights", "embedding"] = word.artifacts / "taught.safetensors"
        for picture in Path(training.pictures(folder / "pictures", captions=True)).glob("*.png"):
            picture.with_suffix(".words").write_text("a blue thing, at night", encoding="utf-8")
        self.runs: dict[str, Run] = {}

    def run(self, settings: dict[str, Any]) -> Run:
        given = {"max_train_steps": 2, **settings}
        paths = ("_dir", "_model", "_weights", "_config", "_url")
        given = {key: str(self.known.get((key, value), value)) if key.endswith(paths) else value
                 for key, value in given.items()}  # fmt: skip
        if given.get("concepts") == "concepts":
            folder = self.trainer.settings["instance_data_dir"]
            given["concepts"] = [{"instance_data_dir": folder, "instance_prompt": "a cat"}]
        elif given.get("instance_data_dir") == "" and not {"dataset_config", "train_shards_path_or_url"} & given.keys():
            del given["instance_data_dir"], given["instance_prompt"]
        if "dataset_name" in given:
            given["train_data_dir"] = ""
        if given.get("with_prior_preservation") is False:
            given.pop("class_data_dir", None)  # which would have no effect
        key = json.dumps(given, sort_keys=True)
        if key not in self.runs:
            trainer = self.pixels if given.get("method") == "unconditional" else self.trainer
            self.runs[key] = trainer.train(**given)
        return self.runs[key]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    """Note how the UNet was set up, and where. tests/engine/runtime/test_compilation.py compiles it."""
    monkeypatch.setattr(compilation, "compile_blocks", lambda *given: None)
    original = worker.make_method

    def made(config, base, dataset, run, accelerator, *others):
        method = original(config, base, dataset, run, accelerator, *others)
        unet = method.backbone.unet
        processors = {type(processor).__name__ for processor in getattr(unet, "attn_processors", {}).values()}
        outside = sorted(unit.name for streaming in method.backbone.streamings for unit in streaming.units)
        SET_UP[run.id] = (unet.is_gradient_checkpointing, sorted(processors), config.compile, outside)
        DEVICES[run.id] = str(accelerator.device)
        return method

    monkeypatch.setattr(worker, "make_method", made)
    monkeypatch.setattr(conditions, "problems", lambda config: [])  # a CPU is refused


@pytest.fixture(autouse=True)
def hub_of_our_own(monkeypatch, lab):
    """No test reaches Hugging Face: what would be fetched is a folder, what would be uploaded is noted."""

    def pushed(config: RunConfig, base: str, path: Path, *others) -> str:
        repository = config.hub_model_id or config.name
        UPLOADS[path.parents[1].name] = [(repository, config.hub_private_repo)]
        return repository

    monkeypatch.setattr(hub_upload, "push", pushed)
    monkeypatch.setattr(hub_upload, "get_token", lambda: "a token")
    monkeypatch.setattr(hub_dataset, "fetch", lambda name, revision, stage: lab.known["train_data_dir", "other"])


def test_every_setting_has_its_row():
    assert set(SEEN) == set(SETTINGS)


@pytest.mark.parametrize("name", SEEN)
def test_the_setting_is_seen(lab, name):
    look, value, others = SEEN[name]
    without = look(lab.run(others))
    assert look(lab.run({**others, name: value})) != without
