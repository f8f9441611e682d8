"""What rooms expect of each other: each verb of a protocol is described, and who keeps it takes the same arguments."""

from __future__ import annotations

import inspect

import pytest

from dreambooth_ext.engine.methods import METHODS
from dreambooth_ext.engine.models.base import Base
from dreambooth_ext.engine.models.base_model import LatentBase, Source
from dreambooth_ext.engine.models.diffusers_folder import FolderSource
from dreambooth_ext.engine.models.single_file import SingleFileSource
from dreambooth_ext.engine.models.unconditional_base import PixelBase
from dreambooth_ext.engine.training.latent_backbone import LatentBackbone
from dreambooth_ext.engine.training.method import Backbone, Method
from dreambooth_ext.engine.training.pixel_backbone import PixelBackbone
from dreambooth_ext.host.hosts.folder_host import FolderHost
from dreambooth_ext.host.hosts.host import Host

KEEPERS = {
    Method: list(dict.fromkeys(METHODS.values())),
    Backbone: [LatentBackbone, PixelBackbone],
    Base: [LatentBase, PixelBase],
    Source: [FolderSource, SingleFileSource],
    Host: [FolderHost],
}
PAIRS = [(protocol, keeper) for protocol, keepers in KEEPERS.items() for keeper in keepers]


def described(protocol: type) -> dict[str, object]:
    """Verbs and properties by name."""
    kinds = (staticmethod, property)
    return {
        name: value
        for name, value in vars(protocol).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
    }


@pytest.mark.parametrize("protocol", KEEPERS)
def test_every_verb_of_a_protocol_is_described(protocol):
    assert protocol.__doc__ and described(protocol)
    for name, value in described(protocol).items():
        assert inspect.getdoc(value), f"{protocol.__name__}.{name} has no docstring"


@pytest.mark.parametrize(("protocol", "keeper"), PAIRS)
def test_whoever_keeps_a_protocol_takes_its_arguments(protocol, keeper):
    for name, value in described(protocol).items():
        if isinstance(value, property):  # which may be set in `__init__`; types are mypy's to compare
            continue
        wanted = list(inspect.signature(getattr(protocol, name)).parameters)
        assert list(inspect.signature(getattr(keeper, name)).parameters) == wanted, f"{keeper.__name__}.{name}"
