"""What makes the stand-in one of Forge's kind: models load when a picture is drawn, by a memory manager of its own."""

import sys
import types

from modules import devices, script_callbacks, sd_hijack, sd_models, shared


def manager():
    """Models that were sent away come back when they draw."""
    module = types.ModuleType("manager")
    module.unload_all_models = lambda: sd_models.model_data.sd_model and sd_models.model_data.sd_model.to(devices.cpu)
    module.soft_empty_cache = lambda force=False: None
    return module


def become_classic():
    lose_tabs()
    sys.modules["ldm_patched.modules.model_management"] = manager()
    reload = sd_models.reload_model_weights

    def reload_model_weights(sd_model=None, info=None, forced_reload=False):
        """Told by the file's name alone whether there is something to do."""
        model, info = sd_models.model_data.sd_model, info or sd_models.select_checkpoint()
        if model is None or getattr(model, "filename", None) != info.filename:
            model = reload(info=info, forced_reload=True)
            model.filename = info.filename
        model.to(devices.device)
        return model

    sd_models.reload_model_weights = reload_model_weights
    models_move_by_themselves()


def lose_tabs():
    """Neither Interrogate, nor Train, nor the merger."""
    shared.interrogator = None
    gone = "deepbooru hypernetworks.hypernetwork hypernetworks.ui textual_inversion.textual_inversion extras"
    for name in gone.split():
        sys.modules.pop(f"modules.{name}", None)


def models_move_by_themselves():
    for name in ("send_model_to_cpu", "send_model_to_device", "send_model_to_trash"):
        setattr(sd_models, name, lambda m: None)


def become_reforge():
    """Keeps several models, the newest first, told by their files' names; one that is loaded anew replaces its own."""
    sys.modules["ldm_patched.modules.model_management"] = manager()
    data = sd_models.model_data
    data.set_sd_model = lambda v, already_loaded=False: setattr(data, "sd_model", v)

    def load_model(checkpoint_info=None, already_loaded_state_dict=None, forced_reload=False):
        info, kept = checkpoint_info or sd_models.select_checkpoint(), data.loaded_sd_models
        model = next((model for model in kept if model.filename == info.filename), None)
        if model:
            kept.remove(model)
        if not model or forced_reload:
            del kept[max(0, int(shared.opts.sd_checkpoints_limit) - 1) :]
            model = sd_models.Model(info)
            model.filename = info.filename
            data.was_loaded_at_least_once = True
            sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings()
            script_callbacks.model_loaded_callback(model)
        kept.insert(0, model)
        data.set_sd_model(model)
        model.to(devices.device)
        return model

    sd_models.load_model = load_model
    sd_models.reload_model_weights = lambda sd_model=None, info=None, forced_reload=False: load_model(
        info, forced_reload=forced_reload
    )
    sd_models.load_model_to_device = lambda model=None: (model or data.sd_model).to(devices.device)
    models_move_by_themselves()


class FakeInitialModel:
    """What is there before a model is loaded."""

    def to(self, device):
        pass


def become_forge():
    sys.modules["backend.memory_management"] = manager()
    data = types.SimpleNamespace(sd_model=object(), forge_loading_parameters={}, forge_hash="")
    data.get_sd_model, data.set_sd_model = lambda: data.sd_model, lambda v: setattr(data, "sd_model", v)
    data.sd_model = FakeInitialModel()
    sd_models.model_data = data

    sd_models.checkpoint_tiles = lambda use_short=False: [info.name for info in sd_models.checkpoints_list.values()]

    def refresh_model_loading_parameters():
        data.forge_loading_parameters = {"checkpoint_info": sd_models.select_checkpoint()}

    def checkpoint_change(ckpt_name, save=True, refresh=True):
        new = sd_models.get_closet_checkpoint_match(ckpt_name)
        if new == sd_models.get_closet_checkpoint_match(shared.opts.data.get("sd_model_checkpoint")):
            return False
        shared.opts.set("sd_model_checkpoint", ckpt_name)
        if save:
            shared.opts.save(shared.config_filename)
        if refresh:
            refresh_model_loading_parameters()
        return True

    def forge_model_reload():
        if not data.forge_loading_parameters:
            refresh_model_loading_parameters()
        info = data.forge_loading_parameters["checkpoint_info"]
        if data.forge_hash != str(info.filename):
            chosen = shared.opts.data["sd_model_checkpoint"]
            data.sd_model = sd_models.Model(info)
            data.sd_model.text_processing_engine = Engine()
            data.forge_hash = str(info.filename)
            shared.opts.data["sd_model_checkpoint"] = chosen  # loading leaves the settings as they are
            script_callbacks.model_loaded_callback(data.sd_model)
        data.sd_model.to(devices.device)
        return data.sd_model

    become_entry(checkpoint_change, refresh_model_loading_parameters)
    know_models("SD15", "SD20", "SDXL")
    sd_models.forge_model_reload = forge_model_reload
    sd_models.reload_model_weights = lambda sd_model=None, info=None, forced_reload=False: None
    sd_models.load_model = lambda checkpoint_info=None, already_loaded_state_dict=None: None
    models_move_by_themselves()
    del sd_hijack.model_hijack.embedding_db


def become_entry(*functions):
    entry = types.ModuleType("modules_forge.main_entry")
    for function in functions:
        setattr(entry, function.__name__, function)
    sys.modules["modules_forge"] = types.ModuleType("modules_forge")
    sys.modules["modules_forge"].main_entry = sys.modules["modules_forge.main_entry"] = entry


def know_models(*names):
    """The classes of all models that it can load."""
    module = sys.modules["huggingface_guess.model_list"] = types.ModuleType("huggingface_guess.model_list")
    for name in names:
        setattr(module, name, type(name, (), {}))


class Engine:
    """A model's text encoder, with embeddings of its own, read when the model is loaded."""

    def __init__(self):
        database = sd_hijack.EmbeddingDatabase()
        self.embeddings = types.SimpleNamespace(word_embeddings={})

        def load_textual_inversion_embeddings():
            database.load_textual_inversion_embeddings()
            self.embeddings.word_embeddings = database.word_embeddings

        self.embeddings.load_textual_inversion_embeddings = load_textual_inversion_embeddings
        load_textual_inversion_embeddings()


PRESETS = ("sd", "xl", "flux")


def become_neo():
    """Forge without all that has no use there any more, and with a checkpoint for each preset."""
    become_forge()
    lose_tabs()
    know_models("SD15", "SDXL", "Flux")
    sys.modules["network"] = types.ModuleType("network")
    sys.modules["network"].SD_VERSION = ["Unknown", *PRESETS]
    sys.modules["modules.sd_hijack"] = None  # whoever imports it fails
    del sys.modules["modules"].sd_hijack
    gone = "checkpoints_loaded load_model reload_model_weights send_model_to_cpu send_model_to_device"
    for name in [*gone.split(), "send_model_to_trash"]:
        delattr(sd_models, name)
    reload, refresh = (
        sd_models.forge_model_reload,
        sys.modules["modules_forge.main_entry"].refresh_model_loading_parameters,
    )
    for name in PRESETS:
        shared.opts.add_option(f"forge_checkpoint_{name}", shared.OptionInfo(None))
    shared.opts.add_option("forge_preset", shared.OptionInfo("sd"))

    def forge_model_reload():
        before, model = sd_models.model_data.sd_model, reload()
        model.filename = model.sd_checkpoint_info.filename
        return model, model is not before

    def refresh_model_loading_parameters(*, refresh=True, read=refresh):
        if refresh:
            read()

    def checkpoint_change(ckpt_name, preset, save=True, refresh=True):
        new = sd_models.get_closet_checkpoint_match(ckpt_name)
        if new == sd_models.get_closet_checkpoint_match(shared.opts.sd_model_checkpoint):
            return False
        shared.opts.set("sd_model_checkpoint", ckpt_name)
        if preset is not None:
            shared.opts.set(f"forge_checkpoint_{preset}", ckpt_name)
        if save:
            shared.opts.save(shared.config_filename)
        refresh_model_loading_parameters(refresh=refresh)
        return True

    def on_preset_change(preset):
        """What the page shows from then on."""
        shared.opts.set("forge_preset", preset)
        shared.opts.save(shared.config_filename)
        return [getattr(shared.opts, f"forge_checkpoint_{preset}", shared.opts.sd_model_checkpoint)]

    def _load_presets(ui_checkpoint, ui_vae, ui_forge_unet_dtype, ui_forge_preset):
        checkpoint_change(ui_checkpoint, ui_forge_preset)

    sd_models.forge_model_reload = forge_model_reload
    become_entry(checkpoint_change, refresh_model_loading_parameters, on_preset_change, _load_presets)
