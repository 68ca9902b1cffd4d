"""Run the local server: load the models, listen, serve new versions, and stop on a signal."""

import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from classify_serving.contract.versions import is_version
from classify_serving.server.batching import read_batching
from classify_serving.server.mixed_precision import MixedPrecision, use_mixed_precision
from classify_serving.server.models.config import read_model_config, single_model
from classify_serving.server.models.manager import ModelManager
from classify_serving.server.models.watcher import Watcher
from classify_serving.server.rest.server import RestServer
from classify_serving.server.server import ModelServer
from classify_serving.server.tls import read_credentials


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """What to serve and how: the arguments and options of `classify-serve`.

    Attributes:
        model: a model's folder `<name>/`, or a version's folder `<name>/<number>/`; None if there is a file of models.
        model_config_file: the models to serve, in TensorFlow Serving's format; None if there is one model.
        model_config_file_poll_wait_seconds: how often that file is read again; 0: never.
        allow_version_labels_for_unavailable_models: whether a new label may be given to a version that is not loaded.
        host: address to listen on.
        port: gRPC port; 0 chooses a free port.
        rest_port: REST port; None means no REST.
        name: the name of `model` in requests; None means the name of its folder.
        threads: number of requests processed at the same time.
        batching_parameters_file: how to merge concurrent requests; None means not at all.
        ssl_config_file: keys and certificates for TLS; None means no encryption.
        watch: whether to serve new versions when they appear; never if `model` is a version's folder.
        until_stdin_closes: whether to stop when standard input ends.
        max_request_mb: larger requests are refused, in megabytes of 2**20 bytes.
        mixed_precision: number format in which float32 models are computed.
    """

    model: Path | None
    model_config_file: Path | None
    model_config_file_poll_wait_seconds: int
    allow_version_labels_for_unavailable_models: bool
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
    mixed_precision: MixedPrecision = "none"


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server that is ready.

    Attributes:
        models: the loaded versions of each model, by its name in requests.
        address: `host:port` of gRPC.
        rest_address: `host:port` of REST; None if it is off.
    """

    models: Mapping[str, Sequence[int]]
    address: str
    rest_address: str | None


def run_server(config: ServeConfig, on_ready: Callable[[RunningServer], None]) -> None:
    """Load the models, listen, call `on_ready`, and block until SIGTERM or Ctrl-C.

    Requests that are running then are finished before this function returns.

    Raises:
        ServableError: a model cannot be loaded.
        ServerConfigError: an address or a configuration file cannot be used.
    """
    batching = read_batching(config.batching_parameters_file) if config.batching_parameters_file else None
    credentials = read_credentials(config.ssl_config_file) if config.ssl_config_file else None
    use_mixed_precision(config.mixed_precision)
    manager = ModelManager(batching, config.allow_version_labels_for_unavailable_models)
    if config.model_config_file:
        manager.start(read_model_config(config.model_config_file))
    elif config.model:
        manager.start([single_model(config.model, config.name)])
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with ExitStack() as stack:
        server = stack.enter_context(
            ModelServer(manager.models, config.host, config.port, config.threads, credentials, config.max_request_mb)
        )
        rest_address = None
        if config.rest_port is not None:
            rest = RestServer(manager.models, config.host, config.rest_port, config.threads, config.max_request_mb)
            rest_address = stack.enter_context(rest).address
        _watch(manager, config, stack)
        versions = {name: sorted(model.servables) for name, model in manager.models.current.items()}
        on_ready(RunningServer(models=versions, address=server.address, rest_address=rest_address))
        if config.until_stdin_closes:
            threading.Thread(target=_set_at_end_of_input, args=(stopped,), daemon=True).start()
        stopped.wait()


def _watch(manager: ModelManager, config: ServeConfig, stack: ExitStack) -> None:
    # A version's folder is served as it is: no newer version replaces it.
    folders = config.watch and not (config.model and is_version(config.model))
    seconds = config.model_config_file_poll_wait_seconds
    if folders or seconds:
        stack.enter_context(Watcher(manager, folders, config.model_config_file, seconds))


def _set_at_end_of_input(event: threading.Event) -> None:
    sys.stdin.read()
    event.set()
