"""Odd image files: training commands name those that cannot be read, and print nothing else about them."""

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, TiffImagePlugin
from support import write_picture

TRUNCATED_EXIF = b"MM\0*\0\0\0\x08\0\5\1\x12\0\3\0\0\0\1\0\6\0\0\1\x0f\0\2\0\0\xff\xff"
"""An orientation, and then an entry without an end."""


def picture() -> Image.Image:
    """40 x 30 pixels in many colours."""
    return Image.effect_mandelbrot((40, 30), (-2, -1.5, 1, 1.5), 40).convert("RGB")


def with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with the first value of a tag changed."""
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (entries,) = struct.unpack_from("<H", tiff, directory)
    changed = bytearray(tiff)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", tiff, place) == (tag,):
            struct.pack_into("<H", changed, place + 8, value)
    return bytes(changed)


def tiff(compression: str) -> bytes:
    stream = io.BytesIO()
    picture().save(stream, "TIFF", compression=compression)
    return stream.getvalue()


@pytest.fixture
def odd_dataset(tmp_path: Path) -> Path:
    """Two classes; what is odd can be read in `readable`, and not in `broken`."""
    dataset = tmp_path / "dataset"
    for number in range(4):
        write_picture(dataset / "broken" / f"{number}.png", 10 + number)
    readable, broken = dataset / "readable", dataset / "broken"
    readable.mkdir()
    picture().save(readable / "exif.png", exif=TRUNCATED_EXIF)
    picture().rotate(90).save(readable / "exif.jpg", exif=b"Exif\0\0" + TRUNCATED_EXIF)
    picture().quantize(16).save(readable / "palette.png", transparency=bytes(range(0, 256, 16)))
    Image.new("L", (10_000, 10_000)).save(readable / "100-megapixels.png")
    (readable / "tag.tif").write_bytes(with_tag(tiff("raw"), TiffImagePlugin.PLANAR_CONFIGURATION, 1))
    (broken / "samples.tif").write_bytes(with_tag(tiff("raw"), TiffImagePlugin.SAMPLESPERPIXEL, 25347))
    (broken / "data.tif").write_bytes(with_tag(tiff("tiff_lzw"), TiffImagePlugin.ROWSPERSTRIP, 7))
    (broken / "exif-only.jpg").write_bytes(b"\xff\xd8\xff\xe1\0\x10Exif\0\0" + TRUNCATED_EXIF)
    Image.new("1", (20_000, 20_000)).save(broken / "400-megapixels.png")
    return dataset


def test_odd_images_are_named_or_silent(odd_dataset: Path, tmp_path: Path) -> None:
    """In a process of its own, because C libraries write to the file descriptor of stderr."""
    command = [sys.executable, "-m", "classify_training", "inspect", str(odd_dataset)]
    command += ["--image-size", "32", "--min-images", "1", "--cache", str(tmp_path / "cache")]
    # Filters of warnings that a user may have set.
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    broken = odd_dataset / "broken"
    reasons = {
        "400-megapixels.png": "too many pixels (more than 178,956,970): scale it down",
        "data.tif": "broken file (decoder error -2)",
        "exif-only.jpg": "not an image, or in a format that cannot be read",
        "samples.tif": "not an image, or in a format that cannot be read",
    }
    expected = [f"left out, cannot be read: {broken / name}: {reason}" for name, reason in reasons.items()]
    assert result.stderr.splitlines() == expected


def test_a_message_is_printed_once_although_a_library_has_given_the_root_logger_a_handler(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_picture(tmp_path / label / "1.png", len(label) + ord(label[0]))
    (tmp_path / "empty").mkdir()
    code = "import logging; logging.basicConfig(); from classify_training.cli.main import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(tmp_path), "--min-images", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr.count("no images in") == 1, result.stderr
