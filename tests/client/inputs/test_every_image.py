"""Valid, unusual and broken image files: each gets one row, and nothing else is printed."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from client_support import Client, Start
from PIL import Image
from support import BrightnessModel, make_metadata, write_picture

from classify_client.results.formats import read_rows

WHITE = Image.new("RGB", (30, 20), "white")


def image_file(name: str, image: Image.Image = WHITE, **options: object) -> Callable[[Path], None]:
    """A function that saves an image in a folder."""
    return lambda folder: image.save(folder / name, **options)  # type: ignore[arg-type]


def file_with(name: str, data: bytes) -> Callable[[Path], None]:
    """A function that writes a file with this content in a folder."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return write


def empty_png(width: int, height: int) -> bytes:
    """A PNG whose header states this size, without any pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated_png(folder: Path) -> None:
    """Write the first half of a PNG."""
    image_file("truncated.png", Image.effect_noise((64, 64), 90))(folder)
    complete = (folder / "truncated.png").read_bytes()
    (folder / "truncated.png").write_bytes(complete[: len(complete) // 2])


EXIF = Image.Exif()
EXIF[0x0112] = 6
READABLE = {
    "wrong ending.jpg": image_file("wrong ending.jpg", format="PNG"),
    "deep.png": image_file("deep.png", Image.fromarray(np.full((9, 9), 65535, np.uint16))),
    "float.tif": image_file("float.tif", Image.new("F", (5, 5), 1.0)),
    "cmyk.jpg": image_file("cmyk.jpg", Image.new("CMYK", (9, 9), (0, 0, 0, 0))),
    "clear.png": image_file("clear.png", Image.new("RGBA", (9, 9), (9, 9, 9, 0))),
    "palette.gif": image_file("palette.gif", Image.new("P", (9, 9), 0), transparency=0),
    "animated.gif": image_file("animated.gif", save_all=True, append_images=[Image.new("RGB", (30, 20), "black")]),
    "turned.jpg": image_file("turned.jpg", exif=EXIF),
    "one.bmp": image_file("one.bmp", Image.new("RGB", (1, 1), "white")),
    "thin.png": image_file("thin.png", Image.new("RGB", (1, 5000), "white")),
    **{
        name: image_file(name, format="PNG")
        for name in (
            "new\nline.png",
            "a,b.png",
            'quo"te.png',
            "🐈 é.png",
            os.fsdecode(b"\xff.png"),
            "%s{}.png",
            "-rf.png",
        )
    },
}
BROKEN = {
    "empty.png": file_with("empty.png", b""),
    "text.jpg": file_with("text.jpg", b"hello"),
    "truncated.png": truncated_png,
    "bomb.png": file_with("bomb.png", empty_png(20_000, 20_000)),
    "hollow.png": file_with("hollow.png", empty_png(3000, 3000)),
    "huge.png": file_with("huge.png", empty_png(2**31 - 1, 2**31 - 1)),
    "script.jpg": file_with("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "gone.png": lambda folder: (folder / "gone.png").symlink_to("nowhere"),
    "loop.png": lambda folder: (folder / "loop.png").symlink_to("loop.png"),
}


@pytest.fixture
def unusual_files(start: Start, capfd: pytest.CaptureFixture[str]) -> Client:
    """A client with all these files in the folder `black`, which is the wrong label, and a folder and a pipe there."""
    client = start(BrightnessModel(make_metadata()))
    folder = client.images / "black"
    folder.mkdir(parents=True)
    for write in (READABLE | BROKEN).values():
        write(folder)
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.png")
    capfd.readouterr()
    return client


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_every_file_gets_one_row_and_nothing_else_is_printed(
    unusual_files: Client, file_format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        result = unusual_files.run("--format", file_format, "--batch-size", "4")
        assert result.exit_code == 1
        failed, total = len(BROKEN), len(BROKEN | READABLE)
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"{failed} of {total} images failed")
        assert capfd.readouterr() == ("", "")
        rows = list(read_rows(unusual_files.output / f"predictions.{file_format}"))
        status = {row.path.removeprefix("black/"): (row.is_answered, bool(row.error), row.predicted) for row in rows}
        assert status == {
            **{os.fsencode(name).decode(errors="backslashreplace"): (True, False, "white") for name in READABLE},
            **dict.fromkeys(BROKEN, (False, True, "")),
        }
        assert len(rows) == total
        assert len(unusual_files.misses()) == len(READABLE)
        assert all("\n" not in row.error and len(row.error) < 120 for row in rows)
    assert unusual_files.model.images == len(READABLE)


def test_misses_whose_names_collide_are_all_kept(start: Start) -> None:
    client = start(BrightnessModel(make_metadata()))
    for folder, name in (("a", "x:y.png"), ("b", "x?y.png"), ("c", "x_y.png"), ("d", "x_y.png")):
        write_picture(client.images / "black" / folder / "plain.png", 250 - ord(folder) % 5).rename(
            client.images / "black" / folder / name
        )
    for options in ((), ("--miss-by-pair",), ("--link",)):
        client.run(*options)
        copies = [path for path in (client.output / "miss").rglob("*") if path.is_file()]
        assert len({path.read_bytes() for path in copies}) == len(copies) == 4
