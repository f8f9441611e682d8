"""Checkpoints for the WebUI: written in one pass, read back and compared, and only then given their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...core.system.files import replacing, sha256_of
from ..models.architecture import write_clip_folder
from ..models.base_model import LatentBase
from ..models.key_maps import UNET_PREFIX, VAE_PREFIX, Tie, fold, folded_shape, ties
from ..tensors.lazy_tensor import LazyTensor
from .verified_write import PRECISIONS, Exported, not_finite, nothing_learned, write_sidecars, write_verified

Components = Mapping[str, Mapping[str, Tensor]]


def export_checkpoint(
    base: LatentBase,
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


def unchanged(
    base: LatentBase, dtype: torch.dtype | None, without: Sequence[str] | Mapping = ()
) -> dict[str, LazyTensor]:
    """The base's own tensors under single-file keys, unread; dtype None keeps each as it is.

    Schedules and markers beside the weights keep their precision in any case: in half precision the WebUI would draw
    by a wrong noise schedule.
    """
    state = {**unused_layers(base), **base.extras()}
    for name in base.family.components:
        if name not in without:
            state |= base.ldm_tensors(name)
    weights = (UNET_PREFIX, VAE_PREFIX, *(slot.prefix for slot in base.family.text.slots))
    if dtype is None:
        return state
    return {key: tensor.to(dtype) if key.startswith(weights) else tensor for key, tensor in state.items()}


def unused_layers(base: LatentBase) -> dict[str, LazyTensor]:
    """SD2's last text layer: files have it and nothing runs it, so a diffusers folder does not. WebUIs build it all
    the same, so the last layer that runs stands in for it, as in kohya's converter."""
    found: dict[str, LazyTensor] = {}
    names = base.family.components[2:]
    for name, slot, config in zip(names, base.family.text.slots, base.architecture.text_encoders, strict=True):
        last = config["num_hidden_layers"] - 1
        mark = f"{slot.prefix}transformer.resblocks.{last}."
        for extra in range(1, slot.dropped_layers + 1):
            here = f"{slot.prefix}transformer.resblocks.{last + extra}."
            tensors = base.ldm_tensors(name).items()
            found |= {here + key.removeprefix(mark): tensor for key, tensor in tensors if key.startswith(mark)}
    return found


def changed(base: LatentBase, trained: Components, dtype: torch.dtype) -> dict[str, LazyTensor]:
    """The trained parts under single-file keys, cast when they are written."""
    parts = ties(base.architecture)
    return {tie.ldm: lazy_fold(tie, trained[name], dtype) for name in trained for tie in parts[name]}


def lazy_fold(tie: Tie, state: Mapping[str, Tensor], dtype: torch.dtype) -> LazyTensor:
    def load() -> Tensor:
        return fold(tie, [state[key].detach() for key in tie.diffusers]).to("cpu", dtype)

    return LazyTensor(folded_shape(tie, state[tie.diffusers[0]].shape), dtype, load)


def marks(base: LatentBase, zero_terminal_snr: bool) -> dict[str, Tensor]:
    """Tensors by whose presence WebUIs know a model (SDXL) that predicts v, and its noise schedule."""
    found = {}
    if base.family.v_mark and base.prediction_type == "v_prediction":
        found["v_pred"] = torch.ones(1)
    if zero_terminal_snr or base.scheduler_config.get("rescale_betas_zero_snr"):
        found["ztsnr"] = torch.ones(1)
    return found


def check_trained(base: LatentBase, trained: Components, dtype: torch.dtype, precision: str) -> None:
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


def configuration(base: LatentBase, path: Path) -> str | None:
    """The yaml that a model at `path` needs beside it, or None. The CLIP folder that it may need is written beside
    the model, too, and named by its full path: the WebUI would look for a relative one where it was started."""
    if not base.needs_clip_folder:
        return base.export_yaml()
    folder = path.resolve().with_name(f"{path.stem}-clip")  # the WebUI reads an encoder's odd sizes from a folder
    if folder != base.source.clip_folder:
        write_clip_folder(base.architecture.text_encoders[0], folder, base.source.tokenizer_folder(0))
    return base.export_yaml(clip=str(folder))
