"""The training methods: their names, what they make, and which settings they share."""

from __future__ import annotations

from ..messages.message import Message

METHOD_LABELS = {
    "dreambooth": "DreamBooth: teach a whole model a subject or style, called by a rare word",
    "finetune": "Fine-tuning: train a whole model on many captioned pictures",
    "lora": "LoRA: teach a subject or style in a small file that works with every model of the base's family",
    "textual_inversion": "Textual Inversion: teach a word in a file of a few kilobytes; the model stays as it is",
    "hypernetwork": "Hypernetwork: teach a subject or style in a small file that only AUTOMATIC1111's WebUI and "
    "ComfyUI can use",
    "unconditional": "Unconditional: train a new model, without a base or prompts, that draws pictures like yours",
}
TITLES = {  # what a sentence calls them
    "dreambooth": "method.dreambooth",
    "finetune": "method.finetune",
    "lora": "method.lora",
    "textual_inversion": "method.textual_inversion",
    "hypernetwork": "method.hypernetwork",
    "unconditional": "method.unconditional",
}
MODEL_KINDS = {  # of the models that methods make
    "dreambooth": "checkpoint",
    "finetune": "checkpoint",
    "lora": "lora",
    "textual_inversion": "textual_inversion",
    "hypernetwork": "hypernetwork",
    "unconditional": "unconditional",
}
SUBJECT_METHODS = ("dreambooth", "lora", "hypernetwork")  # those that bind a subject to a rare word
# Those that start from a base, which draws by prompts
PROMPTED_METHODS = ("dreambooth", "finetune", "lora", "textual_inversion", "hypernetwork")
WHOLE_METHODS = ("dreambooth", "finetune", "unconditional")  # those that train every weight of a model
CHECKPOINT_METHODS = ("dreambooth", "finetune")  # those that train a whole model from a base
TUNING_METHODS = ("dreambooth", "finetune", "lora")  # those that can change the base's text encoders
# Those whose base stays as it is, and can be held in fewer bits
FROZEN_METHODS = ("lora", "textual_inversion", "hypernetwork")
FORMATS = {  # of the files that methods make, the usual one first
    "dreambooth": ("safetensors", "ckpt"),
    "finetune": ("safetensors", "ckpt"),
    "lora": ("safetensors",),
    "textual_inversion": ("safetensors", "pt"),
    "hypernetwork": ("pt",),
    "unconditional": ("",),  # a folder
}

# For the settings of these methods
SUBJECT = {"methods": SUBJECT_METHODS}
PROMPTED = {"methods": PROMPTED_METHODS}
TUNING = {"methods": TUNING_METHODS}
CHECKPOINT = {"methods": CHECKPOINT_METHODS}
FROZEN = {"methods": FROZEN_METHODS}


def title(method: str) -> Message:
    return Message(TITLES[method])
