import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from modules import devices, sd_models, shared
from PIL import Image


@dataclass(repr=False)
class StableDiffusionProcessing:
    sd_model: Any = None
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    steps: int = 20
    width: int = 64
    height: int = 64
    override_settings: dict = field(default_factory=dict)

    cached_uc: ClassVar = [None, None]
    cached_c: ClassVar = [None, None]
    scripts = None
    script_args = ()
    firstpass_image = None

    def close(self):
        pass

    def cached_params(self, required_prompts, steps, extra_network_data, hires_steps=None, use_old_scheduling=False):
        return ()


class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    cached_hr_uc: ClassVar = [None, None]
    cached_hr_c: ClassVar = [None, None]


class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    pass


class Processed:
    def __init__(self, p: StableDiffusionProcessing, images_list, seed=-1, info="", subseed=None, comments=""):
        self.images, self.prompt, self.seed = images_list, p.prompt, seed
        self.info, self.comments, self.infotexts = info, comments, [info]

    def js(self):
        return json.dumps({"prompt": self.prompt, "seed": self.seed, "infotexts": self.infotexts})


def process_images(p: StableDiffusionProcessing) -> Processed:
    if p.scripts is not None:
        p.scripts.before_process(p)
    return process_images_inner(p)


def loaded_model():
    if shared.cmd_opts.like not in ("forge", "neo"):
        return sd_models.reload_model_weights()
    loaded = sd_models.forge_model_reload()
    return loaded[0] if isinstance(loaded, tuple) else loaded


def conditioning(p, model):
    """The prompt with its embeddings' content, kept from picture to picture while the prompt is the same."""
    cached, key = StableDiffusionProcessing.cached_c, (p.prompt, model.sd_checkpoint_info.filename)
    if cached[0] != key:
        own = getattr(model, "text_processing_engine", None)
        known = (own.embeddings if own else sd_models.sd_hijack.model_hijack.embedding_db).word_embeddings
        cached[:] = [key, b"".join(known.get(word, word.encode()) for word in (p.prompt or "").split())]
    return cached[1]


def process_images_inner(p: StableDiffusionProcessing) -> Processed:
    model = loaded_model()
    if model.device != devices.device:
        raise RuntimeError("Expected all tensors to be on the same device")
    end = time.monotonic() + shared.cmd_opts.seconds
    while time.monotonic() < end and not shared.state.interrupted:
        time.sleep(0.02)
    shade = hashlib.sha256(f"{p.seed}".encode() + conditioning(p, model)).digest()[0]
    image = Image.new("RGB", (p.width, p.height), model.colour)
    image.paste((shade, shade, shade), (0, 0, p.width // 8, p.height // 8))
    name, size = model.sd_checkpoint_info.name_for_extra, f"{p.width}x{p.height}"
    settings = f"Steps: {p.steps}, Seed: {p.seed}, Size: {size}, Model hash: {model.sd_model_hash}, Model: {name}"
    return Processed(p, [image], seed=p.seed, info=f"{p.prompt}\n{settings}")
