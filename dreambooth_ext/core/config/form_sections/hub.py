"""The finished model into a repository on Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting


@dataclass(frozen=True)
class Hub:
    push_to_hub: bool = setting(
        False,
        "Upload",
        "Put the finished model, with a page that describes it, into a repository on Hugging Face. Log in first: "
        "`huggingface-cli login`, or HF_TOKEN.",
        group="Hugging Face",
    )
    hub_model_id: str | None = setting(
        None,
        "Repository",
        "Its name: owner/name, or name for your own. Left out: the run's name.",
        group="Hugging Face",
    )
    hub_private_repo: bool = setting(
        False, "Private repository", "Only you can see a repository that is made now.", group="Hugging Face"
    )
