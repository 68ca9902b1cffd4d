"""After a run: make what it got wrong easy to see and to mend."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from classify_client.errors import InputError
from classify_client.inference.model_client import Service
from classify_client.mistakes.compare import compare
from classify_client.mistakes.embeddings import nearest_in_training
from classify_client.mistakes.hashing import Seen, hash_items, score_apart
from classify_client.mistakes.heatmaps import explain_misses, remove_cams
from classify_client.mistakes.kinds import find_kinds, settle
from classify_client.mistakes.review import earlier_review, kept, make_review, store_review
from classify_client.results.previous import read_previous
from classify_client.results.reader import read_items, read_results
from classify_client.results.summary import write_summary
from classify_client.terminal.progress import waiting
from classify_serving.contract.model import ModelMetadata
from classify_serving.exchange.review import CONFIRMED, ReviewError, read_confirmed
from classify_serving.exchange.train_embeddings import TrainEmbeddings, TrainEmbeddingsError, read_train_embeddings
from classify_serving.exchange.train_manifest import (
    TrainManifest,
    TrainManifestError,
    find_train_manifest,
    read_train_manifest,
)


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """What is known beforehand about the images, read before any is sent.

    Attributes:
        trained_on: contents the model was trained on; None if that is not known.
        index: of the images it was trained on; None for none.
        confirmed: (SHA-256, label) that a person has looked at and kept.
        explain: whether heat maps are asked for.
        quiet: no progress.
    """

    trained_on: TrainManifest | None
    index: TrainEmbeddings | None
    confirmed: frozenset[tuple[str, str]]
    explain: bool
    quiet: bool

    @classmethod
    def of(
        cls,
        metadata: ModelMetadata,
        *,
        trained_on: Path | None,
        embedded: Path | None,
        index: Path | None,
        confirmed: Path | None,
        inputs: Sequence[Path],
        explain: bool,
        quiet: bool,
    ) -> Self:
        """Read the lists.

        Raises:
            InputError: one that was asked for is not there, or one cannot be read.
        """
        if trained_on is None and embedded is not None:
            trained_on = find_train_manifest(embedded, metadata.model_version)
        if confirmed is not None and not (confirmed / CONFIRMED if confirmed.is_dir() else confirmed).exists():
            raise InputError(f"no labels were confirmed in {confirmed}: correct --confirmed, or leave it out")
        given = [confirmed] if confirmed else []
        try:
            return cls(
                trained_on=read_train_manifest(trained_on) if trained_on else None,
                index=read_train_embeddings(index) if index else None,
                confirmed=frozenset().union(
                    *(
                        read_confirmed(path / CONFIRMED if path.is_dir() else path)
                        for path in (*given, *_folders(inputs))
                    )
                ),
                explain=explain,
                quiet=quiet,
            )
        except (ReviewError, TrainManifestError, TrainEmbeddingsError) as error:
            raise InputError(str(error)) from error


def _folders(inputs: Sequence[Path]) -> list[Path]:
    return [path for path in inputs if path.is_dir()]


def look_at_mistakes(folder: Path, metadata: ModelMetadata, seeing: Seeing, service: Service | None) -> dict[str, Any]:
    """Write `review.csv` and `report.html` from what a run left in its output folder.

    Args:
        folder: the output folder.
        metadata: of the model that answered.
        seeing: what is known beforehand.
        service: to be asked about the misses again; None if it is not to be.

    Returns:
        What was added to its `summary.json`.

    Raises:
        OutputError: an earlier review cannot be read.
    """
    # Late: templates take a while to import, and no answer should wait for them.
    from classify_client.report.write import write_report

    with waiting("Writing the report", seeing.quiet):
        results = read_results(folder)
        digests = hash_items(folder, results.misses)
        earlier = earlier_review(folder)
        nearest = {}
        if seeing.index and service:
            nearest = nearest_in_training(folder, results.misses, digests, seeing.index, service, metadata)
        findings = find_kinds(results, digests, seeing.trained_on, nearest)
        findings = settle(results, findings, digests, seeing.confirmed | kept(earlier))
        seen = score_apart(folder, results, seeing.trained_on) if seeing.trained_on else None
        added = _added(seen)
        if added:
            results.summary = {**results.summary, **added}
            write_summary(folder, results.summary)
        rows = make_review(results, findings, digests, earlier, metadata.train_counts_before)
        if seeing.trained_on:
            trained_on = seeing.trained_on
            rows = [replace(row, seen=str(trained_on.is_seen(row.sha256)).lower()) for row in rows]
        store_review(folder, rows)
        comparison = compare(read_previous(folder, results.summary), read_items(folder, results.summary))
        remove_cams(folder, results.misses)
        explain = service if seeing.explain else None
        heats = explain_misses(folder, results.misses, explain, metadata) if explain else {}
        write_report(results, findings, comparison, heats)
    return added


def _added(seen: tuple[Seen, Seen] | None) -> dict[str, Any]:
    if seen is None or not seen[0].images:
        return {}
    return {"seen": seen[0].summary(), "unseen": seen[1].summary()}
