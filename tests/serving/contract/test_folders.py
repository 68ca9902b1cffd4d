"""Image files below a folder are listed in a fixed order, by fixed rules."""

import os
from pathlib import Path

import pytest

from classify_serving.contract.folders import walk_images
from classify_serving.contract.images import ImageError, decode_image


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk_images(root)]


def test_images_are_sorted_with_files_before_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.JPG", "b/1.png", "a/x/é.webp", "z.gif", "notes.txt", ".hidden/1.png", "._z.gif", "b/.1.png")
    assert names(tmp_path) == ["z.gif", "a/x/é.webp", "b/1.png", "b/2.JPG"]


def test_links_are_followed_and_link_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.png", "root/a/2.png")
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/gone.png").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path / "root") == ["gone.png", "a/2.png", "linked/1.png"]


def test_folders_can_be_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "classified/miss/1.png", "more/2.png")
    paths = walk_images(tmp_path, skip=lambda folder: folder.name in ("classified", tmp_path.name))
    assert [path.name for path in paths] == ["1.png", "2.png"]


def test_pipes_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "linked.png").symlink_to(tmp_path / "pipe.png")
    assert names(tmp_path) == ["1.png"]
    with pytest.raises(ImageError, match="not a regular file"):
        decode_image(tmp_path / "pipe.png", 8)
