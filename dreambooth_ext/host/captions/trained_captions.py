"""The captions of a config as they will be trained, page by page (`core/captions/as_trained.py`)."""

from __future__ import annotations

from typing import Any

from ...core.captions.as_trained import Preview
from ...core.captions.clip_vocabulary import VOCABULARIES
from ...core.checks.config_checks import Checked
from ...core.facts.methods import PROMPTED_METHODS

PAGE = 200  # pictures in an answer
RELEVANT = ("instance_data_dir", "use_captions", "caption_extension", "caption_separator", "concepts", "dataset_config")


def trained(checked: Checked, start: int = 0) -> dict[str, Any]:
    """{"pictures": [{"name", "folder", and as `Preview.of`}], "start", "count", "cut": how many are cut, "problems"}.

    checked: a config as it was checked. Raises UserError for a damaged vocabulary.
    """
    config, _, entries, problems, subjects = checked
    entries = [entry for entry in entries if not entry.is_class]
    told = [problem.as_dict() for problem in problems if problem.field in RELEVANT or "prompt" in problem.field]
    if config.method not in PROMPTED_METHODS:
        return {"pictures": [], "start": 0, "count": 0, "cut": 0, "problems": told}
    preview = Preview(config, subjects, VOCABULARIES.of_base(config.base_model))
    counts = [preview.counted(preview.shown_text(entry)).count for entry in entries]
    shown = [{"name": entry.path.name, "folder": entry.folder, **preview.of(entry)} for entry in entries[start:][:PAGE]]
    cut = sum(count > preview.most for count in counts)
    return {"pictures": shown, "start": start, "count": len(entries), "cut": cut, "problems": told}
