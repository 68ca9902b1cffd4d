"""What a run on a cluster keeps in its output folder until it ends, so that it can be continued."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from classify_client.cluster.parts import find_parts
from classify_client.config import RunConfig
from classify_client.output_folder import FORMATS, predictions_path
from classify_client.results.formats import read_rows
from classify_client.results.rows import Row
from classify_serving.contract.model import ModelMetadata
from classify_serving.files import replace_file

WORK: Final = ".cluster"
_NEW: Final = ".cluster-new"
_OLD: Final = ".cluster-old"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about; it is written when all images are listed.

    Attributes:
        run: everything that decides what is answered, and how it is written.
        images: number of all images.
        kept: number of those that an earlier run has answered.
        skipped: number of files that are not images.
    """

    run: dict[str, Any]
    images: int
    kept: int
    skipped: int


@dataclass(frozen=True)
class WorkFolder:
    """The files of a run.

    Attributes:
        folder: contains all of them.
    """

    folder: Path

    @classmethod
    def of(cls, output: Path) -> Self:
        """That of an output folder."""
        return cls(output / WORK)

    @property
    def manifest(self) -> Path:
        """The images that must be classified."""
        return self.folder / "manifest"

    @property
    def kept_manifest(self) -> Path:
        """The images that an earlier run has answered."""
        return self.folder / "kept"

    @property
    def rows(self) -> Path:
        """Their rows, kept ones and new ones."""
        return self.folder / "rows"

    @property
    def checkpoint(self) -> Path:
        """Which images are done; Ray Data writes and reads it."""
        return self.folder / "checkpoint"

    @property
    def plan_file(self) -> Path:
        """Where the plan is."""
        return self.folder / "plan.json"

    def plan(self) -> Plan | None:
        """The plan; None if images were not all listed, or there is no run."""
        try:
            return msgspec.json.decode(self.plan_file.read_bytes(), type=Plan)
        except (OSError, msgspec.DecodeError):
            return None

    def finish_plan(self, plan: Plan) -> None:
        """Write the plan, when all images are listed."""
        replace_file(self.plan_file, msgspec.json.encode(plan))

    def answered_rows(self) -> Iterator[Row]:
        """The rows that were written so far."""
        for part in find_parts(self.rows):
            yield from read_rows(part)

    def begin(self) -> "WorkFolder":
        """An empty folder that replaces this one when `replace` is called; what a killed run left of one is removed."""
        new = WorkFolder(self.folder.with_name(_NEW))
        shutil.rmtree(new.folder, ignore_errors=True)
        new.rows.mkdir(parents=True)
        return new

    def replace(self, other: "WorkFolder") -> None:
        """Put another folder into the place of this one."""
        self.remove()
        other.folder.rename(self.folder)

    def remove(self) -> None:
        """Remove everything, at once: a kill leaves no half of it that looks like a run."""
        old = self.folder.with_name(_OLD)
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            self.folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def run_identity(config: RunConfig, metadata: ModelMetadata) -> dict[str, Any]:
    """Everything that decides which images are answered, by which model, and with which rows."""
    identity = {
        "selection": asdict(config.selection),
        "model": [metadata.model_name, metadata.model_version, metadata.created],
        "labels": config.output.labels,
        "top_k": config.output.top_k,
        # Inputs may be relative to it.
        "folder": str(Path.cwd()),
        # Other runs may have answered images since.
        "predictions": [_state(predictions_path(config.output.output, name)) for name in FORMATS],
    }
    # As it reads back.
    return msgspec.json.decode(msgspec.json.encode(identity), type=dict[str, Any])


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change of a file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
