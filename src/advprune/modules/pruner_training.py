"""Drive a pruner that trains: call the hooks of its process, and train the rest as always."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from advprune.distributed import collectives
from advprune.distributed.sharding import seed_step
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.logits import is_right
from advprune.masks import Masks
from advprune.modules.recipe import Recipe
from advprune.modules.training import Attack, RobustTraining
from advprune.pruners.process import Batches, Moment, Process
from advprune.surgery.subnet import Subnet

NOTHING_VALIDATES = (
    "this pruner compares training with validation images, and there are none: hold some out, such "
    "as dataset.validation=0.1"
)


class ScoringBatches:
    """Yield training batches on a network's device, loaded only if somebody looks at them."""

    def __init__(self, datamodule: Any, net: nn.Module) -> None:
        self.datamodule, self.nets = datamodule, (net,)

    def __iter__(self) -> Any:
        self.datamodule.setup("fit")
        self.datamodule.to(next(self.nets[0].parameters()).device)
        return iter(self.datamodule.train_dataloader())

    def __deepcopy__(self, _: Any) -> "ScoringBatches":
        return self  # an average of the weights needs no images of its own


class PrunerTraining(RobustTraining):
    """Minimise an objective over what a process trains, with its masks.

    Args:
        net: the network that the phase starts from.
        objective: ``(model, x, y, *, progress) -> loss``.
        recipe: how long and with which optimizer.
        attack: of validation; None measures clean accuracy alone.
        seed: of the run.
        process: made for this network.
        batches: training batches (x, y), for criteria; loaded only if they are looked at.
        fixed: masks of weights that the process leaves alone; None: nothing of them is gone.
    """

    net: Subnet
    started: Tensor

    def __init__(
        self,
        net: nn.Module,
        objective: Callable[..., Tensor],
        recipe: Recipe,
        *,
        attack: Attack | None,
        seed: int,
        process: Process,
        batches: Batches = (),
        fixed: Masks | None = None,
    ) -> None:
        net.requires_grad_(True)
        groups = process.groups(net)
        leaves = {n: m for n, m in (fixed or {}).items() if n not in process.weights}
        subnet = Subnet(net, leaves, process=process)
        super().__init__(subnet, objective, recipe, attack=attack, seed=seed)
        self.groups, self.batches = groups, batches
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @property
    def process(self) -> Process:
        """Return the process, which is the network's part."""
        return cast(Process, self.net.process)

    @property
    def now(self) -> Moment:
        """Return where in the phase training is."""
        steps, epochs = int(self.trainer.estimated_stepping_batches), self.trainer.max_epochs or 1
        return Moment(self.global_step, steps, self.current_epoch, epochs)

    def on_fit_start(self) -> None:
        """Let the process choose its first masks, but for a run that goes on."""
        super().on_fit_start()
        self.process.check(self.trainer.max_epochs or 1, self.trainer.optimizers[0])
        if not self.started:
            seed_step(self.run_seed, "start", 0)
            # all ranks look at the same images; what differs by rounding is rank 0's
            with torch.no_grad(), collectives.without_communication():
                self.process.start(self.net.net, self.batches)
            self.process.set_masks(self.process.masks())
            self.started.fill_(True)
        self.trainer.should_stop = self.process.done()

    def before_step(self) -> None:
        """Let masks change."""
        with torch.no_grad():
            self.process.before_step(self.now)
        super().before_step()

    def refresh(self) -> None:
        """Let masks follow what is learned; then all forward passes share one set of weights."""
        with torch.no_grad():
            self.process.choose(self.now)
        super().refresh()

    def training_step(self, batch: tuple[Any, ...], index: int) -> Tensor:
        """Take one step of the objective, and return its loss and the penalty."""
        loss = super().training_step(batch, index)
        penalty = self.process.penalty(self.now)
        if penalty is None:
            return loss
        self.log("penalty", penalty.detach())
        return loss + penalty

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Show the process the gradients."""
        with torch.no_grad():
            self.process.after_backward(self.now)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Any = None,
    ) -> None:
        """Step, and let the process regrow, rewire or project before anything is saved."""
        now = self.now
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        with torch.no_grad():
            self.process.after_step(now, inner)

    def on_validation_epoch_start(self) -> None:
        """Let masks follow what is validated: the present weights, or their average."""
        super().on_validation_epoch_start()
        with torch.no_grad():
            self.process.choose(self.now)

    def on_train_epoch_end(self) -> None:
        """Tell the process what was measured; stop if it is done."""
        super().on_train_epoch_end()
        measured = self.validated() | {"loss": self.validated_loss}
        if self.process.measures_training:
            measured = measured | {"train_robust_acc": self._train_robust_acc()}
        with torch.no_grad():
            self.process.after_epoch(self.now, collectives.broadcast_object(measured))
        if self.process.done():
            self.trainer.should_stop = True

    def may_be_best(self) -> bool:
        """Return whether as many weights are kept as were asked for."""
        return self.process.on_target()

    def trained(self) -> list[dict[str, Any]]:
        """Return the groups of parameters that this phase optimises, with rate and decay."""
        return [
            {
                "params": group.parameters,
                "lr": self.recipe.learning_rate * group.learning_rate,
                "weight_decay": self.recipe.weight_decay * group.weight_decay,
            }
            for group in self.groups
        ]

    def schedule_step(self, step: int, steps: int, epochs: int) -> int:
        """Return where in the learning-rate schedule the process wants a step to be."""
        epoch = step // max(math.ceil(steps / epochs), 1)
        return self.process.schedule_step(Moment(step, steps, epoch, epochs))

    def finish(self) -> Masks:
        """Choose the final masks on the network as it is, and return those of all its weights."""
        net = self.net.net
        with torch.no_grad():
            self.process.finish(net)
        net.requires_grad_(True)
        return self.net.masks

    def _train_robust_acc(self) -> float:
        """Measure as many training images as there are of validation, the same on each rank."""
        if not self.validated():
            raise UserError(NOTHING_VALIDATES)
        wanted, seen, right = int(self.validated()["images"]), 0, 0
        with collectives.without_communication(), frozen(self.net):
            for index, (x, y, *_) in enumerate(self.batches):
                seed_step(self.run_seed, "train_robust_acc", index)
                x_adv = x if self.attack is None else self.attack(self.net, x, y)
                right += int(is_right(self.net(x_adv), y).sum())
                seen += len(y)
                if seen >= wanted:
                    break
        return right / max(seen, 1)
