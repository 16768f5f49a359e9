"""Write the sentences under the job table: what its numbers are, and what to doubt."""

from collections.abc import Callable, Iterator, Mapping

from advprune.report.data.attack_names import threat_text
from advprune.report.data.intervals import interval_notes
from advprune.report.data.row import Row
from advprune.report.table.columns import any_structured, any_transfer
from advprune.report.table.file_notes import file_notes
from advprune.report.table.job_row import doubts_of


def notes(rows: list[Row]) -> list[str]:
    """Return what a reader of these pooled rows must know, a sentence each."""
    about_numbers = [*_about_counts(rows), *_about_networks(rows), *_about_attacks(rows)]
    return [*about_numbers, *_about_training(rows), *doubt_notes(rows, _with_attack)]


def _about_counts(rows: list[Row]) -> Iterator[str]:
    """Yield what the intervals, the ratios and the counts of weights mean."""
    yield from (f"[…]: {sentence}" for sentence in interval_notes({row["seeds"] for row in rows}))
    kept = " and ".join(sorted({row["checkpoint"] for row in rows if row["checkpoint"]}))
    counted = "sparsity: zeros counted among prunable ones"
    yield f"weights kept: {kept} on validation images; {counted}" if kept else counted
    yield from filter(None, (budget_note(rows), _ratios(rows)))
    if any_structured(rows):
        yield (
            "params, MACs: what is left of the dense network, which got smaller "
            "(a lone number: zeros)"
        )
    if any(row.get("nonzero_parameters") is not None for row in rows):
        yield "params, MACs as numbers: parameters, and multiplications for one image, not zero"
    if any(row.get("zeros") and "macs" not in row for row in rows):
        yield (
            "zeros alone do not make a network faster: they save disk; "
            "filters and blocks removed save time"
        )


def _about_networks(rows: list[Row]) -> Iterator[str]:
    """Yield what was measured of a single network and has no column."""
    yield from (sentence for row in rows if row.get("file") for sentence in file_notes(row))
    yield from (_sizes(row) for row in rows if "sizes" in row)
    yield from (_audited(row) for row in rows if row.get("audited") is not None)
    yield from (_mean(row) for row in rows if row.get("mean_acc") is not None)
    yield from (_distances(row) for row in rows if row.get("distance_quartiles"))


def _about_attacks(rows: list[Row]) -> Iterator[str]:
    """Yield what the columns of a certifier and of a transfer attack mean."""
    if any(row.get("smoothed") for row in rows):
        yield (
            "certified: the prediction under noise is right and its radius reaches eps, "
            "abstentions are wrong; clean: without noise; at every radius: "
            "python -m advprune.report.curves.radius OUT TABLE.json"
        )
    if any_transfer(rows):
        yield (
            "target right: on the source's examples; both right: source too; "
            "transfer rate: target wrong, of the images both have right "
            "and on which the source is fooled"
        )


def _about_training(rows: list[Row]) -> Iterator[str]:
    """Yield with what precision, and by which versions of the code, the networks were made."""
    if any(row.get("precision") for row in rows):
        yield "some networks were trained in bf16; all are measured in fp32"
    versions = sorted({version for row in rows for version in row.get("code", [])})
    if len(versions) > 1:
        which = f"{len(versions)} versions of the code ({', '.join(versions)})"
        yield f"made by {which}; one that changes results does not find older ones"


def budget_note(rows: list[Row]) -> str:
    """Return the epochs of each pruner in these rows, as a sentence; empty if nothing is pruned."""
    by_epochs: dict[str, list[str]] = {}
    for row in rows:
        if row.get("pruner") and row.get("epochs"):
            names = by_epochs.setdefault(" + ".join(map(str, row["epochs"])), [])
            names.append(str(row["pruner"]))
    parts = [
        epochs if len(by_epochs) == 1 else f"{', '.join(dict.fromkeys(names))} {epochs}"
        for epochs, names in by_epochs.items()
    ]
    return f"epochs, dense + pruning + recovery: {'; '.join(parts)}" if parts else ""


def _ratios(rows: list[Row]) -> str:
    """Return what each pruner's ratio is a share of, as a sentence; empty if nothing is pruned."""
    by_meaning: dict[str, list[str]] = {}
    for row in rows:
        if row.get("pruner") and row.get("ratio_of"):
            by_meaning.setdefault(row["ratio_of"], []).append(str(row["pruner"]))
    meanings = [
        meaning if len(by_meaning) == 1 else f"{meaning} ({', '.join(dict.fromkeys(names))})"
        for meaning, names in by_meaning.items()
    ]
    return f"ratio: the share removed of the {'; of the '.join(meanings)}" if meanings else ""


def _with_attack(row: Row) -> str:
    return f"{_network(row)}, {_attack(row)} {threat_text(row)}"


def _attack(row: Row) -> str:
    """Return the attack's name, without the options that were changed."""
    return str(row["attack"]).split(" ")[0]


def _sizes(row: Row) -> str:
    """Return what the network costs, measured beside its dense parent in the same job."""
    dense, final, int8 = (row["sizes"].get(name) for name in ("dense", "final", "int8"))

    def speed(of: Mapping[str, float], batch: int) -> str:
        seconds, faster = of[f"seconds_{batch}"], dense[f"seconds_{batch}"] / of[f"seconds_{batch}"]
        return (
            f"batch {batch} {1000 * seconds:.3g} ms, {batch / seconds:.0f} images/s, "
            f"{faster:.2f} x dense"
        )

    kilobytes = {name: f"{size / 1e3:.0f} kB" for name, size in final["bytes"].items()}
    sentence = (
        f"{_network(row)}: {final['parameters']} parameters, {kilobytes['dense']} "
        f"({kilobytes['sparse']} sparse-encoded; "
        f"dense parent {dense['bytes']['dense'] / 1e3:.0f} kB), "
        f"{final['effective_macs'] / 1e6:.3g}M MACs by non-zero weights; "
        f"on this CPU {speed(final, 1)}; {speed(final, 128)}"
    )
    if int8 is None:
        return sentence
    size = f"{int8['bytes']['dense'] / 1e3:.0f} kB"
    return f"{sentence}; in int8 {size}, {speed(int8, 1)}; {speed(int8, 128)}"


def _network(row: Row) -> str:
    """Return the network of a row: its model, file, pruner and ratio, where it has them."""
    ratio = None if row.get("ratio") is None else f"{row['ratio']:g}"
    words = (row["model"], row.get("foreign"), row.get("pruner"), ratio)
    return " ".join(str(word) for word in words if word is not None)


def _audited(row: Row) -> str:
    """Return how many images the official AutoAttack left right, too."""
    return (
        f"{_network(row)}: audited {row['audited_held']}/{row['audited']}: so many of the images "
        "that attack.engine=fast left right, drawn by seed, stay right under pyautoattack"
    )


def _mean(row: Row) -> str:
    """Return the mean accuracy over the kinds of an attack that tries each alone."""
    attack, mean, dense = _attack(row), 100 * row["mean_acc"], 100 * row["dense_mean_acc"]
    return (
        f"{_network(row)}, {attack}: mean accuracy {mean:.1f} "
        f"over {len(row['alone'])} kinds and severities, dense {dense:.1f}; "
        "robust means right under every one of them"
    )


def _distances(row: Row) -> str:
    """Return the quartiles of the distances that a minimum-norm attack found."""
    first, median, third = (
        "infinite" if value is None else f"{value:.4f}" for value in row["distance_quartiles"]
    )
    lost = f"; nothing found for {row['not_found']} images" if row["not_found"] else ""
    return (
        f"{_network(row)}, {_attack(row)}: {row['norm']} distance to the nearest "
        f"misclassified point: median {median}, quartiles {first} and {third}{lost}"
    )


def doubt_notes(rows: list[Row], label: Callable[[Row], str]) -> list[str]:
    """Return each doubt as a sentence for the foot of a table, with the rows that it concerns.

    Args:
        rows: the rows of the table.
        label: row -> its name for a reader.
    """
    rows_by_doubt: dict[str, list[str]] = {}
    for row in rows:
        for doubt in doubts_of(row):
            rows_by_doubt.setdefault(doubt, []).append(label(row))
    return [
        f"doubt: {doubt}"
        if len(names) == len(rows)
        else f"doubt ({', '.join(dict.fromkeys(names))}): {doubt}"
        for doubt, names in sorted(rows_by_doubt.items())
    ]
