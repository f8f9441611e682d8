"""Which mask belongs to which picture: by names beside it, in a folder, in kohya's data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries, picture_list
from dreambooth_ext.core.data.concepts import concepts


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def masks(config: RunConfig) -> dict[str, str]:
    entries, problems = picture_entries.entries(config)
    assert problems == []
    return {entry.path.name: Path(entry.mask).name if entry.mask else "" for entry in entries if not entry.is_class}


def config_of(folder: Path, **settings) -> RunConfig:
    return RunConfig(**{"instance_data_dir": str(folder), "instance_prompt": "x", "masked_loss": True, **settings})


def told(config: RunConfig) -> list[str]:
    found, problems = picture_entries.entries(config)
    assert problems == []
    return [str(problem) for problem in picture_entries.warnings(config, found)]


def test_masks_beside_pictures(tmp_path):
    make(tmp_path, "a.jpg", "a-masklabel.png", "b.png", "b_mask.webp", "c.png", "C_MASK.png", "d.jpg", "d_Mask.PNG",
         "d-masklabel.png", "e.png", "e-condlabel.png", "sub/a.jpg", "sub/a_mask.png")  # fmt: skip
    found = {}
    for entry in picture_entries.entries(config_of(tmp_path))[0]:
        found[entry.path.relative_to(tmp_path).as_posix()] = (
            entry.mask and Path(entry.mask).relative_to(tmp_path).as_posix()
        )
    assert found == {
        "a.jpg": "a-masklabel.png",
        "b.png": "b_mask.webp",
        "c.png": "",
        "C_MASK.png": "",  # on Linux, "c" and "C" are two names
        "d.jpg": "d-masklabel.png",
        "e.png": "",
        "sub/a.jpg": "sub/a_mask.png",
    }
    assert masks(config_of(tmp_path, masked_loss=False)) == dict.fromkeys(
        ["a.jpg", "b.png", "c.png", "C_MASK.png", "d.jpg", "e.png"], ""
    )


def test_what_is_found_but_not_used_is_told(tmp_path):
    make(tmp_path, "a.jpg", "a-masklabel.png", "a_mask.png", "b.png", "b-condlabel.png")
    used, others = told(config_of(tmp_path, masked_loss=False))
    assert "(1): a-masklabel.png" in used and "masked_loss" in used
    assert "(2): a_mask.png, b-condlabel.png" in others
    missing, others = sorted(told(config_of(tmp_path)), key=lambda text: "left out" in text)
    assert "without a mask" in missing and "(1 of 2): b.png" in missing
    assert "(2): a_mask.png, b-condlabel.png" in others


def test_no_mask_at_all_is_a_problem(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg")
    (problem,) = picture_entries.entries(config_of(tmp_path))[1]
    assert problem.code == "masks.none" and problem.field == "masked_loss"
    assert picture_entries.entries(config_of(tmp_path, alpha_as_loss_weight=True))[1] == []


def test_a_folder_of_masks(tmp_path):
    """kohya's convention: the picture's own name, in its own folder or at the top."""
    make(tmp_path / "own", "a.jpg", "b.png", "c.png", "c_mask.png", "sub/a.jpg", "sub/d.jpg")
    make(tmp_path / "masks", "a.png", "b-masklabel.png", "sub/a.png", "d_mask.png", "z.png")
    config = config_of(tmp_path / "own", mask_dir=str(tmp_path / "masks"))
    found = {}
    for entry in picture_entries.entries(config)[0]:
        found[entry.path.relative_to(tmp_path).as_posix()] = Path(entry.mask).relative_to(tmp_path).as_posix()
    assert found == {
        "own/a.jpg": "masks/a.png",
        "own/b.png": "masks/b-masklabel.png",
        "own/c.png": "own/c_mask.png",
        "own/sub/a.jpg": "masks/sub/a.png",
        "own/sub/d.jpg": "masks/d_mask.png",
    }


def test_a_folder_of_masks_inside_the_pictures_holds_no_pictures(tmp_path):
    make(tmp_path, "a.jpg", "masks/a.png", "more/b.jpg")
    assert masks(config_of(tmp_path, mask_dir=str(tmp_path / "masks"))) == {"a.jpg": "a.png", "b.jpg": ""}


@pytest.mark.parametrize("name", ["nowhere", "a.jpg", "", "bad\0name"])
def test_folders_of_masks_that_are_none(tmp_path, name):
    make(tmp_path, "a.jpg", "a_mask.png")
    found = picture_entries.entries(config_of(tmp_path, mask_dir=str(tmp_path / name)))[1]
    (code,) = [problem.code for problem in found if problem.field == "mask_dir"]
    assert code == ("masks.no_folder" if name else "masks.folder_of_pictures")


def test_each_concept_may_have_its_folder(tmp_path):
    make(tmp_path, "one/1.png", "two/1.png", "m1/1.png", "m2/1.png")
    concepts = [
        {"instance_data_dir": str(tmp_path / "one"), "instance_prompt": "x", "mask_dir": str(tmp_path / "m1")},
        {"instance_data_dir": str(tmp_path / "two"), "instance_prompt": "y"},
    ]
    config = RunConfig(concepts=concepts, masked_loss=True, mask_dir=str(tmp_path / "m2"))
    found = [Path(entry.mask).parent.name for entry in picture_entries.entries(config)[0]]
    assert found == ["m1", "m2"]
    assert ("concepts[0].mask_dir", str(tmp_path / "m1")) in config.paths()
    config = config.replace(concepts=[{**concepts[0], "mask_dir": str(tmp_path / "none")}])
    (problem,) = picture_entries.entries(config)[1]
    assert problem.field == "concepts[0].mask_dir"


def data_set(folder: Path, **options) -> str:
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    path = folder / "set.toml"
    path.write_text(
        f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'own'\nclass_tokens = 'x'\n{lines}", encoding="utf-8"
    )
    return str(path)


def test_a_data_set_of_kohyas_names_masks(tmp_path):
    make(tmp_path, "own/a.png", "masks/a.png")
    path = data_set(tmp_path, conditioning_data_dir="masks")
    config = RunConfig(dataset_config=path, masked_loss=True, method="finetune")
    (entry,) = picture_entries.entries(config)[0]
    assert Path(entry.mask) == tmp_path / "masks" / "a.png"
    found = config_checks.check(config.replace(masked_loss=False)).problems
    assert [problem.code for problem in found if problem.field == "dataset_config"] == ["dataset.masks_are_off"]


def test_a_data_set_of_kohyas_says_whose_transparency_is_a_mask(tmp_path):
    make(tmp_path, "own/a.png", "other/a.png")
    path = data_set(tmp_path, alpha_mask=True)
    config = RunConfig(dataset_config=path, masked_loss=True, method="finetune")
    assert picture_entries.entries(config)[1] == [] and [one.by_alpha for one in concepts(config)] == [True]
    found = config_checks.check(config.replace(masked_loss=False)).problems
    assert [problem.code for problem in found if problem.field == "dataset_config"] == ["dataset.alpha_is_off"]
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("\n[[datasets.subsets]]\nimage_dir = 'other'\nclass_tokens = 'y'")
    assert [one.by_alpha for one in concepts(config)] == [True, False]
    assert [one.by_alpha for one in concepts(config.replace(alpha_as_loss_weight=True))] == [True, True]
    entries, problems = picture_entries.entries(config)
    (missing,) = [one for one in picture_entries.warnings(config, entries) if one.code == "masks.missing"]
    assert problems == [] and (missing.values["count"], missing.values["total"]) == (1, 2)
    Path(path).write_text(Path(path).read_text("utf-8").replace("true", '"some"'), "utf-8")
    assert "dataset.bad_option" in [one.code for one in config_checks.check(config).problems]


def test_settings_without_masks_have_no_effect(tmp_path):
    make(tmp_path, "a.png", "a_mask.png")
    config = config_of(tmp_path, masked_loss=False, mask_dir=str(tmp_path), unmasked_weight=0.3,
                       normalize_masked_area_loss=False, masked_prior_preservation_weight=1.0)  # fmt: skip
    blamed = {problem.field for problem in config_checks.check(config).problems if problem.code == "effect.no_masks"}
    assert blamed == {"mask_dir", "unmasked_weight", "normalize_masked_area_loss", "masked_prior_preservation_weight"}
    config = config_of(tmp_path, unmasked_weight=1.0)
    assert "effect.all_counts" in {problem.code for problem in config_checks.check(config).problems}


def test_the_bases_texts_must_be_known_before_they_learn(tmp_path):
    make(tmp_path, "a.png", "a_mask.png")
    config = config_of(tmp_path, method="lora", shuffle_tags=True, text_encoder_steps=5, use_captions=True,
                       instance_prompt="x, y", masked_prior_preservation_weight=1.0)  # fmt: skip
    codes = {problem.code for problem in config_checks.check(config).problems}
    assert "masks.varying_texts" in codes
    for change in ({"shuffle_tags": False}, {"text_encoder_steps": 0}, {"masked_prior_preservation_weight": 0.0}):
        codes = {problem.code for problem in config_checks.check(config.replace(**change)).problems}
        assert "masks.varying_texts" not in codes


def test_a_run_keeps_the_masks_that_it_was_queued_with(tmp_path):
    pictures = make(tmp_path / "own", "a.png", "a_mask.png", "b.png")
    run = make(tmp_path / "run", "x").absolute()
    config = config_of(pictures)
    picture_list.note(run, picture_entries.entries(config)[0], False)
    make(pictures, "b_mask.png")

    def compared():
        return picture_list.compare(picture_list.noted(run, False), picture_entries.entries(config)[0])

    entries, changes = compared()
    assert not changes and [Path(entry.mask).name for entry in entries] == ["a_mask.png", ""]
    (pictures / "a_mask.png").write_bytes(b"another")
    assert compared()[1].altered == ("a.png",)
    (pictures / "a_mask.png").unlink()
    assert compared()[1].altered == ("a.png",)
