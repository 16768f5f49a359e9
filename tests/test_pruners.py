"""What decides: schedules in closed form, criteria, first scores, the pruners' YAMLs."""

import inspect
from pathlib import Path
from typing import get_args

import pytest
import torch
from hydra.utils import get_class, get_method
from hypothesis import given
from hypothesis import strategies as st
from networks import merged_pruner
from omegaconf import OmegaConf
from torch import nn

from advprune.errors import UserError
from advprune.masks import checksum, prunable
from advprune.pruners import scopes
from advprune.pruners.learned_scores import initial_scores
from advprune.pruners.magnitude import magnitude
from advprune.pruners.process import Process
from advprune.pruners.random import random
from advprune.pruners.spending import Schedule
from advprune.pruners.task import cumulative

YAMLS = sorted((Path(__file__).parents[1] / "conf" / "pruner").glob("*.yaml"))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10))


def test_schedules_in_closed_form():
    assert cumulative(0.9, schedule="one_shot", rounds=1) == [0.9]
    assert cumulative(0.8, schedule="linear", rounds=4) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert cumulative(0.875, schedule="exponential", rounds=3) == pytest.approx([0.5, 0.75, 0.875])
    assert cumulative(0.8, schedule="cubic", rounds=2) == pytest.approx([0.7, 0.8])
    assert cumulative(0.64, schedule="cubic", rounds=4) == pytest.approx([0.37, 0.56, 0.63, 0.64])


@given(
    st.sampled_from(["linear", "exponential", "cubic", "hyperbolic"]),
    st.floats(0, 0.999),
    st.integers(2, 30),
)
def test_a_schedule_never_falls_and_ends_exactly(schedule, ratio, rounds):
    ratios = cumulative(ratio, schedule=schedule, rounds=rounds)
    assert len(ratios) == rounds
    assert ratios[-1] == ratio
    assert ratios == sorted(ratios)
    assert ratios[0] >= 0


@given(
    st.sampled_from(["linear", "exponential", "cubic", "hyperbolic"]),
    st.floats(0, 0.9),
    st.floats(0, 1),
    st.integers(2, 9),
)
def test_a_schedule_goes_on_from_what_is_gone(schedule, ratio, part, rounds):
    start = ratio * part
    ratios = cumulative(ratio, schedule=schedule, rounds=rounds, start=start)
    assert ratios == sorted(ratios)
    assert ratios[0] >= start - 1e-12
    assert ratios[-1] == ratio
    # what is left of the start shrinks as a schedule of its own would have it
    alone = (
        cumulative(1 - (1 - ratio) / (1 - start), schedule=schedule, rounds=rounds)
        if start
        else ratios
    )
    assert [(r - start) / (1 - start) for r in ratios] == pytest.approx(
        alone if start else ratios, abs=1e-9
    )


@pytest.mark.parametrize(
    ("schedule", "rounds", "ratio", "message"),
    [
        ("foo", 1, 0.5, "one_shot, linear, exponential, cubic"),
        ("linear", 0, 0.5, "at least 1 round"),
        ("linear", 1, 0.5, "schedule=linear with rounds=1 is one shot"),
        (
            "cubic",
            1,
            0.5,
            "give two rounds or more, such as pruner.rounds=5, or pruner.schedule=one_shot",
        ),
        ("one_shot", 3, 0.5, "write schedule=linear, or rounds=1"),
        ("cubic", 3, 99, "write ratio=0.99"),
    ],
)
def test_an_impossible_schedule_is_refused(schedule, rounds, ratio, message):
    with pytest.raises(UserError, match=message):
        cumulative(ratio, schedule=schedule, rounds=rounds)


def test_magnitude_is_the_absolute_weight_and_a_value_of_its_own():
    model = net()
    with torch.no_grad():
        model[3].weight[0, :3] = torch.tensor([-2.0, 0.0, 3.0])
    scores = magnitude(model, [])
    assert list(scores) == ["0.weight", "3.weight"]
    assert scores["3.weight"][0, :3].tolist() == [2.0, 0.0, 3.0]
    scores["3.weight"].zero_()
    assert model[3].weight.any()


def test_random_scores_follow_from_the_seed_alone():
    model = net()
    state = torch.get_rng_state()
    masks = [
        checksum(scopes.spend(random(model, [], seed=seed), 0.5, scope="layer"))
        for seed in (1, 1, 2)
    ]
    assert masks[0] == masks[1] != masks[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_random_scores_are_uniform():
    scores = random(nn.Linear(200, 200), [], seed=0)["weight"]
    assert scores.min() >= 0
    assert scores.max() < 1
    assert torch.histc(scores, 10, 0, 1).sub(4000).abs().max() < 5 * (40000 * 0.1 * 0.9) ** 0.5


def test_kaiming_scores_fill_their_bound_follow_the_seed_and_know_nothing_of_the_weights():
    model, far = net(), net()
    with torch.no_grad():
        far[0].weight.add_(3)
    scores, again = (
        initial_scores(prunable(m), init="kaiming", seed=4)["0.weight"] for m in (model, far)
    )
    assert torch.equal(scores, again)
    bound = 1 / 27**0.5  # kaiming_uniform with a = sqrt(5): sqrt(6 / (1 + 5) / fan_in)
    assert 0.95 * bound < scores.abs().max() <= bound
    assert not torch.equal(
        scores, initial_scores(prunable(model), init="kaiming", seed=5)["0.weight"]
    )


def test_magnitude_scores_are_the_signed_weights():
    model = net()
    scores = initial_scores(prunable(model), init="magnitude", seed=0)
    assert all(torch.equal(scores[name], weight) for name, weight in prunable(model).items())
    masks = scopes.spend({n: s.abs() for n, s in scores.items()}, 0.9, scope="global")
    assert checksum(masks) == checksum(scopes.spend(magnitude(model, []), 0.9, scope="global"))


def test_scores_that_cannot_be_made_are_refused():
    model = net()
    with pytest.raises(UserError, match="init='foo' is not one of scaled, kaiming, magnitude"):
        initial_scores(prunable(model), init="foo", seed=0)
    nn.init.zeros_(model[3].weight)
    with pytest.raises(UserError, match=r"every weight of 3.weight is zero"):
        initial_scores(prunable(model), init="scaled", seed=0)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_yaml_binds_to_its_criterion_and_uses_allowed_words(path):
    text = path.read_text()
    assert "python prune.py pruner=" in text.split("\n\n")[0]
    config = OmegaConf.to_container(merged_pruner(path.stem))
    assert set(config) == set(merged_pruner("base")), "a pruner has the keys of base.yaml"
    assert config["scope"] in get_args(scopes.Scope)
    assert config["schedule"] in get_args(Schedule)
    assert config["recovery"] in ("finetune", "retrain", "rewind", "scratch", "none")
    if isinstance(config["criterion"], dict):
        options = {key: 0 for key in config["criterion"] if not key.startswith("_")}
        inspect.signature(get_method(config["criterion"]["_target_"])).bind(None, [], **options)
    if isinstance(config["process"], dict):
        options = {key: 0 for key in config["process"] if not key.startswith("_")}
        made = get_class(config["process"]["_target_"])
        assert issubclass(made, Process)
        inspect.signature(made).bind(None, None, **options)
    if path.stem != "base" and config["unit"] is None:  # those of filters are a group
        assert (config["criterion"] is None) != (config["process"] is None)
