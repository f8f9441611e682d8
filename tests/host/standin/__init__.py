"""A stand-in of the WebUI: the part of its surface that the extension touches, with the real gradio and no models.

`tests/webui/test_surface.py` compares it with a real WebUI. Models are files of any content: a picture's colour is
taken from the loaded file, so that tests see which one draws.
"""
