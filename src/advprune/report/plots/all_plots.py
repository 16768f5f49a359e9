"""Draw all plots of a report, and tell which kinds have nothing to show."""

from dataclasses import replace
from itertools import islice
from typing import Any

from advprune.report.plots import (
    cost,
    distances,
    layers,
    overlap,
    pareto,
    security,
    sparsity,
    transfer,
)
from advprune.report.plots.data import PlotData
from advprune.report.plots.style import Plot

MODULES: tuple[Any, ...] = (
    sparsity,
    pareto,
    security,
    distances,
    layers,
    overlap,
    transfer,
    cost,
)
#: Plots of one kind at most; the largest comparisons come first.
MOST_OF_A_KIND = 4
MISSING = 'the plots need a package that is not installed: pip install "advprune[plots]"'


def draw(data: PlotData) -> tuple[list[Plot], list[str]]:
    """Return every plot that has something to show, and notes on kinds that are cut or empty."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return [], [MISSING]
    drawn: list[Plot] = []
    notes: list[str] = []
    for module in MODULES:
        plots = list(islice(module.draw(data), MOST_OF_A_KIND))
        if not plots:
            notes.append(f"{module.KIND}: nothing to show yet; it needs {module.NEEDS}")
        if len(plots) == MOST_OF_A_KIND:
            notes.append(
                f"{module.KIND}: the {MOST_OF_A_KIND} largest comparisons are drawn, and no more"
            )
        drawn += plots
    for number, plot in enumerate(drawn):  # two titles may make one name
        if plot.name in {other.name for other in drawn[:number]}:
            drawn[number] = replace(plot, name=f"{plot.name}-{number}")
    return drawn, notes
