"""The signature `encoded` refuses images that are too large before they are decoded."""

import io
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from classify_serving.contract.images import MAX_ENCODED_PIXELS, decode_image
from classify_training.export.encoded_images import decode_images
from classify_training.export.image_headers import measure

SIDE = 32


def encode(kind: str, width: int = 40, height: int = 30, colour: int = 200, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (colour, 20, 90)).save(stream, kind, **options)
    return stream.getvalue()


def png_of_zeros(width: int, height: int) -> bytes:
    """A valid PNG file of one colour, compressed row by row."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def patched(content: bytes, position: int, fields: str, *values: int) -> bytes:
    return content[:position] + struct.pack(fields, *values) + content[position + struct.calcsize(fields) :]


def with_size(kind: str, width: int, height: int) -> bytes:
    """A small file whose header claims this size; a BMP's height may be negative."""
    content = encode(kind)
    if kind == "PNG":
        return patched(content, 16, ">II", width, height)
    if kind == "BMP":
        return patched(content, 18, "<ii", width, height)
    if kind == "JPEG":
        return patched(content, content.index(b"\xff\xc0") + 5, ">HH", height, width)
    return patched(patched(content, 6, "<HH", width, height), gif_image(content) + 5, "<HH", width, height)


def gif_image(content: bytes) -> int:
    """Position of the first image in a GIF file without extensions."""
    position = 13 + (6 << (content[10] & 7))
    assert content[position : position + 1] == b","
    return position


def animation(frames: int, width: int, height: int) -> bytes:
    content = encode("GIF", width, height)
    start = gif_image(content)
    return content[:start] + content[start:-1] * frames + b";"


@cache
def graph(resize: Any, max_pixels: int) -> Any:
    files = tf.TensorSpec([None], tf.string)
    return tf.function(lambda files: decode_images(files, SIDE, resize, max_pixels), input_signature=[files])


def decode(content: bytes, resize: Any = "stretch", max_pixels: int = MAX_ENCODED_PIXELS) -> Any:
    return graph(resize, max_pixels)(tf.constant([content])).numpy()[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_the_limit_is_the_number_of_pixels(kind: str) -> None:
    content = encode(kind, 50, 40)
    assert decode(content, max_pixels=2000).shape == (SIDE, SIDE, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 1999 pixels"):
        decode(content, max_pixels=1999)


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        *((kind, 20_000, 20_000) for kind in ("PNG", "JPEG", "GIF", "BMP")),
        ("BMP", 20_000, -20_000),
        ("BMP", 20_000, -(2**31)),
        ("PNG", 2**31 - 1, 2**31 - 1),
        ("PNG", 1, 2_000_000),
        ("GIF", 65_535, 65_535),
    ],
)
def test_a_header_that_claims_a_large_image_is_refused(kind: str, width: int, height: int) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 33554432 pixels"):
        decode(with_size(kind, width, height))


@pytest.mark.parametrize("position", [6, None])
def test_both_sizes_in_a_gif_count(position: int | None) -> None:
    content = encode("GIF")
    content = patched(content, gif_image(content) + 5 if position is None else position, "<HH", 20_000, 20_000)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 33554432 pixels"):
        decode(content)


def test_only_the_first_frame_of_an_animation_is_decoded() -> None:
    content = animation(50, 40, 30)
    first, size = measure(tf.constant(content))
    assert (first.numpy(), size.numpy().tolist()) == (animation(1, 40, 30), [30, 40])
    stream = io.BytesIO()
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]
    pictures[0].save(stream, "GIF", save_all=True, append_images=pictures[1:], loop=0, comment=b"with extensions" * 40)
    assert decode(stream.getvalue()).reshape(-1, 3).mean(axis=0).tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_an_incomplete_file_is_refused(kind: str) -> None:
    content = encode(kind)
    for length in (0, 1, 3, 5, 9, 12, 17, 20, 23):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(content[:length])


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"RIFF\x10\0\0\0WEBPVP8 ", b"\x89PNG and no more", b"GIF89a" + bytes(99)]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(content)


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (21, 20)])
def test_images_are_made_square_as_outside_of_the_graph(resize: Any, shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    pixels = np.stack([rows * 2, columns * 2, 0 * rows + 99], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    difference = decode(stream.getvalue(), resize).astype(int) - decode_image(
        io.BytesIO(stream.getvalue()), SIDE, resize
    )
    assert np.abs(difference).max() <= 4


def test_a_long_image_is_padded_without_a_square_of_its_length() -> None:
    image = decode(png_of_zeros(20_000, 2), "pad")
    assert image.shape == (SIDE, SIDE, 3)


MEASURE = """
import resource, sys
from pathlib import Path
import tensorflow as tf
from classify_training.export.encoded_images import decode_images
graph = tf.function(lambda files: decode_images(files, 32, "stretch"))
first, *files = (tf.constant([Path(name).read_bytes()]) for name in sys.argv[1:])
graph(first)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in files:
    try:
        print(graph(file).shape[0], end=" ")
    except tf.errors.InvalidArgumentError:
        print("refused", end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    names = []
    for name, content in {
        "small": encode("PNG"),
        "bomb": png_of_zeros(12_000, 12_000),
        "frames": animation(300, 2000, 2000),
    }.items():
        names.append(tmp_path / name)
        names[-1].write_bytes(content)
    assert names[1].stat().st_size < 500_000
    command = [sys.executable, "-c", MEASURE, *map(str, names)]
    *answers, megabytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert answers == ["refused", "1"]
    assert int(megabytes) < 300
