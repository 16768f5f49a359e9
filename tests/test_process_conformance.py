"""What holds for every process that a YAML in conf/pruner names: nothing is listed here.

Exact counts, resumed runs, one mask a step, nothing left under dead weights, the network given back.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import rank_work
import torch
from conftest import run_job
from hydra.utils import instantiate
from networks import merged_pruner
from omegaconf import OmegaConf
from processes import batches, convnet, fit, module_of, recipe, task
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from advprune.masks import keep_count
from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.training import RobustTraining
from advprune.pipeline.spawn import on_ranks
from advprune.pruners.bcs import Bcs
from advprune.pruners.process import Moment, Process
from advprune.pruners.tickets import Tickets

CONF = Path(__file__).resolve().parents[1] / "conf" / "pruner"
#: Rounds, and intervals between updates, that fit a phase of six epochs of three steps.
SHORT = {"every": 1.0, "every_late": 1.0}


def yamls() -> Iterator[str]:
    for path in sorted(CONF.glob("*.yaml")):
        node = merged_pruner(path.stem)
        if node.get("process") is not None and node.get("unit") is None:
            yield path.stem


#: Sizes under fixed signs, and rounds that begin anew, are no plain training at any ratio.
OWN_TRAINING = (Bcs, Tickets)


EVERY = pytest.mark.parametrize("name", list(yamls()))


def made(name: str, net: nn.Module, ratio: float = 0.8) -> Process:
    node = OmegaConf.create({"pruner": merged_pruner(name), "seed": 7})
    chosen = OmegaConf.to_container(node.pruner.process, resolve=True)
    chosen |= {option: value for option, value in SHORT.items() if chosen.get(option) is not None}
    return instantiate(chosen, _convert_="all")(
        net, task(net, ratio, scope=node.pruner.scope, through=node.pruner.get("through"))
    )


def module_for(name: str, net: nn.Module, ratio: float = 0.8) -> PrunerTraining:
    return module_of(made(name, net, ratio), net, recipe(learning_rate=0.1))


def everything(module: PrunerTraining) -> dict[str, Tensor]:
    """Weights, statistics, masks, and all that the process remembers."""
    return {name: value.clone() for name, value in module.state_dict().items()} | {
        f"mask of {name}": mask for name, mask in module.net.masks.items()
    }


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def revived(module: PrunerTraining) -> list[str]:
    """The weights of which the optimizer remembers something where the mask is zero."""
    optimizer, process = module.trainer.optimizers[0], module.process
    return [
        weight
        for weight, parameter in process.weights.items()
        # but for masks that are not in force: there, dead weights train
        if not process.effective(weight, parameter)[~process.mask(weight)].any()
        and any(
            value[~process.mask(weight)].any()
            for value in optimizer.state.get(parameter, {}).values()
            if isinstance(value, Tensor) and value.shape == parameter.shape
        )
    ]


@dataclass(frozen=True)
class Trained:
    """A finished training, and what was seen of it meanwhile."""

    net: nn.Module
    own: dict[str, nn.Parameter]
    module: PrunerTraining
    seen: dict[int, list[dict[str, Tensor]]]
    revived: list[str]
    masks: dict[str, Tensor]


@cache
def trained(name: str) -> Trained:
    """Train once for all tests that only look."""
    net = convnet()
    own, module = dict(net.named_parameters()), module_for(name, net)
    seen: dict[int, list[dict[str, Tensor]]] = {}

    def note(net: nn.Module, _: Any) -> None:
        if module.trainer.training:
            seen.setdefault(module.global_step, []).append(module.net.masks)

    hook = module.net.register_forward_pre_hook(note)
    fit(module)
    hook.remove()
    return Trained(net, own, module, seen, revived(module), module.eval().finish())


@EVERY
def test_n1_n7_the_count_is_exact_and_the_network_is_given_back(name: str) -> None:
    one = trained(name)
    net, own, module, masks = one.net, one.own, one.module, one.masks
    kept = sum(int(mask.sum()) for mask in masks.values())
    size = sum(mask.numel() for mask in masks.values())
    whole = merged_pruner(name).scope == "columns"  # each layer rounds, to whole columns of that
    rounding = sum(len(mask) for mask in masks.values()) if whole else len(masks)
    assert abs(kept - keep_count(size, 0.8)) <= rounding
    assert module.process.on_target()
    state, again = module.net.export()
    for weight, mask in masks.items():
        assert torch.equal(again[weight], mask)
        assert not state[weight][~mask].any()
    assert dict(net.named_parameters()).keys() == own.keys()
    assert all(net.get_parameter(n) is parameter for n, parameter in own.items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(parameter._backward_hooks for parameter in net.parameters())
    assert not any(part.training for part in net.modules())
    x = batches()[0][0]
    computed = module.net(x)
    net.load_state_dict(state)
    torch.testing.assert_close(net(x), computed, rtol=1e-5, atol=1e-5)


class Killed(Exception):  # noqa: N818 - it stands for a signal
    """Stands for a run that dies at the end of an epoch."""


class KillAfter(pl.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise Killed


@pytest.mark.slow
@EVERY
def test_n2_a_run_that_was_killed_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    whole = module_for(name, convnet())
    fit(whole)
    for epoch in (1, 4):
        folder = tmp_path / str(epoch)
        saved = ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True)
        with pytest.raises(Killed):
            fit(
                module_for(name, convnet()),
                callbacks=[saved, KillAfter(epoch)],
                enable_checkpointing=True,
            )
        again = module_for(name, convnet(seed=5))  # all of it has to come from the checkpoint
        again.process.start = lambda *_: pytest.fail("a run that goes on does not start")
        fit(again, ckpt_path=folder / "last.ckpt")
        assert not differing(everything(again), everything(whole))


@pytest.mark.slow
def test_n3_two_ranks_do_what_one_process_does(tmp_path: Path) -> None:
    names = tuple(yamls())
    alone = rank_work.processed(1, tmp_path / "alone", names)
    for found in on_ranks(2, rank_work.processed, 2, tmp_path / "ranks", names).values():
        for name in names:
            for tensor, value in alone[name].items():
                same = torch.allclose(found[name][tensor].double(), value.double(), atol=1e-9)
                assert same, f"{name}: {tensor}"


@EVERY
def test_n4_at_ratio_zero_everything_stays_and_training_is_plain(name: str) -> None:
    net, twin = convnet(), convnet()
    module = module_for(name, net, ratio=0.0)
    plain = not list(module.process.parameters()) and not isinstance(module.process, OWN_TRAINING)
    fit(module)
    masks = module.eval().finish()
    assert all(mask.all() for mask in masks.values())
    if not plain or module.process.penalty(Moment(0, 1, 0, 1)) is not None or module.process.done():
        return
    other = RobustTraining(
        twin, module.objective, module.recipe, attack=module.attack, seed=module.run_seed
    )
    fit(other)
    assert not differing(dict(net.state_dict()), dict(twin.state_dict()))


@EVERY
def test_n5_all_forward_passes_of_a_step_see_one_mask(name: str) -> None:
    seen = trained(name).seen
    assert len(seen) >= 18 or trained(name).module.process.done()
    for masks in seen.values():
        assert len(masks) >= 1
        assert all(not differing(masks[0], other) for other in masks[1:])


@EVERY
def test_n6_dead_weights_leave_nothing_in_the_optimizer(name: str) -> None:
    assert trained(name).revived == []


@EVERY
def test_n8_the_penalty_is_not_part_of_the_attack(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked: list[list[Tensor]] = []
    for strength in (0.0, 1e3):
        net = convnet()
        module = module_for(name, net)
        attacked.append([])
        inner = module.objective.keywords["attack"]

        def attack(model: nn.Module, x: Tensor, y: Tensor, inner=inner) -> Tensor:
            x_adv = inner(model, x, y)
            attacked[-1].append(x_adv)
            return x_adv

        module.objective = copy.copy(module.objective)
        module.objective = type(module.objective)(
            module.objective.func, **module.objective.keywords | {"attack": attack}
        )
        weight = next(p for g in module.groups for p in g.parameters)
        monkeypatch.setattr(
            module.process, "penalty", lambda _, s=strength, w=weight: s * w.abs().sum()
        )
        fit(module, epochs=2)
    assert torch.equal(attacked[0][0], attacked[1][0])


#: Measured on this network without normalisation, they do not: no weight trains; six epochs on
#: clean images, and 20 of the others' 50 robust ones.
NOT_HERE = ("rst", "robust_bird")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run a job on the digits; jobs share what they can."""
    folder = tmp_path_factory.mktemp("digits")
    common = ("ratio=0.9", "trainer=cpu", "attack.images=300")
    return lambda *words: run_job(folder, "prune", (*words, *common), folder / "stages")["row"]


def one_yaml_a_process() -> list[str]:
    """Variants of a process, such as the authors', are not trained once more: minutes each."""
    by_target: dict[str, str] = {}
    for name in sorted(yamls(), key=lambda name: (len(name), name)):
        by_target.setdefault(merged_pruner(name).process["_target_"], name)
    return sorted(by_target.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", one_yaml_a_process())
def test_n9_on_digits_it_beats_random_in_a_minute(name: str, digits: Any) -> None:
    if name in NOT_HERE:
        pytest.skip("it wants a network with normalisation, or more epochs than these")
    random = digits("pruner=random")
    row = digits(f"pruner={name}")
    assert row["robust_acc"] > random["robust_acc"]
    assert row["sparsity"] == pytest.approx(0.9, abs=0.002)
