"""The dense network as a teacher: who gets it, that it does not train, and which keys change."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from torch import nn

from advprune.errors import UserError
from advprune.objectives.distillation import distillation
from advprune.objectives.natural import natural
from advprune.stages.checkpoint import Teacher, refuse_without_teacher, wants_teacher


def test_an_objective_says_by_its_arguments_that_it_wants_a_teacher() -> None:
    assert wants_teacher(partial(distillation, temperature=3.0))
    assert not wants_teacher(natural)
    refuse_without_teacher(natural)
    with pytest.raises(UserError, match="learns from the dense network and cannot train it"):
        refuse_without_teacher(distillation)


def test_a_teacher_does_not_train_and_is_in_eval_mode() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    teacher, student = Teacher(net), nn.Linear(4, 3)
    x = torch.rand(5, 4)
    before = [value.clone() for value in net.state_dict().values()]
    distillation(student, x, torch.zeros(5), progress=0.0, teacher=teacher).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert student.weight.grad is not None


@pytest.mark.slow
def test_distillation_shares_the_dense_network_of_trades(job: Any, tmp_path: Path) -> None:
    plain = job(*TINY, "ratio=0.5", "pruner=magnitude")
    taught = job(*TINY, "ratio=0.5", "pruner=magnitude", "objective=distillation")
    assert plain["row"]["made"] == 5
    assert (taught["row"]["made"], taught["row"]["found"]) == (3, 2)  # dense, and its evaluation
    networks = [path.read_bytes() for path in (tmp_path / "stages").glob("finetuned/*/model.*")]
    assert len(set(networks)) == 2
