"""The demo base's file: what is assembled is what the engine opens, within the size that is promised."""

from __future__ import annotations

import torch
import yaml
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from dreambooth_ext.demo import assemble, train_vae, varied, world
from dreambooth_ext.engine.models.base_model import open_base


def random_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(**train_vae.CONFIG)


def test_the_engine_opens_it(tmp_path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    vae = random_vae()
    save_file(vae.state_dict(), folder / "vae.safetensors")
    base = open_base(str(assemble.write_base(folder / "vae.safetensors", folder)))
    assert sum(base.parameter_counts().values()) * 2 < 30e6  # bytes in fp16
    assert base.architecture == assemble.architecture() or base.architecture.unet["sample_size"] == 8
    opened = base.vae(torch.float32).state_dict()
    assert all(torch.equal(tensor, opened[name]) for name, tensor in vae.state_dict().items())
    assert base.tokenizers()[0]("a red circle").input_ids[0] == 49406


def test_the_yaml_holds_whole_factors(tmp_path) -> None:
    """LDM multiplies its first width by whole numbers."""
    save_file(random_vae().state_dict(), tmp_path / "vae.safetensors")
    path = assemble.write_base(tmp_path / "vae.safetensors", tmp_path)
    params = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))["model"]["params"]
    unet, vae = params["unet_config"]["params"], params["first_stage_config"]["params"]["ddconfig"]
    assert [unet["model_channels"] * factor for factor in unet["channel_mult"]] == assemble.UNET["block_out_channels"]
    assert [vae["ch"] * factor for factor in vae["ch_mult"]] == train_vae.CONFIG["block_out_channels"]
    assert params["scale_factor"] == 0.18215


def test_rescaling_changes_no_picture() -> None:
    vae = random_vae()
    pixels = train_vae.as_tensor([world.draw_scene(world.example(0, index)[0]) for index in range(4)])
    with torch.no_grad():
        before = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
        train_vae.rescale(vae, pixels)
        posterior = vae.encode(pixels).latent_dist
        after = vae.decode(posterior.mode()).sample
    assert torch.allclose(before, after, atol=1e-4)
    torch.manual_seed(1)
    assert abs(posterior.sample().std().item() * 0.18215 - 1) < 0.1


def test_training_starts_with_the_colours() -> None:
    vae = random_vae()
    train_vae.begin_as_thumbnail(vae)
    backgrounds = [world.draw_background(name, 0, world.SIZE) for name in ("white", "black", "blue", "green", "pink")]
    pixels = train_vae.as_tensor(backgrounds)
    with torch.no_grad():
        output = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.mean((2, 3))
    correlation = torch.corrcoef(torch.stack([output.flatten(), pixels.mean((2, 3)).flatten()]))[0, 1]
    assert correlation > 0.9


def test_varied_pictures_need_no_photographs_to_be_drawn() -> None:
    rng = varied.np.random.default_rng(0)
    for drawn in [*(one(rng) for one in varied.BACKDROPS), *(varied.composite(rng) for _ in range(5))]:
        assert drawn.size == (world.SIZE, world.SIZE) and drawn.mode == "RGB"


def test_trained_parts_and_a_newer_autoencoder_come_together(tmp_path) -> None:
    save_file(random_vae().state_dict(), tmp_path / "old.safetensors")
    trained = assemble.write_base(tmp_path / "old.safetensors", tmp_path / "trained", seed=5)
    newer = {key: tensor + 1 for key, tensor in random_vae().state_dict().items()}
    save_file(newer, tmp_path / "newer.safetensors")
    made = open_base(assemble.write_base(tmp_path / "newer.safetensors", tmp_path / "made", trained=trained))
    for part in ("unet", "text_encoders"):
        ours, theirs = getattr(made, part)(), getattr(open_base(trained), part)()
        ours, theirs = (m[0] if isinstance(m, list) else m for m in (ours, theirs))
        assert all(torch.equal(t.half().float(), ours.state_dict()[k]) for k, t in theirs.state_dict().items())
    assert torch.equal(made.vae().state_dict()["decoder.conv_in.bias"], newer["decoder.conv_in.bias"].half().float())
