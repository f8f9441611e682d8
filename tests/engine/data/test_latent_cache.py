"""Latents on disk: found again for the same content only, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.data import latent_encoding
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.data.latent_cache import DiskCache, MemoryCache, content_key, vae_fingerprint
from dreambooth_ext.engine.training.latent_backbone import LatentBackbone


def make_vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Encode a folder of pictures into a cache on disk; returns the dataset and how many were encoded for it."""
    folder = tmp_path / "мои картинки"
    folder.mkdir()
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"sksper ({i}).png")

    def encode(vae=None, **values) -> tuple[Dataset, int]:
        config = RunConfig(
            instance_data_dir=str(folder),
            cache_latents_to_disk=True,
            **{"resolution": 64, "instance_prompt": "sksper", **values},
        )
        made = Dataset(
            config, Subjects.of(config), picture_entries.entries(config)[0], 0.18215, cache_dir=tmp_path / "кэш"
        )
        vae, count = vae or make_vae(), []
        real = vae.encode
        monkeypatch.setattr(vae, "encode", lambda x: (count.append(len(x)), real(x))[1])
        made.encode(vae)
        return made, sum(count)

    encode.folder, encode.cache = folder, tmp_path / "кэш"
    return encode


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_a_second_run_encodes_nothing_and_trains_on_the_same(run):
    (first, encoded), (second, again) = run(), run()
    assert (encoded, again) == (4, 0)
    assert torch.equal(first.batches(2)[0].latents_bchw, second.batches(2)[0].latents_bchw)


def test_disk_and_memory_give_the_same(run):
    disk, _ = run()
    config = disk.config.replace(cache_latents_to_disk=False)
    memory = Dataset(config, Subjects.of(config), disk.entries, 0.18215)
    memory.encode(make_vae())
    assert torch.equal(disk.batches(1)[0].latents_bchw, memory.batches(1)[0].latents_bchw)


def test_an_edited_picture_is_encoded_again(run):
    run()
    path = run.folder / "sksper (1).png"
    stamp = path.stat().st_mtime_ns
    Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
    os.utime(path, ns=(stamp, stamp))  # the same name, size and time
    assert run()[1] == 1


def test_a_renamed_picture_is_not(run):
    run()
    (run.folder / "sksper (1).png").rename(run.folder / "sksper (9).png")
    assert run()[1] == 0


def test_another_vae_size_or_side_is_encoded_again(run):
    run()
    assert run(make_vae(1))[1] == 4
    assert run(resolution=128)[1] == 4
    assert run(random_flip=True)[1] == 4  # the mirrored ones
    assert run(random_flip=True)[1] == 0


def test_an_edited_caption_needs_no_encoding_but_is_trained(run):
    run()
    made, encoded = run(instance_prompt="ohwx")
    assert encoded == 0 and made.batches(0)[0].captions == ["ohwx"]


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b[:100] + b"\xff" + b[101:]])
def test_damaged_files_are_made_again(run, damage):
    first, _ = run()
    victim = files(run.cache)[0]
    sound = victim.read_bytes()
    victim.write_bytes(damage(sound))
    second, encoded = run()
    assert encoded == 1
    assert torch.allclose(second.batches(0)[0].latents_bchw, first.batches(0)[0].latents_bchw, atol=1e-5)
    assert all(not p.name.startswith(".tmp-") for p in files(run.cache))


def test_damage_while_training_is_told(run):
    made, _ = run()
    for path in files(run.cache):
        path.unlink()
    with pytest.raises(UserError, match="damaged or deleted"):
        made.batches(0)


def test_an_interrupted_encoding_goes_on(run, monkeypatch):
    monkeypatch.setitem(latent_encoding.PIXELS_AT_ONCE, "cpu", 64 * 64)
    real, left = DiskCache.put, [2]

    def put(self, key, moments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(self, key, moments)

    with monkeypatch.context() as patch:
        patch.setattr(DiskCache, "put", put)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert run()[1] == 2


class Small(AutoencoderKL):
    """One that has no room for more than `pictures` at once."""

    def encode(self, x, *rest):
        if len(x) > self.pictures:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return super().encode(x, *rest)


def test_fewer_pictures_at_once_where_memory_does_not_do(run):
    usual, _ = run()
    shown = usual.batches(0)
    run.cache.rename(run.cache.with_name("other"))
    vae = make_vae()
    vae.__class__, vae.pictures = Small, 1
    made, _ = run(vae)
    for one, other in zip(shown, made.batches(0), strict=True):
        torch.testing.assert_close(one.latents_bchw, other.latents_bchw)


def test_a_picture_that_has_no_room_at_all_is_told(run):
    vae = make_vae()
    vae.__class__, vae.pictures = Small, 0
    with pytest.raises(UserError) as caught:
        run(vae)
    assert caught.value.problem.field == "resolution" and "64 x 64" in caught.value.problem.message


def test_no_more_than_a_picture_of_512_goes_through_a_card_at_once():
    """A larger one goes alone; it takes 0.67 GB, where four of them, or one of 1024, took 2.7 GB."""
    for resolution, expected in ((256, 4), (512, 1), (1024, 1)):
        assert latent_encoding._at_once(torch.device("cuda", 1), resolution**2) == expected


def test_pictures_that_are_not_cached_go_through_the_vae_in_such_parts_too(monkeypatch):
    vae, sizes = make_vae(), []
    vae.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setitem(latent_encoding.PIXELS_AT_ONCE, "cpu", 2 * 64 * 64)
    pixels = torch.rand(5, 3, 64, 64) * 2 - 1
    backbone = LatentBackbone(torch.nn.Module(), None, vae, 0.5, inpainting=False, encoding=lambda done, total: None)
    drawn = backbone._encode(pixels, torch.Generator().manual_seed(3))
    assert sizes == [2, 2, 1]
    posterior = vae.encode(pixels).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, (posterior.mean + posterior.std * noise) * 0.5, rtol=1e-4, atol=1e-5)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        DiskCache(tmp_path / "file").put("ab" * 32, torch.zeros(8, 2, 2))
    assert caught.value.problem.field == "cache_latents_to_disk"


def test_keys_tell_everything_apart():
    keys = [
        content_key(p, crop, flip, vae)
        for p in ("a", "b")
        for crop in (((1, 2), (3, 4), 0, 0), ((1, 2), (3, 4), 0, 1))
        for flip in (False, True)
        for vae in ("x", "y")
    ]
    assert len(set(keys)) == 16


def test_fingerprint_is_the_same_in_every_process():
    """diffusers lists the settings that were left out in the order of a set: another one in each process."""
    vae, orders = make_vae(), (["a", "b"], ["b", "a"])
    prints = set()
    for order in orders:
        vae.register_to_config(_use_default_values=order)
        prints.add(vae_fingerprint(vae))
    assert len(prints) == 1


def test_fingerprint_is_of_the_encoders_values():
    vae, half = make_vae(), make_vae().half()
    assert vae_fingerprint(vae) == vae_fingerprint(make_vae()) != vae_fingerprint(half)  # half has lost digits
    before = vae_fingerprint(vae)
    torch.nn.init.zeros_(vae.decoder.conv_out.weight)
    assert vae_fingerprint(vae) == before
    torch.nn.init.zeros_(vae.encoder.conv_in.weight)
    assert vae_fingerprint(vae) != before


def test_memory_is_halved_only_when_it_is_large():
    assert MemoryCache(2**20).dtype == torch.float32
    large = MemoryCache(5 * 2**30)
    large.put("a", torch.full((8, 2, 2), 1.0001))
    assert large.get("a").dtype == torch.float32 and large._moments["a"].dtype == torch.float16
