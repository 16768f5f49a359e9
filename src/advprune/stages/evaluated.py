"""The stage ``evaluated``: every test image attacked once, a record each, and the shares with their intervals."""

from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from advprune.datasets.splits import subset
from advprune.modules.evaluation import RobustEvaluation
from advprune.modules.files import load_weights
from advprune.stages import parts, quantized
from advprune.stages.fit import Where, interruptible, trainer
from advprune.stages.plan import Stage


def make(stage: Stage, folder: Path, parent: Path | None, where: Where) -> dict[str, Any]:
    """Attack the parent stage's network; write ``records.parquet``."""
    assert parent is not None
    options = stage.options
    net: Any
    if stage.parent is not None and stage.parent.kind == "quantized":
        net = quantized.load(stage.parent, parent, runs=options.get("runs", "fake_quant"))
    else:
        net = parts.network(model_options(stage), seed=0)
        net.load_state_dict(load_weights(parent / "model.safetensors"))
        net.eval()
    size = int(options["attack"]["batch_size"])
    own = options["attack"].get("perturbation")
    module = RobustEvaluation(
        net, parts.attack(options), name=options["attack"]["_target_"].rsplit(".", 1)[-1],
        threat=None if own else parts.threat(options), parts=folder / "work", seed=options["seed"],
    )  # fmt: skip
    run = trainer(where, f"evaluated {stage.key}", logger=False, enable_checkpointing=False)
    datamodule = parts.data(options, batch_size=size).to(run.strategy.root_device)
    chosen = options["attack"].get("images")
    whole = datamodule.sizes["test"]
    indices = None if chosen is None else subset(whole, chosen, option="attack.images")
    loader = datamodule.test_dataloader(indices, size)
    interruptible(run, lambda: run.test(module, dataloaders=loader, verbose=False))
    columns = module.records(len(loader))
    _write_records(folder / "records.parquet", columns)
    ball = module.threat
    threat = {"norm": None, "eps": None} if ball is None else {"norm": ball.norm, "eps": ball.eps}
    return summary(columns) | {"doubts": module.doubts, "of": whole, "batch_size": size, "threat": threat,
                               "perturbation": own}  # fmt: skip


def model_options(stage: Stage) -> dict[str, Any]:
    """The options of the network at the root of a stage's line."""
    while stage.parent is not None:
        stage = stage.parent
    return stage.options


def summary(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Shares and their 95 % Wilson intervals (scipy) from the records' columns."""
    images = len(columns["image"])
    result: dict[str, Any] = {"images": images}
    for name, column in (("clean_acc", "clean_ok"), ("robust_acc", "robust_ok")):
        result |= share(name, sum(columns[column]), images)
    inner = {
        name.split(".", 1)[1]: sum(column) / images for name, column in columns.items() if name.startswith("robust_ok.")
    }
    alone = {name.split(".", 1)[1]: sum(column) / images for name, column in columns.items() if name.startswith("ok.")}
    result |= {"alone": alone, "mean_acc": sum(alone.values()) / len(alone)} if alone else {}
    return result | ({"after_each": inner} if inner else {})


def share(name: str, right: int, images: int) -> dict[str, Any]:
    """A share and its interval, as two entries."""
    low, high = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return {name: right / images, f"{name}_interval": [float(low), float(high)]}


def _write_records(path: Path, columns: dict[str, list[Any]]) -> None:
    import pandas as pd

    part = path.with_name(f".{path.name}.part")
    pd.DataFrame(columns).to_parquet(part, index=False)
    part.replace(path)
