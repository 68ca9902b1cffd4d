"""`classify-train apply`, run by a page; it belongs to the training part, which may not be installed here."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from classify_serving.exchange.review import ReviewRow


class ApplyError(Exception):
    """The review was not applied; the message says why, and what to do."""


def dataset_of(rows: Iterable[ReviewRow]) -> Path | None:
    """The folder that the paths of a review are relative to, if all rows agree on it; else None."""
    roots = {_root(row) for row in rows if row.file}
    return roots.pop() if len(roots) == 1 else None


def _root(row: ReviewRow) -> Path | None:
    file, path = PurePosixPath(row.file), PurePosixPath(row.path)
    length = len(path.parts)
    return Path(*file.parts[:-length]) if length and file.parts[-length:] == path.parts else None


def apply_review(review: Path, dataset: Path | None, is_dry_run: bool, adds: bool = False) -> tuple[str, bool]:
    """Show or carry out the decisions of a review in a dataset, with the command `classify-train apply`.

    Args:
        review: the file.
        dataset: folder of the dataset; None if it is not known.
        is_dry_run: whether to show only.
        adds: whether to copy images into the dataset that are not in it.

    Returns:
        Which folder it is about and what the command says, and whether it finds anything to change.

    Raises:
        ApplyError: the command is not installed, or refuses.
    """
    if dataset is None:
        raise ApplyError("it is not known which dataset to change: start this review again with --dataset")
    command = _command()
    if command is None:
        raise ApplyError(
            f"the command classify-train is not installed here; run it where it is:"
            f" classify-train apply {review} --dataset {dataset}{' --add' * adds}"
        )
    how = ["--dry-run" if is_dry_run else "--yes", *(["--add"] if adds else [])]
    done = subprocess.run(
        [*command, "apply", str(review), "--dataset", str(dataset), *how, "--quiet"],
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="backslashreplace",
    )  # fmt: skip
    if done.returncode:
        # Warnings may come before the error.
        reasons = [line.removeprefix("Error: ") for line in done.stderr.splitlines() if line.startswith("Error: ")]
        raise ApplyError(reasons[-1] if reasons else f"classify-train ended with {done.returncode}")
    *_, last = done.stdout.strip().splitlines() or [""]
    return f"In the folder {dataset}:\n{done.stdout.strip()}", not last.startswith("nothing to do")


def _command() -> list[str] | None:
    if importlib.util.find_spec("classify_training"):
        return [sys.executable, "-m", "classify_training"]
    found = shutil.which("classify-train")
    return [found] if found else None
