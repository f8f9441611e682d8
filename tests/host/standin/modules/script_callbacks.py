from modules import errors

callback_map = {}


def _callbacks(name):
    return callback_map.setdefault(name, [])


def _call(name, *args):
    results = []
    for callback in list(_callbacks(name)):
        try:
            results.append(callback(*args))
        except Exception:
            errors.report(f"Error executing callback {name}", exc_info=True)
    return results


def clear_callbacks():
    callback_map.clear()


def app_started_callback(demo, app):
    _call("app_started", demo, app)


def app_reload_callback():
    _call("before_reload")


def model_loaded_callback(sd_model):
    _call("model_loaded", sd_model)


def ui_tabs_callback():
    return [tab for tabs in _call("ui_tabs") for tab in tabs or []]


def ui_settings_callback():
    _call("ui_settings")


def script_unloaded_callback():
    for callback in reversed(_callbacks("script_unloaded")):
        callback()


def before_ui_callback():
    _call("before_ui")


def on_app_started(callback, *, name=None):
    _callbacks("app_started").append(callback)


def on_before_reload(callback, *, name=None):
    _callbacks("before_reload").append(callback)


def on_model_loaded(callback, *, name=None):
    _callbacks("model_loaded").append(callback)


def on_ui_tabs(callback, *, name=None):
    _callbacks("ui_tabs").append(callback)


def on_ui_settings(callback, *, name=None):
    _callbacks("ui_settings").append(callback)


def on_script_unloaded(callback, *, name=None):
    _callbacks("script_unloaded").append(callback)


def on_before_ui(callback, *, name=None):
    _callbacks("before_ui").append(callback)
