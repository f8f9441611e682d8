"""Each gradio and Python of today's WebUIs that the other tests do not run in: the tab, its settings, and the refusal.

Of all that we ask of gradio this is what differs; where such a Python is not on the machine, it is skipped.
"""

from __future__ import annotations

import json

import pytest

from tests.host.standin import asking, running
from tests.host.standin.asking import Client

WEBUIS = [("a1111", "3", (3, 10)), ("classic", "3.43", (3, 11)), ("neo", "4-neo", (3, 13))]


@pytest.mark.parametrize(("like", "gradio", "python"), WEBUIS)
def test_it_starts_shows_its_tab_and_refuses_politely(tmp_path, like, gradio, python):
    asking.prepare(tmp_path)
    running.add_checkpoint(tmp_path, "one.safetensors", b"first")
    options = ["--api", "--like", like, "--no-gradio-queue"]
    with running.running(tmp_path, gradio=gradio, python=python, options=options) as standin:
        webui = Client(standin.address, tmp_path)
        assert webui.run("sys.version_info[:2]") == list(python)
        config = json.dumps(webui.call("config"))
        assert '"tab_dreambooth_ext"' in config and '"setting_dreambooth_ext_while_training"' in config
        assert webui.call("dreambooth/v1/state")["environment"]["state"]
        webui.begin("refuse")
        pictures, text = webui.generate()
        assert not pictures and "training is using the device" in text and "error" not in text
        webui.finish()
        pictures, text = webui.generate()
        assert pictures, text
    assert "Traceback" not in standin.said()
