"""classify-serve: serve a SavedModel over gRPC on a machine without Docker."""

import signal
import sys
import threading
from pathlib import Path

import click

from classify_serving import __version__

EXIT_USAGE = 2
EXIT_NO_MODEL = 3
EXIT_INTERRUPTED = 130


@click.command(context_settings={"auto_envvar_prefix": "CLASSIFY_SERVE", "show_default": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all of this machine's.")
@click.option("--port", type=click.IntRange(0, 65535), default=8500, help="gRPC port; 0 takes a free one.")
@click.option("--name", help="Name to serve the model under.  [default: the model folder's name]")
@click.option("--threads", type=click.IntRange(1), default=4, help="Requests worked on at once.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.version_option(__version__)
def main(model: Path, host: str, port: int, name: str | None, threads: int, until_stdin_closes: bool) -> None:
    """Serve the newest version in the folder MODEL (such as models/classifier) over gRPC.

    A stand-in for TensorFlow Serving for development, tests and machines without Docker: the same service, methods
    and status codes. It listens once the model is loaded and warm, and then prints one line that ends in its
    address. SIGTERM or Ctrl-C stops it after the requests under way. In production, run TensorFlow Serving.

    \b
    Exit codes: 0 stopped, 2 wrong usage or port taken, 3 no model there,
    130 interrupted before it was ready.
    """
    from classify_serving.embedded.versions import ServableError, find_version

    try:
        version = find_version(model)
        _require_tensorflow()
        serve(version, host, port, name, threads, until_stdin_closes)
    except ServableError as error:
        _fail(str(error), EXIT_NO_MODEL)
    except KeyboardInterrupt:
        _fail("interrupted before the server was ready", EXIT_INTERRUPTED)


def _require_tensorflow() -> None:
    from classify_serving.quiet import import_tensorflow

    try:
        import_tensorflow()
        import grpc_health  # noqa: F401
    except ImportError as error:
        _fail(
            f"the embedded server needs {error.name or 'TensorFlow'}: pip install 'classify-serving[embedded]'",
            EXIT_USAGE,
        )


def serve(version: Path, host: str, port: int, name: str | None, threads: int, until_stdin_closes: bool) -> None:
    """Load a version's folder, listen, and block until told to stop.

    Raises:
        ServableError: the version cannot be loaded.
    """
    from classify_serving.embedded.servable import load_servable
    from classify_serving.embedded.server import AddressError, EmbeddedServer

    servable = load_servable(version, name)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        server = EmbeddedServer(servable, host, port, threads)
    except AddressError as error:
        _fail(str(error), EXIT_USAGE)
    with server:
        # Programs that start this one read the address from the end of this line.
        click.echo(f"Serving {servable.name} version {servable.version} on {server.address}")
        sys.stdout.flush()
        if until_stdin_closes:
            threading.Thread(target=_set_at_end_of_input, args=(stopped,), daemon=True).start()
        stopped.wait()


def _set_at_end_of_input(event: threading.Event) -> None:
    sys.stdin.read()
    event.set()


def _fail(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
