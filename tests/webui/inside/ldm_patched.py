"""Run by reForge and Forge-classic as an extension's script. As in Forge, tables tell a model's sizes: ours are added.

`sizes.json`, in the extension's folder, is written by tests/webui/sizes.py. SD1 only: the tests there need no other.
"""

import functools
import json
from pathlib import Path

from ldm_patched.modules import sd, sd1_clip, supported_models

sizes = json.loads((Path(__file__).parents[1] / "sizes.json").read_text(encoding="utf-8"))
usual = supported_models.SD15
told_by = {**usual.unet_config, **{key: sizes["unet"][key] for key in ("context_dim", "model_channels")}}
ours = type("TinySD15", (usual,), {"unet_config": told_by, "unet_extra_config": sizes["heads"]})
supported_models.models.insert(0, ours)


def with_defaults(init, **defaults):
    @functools.wraps(init)
    def wrapped(self, *arguments, **named):
        init(self, *arguments, **{**defaults, **named})

    return wrapped


sd.VAE.__init__ = with_defaults(sd.VAE.__init__, config={"params": sizes["vae"]})
clip = sd1_clip.SDClipModel
clip.__init__ = with_defaults(clip.__init__, textmodel_json_config=sizes["clip"])
