"""The generation parameters in a PNG, as the WebUI's "PNG Info" reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, PngImagePlugin

from ...core.system.files import replacing
from ...core.version import __version__


def sampler_fields(sampler: str) -> dict[str, str]:
    """Return the WebUI's sampler and schedule type for one of `SAMPLERS`."""
    if sampler.endswith(" Karras"):
        return {"Sampler": sampler.removesuffix(" Karras"), "Schedule type": "Karras"}
    # "Automatic" means Karras for the DPM++ family in the WebUI, and evenly spaced timesteps for the others
    return {"Sampler": sampler, "Schedule type": "Uniform" if sampler.startswith("DPM++") else "Automatic"}


def infotext(
    *,
    prompt: str,
    negative_prompt: str,
    steps: int,
    sampler: str,
    cfg_scale: float | None,
    seed: int,
    width: int,
    height: int,
    model: str,
    model_hash: str | None,
    clip_skip: int | None,
    ti_hashes: Mapping[str, str] | None = None,
) -> str:
    """Return the PNG text "parameters", in the WebUI's order and quoting (modules/processing.py, create_infotext).

    ti_hashes: hashes of the files of embeddings used in the prompts, by word.
    """
    hashes = ", ".join(f"{word.replace(':', '').replace(',', '')}: {hash}" for word, hash in (ti_hashes or {}).items())
    fields: Mapping[str, object] = {
        "Steps": steps,
        **sampler_fields(sampler),
        "CFG scale": None if cfg_scale is None else f"{cfg_scale:g}",
        "Seed": seed,
        "Size": f"{width}x{height}",
        "Model hash": model_hash,
        "Model": model,
        "Clip skip": clip_skip if clip_skip != 1 else None,
        "RNG": "CPU",  # the WebUI's setting with which it draws the same noise
        "TI hashes": hashes or None,
        "Version": f"dreambooth_ext {__version__}",
    }
    last = ", ".join(f"{name}: {quoted(value)}" for name, value in fields.items() if value is not None)
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{last}".strip()


def quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",\n:") else text


def save_png(picture: Image.Image, path: Path, parameters: str) -> None:
    """Save a PNG with the WebUI's text chunk, completely or not at all."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", parameters)
    with replacing(path) as temporary:
        picture.save(temporary, pnginfo=info)
