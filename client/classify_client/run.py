"""One run: from the inputs to the results in the output folder."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classify_client.after_run import AnalysisContext, analyse_mistakes
from classify_client.config import RunConfig, ServerOptions
from classify_client.errors import ClassifyError, InputError, OutputError, OutputGone
from classify_client.inference.batch import Result
from classify_client.inference.codec import RequestedModel
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import RetryTimeout
from classify_client.inference.local_server import local_server
from classify_client.inference.model_client import ModelClient
from classify_client.inference.pipeline import Pipeline, Times
from classify_client.inference.tuning import Tuner
from classify_client.inputs.counting import count_sources
from classify_client.inputs.source import Source
from classify_client.inputs.sources import list_sources
from classify_client.results.copies import ImageCopies
from classify_client.results.formats import check_format
from classify_client.results.predictions import Predictions
from classify_client.results.previous import keep_previous
from classify_client.results.rows import Row
from classify_client.results.summary import RunCounts, summarise
from classify_client.terminal.progress import progress_bar, waiting
from classify_client.terminal.signals import GracefulShutdown
from classify_serving.contract.model import ModelMetadata
from classify_serving.contract.text import error_reason
from classify_serving.files import locked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        summary: the content of `summary.json`.
        interrupted: whether the run was interrupted.
        analysis_seconds: duration of the analysis after the run: report, heat maps, embeddings.
    """

    summary: dict[str, Any]
    interrupted: bool
    analysis_seconds: float


def run(config: RunConfig) -> Outcome:
    """Classify all inputs and leave predictions, misses, report and summary in the output folder.

    Raises:
        ClassifyError: see errors.py. Results so far are kept; running again resumes.
    """
    output = config.output.output
    check_output(config)
    counts = RunCounts()
    sources = list_sources(config.selection, output, counts.skip)
    with ExitStack() as stack:
        model_client = stack.enter_context(connect(config.server, config.quiet, stack))
        metadata = model_client.metadata()
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_output(output))
            return _Run(config, model_client, metadata, counts).classify(sources)
        except OSError as error:
            raise cannot_write(output, error) from error


def check_output(config: RunConfig) -> None:
    """Check that results can be written where and as they are wanted.

    Raises:
        InputError: the output folder is an input.
        OutputError: the package for the format is not installed.
    """
    output = config.output.output
    if output.resolve() in {Path(given).resolve() for given in config.selection.inputs}:
        raise InputError(f"the input {output} is also the output folder: choose another --output")
    check_format(config.output.file_format)


def cannot_write(output: Path | str, error: Exception) -> OutputError:
    """The error that results could not be written to an output folder."""
    # An error of copying names two files; the second one is the copy.
    where = (isinstance(error, OSError) and (error.filename2 or error.filename)) or output
    return OutputError(
        f"cannot write {where} ({error_reason(error)}):"
        " choose another --output, or fix the cause and run again to continue"
    )


def connect(server: ServerOptions, quiet: bool, stack: ExitStack) -> ModelClient:
    """A client of the given servers, or of a local one that ends with the stack.

    Raises:
        SettingsError: the connection's settings cannot be used.
        ServiceError: the local server does not start.
    """
    connection, model = server.connection, RequestedModel(server.model, server.model_version, server.version_label)
    if server.local_server:
        with waiting("Starting the local server", quiet):
            address, name = stack.enter_context(local_server(server.local_server))
        model = RequestedModel(name)
        connection = Connection(servers=(address,))
    return ModelClient(connection, model, RetryTimeout.of(server.retry_timeout), server.timeout)


@contextmanager
def locked_output(output: Path) -> Iterator[None]:
    """Keep other runs out of an output folder.

    Raises:
        OutputError: another one writes to it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(output))
        except BlockingIOError:
            raise OutputError(
                f"another classify-client is writing to {output}: wait until it ends, or choose another --output"
            ) from None
        yield


class _Run:
    """The state of one run: its results file, its copies, its counts."""

    def __init__(
        self, config: RunConfig, model_client: ModelClient, metadata: ModelMetadata, counts: RunCounts
    ) -> None:
        self._config, self._model_client, self._metadata = config, model_client, metadata
        self._labels = config.output.labels
        self._counts, self._times = counts, Times()
        pipeline, output = config.pipeline, config.output
        image_bytes = 3 * metadata.image_size**2
        self._tuner = Tuner(pipeline.batch_size, pipeline.in_flight, model_client.servers, image_bytes)
        self._start = time.perf_counter()
        self._context = AnalysisContext.read(config, metadata)
        self._copies = ImageCopies(output.output, output.link, output.miss_by_pair, output.review_below)
        keep_previous(output.output, metadata)
        self._predictions = Predictions(
            output.output,
            metadata,
            output.overwrite,
            remove_copy=self._copies.remove,
            file_format=output.file_format,
            top_k=output.top_k,
        )

    def classify(self, sources: Iterator[Source]) -> Outcome:
        config, failure = self._config, None
        pipeline: Pipeline[Source] = Pipeline(self._model_client, self._tuner, config.pipeline.threads, self._times)
        steps = (self._finish, self._model_client.close)
        with self._predictions, GracefulShutdown(*steps) as shutdown, progress_bar(config.quiet) as bar:
            task = bar.add_task("Classifying", total=None)
            stop_counting = count_sources(config.selection, config.output.output, bar, task)
            try:
                for results in pipeline.run(self._unanswered(sources, shutdown)):
                    self._write(results)
                    bar.update(task, completed=self._counts.images)
            except OutputGone:
                raise
            except ClassifyError as error:
                failure = error
            finally:
                stop_counting()
            complete = not failure and not shutdown.requested
            if complete:
                self._predictions.finish()
        summary, start = self._summary(complete), time.perf_counter()
        summary = analyse_mistakes(summary, self._context, self._model_client if complete else None)
        if failure:
            raise type(failure)(
                f"{failure} ({self._counts.images} images are done; run again to continue)"
            ) from failure
        return Outcome(summary, shutdown.requested, time.perf_counter() - start)

    def _finish(self) -> None:
        log.warning("Finishing the requests in flight; press Ctrl-C again to stop at once.")
        self._model_client.finish()

    def _unanswered(self, sources: Iterator[Source], shutdown: GracefulShutdown) -> Iterator[Source]:
        """Yield the images that must be sent; keep earlier answers for the others."""
        for source in sources:
            if shutdown.requested:
                return
            if not self._predictions.admit(source):
                continue
            earlier = self._predictions.find(source)
            if earlier is None:
                yield source
                continue
            row = self._copies.add(earlier.with_truth(source, self._metadata, self._labels), source)
            self._predictions.keep(row, earlier)
            self._counts.add(row, self._metadata.precision, reused=True)

    def _write(self, results: list[Result[Source]]) -> None:
        with self._times.measure("write"):
            # Copies first: a copy without a row is made again by the next run, a row without its copy is not.
            rows = [self._copies.add(Row.of(result, result.model, self._labels), result.source) for result in results]
            self._predictions.append(rows)
        for row, result in zip(rows, results, strict=True):
            self._counts.add(row, result.model.precision)

    def _summary(self, complete: bool) -> dict[str, Any]:
        seconds = time.perf_counter() - self._start
        arguments = self._config.arguments()
        summary = summarise(self._counts, self._metadata, self._times, seconds, arguments, complete)
        summary["requests"] = asdict(self._tuner.setting) | {"settled": self._tuner.settled}
        return summary
