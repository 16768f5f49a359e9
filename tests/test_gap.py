"""Greedy adversarial pruning, fact by fact (gap.md): the authors' quirks in gap_authors, the clean definition apart."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_options import pruner
from torch import nn

from advprune.attacks.pgd import pgd
from advprune.config import options as config_options
from advprune.errors import UserError
from advprune.masks import keep_count, prunable, top_k
from advprune.models.cifar_resnet import CifarResNet
from advprune.modules.optim import factor
from advprune.modules.recipe import Recipe, Schedule
from advprune.pruners import masking, scopes, thresholds
from advprune.pruners.activation import activation
from advprune.pruners.compression import keep_fraction, ratio_for
from advprune.pruners.eligible import completed, eligible
from advprune.pruners.gap_authors import gap_authors
from advprune.pruners.gradient import gradient, scored
from advprune.pruners.magnitude import magnitude
from advprune.pruners.random import random
from advprune.report.data.evaluation_summary import summary
from advprune.surgery.subnet import Subnet, apply
from advprune.threat import Linf

# T, P and the keep fractions at compression 2, 4, 8, 16, 32: gap.md 1.4.
TABLE = {
    "resnet20": (269_722, 267_696, 133.13, (0.496216, 0.244324, 0.118378, 0.055405, 0.023918)),
    "vgg": (14_991_946, 14_977_344, 1026.7, (0.499513, 0.249269, 0.124147, 0.061586, 0.030306)),
    "googlenet": (5_610_154, 5_585_344, 226.12, (0.497779, 0.246669, 0.121113, 0.058336, 0.026947)),
    "mobilenet_v2": (
        2_236_682,
        2_189_760,
        47.67,
        (0.489286, 0.233929, 0.106251, 0.042411, 0.010492),
    ),
    "resnet56": (853_018, 848_304, 180.95, (0.497222, 0.245832, 0.120138, 0.057290, 0.025867)),
}
AUTHORS = {"biases": True, "classifier": False}


class Linear2(nn.Module):
    """The linear two-class model of fact 8, behind a normalisation that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = nn.Identity()
        self.linear = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[1, -2, 0.5], [-1, 1, 0]]))

    def forward(self, x):
        return self.linear(self.normalize(x).flatten(1))


class Small(nn.Module):
    """Convolutions with biases (one before BatchNorm, one depthwise), dropout and a classifier."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.normalize = nn.Identity()
        self.a, self.bn = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 4, 3, groups=4)
        self.drop, self.fc = nn.Dropout(dropout), nn.Linear(4, 3)

    def forward(self, x):
        x = self.b(torch.relu(self.bn(self.a(self.normalize(x)))))
        return self.fc(self.drop(x.mean((2, 3))))


def some(count=2, size=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(size, 2, 7, 7, generator=g), torch.randint(3, (size,), generator=g))
        for _ in range(count)
    ]


def resnet20():
    torch.manual_seed(0)
    return CifarResNet(
        num_classes=10, in_channels=3, image_size=32, mean=[0.5] * 3, std=[0.25] * 3, depth=20
    )


def kept(masks):
    return [[i + 1 for i, on in enumerate(m.tolist()) if on] for m in masks.values()]


def spent(values, f, *, end, select="quantile"):
    """One tensor of scores through the frame's own path: which of them stay, by number from 1."""
    net = nn.Linear(len(values), 1, bias=False)
    options = pruner(scope="global", remove=end, select=select)
    scores = torch.tensor([values], dtype=torch.float32)
    masks = masking.compute_masks(
        lambda model, batches: {"weight": scores}, net, [], options, 1 - f, None
    )
    return [i + 1 for i, on in enumerate(masks["weight"][0].tolist()) if on]


@pytest.mark.parametrize("name", TABLE)
def test_fact_1_keep_fractions_and_largest_compressions(name):
    total, removable, largest, fractions = TABLE[name]
    for c, f in zip((2, 4, 8, 16, 32), fractions, strict=True):
        assert keep_fraction(total, removable, c) == pytest.approx(f, abs=6e-7)
    assert keep_fraction(total, removable, largest - 0.01) > 0
    with pytest.raises(UserError, match="give compression below"):
        keep_fraction(total, removable, largest + 0.1)


def test_ratio_null_beside_compression_is_compression_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config_options, "_given_options", lambda: {"ratio", "compression"})
    alone = {"ratio": None, "compression": 2.0}
    assert config_options._one_budget(alone) == alone


def test_fact_1_mobilenet_cannot_become_64_times_smaller():
    total, removable, *_ = TABLE["mobilenet_v2"]
    with pytest.raises(UserError, match=r"compression=64 .* give compression below 47\.66"):
        keep_fraction(total, removable, 64)


def test_fact_1_and_11_the_real_resnet20_is_counted():
    net = resnet20()
    chosen = eligible(net, **AUTHORS)
    assert (len(chosen), sum(p.numel() for p in chosen.values())) == (19, 267_696)
    options = pruner(scope="global", **AUTHORS)
    wanted = SimpleNamespace(ratio=None, compression=2.0, pruner=options)
    ratio = masking.target_ratio(net, wanted)
    assert 1 - ratio == pytest.approx(132_835 / 267_696, abs=1e-12)
    masks = masking.compute_masks(magnitude, net, [], options, ratio, None)
    told = masking.measure_sparsity(net, masks, ratio, options)
    assert told["removable_kept"] == 132_835
    assert told["compression"] == pytest.approx(269_722 / 134_861)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter[parameter == 0] = 0.1
    apply(net, masks)
    assert sum(int(p.count_nonzero()) for p in net.parameters()) == 134_861
    assert masks["linear.weight"].all()


def test_fact_2_quantile_thresholds():
    s = list(range(1, 11))
    assert spent(s, 0.5, end=None) == [6, 7, 8, 9, 10]
    assert spent(s, 0.3, end=None) == [8, 9, 10]
    assert spent(s, 0.25, end=None) == [8, 9, 10]
    assert spent(s, 0.3, end="largest") == [1, 2, 3]


def test_fact_3_signed_and_abs_gap():
    g, w = {"weight": torch.tensor([-5, -1, 0.5, 4])}, {"weight": nn.Parameter(torch.ones(4))}
    assert spent(scored(g, w, "signed")["weight"].tolist(), 0.5, end="largest") == [1, 2]
    assert spent(scored(g, w, "abs")["weight"].tolist(), 0.5, end="largest") == [2, 3]


def test_fact_4_three_criteria_and_a_tie():
    w = {"weight": nn.Parameter(torch.tensor([0.1, -0.2, 0.3, -0.4], dtype=torch.float64))}
    g = {"weight": torch.tensor([4, -1, 0.1, 0.5], dtype=torch.float64)}
    weighted = [0.4, 0.2, 0.03, 0.2]
    assert scored(g, w, "weighted")["weight"].tolist() == pytest.approx(weighted)
    assert scored(g, w, "weighted_signed")["weight"].tolist() == pytest.approx(
        [0.4, 0.2, 0.03, -0.2]
    )
    assert spent(w["weight"].abs().tolist(), 0.5, end=None) == [3, 4]
    assert spent(weighted, 0.5, end=None) == [1, 2, 4]
    assert spent(weighted, 0.5, end=None, select=None) == [1, 2]
    assert spent(scored(g, w, "abs")["weight"].tolist(), 0.5, end="largest") == [3, 4]


def test_fact_5_a_global_threshold_may_empty_a_tensor_and_ours_may_not():
    scores = {"A": torch.tensor([0.1, 0.2, 0.3, 0.4]), "B": torch.tensor([1.0, 2, 3, 4])}
    assert kept(thresholds.quantile(scores, 0.5, scope="global")) == [[], [1, 2, 3, 4]]
    assert kept(thresholds.quantile(scores, 0.5, scope="layer")) == [[3, 4], [3, 4]]
    assert kept(scopes.spend(scores, 0.5, scope="global")) == [[4], [2, 3, 4]]


def test_fact_6_ties_follow_no_count():
    assert spent([1, 1, 1, 2], 0.5, end=None) == [1, 2, 3, 4]
    assert spent([1, 1, 1, 2], 0.5, end="largest") == [1, 2, 3]


@pytest.mark.parametrize(
    ("n", "f"), [(10, 0.3), (11, 0.5), (37, 0.118378), (1000, 0.0554), (7, 0.9)]
)
def test_fact_7_kept_counts_of_distinct_values(n, f):
    values = np.random.RandomState(0).permutation(n).astype(float) - n / 3 + 0.25
    assert len(spent(values.tolist(), f, end=None)) == n - math.ceil((n - 1) * (1 - f))
    assert len(spent(values.tolist(), f, end="largest")) == math.floor((n - 1) * f) + 1


def test_zeros_at_the_threshold_are_ranked_at_random_between_the_signs():
    torch.manual_seed(0)
    values = torch.tensor([-1.0] * 3 + [0.0] * 40 + [2.0] * 7)
    masks = [thresholds.quantile({"a": values}, 0.5, scope="global")["a"] for _ in range(2)]
    for mask in masks:
        assert int(mask.sum()) == 25
        assert mask[43:].all()
        assert not mask[:3].any()
    assert not torch.equal(*masks)


@pytest.mark.parametrize("start", ["none", "uniform"])
def test_fact_8_pgd_on_a_linear_model_ends_in_its_corner(start):
    net, x = Linear2(), torch.full((1, 1, 1, 3), 0.5)
    y = net(x).argmax(1)
    for steps in (4, 10) if start == "none" else (10,):
        x_adv = pgd(net, x, y, threat=Linf("8/255"), steps=steps, rel_step=0.25, start=start)
        assert (255 * (x_adv - x)).flatten().tolist() == pytest.approx([8, -8, 8], abs=1e-4)


def test_fact_9_the_leak_and_the_isolation():
    net, x = Linear2(), torch.full((1, 1, 1, 3), 0.5)
    batch = [(x, net(x).argmax(1))]
    leaky = gap_authors(net, batch, score="abs", random_start=False)["linear.weight"]
    last = gap_authors(net, batch, score="abs", random_start=False, leak=False)["linear.weight"]
    assert (leaky - last)[0, 0].item() == pytest.approx(2.4619, abs=5e-5)  # the ten steps' own
    assert last[0, 0].item() == pytest.approx(0.2554, abs=5e-5)

    def attack(model, x, y):
        return pgd(model, x, y, threat=Linf("8/255"), steps=10, rel_step=0.25, start="none")

    clean = gradient(net, batch, score="abs", attack=attack)["linear.weight"]
    torch.testing.assert_close(clean, last)
    assert all(p.grad is None for p in net.parameters())


def test_fact_10_normalised_eps_is_two_grey_levels():
    std = torch.tensor([0.247, 0.243, 0.262])
    net = resnet20()
    net.normalize.std.copy_(std.view(3, 1, 1))
    walked = []
    net.conv1.register_forward_pre_hook(lambda _, inputs: walked.append(inputs[0].detach().clone()))
    x = torch.rand(4, 3, 32, 32)
    gap_authors(
        net, [(x, torch.zeros(4, dtype=torch.int64))], eligible=lambda m: {"w": m.linear.weight}
    )
    assert len(walked) == 12  # one for the label, ten steps, and the end
    pixels = (walked[-1] - walked[0]).abs().amax((0, 2, 3)) * std * 255
    assert pixels.tolist() == pytest.approx([1.976, 1.944, 2.096], abs=1e-3)


def test_fact_11_masked_weights_stay_zero_through_momentum_and_decay():
    net = Small(dropout=0.0)
    sizes = {n: p.detach().abs() for n, p in eligible(net, **AUTHORS).items()}
    masks = completed(net, scopes.spend(sizes, 0.5, scope="layer"))
    assert not masks["a.bias"].all()
    subnet = Subnet(net, masks)
    optimizer = torch.optim.SGD(
        subnet.net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2
    )
    for x, y in some(5):
        optimizer.zero_grad()
        F.cross_entropy(subnet(x), y).backward()
        optimizer.step()
    weights = subnet.export()[0]
    assert all(not weights[name][~mask].any() for name, mask in masks.items())
    assert all(weights[name][mask].all() for name, mask in masks.items())


def test_fact_15_bernoulli_counts_are_so_in_expectation_only():
    net = resnet20()
    options = pruner(scope="global", select="bernoulli", **AUTHORS)
    ratio = ratio_for(net, eligible(net, **AUTHORS), 2)

    def criterion(model, batches, *, eligible):
        return random(model, batches, seed=1, eligible=eligible)

    masks = masking.compute_masks(criterion, net, [], options, ratio, None)
    told = masking.measure_sparsity(net, masks, ratio, options)
    f, size = 1 - ratio, 267_696
    assert (
        0
        < abs(told["removable_kept"] - f * size)
        < 4 * math.sqrt(size * f * (1 - f))
        == pytest.approx(1035, abs=1)
    )
    assert keep_count(size, ratio) == 132_835


def test_what_may_be_removed():
    net = Small()
    assert list(eligible(net)) == list(prunable(net)) == ["a.weight", "b.weight", "fc.weight"]
    assert list(eligible(net, **AUTHORS)) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    masks = completed(net, {"a.bias": torch.tensor([True, False, True, False])})
    assert {name: bool(mask.all()) for name, mask in masks.items()} == {
        "a.weight": True,
        "a.bias": False,
        "b.weight": True,
        "fc.weight": True,
    }
    with pytest.raises(UserError, match="has none"):
        eligible(nn.Sequential(nn.Conv2d(1, 1, 1)), classifier=False)


def whole(net, batches, mode):
    """Slow reference: .grad by .backward(), image by image in eval mode, batch by batch in train mode."""
    net.train(mode == "train")
    for x, y in batches:
        parts = [(x, y)] if mode == "train" else zip(x.split(1), y.split(1), strict=True)
        for xi, yi in parts:
            F.cross_entropy(net(xi), yi, reduction="sum").backward()
    images = sum(len(y) for _, y in batches)
    return {name: p.grad / images for name, p in net.named_parameters()}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("count", [1, 2, None])
def test_the_gradient_is_the_mean_over_images(mode, count):
    net, batches = Small(dropout=0.0), [*some(2), *some(1, size=3, seed=1)]
    found = gradient(
        net,
        batches,
        score="signed",
        mode=mode,
        count=count,
        eligible=lambda m: eligible(m, biases=True),
    )
    expected = whole(Small(dropout=0.0), batches[:count], mode)
    for name, g in found.items():
        torch.testing.assert_close(g, expected[name], rtol=1e-4, atol=1e-6)


def test_predicted_labels_and_adversarial_inputs_are_used():
    net, (batch,) = Small(), some(1, size=40)
    x, y = batch
    net.eval()
    guessed = net(x).argmax(1)
    assert not torch.equal(guessed, y)
    by_guess = gradient(net, [(x, y)], score="signed", predicted_labels=True)
    given = gradient(net, [(x, guessed)], score="signed")
    moved = gradient(net, [(x, y)], score="signed", attack=lambda model, x, y: 1 - x)
    negative = gradient(net, [(1 - x, y)], score="signed")
    for name in given:
        torch.testing.assert_close(by_guess[name], given[name])
        torch.testing.assert_close(moved[name], negative[name])
        assert not torch.allclose(moved[name], given[name])


@pytest.mark.parametrize(
    "criterion", [gradient, activation, magnitude, gap_authors], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_model_is_left_as_found(criterion, broken):
    net = Small()
    net.bn.eval()
    net.a.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    def batches():
        yield from some(1)
        if broken:
            raise RuntimeError("a disk")

    options = {"mode": "train"} if criterion is gradient else {}
    if broken and criterion is not magnitude:
        with pytest.raises(RuntimeError, match="a disk"):
            criterion(net, batches(), **options)
    else:
        criterion(net, batches(), **options)
    moved = {
        name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])
    }
    statistics = {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    assert moved == (statistics if criterion is gap_authors else set())
    assert net.training
    assert not net.bn.training
    assert not net.a.weight.requires_grad
    assert all(p.requires_grad for name, p in net.named_parameters() if name != "a.weight")
    assert all(p.grad is None for p in net.parameters())
    assert isinstance(net.normalize, nn.Identity)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_the_authors_statistics_move_twelve_times_a_batch():
    net = Small()
    gap_authors(net, some(2))
    assert int(net.bn.num_batches_tracked) == 24


def test_the_authors_take_g_globally_and_its_size_by_layer():
    net, batches = Small(dropout=0.0), some(1)
    one, other = (
        gap_authors(net, batches, scope=s, random_start=False)["a.weight"]
        for s in ("global", "layer")
    )
    assert (one < 0).any()
    torch.testing.assert_close(one.abs(), other)


def test_activation_scores_by_a_loop():
    net, batches = Small(), some(2)
    seen = {"a": [], "b": [], "fc": []}
    hooks = [
        net.get_submodule(n).register_forward_pre_hook(lambda _, i, n=n: seen[n].append(i[0]))
        for n in seen
    ]
    with torch.no_grad():
        net.eval()(torch.cat([x for x, _ in batches]))
    for hook in hooks:
        hook.remove()
    found = activation(net, batches, eligible=lambda m: eligible(m, biases=True))
    for name, group in (("a", 1), ("b", 4)):
        weight = net.get_submodule(name).weight
        for o in range(4):
            for i in range(weight.shape[1]):
                channel = i if group == 1 else o
                mean = seen[name][0][:, channel].abs().mean()
                torch.testing.assert_close(found[f"{name}.weight"][o, i], weight[o, i].abs() * mean)
    torch.testing.assert_close(
        found["fc.weight"], net.fc.weight.abs() * seen["fc"][0].abs().mean(0)
    )
    torch.testing.assert_close(found["fc.bias"], net.fc.bias.abs())


def test_wrong_options_are_refused():
    net = Small()
    for call, message in [
        (lambda: gradient(net, some(), score="big"), "score='big' is not one of"),
        (lambda: gradient(net, some(), mode="both"), "mode='both' is not one of"),
        (lambda: gradient(net, []), "no batch"),
        (lambda: activation(net, []), "no batch"),
        (lambda: gap_authors(net, []), "no batch"),
        (lambda: gap_authors(nn.Linear(2, 2), some()), "Linear has none; use gap"),
        (lambda: thresholds.quantile({}, 0.5, scope="erk"), "has global and layer"),
        (lambda: thresholds.bernoulli({}, 99), "write ratio=0.99"),
        (lambda: keep_fraction(10, 5, 0.5), "at least 1"),
    ]:
        with pytest.raises(UserError, match=message):
            call()


def test_the_largest_are_removed_with_exact_counts_and_stable_ties():
    values = [3.0, 1.0, 3.0, 2.0, 3.0]
    assert spent(values, 0.6, end="largest", select=None) == [1, 2, 4]
    assert int(top_k(-torch.tensor(values), 3).sum()) == 3


def test_the_authors_learning_rate():
    recipe = Recipe(schedule=Schedule.step_half)
    at = factor(recipe, steps_per_epoch=1, epochs=300)
    assert [at(epoch) for epoch in (0, 149, 150, 224, 225, 299)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_fact_14_a_mean_of_batch_means_is_biased_and_ours_is_not():
    right = [i % 10 < 9 for i in range(10_000)]
    assert (
        summary({"image": list(range(10_000)), "clean_ok": right, "robust_ok": right})["clean_acc"]
        == 0.9
    )
    batches = [right[i : i + 128] for i in range(0, 10_000, 128)]
    biased = sum(sum(batch) / 128 for batch in batches) / len(batches)
    assert biased == pytest.approx(0.9 * (78 + 16 / 128) / 79, abs=2e-4)
