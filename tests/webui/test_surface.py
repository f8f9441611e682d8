"""The stand-in against the real WebUI: whatever it has of modules, page, options and routes is there, called alike.

Needs $WEBUI_DIR, the folder of a WebUI 1.10.1 with its environment; skipped without.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.host.standin import asking
from tests.host.standin import running as standin
from tests.webui.server import running, webui_folder
from tests.webui.test_host import Client, family

pytestmark = [
    pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI"),
    pytest.mark.skipif(
        bool(webui_folder()) and family(webui_folder()) != "AUTOMATIC1111",
        reason="the stand-in is 1.10.1 here, the WebUI a fork of another shape",
    ),
]

# What the extension and the tests use, by module. In the stand-in there is more, for its own use.
SURFACE = {
    "call_queue": "queue_lock.acquire queue_lock.release wrap_queued_call wrap_gradio_gpu_call",
    "deepbooru": "DeepDanbooru.start DeepDanbooru.stop DeepDanbooru.tag model.tag",
    "devices": "torch_gc device cpu",
    "errors": "report display",
    "extras": "run_modelmerger",
    "hypernetworks.hypernetwork": "train_hypernetwork",
    "hypernetworks.ui": "train_hypernetwork",
    "interrogate": "InterrogateModels.interrogate",
    "launch_utils": "git_tag",
    "options": "OptionInfo OptionInfo.info Options.set Options.save Options.add_option Options.onchange Options.load",
    "paths_internal": "data_path models_path script_path extensions_dir",
    "postprocessing": "run_postprocessing",
    "processing": "Processed Processed.js process_images process_images_inner StableDiffusionProcessing.cached_c "
    "StableDiffusionProcessing.cached_uc StableDiffusionProcessingTxt2Img.cached_hr_c StableDiffusionProcessing.close "
    "StableDiffusionProcessingTxt2Img.cached_hr_uc StableDiffusionProcessing.cached_params "
    "StableDiffusionProcessing.scripts",
    "script_callbacks": "on_app_started on_before_reload on_model_loaded on_ui_tabs on_ui_settings on_script_unloaded "
    "on_before_ui app_started_callback ui_tabs_callback ui_settings_callback model_loaded_callback clear_callbacks",
    "scripts": "ScriptRunner.run ScriptRunner.before_process load_scripts scripts_txt2img scripts_img2img",
    "sd_hijack": "model_hijack.embedding_db.load_textual_inversion_embeddings "
    "model_hijack.embedding_db.word_embeddings",
    "sd_models": "CheckpointInfo CheckpointInfo.register CheckpointInfo.calculate_shorthash checkpoint_aliases "
    "checkpoint_tiles checkpoints_list checkpoints_loaded get_closet_checkpoint_match list_models load_model "
    "model_data.get_sd_model model_data.loaded_sd_models model_data.lock model_data.sd_model model_data.set_sd_model "
    "model_data.was_loaded_at_least_once model_data.sd_model.sd_checkpoint_info.filename model_path "
    "model_data.sd_model.sd_checkpoint_info.title model_data.sd_model.sd_checkpoint_info.ids "
    "model_data.sd_model.sd_model_hash model_data.sd_model.lowvram model_data.sd_model.modules "
    "reload_model_weights select_checkpoint send_model_to_cpu send_model_to_device send_model_to_trash "
    "unload_model_weights",
    "shared": "OptionInfo cmd_opts config_filename hide_dirs hypernetworks list_checkpoint_tiles loaded_hypernetworks "
    "opts.data opts.data_labels opts.sd_model_checkpoint refresh_checkpoints reload_hypernetworks sd_model "
    "interrogator.interrogate state.begin state.end state.time_start state.interrupt state.interrupted state.job "
    "state.request_restart "
    "state.wait_for_server_command",
    "textual_inversion.textual_inversion": "create_embedding train_embedding",
}
DESCRIBE = """
def describe(module, name):
    import importlib, inspect
    found = importlib.import_module("modules." + module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        kind = type(found)
        return {"kind": next((k.__name__ for k in (dict, list, str, bool) if isinstance(found, k)), "object")}
    parameters = list(inspect.signature(found).parameters.values())
    named = [it for it in parameters if it.kind not in (it.VAR_POSITIONAL, it.VAR_KEYWORD)]
    return {"kind": "callable", "all": [it.name for it in named],
            "needed": [it.name for it in named if it.default is it.empty and it.kind is it.POSITIONAL_OR_KEYWORD]}


def surface(names):
    return {f"{module}.{name}": describe(module, name) for module, text in names.items() for name in text.split()}
"""
PRETENDED = {  # need only be there
    "devices.device",
    "devices.cpu",
    "extras.run_modelmerger",
    "hypernetworks.hypernetwork.train_hypernetwork",
    "sd_models.model_data.sd_model",
    "shared.sd_model",
    "shared.state.time_start",
    "textual_inversion.textual_inversion.train_embedding",
}
OWN_OPTIONS = {"like", "seconds", "loading", "localization"}  # of the stand-in, for tests
OWN_NAMES = re.compile(r"^(setting|settings)_(dreambooth_ext|vae|sd|sd_vae|sd_checkpoints_limit)")


def described(client: asking.Client) -> dict[str, Any]:
    client.run(f"exec({DESCRIBE!r}, globals())")
    return {
        "surface": client.run(f"surface({SURFACE!r})"),
        "options": client.run("sorted(vars(shared.cmd_opts))"),
        "names": {part["props"].get("elem_id") for part in client.call("config")["components"]},
        "routes": set(client.call("openapi.json")["paths"]),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(the stand-in's, the real one's)"""
    found = []
    data = tmp_path_factory.mktemp("standin")
    asking.prepare(data)
    standin.add_checkpoint(data, "one.safetensors", b"first")
    with standin.running(data, options=["--api"]) as started:
        client = asking.Client(started.address, data)
        client.draw()
        found.append(described(client))
    yield (*found, None) if webui_folder() is None else (*found, real(tmp_path_factory.mktemp("real")))


def real(data: Path) -> dict[str, Any]:
    from tests import tiny

    client = Client("", data)
    tiny.single_file(data / "base")
    client.add("one.safetensors", "first")
    asking.prepare(data)
    with running(webui_folder(), data) as webui:
        client.address = webui.address
        client.draw()
        return described(client)


def test_modules(both):
    ours, theirs = (found["surface"] for found in both)
    faults = []
    for name, mine in ours.items():
        real = theirs[name]
        if name in PRETENDED:
            continue
        if mine["kind"] != real["kind"]:
            faults.append(f"{name} is {mine['kind']} here and {real['kind']} there")
        elif mine["kind"] == "callable":
            common = [parameter for parameter in real["all"] if parameter in mine["all"]]
            if common != mine["all"] or not set(real["needed"]) <= set(mine["all"]):
                faults.append(f"{name} takes {mine['all']} here and {real['all']} there")
    assert not faults, "\n".join(faults)


def test_command_line_options(both):
    ours, theirs = (set(found["options"]) for found in both)
    assert ours - OWN_OPTIONS <= theirs


def test_the_page(both):
    """Components by their names, and functions of the page's scripts."""
    ours, theirs = (found["names"] for found in both)
    assert {name for name in ours if name and not OWN_NAMES.match(name)} - theirs == set()
    root = webui_folder()
    text = "".join(path.read_text(encoding="utf-8") for path in [root / "script.js", *root.glob("javascript/*.js")])
    page = (Path(standin.__file__).parent / "page" / "script.js").read_text(encoding="utf-8")
    functions = set(re.findall(r"^(?:function|var) (\w+)", page, re.MULTILINE)) - {"execute", "translate"}
    missing = [name for name in functions if not re.search(rf"(function|var|let) {name}\b", text)]
    assert not missing


def test_routes(both):
    ours, theirs = (found["routes"] for found in both)
    assert {route for route in ours if "sdapi" in route or "internal" in route} <= theirs
