"""Run by the WebUI at start and after "Reload UI": registers the extension's tab, settings page and API."""

from pathlib import Path

from modules import script_callbacks

import dreambooth_ext
from dreambooth_ext.host.webui import extension, tab

loaded, here = Path(dreambooth_ext.__file__).parents[1], Path(__file__).resolve().parents[1]
if loaded.resolve() == here:
    script_callbacks.on_ui_tabs(tab.tabs)
    script_callbacks.on_ui_settings(extension.add_options)
    script_callbacks.on_app_started(extension.app_started)
else:
    print(f"DreamBooth: {here} is not used, because {loaded} is the same extension. Remove one of the two folders.")
