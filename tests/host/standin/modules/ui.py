"""The page: the checkpoint in the quick settings, txt2img, the extensions' tabs, Settings."""

import html
import json
import os
from pathlib import Path

import gradio as gr
from modules import call_queue, extensions, paths_internal, processing, script_callbacks, scripts, sd_models, shared

PAGE = Path(__file__).resolve().parents[1] / "page"
SCRIPT = "_js" if gr.__version__.startswith("3.") else "js"
response_of_gradio = gr.routes.templates.TemplateResponse


def webpath(path):
    return f"file={path}?{os.path.getmtime(path)}"


def localization():
    """The extensions' files of the chosen language, merged."""
    merged = {}
    for extension in extensions.active():
        for path in extension.list_files("localizations", f"{shared.cmd_opts.localization}.json"):
            merged.update(json.loads(Path(path).read_text(encoding="utf-8")))
    return f"window.localization = {json.dumps(merged)}"


def head():
    lines = [f"<script>{localization()}</script>"]
    own = [str(PAGE / "script.js")]
    for path in own + [path for extension in extensions.active() for path in extension.list_files("javascript", ".js")]:
        lines.append(f'<script type="text/javascript" src="{webpath(path)}"></script>')
    for path in [path for extension in extensions.active() for path in extension.list_files("javascript", ".mjs")]:
        lines.append(f'<script type="module" src="{webpath(path)}"></script>')
    if shared.cmd_opts.theme:
        lines.append(f'<script>set_theme("{shared.cmd_opts.theme}")</script>')
    return "\n".join(lines)


def styles():
    files = [os.path.join(extension.path, "style.css") for extension in extensions.active()]
    paths = [path for path in files if os.path.exists(path)]
    return "".join(f'<link rel="stylesheet" property="stylesheet" href="{webpath(path)}">' for path in paths)


def reload_javascript():
    scripts_of_page, styles_of_page = head(), styles()

    def template_response(*args, **kwargs):
        response = response_of_gradio(*args, **kwargs)
        added = f'{scripts_of_page}<meta name="referrer" content="no-referrer"/></head>'
        response.body = response.body.replace(b"</head>", added.encode())
        response.body = response.body.replace(b"</body>", f"{styles_of_page}</body>".encode())
        response.init_headers()
        return response

    gr.routes.templates.TemplateResponse = template_response


def txt2img(_task, prompt, negative_prompt):
    p = processing.StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model, prompt=prompt, negative_prompt=negative_prompt, seed=1, width=128, height=128
    )
    p.scripts = scripts.scripts_txt2img
    processed = p.scripts.run(p, 0) or processing.process_images(p)
    infos = [f"<p>{html.escape(text)}</p>" for text in (processed.info, processed.comments)]
    return processed.images, processed.js(), *infos


def create_txt2img():
    with gr.Blocks(analytics_enabled=False) as blocks:
        prompt = gr.Textbox(label="Prompt", elem_id="txt2img_prompt")
        negative = gr.Textbox(label="Negative prompt", elem_id="txt2img_neg_prompt")
        generate = gr.Button("Generate", elem_id="txt2img_generate", variant="primary")
        gr.Button("", elem_id="txt2img_lora_extra_refresh_internal", visible=False)
        gallery = gr.Gallery(label="Output", show_label=False, elem_id="txt2img_gallery")
        generation_info = gr.Textbox(visible=False, elem_id="generation_info_txt2img")
        infotext = gr.HTML(elem_id="html_info_txt2img", elem_classes="infotext")
        log = gr.HTML(elem_id="html_log_txt2img")
        generate.click(
            call_queue.wrap_gradio_gpu_call(txt2img, extra_outputs=[None, "", ""]),
            [gr.Textbox("task(txt2img)", visible=False), prompt, negative],
            [gallery, generation_info, infotext, log],
        )
    return blocks


def value_of(key):
    info = shared.opts.data_labels[key]
    arguments = info.component_args() if callable(info.component_args) else info.component_args or {}
    return gr.update(value=getattr(shared.opts, key), **arguments)


def run_settings_single(value, key):
    if value is None or not shared.opts.set(key, value):
        return gr.update(value=getattr(shared.opts, key)), shared.opts.dumpjson()
    shared.opts.save(shared.config_filename)
    return value_of(key), shared.opts.dumpjson()


def component_of(key):
    info = shared.opts.data_labels[key]
    arguments = info.component_args() if callable(info.component_args) else info.component_args or {}
    return info.component(
        label=info.label, value=lambda: getattr(shared.opts, key), elem_id=f"setting_{key}", **arguments
    )


def create_settings():
    """Every section in a tab; "Apply settings" stores them all."""
    sections = {}
    for key, info in shared.opts.data_labels.items():
        if key != "sd_model_checkpoint" and info.section:
            sections.setdefault(info.section, []).append(key)
    keys, components = [], []
    with gr.Blocks(analytics_enabled=False) as blocks:
        with gr.Row():
            apply = gr.Button("Apply settings", variant="primary", elem_id="settings_submit")
            restart = gr.Button("Reload UI", variant="primary", elem_id="settings_restart_gradio")
        result = gr.HTML(elem_id="settings_result")
        with gr.Tabs(elem_id="settings"):
            for (identifier, title), names in sections.items():
                with gr.TabItem(title, elem_id=f"settings_{identifier}"):
                    for key in names:
                        keys.append(key)
                        components.append(component_of(key))
                        gr.HTML(shared.opts.data_labels[key].comment_after)
        text = gr.Textbox(elem_id="settings_json", value=shared.opts.dumpjson, visible=False)

    def run_settings(*values):
        changed = [key for key, value in zip(keys, values, strict=True) if shared.opts.set(key, value)]
        shared.opts.save(shared.config_filename)
        return shared.opts.dumpjson(), f"{len(changed)} settings changed: {', '.join(changed)}."

    with blocks:
        apply.click(run_settings, components, [text, result])
        restart.click(shared.state.request_restart, [], [], **{SCRIPT: "restart_reload"})
    return blocks, text


def create_quicksettings(settings_text):
    """The checkpoint's dropdown; Forge has another one, without the settings' name, and Forge Neo one a preset."""
    if shared.cmd_opts.like == "neo":
        return create_presets(settings_text)
    forge = shared.cmd_opts.like == "forge"
    if forge and not shared.opts.sd_model_checkpoint:
        shared.opts.set("sd_model_checkpoint", next(iter(shared.list_checkpoint_tiles()), None))
    with gr.Row(elem_id="quicksettings"):
        if forge:
            checkpoint = gr.Dropdown(
                value=lambda: shared.opts.sd_model_checkpoint,
                label="Checkpoint",
                elem_classes=["model_selection"],
                choices=shared.list_checkpoint_tiles(),
            )
        else:
            checkpoint = component_of("sd_model_checkpoint")
        refresh = gr.Button(
            "\U0001f504", elem_id="forge_refresh_checkpoint" if forge else "refresh_sd_model_checkpoint"
        )
    change = gr.Button("Change checkpoint", elem_id="change_checkpoint", visible=False)

    def refreshed():
        shared.refresh_checkpoints()
        checkpoint.choices = shared.list_checkpoint_tiles()
        return gr.update(choices=shared.list_checkpoint_tiles())

    def chosen(value):
        if forge:
            from modules_forge import main_entry

            main_entry.checkpoint_change(value)
            return gr.update(value=shared.opts.sd_model_checkpoint), shared.opts.dumpjson()
        return run_settings_single(value, "sd_model_checkpoint")

    def matched(value):
        """In Forge: the first whose name is in this one, or has this one in it; what follows does `chosen`."""
        wanted = value.partition(" [")[0]
        tiles = shared.list_checkpoint_tiles()
        return next((tile for tile in tiles if wanted in tile or tile in wanted), wanted), shared.opts.dumpjson()

    refresh.click(refreshed, [], [checkpoint])
    checkpoint.change(chosen, [checkpoint], [checkpoint, settings_text])
    take = "function(v){ var r = desiredCheckpointName; desiredCheckpointName = null; return [r || v]; }"
    change.click(matched if forge else chosen, [checkpoint], [checkpoint, settings_text], **{SCRIPT: take})


def create_presets(settings_text):
    """Forge Neo's: what is chosen is kept with the preset, and shown when the page is loaded or the preset changes."""
    from modules_forge import main_entry

    if not shared.opts.sd_model_checkpoint:
        shared.opts.set("sd_model_checkpoint", next(iter(shared.list_checkpoint_tiles()), None))
    presets = [key.rpartition("_")[2] for key in shared.opts.data_labels if key.startswith("forge_checkpoint_")]
    with gr.Row(elem_id="quicksettings"):
        preset = gr.Dropdown(
            label="UI Preset", value=lambda: shared.opts.forge_preset, choices=presets, elem_id="forge_ui_preset"
        )
        checkpoint = gr.Dropdown(
            label="Checkpoint", choices=shared.list_checkpoint_tiles(), elem_id="setting_sd_model_checkpoint"
        )
        refresh = gr.Button("\U0001f504", elem_id="forge_refresh_checkpoint")
    change = gr.Button("Change checkpoint", elem_id="change_checkpoint", visible=False)

    def shown(name):
        return gr.update(choices=shared.list_checkpoint_tiles(), value=main_entry.on_preset_change(name)[0])

    def refreshed():
        shared.refresh_checkpoints()
        return gr.update(choices=shared.list_checkpoint_tiles())

    def chosen(value, name):
        main_entry.checkpoint_change(value, name)
        return shared.opts.dumpjson()

    def matched(value):
        info = sd_models.get_closet_checkpoint_match(value)
        return gr.update(choices=shared.list_checkpoint_tiles(), value=info.name) if info else gr.update()

    shared_with = [checkpoint, preset]
    refresh.click(refreshed, [], [checkpoint])
    checkpoint.input(chosen, shared_with, [settings_text])
    preset.change(shown, [preset], [checkpoint]).success(
        lambda value, name: main_entry._load_presets(value, [], "Automatic", name), shared_with, []
    )
    gr.context.Context.root_block.load(shown, [preset], [checkpoint])
    take = "function(v){ var r = desiredCheckpointName; desiredCheckpointName = null; return [r || v]; }"
    change.click(matched, [checkpoint], [checkpoint], js=take).success(chosen, shared_with, [settings_text])


def create_ui():
    reload_javascript()
    script_callbacks.ui_settings_callback()
    settings, settings_text = create_settings()
    interfaces = [(create_txt2img(), "txt2img", "txt2img")]
    interfaces += script_callbacks.ui_tabs_callback()
    interfaces.append((settings, "Settings", "settings"))
    with gr.Blocks(analytics_enabled=False, title="Stable Diffusion") as demo:
        create_quicksettings(settings_text)
        with gr.Tabs(elem_id="tabs"):
            for interface, label, identifier in interfaces:
                with gr.TabItem(label, id=identifier, elem_id=f"tab_{identifier}"):
                    interface.render()
        gr.HTML("stand-in", elem_id="footer")
    return demo


def setup_ui_api(app):
    app.add_api_route("/internal/ping", lambda: {}, methods=["GET"])


def allowed_paths():
    return [paths_internal.data_path, str(PAGE)]
