"""The version of this program, as shown in the tab, the API, models' metadata and the changelog."""

__version__ = "0.2.0"
