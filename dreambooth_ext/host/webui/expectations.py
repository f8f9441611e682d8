"""Lists every name that this folder uses of the WebUI's modules: which are required, and what happens without the
others.

Tests check the list against the stand-ins and, by its source, against a real WebUI: so a host that renames something is
noticed by that name, and not by training that fails.
"""

from __future__ import annotations

from collections.abc import Callable

# Module, and names in it. A dot goes on in a class, or in the object that a module keeps.
NEEDED = {
    "modules.call_queue": "queue_lock wrap_queued_call",
    "modules.devices": "device torch_gc",
    "modules.errors": "report",
    "modules.options": "OptionInfo.info Options.add_option Options.save Options.set",
    "modules.paths_internal": "data_path",
    "modules.processing": "Processed process_images_inner StableDiffusionProcessing.cached_c "
    "StableDiffusionProcessing.cached_uc StableDiffusionProcessingTxt2Img",
    "modules.script_callbacks": "on_app_started on_ui_settings on_ui_tabs",
    "modules.scripts": "ScriptRunner.run ScriptRunner.before_process",
    "modules.sd_models": "CheckpointInfo.register CheckpointInfo.calculate_shorthash checkpoint_aliases "
    "checkpoint_tiles checkpoints_list model_data.sd_model model_path select_checkpoint",
    "modules.shared": "OptionInfo cmd_opts config_filename opts state",
}
# Of each row one is enough; by these the kinds of hosts are told.
ONE_OF = (  # loading what was chosen
    ("modules.sd_models.reload_model_weights", "modules_forge.main_entry.refresh_model_loading_parameters"),
    (  # taking models off the device
        "modules.sd_models.send_model_to_cpu",
        "backend.memory_management.unload_all_models",
        "ldm_patched.modules.model_management.unload_all_models",
    ),
    (  # reading embeddings anew
        "modules.sd_hijack.model_hijack",
        "backend.text_processing.textual_inversion.EmbeddingDatabase.load_textual_inversion_embeddings",
    ),
)
# Command line options. One that tells who may do what must not be missed because it has another name.
OPTIONS_NEEDED = "api_auth disable_extension_access freeze_settings gradio_auth gradio_auth_path hide_ui_dir_config"
OPTIONS_ASKED = {
    "ckpt_dir": "checkpoints go to the WebUI's own folder",
    "embeddings_dir": "embeddings go to the folder `embeddings`",
    "hypernetwork_dir": "hypernetworks go to the folder `models/hypernetworks`",
    "lora_dir": "LoRAs go to the folder `models/Lora`",
}
# Names that some hosts lack -> what that means there.
ASKED = {
    "backend.memory_management.soft_empty_cache": "the host has no memory manager of its own, or another",
    "huggingface_guess.model_list": "the host loads every family",
    "ldm_patched.modules.model_management.soft_empty_cache": "the host has no memory manager of its own, or another",
    "ldm_patched.modules.supported_models": "the host loads every family",
    "modules.deepbooru.model.tag": "captions are not proposed by DeepBooru",
    "modules.deepbooru.DeepDanbooru": "there is no Interrogate to be stopped",
    "modules.hypernetworks.hypernetwork.train_hypernetwork": "there is no Train tab to be stopped",
    "modules.launch_utils.git_tag": "the host's name goes without a version",
    "modules.options.categories": "our settings have no heading of their own",
    "modules.paths_internal.models_path": "models are beside the checkpoints' folder",
    "modules.progress.pending_tasks": "pictures wait until a run has been judged",
    "modules.processing.forge_model_reload": "models are loaded when they are chosen",
    "modules.sd_hijack": "embeddings are the text encoders' own",
    "modules.sd_models.checkpoints_loaded": "no checkpoints are kept in memory",
    "modules.sd_models.forge_model_reload": "models are loaded when they are chosen",
    "modules.sd_models.load_model": "models are loaded when a picture is drawn",
    "modules.sd_models.load_model_to_device": "the host moves models by itself, or with another function",
    "modules.sd_models.model_data.forge_hash": "models are loaded when they are chosen",
    "modules.sd_models.model_data.forge_loading_parameters": "models are loaded when they are chosen",
    "modules.sd_models.model_data.loaded_sd_models": "one model is kept at a time",
    "modules.sd_models.model_data.lock": "the start loads no model beside the queue",
    "modules.sd_models.model_data.set_sd_model": "the host moves models by itself",
    "modules.sd_models.model_data.was_loaded_at_least_once": "models are loaded when a picture is drawn",
    "modules.sd_models.send_model_to_device": "the host moves models by itself",
    "modules.sd_models.send_model_to_trash": "the host moves models by itself",
    "modules.shared.hide_dirs": "the runs' folder is always shown among the settings",
    "modules.shared.interrogator.interrogate": "captions are not proposed by the WebUI's Interrogate",
    "modules.shared.loaded_hypernetworks": "the host does not support hypernetworks",
    "modules.shared.reload_hypernetworks": "the host does not support hypernetworks",
    "modules.textual_inversion.textual_inversion.create_embedding": "there is no Train tab to be stopped",
    "modules.textual_inversion.textual_inversion.train_embedding": "there is no Train tab to be stopped",
    "network.SD_VERSION": "LoRA cards know families by our own words",
    "networks.list_available_networks": "the Lora extension is off",
    "networks.load_lora_state_dict": "read LoRAs are not kept",
    "networks.networks_in_memory": "read LoRAs are not kept",
}


def needed() -> list[str]:
    """Every name in NEEDED, with its module."""
    return [f"{module}.{name}" for module, names in NEEDED.items() for name in names.split()]


def missing(has: Callable[[str], bool], has_option: Callable[[str], bool]) -> list[str]:
    """The required names that a host lacks."""
    names = [name for name in needed() if not has(name)]
    names += [" or ".join(row) for row in ONE_OF if not any(map(has, row))]
    return names + [f"--{name.replace('_', '-')}" for name in OPTIONS_NEEDED.split() if not has_option(name)]
