"""Define the panels of the W&B report; ``wr`` is ``wandb_workspaces.reports.v2``."""

from types import ModuleType
from typing import Any

TRAINED = ("dense", "pruned", "finetuned")
#: Curves over the epochs of a stage: title, name after the stage, stages.
CURVES = (
    ("robust accuracy on validation images", "val_robust_acc", TRAINED),
    ("clean accuracy on validation images", "val_clean_acc", TRAINED),
    ("loss", "loss", TRAINED),
    ("the masks' turnover", "mask_turnover", ("pruned",)),
    ("sparsity", "sparsity", ("pruned",)),
)
#: Columns of the table, and their names in titles.
ACCURACIES = {
    "clean_acc": "clean accuracy",
    "robust_acc": "robust accuracy",
    "certified_acc": "certified accuracy",
}


def at(wr: ModuleType, column: int, row: int, width: int = 12, height: int = 9) -> Any:
    """Return a place in W&B's grid of 24 columns."""
    return wr.Layout(x=column, y=row, w=width, h=height)


def outcomes(wr: ModuleType) -> list[Any]:
    """Return plots of accuracies against sparsity and against each other."""
    places = [at(wr, 12 * (n % 2), 9 * (n // 2)) for n in range(len(ACCURACIES) + 2)]
    scatters = [
        wr.ScatterPlot(
            title=f"{words} against sparsity",
            x=wr.SummaryMetric("sparsity"),
            y=wr.SummaryMetric(name),
            legend_template="${config:pruner} ${config:ratio}",
            layout=places[n],
        )
        for n, (name, words) in enumerate(ACCURACIES.items())
    ]
    front = wr.ScatterPlot(
        title="robust against clean accuracy",
        x=wr.SummaryMetric("clean_acc"),
        y=wr.SummaryMetric("robust_acc"),
        z=wr.SummaryMetric("sparsity"),
        layout=places[-2],
    )
    columns = [wr.Config("pruner"), wr.Config("ratio"), wr.SummaryMetric("sparsity")]
    columns += [wr.SummaryMetric(name) for name in ("clean_acc", "robust_acc")]
    lines = wr.ParallelCoordinatesPlot(
        title="from options to accuracy",
        layout=places[-1],
        columns=[wr.ParallelCoordinatesPlotColumn(metric=column) for column in columns],
    )
    return [*scatters, front, lines]


def bars(wr: ModuleType) -> list[Any]:
    """Return bars of accuracies by pruner, over seeds."""
    return [
        wr.BarPlot(
            title=words,
            metrics=[wr.SummaryMetric(name)],
            groupby=wr.Config("pruner"),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            layout=at(wr, 8 * n, 0, 8),
        )
        for n, (name, words) in enumerate(ACCURACIES.items())
    ]


def curves(wr: ModuleType) -> list[Any]:
    """Return training curves: a row a quantity, a column a stage."""
    return [
        wr.LinePlot(
            title=f"{stage}: {words}",
            x=f"{stage}/epoch",
            y=[f"{stage}/{name}"],
            title_x="epoch",
            layout=at(wr, 8 * column, 8 * row, 8, 8),
        )
        for row, (words, name, stages) in enumerate(CURVES)
        for column, stage in enumerate(stages)
    ]


def pictures(wr: ModuleType) -> list[Any]:
    """Return attacked images, and the layers' sparsity."""
    keys = ["examples/evaluated", "examples/evaluated_dense"]
    layers = [
        wr.WeavePanelSummaryTable(
            table_name=f"layers/{stage}_table", layout=at(wr, 12 * column, 10, 12, 10)
        )
        for column, stage in enumerate(("pruned", "finetuned"))
    ]
    return [
        wr.MediaBrowser(title="attacked images", media_keys=keys, layout=at(wr, 0, 0, 24, 10)),
        *layers,
    ]


def differences(wr: ModuleType) -> list[Any]:
    """Return a table of the options and results in which runs differ."""
    return [wr.RunComparer(diff_only="split", layout=at(wr, 0, 0, 24, 16))]
