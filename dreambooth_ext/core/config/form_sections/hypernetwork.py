"""The networks of a hypernetwork, with every option of the WebUI."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting

WEIGHT_INITS = ("Normal", "KaimingUniform", "KaimingNormal", "XavierUniform", "XavierNormal")
# The names of the WebUI's list. It also has threshold and glu, with which it cannot make or draw anything.
ACTIVATIONS = (
    *("linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "rrelu", "hardtanh", "relu6", "hardsigmoid"),
    *("silu", "mish", "celu", "selu", "gelu", "hardshrink", "logsigmoid", "softplus", "softshrink", "prelu"),
    *("softsign", "tanhshrink", "softmin", "softmax", "softmax2d", "logsoftmax"),
)
HYPERNETWORK = {"methods": ("hypernetwork",), "group": "Hypernetwork"}


@dataclass(frozen=True)
class Hypernetwork:
    enable_sizes: list = setting(
        [],
        "Sizes",
        "Widths of the contexts that are changed: 768 (SD 1), 1024 (SD 2) or 2048 (SDXL) for the text; 320, 640 and "
        "1280 for the picture's own features. Left out: all that the base has.",
        kind="numbers",
        **HYPERNETWORK,
    )
    layer_structure: list = setting(
        [1, 2, 1],
        "Layer structure",
        "Widths of the layers, as multiples of the context's; the first and the last are 1. 1, 2, 2, 1 holds more.",
        kind="numbers",
        **HYPERNETWORK,
    )
    activation: str = setting(
        "linear",
        "Activation",
        "What comes between the layers; linear is none. The WebUI recommends swish or linear.",
        choices=ACTIVATIONS,
        **HYPERNETWORK,
    )
    activate_output: bool = setting(
        False, "Activate the output", "The activation also comes after the last layer.", **HYPERNETWORK
    )
    weight_init: str = setting(
        "Normal",
        "Initialisation",
        "How the weights begin. Kaiming for relu and its like, Xavier for sigmoid and its like, Normal for others.",
        choices=WEIGHT_INITS,
        **HYPERNETWORK,
    )
    layer_norm: bool = setting(
        False, "Layer normalisation", "Normalise what each layer gives, which few need.", **HYPERNETWORK
    )
    dropout: list = setting(
        [],
        "Dropout structure",
        "Share that is dropped at each width of the layer structure, the first and the last 0: 0, 0.05, 0.15, 0. It "
        "works against overtraining. Left out: none.",
        kind="numbers",
        **HYPERNETWORK,
    )
    hypernetwork_weights: str | None = setting(
        None,
        "Continue a hypernetwork",
        "A .pt file to go on from, also one of the WebUI's Train tab; sizes and structure are then the file's. Its "
        ".optim file, if there is one, is not used: the optimizer starts afresh.",
        kind="path",
        lists="hypernetwork",
        **HYPERNETWORK,
    )
