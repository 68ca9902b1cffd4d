"""The folder that an audit writes to: what is wrong with it is said before the work, not after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classify_serving.contract.text import error_reason
from classify_serving.exchange.earlier_review import earlier_review
from classify_serving.exchange.review import ReviewError, ReviewRow
from classify_serving.files import locked
from classify_serving.review_page.apply_command import dataset_of
from classify_training.errors import RunError


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Make the folder if needed, and lock it while the block runs.

    Raises:
        RunError: it cannot be written, another command writes to it, or its review cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            yield
    except BlockingIOError as error:
        raise RunError(f"another command is writing to {folder}: wait, or choose another --output") from error
    except ReviewError as error:
        raise RunError(str(error)) from error
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename or folder} ({error_reason(error)}): free disk space, check permissions, or"
            " choose another --output"
        ) from error


def check_output_folder(folder: Path, dataset: Path) -> None:
    """Refuse a folder that this dataset's audit cannot be written to.

    Raises:
        RunError: as of `opened`, or the folder has decisions about the images of another dataset.
    """
    if not folder.exists():
        return
    with opened(folder):
        decided = [row for row in earlier_review(folder) if row.action.strip()]
    other = dataset_of(decided)
    if other and other.resolve() != dataset.resolve() and _is_there(decided):
        raise RunError(f"{folder} has decisions about the images in {other}: choose another --output, or remove it")


def _is_there(rows: list[ReviewRow]) -> bool:
    """Whether any of these images is still where it was; the decisions about moved ones are kept by their content."""
    return any(Path(row.file).is_file() for row in rows)
