"""Takes the WebUI's models off the device for training and back, and refuses or delays drawing meanwhile.

Whatever draws, or puts a model on the device, passes one of these in every fork: jobs call `shared.state.begin`
(Extras, Interrogate, the merger, the API's routes), pictures go through `processing.process_images_inner` whatever
script or extension asks for them, checkpoints are loaded or moved by `sd_models`. Besides these, DeepBooru and the
Train tab are stopped where they start.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from modules import call_queue, devices, errors, processing, scripts, sd_models, shared

from ...core.config.devices import plain
from ...core.messages.message import Message
from ..hosts.publishing_targets import MANAGERS
from ..web import localization
from .deferred import Later
from .patching import Place, after, replaced

BUSY = Message("queue.device_busy")
PICTURES = ("task(", "scripts_")  # how the names of jobs begin that are a tab's or a picture's: those are refused later
POLL = 0.1  # seconds between looks whether the models are back


class Models:
    """Moves the models; one object for the process, which knows whether they are away."""

    def __init__(self) -> None:
        self.later = Later(call_queue.queue_lock, reporting)
        self.mode = ""  # by which the models went away last
        self._shut = False  # whether nobody may use the device
        self._trainings = 0  # that keep the models away
        self._away = contextlib.ExitStack()
        self._moving = threading.Lock()  # of the two
        self._seen: Callable[[], Any] = lambda: None  # the model that was loaded last
        self._loaded = 0  # models that were seen

    def away(self) -> str:
        """See host.Host.models_away."""
        return self.mode if self.later.away else ""

    def loaded(self) -> int | None:
        """See host.Host.models_loaded. AUTOMATIC1111's lists ask the model for the size of its embeddings, and stumble
        while one is replaced by another."""
        data = sd_models.model_data
        model = data.sd_model
        if model is None:
            asks = hasattr(getattr(sys.modules.get("modules.sd_hijack"), "model_hijack", None), "embedding_db")
            return None if asks and getattr(data, "was_loaded_at_least_once", True) else self._loaded
        if model is not self._seen():
            self._seen = weakref.ref(model)
            self._loaded += 1
        return self._loaded

    @contextlib.contextmanager
    def handed_over(self, mode: str, device: str) -> Iterator[None]:
        """See host.Host."""
        if mode == "share" or not uses(device):
            yield
            return
        with self._moving:
            if not self._trainings:
                self._away.enter_context(self.sent_away(mode))
            self._trainings += 1
        try:
            yield
        finally:
            with self._moving:
                self._trainings -= 1
                if not self._trainings:
                    self._away.close()

    @contextlib.contextmanager
    def sent_away(self, mode: str) -> Iterator[None]:
        """Keep the models off the device. May be left from any thread.

        With "refuse" the queue's lock is held only while the models move: settings and the rest of the WebUI stay
        usable during training. With "wait" it is held all the time.
        """
        self.mode = mode
        lock = call_queue.queue_lock
        lock.acquire()  # waits for the picture that is being drawn
        try:
            with replaced(self.places()), self.settings_put_off():
                self.later.away = self._shut = True
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
                    self._shut = False
                    bring_back(never_loaded)
                    self.later.away = False
        finally:
            lock.release()
            self.later.catch_up()

    # --- what others may not do meanwhile

    def places(self) -> list[Place]:
        """The functions that use the device; a fork may lack some."""
        runner, shut = scripts.ScriptRunner, after(self.wait_or_refuse)
        inversion = sys.modules.get("modules.textual_inversion.textual_inversion")
        return [
            (runner, "run", self.around_run),
            (runner, "before_process", shut),
            (processing, "process_images_inner", shut),
            (processing, "forge_model_reload", shut),
            (sd_models, "forge_model_reload", shut),
            (sd_models, "reload_model_weights", shut),
            (sd_models, "send_model_to_device", shut),
            (sd_models, "load_model_to_device", shut),
            (shared.state, "begin", self.around_begin),
            (getattr(sys.modules.get("modules.deepbooru"), "DeepDanbooru", None), "start", shut),
            (inversion, "create_embedding", shut),
            (inversion, "train_embedding", shut),
            (sys.modules.get("modules.hypernetworks.hypernetwork"), "train_hypernetwork", after(self.undo_or_refuse)),
        ]

    def wait_or_refuse(self) -> None:
        """Wait, or raise an error, as the mode says. With "wait" most callers already wait for the queue's lock; this
        is for the others."""
        while self._shut and self.mode == "wait":
            time.sleep(POLL)
        if self._shut:
            raise busy()

    def undo_or_refuse(self) -> None:
        """`wait_or_refuse` for the tab that trains hypernetworks, which moves models to the device even after a
        failure."""
        if self._shut and self.mode == "refuse":
            threading.Thread(target=self.send_away_again, name="dreambooth models", daemon=True).start()
        self.wait_or_refuse()

    def send_away_again(self) -> None:
        with call_queue.queue_lock:  # the tab holds it until it has failed
            if self._shut:
                send_away()

    def around_run(self, original: Callable) -> Callable:
        """Wrap the function behind txt2img and img2img, with and without scripts; its result is what the tab shows."""

        def run(this: Any, p: Any, *arguments: Any) -> Any:
            return refusal(p) if self._shut and self.mode == "refuse" else original(this, p, *arguments)

        return run

    def around_begin(self, original: Callable) -> Callable:
        """Wrap the beginning of all jobs; those of tabs and pictures are left to `around_run`, whose message is
        better."""

        def begin(*arguments: Any, **named: Any) -> Any:
            job = named.get("job", arguments[0] if arguments else None)
            if isinstance(job, str) and not job.startswith(PICTURES):
                if getattr(shared.state, "time_start", 0.0) is None:  # else `end`, which callers call, would stumble
                    shared.state.time_start = time.time()
                self.wait_or_refuse()
            return original(*arguments, **named)

        return begin

    @contextlib.contextmanager
    def settings_put_off(self) -> Iterator[None]:
        """Let settings that load models (the checkpoint, the VAE) be changed at once, but take effect afterwards.

        These are the settings whose callbacks the WebUI runs under the queue's lock.
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


def uses(device: str) -> bool:
    """Whether training on that device conflicts with the WebUI's models, or may, if the WebUI's device is of an unknown
    type."""
    own = plain(str(devices.device))
    return own == device or own.partition(":")[0] not in ("cuda", "mps", "cpu")


def memory_manager() -> Any:
    """The module that moves models in Forge and its relatives; None in AUTOMATIC1111's WebUI."""
    return next((sys.modules[name] for name in MANAGERS if name in sys.modules), None)


def normal(path: str | Path) -> str:
    return os.path.normcase(os.path.abspath(path))


def loaded_models() -> list[Any]:
    data = sd_models.model_data
    models = [data.sd_model, *getattr(data, "loaded_sd_models", [])]
    return list({id(model): model for model in models if model is not None}.values())


def file_of(model: Any) -> str:
    """The checkpoint file of a loaded model; "" for Forge's placeholder."""
    info = getattr(model, "sd_checkpoint_info", None)
    return normal(info.filename) if info else ""


@contextlib.contextmanager
def reporting(what: str) -> Iterator[None]:
    """Print errors raised inside to the console, in the WebUI's way, and suppress them."""
    try:
        yield
    except Exception:
        errors.report(f"DreamBooth: error while {what}", exc_info=True)


def send_away() -> bool:
    """Take the models off the device, under the queue's lock. Returns whether none had ever been loaded."""
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
    """Put the chosen model back on the device, under the queue's lock. Never raises.

    The trainer's process may take a moment to free its memory. A model that cannot be moved even then is dropped, and
    loaded from its file when next needed: half a model on the device would break every picture.
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


def refusal(p: Any) -> Any:
    """The result that a tab shows instead of pictures; an image that was to be upscaled is kept."""
    kept = [image for image in [getattr(p, "firstpass_image", None)] if image is not None]
    return processing.Processed(p, kept, info=why_busy(), comments="")


def why_busy() -> str:
    """The message in the WebUI's language, because its page does not translate such sentences."""
    return localization.translated(BUSY, str(shared.opts.data.get("localization", "")))


def busy() -> Exception:
    """The error for the API, which uses its status and detail and prints no traceback, and for other tabs: gradio shows
    only the text of its own errors."""
    import gradio
    from fastapi import HTTPException

    class Busy(HTTPException, gradio.Error):
        def __init__(self) -> None:
            gradio.Error.__init__(self, why_busy())
            HTTPException.__init__(self, status_code=503, detail=str(BUSY))

        def __str__(self) -> str:
            return why_busy()

    return Busy()
