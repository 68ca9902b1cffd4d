"""An untidy folder is read, freed of duplicates, and every oddity is told."""

from pathlib import Path

import pytest
from support import write_picture

from classify_training.dataset import fingerprint, load, scan
from classify_training.errors import DatasetError


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


def test_broken_repeated_and_contradictory_files_are_left_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "cat/1.png", 10)
    write_picture(tmp_path / "cat/again.png", 10)
    write_picture(tmp_path / "cat/2.png", 20)
    write_picture(tmp_path / "dog/also 2.png", 20)
    write_picture(tmp_path / "dog/3.png", 30)
    (tmp_path / "dog/broken.png").write_bytes(b"no image")
    dataset = load(tmp_path, 32, "stretch", quiet=True)
    assert [example.file.path.name for example in dataset.examples] == ["1.png", "3.png"]
    assert dataset.images.shape == (2, 32, 32, 3)
    assert dataset.images[:, 0, 0, 0].tolist() == [10, 30]
    assert [file.path.name for file in dataset.duplicates] == ["again.png"]
    assert [[file.label for file in group] for group in dataset.conflicts] == [["cat", "dog"]]
    assert [file.path.name for file, _ in dataset.corrupt] == ["broken.png"]
    assert dataset.found == {"cat": 3, "dog": 3}


def test_a_duplicate_across_splits_stays_where_it_is_not_trained_on(tmp_path: Path) -> None:
    write_picture(tmp_path / "train/cat/1.png", 10)
    write_picture(tmp_path / "test/cat/1.png", 10)
    dataset = load(tmp_path, 32, "stretch", quiet=True)
    assert [example.file.split for example in dataset.examples] == ["test"]


def test_the_fingerprint_is_of_content_not_of_names(tmp_path: Path) -> None:
    for root, name in (("a", "cat/1.png"), ("b", "cat/renamed.png"), ("c", "dog/1.png")):
        write_picture(tmp_path / root / name, 10)
    one, same, other = (fingerprint(load(tmp_path / root, 32, "stretch", quiet=True).examples) for root in "abc")
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
        load(root, 32, "stretch", quiet=True)
