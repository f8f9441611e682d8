"""The WebUI as the host: models move and come back, new models are listed, selected, read anew.

In the stand-in of five hosts here; tests/webui/test_host.py has the same tests run in the real one.
"""

from __future__ import annotations

import concurrent.futures
import json
import struct
import time
import urllib.error
from pathlib import Path

import pytest

from dreambooth_ext.core.facts.family_marks import BASE_FAMILIES
from tests.host.standin import asking, running
from tests.host.standin.asking import Client

KINDS = {"a1111": 3, "forge": 4, "neo": 4, "classic": 3, "reforge": 3}


@pytest.fixture(params=KINDS, scope="module")
def started(request, tmp_path_factory):
    data = tmp_path_factory.mktemp("my data")
    asking.prepare(data)
    running.add_checkpoint(data, "one.safetensors", b"first")
    running.add_checkpoint(data, "two.safetensors", b"second")
    options = ["--api", "--like", request.param, "--no-gradio-queue"]
    with running.running(data, gradio=KINDS[request.param], options=options) as standin:
        yield Client(standin.address, data)


@pytest.fixture
def webui(started):
    """As at the start: two checkpoints, the first one chosen."""
    if started.run("'forge_checkpoint_sd' in shared.opts.data_labels"):
        started.run("sys.modules['modules_forge.main_entry'].on_preset_change('sd')")
        started.run("shared.opts.set('forge_checkpoint_sd', 'one.safetensors')")
        started.run("shared.opts.set('forge_checkpoint_xl', 'two.safetensors')")
    yield started
    started.finish()
    for path in started.checkpoints.iterdir():
        if path.stem not in ("one", "two"):
            path.unlink()
    started.call("sdapi/v1/refresh-checkpoints", {})
    started.call("sdapi/v1/options", {"sd_model_checkpoint": "one.safetensors"})


def test_the_model_leaves_the_device_and_comes_back(webui):
    before = webui.draw()
    for mode in ("refuse", "wait"):
        webui.begin(mode)
        assert webui.is_away()
        webui.finish()
        assert webui.draw() == before
        assert not webui.is_away()


def test_the_model_stays_when_the_card_is_shared(webui):
    before = webui.draw()
    webui.begin("share")
    assert not webui.is_away()
    assert webui.draw() == before
    webui.finish()


def test_it_knows_that_somebody_waits_for_a_picture(webui):
    waiting = "__import__('types').SimpleNamespace(pending_tasks={'task(1)': 1.0})"
    webui.run(f"__import__('sys').modules.update({{'modules.progress': {waiting}}})")
    assert webui.run("host.is_wanted()") is False  # the WebUI draws it
    webui.begin("refuse")
    assert webui.run("host.is_wanted()") is True
    webui.finish()
    webui.run("__import__('sys').modules.pop('modules.progress') and None")
    assert webui.run("host.is_wanted()") is False


def test_an_error_inside_brings_the_model_back_too(webui):
    before = webui.draw()
    assert webui.run("fail()") == "raised"
    assert webui.draw() == before


def test_generating_is_refused_politely(webui):
    before = webui.draw()
    webui.begin("refuse")
    with pytest.raises(urllib.error.HTTPError) as refused:
        webui.draw()
    answer = json.loads(refused.value.read())
    assert refused.value.code == 503 and "training is using the device" in answer["detail"]
    pictures, text = webui.generate()  # no picture, and the reason where a picture's text is
    assert not pictures and "training is using the device" in text and "error" not in text
    webui.finish()
    assert webui.draw() == before
    pictures, text = webui.generate()
    assert pictures, text


def test_all_else_that_uses_the_card_is_refused(webui):
    """Extras, Interrogate, Train, the merger, and pictures that no script stands before; the WebUI's own routes."""
    there, picture = webui.call("openapi.json")["paths"], webui.picture()
    enlarge = {"image": picture, "upscaler_1": "None", "upscaling_resize": 1}
    embedding = {"name": "zkz", "num_vectors_per_token": 1, "overwrite_old": True, "init_text": "*"}
    asked = {
        "extra-single-image": enlarge,
        "interrogate": {"image": picture, "model": "clip"},
        "interrogate ": {"image": picture, "model": "deepdanbooru"},
        "create/embedding": embedding,
        "reload-checkpoint": {},
    }
    asked = {name: content for name, content in asked.items() if f"/sdapi/v1/{name.strip()}" in there}
    assert asked
    alone = webui.run("caught(draw_without_scripts)")
    assert alone == "1" or alone.startswith("AttributeError")  # reForge draws nothing without scripts, ever
    webui.begin("refuse")
    for name, content in asked.items():
        if name == "reload-checkpoint" and webui.has_manager():
            continue  # does nothing there
        with pytest.raises(urllib.error.HTTPError) as refused:
            webui.call(f"sdapi/v1/{name.strip()}", content)
        assert (
            refused.value.code == 503 and "training is using the device" in json.loads(refused.value.read())["detail"]
        )
    if "/sdapi/v1/train/embedding" in there:
        assert "training is using the device" in webui.call("sdapi/v1/train/embedding", {"embedding_name": "x"})["info"]
    assert webui.run("caught(draw_without_scripts)").startswith("Busy: A DreamBooth training is using")
    merge = "sys.modules['modules.extras'].run_modelmerger('x', *[''] * (merger_needs() - 1))"
    if webui.run("hasattr(sys.modules.get('modules.extras'), 'run_modelmerger')"):
        assert "training is using the device" in webui.run(f"caught(lambda: {merge})")
    assert webui.is_away()
    webui.finish()
    assert webui.run("caught(draw_without_scripts)") == alone
    assert webui.call("sdapi/v1/extra-single-image", enlarge)["image"]
    assert webui.run("'begin' in vars(shared.state)") is False  # all is as it was


def test_the_tab_that_trains_hypernetworks_leaves_no_model_on_the_card(webui):
    if not webui.run("'modules.hypernetworks.ui' in sys.modules"):
        pytest.skip("it has no such tab")
    before = webui.draw()
    webui.begin("refuse")
    said = webui.run("in_queue(lambda: sys.modules['modules.hypernetworks.ui'].train_hypernetwork('x'))")
    assert "training is using the device" in said or "'apply_optimizations'" in said  # reForge's own fault, afterwards
    deadline = time.monotonic() + 10
    while not webui.is_away():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    webui.finish()
    assert webui.draw() == before


def test_what_takes_no_turn_waits_where_that_is_wished(webui):
    webui.begin("wait")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        began = pool.submit(webui.run, "caught(lambda: shared.state.begin(job='interrogate'))")
        time.sleep(0.5)
        assert not began.done()
        webui.finish()
        assert began.result(60) == "None"
    webui.run("shared.state.end()")


def test_a_training_on_another_device_leaves_the_model_where_it_is(webui):
    webui.draw()
    webui.begin("refuse", "cuda:7")
    assert not webui.is_away() and webui.run("host.models_away()") == ""
    pictures, text = webui.generate()
    assert pictures, text
    webui.finish()


def test_the_model_is_back_when_the_last_of_several_trainings_has_ended(webui):
    before = webui.draw()
    webui.begin("refuse")
    webui.run("kept.update(second=host.handed_over('wait', plain(str(devices.device))))")
    webui.run("kept['second'].__enter__()")
    webui.finish()
    assert webui.is_away() and webui.run("host.models_away()") == "refuse"
    with pytest.raises(urllib.error.HTTPError):
        webui.draw()
    webui.run("kept['second'].__exit__(None, None, None)")
    assert webui.run("host.models_away()") == "" and webui.draw() == before


def test_lists_wait_while_a_model_is_being_loaded(webui):
    """AUTOMATIC1111 and its nearest relatives fail to refresh them then."""
    webui.draw()
    seen = webui.run("host.models_loaded()")
    assert seen >= 1 and webui.run("host.models_loaded()") == seen
    webui.run("kept.update(model=sd_models.model_data.sd_model)")
    webui.run("setattr(sd_models.model_data, 'sd_model', None)")
    asks = webui.run("hasattr(getattr(sys.modules.get('modules.sd_hijack'), 'model_hijack', None), 'embedding_db')")
    assert webui.run("host.models_loaded()") == (None if asks else seen)
    webui.run("setattr(sd_models.model_data, 'sd_model', type(kept['model']).__new__(type(kept['model'])))")
    assert webui.run("host.models_loaded()") == seen + 1
    webui.run("setattr(sd_models.model_data, 'sd_model', kept.pop('model'))")
    assert webui.run("host.models_loaded()") == seen + 2


def test_generating_waits(webui):
    before = webui.draw()
    webui.begin("wait")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        drawing = pool.submit(webui.draw)
        time.sleep(1)
        assert not drawing.done()
        webui.finish()
        assert drawing.result(60) == before


@pytest.mark.parametrize("mode", ["refuse", "wait"])
def test_the_checkpoint_can_be_changed_meanwhile(webui, mode):
    first = webui.draw()
    webui.begin(mode)
    began = time.monotonic()
    webui.call("sdapi/v1/options", {"sd_model_checkpoint": "two.safetensors"})
    assert time.monotonic() - began < 3, "the page would hang"
    assert webui.model()["base"].endswith("two.safetensors")
    webui.finish()
    assert webui.draw() != first
    assert webui.model()["base"].endswith("two.safetensors")


def test_a_published_checkpoint_is_listed_and_selected(webui):
    first = webui.draw()
    path = webui.add("trained.safetensors", "trained")
    webui.refresh("checkpoint", path)
    assert any(title.startswith("trained") for title in webui.model()["titles"])
    title = webui.select(path)
    assert title.startswith("trained.safetensors") and webui.model()["chosen"] == title
    assert title in webui.model()["titles"] and len(webui.model()["titles"]) == 3
    assert webui.draw() != first
    saved = json.loads((webui.data / "config.json").read_text(encoding="utf-8"))
    assert saved["sd_model_checkpoint"] == title


def test_selecting_during_a_training_takes_effect_after_it(webui):
    first = webui.draw()
    path = webui.add("trained.safetensors", "trained")
    for mode in ("refuse", "wait"):
        webui.begin(mode)
        webui.refresh("checkpoint", path)
        title = webui.select(path)
        found = webui.model()
        assert found["chosen"] == title and title in found["titles"] and webui.is_away()
        webui.finish()
        second = webui.draw()
        assert second != first
        path, first = webui.add("more.safetensors", "more"), second


def test_an_overwritten_checkpoint_is_read_anew(webui):
    path = webui.add("trained.safetensors", "trained")
    webui.refresh("checkpoint", path)
    webui.select(path)
    chosen = "sd_models.select_checkpoint().title"
    titles, colours = [webui.run(chosen)], [webui.draw()]
    for number, mode in enumerate((None, "refuse", None, "wait")):
        if mode:
            webui.begin(mode)
        webui.add(path.name, f"trained longer: {number}")
        webui.refresh("checkpoint", path)
        if number in (0, 3):  # between them only published, not selected: it is the one in use
            assert webui.select(path) == webui.model()["chosen"]
            titles.append(webui.run(chosen))
        if mode:
            webui.finish()
        colours.append(webui.draw())
    assert len(set(colours)) == 5 and len(set(titles)) == 3
    assert len(webui.model()["titles"]) == 3  # one entry for one file


def test_one_that_is_overwritten_while_another_is_chosen_is_read_anew_when_it_is_chosen_again(webui):
    path = webui.add("trained.safetensors", "trained")
    webui.refresh("checkpoint", path)
    webui.select(path)
    first = webui.draw()
    webui.begin("refuse")
    webui.call("sdapi/v1/options", {"sd_model_checkpoint": "two.safetensors"})
    webui.add(path.name, "trained longer")
    webui.refresh("checkpoint", path)
    webui.call("sdapi/v1/options", {"sd_model_checkpoint": "trained.safetensors"})
    webui.finish()
    assert webui.draw() != first


def test_an_embedding_is_listed_and_read_anew(webui):
    """By the very next picture of the same prompt."""
    folder = Path(webui.run("str(host.folders()['textual_inversion'])"))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [webui.draw(prompt="a photo of zkz")]
    for content in (b"first", b"second"):
        (folder / "zkz.pt").write_bytes(content)
        assert (
            webui.run(f"caught(lambda: host.refresh('textual_inversion', Path({str(folder / 'zkz.pt')!r})))") == "None"
        )
        pictures.append(webui.draw(prompt="a photo of zkz"))
    assert len(set(pictures)) == 3
    (folder / "zkz.pt").unlink()


@pytest.mark.parametrize("family, preset", [("sd1", "sd"), ("sdxl", "xl")])
def test_a_selected_checkpoint_stays_with_the_preset(webui, family, preset):
    """In Forge Neo: of the preset that is shown, and of the one for such models; another preset keeps its own."""
    if not webui.run("'forge_checkpoint_sd' in shared.opts.data_labels"):
        pytest.skip("this WebUI keeps no checkpoint for each preset")
    path = webui.add("trained.safetensors", "trained")
    mark = BASE_FAMILIES[family].marks[0].decode() + "x"
    save_names(path, mark)
    webui.refresh("checkpoint", path)
    title = webui.select(path)
    chosen = {name: webui.run(f"shared.opts.forge_checkpoint_{name}") for name in ("sd", "xl")}
    assert chosen["sd"] == chosen[preset] == title
    assert family == "sdxl" or chosen["xl"] == "two.safetensors"
    assert json.loads((webui.data / "config.json").read_text(encoding="utf-8"))["forge_checkpoint_sd"] == title
    for name in ("xl", "sd"):
        webui.run(f"kept.update(shown=sys.modules['modules_forge.main_entry'].on_preset_change({name!r})[0])")
        shown = webui.run("kept['shown'] if isinstance(kept['shown'], str) else kept['shown']['value']")
        assert shown == chosen[name]
        webui.run(f"sys.modules['modules_forge.main_entry']._load_presets({shown!r}, [], 'Automatic', {name!r})")
    assert webui.run("sd_models.select_checkpoint().title").startswith("trained.safetensors")


def save_names(path: Path, *names: str) -> None:
    """A safetensors file that names tensors; each has one number."""
    described = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]} for at, name in enumerate(names)
    }
    head = json.dumps(described).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(4 * len(names)))


def test_models_that_are_kept_for_later_are_read_anew_and_leave_no_copy(webui):
    if not webui.run("'sd_checkpoints_limit' in shared.opts.data_labels"):
        pytest.skip("this WebUI keeps one model")
    webui.call("sdapi/v1/options", {"sd_checkpoints_limit": 2})
    path = webui.add("trained.safetensors", "trained")
    webui.refresh("checkpoint", path)
    webui.select(path)
    colours = [webui.draw()]
    for number in range(2):
        if number:  # once, another one is in use meanwhile
            webui.call("sdapi/v1/options", {"sd_model_checkpoint": "one.safetensors"})
            webui.draw()
        webui.add(path.name, f"trained longer: {number}")
        webui.refresh("checkpoint", path)
        webui.select(path)
        colours.append(webui.draw())
        kept = webui.run(
            "[m.sd_checkpoint_info.filename for m in getattr(sd_models.model_data, 'loaded_sd_models', [])]"
        )
        assert len(kept) == len(set(kept)) <= 2
    assert len(set(colours)) == 3
    webui.call("sdapi/v1/options", {"sd_checkpoints_limit": 1})


def test_a_damaged_checkpoint_is_told_and_changes_nothing(webui):
    before = webui.draw()
    path = webui.add("bad.safetensors", "broken")
    if webui.run("hasattr(sd_models.model_data, 'forge_hash')"):
        pytest.skip("Forge reads a checkpoint when it draws")
    said = webui.run(f"attempt({str(path)!r})")
    assert said.startswith("UserError: ") and "could not load bad.safetensors" in said
    assert webui.draw() == before


def test_the_ui_is_reloaded_during_a_training(webui):
    before = webui.draw()
    webui.begin("refuse")
    webui.reload_ui()
    with pytest.raises(urllib.error.HTTPError) as refused:
        webui.draw()
    assert refused.value.code == 503
    assert webui.call("dreambooth/v1/version")["host"]
    webui.finish()
    assert webui.draw() == before


def test_a_new_file_is_a_base_before_the_webui_lists_it(webui):
    def titles() -> list[str]:
        return [base["title"] for base in webui.call("dreambooth/v1/host")["bases"]]

    assert len(titles()) == 2
    running.add_checkpoint(webui.data, "three.safetensors", b"third")
    assert "three.safetensors" in titles()[-1] and len(titles()) == 3
    webui.call("sdapi/v1/refresh-checkpoints", {})
    assert len(titles()) == 3  # and once only, when it does


def test_a_checkpoint_that_was_taken_out_is_off_the_lists(webui):
    """Off the settings' list, too, and not while it is the chosen one; the others stay where they are."""
    path = webui.add("three.safetensors", "third")
    webui.call("sdapi/v1/refresh-checkpoints", {})
    assert webui.run(f"str(host.needs(Path({str(path)!r})))") == "None"
    webui.call("sdapi/v1/options", {"sd_model_checkpoint": "three.safetensors"})
    assert "uses the checkpoint" in webui.run(f"str(host.needs(Path({str(path)!r})))")
    webui.call("sdapi/v1/options", {"sd_model_checkpoint": "one.safetensors"})
    path.unlink()
    webui.run(f"host.forget('checkpoint', Path({str(path)!r}))")
    titles = [model["title"] for model in webui.call("sdapi/v1/sd-models")]
    assert len(titles) == 2 and not any("three" in title for title in titles)
    assert webui.draw()


@pytest.mark.parametrize("kind", ["lora", "textual_inversion", "hypernetwork"])
def test_other_models_that_were_taken_out_are_looked_for_anew(webui, kind):
    assert webui.run(f"caught(lambda: host.forget({kind!r}, Path('gone.safetensors')))") == "None"
    assert webui.draw()


def test_the_settings_have_a_heading_of_their_own_and_choices_in_words(webui):
    """Kept as the API's values all the same."""
    ours = "[info for name, info in shared.opts.data_labels.items() if name.startswith('dreambooth_ext_')]"
    assert set(webui.run(f"[info.category_id for info in {ours}]")) == {"dreambooth_ext"}
    heading = webui.run("sys.modules['modules.options'].categories.mapping['dreambooth_ext']")
    assert "DreamBooth" in (heading, *(heading.values() if isinstance(heading, dict) else ()))
    choices = dict(webui.run("shared.opts.data_labels['dreambooth_ext_select'].component_args['choices']"))
    assert choices == {"when training is finished": "final", "after every save": "every", "never": "never"}
    assert webui.call("dreambooth/v1/host")["options"]["select"] == "final"
