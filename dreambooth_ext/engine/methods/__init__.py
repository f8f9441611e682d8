"""The training methods, each a `training.method.Method`, by their names in a config."""

from ..training.method import Method
from .full import FullTraining
from .hypernetwork import HypernetworkTraining
from .lora import LoRATraining
from .textual_inversion import TextualInversionTraining
from .unconditional import UnconditionalTraining

METHODS: dict[str, type[Method]] = {
    "dreambooth": FullTraining,
    "finetune": FullTraining,
    "lora": LoRATraining,
    "textual_inversion": TextualInversionTraining,
    "hypernetwork": HypernetworkTraining,
    "unconditional": UnconditionalTraining,
}
