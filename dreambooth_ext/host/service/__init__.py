"""The service behind the tab, the API and other programs, without HTTP."""
