"""The version of this program, as the tab, the API, models' metadata and the changelog name it."""

__version__ = "0.2.0"
