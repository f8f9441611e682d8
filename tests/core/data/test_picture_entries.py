"""Folders, identifiers, captions and templates: what each picture is trained with, and every problem at once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import captions, folder_scan, identifiers, picture_entries
from dreambooth_ext.core.data.concepts import Subjects, concepts


def make(folder: Path, *names: str, **texts: str) -> Path:
    """Empty files are enough: nothing here decodes a picture."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for stem, text in texts.items():
        (folder / f"{stem}.txt").write_text(text, encoding="utf-8")
    return folder


def captions_of(config: RunConfig) -> dict[str, str]:
    found, problems = picture_entries.entries(config)
    assert problems == []
    return {entry.path.name: entry.caption for entry in found}


def problems_of(**values) -> dict[str, str]:
    config = RunConfig(**values)
    found = picture_entries.problems(config) + picture_entries.entries(config)[1]
    assert all(problem.remedy for problem in found)
    return {problem.field: problem.message for problem in found}


def test_lists_pictures_only_in_natural_order(tmp_path):
    wanted = ["x (1).jpg", "x (2).JPG", "x (10).png", "x (11).WebP", "x (12).jfif", "x (13).JPE", "y.jpeg", "z.BMP"]
    wanted += ["sub/x 1.jpg"]
    junk = [".x.jpg", "x (1).txt", "x.preview.png", "a.gif", ".hidden/a.jpg", "__MACOSX/a.jpg", "notes.md"]
    shuffled = wanted + junk
    random.Random(0).shuffle(shuffled)
    make(tmp_path, *shuffled)
    found = [p.relative_to(tmp_path).as_posix() for p in folder_scan.list_pictures(tmp_path)]
    assert found == ["sub/x 1.jpg", *wanted[:-1]]


@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir/a.png", "#recycle", "$RECYCLE.BIN", ".thumbnails", ".Trash-1000/files", "System Volume Information"),
        *("lost+found", "@Recycle", "sub/@eadir"),
    ],
)
def test_what_systems_keep_in_a_folder_is_no_picture(tmp_path, folder):
    """Synology's thumbnails, Windows' and Linux' waste bins."""
    make(tmp_path, "10_x/a.png", f"10_x/{folder}/SYNOPHOTO_THUMB_XL.png", "10_x/Thumbs.db", "10_x/.DS_Store")
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="x", repeats_from_folders=True)
    found, problems = picture_entries.entries(config)
    assert problems == [] and [(entry.path.name, entry.repeats) for entry in found] == [("a.png", 10)]
    assert picture_entries.warnings(config, found) == []


def warned_of(config: RunConfig) -> list[str]:
    found, problems = picture_entries.entries(config)
    assert problems == []
    return [str(problem) for problem in picture_entries.warnings(config, found)]


def test_masks_beside_their_pictures_are_no_pictures(tmp_path):
    make(tmp_path, "a.jpg", "a-masklabel.png", "b.png", "b_mask.png", "c.png", "c-CondLabel.png", "d_mask.png", "e.jpg")
    make(tmp_path / "sub", "e_mask.png")  # its picture is elsewhere
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="x")
    names = [entry.path.name for entry in picture_entries.entries(config)[0]]
    assert names == ["a.jpg", "b.png", "c.png", "d_mask.png", "e.jpg", "e_mask.png"]
    masks, others = warned_of(config)
    assert masks.startswith("instance_data_dir: ") and "(2): a-masklabel.png, b_mask.png" in masks
    assert others.startswith("instance_data_dir: ") and "(1): c-CondLabel.png" in others


def test_pictures_of_other_formats_get_one_warning(tmp_path):
    make(tmp_path / "mine", "a.jpg", "b.jpg", "1.GIF", "2.tif", "3.tiff", "sub/4.avif", "sub/5.heic", "a.mov", "a.txt")
    make(tmp_path / "class", "c.png", "6.gif")
    values = {"instance_data_dir": str(tmp_path / "mine"), "instance_prompt": "x"}
    (warning,) = warned_of(RunConfig(**values))
    assert "(5): " in warning and "3.tiff" in warning and "5.heic" in warning and "a.mov" not in warning
    (warning,) = warned_of(RunConfig(**values, class_prompt="c", class_data_dir=str(tmp_path / "class")))
    assert "(6): " in warning and "1 more" in warning
    (warning,) = warned_of(RunConfig(method="unconditional", train_data_dir=str(tmp_path / "mine")))
    assert warning.startswith("train_data_dir: ") and "(5): " in warning


def test_folders_of_nothing_but_other_formats(tmp_path):
    make(tmp_path / "mine", "a.jpg")
    make(tmp_path / "telephone", *[f"{i}.heic" for i in range(7)])
    found = problems_of(instance_data_dir=str(tmp_path / "telephone"))
    assert "no picture" in found["instance_data_dir"] and "only 0.heic" in found["instance_data_dir"]
    values = {"instance_data_dir": str(tmp_path / "mine"), "instance_prompt": "x", "class_prompt": "c"}
    found = problems_of(**values, class_data_dir=str(tmp_path / "telephone"))  # not: draw 100 others into it
    assert "only 0.heic" in found["class_data_dir"] and "2 more" in found["class_data_dir"]


def test_lists_each_folder_of_a_circle_once(tmp_path):
    make(tmp_path, "a.jpg", "sub/b.jpg")
    try:
        (tmp_path / "sub" / "back").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert [p.name for p in folder_scan.list_pictures(tmp_path)] == ["a.jpg", "b.jpg"]


def test_the_order_is_that_of_the_paths_and_links_lead_nowhere_twice(tmp_path):
    make(
        tmp_path, "a 2/x 10.jpg", "a 2/x 9.jpg", "a 10/b.jpg", "a/B 1.jpg", "a b/c.jpg", "other/d.jpg", "z/.e.jpg", "f."
    )
    found = folder_scan.list_pictures(tmp_path, (tmp_path / "other",))
    assert len(found) == 5 and found == sorted(found, key=lambda path: captions.natural_key(path.relative_to(tmp_path)))
    try:
        (tmp_path / "z" / "link").symlink_to(tmp_path / "other", target_is_directory=True)
        (tmp_path / "z" / "twice").symlink_to(tmp_path / "a", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert folder_scan.list_pictures(tmp_path, (tmp_path / "other",)) == found
    assert len(folder_scan.list_pictures(tmp_path)) == 6


def test_a_check_walks_through_a_folder_once_and_asks_for_no_file_s_place(tmp_path, monkeypatch):
    """A folder may be a whole disk, and the page checks as one types."""
    make(tmp_path, "x (1).jpg", "x (1).txt", "sub/y (1).jpg", "sub/deep/z (1).jpg")
    walks, places, scandir, realpath = [], [], os.scandir, os.path.realpath
    monkeypatch.setattr(os, "scandir", lambda path: walks.append(path) or scandir(path))
    monkeypatch.setattr(os.path, "realpath", lambda path, **more: places.append(path) or realpath(path, **more))
    config = RunConfig(subject_type="style", instance_prompt="zkz style", instance_data_dir=str(tmp_path))
    completed, _, entries, _, _ = config_checks.check(config)
    assert completed.use_captions and len(entries) == 3
    assert len(walks) == 3 and {Path(place) for place in places} == {
        tmp_path / part for part in (".", "sub", "sub/deep")
    }


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("sksper (1).jpg", "sksper"),
        ("sksper 1.jpg", "sksper"),
        ("sksper_1.png", "sksper"),
        ("sksper-12.png", "sksper"),
        ("sksper.png", "sksper"),
        ("sksper12.png", "sksper"),
        ("person1 (3).jpg", "person1"),
        ("my photo (2).jpg", "my photo"),
        ("мама (1).jpg", "мама"),
        ("IMG_2034.jpg", ""),
        ("DSC01234.jpg", ""),
        ("0001.png", ""),
        ("20230101_123456.jpg", ""),
        ("(1).jpg", ""),
    ],
)
def test_identifier_from_the_file_name(name, word):
    assert captions.identifiers([Path(name)]) == {Path(name): word}


def test_a_digit_belongs_to_the_word_where_another_picture_says_so():
    found = captions.identifiers([Path("person1.jpg"), Path("person1 (2).jpg"), Path("dogx1.jpg"), Path("dogx2.jpg")])
    assert list(found.values()) == ["person1", "person1", "dogx", "dogx"]


@pytest.mark.parametrize("word", ["sksper", "sks", "ohwx", "zkzperson", "xyzstyle", "person1"])
def test_good_identifiers(word):
    assert identifiers.identifier_warning(word) is None


@pytest.mark.parametrize("word", ["person", "john", "Maria", "my photo", "a", "мама", "sks_per", "x" * 20])
def test_poor_identifiers_get_a_sentence(word):
    assert word in str(identifiers.identifier_warning(word))


def test_several_subjects_by_file_names(tmp_path):
    make(tmp_path, "person1 (1).jpg", "person1 (2).jpg", "person2 (1).jpg")
    found = captions_of(RunConfig(instance_data_dir=str(tmp_path)))
    assert found == {"person1 (1).jpg": "person1", "person1 (2).jpg": "person1", "person2 (1).jpg": "person2"}


def test_names_that_hold_no_word_need_a_prompt(tmp_path):
    make(tmp_path, "IMG_1.jpg", "0002.jpg")
    assert "0002.jpg, IMG_1.jpg" in problems_of(instance_data_dir=str(tmp_path))["instance_prompt"]
    assert problems_of(instance_data_dir=str(tmp_path), instance_prompt="sksper") == {}


@pytest.mark.parametrize(
    ("prompt", "use_captions", "caption"),
    [
        (None, False, "sksper"),
        (None, True, "sksper, on a beach"),
        ("a photo of sksper person", False, "a photo of sksper person"),
        ("a photo of sksper person", True, "a photo of sksper person, on a beach"),
        ("[filewords]", False, "on a beach"),
        ("a photo of [name], [filewords]", False, "a photo of sksper, on a beach"),
        ("[name] person", True, "sksper person"),
    ],
)
def test_captions_and_templates(tmp_path, prompt, use_captions, caption):
    make(tmp_path, "sksper (1).jpg")
    (tmp_path / "sksper (1).txt").write_text("\ufeffon a\n beach\n", encoding="utf-8")
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt=prompt, use_captions=use_captions)
    assert captions_of(config) == {"sksper (1).jpg": caption}


@pytest.mark.parametrize("text", ["Sksper on a beach", "a photo of sksper, smiling"])
def test_a_caption_that_names_the_subject_replaces_the_prompt(tmp_path, text):
    make(tmp_path, "1.jpg", **{"1": text})
    config = RunConfig(
        instance_data_dir=str(tmp_path),
        instance_prompt="photo of sksper person",
        class_prompt="photo of a person",
        use_captions=True,
    )
    assert captions_of(config) == {"1.jpg": text}


@pytest.mark.parametrize(
    ("name", "words"), [("00-12 a red cat (3).png", "a red cat"), ("7.png", ""), ("голубая чашка.png", "голубая чашка")]
)
def test_filewords_from_file_names_as_the_webui_cleans_them(name, words):
    assert captions.cleaned_name(Path(name)) == words


def test_name_is_the_runs_where_the_file_says_nothing(tmp_path):
    make(tmp_path, "IMG_1.jpg", "a red car (2).jpg")
    config = RunConfig(name="ohwx", instance_data_dir=str(tmp_path), instance_prompt="[name]: [filewords]")
    assert captions_of(config) == {"IMG_1.jpg": "ohwx: IMG_1", "a red car (2).jpg": "ohwx: a red car"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_captions_as_windows_programs_write_them(tmp_path, encoding):
    make(tmp_path, "sksper.jpg")
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    (tmp_path / "sksper.txt").write_bytes(f"{mark}кот,\r\n猫 sksper\r\n".encode(encoding))
    config = RunConfig(method="finetune", instance_data_dir=str(tmp_path), use_captions=True)
    assert captions_of(config) == {"sksper.jpg": "кот, 猫 sksper"}


@pytest.mark.parametrize("method", ["dreambooth", "lora", "finetune", "textual_inversion"])
@pytest.mark.parametrize(
    ("ending", "extension", "told"),
    [
        (".caption", ".txt", ".caption"),
        (".txt", ".caption", ".txt"),
        (".png.txt", ".txt", ".png.txt"),
        (".png.Caption", "txt", ".png.caption"),
        (".tags", ".txt", ".tags"),
    ],
)
def test_captions_under_another_ending_are_told(tmp_path, method, ending, extension, told):
    make(tmp_path, *[f"{i}.png" for i in range(6)], *[f"{i}{ending}" for i in range(4)])
    config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="sksper", method=method, use_captions=True)
    config = config.replace(caption_extension=extension, placeholder_token="sksper")
    count, endings = warned_of(config)
    assert "use_captions: pictures without a caption (6 of 6) are trained with instance_prompt" in count
    assert (
        f"caption_extension: beside pictures without a caption lie files with other extensions: {told} (4)." in endings
    )
    assert f"set this to {told}." in endings
    assert warned_of(config.replace(use_captions=False)) == []
    template = config.replace(use_captions=False, instance_prompt="[filewords], sksper")
    assert any("files with other extensions" in warning for warning in warned_of(template))


def test_captions_of_some_pictures(tmp_path):
    make(tmp_path, "a.png", "b.png", "c.png", "class/d.png", "c.npz", "b.txt", a="sksper, a hat")
    config = RunConfig(
        instance_data_dir=str(tmp_path),
        instance_prompt="sksper",
        use_captions=True,
        class_prompt="c",
        class_data_dir=str(tmp_path / "class"),
    )
    (warning,) = warned_of(config)  # an empty file is no caption, and what nobody captions with none either
    assert "(2 of 3)" in warning and "b.png, c.png" in warning


@pytest.mark.parametrize("ending", [".TXT", ".Txt", ".txt"])
def test_an_ending_in_upper_case_is_the_same(tmp_path, ending):
    make(tmp_path, "a.png")
    (tmp_path / f"a{ending}").write_text("sksper, hat", encoding="utf-8")
    for extension in (".txt", "TXT"):
        config = RunConfig(instance_data_dir=str(tmp_path), instance_prompt="sksper", use_captions=True)
        assert captions_of(config.replace(caption_extension=extension)) == {"a.png": "sksper, hat"}
    config = RunConfig(
        instance_data_dir=str(tmp_path), instance_prompt="[filewords]", class_prompt="[filewords]", use_captions=True
    )
    found, _ = picture_entries.entries(config)
    assert picture_entries.class_prompts(config, Subjects.of(config), found, 0) == {"sksper, hat": "sksper, hat"}


@pytest.mark.parametrize(
    "content",
    [
        "a zkz hat".encode("utf-16-le"),
        "a zkz hat".encode("utf-16-be"),
        "кот".encode("utf-16-le"),  # no zero in it, and all valid UTF-8
        "a zkz hat".encode("utf-32"),
        b"a zkz\0 hat",
    ],
    ids=repr,
)
@pytest.mark.parametrize("template", [False, True])
def test_letters_between_zeros_are_no_text(tmp_path, content, template):
    make(tmp_path, "a.png")
    (tmp_path / "a.txt").write_bytes(content)
    found = problems_of(
        instance_data_dir=str(tmp_path),
        instance_prompt="zkz",
        use_captions=not template,
        class_prompt="[filewords]" if template else None,  # these are read when class pictures are drawn
    )
    assert "not UTF-8 text: a.txt" in found["caption_extension"]


def test_finetuning_takes_captions_as_they_are(tmp_path):
    make(tmp_path, "01 a blue cup.png", "02 x.png", **{"02 x": "a green cup"})
    config = RunConfig(method="finetune", instance_data_dir=str(tmp_path), use_captions=True)
    assert captions_of(config) == {"01 a blue cup.png": "a blue cup", "02 x.png": "a green cup"}


def test_other_caption_endings_and_an_empty_file(tmp_path):
    make(tmp_path, "a.x.png", "b.png", "b.caption")
    (tmp_path / "a.x.caption").write_text("sksper, hat", encoding="utf-8")
    for ending in (".caption", "caption"):
        config = RunConfig(
            instance_data_dir=str(tmp_path), instance_prompt="sksper", use_captions=True, caption_extension=ending
        )
        assert captions_of(config) == {"a.x.png": "sksper, hat", "b.png": "sksper"}


def test_concepts_each_with_their_own(tmp_path):
    make(tmp_path / "a", "1.jpg", "2.jpg", "class/c.jpg")
    make(tmp_path / "b", "1.jpg")
    config = RunConfig(
        class_prompt="a person",
        num_class_images=7,
        concepts=[
            {
                "instance_data_dir": str(tmp_path / "a"),
                "instance_prompt": "sksa",
                "class_data_dir": str(tmp_path / "a/class"),
            },
            {
                "instance_data_dir": str(tmp_path / "b"),
                "instance_prompt": "sksb",
                "repeats": 3,
                "class_prompt": "a dog",
                "num_class_images": None,
            },
        ],
    )
    first, second = concepts(config)
    assert (first.class_prompt, first.num_class_images, second.class_prompt) == ("a person", 7, "a dog")
    found, problems = picture_entries.entries(config)
    assert problems == [] and picture_entries.problems(config) == []
    assert [(e.path.name, e.caption, e.concept, e.is_class, e.repeats) for e in found] == [
        ("1.jpg", "sksa", 0, False, 1),
        ("2.jpg", "sksa", 0, False, 1),  # and not class/c.jpg, which lies below
        ("1.jpg", "sksb", 1, False, 3),
        ("c.jpg", "a person", 0, True, 1),
    ]


def test_class_pictures_are_counted_exactly_and_only_used_with_prior(tmp_path):
    make(tmp_path / "mine", "sksper (1).jpg")
    make(tmp_path / "class", *[f"{i}.png" for i in range(9)])
    values = {
        "instance_data_dir": str(tmp_path / "mine"),
        "class_data_dir": str(tmp_path / "class"),
        "class_prompt": "a person",
        "num_class_images": 4,
    }
    count = lambda **more: sum(e.is_class for e in picture_entries.entries(RunConfig(**values, **more))[0])  # noqa: E731
    assert count() == 4
    assert count(with_prior_preservation=False) == 0


def test_class_prompts_with_filewords_lose_the_subject(tmp_path):
    make(tmp_path, "1.jpg", "2.jpg", **{"1": "sksper person, on a beach", "2": "a person in a hat"})
    config = RunConfig(
        instance_data_dir=str(tmp_path), instance_prompt="[filewords], sksper", class_prompt="photo, [filewords]"
    )
    found, _ = picture_entries.entries(config)
    prompts = picture_entries.class_prompts(config, Subjects.of(config), found, 0)
    assert prompts == {
        "photo, person, on a beach": "person, on a beach",
        "photo, a person in a hat": "a person in a hat",
    }
    config = config.replace(class_prompt="a person")
    assert picture_entries.class_prompts(config, Subjects.of(config), found, 0) == {"a person": ""}


def test_folder_problems(tmp_path):
    (tmp_path / "file.txt").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    assert "needs a folder" in problems_of()["instance_data_dir"]
    assert "no folder" in problems_of(instance_data_dir=str(tmp_path / "none"))["instance_data_dir"]
    assert "is a file" in problems_of(instance_data_dir=str(tmp_path / "file.txt"))["instance_data_dir"]
    assert "no picture" in problems_of(instance_data_dir=str(tmp_path / "empty"))["instance_data_dir"]
    for strange in ("a\0b", "x" * 5000, "con:/|?*"):
        assert "instance_data_dir" in problems_of(instance_data_dir=strange)


def test_class_folder_problems(tmp_path):
    make(tmp_path / "mine", "sksper.jpg")
    (tmp_path / "file").write_text("", encoding="utf-8")
    values = {"instance_data_dir": str(tmp_path / "mine"), "class_prompt": "a person"}
    assert "is a file" in problems_of(**values, class_data_dir=str(tmp_path / "file"))["class_data_dir"]
    assert "your own" in problems_of(**values, class_data_dir=str(tmp_path / "mine"))["class_data_dir"]
    assert problems_of(**values, class_data_dir=str(tmp_path / "to come")) == {}


def test_captions_that_are_not_utf8_are_named_all_at_once(tmp_path):
    make(tmp_path, *[f"{i}.jpg" for i in range(7)])
    for i in range(7):
        (tmp_path / f"{i}.txt").write_bytes("кот".encode("cp1251"))
    found = problems_of(instance_data_dir=str(tmp_path), instance_prompt="sksper", use_captions=True)
    assert "0.txt, 1.txt" in found["caption_extension"] and "2 more" in found["caption_extension"]


def test_bad_concepts_all_at_once(tmp_path):
    make(tmp_path, "sksper.jpg")
    found = problems_of(
        instance_prompt="x",
        concepts=[
            {"instance_dir": "x", "repeats": 0, "instance_prompt": 5},
            {"instance_data_dir": str(tmp_path), "num_class_images": "many"},
        ],
    )
    assert set(found) == {
        "instance_prompt",
        "concepts[0].instance_dir",
        "concepts[0].repeats",
        "concepts[0].instance_prompt",
        "concepts[0].instance_data_dir",
        "concepts[1].num_class_images",
    }


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"center_crop": False, "cache_latents": True}, "cache_latents"),
        ({"center_crop": False, "cache_latents_to_disk": True}, "cache_latents_to_disk"),
        ({"cache_latents": False, "cache_latents_to_disk": True}, "cache_latents_to_disk"),
        ({"caption_extension": ""}, "caption_extension"),
        ({"caption_extension": ".PNG"}, "caption_extension"),
        ({"caption_extension": "/etc"}, "caption_extension"),
        ({"with_prior_preservation": True}, "class_prompt"),
        ({"class_data_dir": "class"}, "class_prompt"),
        ({"class_prompt": "a person", "instance_prompt": "a person"}, "class_prompt"),
    ],
)
def test_settings_that_do_not_go_together(values, field):
    assert field in {problem.field for problem in picture_entries.problems(RunConfig(**values))}


def test_nothing_is_wrong_with_the_defaults():
    assert picture_entries.problems(RunConfig()) == []


def test_latents_are_cached_wherever_possible():
    assert picture_entries.caches_latents(RunConfig())
    assert not picture_entries.caches_latents(RunConfig(center_crop=False))
    assert not picture_entries.caches_latents(RunConfig(), inpainting=True)


def test_warnings_name_poor_words_and_lonely_subjects(tmp_path):
    make(tmp_path, *[f"john ({i}).jpg" for i in range(6)], "ohwx (1).jpg")
    config = RunConfig(instance_data_dir=str(tmp_path))
    found = picture_entries.warnings(config, picture_entries.entries(config)[0])
    assert len(found) == 2 and "'john'" in found[0].message and "'ohwx' (1)" in found[1].message
    assert {problem.field for problem in found} == {"instance_data_dir"}


@pytest.mark.parametrize(("kind", "said"), [("object", "many for an object."), ("person", "many for a person.")])
def test_warnings_are_good_english(kind, said):
    assert said in config_warnings.warnings(RunConfig(subject_type=kind), 60)[0].message
