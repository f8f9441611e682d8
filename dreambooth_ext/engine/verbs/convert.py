"""The verb `convert`: convert a model between checkpoint and diffusers folder, in any precision."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import diffusers
import torch

from ...core.errors import UserError
from ...core.system.files import free_bytes, human_size, replacing, write_json, write_text
from ...core.system.terminal import say
from ...core.verbs.convert_options import SINGLE_FILES
from ..downloads.progress_thread import Fetch, TerminalStage
from ..formats.checkpoint_file import configuration, marks, unchanged
from ..formats.metadata import HASH_KEY, HASH_TO_COME
from ..formats.verified_write import PRECISIONS, write_verified
from ..models.base_model import LatentBase, open_base
from ..tensors.lazy_tensor import is_finite
from ..tensors.tensor_file import PICKLE_SUFFIXES
from ..tensors.torch_pickle import STORAGES


def run(arguments: argparse.Namespace) -> Path:
    """Convert as the command line asks (`convert_options.add_arguments`) and return the path written."""
    target = Path(arguments.target)
    to_file = target.suffix.lower() in SINGLE_FILES
    yaml = target.with_suffix(".yaml")
    for path in (target, yaml) if to_file else (target,):
        if path.exists() and not arguments.overwrite:
            raise UserError("command.exists", "DST", path=str(path))
    if target.exists() and target.is_dir() == to_file:
        raise UserError("command.is_folder" if to_file else "command.is_file", "DST", path=str(target))
    if target.is_dir() and any(target.iterdir()) and not (target / "model_index.json").is_file():
        raise UserError("command.not_a_model", "DST", path=str(target))
    base = open_base(arguments.source, field="SRC", fetch=Fetch(TerminalStage()))
    say(*(f"warning: {warning}" for warning in base.warnings))
    base.require_sound()
    dtype = PRECISIONS.get(arguments.precision)
    if to_file:
        to_single_file(base, target, dtype, arguments.precision)
    else:
        to_folder(base, target, dtype)
    return target


def to_single_file(base: LatentBase, target: Path, dtype: torch.dtype | None, precision: str) -> None:
    """Write all tensors of the model under single-file keys, and the yaml if the WebUI needs one."""
    metadata = dict(base.metadata)
    if HASH_KEY in metadata:
        metadata[HASH_KEY] = HASH_TO_COME
    yaml = configuration(base, target)
    with replacing(target) as temporary:
        state = {**marks(base, zero_terminal_snr=False), **unchanged(base, dtype)}
        if temporary.suffix in PICKLE_SUFFIXES and any(tensor.dtype not in STORAGES for tensor in state.values()):
            raise UserError("command.fp8_in_pickle", "precision", name=target.name, base=base.name)
        write_verified(state, temporary, metadata, precision)
        base.close()  # Windows cannot replace a file that is mapped
        if yaml is None:
            target.with_suffix(".yaml").unlink(missing_ok=True)
        else:
            write_text(target.with_suffix(".yaml"), yaml)


def to_folder(base: LatentBase, target: Path, dtype: torch.dtype | None) -> None:
    """Write a diffusers pipeline, part by part, so that only one is in memory."""
    parts = base.family.components
    dtypes = {name: dtype or stored_in(base, name) for name in parts}
    counts = base.parameter_counts()
    needed = sum(counts.values()) * max(d.itemsize for d in dtypes.values())
    if free_bytes(target) < needed:
        need, free = human_size(needed), human_size(free_bytes(target))
        raise UserError("command.disk", "DST", need=need, free=free)
    index: dict[str, Any] = {
        "_class_name": base.family.pipeline + ("InpaintPipeline" if base.inpainting else "Pipeline"),
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DDIMScheduler"],
        **base.family.pipeline_index,
    }
    with replacing(target) as temporary:
        index["unet"] = save_part(base.unet(dtypes["unet"]), temporary / "unet")
        index["vae"] = save_part(base.vae(dtypes["vae"]), temporary / "vae")
        names = parts[2:]
        for name, encoder, tokenizer in zip(
            names, base.text_encoders(dtypes[names[-1]]), base.tokenizers(), strict=True
        ):
            index[name] = save_part(encoder, temporary / name)
            folder = name.replace("text_encoder", "tokenizer")
            tokenizer.save_pretrained(temporary / folder)
            index[folder] = ["transformers", "CLIPTokenizer"]
        scheduler = {**base.scheduler_config, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
        diffusers.DDIMScheduler.from_config(scheduler).save_pretrained(temporary / "scheduler")
        write_json(temporary / "model_index.json", index)
        base.close()


def stored_in(base: LatentBase, component: str) -> torch.dtype:
    """Return the dtype that can hold all of a part: its own, or the widest one if the part is partly in fp8."""
    found = [tensor.dtype for tensor in base.ldm_tensors(component).values()]
    return found[0] if found[0].itemsize > 1 else max(found, key=lambda dtype: dtype.itemsize)


def save_part(module: torch.nn.Module, folder: Path) -> list[str]:
    """Save a part and return its library and class for model_index.json."""
    for key, tensor in module.state_dict().items():
        if not is_finite(tensor):
            raise UserError("command.numbers_too_large", "precision", key=key, part=folder.name)
    module.save_pretrained(folder)
    return ["transformers" if folder.name.startswith("text") else "diffusers", type(module).__name__]
