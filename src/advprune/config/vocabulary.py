"""Know the groups of ``conf/`` and their members, and find the right word near a wrong one."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

#: Files that the members of a group start from, and that are no members.
PARTIAL = {("attack", "frame"), ("pruner", "base")}
#: What other projects call our groups and options.
PEERS = {
    "arch": "model",
    "architecture": "model",
    "net": "model",
    "network": "model",
    "backbone": "model",
    "data": "dataset",
    "datamodule": "dataset",
    "loss": "objective",
    "method": "pruner",
    "prune_method": "pruner",
    "adversary": "attack",
    "norm": "threat",
    "quantize": "quantizer",
    "preset": "experiment",
    "lr": "training.learning_rate",
    "learning_rate": "training.learning_rate",
    "optim.lr": "training.learning_rate",
    "epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "max_epochs": "training.epochs",
    "trainer.max_epochs": "training.epochs",
    "trainer.epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "bs": "training.batch_size",
    "wd": "training.weight_decay",
    "optim": "training.optimizer",
    "scheduler": "training.schedule",
    "lr_scheduler": "training.schedule",
    "trainer.gradient_clip_val": "training.clip",
    "trainer.gpus": "trainer.devices",
    "gpus": "trainer.devices",
    "trainer.num_nodes": "trainer.nodes",
    "device": "trainer.accelerator",
    "num_workers": "dataset.workers",
    "workers": "dataset.workers",
    "eps": "threat.eps",
    "epsilon": "threat.eps",
    "attack.epsilon": "attack.eps",
    "ckpt": "checkpoint",
    "ckpt_path": "checkpoint",
    "weights": "checkpoint",
    "resume": "checkpoint",
    "pretrained": "dense",
    "source_net": "dense",
    "sparsity": "ratio",
    "prune_ratio": "ratio",
    "pruning_ratio": "ratio",
    "prune_rate": "ratio",
    "amount": "ratio",
    "num_steps": "attack.steps",
    "iterations": "attack.steps",
    "attack.iterations": "attack.steps",
    "attack.num_steps": "attack.steps",
    "n_iter": "attack.steps",
    "data_dir": "dataset.root",
    "data_path": "dataset.root",
    "out": "store",
    "output": "store",
    "output_dir": "store",
    "save_dir": "store",
    "log_dir": "store",
    "n_seeds": "seed",
    "random_seed": "seed",
    "manual_seed": "seed",
}
#: What others call the members of our groups.
MEMBERS = {
    "attack": {
        "aa": "autoattack",
        "auto": "autoattack",
        "apgd": "autoattack",
        "ifgsm": "pgd",
        "bim": "pgd",
    },
    "model": {
        "wideresnet": "wrn_28_10",
        "wrn": "wrn_28_10",
        "wide_resnet": "wrn_28_10",
        "cnn": "small_cnn",
    },
    "objective": {
        "standard": "natural",
        "clean": "natural",
        "adversarial": "pgd",
        "at": "pgd",
        "madry": "pgd",
    },
    "pruner": {"l1": "magnitude", "weight": "magnitude", "lwm": "magnitude", "dense": "magnitude"},
    "threat": {"inf": "linf", "l_inf": "linf", "l_2": "l2"},
    "logger": {"tb": "tensorboard", "none": "csv"},
}


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is probably meant, by its letters or its beginning; else None."""
    known = list(candidates)
    plain = {name.lower().replace("-", "_"): name for name in known}
    plain_word = word.lower().replace("-", "_")
    for close in difflib.get_close_matches(plain_word, plain, n=1, cutoff=0.6):
        return plain[close]
    if len(plain_word) < 2:
        return None
    for name, candidate in plain.items():
        if name.startswith(plain_word) or plain_word.startswith(name):
            return candidate
    return next(
        (
            candidate
            for name, candidate in plain.items()
            if name[0] == plain_word[0] and _in_order(plain_word, name)
        ),
        None,
    )


def _in_order(letters: str, word: str) -> bool:
    rest = iter(word)
    return all(letter in rest for letter in letters)


@dataclass(frozen=True)
class Vocabulary:
    """Know the groups and members in some folders of configuration.

    Attributes:
        folders: ``conf/``, and what ``--config-dir`` adds.
        command: ``train``, ``prune`` or ``attack``.
    """

    folders: tuple[Path, ...]
    command: str

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Return each group's members, without ``hydra``'s, to which other packages may add."""
        groups: dict[str, set[str]] = {}
        for folder in self.folders:
            for path in folder.rglob("*.yaml"):
                group = path.parent.relative_to(folder).as_posix()
                if (
                    group != "."
                    and not group.startswith("hydra")
                    and (group, path.stem) not in PARTIAL
                ):
                    groups.setdefault(group, set()).add(path.stem)
        return {group: sorted(members) for group, members in sorted(groups.items())}

    @property
    def usable_groups(self) -> dict[str, list[str]]:
        """Return the groups that this command has: train.py prunes nothing."""
        pruning = "pruner" if self.command == "train" else "-"
        return {
            group: members
            for group, members in self.groups.items()
            if group.split("/")[0] != pruning
        }

    def wrong_member(self, group: str, member: str) -> str | None:
        """Return a sentence if a group has no such member, else None."""
        members = self.groups.get(group)
        if members is None or member in members or member == "null":
            return None
        if member.endswith(".yaml") and member.removesuffix(".yaml") in members:
            return (
                f"{group}={member} is not known: write {group}={member.removesuffix('.yaml')}, "
                "without .yaml"
            )
        meant = MEMBERS.get(group, {}).get(member.lower()) or nearest(member, members)
        hint = f"did you mean {group}={meant}? " if meant else ""
        return f"{group}={member} is not known: {hint}{_sample(group, members)}"


def _sample(group: str, members: list[str]) -> str:
    if len(members) > 24:
        return f"conf/{group}/ has {len(members)} of them, and --help names all"
    return f"{group} is one of {', '.join(members)}"
