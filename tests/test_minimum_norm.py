"""FMN and DDN against closed forms; distances are judged again; the security curve from one run."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from torch import nn

from advprune.attacks.ddn import ddn
from advprune.attacks.fmn import fmn
from advprune.errors import UserError
from advprune.modules.minimum_distance import minimum_distance
from advprune.report.data.evaluation_summary import quartiles
from advprune.report.data.intervals import pool
from advprune.report.plots.data import PlotData
from advprune.report.plots.distances import _points, read_distances, security_curve
from advprune.threat import L2, Linf

#: A ball larger than every distance here.
WIDE = {"linf": Linf(1.0), "l2": L2(10.0)}
DUAL = {"linf": 1, "l2": 2}
ATTACKS = [(fmn, "linf"), (fmn, "l2"), (partial(ddn, steps=300), "l2")]


def linear(classes: int, *, seed: int) -> nn.Module:
    """A linear network of 9 pixels, whose nearest boundary has a closed form."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, classes)).requires_grad_(False)
    net[
        1
    ].weight *= 300  # the cross-entropy then follows the one class that leads, as the margin does
    net[1].bias -= net(torch.full((1, 1, 3, 3), 0.5))[0]  # grey is on every boundary
    return net


def closed_form(net: nn.Module, x: torch.Tensor, y: torch.Tensor, norm: str) -> torch.Tensor:
    """The least over wrong classes of margin / dual norm of the difference of their weights."""
    weight, logits = net[1].weight, net(x)
    lead = logits.gather(1, y[:, None]) - logits
    size = (weight[y][:, None] - weight[None]).norm(p=DUAL[norm], dim=2)
    return (lead / size).scatter(1, y[:, None], torch.inf).amin(1)


@pytest.mark.parametrize(
    ("attack", "norm", "classes"),
    # DDN follows the class that its first sphere meets, which need not be the nearest of several
    [(*case, 2) for case in ATTACKS] + [(*case, 5) for case in ATTACKS if case[0] is fmn],
)
def test_the_distance_to_a_linear_boundary_is_margin_over_dual_norm(attack, norm, classes) -> None:
    net = linear(classes, seed=1)
    x = 0.5 + 0.1 * torch.randn(16, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    y, nearest = net(x).argmax(1), []
    attack(net, x, y, threat=WIDE[norm], nearest=nearest)
    expected = closed_form(net, x, y, norm)
    assert expected.max() < 0.4  # no pixel reaches 0 or 1
    torch.testing.assert_close(
        minimum_distance(net, nearest, x, y, WIDE[norm]), expected, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(("attack", "norm"), ATTACKS)
def test_at_the_edge_of_the_pixels_only_the_free_ones_move(attack, norm) -> None:
    # the sum must fall to 0.4: the first pixel has 0.1 to give, and the second gives the rest
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).requires_grad_(False)
    net[1].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    net[1].bias.copy_(torch.tensor([-0.4, 0.0]))
    x, y, nearest = torch.tensor([0.1, 0.9]).view(1, 1, 1, 2), torch.tensor([0]), []
    attack(net, x, y, threat=WIDE[norm], nearest=nearest)
    expected = {"linf": 0.5, "l2": (0.1**2 + 0.5**2) ** 0.5}[norm]
    assert minimum_distance(net, nearest, x, y, WIDE[norm]).item() == pytest.approx(
        expected, abs=1e-3
    )
    assert 0 <= nearest[0].min() <= nearest[0].max() <= 1


def test_an_attack_is_not_believed() -> None:
    net, x = linear(3, seed=0), torch.full((3, 1, 3, 3), 0.5)
    y = net(x).argmax(1)
    target = (-10 * (net[1].weight[y[0]] - net[1].weight[(y[0] + 1) % 3])).view(1, 1, 3, 3)
    wrong, outside = (x[:1] + target).clamp(0, 1), x[:1] + target
    assert net(wrong).argmax(1) != y[0]
    claims = torch.cat([wrong, outside, x[:1]])  # holds; has left [0, 1]; is classified right
    distances = minimum_distance(net, [claims], x, y, Linf(0.1))
    assert distances.tolist() == [pytest.approx(0.5), np.inf, np.inf]


def test_a_network_without_a_gradient_leaves_every_image_at_infinity() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).requires_grad_(False)
    flat[1].weight.zero_()
    x, nearest = torch.rand(2, 1, 2, 2), []
    y = flat(x).argmax(1)
    for attack, threat in ((fmn, Linf(0.1)), (ddn, L2(1.0))):
        assert torch.equal(attack(flat, x, y, threat=threat, nearest=nearest, steps=3), x)
    assert minimum_distance(flat, nearest, x, y, Linf(0.1)).isinf().all()


def test_random_starts_belong_to_the_image() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    x = torch.rand(6, 1, 4, 4)
    y, run = net(x).argmax(1), partial(fmn, net, threat=Linf(0.02), steps=10)
    whole, part = [], []
    run(x, y, positions=torch.arange(6), nearest=whole)
    run(x[4:], y[4:], positions=torch.tensor([4, 5]), nearest=part)
    torch.testing.assert_close(whole[0][4:], part[0])


def test_ddn_has_one_norm() -> None:
    with pytest.raises(UserError, match=r"threat=l2, or attack=fmn"):
        ddn(linear(2, seed=0), torch.rand(1, 1, 3, 3), torch.tensor([0]), threat=Linf(0.1))


def test_autoattacks_points_are_of_the_same_seeds_and_images() -> None:
    row = {"network": "a", "norm": "linf", "images": 9, "runs": {0: "k"}, "robust_acc": 0.5}
    parts = dict.fromkeys(("apgd-ce", "apgd-t", "fab-t", "square"), 0.5)
    same = row | {"after_each": parts, "pruner": None}
    others = [same | {"images": 8}, same | {"runs": {0: "k", 1: "l"}}, same | {"network": "b"}]
    data = PlotData([same, *others, row | {"pruner": None}], [], {})
    assert _points(row, data) == [same]


@pytest.mark.slow
def test_the_curve_is_on_autoattacks_points_or_below(job) -> None:
    words = [word for word in TINY if not word.startswith("attack.")]
    few = "attack.images=48"
    fast = ["attack=autoattack", "attack.engine=fast", few]
    official = job(*words, *fast, command="train")["row"]
    found = job(*words, "attack=fmn", "attack.steps=40", few, command="train")["row"]
    assert official["robust_acc"] < official["clean_acc"]
    assert found["robust_acc"] <= official["robust_acc"] + 2 / 48


def test_quartiles_are_of_the_list_and_infinity_has_no_number() -> None:
    assert quartiles([4.0, 1.0, 3.0, 2.0]) == [1.0, 2.0, 3.0]
    assert quartiles([0.0, 0.5, float("inf"), float("inf")]) == [0.0, 0.5, None]
    rows = [
        {"seed": seed, "seconds": 1, "doubts": [], "distance_quartiles": q, "not_found": seed}
        for seed, q in enumerate(([0.1, 0.2, None], [0.3, 0.4, 0.5]))
    ]
    (pooled,) = pool(rows, lambda row: 0)
    assert pooled["distance_quartiles"] == [pytest.approx(0.2), pytest.approx(0.3), None]
    assert pooled["not_found"] == 1


def test_the_curve_counts_images_farther_than_a_radius() -> None:
    radii, shares = security_curve(np.array([0.0, 0.2, 0.1, 0.2, np.inf]))
    assert radii.tolist() == [0.0, 0.1, 0.2]
    assert shares.tolist() == pytest.approx([0.8, 0.6, 0.2])
    assert (np.diff(shares) <= 0).all()


def test_one_run_has_robust_accuracy_at_its_radius_and_every_other(job) -> None:
    words = ["attack=fmn", "attack.restarts=0"]
    row = job(*TINY, *words)["row"]
    records = pd.read_parquet(f"{row['files']['evaluated']}/records.parquet")
    assert (records.min_distance[~records.clean_ok] == 0).all()
    assert ((records.min_distance > row["eps"]) == records.robust_ok).all()
    radii, shares = security_curve(read_distances(f"{row['files']['evaluated']}/records.parquet"))
    assert shares[0] == pytest.approx(row["clean_acc"])
    assert shares[radii <= row["eps"]][-1] == pytest.approx(row["robust_acc"])
    assert row["distance_quartiles"] == quartiles(records.min_distance.tolist())
