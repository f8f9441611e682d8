"""The plan of a run: settings left open are resolved from base and machine, and memory and disk space are estimated."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..core.checks import base_header, config_warnings
from ..core.checks.kept_gradients import BEFORE, are_kept
from ..core.config import devices, stages
from ..core.config.offload import AUTO as OPEN
from ..core.config.offload import OFF, offload_share
from ..core.config.rates import is_zero
from ..core.config.run_config import RunConfig
from ..core.config.stages import CompletedConfig, ResolvedConfig
from ..core.data.concepts import Subjects
from ..core.data.picture_entries import caches_latents
from ..core.errors import Problem, UserError
from ..core.facts.distribution import DDP, DIVIDED, FSDP
from ..core.facts.methods import FROZEN_METHODS, WHOLE_METHODS
from ..core.facts.optimizer_facts import AUTO, EVERYWHERE, state_bytes
from ..core.guide import completion
from ..core.messages.message import Message
from ..core.system import files
from ..core.verdict import measuring
from . import memory_choices
from .distribution import conditions as sharding
from .formats import hub_upload
from .memory_estimate import estimate, weight_bytes
from .methods import METHODS
from .models.base import Base
from .optimization.optimizer_creation import choose_optimizer, make_optimizer
from .quantisation.packings import PACKINGS, missing_packing
from .runtime import compilation, memory
from .runtime.device import choose_device
from .shards.opening import kept_bytes
from .streaming import conditions

PRECISION_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
SOUND: set[tuple] = set()  # bases that were fully checked: the deep check asks repeatedly
LOOKING = 3.0  # seconds to look for NaN and infinite weights
MEANWHILE = "meanwhile"  # of `Plan.encodes`
MARGIN = 512 * 2**20  # bytes of disk that stay free


@dataclass(frozen=True)
class Plan:
    """What a run will need. Sizes in bytes; memory is an estimate for the device that trains."""

    family: str
    unet_work: float | None  # multiplications for the same area, relative to Stable Diffusion 1
    usual_bytes: float | None  # of a 16-bit checkpoint of the family
    resolution: int
    pictures: int
    class_pictures: int
    held: int  # pictures that are not trained on
    measurements: int  # how often the run measures itself
    measuring: float  # share of its time that this takes
    steps: int
    epochs: float
    text_encoder_steps: int
    device: str
    processes: int
    distribution: str  # of several processes: one of `DISTRIBUTIONS`, never "auto"
    optimizer: str
    mixed_precision: str
    weight_precision: str
    frozen_precision: str
    clip_grad_mode: str
    offload: str
    vae_tiling: str
    compile: str
    encodes: str  # when pictures are encoded: "before" training, "meanwhile", or "always" in each step; "" if never
    memory: int
    memory_available: int  # all that the device has
    memory_free: int  # of that, what other programs leave free now
    disk: int
    disk_available: int

    def as_dict(self) -> dict:
        return asdict(self)


def resolve(config: CompletedConfig, base: Base) -> ResolvedConfig:
    """Resolve what `completion.fill_in` left open: resolution and the like from the base, "auto" from the machine.

    Optimizers are tried on the current card, so the device must be set before (`take_device`).
    """
    if devices.processes(config.device, config.processes) == 1:  # nothing is distributed
        return _resolved(config.replace(distribution=DDP), base)
    if config.distribution != AUTO:
        return _resolved(config, base)
    whole = _resolved(config.replace(distribution=DDP), base)
    if not _fits_card(whole, base):
        sharded = _resolved(config.replace(distribution=FSDP), base)
        if not sharding.problems(sharded) and _fits_card(sharded, base):
            return sharded
    return whole


def _fits_card(config: ResolvedConfig, base: Base) -> bool:
    """Whether the estimate fits all of the card's memory: not what is free of it now, in which the processes of a run
    differ. In a computer's memory, which they share, models are not sharded by themselves."""
    if not config.device.startswith("cuda"):
        return True
    return estimate(config, base, Subjects.of(config), draws=False) <= memory.total(torch.device(config.device))


def _resolved(config: CompletedConfig, base: Base) -> ResolvedConfig:
    """Return the same for a known `distribution`."""
    device = choose_device(config.device)
    cuda = device.type == "cuda"
    answers: dict[str, Any] = {"device": str(device), "processes": devices.processes(config.device, config.processes)}
    if config.attention == "auto":
        answers["attention"] = "sdpa"
    if config.resolution is None:
        answers["resolution"] = base.resolution
    if config.clip_skip is None:
        answers["clip_skip"] = base.family.text.clip_skip
    if config.prediction_type == "auto":
        answers["prediction_type"] = base.prediction_type
    if config.zero_terminal_snr is None:
        answers["zero_terminal_snr"] = bool(base.scheduler_config.get("rescale_betas_zero_snr"))
    if config.mixed_precision == "auto":
        answers["mixed_precision"] = half_precision(device) if cuda else "no"
    if config.optimizer == AUTO:
        is_divided = config.distribution in DIVIDED
        answers["optimizer"] = EVERYWHERE if is_divided else choose_optimizer(config.method, torch.device(device.type))
    if config.gradient_checkpointing is None:
        answers["gradient_checkpointing"] = device.type != "cpu"
    if config.offload == OPEN:
        answers["offload"] = OFF
    if config.clip_grad_mode == "auto":
        visits = offload_share(config.offload) > 0 and config.method in WHOLE_METHODS
        answers["clip_grad_mode"] = BEFORE if visits and not is_zero(config.max_grad_norm) else "norm"
    if config.weight_precision == "auto":
        answers["weight_precision"] = "fp32"
    if config.vae_tiling == "auto":
        answers["vae_tiling"] = "off"
    if config.frozen_precision == "auto":
        answers["frozen_precision"] = "bf16"
    answers["cache_latents"] = caches_latents(config, base.inpainting)
    if config.compile == "auto":
        answers["compile"] = "off"
    fitted = memory_choices.fitted(config, stages.resolved(config, **answers), base)
    is_worth = config.compile == "auto" and compilation.is_worth(fitted)
    return fitted.replace(compile="on") if is_worth else fitted


def half_precision(device: torch.device) -> str:
    """Return bf16 if the card computes in it (NVIDIA Ampere or newer), else fp16. `torch.cuda.is_bf16_supported` also
    returns True for older cards, which emulate it many times slower, and checks the current card instead of this
    one."""
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def problems(config: ResolvedConfig, base: Base) -> list[Problem]:
    """Return the conflicts between a resolved config, its base and this machine."""
    found = base_header.flow_problems(f"{config.base_model} {base.name}", base.family.name)
    if config.cache_latents and base.inpainting:
        found.append(Problem("plan.inpainting_cache", "cache_latents"))
    if config.mixed_precision == "fp16" and not config.device.startswith("cuda"):
        found.append(Problem("plan.fp16_device", "mixed_precision", device=config.device))
    if config.latent_sampling != "random" and not config.cache_latents:
        found.append(Problem("plan.latents_not_cached", "latent_sampling"))
    found += _optimizer_problems(config) + _weight_problems(config)
    found += _frozen_problems(config) + _xformers_problems(config)
    found += conditions.problems(config) + sharding.problems(config)
    if config.compile == "on" and (why := compilation.obstacle(config)):
        found.append(Problem("plan.compile_impossible", "compile", reason=why))
    if config.zero_terminal_snr and config.prediction_type == "epsilon":
        found.append(Problem("settings.last_timestep", "zero_terminal_snr"))
    if config.text_encoder_2_lr is not None and len(base.family.text.slots) < 2:
        found.append(Problem("plan.one_text_encoder", "text_encoder_2_lr", family=base.family.title))
    found += _broken(base) + METHODS[config.method].problems(config, base)
    found += hub_upload.problems(config)
    if base.text_layers and config.clip_skip > (layers := min(base.text_layers)):
        found.append(Problem("plan.clip_skip", "clip_skip", layers=layers))
    return found


def warnings(asked: CompletedConfig, config: ResolvedConfig, base: Base) -> list[Problem]:
    """Return warnings about the files that a run starts from, and what was chosen because memory is short. They do not
    prevent training."""
    chosen = memory_choices.warnings(asked, config) + _process_warnings(asked, config)
    return [*chosen, *base.warnings, *METHODS[config.method].warnings(config, base)]


def _process_warnings(asked: CompletedConfig, config: ResolvedConfig) -> list[Problem]:
    """Warn of what several processes do otherwise than one, in which all gradients are there before any is used, and
    where there is only one that is to share the model."""
    if config.processes == 1 and asked.distribution in DIVIDED:
        return [Problem("plan.alone", "distribution")]
    if config.processes == 1 or asked.clip_grad_mode != BEFORE or are_kept(asked):  # else that has been said
        return []
    return [Problem("plan.clip_with_processes", "clip_grad_mode", count=config.processes)]


def _broken(base: Base) -> list[Problem]:
    """Return a problem if the base has NaN or infinite weights. With very large files on slow disks, some are only
    found when they are loaded."""
    files = base.files
    state = (files.digest, *(path.stat().st_mtime_ns for path in files.paths.values() if path.exists()))
    try:
        if state not in SOUND and base.require_sound(LOOKING):
            SOUND.add(state)
    except UserError as error:
        return [error.problem]
    return []


def _optimizer_problems(config: ResolvedConfig) -> list[Problem]:
    """Return errors of the optimizer and its arguments, tried on a single parameter."""
    parameter = torch.nn.Parameter(torch.zeros(1, device=config.device))
    try:
        make_optimizer(config, [{"name": "unet", "params": [parameter], "rate": 1e-6}])
    except UserError as error:
        return [error.problem]
    return []


def _weight_problems(config: ResolvedConfig) -> list[Problem]:
    """Return errors of weights in bfloat16, which are computed with as they are."""
    if config.weight_precision == "bf16" and config.mixed_precision != "bf16":
        return [Problem("plan.bf16_weights_alone", "weight_precision", precision=config.mixed_precision)]
    return []


def _frozen_problems(config: ResolvedConfig) -> list[Problem]:
    """Return an error if the base's weights cannot be packed on this device as they should be."""
    if config.method not in FROZEN_METHODS or config.frozen_precision not in PACKINGS:
        return []
    reason = missing_packing(config.frozen_precision, config.device)
    known: dict[str, Any] = {"precision": config.frozen_precision, "reason": reason}
    return [Problem("plan.frozen_precision_fails", "frozen_precision", **known)] if reason else []


def _xformers_problems(config: ResolvedConfig) -> list[Problem]:
    if config.attention != "xformers":
        return []
    if not config.device.startswith("cuda"):
        return [Problem("plan.xformers_no_card", "attention")]
    try:
        import xformers.ops

        # fails if there is no kernel for this torch and card
        query = torch.zeros(1, 2, 40, device=config.device)
        xformers.ops.memory_efficient_attention(query, query, query)
    except (ImportError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return [Problem("plan.xformers_fails", "attention", error=lines[0])]
    return []


def disk_need(config: ResolvedConfig, base: Base, steps: int, epochs: float) -> int:
    """Return the most bytes that the run has on disk: training states, one more while the oldest is replaced, and
    models."""
    part = METHODS[config.method].share(config, base)
    weight = weight_bytes(config)
    learning = part.learning * (weight + state_bytes(config.optimizer, config.optimizer_args, weight))
    state = int(learning) + (4 * part.unet if config.use_ema else 0)
    saves = completion.saves_on_the_way(config, steps, epochs)
    states = min(saves + 1, (config.checkpoints_total_limit or saves) + 1)
    models = (saves if config.save_intermediate_models else 0) + 1
    return kept_bytes(config) + state * states + part.model * PRECISION_BYTES[config.save_precision] * models


def resource_problems(plan: Plan, config: ResolvedConfig) -> list[Problem]:
    """Return problems of too little disk space or memory, before anything is loaded."""
    found = []
    if plan.disk + MARGIN > plan.disk_available:
        need, there = files.human_size(plan.disk + MARGIN), files.human_size(plan.disk_available)
        found.append(Problem("plan.disk", "checkpointing_steps", need=need, free=there))
    if plan.memory > plan.memory_available:
        need, there = files.human_size(plan.memory), files.human_size(plan.memory_available)
        about: dict[str, Any] = {"need": need, "device": plan.device, "total": there}
        found.append(Problem("plan.memory", "train_batch_size", **about, remedies=memory_remedies(config)))
    return found


def resource_warnings(plan: Plan, config: ResolvedConfig) -> list[Problem]:
    """Warn if the device has enough memory but other programs use it now. A WebUI that starts the run unloads its model
    first, so this is no reason to refuse."""
    if not plan.memory_free < plan.memory <= plan.memory_available:
        return []
    need, free, total = map(files.human_size, (plan.memory, plan.memory_free, plan.memory_available))
    *ours, theirs = memory_remedies(config)
    code = "plan.memory_taken" if plan.device == "cpu" else "plan.memory_taken_on_card"
    about: dict[str, Any] = {"need": need, "free": free, "total": total, "device": plan.device}
    return [Problem(code, "device", **about, remedies=[theirs, *ours])]


def memory_remedies(config: RunConfig) -> list[Message]:
    """Return remedies for too little memory, the most effective first. The config may be unresolved."""
    return config_warnings.out_of_memory_remedies(config, config.resolution or 0, bool(config.gradient_checkpointing))


def length(config: ResolvedConfig, pictures: int) -> tuple[int, float]:
    """Return the steps and epochs of a run on so many pictures, 0 epochs on shards; an estimate with aspect ratio
    buckets, whose last batches are smaller."""
    if config.train_shards_path_or_url:
        return config.max_train_steps or 0, 0.0
    batches = max(1, math.ceil(pictures / config.train_batch_size))  # of an epoch; its last one may be smaller
    at_once = config.gradient_accumulation_steps * config.processes
    steps = config.max_train_steps or math.ceil((config.num_train_epochs or 1) * batches / at_once)
    return steps, steps * at_once / batches


def when_encoded(config: ResolvedConfig, base: Base, subjects: Subjects, draws: bool, room: int) -> str:
    """Return when pictures are encoded (`Plan.encodes`): each when a step first needs it, unless the VAE has no room
    beside what trains. room: bytes of memory; draws: whether class pictures are still to be drawn."""
    if not base.parameter_counts()["vae"]:
        return ""
    if not config.cache_latents:
        return "always"
    return MEANWHILE if estimate(config, base, subjects, draws=draws, meanwhile=True) <= room else "before"


def make_plan(
    config: ResolvedConfig,
    base: Base,
    subjects: Subjects,
    pictures: int,
    class_pictures: int,
    steps: int,
    epochs: float,
    free: int,
    missing: int,
    held: int = 0,
    encodes: str | None = None,
) -> Plan:
    """Make the plan of a resolved config. free: bytes free on the disk of the runs folder; missing: how many of the
    class pictures are still to be drawn; held: how many pictures are not trained on; encodes: what an earlier plan of
    the run says."""
    measures = measuring.planned(config, steps, pictures=pictures, held=held, classes=class_pictures)
    device = torch.device(config.device)
    total, unused = memory.total(device), memory.free(device)
    if encodes is None:
        encodes = when_encoded(config, base, subjects, missing > 0, min(total, unused))
    return Plan(
        family=base.family.title,
        unet_work=base.family.denoiser.work,
        usual_bytes=base.family.usual_bytes,
        resolution=config.resolution,
        pictures=pictures,
        class_pictures=class_pictures,
        held=held,
        measurements=len(measures.steps),
        measuring=measures.share,
        steps=steps,
        epochs=round(epochs, 2),
        text_encoder_steps=min(steps, config.text_encoder_steps or 0),
        device=config.device,
        processes=config.processes,
        distribution=config.distribution,
        optimizer=config.optimizer,
        mixed_precision=config.mixed_precision,
        weight_precision=config.weight_precision,
        frozen_precision=config.frozen_precision,
        clip_grad_mode=config.clip_grad_mode,
        offload=config.offload,
        vae_tiling=config.vae_tiling,
        compile=config.compile,
        encodes=encodes,
        memory=estimate(config, base, subjects, draws=missing > 0, meanwhile=encodes == MEANWHILE),
        memory_available=total,
        memory_free=unused,
        disk=disk_need(config, base, steps, epochs),
        disk_available=free,
    )
