"""The connection to a Ray cluster: its machines, what is started on them, and what it means if that fails."""

import errno
import itertools
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import grpc

from classify_client.cluster.machines.head import ask_head, head_watched
from classify_client.errors import ClassifyError, ClusterError, ServiceError, SettingsError
from classify_serving.contract.text import printable

AUTO: Final = "auto"
REMEDY: Final = ": run again to continue, and look into Ray's logs if it happens again"
"""At the end of the message of a `ClusterError`."""
log = logging.getLogger(__name__)

_CANNOT_WRITE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
_NAMESPACE: Final = "classify-client"
_TURN_SECONDS: Final = 1.0
_TURN_DEATHS: Final = 30
LEAST_CPUS: Final = 3
"""Logical processors: one for a process that classifies, two for reading and writing; with fewer, Ray Data waits."""

_ADDRESS_VARIABLE: Final = "RAY_ADDRESS"


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        identity: of Ray.
        host: its address.
        cpus, gpus: logical ones, as Ray was told.
    """

    identity: str
    host: str
    cpus: float
    gpus: float


def check_ray() -> None:
    """Check that Ray is installed.

    Raises:
        SettingsError: it is not.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None or find_spec("pandas") is None:
        raise SettingsError("--ray needs Ray: pip install 'classify-client[ray]'")


@contextmanager
def connected(address: str) -> Iterator[list[Node]]:
    """Use a cluster while the block runs; gives its machines.

    Args:
        address: `auto` for the cluster that this machine belongs to, or HOST:PORT.

    Raises:
        SettingsError: Ray cannot be imported, or the address is of another kind.
        ServiceError: there is no cluster, or none that this machine belongs to.
    """
    given = f"--ray {address}"
    if address == AUTO and (variable := os.environ.get(_ADDRESS_VARIABLE)):
        address, given = variable, f"{_ADDRESS_VARIABLE}={variable}"
    _check_address(address, given)
    # Its compiled part writes lines for developers to stderr, also in runs without a fault.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError as error:
        raise SettingsError(f"Ray cannot be imported ({error}): pip install 'classify-client[ray]' again") from error

    # Ray prints what happens to its processes, which may be restarted ten times without any harm.
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(sys.stderr or nowhere),
        _without_errors_of_threads(Path(ray.__file__).parent),
    ):
        _connect(address)
        try:
            with head_watched(ray.get_runtime_context().gcs_address):
                yield nodes()
        finally:
            ray.shutdown()


@contextmanager
def _without_errors_of_threads(package: Path) -> Iterator[None]:
    """While the block runs, errors that end a thread of a package are not printed.

    Some of Ray's threads end so when a pipeline is done; what makes a pipeline fail comes back to its caller.
    """
    before = threading.excepthook

    def print_others(error: threading.ExceptHookArgs) -> None:
        frames = traceback.extract_tb(error.exc_traceback)
        if not frames or not Path(frames[-1].filename).is_relative_to(package):
            before(error)

    threading.excepthook = print_others
    try:
        yield
    finally:
        threading.excepthook = before


def _connect(address: str) -> None:
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _without_stderr():
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
    except SystemExit as error:
        # What Ray's own handler makes of SIGTERM.
        raise KeyboardInterrupt from error
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"Ray cannot work with a name that is not UTF-8 ({printable(error.object)}): rename that file or folder, or"
            " run without --ray"
        ) from error
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or "no answer"
        raise ServiceError(_no_cluster(address, reason)) from error
    finally:
        # Ray has handlers of its own, which end the process at once. In other threads no handlers were changed.
        with suppress(ValueError):
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """While the block runs, nothing is written to stderr, not even by compiled code."""
    try:
        stderr = os.dup(2)
    except OSError:
        # It is closed; a connection must not get its number, to which compiled code writes.
        stderr = None
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        if stderr is not None:
            os.dup2(stderr, 2)
            os.close(stderr)


def nodes() -> list[Node]:
    """The machines of the cluster that are alive."""
    import ray

    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def free_cpus(machines: Sequence[Node], patience: float = 5.0) -> float:
    """Logical processors that nobody uses.

    Args:
        machines: of the cluster.
        patience: seconds to wait until all are free; those of a run that has just ended become free soon.
    """
    import ray

    total = sum(node.cpus for node in machines)
    for _ in range(int(patience / _TURN_SECONDS)):
        if (free := float(ray.available_resources().get("CPU", 0.0))) >= total:
            break
        time.sleep(_TURN_SECONDS)
    return min(free, total)


def _check_address(address: str, given: str) -> None:
    """Ray itself waits for two minutes, and ends the process, if nobody listens."""
    if address == AUTO:
        return
    host, colon, port = address.rpartition(":")
    if "://" in address:
        raise SettingsError(
            f"{given}: only HOST:PORT or auto can be used; run the command on a machine of the cluster, or hand"
            " it in with ray job submit"
        )
    if not colon or not host or not port.isdigit():
        raise SettingsError(f"{given}: give auto, or HOST:PORT of the head machine, such as head:6379")
    # Whether it knows who asks is for Ray to find out.
    if (code := ask_head(address)) not in (
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    ):
        is_other = code is grpc.StatusCode.UNIMPLEMENTED
        raise ServiceError(_no_cluster(address, "another program" if is_other else "no answer"))


def _no_cluster(address: str, reason: str) -> str:
    where = "on this machine" if address == AUTO else f"at {address}"
    if address == os.environ.get(_ADDRESS_VARIABLE):
        where += f", which {_ADDRESS_VARIABLE} names"
    return (
        f"no Ray cluster {where} ({reason}): start one with ray start --head, and run the command on one of its"
        " machines"
    )


def on_each_node(machines: list[Node], function: Callable[..., str], *arguments: Any) -> None:
    """Run a check on every machine at once.

    Args:
        machines: where to run it.
        function: of a module; returns what is wrong there, with the remedy, or an empty text.
        arguments: for the function.

    Raises:
        SettingsError: something is wrong on one of them.
    """
    import ray

    task = ray.remote(num_cpus=0, max_retries=1)(function)
    answers = [task.options(scheduling_strategy=_only_on(node.identity)).remote(*arguments) for node in machines]
    for node, answer in zip(machines, answers, strict=True):
        try:
            problem = ray.get(answer)
        except ray.exceptions.TaskUnschedulableError:
            # The machine has just been lost.
            continue
        except Exception as error:
            missing = re.search(r"No module named '([\w.]+)'", str(error))
            if not missing:
                raise cluster_error(error) from error
            name = "classify-client" if missing[1].startswith("classify_client") else missing[1]
            problem = f"{name} is not installed: pip install 'classify-client[ray]' there"
        if problem:
            raise SettingsError(f"on the machine {node.host} of the cluster: {problem}")


def start_actor(kind: type, *arguments: Any, node: str | None = None, gpus: int = 0) -> Any:
    """Start an actor that needs no logical processor, and is started again if its process ends.

    Args:
        kind: its class.
        arguments: of the class.
        node: identity of the only machine where it may run; None for any.
        gpus: number of GPUs that it has for itself.

    Returns:
        Its handle; it ends with the process that has started it.
    """
    import ray

    actor = ray.remote(num_cpus=0, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(kind)
    return actor.options(scheduling_strategy=_only_on(node) if node else None).remote(*arguments)


def _only_on(identity: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(identity, soft=False)


def cluster_error(error: BaseException) -> ClassifyError | OSError:
    """What made a process of the cluster fail: an error of this package, a file that cannot be written, or else Ray."""
    cause: BaseException | None = error
    while cause is not None:
        # Ray makes classes that are derived from the class of the cause.
        if isinstance(cause, ClassifyError) and type(cause).__module__ == ClassifyError.__module__:
            return cause
        if isinstance(cause, OSError) and cause.errno in _CANNOT_WRITE:
            return OSError(cause.errno, os.strerror(cause.errno))
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ClusterError(f"the cluster failed ({(lines[-1] if lines else type(error).__name__).rstrip('.')}){REMEDY}")


@contextmanager
def only_run() -> Iterator[None]:
    """Keep other runs from the cluster while the block runs, and wait for one that is there already.

    Ray hands out processors one by one: two runs could each get a part of what it needs, and wait for ever.
    """
    import ray

    # On this machine, because it is not known yet whether others have this package.
    here = _only_on(ray.get_runtime_context().get_node_id())
    turn, died = ray.remote(num_cpus=0)(_Turn), 0
    for attempt in itertools.count():
        try:
            held = turn.options(name=_Turn.__name__, namespace=_NAMESPACE, scheduling_strategy=here).remote()
            ray.get(held.__ray_ready__.remote())
            break
        except (ValueError, ray.exceptions.ActorDiedError) as error:
            # There is one of this name, or it is just ending: it ends with the command that made it.
            died += isinstance(error, ray.exceptions.ActorDiedError)
            if died > _TURN_DEATHS:
                raise cluster_error(error) from error
            if attempt == 1:
                log.warning("Waiting for another classify-client on this cluster to end.")
            time.sleep(_TURN_SECONDS)
    try:
        yield
    finally:
        ray.kill(held)


class _Turn:
    """A Ray actor of which a cluster has one."""
