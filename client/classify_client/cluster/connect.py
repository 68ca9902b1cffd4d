"""The connection to a Ray cluster, and what its machines must have for a run."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from classify_client.errors import ClassifyError, ServiceError, SettingsError

AUTO: Final = "auto"
LEAST_CPUS: Final = 3
"""Logical processors: one for a process that classifies, two for reading and writing; with fewer, Ray Data waits."""

_CONNECT_SECONDS: Final = 5.0


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
        SettingsError: Ray is not installed, or the address is of another kind.
        ServiceError: there is no cluster, or none that this machine belongs to.
    """
    check_ray()
    address = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
    _check_address(address)
    # Its compiled part writes lines for developers to stderr, also in runs without a fault.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    # Ray prints what happens to its processes, which may be restarted ten times without any harm.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        _connect(address)
        try:
            yield nodes()
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _without_stderr():
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
    except (ConnectionError, ValueError, RuntimeError, SystemExit) as error:
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
    sys.stderr.flush()
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
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


def _check_address(address: str) -> None:
    """Ray itself waits for two minutes, and ends the process, if nobody listens."""
    if address == AUTO:
        return
    host, colon, port = address.rpartition(":")
    if "://" in address:
        raise SettingsError(
            f"--ray {address}: only HOST:PORT or auto can be used; run the command on a machine of the cluster, or hand"
            " it in with ray job submit"
        )
    if not colon or not host or not port.isdigit():
        raise SettingsError(f"--ray {address}: give auto, or HOST:PORT of the head machine, such as head:6379")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ServiceError(_no_cluster(address, str(error).partition("] ")[2] or str(error))) from error


def _no_cluster(address: str, reason: str) -> str:
    where = "on this machine" if address == AUTO else f"at {address}"
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
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    answers = {
        node.host: ray.remote(num_cpus=0, max_retries=1)(function)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.identity, soft=False))
        .remote(*arguments)
        for node in machines
    }
    for host, answer in answers.items():
        try:
            problem = ray.get(answer)
        except Exception as error:
            if "classify_client" not in str(error) or "No module named" not in str(error):
                raise own_error(error) or error from error
            problem = "classify-client is not installed: pip install 'classify-client[ray]' there"
        if problem:
            raise SettingsError(f"on the machine {host} of the cluster: {problem}")


def own_error(error: BaseException | None) -> ClassifyError | None:
    """The error of this package that made a process of the cluster fail, if it was one."""
    while error is not None:
        if isinstance(error, ClassifyError) and type(error).__module__ == ClassifyError.__module__:
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None
