"""What is trained, and from what."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import METHODS, PROMPTED
from ...facts.setting import setting

SUBJECT_TYPES = ("person", "style", "object", "pet")


@dataclass(frozen=True)
class Model:
    method: str = setting("dreambooth", "Method", "What is trained.", group="Model", choices=tuple(METHODS))
    name: str = setting("", "Name", "The new model's file name: Latin letters, digits, - and _.", group="Model")
    base_model: str = setting(
        "",
        "Base model",
        "The model to start from: a .safetensors or .ckpt file, a diffusers folder, a Hugging Face name or a link. "
        "An unconditional model starts from nothing, or from the folder of one that is to go on.",
        group="Model",
        kind="path",
        is_remote=True,
    )
    subject_type: str = setting(
        "person",
        "Type of subject",
        "Decides steps, rates, captions and offset noise where you leave them out.",
        group="Model",
        choices=SUBJECT_TYPES,
        **PROMPTED,
    )
    prediction_type: str = setting(
        "auto",
        "Prediction type",
        "What the base predicts. Only for a base that is recognised wrongly (images turn into noise or flat colour). "
        "A new unconditional model may also predict the sample, the picture itself; 'auto' is epsilon, the noise.",
        group="Model",
        choices=("auto", "epsilon", "v_prediction", "sample"),
    )
