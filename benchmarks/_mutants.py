"""Faults to make on purpose: one place of the source each, and the tests that must notice.

A test is named by itself, and of those that notice it is the quickest: a fault takes seconds.
"""

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
        "test_guards.py::test_a_ball_ends_at_its_eps",
    ),
    _of(
        "judge: stale statistics are not doubted",
        "modules/adversarial_images.py",
        "if any(_never_set(module) for module in net.modules()):",
        "if False:",
        "test_guards.py::test_what_fools_attacks_is_doubted",
    ),
    _of(
        "evaluation: robust though wrong on x",
        "modules/evaluation.py",
        '"robust_ok": clean_ok & (after == y)',
        '"robust_ok": after == y',
        "test_guards.py::test_an_image_that_is_wrong_on_x_is_not_robust_though_it_is_right_on_x_adv",
    ),
    _of(
        "prediction: logits that are not finite are right",
        "logits.py",
        "logits.isfinite().all(1)",
        "logits.isfinite().any(1) | True",
        "test_not_finite.py::test_the_primitive_by_hand",
    ),
    _of(
        "seed_step: every step alike",
        "distributed/sharding.py",
        "mixed_seed(seed, purpose, index)",
        "mixed_seed(seed, purpose)",
        "test_guards.py::test_each_step_of_each_purpose_and_run_draws_its_own_numbers",
    ),
    _of(
        "frozen: the mode does not come back",
        "frozen.py",
        "module.training = mode",
        "pass",
        "test_threat.py::test_frozen_gives_back_each_mode_and_flag_also_after_an_error",
    ),
)
DATA = (
    _of(
        "loader: every epoch alike",
        "datasets/loader.py",
        "mixed_seed(self.seed, self.epoch)",
        "mixed_seed(self.seed, 0)",
        "test_dataset_loaders.py::test_each_epoch_is_a_permutation_and_depends_on_nothing_before_it",
    ),
    _of(
        "hold_out: validation images train, too",
        "datasets/images.py",
        "np.flatnonzero(~held)",
        "np.flatnonzero(held | ~held)",
        "test_datasets.py::test_train_validation_and_test_images_are_disjoint_and_complete",
    ),
    _of(
        "select.images is not looked at",
        "config/groups.py",
        "val_images=val_images",
        "val_images=None",
        "test_guards.py::test_no_more_images_validate_than_were_asked_for",
    ),
    _of(
        "augment: the whole batch moves alike",
        "datasets/images.py",
        "(count, 2), generator=generator)",
        "(1, 2), generator=generator).expand(count, 2)",
        "test_dataset_loaders.py::test_moves_cover_all_shifts_evenly_and_flip_every_second_image",
    ),
)
ATTACKS = (
    _of(
        "linf: twice the radius",
        "threat.py",
        "delta.clamp(-self.eps, self.eps)",
        "delta.clamp(-2 * self.eps, 2 * self.eps)",
        "test_threat.py::test_projection_closed_form",
    ),
    _of(
        "l2: always on the sphere",
        "threat.py",
        "length.clamp_min(self.eps)",
        "length",
        "test_threat.py::test_sample_and_project_stay_in_the_ball_and_in_the_pixels",
    ),
    _of(
        "l2: the direction is longer than 1",
        "threat.py",
        "return scaled / torch.where(length > 0, length, 1)",
        "return scaled",
        "test_threat.py::test_the_l2_direction_has_length_one_at_any_scale_of_the_gradient",
    ),
    _of(
        "pgd: a later restart always wins",
        "attacks/pgd.py",
        "fooled[left] | (value > worst[left])",
        "value > -torch.inf",
        "test_attacks.py::test_restarts_keep_the_worst_and_go_on_with_survivors_only",
    ),
    _of(
        "pgd: one step too few",
        "attacks/pgd.py",
        "in range(steps)",
        "in range(steps - 1)",
        "test_attacks.py::test_one_restart_costs_no_forward_beyond_its_steps",
    ),
    _of(
        "pgd: its step does not follow the number of steps",
        "attacks/pgd.py",
        "REACH / steps",
        "0.05",
        "test_attacks.py::test_any_number_of_steps_crosses_the_ball_by_default",
    ),
    _of(
        "apgd: the step is never halved",
        "attacks/fast/apgd.py",
        'step=state["step"] / 2',
        'step=state["step"]',
        "test_fast_autoattack.py::test_apgd_halves_its_step_at_the_papers_checkpoints",
    ),
    _of(
        "apgd: no momentum",
        "attacks/fast/apgd.py",
        "MOMENTUM = 0.75",
        "MOMENTUM = 1.0",
        "test_fast_autoattack.py::test_apgd_climbs_as_pyautoattack_does_step_for_step",
    ),
    _of(
        "fast engine: a fallen image stands up",
        "attacks/fast/results.py",
        "self.still_right[fallen] = False",
        "self.still_right[fallen] = True",
        "test_fast_autoattack.py::test_verdicts_are_those_of_pyautoattack[linf]",
    ),
)
LOSSES = (
    _of(
        "kl: the other way round",
        "logits.py",
        "(probs * (log_probs - F.log_softmax(logits, dim=1)))",
        "(F.softmax(logits, 1) * (F.log_softmax(logits, dim=1) - log_probs))",
        "test_threat.py::test_kl_of_t19_and_its_gradient_where_softmax_underflows",
    ),
    _of(
        "trades: the natural side is cut off",
        "objectives/trades.py",
        "logits.softmax(1)).mean()",
        "logits.softmax(1).detach()).mean()",
        "test_objectives.py::test_the_natural_side_of_the_divergence_is_not_cut_off",
    ),
    _of(
        "mart: the confident weigh more",
        "objectives/mart.py",
        "= 1 - probs.gather",
        "= probs.gather",
        "test_objectives.py::test_mart_is_the_formula_image_by_image",
    ),
)
PRUNING = (
    _of(
        "keep_count: in binary floats",
        "masks.py",
        "round((1 - decimal(ratio)) * n)",
        "int((1 - ratio) * n)",
        "test_masks.py::test_keep_count_is_that_of_the_decimal_a_person_wrote",
    ),
    _of(
        "top_k: the last of equals",
        "masks.py",
        "ties[-surplus:]",
        "ties[:surplus]",
        "test_masks.py::test_equal_scores_at_half_keep_the_first_half",
    ),
    _of(
        "a pruned weight may live",
        "masks.py",
        "        if alive:\n",
        "        if alive > 1:\n",
        "test_masks.py::test_check_names_the_tensor_with_a_living_pruned_weight",
    ),
    _of(
        "global: a layer may be emptied",
        "pruners/layouts/ranked.py",
        "part.new_ones(1)",
        "part.new_zeros(1)",
        "test_scopes.py::test_totals_are_exact_and_no_tensor_is_emptied",
    ),
    _of(
        "igq: quotas are rounded down",
        "pruners/layouts/igq.py",
        "(2 * size + whole) // (2 * whole)",
        "size // whole",
        "test_scopes.py::test_igq_of_two_sizes_in_closed_form",
    ),
    _of(
        "N:M: of equal scores the later channel's stays",
        "pruners/layouts/n_of_m.py",
        "members[first] >= members[second]",
        "members[first] > members[second]",
        "test_scopes.py::test_nm_keeps_the_largest_n_of_each_group",
    ),
    _of(
        "exponential: one round behind",
        "pruners/task.py",
        "(1 - ratio) ** (i / rounds)",
        "(1 - ratio) ** ((i - 1) / rounds)",
        "test_pruners.py::test_schedules_in_closed_form",
    ),
    _of(
        "rounds: the last forgets the earlier",
        "pruners/rounds.py",
        "int(self.made)], self.masks())",
        "int(self.made)], {})",
        "test_guards.py::test_the_last_round_prunes_within_the_rounds_before",
    ),
    _of(
        "rewinding starts the schedule at 0",
        "stages/finetuned.py",
        "early_weights(stage, folder))\n        start = _rewound(training)\n",
        "early_weights(stage, folder))\n        start = 0.0\n",
        "test_guards.py::test_rewinding_goes_back_to_a_tenth_of_training_and_of_its_schedule",
    ),
    _of(
        "finetuned: masks are not checked",
        "stages/finetuned.py",
        "    mask_values.check(net, masks)\n",
        "",
        "test_guards.py::test_a_finetuned_network_with_a_living_pruned_weight_is_refused",
    ),
    _of(
        "a wrong count passes",
        "pruners/masking.py",
        "> len(names)",
        "> total",
        "test_guards.py::test_a_count_that_is_off_by_more_than_rounding_is_a_defect",
    ),
    _of(
        "hydra: scores at another scale",
        "pruners/learned_scores.py",
        "math.sqrt(6 / fan_in)",
        "math.sqrt(3 / fan_in)",
        "test_hydra_facts.py::test_t2_scaled_scores",
    ),
    _of(
        "hydra: a pruned weight's score never learns",
        "pruners/learned_scores.py",
        "ctx.save_for_backward(weight, scores)",
        "ctx.save_for_backward(weight * mask, scores)",
        "test_hydra_facts.py::test_t5_every_score_has_a_gradient_also_of_a_pruned_weight",
    ),
    _of(
        "subnet: an export that is not pruned",
        "surgery/subnet.py",
        ".masked_fill_(~masks[name], 0)",
        "",
        "test_hydra_facts.py::test_t15_the_exported_network_equals_the_masked_one",
    ),
    _of(
        "keep best: the first of equals",
        "modules/weights_io.py",
        ">= self.best[self.metric]",
        "> self.best[self.metric]",
        "test_guards.py::test_of_equally_good_epochs_the_later_one_is_kept",
    ),
    _of(
        "filters: their readers keep their inputs",
        "surgery/filters.py",
        'dim = 1 if follower.side == "in" else 0',
        "dim = 0",
        "test_surgery.py::test_nothing_removed_is_bit_equal",
        "test_surgery.py::test_without_filters_equals_silenced",
    ),
)
NUMBERS = (
    _of(
        "int8: cut off instead of rounded",
        "quantizers/fake_quant.py",
        "x.round() - x",
        "x.trunc() - x",
        "test_quantizers.py::test_weights_are_symmetric_per_channel",
    ),
    _of(
        "int8: one step for all channels",
        "quantizers/fake_quant.py",
        "largest = weight.detach().flatten(1).abs().amax(1)",
        "largest = weight.detach().abs().amax().expand(len(weight))",
        "test_quantizers.py::test_weights_are_symmetric_per_channel",
    ),
    _of(
        "smoothing: a radius of sigma alone",
        "bounds/binomial.py",
        "return sigma * NormalDist().inv_cdf(probability)",
        "return sigma * 1.0",
        "test_certify.py::test_t25_closed_form",
    ),
    _of(
        "ibp: bounds of the centre alone",
        "bounds/boxes.py",
        "return self.centre - self.radius",
        "return self.centre",
        "test_bounds.py::test_an_interval_ends_at_its_radius",
    ),
    _of(
        "intervals: narrower than the images allow",
        "report/data/intervals.py",
        "middle - math.hypot(below, seeds)",
        "middle - seeds",
        "test_intervals.py::test_both_reasons_to_doubt_are_in_it",
    ),
    _of(
        "differences are not corrected for dependence",
        "report/data/significance.py",
        'method="by"',
        'method="bh"',
        "test_report.py::test_many_comparisons_are_corrected_together",
    ),
)
STORE = (
    _of(
        "key: the parent does not count",
        "store/keys.py",
        '"parent": parent,',
        '"parent": None,',
        "test_keys.py::test_pinned_keys",
    ),
    _of(
        "store: checksums are not compared",
        "store/checksums.py",
        "_checksum(path) != facts",
        "None is facts",
        "test_store.py::test_a_changed_bit_is_found_where_a_stage_is_read_whole",
    ),
    _of(
        "store: a lock that excludes nobody",
        "store/lock.py",
        "FileLock(folder / LOCK)",
        'FileLock(folder / f"{LOCK}.{os.getpid()}")',
        "test_store.py::test_processes_make_a_stage_once",
    ),
)
MUTANTS = (*JUDGING, *DATA, *ATTACKS, *LOSSES, *PRUNING, *NUMBERS, *STORE)
