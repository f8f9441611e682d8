"""A subject's word that is the name of an embedding, too: said on both sides, and another name is filled in."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")
Image = pytest.importorskip("PIL.Image")

from dreambooth_ext.core.config.run_config import RunConfig  # noqa: E402
from dreambooth_ext.core.guide import completion  # noqa: E402
from tests.host.asking import Asked  # noqa: E402


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = Asked(tmp_path)
    pictures = tmp_path / "pictures of zrbl"
    pictures.mkdir()
    for number in range(6):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(pictures / f"zrbl ({number}).png")
    (tmp_path / "base.safetensors").write_bytes(b"x")
    made.given = {"base_model": str(tmp_path / "base.safetensors"), "instance_data_dir": str(pictures)}
    return made


def warned(asked: Asked, **settings) -> list[str]:
    answer = asked.post("check", {"config": {**asked.given, **settings}}).json()
    return [
        f"{it['field']}: {it['message']} {it['remedy']}" for it in answer["warnings"] if "embedding" in it["message"]
    ]


def install(asked: Asked, name: str) -> None:
    path = asked.host.folders()["textual_inversion"] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize("method", ["dreambooth", "lora", "hypernetwork"])
def test_a_subjects_word_that_an_embedding_has_already(asked, method):
    given = {"method": method, "name": "mine", "instance_prompt": "a photo of zrbl object"}
    install(asked, "mine/other.pt")
    assert warned(asked, **given) == []
    install(asked, "mine/ZRBL.safetensors")
    (said,) = warned(asked, **given)
    assert said.startswith("instance_prompt: 'zrbl' is the name of an installed embedding (mine/ZRBL.safetensors)")
    assert "Choose another rare word" in said
    assert len(warned(asked, method=method, name="mine")) == 1  # the words of file names count, too
    concept = {"instance_data_dir": asked.given["instance_data_dir"], "instance_prompt": "a photo of zrbl object"}
    assert len(warned(asked, method=method, name="mine", concepts=[concept], instance_data_dir="")) == 1


def test_an_embedding_called_like_a_subjects_word(asked):
    """Its file's name calls it, on every checkpoint."""
    (said,) = warned(asked, method="textual_inversion", name="zrbl", placeholder_token="zrbl")
    assert said.startswith("name: 'zrbl' in a prompt will mean this embedding with every checkpoint")
    assert "such as zrbl_ti" in said
    assert warned(asked, method="textual_inversion", name="zrbl_ti", placeholder_token="zrbl") == []


@pytest.mark.parametrize(
    ("settings", "name", "word"),
    [
        ({"placeholder_token": "zrbl"}, "zrbl_ti", "zrbl"),
        ({"instance_data_dir": "/somewhere/anna"}, "anna_ti", "anna_ti"),
        ({"name": "zrbl", "placeholder_token": "zrbl"}, "zrbl", "zrbl"),  # what the user said counts
        ({"name": "mine"}, "mine", "mine"),
        ({"placeholder_token": "<cat-toy>"}, "cat-toy_ti", "<cat-toy>"),
    ],
)
def test_the_name_that_is_filled_in_is_no_subjects_word(settings, name, word):
    completed, _ = completion.fill_in(RunConfig(method="textual_inversion", **settings), 5)
    assert (completed.name, completed.placeholder_token) == (name, word)
