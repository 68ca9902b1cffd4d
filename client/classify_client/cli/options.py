"""The command-line options, grouped like the records in `config.py`."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from classify_client.cli.types import Address, Duration, Number, Output
from classify_client.output_folder import FORMATS
from classify_serving.renamed_option import RenamedOption

F = TypeVar("F", bound=Callable[..., Any])

TOP_K: Final = 5
"""As in the contract, whose module takes longer to import than --help may take."""

_PATH: Final = click.Path(path_type=Path)
_PROBABILITY: Final = click.FloatRange(0, 1)

_renamed: Final = partial(click.option, cls=RenamedOption)

_INPUTS: Final = [
    click.argument("inputs", nargs=-1, required=True),
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Classify only files that match, such as '*.jpg' or 'cat/*'; repeatable.",
    ),
    click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out files that match; repeatable."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Classify at most N images."),
    click.option(
        "--shuffle",
        type=click.IntRange(0, 2**63 - 1),
        metavar="SEED",
        help="Classify in random order; with --limit, a random sample.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the names of the images; send and write nothing."),
    click.option(
        "--labels",
        type=click.Choice(["folder", "none"]),
        default="folder",
        help="Whether the folder of a file names its true class.",
    ),
]

_OUTPUTS: Final = [
    click.option(
        "--output",
        "-o",
        type=Output(),
        default=Path("classified"),
        help="Folder for the results; with --ray, also the URL of one, such as s3://bucket/classified.",
    ),
    click.option(
        "--format",
        "file_format",
        envvar="CLASSIFY_FORMAT",
        type=click.Choice(FORMATS),
        default=FORMATS[0],
        help="Format of the predictions; parquet needs classify-client[parquet].",
    ),
    click.option("--top-k", type=click.IntRange(1, TOP_K), default=TOP_K, help="Number of classes in each row."),
    click.option("--link", is_flag=True, help="Make hard links instead of copies in miss/ and review/."),
    click.option("--miss-by-pair", is_flag=True, help="Make a folder in miss/ for each pair of classes."),
    click.option(
        "--review-below",
        type=_PROBABILITY,
        metavar="PROBABILITY",
        help="Copy images with a lower probability, 0-1, to review/.",
    ),
    click.option(
        "--max-failures", type=click.IntRange(0), default=0, help="Number of images that may fail without exit code 1."
    ),
    click.option(
        "--fail-under", type=_PROBABILITY, metavar="ACCURACY", help="Exit with code 1 below this accuracy, 0-1."
    ),
    click.option("--overwrite", is_flag=True, help="Classify everything again instead of resuming earlier results."),
    click.option("--quiet", is_flag=True, help="Show no progress bar."),
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
        help="gRPC address of a model server; repeatable. Several servers, or addresses of one name, share the work.",
    ),
    click.option("--model", default="classifier", help="Name of the model on the server."),
    click.option(
        "--model-version",
        type=click.IntRange(0, 2**63 - 1),
        metavar="N",
        help="Version of the model to ask.  [default: the newest]",
    ),
    click.option(
        "--version-label",
        metavar="LABEL",
        help="Ask the version that has this label on the server, such as stable, instead of --model-version.",
    ),
    _renamed(
        "--local-server",
        old="--embedded",
        type=_PATH,
        metavar="MODEL",
        help="Serve the model in this folder for the run, instead of --server.",
    ),
    click.option("--tls", is_flag=True, help="Encrypt, and check certificates with this system's authorities."),
    click.option(
        "--ca", type=_PATH, metavar="FILE", help="Check certificates with these authorities (PEM); implies --tls."
    ),
    click.option("--cert", type=_PATH, metavar="FILE", help="Certificate of this client (PEM); implies --tls."),
    click.option("--key", type=_PATH, metavar="FILE", help="Private key of --cert (PEM, without passphrase)."),
    click.option(
        "--tls-name", metavar="NAME", help="Name that the server's certificate must have, if it is not the host's."
    ),
    click.option(
        "--token-file",
        type=_PATH,
        metavar="FILE",
        help="File with a bearer token for the server.  [default: the environment variable CLASSIFY_TOKEN]",
    ),
    click.option("--timeout", type=Duration(), default="60s", help="Deadline of one attempt of a request."),
    _renamed(
        "--retry-timeout",
        old="--patience",
        type=Duration(),
        show_default="20s at the start, then 5m",
        help="How long to keep trying without an answer from any server, such as 90s, 5m or 1h.",
    ),
]

_PIPELINE: Final = [
    click.option("--batch-size", type=Number(), default="auto", help="Images per request; auto finds the fastest."),
    click.option(
        "--in-flight",
        type=Number(),
        default="auto",
        help="Maximum number of requests sent and not yet answered; auto finds the fastest."
        " With --ray, in each of the two parts of the images that a process works on.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        default=os.cpu_count() or 1,
        show_default="cores",
        help="Number of threads that decode images; with --ray, in each process, two of them if not given.",
    ),
]

_CLUSTER: Final = [
    click.option(
        "--ray",
        metavar="ADDRESS",
        help="Classify on the machines of a Ray cluster: HOST:PORT of its head, or auto for the cluster that this"
        " machine belongs to. Needs classify-client[ray].",
    ),
    click.option(
        "--max-misses",
        type=click.IntRange(0),
        default=10_000,
        metavar="N",
        help="With --ray: copy at most N images into miss/, the most suspicious ones, and as many into review/.",
    ),
]

_ANALYSIS: Final = [
    _renamed(
        "--gradcam",
        old="--explain",
        is_flag=True,
        help="Draw a heat map of each miss: the regions that decided (Grad-CAM).",
    ),
    click.option("--embed", is_flag=True, help="Save each image's embedding, for classify-train map."),
    _renamed(
        "--train-manifest",
        old="--trained-on",
        type=_PATH,
        metavar="FILE",
        help="Images that the model was trained on: its folder, or train_manifest.csv. They are scored separately."
        "  [default: that of --local-server]",
    ),
    _renamed(
        "--train-embeddings",
        old="--index",
        type=_PATH,
        metavar="FILE",
        help="Embeddings of the training images: a run's folder, or train_embeddings.npz. Finds near-duplicates and"
        " outliers among the misses, and shows the most similar training images of each.",
    ),
    click.option(
        "--confirmed",
        type=_PATH,
        metavar="FILE",
        help="Labels that a person has confirmed: a dataset, or its .review/confirmed.csv.",
    ),
]


def _with(options: Sequence[Callable[[F], F]], command: F) -> F:
    for option in reversed(options):
        command = option(command)
    return command


input_options: Final = partial(_with, _INPUTS)
output_options: Final = partial(_with, _OUTPUTS)
server_options: Final = partial(_with, _SERVER)
pipeline_options: Final = partial(_with, _PIPELINE)
cluster_options: Final = partial(_with, _CLUSTER)
analysis_options: Final = partial(_with, _ANALYSIS)
