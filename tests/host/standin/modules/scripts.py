import importlib.util
import os
import sys

from modules import errors, extensions, script_callbacks


class ScriptRunner:
    def run(self, p, *args):
        """No script is chosen here, ever; the WebUI's own answers None then, too."""
        return None

    def before_process(self, p):
        pass


def load_scripts():
    """As the WebUI does it: with the extension's folder on the path meanwhile, and not in sys.modules."""
    global scripts_txt2img, scripts_img2img
    script_callbacks.clear_callbacks()
    for extension in extensions.active():
        for path in extension.list_files("scripts", ".py"):
            before = sys.path
            sys.path = [extension.path, *sys.path]
            try:
                spec = importlib.util.spec_from_file_location(os.path.basename(path), path)
                spec.loader.exec_module(importlib.util.module_from_spec(spec))
            except Exception:
                errors.report(f"Error loading script: {os.path.basename(path)}", exc_info=True)
            finally:
                sys.path = before
    scripts_txt2img, scripts_img2img = ScriptRunner(), ScriptRunner()


scripts_txt2img = scripts_img2img = None
