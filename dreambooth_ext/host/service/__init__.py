"""What the tab, the API and other programs can ask for, without HTTP."""
