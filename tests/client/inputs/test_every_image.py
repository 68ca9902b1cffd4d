"""Every image file anyone has: one row each, nothing else on the terminal, nothing outside the output folder."""

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


def save(name: str, image: Image.Image = WHITE, **options: object) -> Callable[[Path], None]:
    return lambda folder: image.save(folder / name, **options)  # type: ignore[arg-type]


def content(name: str, data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return write


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated(folder: Path) -> None:
    save("truncated.png", Image.effect_noise((64, 64), 90))(folder)
    whole = (folder / "truncated.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])


EXIF = Image.Exif()
EXIF[0x0112] = 6
READABLE = {
    "wrong ending.jpg": save("wrong ending.jpg", format="PNG"),
    "deep.png": save("deep.png", Image.fromarray(np.full((9, 9), 65535, np.uint16))),
    "float.tif": save("float.tif", Image.new("F", (5, 5), 1.0)),
    "cmyk.jpg": save("cmyk.jpg", Image.new("CMYK", (9, 9), (0, 0, 0, 0))),
    "clear.png": save("clear.png", Image.new("RGBA", (9, 9), (9, 9, 9, 0))),
    "palette.gif": save("palette.gif", Image.new("P", (9, 9), 0), transparency=0),
    "animated.gif": save("animated.gif", save_all=True, append_images=[Image.new("RGB", (30, 20), "black")]),
    "turned.jpg": save("turned.jpg", exif=EXIF),
    "one.bmp": save("one.bmp", Image.new("RGB", (1, 1), "white")),
    "thin.png": save("thin.png", Image.new("RGB", (1, 5000), "white")),
    **{
        name: save(name, format="PNG")
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
    "empty.png": content("empty.png", b""),
    "text.jpg": content("text.jpg", b"hello"),
    "truncated.png": truncated,
    "bomb.png": content("bomb.png", png(20_000, 20_000)),
    "hollow.png": content("hollow.png", png(3000, 3000)),
    "huge.png": content("huge.png", png(2**31 - 1, 2**31 - 1)),
    "script.jpg": content("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "gone.png": lambda folder: (folder / "gone.png").symlink_to("nowhere"),
    "loop.png": lambda folder: (folder / "loop.png").symlink_to("loop.png"),
}


@pytest.fixture
def collection(start: Start, capfd: pytest.CaptureFixture[str]) -> Client:
    """All of them in the folder of a class that is the wrong one, and some that are no files."""
    made = start(BrightnessModel(make_metadata()))
    folder = made.images / "black"
    folder.mkdir(parents=True)
    for make in (READABLE | BROKEN).values():
        make(folder)
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.png")
    capfd.readouterr()
    return made


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_one_row_each_and_not_a_word_more(
    collection: Client, file_format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        result = collection.run("--format", file_format, "--batch-size", "4")
        assert result.exit_code == 1
        failed, total = len(BROKEN), len(BROKEN | READABLE)
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"{failed} of {total} images failed")
        assert capfd.readouterr() == ("", "")
        rows = list(read_rows(collection.output / f"predictions.{file_format}"))
        status = {row.path.removeprefix("black/"): (row.is_answered, bool(row.error), row.predicted) for row in rows}
        assert status == {
            **{os.fsencode(name).decode(errors="backslashreplace"): (True, False, "white") for name in READABLE},
            **dict.fromkeys(BROKEN, (False, True, "")),
        }
        assert len(rows) == total
        assert len(collection.misses()) == len(READABLE)
        assert all("\n" not in row.error and len(row.error) < 120 for row in rows)
    assert collection.model.images == len(READABLE)


def test_names_that_collide_in_miss_all_stay(start: Start) -> None:
    made = start(BrightnessModel(make_metadata()))
    for folder, name in (("a", "x:y.png"), ("b", "x?y.png"), ("c", "x_y.png"), ("d", "x_y.png")):
        write_picture(made.images / "black" / folder / "plain.png", 250 - ord(folder) % 5).rename(
            made.images / "black" / folder / name
        )
    for options in ((), ("--miss-by-pair",), ("--link",)):
        made.run(*options)
        copies = [path for path in (made.output / "miss").rglob("*") if path.is_file()]
        assert len({path.read_bytes() for path in copies}) == len(copies) == 4
