"""Write the standings as a Markdown page: tables, what cannot be told apart, layouts, claims."""

from collections.abc import Iterable

from advprune.report.data.attack_names import threat_text
from advprune.report.data.escaping import markdown_cell
from advprune.report.standings.claims import CLAIMS, answers
from advprune.report.standings.entry import Entry
from advprune.report.standings.layouts import layout_effects, mean_effect, split_lead
from advprune.report.standings.table import Standings, is_reference, tables
from advprune.report.standings.words import marked, percent, points
from advprune.report.table.columns import count
from advprune.report.table.footnotes import doubt_notes

HEAD = ("method", "layout", "clean %", "robust %", "parameters", "MACs", "epochs", "seconds")
LEGEND = """\
Accuracy in percent on test images, mean over seeds, with 95 % intervals over images and seeds.
Parameters: those that are not zero. MACs: multiplications by weights that are not zero, for one
image. Epochs: dense training + pruning while training + recovery; they differ, and so does what a
method costs. Seconds: of all stages of one network, its dense parent and the attack included, on
the machine named above the table. The last columns are differences in robust points, on the same
images and seeds; * is a significant one (exact McNemar test on every seed, corrected for all of a
table, q < 0.05). What has no star cannot be told apart by these images and seeds, whichever stands
first."""


def page(entries: list[Entry]) -> str:
    """Return the page of these methods at their ratios, dense networks among them."""
    blocks, all_tables = ["# Standings", LEGEND], tables(entries)
    dense = [entry for entry in entries if entry.row["ratio"] is None]
    for table in all_tables:
        blocks += [_title(table), *_dense(table, dense)]
        blocks += [block for standings in table for block in _ratio(standings)]
        blocks += [*_doubts(table), *_layouts(table)]
    blocks += _claims(all_tables)
    return "\n\n".join(blocks) + "\n"


def _title(table: list[Standings]) -> str:
    best = table[0].best
    row, run = best.row, next(iter(best.seen.values()))[0]
    machine = (run.final.result.get("provenance") or {}).get("processor", "a machine not recorded")
    awp = ", trained with AWP" if "AWP" in best.perturbed else ""
    return (
        f"## {row['dataset']}, {row['model']}, ratio of {row['ratio_of']}{awp}\n\n"
        f"Trained with {row['objective']}, {row['attack']} within {threat_text(row)}, "
        f"{row['images']} test images, on {machine}."
    )


def _dense(table: list[Standings], dense: list[Entry]) -> list[str]:
    """Return the line of the dense network that the table's networks come from."""
    parents = {run.dense.key for s in table for e in s.entries for run, _ in e.seen.values()}
    row_of = table[0].best.row
    same = ("attack", "norm", "eps", "images")
    for entry in dense:
        own = {run.dense.key for run, _ in entry.seen.values()}
        if own & parents and all(entry.row[name] == row_of[name] for name in same):
            shares = (entry.row[n] for n in ("clean_acc", "robust_acc"))
            bounds = (entry.row[f"{n}_interval"] for n in ("clean_acc", "robust_acc"))
            clean, robust = map(percent, shares, bounds)
            costs = entry.row.get("costs", {})
            sizes = f"{count(costs.get('parameters'))} parameters, {count(costs.get('macs'))} MACs"
            return [f"Dense: clean {clean}, robust {robust}, {sizes}, {entry.row['seeds']} seeds."]
    return []


def _ratio(standings: Standings) -> list[str]:
    reference = [f"from {e.name}" for e in standings.entries if is_reference(e)][:1]
    head = [*HEAD, "from the best", *(reference if standings.of_reference else [])]
    lines = [
        [*_cells(entry), marked(standings.of_best.get(at))]
        + ([marked(standings.of_reference.get(at))] if standings.of_reference else [])
        for at, entry in enumerate(standings.entries)
    ]
    return [f"### {standings.ratio:g}", _table(head, lines), _told_apart(standings)]


def _cells(entry: Entry) -> list[str]:
    row, costs = entry.row, entry.row.get("costs", {})
    seeds = f" ({row['seeds']} seed{'s' if row['seeds'] > 1 else ''})" if row["seeds"] != 3 else ""
    return [
        entry.name + seeds,
        entry.layout,
        percent(row["clean_acc"], row.get("clean_acc_interval")),
        percent(row["robust_acc"], row.get("robust_acc_interval")),
        count(costs.get("parameters")),
        count(costs.get("macs")),
        " + ".join(f"{phase:g}" for phase in entry.epochs),
        f"{entry.seconds:.0f}",
    ]


def _told_apart(standings: Standings) -> str:
    """Return which methods cannot be told from the best, as a sentence."""
    same = [
        f"{standings.entries[at].name} ({standings.entries[at].layout})"
        for at, compared in standings.of_best.items()
        if not compared["significant"]
    ]
    best = f"{standings.best.name} ({standings.best.layout})"
    if not standings.of_best:
        return f"{best} has no other beside it to be compared with."
    if not same:
        one = any(compared["seeds"] == 1 for compared in standings.of_best.values())
        return f"{best} is significantly better than every other{', of one seed' * one}."
    return f"Cannot be told apart from the best, {best}: {', '.join(same)}."


def _doubts(table: list[Standings]) -> list[str]:
    """Return what the evaluations themselves found to doubt, with the networks that it is about."""
    rows = [
        entry.row | {"at": f"{entry.name} ({entry.layout}) at {s.ratio:g}"}
        for s in table
        for entry in s.entries
    ]
    notes = doubt_notes(rows, lambda row: str(row["at"]))
    return ["\n".join(f"* {note}" for note in notes)] if notes else []


def _layouts(table: list[Standings]) -> list[str]:
    effects = layout_effects(table)
    if not effects:
        return []
    lines = [
        [f"{ratio:g}", entry.name, points(compared), f"{compared['q']:.2g}"]
        for ratio, entry, compared in effects
    ]
    blocks = ["### Layout or method?", "igq minus layer, of the same method, images and seeds:"]
    blocks += [_table(("ratio", "method", "robust points", "q"), lines)]
    for standings in table:
        average, split = mean_effect(effects, standings.ratio), split_lead(standings)
        if average is not None:
            blocks.append(f"At {standings.ratio:g} igq is {100 * average:+.1f} points on average.")
        if split is not None:
            whole = 100 * (split.layout["difference"] + split.method["difference"])
            blocks.append(
                f"Of the {whole:+.1f} points of {split.leader.name} ({split.leader.layout}) over "
                f"{split.behind.name} (layer), {points(split.layout)} are its layout and "
                f"{points(split.method)} the method."
            )
    return blocks


def _claims(tables: list[list[Standings]]) -> list[str]:
    lines = []
    for claim in CLAIMS:
        answered = [
            f"  * {_where(table)}, {text}" for table in tables for text in answers(claim, table)
        ]
        lines += [f"* {claim.text}", *(answered or ["  * not looked at: nothing of it was run"])]
    return ["## Three claims, looked at here", "\n".join(lines)]


def _where(table: list[Standings]) -> str:
    best = table[0].best
    return f"{best.row['dataset']}{', AWP' if 'AWP' in best.perturbed else ''}"


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    rows = [head, ["---"] * len(head), *([markdown_cell(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
