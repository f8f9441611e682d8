"""The extension's callbacks in the WebUI: the settings page, and the service with its API."""

from __future__ import annotations

import atexit
import functools
from typing import TYPE_CHECKING, Any

from ..hosts import options

if TYPE_CHECKING:
    from ..service.service import Service

SECTION = ("dreambooth_ext", "DreamBooth")


def category() -> str | None:
    """Our heading on the settings page; None if the WebUI has no categories."""
    from modules import options as webui_options

    categories = getattr(webui_options, "categories", None)
    if not categories:
        return None
    categories.register_category(*SECTION)  # returns nothing at the first time
    return SECTION[0]


def add_options() -> None:
    """Add our section to the settings page."""
    import gradio
    from modules import shared

    heading = category()
    for option in options.OPTIONS:
        arguments: dict[str, Any] | None = None
        if option.choices:
            component = gradio.Radio
            arguments = {"choices": [(words, value) for value, words in option.choices.items()]}
        else:
            component = gradio.Checkbox if isinstance(option.default, bool) else gradio.Textbox
        if option.is_secret:
            arguments = {"type": "password"}
        if option.name in ("runs_folder", "judge_model"):  # --hide-ui-dir-config: the WebUI then lets nobody set it
            arguments = getattr(shared, "hide_dirs", None)
        info = shared.OptionInfo(option.default, option.label, component, arguments, section=SECTION)
        info.category_id = heading
        shared.opts.add_option(options.PREFIX + option.name, info.info(option.help))


@functools.cache
def service() -> Service:
    """The process's one service: it survives "Reload UI", which runs the scripts again but keeps this package."""
    from ..service.service import Service
    from .webui_forks import WebUI

    made = Service(WebUI())
    atexit.register(made.close)  # does not run on Ctrl-C or "Apply and restart", which end the process at once
    return made


def app_started(_demo: Any, app: Any) -> None:
    """Add the API to the app and start the service; called again with a new app after "Reload UI", and with
    `--nowebui`, too."""
    from ..web import routes

    running = service()
    routes.mount(app, running)
    running.start()
