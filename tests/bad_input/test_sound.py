"""What is odd but sound is taken: the settings that the rows change, paths as people write them, strange pictures."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dreambooth_ext.commands import train
from dreambooth_ext.commands.support import config_options
from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import paths
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.pictures.picture_file import open_picture
from dreambooth_ext.host.pictures import image_decoding
from tests import tiny
from tests.bad_input import sound
from tests.bad_input.case import timed
from tests.bad_input.rows.descriptions import put
from tests.bad_input.rows.no_files import KINDS
from tests.bad_input.rows.pictures import BROKEN, alone, picture_config
from tests.bad_input.verbs import CHECK, config_of, inspected, parsed


def found_in(values: dict, folder: Path) -> list:
    return CHECK.read(values, folder)


def test_the_settings_that_the_rows_change_are_good(tmp_path):
    assert found_in(sound.settings(tmp_path), tmp_path) == []


def test_the_run_that_the_rows_change_is_good(tmp_path):
    assert inspected(config_of(), tmp_path) == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("form", ['"{}"', "'{}'", "{} ", " {}", '" {} "', "{}/"])
def test_paths_with_quotation_marks_and_blanks(tmp_path, form):
    """Windows' "Copy as path" puts quotation marks around a path."""
    values = sound.settings(tmp_path)
    mine, base = form.format(values["instance_data_dir"]), form.rstrip("/").format(values["base_model"])
    assert found_in(values | {"instance_data_dir": mine, "base_model": base}, tmp_path) == []
    concepts = [{"instance_data_dir": mine, "instance_prompt": "sksper"}]
    values |= {"concepts": concepts, "instance_data_dir": None, "instance_prompt": None}
    assert found_in(values, tmp_path) == []


def test_odd_letters_and_blanks_in_all_paths(tmp_path):
    folder = tmp_path / "Мои фото 写真 (1) & 'x'"
    folder.mkdir()
    assert found_in(sound.settings(folder), folder) == []
    text = f"{folder}/неживой/runs"
    assert config_checks.folder_problems("runs_dir", Path(text)) == []
    assert parsed(train.add_arguments, "--runs-dir", f'"{text}"').runs_dir == Path(text)


def test_home_folder(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    values = sound.settings(tmp_path) | {"instance_data_dir": "~/mine", "base_model": "~/base.safetensors"}
    assert found_in(values, tmp_path) == []
    assert parsed(train.add_arguments, "--output-dir", "~/models").output_dir == tmp_path / "models"
    config = paths.absolute(parse(values)[0])
    assert config.instance_data_dir == str(tmp_path / "mine")
    assert config.base_model == str(tmp_path / "base.safetensors")
    (problem,) = found_in(values | {"base_model": "~nobody-here/x.ckpt"}, tmp_path)
    assert problem.field == "base_model" and "no file or folder" in problem.message


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(sound.settings(tmp_path)), encoding="utf-8-sig")
    assert config_options.complete_arguments(parsed(train.add_arguments, "--config", tmp_path / "c.json"))[3] == []


# --- pictures


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_picture_is_named_and_left_out(tmp_path, what):
    alone(BROKEN[what])(tmp_path)
    config, warnings = picture_config(tmp_path), []
    with pytest.raises(UserError):
        Dataset(config, Subjects.of(config), picture_entries.entries(config)[0], 1.0).encode(None, warn=warnings.append)
    assert len(warnings) == 1 and "плохая (1).jpg" in str(warnings[0])
    (tmp_path / "good.jpg").write_bytes(sound.encoded("JPEG"))
    dataset = Dataset(config, Subjects.of(config), picture_entries.entries(config)[0], 1.0)
    dataset.encode(None)
    assert [picture.entry.path.name for picture in dataset.pictures] == ["good.jpg"]


def test_pictures_that_are_odd_but_sound(tmp_path):
    """One pixel, a line, an animation, a wrong ending: all of them train."""
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (1, 5000)).save(tmp_path / "line.png")
    Image.new("RGB", (64, 64)).save(
        tmp_path / "a.webp", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")]
    )
    (tmp_path / "png.jpg").write_bytes(sound.encoded("PNG"))
    config = picture_config(tmp_path)
    dataset = Dataset(config, Subjects.of(config), picture_entries.entries(config)[0], 1.0)
    dataset.encode(None)
    assert len(dataset.pictures) == 4
    assert dataset.batches(0)[0].pixels_bchw.shape == (1, 3, 64, 64)


def test_a_video_behind_a_jpeg_counts_no_passes(tmp_path):
    """Telephones' moving pictures; and thumbnails are pictures in a picture."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG", progressive=True)
    content = stream.getvalue() + b"\xff\xda" * 1000
    assert open_picture(put(tmp_path / "a.jpg", content)).size == (64, 64)
    assert image_decoding.check_picture("a.jpg", content) == (64, 64)


def test_a_jpeg_of_passes_is_refused_by_everything_that_decodes(tmp_path):
    path = put(tmp_path / "a.jpg", BROKEN["a JPG of passes"]())
    for decode in (
        open_picture,
        lambda _: image_decoding.check_picture("a.jpg", path.read_bytes()),
        lambda _: image_decoding.thumbnail(_, 64),
    ):
        assert timed(lambda decode=decode: decode(path))
    with pytest.raises(UserError, match="more passes"):
        open_picture(path)


# --- beside pictures and models


@pytest.fixture(params=KINDS)
def endless(request, tmp_path_factory) -> Iterator[Path]:
    yield KINDS[request.param](tmp_path_factory.mktemp("e"))  # a socket's path is short


@pytest.mark.skipif(os.name == "nt", reason="links and devices of POSIX")
def test_what_is_no_file_beside_pictures_and_models(endless, tmp_path):
    """A caption, a metadata file and a yaml that are none: the first is told, the others do not count."""
    place = sound.pictures_in(tmp_path / "pictures")
    (place / "sksper (1).txt").symlink_to(endless)
    (place / "metadata.jsonl").symlink_to(endless)
    config = picture_config(place).replace(use_captions=True)
    assert "device or a pipe" in " ".join(map(str, timed(lambda: picture_entries.entries(config)[1])))
    path = tiny.single_file(tmp_path, "sd2", sidecar=False)
    path.with_suffix(".yaml").symlink_to(endless)
    assert timed(lambda: open_base(path).name) == path.stem
