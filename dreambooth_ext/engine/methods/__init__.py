"""The methods, each as `training.method.Method` says, by their names in a config."""

from ..training.method import Method
from .full import FullWeights
from .hypernetwork import HypernetworkTraining
from .lora import LoRA
from .textual_inversion import TextualInversion
from .unconditional import Unconditional

METHODS: dict[str, type[Method]] = {
    "dreambooth": FullWeights,
    "finetune": FullWeights,
    "lora": LoRA,
    "textual_inversion": TextualInversion,
    "hypernetwork": HypernetworkTraining,
    "unconditional": Unconditional,
}
