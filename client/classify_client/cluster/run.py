"""`--ray`: one run on the machines of a Ray cluster, with the same results as a run on this one."""

import gc
import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow

from classify_client import __version__
from classify_client.after_run import AnalysisContext, analyse_mistakes
from classify_client.cluster.answer import Processes, answer, plan_processes
from classify_client.cluster.classifier import Task
from classify_client.cluster.machines.checks import check_machine, is_readable
from classify_client.cluster.machines.connection import (
    REMEDY,
    Node,
    cluster_error,
    connected,
    free_cpus,
    nodes,
    on_each_node,
    only_run,
    start_actor,
)
from classify_client.cluster.machines.servers import ServerPool
from classify_client.cluster.output import output_folder, output_in_store
from classify_client.cluster.plan import plan_run
from classify_client.cluster.publish import publish
from classify_client.cluster.storage.location import Location, make_folder, remove_folder, url_location
from classify_client.cluster.storage.manifest import first_image, manifest_of
from classify_client.cluster.storage.parts import Part, count_images, count_rows, find_parts, rewrite
from classify_client.cluster.storage.remote_output import RemoteOutput
from classify_client.cluster.storage.work_folder import Plan, WorkFolder, run_identity
from classify_client.cluster.tally import Counted, Limits, tally_on_cluster
from classify_client.config import RunConfig
from classify_client.errors import ClusterError, InputError, OutputError, SettingsError
from classify_client.inference.model_client import ModelClient
from classify_client.inference.pipeline import Times
from classify_client.inputs.sources import check_inputs
from classify_client.mistakes.seen_images import SeenImages
from classify_client.results.reader import input_root
from classify_client.results.summary import RunCounts, summarise
from classify_client.run import Outcome, check_output, connect
from classify_client.terminal.progress import progress_bar, waiting
from classify_serving.contract.model import ModelMetadata

if TYPE_CHECKING:
    from upath import UPath

log = logging.getLogger(__name__)

_MARKER: Final = ".shared"
_PATIENCE: Final = 60.0
"""Seconds to wait for the processors of processes that failed."""
_ATTEMPTS: Final = 3
"""How often a cluster may fail without an answer in between."""


def run_on_cluster(config: RunConfig) -> Outcome:
    """Classify all inputs on a cluster, and leave the same files as a run on this machine.

    The images are listed here, classified by processes on all machines, and counted there; only the counts and the
    most suspicious misses come back.

    Raises:
        ClassifyError: see errors.py. What is answered is kept; running again resumes.
    """
    check_output(config)
    check_inputs(config.selection)
    url = _checked_url(config)
    with ExitStack() as stack:
        assert config.cluster.ray is not None
        with waiting("Connecting to the cluster", config.quiet):
            machines = stack.enter_context(connected(config.cluster.ray))
        stack.enter_context(only_run())
        processes = plan_processes(machines, free_cpus(machines), config.cluster.cluster_threads)
        if url:
            config, remote = stack.enter_context(output_in_store(config, url))
        else:
            stack.enter_context(output_folder(config.output.output))
            remote = None
        return _ClusterRun(config, machines, processes, stack, remote).classify()


def _checked_url(config: RunConfig) -> "UPath | None":
    """The output folder in an object store, if there is one; refuses what cannot be done on a cluster."""
    if config.analysis.embed:
        raise SettingsError("--embed opens every image on one machine: leave it out with --ray, or run without --ray")
    output = config.cluster.output_url
    if output is None:
        return None
    if output.rstrip("/") in {given.rstrip("/") for given in config.selection.inputs}:
        raise InputError(f"the input {output} is also the output folder: choose another --output")
    return url_location(output)


class _ClusterRun:
    """The state of one run on a cluster."""

    def __init__(
        self,
        config: RunConfig,
        machines: list[Node],
        processes: Processes,
        stack: ExitStack,
        remote: RemoteOutput | None,
    ) -> None:
        self._config, self._machines, self._processes, self._stack = config, machines, processes, stack
        self._remote = remote
        self._output: Location = remote.url if remote else config.output.output.resolve()
        self._client: ModelClient | None = None
        self._pool: Any = None

    def classify(self) -> Outcome:
        """List, classify, count, and publish."""
        start, config = time.perf_counter(), self._config
        self._check_machines(None)
        metadata = self._connect_servers()
        context = AnalysisContext.read(config, metadata)
        work, plan = self._plan(metadata)
        reused = self._answer(work, plan)
        with waiting("Counting the results", config.quiet):
            parts = self._parts(work, plan)
            limits = Limits(misses=config.cluster.max_misses, review_below=config.output.review_below)
            counted = Counted(
                folder=config.output.output,
                root=input_root(config.selection.inputs),
                precision=metadata.precision,
                manifest=context.manifest,
                working=Path.cwd(),
            )
            tally = tally_on_cluster(counted, limits, parts)
        with waiting("Writing the predictions", config.quiet):
            published = publish(config.output, metadata, work, parts, tally)
        tally.counts.reused, tally.counts.skipped = reused, plan.skipped
        summary = self._summary(tally.counts, metadata, time.perf_counter() - start)
        summary["copied_misses"] = len(tally.results.misses)
        if context.manifest:
            summary |= SeenImages(context.manifest, tally.seen, tally.unseen).summary()
        start = time.perf_counter()
        summary = analyse_mistakes(summary, context, self._model_client(), tally.results, published.comparison)
        if self._remote:
            with waiting("Uploading the results", config.quiet):
                self._remote.upload(published.outdated)
        work.remove()
        return Outcome(summary, False, time.perf_counter() - start)

    def _check_machines(self, image: pyarrow.Table | None) -> None:
        """Ask every machine whether it has what the run needs, before anything else is done."""
        token = secrets.token_hex(16)
        folder = self._output / _MARKER
        make_folder(folder)
        marker = folder / token
        model = self._config.server.local_server
        try:
            marker.write_text(token)
            # The second time, this is a part of listing the images.
            with waiting("Checking the machines", self._config.quiet or image is not None):
                on_each_node(
                    self._machines, check_machine, __version__, marker, token, model and model.absolute(), image
                )
        finally:
            remove_folder(folder)

    def _connect_servers(self) -> ModelMetadata:
        """The metadata of the model; starts the first local server."""
        import ray

        config = self._config
        if not config.server.local_server:
            self._client = self._stack.enter_context(connect(config.server, config.quiet, self._stack))
            return self._client.metadata()
        with waiting("Starting the local servers", config.quiet):
            self._pool = start_actor(ServerPool, config.server.local_server.absolute())
            first = self._machines[0]
            try:
                servers = ray.get(self._pool.on_node.remote(first.identity, first.gpus))
                metadata: ModelMetadata = ray.get(servers[0].metadata.remote())
            except ray.exceptions.RayError as error:
                raise cluster_error(error) from error
        return metadata

    def _plan(self, metadata: ModelMetadata) -> tuple[WorkFolder, Plan]:
        """The plan of a run that was killed, or a new one, and its files."""
        config, work = self._config, WorkFolder.find(self._output)
        plan = work and work.plan()
        identity = run_identity(config, metadata, self._output)
        # A list on standard input may be another one each time.
        is_new = config.output.overwrite or "-" in config.selection.inputs
        if work and plan and not is_new and plan.run == identity:
            log.warning(
                "Continuing the run that was begun, with the images that it listed: files that were added, changed or"
                " deleted since then are seen by the next run. --overwrite begins anew."
            )
        else:
            with waiting("Listing the images", config.quiet):
                return plan_run(config, metadata, self._output, lambda source: self._check_image(manifest_of(source)))
        if (image := first_image(work.manifest)) is not None:
            self._check_image(image)
        return work, plan

    def _check_image(self, image: pyarrow.Table) -> None:
        """Ask every machine whether it can read an image that this one can read."""
        if is_readable(image):
            self._check_machines(image)

    def _answer(self, work: WorkFolder, plan: Plan) -> int:
        """Classify what has no row yet; gives how many images had one."""
        config = self._config
        reused = min(_done(work), plan.images)
        if reused == plan.images:
            return reused
        task = Task(
            server=config.server, pipeline=config.pipeline, labels=config.output.labels, top_k=config.output.top_k
        )
        with progress_bar(config.quiet) as bar:
            bar_task = bar.add_task("Classifying", total=plan.images, completed=reused)
            done, attempts = reused, _ATTEMPTS
            while attempts:

                def progress(new: int, done: int = done) -> None:
                    bar.update(bar_task, completed=min(done + new, plan.images))

                try:
                    answer(task, work, plan.images - plan.kept, self._processes, self._pool, progress)
                    break
                except ClusterError as error:
                    before, done = done, _done(work)
                    attempts = _ATTEMPTS if done > before else attempts - 1
                    if not attempts:
                        raise
                    log.warning("%s", str(error).replace(REMEDY, ": going on"))
                # Only now nothing refers to the processes that failed, which use processors until they are forgotten.
                gc.collect()
                self._machines = nodes()
                free = free_cpus(self._machines, _PATIENCE)
                self._processes = plan_processes(self._machines, free, config.cluster.cluster_threads)
        return reused

    def _parts(self, work: WorkFolder, plan: Plan) -> Sequence[Part]:
        """The files with all rows, each image once."""
        parts = find_parts(work.rows)
        if (count := count_images(parts)) != plan.images:
            # The next run does not continue this one, but lists all images again and keeps the rows that there are.
            work.finish_plan(msgspec.structs.replace(plan, run={}))
            raise OutputError(
                f"{plan.images - count} of {plan.images} rows are missing in {work.rows}: run again to get them"
            )
        # Processes of a killed run may have written rows when this one had already begun.
        return parts if count_rows(parts) == count else rewrite(parts, work.folder / "once")

    def _summary(self, counts: RunCounts, metadata: ModelMetadata, seconds: float) -> dict[str, Any]:
        summary = summarise(counts, metadata, Times(), seconds, self._config.arguments(), complete=True)
        del summary["waited_seconds"]
        processes = self._processes
        summary["cluster"] = {
            "machines": sum(node.cpus >= 1 for node in self._machines),
            "processes": processes.count,
            "threads": processes.threads,
        }
        if self._remote:
            summary["output"] = str(self._output)
        return summary

    def _model_client(self) -> ModelClient | None:
        """To ask about the misses again, here; a local server is started only if it is needed."""
        config = self._config
        if self._client is None and (config.analysis.gradcam or config.analysis.train_embeddings):
            self._client = self._stack.enter_context(connect(config.server, config.quiet, self._stack))
        return self._client


def _done(work: WorkFolder) -> int:
    """How many images have a row."""
    return count_images(find_parts(work.rows))
