"""The WebUI's own Interrogate proposes captions, where the host has it; in the stand-in of each host."""

from __future__ import annotations

import base64
import io

from PIL import Image

from tests.host.webui.test_webui_forks import started, webui  # noqa: F401 - fixtures


def test_the_hosts_own_taggers_say_what_they_see(webui):  # noqa: F811
    found = webui.run("host.interrogators()")
    has_deepbooru = webui.run("'modules.deepbooru' in sys.modules")
    expected = {"DeepBooru": "tags"} if has_deepbooru else {}
    expected |= {"CLIP": "sentences"} if webui.run("shared.interrogator is not None") else {}
    assert found == expected
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(stream, "JPEG")
    content = f"__import__('base64').b64decode({base64.b64encode(stream.getvalue()).decode()!r})"
    said = {name: webui.run(f"host.interrogate({name!r}, {content})") for name in found}
    assert said == {name: {"CLIP": "a picture", "DeepBooru": "1girl"}[name] for name in found}
