"""The sentences under the table: what its numbers are, and what to doubt."""

from typing import Any

from advprune.report.columns import moved, smaller


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of these pooled rows must know, a sentence each."""
    seeds = {row["seeds"] for row in rows}
    kept = " and ".join(sorted({row["checkpoint"] for row in rows}))
    said = [
        (1 in seeds, "[…]: 95 % Wilson interval over the images (one seed)"),
        (bool(seeds - {1}), "[…]: 95 % t interval over seeds"),
        (True, f"weights kept: {kept} on validation images; sparsity: zeros counted among prunable ones"),
        (smaller(rows), "params, MACs: what is left of the dense network, which got smaller (a lone number: zeros)"),
        (
            any(row.get("zeros") and "macs" not in row for row in rows),
            "zeros alone do not make a network faster: they save disk; filters and blocks removed save time",
        ),
        *((True, _sizes(row)) for row in rows if "sizes" in row),
        *((True, _mean(row)) for row in rows if row.get("mean_acc") is not None),
        (
            any(row.get("smoothed") for row in rows),
            "certified: the prediction under noise is right and its radius reaches eps, abstentions are wrong; "
            "clean: without noise; at every radius: python -m advprune.report.radius OUT TABLE.json",
        ),
        (
            any(_overstates(row) for row in rows),
            "PGD and its like overstate robustness: publish numbers made with attack=autoattack",
        ),
        (
            moved(rows),
            "target right: on the source's examples; both right: source too; transfer rate: target wrong, "
            "of the images both have right and on which the source is fooled",
        ),
    ]
    doubts = sorted({doubt for row in rows for doubt in row["doubts"]})
    return [sentence for holds, sentence in said if holds] + [f"doubt: {doubt}" for doubt in doubts]


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


def _mean(row: dict[str, Any]) -> str:
    """Mean accuracy over the kinds of an attack that tries each alone; ``robust`` is right under all of them."""
    which = " ".join(str(row[name]) for name in ("model", "pruner", "ratio") if row.get(name) is not None)
    return (
        f"{which}, {row['attack'].split(' ')[0]}: mean accuracy {100 * row['mean_acc']:.1f} over {len(row['alone'])} "
        f"kinds and severities, dense {100 * row['dense_mean_acc']:.1f}; robust means right under every one of them"
    )


def _overstates(row: dict[str, Any]) -> bool:
    ball = row.get("robust_acc") is not None and not row.get("perturbation")
    return ball and "autoattack" not in row["attack"]
