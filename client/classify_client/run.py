"""One run of the client: everything between the command line and the pipeline."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classify_client.after_run import Seeing, look_at_mistakes
from classify_client.errors import ClassifyError, InputError, OutputError
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import Patience
from classify_client.inference.local_server import embedded_server
from classify_client.inference.model_client import Service
from classify_client.inference.pipeline import Pipeline, Result, Times
from classify_client.inference.tuning import Tuner
from classify_client.inputs.counting import count_sources
from classify_client.inputs.selection import Selection
from classify_client.inputs.sources import Source, list_sources
from classify_client.mistakes.embeddings import embed_images
from classify_client.results.copies import Collections
from classify_client.results.formats import check_format
from classify_client.results.predictions import Predictions
from classify_client.results.previous import keep_previous
from classify_client.results.reader import read_items
from classify_client.results.rows import Row
from classify_client.results.summary import Tally, summarise, write_summary
from classify_client.terminal.progress import progress_bar, waiting
from classify_client.terminal.signals import Interrupt
from classify_serving.contract.model import ModelMetadata
from classify_serving.contract.text import error_reason
from classify_serving.files import locked

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the command line asks for.

    Attributes:
        inputs: what to classify, see `list_sources`.
        include, exclude, limit, shuffle: which of it, see `Selection`.
        output: folder for the results.
        connection: the model servers.
        model: the model's name there.
        embedded: a model's folder to serve for this run, instead of `connection` and `model`.
        labels: whether folder names are true labels.
        batch_size: images a request; None finds the best.
        in_flight: requests sent and not yet answered, at most; None finds the best.
        threads: decoding threads.
        timeout: seconds for one attempt of a request.
        patience: seconds to go on without an answer from any server; None is the default.
        overwrite: classify everything anew.
        file_format: of the predictions: `csv`, `jsonl` or `parquet`.
        top_k: how many classes a row names, 1-5.
        link: hard links instead of copies in `miss/` and `review/`.
        miss_by_pair: a folder in `miss/` for each pair of classes.
        review_below: images of a lower probability are collected in `review/`; None for no such folder.
        quiet: no progress bar.
        explain: write heat maps of the misses.
        embed: store embeddings.
        trained_on: list of what the model was trained on; None for that of `embedded`, if it has one.
        index: of what the model makes of the images it was trained on.
        confirmed: list of confirmed labels, besides those of the inputs.
    """

    inputs: Sequence[str]
    include: Sequence[str]
    exclude: Sequence[str]
    limit: int | None
    shuffle: int | None
    output: Path
    connection: Connection
    model: str
    embedded: Path | None
    labels: bool
    batch_size: int | None
    in_flight: int | None
    threads: int
    timeout: float
    patience: float | None
    overwrite: bool
    file_format: str
    top_k: int
    link: bool
    miss_by_pair: bool
    review_below: float | None
    quiet: bool
    explain: bool = False
    embed: bool = False
    trained_on: Path | None = None
    index: Path | None = None
    confirmed: Path | None = None

    @property
    def selection(self) -> Selection:
        """The images that are asked for."""
        return Selection(self.inputs, self.include, self.exclude, self.limit, self.shuffle)


@dataclass(frozen=True)
class Outcome:
    """What a run left: the content of `summary.json`, and whether it was interrupted."""

    summary: dict[str, Any]
    interrupted: bool


def run(config: RunConfig) -> Outcome:
    """Classify all inputs and leave `predictions.csv`, `miss/` and `summary.json` in the output folder.

    Raises:
        ClassifyError: as its tree says; results until then are complete, and another run goes on from them.
    """
    if config.output.resolve() in {Path(given).resolve() for given in config.inputs}:
        raise InputError(f"the input {config.output} is the output folder as well: give another --output")
    check_format(config.file_format)
    sources = list_sources(config.selection, config.output)
    with ExitStack() as stack:
        connection, model = config.connection, config.model
        if config.embedded:
            with waiting("Starting the embedded server", config.quiet):
                server, model = stack.enter_context(embedded_server(config.embedded))
            connection = Connection(servers=(server,))
        service = stack.enter_context(Service(connection, model, Patience.of(config.patience), config.timeout))
        metadata = service.metadata()
        try:
            config.output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(config.output))
            return _Run(config, service, metadata).classify(sources)
        except OSError as error:
            # Copying names both files; the second is ours.
            where = error.filename2 or error.filename or config.output
            raise OutputError(
                f"cannot write {where} ({error_reason(error)}):"
                " give another --output, or mend it and run again to go on"
            ) from error


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keep other runs out of an output folder."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(output))
        except BlockingIOError:
            raise OutputError(
                f"another classify-client is writing to {output}: wait for it to end, or give another --output"
            ) from None
        yield


class _Run:
    """The state of one run: its results file, its misses, its counts."""

    def __init__(self, config: RunConfig, service: Service, metadata: ModelMetadata) -> None:
        self._config, self._service, self._metadata = config, service, metadata
        self._tally, self._times = Tally(), Times()
        self._tuner = Tuner(
            config.batch_size, config.in_flight, service.servers, image_bytes=3 * metadata.image_size**2
        )
        self._start = time.perf_counter()
        self._seeing = Seeing.of(
            metadata,
            trained_on=config.trained_on,
            embedded=config.embedded,
            index=config.index,
            confirmed=config.confirmed,
            inputs=[Path(given) for given in config.inputs],
            explain=config.explain,
            quiet=config.quiet,
        )
        self._collections = Collections(config.output, config.link, config.miss_by_pair, config.review_below)
        keep_previous(config.output, metadata)
        self._predictions = Predictions(
            config.output,
            metadata,
            config.overwrite,
            forget=self._collections.remove,
            file_format=config.file_format,
            top_k=config.top_k,
        )

    def classify(self, sources: Iterator[Source]) -> Outcome:
        pipeline: Pipeline[Source] = Pipeline(self._service, self._tuner, self._config.threads, self._times)
        failure: ClassifyError | None = None
        steps = (self._finish, self._service.close)
        with self._predictions, Interrupt(*steps) as interrupt, progress_bar(self._config.quiet) as bar:
            task = bar.add_task("Classifying", total=None)
            stop_counting = count_sources(self._config.selection, self._config.output, bar, task)
            try:
                unanswered = self._unanswered(sources, interrupt)
                for results in pipeline.run(unanswered):
                    self._write(results)
                    bar.update(task, completed=self._tally.images)
            except ClassifyError as error:
                failure = error
            finally:
                stop_counting()
            complete = not failure and not interrupt.requested
            if complete:
                self._predictions.finish()
        summary = self._summarise(complete)
        service = self._service if complete else None
        if self._config.embed and service:
            with waiting("Embedding", self._config.quiet):
                items = read_items(self._config.output, summary)
                embed_images(self._config.output, items, service, self._metadata)
        summary |= look_at_mistakes(self._config.output, self._metadata, self._seeing, service)
        if failure:
            raise type(failure)(f"{failure} ({self._tally.images} images are done; run again to go on)") from failure
        return Outcome(summary, interrupt.requested)

    def _finish(self) -> None:
        log.warning("Finishing what is in flight; Ctrl-C again stops at once.")
        self._service.finish()

    def _unanswered(self, sources: Iterator[Source], interrupt: Interrupt) -> Iterator[Source]:
        """Pass on the files that need the server; take earlier answers over for the others."""
        for source in sources:
            if interrupt.requested:
                return
            if not self._predictions.admit(source):
                continue
            earlier = self._predictions.find(source)
            if earlier is None:
                yield source
                continue
            row = self._collections.collect(earlier.with_truth(source, self._metadata, self._config.labels), source)
            self._predictions.keep(row, earlier)
            self._tally.add(row, reused=True)

    def _write(self, results: list[Result[Source]]) -> None:
        with self._times.measure("write"):
            # A copy without a row is made again by a rerun; a row without its copy would stay so.
            rows = [
                self._collections.collect(Row.of(result, result.model, self._config.labels), result.source)
                for result in results
            ]
            self._predictions.append(rows)
        for row in rows:
            self._tally.add(row)

    def _summarise(self, complete: bool) -> dict[str, Any]:
        config = self._config
        arguments = {
            "inputs": list(config.inputs),
            "include": list(config.include),
            "exclude": list(config.exclude),
            "limit": config.limit,
            "shuffle": config.shuffle,
            "servers": [str(config.embedded)] if config.embedded else list(config.connection.servers),
            "labels": config.labels,
            "format": config.file_format,
            "top_k": config.top_k,
            "review_below": config.review_below,
            "batch_size": config.batch_size or "auto",
            "in_flight": config.in_flight or "auto",
            "threads": config.threads,
        }
        seconds = time.perf_counter() - self._start
        summary = summarise(self._tally, self._metadata, self._times, seconds, arguments, complete)
        summary["requests"] = asdict(self._tuner.setting) | {"settled": self._tuner.settled}
        write_summary(config.output, summary)
        return summary
