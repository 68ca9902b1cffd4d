"""Every image file is decoded to uint8 [S,S,3], RGB, or raises ImageError."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classify_serving.contract.images import RESIZE_MODES, ImageError, Resize, decode_image, is_image_name


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((9, 9), 128 * 257, np.uint16))
    assert np.all(decode_image(saved(deep, tmp_path / "a.png"), 4) == 128)
    assert np.all(decode_image(saved(deep, tmp_path / "a.tif"), 4) == 128)


def test_floats_between_0_and_1_are_scaled(tmp_path: Path) -> None:
    assert np.all(decode_image(saved(Image.new("F", (5, 5), 0.2), tmp_path / "a.tif"), 4) == 51)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_blended_with_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (6, 6), (200, 0, 0, 0))
    path = saved(clear.convert("LA") if mode == "LA" else clear, tmp_path / "a.png")
    if mode == "P":
        palette = Image.new("P", (6, 6), 0)
        palette.putpalette([200, 0, 0])
        path = saved(palette, tmp_path / "p.png", transparency=0)
    assert np.all(decode_image(path, 4) == 255)


@pytest.mark.parametrize(("mode", "colour"), [("1", 1), ("L", 255), ("CMYK", (0, 0, 0, 0)), ("YCbCr", (255, 128, 128))])
def test_other_modes_become_rgb(tmp_path: Path, mode: str, colour: Any) -> None:
    path = saved(Image.new(mode, (6, 6), colour), tmp_path / "a.tif")
    assert np.all(decode_image(path, 4) >= 254)


def test_the_first_frame_of_an_animation_is_used(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode_image(path, 4)[0, 0].tolist() == [255, 0, 0]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 64), "black")
    image.paste((255, 255, 255), (0, 0, 64, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(saved(image, tmp_path / "a.jpg", exif=exif), 32)
    assert decoded[:, -4:].min() > 200, "the white bar turns from the top to the right"
    assert decoded[:, :16].max() < 50


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (8, 8), "white"), tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    assert decode_image(path, 4).min() == 255


@pytest.mark.parametrize("resize", RESIZE_MODES)
def test_the_resize_mode_decides_about_the_aspect_ratio(tmp_path: Path, resize: Resize) -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    decoded = decode_image(saved(wide, tmp_path / "a.png"), 30, resize)
    red, blue = (np.all(np.abs(decoded.astype(int) - colour) < 8, axis=-1) for colour in ((255, 0, 0), (0, 0, 255)))
    black = decoded.max(axis=-1) < 8
    share = {"stretch": (2 / 3, 1 / 3, 0), "pad": (2 / 9, 1 / 9, 2 / 3), "crop": (0, 1, 0)}[resize]
    assert [red.mean(), blue.mean(), black.mean()] == pytest.approx(share, abs=0.07)


def test_a_jpeg_decoded_at_reduced_scale_looks_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 640, dtype=np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (480, 1))] * 3, axis=-1))
    small = decode_image(saved(image, tmp_path / "a.jpg", quality=95), 32)
    exact = decode_image(saved(image, tmp_path / "a.png"), 32)
    assert np.abs(small.astype(int) - exact).max() <= 4


def test_a_single_pixel_with_a_wrong_ending_is_read(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (1, 1), (7, 8, 9)), tmp_path / "a.jpg", format="PNG")
    assert np.all(decode_image(path, 32) == (7, 8, 9))


def test_unreadable_files_raise_an_error_with_a_reason(tmp_path: Path) -> None:
    whole = saved(Image.effect_noise((64, 64), 90), tmp_path / "a.png").read_bytes()
    contents = {"empty.png": b"", "text.jpg": b"hello", "cut.png": whole[: len(whole) // 2]}
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ImageError) as raised:
            decode_image(path, 8)
        assert raised.value.path == str(path)
        assert raised.value.reason
    with pytest.raises(ImageError, match="no such file"):
        decode_image(tmp_path / "absent.png", 8)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    path = saved(Image.new("1", (20_000, 20_000)), tmp_path / "bomb.png")
    with pytest.raises(ImageError, match="too many pixels"):
        decode_image(path, 8)


def test_postscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ImageError, match="not an image"):
        decode_image(path, 8)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _seed_images() -> list[bytes]:
    rgb = Image.effect_noise((24, 16), 60).convert("RGB")
    frames = {"save_all": True, "append_images": [Image.new("RGB", (24, 16), colour) for colour in ("red", "blue")]}
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        *(_encoded(rgb, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "TGA", "PCX", "JPEG2000")),
        *(_encoded(rgb, kind, **frames) for kind in ("PNG", "GIF", "WEBP", "TIFF", "MPO")),
        *(_encoded(rgb, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        *(_encoded(rgb.convert("1"), "TIFF", compression=name) for name in ("group3", "group4")),
        _encoded(rgb, "JPEG", progressive=True, exif=exif),
        _encoded(rgb.convert("CMYK"), "JPEG"),
        _encoded(rgb.convert("P"), "PNG", transparency=0),
        _encoded(Image.fromarray(np.arange(384, dtype=np.uint16).reshape(16, 24) * 170), "PNG"),
    ]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(_seed_images()),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=6),
    cut=st.integers(0, 3000),
)
def test_corrupted_files_give_an_image_or_an_image_error(seed: bytes, edits: list[tuple[int, bytes]], cut: int) -> None:
    content = bytearray(seed)
    for position, patch in edits:
        content[position : position + len(patch)] = patch
    try:
        decoded = decode_image(io.BytesIO(bytes(content[:cut])), 8)
    except ImageError:
        return
    assert decoded.shape == (8, 8, 3)
    assert decoded.dtype == np.uint8


def test_broken_files_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    noisy = np.random.default_rng(0)
    tiffs = [seed for seed in _seed_images() if seed[:2] == b"II"]
    for _ in range(400):
        content = bytearray(tiffs[noisy.integers(len(tiffs))])
        for position in noisy.integers(8, len(content), 3):
            content[position] = noisy.integers(256)
        with suppress(ImageError):
            decode_image(io.BytesIO(content), 8)
    assert capfd.readouterr() == ("", ""), "libtiff must not print"


def test_image_names() -> None:
    assert all(is_image_name(name) for name in ("a.jpg", "A.JPEG", "ä b.PnG", "x.tar.webp", "IMG_1.HEIC"))
    assert not any(is_image_name(name) for name in (".jpg", "._a.jpg", "a.txt", "jpg", "a.jpg.part"))
