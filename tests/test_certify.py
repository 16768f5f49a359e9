"""Certificates against formulas, brute force and each other; and what the frame does with them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn

from advprune.bounds import certificate, noise
from advprune.bounds.binomial import least_hits, lower_confidence, radius_of
from advprune.bounds.certificate import certify_crown, certify_crown_ibp, certify_ibp
from advprune.bounds.exact import verify_exact
from advprune.bounds.smoothing import certify_smoothing
from advprune.config.groups import Attack, Dataset, Method
from advprune.config.stage_options import Evaluated
from advprune.errors import UserError
from advprune.models.hydra_cnn import cnn_small
from advprune.report.data.consistency import refuse_contradictions
from advprune.store.checksums import write_manifest
from advprune.threat import L2, Certificate, Linf


class Half(nn.Module):
    """Class 1 where the first pixel is above one half: its smoothed radius is the distance to it, exactly."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0] - 0.5
        return torch.stack([-first, first, first - 10], 1)


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_tensor([0.0, 1.0]).expand(len(x), 2)


def test_t25_closed_form() -> None:
    assert lower_confidence(10_000, 10_000, 0.001) == pytest.approx(
        0.001 ** (1 / 10_000), abs=1e-12
    )
    assert radius_of(lower_confidence(10_000, 10_000, 0.001), 0.25) == pytest.approx(
        0.79964, abs=5e-6
    )
    assert radius_of(lower_confidence(100_000, 100_000, 0.001), 0.25) == pytest.approx(
        0.95286, abs=5e-6
    )
    assert least_hits(10_000, 0.001) == 5156
    for radius, hits in ((0.25, 8526), (110 / 255, 9640)):
        assert radius_of(lower_confidence(hits, 10_000, 0.001), 0.25) >= radius
        assert radius_of(lower_confidence(hits - 1, 10_000, 0.001), 0.25) < radius
    assert least_hits(4, 0.001) == 5  # all of four samples prove nothing
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([1, 0])
    found = certify_smoothing(Constant(), x, y, threat=L2(0.5), positions=torch.arange(2))
    assert found.radius.tolist() == pytest.approx([0.79964] * 2, abs=5e-6)
    assert (found.certified.tolist(), found.predicted.tolist(), found.smoothed) == (
        [True, False],
        [1, 1],
        True,
    )


def test_known_probabilities() -> None:
    """The radius is Cohen et al.'s of the number of hits, and near the true distance with many samples."""
    x = torch.tensor([0.55, 0.7, 1.0, 0.2]).view(4, 1, 1, 1)
    y = torch.tensor([1, 1, 1, 1])
    found = certify_smoothing(Half(), x, y, threat=L2(0.15), positions=torch.arange(4), n=100_000)
    distance = (x.flatten() - 0.5).abs()
    assert (found.radius <= distance).all()
    assert (found.radius >= 0.95 * distance - 0.01).all()
    assert found.predicted.tolist() == [1, 1, 1, 0]
    assert found.certified.tolist() == [False, True, True, False]


def test_linf_needs_the_radius_of_the_cubes_corner() -> None:
    x, y = torch.rand(1, 1, 2, 2), torch.tensor([1])
    inside, outside = 0.79 / math.sqrt(4), 0.81 / math.sqrt(4)
    for eps, certified in ((inside, True), (outside, False)):
        found = certify_smoothing(Constant(), x, y, threat=Linf(eps), positions=torch.arange(1))
        assert found.certified.item() is certified


def repeated(alpha: float) -> Tensor:
    """1,000 certified radii of one image whose true radius is 0.2, each from its own thousand samples."""
    x, y = torch.full((1000, 1, 1, 1), 0.7), torch.ones(1000, dtype=torch.long)
    places = torch.arange(1000)
    return certify_smoothing(
        Half(), x, y, threat=L2(0.1), positions=places, n=1000, alpha=alpha
    ).radius


def test_coverage_over_a_thousand_repetitions() -> None:
    """A radius is beyond the true one with probability alpha at most; the binomial distribution says how often."""
    assert (repeated(0.001) > 0.2).sum() <= binom.ppf(0.999, 1000, 0.001)
    alpha, p = 0.05, NormalDist().cdf(0.2 / 0.25)
    allowed = max(
        k for k in range(500, 1000) if radius_of(lower_confidence(k, 1000, alpha), 0.25) <= 0.2
    )
    exact = float(binom.cdf(allowed, 1000, p))
    assert 1 - alpha <= exact <= 1 - alpha / 2
    radii = repeated(alpha)
    assert (radii <= 0.2).float().mean().item() == pytest.approx(
        exact, abs=3 * math.sqrt(alpha * (1 - alpha) / 1000)
    )
    assert len(radii.unique()) > 50  # the repetitions are not one and the same


def test_the_noise_is_an_images_own() -> None:
    """Not the batch's, the forward's, nor that of who else is evaluated; another seed or position draws another."""
    torch.manual_seed(0)
    net = cnn_small(num_classes=3, in_channels=1, image_size=8, mean=[0.0], std=[1.0])
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(5)
    x, y, places = (
        torch.rand(5, 1, 8, 8),
        torch.zeros(5, dtype=torch.long),
        torch.tensor([3, 14, 15, 92, 65]),
    )

    def radii(chosen: list[int], **options: int) -> list[float]:
        whole = {"n": 2500, "seed": 1, "sigma": 0.5, **options}
        return certify_smoothing(
            net, x[chosen], y[chosen], threat=L2(0.1), positions=places[chosen], **whole
        ).radius.tolist()

    together = radii([0, 1, 2, 3, 4])
    assert len(set(together)) > 2
    state = torch.random.get_rng_state()
    assert [radii([i])[0] for i in (4, 0, 2)] == [together[i] for i in (4, 0, 2)]
    assert radii([4, 3, 2, 1, 0], forward_size=1) == together[::-1]
    assert radii([0, 1, 2, 3, 4], forward_size=10**6) == together
    assert torch.equal(state, torch.random.get_rng_state())  # nobody else's numbers are touched
    assert radii([0, 1, 2, 3, 4], seed=2) != together


class Thirds(nn.Module):
    """Three classes by the first pixel, below 0.4, between, above 0.6."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0]
        return torch.stack([0.4 - first, torch.zeros_like(first), first - 0.6], 1)


def test_early_abstention_changes_no_verdict() -> None:
    x = torch.linspace(0, 1, 40).view(40, 1, 1, 1)
    y, places = torch.ones(40, dtype=torch.long), torch.arange(40)
    calls: list[int] = []
    net = Thirds()
    net.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    whole = certify_smoothing(net, x, y, threat=L2(0.01), positions=places, n=5000)
    drawn = sum(calls)
    calls.clear()
    early = certify_smoothing(net, x, y, threat=L2(0.01), positions=places, n=5000, early=True)
    for name in ("certified", "radius", "predicted", "abstained"):
        assert torch.equal(getattr(whole, name), getattr(early, name)), name
    assert 0 < whole.abstained.sum() < 40
    assert sum(calls) < drawn == 40 * 5100


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"n": 50}, "n0"),
        ({"n0": 0}, "n0"),
        ({"alpha": 0.5}, "alpha"),
        ({"forward_size": 0}, "size"),
    ],
)
def test_mistakes(options: dict[str, float], word: str) -> None:
    with pytest.raises(UserError, match=word):
        certify_smoothing(
            Half(),
            torch.rand(1, 1, 1, 1),
            torch.ones(1).long(),
            threat=L2(0.1),
            positions=torch.arange(1),
            **options,
        )


def test_blocks_depend_on_the_images_shape_alone() -> None:
    sampler = noise.Sampler(Half(), torch.rand(1, 3, 224, 224), [(0, 0)], 0.25, 10)
    assert sampler.block == 2**22 // (3 * 224 * 224)


def small(seed: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    ).eval()
    for layer in (net[0], net[3], net[5]):
        layer.weight.data.mul_(3)
    x = torch.rand(6, 1, 4, 4)
    return net, x, net(x).argmax(1), torch.arange(6)


def test_exact_decides_between_bounds_and_attacks() -> None:
    """What a bound proves the solver proves; what it refutes has a counterexample on a grid of corners, mostly."""
    proved = dict.fromkeys(("ibp", "crown", "exact"), 0)
    for seed in range(2):
        net, x, y, places = small(seed)
        for eps in (0.02, 0.08, 0.15):
            threat = Linf(eps)
            weak = certify_ibp(net, x, y, threat=threat, positions=places).certified
            strong = certify_crown(net, x, y, threat=threat, positions=places).certified
            full = verify_exact(net, x, y, threat=threat, positions=places)
            assert not (weak & ~strong).any()
            assert not (strong & ~full.certified).any()
            assert not full.abstained.any()
            signs = torch.sign(torch.randn(4000, *x.shape[1:]))
            for i in range(len(x)):
                corner = threat.project(x[i] + eps * signs, x[i : i + 1].expand_as(signs))
                fooled = (net(corner).argmax(1) != y[i]).any()
                assert not (fooled and full.certified[i]), (
                    "an attack succeeds on an image that is proved"
                )
            for name, found in (("ibp", weak), ("crown", strong), ("exact", full.certified)):
                proved[name] += int(found.sum())
    assert proved["ibp"] < proved["crown"] < proved["exact"] < 36


def test_exact_equals_the_margin_found_by_hand() -> None:
    """The toy network of hydra.md's fact T23: its true margin is 0.5 at eps 0.1, and 0 at eps 0.1 + 0.25."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    net[1].weight.data, net[1].bias.data = (
        torch.tensor([[1.0, -1], [1, 1]]),
        torch.tensor([0.0, -1]),
    )
    net[3].weight.data, net[3].bias.data = (
        torch.tensor([[1.0, 1], [-1, 0]]),
        torch.tensor([-0.4, 0]),
    )
    x, y = torch.tensor([0.6, 0.5]).view(1, 1, 1, 2), torch.tensor([0])
    call = {"threat": Linf(0.1), "positions": torch.arange(1)}
    assert (
        verify_exact(net, x, y, **call).certified.item() is False
    )  # 2 relu(z1) + relu(z2) - 0.4 reaches -0.4
    net[3].bias.data[0] = 0.01
    assert verify_exact(net, x, y, **call).certified.item() is True
    assert certify_crown_ibp(net, x, y, **call).certified.item() is True  # by its intervals
    with pytest.raises(UserError, match="linf"):
        verify_exact(net, x, y, threat=L2(0.1), positions=torch.arange(1))


def test_train_mode_is_refused() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    for certify in (certify_ibp, certify_crown_ibp, certify_crown, verify_exact):
        with pytest.raises(UserError, match="eval mode"):
            certify(
                net,
                torch.rand(1, 1, 2, 2),
                torch.tensor([0]),
                threat=Linf(0.1),
                positions=torch.arange(1),
            )


def test_smoothing_never_certifies_by_batch_statistics() -> None:
    """In train mode a network is certified as it answers in eval mode; with batch statistics only, it is refused."""
    call = {"threat": L2(0.1), "n0": 10, "n": 200, "positions": torch.arange(2)}
    images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    found = certify_smoothing(net.train(), images, labels, **call)
    assert net.training
    assert torch.equal(net[0].running_mean, torch.zeros(1))
    assert torch.equal(found.radius, certify_smoothing(net.eval(), images, labels, **call).radius)
    batch_only = nn.Sequential(
        nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(4, 3)
    )
    for some in (images, images[:0]):  # with no image, as the door asks before anything is trained
        with pytest.raises(UserError, match="BatchNorm2d in eval mode"):
            certify_smoothing(
                batch_only.eval(),
                some,
                labels[: len(some)],
                **call | {"positions": torch.arange(len(some))},
            )


def evaluation(folder: Path, key: str, target: str, eps: float, columns: dict[str, list]) -> dict:
    """A finished evaluation in a store."""
    (folder / key).mkdir(parents=True)
    options = {"dataset": {"name": "digits"}, "attack": {"_target_": target}}
    (folder / key / "config.yaml").write_text(json.dumps({"stage": "evaluated", **options}))
    threat = {"norm": "linf", "eps": eps}
    (folder / key / "result.json").write_text(json.dumps({"parent": "abc", "threat": threat}))
    pd.DataFrame(columns).to_parquet(folder / key / "records.parquet")
    write_manifest(folder / key)
    return options


def attacking(target: str, parent: SimpleNamespace) -> SimpleNamespace:
    """A stage of digits' evaluation by the attack that ``target`` names."""
    options = Evaluated(
        dataset=Dataset(node={"name": "digits"}),
        attack=Attack(node={"_target_": target}),
        threat=Method({}),
        seed=0,
    )
    return SimpleNamespace(parent=parent, options=options, record={"dataset": {"name": "digits"}})


@pytest.mark.parametrize("planted", [False, True])
def test_a_neighbours_damage_stops_no_evaluation(
    tmp_path: Path, planted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One byte of its config.yaml, with its mark as it was, or with one that goes with it."""
    attacked = {"image": [7], "robust_ok": [False], "distance": [0.1]}
    evaluation(tmp_path, "one", "a.pgd", 0.1, attacked)
    path = tmp_path / "one" / "config.yaml"
    path.write_text("[" + path.read_text()[1:])
    if planted:
        write_manifest(tmp_path / "one")
    stage = attacking("b.pgd", SimpleNamespace(kind="dense", key="abc"))
    refuse_contradictions(attacked, stage, tmp_path / "two", {"norm": "linf", "eps": 0.1})  # type: ignore[arg-type]
    assert "config.yaml" in caplog.text
    assert "was not compared" in caplog.text


@pytest.mark.parametrize(
    ("eps", "smoothed", "certified", "clash"),
    [
        (0.1, False, True, True),
        (0.1, False, False, False),
        (0.1, True, True, False),
        (0.05, False, True, False),
        (0.2, False, True, True),
    ],
)
@pytest.mark.parametrize("first", ["attack", "proof"])
def test_an_attack_on_a_certified_image_stops_the_run(
    tmp_path: Path, eps: float, smoothed: bool, certified: bool, clash: bool, first: str
) -> None:
    attacked = {"image": [4, 7], "robust_ok": [True, False], "distance": [0.1, 0.1]}
    proved = {"image": [7, 9], "certified_ok": [certified, True], "smoothed": [smoothed, smoothed]}
    both = {"attack": ("a.pgd", 0.1, attacked), "proof": ("b.certify_ibp", eps, proved)}
    second = "proof" if first == "attack" else "attack"
    evaluation(tmp_path, "one", *both[first])
    target, budget, columns = both[second]
    parent = SimpleNamespace(kind="finetuned", key="abc")
    stage = attacking(target, parent)
    options = stage.options
    call = (columns, stage, tmp_path / "two", {"norm": "linf", "eps": budget})
    if clash:
        with pytest.raises(UserError, match="finetuned abc: image 7"):
            refuse_contradictions(*call)
    else:
        refuse_contradictions(*call)
    stage.options = replace(
        options, runs="int8"
    )  # another variant of a quantized network may differ
    refuse_contradictions(*call)
    stage.options = options
    parent.key = "other"  # another network may differ
    refuse_contradictions(*call)


def proves_all(
    model: nn.Module, x: Tensor, y: Tensor, *, threat: Linf, positions: Tensor
) -> Certificate:
    """A defective certifier: every image that the network has right is proved."""
    predicted = model(x).argmax(1)
    right = predicted == y
    return Certificate(right, right * threat.eps, predicted, torch.zeros_like(right), threat.norm)


@pytest.mark.parametrize("first", ["proof", "attack"])
def test_a_job_whose_attack_succeeds_on_a_certified_image_stops(
    job, monkeypatch, first: str
) -> None:
    monkeypatch.setattr(certificate, "certify_ibp", proves_all)
    tiny = (
        "model.widths=[8,8,8]",
        "dataset.train_images=512",
        "training.epochs=2",
        "training.batch_size=32",
        "attack.images=64",
        "trainer=cpu",
        "objective=natural",
        "threat.eps=0.5",
    )
    words = {"proof": ["attack=certify_ibp"], "attack": ["attack=fgsm"]}
    second = "attack" if first == "proof" else "proof"
    assert "row" in job(*tiny, *words[first], command="train")
    failed = job(*tiny, *words[second], command="train")["failed"]
    assert "contradict each other" in failed
    assert "is certified within 0.5, and wrong at" in failed


def test_a_job_certifies_and_attacks_one_network(job) -> None:
    tiny = (
        "model.widths=[4,4,4]",
        "dataset.train_images=192",
        "training.epochs=3",
        "select.steps=2",
        "select.images=64",
        "attack.images=96",
        "trainer=cpu",
        "objective=ibp",
        "threat.eps=0.02",
    )
    proof = job(*tiny, "attack=certify_ibp", command="train")["row"]
    assert proof["robust_acc"] is None
    assert proof["smoothed"] is False
    assert 0 <= proof["certified_acc"] <= proof["clean_acc"]
    assert proof["checkpoint"] == "last"
    noise = job(*tiny, "attack=certify_smoothing", "attack.n=200", command="train")["row"]
    assert (noise["made"], noise["found"], noise["smoothed"]) == (1, 1, True)
    attacked = job(*tiny, "attack.steps=5", command="train")["row"]
    assert (attacked["made"], attacked["certified_acc"]) == (1, None)
    assert attacked["robust_acc"] >= proof["certified_acc"]
    records = {
        row["attack"]: pd.read_parquet(Path(row["files"]["evaluated"]) / "records.parquet")
        for row in (proof, attacked)
    }
    merged = records[proof["attack"]].merge(records[attacked["attack"]], on="image")
    assert len(merged) == 96
    assert not (merged["certified_ok"] & ~merged["robust_ok"]).any()
    normal = NormalDist().inv_cdf(0.001 ** (1 / 200)) * 0.25
    columns = pd.read_parquet(Path(noise["files"]["evaluated"]) / "records.parquet")
    assert columns["radius"].max() <= normal + 1e-6
    assert (columns.loc[columns["abstained"], "radius"] == 0).all()
