import threading
import time
from pathlib import Path

import gradio as gr
from modules.options import OptionInfo, Options
from modules.shared_cmd_options import cmd_opts

config_filename = cmd_opts.ui_settings_file
demo: gr.Blocks = None
hypernetworks, loaded_hypernetworks = {}, []
interrogator = None
restricted_opts = set()
hide_dirs = {"visible": not cmd_opts.hide_ui_dir_config}


class State:
    interrupted, job, textinfo, time_start = False, "", None, None

    def __init__(self):
        self.server_start, self.command, self.signal = time.time(), None, threading.Event()

    def begin(self, job="(unknown)"):
        self.interrupted, self.job, self.time_start = False, job, time.time()

    def end(self):
        self.duration = time.time() - self.time_start  # stumbles where nothing has begun yet
        self.job = ""

    def interrupt(self):
        self.interrupted = True

    def request_restart(self):
        self.interrupt()
        self.command = "restart"
        self.signal.set()

    def wait_for_server_command(self, timeout=None):
        if not self.signal.wait(timeout):
            return None
        self.signal.clear()
        return self.command


state = State()


def refresh_checkpoints():
    from modules import sd_models

    return sd_models.list_models()


def list_checkpoint_tiles(use_short=False):
    from modules import sd_models

    return sd_models.checkpoint_tiles(use_short)


def reload_hypernetworks():
    global hypernetworks
    folder = Path(cmd_opts.hypernetwork_dir)
    hypernetworks = {path.stem: str(path) for path in sorted(folder.glob("*.pt"))}


if cmd_opts.like in ("classic", "neo"):
    del reload_hypernetworks, hypernetworks, loaded_hypernetworks

options_templates = {
    "sd_model_checkpoint": OptionInfo(
        None,
        "Stable Diffusion checkpoint",
        gr.Dropdown,
        lambda: {"choices": list_checkpoint_tiles()},
        refresh=refresh_checkpoints,
        section=("sd", "Stable Diffusion"),
    ),
    "sd_vae": OptionInfo("Automatic", "SD VAE", gr.Textbox, section=("vae", "VAE")),
    "sd_checkpoints_limit": OptionInfo(1, "Checkpoints in memory", gr.Number, section=("sd", "Stable Diffusion")),
}
opts = Options(options_templates, restricted_opts)
opts.load(config_filename)


def __getattr__(name):
    if name == "sd_model":
        from modules import sd_models

        return sd_models.model_data.get_sd_model()
    raise AttributeError(name)
