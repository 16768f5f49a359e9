"""The audit: images that the fast engine leaves right go through pyautoattack, and those that fall count."""

from pathlib import Path

import pytest
import torch
from presets import options
from test_fast_autoattack import Killed, contested_images
from torch import Tensor

from advprune.attacks import autoattack as adapter
from advprune.attacks.autoattack import autoattack
from advprune.errors import UserError
from advprune.modules.evaluation import RobustEvaluation
from advprune.report.data.evaluation_summary import sanity_warnings, summary
from advprune.threat import Linf

GIVEN = {"threat": Linf(0.02), "version": "custom", "attacks": ["apgd-ce"], "engine": "fast"}


@pytest.fixture(autouse=True)
def one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One restart of APGD, as in the standard attack: custom has five."""
    whole = adapter.official_package

    def single(*args: object) -> object:
        package = whole(*args)  # type: ignore[arg-type]
        package.apgd.n_restarts = 1
        return package

    monkeypatch.setattr(adapter, "official_package", single)


def attacked(audit: int | None, **others: object) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_adv, who is right in the end, and who was audited."""
    trail: list[tuple[str, Tensor]] = []
    marks: dict[str, Tensor] = {}
    given = GIVEN | others
    x_adv = autoattack(*contested_images(), audit=audit, trail=trail, marks=marks, **given)  # type: ignore[arg-type]
    right = dict(trail)
    assert ("audit" in right) == (audit is not None)
    return x_adv, trail[-1][1], marks.get("audited", torch.zeros(32, dtype=torch.bool))


def test_so_many_robust_images_are_drawn_by_the_seed() -> None:
    plain, right, none = attacked(None)
    assert not none.any()
    x_adv, held, audited = attacked(5)
    assert audited.sum() == 5
    assert right[audited].all()
    assert torch.equal(held, right)  # equally strong: none of the five falls
    assert torch.equal(x_adv, plain)
    assert torch.equal(audited, attacked(5)[2])
    assert not torch.equal(audited, attacked(5, seed=3)[2])


def test_an_audit_larger_than_what_stands_takes_all_of_it() -> None:
    _, right, _ = attacked(None)
    _, _, audited = attacked(1000)
    assert torch.equal(audited, right)


@pytest.mark.parametrize(("images", "whole", "size"), [(32, 359, 256), (5, 100, 7), (32, 10, 3)])
def test_the_shares_of_all_batches_add_up_to_the_audit(images: int, whole: int, size: int) -> None:
    spans = [(first, min(first + size, whole), whole) for first in range(0, whole, size)]
    shares = [adapter.audits.share(images, span) for span in spans]
    assert sum(shares) == images
    assert all(
        images * (b - a) // whole <= n <= images * (b - a) // whole + 1
        for n, (a, b, _) in zip(shares, spans, strict=True)
    )


def test_an_evaluation_of_several_batches_audits_as_many_as_of_one(tmp_path: Path) -> None:
    """32 images in batches of 12: an audit of 9 has 3 + 3 + 3 of them."""
    model, x, y = contested_images()

    def attack(net, x, y, *, trail, marks, span):  # type: ignore[no-untyped-def]
        return autoattack(net, x, y, audit=9, trail=trail, marks=marks, span=span, **GIVEN)

    module = RobustEvaluation(
        model,
        attack,
        name="autoattack",
        threat=Linf(0.02),
        parts=tmp_path,
        seed=0,
        images=32,
        batch_size=12,
    )
    for index, first in enumerate(range(0, 32, 12)):
        rows = slice(first, first + 12)
        module.test_step((x[rows], y[rows], torch.arange(32)[rows]), index)
    audited = module.records()["audited"]
    assert [sum(audited[first : first + 12]) for first in (0, 12, 24)] == [3, 3, 3]


def test_the_fast_engine_audits_32_images_unless_told_otherwise() -> None:
    asked = {
        "": None,
        "attack.engine=fast": 32,
        "attack.engine=fast attack.audit=null": None,
        "experiment=small_benchmark_mnist_weights": None,
    }
    for words, audit in asked.items():
        cfg = options("prune", "attack=autoattack", *words.split())
        assert cfg["attack"]["audit"] == audit


def test_an_image_that_the_audit_breaks_is_not_robust_and_a_doubt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fast engine is made to miss all: every image that pyautoattack breaks is found by the audit."""
    expected = attacked(None)[1]
    monkeypatch.setattr(
        "advprune.attacks.fast.results.BatchResults.offer", lambda self, image, point: None
    )
    model, x, y = contested_images()
    parts = tmp_path / "parts"
    parts.mkdir()

    def attack(net, x, y, *, positions, trail, marks, facts):  # type: ignore[no-untyped-def]
        return autoattack(net, x, y, audit=32, trail=trail, marks=marks, facts=facts, **GIVEN)

    module = RobustEvaluation(
        model, attack, name="autoattack", threat=Linf(0.02), parts=parts, seed=0
    )
    module.test_step((x, y, torch.arange(32)), 0)
    columns = module.records()
    assert columns["robust_ok"] == columns["robust_ok.audit"] == expected.tolist()
    result = summary(columns)
    broken = int((y == model(x).argmax(1)).sum() - expected.sum())
    assert result["audited"] - result["audited_held"] == broken > 0
    (doubt,) = sanity_warnings(result | {"classes_predicted": 5}, lets_through=lambda: True)
    assert f"broke {broken} of {result['audited']}" in doubt


def test_an_attack_killed_in_its_audit_does_not_search_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = tmp_path / "state"
    alone = attacked(4)

    def die(*args: object, **given: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(adapter.audits, "audit", die)
        with pytest.raises(Killed):
            attacked(4, work=work)
    assert work.exists()
    monkeypatch.setattr("advprune.attacks.fast.batching.Pool.run", die)  # no part runs any more
    for one, other in zip(attacked(4, work=work), alone, strict=True):
        assert torch.equal(one, other)
    assert not work.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": None}, "audit=8 is an option of engine=fast"),
        ({"audit": 0}, "audit.*at least 1"),
    ],
)
def test_a_wrong_audit_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        autoattack(*contested_images(), **(GIVEN | {"audit": 8} | given))  # type: ignore[arg-type]
