"""`--ray`: one run on the machines of a Ray cluster, with the same results as a run on this one."""

import logging
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from classify_client import __version__
from classify_client.after_run import AnalysisContext, analyse_mistakes
from classify_client.cluster.answer import Processes, answer, plan_processes
from classify_client.cluster.classifier import Task
from classify_client.cluster.connect import (
    Node,
    cluster_error,
    connected,
    free_cpus,
    nodes,
    on_each_node,
    only_run,
    start_actor,
)
from classify_client.cluster.machines import check_machine, first_is_readable
from classify_client.cluster.parts import count_rows, find_parts, rewrite
from classify_client.cluster.plan import plan_run
from classify_client.cluster.publish import publish
from classify_client.cluster.servers import ServerPool
from classify_client.cluster.tally import Counted, Limits, tally_on_cluster
from classify_client.cluster.work_folder import Plan, WorkFolder, run_identity
from classify_client.config import RunConfig
from classify_client.errors import ClusterError, OutputError, SettingsError
from classify_client.inference.model_client import ModelClient
from classify_client.inference.pipeline import Times
from classify_client.results.summary import RunCounts, summarise
from classify_client.run import Outcome, cannot_write, check_output, connect, locked_output
from classify_client.terminal.progress import progress_bar, waiting
from classify_serving.contract.model import ModelMetadata

log = logging.getLogger(__name__)

_MARKER: Final = ".shared"
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
    _check_options(config)
    output = config.output.output
    with ExitStack() as stack:
        assert config.cluster.ray is not None
        with waiting("Connecting to the cluster", config.quiet):
            machines = stack.enter_context(connected(config.cluster.ray))
        stack.enter_context(only_run())
        processes = plan_processes(machines, free_cpus(machines), config.cluster.cluster_threads)
        is_new = not output.exists()
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_output(output))
            return _ClusterRun(config, machines, processes, stack).classify()
        except OSError as error:
            raise cannot_write(output, error) from error
        finally:
            if is_new:
                # Only if nothing is in it, because the run failed before it began.
                with suppress(OSError):
                    output.rmdir()


def _check_options(config: RunConfig) -> None:
    if config.analysis.embed:
        raise SettingsError("--embed opens every image on one machine: leave it out with --ray, or run without --ray")


class _ClusterRun:
    """The state of one run on a cluster."""

    def __init__(self, config: RunConfig, machines: list[Node], processes: Processes, stack: ExitStack) -> None:
        self._config, self._machines, self._processes, self._stack = config, machines, processes, stack
        self._output = config.output.output.resolve()
        self._work = WorkFolder.of(self._output)
        self._client: ModelClient | None = None
        self._pool: Any = None

    def classify(self) -> Outcome:
        """List, classify, count, and publish."""
        start, config = time.perf_counter(), self._config
        self._check_machines(None)
        metadata = self._connect_servers()
        context = AnalysisContext.read(config, metadata)
        plan = self._plan(metadata)
        reused = self._answer(plan)
        with waiting("Counting the results", config.quiet):
            parts = self._parts(plan)
            limits = Limits(misses=config.cluster.max_misses, review_below=config.output.review_below)
            counted = Counted(
                folder=config.output.output, inputs=tuple(config.selection.inputs), precision=metadata.precision
            )
            tally = tally_on_cluster(counted, limits, parts)
        with waiting("Writing the predictions", config.quiet):
            publish(config.output, metadata, self._work, parts, tally)
        tally.counts.reused, tally.counts.skipped = reused, plan.skipped
        summary = self._summary(tally.counts, metadata, time.perf_counter() - start)
        summary["copied_misses"] = len(tally.results.misses)
        start = time.perf_counter()
        summary = analyse_mistakes(summary, context, self._model_client(), tally.results)
        self._work.remove()
        return Outcome(summary, False, time.perf_counter() - start)

    def _check_machines(self, manifest: Path | None) -> None:
        """Ask every machine whether it has what the run needs, before anything else is done."""
        token = secrets.token_hex(16)
        folder = self._output / _MARKER
        folder.mkdir(exist_ok=True)
        marker = folder / token
        model = self._config.server.local_server
        try:
            marker.write_text(token)
            with waiting("Checking the machines", self._config.quiet):
                on_each_node(
                    self._machines, check_machine, __version__, marker, token, model and model.absolute(), manifest
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

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

    def _plan(self, metadata: ModelMetadata) -> Plan:
        """The plan of a run that was killed, or a new one."""
        config, plan = self._config, self._work.plan()
        if plan is not None and not config.output.overwrite and plan.run == run_identity(config, metadata):
            log.warning("Continuing the run that was begun: images that were added since then come with the next one.")
        else:
            with waiting("Listing the images", config.quiet):
                plan = plan_run(config, metadata, self._work)
        first = next(iter(sorted(self._work.manifest.glob("*.parquet"))), None)
        if first and first_is_readable(first):
            self._check_machines(first)
        return plan

    def _answer(self, plan: Plan) -> int:
        """Classify what has no row yet; gives how many images had one."""
        config = self._config
        reused = min(self._done(), plan.images)
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
                    answer(task, self._work, plan.images - plan.kept, self._processes, self._pool, progress)
                    break
                except ClusterError as error:
                    before, done = done, self._done()
                    attempts = _ATTEMPTS if done > before else attempts - 1
                    if not attempts:
                        raise
                    log.warning("%s", str(error).replace("run again", "going on", 1).partition(",")[0])
                    self._machines = nodes()
                    self._processes = plan_processes(
                        self._machines, free_cpus(self._machines), config.cluster.cluster_threads
                    )
        return reused

    def _done(self) -> int:
        """How many images have a row."""
        return count_rows(find_parts(self._work.rows))

    def _parts(self, plan: Plan) -> Sequence[Path]:
        """The files with all rows, each image once."""
        parts = find_parts(self._work.rows)
        if (count := count_rows(parts)) > plan.images:
            # Processes of a killed run may have written rows when this one had already begun.
            parts = rewrite(parts, self._work.folder / "once")
            count = count_rows(parts)
        if count != plan.images:
            raise OutputError(
                f"{plan.images - count} of {plan.images} rows are missing in {self._work.rows}: run again"
            )
        return tuple(parts)

    def _summary(self, counts: RunCounts, metadata: ModelMetadata, seconds: float) -> dict[str, Any]:
        summary = summarise(counts, metadata, Times(), seconds, self._config.arguments(), complete=True)
        del summary["waited_seconds"]
        processes = self._processes
        summary["cluster"] = {
            "machines": sum(node.cpus >= 1 for node in self._machines),
            "processes": processes.count,
            "threads": processes.threads,
        }
        return summary

    def _model_client(self) -> ModelClient | None:
        """To ask about the misses again, here; a local server is started only if it is needed."""
        config = self._config
        if self._client is None and (config.analysis.gradcam or config.analysis.train_embeddings):
            self._client = self._stack.enter_context(connect(config.server, config.quiet, self._stack))
        return self._client
