"""Opening models in every form, and refusing what is none."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.engine.base import open_base
from tests import tiny


@pytest.mark.parametrize("sidecar", [True, False])
@pytest.mark.parametrize("container", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_single_file_gives_back_the_model_it_was_made_of(tmp_path, family, container, sidecar):
    path = tiny.single_file(tmp_path, family, container=container, sidecar=sidecar)
    base = open_base(path)
    assert (base.family.name, base.prediction_type, base.inpainting) == (family, "epsilon", False)
    made = tiny.models(tiny.architecture(family))
    found = {"unet": base.unet(), "vae": base.vae()}
    found |= dict(zip(base.family.components[2:], base.text_encoders(), strict=True))
    for name, module in made.items():
        state = found[name].state_dict()
        assert state.keys() == module.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in made.items()}
    texts = sum(count for name, count in counts.items() if name.startswith("text"))
    assert base.parameter_counts() == {"unet": counts["unet"], "vae": counts["vae"], "text_encoders": texts}


def test_text_goes_through_tokenizer_and_encoder(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    (tokenizer,), (encoder,) = base.tokenizers(), base.text_encoders()
    ids = tokenizer("a photo of a cat").input_ids
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert encoder(torch.tensor([ids])).last_hidden_state.shape == (1, 7, 16)
