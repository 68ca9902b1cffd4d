"""The command `classify-serve`: serve SavedModels with the local server."""

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from classify_serving import __version__
from classify_serving.termination import sigterm_interrupts

if TYPE_CHECKING:
    from classify_serving.server.run import RunningServer, ServeConfig

EXIT_USAGE = 2
EXIT_NO_MODEL = 3
EXIT_INTERRUPTED = 130
_CLIENT_DEFAULT_MODEL = "classifier"


@click.command(context_settings={"auto_envvar_prefix": "CLASSIFY_SERVE", "show_default": True})
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--model-config-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Serve the models, versions and labels in this file, in TensorFlow Serving's format, instead of MODEL.",
)
@click.option(
    "--model-config-file-poll-wait-seconds",
    type=click.IntRange(0),
    default=0,
    help="How often to read that file again and apply its changes; 0: never.",
)
@click.option(
    "--allow-version-labels-for-unavailable-models",
    is_flag=True,
    help="Accept new labels for versions that are not loaded yet; needed for labels at the start.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 accepts clients from other machines.")
@click.option("--port", type=click.IntRange(0, 65535), default=8500, help="gRPC port; 0 chooses a free port.")
@click.option(
    "--rest-port", type=click.IntRange(0, 65535), help="REST port; 0 chooses a free port.  [default: no REST]"
)
@click.option("--name", help="Name of MODEL in requests.  [default: name of its folder]")
@click.option("--threads", type=click.IntRange(1), default=4, help="Number of requests processed at the same time.")
@click.option(
    "--max-request-mb",
    type=click.IntRange(1, 2047),
    default=128,
    help="Largest request accepted, in megabytes.",
)
@click.option(
    "--batching-parameters-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Merge concurrent requests into batches, configured by this file in TensorFlow Serving's format.",
)
@click.option(
    "--ssl-config-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Use TLS for gRPC, configured by this file in TensorFlow Serving's format.",
)
@click.option(
    "--mixed-precision",
    type=click.Choice(["auto", "none", "bfloat16"]),
    default="none",
    help="Compute float32 models in bfloat16, about twice as fast; auto: if the processor has instructions for it.",
)
@click.option("--watch/--no-watch", default=True, help="Serve new versions when they appear.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.version_option(__version__)
def main(model: Path | None, **options: Any) -> None:
    """Serve the newest version of a model over gRPC. MODEL is its folder, such as models/classifier.

    To serve several models or versions, give --model-config-file instead.

    The local server has the same services, methods and status codes as TensorFlow Serving. Use it for development and
    tests, and on machines without Docker; in production, use TensorFlow Serving.

    When the models are loaded and warmed up, the command prints one line that ends in the server's address. SIGTERM or
    Ctrl-C stops the server; it finishes running requests first.

    \b
    Exit codes: 0 stopped, 2 wrong usage or port in use, 3 no model found,
    130 interrupted before the server was ready.
    """
    from classify_serving.contract.versions import ServableError, find_version

    _check_models(model, options)

    # gRPC reads this when it is imported. Its own error lines are hidden, because this command reports the error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    try:
        if model:
            find_version(model)
        with sigterm_interrupts():
            _require_tensorflow()
            _run(model, options)
    except ServableError as error:
        _fail(str(error), EXIT_NO_MODEL)
    except KeyboardInterrupt:
        _fail("interrupted before the server was ready", EXIT_INTERRUPTED)


def _check_models(model: Path | None, options: dict[str, Any]) -> None:
    if (model is None) == (options["model_config_file"] is None):
        raise click.UsageError("give either MODEL, the folder of a model, or --model-config-file")
    if model is None and options["name"] is not None:
        raise click.UsageError("--model-config-file names its models: leave --name out")
    for option in ("model_config_file_poll_wait_seconds", "allow_version_labels_for_unavailable_models"):
        if model and options[option]:
            raise click.UsageError(f"--{option.replace('_', '-')} is only for --model-config-file: leave it out")


def _require_tensorflow() -> None:
    from classify_serving.tensorflow_import import import_tensorflow

    try:
        import_tensorflow()
        import grpc_health  # noqa: F401
    except ImportError as error:
        _fail(
            f"the local server needs {error.name or 'TensorFlow'}: pip install 'classify-serving[embedded]'",
            EXIT_USAGE,
        )


def _run(model: Path | None, options: dict[str, Any]) -> None:
    from classify_serving.server.errors import ServerConfigError
    from classify_serving.server.run import ServeConfig, run_server

    config = ServeConfig(model=model, **options)
    try:
        run_server(config, on_ready=lambda server: _report_ready(server, config))
    except ServerConfigError as error:
        _fail(str(error), EXIT_USAGE)


def _report_ready(server: "RunningServer", config: "ServeConfig") -> None:
    if server.rest_address:
        click.echo(f"REST on {server.rest_address}", err=True)
    # Programs that start this command read the address from the end of this line.
    models = " and ".join(_versions(name, versions) for name, versions in server.models.items())
    click.echo(f"Serving {models} on {server.address}")
    sys.stdout.flush()
    if not config.until_stdin_closes:
        click.echo(f"Classify: {client_command(server, config.ssl_config_file)}", err=True)


def _versions(name: str, versions: Sequence[int]) -> str:
    return f"{name} version{'s' if len(versions) > 1 else ''} {', '.join(map(str, versions))}"


def client_command(server: "RunningServer", ssl_config_file: Path | None) -> str:
    """A `classify-client` command for this server; with TLS, it names the files that make-tls writes beside it."""
    words = ["classify-client", "./images", "--server", server.address.replace("0.0.0.0:", "localhost:")]
    if _CLIENT_DEFAULT_MODEL not in server.models:
        words += ["--model", next(iter(server.models))]
    if ssl_config_file:
        for option, name in (("--ca", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")):
            words += [option, str(ssl_config_file.with_name(name))]
    return shlex.join(words)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
