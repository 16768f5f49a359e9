"""A logit that is not finite is never right and never robust: under every attack, certifier and set of conf/attack."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from advprune.attacks.autoattack import autoattack
from advprune.attacks.per_image_rng import worst
from advprune.attacks.pgd import pgd
from advprune.attacks.square import square
from advprune.attacks.worst_of import worst_of
from advprune.bounds.smoothing import certify_smoothing
from advprune.config import schema
from advprune.config.validate import method_of
from advprune.logits import NO_CLASS, is_right, lead, predict
from advprune.modules.adversarial_images import evaluation_warnings
from advprune.modules.evaluation import RobustEvaluation
from advprune.modules.recipe import Recipe
from advprune.modules.training import RobustTraining
from advprune.report.data.evaluation_summary import sanity_warnings, summary
from advprune.threat import L2, Linf

CONF = Path(__file__).parents[1] / "conf"
NAMES = sorted(path.stem for path in (CONF / "attack").glob("*.yaml") if path.stem != "frame")
#: Makes an expensive one small; what is not named here runs as its YAML says.
SMALL = {
    "certify_smoothing": ["attack.n0=8", "attack.n=64"],
    "corruptions": ["attack.severities=[1]"],
    "published_corruptions": ["attack.severities=[1]"],
    "autoattack": ["attack.engine=fast", "attack.version=custom", "attack.attacks=[apgd-ce,fab-t]"],
    "square": ["attack.n_queries=100"],
    "fmn": ["attack.steps=10"],
    "ddn": ["attack.steps=20"],
    "worst_of": ["attack.attacks.square.n_queries=100"],
}
#: One that has no L-infinity.
NORMS = {"ddn": L2}
#: Some reach bright first pixels from dark ones: their sets are wider than the ball.
FARTHER = (
    "certify_smoothing",
    "corruptions",
    "published_corruptions",
    "rotation",
    "semantic_negative",
    "translation",
)


def evaluated(
    name: str, net: nn.Module, x: torch.Tensor, y: torch.Tensor, folder: Path
) -> dict[str, list]:
    """The records of these images under an attack as a run has it."""
    words = [
        f"+attack={name}",
        f"+threat={NORMS.get(name, Linf).norm}",
        "+dataset.eps.linf=0.1",
        "+dataset.eps.l2=0.1",
        "+seed=0",
        *SMALL.get(name, []),
    ]
    if name == "published_corruptions":
        np.save(folder / "labels.npy", np.tile(y.numpy(), 5))
        config = OmegaConf.load(CONF / "attack" / f"{name}.yaml")
        assert config.names is None  # the fifteen
        for kind in ("fog", "snow"):
            images = (x.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
            np.save(folder / f"{kind}.npy", np.tile(images, (5, 1, 1, 1)))
        words += [f"attack.root={folder}", "attack.names=[fog,snow]"]
    schema.register()  # the resolver of the audit's default
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = OmegaConf.to_container(compose(None, overrides=words), resolve=True)["attack"]
    attack = method_of("attack", node).build()
    threat = None if node.get("perturbation") else NORMS.get(name, Linf)(0.1)
    module = RobustEvaluation(net.eval(), attack, name=name, threat=threat, parts=folder, seed=0)
    module.test_step((x, y, torch.arange(len(x))), 0)
    return module.records()


def linear(classes: int = 4) -> nn.Sequential:
    """Four classes of which the first is nearly always seen: the others' logits are far below."""
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, classes), nn.ReLU(), nn.Linear(classes, classes)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in (net[1], net[3]):
            layer.weight.mul_(0.01)
        net[3].bias.copy_(torch.tensor([5.0, *[0.0] * (classes - 1)]))
    return net


def images(count: int = 6) -> torch.Tensor:
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    return (x * 255).round() / 255


def flags(columns: dict[str, list]) -> dict[str, list[bool]]:
    """All columns that say right, robust, certified, or withstood."""
    return {
        name: c
        for name, c in columns.items()
        if name.endswith("_ok") or name.startswith(("ok.", "robust_ok."))
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", [torch.nan, torch.inf])
def test_a_network_without_finite_logits_is_never_right_nor_robust(
    name: str, what: float, tmp_path: Path
) -> None:
    net, x = linear(), images(3)
    with torch.no_grad():
        net[3].bias[0] = what  # argmax takes NaN, and infinity, for the largest: class 0
    y = torch.zeros(3, dtype=torch.int64)
    assert (net(x).argmax(1) == y).all()
    columns = evaluated(name, net, x, y, tmp_path)
    said = flags(columns)
    assert {"clean_ok"} < said.keys()
    assert not any(flag for column in said.values() for flag in column)
    assert columns["clean_pred"] == [NO_CLASS] * 3
    told = summary(columns)
    assert (told["not_finite"], told["clean_acc"]) == (3, 0)
    assert sanity_warnings(told, lets_through=lambda: True)[0].startswith(
        "3 of 3 images have logits that are not finite"
    )


class Overflowing(nn.Sequential):
    """Right logits, but infinite in float32, and only there, for images whose first pixel is bright."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 4))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self[1].weight[0, 0], self[1].bias[0] = 1e20, -0.7e20
            self[3].weight[0, 0], self[3].bias[0] = 1e20, 5.0


@pytest.mark.parametrize("name", NAMES)
def test_some_images_without_finite_logits_leave_the_others_as_they_are(
    name: str, tmp_path: Path
) -> None:
    x, y = images(6), torch.zeros(6, dtype=torch.int64)
    x[:, 0, 0, 0] = 51 / 255
    x[3:, 0, 0, 0] = 1.0
    net = Overflowing()
    columns = evaluated(name, net, x, y, tmp_path)
    assert columns["clean_ok"] == [True] * 3 + [False] * 3
    final = columns["robust_ok" if "robust_ok" in columns else "certified_ok"]
    assert not any(final[3:])
    assert all(final[:3]) or name in FARTHER
    assert sanity_warnings(summary(columns), lets_through=lambda: True)


class Pit(nn.Module):
    """Class 0, whatever the image; no number where the first pixel is off 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        off = (x[:, 0, 0, 0] - 0.5).abs() > 1e-4
        return torch.where(off[:, None], torch.nan, self.net(x))


ATTACKS = {
    "pgd": partial(pgd, steps=3),
    "pgd twice": partial(pgd, steps=3, restarts=2),
    "square": partial(square, n_queries=50),
    "worst_of": lambda net, x, y, *, threat: worst_of(
        net, x, y, attacks={"pgd": partial(pgd, threat=threat, steps=2)}
    ),
    "package": partial(autoattack, version="custom", attacks=["apgd-ce", "square"]),
    "fast": partial(autoattack, version="custom", attacks=["apgd-ce", "square"], engine="fast"),
}


@pytest.mark.parametrize("ball", [Linf(0.1), L2(1.0)], ids=lambda ball: ball.norm)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_point_without_finite_logits_inside_the_ball_is_found_and_is_an_image(
    name: str, ball: Linf | L2
) -> None:
    net, x, y = Pit().eval(), images(4), torch.zeros(4, dtype=torch.int64)
    x[:, 0, 0, 0] = 0.5
    assert is_right(net(x), y).all()
    torch.manual_seed(0)
    x_adv = ATTACKS[name](net, x, y, threat=ball)
    assert not is_right(net(x_adv), y).any()
    assert x_adv.isfinite().all()
    assert (ball.distance(x_adv, x) <= ball.eps + 1e-5).all()


def test_the_worst_of_some_draws_is_the_one_without_finite_logits() -> None:
    net, x, y = Pit().eval(), images(2), torch.zeros(2, dtype=torch.int64)
    x[:, 0, 0, 0] = 0.5
    pit = x.clone()
    pit[:, 0, 0, 0] = 0.9
    for order in ([x, pit], [pit, x]):
        assert torch.equal(worst(net, order, y), pit)


def test_samples_without_a_class_certify_nothing() -> None:
    net, x = Pit().eval(), images(2)
    x[:, 0, 0, 0] = 0.5
    proof = certify_smoothing(
        net,
        x,
        torch.zeros(2, dtype=torch.int64),
        threat=L2(0.1),
        positions=torch.arange(2),
        sigma=0.25,
        n0=10,
        n=200,
    )
    assert not proof.certified.any()
    assert proof.abstained.all()


def test_validation_counts_them_wrong() -> None:
    net, y = Pit().eval(), torch.zeros(4, dtype=torch.int64)
    x = images(4)
    x[:, 0, 0, 0] = torch.tensor([0.5, 0.5, 0.9, 0.5])
    torch.manual_seed(0)
    steps = partial(pgd, threat=Linf(0.1), steps=2)
    module = RobustTraining(net, partial(pgd), Recipe(epochs=1), attack=steps, seed=0)
    module.validation_step((x, y), 0)
    assert module.validated() == {"clean_acc": 0.75, "robust_acc": 0.0, "images": 4}


def test_the_primitive_by_hand() -> None:
    nan, inf = torch.nan, torch.inf
    logits = torch.tensor([[1.0, 2], [nan, 2], [inf, 2], [1, -inf], [2, 1]])
    y = torch.tensor([1, 0, 0, 0, 1])
    assert predict(logits).tolist() == [1, NO_CLASS, NO_CLASS, NO_CLASS, 0]
    assert is_right(logits, y).tolist() == [True, False, False, False, False]
    assert lead(logits, y).tolist() == [-1, inf, inf, inf, 1]


def test_no_numbers_are_not_taken_for_random_ones() -> None:
    net = linear()
    with torch.no_grad():
        net[3].bias[0] = torch.nan
    assert not any(
        "random" in doubt
        for doubt in evaluation_warnings(net, images(), torch.zeros(6, dtype=torch.int64))
    )
