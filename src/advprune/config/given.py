"""Compose a command's options for a network and images that a Python program gives.

Everything else is what the command line has: ``conf/`` composed from words, checked, typed.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from advprune.config import schema, validate
from advprune.config.groups import Dataset, Network, typed
from advprune.config.job_names import GROUPS
from advprune.config.options import Options, load
from advprune.config.overrides import choose_custom
from advprune.config.refusals import sentence
from advprune.errors import UserError
from advprune.runtime.installation import scripts


@dataclass(frozen=True)
class GivenNetwork(Network):
    """Hold a network that was given; what is built of it is always a copy.

    Attributes:
        net: the program's own, which stays as it is.
    """

    net: Any = field(default=None, compare=False, repr=False)

    def build(self, **extra: Any) -> Any:
        """Return a copy of the network, with the weights that it was given with."""
        return copy.deepcopy(self.net)


@dataclass(frozen=True, kw_only=True)
class GivenData(Dataset):
    """Hold images that were given.

    Attributes:
        train: batches that train and score.
        held: batches that choose the best epoch.
        attacked: images and labels; None if nothing is attacked.
    """

    train: Any = field(default=(), compare=False, repr=False)
    held: Any = field(default=(), compare=False, repr=False)
    attacked: Any = field(default=None, compare=False, repr=False)

    def build(
        self, *, seed: int, batch_size: int, val_images: int | None = None, repeats: int = 1
    ) -> Any:
        """Return the data module; order, augmentation and batches are the program's own.

        Args:
            seed: not looked at.
            batch_size: not looked at.
            val_images: not looked at: all validation batches are measured.
            repeats: how often each batch is trained on in one pass.
        """
        from advprune.datasets.given import GivenImages

        assert self.num_classes is not None
        return GivenImages(
            train=self.train,
            validation=self.held,
            test=self.attacked,
            num_classes=self.num_classes,
            image_size=self.image_size,
            repeats=repeats,
        )


def options_for(
    command: str,
    words: Sequence[str],
    *,
    net: Any,
    classes: int,
    shape: tuple[int, ...],
    **images: Any,
) -> Options:
    """Return the options of a command whose network and images are given.

    Args:
        command: ``prune`` or ``attack``.
        words: of the command, without the model's and the data set's.
        net: the network.
        classes: how many logits it has.
        shape: (C, H, W) of the images.
        **images: the fields of ``GivenData``.

    Raises:
        UserError: about the first word that cannot be meant so.
    """
    in_memory = [
        "dataset._target_=advprune.datasets.given.GivenImages",
        "dataset.name=given",
        f"dataset.num_classes={classes}",
        f"dataset.channels={shape[0]}",
        f"dataset.image_size={shape[1]}",
        "model._target_=advprune.config.given.GivenNetwork",
    ]
    options = load(_composed(command, [*choose_custom(in_memory), *words]))
    others = tuple(group for group in GROUPS if group not in ("dataset", "model"))
    validate.check_signatures(options.node, others)
    dataset = replace(typed(GivenData, options.dataset.node), **images)
    return replace(options, dataset=dataset, model=GivenNetwork(options.model.node, net))


def _composed(command: str, words: list[str]) -> DictConfig:
    """Compose ``conf/`` as the command does, also inside a program that uses Hydra itself."""
    schema.register()
    folder = scripts() / "conf"
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            return compose(command, words)
    except (HydraException, OmegaConfBaseException) as error:
        message = sentence(error, words, schema.Vocabulary((folder,), command))
        raise UserError(message or str(error)) from None
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)
