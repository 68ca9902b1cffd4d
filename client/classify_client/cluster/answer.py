"""Ray Data reads the manifest, gives its parts to the processes of the cluster, and writes their rows."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from classify_client.cluster.classifier import CALLS_AT_ONCE, Counter, ImageClassifier, Task
from classify_client.cluster.machines.connection import LEAST_CPUS, Node, cluster_error, start_actor
from classify_client.cluster.machines.repeating import regularly
from classify_client.cluster.storage.location import arrow_path
from classify_client.cluster.storage.manifest import POSITION
from classify_client.cluster.storage.work_folder import WorkFolder
from classify_client.errors import ServiceError, SettingsError

_MOST_THREADS: Final = 2
"""Of a process: more threads mostly wait for the interpreter's lock, if images are small."""
_IMAGES_AT_MOST: Final = 8192
_IMAGES_AT_LEAST: Final = 64
_PARTS_PER_PROCESS: Final = 16
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Processes:
    """The processes that classify.

    Attributes:
        count: of them at the start; there are more as machines are added.
        cpus: logical processors that each of them reserves.
        threads: that decode images, in each of them.
    """

    count: int
    cpus: int
    threads: int


def plan_processes(machines: Sequence[Node], free: float, threads: int | None = None) -> Processes:
    """How many processes fit the machines, if two logical processors are left for reading and writing.

    Args:
        machines: of the cluster.
        free: logical processors that nobody uses.
        threads: of each process; None for two, if each machine has so many processors.

    Raises:
        SettingsError: the cluster has too few logical processors, so that Ray would wait for ever.
        ServiceError: others use too many of them.
    """
    cpus = [int(node.cpus) for node in machines if node.cpus >= 1]
    if sum(cpus) < LEAST_CPUS:
        raise SettingsError(
            f"the cluster has {sum(cpus)} logical processors, and a run needs {LEAST_CPUS}: add machines, or start"
            f" Ray with --num-cpus {LEAST_CPUS}"
        )
    if free < LEAST_CPUS:
        raise ServiceError(
            f"{free:g} of the {sum(cpus)} logical processors of the cluster are free, and a run needs {LEAST_CPUS}:"
            " wait until its other jobs have ended, or add machines"
        )
    each = threads or min(_MOST_THREADS, min(cpus))
    count = sum(max(1, number // each) for number in cpus)
    # Decoding is what needs processors; reading and writing share them with it.
    reserved = max(1, each - 1)
    while reserved > 1 and sum(number // reserved for number in cpus) < count:
        reserved -= 1
    while reserved > 1 and free - reserved * count < LEAST_CPUS - 1:
        reserved -= 1
    return Processes(max(1, min(count, int(free - LEAST_CPUS + 1) // reserved)), reserved, each)


def answer(
    task: Task, work: WorkFolder, images: int, processes: Processes, pool: Any, progress: Callable[[int], None]
) -> None:
    """Classify the images of a manifest that have no rows yet.

    Ray Data's checkpoint tells which images have a row, so that a run that was killed goes on where it was; see
    `ray.data.checkpoint.CheckpointConfig`.

    Args:
        task: of the run.
        work: its files.
        images: number of images in the manifest.
        processes: that classify.
        pool: handle of the `ServerPool`; None if the servers run already.
        progress: called now and then with the number of images that are done.

    Raises:
        ClusterError: machines or processes failed; what is answered is kept.
        ClassifyError: no server answers, or its settings cannot be used on a machine.
        OSError: rows cannot be written.
    """
    from ray.data import ActorPoolStrategy, read_parquet

    # Each of them is a process, 32 if nothing is said, and a manifest has one file for each 65,536 images.
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
    task = replace(task, pipeline=replace(task.pipeline, threads=processes.threads))
    with _checkpoint(work), _counted(progress) as counter:
        path, filesystem = arrow_path(work.manifest)
        dataset = read_parquet(path, filesystem=filesystem).repartition(
            target_num_rows_per_block=images_per_part(images, processes.count), strict=True
        )
        rows = dataset.map_batches(
            ImageClassifier,
            fn_constructor_args=(task, counter, pool),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=processes.cpus,
            compute=ActorPoolStrategy(
                min_size=1,
                initial_size=processes.count,
                max_size=None,
                max_tasks_in_flight_per_actor=2 * CALLS_AT_ONCE,
                max_concurrent_calls_per_actor=CALLS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
        )
        path, filesystem = arrow_path(work.rows)
        try:
            rows.write_parquet(path, filesystem=filesystem)
        except Exception as error:
            raise cluster_error(error) from error


def images_per_part(images: int, processes: int) -> int:
    """Images that a process takes at once: a power of two, so that each process gets many parts, but not tiny ones."""
    wanted = images // (processes * _PARTS_PER_PROCESS)
    return max(_IMAGES_AT_LEAST, min(_IMAGES_AT_MOST, 1 << max(0, wanted.bit_length() - 1)))


@contextmanager
def _checkpoint(work: WorkFolder) -> Iterator[None]:
    """Datasets that are made in the block have the checkpoint of a run, and do not print."""
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    context = DataContext.get_current()
    context.enable_progress_bars = False
    # Otherwise only the text of an error of this package comes back from another machine.
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    path, filesystem = arrow_path(work.checkpoint)
    context.checkpoint_config = CheckpointConfig(
        id_column=POSITION,
        checkpoint_path=path,
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
    )
    try:
        yield
    finally:
        context.checkpoint_config = None


@contextmanager
def _counted(progress: Callable[[int], None]) -> Iterator[Any]:
    """Report the count of a new `Counter` now and then while the block runs; gives its handle."""
    import ray

    counter = start_actor(Counter)

    def report() -> None:
        # Its process is started again elsewhere, or the run has just ended.
        with suppress(Exception):
            progress(ray.get(counter.total.remote(), timeout=10 * _POLL_SECONDS))

    with regularly(report, _POLL_SECONDS):
        yield counter
