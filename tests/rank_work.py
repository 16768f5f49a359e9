"""What the tests of several ranks run in each of them, and, for comparison, in one process."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from processes import task
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.datasets.base import ImageData
from advprune.datasets.images import Split
from advprune.distributed import collectives, environment
from advprune.distributed.environment import Trainer
from advprune.logits import kl
from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.recipe import Perturb, Perturbed, Recipe
from advprune.modules.training import RobustTraining
from advprune.objectives.free import Free
from advprune.objectives.mixtrain import mixtrain
from advprune.objectives.trades import trades
from advprune.pruners import hydra
from advprune.stages.training_phase import RunContext, fit
from advprune.threat import L2, Linf
from advprune.tracking.logger import Logger

BALL = Linf(0.1)
AWP = Perturb(Perturbed.weights, gamma=0.05, warmup_epochs=1)


class Noise(ImageData):
    """Random images of two classes: 23 train (an odd last batch of 7), 9 validate."""

    def __init__(self, *, other: bool = False, **options: Any) -> None:
        super().__init__(name="noise", batch_size=8, validation=9 / 32, seed=3, **options)
        self.other = other

    def load(self) -> tuple[Split, Split]:
        drawn = torch.Generator().manual_seed(5 + self.other)
        images = torch.randint(256, (40, 1, 6, 6), generator=drawn, dtype=torch.uint8)
        labels = torch.arange(40) % 2
        return Split(images[:32], labels[:32]), Split(images[32:], labels[32:])


class Precise(nn.Module):
    """A network in float64 with both kinds of BatchNorm; float32 pixels go in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 6, bias=False),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Linear(6, 2),
        ).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())


def join(size: int) -> None:
    environment.join_ranks(Trainer(accelerator="cpu", devices=size))


def where(size: int, folder: Path, mode: str) -> RunContext:
    trainer = Trainer(accelerator="cpu", devices=size, batch_norm=mode)  # type: ignore[arg-type]
    return RunContext(trainer, Logger(), folder, stage="dense")


def inner(net: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Steps along the gradient and not its sign, so that rounding stays rounding."""
    return pgd(
        net,
        x,
        target,
        threat=L2(0.5),
        steps=2,
        rel_step=0.5,
        loss=kl,
        start="gaussian",
        start_noise=0.05,
    )


def bound(model: nn.Module, x: Tensor, y: Tensor, *, scale: float) -> Tensor:
    """Stands in for margins, which are never of batch statistics: what counts is which images are asked for."""
    model.eval()
    margins = model(x) * (1 + scale)
    model.train()
    return margins


OBJECTIVES: dict[str, Any] = {
    "trades": lambda: partial(trades, attack=inner, beta=2.0),
    "free": lambda: Free(threat=BALL, replays=2),
    "mixtrain": lambda: partial(mixtrain, bound=bound, images=3, clock=2, ramp=0, weight=0.5),
}


def trained(
    size: int,
    folder: Path,
    objective: str,
    mode: str,
    epochs: int = 2,
    perturb: Perturb = Perturb(),  # noqa: B008 - frozen
) -> dict[str, Tensor]:
    """Train for some epochs, going on from what is in the folder; the network's and the objective's state."""
    place, goal = where(size, folder, mode), OBJECTIVES[objective]()
    recipe = Recipe(epochs=epochs, learning_rate=0.05, batch_size=8, clip=1.0, perturb=perturb)
    module = RobustTraining(
        Precise(), goal, recipe, attack=partial(pgd, threat=BALL, steps=2), seed=7
    )
    data = Noise(repeats=getattr(goal, "replays", 1))
    environment.settle(place.trainer, 6)
    fit(place, module, data, folder / "work", epochs=epochs, callbacks=[])
    return dict(module.state_dict()) | {
        "validated": torch.tensor(list(module.validated().values()))
    }


def searched(size: int, folder: Path) -> dict[str, Tensor]:
    """Search masks; the masks, and the scores."""
    net = Precise()
    process = hydra.Hydra(net, task(net, 0.5))
    phase = Recipe(epochs=2, learning_rate=0.1, batch_size=8)
    module = PrunerTraining(
        net, OBJECTIVES["trades"](), phase, attack=None, seed=7, process=process
    )
    place = where(size, folder, "synchronised")
    fit(place, module, Noise(), folder / "work", epochs=2, callbacks=[])
    masks = module.finish()
    return {**masks, **{f"scores.{name}": s for name, s in process.scores().items()}}


def all_of_it(size: int, folder: Path) -> dict[str, Any]:
    """Everything that the tests look at, in one start of the ranks."""
    join(size)
    found: dict[str, Any] = {"words": words(size), "masks": searched(size, folder / "search")}
    for objective in OBJECTIVES:
        found[objective] = trained(size, folder / objective, objective, "synchronised")
    found["awp"] = trained(size, folder / "awp", "trades", "synchronised", perturb=AWP)
    for mode in ("local", "rank0"):
        found[mode] = trained(size, folder / mode, "trades", mode)
    collectives.leave()
    return found


def words(size: int) -> dict[str, Any]:
    """What ranks say to each other."""
    me = collectives.rank()
    mask = {"a": torch.arange(11) % (me + 2) == 0, "b": torch.full((2, 3), me == 0)}
    found: dict[str, Any] = {
        "said": collectives.broadcast_object(f"by {me}"),
        "everyones": collectives.all_gather_object(me),
        "total": collectives.all_reduce_sum(torch.tensor([1.0, me])),
        "averaged": collectives.averaged({"s": torch.tensor([float(me)])})["s"],
        "handed_out": collectives.broadcast_masks(mask),
    }
    with collectives.without_communication():
        found["apart"] = (
            collectives.size(),
            collectives.all_gather_object(me),
            collectives.is_rank_zero(),
        )
    for name, call in {
        "disagree": lambda: collectives.agree("code", me == 1, "install it"),
        "data": lambda: collectives.check_same_work(Noise(other=me == size - 1)),
    }.items():
        try:
            call()
        except Exception as error:  # noqa: BLE001 - its text is the result
            found[name] = str(error)
    return found


def alone(folder: Path) -> dict[str, Any]:
    """The same in one process."""
    found: dict[str, Any] = {"masks": searched(1, folder / "search")}
    for objective in OBJECTIVES:
        found[objective] = trained(1, folder / objective, objective, "synchronised")
    found["awp"] = trained(1, folder / "awp", "trades", "synchronised", perturb=AWP)
    return found


def uneven_sum(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """BatchNorm over rows dealt out unevenly: the rank's outputs, and gradient and running variance."""
    from advprune.distributed.sharding import Shard
    from advprune.modules.batch_norm import synchronised

    join(size)
    x, norm = (
        torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double(),
        nn.BatchNorm2d(3).double(),
    )
    mine = x[Shard(collectives.rank(), size).of(5)].requires_grad_()
    with synchronised(norm):
        y = norm(mine)
        (y**3).sum().backward()
    assert mine.grad is not None and norm.running_var is not None  # noqa: PT018
    found = y.detach(), mine.grad, norm.running_var
    collectives.leave()
    return found


def dies(size: int, how: str, folder: str) -> str:
    """Rank 1 ends badly while the others wait for it; a file tells when."""
    import os
    import signal

    from advprune.errors import UserError

    join(size)
    if collectives.rank() == 1:
        (Path(folder) / "died").touch()
        if how == "sentence":
            raise UserError("the loss is nan; lower the learning rate")
        if how == "defect":
            raise ZeroDivisionError("somewhere deep")
        os.kill(os.getpid(), signal.SIGKILL)
    collectives.all_gather_object(None)
    return "never"


def processed(size: int, folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """Train with each process that a YAML names; masks and weights."""
    from test_process_conformance import made

    if size > 1:
        join(size)
    place, found = where(size, folder, "synchronised"), {}
    for name in names:
        net = Precise()
        phase = Recipe(epochs=6, learning_rate=0.05, batch_size=8)
        module = PrunerTraining(
            net,
            OBJECTIVES["trades"](),
            phase,
            attack=partial(pgd, threat=BALL, steps=2),
            seed=7,
            process=made(name, net, 0.5),
            batches=[(torch.rand(8, 1, 6, 6), torch.arange(8) % 2)],
        )
        fit(place, module, Noise(), folder / name, epochs=6, callbacks=[])
        with collectives.without_communication():
            masks = module.finish()
        found[name] = masks | {f"weights.{n}": w.detach() for n, w in net.named_parameters()}
    if size > 1:
        collectives.leave()
    return found
