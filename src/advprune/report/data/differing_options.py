"""Tell runs of one name apart by the options in which they differ."""

from collections.abc import Iterable, Mapping

from advprune.report.data.runs import StoredStage

#: How the literature calls the perturbation of a phase.
PERTURBED = {"weights": "AWP", "scores": "S2AP"}


def distinguishing_options(lines: list[tuple[StoredStage, ...]]) -> list[str]:
    """Return, for each line of stages, ``stage.option=value`` of the options that differ.

    A perturbation is called what papers call it (``+ AWP (finetuned)``), and its other options are
    named where two perturbed networks differ in them.
    """
    flat = [
        {f"{s.kind}.{name}": value for s in line for name, value in _flat(s.identity)}
        for line in lines
    ]
    all_names = sorted({name for options in flat for name in options})
    differing = [
        name for name in all_names if len({repr(options.get(name)) for options in flat}) > 1
    ]
    named = [name for name in differing if not _goes_without_saying(name, flat)]
    return [
        " ".join(_named_option(name, options[name]) for name in named if name in options)
        for options in flat
    ]


def _goes_without_saying(name: str, flat: list[dict[str, object]]) -> bool:
    """Return whether an option of a perturbation is the same wherever there is a perturbation."""
    node, _, option = name.rpartition(".")
    perturbed = [options for options in flat if options.get(f"{node}.what")]
    is_detail = node.endswith(".perturb") and option != "what"
    return is_detail and len({repr(options.get(name)) for options in perturbed}) == 1


def _named_option(name: str, value: object) -> str:
    if name.endswith(".perturb.what") and str(value) in PERTURBED:
        return f"+ {PERTURBED[str(value)]} ({name.partition('.')[0]})"
    return f"{name}={_short(value)}"


def _flat(options: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "_partial_":
            yield f"{prefix}{name}", value


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return (
        str(value)[:8]
        if isinstance(value, str) and len(value) == 64
        else str(value).replace(" ", "")
    )
