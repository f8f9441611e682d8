"""How long a base takes to load, all parts in float32: `python -m benchmarks.load ours|plain BASE CONFIGS`.

Prints JSON: seconds, without the imports, and the process's peak memory.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.runtime import memory


def ours(base: str, configs: str) -> list[object]:
    opened = open_base(base)
    models = [opened.unet(), opened.vae(), *opened.text_encoders(), *opened.tokenizers()]
    opened.close()
    return models


def plain(base: str, configs: str) -> list[object]:
    is_sdxl = (Path(configs) / "text_encoder_2").is_dir()
    kind = StableDiffusionXLPipeline if is_sdxl else StableDiffusionPipeline
    extra = {} if is_sdxl else {"safety_checker": None, "feature_extractor": None}
    return [kind.from_single_file(base, config=configs, torch_dtype=torch.float32, **extra)]


def main(argv: list[str]) -> int:
    load = {"ours": ours, "plain": plain}[argv[0]]
    began = time.monotonic()
    models = load(argv[1], argv[2])
    seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "peak": memory.use(torch.device("cpu"))["peak"], "parts": len(models)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
