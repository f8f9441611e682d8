"""Text encoders that learn nothing have weights of 16 bits and compute in 32; a file in fp16 loses nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine.conditioning.text_encoding import TextStack
from dreambooth_ext.engine.models.base_model import LatentBase, open_base
from dreambooth_ext.engine.quantisation.frozen_layers import Packed
from dreambooth_ext.engine.quantisation.precision import Precision, of_reading
from dreambooth_ext.engine.sampling import class_images
from tests import adapters, tiny, training
from tests.training import Trainer

CPU = torch.device("cpu")
PROMPTS = ["a photo of sksper person", "", "a red thing, " * 40]
CLOSE = 1e-3  # of the conditioning's norm, for files that are not in fp16
LORA = {"method": "lora", "rank": 4, "target_modules": adapters.ALL}


def encoded(base: LatentBase, precision: torch.dtype | Precision) -> list[Tensor]:
    stack = TextStack(base.tokenizers(), base.text_encoders(precision), base.family.text)
    with torch.no_grad():
        found = stack.encode(PROMPTS)
    return [found.hidden_bsd, *([] if found.pooled_bp is None else [found.pooled_bp])]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_conditioning_is_that_of_encoders_in_32_bits(tmp_path, family, dtype):
    base = open_base(tiny.single_file(tmp_path, family, dtype=dtype))
    for found, wanted in zip(encoded(base, of_reading(CPU)), encoded(base, torch.float32), strict=True):
        error = ((found - wanted).norm() / wanted.norm()).item()
        assert found.dtype == torch.float32
        assert error <= (0 if dtype == torch.float16 else CLOSE)
    in_16_bits = encoded(base, Precision(torch.float16, torch.float16))[0]
    assert not torch.equal(in_16_bits, encoded(base, of_reading(CPU))[0])  # which compute in 16 bits, too


def held_bytes(encoder: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*encoder.parameters(), *encoder.buffers()))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_they_take_half_the_memory(tmp_path, family):
    base = open_base(tiny.single_file(tmp_path, family))
    for exact, halved in zip(base.text_encoders(), base.text_encoders(of_reading(CPU)), strict=True):
        layers = [name for name, module in exact.named_modules() if isinstance(module, nn.Linear)]
        assert all(isinstance(halved.get_submodule(name), Packed) for name in layers)
        assert halved.get_input_embeddings().weight.dtype == torch.float16
        assert held_bytes(halved) < 0.6 * held_bytes(exact)


@pytest.mark.parametrize("settings", [{}, LORA, {"method": "hypernetwork"}])
def test_a_run_in_16_bits_reads_captions_as_one_in_32(tmp_path, methods, settings):
    trainer = Trainer(tmp_path, base={"dtype": torch.float16})
    for precision in ("no", "bf16"):
        trainer.train(**settings, text_encoder_steps=0, mixed_precision=precision, max_train_steps=1)
    wanted, found = (method.backbone.prompts(["a photo of sksper person"]).hidden_bsd for method in methods)
    assert torch.equal(found, wanted) and found.any()


def test_what_learns_is_held_as_before(tmp_path, methods):
    trainer = Trainer(tmp_path)
    for settings in ({}, LORA):
        trainer.train(**settings, text_encoder_steps=4, mixed_precision="bf16", max_train_steps=1)
        (encoder,) = methods[-1].backbone.prompts.stack.encoders
        assert not any(isinstance(module, Packed) for module in encoder.modules())


def test_where_captions_vary_they_stay_and_compute_in_16_bits(tmp_path, methods):
    trainer = Trainer(tmp_path)
    training.pictures(trainer.folder / "pictures", captions=True)
    varied = {"use_captions": True, "shuffle_tags": True, "text_encoder_steps": 0, "mixed_precision": "bf16"}
    for settings in ({}, LORA):
        trainer.train(**settings, **varied, max_train_steps=2)
        (encoder,) = methods[-1].backbone.prompts.stack.encoders
        packed = [module for module in encoder.modules() if isinstance(module, Packed)]
        assert packed and {module.weight.dtype for module in packed} == {torch.bfloat16}
        assert {parameter.dtype for parameter in encoder.parameters()} == {torch.bfloat16}
        exact = encoded(open_base(trainer.base), torch.float32)[0][:1, :77]
        with torch.no_grad():
            found = methods[-1].backbone.prompts.stack.encode(PROMPTS[:1]).hidden_bsd
        assert 0 < (found - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_prompts_of_class_pictures_are_read_so_where_the_unet_draws_in_16_bits(tmp_path, monkeypatch, dtype):
    base = open_base(tiny.single_file(tmp_path, dtype=torch.float16))
    monkeypatch.setattr(class_images, "dtype_on", lambda device: dtype)
    (encoder,) = class_images.load_text(RunConfig(clip_skip=1), base, CPU).encoders
    assert any(isinstance(module, Packed) for module in encoder.modules()) == (dtype == torch.float16)
