"""Hosts, where trained models go: a WebUI, or plain folders."""
