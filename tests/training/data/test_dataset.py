"""An untidy folder is read, freed of duplicates, and every oddity is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import write_picture

from classify_training.config import DataConfig
from classify_training.data.dataset import Dataset, fingerprint, load, scan
from classify_training.errors import DatasetError


def read(root: Path, **options: Any) -> Dataset:
    return load(DataConfig(dataset=root, image_size=32, cache=root.parent / "cache", **options), quiet=True)


def test_labels_are_first_folders_whatever_lies_below(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/more/2.PNG", "ünd/x.jpg", "ünd/.hidden.jpg"):
        write_picture(tmp_path / name, 9)
    (tmp_path / "notes.txt").touch()
    assert [(file.path.name, file.label, file.split) for file in scan(tmp_path)] == [
        ("1.png", "cat", None),
        ("2.PNG", "cat", None),
        ("x.jpg", "ünd", None),
    ]


def test_train_val_and_test_folders_are_splits(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "validation/cat/2.png", "test/dog/3.png"):
        write_picture(tmp_path / name, 9)
    assert [(file.label, file.split) for file in scan(tmp_path)] == [("dog", "test"), ("cat", "train"), ("cat", "val")]


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    for name in ("train/1.png", "test/2.png", "bus/3.png"):
        write_picture(tmp_path / name, 9)
    assert {file.label for file in scan(tmp_path)} == {"train", "test", "bus"}


def test_splits_beside_other_folders_are_ambiguous(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "test/cat/2.png", "bird/3.png"):
        write_picture(tmp_path / name, 9)
    with pytest.raises(DatasetError, match="bird"):
        scan(tmp_path)


def test_what_would_be_missed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_picture(tmp_path / "cat/1.png", 9)
    write_picture(tmp_path / "loose.png", 9)
    (tmp_path / "dog").mkdir()
    assert len(scan(tmp_path)) == 1
    assert {record.message for record in caplog.records} == {
        f"left out, no images in {tmp_path / 'dog'}",
        f"left out, not in the folder of a label: {tmp_path / 'loose.png'}",
    }


def test_broken_repeated_and_contradictory_files_are_left_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "data/cat/1.png", 10)
    write_picture(tmp_path / "data/cat/again.png", 10)
    write_picture(tmp_path / "data/cat/2.png", 20)
    write_picture(tmp_path / "data/dog/also 2.png", 20)
    write_picture(tmp_path / "data/dog/3.png", 30)
    (tmp_path / "data/dog/broken.png").write_bytes(b"no image")
    dataset = read(tmp_path / "data")
    assert [example.file.path.name for example in dataset.examples] == ["1.png", "3.png"]
    pixels = dataset.pixels(np.array([0, 1]))
    assert pixels.shape == (2, 32, 32, 3)
    assert pixels[:, 0, 0, 0].tolist() == [10, 30]
    assert [file.path.name for file in dataset.duplicates] == ["again.png"]
    assert [[example.file.label for example in group] for group in dataset.conflicts] == [["cat", "dog"]]
    assert [file.path.name for file, _ in dataset.corrupt] == ["broken.png"]
    assert dataset.found == {"cat": 3, "dog": 3}


def test_a_duplicate_across_splits_stays_where_it_is_not_trained_on(tmp_path: Path) -> None:
    write_picture(tmp_path / "data/train/cat/1.png", 10)
    write_picture(tmp_path / "data/test/cat/1.png", 10)
    dataset = read(tmp_path / "data")
    assert [example.file.split for example in dataset.examples] == ["test"]


def test_the_fingerprint_is_of_content_not_of_names(tmp_path: Path) -> None:
    for root, name in (("a", "cat/1.png"), ("b", "cat/renamed.png"), ("c", "dog/1.png")):
        write_picture(tmp_path / root / name, 10)
    one, same, other = (fingerprint(read(tmp_path / root).examples) for root in "abc")
    assert one == same != other


@pytest.mark.parametrize("kind", ["absent", "empty", "flat", "broken"])
def test_a_folder_that_is_no_dataset(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    if kind != "absent":
        root.mkdir()
    if kind == "flat":
        write_picture(root / "1.png", 1)
    if kind == "broken":
        (root / "cat").mkdir()
        (root / "cat/1.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match=str(root)):
        read(root)


def photograph(seed: int, side: int = 96) -> Image.Image:
    """A picture with structure, as phones take them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def test_pictures_saved_again_are_near_duplicates(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
    for seed in range(6):
        photograph(seed).save(root / f"cat/{seed}.png")
    photograph(0).save(root / "cat/again.jpg", quality=60)
    photograph(1).resize((60, 60)).save(root / "cat/smaller.png")
    photograph(2).save(root / "dog/same as cat.jpg", quality=80)
    write_picture(root / "dog/plain.png", 100)
    write_picture(root / "dog/plain too.png", 101)
    groups = {tuple(sorted(example.file.path.name for example in group)) for group in read(root).near_duplicates()}
    assert groups == {("0.png", "again.jpg"), ("1.png", "smaller.png"), ("2.png", "same as cat.jpg")}


def test_near_duplicates_of_test_images_are_not_trained_on(tmp_path: Path) -> None:
    for split, label in (("train", "cat"), ("train", "dog"), ("test", "cat")):
        (tmp_path / "data" / split / label).mkdir(parents=True)
    photograph(1).save(tmp_path / "data/test/cat/1.png")
    photograph(1).save(tmp_path / "data/train/cat/1.jpg")
    photograph(2).save(tmp_path / "data/train/dog/2.jpg")
    dataset = read(tmp_path / "data")
    assert [file.path.name for file in dataset.leaks] == ["1.jpg"]
    assert [example.file.path.name for example in dataset.examples] == ["1.png", "2.jpg"]
    assert len(dataset.groups) == 2


def test_folders_that_look_alike_are_one_class(tmp_path: Path) -> None:
    for name, brightness in (("caf\u00e9", 1), ("cafe\u0301", 2)):
        write_picture(tmp_path / "data" / name / "1.png", brightness)
    assert read(tmp_path / "data").found == {"caf\u00e9": 2}


def test_links_back_and_in_circles_survive(tmp_path: Path) -> None:
    for label, brightness in (("cat", 1), ("dog", 2)):
        write_picture(tmp_path / f"data/{label}/1.png", brightness)
    for name, target in (("up", ".."), ("self", "."), ("top", "../..")):
        (tmp_path / "data/cat" / name).symlink_to(target)
    assert [file.label for file in scan(tmp_path / "data")] == ["cat", "dog"]


def test_strict_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "data/cat/1.png", 1)
    (tmp_path / "data/cat/2.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"2\.png.*--strict"):
        read(tmp_path / "data", strict=True)
