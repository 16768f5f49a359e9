"""What a pruner that trains cannot do is refused before anything is trained, in one sentence."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from safetensors.torch import save_file

NM = ("pruner.scope=nm", "pruner.n=2", "pruner.m=4", "ratio=0.5")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("pruner=harp", *NM), r"scope of groups of 4 weights fixes it: give pruner.scope=layer"),
        (
            ("pruner=harp", "ratio=0.999", "pruner.process.floor=0.9"),
            r"ratio=0.999 leaves \d+ weights, fewer than the \d+ .* give ratio=0\.\d+ or less",
        ),
        (("pruner=harp", "pruner.process.gamma=-1"), "gamma=-1 is not possible: it must be at"),
        (("pruner=harp", "pruner.process.floor=1"), "floor=1 is not possible: .* below 1"),
        (
            ("pruner=flying_bird", "pruner.unit=filters", "pruner.budget=parameters"),
            "FlyingBird prunes single weights alone; give pruner.unit=null, or pruner=hydra_filters",
        ),
        (
            ("pruner=flying_bird", "pruner.unit=filters"),
            "FlyingBird prunes single weights alone; give pruner.unit=null, or pruner=hydra_filters",
        ),
        (
            ("pruner=hydra_filters", "pruner.unit=blocks", "pruner.budget=blocks"),
            "unit=blocks is not possible: Hydra prunes filters alone",
        ),
        (
            ("pruner=hydra", "pruner.unit=filters"),
            "unit=filters needs to know .*: give pruner.budget=parameters, macs or filters",
        ),
        (
            ("pruner=bcs", *NM),
            "scope=nm is not looked at: Bcs lets weights move from layer to .*scope=global",
        ),
        (
            ("pruner=dnr", *NM, "pruner.process.every=1"),
            "over=momentum is not looked at: with pruner.scope=nm each group .*over=layer",
        ),
        (
            ("pruner=flying_bird", "pruner.process.first=0", "pruner.process.last=0"),
            "first=0, last=0 and until=1 drop nothing, so nothing would ever grow",
        ),
        (
            ("pruner=flying_bird", "pruner.process.until=0"),
            "until=0 drop nothing, so nothing would ever grow: give for example",
        ),
        (
            ("pruner=flying_bird_plus", "dataset.validation=0", "select.keep=last"),
            "compares training with validation images, and there are none: hold some out",
        ),
        (
            ("pruner=magnitude", *NM, "ratio=0.9"),
            "ratio=0.9 is not what scope=nm removes .* give ratio=0.5",
        ),
        (
            ("pruner=hydra", "finetune.perturb.what=weights", "finetune.perturb.gamma=-0.1"),
            "gamma=-0.1 is not possible: it must be at least 0",
        ),
        (
            ("pruner=flying_bird", "dense=a.safetensors"),
            "start=init trains a new network, and dense=.* would not be looked at",
        ),
        (
            ("pruner=flying_bird", "pruner.process.every=9"),
            "every=9 epochs in a phase of 6 .*nothing would ever grow; give pruner.process.every=3",
        ),
        (("pruner=flying_bird", "pruner.process.grow=newton"), "grow=newton is not possible"),
        (
            ("pruner=iht", "pruner.schedule=linear", "pruner.rounds=2"),
            "rounds=[0-9]+ is not looked at: Iht has no rounds",
        ),
        (("pruner=hydra", "pruner.start=early"), "start=early goes back to a tenth .*start=init"),
        (("pruner=magnitude", "pruner.epochs=3"), "epochs=3 is not looked at: nothing trains"),
        (
            ("pruner=hydra", "pruner.through=product"),
            "Hydra trains no dense weights that factors could compose; leave it null, or give",
        ),
        (
            ("pruner=magnitude", "pruner.through=product"),
            "no single weights train between rounds of this pruner; give pruner.schedule=linear",
        ),
        (
            ("pruner=radmm_filters", "ratio=0.99"),
            r"1 filter left in each of 2 layers whose filters may go, the largest is 0\.\d+$",
        ),
        (
            ("pruner=radmm_columns", "ratio=0.9999"),
            r"one column left in each of 4 layers, the largest is 0\.\d+$",
        ),
        (("training.milestones=[0.5]",), "milestones are not looked at with training.schedule=cos"),
        (("pruner=hydra", "pruner.m=4"), "m=4 are not looked at: they are of pruner.scope=nm"),
        (("pruner=hydra", "pruner.process=null"), "a criterion or a process, one of the two"),
    ],
)
def test_what_a_process_cannot_do_is_refused_before_training(
    job: Any, tmp_path: Path, overrides: tuple[str, ...], sentence: str
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    given = [word.replace("=a.safe", f"={tmp_path}/a.safe") for word in overrides]
    out = job(*TINY, *given)
    assert re.search(sentence, out["failed"]), out["failed"]
    assert not (tmp_path / "stages").exists()
