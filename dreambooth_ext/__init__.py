"""Train Stable Diffusion models from the WebUI's own tab, or from the command line."""

from .core.version import __version__ as __version__
