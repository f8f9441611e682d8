"""Options of the command `download`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .path_option import path

KINDS = ("checkpoint", "lora", "textual_inversion", "hypernetwork")  # of models that have a folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("link", metavar="LINK", help="of Hugging Face, Civitai, Google Drive or Dropbox, or to a file itself")
    option("--into", type=path, metavar="DIR", help="the folder to put it into")
    option("--file", action="append", default=[], metavar="NAME", help="which of several files behind the link")
    option("--any-file", action="store_true", help="fetch those files of a Hugging Face repository as they are, "
           "also if they are no models, into DIR")  # fmt: skip
    option("--yes", action="store_true", help="fetch it without asking")
    option("--discard", action="store_true", help="delete what an interrupted download of this link has left")


def add_hidden(parser: argparse.ArgumentParser) -> None:
    """Those that other programs of ours pass on."""
    option = parser.add_argument
    option("--folder", action="append", default=[], type=folder, metavar="KIND=DIR", help=argparse.SUPPRESS)
    option("--json", action="store_true", help=argparse.SUPPRESS)  # what happens, as lines of JSON
    option("--look", action="store_true", help=argparse.SUPPRESS)  # tell what is there, and fetch nothing
    option("--expect", default="", help=argparse.SUPPRESS)  # the version that was agreed to, as `facts.version` tells
    option("--public-only", action="store_true", help=argparse.SUPPRESS)  # nothing within this machine's network
    option("--no-logins", action="store_true", help=argparse.SUPPRESS)  # as a stranger: without tokens and keys


def folder(text: str) -> tuple[str, Path]:
    kind, _, named = text.partition("=")
    if kind not in KINDS:
        raise argparse.ArgumentTypeError(f"unknown kind {kind}")
    return kind, path(named)
