"""A folder of labelled images -> files checked, decoded and freed of duplicates.

`DATASET/<label>/**` or `DATASET/{train,val,test}/<label>/**`: the first folder's name is the label.
"""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from classify_serving.folders import walk_images
from classify_serving.images import ImageError, Resize, decode_image
from classify_training.errors import DatasetError
from classify_training.progress import track

Split = Literal["train", "val", "test"]
_SPLIT_FOLDERS: Final[Mapping[str, Split]] = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
_STRONGEST_FIRST: Final[tuple[Split | None, ...]] = ("test", "val", "train", None)


@dataclass(frozen=True)
class ImageFile:
    """A file and the label its folder gives it; `split` is None where the dataset does not say."""

    path: Path
    label: str
    split: Split | None = None


@dataclass(frozen=True)
class Example:
    """A readable image: its file and the SHA-256 of its content as hex."""

    file: ImageFile
    digest: str


@dataclass(frozen=True)
class Dataset:
    """A dataset as it was found.

    Attributes:
        root: its folder.
        examples: the images that can be used, in the order of `images`.
        images: uint8 [N,S,S,3], RGB, 0-255.
        found: files of each label, whatever became of them.
        corrupt: files that cannot be read; left out.
        duplicates: files with the content of another file of their label; left out.
        conflicts: groups of files with the same content under different labels; all of them left out.
    """

    root: Path
    examples: tuple[Example, ...]
    images: NDArray[np.uint8]
    found: Mapping[str, int]
    corrupt: tuple[tuple[ImageFile, ImageError], ...]
    duplicates: tuple[ImageFile, ...]
    conflicts: tuple[tuple[ImageFile, ...], ...]


def scan(root: Path) -> list[ImageFile]:
    """List the images below `root` with their labels and, where the layout says so, their splits.

    Raises:
        DatasetError: no such folder, no images in it, or images that are in no label's folder.
    """
    if not root.is_dir():
        raise DatasetError(f"no dataset folder {root}: give one with a folder of images for each label")
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = [
            ImageFile(path, label, split)
            for folder, label, split in _label_folders(folders)
            for path in walk_images(folder)
        ]
    except OSError as error:
        raise DatasetError(f"cannot list {error.filename}: {error.strerror}") from error
    if not files:
        raise DatasetError(f"no images in {root}: put them in one folder for each label, {root}/<label>/*.jpg")
    return files


def _label_folders(folders: Sequence[Path]) -> Iterator[tuple[Path, str, Split | None]]:
    has_splits = any(folder.name == "train" for folder in folders) and all(
        folder.name in _SPLIT_FOLDERS for folder in folders
    )
    for folder in folders:
        if not has_splits:
            yield folder, folder.name, None
            continue
        for label in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
            if not label.name.startswith("."):
                yield label, label.name, _SPLIT_FOLDERS[folder.name]


def load(root: Path, size: int, resize: Resize, quiet: bool = False) -> Dataset:
    """Open every image below `root` once, on all cores: checked, hashed, decoded to S x S.

    Raises:
        DatasetError: as `scan`; also when no file can be read.
    """
    files = scan(root)
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda file: _read(file, size, resize), files)
        outcomes = list(track(read, total=len(files), description="Reading images", quiet=quiet))
    good: list[tuple[Example, NDArray[np.uint8]]] = []
    corrupt: list[tuple[ImageFile, ImageError]] = []
    for file, outcome in zip(files, outcomes, strict=True):
        if isinstance(outcome, ImageError):
            corrupt.append((file, outcome))
        else:
            good.append(outcome)
    if not good:
        raise DatasetError(f"none of the {len(files)} images in {root} can be read, the first because: {corrupt[0][1]}")
    kept, duplicates, conflicts = drop_duplicates([example for example, _ in good])
    pixels = dict(good)
    return Dataset(
        root=root,
        examples=tuple(kept),
        images=np.stack([pixels[example] for example in kept]) if kept else np.empty((0, size, size, 3), np.uint8),
        found=Counter(file.label for file in files),
        corrupt=tuple(corrupt),
        duplicates=tuple(duplicates),
        conflicts=tuple(conflicts),
    )


def _read(file: ImageFile, size: int, resize: Resize) -> tuple[Example, NDArray[np.uint8]] | ImageError:
    try:
        content = file.path.read_bytes()
        stream = io.BytesIO(content)
        stream.name = str(file.path)
        image = decode_image(stream, size, resize)
    except OSError as error:
        return ImageError(str(file.path), (error.strerror or str(error)).lower())
    except ImageError as error:
        return error
    return Example(file, hashlib.sha256(content).hexdigest()), image


def drop_duplicates(
    examples: Iterable[Example],
) -> tuple[list[Example], list[ImageFile], list[tuple[ImageFile, ...]]]:
    """Keep one file of each content: (kept in their order, duplicates, label conflicts).

    Of equal files the one kept is in the split that must stay clean: test before val before train. Equal
    files under different labels teach a contradiction, so none of them is kept.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.digest].append(example)
    kept: list[Example] = []
    duplicates: list[ImageFile] = []
    conflicts: list[tuple[ImageFile, ...]] = []
    for group in groups.values():
        if len({example.file.label for example in group}) > 1:
            conflicts.append(tuple(example.file for example in group))
            continue
        first, *rest = sorted(group, key=lambda example: _STRONGEST_FIRST.index(example.file.split))
        kept.append(first)
        duplicates.extend(example.file for example in rest)
    return kept, duplicates, conflicts


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over the contents, labels and splits of a dataset, as hex; independent of paths and order."""
    lines = sorted(f"{example.digest} {example.file.split} {example.file.label}" for example in examples)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def with_splits(dataset: Dataset, splits: Sequence[Split]) -> Dataset:
    """The same dataset with every example assigned to a split."""
    examples = tuple(
        replace(example, file=replace(example.file, split=split))
        for example, split in zip(dataset.examples, splits, strict=True)
    )
    return replace(dataset, examples=examples)
