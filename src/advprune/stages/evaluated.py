"""The stage ``evaluated``: every test image attacked once, a record each, and the shares with their intervals."""

from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from advprune.datasets.splits import subset
from advprune.modules.evaluation import RobustEvaluation
from advprune.stages import parts, saved
from advprune.stages.contradictions import refuse_contradictions
from advprune.stages.fit import Where, interruptible, trainer
from advprune.stages.plan import Stage


def make(stage: Stage, folder: Path, parent: Path | None, where: Where) -> dict[str, Any]:
    """Attack the parent stage's network; write ``records.parquet``."""
    assert parent is not None
    options = stage.options
    net = saved.load(stage, parent)
    size = int(options["attack"]["batch_size"])
    module = RobustEvaluation(
        net, parts.attack(options), name=options["attack"]["_target_"].rsplit(".", 1)[-1],
        threat=parts.threat(options), parts=folder / "work", seed=options["seed"],
    )  # fmt: skip
    run = trainer(where, f"evaluated {stage.key}", logger=False, enable_checkpointing=False)
    datamodule = parts.data(options, batch_size=size).to(run.strategy.root_device)
    chosen = options["attack"].get("images")
    whole = datamodule.sizes["test"]
    indices = None if chosen is None else subset(whole, chosen, option="attack.images")
    loader = datamodule.test_dataloader(indices, size)
    interruptible(run, lambda: run.test(module, dataloaders=loader, verbose=False))
    columns = module.records(len(loader))
    refuse_contradictions(columns, stage, folder, {"norm": module.threat.norm, "eps": module.threat.eps})
    _write_records(folder / "records.parquet", columns)
    result = summary(columns)
    return result | {"doubts": module.doubts + suspicions(result), "of": whole, "batch_size": size,
                               "threat": {"norm": module.threat.norm, "eps": module.threat.eps}}  # fmt: skip


def summary(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Shares and their 95 % Wilson intervals (scipy) from the records' columns."""
    images = len(columns["image"])
    result: dict[str, Any] = {"images": images}
    if "clean_pred" in columns:
        result["classes_predicted"] = len(set(columns["clean_pred"]))
    for name in ("clean", "robust", "certified"):  # an attack has no certified images, a certifier no attacked ones
        if f"{name}_ok" in columns:
            result |= share(f"{name}_acc", sum(columns[f"{name}_ok"]), images)
    if "abstained" in columns:
        result |= {"abstained": sum(columns["abstained"]), "smoothed": any(columns["smoothed"])}
    inner = {
        name.split(".", 1)[1]: sum(column) / images for name, column in columns.items() if name.startswith("robust_ok.")
    }
    return result | ({"after_each": inner} if inner else {})


def share(name: str, right: int, images: int) -> dict[str, Any]:
    """A share and its interval, as two entries."""
    low, high = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return {name: right / images, f"{name}_interval": [float(low), float(high)]}


#: Points of robust accuracy that Square may take off what gradient attacks left, before gradients are distrusted.
MASKED = 0.05


def suspicions(result: dict[str, Any]) -> list[str]:
    """What the outcome itself says against the evaluation: one class for all, or gradients that hid the way."""
    found, after = [], result.get("after_each", {})
    if result.get("classes_predicted") == 1:
        found.append("the network gives every image the same class: its training collapsed; lower the learning rate")
    before = [share for name, share in after.items() if name != "square"]
    if "square" in after and before and before[-1] - after["square"] > MASKED:
        found.append(
            f"Square, which needs no gradient, took {100 * (before[-1] - after['square']):.0f} points off what "
            "gradient attacks left: gradients are masked, and validation under PGD saw too much robustness"
        )
    return found


def _write_records(path: Path, columns: dict[str, list[Any]]) -> None:
    import pandas as pd

    part = path.with_name(f".{path.name}.part")
    pd.DataFrame(columns).to_parquet(part, index=False)
    part.replace(path)
