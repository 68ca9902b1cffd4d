"""The command-line options, grouped by what they are about."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from classify_client.cli.types import Address, Duration, Number
from classify_client.output_folder import FORMATS

F = TypeVar("F", bound=Callable[..., Any])

TOP_K: Final = 5
"""The contract's, which would need more than the standard library to be imported."""

_PATH: Final = click.Path(path_type=Path)

_INPUTS: Final = [
    click.argument("inputs", nargs=-1, required=True),
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Take only files like this, as '*.jpg' or 'cat/*'; repeatable.",
    ),
    click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave files like this out; repeatable."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Take N images at most."),
    click.option(
        "--shuffle",
        type=click.IntRange(0, 2**63 - 1),
        metavar="SEED",
        help="Take them in random order: with --limit, a random sample.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the names of the images, ask no server, write nothing."),
    click.option(
        "--labels",
        type=click.Choice(["folder", "none"]),
        default="folder",
        help="Whether a file's folder names its true class.",
    ),
]

_OUTPUTS: Final = [
    click.option("--output", "-o", type=_PATH, default=Path("classified"), help="Folder for the results."),
    click.option(
        "--format",
        "file_format",
        envvar="CLASSIFY_FORMAT",
        type=click.Choice(FORMATS),
        default=FORMATS[0],
        help="Of the predictions; parquet needs classify-client[parquet].",
    ),
    click.option("--top-k", type=click.IntRange(1, TOP_K), default=TOP_K, help="Likeliest classes that a row names."),
    click.option("--link", is_flag=True, help="Hard links instead of copies in miss/ and review/."),
    click.option("--miss-by-pair", is_flag=True, help="A folder in miss/ for each pair of classes."),
    click.option(
        "--review-below",
        type=click.FloatRange(0, 1),
        metavar="PROBABILITY",
        help="Also collect images that the model is less sure of than this, 0-1, in review/.",
    ),
    click.option("--max-failures", type=click.IntRange(0), default=0, help="Images that may fail without exit code 1."),
    click.option(
        "--fail-under", type=click.FloatRange(0, 1), metavar="ACCURACY", help="Exit with 1 below this accuracy, 0-1."
    ),
    click.option(
        "--overwrite", is_flag=True, help="Classify everything anew instead of going on from earlier results."
    ),
    click.option("--quiet", is_flag=True, help="No progress bar."),
    click.option(
        "--json",
        "as_json",
        envvar="CLASSIFY_JSON",
        is_flag=True,
        help="Print the content of summary.json instead of a summary.",
    ),
]

_SERVER: Final = [
    click.option(
        "--server",
        "servers",
        type=Address(),
        multiple=True,
        envvar="CLASSIFY_SERVER",
        default=["localhost:8500"],
        metavar="HOST:PORT",
        help="gRPC address of a model server. Several share the work, and so do all addresses of one name.",
    ),
    click.option("--model", default="classifier", help="Name of the model there."),
    click.option(
        "--embedded", type=_PATH, metavar="MODEL", help="Serve this model's folder for the run, instead of --server."
    ),
    click.option("--tls", is_flag=True, help="Encrypt, and check certificates with this system's authorities."),
    click.option("--ca", type=_PATH, metavar="FILE", help="Authorities to check certificates with (PEM); means --tls."),
    click.option("--cert", type=_PATH, metavar="FILE", help="Certificate to show to the server (PEM); means --tls."),
    click.option("--key", type=_PATH, metavar="FILE", help="Private key of --cert (PEM, without passphrase)."),
    click.option("--tls-name", metavar="NAME", help="Name that the server's certificate must have, if not its host's."),
    click.option(
        "--token-file",
        type=_PATH,
        metavar="FILE",
        help="File of a bearer token to show to the server.  [default: the environment variable CLASSIFY_TOKEN]",
    ),
    click.option("--timeout", type=Duration(), default="60s", help="Time for one attempt of a request."),
    click.option(
        "--patience",
        type=Duration(),
        show_default="20s at the start, then 5m",
        help="How long to go on without an answer from any server, such as 90s, 5m or 1h.",
    ),
]

_PIPELINE: Final = [
    click.option("--batch-size", type=Number(), default="auto", help="Images a request; auto finds what is fastest."),
    click.option(
        "--in-flight",
        type=Number(),
        default="auto",
        help="Requests sent and not yet answered, at most; auto finds what is fastest.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        default=os.cpu_count() or 1,
        show_default="cores",
        help="Threads that decode images.",
    ),
]


_MISTAKES: Final = [
    click.option("--explain", is_flag=True, help="Show where the model looked (Grad-CAM), for each miss."),
    click.option("--embed", is_flag=True, help="Store what the model makes of each image, for classify-train map."),
    click.option(
        "--trained-on",
        type=_PATH,
        metavar="FILE",
        help="What the model was trained on, trained_on.csv or the model's folder: such images are scored apart."
        "  [default: that of --embedded]",
    ),
    click.option(
        "--index",
        type=_PATH,
        metavar="FILE",
        help="What the model makes of its training images, index.npz or the run's folder: tells what misses are like.",
    ),
    click.option(
        "--confirmed",
        type=_PATH,
        metavar="FILE",
        help="Labels that were confirmed: .review/confirmed.csv of a dataset, or the dataset.",
    ),
]


def mistake_options(command: F) -> F:
    """Give a command the options about what the model got wrong."""
    return _with(command, _MISTAKES)


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
