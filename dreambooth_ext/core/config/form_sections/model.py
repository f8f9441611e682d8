"""Settings of the model: method, name, base model and subject type."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import METHOD_LABELS, PROMPTED
from ...facts.setting import setting

SUBJECT_TYPES = ("person", "style", "object", "pet")


@dataclass(frozen=True)
class ModelSettings:
    method: str = setting(
        "dreambooth",
        "Method",
        "How to train, and what kind of model comes out.",
        group="Model",
        choices=tuple(METHOD_LABELS),
    )
    name: str = setting("", "Name", "File name of the new model: Latin letters, digits, - and _.", group="Model")
    base_model: str = setting(
        "",
        "Base model",
        "The model that training starts from: a .safetensors or .ckpt file, a diffusers folder, a Hugging Face name "
        "or a link. For an unconditional model, leave this empty or give the folder of an earlier one to continue.",
        group="Model",
        kind="path",
        is_remote=True,
    )
    subject_type: str = setting(
        "person",
        "Type of subject",
        "Sets steps, learning rates, captions and offset noise wherever you leave them empty.",
        group="Model",
        choices=SUBJECT_TYPES,
        **PROMPTED,
    )
    prediction_type: str = setting(
        "auto",
        "Prediction type",
        "What the model predicts. Set this only if the base is recognised wrongly and pictures turn into noise or one "
        "flat colour. A new unconditional model can also predict the sample, that is, the picture itself; for it, "
        "'auto' means epsilon, the noise.",
        group="Model",
        choices=("auto", "epsilon", "v_prediction", "sample"),
    )
