"""`captions`: change the captions of a folder's pictures all at once, or let a tagger propose them, into a copy."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ...core.captions import tag_edits
from ...core.captions.tag_edits import Edit
from ...core.captions.variation import tags
from ...core.data import captions, folder_scan
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system import files
from ...core.system.terminal import say
from ...core.verbs import tag_options
from ...core.verbs.path_option import path
from ...host.environment.environment import Environment
from ..support.exit_status import DONE

HELP = "show the captions of a folder's pictures, change them all at once, or let a tagger propose them"
SHOWN_TAGS = 30
ENDING = ".txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option(
        "folder",
        type=path,
        metavar="FOLDER",
        help="the pictures, with their captions beside them; nothing in it is changed",
    )
    option(
        "--replace",
        action="append",
        default=[],
        type=pair,
        metavar="OLD=NEW",
        help="find and replace, whatever the case; several times",
    )
    option("--add", action="append", default=[], metavar="TAG", help="add a tag at the end; several times")
    option("--add-first", action="append", default=[], metavar="TAG", help="add a tag at the start; several times")
    option("--remove", action="append", default=[], metavar="TAG", help="remove a tag; several times")
    option(
        "--template", default="", metavar="TEXT", help="put each caption into a text at [filewords]; [name] is the word"
    )
    option("--word", default="", help="the word for the template")
    option("--sort", choices=tag_edits.SORTS, help="sort tags by their frequency, or by alphabet")
    option("--unique", action="store_true", help="remove tags that come twice")
    tag_options.add_tagger_arguments(parser)
    option(
        "--out",
        type=path,
        metavar="DIR",
        help="copy pictures and changed captions there; without it, they are only shown",
    )
    option("--json", action="store_true", help="print JSON, for programs")


def pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals or not old:
        raise argparse.ArgumentTypeError("must be OLD=NEW")
    return old, new


def run(arguments: argparse.Namespace) -> int:
    for problem in tag_options.problems(arguments):
        raise problem.as_error()
    known = read(arguments.folder)
    before = {name: text for name, (_, text) in known.items()}
    if arguments.out:
        check_out(arguments.folder, arguments.out)
    after = dict(before)
    if arguments.tagger:
        proposed = propose(arguments)
        after = {name: _joined(text, proposed.get(name, "")) for name, text in after.items()}
    for edit in edits(arguments):
        after = tag_edits.apply(edit, after)
    if arguments.out:
        write(arguments.folder, arguments.out, known, after)
    tell(arguments, before, after)
    return DONE


def edits(arguments: argparse.Namespace) -> list[Edit]:
    """The changes in the order of the options' list. Raises UserError."""
    asked: list[dict[str, Any]] = [
        *({"kind": "replace", "find": old, "text": new, "any_case": True} for old, new in arguments.replace),
        {"kind": "remove", "tags": arguments.remove},
        {"kind": "add", "tags": arguments.add_first, "at_start": True},
        {"kind": "add", "tags": arguments.add},
        {"kind": "template", "text": arguments.template, "word": arguments.word},
        {"kind": "sort", "by": arguments.sort or "frequency"},
        {"kind": "unique"},
    ]
    wanted = {"sort": bool(arguments.sort), "unique": arguments.unique, "template": bool(arguments.template)}
    return [Edit.from_dict(one) for one in asked if wanted.get(one["kind"], one.get("tags") or one.get("find"))]


def read(folder: Path) -> dict[str, tuple[folder_scan.Found, str]]:
    """Each picture with its caption. Raises UserError."""
    try:
        found = list(folder_scan.find_pictures(folder))
    except (OSError, ValueError) as error:
        raise UserError("pictures.folder_unreadable", "folder", folder=str(folder), error=reason_of(error)) from error
    if not found:
        raise UserError("pictures.none", "folder", folder=str(folder), formats=folder_scan.FORMATS)
    texts = {}
    for one in found:
        file = one.caption_file(ENDING)
        try:
            text = "\n".join(captions.read_lines(file)) if file else ""
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                "captions.file_unreadable", "folder", file=Path(file).name, error=reason_of(error)
            ) from error
        texts[one.path.relative_to(folder).as_posix()] = (one, text)
    return texts


def propose(arguments: argparse.Namespace) -> dict[str, str]:
    """What the tagger says, by picture. Raises UserError if it cannot."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "proposals.json"
        words = [
            "-m",
            "dreambooth_ext.engine",
            "tag",
            str(arguments.folder),
            f"--tagger={arguments.tagger}",
            f"--out={out}",
        ]
        for name in ("threshold", "character_threshold", "begin", "device"):
            words.append(f"--{name.replace('_', '-')}={getattr(arguments, name)}")
        words += [
            f"--{name.replace('_', '-')}"
            for name in ("ratings", "no_characters", "underscores", "only_empty")
            if getattr(arguments, name)
        ]
        words += [f"--leave-out={tag}" for tag in arguments.leave_out]
        if Environment().run_inside(words):
            raise UserError("tagging.ended", "tagger")
        return files.read_json(out)["captions"]


def _joined(text: str, proposed: str) -> str:
    """A caption with what was proposed behind it; no tag twice."""
    said = {tag.casefold() for tag in tags(text, tag_edits.SEPARATOR)}
    rest = [tag for tag in tags(proposed, tag_edits.SEPARATOR) if tag.casefold() not in said]
    return tag_edits.joined([*tags(text, tag_edits.SEPARATOR), *rest]) if rest else text


def check_out(folder: Path, out: Path) -> None:
    """Raise UserError if the copy would touch the originals, or files that are there."""
    if folder.resolve() == out.resolve() or folder.resolve() in out.resolve().parents:
        raise UserError("captions.out_inside", "out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("captions.out_not_empty", "out", folder=str(out))


def write(folder: Path, out: Path, known: dict[str, tuple[folder_scan.Found, str]], after: dict[str, str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, (found, _) in known.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(found.path, target)
        if after[name]:
            files.write_text(target.with_suffix(ENDING), after[name] + "\n")


def tell(arguments: argparse.Namespace, before: dict[str, str], after: dict[str, str]) -> None:
    changed = tag_edits.changed(before, after)
    counted = tag_edits.frequencies(after)
    out = str(arguments.out) if arguments.out else None
    if arguments.json:
        told = {"captions": after, "changed": sorted(changed), "tags": [list(one) for one in counted], "out": out}
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    lines = [f"{name}: {text or '-'}" for name, text in (changed or after).items()]
    lines += ["", *(f"{count:6} {tag}" for tag, count in counted[:SHOWN_TAGS])]
    lines += ["", str(Message("captions.told", count=len(changed), total=len(after)))]
    lines += (
        [str(Message("captions.told_out", folder=out) if out else Message("captions.told_no_out"))] if changed else []
    )
    say(*lines, stream=sys.stdout)
