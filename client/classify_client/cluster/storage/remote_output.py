"""An output folder in an object store: its files are written into a local folder first."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from classify_client.mistakes.heatmaps import is_heatmap
from classify_client.output_folder import FORMATS, SUMMARY, predictions_name
from classify_client.results.previous import PREVIOUS
from classify_serving.exchange.misses import MISS
from classify_serving.exchange.review import REVIEW

if TYPE_CHECKING:
    from upath import UPath

_EARLIER: Final = (*(predictions_name(name) for name in FORMATS), REVIEW, PREVIOUS)


class RemoteOutput:
    """The files of a run that its command writes itself.

    Args:
        url: the output folder.
        folder: an empty local folder, which has the same files while the command runs.

    Attributes:
        url: as given.

    Raises (all methods):
        OSError: a file cannot be read or written; each library of a store also has exceptions of its own.
    """

    def __init__(self, url: "UPath", folder: Path) -> None:
        self.url, self._folder = url, folder

    def download(self) -> None:
        """Get what earlier runs have left and this one continues: predictions and decisions."""
        for name in _EARLIER:
            with suppress(FileNotFoundError):
                self.url.fs.get_file((self.url / name).path, str(self._folder / name))

    def upload(self, outdated: Collection[str]) -> None:
        """Write all files, the summary last, and remove what earlier runs have left in their place.

        Args:
            outdated: paths of copies in the output folder that are no misses any more.
        """
        files = [path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file()]
        copies = [name for name in files if "/" in name]
        for some in (copies, sorted(set(files) - {*copies, SUMMARY}), [SUMMARY]):
            self._put(some)
        gone = {*_EARLIER, *outdated, *self._heatmaps()} - set(files)
        for name in gone:
            with suppress(FileNotFoundError):
                self.url.fs.rm_file((self.url / name).path)

    def _put(self, names: Iterable[str]) -> None:
        if names := list(names):
            here, there = [str(self._folder / name) for name in names], [(self.url / name).path for name in names]
            self.url.fs.put(here, there)

    def _heatmaps(self) -> Iterator[str]:
        """Those of earlier runs and of this one."""
        prefix = self.url.path.rstrip("/") + "/"
        for path in self.url.fs.find((self.url / MISS).path):
            if is_heatmap(path):
                yield path.removeprefix(prefix)
