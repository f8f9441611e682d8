"""Settings of a hypernetwork: its layers, with every option of the WebUI."""

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
class HypernetworkSettings:
    enable_sizes: list = setting(
        [],
        "Sizes",
        "Widths of the attention inputs to change: 768 (SD 1), 1024 (SD 2) or 2048 (SDXL) for the text; 320, 640 and "
        "1280 for the picture's own features. Default: all that the base has.",
        kind="numbers",
        **HYPERNETWORK,
    )
    layer_structure: list = setting(
        [1, 2, 1],
        "Layer structure",
        "Widths of the layers, as multiples of the input's; the first and the last are 1. 1, 2, 2, 1 can hold more.",
        kind="numbers",
        **HYPERNETWORK,
    )
    activation: str = setting(
        "linear",
        "Activation",
        "Activation function between the layers; linear is none. The WebUI recommends swish or linear.",
        choices=ACTIVATIONS,
        **HYPERNETWORK,
    )
    activate_output: bool = setting(
        False, "Activate the output", "Use the activation function after the last layer, too.", **HYPERNETWORK
    )
    weight_init: str = setting(
        "Normal",
        "Initialisation",
        "How the weights are initialised: Kaiming suits relu and similar activations, Xavier suits sigmoid and "
        "similar ones, Normal the others.",
        choices=WEIGHT_INITS,
        **HYPERNETWORK,
    )
    layer_norm: bool = setting(
        False, "Layer normalisation", "Normalise the output of each layer; rarely needed.", **HYPERNETWORK
    )
    dropout: list = setting(
        [],
        "Dropout structure",
        "Dropout for each width of the layer structure, with 0 for the first and the last: 0, 0.05, 0.15, 0. Reduces "
        "overfitting. Default: none.",
        kind="numbers",
        **HYPERNETWORK,
    )
    hypernetwork_weights: str | None = setting(
        None,
        "Continue a hypernetwork",
        "A .pt file to continue, also from the WebUI's Train tab. Its sizes and structure are kept. An .optim file "
        "beside it is not used: the optimizer starts afresh.",
        kind="path",
        lists="hypernetwork",
        **HYPERNETWORK,
    )
