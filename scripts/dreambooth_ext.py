"""What the WebUI runs of this extension at its start and after "Reload UI": its tab, its settings page and its API."""

from modules import script_callbacks

from dreambooth_ext.host import tab, webui

script_callbacks.on_ui_tabs(tab.tabs)
script_callbacks.on_ui_settings(webui.add_options)
script_callbacks.on_app_started(webui.app_started)
