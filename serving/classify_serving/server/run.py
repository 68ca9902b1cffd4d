"""Run the local server: load the model, listen, serve new versions, and stop on a signal."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from classify_serving.server.batching import read_batching
from classify_serving.server.rest.server import RestServer
from classify_serving.server.servable import load_servable
from classify_serving.server.server import ModelServer
from classify_serving.server.tls import read_credentials
from classify_serving.server.watcher import Watcher


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How to serve a model: the arguments and options of `classify-serve`.

    Attributes:
        model: a model's folder `<name>/`, or a version's folder `<name>/<number>/`.
        host: address to listen on.
        port: gRPC port; 0 chooses a free port.
        rest_port: REST port; None means no REST.
        name: the model's name in requests; None means the name of the model's folder.
        threads: number of requests processed at the same time.
        batching_parameters_file: how to merge concurrent requests; None means not at all.
        ssl_config_file: keys and certificates for TLS; None means no encryption.
        watch: whether to serve new versions when they appear; never if `model` is a version's folder.
        until_stdin_closes: whether to stop when standard input ends.
        max_request_mb: larger requests are refused, in megabytes of 2**20 bytes.
    """

    model: Path
    host: str
    port: int
    rest_port: int | None
    name: str | None
    threads: int
    batching_parameters_file: Path | None
    ssl_config_file: Path | None
    watch: bool
    until_stdin_closes: bool
    max_request_mb: int


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server that is ready.

    Attributes:
        name: the model's name in requests.
        version: the served version.
        address: `host:port` of gRPC.
        rest_address: `host:port` of REST; None if it is off.
    """

    name: str
    version: int
    address: str
    rest_address: str | None


def run_server(config: ServeConfig, on_ready: Callable[[RunningServer], None]) -> None:
    """Load the model's newest version, listen, call `on_ready`, and block until SIGTERM or Ctrl-C.

    Requests that are running then are finished before this function returns.

    Raises:
        ServableError: the model cannot be loaded.
        ServerConfigError: an address or a configuration file cannot be used.
    """
    batching = read_batching(config.batching_parameters_file) if config.batching_parameters_file else None
    credentials = read_credentials(config.ssl_config_file) if config.ssl_config_file else None
    servable = load_servable(config.model, config.name, batching)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with ExitStack() as stack:
        server = stack.enter_context(
            ModelServer(servable, config.host, config.port, config.threads, credentials, config.max_request_mb)
        )
        rest_address = None
        if config.rest_port is not None:
            rest = RestServer(server.servables, config.host, config.rest_port, config.threads, config.max_request_mb)
            rest_address = stack.enter_context(rest).address
        if config.watch and not config.model.name.isdecimal():
            stack.enter_context(Watcher(server.servables, config.model, batching))
        on_ready(
            RunningServer(
                name=servable.name, version=servable.version, address=server.address, rest_address=rest_address
            )
        )
        if config.until_stdin_closes:
            threading.Thread(target=_set_at_end_of_input, args=(stopped,), daemon=True).start()
        stopped.wait()


def _set_at_end_of_input(event: threading.Event) -> None:
    sys.stdin.read()
    event.set()
