"""A face recogniser of no weights, as ONNX; the package onnx is there in the tests alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from dreambooth_ext.engine.verdict.face_judge import SIDE

MEAN = np.full((1,), 127.5, np.float32)


def recogniser(
    path: Path, *, side: int | str = SIDE, prepares: bool = False, channels: int = 3, ending: str = ""
) -> Path:
    """The mean colours of 49 parts of a face, as one list. prepares: it takes pixels from 0 to 255."""
    weights = [numpy_helper.from_array(MEAN, "mean"), numpy_helper.from_array(1 / MEAN, "scale")]
    nodes, given = [], "face"
    if prepares:
        nodes += [
            helper.make_node("Sub", ["face", "mean"], ["less"]),
            helper.make_node("Mul", ["less", "scale"], ["x"]),
        ]
        given = "x"
    nodes += [
        helper.make_node("AveragePool", [given], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    if ending:
        nodes.append(
            helper.make_node(ending, ["flat"], ["out"], **({"keepdims": 0} if ending.startswith("Reduce") else {}))
        )
    inputs = [helper.make_tensor_value_info("face", TensorProto.FLOAT, [1, channels, side, side])]
    outputs = [helper.make_tensor_value_info("out" if ending else "flat", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights if prepares else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
