"""The table at the end of a job and of a grid: on the terminal by rich, and beside the jobs as CSV and JSON."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advprune.report.pool import pool


def show(records: list[dict[str, Any]], folder: Path) -> None:
    """Print the jobs' table and write ``table.csv`` and ``table.json`` into ``folder``.

    Args:
        records: the ``job.json`` of each job, in order.
    """
    rows = [record["row"] for record in records if "row" in record]
    failed = [record for record in records if "failed" in record]
    wide = 184 if any(_quantizer(row) for row in rows) else 160  # one more column
    console = Console(width=None if sys.stdout.isatty() else wide)
    if rows:
        pooled = pool(rows)
        console.print(_table(pooled, [_failed_cells(record) for record in failed]))
        for note in _notes(pooled):
            console.print(f"[dim]·[/] {note}", highlight=False)
        _write(rows, folder)
    for record in failed:
        job = f" {' '.join(record['overrides'])}" if len(records) > 1 else ""
        sentence = Text.assemble(("error", "bold red"), f"{job}: {_brief(record['failed'])}")
        console.print(sentence, soft_wrap=True)
    if len(records) > 1 and failed:
        console.print(f"{len(failed)} of {len(records)} jobs failed; the same command tries only those again")
    if rows:
        _close(console, rows, folder)


def _table(rows: list[dict[str, Any]], failed: list[list[str]]) -> Table:
    table = Table(title=_title(rows), title_justify="left", caption_justify="left")
    pruned = rows[0].get("pruner") is not None and rows[0]["ratio"] is not None
    quantized = any(_quantizer(row) for row in rows)
    names = ["model"] + (["pruner", "ratio", "sparsity"] if pruned else []) + ["quantizer"] * quantized + ["attack"]
    judged = [name.removesuffix("_acc") for name in _judged(rows)]
    names += [f"dense {name}" for name in judged if pruned] + judged + ["n", "seconds"]
    for name in names:
        left = name in ("model", "pruner", "quantizer", "attack")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for row in rows:
        table.add_row(*_cells(row, pruned, quantized, _judged(rows)))
    for cells in failed:
        chosen, pruner, quantizer, rest = cells[:1], cells[1:4], cells[4:5], cells[5:]
        table.add_row(*chosen, *(pruner if pruned else []), *(quantizer if quantized else []), *rest, style="red")
    return table


def _quantizer(row: dict[str, Any]) -> str:
    """The quantizer and what of it was judged; nothing without one."""
    name = str(row.get("quantizer") or "none")
    return "" if name == "none" else name


def _judged(rows: list[dict[str, Any]]) -> list[str]:
    """The shares that any of these rows has: robust where something attacked, certified where something proved."""
    names = ("clean_acc", "robust_acc", "certified_acc")
    return [name for name in names if any(row.get(name) is not None for row in rows)]


def _cells(row: dict[str, Any], pruned: bool, quantized: bool, judged: list[str]) -> list[str]:
    cells = [row["model"]]
    if pruned:
        cells += [row["pruner"], f"{row['ratio']:g}", "–" if row["zeros"] is None else f"{row['zeros']:.4f}"]
    cells += [_quantizer(row) or "–"] if quantized else []
    cells += [f"{row['attack'].split(' ')[0]} {eps(row)}"]
    shown = [f"dense_{name}" for name in judged] if pruned else []
    cells += [accuracy(row, name) for name in (*shown, *judged)]
    images = f"{row['images']}" if row["images"] == row["of"] else f"{row['images']} of {row['of']}"
    seeds = f" × {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return [*cells, images + seeds, f"{row['seconds']:.0f}"]


def _failed_cells(record: dict[str, Any]) -> list[str]:
    chosen, ratio = record["names"], record["ratio"]
    return [chosen.get("model", ""), chosen.get("pruner", ""), "" if ratio is None else f"{ratio:g}", "failed",
            chosen.get("quantizer", ""), chosen.get("attack", ""), f"seed {record.get('seed')}"]  # fmt: skip


def accuracy(row: dict[str, Any], name: str) -> str:
    """A share in percent with its interval: ``84.2 [80.1, 87.6]``; a dash if it was not measured."""
    if row.get(name) is None:
        return "–"
    low, high = row[f"{name}_interval"]
    return f"{100 * row[name]:.1f} [{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]"


def eps(row: dict[str, Any]) -> str:
    """The budget as papers write it: in 255ths where that is a whole number; or what the attack calls its own."""
    if row.get("perturbation"):
        return f"({row['perturbation']})"
    levels = row["eps"] * 255
    size = f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{row['eps']:g}"
    return size if row["norm"] == "linf" else f"{row['norm']} {size}"


def _title(rows: list[dict[str, Any]]) -> str:
    sets, goals = ({row[name] for row in rows} for name in ("dataset", "objective"))
    return f"{', '.join(sorted(sets))}, trained with {', '.join(sorted(goals))}; accuracy in % on test images"


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    seeds = {row["seeds"] for row in rows}
    notes = []
    if 1 in seeds:
        notes.append("[…]: 95 % Wilson interval over the images (one seed)")
    if seeds - {1}:
        notes.append("[…]: 95 % t interval over seeds")
    kept = {row["checkpoint"] for row in rows}
    notes.append(
        f"weights kept: {' and '.join(sorted(kept))} on validation images; sparsity: zeros counted among prunable ones"
    )
    notes += [_mean(row) for row in rows if row.get("mean_acc") is not None]
    if any(row.get("smoothed") for row in rows):
        notes.append("certified: the prediction under noise is right and its radius reaches eps, abstentions are wrong")
    balls = [row for row in rows if row.get("robust_acc") is not None and not row.get("perturbation")]
    if any("autoattack" not in row["attack"] for row in balls):
        notes.append("PGD and its like overstate robustness: publish numbers made with attack=autoattack")
    return notes + [f"doubt: {doubt}" for doubt in sorted({doubt for row in rows for doubt in row["doubts"]})]


def _mean(row: dict[str, Any]) -> str:
    """Mean accuracy over the kinds of an attack that tries each alone; ``robust`` is right under all of them."""
    which = " ".join(str(row[name]) for name in ("model", "pruner", "ratio") if row.get(name) is not None)
    return (
        f"{which}, {row['attack'].split(' ')[0]}: mean accuracy {100 * row['mean_acc']:.1f} over {len(row['alone'])} "
        f"kinds and severities, dense {100 * row['dense_mean_acc']:.1f}; robust means right under every one of them"
    )


def _brief(failure: str) -> str:
    return failure.strip().splitlines()[-1]


def _write(rows: list[dict[str, Any]], folder: Path) -> None:
    (folder / "table.json").write_text(json.dumps(rows, indent=1))
    flat = [{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()} for row in rows]
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in flat for name in row)))
        writer.writeheader()
        writer.writerows(flat)


def _close(console: Console, rows: list[dict[str, Any]], folder: Path) -> None:
    took = sum(row["this_command"] for row in rows)
    made, found = sum(row["made"] for row in rows), sum(row["found"] for row in rows)
    console.print(f"made {made} stages and found {found} in {took:.1f} s; files:", highlight=False)
    for name in rows[0]["files"] if len(rows) == 1 else []:
        console.print(f"  {name:9} {rows[0]['files'][name]}", highlight=False, soft_wrap=True)
    console.print(f"  table     {folder}/table.csv, table.json", highlight=False, soft_wrap=True)
