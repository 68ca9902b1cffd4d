"""What a run on a cluster keeps in its output folder until it ends, so that it can be continued."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from classify_client.cluster.storage.location import Location, entries, remove_folder, state
from classify_client.cluster.storage.parts import find_parts, read_ahead, rows_of
from classify_client.config import RunConfig
from classify_client.output_folder import FORMATS, predictions_name
from classify_client.results.rows import Row
from classify_serving.contract.model import ModelMetadata
from classify_serving.files import replace_file

_WORK: Final = ".cluster"


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

    An output folder has `.cluster/1`, or the next number while another run is begun in its place: the last one with a
    plan counts.

    Attributes:
        folder: contains all of them.
    """

    folder: Location

    @classmethod
    def begin(cls, output: Location) -> Self:
        """An empty one for a new run, beside that of the run that was begun before, if any."""
        return cls(output / _WORK / str(max((number for number, _ in _numbered(output)), default=0) + 1))

    @classmethod
    def find(cls, output: Location) -> Self | None:
        """That of the run that was begun in an output folder; None if there is none, or images were not all listed."""
        for _, folder in sorted(_numbered(output), key=itemgetter(0), reverse=True):
            if cls(folder).plan() is not None:
                return cls(folder)
        return None

    @property
    def manifest(self) -> Location:
        """The images that must be classified."""
        return self.folder / "manifest"

    @property
    def kept_manifest(self) -> Location:
        """The images that an earlier run has answered."""
        return self.folder / "kept"

    @property
    def rows(self) -> Location:
        """Their rows, kept ones and new ones."""
        return self.folder / "rows"

    @property
    def checkpoint(self) -> Location:
        """Which images are done; Ray Data writes and reads it."""
        return self.folder / "checkpoint"

    @property
    def copies(self) -> Location:
        """The names of copies of images that were made for results that are not complete, one on each line."""
        return self.folder / "copies"

    @property
    def plan_file(self) -> Location:
        """Where the plan is."""
        return self.folder / "plan.json"

    def plan(self) -> Plan | None:
        """The plan; None if images were not all listed."""
        try:
            return msgspec.json.decode(self.plan_file.read_bytes(), type=Plan)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def finish_plan(self, plan: Plan) -> None:
        """Write the plan, when all images are listed; other runs than this one are removed."""
        content = msgspec.json.encode(plan)
        if isinstance(self.plan_file, Path):
            replace_file(self.plan_file, content)
        else:
            self.plan_file.write_bytes(content)
        for _, folder in _numbered(self.folder.parent.parent):
            if folder != self.folder:
                type(self)(folder).remove()

    @contextmanager
    def noting_copies(self) -> Iterator[Callable[[Iterable[str]], None]]:
        """Gives a function that notes names of copies, so that the next run knows of them if this one is killed."""
        if isinstance(self.copies, Path):
            with self.copies.open("a", encoding="utf-8") as file:

                def note(names: Iterable[str]) -> None:
                    file.writelines(f"{name}\n" for name in names)
                    file.flush()

                yield note
            return
        # Nothing is in the store until they are uploaded.
        made = self.made_copies()
        yield made.update
        self.copies.write_text("".join(f"{name}\n" for name in sorted(made)), encoding="utf-8")

    def made_copies(self) -> set[str]:
        """The names that were noted."""
        with suppress(FileNotFoundError):
            return set(self.copies.read_text(encoding="utf-8").splitlines())
        return set()

    def answered_rows(self) -> Iterator[Row]:
        """The rows that were written so far."""
        for table in read_ahead(find_parts(self.rows)):
            yield from rows_of(table)

    def remove(self) -> None:
        """Remove everything, the plan first: a kill leaves no half of it that looks like a run."""
        with suppress(FileNotFoundError):
            self.plan_file.unlink()
        remove_folder(self.folder)
        if isinstance(self.folder, Path):
            with suppress(OSError):
                self.folder.parent.rmdir()


def _numbered(output: Location) -> list[tuple[int, Any]]:
    """The work folders in an output folder, with their numbers."""
    return [(int(place.name), place) for place in entries(output / _WORK) if place.name.isdecimal()]


def run_identity(config: RunConfig, metadata: ModelMetadata, output: Location) -> dict[str, Any]:
    """Everything that decides which images are answered, by which model, and with which rows.

    Args:
        config: of the run.
        metadata: of the model.
        output: the output folder.
    """
    identity = {
        "selection": asdict(config.selection),
        "model": [metadata.model_name, metadata.model_version, metadata.created],
        "labels": config.output.labels,
        "top_k": config.output.top_k,
        # Inputs may be relative to it.
        "folder": str(Path.cwd()),
        "lists": [state(Path(given[1:])) for given in config.selection.inputs if given.startswith("@")],
        # Other runs may have answered images since.
        "predictions": [state(output / predictions_name(name)) for name in FORMATS],
    }
    # As it reads back.
    return msgspec.json.decode(msgspec.json.encode(identity), type=dict[str, Any])
