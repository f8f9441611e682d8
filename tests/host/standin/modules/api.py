"""The WebUI's own API, as far as the tests use it."""

import base64
import io
import sys
from secrets import compare_digest

from fastapi import Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import deepbooru, postprocessing, processing, scripts, sd_models, shared
from modules.textual_inversion import textual_inversion

GIVEN = Depends(HTTPBasic())


class Api:
    def __init__(self, app, queue_lock):
        self.app, self.queue_lock = app, queue_lock
        pairs = [pair.split(":") for pair in (shared.cmd_opts.api_auth or "").split(",") if pair]
        self.credentials = dict(pairs)
        app.add_exception_handler(HTTPException, answer)
        app.add_exception_handler(Exception, answer)
        for path, endpoint, method in (
            ("txt2img", self.draw, "POST"),
            ("img2img", self.draw, "POST"),
            ("options", self.get_options, "GET"),
            ("options", self.set_options, "POST"),
            ("sd-models", self.models, "GET"),
            ("refresh-checkpoints", self.refresh, "POST"),
            ("reload-checkpoint", self.reload, "POST"),
            ("extra-single-image", self.enlarge, "POST"),
            *(
                [
                    ("interrogate", self.interrogate, "POST"),
                    ("create/embedding", self.create_embedding, "POST"),
                    ("train/embedding", self.train_embedding, "POST"),
                ]
                if shared.interrogator
                else []
            ),
        ):
            guard = {"dependencies": [Depends(self.auth)]} if self.credentials else {}
            app.add_api_route(f"/sdapi/v1/{path}", endpoint, methods=[method], **guard)

    def auth(self, credentials: HTTPBasicCredentials = GIVEN):
        if not compare_digest(credentials.password, self.credentials.get(credentials.username, "")):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    def draw(self, settings: dict):
        known = {"prompt", "negative_prompt", "seed", "steps", "width", "height"}
        with self.queue_lock:
            p = processing.StableDiffusionProcessingTxt2Img(
                sd_model=shared.sd_model, **{key: value for key, value in settings.items() if key in known}
            )
            p.scripts = scripts.scripts_txt2img
            try:
                shared.state.begin(job="scripts_txt2img")
                processed = processing.process_images(p)
            finally:
                shared.state.end()
        return {
            "images": [encoded(image) for image in processed.images],
            "parameters": settings,
            "info": processed.js(),
        }

    def get_options(self):
        return shared.opts.data

    def set_options(self, settings: dict):
        for key, value in settings.items():
            if key == "sd_model_checkpoint" and "modules_forge.main_entry" in sys.modules:
                preset = {"preset": None} if shared.cmd_opts.like == "neo" else {}
                sys.modules["modules_forge.main_entry"].checkpoint_change(value, **preset)
            else:
                shared.opts.set(key, value, is_api=True)
        shared.opts.save(shared.config_filename)

    def models(self):
        infos = list(sd_models.checkpoints_list.values())
        return [{"title": info.title, "filename": info.filename, "hash": info.shorthash} for info in infos]

    def refresh(self):
        with self.queue_lock:
            shared.refresh_checkpoints()

    def reload(self):
        sd_models.send_model_to_device(shared.sd_model)

    def enlarge(self, settings: dict):
        with self.queue_lock:
            images, _, _ = postprocessing.run_postprocessing(0, settings["image"], "", "", "", True)
        return {"image": images[0], "html_info": ""}

    def interrogate(self, settings: dict):
        with self.queue_lock:
            by = shared.interrogator.interrogate if settings["model"] == "clip" else deepbooru.model.tag
            return {"caption": by(settings["image"])}

    def create_embedding(self, args: dict):
        try:
            shared.state.begin(job="create_embedding")
            return {"info": f"create embedding filename: {textual_inversion.create_embedding(**args)}"}
        finally:
            shared.state.end()

    def train_embedding(self, args: dict):
        try:
            shared.state.begin(job="train_embedding")
            _, filename = textual_inversion.train_embedding(**args)
            return {"info": f"train embedding complete: filename: {filename} error: None"}
        except Exception as error:
            return {"info": f"train embedding error: {error}"}
        finally:
            shared.state.end()


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def answer(_request: Request, error: Exception):
    status = vars(error).get("status_code", 500)
    told = {"error": type(error).__name__, "detail": vars(error).get("detail", ""), "body": "", "errors": str(error)}
    return JSONResponse(told, status, headers=vars(error).get("headers"))
