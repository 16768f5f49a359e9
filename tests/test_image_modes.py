"""Any image file is read as a viewer shows it, or refused by name: modes, bits, transparency, orientation, damage."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advprune.datasets.decode import count_frames, open_image
from advprune.errors import UserError

RAMP = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (4, 1))
DEEP = RAMP.astype(np.uint16) * 257


def read(path: Path, channels: int = 1) -> np.ndarray:
    return np.asarray(open_image(path, channels))


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        open_image(path, 3)
    assert str(error.value).startswith(f"{path} cannot be read as an image: ")
    return str(error.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path, name, channels):
    found = read(saved(tmp_path / name, Image.fromarray(DEEP)), channels)
    assert np.array_equal(found if channels == 1 else found[..., 1], RAMP)


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize(("bits", "zero_is_white"), [(16, False), (16, True), (12, False)])
def test_tiffs_of_either_byte_order_bits_and_polarity(tmp_path, order, bits, zero_is_white):
    if (order, zero_is_white) == ("MM", True) or (order, bits) == ("MM", 12):
        pytest.skip("a kind of TIFF that Pillow does not read")
    values = np.rint(RAMP.astype(np.float64) * ((1 << bits) - 1) / 255).astype(np.uint16)
    found = read(tiff(tmp_path / "a.tif", values, order, bits, zero_is_white))
    assert np.array_equal(found, 255 - RAMP if zero_is_white else RAMP)


def tiff(path: Path, values: np.ndarray, order: str, bits: int, zero_is_white: bool) -> Path:
    """A minimal grey TIFF, written by hand: header, pixels, one directory."""
    end = "<" if order == "II" else ">"
    if bits == 12:
        pairs = values.astype(np.uint32).reshape(-1, 2)
        pixels = b"".join(int(a << 12 | b).to_bytes(3, "big") for a, b in pairs.tolist())
    else:
        pixels = values.astype(f"{end}u2").tobytes()
    rows, columns = values.shape
    tags = [
        (256, columns),
        (257, rows),
        (258, bits),
        (259, 1),
        (262, 0 if zero_is_white else 1),
        (273, 8),
        (277, 1),
        (278, rows),
        (279, len(pixels)),
    ]
    short, long = np.dtype(f"{end}u2"), np.dtype(f"{end}u4")
    entries = b"".join(
        np.array([tag, 4], short).tobytes() + np.array([1, value], long).tobytes()
        for tag, value in tags
    )
    header = (
        order.encode()
        + np.array([42], short).tobytes()
        + np.array([8 + len(pixels)], long).tobytes()
    )
    path.write_bytes(header + pixels + np.array([len(tags)], short).tobytes() + entries + bytes(4))
    return path


def test_a_pgm_of_twelve_bits_is_scaled_by_its_own_maximum(tmp_path):
    values = np.rint(RAMP.astype(np.float64) * 4095 / 255).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 32 4 4095\n" + values.tobytes())
    assert np.array_equal(read(tmp_path / "a.pgm"), RAMP)


def test_colour_of_sixteen_bits_keeps_its_grey_levels(tmp_path):
    pixels = np.stack([DEEP, DEEP[:, ::-1], DEEP], axis=2).astype(">u2")
    (tmp_path / "a.ppm").write_bytes(b"P6 32 4 65535\n" + pixels.tobytes())
    assert np.array_equal(
        read(tmp_path / "a.ppm", 3), np.stack([RAMP, RAMP[:, ::-1], RAMP], axis=2)
    )


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_modes_without_a_range_are_refused_by_name(tmp_path, mode):
    said = refusal(saved(tmp_path / "a.tif", Image.new(mode, (4, 4))))
    assert f"its mode {mode} has no known range; convert it to 8 or 16 bits" in said


def test_one_bit_palettes_and_cmyk_keep_their_colours(tmp_path):
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for name, image in (
        ("p.png", red.convert("P")),
        ("c.tif", red.convert("CMYK")),
        ("rgb.bmp", red),
    ):
        assert (read(saved(tmp_path / name, image), 3) == (255, 0, 0)).all(), name
    black_and_white = Image.fromarray(RAMP > 127)
    assert np.array_equal(
        read(saved(tmp_path / "1.png", black_and_white)), np.where(RAMP > 127, 255, 0)
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_are_white_whatever_colour_they_hide(tmp_path, mode):
    for hidden in (0, 90):
        grey = np.full((4, 4), hidden, np.uint8)
        grey[:, 2:] = 200
        seen = np.where(grey == 200, 255, 0).astype(np.uint8)
        options = {}
        if mode == "RGBA":
            image = Image.fromarray(np.stack([grey, grey, grey, seen], axis=2))
        elif mode == "LA":
            image = Image.fromarray(np.stack([grey, seen], axis=2), "LA")
        else:
            image, options = Image.fromarray(grey).convert(mode), {"transparency": hidden}
            options = options if mode == "P" else {"transparency": (hidden,) * 3}
        path = saved(tmp_path / f"{hidden}.png", image, **options)
        assert read(path)[0].tolist() == [255, 255, 200, 200]
        assert read(path, 3)[0, :, 1].tolist() == [255, 255, 200, 200]


def test_half_transparent_black_is_half_white(tmp_path):
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 51))
    assert (read(saved(tmp_path / "a.png", image)) == 204).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_all_eight_orientations_stand_upright(tmp_path, name):
    """What each orientation says is EXIF 2.3, 4.6.4: where the 0th row and the 0th column lie."""
    meant = np.zeros((48, 64), np.uint8)
    meant[:16, :32], meant[-16:] = 250, 120
    stored = {
        1: meant,
        2: meant[:, ::-1],
        3: meant[::-1, ::-1],
        4: meant[::-1],
        5: meant.T,
        6: np.rot90(meant),
        7: np.rot90(meant, 2).T,
        8: np.rot90(meant, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[274] = orientation
        path = saved(
            tmp_path / name, Image.fromarray(np.ascontiguousarray(pixels)), exif=exif, quality=95
        )
        found = read(path)
        assert found.shape == meant.shape, orientation
        assert np.abs(found.astype(int) - meant)[4:-4, 4:-4].mean() < 4, orientation


def test_a_broken_orientation_costs_no_image(tmp_path):
    path = saved(
        tmp_path / "a.jpg",
        Image.fromarray(np.full((16, 16), 90, np.uint8)),
        exif=b"Exif\0\0II*\0\xff\xff\xff",
    )
    assert abs(int(read(path).mean()) - 90) < 3


def test_files_that_are_no_image_say_why_and_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "empty.png").touch()
    assert "it is empty; replace it or delete it" in refusal(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    assert "it is no image that Pillow knows; replace it or delete it" in refusal(
        tmp_path / "text.png"
    )
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    assert "a link may lead nowhere" in refusal(tmp_path / "link.png")
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    cut = saved(tmp_path / "cut.png", Image.fromarray(noise))
    cut.write_bytes(cut.read_bytes()[:500])
    assert "truncated" in refusal(cut)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    assert "more than 60 pixels" in refusal(saved(tmp_path / "bomb.png", Image.fromarray(RAMP)))


def test_of_several_pictures_the_first_is_read(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (10, 20, 30)]
    for name in ("a.gif", "a.tif"):
        path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
        assert count_frames(path) == 3
        assert (read(path) == 10).all()
