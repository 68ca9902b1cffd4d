"""Folders of runs, `runs/<UTC time>-<name>/`: files about a training, and the checkpoint to resume it from."""

import glob
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from classify_serving.contract.text import error_reason
from classify_serving.contract.versions import SAVED_MODEL
from classify_serving.exchange.misses import MissFolder
from classify_serving.exchange.train_embeddings import TRAIN_EMBEDDINGS_FILE
from classify_serving.files import locked, replace_file
from classify_training.config import TrainConfig
from classify_training.csv_files import write_csv
from classify_training.data.plan import Plan
from classify_training.errors import RunError, TrainingError
from classify_training.evaluation.evaluate import Evaluation
from classify_training.evaluation.figures import draw_confusion, draw_curves
from classify_training.evaluation.preview import write_preview
from classify_training.evaluation.train_embeddings import save_train_embeddings
from classify_training.fitting.checkpoint import Checkpoint, Epoch
from classify_training.model.classifier import Classifier
from classify_training.run_page.write import RunFacts, write_run_page
from classify_training.settings import parse_settings, settings_json

CONFIG: Final = "config.json"
_CHECKPOINT: Final = "checkpoint"
_FINGERPRINT: Final = "dataset"
_PUBLISHING: Final = "publishing.json"
_PREVIEW_IMAGES: Final = 8
_PREVIEW_REPEATS: Final = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Publishing:
    """The version that a run is about to publish; size and time of change identify its SavedModel."""

    version: int
    size: int
    modified: int

    @classmethod
    def of(cls, folder: Path, version: int) -> Self:
        """Describe the SavedModel in a version's folder.

        Raises:
            OSError: there is none.
        """
        status = (folder / SAVED_MODEL).stat()
        return cls(version, status.st_size, status.st_mtime_ns)


class Run:
    """The folder of a run, locked by this process.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = Checkpoint(folder / _CHECKPOINT)

    def write_history(self, history: Sequence[Epoch]) -> None:
        """Write `history.csv`, with one row for each epoch, and `curves.png`.

        Raises:
            RunError: the files cannot be written.
        """
        with _writing(self.folder / "history.csv") as path:
            write_csv(path, [[field.name for field in fields(Epoch)], *map(astuple, history)])
        if history:
            draw_curves(history, self.folder / "curves.png")

    def write_page(self, facts: RunFacts, model: str, seconds: float) -> None:
        """Write `augmented.png`, `report.html` and `review.csv`.

        Args:
            facts: about the training.
            model: name and version of the model.
            seconds: duration of the training.

        Raises:
            RunError: the files cannot be written.
            Interrupted: a signal arrived.
        """
        config, augmented = facts.config, self.folder / "augmented.png"
        write_preview(facts.plan, config.augment, _PREVIEW_IMAGES, _PREVIEW_REPEATS, config.data.seed, augmented)
        figures = {"curves": self.folder / "curves.png", "augmented": augmented}
        write_run_page(facts, model, seconds, figures, self.folder)

    def write_evaluation(self, evaluation: Evaluation, plan: Plan, about: Mapping[str, Any]) -> None:
        """Write `metrics.json`, `confusion.png` and copies of the misclassified test images.

        Args:
            evaluation: predictions and metrics.
            plan: what was trained on.
            about: other entries of `metrics.json`.

        Raises:
            RunError: the files cannot be written.
        """
        with _writing(self.folder / "metrics.json") as path:
            content = {**about, **evaluation.report()}
            replace_file(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        if not len(evaluation.indices):
            return
        right = (evaluation.predicted == evaluation.targets).mean()
        title = f"{len(evaluation.indices)} test images, accuracy {right:.1%}"
        draw_confusion(evaluation.confusion, plan.class_names, title, self.folder / "confusion.png")
        misses = MissFolder(self.folder)
        with _writing(misses.folder):
            for index, true, predicted in zip(
                evaluation.indices.tolist(), evaluation.targets, evaluation.predicted, strict=True
            ):
                path = plan.dataset.examples[index].file.path
                # An image that was deleted during the training has no copy.
                if true != predicted and path.is_file():
                    misses.add(path, plan.class_names[true], plan.class_names[predicted])

    def write_train_embeddings(self, classifier: Classifier, plan: Plan, quiet: bool) -> None:
        """Write `train_embeddings.npz`, the embeddings of the training images.

        Raises:
            RunError: the file cannot be written.
            Interrupted: a signal arrived.
        """
        with _writing(self.folder / TRAIN_EMBEDDINGS_FILE) as path:
            save_train_embeddings(path, classifier, plan, quiet)

    def write_left_out(self, plan: Plan) -> None:
        """Write `left_out.csv`, the files that are not trained on and the reasons.

        Raises:
            RunError: the file cannot be written.
        """
        dataset = plan.dataset
        rows = [(file.path, error.reason) for file, error in dataset.corrupt]
        rows += [(file.path, "same content as another file") for file in dataset.duplicates]
        rows += [(file.path, "near-duplicate of an image kept for validation or testing") for file in dataset.leaks]
        rows += [(each.file.path, "same content under another label") for group in dataset.conflicts for each in group]
        with _writing(self.folder / "left_out.csv") as path:
            write_csv(path, [("path", "reason"), *rows])

    def record_publishing(self, version: int, written: Path) -> None:
        """Record that this version will be published next, so that a repeated command does not publish it again.

        Args:
            version: its number.
            written: the complete version, not yet renamed.

        Raises:
            RunError: the note cannot be written.
        """
        with _writing(self.folder / _CHECKPOINT / _PUBLISHING) as path:
            replace_file(path, msgspec.json.encode(_Publishing.of(written, version)))

    def published(self, output: Path) -> Path | None:
        """The version that this run has published, if it was killed right after that; else None."""
        with suppress(OSError, msgspec.DecodeError):
            noted = msgspec.json.decode((self.folder / _CHECKPOINT / _PUBLISHING).read_bytes(), type=_Publishing)
            path = output / str(noted.version)
            return path if _Publishing.of(path, noted.version) == noted else None
        return None

    @contextmanager
    def removed_on_error(self) -> Iterator[None]:
        """Remove the run's folder if an error says that there is nothing to train."""
        try:
            yield
        except TrainingError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def finish(self) -> None:
        """Remove the checkpoint, which only an unfinished run needs."""
        # Without this file the run is finished, so that no later run resumes what is half removed.
        (self.folder / _CHECKPOINT / _FINGERPRINT).unlink(missing_ok=True)
        shutil.rmtree(self.folder / _CHECKPOINT, ignore_errors=True)


@contextmanager
def open_run(config: TrainConfig, fingerprint: str) -> Iterator[Run]:
    """Open the newest unfinished run of this configuration and dataset that no process has locked, or a new run.

    Args:
        config: the configuration.
        fingerprint: fingerprint of the dataset.

    Raises:
        RunError: the folder cannot be created or written.
    """
    with ExitStack() as stack:
        with _writing(config.runs) as runs:
            runs.mkdir(parents=True, exist_ok=True)
            unfinished = _unfinished(config, fingerprint) if config.resume else ()
            folder = next((folder for folder in unfinished if _hold(folder, stack)), None)
            _remove_leftovers(config)
            if folder is None:
                _say_what_is_not_resumed(config)
                folder = _new_folder(runs, config.output.resolve().name)
                _hold(folder, stack)
                (folder / CONFIG).write_bytes(settings_json(config))
                (folder / _CHECKPOINT).mkdir()
                (folder / _CHECKPOINT / _FINGERPRINT).write_text(fingerprint)
        yield Run(folder)


def _say_what_is_not_resumed(config: TrainConfig) -> None:
    """Name the newest unfinished run of this model that no process works on, since a user may expect it to go on."""
    for folder in _folders(config) if config.resume else ():
        with ExitStack() as stack:
            if (folder / _CHECKPOINT / _FINGERPRINT).exists() and _hold(folder, stack):
                _log.info(
                    "not resumed, because its options or images were others (it can be deleted): %s",
                    folder,
                )
                return


def complete_published_run(config: TrainConfig, fingerprint: str) -> Path | None:
    """Finish the newest run of this configuration and dataset that was killed after it had published its version.

    Returns:
        The version's folder; None if there is no such run.
    """
    with ExitStack() as stack:
        for folder in _unfinished(config, fingerprint) if config.resume else ():
            run = Run(folder) if _hold(folder, stack) else None
            if run and (version := run.published(config.output)):
                run.finish()
                return version
    return None


def _unfinished(config: TrainConfig, fingerprint: str) -> Iterator[Path]:
    """The folders of unfinished runs of this configuration and dataset, the newest first."""
    settings = settings_json(config)
    return (folder for folder in _folders(config) if _matches(folder, settings, fingerprint))


def _folders(config: TrainConfig) -> list[Path]:
    """The folders of all runs of this model, the newest first."""
    return sorted(config.runs.glob(f"*-{glob.escape(config.output.resolve().name)}"), reverse=True)


def _remove_leftovers(config: TrainConfig) -> None:
    """Remove the checkpoints of finished runs that were killed while they removed them."""
    for folder in _folders(config):
        checkpoint = folder / _CHECKPOINT
        if checkpoint.is_dir() and not (checkpoint / _FINGERPRINT).exists():
            with ExitStack() as stack:
                if _hold(folder, stack):
                    shutil.rmtree(checkpoint, ignore_errors=True)


def _matches(folder: Path, settings: bytes, fingerprint: str) -> bool:
    """Whether a folder holds an unfinished run with these settings, also one of release 0.1."""
    with suppress(OSError, msgspec.DecodeError):
        is_same = parse_settings((folder / CONFIG).read_bytes()) == parse_settings(settings)
        return is_same and (folder / _CHECKPOINT / _FINGERPRINT).read_text() == fingerprint
    return False


def _new_folder(runs: Path, name: str) -> Path:
    for attempt in count(1):
        again = f".{attempt}" if attempt > 1 else ""
        folder = runs / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}{again}-{name}"
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def _hold(folder: Path, stack: ExitStack) -> bool:
    """Lock a folder until the stack ends; False if another process has locked it."""
    try:
        stack.enter_context(locked(folder))
    except BlockingIOError:
        return False
    return True


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    try:
        yield path
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename2 or path} ({error_reason(error)}): free disk space, check permissions,"
            " or choose other --runs"
        ) from error
