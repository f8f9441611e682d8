"""The WebUI as host: AUTOMATIC1111 v1.10.1 and its forks. Only this folder uses `modules.*`.

Differences between forks are recognised by what they have (`getattr`), never by name:
- `sd_models.model_data.forge_loading_parameters` (Forge): models load when a picture is drawn, not when chosen
- a memory manager of its own (Forge, reForge, Forge-classic): it moves models back by itself, and hypernetworks do
  nothing there
- a checkpoint for each preset (Forge Neo): `forge_checkpoint_<preset>` among the settings
- a list of all models that it can load (Forge and its relatives): some lack Stable Diffusion 2
- modules, functions and command line options that it lacks
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modules import paths_internal, processing, sd_models, shared

from ...core.checks import base_header
from ...core.config.parsing import to_path
from ...core.config.run_config import RunConfig
from ...core.errors import Problem, UserError
from ...core.facts.family_marks import BASE_FAMILIES
from ...core.messages.message import Message
from ...core.system.files import expanded
from ..hosts import options
from ..hosts.host import Host
from ..hosts.model_lists import checkpoints
from ..hosts.publishing_targets import SD2
from . import interrogation
from .model_offload import Models, file_of, loaded_models, memory_manager, normal, reporting

__all__ = ["Host", "WebUI"]

# As they are loaded, Forge's under the name that its folder of packages gives; see publishing_targets.MODEL_LISTS.
MODEL_LISTS = ("huggingface_guess.model_list", "ldm_patched.modules.supported_models")


class WebUI:
    """The running WebUI as `host.Host`; one object for the process, which knows whether the models are away."""

    def __init__(self) -> None:
        self.models = Models()
        self.later = self.models.later
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

    def lacks(self) -> dict[str, Message]:
        found = {}
        if memory_manager():
            found["hypernetwork"] = Message("hosts.no_hypernetworks", host=self.name)
        lists = [module for name in MODEL_LISTS if (module := sys.modules.get(name))]
        if lists and not any(hasattr(module, SD2) for module in lists):
            found["sd2"] = Message("hosts.no_sd2", host=self.name)
        return found

    def refused(self, config: RunConfig, family: str) -> list[Problem]:
        """Whatever a setting makes of a model, WebUIs read it."""
        return []

    def publishing(self) -> dict[str, Any]:
        return {}

    def publish_into(self, folder: str) -> None:
        raise UserError("publishing.host_s_own", "folder")

    def versions(self) -> dict[str, str]:
        """Forge Neo's LoRA cards use its preset names, and show each LoRA in its own preset."""
        known = getattr(sys.modules.get("network"), "SD_VERSION", ())
        words = {name.upper(): facts.preset for name, facts in BASE_FAMILIES.items() if facts.preset in known}
        return {name: word for name, word in words.items() if name not in known}

    def bases(self) -> list[dict[str, str]]:
        listed = list(sd_models.checkpoints_list.values())
        known = {normal(info.filename) for info in listed}
        shown = [{"title": info.title, "path": os.path.abspath(info.filename)} for info in listed]
        # files that came after the WebUI's last look: a base need not be in its own list
        return shown + [it for it in checkpoints(self.folders()["checkpoint"]) if normal(it["path"]) not in known]

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
            return Message("web.webui_reachable")
        if flag("hide_ui_dir_config"):
            return Message("web.webui_hides_folders")
        return ""

    def api_auth(self) -> dict[str, str]:
        pairs = (pair.partition(":") for pair in (flag("api_auth") or "").split(",") if pair)
        return {user: password for user, _, password in pairs}

    def has_login(self) -> bool:
        return bool(flag("gradio_auth") or flag("gradio_auth_path"))

    # --- the models and the device ---

    def handed_over(self, mode: str, device: str) -> AbstractContextManager[None]:
        return self.models.handed_over(mode, device)

    def models_away(self) -> str:
        return self.models.away()

    def models_loaded(self) -> int | None:
        return self.models.loaded()

    def is_wanted(self) -> bool:
        waiting = getattr(sys.modules.get("modules.progress"), "pending_tasks", None)  # before the queue's lock
        return bool(waiting) and bool(self.models_away())

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
        try:
            self.later.when_back("the checkpoint", self.load_chosen)
        except Exception as error:  # whatever a damaged file, full memory or an extension may raise
            raise UserError("publishing.not_loaded", "select", file=path.name, error=error) from error
        return shown(info)

    def load_chosen(self) -> None:
        """Load the checkpoint selected in the settings, again if it was overwritten. Under the queue's lock."""
        if hasattr(sd_models.model_data, "forge_loading_parameters"):
            self.have_it_loaded_when_drawing()
        else:
            self.load_now(sd_models.select_checkpoint())

    def have_it_loaded_when_drawing(self) -> None:
        """Let Forge load the checkpoint at the next picture. Its loaded model may differ from the selected one, and be
        selected later."""
        data = sd_models.model_data
        if file_of(data.sd_model) in self.overwritten:
            forget_prompts()
            data.forge_hash = ""  # by which it tells that there is nothing to do
        self.overwritten.clear()
        sys.modules["modules_forge.main_entry"].refresh_model_loading_parameters()

    def load_now(self, info: Any) -> None:
        place, data = normal(info.filename), sd_models.model_data
        forced = place in self.overwritten
        if forced:
            forget_prompts()
        for model in loaded_models():
            if file_of(model) in self.overwritten and model is not data.sd_model:  # kept for later, and stale
                data.loaded_sd_models.remove(model)
                self.overwritten.discard(file_of(model))
                sd_models.send_model_to_trash(model)
            elif file_of(model) == place and forced and hasattr(model, "filename") and not loads_anew():
                model.filename = ""  # by which classic tells that there is nothing to do
        if forced or getattr(data, "was_loaded_at_least_once", True):
            before = getattr(data.sd_model, "sd_checkpoint_info", None)
            try:
                sd_models.reload_model_weights(info=info, forced_reload=forced)
            except Exception:
                go_back(before)
                raise
        self.overwritten.discard(place)

    def interrogators(self) -> dict[str, str]:
        return {name: interrogation.KINDS[name] for name in interrogation.found()}

    def interrogate(self, name: str, content: bytes) -> str:
        return interrogation.interrogate(name, content)

    def needs(self, path: Path) -> Problem | None:
        if normal(path) != normal(self.current_base()):
            return None
        return Problem("publishing.in_use", file=path.name, host=self.name)

    def forget(self, kind: str, path: Path) -> None:
        if kind == "checkpoint":
            unregister(path)
        elif kind == "lora":
            self.renew_lora(path)
        elif kind == "textual_inversion":
            self.renew_embedding(path)
        elif kind == "hypernetwork":
            self.renew_hypernetwork(path)

    def renew_checkpoint(self, path: Path) -> None:
        register(path)
        kept = kept_weights()
        for info in [info for info in list(kept) if normal(info.filename) == normal(path)]:
            kept.pop(info, None)
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
        forget_prompts()
        hijack = getattr(sys.modules.get("modules.sd_hijack"), "model_hijack", None)
        database, model = getattr(hijack, "embedding_db", None), sd_models.model_data.sd_model
        if database and model:  # without a model they are read when one is loaded
            self.later.when_idle(functools.partial(database.load_textual_inversion_embeddings, force_reload=True))
        for own in embeddings_of(model):
            self.later.when_idle(own.load_textual_inversion_embeddings)

    def renew_hypernetwork(self, path: Path) -> None:
        def renew() -> None:
            shared.reload_hypernetworks()
            shared.loaded_hypernetworks = [it for it in shared.loaded_hypernetworks if it.name != path.stem]

        if hasattr(shared, "reload_hypernetworks"):
            self.later.when_idle(renew)


def flag(name: str) -> Any:
    """A command line option of the WebUI; None if it has no such option."""
    return getattr(shared.cmd_opts, name, None)


def kept_weights() -> dict[Any, Any]:
    """The weights of unused checkpoints, by CheckpointInfo, if the WebUI keeps any."""
    return getattr(sd_models, "checkpoints_loaded", {})


def embeddings_of(model: Any) -> list[Any]:
    """The embedding databases of a model's text encoders, as in Forge."""
    engines = vars(model).values() if hasattr(model, "__dict__") else ()
    found = (getattr(engine, "embeddings", None) for engine in engines)
    return [database for database in found if hasattr(database, "load_textual_inversion_embeddings")]


def loads_anew() -> bool:
    """Whether asking for a loaded checkpoint can reload it, as in reForge."""
    return "forced_reload" in inspect.signature(sd_models.load_model).parameters


def go_back(info: Any) -> None:
    """Select and load the previous checkpoint after one failed to load, which the WebUI would otherwise retry
    forever."""
    if info is not None:
        with reporting(f"going back to {info.title}"):
            choose(info)
            sd_models.reload_model_weights(info=info, forced_reload=True)


def listed(path: Path) -> Any:
    infos = list(sd_models.checkpoints_list.values())
    return next((info for info in infos if normal(info.filename) == normal(path)), None)


def register(path: Path) -> Any:
    """Put a checkpoint into the WebUI's list, replacing an older one of that name; returns its CheckpointInfo.

    Not with `list_models`: that empties the list first, so a picture begun meanwhile would get another model.
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


def unregister(path: Path) -> None:
    """Remove a checkpoint from the WebUI's lists, without ever emptying them."""
    for info in [info for info in list(sd_models.checkpoints_list.values()) if normal(info.filename) == normal(path)]:
        sd_models.checkpoints_list.pop(info.title, None)
        for name in [name for name, known in list(sd_models.checkpoint_aliases.items()) if known is info]:
            sd_models.checkpoint_aliases.pop(name, None)
        kept_weights().pop(info, None)


def shown(info: Any) -> str:
    """A checkpoint's title in the WebUI's list, the only one it can show: with its hash, in Forge without."""
    tiles = sd_models.checkpoint_tiles(use_short=shared.opts.data.get("sd_checkpoint_dropdown_use_short", False))
    found = (tile for tile, other in zip(tiles, sd_models.checkpoints_list.values(), strict=False) if other is info)
    return next(found, info.title)


def choose(info: Any) -> None:
    """Select a checkpoint in the settings without loading it; Forge's own call would keep an overwritten one's old
    hash."""
    shared.opts.set("sd_model_checkpoint", shown(info), run_callbacks=False)
    for preset in presets_for(info):
        shared.opts.set(preset, shown(info), run_callbacks=False)
    if not flag("freeze_settings"):
        shared.opts.save(shared.config_filename)


def presets_for(info: Any) -> list[str]:
    """The settings in which Forge Neo keeps a checkpoint per preset: for the preset in use, and for that of the model's
    family."""
    family = BASE_FAMILIES.get(base_header.family_of(info.filename))
    names = [shared.opts.data.get("forge_preset"), family.preset if family else ""]
    settings = dict.fromkeys(f"forge_checkpoint_{name}" for name in names if name)
    return [name for name in settings if name in shared.opts.data_labels]


def forget_prompts() -> None:
    """Empty the caches of encoded prompts, which do not notice changed embeddings or text encoders."""
    for name in ("StableDiffusionProcessing", "StableDiffusionProcessingTxt2Img"):
        kind = getattr(processing, name)
        caches = {key: value for key, value in vars(kind).items() if key.startswith("cached_")}
        for key, value in caches.items():
            if isinstance(value, list):
                setattr(kind, key, [None] * len(value))


def forget_lora(networks: Any, name: str) -> None:
    """Let a LoRA be read and applied again, although its name and multipliers have not changed."""
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
    """Forge's loaders that merge LoRAs into the UNet and the text encoders, and remember them by name and weight."""
    parts = getattr(model, "forge_objects", None)
    patchers = [getattr(parts, "unet", None), getattr(getattr(parts, "clip", None), "patcher", None)]
    return [patcher.lora_loader for patcher in patchers if patcher and hasattr(patcher, "lora_loader")]
