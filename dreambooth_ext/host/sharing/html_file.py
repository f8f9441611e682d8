"""A run's page as one HTML file that loads nothing: pictures and style are inside, and no script runs.

`python -m dreambooth_ext.host.sharing.html_file RUN --out FILE.html [--runs-dir DIR]`, in the trainer's environment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path

from ...core.errors import UserError
from ...core.runs import run_folder, run_list
from ...core.system.files import write_text
from ...core.system.terminal import open_missing_streams, say, shield
from ...core.verbs.path_option import path
from ...core.verdict.scores import LABELS
from .judged import Judged
from .run_page import RunPage, run_page

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #d4d4d8; --quiet: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --line: #3f3f46; --quiet: #a1a1aa; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { line-height: 1.2; margin: 0.5rem 0; } h2 { margin: 2rem 0 0.5rem; font-size: 1.2rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: 0.25rem 1rem; margin: 0; }
dt, figcaption, .seed, footer, .steps { color: var(--quiet); } dd { margin: 0; }
.large { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
.large figure { margin: 0; } .large img { width: 100%; } .seed { white-space: nowrap; }
img { max-width: 100%; height: auto; display: block; border-radius: 4px; }
.table { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: 0.25rem; text-align: left; vertical-align: top; font-weight: normal; }
tbody th { min-width: 9rem; max-width: 16rem; } td img { width: 8rem; min-width: 5rem; }
.verdict { font-size: 1.2rem; font-weight: 600; line-height: 1.4; } .scores td, .scores th { padding-right: 1rem; }
.scores td:nth-child(n+3) { font-variant-numeric: tabular-nums; } .scores tbody th { min-width: 0; }
figure { margin: 1rem 0; } svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; }
svg path { fill: none; stroke-width: 1.5; } .grid { stroke: var(--line); }
figcaption span { margin-left: 1rem; white-space: nowrap; }
figcaption i { display: inline-block; width: 1rem; height: 3px; margin-right: 0.3rem; vertical-align: middle; }
@media (max-width: 40rem) { svg text { font-size: 17px; } }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""


def html(page: RunPage) -> str:
    parts = [
        f"<h1>{escape(page.name)}</h1>",
        listed(page.facts),
        section("Verdict", verdict(page.verdict) if page.verdict else ""),
        section("Last previews", figures(page.last)),
        section("Previews by step", table(page) if len(page.steps) > 1 else ""),
        section("Curves", "".join(page.charts)),
        section("Settings that differ from the defaults", listed(page.settings)),
        section("Versions", listed(page.versions)),
        "<footer><p>Made with the DreamBooth extension. Training pictures are not part of this page.</p></footer>",
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(page.name)}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def listed(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in pairs)
    return f"<dl>{rows}</dl>" if rows else ""


def verdict(judged: Judged) -> str:
    rows = []
    for name, state, scores in judged.models:
        cells = "".join(f"<td>{'' if score is None else f'{score:.2f}'}</td>" for score in scores)
        rows.append(f"<tr><th>{escape(name)}</th><td>{escape(state)}</td>{cells}</tr>")
    heads = "".join(f"<th>{escape(label)}</th>" for label in LABELS.values())
    head = f'<thead><tr class="steps"><th></th><th></th>{heads}</tr></thead>'
    scored = any(score is not None for _, _, scores in judged.models for score in scores)
    states = (
        f'<div class="table"><table class="scores">{head if scored else ""}<tbody>{"".join(rows)}</tbody></table></div>'
    )
    return (
        f'<p class="verdict">{escape(judged.sentence)}</p>{states if rows else ""}'
        f"{figures(judged.proof)}{listed(judged.notes)}"
    )


def figures(pictures: Iterable[tuple[str, str]]) -> str:
    """Large pictures with their captions: (caption, data URI) of each."""
    shown = [
        f'<figure><img src="{picture}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, picture in pictures
    ]
    return f'<div class="large">{"".join(shown)}</div>' if shown else ""


def table(page: RunPage) -> str:
    head = "".join(f"<th>step {step}</th>" for step in page.steps)
    rows = []
    for row in page.rows:
        cells = "".join(
            f'<td><img src="{picture}" alt="{escape(row.prompt)}, step {step}"></td>' if picture else "<td></td>"
            for step, picture in zip(page.steps, row.pictures, strict=True)
        )
        rows.append(f'<tr><th>{escape(row.prompt)} <span class="seed">seed {row.seed}</span></th>{cells}</tr>')
    return (
        f'<div class="table"><table><thead><tr class="steps"><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="folder, id or name of a run, or 'last'")
    parser.add_argument("--out", type=path, required=True, metavar="FILE.html", help="the page to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it is there")
    parser.add_argument(
        "--runs-dir",
        type=path,
        metavar="DIR",
        default=run_folder.DEFAULT_RUNS_DIR,
        help="folder of the runs (default: runs, beside the program)",
    )


def write(arguments: argparse.Namespace) -> Path:
    """Write a run's page. Raises UserError for a run that cannot be found or read, and a file that is there."""
    out: Path = arguments.out
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError("command.ending", "out", name=out.name, endings=[".html", ".htm"])
    if out.exists() and not arguments.overwrite:
        raise UserError("command.exists", "out", path=out)
    content = html(run_page(run_list.find(arguments.runs_dir, arguments.run)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, content)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dreambooth_ext report")
    add_arguments(parser)
    try:
        say(write(parser.parse_args()), stream=sys.stdout)
    except UserError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    open_missing_streams()
    shield()
    sys.exit(main())
