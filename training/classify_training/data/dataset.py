"""Reading a folder of labelled images: files are checked, decoded and compared to find duplicates.

The layout is `DATASET/<label>/**` or `DATASET/{train,val,test}/<label>/**`.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_serving.contract.folders import folder_label, walk_images
from classify_serving.contract.images import ImageError, is_image_name
from classify_serving.contract.text import error_reason, printable, terminal_text
from classify_training.config import DataConfig
from classify_training.data.cache import ImageCache
from classify_training.data.duplicates import drop_duplicates, drop_leaks
from classify_training.data.examples import Example, ImageFile, Split
from classify_training.data.near_duplicates import near_duplicate_groups
from classify_training.errors import DatasetError
from classify_training.progress import stage

_SPLIT_FOLDERS: Final[Mapping[str, Split]] = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
_MAX_LISTED: Final = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A dataset after reading.

    Attributes:
        root: the dataset's folder.
        examples: the N images that can be used.
        images: uint8 [M,S,S,3], RGB, 0-255, memory-mapped, indexed by `Example.row`.
        groups: int64 [N], equal for examples that are near-duplicates of each other.
        found: number of files of each label, including those that are left out.
        corrupt: files that cannot be read; left out.
        duplicates: files left out because another file with the same content is kept.
        leaks: training images left out because they are near-duplicates of a validation or test image.
        conflicts: groups of examples with the same content under different labels; all of them are left out.
    """

    root: Path
    examples: tuple[Example, ...]
    images: NDArray[np.uint8]
    groups: NDArray[np.int64]
    found: Mapping[str, int]
    corrupt: tuple[tuple[ImageFile, ImageError], ...]
    duplicates: tuple[ImageFile, ...]
    leaks: tuple[ImageFile, ...]
    conflicts: tuple[tuple[Example, ...], ...]

    def pixels(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of some examples: uint8 [len(indices),S,S,3], RGB, 0-255."""
        pixels: NDArray[np.uint8] = self.images[self._rows[indices]]
        return pixels

    def relative_path(self, path: Path) -> str:
        """A file's path in the dataset, with `/`, as it can be printed; the whole path if it is elsewhere."""
        return printable(path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path))

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.array([example.row for example in self.examples], np.int64)

    def near_duplicates(self) -> list[list[Example]]:
        """Groups of two or more examples that are near-duplicates of each other."""
        groups: dict[int, list[Example]] = {}
        for example, group in zip(self.examples, self.groups.tolist(), strict=True):
            groups.setdefault(group, []).append(example)
        return [group for group in groups.values() if len(group) > 1]


def scan(root: Path) -> list[ImageFile]:
    """List the images below `root` with their labels and, if there are folders for splits, their splits.

    Images outside of a label's folder, and labels without images, are logged as warnings.

    Raises:
        DatasetError: the folder does not exist, has no images, or mixes folders of splits with others.
    """
    if not root.is_dir():
        raise DatasetError(f"no dataset folder {root}: give one with a folder of images for each label")
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        images = {folder: _images_of(folder, label, split) for folder, label, split in _label_folders(root, folders)}
        loose = sorted(path for path in root.iterdir() if is_image_name(path.name) and path.is_file())
        for path in loose[:_MAX_LISTED]:
            _log.warning("left out, not in the folder of a label: %s", terminal_text(str(path)))
        if len(loose) > _MAX_LISTED:
            _log.warning("left out for the same reason: %d more", len(loose) - _MAX_LISTED)
    except OSError as error:
        raise DatasetError(f"cannot list {error.filename} ({error_reason(error)}): check permissions") from error
    if not any(images.values()):
        raise DatasetError(f"no images in {root}: put them in one folder for each label, {root}/<label>/*.jpg")
    for folder, files in images.items():
        if not files:
            _log.warning("left out, no images in %s", terminal_text(str(folder)))
    return [file for files in images.values() for file in files]


def _images_of(folder: Path, label: str, split: Split | None) -> list[ImageFile]:
    # A link to a folder above this one would add the images of all other labels to this one.
    real = folder.resolve()
    found = walk_images(folder, lambda below: real.is_relative_to(below.resolve()))
    return [ImageFile(path, label, split) for path in found]


def _label_folders(root: Path, folders: Sequence[Path]) -> Iterator[tuple[Path, str, Split | None]]:
    has_splits = _has_splits(root, folders)
    for folder in folders:
        if not has_splits:
            yield folder, folder_label(folder.name), None
            continue
        for label in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
            if not label.name.startswith("."):
                yield label, folder_label(label.name), _SPLIT_FOLDERS[folder.name]


def _has_splits(root: Path, folders: Sequence[Path]) -> bool:
    """Whether the folders are splits: there is `train`, and all folders have the name of a split.

    If not, they are labels; a label may be called train or test too.

    Raises:
        DatasetError: the folders could be splits as well as labels.
    """
    names = {folder.name for folder in folders}
    strangers = sorted(names - set(_SPLIT_FOLDERS))
    if "train" not in names or not strangers:
        return "train" in names
    inside = list((root / "train").iterdir())
    if len(names) - len(strangers) > 1 and inside and all(path.is_dir() for path in inside):
        raise DatasetError(
            f"{root} contains folders of splits (train and others) and also {strangers[0]}: move that folder away,"
            " or into train if it is a class"
        )
    return False


def load(config: DataConfig, quiet: bool = False, with_leaks: bool = False) -> Dataset:
    """Read every image of a dataset, resized to S x S, and find duplicates and near-duplicates.

    Args:
        config: what to read.
        quiet: whether to show no progress.
        with_leaks: whether to keep near-duplicates that the dataset's own folders put into different splits.

    Raises:
        DatasetError: as `scan`; also if no file can be read, or with `strict` if any file cannot be read.
        CacheError: the decoded images cannot be written.
    """
    files = scan(config.dataset)
    cache = ImageCache(config.cache, config.dataset, config.image_size, config.resize)
    outcomes, images = cache.read([file.path for file in files], quiet)
    readable: list[Example] = []
    corrupt: list[tuple[ImageFile, ImageError]] = []
    for file, outcome in zip(files, outcomes, strict=True):
        if isinstance(outcome, ImageError):
            corrupt.append((file, outcome))
        else:
            readable.append(Example(file, outcome.digest, outcome.row, int(outcome.phash, 16)))
    _check_readable(config, corrupt, len(readable))
    distinct, duplicates, conflicts = drop_duplicates(readable)
    with stage(f"Looking for near-duplicates among {len(distinct):,} images", quiet):
        groups = near_duplicate_groups([e.phash for e in distinct], [e.row for e in distinct], images)
    clean = list(range(len(distinct))) if with_leaks else drop_leaks(distinct, groups)
    return Dataset(
        root=config.dataset,
        examples=tuple(distinct[index] for index in clean),
        images=images,
        groups=groups[clean],
        found=Counter(file.label for file in files),
        corrupt=tuple(corrupt),
        duplicates=tuple(duplicates),
        leaks=tuple(distinct[index].file for index in sorted(set(range(len(distinct))) - set(clean))),
        conflicts=tuple(conflicts),
    )


def _check_readable(config: DataConfig, corrupt: Sequence[tuple[ImageFile, ImageError]], readable: int) -> None:
    total = readable + len(corrupt)
    if not readable:
        raise DatasetError(
            f"none of the {total} images in {config.dataset} can be read, the first because: {corrupt[0][1]}"
        )
    if corrupt and config.strict:
        raise DatasetError(
            f"{len(corrupt)} of the {total} images in {config.dataset} cannot be read, the first because:"
            f" {corrupt[0][1]}: fix or remove them, or run without --strict, which lists all of them"
        )


def fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 over the contents, labels and splits of a dataset, as hex; it does not depend on paths and order."""
    lines = sorted(f"{example.digest} {example.file.split} {example.file.label}" for example in examples)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def with_splits(dataset: Dataset, splits: Sequence[Split]) -> Dataset:
    """Copy a dataset, with every example assigned to a split."""
    examples = tuple(
        replace(example, file=replace(example.file, split=split))
        for example, split in zip(dataset.examples, splits, strict=True)
    )
    return replace(dataset, examples=examples)
