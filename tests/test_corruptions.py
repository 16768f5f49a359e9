"""Common corruptions: against slow references and hand-made cases; the same bits whatever the order and the batch."""

import colorsys
import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates, zoom
from torch import Tensor, nn

from advprune.attacks.common import blur, digital, edges, weather
from advprune.attacks.common.pixels import clipped_zoom, filtered, sampled, streaked
from advprune.attacks.corruptions import ALL, EXTRA, MAIN, NEAR, corrupt, corruptions
from advprune.attacks.per_image_rng import generators
from advprune.attacks.published import published_corruptions
from advprune.errors import UserError

#: Kinds of which the published constants themselves do not move an image farther at each severity:
#: fewer passes with a wider blur (glass), more ice before a darker image (frost), a weaker pull
#: with rougher waves (elastic), water and then mud (spatter), less colour and then more (saturate).
NOT_FARTHER = {"glass_blur", "frost", "elastic_transform", "spatter", "saturate"}


def natural(count: int, size: int = 32, channels: int = 3) -> Tensor:
    """Smooth random pictures with some grain, of whole grey levels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    grain = 0.2 * torch.rand(count, channels, size, size, generator=generator)
    fine = torch.nn.functional.interpolate(
        coarse, size=(size, size), mode="bicubic", align_corners=True
    )
    return ((0.9 * fine + grain).clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_its_images_one_by_one(name: str) -> None:
    x = natural(7)
    whole = corrupt(x, name, 4, list(range(50, 57)))
    assert torch.equal(whole, corrupt(x, name, 4, list(range(50, 57))))
    alone = torch.cat([corrupt(x[i : i + 1], name, 4, [50 + i]) for i in reversed(range(7))]).flip(
        0
    )
    assert torch.equal(whole, alone)
    assert whole.shape == x.shape
    assert whole.dtype == torch.float32
    assert 0 <= whole.min() <= whole.max() <= 1
    torch.testing.assert_close(whole * 255, (whole * 255).round(), atol=1e-4, rtol=0)
    random = name not in {
        "defocus_blur",
        "zoom_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg_compression",
        "gaussian_blur",
        "saturate",
    }
    assert torch.equal(whole, corrupt(x, name, 4, list(range(60, 67)))) != random
    assert torch.equal(whole, corrupt(x, name, 4, list(range(50, 57)), seed=1)) != random


@pytest.mark.parametrize("name", sorted(ALL))
def test_severity_is_distance(name: str) -> None:
    x = natural(128)  # the draws of one severity are not those of another: their mean tells
    far = [
        (corrupt(x, name, severity, list(range(128))) - x).square().mean().item()
        for severity in range(1, 6)
    ]
    assert min(far) > 0
    if name not in NOT_FARTHER:
        assert far == sorted(far)
        assert far[4] > 1.1 * far[0]


def test_severity_where_the_constants_trade() -> None:
    x = natural(24)

    def far(name: str, severity: int) -> float:
        return (corrupt(x, name, severity, list(range(24))) - x).square().mean().item()

    assert min(far("glass_blur", 4), far("glass_blur", 5)) > max(
        far("glass_blur", s) for s in (1, 2, 3)
    )
    assert far("elastic_transform", 1) > far("elastic_transform", 5)
    assert far("saturate", 1) < far("saturate", 2)
    assert far("saturate", 3) < far("saturate", 4) < far("saturate", 5)
    assert far("spatter", 1) < far("spatter", 2) < far("spatter", 3)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 1), (64, 3)])
def test_every_kind_takes_other_sizes(size: int, channels: int) -> None:
    x = natural(2, size, channels)
    for name in ALL:
        out = corrupt(x, name, 5, [0, 1])
        assert out.shape == x.shape
        assert torch.equal(out, x) == (name == "saturate" and channels == 1)


def test_pinned_bits() -> None:
    """Only those that are additions, products and Philox: other kinds may differ in a bit between machines."""
    x = (torch.arange(4 * 3 * 32 * 32) * 37 % 256).view(4, 3, 32, 32) / 255
    digest = hashlib.sha256()
    for name in ("impulse_noise", "contrast", "brightness"):
        digest.update(
            (corrupt(x, name, 3, [0, 1, 2, 3]) * 255).round().to(torch.uint8).numpy().tobytes()
        )
    assert digest.hexdigest()[:16] == "9f6193a36984ae54"


def test_noise_has_the_published_spread() -> None:
    grey = torch.full((50, 3, 32, 32), 128 / 255)
    for name, expected in (
        ("gaussian_noise", 0.06),
        ("shot_noise", (128 / 255 / 250) ** 0.5),
        ("speckle_noise", 12.8 / 255),
    ):
        spread = (corrupt(grey, name, 2, list(range(50))) - grey).std().item()
        assert spread == pytest.approx(expected, rel=0.02)
    struck = corrupt(grey, "impulse_noise", 5, list(range(50)))
    salt, pepper = (struck == 1).float().mean().item(), (struck == 0).float().mean().item()
    assert salt == pytest.approx(0.035, abs=0.002)
    assert pepper == pytest.approx(0.035, abs=0.002)


#: CIFAR-10-C's strengths by severity, as its code has them (make_cifar_c.py of
#: hendrycks/robustness).
PUBLISHED = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "jpeg_compression": (80, 65, 58, 50, 40),
}


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_each_strength_is_the_published_one(severity: int) -> None:
    c = {name: strengths[severity - 1] for name, strengths in PUBLISHED.items()}
    grey = np.full((40, 3, 32, 32), 0.5)
    drawn = {
        name: ALL[name](grey, severity, generators("strength", list(range(40))))
        for name in PUBLISHED
    }
    assert (drawn["gaussian_noise"] - grey).std() == pytest.approx(c["gaussian_noise"], rel=0.02)
    assert (drawn["speckle_noise"] - grey).std() == pytest.approx(
        0.5 * c["speckle_noise"], rel=0.02
    )
    assert drawn["shot_noise"].var() == pytest.approx(0.5 / c["shot_noise"], rel=0.03)
    struck = drawn["impulse_noise"] != 0.5
    assert struck.mean() == pytest.approx(c["impulse_noise"], rel=0.06)
    assert (drawn["impulse_noise"][struck] == 1).mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(drawn["brightness"], 0.5 + c["brightness"])
    x = natural(3)
    values = x.numpy().astype(np.float64)
    mean = values.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(
        ALL["contrast"](values, severity, []), mean + c["contrast"] * (values - mean)
    )
    file, pixels = BytesIO(), (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=c["jpeg_compression"])
    seen = corrupt(x, "jpeg_compression", severity, [0, 1, 2])[0]
    assert np.array_equal(
        (seen * 255).round().byte().permute(1, 2, 0).numpy(), np.asarray(Image.open(file))
    )


def test_glass_is_the_published_loop_on_views() -> None:
    """The loop with numpy's tuple assignment between views of one image, which copies where it says swap."""
    x = natural(2).numpy().astype(np.float64)
    ours = blur.glass_blur(
        x, 1, generators("glass", [3, 9])
    )  # a blur of 0.05 does nothing: the moves alone
    for image, out, g in zip(x, ours, generators("glass", [3, 9]), strict=True):
        moves = g.integers(-1, 1, size=(2, 30, 30))
        slow = np.round(image.transpose(1, 2, 0) * 255).astype(np.uint8)
        for h in range(31, 1, -1):
            for w in range(31, 1, -1):
                a, b = h + moves[0, h - 2, w - 2], w + moves[1, h - 2, w - 2]
                slow[h, w], slow[a, b] = slow[a, b], slow[h, w]
        np.testing.assert_allclose(out.transpose(1, 2, 0) * 255, slow, atol=1e-9)


def test_zoom_is_scipys() -> None:
    x = natural(2).numpy().astype(np.float64)
    for factor in (1.05, 1.25, 1.75):
        kept = int(np.ceil(32 / factor))
        top = (32 - kept) // 2
        slow = zoom(x[..., top : top + kept, top : top + kept], (1, 1, factor, factor), order=1)
        trim = (slow.shape[-1] - 32) // 2
        np.testing.assert_allclose(
            clipped_zoom(x, factor), slow[..., trim : trim + 32, trim : trim + 32], atol=1e-12
        )


def test_bilinear_samples_are_scipys() -> None:
    x = natural(1).numpy().astype(np.float64)
    places = np.random.default_rng(0).uniform(-20, 52, (2, 1, 32, 32))
    for ours, scipys in (("symmetric", "reflect"), ("reflect", "mirror")):
        slow = map_coordinates(x[0, 1], places[:, 0], order=1, mode=scipys)
        np.testing.assert_allclose(
            sampled(x, places[0], places[1], border=ours)[0, 1], slow, atol=1e-12
        )


def test_motion_is_a_one_sided_streak() -> None:
    x = np.zeros((2, 1, 9, 9))
    x[:, :, 4, 4] = 1
    out = streaked(x, 1.0, 1.0, np.array([0.0, 90.0]))[:, 0]
    weights = np.exp(-(np.arange(3) ** 2) / 2)
    weights /= weights.sum()
    along, down = np.zeros((9, 9)), np.zeros((9, 9))
    along[4, [4, 3, 2]] = weights
    down[[4, 3, 2], 4] = weights
    np.testing.assert_allclose(out[0], along, atol=1e-12)
    np.testing.assert_allclose(out[1], down, atol=1e-12)


def test_kernels() -> None:
    cross = blur.disk(1.0, 1e-3)
    assert np.count_nonzero(cross) == 5
    assert cross.max() == pytest.approx(0.2)
    for radius, soft in ((0.3, 0.4), (1.5, 0.1), (9.0, 0.5)):
        assert blur.disk(radius, soft).sum() == pytest.approx(1)
    x = np.random.default_rng(0).random((1, 1, 6, 6))
    np.testing.assert_allclose(
        filtered(x, np.eye(3))[0, 0, 0, 0], x[0, 0, 1, 1] * 2 + x[0, 0, 0, 0]
    )


def test_colours_are_those_of_colorsys() -> None:
    x = np.random.default_rng(0).random((1, 3, 4, 4))
    x[0, :, 0, 0], x[0, :, 0, 1], x[0, :, 0, 2] = 0, 0.5, (0, 0, 0.7)
    for ours, change in (
        (weather.brightness(x, 3, []), lambda h, s, v: (h, s, min(v + 0.15, 1))),
        (digital.saturate(x, 5, []), lambda h, s, v: (h, min(s * 2.5 + 0.2, 1), v)),
        (digital.saturate(x, 2, []), lambda h, s, v: (h, s * 0.1, v)),
    ):
        for row in range(4):
            for column in range(4):
                expected = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*x[0, :, row, column])))
                np.testing.assert_allclose(ours[0, :, row, column], expected, atol=1e-12)


def test_contrast_and_fog_by_hand() -> None:
    x = natural(3).numpy().astype(np.float64)
    out = digital.contrast(x, 5, [])
    np.testing.assert_allclose(out.mean((2, 3)), x.mean((2, 3)))
    np.testing.assert_allclose(out.std((2, 3)), 0.15 * x.std((2, 3)))
    haze = weather.plasma(32, 3.0, generators("plasma", [1, 2]))
    assert (haze.min((1, 2)) == 0).all()
    assert (haze.max((1, 2)) == 1).all()
    black = weather.fog(np.full((1, 3, 32, 32), 0.5), 4, generators("fog", [1]))
    assert black.min() == pytest.approx(0.5 * 0.5 / 1.5)
    assert black.max() == pytest.approx(1.5 * 0.5 / 1.5)


def chamfer(rows: int, columns: int) -> float:
    """Closed form of the 5 x 5 distance without obstacles."""
    most, least = max(rows, columns), min(rows, columns)
    if 2 * least <= most:
        return edges.KNIGHT * least + most - 2 * least
    return edges.KNIGHT * (most - least) + edges.DIAGONAL * (2 * least - most)


def test_distance_is_the_chamfer_metric() -> None:
    found = edges.distance(np.pad([[True]], ((9, 20), (11, 18))))
    slow = [[min(chamfer(abs(r - 9), abs(c - 11)), 20.0) for c in range(30)] for r in range(30)]
    np.testing.assert_allclose(found, slow, atol=1e-9)
    assert (edges.distance(np.zeros((5, 5), dtype=bool)) == 20).all()


def test_edges_are_crests_that_hang_together_with_a_strong_one() -> None:
    step = np.zeros((8, 9), dtype=np.uint8)
    step[:, 4:] = (
        50  # a gradient of 200: of the two columns beside the step the left one is the crest
    )
    assert (edges.canny(step, 50, 150) == (np.arange(9) == 3)).all()
    step[:, 4:] = 20  # 80: above the low bar alone
    assert not edges.canny(step, 50, 150).any()
    step[0:2, 4:] = 50  # one end of it is strong: all of it is an edge
    assert edges.canny(step, 50, 150).any(1).all()


def test_equalised_levels_by_hand() -> None:
    assert edges.equalised(np.array([[3, 3], [5, 9]])).tolist() == [[0, 0], [128, 255]]
    assert edges.equalised(np.array([[7, 7]])).tolist() == [[7, 7]]


#: Mean absolute change, of 255, by the published code on the first 120 images: {kind: {severity:
#: change}}.
PUBLISHED_CHANGE = {
    "frost": {1: 30.9, 3: 50.2, 5: 44.8},
    "spatter": {1: 1.04, 2: 2.83, 3: 6.83, 4: 2.82, 5: 4.74},
}


@pytest.mark.parametrize("name", PUBLISHED_CHANGE)
def test_pixels_change_as_much_as_the_published_codes(shared: Path, name: str) -> None:
    with np.load(shared / "data" / "cifar10_train_4k.npz") as file:
        images = next(file[key] for key in file.files if file[key].ndim == 4)[:120]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    for severity, change in PUBLISHED_CHANGE[name].items():
        found = (corrupt(x, name, severity, list(range(120))) - x).abs().mean().item() * 255
        assert found == pytest.approx(change, rel=0.05)


def test_each_kind_says_how_near_it_is() -> None:
    assert list(NEAR) == list(ALL)
    assert (len(MAIN), len(EXTRA)) == (15, 4)


class Brightness(nn.Module):
    """Class 1 where the mean is above a threshold."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([torch.full_like(mean, 0.5), mean], dim=1)


def test_verdicts_are_of_each_corruption_alone() -> None:
    x = torch.full((2, 3, 8, 8), 0.4)
    x[1] = 0.44
    verdicts: dict[str, Tensor] = {}
    y = torch.zeros(2, dtype=torch.long)
    out = corruptions(
        Brightness(), x, y, names=["brightness", "contrast"], severities=[1, 2], verdicts=verdicts
    )
    assert {name: flags.tolist() for name, flags in verdicts.items()} == {
        "brightness.1": [True, True],
        "brightness.2": [True, False],
        "contrast.1": [True, True],
        "contrast.2": [True, True],
    }
    assert out[1].mean() > 0.5 > out[0].mean()  # the one that fooled; the last one tried


def test_unknown_names_and_severities_are_named() -> None:
    x, y = natural(1), torch.zeros(1, dtype=torch.long)
    with pytest.raises(UserError, match=r"names=\['smoke'\] must be some of gaussian_noise, "):
        corruptions(Brightness(), x, y, names=["smoke"], severities=[1])
    with pytest.raises(UserError, match=r"severities=\[6\] must be some of 1, 2, 3, 4, 5"):
        corruptions(Brightness(), x, y, severities=[6])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A set of 3 test images as CIFAR-10-C would have it: image i at severity s is all (10 s + i)."""
    array = np.stack(
        [np.full((8, 8, 3), 10 * s + i, dtype=np.uint8) for s in range(1, 6) for i in range(3)]
    )
    np.save(tmp_path / "fog.npy", array)
    np.save(tmp_path / "labels.npy", np.tile(np.array([0, 1, 0], dtype=np.uint8), 5))
    return {"root": str(tmp_path), "names": ["fog"], "severities": [2, 5]}


def test_published_files_are_read_by_position(files: dict[str, Any]) -> None:
    x, y = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    positions = torch.tensor([2, 1])
    out = published_corruptions(Brightness(), x, y, positions=positions, **files)
    assert (out * 255).round().flatten(1).unique(dim=1).flatten().tolist() == [
        52,
        21,
    ]  # the last; the first that fooled


def test_bad_published_files_are_named(files: dict[str, Any], tmp_path: Path) -> None:
    x, y, positions = torch.zeros(1, 3, 8, 8), torch.tensor([0]), torch.tensor([0])
    fog = tmp_path / "fog.npy"
    whole = fog.read_bytes()

    def complaint(**changed: Any) -> str:
        from advprune.attacks.published import load

        load.cache_clear()
        given = {"x": x, "y": y, "positions": positions, **files, **changed}
        with pytest.raises(UserError) as error:
            published_corruptions(Brightness(), **given)
        return str(error.value)

    fog.write_bytes(whole[:-100])
    assert "fog.npy is damaged" in complaint()
    fog.write_bytes(b"<html>not found</html>")
    assert "fog.npy is damaged" in complaint()
    np.save(fog, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "fog.npy is damaged" in complaint()
    fog.unlink()
    assert "there is no file" in complaint()
    fog.write_bytes(whole)
    assert "belongs to another test set" in complaint(y=torch.tensor([1]))
    assert "belongs to another test set" in complaint(positions=torch.tensor([3]))
    assert "these images need uint8" in complaint(x=torch.zeros(1, 1, 8, 8))
