"""Each content is decoded once, and nothing in the cache is ever out of date or half-written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import write_picture

from classify_serving.contract.images import ImageError
from classify_training.data.cache import CachedImage, ImageCache
from classify_training.errors import CacheError


def read(root: Path, cache: Path, size: int = 32) -> list[int | str]:
    """Brightness of each image below `root`, or why it cannot be read."""
    outcomes, images = ImageCache(cache, root, size, "stretch").read(sorted(root.rglob("*.*")), quiet=True)
    return [int(images[o.row].max()) if isinstance(o, CachedImage) else o.reason for o in outcomes]


def stored(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in cache.rglob("pixels-*")}


def test_what_is_known_is_not_decoded_again(tmp_path: Path) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    for brightness in (10, 20, 30):
        write_picture(root / f"{brightness}.png", brightness)
    (root / "x.png").write_bytes(b"no image")
    first = read(root, cache)
    assert first[:3] == [10, 20, 30]
    assert isinstance(first[3], str)
    before = stored(cache)
    (root / "10.png").rename(root / "renamed.png")
    assert read(root, cache) == [20, 30, 10, first[3]]
    assert stored(cache) == before
    write_picture(root / "20.png", 25)
    assert read(root, cache) == [25, 30, 10, first[3]]
    assert sum(stored(cache).values()) == sum(before.values()) + 32 * 32 * 3, "one more image, no other again"


def test_sizes_and_datasets_have_caches_of_their_own(tmp_path: Path) -> None:
    write_picture(tmp_path / "a/1.png", 10)
    write_picture(tmp_path / "b/1.png", 20)
    cache = tmp_path / "cache"
    assert [read(tmp_path / "a", cache), read(tmp_path / "b", cache), read(tmp_path / "a", cache, 48)] == [
        [10],
        [20],
        [10],
    ]
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("damage", ["index", "pixels", "no pixels"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    write_picture(root / "1.png", 10)
    read(root, cache)
    (pixels,) = cache.rglob("pixels-*")
    if damage == "index":
        next(cache.rglob("index.json")).write_text("{")
    elif damage == "pixels":
        os.truncate(pixels, 100)
    else:
        pixels.unlink()
    assert read(root, cache) == [10]
    assert len(stored(cache)) == 1


def test_contents_that_are_gone_do_not_fill_the_disk(tmp_path: Path) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    generator = np.random.default_rng(1)
    for _ in range(3):
        for number in range(600):
            (root / f"{number}.ppm").parent.mkdir(exist_ok=True)
            (root / f"{number}.ppm").write_bytes(b"P6 2 2 255 " + generator.bytes(12))
        read(root, cache)
    assert sum(stored(cache).values()) <= (2 * 600 + 1000) * 32 * 32 * 3


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    outcomes, _ = ImageCache(tmp_path / "cache", tmp_path, 32, "stretch").read([tmp_path / "absent.png"], quiet=True)
    assert isinstance(outcomes[0], ImageError)
    assert outcomes[0].reason == "no such file or directory"


@pytest.mark.usefixtures("uncovered_commands")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    for number in range(20):
        write_picture(tmp_path / f"data/{'ab'[number % 2]}/{number}.png", number)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from classify_training.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "inspect", str(tmp_path / "data"), "--cache", str(tmp_path / "cache")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: cannot write the image cache")
    assert "--cache" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    write_picture(tmp_path / "data/1.png", 10)
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="--cache"):
        read(tmp_path / "data", tmp_path / "file")
