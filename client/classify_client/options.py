"""The command-line options, grouped by what they are about."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_PATH: Final = click.Path(path_type=Path)

_INPUTS: Final = [
    click.argument("inputs", type=_PATH, nargs=-1, required=True),
    click.option(
        "--labels",
        type=click.Choice(["folder", "none"]),
        default="folder",
        help="Whether a file's folder names its true class.",
    ),
]

_OUTPUTS: Final = [
    click.option("--output", "-o", type=_PATH, default=Path("classified"), help="Folder for the results."),
    click.option("--max-failures", type=click.IntRange(0), default=0, help="Images that may fail without exit code 1."),
    click.option(
        "--fail-under", type=click.FloatRange(0, 1), metavar="ACCURACY", help="Exit with 1 below this accuracy, 0-1."
    ),
    click.option(
        "--overwrite", is_flag=True, help="Classify everything anew instead of going on from earlier results."
    ),
    click.option("--quiet", is_flag=True, help="No progress bar."),
]

_SERVER: Final = [
    click.option("--server", default="localhost:8500", metavar="HOST:PORT", help="gRPC address of the model server."),
    click.option("--model", default="classifier", help="Name of the model there."),
    click.option(
        "--embedded", type=_PATH, metavar="MODEL", help="Serve this model's folder for the run, instead of --server."
    ),
    click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, help="Seconds for one request."),
]

_PIPELINE: Final = [
    click.option("--batch-size", type=click.IntRange(1), default=32, help="Images a request."),
    click.option("--in-flight", type=click.IntRange(1), default=2, help="Requests sent and not yet answered, at most."),
    click.option(
        "--threads",
        type=click.IntRange(1),
        default=os.cpu_count() or 1,
        show_default="cores",
        help="Threads that decode images.",
    ),
]


def input_options(command: F) -> F:
    """Give a command the argument INPUTS and what says how they are taken."""
    return _with(command, _INPUTS)


def output_options(command: F) -> F:
    """Give a command the options of results, on disk and on the terminal."""
    return _with(command, _OUTPUTS)


def server_options(command: F) -> F:
    """Give a command the options of the connection to a model server."""
    return _with(command, _SERVER)


def pipeline_options(command: F) -> F:
    """Give a command the options of batches and threads."""
    return _with(command, _PIPELINE)


def _with(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command
