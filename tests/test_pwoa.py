"""PwoA's losses: distillation's limits, and facts about the normalised HSIC."""

import pytest
import torch
from networks import CONF, network
from omegaconf import OmegaConf
from torch import nn

from advprune.config.groups import Objective, typed
from advprune.errors import UserError
from advprune.objectives.hsic import gaussian, nhsic, of_labels, stage_outputs
from advprune.objectives.pwoa import pwoa


def distilled(z: torch.Tensor, t: torch.Tensor, temperature: float) -> torch.Tensor:
    """The loss of a student with logits ``z`` and a teacher with ``t``, without a bottleneck."""
    model = nn.Identity()
    return pwoa(
        model,
        z,
        torch.zeros(len(z), dtype=torch.long),
        progress=0.0,
        teacher=lambda x: t,
        temperature=temperature,
        image_weight=0.0,
        label_weight=0.0,
    )


def test_a_hot_distillation_is_the_squared_distance_of_centred_logits() -> None:
    z, t = torch.randn(50, 10, dtype=torch.float64), torch.randn(50, 10, dtype=torch.float64)
    gap = (z - z.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    limit = (gap.square().sum(1) / 20).mean()
    assert distilled(z, t, 1e4) == pytest.approx(float(limit), rel=1e-3)
    assert distilled(z, t, 30.0) == pytest.approx(float(limit), rel=0.05)


def test_a_student_like_its_teacher_has_no_loss_and_no_slope() -> None:
    z = torch.randn(5, 10).requires_grad_()
    loss = distilled(z, z.detach().clone(), 30.0)
    (slope,) = torch.autograd.grad(loss, z)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert slope.abs().max() < 1e-5


def test_what_is_constant_depends_on_nothing() -> None:
    labels = of_labels(torch.arange(30) % 10, 10)
    assert float(nhsic(gaussian(torch.ones(30, 4)), labels)) == pytest.approx(0, abs=1e-6)


def test_labels_and_themselves() -> None:
    """C - 1 for balanced classes, but for eps."""
    labels = of_labels(torch.arange(30) % 10, 10).double()
    assert float(nhsic(labels, labels)) == pytest.approx(8.9982, abs=1e-4)


def test_nhsic_is_symmetric_and_does_not_see_the_order() -> None:
    x, z = torch.randn(20, 3, 4, 4).double(), torch.randn(20, 7).double()
    a, b = gaussian(x), gaussian(z)
    order = torch.randperm(20)
    value = float(nhsic(a, b))
    assert float(nhsic(b, a)) == pytest.approx(value)
    assert float(nhsic(gaussian(x[order]), gaussian(z[order]))) == pytest.approx(value)


def test_the_gaussian_kernel_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    kernel = gaussian(x)
    assert kernel[0, 0] == 1
    assert float(kernel[0, 1]) == pytest.approx(torch.exp(torch.tensor(-25 / (2 * 25 * 2))).item())


def test_the_last_map_of_each_resolution() -> None:
    net = network("resnet20", depth=8, width=4)
    with stage_outputs(net) as maps:
        net(torch.rand(2, 3, 32, 32))
    assert [tuple(m.shape[1:]) for s, m in maps.items() if s != (1, 1)] == [
        (4, 32, 32),
        (8, 16, 16),
        (16, 8, 8),
    ]
    with stage_outputs(net) as again:
        pass
    assert not again


def test_a_bottleneck_that_is_climbed_tells_the_labels_apart() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    x, y = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
    optimizer, values = torch.optim.Adam(net.parameters(), lr=0.02), []
    for _ in range(30):
        loss = pwoa(
            net,
            x,
            y,
            progress=0.0,
            teacher=lambda x: torch.zeros(len(x), 2),
            alpha=0.0,
            image_weight=0.0,
            label_weight=1.0,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0] - 0.1


def test_a_temperature_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="pwoa: temperature=0 is not possible"):
        distilled(torch.randn(2, 3), torch.randn(2, 3), 0.0)


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(UserError, match="the teacher tells 4 classes apart and the network 3"):
        distilled(torch.randn(2, 3), torch.randn(2, 4), 1.0)


def test_no_image_is_attacked_while_it_prunes_and_recovers() -> None:
    objective = typed(
        Objective, OmegaConf.to_container(OmegaConf.load(CONF / "objective/pwoa.yaml"))
    )
    for phase, weight in (("search", 0.0), ("finetune", 1e-4)):
        chosen = objective.in_phase(phase)
        assert "attack" not in chosen.node
        assert chosen.method.name == "pwoa"
        assert chosen.node["label_weight"] == weight
