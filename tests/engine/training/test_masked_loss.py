"""The masked loss against the formula written down a second time, for each method, step and accumulated batch; and the
base's own prediction as a second target against a base that was opened anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine.conditioning.text_encoding import TextStack
from dreambooth_ext.engine.memory_estimate import estimate
from dreambooth_ext.engine.methods import METHODS
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.training import loss as objective
from dreambooth_ext.engine.training.latent_backbone import LatentBackbone
from dreambooth_ext.engine.training.loss import predict
from dreambooth_ext.engine.training.pixel_backbone import PixelBackbone
from tests import training
from tests.engine.training.test_loss import expected_error, expected_threshold
from tests.engine.worker.test_resume import check
from tests.seldom import seldom
from tests.training import Trainer

MASKED = {"masked_loss": True, "unmasked_weight": 0.2, "masked_prior_preservation_weight": 0.7}


def masked(folder: Path, count: int = 3, sizes=((64, 64),)) -> str:
    """Noise with masks of different boxes beside it; the last picture has none."""
    training.pictures(folder, count, sizes=sizes)
    for number, path in enumerate(sorted(folder.glob("*.png"))[:-1]):
        with Image.open(path) as picture:
            mask = Image.new("L", picture.size)
        mask.paste(255, (8, 8 * number, mask.width // 2, mask.height))
        mask.save(path.with_name(f"{path.stem}-masklabel.png"))
    return str(folder)


@pytest.fixture
def trainer(tmp_path) -> Trainer:
    return Trainer(tmp_path, instance_data_dir=masked(tmp_path / "pictures"))


class Pass:
    """One forward pass of a batch, and all that the loss was made of."""

    batch: Any = None
    draws: Any = None

    def __init__(self) -> None:
        self.predictions: list[tuple[dict[str, Any], torch.Tensor]] = []  # what a UNet was given, and said


@pytest.fixture
def passes(monkeypatch) -> list[Pass]:
    found: list[Pass] = []
    draw = objective.draw_noise

    def seen(unet, input_bchw, timesteps_b, conditioning, time_ids_b6):
        said = predict(unet, input_bchw, timesteps_b, conditioning, time_ids_b6)
        given = {"input": input_bchw, "timesteps": timesteps_b, "conditioning": conditioning, "time_ids": time_ids_b6}
        found[-1].predictions.append((given, said.detach().clone()))
        return said

    def drawn(*given):
        found[-1].draws = draw(*given)
        return found[-1].draws

    for backbone in (LatentBackbone, PixelBackbone):
        loss = backbone.loss

        def began(self, objective, batch, generator, loss=loss):
            found.append(Pass())
            found[-1].batch = batch
            return loss(self, objective, batch, generator)

        monkeypatch.setattr(backbone, "loss", began)
    monkeypatch.setattr(objective, "predict", seen)
    monkeypatch.setattr(objective, "draw_noise", drawn)
    return found


def direct(config: RunConfig, made: Pass) -> float:
    """The loss of one pass: what is inside counts towards the noise, what is outside towards the base as well."""
    *of_base, (_, said) = made.predictions
    noise, said = (tensor.double().numpy() for tensor in (made.draws.noise_bchw, said))
    steps = made.draws.timesteps_b.numpy()
    c = expected_threshold(config.huber_schedule, config.huber_c, steps)[:, None, None, None]
    masks = np.ones_like(noise[:, :1]) if made.batch.masks_b1hw is None else made.batch.masks_b1hw.double().numpy()
    errors = expected_error(config.loss_type, said - noise, c) * masks
    if of_base:
        (_, base), outside = of_base[0], made.batch.base_masks_b1hw.double().numpy()
        errors += expected_error(config.loss_type, said - base.double().numpy(), c) * outside
    return float((errors.mean(axis=(1, 2, 3)) * made.batch.weights_b.double().numpy()).sum())


METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 2, "learning_rate": 5e-2, "network_dropout": 0.3},
    "lora with text": {"method": "lora", "rank": 2, "learning_rate": 5e-2, "text_encoder_steps": 2},
    "lora with a word": {"method": "lora", "rank": 2, "learning_rate": 5e-2, "placeholder_token": "sksper",
                         "embedding_lr": 0.1, "embedding_steps": 2},
    "dreambooth": {},
    "dreambooth with text": {"text_encoder_steps": 2},
    "hypernetwork": {"method": "hypernetwork", "text_encoder_steps": None, "learning_rate": 1e-1},
}  # fmt: skip


@pytest.mark.parametrize("name", seldom(METHOD_SETTINGS, but=["lora with text", "dreambooth", "hypernetwork"]))
def test_each_step_has_the_loss_of_the_formula(trainer, passes, name):
    """And the base's predictions are those of a base that nothing was trained on."""
    settings = {**MASKED, **METHOD_SETTINGS[name], "train_batch_size": 2, "gradient_accumulation_steps": 2}
    run = trainer.train(**settings)
    per_step = [passes[at : at + 2] for at in range(0, len(passes), 2)]
    assert training.losses(run) == pytest.approx(
        [np.mean([direct(run.config, one) for one in step]) for step in per_step], rel=1e-4
    )
    assert any(len(one.predictions) == 2 for one in passes)
    base = open_base(run.config.base_model)
    unet = base.unet().eval()
    text = TextStack(
        base.tokenizers(), base.text_encoders(), base.family.text, clip_skip=base.family.text.clip_skip, max_tokens=75
    )
    moved = False
    for one in passes:
        for given, said in one.predictions[:-1]:
            with torch.no_grad():
                conditioning = text.encode(one.batch.captions, emphasis=False)
                wanted = predict(unet, given["input"], given["timesteps"], conditioning, given["time_ids"])
            torch.testing.assert_close(given["conditioning"].hidden_bsd, conditioning.hidden_bsd)
            torch.testing.assert_close(said, wanted)
            moved = moved or not torch.allclose(one.predictions[-1][1], said, atol=1e-3)
    assert moved  # the model that learns says something else after a few steps


@pytest.mark.parametrize("loss_type", ["l2", "l1", "huber", "smooth_l1"])
@pytest.mark.parametrize("normalised", [True, False])
def test_each_type_of_loss(trainer, passes, loss_type, normalised):
    run = trainer.train(**MASKED, loss_type=loss_type, normalize_masked_area_loss=normalised, method="lora", rank=2)
    assert training.losses(run) == pytest.approx([direct(run.config, one) for one in passes], rel=1e-4)


@pytest.mark.parametrize("method", ["dreambooth", "lora"])
def test_with_class_pictures_buckets_and_flips(tmp_path, passes, method):
    """Class pictures count as a whole, and are not drawn towards the base; a step has a pass for each size."""
    sizes = ((64, 64), (256, 128), (128, 256))
    pictures = masked(tmp_path / "pictures", 5, sizes)
    classes = training.pictures(tmp_path / "classes", 2)
    trainer = Trainer(tmp_path, instance_data_dir=pictures)
    settings = {"class_prompt": "a person", "class_data_dir": classes, "num_class_images": 2, "enable_bucket": True}
    settings |= {"resolution": 128, "random_flip": True, "method": method, "train_batch_size": 2, "max_train_steps": 5}
    run = trainer.train(**MASKED, **settings)
    losses, at = [], 0
    for loss in training.losses(run):  # each step takes as many passes as make its loss
        total, first = direct(run.config, passes[at]), at
        at += 1
        if total != pytest.approx(loss, rel=1e-4):
            total += direct(run.config, passes[at])
            at += 1
        losses.append(total)
        assert at - first <= 2
    assert losses == pytest.approx(training.losses(run), rel=1e-4) and at == len(passes) > len(losses)
    for one in passes:
        for index, key in enumerate(one.batch.keys):
            if "classes" in key:
                assert torch.equal(one.batch.masks_b1hw[index], torch.ones_like(one.batch.masks_b1hw[index]))
                assert one.batch.base_masks_b1hw is None or not one.batch.base_masks_b1hw[index].any()


def test_random_crops(trainer, passes):
    run = trainer.train(**MASKED, center_crop=False, method="lora", rank=2)
    assert training.losses(run) == pytest.approx([direct(run.config, one) for one in passes], rel=1e-4)


def test_the_validation_loss_is_masked_as_the_training_loss(trainer, passes):
    run = trainer.train(**MASKED, validation_split=1, validation_loss_steps=4, method="lora", rank=2)
    measured = [event["loss"] for event in training.events(run, "validation")]
    of_held = [one for one in passes if one not in passes[4:8]]  # four draws before, four steps, four draws after
    first, last = of_held[:4], of_held[4:]
    assert measured == pytest.approx([np.mean([direct(run.config, one) for one in part]) for part in (first, last)])


def test_models_of_pixels(tmp_path, passes):
    settings = training.pixel_settings(tmp_path, masked_loss=True, unmasked_weight=0.0)
    settings["train_data_dir"] = masked(tmp_path / "masked")
    run = Trainer(tmp_path, **settings).train()
    assert all(one.batch.masks_b1hw.shape[2:] == (32, 32) for one in passes)
    assert any(one.batch.masks_b1hw.min() == 0 for one in passes)
    assert training.losses(run) == pytest.approx([pixel_loss(one) for one in passes], rel=1e-4)


def pixel_loss(made: Pass) -> float:
    ((_, said),) = made.predictions
    errors = (said - made.draws.noise_bchw).double() ** 2 * made.batch.masks_b1hw.double()
    return float((errors.mean(dim=(1, 2, 3)) * made.batch.weights_b.double()).sum())


def test_what_is_outside_has_no_gradient_without_weight():
    """Of the loss itself: only predictions inside the mask are pulled anywhere."""
    config = RunConfig()
    from tests.engine.training.test_loss import SCHEDULER, objective_of

    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 2.0
    said = torch.zeros(1, 4, 8, 8, requires_grad=True)
    made = objective_of(config, SCHEDULER, "epsilon")
    made._errors(said, torch.ones_like(said), torch.tensor([500]), mask).mean().backward()
    assert not said.grad[..., 4:].any() and (said.grad[..., :4] != 0).all()


# --- going on


@pytest.mark.parametrize("name", seldom(METHOD_SETTINGS, but=["lora with a word", "dreambooth with text"]))
def test_a_resumed_run_is_equal_to_the_bit(trainer, name):
    """The base's predictions are the base's after a resume, too, whatever has been learned by then."""
    check(trainer, (1, 3), **MASKED, **METHOD_SETTINGS[name], random_flip=True)


def test_also_with_weights_in_bfloat16(trainer):
    """The copy of the base is not rounded along with what learns."""
    bf16 = {"weight_precision": "bf16", "mixed_precision": "bf16"}
    check(trainer, (1, 3), **MASKED, **bf16, text_encoder_steps=2)


# --- what it costs


def test_the_estimate_counts_the_copy_of_the_base(trainer):
    from dreambooth_ext.core.data.concepts import Subjects
    from dreambooth_ext.engine import plan

    base = open_base(str(trainer.base))

    def bytes_of(**settings) -> int:
        config = plan.resolve(trainer.config(masked_loss=True, cache_latents=False, **settings), base)
        return estimate(config, base, Subjects.of(config), draws=False)

    with_base = {"masked_prior_preservation_weight": 1.0}
    unet = base.parameter_counts()["unet"]
    assert bytes_of(**with_base) - bytes_of() == 4 * unet
    lora = {"method": "lora", "rank": 2}
    assert bytes_of(**lora, **with_base) == bytes_of(**lora)  # its network is switched off instead
    assert METHODS["dreambooth"].share(trainer.config(masked_loss=True), base).frozen == 0
