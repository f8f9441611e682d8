"""Options of the command `verdict`."""

from __future__ import annotations

import argparse

from ..runs import run_folder
from .path_option import path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("run", metavar="RUN", help="the run's folder, id or name; 'last' is the newest")
    option("--json", action="store_true", help="print the verdict as JSON, and nothing else")
    option("--steps-only", action="store_true", help="judge by the losses measured while training, without drawing")
    option(
        "--judge",
        type=path,
        metavar="PATH",
        help="who judges likeness instead of the base: the folder of a CLIP, SigLIP or DINOv2 model on your disk; of a "
        "person also a face recogniser (.onnx; ArcFace, SFace)",
    )
    option("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu (default: auto)")
    option("--runs-dir", type=path, metavar="DIR", default=run_folder.DEFAULT_RUNS_DIR, help="folder of the runs")
