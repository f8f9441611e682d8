"""The tab for gradio: one HTML element, which our own page (host/page) fills.

So the tab is the same in gradio 3 and 4, and nothing of it goes through the WebUI's queue or its ui-config.json.
"""

from __future__ import annotations

import gradio

from ...core.version import __version__

TITLE, IDENTIFIER = "DreamBooth", "dreambooth_ext"

# What is here until the page's script comes, and stays if it never does.
PLACE = f"""<div id="{IDENTIFIER}" data-version="{__version__}">
<p>Loading DreamBooth {__version__} ...</p>
<p>If this text stays: reload the page without the browser's cache (Ctrl+F5). If it still stays, restart the WebUI and
look for an error of this extension in its console; extensions that block scripts in the browser can be the cause, too.
Training works from the command line meanwhile: <code>python -m dreambooth_ext train</code> in the extension's
folder.</p>
<noscript><p>This tab needs JavaScript, like the rest of the WebUI.</p></noscript>
</div>"""


def tabs() -> list[tuple[gradio.Blocks, str, str]]:
    """For the WebUI's `on_ui_tabs`: (the tab's content, its title, its element id)."""
    with gradio.Blocks(analytics_enabled=False) as blocks:
        gradio.HTML(PLACE)
    return [(blocks, TITLE, IDENTIFIER)]
