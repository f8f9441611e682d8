"""Upload the final model to a Hugging Face repository, with a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from ...core.config.run_config import SETTINGS, RunConfig
from ...core.errors import Problem
from ...core.facts.methods import METHOD_LABELS
from ...core.version import __version__
from .metadata import shareable

TAGS = {  # as the Hub's filters know them
    "dreambooth": ["text-to-image", "stable-diffusion", "dreambooth"],
    "finetune": ["text-to-image", "stable-diffusion"],
    "lora": ["text-to-image", "stable-diffusion", "lora"],
    "textual_inversion": ["text-to-image", "stable-diffusion", "textual_inversion"],
    "hypernetwork": ["text-to-image", "stable-diffusion", "hypernetwork"],
    "unconditional": ["unconditional-image-generation", "diffusers"],
}
NOT_SAID = ("method", "name", "base_model", "hub_model_id", "hub_private_repo", "push_to_hub", "report_to", "device")
FAILURES = (HfHubHTTPError, OSError, ValueError, RuntimeError)  # RuntimeError: an aborted transfer


def problems(config: RunConfig) -> list[Problem]:
    """Return what would prevent the upload, so that it is known before training."""
    if config.push_to_hub and not get_token():
        return [Problem("training.hub_login", "push_to_hub")]
    return []


def push(config: RunConfig, base: str, model: Path, sidecars: list[Path], words: str, samples: list[Path]) -> str:
    """Upload a model, its sidecars and its model card; return the repository's address.

    The token is that of the login or HF_TOKEN, and is stored nowhere. base: the name of the base model; words: the
    activation text; samples: preview pictures for the card. Raises one of FAILURES.
    """
    api = HfApi(library_name="dreambooth_ext", library_version=__version__)
    repository = api.create_repo(config.hub_model_id or config.name, private=config.hub_private_repo, exist_ok=True)
    shown = {f"samples/{path.parent.name}-{path.name}": path for path in samples}
    page = card(config, base, model, words, list(shown))
    api.upload_file(path_or_fileobj=page.encode(), path_in_repo="README.md", repo_id=repository.repo_id)
    files = {path.name: path for path in sidecars} | shown
    if model.is_dir():
        api.upload_folder(folder_path=model, repo_id=repository.repo_id, commit_message=f"Add {model.name}")
    else:
        files[model.name] = model
    for name, path in files.items():
        api.upload_file(path_or_fileobj=path, path_in_repo=name, repo_id=repository.repo_id)
    return str(repository)


def card(config: RunConfig, base: str, model: Path, words: str, samples: list[str]) -> str:
    """Return the model card: Markdown with the Hub's header."""
    title, _, about = METHOD_LABELS[config.method].partition(":")
    lines = ["---", "tags:", *(f"- {tag}" for tag in TAGS.get(config.method, [])), "- dreambooth_ext"]
    lines += ["library_name: diffusers"] if model.is_dir() else []
    lines += ["---", "", f"# {config.name}", "", f"{title}:{about}.".replace("..", ".")]
    if base:
        lines += ["", f"It was trained from `{base}`."]
    if words:
        lines += ["", f"Write `{words}` in the prompt."]
    if model.is_dir():
        use = [
            "from diffusers import DDPMPipeline",
            "",
            'DDPMPipeline.from_pretrained("<this repository>")().images[0]',
        ]
        lines += ["", "```python", *use, "```"]
    lines += [text for name in samples for text in ("", f"![what it draws]({name})")]
    lines += ["", "## Settings", "", "```json", json.dumps(said(config), ensure_ascii=False, indent=2), "```", ""]
    return "\n".join([*lines, f"Made with dreambooth_ext {__version__}.", ""])


def said(config: RunConfig) -> dict[str, Any]:
    """Return the settings that differ from their defaults, without files and folders of this machine."""
    values, named = shareable(config), {field for field, _ in config.paths()}
    known = (about for about in SETTINGS.values() if config.method in about.methods and about.name not in named)
    return {a.name: values[a.name] for a in known if values[a.name] != a.default and a.name not in NOT_SAID}
