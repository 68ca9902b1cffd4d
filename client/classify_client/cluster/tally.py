"""Summary and misses of the rows in many files: each process counts some of them, and only the counts are collected."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from classify_client.cluster.machines.connection import cluster_error
from classify_client.cluster.storage.manifest import POSITION
from classify_client.cluster.storage.parts import Part, read_ahead, rows_of
from classify_client.mistakes.seen_images import SeenImages, SubsetAccuracy
from classify_client.results.reader import Item, Results
from classify_client.results.summary import RunCounts
from classify_serving.exchange.train_manifest import TrainManifest
from classify_serving.files import sha256_if_readable

_FILES_AT_ONCE: Final = 16
_TASKS_AT_ONCE: Final = 64


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is kept of the rows.

    Attributes:
        misses: so many, the most suspicious ones, and as many for the folder `review/`.
        review_below: images with a lower probability are for the folder `review/`; None for no such folder.
    """

    misses: int
    review_below: float | None


@dataclass
class Tally:
    """Counts over rows, and the few of them that are looked at.

    Attributes:
        counts: for the summary.
        results: for the report.
        to_review: images for the folder `review/`, the least certain first.
        seen, unseen: images that the model was trained on, and others; empty if its manifest is not known.
    """

    counts: RunCounts
    results: Results
    to_review: list[Item] = field(default_factory=list)
    seen: SubsetAccuracy = field(default_factory=SubsetAccuracy)
    unseen: SubsetAccuracy = field(default_factory=SubsetAccuracy)

    def merge(self, other: "Tally", limits: Limits) -> None:
        """Add the rows of another one."""
        self.counts.merge(other.counts)
        self.results.merge(other.results)
        self.to_review += other.to_review
        self.seen.merge(other.seen)
        self.unseen.merge(other.unseen)
        self.limit(limits)

    def limit(self, limits: Limits) -> None:
        """Keep only as many rows as are wanted."""
        if len(self.results.misses) > limits.misses:
            self.results.misses = heapq.nsmallest(limits.misses, self.results.misses, key=_suspicion)
        if len(self.to_review) > limits.misses:
            self.to_review = heapq.nsmallest(limits.misses, self.to_review, key=lambda item: item.row.probability)


def _suspicion(item: Item) -> tuple[float, str]:
    """As in `mistakes.issues.most_suspicious_first`: the surer the model is of another class, the sooner."""
    return item.row.margin, item.row.path


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the rows are of.

    Attributes:
        folder: the output folder.
        root: what the paths in rows are relative to, which may itself be relative to `working`.
        precision: of the model.
        manifest: the images that the model was trained on; None if not known. With it, all images are read.
        working: the working directory of the command.
    """

    folder: Path
    root: Path
    precision: str
    manifest: TrainManifest | None = None
    working: Path = Path()


def tally_parts(counted: Counted, limits: Limits, parts: Iterable[Part]) -> Tally:
    """Count the rows of some files."""
    tally = Tally(RunCounts(), Results(counted.folder, {}))
    seen = SeenImages(counted.manifest, tally.seen, tally.unseen) if counted.manifest else None
    for table in read_ahead(parts):
        for row, position in zip(rows_of(table), table[POSITION].to_pylist(), strict=True):
            item = Item(row, counted.root / row.path, None, position)
            tally.counts.add(row, counted.precision)
            tally.results.add(item)
            if row.is_below(limits.review_below):
                tally.counts.to_review += 1
                tally.to_review.append(item)
            if seen and row.is_answered:
                original = replace(item, file=counted.working / item.file)
                if digest := sha256_if_readable(original.file):
                    seen.add(original, digest)
        tally.limit(limits)
    return tally


def tally_on_cluster(counted: Counted, limits: Limits, parts: Sequence[Part]) -> Tally:
    """Count the rows of all files in the processes of the cluster, or here, if they would be the work of one.

    Args:
        counted: what the rows are of.
        limits: what is kept of them.
        parts: the files.

    Raises:
        ClusterError: a process failed.
    """
    import ray

    total = Tally(RunCounts(), Results(counted.folder, {}))
    try:
        for tally in _results(counted, limits, parts):
            total.merge(tally, limits)
    except ray.exceptions.RayError as error:
        raise cluster_error(error) from error
    for items in (total.results.misses, total.results.unreadable):
        items.sort(key=lambda item: item.position)
    return total


def _results(counted: Counted, limits: Limits, parts: Sequence[Part]) -> Iterator[Tally]:
    import ray

    files = 1 if counted.manifest else _FILES_AT_ONCE
    if len(parts) <= files:
        # A process takes longer to start than to count.
        yield tally_parts(counted, limits, parts)
        return
    count, waiting, shared = ray.remote(num_cpus=1)(tally_parts), deque[Any](), ray.put(counted)
    for start in range(0, len(parts), files):
        if len(waiting) >= _TASKS_AT_ONCE:
            yield ray.get(waiting.popleft())
        waiting.append(count.remote(shared, limits, parts[start : start + files]))
    yield from map(ray.get, waiting)
