"""classify-serve: serve a SavedModel over gRPC on a machine without Docker."""

import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from classify_serving import __version__

EXIT_USAGE = 2
EXIT_NO_MODEL = 3
EXIT_INTERRUPTED = 130


@click.command(context_settings={"auto_envvar_prefix": "CLASSIFY_SERVE", "show_default": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all of this machine's.")
@click.option("--port", type=click.IntRange(0, 65535), default=8500, help="gRPC port; 0 takes a free one.")
@click.option("--rest-port", type=click.IntRange(0, 65535), help="REST port; none if not given.")
@click.option("--name", help="Name to serve the model under.  [default: the model folder's name]")
@click.option("--threads", type=click.IntRange(1), default=4, help="Requests worked on at once.")
@click.option(
    "--batching-parameters-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Merge concurrent requests as this file says, one of TensorFlow Serving's.",
)
@click.option(
    "--ssl-config-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Encrypt gRPC, and check clients, as this file says, one of TensorFlow Serving's.",
)
@click.option("--watch/--no-watch", default=True, help="Whether to serve new versions of MODEL as they appear.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.version_option(__version__)
def main(model: Path, **options: Any) -> None:
    """Serve the newest version in the folder MODEL (such as models/classifier) over gRPC.

    A stand-in for TensorFlow Serving for development, tests and machines without Docker: the same service, methods
    and status codes. It listens once the model is loaded and warm, and then prints one line that ends in its
    address. A version that appears later takes over once it is warm. SIGTERM or Ctrl-C stops it after the requests
    under way. In production, run TensorFlow Serving.

    \b
    Exit codes: 0 stopped, 2 wrong usage or port taken, 3 no model there,
    130 interrupted before it was ready.
    """
    from classify_serving.contract.versions import ServableError, find_version

    # Read when gRPC is imported: what goes wrong is told in our own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    try:
        find_version(model)
        _require_tensorflow()
        serve(model, ServeConfig(**options))
    except ServableError as error:
        _fail(str(error), EXIT_NO_MODEL)
    except KeyboardInterrupt:
        _fail("interrupted before the server was ready", EXIT_INTERRUPTED)


def _require_tensorflow() -> None:
    from classify_serving.tensorflow_import import import_tensorflow

    try:
        import_tensorflow()
        import grpc_health  # noqa: F401
    except ImportError as error:
        _fail(
            f"the embedded server needs {error.name or 'TensorFlow'}: pip install 'classify-serving[embedded]'",
            EXIT_USAGE,
        )


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How to serve a model; the attributes are the command's options."""

    host: str
    port: int
    rest_port: int | None
    name: str | None
    threads: int
    batching_parameters_file: Path | None
    ssl_config_file: Path | None
    watch: bool
    until_stdin_closes: bool


def serve(model: Path, config: ServeConfig) -> None:
    """Load a model's newest version, listen, and block until told to stop.

    Raises:
        ServableError: the version cannot be loaded.
    """
    from classify_serving.server.batching import BatchingError, read_batching
    from classify_serving.server.rest import RestServer
    from classify_serving.server.servable import load_servable
    from classify_serving.server.server import AddressError, ModelServer
    from classify_serving.server.tls import SslError, read_credentials
    from classify_serving.server.watcher import Watcher

    try:
        parameters = config.batching_parameters_file
        batching = read_batching(parameters) if parameters else None
        credentials = read_credentials(config.ssl_config_file) if config.ssl_config_file else None
        servable = load_servable(model, config.name, batching)
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        with ExitStack() as stack:
            server = stack.enter_context(ModelServer(servable, config.host, config.port, config.threads, credentials))
            if config.rest_port is not None:
                rest = stack.enter_context(RestServer(server.servables, config.host, config.rest_port))
                click.echo(f"REST on {rest.address}", err=True)
            if config.watch and not model.name.isdecimal():
                stack.enter_context(Watcher(server.servables, model, batching))
            # Programs that start this one read the address from the end of this line.
            click.echo(f"Serving {servable.name} version {servable.version} on {server.address}")
            sys.stdout.flush()
            if config.until_stdin_closes:
                threading.Thread(target=_set_at_end_of_input, args=(stopped,), daemon=True).start()
            stopped.wait()
    except (AddressError, BatchingError, SslError) as error:
        _fail(str(error), EXIT_USAGE)


def _set_at_end_of_input(event: threading.Event) -> None:
    sys.stdin.read()
    event.set()


def _fail(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
