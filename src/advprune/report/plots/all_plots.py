"""All plots of a report, and a sentence for each kind that has nothing to show."""

from dataclasses import replace
from itertools import islice
from typing import Any

from advprune.report.plots import cost, layers, overlap, pareto, security, sparsity, transfer
from advprune.report.plots.data import Material
from advprune.report.plots.style import Plot

KINDS: tuple[Any, ...] = (sparsity, pareto, security, layers, overlap, transfer, cost)
#: Pictures of one kind; the largest comparisons first.
MOST = 8
MISSING = 'the plots need a package that is not installed: pip install "advprune[plots]"'


def draw(given: Material) -> tuple[list[Plot], list[str]]:
    """Every plot that has something to show, and a sentence about each kind of which something is left out."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return [], [MISSING]
    drawn: list[Plot] = []
    said: list[str] = []
    for module in KINDS:
        found = list(islice(module.draw(given), MOST))
        if not found:
            said.append(f"{module.KIND}: nothing to show yet; it needs {module.NEEDS}")
        if len(found) == MOST:
            said.append(f"{module.KIND}: the {MOST} largest comparisons are drawn, and no more")
        drawn += found
    for number, plot in enumerate(drawn):  # two titles may make one name
        if plot.name in {other.name for other in drawn[:number]}:
            drawn[number] = replace(plot, name=f"{plot.name}-{number}")
    return drawn, said
