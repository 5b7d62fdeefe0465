"""What 96_image_files should not hold: pictures of every kind, hostile files, bad arguments."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from tinydata import one_line

from lsd_nb.core import LSDError
from lsd_nb.image_files import check_images, from_bytes, read_images, to_bytes, write_images

# ---- images from outside


def test_check_images_accepts():
    x = torch.rand(3, 1, 28, 28) * 2 - 1
    for good, n in ((x, 3), (x[:, 0], 3), (x[0], 1), (x[0, 0], 1), (x.half(), 3), (x.numpy(), 3)):
        got = check_images(good)
        assert got.shape == (n, 1, 28, 28) and got.dtype == torch.float32
    assert check_images(torch.rand(2, 3, 8, 8) - 0.5, channels=3, size=8).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    "bad, says",
    [
        (torch.zeros(2, 1, 27, 28), r"shape \(2, 1, 27, 28\)"),
        (torch.zeros(2, 3, 28, 28), "shape"),
        (torch.zeros(784), "shape"),
        (torch.zeros(0, 1, 28, 28), "N ≥ 1"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "type uint8"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.bool), "type bool"),
        (torch.full((1, 1, 28, 28), 255.0), "rescale"),
        (torch.full((1, 1, 28, 28), -1.1), "rescale"),
        (torch.full((1, 1, 28, 28), float("nan")), "NaN"),
        (torch.full((1, 1, 28, 28), float("inf")), "NaN or infinite"),
    ],
)
def test_check_images_refuses(bad, says):
    with pytest.raises(LSDError, match=says) as e:
        check_images(bad)
    one_line(e)


def test_one_nan_is_enough():
    x = torch.zeros(5, 1, 28, 28)
    x[3, 0, 7, 9] = float("nan")
    with pytest.raises(LSDError, match="NaN"):
        check_images(x)


def test_range_of_0_to_1_is_warned_about():
    with pytest.warns(UserWarning, match=r"2 \* images - 1"):
        check_images(torch.rand(2, 1, 28, 28))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 3))
def test_written_images_are_read_back(tmp_path_factory, seed, n):
    folder = tmp_path_factory.mktemp("pictures")
    x = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    x[:, :, [0, -1]] = -1
    x[..., [0, -1]] = -1
    got, notes = read_images(write_images(x, [folder / f"new/{k}.png" for k in range(n)]))
    assert notes == [] and (got - x).abs().max() <= 1 / 255 + 1e-6
    assert sorted(p.name for p in (folder / "new").iterdir()) == [f"{k}.png" for k in range(n)]


def digit(width=40, height=60, ink=255, paper=0):
    pixels = np.full((height, width), paper, np.uint8)
    pixels[height // 4 : -height // 4, width // 3 : -width // 3] = ink
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "1", "LA", "RGBA"])
@pytest.mark.parametrize("ink, paper", [(255, 0), (0, 255)])
def test_modes_agree(tmp_path, mode, ink, paper):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    digit(ink=ink, paper=paper).convert("L" if mode == "L" else mode).save(path)
    digit().save(tmp_path / "plain.png")
    (got, plain), notes = read_images([path, tmp_path / "plain.png"])
    assert (got - plain).abs().max() < 0.05
    assert ("inverted" in notes[0]) == (paper == 255) and "40×60 padded to 60×60" in notes[0]


@pytest.mark.parametrize("ink, background", [(255, "black"), (0, "white")])
def test_transparent_drawings(tmp_path, ink, background):
    shape = digit()
    drawing = Image.merge("LA", [Image.new("L", shape.size, ink), shape])
    drawing.save(tmp_path / "x.png")
    shape.save(tmp_path / "plain.png")
    (got, plain), notes = read_images([tmp_path / "x.png", tmp_path / "plain.png"])
    assert (got - plain).abs().max() < 0.05 and f"transparency filled with {background}" in notes[0]


def test_16_bit_and_colour_are_noted(tmp_path):
    Image.fromarray(np.asarray(digit()).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.merge("RGB", [digit(), digit(ink=100), digit(ink=0)]).save(tmp_path / "red.png")
    _, notes = read_images([tmp_path / "deep.png", tmp_path / "red.png"])
    assert "16-bit values 0 … 65535" in notes[0] and "colour turned into grey" in notes[1]


def test_upright_by_its_exif_note(tmp_path):
    picture = digit()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90°
    picture.transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "turned.jpg", exif=exif, quality=95
    )
    picture.save(tmp_path / "plain.png")
    (got, plain), _ = read_images([tmp_path / "turned.jpg", tmp_path / "plain.png"])
    assert (got - plain).abs().mean() < 0.02


def test_one_pixel_and_one_path(tmp_path):
    Image.new("L", (1, 1), 0).save(tmp_path / "dot.png")
    got, notes = read_images(tmp_path / "dot.png")
    assert got.shape == (1, 1, 28, 28) and (got == -1).all() and "resized to 28×28" in notes[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(50), "truncated", "truncated jpeg"],
)
def test_undecodable_files(tmp_path, content):
    if isinstance(content, str):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(
            buffer, "JPEG" if "jpeg" in content else "PNG"
        )
        content = buffer.getvalue()[:1200]
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(LSDError, match=r"x.png cannot be read as an image") as e:
        read_images([tmp_path / "x.png"])
    one_line(e)


def test_missing_folder_and_no_files(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(LSDError, match="no such image file"):
            read_images([path])
    with pytest.raises(LSDError, match="no image files"):
        read_images([])


@pytest.mark.parametrize(
    "images, names, says",
    [
        (torch.zeros(2, 1, 4, 4), ["a.png"], r"expected \(1, 1, H, W\)"),
        (torch.zeros(1, 2, 4, 4), ["a.png"], "expected"),
        (torch.zeros(4, 4), ["a.png"], "expected"),
        (torch.zeros(1, 1, 4, 4), ["a.jpg"], "does not end in .png"),
        (torch.full((1, 1, 4, 4), float("nan")), ["a.png"], "NaN"),
    ],
)
def test_bad_writes_leave_nothing(tmp_path, images, names, says):
    with pytest.raises(LSDError, match=says) as e:
        write_images(images, [tmp_path / "out" / n for n in names])
    one_line(e)
    assert not (tmp_path / "out").exists()


def test_write_into_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LSDError) as e:
        write_images(torch.zeros(1, 1, 4, 4), tmp_path / "file/a.png")
    one_line(e)


# ---- bytes


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), shape=st.lists(st.integers(1, 5), min_size=0, max_size=4))
def test_bytes_come_back(seed, shape):
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    values = values.to(torch.uint8)
    assert torch.equal(to_bytes(from_bytes(values)), values)
    assert torch.equal(from_bytes(values.numpy()), from_bytes(values))


def test_bytes_round_to_the_nearest():
    x = torch.linspace(-1, 1, 10_001)
    assert (from_bytes(to_bytes(x)) - x).abs().max() <= 1 / 255 + 1e-6
    for bad in (float("nan"), float("inf")):
        with pytest.raises(LSDError, match="NaN or infinite"):
            to_bytes(torch.tensor([0.0, bad]))


@pytest.mark.parametrize("bad", ["x", None, [[1.0], [1.0, 2.0]], object(), np.array([object()])])
def test_check_images_names_what_is_no_array(bad):
    with pytest.raises(LSDError, match="no array of numbers") as e:
        check_images(bad)
    one_line(e)


def test_check_images_of_any_shape():
    assert check_images(torch.zeros(2, 3, 5, 9), None, None).shape == (2, 3, 5, 9)
    assert check_images(torch.zeros(2, 5, 9), None, None).shape == (2, 1, 5, 9)
    for channels, size in ((1, None), (3, 9), (3, (9, 5)), (None, (5, 8))):
        with pytest.raises(LSDError, match="expected"):
            check_images(torch.zeros(2, 3, 5, 9), channels, size)


# ---- depth, colours, several pictures


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_depth_is_recognised(tmp_path, bits):
    top = 2**bits - 1
    values = (np.asarray(digit()).astype(np.float64) / 255 * top).round().astype(np.uint16)
    for ending in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"x.{ending}")
    digit().save(tmp_path / "plain.png")
    got, notes = read_images([tmp_path / "x.png", tmp_path / "x.tif", tmp_path / "plain.png"])
    assert (got[:2] - got[2]).abs().max() < 0.02
    assert all(f"{bits}-bit values 0 … {top} scaled" in note for note in notes[:2])


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-3.0, 7.0), (1e-9, 2e-9), (0.0, 1e30)])
def test_floating_point_is_scaled_by_its_own_range(tmp_path, low, high):
    values = np.asarray(digit()).astype(np.float64) / 255 * (high - low) + low
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "x.tif")
    digit().save(tmp_path / "plain.png")
    (got, plain), notes = read_images([tmp_path / "x.tif", tmp_path / "plain.png"])
    assert (got - plain).abs().max() < 0.02 and "scaled to 0 … 255" in notes[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floating_point_without_a_number_is_refused(tmp_path, bad):
    values = np.zeros((9, 9), np.float32)
    values[3, 4] = bad
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(LSDError, match="NaN or infinite") as e:
        read_images(tmp_path / "x.tif")
    one_line(e)


def test_colours_are_kept_on_request(tmp_path):
    colours = Image.merge("RGB", [digit(), digit(ink=100), digit(ink=0)])
    for mode, name in (("RGB", "x.png"), ("CMYK", "x.tif"), ("P", "x.gif"), ("RGBA", "y.png")):
        colours.convert(mode).save(tmp_path / name)
        got, _ = read_images(tmp_path / name, size=60, channels=3)
        assert got.shape == (1, 3, 60, 60)
        centre = to_bytes(got[0, :, 30, 30]).int()
        assert (centre - torch.tensor([255, 100, 0])).abs().max() <= 3


def test_first_of_several_pictures(tmp_path):
    frames = [digit(), digit(ink=100)]
    for name in ("x.gif", "x.png", "x.tif", "x.webp"):
        options = {"lossless": True} if name == "x.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        got, notes = read_images(tmp_path / name)
        assert "first of several pictures" in notes[0] and got.max() > 0.98


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (8193, 3)])
def test_limit_counts_what_padding_adds(tmp_path, size):
    Image.new("1", size).save(tmp_path / "x.png")
    with pytest.raises(LSDError, match="when padded to a square") as e:
        read_images(tmp_path / "x.png")
    one_line(e)


def test_a_picture_that_claims_to_be_huge(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(LSDError, match="cannot be read as an image") as e:
        read_images(tmp_path / "x.png")
    one_line(e)


def test_text_chunks_that_unpack_to_much_are_stopped(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("k", "x" * 100_000_000, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(LSDError, match="cannot be read as an image") as e:
        read_images(tmp_path / "x.png")
    one_line(e)


@pytest.mark.parametrize("ending", ["eps", "ico", "pcx"])
def test_other_formats_are_refused(tmp_path, ending):
    digit().convert("RGB").save(tmp_path / f"x.{ending}")
    (tmp_path / f"x.{ending}").rename(tmp_path / "x.png")
    with pytest.raises(LSDError, match="cannot be read as an image") as e:
        read_images(tmp_path / "x.png")
    one_line(e)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    mode=st.sampled_from(["L", "RGB", "P", "1"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
def test_damaged_files_end_in_a_picture_or_in_one_line(tmp_path_factory, kind, mode, cut, flips):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (24, 31), np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    (picture.convert("RGB") if kind in ("JPEG", "WEBP", "PPM") else picture).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place, value in flips:
        content[int(place * (len(content) - 1))] = value
    path = tmp_path_factory.mktemp("hostile") / "x.png"
    path.write_bytes(content[: max(1, int(len(content) * max(cut, 0.2)))])
    try:
        got, _ = read_images(path)
    except LSDError as error:
        assert "\n" not in str(error)
    else:
        assert got.shape == (1, 1, 28, 28) and got.abs().max() <= 1


@pytest.mark.parametrize("kwargs", [dict(size=0), dict(size=2.5), dict(channels=2), dict(size=1e9)])
def test_bad_arguments_for_reading(tmp_path, kwargs):
    digit().save(tmp_path / "x.png")
    with pytest.raises(LSDError, match="expected") as e:
        read_images(tmp_path / "x.png", **kwargs)
    one_line(e)


@pytest.mark.parametrize("bad", [None, 7, [None], "a" * 5000, "a\0b", [3.5]])
def test_bad_paths(bad):
    with pytest.raises(LSDError) as e:
        read_images(bad)
    one_line(e)


@pytest.mark.parametrize(
    "bad", [None, "x", torch.zeros(1, 1, 4, 4) * 1j, torch.zeros(1, 1, 4, 4).int()]
)
def test_bad_images_to_write(tmp_path, bad):
    for call in (lambda: write_images(bad, tmp_path / "a.png"), lambda: to_bytes(bad)):
        with pytest.raises(LSDError) as e:
            call()
        one_line(e)
    for values in (torch.zeros(3), np.zeros(3), ["x"], [None], None):
        with pytest.raises(LSDError, match="expected uint8"):
            from_bytes(values)
