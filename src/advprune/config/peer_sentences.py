"""Answer words of other projects for which there is no option here, in a sentence with ours."""

_SMALL = "to see quickly that every stage runs, write debug=smoke"
_RESUME = (
    "a command that was killed goes on when it is given again; weights to start from are "
    "dense=FILE of prune.py, weights to attack checkpoint=FILE of attack.py"
)
_STAGES = (
    "prune.py trains, prunes, fine-tunes and attacks, and makes only what is not in the store; "
    "train.py stops after the dense network, attack.py trains nothing that is there"
)
_PLACES = (
    "results go to store=FOLDER, a job's own files to hydra.run.dir=FOLDER, and images come from "
    "dataset.root=FOLDER"
)
#: What is said of a word, or of all words that begin with it and a dot.
SENTENCES = {
    # lightning-hydra-template, and Lightning's Trainer
    "ckpt_path": _RESUME,
    "resume": _RESUME,
    "trainer.resume_from_checkpoint": _RESUME,
    "callbacks": "every epoch is checkpointed and select.keep=best or last says which one is kept; "
    "progress is shown without being asked for, and nothing stops early",
    "train": _STAGES,
    "test": _STAGES,
    "task_name": "a job is named by its own words; tags=[WORD] adds words to find it by",
    "hparams_search": "a search is -m hydra/sweeper=optuna",
    "optimized_metric": "-m hydra/sweeper=optuna searches for the best accuracy on validation "
    "images",
    "paths": _PLACES,
    "extras": "the options are printed by --cfg job, and tags=[WORD] is an option of its own",
    "trainer.fast_dev_run": _SMALL,
    "trainer.limit_train_batches": _SMALL,
    "trainer.limit_val_batches": "select.images=N validates on fewer images; " + _SMALL,
    "trainer.limit_test_batches": "attack.images=N attacks a fixed part of the test images",
    "trainer.overfit_batches": "dataset.train_images=N trains on fewer images; " + _SMALL,
    "trainer.max_steps": "training lasts training.epochs",
    "trainer.min_epochs": "training lasts exactly training.epochs",
    "trainer.strategy": "several devices are trainer=ddp trainer.devices=N",
    "trainer.deterministic": "results are the same bit for bit on a processor, always",
    "trainer.accumulate_grad_batches": "training.batch_size is the whole batch, and trainer=ddp "
    "deals it out to devices",
    "trainer.check_val_every_n_epoch": "every epoch is validated; select.images=N makes it cheaper",
    "trainer.enable_progress_bar": "a terminal has one line of progress, a log one line an epoch",
    "trainer.default_root_dir": _PLACES,
    "trainer.logger": "loggers are a group: logger=csv, tensorboard, wandb, or [csv,wandb]",
    # RobustBench and auto-attack
    "model_name": "a network is model=NAME, and its weights are checkpoint=FILE of attack.py",
    "model_dir": "weights are checkpoint=FILE of attack.py",
    "individual": "each part is recorded image by image, in records.parquet",
    "log_path": _PLACES,
    "state_path": _RESUME,
    # Torch-Pruning
    "global_pruning": "one ratio over all layers is pruner.scope=global",
    "ignored_layers": "pruner.classifier=false leaves the last linear layer out",
    # the Adversarial Pruning Benchmark, and the code of HYDRA
    "structure": "filters are pruner=filters or hydra_filters, single weights any other pruner",
    "exp_mode": _STAGES,
    "k": "there k is the share that is kept; here ratio is the share removed: k=0.01 is ratio=0.99",
    "is_semisup": "extra training images are dataset.extra=FILE.npz",
    "val_method": "what attacks is attack=pgd, autoattack or another",
    "configs": "a preset is experiment=NAME",
}


def sentence_on(name: str) -> str | None:
    """Return the sentence about a word of another project; None if there is none."""
    while name:
        if name in SENTENCES:
            return SENTENCES[name]
        name = name.rpartition(".")[0]
    return None
