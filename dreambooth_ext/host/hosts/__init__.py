"""Hosts: the program that the tab runs in and publishes models to, a WebUI or a plain folder."""
