"""Training under an objective, validated under attack: the dense network, and the fine-tuning of a pruned one."""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.modules import optim
from advprune.modules.recipe import Recipe
from advprune.modules.seeding import seed_step
from advprune.surgery.subnet import Subnet

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


class RobustTraining(pl.LightningModule):
    """Minimise ``objective`` over the parameters that train; after each epoch, measure the validation images.

    Args:
        net: pixels (N, C, H, W) in [0, 1] -> logits (N, K); a ``Subnet`` when it is pruned.
        objective: ``(model, x, y, *, progress) -> loss``.
        recipe: how long and with which optimizer.
        attack: what validation accuracy is measured under; None measures clean accuracy alone.
        seed: of the run; each step has a seed of its own made from it.
        start: share of the schedule that is skipped (rewinding continues a schedule where it left).
    """

    def __init__(
        self,
        net: nn.Module,
        objective: Callable[..., Tensor],
        recipe: Recipe,
        *,
        attack: Attack | None,
        seed: int,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        self.net, self.objective, self.recipe = net, objective, recipe
        self.attack, self.run_seed, self.start = attack, seed, start
        self._seen: list[Tensor] = []

    @property
    def progress(self) -> float:
        """Where in the whole schedule the next step is, in [0, 1)."""
        done = self.global_step / max(int(self.trainer.estimated_stepping_batches), 1)
        return min(self.start + (1 - self.start) * done, math.nextafter(1.0, 0.0))

    def on_fit_start(self) -> None:
        """Train in training mode: a loaded network comes in eval mode, and Lightning leaves each module as it is."""
        self.train()

    def before_step(self) -> None:
        """What changes between optimizer steps only: a pruned network masks its weights once for all forwards."""
        if isinstance(self.net, Subnet):
            self.net.refresh()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One step of the objective.

        Raises:
            UserError: if the loss is not finite.
        """
        seed_step(self.run_seed, "train", self.global_step)
        self.before_step()
        x, y = batch
        loss = self.objective(self.net, x, y, progress=self.progress)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} in epoch {self.current_epoch + 1}, step {self.global_step + 1}; "
                "lower the learning rate, add training.warmup_epochs=5 or training.clip=1"
            )
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's counts."""
        self._seen = []

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Count the images right on x, and right on x_adv."""
        seed_step(self.run_seed, "validate", index)
        if index == 0 and isinstance(self.net, Subnet):
            self.net.refresh()
        x, y = batch
        clean = self.net(x).argmax(1) == y
        robust = clean
        if self.attack is not None:
            robust = clean & (self.net(self.attack(self.net, x, y)).argmax(1) == y)
        self._seen.append(torch.stack([torch.full_like(y.sum(), len(y)), clean.sum(), robust.sum()]))

    def validated(self) -> dict[str, float]:
        """Clean and robust accuracy over the validation images of the epoch that was just measured."""
        count, clean, robust = torch.stack(self._seen).sum(0).tolist()
        return {"clean_acc": clean / count, "robust_acc": robust / count, "images": count}

    def on_validation_epoch_end(self) -> None:
        """Log them, under names that curves and sweepers use."""
        measured = self.validated()
        self.log("val/clean_acc", measured["clean_acc"], prog_bar=True)
        self.log("val/robust_acc", measured["robust_acc"], prog_bar=True)

    def trained(self) -> list[nn.Parameter]:
        """The parameters this phase optimises."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, its learning rate set before each step."""
        made = optim.optimizer(self.recipe, self.trained())
        whole = int(self.trainer.estimated_stepping_batches)
        epochs = int(self.trainer.max_epochs or 1)
        per_epoch = max(math.ceil(whole / epochs), 1)
        skipped = round(whole * self.start / (1 - self.start))
        at = optim.factor(self.recipe, steps_per_epoch=per_epoch, epochs=epochs + round(skipped / per_epoch))
        schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda step: at(step + skipped))
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
