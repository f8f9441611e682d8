"""The WebUI as the host: AUTOMATIC1111 v1.10.1 and its forks. The only file that knows `modules.*`.

What a fork does otherwise is told by what it has (`getattr`), never by its name:
- `sd_models.model_data.forge_loading_parameters` (Forge): models load when a picture is drawn, not when chosen
- a memory manager of its own (Forge, reForge, Forge-classic): it moves models back by itself, and hypernetworks do
  nothing there
- command line options that it lacks
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modules import call_queue, devices, errors, paths_internal, processing, scripts, sd_models, shared

from ..errors import UserError
from ..files import expanded
from ..parsing import to_path
from . import options
from .interface import Host
from .later import Later

__all__ = ["Host", "WebUI"]

MANAGERS = ("backend.memory_management", "ldm_patched.modules.model_management")  # Forge's; reForge's and classic's
BUSY = (
    "A DreamBooth training has the graphics card, so no picture was made. Wait until it has ended, stop it in the "
    "DreamBooth tab, or choose under Settings > DreamBooth what Generate does while a training runs."
)


class WebUI:
    """See interface.Host. One object for the process: it knows whether the models are away."""

    def __init__(self) -> None:
        self.later = Later(call_queue.queue_lock, reporting)
        self.overwritten: set[str] = set()  # checkpoints whose loaded content is not the file's any more

    @functools.cached_property
    def name(self) -> str:
        family = "AUTOMATIC1111"
        if hasattr(sd_models.model_data, "forge_loading_parameters"):
            family = "Forge"
        elif memory_manager():
            family = "reForge" if hasattr(shared.cmd_opts, "hypernetwork_dir") else "Forge-classic"
        tag = getattr(sys.modules.get("modules.launch_utils"), "git_tag", None)
        return f"{family} {tag()}" if tag else family

    # --- where things are ---

    def data_folder(self) -> Path:
        return Path(paths_internal.data_path).absolute() / "dreambooth"

    def runs_folder(self) -> Path:
        named = to_path(self.option("runs_folder"))
        return expanded(named).absolute() if named else self.data_folder() / "runs"

    def folders(self) -> dict[str, Path]:
        models = Path(paths_internal.models_path) if hasattr(paths_internal, "models_path") else self.models_beside()
        named = {
            "checkpoint": flag("ckpt_dir") or sd_models.model_path,
            "lora": flag("lora_dir") or models / "Lora",
            "textual_inversion": flag("embeddings_dir") or Path(paths_internal.data_path) / "embeddings",
            "hypernetwork": flag("hypernetwork_dir") or models / "hypernetworks",
        }
        return {kind: Path(folder).absolute() for kind, folder in named.items()}

    def models_beside(self) -> Path:
        return Path(sd_models.model_path).parent

    def lacks(self) -> dict[str, str]:
        if memory_manager() is None:
            return {}
        return {"hypernetwork": f"{self.name} does not use hypernetworks: its drawing has no place for them."}

    def bases(self) -> list[dict[str, str]]:
        listed = list(sd_models.checkpoints_list.values())
        return [{"title": info.title, "path": os.path.abspath(info.filename)} for info in listed]

    def current_base(self) -> str:
        chosen = sd_models.checkpoint_aliases.get(shared.opts.data.get("sd_model_checkpoint"))
        model = sd_models.model_data.sd_model
        info = chosen or getattr(model, "sd_checkpoint_info", None)
        return os.path.abspath(info.filename) if info else ""

    def option(self, name: str) -> Any:
        default = options.BY_NAME[name].default
        return options.valid(name, shared.opts.data.get(options.PREFIX + name, default))

    # --- who may do what ---

    def restricted(self) -> str:
        if flag("disable_extension_access"):
            return (
                "This WebUI can be reached from other machines (--share, --listen, --ngrok or --server-name). Its "
                "owner can allow this by starting it with --enable-insecure-extension-access."
            )
        if flag("hide_ui_dir_config"):
            return "This WebUI was started with --hide-ui-dir-config."
        return ""

    def api_auth(self) -> dict[str, str]:
        pairs = (pair.partition(":") for pair in (flag("api_auth") or "").split(",") if pair)
        return {user: password for user, _, password in pairs}

    def has_login(self) -> bool:
        return bool(flag("gradio_auth") or flag("gradio_auth_path"))

    # --- the models and the device ---

    @contextlib.contextmanager
    def handed_over(self, mode: str) -> Iterator[None]:
        """See interface.Host. With "refuse" the queue's lock is held only while the models move: settings and the
        rest of the WebUI stay usable for the hours of a training. With "wait" it is held all the time."""
        if mode == "share":
            yield
            return
        lock = call_queue.queue_lock
        lock.acquire()  # waits for the picture that is being drawn
        try:
            with self.refusing() if mode == "refuse" else contextlib.nullcontext(), self.settings_put_off():
                self.later.away = True
                never_loaded = send_away()
                try:
                    if mode == "refuse":
                        lock.release()
                    try:
                        yield
                    finally:
                        if mode == "refuse":
                            lock.acquire()
                finally:
                    bring_back(never_loaded)
                    self.later.away = False
        finally:
            lock.release()
            self.later.catch_up()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Drawing ends before it begins, in every tab, script and API route: all of them go through these two."""
        runner = scripts.ScriptRunner
        was_run, was_before = runner.run, runner.before_process

        def run(this, p, *arguments):  # of both tabs, with and without a script; its result is what the tab shows
            return refusal(p) if self.later.away else was_run(this, p, *arguments)

        def before_process(this, p):  # of the API, and of whatever else draws
            if self.later.away:
                raise busy()
            return was_before(this, p)

        runner.run, runner.before_process = run, before_process
        try:
            yield
        finally:  # what another extension has put over ours stays, and goes on through ours to the original
            runner.run = was_run if runner.run is run else runner.run
            runner.before_process = was_before if runner.before_process is before_process else runner.before_process

    @contextlib.contextmanager
    def settings_put_off(self) -> Iterator[None]:
        """Settings that load models (the checkpoint, the VAE) can be changed, at once, and take effect afterwards.

        They are those whose callbacks the WebUI runs under the queue's lock.
        """
        queued = call_queue.wrap_queued_call(int).__code__
        waiting = [
            (key, info, info.onchange)
            for key, info in list(shared.opts.data_labels.items())
            if getattr(info.onchange, "__code__", None) is queued
        ]
        for key, info, onchange in waiting:
            info.onchange = functools.partial(self.later.put_off, key, onchange)
        try:
            yield
        finally:
            for _, info, onchange in waiting:
                info.onchange = onchange

    # --- what was published ---

    def refresh(self, kind: str, path: Path) -> None:
        with contextlib.suppress(OSError):
            os.utime(path)  # the WebUI keeps hashes and metadata for as long as a file is not newer than they are
        renew = {
            "checkpoint": self.renew_checkpoint,
            "lora": self.renew_lora,
            "textual_inversion": self.renew_embedding,
            "hypernetwork": self.renew_hypernetwork,
        }
        renew[kind](path)

    def select(self, path: Path) -> str:
        info = listed(path) or register(path)
        info.calculate_shorthash()  # as loading does; the title holds it from then on
        choose(info)
        remedy = "The WebUI's console says more; the checkpoint that was loaded before is chosen again."
        try:
            self.later.when_back("the checkpoint", self.load_chosen)
        except Exception as error:  # whatever a damaged file, full memory or an extension may raise
            raise UserError("select", f"The WebUI could not load {path.name}: {error}", remedy) from error
        return shown(info)

    def load_chosen(self) -> None:
        """Load the checkpoint that is chosen in the settings; anew if it was overwritten. Under the queue's lock."""
        info = sd_models.select_checkpoint()
        place = normal(info.filename)
        forced = place in self.overwritten
        data = sd_models.model_data
        if forced:
            forget_prompts()
        for model in loaded_models():
            if file_of(model) in self.overwritten and model is not data.sd_model:  # kept for later, and stale
                data.loaded_sd_models.remove(model)
                self.overwritten.discard(file_of(model))
                sd_models.send_model_to_trash(model)
            elif file_of(model) == place and forced and hasattr(model, "filename"):
                model.filename = ""  # by which reForge and classic tell that there is nothing to do
        if hasattr(data, "forge_loading_parameters"):
            if forced:
                data.forge_hash = ""
            sys.modules["modules_forge.main_entry"].refresh_model_loading_parameters()
        elif forced or getattr(data, "was_loaded_at_least_once", True):
            before = getattr(data.sd_model, "sd_checkpoint_info", None)
            try:
                sd_models.reload_model_weights(info=info, forced_reload=forced)
            except Exception:
                go_back(before)
                raise
        self.overwritten.discard(place)

    def renew_checkpoint(self, path: Path) -> None:
        register(path)
        cached = sd_models.checkpoints_loaded
        for info in [info for info in list(cached) if normal(info.filename) == normal(path)]:
            cached.pop(info, None)
        if normal(path) in map(file_of, loaded_models()):
            self.overwritten.add(normal(path))
            with reporting(f"loading {path.name} anew"):
                self.later.when_back("the checkpoint", self.load_chosen)

    def renew_lora(self, path: Path) -> None:
        networks = sys.modules.get("networks")  # of the Lora extension, which may be off
        if networks:
            self.later.when_idle(networks.list_available_networks)
            self.later.when_back(f"lora {path.stem}", functools.partial(forget_lora, networks, path.stem))

    def renew_embedding(self, path: Path) -> None:
        from modules import sd_hijack

        forget_prompts()
        database = getattr(sd_hijack.model_hijack, "embedding_db", None)
        data = sd_models.model_data
        if database and data.sd_model:  # without a model they are read when one is loaded
            self.later.when_idle(functools.partial(database.load_textual_inversion_embeddings, force_reload=True))
        elif hasattr(data, "forge_hash"):  # Forge reads them with the model
            data.forge_hash = ""

    def renew_hypernetwork(self, path: Path) -> None:
        def renew() -> None:
            shared.reload_hypernetworks()
            shared.loaded_hypernetworks = [it for it in shared.loaded_hypernetworks if it.name != path.stem]

        if hasattr(shared, "reload_hypernetworks"):
            self.later.when_idle(renew)


def flag(name: str) -> Any:
    """A command line option of the WebUI; None where it has no such option."""
    return getattr(shared.cmd_opts, name, None)


def memory_manager() -> Any:
    """Forge's and its relatives' module that moves models; None in AUTOMATIC1111's WebUI."""
    return next((sys.modules[name] for name in MANAGERS if name in sys.modules), None)


def normal(path: str | Path) -> str:
    return os.path.normcase(os.path.abspath(path))


def loaded_models() -> list[Any]:
    data = sd_models.model_data
    models = [data.sd_model, *getattr(data, "loaded_sd_models", [])]
    return list({id(model): model for model in models if model is not None}.values())


def file_of(model: Any) -> str:
    """The checkpoint that a loaded model came from; "" for Forge's placeholder."""
    info = getattr(model, "sd_checkpoint_info", None)
    return normal(info.filename) if info else ""


@contextlib.contextmanager
def reporting(what: str) -> Iterator[None]:
    """Errors inside are told in the console, as the WebUI tells its own, and go no further."""
    try:
        yield
    except Exception:
        errors.report(f"DreamBooth: error while {what}", exc_info=True)


def send_away() -> bool:
    """Take the models off the device. Under the queue's lock. Returns whether none had ever been loaded."""
    data, manager = sd_models.model_data, memory_manager()
    with getattr(data, "lock", contextlib.nullcontext()):  # the start loads the first model beside the queue
        never_loaded = not getattr(data, "was_loaded_at_least_once", True)
        if never_loaded:
            data.was_loaded_at_least_once = True  # else, whoever looks at shared.sd_model would load one
        with reporting("taking the WebUI's models off the device"):
            if manager:
                manager.unload_all_models()
                manager.soft_empty_cache()
            else:
                for model in loaded_models():
                    sd_models.send_model_to_cpu(model)
            devices.torch_gc()
    return never_loaded


def bring_back(never_loaded: bool) -> None:
    """Put the chosen model back on the device. Under the queue's lock. Never raises.

    The trainer's process may take a moment to give its memory back. A model that cannot be moved even then is dropped,
    and loaded from its file when it is next needed: half of it on the device would break every picture.
    """
    data = sd_models.model_data
    if never_loaded and not data.sd_model:
        data.was_loaded_at_least_once = False
    if memory_manager() or not data.sd_model:
        return
    for patience in (0.5, 2.0, 5.0, 0.0):
        try:
            sd_models.send_model_to_device(data.sd_model)
            return
        except Exception:
            with reporting("putting the WebUI's model back on the device"):
                if not patience:
                    raise
            devices.torch_gc()
            time.sleep(patience)
    with reporting("dropping the WebUI's model"):
        model = data.sd_model
        data.set_sd_model(None)
        data.loaded_sd_models[:] = [it for it in data.loaded_sd_models if it is not model]
        data.was_loaded_at_least_once = False
        sd_models.send_model_to_trash(model)


def go_back(info: Any) -> None:
    """Choose and load what was there before a checkpoint that did not load, which the WebUI would try for ever."""
    if info is not None:
        with reporting(f"going back to {info.title}"):
            choose(info)
            sd_models.reload_model_weights(info=info, forced_reload=True)


def refusal(p: Any) -> Any:
    """What a tab shows in the place of pictures; an image that was to be enlarged stays."""
    kept = [image for image in [getattr(p, "firstpass_image", None)] if image is not None]
    return processing.Processed(p, kept, info=BUSY, comments="")


def busy() -> Exception:
    """For the API, which answers with its status and detail and prints no traceback for it."""
    from fastapi import HTTPException

    class Busy(HTTPException):
        def __str__(self) -> str:
            return BUSY

    return Busy(status_code=503, detail=BUSY)


def listed(path: Path) -> Any:
    infos = list(sd_models.checkpoints_list.values())
    return next((info for info in infos if normal(info.filename) == normal(path)), None)


def register(path: Path) -> Any:
    """Put a checkpoint into the WebUI's list, in the place of an older one of that name; returns its CheckpointInfo.

    Not by `list_models`: that empties the list first, and a picture that is begun meanwhile gets another model.
    """
    old = listed(path)
    info = sd_models.CheckpointInfo(old.filename if old else str(path))
    info.register()
    if old:
        if old.title != info.title:
            sd_models.checkpoints_list.pop(old.title, None)
        for name, known in list(sd_models.checkpoint_aliases.items()):
            if known is old:  # the settings and the page still know it by a former hash
                sd_models.checkpoint_aliases[name] = info
    return info


def shown(info: Any) -> str:
    """A checkpoint's name in the WebUI's list, which cannot show another: with its hash, but in Forge without."""
    tiles = sd_models.checkpoint_tiles(use_short=shared.opts.data.get("sd_checkpoint_dropdown_use_short", False))
    found = (tile for tile, other in zip(tiles, sd_models.checkpoints_list.values()) if other is info)
    return next(found, info.title)


def choose(info: Any) -> None:
    """Have the settings name a checkpoint, without loading it; Forge's own call leaves an overwritten one's old hash."""
    shared.opts.set("sd_model_checkpoint", shown(info), run_callbacks=False)
    if not flag("freeze_settings"):
        shared.opts.save(shared.config_filename)


def forget_prompts() -> None:
    """Empty the caches of encoded prompts: they know neither an embedding's content nor a text encoder's."""
    for name in ("StableDiffusionProcessing", "StableDiffusionProcessingTxt2Img"):
        kind = getattr(processing, name)
        caches = {key: value for key, value in vars(kind).items() if key.startswith("cached_")}
        for key, value in caches.items():
            if isinstance(value, list):
                setattr(kind, key, [None] * len(value))


def forget_lora(networks: Any, name: str) -> None:
    """Have a LoRA read and applied anew, though its name and multipliers are those that are applied now."""
    forget_prompts()
    getattr(networks, "networks_in_memory", {}).pop(name, None)
    clear = getattr(getattr(networks, "load_lora_state_dict", None), "cache_clear", None)
    if clear:
        clear()
    for model in loaded_models():
        if hasattr(model, "current_lora_hash"):
            model.current_lora_hash = ""
        for loader in lora_loaders(model):
            loader.loaded_hash = ""
        for module in model.modules() if hasattr(model, "modules") else ():
            if any(entry[0] == name for entry in getattr(module, "network_current_names", ())):
                module.network_current_names = (("", 0.0, 0.0, None),)  # is never wanted, so the backup comes back


def lora_loaders(model: Any) -> list[Any]:
    """Forge's, which merge LoRAs into the UNet and the text encoders, and know what is merged by name and weight."""
    parts = getattr(model, "forge_objects", None)
    patchers = [getattr(parts, "unet", None), getattr(getattr(parts, "clip", None), "patcher", None)]
    return [patcher.lora_loader for patcher in patchers if hasattr(patcher, "lora_loader")]
