"""AWP and S2AP: lengths, a plain loop, spies, and no difference at gamma 0, for every kind of objective."""

import copy
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from advprune.attacks.pgd import pgd
from advprune.bounds.interval import ibp as interval_bound
from advprune.distributed.sharding import seed_step
from advprune.errors import UserError
from advprune.logits import kl
from advprune.masks import prunable
from advprune.modules.perturb import perturbation, targets_of
from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.recipe import Perturb, Perturbed, Recipe
from advprune.modules.training import RobustTraining
from advprune.objectives.adversarial import adversarial
from advprune.objectives.free import Free
from advprune.objectives.ibp import ibp
from advprune.objectives.mart import mart
from advprune.objectives.natural import natural
from advprune.objectives.smoothing import smoothing
from advprune.objectives.trades import trades
from advprune.pruners import scopes
from advprune.pruners.hydra import Hydra
from advprune.pruners.task import Task
from advprune.surgery.subnet import Subnet
from advprune.threat import Linf

BALL = Linf(0.1)
AWP = Perturb(Perturbed.weights, warmup_epochs=0)
PGD = partial(pgd, threat=BALL, steps=2, rel_step=0.5)
TRADES = partial(trades, attack=partial(PGD, loss=kl, start="gaussian"))
OBJECTIVES: dict[str, Any] = {
    "natural": lambda: natural,
    "pgd": lambda: partial(adversarial, attack=PGD),
    "trades": lambda: TRADES,
    "mart": lambda: partial(mart, attack=PGD),
    "free": lambda: Free(threat=BALL),
    "ibp": lambda: partial(ibp, bound=partial(interval_bound, threat=BALL)),
    "stability": lambda: smoothing,
    "smoothadv": lambda: partial(smoothing, form="smoothadv", attack=PGD),
    "macer": lambda: partial(smoothing, form="macer", samples=2),
}


def network(*, dropout: float = 0.0, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        *([nn.BatchNorm2d(6)] if norm else []),
        nn.ReLU(),
        nn.Flatten(),
        *([nn.Dropout(dropout)] if dropout else []),
        nn.Linear(96, 4),
    )


def network_for(objective: str, dropout: float = 0.0) -> nn.Sequential:
    """Bounds take neither BatchNorm nor dropout while they train."""
    bounded = objective == "ibp"
    return network(norm=not bounded, dropout=0.0 if bounded else dropout)


def batches() -> list[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(5)
    return [
        (torch.rand(8, 1, 6, 6, generator=drawn), torch.randint(4, (8,), generator=drawn))
        for _ in range(3)
    ]


def recipe(perturb: Perturb, epochs: int = 2) -> Recipe:
    return Recipe(epochs=epochs, learning_rate=0.1, batch_size=8, perturb=perturb)


def fit(module: RobustTraining) -> dict[str, Tensor]:
    data = DataLoader(batches(), batch_size=None)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=module.recipe.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
    ).fit(module, data, data)
    return {name: value.clone() for name, value in module.state_dict().items()}


def trained(net: nn.Module, objective: Any, perturb: Perturb) -> dict[str, Tensor]:
    return fit(RobustTraining(net, objective, recipe(perturb), attack=None, seed=7))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_length_is_gamma_times_the_norm_and_the_direction_the_slope() -> None:
    weight, slope = torch.randn(5, 7), torch.randn(5, 7)
    moved = perturbation(weight, slope, 0.01)
    assert moved.norm() == pytest.approx(0.01 * weight.norm().item(), rel=1e-6)
    assert F.cosine_similarity(moved.flatten(), slope.flatten(), dim=0) == pytest.approx(1)
    assert not perturbation(weight, torch.zeros(5, 7), 0.01).any()


def test_what_a_mask_hides_is_not_moved_and_counts_in_no_norm() -> None:
    weight, slope, mask = torch.randn(5, 7), torch.randn(5, 7), torch.rand(5, 7) > 0.5
    moved = perturbation(weight, slope, 0.01, mask)
    assert not moved[~mask].any()
    assert moved.norm() == pytest.approx(0.01 * weight[mask].norm().item(), rel=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gamma_zero_is_plain_training_bit_for_bit(name: str) -> None:
    plain, zero = (
        trained(network_for(name, dropout=0.2), OBJECTIVES[name](), perturb)
        for perturb in (Perturb(), Perturb(Perturbed.weights, gamma=0.0, warmup_epochs=0))
    )
    assert same(plain, zero)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_objective_trains_otherwise_with_a_perturbation(name: str) -> None:
    plain, moved = (
        trained(network_for(name), OBJECTIVES[name](), perturb)
        for perturb in (Perturb(), Perturb(Perturbed.weights, gamma=0.05, warmup_epochs=0))
    )
    assert not torch.equal(plain["net.0.weight"], moved["net.0.weight"])
    assert all(torch.isfinite(value).all() for value in moved.values())


def test_a_step_is_the_plain_loop() -> None:
    """AWP written out: attack, climb, loss, back, step; BatchNorm's statistics at the climbed weights."""
    net, gamma = network(), 0.03
    expected = copy.deepcopy(net).train()
    found = trained(
        net, OBJECTIVES["pgd"](), Perturb(Perturbed.weights, gamma=gamma, warmup_epochs=1)
    )
    optimizer = torch.optim.SGD(expected.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    for step in range(6):
        seed_step(7, "train", step)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2
        x, y = batches()[step % 3]
        x_adv = PGD(expected, x, y)
        before = copy.deepcopy(expected.state_dict())
        if step >= 3:  # the second epoch
            loss = F.cross_entropy(expected(x_adv), y)
            weights = [p for p in expected.parameters() if p.dim() > 1]
            slopes = torch.autograd.grad(loss, weights)
            expected.load_state_dict(before)
            with torch.no_grad():
                for weight, slope in zip(weights, slopes, strict=True):
                    weight += gamma * weight.norm() * slope / slope.norm()
        optimizer.zero_grad()
        F.cross_entropy(expected(x_adv), y).backward()
        with torch.no_grad():
            for name, parameter in expected.named_parameters():
                parameter.copy_(before[name])
        optimizer.step()
    for name, value in expected.state_dict().items():
        assert torch.allclose(found[f"net.{name}"], value, rtol=1e-5, atol=1e-7), name


class Spy(RobustTraining):
    """Count forward passes in training mode, and look at the tensors at each moment of a step."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.forwards: list[dict[str, Tensor]] = []
        self.attacked, self.slopes, self.statistics = 0, 0, []
        self.net.register_forward_pre_hook(self._forward)

    def values(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.net.named_parameters()}

    def _forward(self, net: nn.Module, args: tuple[Tensor]) -> None:
        if net.training:
            self.forwards.append(self.values())
            self.batch_statistics = net

    def attacking(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self.attacked += 1
        return PGD(net, x, y)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.before, self.forwards = self.values(), []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        assert same(self.values(), self.before), "the tensors are back before the optimizer steps"


def spied(perturb: Perturb, net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Spy:
    real, backwards = torch.autograd.grad, []
    module = Spy(net, natural, recipe(perturb), attack=None, seed=7)
    module.objective = partial(adversarial, attack=module.attacking)

    def grad(*args: Any, **options: Any) -> Any:
        backwards.append(net.training)
        return real(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    fit(module)
    module.slopes = sum(backwards)  # those of an attack come in eval mode
    return module


def test_one_forward_and_one_backward_more_and_no_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, moved = (spied(perturb, network(), monkeypatch) for perturb in (Perturb(), AWP))
    assert (len(plain.forwards), len(moved.forwards)) == (1, 2)
    assert (plain.slopes, moved.slopes) == (0, 6)  # of six steps; Lightning's own come on top
    assert plain.attacked == moved.attacked == 6


@pytest.mark.parametrize(("perturb", "expected"), [(Perturb(), 5), (AWP, 7)])
def test_trades_predicts_once_for_its_attack(perturb: Perturb, expected: int) -> None:
    """A prediction, two attack steps and a loss of two forwards; AWP takes the loss once more."""
    net, calls = network(), []
    module = RobustTraining(net, TRADES, recipe(perturb, epochs=1), attack=None, seed=7)
    net.register_forward_pre_hook(lambda *_: calls.append(module.trainer.training))
    fit(module)
    assert sum(calls) == 3 * expected


def test_statistics_move_once_and_vectors_and_scalars_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = spied(Perturb(Perturbed.weights, gamma=0.1, warmup_epochs=0), network(), monkeypatch)
    assert int(moved.net[1].num_batches_tracked) == 6
    first, second = moved.forwards
    assert same(first, moved.before)
    for name, value in second.items():
        distance = (value - first[name]).norm()
        expected = 0.1 * first[name].norm() if value.dim() > 1 else torch.tensor(0.0)
        assert distance.item() == pytest.approx(expected.item(), rel=1e-5), name


def test_a_pruned_network_is_perturbed_where_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    masks = scopes.spend({n: w.detach().abs() for n, w in prunable(net).items()}, 0.5, scope="erk")
    moved = spied(
        Perturb(Perturbed.weights, gamma=0.1, warmup_epochs=0), Subnet(net, masks), monkeypatch
    )
    first, second = moved.forwards
    for name, mask in masks.items():
        change = second[f"net.{name}"] - first[f"net.{name}"]
        assert not change[~mask].any()
        length = 0.1 * first[f"net.{name}"][mask].norm()
        assert change.norm().item() == pytest.approx(length.item(), rel=1e-5)


def test_warm_up_is_plain_training() -> None:
    plain, late = (
        trained(network(), OBJECTIVES["pgd"](), perturb)
        for perturb in (Perturb(), Perturb(Perturbed.weights, gamma=0.5, warmup_epochs=2))
    )
    assert same(plain, late)


class Search(PrunerTraining):
    """Keep what each forward in training mode sees: scores and masks."""

    def watch(self) -> None:
        self.seen: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        self.net.register_forward_pre_hook(self._forward)

    def _forward(self, net: nn.Module, args: tuple[Tensor]) -> None:
        if net.training:
            self.seen.append((self.process.scores(), self.process.masks()))


def searched(perturb: Perturb, scope: Any = "global") -> Search:
    net = network()
    task = Task(0.8, partial(scopes.spend, scope=scope), tuple(prunable(net)), 7, (0.8,))
    objective = partial(adversarial, attack=PGD)
    module = Search(net, objective, recipe(perturb), attack=PGD, seed=7, process=Hydra(net, task))
    module.watch()
    fit(module)
    return module


def test_a_search_with_gamma_zero_is_the_search() -> None:
    plain, zero = searched(Perturb()), searched(Perturb(Perturbed.scores, 0.0, 0))
    assert same(dict(plain.state_dict()), dict(zero.state_dict()))


def test_masks_are_chosen_at_the_perturbed_scores() -> None:
    module = searched(Perturb(Perturbed.scores, 0.1, 0))
    assert len(module.seen) == 12
    for (scores, _), (moved, masks) in zip(module.seen[::2], module.seen[1::2], strict=True):
        for name, score in scores.items():
            length = (moved[name] - score).norm() / score.norm()
            assert length.item() == pytest.approx(0.1, rel=1e-5)
        chosen = module.process.task.masks({name: s.abs() for name, s in moved.items()})
        assert same(masks, chosen)
    assert any(
        not torch.equal(before[name], after[name])
        for (_, before), (_, after) in zip(module.seen[::2], module.seen[1::2], strict=True)
        for name in before
    )


def test_what_does_not_train_is_not_perturbed() -> None:
    with pytest.raises(UserError, match=r"perturb.what=scores finds no scores"):
        targets_of(network(), Perturbed.scores)
    with pytest.raises(UserError, match="finds no weights that train: a search leaves them"):
        searched(Perturb(Perturbed.weights, 0.1, 0))
