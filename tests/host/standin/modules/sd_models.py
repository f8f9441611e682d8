import hashlib
import os
import threading
import time
from pathlib import Path

from modules import devices, paths_internal, script_callbacks, sd_hijack, shared

model_path = os.path.abspath(os.path.join(paths_internal.models_path, "Stable-diffusion"))
checkpoints_list, checkpoint_aliases, checkpoints_loaded = {}, {}, {}
hashes = {}  # file -> (its time, its hash): kept, as in the WebUI, until the file is newer
loads = []  # titles, in the order in which they were loaded


def checkpoint_folders():
    options = vars(shared.cmd_opts)
    return options["ckpt_dirs"] if "ckpt_dirs" in options else [options["ckpt_dir"]]


class CheckpointInfo:
    def __init__(self, filename):
        self.filename = filename
        folders = (*checkpoint_folders(), model_path)
        inside = next((d for d in folders if d and os.path.abspath(filename).startswith(d)), os.path.dirname(filename))
        self.name = os.path.relpath(os.path.abspath(filename), inside)
        self.name_for_extra = Path(filename).stem
        self.model_name = os.path.splitext(self.name.replace("/", "_"))[0]
        at, known = hashes.get(filename, (0, None))
        self.sha256 = known if at >= os.path.getmtime(filename) else None
        self.shorthash = self.sha256 and self.sha256[:10]
        self.title = f"{self.name} [{self.shorthash}]" if self.shorthash else self.name
        self.short_title = self.title
        self.ids = [self.model_name, self.title, self.name, self.name_for_extra]

    def register(self):
        checkpoints_list[self.title] = self
        for name in self.ids:
            checkpoint_aliases[name] = self

    def calculate_shorthash(self):
        self.sha256 = hashlib.sha256(Path(self.filename).read_bytes()).hexdigest()
        hashes[self.filename] = (os.path.getmtime(self.filename), self.sha256)
        before, self.shorthash = self.title, self.sha256[:10]
        self.title = self.short_title = f"{self.name} [{self.shorthash}]"
        self.ids += [self.shorthash, self.sha256, self.title]
        order = {self.title if title == before else title: info for title, info in checkpoints_list.items()}
        checkpoints_list.clear()
        checkpoints_list.update(order)
        self.register()
        return self.shorthash


def checkpoint_tiles(use_short=False):
    return [info.title for info in checkpoints_list.values()]


def list_models():
    checkpoints_list.clear()
    checkpoint_aliases.clear()
    for folder in filter(None, (model_path, *checkpoint_folders())):
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() in (".ckpt", ".safetensors"):
                CheckpointInfo(str(path)).register()


def get_closet_checkpoint_match(search_string):
    return checkpoint_aliases.get(search_string)


def select_checkpoint():
    info = checkpoint_aliases.get(shared.opts.sd_model_checkpoint)
    if info is None and not checkpoints_list:
        raise FileNotFoundError("No checkpoints found.")
    return info or next(iter(checkpoints_list.values()))


class Model:
    lowvram = False

    def __init__(self, info):
        self.read(info)

    def read(self, info):
        time.sleep(shared.cmd_opts.loading)
        content = Path(info.filename).read_bytes()
        if content.startswith(b"broken"):
            raise RuntimeError(f"{info.filename} is damaged")
        self.sd_checkpoint_info, self.sd_model_checkpoint = info, info.filename
        self.sd_model_hash = info.calculate_shorthash()
        self.colour = tuple(hashlib.sha256(content).digest()[:3])
        self.device = devices.device
        shared.opts.data["sd_model_checkpoint"] = info.title
        loads.append(info.title)

    def modules(self):
        return iter(())

    def to(self, device):
        self.device = device


class SdModelData:
    def __init__(self):
        self.sd_model, self.loaded_sd_models = None, []
        self.was_loaded_at_least_once, self.lock = False, threading.Lock()

    def get_sd_model(self):
        if not self.was_loaded_at_least_once:
            with self.lock:
                if not self.was_loaded_at_least_once:
                    try:
                        load_model()
                    except Exception as error:
                        print("Stable diffusion model failed to load:", error)
        return self.sd_model

    def set_sd_model(self, v, already_loaded=False):
        self.sd_model = v
        self.loaded_sd_models[:] = [v] if v else []


model_data = SdModelData()


def send_model_to_cpu(m):
    if m is not None:
        m.to(devices.cpu)
    devices.torch_gc()


def send_model_to_device(m):
    m.to(devices.device)


def send_model_to_trash(m):
    m.to("meta")
    devices.torch_gc()


def load_model(checkpoint_info=None, already_loaded_state_dict=None):
    model_data.set_sd_model(Model(checkpoint_info or select_checkpoint()))
    model_data.was_loaded_at_least_once = True
    sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    script_callbacks.model_loaded_callback(model_data.sd_model)
    return model_data.sd_model


def reload_model_weights(sd_model=None, info=None, forced_reload=False):
    model, info = sd_model or model_data.sd_model, info or select_checkpoint()
    if model is None:
        return load_model(info)
    if model.sd_model_checkpoint == info.filename and not forced_reload:
        return model
    send_model_to_cpu(model)  # where a damaged file leaves it
    model.read(info)
    script_callbacks.model_loaded_callback(model)
    return model


def unload_model_weights(sd_model=None, info=None):
    send_model_to_cpu(sd_model or shared.sd_model)
    return sd_model
