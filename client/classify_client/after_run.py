"""After a run: find out what is wrong with the misses, and write review.csv, summary.json and report.html.

The results are read once, and each miss is opened once, whatever is wanted of it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify_client.config import AnalysisOptions, RunConfig
from classify_client.errors import InputError
from classify_client.inference.model_client import ModelClient
from classify_client.mistakes.batches import ImageReader, OpenedImage, open_images
from classify_client.mistakes.compare import Comparator, Comparison
from classify_client.mistakes.embeddings import Embeddings, nearest_in_training
from classify_client.mistakes.heatmaps import HeatmapFolder, overlay
from classify_client.mistakes.issues import Evidence, Nearest
from classify_client.mistakes.model_query import ModelQuery
from classify_client.mistakes.review import earlier_review, update_review
from classify_client.mistakes.seen_images import SeenImages
from classify_client.results.previous import read_previous
from classify_client.results.reader import Item, Results, read_items
from classify_client.results.summary import write_summary
from classify_client.terminal.progress import waiting
from classify_serving.contract import model as contract
from classify_serving.contract.model import ModelMetadata
from classify_serving.exchange.label_scores import LabelScore, LabelScoresError, read_label_scores
from classify_serving.exchange.review import CONFIRMED, ReviewError, read_confirmed
from classify_serving.exchange.train_embeddings import (
    TrainEmbeddings,
    TrainEmbeddingsError,
    find_train_embeddings,
    read_train_embeddings,
)
from classify_serving.exchange.train_manifest import (
    TrainManifest,
    TrainManifestError,
    find_train_manifest,
    read_train_manifest,
)

if TYPE_CHECKING:
    from classify_serving.review_page.page import SimilarImage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnalysisContext:
    """What is known before the run, read before any image is sent.

    Attributes:
        folder: the output folder.
        metadata: of the model.
        options: of the analysis.
        manifest: the images that the model was trained on; None if not known.
        scores: what models that were not fitted to these images think of their labels; empty if not known.
        train_embeddings: their embeddings, if they were given: a very similar training image, or none, makes an issue.
        found_embeddings: file of their embeddings, if only found: similar images are shown. Read if there are misses.
        confirmed: (SHA-256, label) that a person has confirmed.
        quiet: no progress.
    """

    folder: Path
    metadata: ModelMetadata
    options: AnalysisOptions
    manifest: TrainManifest | None
    scores: Mapping[tuple[str, str], LabelScore]
    train_embeddings: TrainEmbeddings | None
    found_embeddings: Path | None
    confirmed: frozenset[tuple[str, str]]
    quiet: bool

    @classmethod
    def read(cls, config: RunConfig, metadata: ModelMetadata) -> Self:
        """Read the lists that the options name.

        Raises:
            InputError: one does not exist, or cannot be read.
            OutputError: the output folder has a review that cannot be read.
        """
        options, manifest = config.analysis, config.analysis.train_manifest
        if manifest is None and config.server.local_server is not None:
            manifest = find_train_manifest(config.server.local_server, metadata.model_version)
        # A review that cannot be read is refused now, not after every image has been sent.
        earlier_review(config.output.output)
        try:
            return cls(
                folder=config.output.output,
                metadata=metadata,
                options=options,
                manifest=read_train_manifest(manifest) if manifest else None,
                scores=_label_scores(manifest),
                train_embeddings=read_train_embeddings(options.train_embeddings) if options.train_embeddings else None,
                found_embeddings=_found_embeddings(config, metadata.model_version),
                confirmed=_confirmed_labels(options.confirmed, map(Path, config.selection.inputs)),
                quiet=config.quiet,
            )
        except (ReviewError, TrainManifestError, LabelScoresError, TrainEmbeddingsError) as error:
            raise InputError(str(error)) from error


def _label_scores(manifest: Path | None) -> Mapping[tuple[str, str], LabelScore]:
    """The scores beside a train manifest, which may be given by the folder that it is in."""
    file = find_train_manifest(manifest) if manifest and manifest.is_dir() else manifest
    return read_label_scores(file) if file else {}


def _found_embeddings(config: RunConfig, version: int) -> Path | None:
    """Those of the run that trained the local server's model, as long as it is there and no others are given."""
    server = config.server.local_server
    return find_train_embeddings(server, version) if server and not config.analysis.train_embeddings else None


def _confirmed_labels(given: Path | None, inputs: Iterable[Path]) -> frozenset[tuple[str, str]]:
    """The labels confirmed in a list or dataset, and in the inputs that are datasets."""
    lists = [folder / CONFIRMED for folder in inputs if folder.is_dir()]
    if given:
        lists.append(given / CONFIRMED if given.is_dir() else given)
        if not lists[-1].exists():
            raise InputError(f"no confirmed labels in {given}: correct --confirmed, or leave it out")
    return frozenset[tuple[str, str]]().union(*map(read_confirmed, lists))


def analyse_mistakes(
    summary: dict[str, Any],
    context: AnalysisContext,
    model_client: ModelClient | None,
    results: Results | None = None,
    comparison: Comparison | None = None,
) -> dict[str, Any]:
    """Write `review.csv`, `summary.json` and `report.html`, and what the options ask for.

    Args:
        summary: of the run.
        context: what is known about the images.
        model_client: to ask the model about misses again; None if the run is not complete.
        results: of a run whose rows were read elsewhere; None to read them.
        comparison: with the previous model, if `results` are given.

    Returns:
        The content of `summary.json`: the summary, with accuracy on seen and unseen images if these are known.

    Raises:
        OutputError: the results or an earlier review cannot be read.
        OSError: a file cannot be written.
    """
    # Before anything that takes time: a kill must not leave the summary of an earlier run beside these results.
    write_summary(context.folder, summary)
    with waiting("Analysing the misses", context.quiet):
        analysis = _Analysis(summary, context, model_client)
        if results is None:
            analysis.read_results()
        else:
            analysis.use_results(results, comparison or Comparison())
        analysis.open_misses()
        analysis.write()
    return analysis.results.summary


class _Analysis:
    """The state of the analysis of one run."""

    def __init__(self, summary: dict[str, Any], context: AnalysisContext, model_client: ModelClient | None) -> None:
        options, self._context = context.options, context
        # The server may have a new version since the run began, which takes other images.
        self._model = model_client.current if model_client else context.metadata
        self.results = Results(context.folder, summary)
        self._comparison = Comparison()
        self._seen = SeenImages(context.manifest) if context.manifest else None
        self._embeddings = Embeddings() if options.embed and model_client else None
        self._train_embeddings = context.train_embeddings
        wants_vectors = bool(options.embed or context.train_embeddings or context.found_embeddings)
        self._embed = ModelQuery(
            model_client if wants_vectors else None,
            self._model,
            contract.EMBED,
            contract.EMBEDDING,
            lambda answered: "No embeddings" if not answered else "No more embeddings",
        )
        self._gradcam = model_client if options.gradcam else None
        self._digests: dict[str, str] = {}
        self._nearest: dict[str, Nearest] = {}
        self._thumbnails: dict[str, str] = {}
        self._heatmaps: dict[str, str] = {}

    def read_results(self) -> None:
        """Read the results once; images that are not misses are opened only if all images are wanted."""
        comparator = Comparator(read_previous(self._context.folder))
        others = self._other_answers(comparator)
        if self._seen or self._embeddings is not None:
            reader = ImageReader(self._model if self._embeddings is not None else None)
            for batch in open_images(others, reader):
                self._count_and_embed(batch)
                if not self._seen and not self._embed:
                    # The model gives no embeddings: the other images need not be opened.
                    break
        for _ in others:
            # Only collects the rows.
            pass
        self._comparison = comparator.result()

    def use_results(self, results: Results, comparison: Comparison) -> None:
        """Take results that were read elsewhere, where images that the model has seen were counted too."""
        results.summary = self.results.summary
        self.results, self._seen, self._comparison = results, None, comparison

    def _other_answers(self, comparator: Comparator) -> Iterator[Item]:
        """Collect all rows; yield the answered images that are not misses, which `open_misses` opens."""
        for item in read_items(self._context.folder, self.results.summary):
            self.results.add(item)
            comparator.add(item.row)
            if item.row.is_answered and not item.row.is_miss:
                yield item

    def open_misses(self) -> None:
        """Open each miss once: hash, thumbnail, embedding, nearest training images, heat map; hash broken files."""
        # Late: no answer should wait for the import of modules that only the report needs.
        from classify_client.report.view import pictured
        from classify_serving.review_page.thumbnails import small, thumbnail

        misses, context = self.results.misses, self._context
        if misses and context.found_embeddings:
            try:
                self._train_embeddings = read_train_embeddings(context.found_embeddings)
            except TrainEmbeddingsError as error:
                log.warning("No similar training images are shown: %s", error)
        drawn = [item.row.path for item in pictured(self.results)]
        copies = sum(item.copy is not None for item in misses)
        explain = ModelQuery(
            self._gradcam,
            self._model,
            contract.EXPLAIN,
            contract.HEATMAP,
            lambda answered: f"No heat maps of {copies - answered} misses",
        )
        folder = HeatmapFolder(context.folder, misses)
        model = self._model if self._embed or explain else None
        failed = [item for item in self.results.unreadable if item.row.true_label]
        wanted = frozenset((*drawn, *(item.row.path for item in failed)))
        reader = ImageReader(model, bool(explain), thumbnail, wanted, misses_only=True)
        thumbnails: dict[str, str] = {}
        heatmaps: dict[str, str] = {}
        for batch in open_images((*misses, *self.results.uncertain, *failed), reader):
            # Others failed for another reason, such as a server that did not answer.
            broken = [image for image in batch if not image.item.row.is_answered and not image.thumbnail]
            self._digests |= {image.item.row.path: image.digest for image in broken}
            thumbnails |= {image.item.row.path: image.thumbnail for image in batch if image.thumbnail}
            opened = [image for image in batch if image.item.row.is_miss]
            self._digests |= {image.item.row.path: image.digest for image in opened}
            self._count_and_embed(opened, are_misses=True)
            for path, picture in _draw_heatmaps(opened, explain, folder):
                if path in wanted:
                    heatmaps[path] = small(picture)
        self._thumbnails = {path: thumbnails[path] for path in drawn if path in thumbnails}
        self._heatmaps = {path: heatmaps[path] for path in drawn if path in heatmaps}

    def _count_and_embed(self, batch: Sequence[OpenedImage], are_misses: bool = False) -> None:
        if self._seen:
            for image in batch:
                self._seen.add(image.item, image.digest)
        if not (answer := self._embed.ask(batch)):
            return
        images, vectors = answer
        if self._embeddings is not None:
            self._embeddings.add(images, vectors)
        if are_misses and self._train_embeddings:
            self._find_nearest(images, vectors, self._train_embeddings)

    def _find_nearest(
        self, images: Sequence[OpenedImage], vectors: NDArray[np.float32], train: TrainEmbeddings
    ) -> None:
        if (width := train.vectors.shape[1]) != vectors.shape[1]:
            log.warning("The training embeddings are of another model: %d numbers, not %d", width, vectors.shape[1])
            self._train_embeddings = None
            return
        self._nearest |= nearest_in_training(images, vectors, train)

    def write(self) -> None:
        """Write review, embeddings, summary and report."""
        # Late: no answer should wait for the import of the report's templates.
        from classify_client.report.write import Pictures, write_report

        context, results = self._context, self.results
        nearest = self._nearest if context.train_embeddings else {}
        evidence = Evidence(self._digests, context.manifest, context.scores, nearest, context.confirmed)
        review = update_review(results, evidence, self._model.train_counts_before)
        if self._embeddings is not None:
            self._embeddings.write(context.folder)
        if self._seen and (accuracies := self._seen.summary()):
            results.summary |= accuracies
            write_summary(context.folder, results.summary)
        pictures = Pictures(self._thumbnails, self._heatmaps, self._similar())
        write_report(results, review, pictures, self._comparison)

    def _similar(self) -> "dict[str, list[SimilarImage]]":
        """Of each miss that has a thumbnail: the most similar training images."""
        # Late, as above.
        from classify_serving.review_page.page import SimilarImage
        from classify_serving.review_page.thumbnails import stored_uri

        train = self._train_embeddings
        if train is None or not train.paths:
            return {}
        pictures = train.thumbnails or [b""] * len(train.paths)
        return {
            path: [SimilarImage(stored_uri(pictures[at]), train.paths[at], train.labels[at]) for at in nearest.places]
            for path in self._thumbnails
            if (nearest := self._nearest.get(path))
        }


def _draw_heatmaps(
    batch: Sequence[OpenedImage], explain: ModelQuery, folder: HeatmapFolder
) -> Iterator[tuple[str, Image.Image]]:
    """Write the heat maps of misses that have a copy; gives path and heat map of each."""
    answer = explain.ask([image for image in batch if image.preview is not None])
    for image, heat in zip(*answer, strict=True) if answer else ():
        assert image.preview is not None
        picture = overlay(image.preview, heat)
        folder.write(image.item, picture)
        yield image.item.row.path, picture
