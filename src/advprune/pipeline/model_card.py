"""Write the card of a network that is given away: what it is, what was measured, what made it."""

import json
from typing import Any

from advprune.config.options import Options
from advprune.report.data.attack_names import threat_text
from advprune.report.data.commands import command_of
from advprune.report.data.row import Row
from advprune.report.table.columns import count
from advprune.store.stage import Plan

#: A row's accuracies, and what a card calls them.
MEASURED = (("clean_acc", "clean"), ("robust_acc", "robust"), ("certified_acc", "certified"))
FRONT = """\
---
library_name: advprune
pipeline_tag: image-classification
tags:
- adversarial-robustness
- pruning
- pytorch
model-index:
- name: {name}
  results:
  - task:
      type: image-classification
    dataset:
      name: {dataset}
      type: {dataset}
    metrics:
{metrics}
---
"""


def card(row: Row, plan: Plan, options: Options, results: dict[str, dict[str, Any]]) -> str:
    """Return the card in Markdown, with the front matter that Hugging Face reads.

    Args:
        row: the job's, with what its evaluation measured, and what was counted.
        plan: the job's stages, whose keys the card names.
        options: the job's.
        results: of each stage, by key.
    """
    pruned = row["pruner"] not in (None, "none")
    name = (
        f"{row['model']}, {row['pruner']} {row['ratio']:g}" if pruned else f"{row['model']}, dense"
    )
    lines = [
        FRONT.format(name=json.dumps(name), dataset=row["dataset"], metrics=_metrics(row)),
        f"# {name}, on {row['dataset']}\n",
        *_table(row),
        *(f"* doubt: {doubt}" for doubt in row["doubts"]),
        "",
        "```python",
        "import advprune",
        "",
        'net = advprune.load("FOLDER")  # takes images with pixels in [0, 1]',
        "```\n",
        "## What made it\n",
        *_made(plan, results),
        "",
        f"Seed {options.seed}. The same command finds a stage again; its key is the checksum of "
        "its options.",
    ]
    return "\n".join(lines) + "\n"


def _metrics(row: Row) -> str:
    """Return the accuracies as the front matter has them, in percent."""
    return "\n".join(
        f"    - type: accuracy\n      name: {word} accuracy\n      value: {100 * row[key]:.2f}"
        for key, word in MEASURED
        if row.get(key) is not None
    )


def _table(row: Row) -> list[str]:
    """Return what was measured and counted, a line each."""
    lines = ["| | |", "|---|---|"]
    for key, word in MEASURED:
        if row.get(key) is not None:
            low, high = (100 * end for end in row[f"{key}_interval"])
            lines.append(f"| {word} accuracy, % | {100 * row[key]:.1f} [{low:.1f}, {high:.1f}] |")
    lines += [
        f"| attack | {row['attack']}, {threat_text(row)} |",
        f"| test images | {row['images']} of {row['of']}, 95 % Wilson intervals over them |",
        f"| weights zero or gone | {_share(row['zeros'])}, counted |",
        f"| parameters, MACs that are not zero | {count(row['nonzero_parameters'])}, "
        f"{count(row['nonzero_macs'])} |",
        f"| weights of | the {row['kept']} epoch on validation images |",
    ]
    return [*lines, ""]


def _share(zeros: float | None) -> str:
    return "none" if not zeros else f"{100 * zeros:.2f} %"


def _made(plan: Plan, results: dict[str, dict[str, Any]]) -> list[str]:
    """Return each stage of the network with its key, command and code."""
    lines = []
    for stage in plan.evaluated.line:
        provenance = results[stage.key].get("provenance") or {}
        lines.append(
            f"* {stage.kind} `{stage.key}`: `{command_of(results[stage.key]) or 'not recorded'}`, "
            f"code `{provenance.get('code', 'not recorded')}`, {provenance.get('finished', '')}"
        )
    return lines
