"""What runs in the environment with gradio: `python program.py --data-dir DIR --port N [options]`, like the WebUI's."""

import os
import threading
import time

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from modules import call_queue, scripts, sd_models, shared
from modules.shared_cmd_options import cmd_opts

began = time.time()


def initialize():
    import forge
    from modules import interrogate
    from modules.hypernetworks import ui  # noqa: F401 - as the page has it

    shared.interrogator = interrogate.InterrogateModels()
    if cmd_opts.like == "forge":
        forge.become_forge()
    if cmd_opts.like == "neo":
        forge.become_neo()
    if cmd_opts.like == "classic":
        forge.become_classic()
    if cmd_opts.like == "reforge":
        forge.become_reforge()
    if cmd_opts.like != "neo":  # there the page's own functions do it
        reload = call_queue.wrap_queued_call(lambda: sd_models.reload_model_weights())
        shared.opts.onchange("sd_model_checkpoint", reload, call=False)
        shared.opts.onchange("sd_vae", call_queue.wrap_queued_call(lambda: None), call=False)
    initialize_rest()


def initialize_rest():
    sd_models.list_models()
    scripts.load_scripts()
    if cmd_opts.like not in ("forge", "neo"):
        threading.Thread(target=lambda: shared.sd_model, daemon=True).start()


def setup_middleware(app):
    from starlette.middleware.gzip import GZipMiddleware

    app.middleware_stack = None
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.build_middleware_stack()


def server_name():
    return cmd_opts.server_name or ("0.0.0.0" if cmd_opts.listen else None)


def logins():
    lines = [cmd_opts.gradio_auth or ""]
    if cmd_opts.gradio_auth_path:
        with open(cmd_opts.gradio_auth_path, encoding="utf8") as file:
            lines += file.read().splitlines()
    return [tuple(pair.strip().split(":", 1)) for line in lines for pair in line.split(",") if pair.strip()]


def api_only():
    import uvicorn
    from fastapi import FastAPI
    from modules import api, script_callbacks

    initialize()
    app = FastAPI()
    setup_middleware(app)
    api.Api(app, call_queue.queue_lock)
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    print(f"Startup time: {time.time() - began:.1f}s", flush=True)
    uvicorn.run(app, host=server_name() or "127.0.0.1", port=cmd_opts.port or 7861, log_level="warning")


def webui():
    from modules import api, script_callbacks, ui

    initialize()
    while True:
        script_callbacks.before_ui_callback()
        shared.demo = ui.create_ui()
        if not cmd_opts.no_gradio_queue:
            shared.demo.queue(64)
        app, _, _ = shared.demo.launch(
            server_name=server_name(),
            server_port=cmd_opts.port,
            auth=logins() or None,
            prevent_thread_lock=True,
            allowed_paths=ui.allowed_paths(),
            root_path=f"/{cmd_opts.subpath}" if cmd_opts.subpath else "",
        )
        app.user_middleware = [it for it in app.user_middleware if it.cls.__name__ != "CORSMiddleware"]
        setup_middleware(app)
        ui.setup_ui_api(app)
        if cmd_opts.api:
            api.Api(app, call_queue.queue_lock)
        script_callbacks.app_started_callback(shared.demo, app)
        print(f"Startup time: {time.time() - began:.1f}s", flush=True)
        while shared.state.wait_for_server_command(timeout=5) != "restart":
            pass
        print("Restarting UI...", flush=True)
        shared.demo.close()
        time.sleep(0.5)
        script_callbacks.app_reload_callback()
        script_callbacks.script_unloaded_callback()
        initialize_rest()


if __name__ == "__main__":
    if cmd_opts.nowebui:
        api_only()
    else:
        webui()
