"""Settings for uploading the finished model to Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting


@dataclass(frozen=True)
class HubSettings:
    push_to_hub: bool = setting(
        False,
        "Upload",
        "Upload the finished model, with a model card, to a repository on Hugging Face. Log in first with "
        "`hf auth login`, or set HF_TOKEN.",
        group="Hugging Face",
    )
    hub_model_id: str | None = setting(
        None,
        "Repository",
        "Name of the repository: owner/name, or only a name for your own account. Default: the run's name.",
        group="Hugging Face",
    )
    hub_private_repo: bool = setting(
        False, "Private repository", "Make the repository private when it is created.", group="Hugging Face"
    )
