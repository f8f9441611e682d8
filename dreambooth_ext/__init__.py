"""Train Stable Diffusion models from the WebUI's own tab, or from the command line."""

__version__ = "0.2.0"
