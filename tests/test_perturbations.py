"""Perturbations that are no balls: translation, rotation, occlusion, the negative; random and worst of K."""

import pytest
import torch
from torch import Tensor, nn

from advprune.attacks.geometric import rotate, rotation, translate, translation
from advprune.attacks.occlusion import occlusion
from advprune.attacks.semantic import semantic_negative
from advprune.attacks.worst_of import worst_of
from advprune.errors import UserError
from advprune.logits import margin


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).eval()


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(24, 3, 32, 32, generator=generator), torch.randint(
        0, 10, (24,), generator=generator
    )


def test_a_size_of_zero_changes_nothing(net: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    """Fact 12 of Jordao and Pedrini's papers."""
    x, y = images
    assert torch.equal(translation(net, x, y, pixels=0), x)
    assert torch.equal(rotation(net, x, y, degrees=0.0), x)
    assert torch.equal(occlusion(net, x, y, size=0), x)
    assert torch.equal(semantic_negative(net, semantic_negative(net, x.double(), y), y), x.double())


def test_translation_by_hand() -> None:
    x = torch.arange(1.0, 10).view(1, 1, 3, 3) / 10
    down_left = translate(x, torch.tensor([[1, -2]]), fill=0.0)
    assert torch.equal(down_left[0, 0], torch.tensor([[0, 0, 0], [0.3, 0, 0], [0.6, 0, 0]]))
    both = translate(x.repeat(2, 1, 1, 1), torch.tensor([[0, 0], [-1, 0]]), fill=0.5)
    assert torch.equal(both[0], x[0])
    assert torch.equal(
        both[1, 0], torch.tensor([[0.4, 0.5, 0.6], [0.7, 0.8, 0.9], [0.5, 0.5, 0.5]])
    )


def test_translations_reach_every_shift_and_no_other(net: nn.Module) -> None:
    x = torch.zeros(400, 1, 9, 9)
    x[:, :, 4, 4] = 1
    moved = translation(net, x, torch.zeros(400, dtype=torch.long), pixels=2)
    places = moved.flatten(1).argmax(1)
    assert {(int(p) // 9 - 4, int(p) % 9 - 4) for p in places} == {
        (a, b) for a in range(-2, 3) for b in range(-2, 3)
    }


@pytest.mark.parametrize("size", [(5, 5), (6, 6)])
def test_rotation_by_quarters(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    turned = rotate(x, torch.tensor([0.0, 90.0]), fill=0.0)
    assert torch.equal(turned[0], x[0])
    torch.testing.assert_close(turned[1], x[1].rot90(1, (-2, -1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        rotate(x, torch.tensor([180.0, -90.0]), fill=0.0)[0], x[0].flip(-1, -2), atol=1e-5, rtol=0
    )


def test_an_occlusion_of_16_changes_one_square(
    net: nn.Module, images: tuple[Tensor, Tensor]
) -> None:
    x, y = images
    covered = occlusion(net, x, y, size=16, fill=0.25)
    changed = covered != x
    assert (changed.flatten(1).sum(1) <= 256 * 3).all()
    for image, where in zip(covered, changed, strict=True):
        rows, columns = where.any(0).any(1).nonzero(), where.any(0).any(0).nonzero()
        assert (len(rows), len(columns)) == (16, 16)
        assert (image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0.25).all()
    assert torch.equal(occlusion(net, x, y, size="half"), occlusion(net, x, y, size=16))


@pytest.mark.parametrize(
    ("attack", "options"),
    [(translation, {"pixels": 4}), (rotation, {"degrees": 30.0}), (occlusion, {"size": 12})],
    ids=["translation", "rotation", "occlusion"],
)
def test_more_draws_are_never_kinder(attack, options, net, images) -> None:  # type: ignore[no-untyped-def]
    x, y = images
    positions = torch.arange(100, 124)
    margins = [
        margin(net(attack(net, x, y, worst_of=k, positions=positions, **options)), y).detach()
        for k in (1, 3, 12)
    ]
    assert (margins[1] >= margins[0]).all()
    assert (margins[2] >= margins[1]).all()
    assert (margins[2] > margins[0]).any()
    # what an image gets depends on its position, and on nothing else in the batch
    whole = attack(net, x, y, worst_of=3, positions=positions, **options)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))[:7]
    assert torch.equal(
        attack(net, x[order], y[order], worst_of=3, positions=positions[order], **options),
        whole[order],
    )
    assert not torch.equal(
        attack(net, x, y, worst_of=3, positions=positions, seed=1, **options), whole
    )


def test_worst_of_passes_the_positions_on(net: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    x, _ = images
    y = net(x).argmax(1).detach()
    positions = torch.arange(24) + 7

    def keyed(model: nn.Module, x: Tensor, y: Tensor, *, positions: Tensor) -> Tensor:
        seen.append(positions)
        return x

    seen: list[Tensor] = []
    worst_of(
        net, x, y, attacks={"negative": semantic_negative, "keyed": keyed}, positions=positions
    )
    standing = net(1 - x).argmax(1) == y
    assert torch.equal(seen[0], positions[standing])


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (translation, {"pixels": 32}, "pixels=32 must be from 0 to 31"),
        (
            translation,
            {"pixels": 1, "worst_of": 0},
            "worst_of=0 is not possible: it must be at least 1",
        ),
        (
            rotation,
            {"degrees": 181.0},
            "degrees=181 is not possible: it must be at least 0 and at most 180",
        ),
        (occlusion, {"size": 33}, "size=33 must be from 0 to 32"),
        (
            occlusion,
            {"size": 3, "fill": 255.0},
            "fill=255 is not possible: it must be at least 0 and at most 1",
        ),
    ],
)
def test_bad_options_are_named(attack, options, message, net, images) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        attack(net, *images, **options)
