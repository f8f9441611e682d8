"""Write checkpoints for the WebUI: in one pass, verified by reading them back before they get their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...core.system.files import replacing
from ..models.architecture import write_clip_folder
from ..models.base_model import LatentBase
from ..models.key_maps import UNET_PREFIX, VAE_PREFIX, Tie, fold, folded_shape, ties
from ..tensors.lazy_tensor import LazyTensor, is_finite
from .verified_write import (
    PRECISIONS,
    DoesNotFit,
    Exported,
    not_finite,
    nothing_learned,
    write_sidecars,
    write_verified,
)

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
    """Write `path` (.safetensors or .ckpt) and its sidecars: the `trained` parts, under diffusers' names and keys, and
    all others from the base.

    The sidecars are written first, the model gets its name last. Raises UserError if the weights are not finite, do not
    fit the precision, or all equal the base's, or if the disk is too full.
    """
    assert trained and set(trained) <= set(base.family.components), "nothing was trained"
    base.files.require_unchanged()
    dtype = PRECISIONS[precision]
    if not differ(base, trained, dtype):
        raise nothing_learned(precision)
    state = {**marks(base, zero_terminal_snr), **unchanged(base, dtype, without=trained)}
    state |= changed(base, trained, dtype)
    with replacing(path) as temporary:
        try:
            digest = write_verified(state, temporary, metadata, precision)
        except DoesNotFit:
            require_finite(base, trained)
            raise
        base.close()
        base.files.require_unchanged()  # again after reading it
        sidecars = write_sidecars(path, configuration(base, path), base.family.name, activation_text, preview)
    return Exported(path, digest, sidecars)


def unchanged(
    base: LatentBase, dtype: torch.dtype | None, without: Sequence[str] | Mapping = ()
) -> dict[str, LazyTensor]:
    """Return the base's own tensors under single-file keys, not read yet; dtype None keeps each one's own.

    Schedules and markers beside the weights always keep their precision: in half precision the WebUI would draw with a
    wrong noise schedule.
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
    """Return SD2's last text encoder layer, which files contain but nothing runs, so that diffusers folders lack it.
    WebUIs still build it, so the last layer that runs is used in its place, as in kohya's converter."""
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
    """Return the trained parts under single-file keys, cast when they are written."""
    parts = ties(base.architecture)
    return {tie.ldm: lazy_fold(tie, trained[name], dtype) for name in trained for tie in parts[name]}


def lazy_fold(tie: Tie, state: Mapping[str, Tensor], dtype: torch.dtype) -> LazyTensor:
    """Return a trained tensor as the file has it."""

    def load() -> Tensor:
        return fold(tie, [state[key].detach() for key in tie.diffusers]).to("cpu", dtype)

    return LazyTensor(folded_shape(tie, state[tie.diffusers[0]].shape), dtype, load)


def require_finite(base: LatentBase, trained: Components) -> None:
    """Raise UserError if training has ruined a tensor, whatever the precision that it is written in."""
    parts = ties(base.architecture)
    for name, state in trained.items():
        for tie in parts[name]:
            if not all(is_finite(state[key]) for key in tie.diffusers):
                raise not_finite(tie.ldm)


def marks(base: LatentBase, zero_terminal_snr: bool) -> dict[str, Tensor]:
    """Return the marker tensors by which WebUIs recognise v-prediction (SDXL) and a zero terminal SNR schedule."""
    found = {}
    if base.family.v_mark and base.prediction_type == "v_prediction":
        found["v_pred"] = torch.ones(1)
    if zero_terminal_snr or base.scheduler_config.get("rescale_betas_zero_snr"):
        found["ztsnr"] = torch.ones(1)
    return found


def differ(base: LatentBase, trained: Components, dtype: torch.dtype) -> bool:
    """Whether some trained weights differ from the base's at this precision."""
    parts = ties(base.architecture)
    for name, state in trained.items():
        before = base.ldm_tensors(name)
        for tie in parts[name]:
            if not torch.equal(lazy_fold(tie, state, dtype).load(), before[tie.ldm].load().to(dtype)):
                return True
    return False


def configuration(base: LatentBase, path: Path) -> str | None:
    """Return the yaml that a model at `path` needs beside it, or None. If it needs a CLIP folder, that is written
    beside the model and given by full path, since the WebUI resolves a relative one from its working directory."""
    if not base.needs_clip_folder:
        return base.export_yaml()
    folder = path.resolve().with_name(f"{path.stem}-clip")  # from which the WebUI reads the encoder's sizes
    if folder != base.source.clip_folder:
        write_clip_folder(base.architecture.text_encoders[0], folder, base.source.tokenizer_folder(0))
    return base.export_yaml(clip=str(folder))
