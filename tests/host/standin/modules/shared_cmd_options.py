import argparse
import os

from modules.paths_internal import data_path, models_path

FLAGS = """share listen api nowebui hide-ui-dir-config freeze-settings enable-insecure-extension-access
no-gradio-queue skip-install skip-load-model-at-start no-hashing ui-debug-mode no-half"""
LIKE = ("a1111", "forge", "neo", "classic", "reforge")
TEXTS = "gradio-auth gradio-auth-path api-auth subpath server-name ngrok theme ckpt-dir vae-dir"


def _options():
    parser = argparse.ArgumentParser(prog="standin")
    for name in FLAGS.split():
        parser.add_argument(f"--{name}", action="store_true")
    for name in TEXTS.split():
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--data-dir", default=data_path)
    parser.add_argument("--models-dir")
    parser.add_argument("--embeddings-dir", default=os.path.join(data_path, "embeddings"))
    parser.add_argument("--hypernetwork-dir", default=os.path.join(models_path, "hypernetworks"))
    parser.add_argument("--lora-dir", default=os.path.join(models_path, "Lora"))
    parser.add_argument("--ui-settings-file", default=os.path.join(data_path, "config.json"))
    parser.add_argument("--like", choices=LIKE, default="a1111", help="which WebUI")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long a picture takes")
    parser.add_argument("--loading", type=float, default=0.0, help="how long a model takes to load, in seconds")
    parser.add_argument("--localization", default="None")
    return parser


parser = _options()
cmd_opts = parser.parse_args()
cmd_opts.webui_is_non_local = any([cmd_opts.share, cmd_opts.listen, cmd_opts.ngrok, cmd_opts.server_name])
cmd_opts.disable_extension_access = cmd_opts.webui_is_non_local and not cmd_opts.enable_insecure_extension_access
if cmd_opts.like in ("classic", "neo"):
    del cmd_opts.hypernetwork_dir
if cmd_opts.like == "neo":
    cmd_opts.ckpt_dirs = [cmd_opts.ckpt_dir] if cmd_opts.ckpt_dir else []
    del cmd_opts.ckpt_dir, cmd_opts.vae_dir
    if cmd_opts.embeddings_dir == os.path.join(data_path, "embeddings"):
        cmd_opts.embeddings_dir = os.path.join(models_path, "embeddings")
