"""List what other projects call our groups, options and members, and find the nearest word."""

import difflib
from collections.abc import Iterable

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
    "weights": "checkpoint",
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
    "seed_everything": "seed",
    "compile": "trainer.compile",
    "model.compile": "trainer.compile",
    "model.optimizer.lr": "training.learning_rate",
    "model.optimizer.weight_decay": "training.weight_decay",
    "model.optimizer": "training.optimizer",
    "model.scheduler": "training.schedule",
    "data.batch_size": "training.batch_size",
    "data.num_workers": "dataset.workers",
    "data.data_dir": "dataset.root",
    "threat_model": "threat",
    "n_examples": "attack.images",
    "n_ex": "attack.images",
    "attacks_to_run": "attack.attacks",
    "version": "attack.version",
    "iterative_steps": "pruner.rounds",
    "importance": "pruner",
    "ch_sparsity": "ratio",
    "round_to": "pruner.round_to",
    "ds": "dataset",
    "sparsity_rate": "ratio",
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
    "logger": {
        "tb": "tensorboard",
        "none": "csv",
        "many_loggers": "[csv,wandb]",
        "mlflow": "wandb",
        "neptune": "wandb",
        "comet": "wandb",
        "aim": "tensorboard",
    },
    "trainer": {"default": "auto", "ddp_sim": "ddp", "mps": "auto"},
}


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is probably meant, by its letters or its beginning; else None."""
    known = list(candidates)
    plain = {name.lower().replace("-", "_"): name for name in known}
    plain_word = word.lower().replace("-", "_")
    longer = [name for name in plain if name.startswith(plain_word)]
    if len(plain_word) > 2 and len(longer) == 1:  # mag is magnitude, though mad has its letters
        return plain[longer[0]]
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
