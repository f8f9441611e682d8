"""A check tells of poor words, by the base's vocabulary, and only of those."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.captions import word_warnings
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ({"instance_prompt": "a photo of sks person"}, ["words.means_sks"]),
        ({"instance_prompt": "a photo of ohwx person", "class_prompt": "a photo of a person"}, ["words.means_ohwx"]),
        ({"instance_prompt": "a photo of sksper person"}, []),
        ({"instance_prompt": "a photo of a person"}, []),
        ({"instance_prompt": "a photo of castle person"}, ["words.common"]),
        ({"instance_prompt": "[filewords], [name] sks"}, ["words.means_sks"]),
        ({"instance_prompt": "a photo of sks lamp"}, []),  # two words: nobody knows which is the subject's
        ({"concepts": [{"instance_prompt": "sks man"}, {"instance_prompt": "dsley woman"}]}, ["words.means_sks"]),
        ({"instance_prompt": "sks", "method": "finetune"}, []),
        ({"placeholder_token": "sks", "method": "textual_inversion"}, []),
    ],
)
def test_poor_words_are_warned_of(values, codes):
    config = RunConfig(**values)
    found = word_warnings.warnings(config, Subjects.of(config))
    assert [warning.values["reason"].code for warning in found] == codes
    assert all(warning.field.endswith("instance_prompt") and "onex" in warning.remedy for warning in found)
