"""Faults to make on purpose: one place of the source each, and the tests that must notice."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """Text that stands once in a file, what replaces it, and the tests that know better."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _of(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, f"src/advprune/{file}", old, new, tuple(f"tests/{test}" for test in tests))


JUDGING = (
    _of(
        "judge: room of 1 around the ball",
        "modules/adversarial_images.py",
        "SLACK = 1e-5",
        "SLACK = 1.0",
        "test_guards.py",
    ),
    _of(
        "judge: stale statistics are not doubted",
        "modules/adversarial_images.py",
        "if any(_never_set(module) for module in net.modules()):",
        "if False:",
        "test_guards.py",
    ),
    _of(
        "evaluation: robust though wrong on x",
        "modules/evaluation.py",
        '"robust_ok": clean_ok & (after == y)',
        '"robust_ok": after == y',
        "test_guards.py",
    ),
    _of(
        "prediction: logits that are not finite are right",
        "logits.py",
        "logits.isfinite().all(1)",
        "logits.isfinite().any(1) | True",
        "test_not_finite.py",
    ),
    _of(
        "seed_step: every step alike",
        "distributed/sharding.py",
        "mixed_seed(seed, purpose, index)",
        "mixed_seed(seed, purpose)",
        "test_guards.py",
    ),
    _of(
        "frozen: the mode does not come back",
        "frozen.py",
        "module.training = mode",
        "pass",
        "test_threat.py",
    ),
)
DATA = (
    _of(
        "loader: every epoch alike",
        "datasets/loader.py",
        "mixed_seed(self.seed, self.epoch)",
        "mixed_seed(self.seed, 0)",
        "test_dataset_loaders.py",
        "test_datasets.py",
    ),
    _of(
        "hold_out: validation images train, too",
        "datasets/images.py",
        "np.flatnonzero(~held)",
        "np.flatnonzero(held | ~held)",
        "test_datasets.py",
    ),
    _of(
        "select.images is not looked at",
        "config/groups.py",
        "val_images=val_images",
        "val_images=None",
        "test_guards.py",
    ),
    _of(
        "augment: the whole batch moves alike",
        "datasets/images.py",
        "(count, 2), generator=generator)",
        "(1, 2), generator=generator).expand(count, 2)",
        "test_dataset_loaders.py",
        "test_datasets.py",
    ),
)
ATTACKS = (
    _of(
        "linf: twice the radius",
        "threat.py",
        "delta.clamp(-self.eps, self.eps)",
        "delta.clamp(-2 * self.eps, 2 * self.eps)",
        "test_threat.py",
    ),
    _of(
        "l2: always on the sphere",
        "threat.py",
        "length.clamp_min(self.eps)",
        "length",
        "test_threat.py",
    ),
    _of(
        "l2: the direction is longer than 1",
        "threat.py",
        "return scaled / torch.where(length > 0, length, 1)",
        "return scaled",
        "test_threat.py",
    ),
    _of(
        "pgd: a later restart always wins",
        "attacks/pgd.py",
        "fooled[left] | (value > worst[left])",
        "value > -torch.inf",
        "test_attacks.py",
    ),
    _of(
        "pgd: one step too few",
        "attacks/pgd.py",
        "in range(steps)",
        "in range(steps - 1)",
        "test_attacks.py",
    ),
    _of(
        "pgd: its step does not follow the number of steps",
        "attacks/pgd.py",
        "REACH / steps",
        "0.05",
        "test_attacks.py",
    ),
    _of(
        "apgd: the step is never halved",
        "attacks/fast/apgd.py",
        'step=state["step"] / 2',
        'step=state["step"]',
        "test_fast_autoattack.py",
    ),
    _of(
        "apgd: no momentum",
        "attacks/fast/apgd.py",
        "MOMENTUM = 0.75",
        "MOMENTUM = 1.0",
        "test_fast_autoattack.py",
    ),
    _of(
        "fast engine: a fallen image stands up",
        "attacks/fast/results.py",
        "self.still_right[fallen] = False",
        "self.still_right[fallen] = True",
        "test_fast_autoattack.py",
    ),
)
LOSSES = (
    _of(
        "kl: the other way round",
        "logits.py",
        "(probs * (log_probs - F.log_softmax(logits, dim=1)))",
        "(F.softmax(logits, 1) * (F.log_softmax(logits, dim=1) - log_probs))",
        "test_threat.py",
        "test_objectives.py",
    ),
    _of(
        "trades: the natural side is cut off",
        "objectives/trades.py",
        "logits.softmax(1)).mean()",
        "logits.softmax(1).detach()).mean()",
        "test_objectives.py",
    ),
    _of(
        "mart: the confident weigh more",
        "objectives/mart.py",
        "= 1 - probs.gather",
        "= probs.gather",
        "test_objectives.py",
    ),
)
PRUNING = (
    _of(
        "keep_count: in binary floats",
        "masks.py",
        "round((1 - decimal(ratio)) * n)",
        "int((1 - ratio) * n)",
        "test_masks.py",
    ),
    _of(
        "top_k: the last of equals",
        "masks.py",
        "ties[-surplus:]",
        "ties[:surplus]",
        "test_masks.py",
    ),
    _of(
        "a pruned weight may live",
        "masks.py",
        "        if alive:\n",
        "        if alive > 1:\n",
        "test_masks.py",
    ),
    _of(
        "global: a layer may be emptied",
        "pruners/layouts/ranked.py",
        "part.new_ones(1)",
        "part.new_zeros(1)",
        "test_scopes.py",
    ),
    _of(
        "igq: quotas are rounded down",
        "pruners/layouts/igq.py",
        "(2 * size + whole) // (2 * whole)",
        "size // whole",
        "test_scopes.py",
    ),
    _of(
        "N:M: of equal scores the later channel's stays",
        "pruners/layouts/n_of_m.py",
        "members[first] >= members[second]",
        "members[first] > members[second]",
        "test_scopes.py",
    ),
    _of(
        "exponential: one round behind",
        "pruners/schedule.py",
        "(1 - ratio) ** (i / rounds)",
        "(1 - ratio) ** ((i - 1) / rounds)",
        "test_pruners.py",
    ),
    _of(
        "rounds: the last forgets the earlier",
        "pruners/rounds.py",
        "int(self.made)], self.masks())",
        "int(self.made)], {})",
        "test_guards.py",
    ),
    _of(
        "rewinding starts the schedule at 0",
        "stages/finetuned.py",
        "early_weights(stage, folder)))\n        start = _rewound(training)\n",
        "early_weights(stage, folder)))\n        start = 0.0\n",
        "test_guards.py",
    ),
    _of(
        "finetuned: masks are not checked",
        "stages/finetuned.py",
        "    mask_values.check(net, masks)\n",
        "",
        "test_guards.py",
    ),
    _of("a wrong count passes", "pruners/masking.py", "> len(names)", "> total", "test_guards.py"),
    _of(
        "hydra: scores at another scale",
        "pruners/learned_scores.py",
        "math.sqrt(6 / fan_in)",
        "math.sqrt(3 / fan_in)",
        "test_hydra_facts.py",
    ),
    _of(
        "hydra: a pruned weight's score never learns",
        "pruners/learned_scores.py",
        "ctx.save_for_backward(weight, scores)",
        "ctx.save_for_backward(weight * mask, scores)",
        "test_hydra_facts.py",
    ),
    _of(
        "subnet: an export that is not pruned",
        "surgery/subnet.py",
        ".masked_fill_(~masks[name], 0)",
        "",
        "test_hydra_facts.py",
        "test_subnet.py",
    ),
    _of(
        "keep best: the first of equals",
        "modules/weights_io.py",
        ">= self.best[self.metric]",
        "> self.best[self.metric]",
        "test_guards.py",
    ),
    _of(
        "filters: their readers keep their inputs",
        "surgery/filters.py",
        'dim = 1 if follower.side == "in" else 0',
        "dim = 0",
        "test_surgery.py",
    ),
)
NUMBERS = (
    _of(
        "int8: cut off instead of rounded",
        "quantizers/fake_quant.py",
        "x.round() - x",
        "x.trunc() - x",
        "test_quantizers.py",
    ),
    _of(
        "int8: one step for all channels",
        "quantizers/fake_quant.py",
        "largest = weight.detach().flatten(1).abs().amax(1)",
        "largest = weight.detach().abs().amax().expand(len(weight))",
        "test_quantizers.py",
    ),
    _of(
        "smoothing: a radius of sigma alone",
        "bounds/binomial.py",
        "return sigma * NormalDist().inv_cdf(probability)",
        "return sigma * 1.0",
        "test_certify.py",
    ),
    _of(
        "ibp: bounds of the centre alone",
        "bounds/boxes.py",
        "return self.centre - self.radius",
        "return self.centre",
        "test_bounds.py",
    ),
    _of(
        "intervals: narrower than the images allow",
        "report/data/intervals.py",
        "middle - math.hypot(below, seeds)",
        "middle - seeds",
        "test_intervals.py",
    ),
    _of(
        "differences are not corrected for dependence",
        "report/data/significance.py",
        'method="by"',
        'method="bh"',
        "test_report.py",
    ),
)
STORE = (
    _of(
        "key: the parent does not count",
        "store/keys.py",
        '"parent": parent,',
        '"parent": None,',
        "test_keys.py",
    ),
    _of(
        "store: checksums are not compared",
        "store/checksums.py",
        "_checksum(path) != facts",
        "None is facts",
        "test_store_faults.py",
    ),
    _of(
        "store: a lock that excludes nobody",
        "store/lock.py",
        "FileLock(folder / LOCK)",
        'FileLock(folder / f"{LOCK}.{os.getpid()}")',
        "test_store.py",
    ),
)
MUTANTS = (*JUDGING, *DATA, *ATTACKS, *LOSSES, *PRUNING, *NUMBERS, *STORE)
