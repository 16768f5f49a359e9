"""Train a network, dense or pruned, under an objective, and validate it under attack."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.distributed import collectives
from advprune.distributed.sharding import WHOLE, Shard, of_batch, seed_step
from advprune.logits import is_right
from advprune.modules import batch_norm, optim
from advprune.modules.perturb import Perturbation, targets_of
from advprune.modules.recipe import Recipe
from advprune.modules.remembered_attack import Objective
from advprune.modules.stopping import NonFiniteGuard, check_weights
from advprune.runtime.speed import Precision, autocast, warn_of_emulation
from advprune.surgery.subnet import Subnet

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def _unpack_batch(batch: tuple[Any, ...]) -> tuple[Tensor, Tensor, int, Shard]:
    """Return (x, y, rows of the whole batch, this rank's shard of them)."""
    x, y, *whole = batch
    return (
        (x, y, int(whole[0]), Shard(collectives.rank(), collectives.size()))
        if whole
        else (x, y, len(y), WHOLE)
    )


class RobustTraining(pl.LightningModule):
    """Minimise ``objective`` over the parameters that train; validate after each epoch.

    Args:
        net: pixels (N, C, H, W) in [0, 1] -> logits (N, K); a ``Subnet`` when it is pruned.
        objective: ``(model, x, y, *, progress) -> loss``.
        recipe: how long and with which optimizer.
        attack: what validation accuracy is measured under; None measures clean accuracy alone.
        seed: of the run; each step has a seed of its own made from it.
        start: share of the schedule that is skipped (rewinding continues a schedule where it left).

    On several ranks a batch is (x, y, rows of the whole batch), where x and y are this rank's rows;
    a step is then the one that a single process would take, as far as BatchNorm allows
    (``batch_norm``, see ``modules/batch_norm.py``).
    """

    batch_norm = "synchronised"
    precision: Precision = "fp32"  # of a step's forward passes; measuring is in fp32 always

    def __init__(
        self,
        net: nn.Module,
        objective: Objective,
        recipe: Recipe,
        *,
        attack: Attack | None,
        seed: int,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        self.net, self.objective, self.recipe = net, objective, recipe
        self.attack, self.run_seed, self.start = attack, seed, start
        self._finite = NonFiniteGuard()
        self._perturbation: Perturbation | None = None  # of the step under way
        self._counts: list[Tensor] = []
        self._validated: dict[str, float] = {}
        self.validated_loss = math.nan  # mean cross-entropy on attacked validation images

    @property
    def progress(self) -> float:
        """Return where in the whole schedule the next step is, in [0, 1)."""
        done = self.global_step / max(int(self.trainer.estimated_stepping_batches), 1)
        return min(self.start + (1 - self.start) * done, math.nextafter(1.0, 0.0))

    def on_fit_start(self) -> None:
        """Switch to training mode: a loaded network is in eval mode, and Lightning leaves it so."""
        self.train()
        warn_of_emulation(self.precision, self.device)

    def before_step(self) -> None:
        """Update what changes only between optimizer steps."""
        self.refresh()

    def refresh(self) -> None:
        """Compute what the forward passes of a step share: a pruned network's masked weights."""
        if isinstance(self.net, Subnet):
            self.net.refresh()

    def training_step(self, batch: tuple[Any, ...], _: int) -> Tensor:
        """Take one step of the objective, and return its loss.

        Raises:
            UserError: if a loss was not finite, on every rank; on an accelerator some steps later,
                see ``stopping.py``.
        """
        seed_step(self.run_seed, "train", self.global_step)
        if self.batch_norm == "rank0":
            self._agree_on_batch_norm()
        self.before_step()
        loss, share = self._loss(batch), _unpack_batch(batch)[-1]
        mean_loss = collectives.all_reduce_sum(loss.detach()) / share.ranks
        self._finite.watch(mean_loss, epoch=self.current_epoch + 1, step=self.global_step + 1)
        self.log("loss", mean_loss, prog_bar=True)
        return loss

    def _loss(self, batch: tuple[Any, ...]) -> Tensor:
        """Return the objective's loss with a graph, at perturbed tensors if the recipe says so."""
        evaluate, perturb = partial(self._evaluate, batch), self.recipe.perturb
        if perturb.what is None or self.current_epoch < perturb.warmup_epochs:
            return evaluate(self.objective)
        targets = targets_of(self.net, perturb.what)
        self._perturbation = Perturbation(perturb.gamma)
        return self._perturbation.loss(evaluate, self.objective, self.net, targets, self.refresh)

    def _evaluate(self, batch: tuple[Any, ...], objective: Objective) -> Tensor:
        """Return an objective's loss, so weighted that the ranks' mean gradient is the batch's."""
        x, y, whole, share = _unpack_batch(batch)
        with of_batch(share, whole):
            loss = objective(autocast(self.net, self.precision), x, y, progress=self.progress)
        # the ranks' gradients are averaged, and their parts may differ by a row
        return loss if share.whole else loss * share.weight(whole)

    def on_after_backward(self) -> None:
        """Put back what was perturbed: the optimizer steps from the tensors themselves."""
        if self._perturbation is not None:
            self._perturbation.restore()

    def on_train_epoch_end(self) -> None:
        """Merge what ranks keep apart during an epoch, and compare what must be the same."""
        self._finite.check()
        check_weights(self.net.state_dict(), epoch=self.current_epoch + 1)
        self._agree_on_batch_norm()
        if hasattr(self.objective, "gather"):
            self.objective.gather()
        if collectives.size() > 1:
            cure = (
                "some operation on one of them is not deterministic; the same command goes on "
                "from the last epoch"
            )
            collectives.agree(
                f"weights after epoch {self.current_epoch + 1}",
                collectives.checksum(self.net.parameters()),
                cure,
            )

    def _agree_on_batch_norm(self) -> None:
        """Give all ranks the same running statistics."""
        if collectives.size() > 1:
            batch_norm.agree(self.net, self.batch_norm)

    def on_save_checkpoint(self, checkpoint: Mapping[str, object]) -> None:
        """Refuse to save weights that a bad loss has spoilt."""
        self._finite.check()

    def on_validation_start(self) -> None:
        """Make all ranks measure one network."""
        self._agree_on_batch_norm()

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's counts."""
        self._counts = []

    def validation_step(self, batch: tuple[Any, ...], index: int) -> None:
        """Count the images right on x, and right on x_adv."""
        seed_step(self.run_seed, "validate", index)
        if index == 0 and isinstance(self.net, Subnet):
            self.net.refresh()
        x, y, whole, share = _unpack_batch(batch)
        # none of a borrowed row
        counted = torch.arange(len(y), device=y.device) < share.count(whole)
        logits = self.net(x)
        clean = is_right(logits, y) & counted
        robust = clean
        if self.attack is not None:
            with of_batch(share, whole):
                x_adv = self.attack(self.net, x, y)
            logits = self.net(x_adv)
            robust = clean & is_right(logits, y)
        loss = F.cross_entropy(logits, y, reduction="none")[counted].sum()
        sums = torch.stack([counted.sum(), clean.sum(), robust.sum()]).double()
        self._counts.append(torch.cat([sums, loss.detach().double()[None]]))

    def validated(self) -> dict[str, float]:
        """Return clean and robust accuracy over the validation images of the epoch just measured.

        The first call of an epoch counts over all ranks, so all of them have to make it.
        """
        if self._counts:
            count, clean, robust, loss = collectives.all_reduce_sum(
                torch.stack(self._counts).sum(0)
            ).tolist()
            self._validated = {
                "clean_acc": clean / count,
                "robust_acc": robust / count,
                "images": int(count),
            }
            self.validated_loss = loss / count
            self._counts = []
        return self._validated

    def on_validation_epoch_end(self) -> None:
        """Log both accuracies under the names that curves and sweepers use."""
        measured = self.validated()
        self.log("val/clean_acc", measured["clean_acc"], prog_bar=True)
        self.log("val/robust_acc", measured["robust_acc"], prog_bar=True)

    def may_be_best(self) -> bool:
        """Return whether this epoch's network may be kept as the best."""
        return True

    def trained(self) -> list[nn.Parameter] | list[dict[str, Any]]:
        """Return the parameters that this phase optimises, or groups of them."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def schedule_step(self, step: int, steps: int, epochs: int) -> int:
        """Return which step of the learning-rate schedule a step of the phase has: the same.

        Args:
            step: of the optimizer, from 0.
            steps: of the whole phase.
            epochs: of the whole phase.
        """
        return step

    def configure_optimizers(self) -> Any:
        """Return the recipe's optimizer, its learning rate set before each step."""
        optimizer = optim.optimizer(
            self.recipe, self.trained(), fused=self.device.type == "cuda" or None
        )
        whole = int(self.trainer.estimated_stepping_batches)
        epochs = int(self.trainer.max_epochs or 1)
        per_epoch = max(math.ceil(whole / epochs), 1)
        skipped = round(whole * self.start / (1 - self.start))
        at = optim.factor(
            self.recipe, steps_per_epoch=per_epoch, epochs=epochs + round(skipped / per_epoch)
        )

        def rate(step: int) -> float:
            return at(self.schedule_step(step, whole, epochs) + skipped)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
