"""kohya's data set configuration: what it says reaches the pictures, and what cannot is said, key by key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import paths
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import kohya_dataset, picture_entries
from dreambooth_ext.core.data.concepts import Subjects, concepts
from dreambooth_ext.engine.data.dataset import Dataset

FULL = """
[general]
shuffle_caption = true
keep_tokens = 1
caption_extension = '.caption'

[[datasets]]
resolution = 768
batch_size = 4
enable_bucket = true

  [[datasets.subsets]]
  image_dir = 'girl'
  class_tokens = 'hoge girl'
  num_repeats = 3
  flip_aug = true

  [[datasets.subsets]]
  image_dir = 'dog'
  caption_dropout_rate = 0.1
  caption_tag_dropout_rate = 0.2
  shuffle_caption = false
  caption_prefix = 'photo of'
  caption_suffix = 'outside'
"""


def make(folder: Path, *names: str, **texts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def home(tmp_path) -> Path:
    make(tmp_path / "girl", "1.png", "2.png", "below/3.png", **{"1.caption": "hoge girl, smiling, hat"})
    make(tmp_path / "dog", "a brown dog.png", "b.png", **{"b.caption": "a dog, running"})
    return tmp_path


def write(home: Path, text: str, name: str = "set.toml") -> RunConfig:
    (home / name).write_text(text, encoding="utf-8")
    return RunConfig(method="finetune", dataset_config=str(home / name), base_model=str(home), use_captions=True)


def complaints(home: Path, text: str) -> str:
    return "\n".join(map(str, kohya_dataset.read(write(home, text).dataset_config).problems))


def test_a_whole_file(home):
    config = write(home, FULL)
    completed, choices, entries, problems, _ = config_checks.check(config)
    assert not problems
    assert (completed.resolution, completed.train_batch_size, completed.enable_bucket) == (768, 4, True)
    assert choices["train_batch_size"].reason.code == "guide.of_data_set" and completed.name == "set"
    assert [(e.path.name, e.caption, e.repeats) for e in entries] == [
        ("1.png", "hoge girl, smiling, hat", 3),
        ("2.png", "hoge girl", 3),  # no caption: the class tokens. And nothing from below, as kohya
        ("a brown dog.png", "photo of a brown dog outside", 1),
        ("b.png", "photo of a dog, running outside", 1),
    ]
    girl, dog = (concept.variation for concept in concepts(completed))
    assert (girl.shuffle_tags, girl.keep_tokens, girl.random_flip, girl.caption_dropout) == (True, 1, True, 0.0)
    assert (dog.shuffle_tags, dog.random_flip, dog.caption_dropout, dog.tag_dropout) == (False, False, 0.1, 0.2)


def test_json_is_the_same(home):
    tomllib = pytest.importorskip("tomllib")
    values = json.dumps(tomllib.loads(FULL))
    assert kohya_dataset.read(write(home, values, "set.json").dataset_config) == kohya_dataset.read(
        write(home, FULL).dataset_config
    )


def test_each_folder_varies_as_it_says(home):
    """In the engine: the girl's tags are shuffled, the dog's never."""
    config = write(home, FULL).replace(resolution=64, cache_latents=False)
    made = Dataset(config, Subjects.of(config), [], 1.0)
    assert [variation.shuffle_tags for variation in made._variations] == [True, False]


def test_the_runs_settings_hold_where_the_file_says_nothing(home):
    config = write(home, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'girl'").replace(
        tag_dropout=0.5, random_flip=True, caption_extension=".caption"
    )
    (concept,) = concepts(config)
    assert concept.variation.tag_dropout == 0.5 and concept.variation.random_flip
    assert picture_entries.problems(config) == []


def test_class_pictures_go_with_their_subject(home):
    make(home / "reg girl", "r1.png", "r2.png")
    make(home / "reg dog", "d.png")
    text = """
    [[datasets]]
    [[datasets.subsets]]
    image_dir = 'girl'
    class_tokens = 'hoge girl'
    [[datasets.subsets]]
    image_dir = 'dog'
    class_tokens = 'fuga dog'
    [[datasets.subsets]]
    image_dir = 'reg girl'
    class_tokens = 'girl'
    is_reg = true
    [[datasets.subsets]]
    image_dir = 'reg dog'
    class_tokens = 'dog'
    is_reg = true
    num_repeats = 2
    """
    config = write(home, text).replace(method="dreambooth", with_prior_preservation=None)
    entries, problems = picture_entries.entries(config)
    assert not problems and not picture_entries.problems(config)
    assert [(e.path.name, e.caption, e.concept) for e in entries if e.is_class] == [
        ("r1.png", "girl", 0),
        ("r2.png", "girl", 0),
        ("d.png", "dog", 1),
    ]
    assert "num_repeats" in picture_entries.warnings(config, entries)[0].message
    completed, choices, known, _, _ = config_checks.check(config)
    assert completed.with_prior_preservation is True and known == entries
    assert choices["with_prior_preservation"].reason.code == "guide.class_pictures"
    finetune = picture_entries.problems(config.replace(method="finetune"))
    assert [problem.field for problem in finetune] == ["dataset_config"] and "is_reg" in str(finetune[0])


@pytest.mark.parametrize("method", ["dreambooth", "lora"])
def test_class_pictures_are_in_the_batches(home, method):
    """Of the config as a run gets it, completed by the guide: half of each batch, as of a class folder."""
    make(home / "reg", "r1.png", "r2.png")
    text = """
    [[datasets]]
    [[datasets.subsets]]
    image_dir = 'girl'
    class_tokens = 'hoge girl'
    [[datasets.subsets]]
    is_reg = true
    image_dir = 'reg'
    class_tokens = 'girl'
    """
    for path in home.glob("*/*.png"):
        Image.new("RGB", (64, 64)).save(path)
    asked = write(home, text).replace(method=method, resolution=64, cache_latents=False)
    config, _, entries, problems, _ = config_checks.check(asked)
    assert not problems
    made = Dataset(config, Subjects.of(config), entries, 1.0)
    made.encode(None)
    (batch,) = made.batches(0)
    assert sorted(batch.captions) == ["girl", "hoge girl"] and len(batch.weights_b) == 2


def test_metadata_names_pictures_and_captions(home):
    about = {
        "girl/1": {"caption": "a girl", "tags": "hat, smile"},
        "girl/below/3.png": {"tags": "below"},
        str(home / "dog" / "b.png"): {"caption": "a dog", "train_resolution": [512, 512]},
    }
    (home / "meta_lat.json").write_text(json.dumps(about), encoding="utf-8")
    text = "[[datasets]]\n[[datasets.subsets]]\nmetadata_file = 'meta_lat.json'\nnum_repeats = 2"
    entries, problems = picture_entries.entries(write(home, text))
    assert not problems
    assert [(e.path.name, e.caption, e.repeats) for e in entries] == [
        ("b.png", "a dog", 2),
        ("1.png", "a girl, hat, smile", 2),
        ("3.png", "below", 2),
    ]


@pytest.mark.parametrize("leaving", ["../girl/1", "/etc/passwd", "..\\girl\\1", "a/../../b"])
def test_metadata_that_leads_out_of_its_folder_is_refused(home, leaving):
    (home / "dog" / "meta.json").write_text(json.dumps({leaving: {"caption": "x"}}), encoding="utf-8")
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'dog'\nmetadata_file = 'dog/meta.json'"
    (problem,) = picture_entries.entries(write(home, text))[1]
    assert problem.field == "dataset_config" and problem.values["faults"][0].code == "captions.entry_outside"


SUBSET = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'girl'\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = girl", "line 3"),
        (SUBSET + "color_aug = true", "datasets[0].subsets[0]: color_aug = True is not supported."),
        (SUBSET + "random_crop = true", "center_crop"),
        (SUBSET + "token_warmup_min = 5", "token_warmup_min"),
        (SUBSET + "keep_tokens_separator = '|||'", "keep_tokens"),
        (SUBSET + "shuffle_captions = true", "Did you mean 'shuffle_caption'?"),
        (SUBSET + "resolution = 512", "belongs in [[datasets]]"),
        (SUBSET + "keep_tokens = 'many'", "keep_tokens: 'many' is not a number"),
        (SUBSET + "caption_dropout_rate = 2", "out of range"),
        (SUBSET + "num_repeats = 1.5", "num_repeats = 1.5 is not a whole number"),
        (SUBSET + "num_repeats = 0", "num_repeats = 0"),
        (SUBSET + "is_reg = 'yes'", "is_reg = 'yes' is neither true nor false"),
        (SUBSET + "[other]\na = 1", "'other' is not one of its tables"),
        ("[general]\nimage_dir = 'girl'\n" + SUBSET, "general: image_dir belongs in [[datasets.subsets]]"),
        ("[[datasets]]\nresolution = [512, 768]\n[[datasets.subsets]]\nimage_dir = 'girl'", "one number"),
        ("[[datasets]]\nbatch_size = 0\n[[datasets.subsets]]\nimage_dir = 'girl'", "out of range"),
        ("[[datasets]]\nresolution = 512\n[[datasets]]\nresolution = 768", "one resolution"),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 1", "image_dir is missing"),
        ("[datasets]\na = 1", "not a list of tables"),
        ("datasets = [1]", "not a list of tables"),
        ("", "names no pictures"),
    ],
)
def test_bad_files(home, text, said):
    assert said in complaints(home, text)


def test_files_that_cannot_be_read(home):
    for path in (home / "none.toml", home, "a\0b"):
        (problem,) = kohya_dataset.read(str(path)).problems
        assert problem.field == "dataset_config" and problem.remedy
    (home / "x.toml").write_bytes("# кот".encode("cp1251"))
    assert "UTF-8" in str(kohya_dataset.read(str(home / "x.toml")).problems[0])
    (home / "x.json").write_text("[" * 100_000, encoding="utf-8")
    assert kohya_dataset.read(str(home / "x.json")).problems[0].code == "dataset.not_parsed"


def test_what_differs_is_a_warning(home):
    found = kohya_dataset.read(
        write(home, "[general]\nmin_bucket_reso = 256\nbucket_reso_steps = 64\n" + SUBSET).dataset_config
    )
    (warning,) = found.warnings
    assert not found.problems and warning.values["reason"].code == "dataset.smallest_bucket"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"instance_data_dir": "girl"}, "instance_data_dir"),
        ({"instance_prompt": "x"}, "instance_prompt"),
        ({"train_batch_size": 2}, "train_batch_size"),
        ({"resolution": 512}, "resolution"),
        ({"shuffle_tags": True}, "shuffle_tags"),
        ({"repeats_from_folders": True}, "repeats_from_folders"),
    ],
)
def test_what_does_not_go_beside_it(home, settings, field):
    _, _, _, problems, _ = config_checks.check(write(home, FULL).replace(**settings))
    assert [problem.field for problem in problems] == [field]


def test_a_run_finds_it_from_anywhere(home, monkeypatch):
    write(home, FULL)
    monkeypatch.chdir(home)
    fixed = paths.absolute(RunConfig(method="finetune", dataset_config="set.toml"))
    assert fixed.dataset_config == str(home / "set.toml")
    assert concepts(fixed)[0].instance_data_dir == str(home / "girl")


@pytest.mark.parametrize("method", ["lora", "dreambooth", "finetune", "textual_inversion"])
def test_a_check_reads_the_file_once(home, monkeypatch, method):
    """Whoever else asks during the check gets what was read, so that a file that changes gives no two answers."""
    of_class = "[[datasets.subsets]]\nimage_dir = 'dog'\nclass_tokens = 'girl'\nis_reg = true\n"
    config = write(home, FULL + of_class).replace(method=method, name="x")
    read, path = [], Path(config.dataset_config)
    original = kohya_dataset.read_text

    def changing(file, *limits):
        text = original(file, *limits)
        read.append(file)
        path.write_text("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'gone'\n", encoding="utf-8")
        return text

    expected = config_checks.check(config)
    said = picture_entries.warnings(expected.config, expected.entries, expected.subjects)
    monkeypatch.setattr(kohya_dataset, "read_text", changing)
    checked = config_checks.check(config)
    assert picture_entries.warnings(checked.config, checked.entries, checked.subjects) == said
    assert [file for file in read if file == path] == [path]
    assert checked == expected
