"""Checkpoints for the WebUI: written in one pass, read back and compared, and only then given their name."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...core.errors import UserError
from ...core.system.files import free_bytes, human_size, replacing, sha256_of, write_json, write_text
from ..conditioning.learned_tokens import Embedding
from ..models.architecture import write_clip_folder
from ..models.base_model import Base
from ..models.key_maps import UNET_PREFIX, VAE_PREFIX, Tie, fold, folded_shape, ties
from ..networks.lora_network import Network
from ..tensors.lazy_tensor import LazyTensor, is_finite
from ..tensors.tensor_file import PICKLE_SUFFIXES, open_tensors, safetensors_header, save_tensors
from ..tensors.torch_pickle import save_pickle
from . import embedding_file
from .lora_file import Names
from .lora_file import state as network_state
from .metadata import HASH_TO_COME

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
HEADROOM = 64 * 2**20  # bytes left free beside the file
PREVIEW_SIDE = 512  # pixels at most; the WebUI shows cards of about 200

Components = Mapping[str, Mapping[str, Tensor]]


class NothingLearned(UserError):
    """In the precision that was asked for, the trained model is its base."""


@dataclass(frozen=True)
class Exported:
    path: Path
    sha256: str  # of the file, as the WebUI shows its first ten digits
    sidecars: list[Path]
    others: tuple[Exported, ...] = ()  # models of the same save, beside it
    kind: str = ""  # where it is another than the run's


def export_checkpoint(
    base: Base,
    trained: Components,
    path: Path,
    *,
    precision: str,
    metadata: Mapping[str, str],
    activation_text: str = "",
    preview: Image.Image | None = None,
    zero_terminal_snr: bool = False,
) -> Exported:
    """Write `path` (.safetensors or .ckpt) and its sidecars: `trained` parts by their diffusers names and keys, all
    others as they are in the base.

    The sidecars come first, the model last. Raises UserError where the weights are not finite, do not fit the
    precision, or are all still the base's, and where the disk is too full.
    """
    assert trained and set(trained) <= set(base.family.components), "nothing was trained"
    base.files.require_unchanged()
    dtype = PRECISIONS[precision]
    check_trained(base, trained, dtype, precision)
    state = {**marks(base, zero_terminal_snr), **unchanged(base, dtype, without=trained)}
    state |= changed(base, trained, dtype)
    with replacing(path) as temporary:
        write_verified(state, temporary, metadata, precision)
        base.close()
        base.files.require_unchanged()  # also while it was read
        sidecars = write_sidecars(path, configuration(base, path), base.family.name, activation_text, preview)
        digest = sha256_of(temporary)
    return Exported(path, digest, sidecars)


def export_network(
    base: Base,
    network: Network,
    names: Names,
    path: Path,
    *,
    precision: str,
    metadata: Mapping[str, str],
    activation_text: str = "",
    preview: Image.Image | None = None,
    zero_terminal_snr: bool = False,
    words: Sequence[Embedding] = (),
) -> Exported:
    """Write a LoRA file and its sidecars. zero_terminal_snr: has no place in such a file. words: that it brings along.

    Raises UserError as `export_checkpoint` does.
    """
    dtype = PRECISIONS[precision]
    state = network_state(network, names, dtype) | embedding_file.bundle(words, dtype)
    exact = network_state(network, names, torch.float32) | embedding_file.bundle(words, torch.float32)
    for key, tensor in exact.items():
        if not tensor.isfinite().all():
            raise not_finite(key)
    if not any(adapter.learned(dtype) for made in network.values() for adapter in made.values()):
        raise nothing_learned(precision)
    with replacing(path) as temporary:
        write_verified(state, temporary, metadata, precision)
        sidecars = write_sidecars(path, None, base.family.name, activation_text, preview)
        digest = sha256_of(temporary)
    return Exported(path, digest, sidecars)


def export_embedding(
    base: Base,
    vectors: Sequence[Tensor],
    path: Path,
    *,
    precision: str,
    metadata: Mapping[str, str],
    steps: int,
    activation_text: str = "",
    preview: Image.Image | None = None,
    zero_terminal_snr: bool = False,
) -> Exported:
    """Write an embedding (.safetensors or .pt) and its sidecars. The word that calls it is the file's name.

    vectors: (n, width) for each text encoder. steps: that it has been trained for. activation_text,
    zero_terminal_snr: have no place in such a file. Raises UserError as `export_network` does.
    """
    tensors = embedding_file.state(vectors, PRECISIONS[precision])
    for key, tensor in embedding_file.state(vectors, torch.float32).items():
        if not tensor.isfinite().all():
            raise not_finite(key)
        if not tensors[key].isfinite().all():
            raise does_not_fit(key, precision)
    about = {**metadata, "modelspec.title": path.stem, "modelspec.trigger_phrase": path.stem}
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            write_verified(tensors, temporary, about, precision)
        else:
            digest = base.short_hash()
            save_pickle(embedding_file.pickled(tensors, path.stem, steps, base.path.stem, digest), temporary)
            written = embedding_file.read(temporary, "save_format").embedding.vectors
            if not all(map(torch.equal, written, (tensor.float() for tensor in tensors.values()))):
                raise reads_differently()
        sidecars = write_sidecars(path, None, base.family.name, path.stem, preview)
        digest = sha256_of(temporary)
    return Exported(path, digest, sidecars)


def unchanged(base: Base, dtype: torch.dtype | None, without: Sequence[str] | Mapping = ()) -> dict[str, LazyTensor]:
    """The base's own tensors under single-file keys, unread; dtype None keeps each as it is.

    Schedules and markers beside the weights keep their precision in any case: in half precision the WebUI would draw
    by a wrong noise schedule.
    """
    state = {**unused_layers(base), **base.extras()}
    for name in base.family.components:
        if name not in without:
            state |= base.ldm_tensors(name)
    weights = (UNET_PREFIX, VAE_PREFIX, *(slot.prefix for slot in base.family.text_slots))
    if dtype is None:
        return state
    return {key: tensor.to(dtype) if key.startswith(weights) else tensor for key, tensor in state.items()}


def unused_layers(base: Base) -> dict[str, LazyTensor]:
    """SD2's last text layer: files have it and nothing runs it, so a diffusers folder does not. WebUIs build it all
    the same, so the last layer that runs stands in for it, as in kohya's converter."""
    found = {}
    names = base.family.components[2:]
    for name, slot, config in zip(names, base.family.text_slots, base.architecture.text_encoders, strict=True):
        last = config["num_hidden_layers"] - 1
        mark = f"{slot.prefix}transformer.resblocks.{last}."
        for extra in range(1, slot.dropped_layers + 1):
            here = f"{slot.prefix}transformer.resblocks.{last + extra}."
            tensors = base.ldm_tensors(name).items()
            found |= {here + key.removeprefix(mark): tensor for key, tensor in tensors if key.startswith(mark)}
    return found


def changed(base: Base, trained: Components, dtype: torch.dtype) -> dict[str, LazyTensor]:
    """The trained parts under single-file keys, cast when they are written."""
    parts = ties(base.architecture)
    return {tie.ldm: lazy_fold(tie, trained[name], dtype) for name in trained for tie in parts[name]}


def lazy_fold(tie: Tie, state: Mapping[str, Tensor], dtype: torch.dtype) -> LazyTensor:
    def load() -> Tensor:
        return fold(tie, [state[key].detach() for key in tie.diffusers]).to("cpu", dtype)

    return LazyTensor(folded_shape(tie, state[tie.diffusers[0]].shape), dtype, load)


def marks(base: Base, zero_terminal_snr: bool) -> dict[str, Tensor]:
    """Tensors by whose presence WebUIs know an SDXL model that predicts v, and its noise schedule."""
    found = {}
    if base.family.name == "sdxl" and base.prediction_type == "v_prediction":
        found["v_pred"] = torch.ones(1)
    if zero_terminal_snr or base.scheduler_config.get("rescale_betas_zero_snr"):
        found["ztsnr"] = torch.ones(1)
    return found


def check_trained(base: Base, trained: Components, dtype: torch.dtype, precision: str) -> None:
    """Raise UserError unless every trained number is finite and some differ from the base's in this precision."""
    parts = ties(base.architecture)
    differs = False
    for name, state in trained.items():
        before = base.ldm_tensors(name)
        for tie in parts[name]:
            exact = fold(tie, [state[key].detach() for key in tie.diffusers])
            if not exact.isfinite().all():
                raise not_finite(tie.ldm)
            if not differs:
                differs = not torch.equal(exact.to("cpu", dtype), before[tie.ldm].load().to(dtype))
    if not differs:
        raise nothing_learned(precision)


def not_finite(key: str) -> UserError:
    return UserError(
        "learning_rate",
        f"The trained model holds invalid numbers (NaN or infinite, in {key}); it was not written.",
        "Lower the learning rate and go on from an earlier checkpoint.",
    )


def nothing_learned(precision: str) -> NothingLearned:
    finer = "" if precision == "fp32" else ", or save_precision fp32, which keeps smaller changes"
    return NothingLearned(
        "learning_rate",
        f"The trained model is equal to its base in {precision}: it has learned nothing that could be saved.",
        f"Use a higher learning rate or more steps{finer}.",
    )


def write_verified(
    state: Mapping[str, Tensor | LazyTensor], path: Path, metadata: Mapping[str, str], precision: str
) -> None:
    """Write a file of tensors, and compare every one of them with what it was to be. `path` is a temporary one."""
    size = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in state.values())
    require_space(path, size, precision)
    save_tensors(state, path, metadata)
    verify(state, path, precision)
    if path.suffix not in PICKLE_SUFFIXES:
        patch_hash(path)


def require_space(path: Path, size: int, precision: str) -> None:
    """Raise UserError where the disk has no room for so many bytes."""
    free = free_bytes(path)
    if free < size + HEADROOM:
        raise UserError(
            "save_precision",
            f"The model needs {human_size(size)} and the disk of {path.parent} has {human_size(free)} free.",
            "Free some space" + (", or choose fp16." if precision == "fp32" else "."),
        )


def verify(state: Mapping[str, Tensor | LazyTensor], path: Path, precision: str) -> None:
    """Read a file back. Raises UserError for numbers that the precision cannot hold or that the disk changed."""
    written = open_tensors(path, field="save_format")
    if set(written) != set(state):
        raise reads_differently()
    for key, meant in state.items():
        found, expected = written[key], meant.load() if isinstance(meant, LazyTensor) else meant
        if found.dtype != expected.dtype or not same_bits(found, expected):
            raise reads_differently()
        if not is_finite(found):
            raise does_not_fit(key, precision)
    written.close()


def does_not_fit(key: str, precision: str) -> UserError:
    return UserError(
        "save_precision",
        f"{key} holds numbers that are infinite or invalid" + (" in fp16." if precision == "fp16" else "."),
        "Choose save_precision bf16 or fp32." if precision == "fp16" else "Choose another base model.",
    )


def reads_differently() -> UserError:
    message = "The model that was just written reads back differently."
    return UserError("save_format", message, "The disk may be failing: use another.")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal shape and numbers; a NaN equals itself, so that it is not taken for a failing disk."""
    if one.shape != other.shape:
        return False
    return torch.equal(one, other) or (
        torch.equal(one.isnan(), other.isnan()) and one.nan_to_num().equal(other.nan_to_num())
    )


def patch_hash(path: Path) -> None:
    """Put the hash of all numbers (modelspec: the file but its header) in the place kept for it, if there is one."""
    _, start = safetensors_header(path, "save_format")
    with path.open("rb+") as file:
        place = file.read(start).find(HASH_TO_COME.encode())
        if place >= 0:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            file.seek(place)
            file.write(f"0x{digest.hexdigest()}".encode())


def configuration(base: Base, path: Path) -> str | None:
    """The yaml that a model at `path` needs beside it, or None. The CLIP folder that it may need is written beside
    the model, too, and named by its full path: the WebUI would look for a relative one where it was started."""
    if not base.needs_clip_folder:
        return base.export_yaml()
    folder = path.resolve().with_name(f"{path.stem}-clip")  # the WebUI reads an encoder's odd sizes from a folder
    if folder != base.source.clip_folder:
        write_clip_folder(base.architecture.text_encoders[0], folder, base.source.tokenizer_folder(0))
    return base.export_yaml(clip=str(folder))


def write_sidecars(
    path: Path, yaml: str | None, family: str, activation_text: str, preview: Image.Image | None
) -> list[Path]:
    """The files beside a model that the WebUI reads. A yaml that is not needed must not be there either."""
    configuration, about, picture = (path.with_name(path.stem + x) for x in (".yaml", ".json", ".preview.png"))
    written = [about]
    if yaml is None:
        configuration.unlink(missing_ok=True)
    else:
        write_text(configuration, yaml)
        written.append(configuration)
    words = f"Write '{activation_text}' in the prompt." if activation_text else ""
    facts = {"description": words, "sd version": family.upper(), "activation text": activation_text, "notes": words}
    write_json(about, facts)
    if preview is not None:
        small = preview.convert("RGB")
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        with replacing(picture) as temporary:
            small.save(temporary)
        written.append(picture)
    return written
