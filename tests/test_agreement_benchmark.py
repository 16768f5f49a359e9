"""The comparison of AutoAttack's engines: its table counts what its file says, and runs nothing twice."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import autoattack_agreement as agreement
from benchmarks.autoattack_agreement import Attack, Case

NET = nn.Sequential(nn.Flatten(), nn.Linear(4, 4)).requires_grad_(False)
CASE = Case(lambda: NET, lambda count: (torch.rand(count, 1, 2, 2), torch.zeros(count)), 0.1, 0.5)


def test_the_table_counts_verdicts_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    right = {("fast", 0): "11100", ("pyautoattack", 0): "11010", ("pyautoattack", 1): "11011"}
    for (engine, seed), flags in right.items():
        attack = Attack("net", "linf", 0.1, 5, engine, seed, weights=7)
        results = {"seconds": 1.0, "right": flags}
        with path.open("a") as file:
            file.write(json.dumps(asdict(attack) | results) + "\n")
    other = Attack(
        "net", "linf", 0.1, 5, "fast", 0, weights=8
    )  # of other weights: no row of its own
    with path.open("a") as file:
        file.write(json.dumps(asdict(other) | results) + "\n")
    rows = list(agreement.table(path))[2:]
    assert rows == [
        "| net | linf 0.1 | 5 | 60.00%; 70.00% (60.0 to 80.0) | 50.00% (2 pairs); 20.00% (1 pair) |"
    ]


def test_a_run_that_is_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attack is kept as soon as it ends; what is in the file is not run again."""
    ran: list[tuple[str | None, int]] = []

    def verdicts(case: Case, norm: str, count: int, engine: str | None, *, seed: int) -> Tensor:
        ran.append((engine, seed))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return torch.arange(count) % 2 == 0

    monkeypatch.setattr(agreement, "verdicts", verdicts)
    path, wanted = tmp_path / "runs.jsonl", [("net", CASE, "l2", 4, 2)]
    with pytest.raises(KeyboardInterrupt):
        agreement.complete(path, wanted)
    agreement.complete(path, wanted)
    assert ran == [(None, 0), ("fast", 0), (None, 1), (None, 1), ("fast", 1)]
    assert [attack.eps for attack in agreement.lines(path)] == [0.5] * 4
    assert len(list(agreement.table(path))) == 3
    agreement.complete(path, wanted)
    assert len(ran) == 5
