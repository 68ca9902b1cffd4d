"""What a run is asked to do: one frozen record for each group of options."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classify_client.inference.connection import Connection
from classify_client.inputs.selection import Selection


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The model and where it is served.

    Attributes:
        connection: the servers.
        model: the model's name there.
        model_version: the version to ask; None for the newest, or that of `version_label`.
        version_label: label of the version to ask; None for the newest, or `model_version`.
        local_server: a model's folder to serve for this run, instead of all of these.
        timeout: deadline of one attempt of a request in seconds.
        retry_timeout: seconds to keep trying without an answer from any server; None for the defaults.
    """

    connection: Connection = field(default_factory=Connection)
    model: str = "classifier"
    model_version: int | None = None
    version_label: str | None = None
    local_server: Path | None = None
    timeout: float = 60.0
    retry_timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """How images are sent.

    Attributes:
        batch_size: images per request; None to find the fastest.
        in_flight: maximum number of requests in flight; None to find the fastest.
        threads: number of decoding threads.
    """

    batch_size: int | None = None
    in_flight: int | None = None
    threads: int = os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written.

    Attributes:
        output: folder for the results.
        labels: whether folder names are true labels.
        file_format: of the predictions: `csv`, `jsonl` or `parquet`.
        top_k: number of classes in a row, 1-5.
        link: hard links instead of copies in `miss/` and `review/`.
        miss_by_pair: a folder in `miss/` for each pair of classes.
        review_below: images with a lower probability are copied to `review/`; None for no such folder.
        overwrite: classify everything again.
    """

    output: Path
    labels: bool = True
    file_format: str = "csv"
    top_k: int = 5
    link: bool = False
    miss_by_pair: bool = False
    review_below: float | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """How the misses are analysed after the run.

    Attributes:
        gradcam: write heat maps of the misses.
        embed: save the embedding of each image.
        train_manifest: the images that the model was trained on; None for that of the local server's model, if any.
        train_embeddings: embeddings of the images that the model was trained on.
        confirmed: list of confirmed labels, or a dataset with one, besides those of the inputs.
    """

    gradcam: bool = False
    embed: bool = False
    train_manifest: Path | None = None
    train_embeddings: Path | None = None
    confirmed: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """The Ray cluster that classifies.

    Attributes:
        ray: its address, HOST:PORT or `auto`; None to classify in this process.
        output_url: folder for the results in an object store, instead of `OutputOptions.output`; None for that.
        max_misses: maximum number of copies in `miss/`, and in `review/`, of a run on a cluster.
        cluster_threads: decoding threads of each process there; None for a number that fits the machines.
    """

    ray: str | None = None
    output_url: str | None = None
    max_misses: int = 10_000
    cluster_threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run of the client; `quiet` turns off progress bars."""

    selection: Selection
    output: OutputOptions
    server: ServerOptions = field(default_factory=ServerOptions)
    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    analysis: AnalysisOptions = field(default_factory=AnalysisOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    quiet: bool = False

    def arguments(self) -> Mapping[str, Any]:
        """The options that `summary.json` records."""
        selection, server, pipeline, output = self.selection, self.server, self.pipeline, self.output
        return {
            "inputs": list(selection.inputs),
            "include": list(selection.include),
            "exclude": list(selection.exclude),
            "limit": selection.limit,
            "shuffle": selection.shuffle,
            "servers": [str(server.local_server)] if server.local_server else list(server.connection.servers),
            "model_version": None if server.local_server else server.model_version,
            "version_label": None if server.local_server else server.version_label,
            "labels": output.labels,
            "format": output.file_format,
            "top_k": output.top_k,
            "review_below": output.review_below,
            "batch_size": pipeline.batch_size or "auto",
            "in_flight": pipeline.in_flight or "auto",
            "threads": pipeline.threads,
            "ray": self.cluster.ray,
        }
