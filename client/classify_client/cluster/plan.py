"""List the images of a run, apart from those that an earlier run has answered."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from classify_client.cluster.storage.location import Location
from classify_client.cluster.storage.manifest import ManifestWriter
from classify_client.cluster.storage.parts import PartWriter
from classify_client.cluster.storage.work_folder import Plan, WorkFolder, run_identity
from classify_client.config import RunConfig
from classify_client.inputs.source import Source
from classify_client.inputs.sources import list_sources
from classify_client.inputs.urls import is_url
from classify_client.output_folder import FORMATS, predictions_path
from classify_client.results.formats import read_rows
from classify_client.results.row_index import RowIndex
from classify_client.results.rows import Row
from classify_client.results.summary import RunCounts
from classify_serving.contract.model import ModelMetadata


def plan_run(
    config: RunConfig, metadata: ModelMetadata, output: Location, check: Callable[[Source], None]
) -> tuple[WorkFolder, Plan]:
    """List all images into a new work folder, which replaces that of another run.

    Answers of the same model for unchanged images are kept, from finished runs and from unfinished ones, as a run
    without a cluster keeps them.

    Args:
        config: of the run.
        metadata: of the model.
        output: the output folder, as the machines see it; `config` has the local one with the earlier results.
        check: called with the first image before anything is written.

    Returns:
        The folder, and its plan.

    Raises:
        InputError: an input cannot be listed, or not on other machines.
        OutputError: earlier results cannot be read.
        OSError: files cannot be written.
    """
    counts = RunCounts()
    # Before anything is removed: the first image shows whether there are any.
    sources = list_sources(config.selection, output if isinstance(output, Path) else str(output), counts.skip)
    first = next(sources)
    check(first)
    old, new = WorkFolder.find(output), WorkFolder.begin(output)
    try:
        images, kept = _list(config, metadata, old, new, chain((first,), sources))
    except BaseException:
        new.remove()
        raise
    if old and (made := old.made_copies()):
        with new.noting_copies() as note:
            note(made)
    plan = Plan(run=run_identity(config, metadata, output), images=images, kept=kept, skipped=counts.skipped)
    new.finish_plan(plan)
    return new, plan


def _list(
    config: RunConfig,
    metadata: ModelMetadata,
    old: WorkFolder | None,
    new: WorkFolder,
    sources: Iterator[Source],
) -> tuple[int, int]:
    """Write manifests and kept rows; gives the number of images, and of those that have a row."""
    manifest, kept_manifest = ManifestWriter(new.manifest), ManifestWriter(new.kept_manifest)
    kept = PartWriter(new.rows, "kept", config.output.top_k)
    with closing(_Answers(config, metadata)) as answers:
        if not config.output.overwrite:
            answers.load(_earlier_rows(config, old))
        for position, source in enumerate(answers.without_repetition(sources)):
            if row := answers.find(source):
                kept.add(position, row)
                kept_manifest.add(position, source)
            else:
                manifest.add(position, source)
    for writer in (manifest, kept_manifest, kept):
        writer.close()
    return manifest.count + kept.count, kept.count


def _earlier_rows(config: RunConfig, work: WorkFolder | None) -> Iterator[Row]:
    """Those of an unfinished run first: of two rows for one image the later one counts, and it may be older."""
    finished = (read_rows(predictions_path(config.output.output, name)) for name in FORMATS)
    return chain(work.answered_rows() if work else (), chain.from_iterable(finished))


class _Answers:
    """The answers of this model that earlier runs have left.

    Args:
        config: of the run.
        metadata: of the model.
    """

    def __init__(self, config: RunConfig, metadata: ModelMetadata) -> None:
        self._config, self._metadata = config, metadata
        self._index = RowIndex()
        self._is_empty = True

    def load(self, rows: Iterable[Row]) -> None:
        """Keep those that can be used."""
        for row in rows:
            if row.answers(self._metadata, self._config.output.top_k):
                self._index.load(row)
                self._is_empty = False

    def without_repetition(self, sources: Iterator[Source]) -> Iterator[Source]:
        """The images, each of them once."""
        inputs = self._config.selection.inputs
        if self._is_empty and len(inputs) == 1 and (Path(inputs[0]).is_dir() or is_url(inputs[0])):
            # No image is in one folder twice: an index of a hundred million names would take an hour.
            return sources
        return (source for source in sources if self._index.admit(source.name))

    def find(self, source: Source) -> Row | None:
        """The answer for an image, if its content has not changed since."""
        row, _ = (None if self._is_empty else self._index.find(source.name)) or (None, 0)
        if row is None or not row.is_about(source.stamp):
            return None
        return row.with_truth(source, self._metadata, self._config.output.labels)

    def close(self) -> None:
        """Free the disk space."""
        self._index.close()
