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
    console = Console(width=None if sys.stdout.isatty() else 160)
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
    share = "params, MACs" if any("macs" in row for row in rows) else "sparsity"
    names = ["model"] + (["pruner", "ratio", share] if pruned else []) + ["attack"]
    judged = [name.removesuffix("_acc") for name in _judged(rows)]
    names += [f"dense {name}" for name in judged if pruned] + judged + ["n", "seconds"]
    for name in names:
        left = name in ("model", "pruner", "attack")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left)
    for row in rows:
        table.add_row(*_cells(row, pruned, _judged(rows)))
    for cells in failed:
        table.add_row(*(cells if pruned else [cells[0], cells[4]]), style="red")
    return table


def _judged(rows: list[dict[str, Any]]) -> list[str]:
    """The shares that any of these rows has: robust where something attacked, certified where something proved."""
    names = ("clean_acc", "robust_acc", "certified_acc")
    return [name for name in names if any(row.get(name) is not None for row in rows)]


def _cells(row: dict[str, Any], pruned: bool, judged: list[str]) -> list[str]:
    cells = [row["model"]]
    if pruned:
        cells += [row["pruner"], f"{row['ratio']:g}", _gone(row)]
    cells += [f"{row['attack'].split(' ')[0]} {eps(row)}"]
    shown = [f"dense_{name}" for name in judged] if pruned else []
    cells += [accuracy(row, name) for name in (*shown, *judged)]
    images = f"{row['images']}" if row["images"] == row["of"] else f"{row['images']} of {row['of']}"
    seeds = f" × {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return [*cells, images + seeds, f"{row['seconds']:.0f}"]


def _failed_cells(record: dict[str, Any]) -> list[str]:
    chosen, ratio = record["names"], record["ratio"]
    return [chosen.get("model", ""), chosen.get("pruner", ""), "" if ratio is None else f"{ratio:g}", "failed",
            chosen.get("attack", ""), f"seed {record.get('seed')}"]  # fmt: skip


def accuracy(row: dict[str, Any], name: str) -> str:
    """A share in percent with its interval: ``84.2 [80.1, 87.6]``; a dash if it was not measured."""
    if row.get(name) is None:
        return "–"
    low, high = row[f"{name}_interval"]
    return f"{100 * row[name]:.1f} [{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]"


def _gone(row: dict[str, Any]) -> str:
    """The share of zeros counted; of a smaller network, what is left of the dense one's parameters and MACs."""
    if "macs" in row:
        return ", ".join(f"{100 * row[name] / row[f'dense_{name}']:.2f}" for name in ("params", "macs")) + " %"
    return "–" if row["zeros"] is None else f"{row['zeros']:.4f}"


def eps(row: dict[str, Any]) -> str:
    """The budget as papers write it: in 255ths where that is a whole number."""
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
    if any("params" in row for row in rows):
        notes.append(
            "params, MACs: what is left of the dense network, which got smaller (a lone number: share of zeros)"
        )
    if any(row.get("zeros") and "params" not in row for row in rows):
        notes.append("zeros alone do not make a network faster: they save disk; filters and blocks removed save time")
    notes += [_sizes(row) for row in rows if "sizes" in row]
    if any(row.get("smoothed") for row in rows):
        notes.append("certified: the prediction under noise is right and its radius reaches eps, abstentions are wrong")
    if any("autoattack" not in row["attack"] and row.get("robust_acc") is not None for row in rows):
        notes.append("PGD and its like overstate robustness: publish numbers made with attack=autoattack")
    return notes + [f"doubt: {doubt}" for doubt in sorted({doubt for row in rows for doubt in row["doubts"]})]


def _sizes(row: dict[str, Any]) -> str:
    """One sentence on what the network costs, measured beside its dense parent in the same run."""
    dense, final = row["sizes"]["dense"], row["sizes"]["final"]

    def speed(batch: int) -> str:
        seconds, faster = final[f"seconds_{batch}"], dense[f"seconds_{batch}"] / final[f"seconds_{batch}"]
        return f"batch {batch} {1000 * seconds:.3g} ms, {batch / seconds:.0f} images/s, {faster:.2f} x dense"

    kilobytes = {name: f"{size / 1e3:.0f} kB" for name, size in final["bytes"].items()}
    return (
        f"{row['model']} {row['pruner']} {row['ratio']:g}: {final['parameters']} parameters, {kilobytes['dense']} "
        f"({kilobytes['sparse']} sparse-encoded; dense parent {dense['bytes']['dense'] / 1e3:.0f} kB), "
        f"{final['effective_macs'] / 1e6:.3g}M MACs by non-zero weights; on this CPU {speed(1)}; {speed(128)}"
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
