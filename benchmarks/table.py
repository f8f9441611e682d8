"""Results as Markdown: kept in results/machines.json, a row for each machine, case and trainer; shown in README.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dreambooth_ext.core.system import files

from .cases import CASES

HERE = Path(__file__).parent
RESULTS, README = HERE / "results" / "machines.json", HERE / "README.md"
BEGIN, END = "<!-- results: written by python -m benchmarks --write -->", "<!-- end of results -->"
WORK = {case.name: case.work for case in CASES}
TRAINING = (
    "| case | work | trainer | s a step | first step after | peak, card | peak, process | state saved | model saved |"
)
LOADING = "| base | file | trainer | loaded in | peak, process |"

Row = dict[str, Any]


def keep(rows: Iterable[Row]) -> None:
    """Put new rows in the place of old ones of the same machine, and write the tables anew."""
    known = {identity(row): row for row in (files.read_json(RESULTS) if RESULTS.exists() else [])}
    known |= {identity(row): row for row in rows}
    files.write_json(RESULTS, list(known.values()))
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    files.write_text(README, f"{before}{BEGIN}\n\n{render(known.values())}\n{END}{after}")


def identity(row: Row) -> str:
    machine = row["machine"]
    return json.dumps(
        [machine["cpu"], machine["cores"], machine["card"], row.get("case"), row.get("load"), row["trainer"]]
    )


def render(rows: Iterable[Row]) -> str:
    """The tables, a section for each machine. What one machine could not measure is left out where another could;
    cases that nobody tried are named at the end."""
    rows = list(rows)
    done = {row["case"] for row in rows if "case" in row and "step" in row}
    rows = [row for row in rows if "step" in row or "load" in row or row["case"] not in done]
    machines: dict[str, list[Row]] = {}
    for row in rows:
        machines.setdefault(title(row["machine"]), []).append(row)
    text = "\n".join(f"### {name}\n\n{tables(found)}" for name, found in machines.items())
    missing = [name for name in WORK if name not in {row.get("case") for row in rows}]
    return text + (f"Not measured yet: {', '.join(missing)}.\n" if missing else "")


def title(machine: Row) -> str:
    parts = [machine["card"]] if machine["card"] else []
    parts += [f"{machine['cores']} cores of {machine['cpu']}", f"{machine['memory'] / 2**30:.1f} GiB"]
    parts += [f"{machine['threads']} threads", machine["system"], f"torch {machine['torch']}"]
    return "; ".join(parts)


def tables(rows: list[Row]) -> str:
    order = list(WORK)
    trained = sorted((row for row in rows if "case" in row), key=lambda row: order.index(row["case"]))
    loaded = [row for row in rows if "load" in row]
    text = ""
    if loaded:
        text += head(LOADING) + "".join(map(loading_line, loaded)) + "\n"
    if trained:
        text += head(TRAINING) + "".join(dict.fromkeys(map(training_line, trained))) + "\n"
    return text


def head(columns: str) -> str:
    return f"{columns}\n{'|---' * (columns.count('|') - 1)}|\n"


def training_line(row: Row) -> str:
    start = f"| {row['case']} | {WORK[row['case']]}"
    if "step" not in row:
        who = row["trainer"] if "peak" in row else ""
        return f"{start} | {who} | {row['problem']} | | | | | |\n"
    card = size(row["training_peak"]) if row["machine"]["card"] and row["case"].startswith("gpu") else ""
    cells = [row["trainer"], seconds(row["step"]), seconds(row["first_step"]), card, size(row["peak"])]
    cells += [seconds(row["state"]), f"{seconds(row['model'])}, {size(row['model_bytes'])}"]
    return f"{start} | {' | '.join(cells)} |\n"


def loading_line(row: Row) -> str:
    if "problem" in row:
        return f"| {row['load']} | | {row['trainer']} | {row['problem']} | |\n"
    cells = [row["load"], size(row["bytes"]), row["trainer"], seconds(row["seconds"]), size(row["peak"])]
    return f"| {' | '.join(cells)} |\n"


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
