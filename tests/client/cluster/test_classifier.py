"""What a process of a cluster does with its part of the images, here without a cluster."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from client_support import Start
from pyarrow import parquet
from support import BrightnessModel, free_port, make_metadata, write_picture

from classify_client.cluster import classifier
from classify_client.cluster.classifier import Counter, ImageClassifier, Task
from classify_client.cluster.storage.manifest import ManifestWriter
from classify_client.cluster.storage.parts import rows_of
from classify_client.config import PipelineOptions, ServerOptions
from classify_client.errors import ServiceError
from classify_client.inference.codec import RequestedModel
from classify_client.inference.connection import Connection
from classify_client.inputs.selection import Selection
from classify_client.inputs.sources import list_sources


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A manifest of 20 images, one of them broken."""
    for number in range(19):
        write_picture(tmp_path / "images" / "black" / f"{number:02}.png", 5)
    (tmp_path / "images" / "black" / "broken.png").write_bytes(b"")
    writer = ManifestWriter(tmp_path / "manifest")
    for position, source in enumerate(list_sources(Selection((str(tmp_path / "images"),)))):
        writer.add(100 + position, source)
    writer.close()
    return next((tmp_path / "manifest").iterdir())


def task(*servers: str) -> Task:
    options = ServerOptions(connection=Connection(servers=servers), retry_timeout=1)
    return Task(server=options, pipeline=PipelineOptions(batch_size=4, threads=2), labels=True, top_k=2)


def remote(counter: Counter) -> SimpleNamespace:
    """The counter as Ray hands it to other processes."""
    return SimpleNamespace(add=SimpleNamespace(remote=counter.add))


def test_a_part_of_the_manifest_becomes_a_part_of_the_results(start: Start, part: Path) -> None:
    client, counter = start(BrightnessModel(make_metadata())), Counter()
    classify = ImageClassifier(task(client.address), remote(counter))
    for _ in range(2):
        table = classify(parquet.read_table(part))
        assert table["position"].to_pylist() == list(range(100, 120))
        rows = list(rows_of(table))
        assert [row.path for row in rows] == [*(f"black/{number:02}.png" for number in range(19)), "black/broken.png"]
        assert {(row.predicted, row.true_class, len(row.top)) for row in rows[:-1]} == {("black", "black", 2)}
        assert rows[-1].error
    assert counter.total() == 40


def test_a_local_server_that_ended_is_asked_for_again(
    start: Start, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(BrightnessModel(make_metadata()))
    dead = f"127.0.0.1:{free_port()}"
    addresses = iter([dead, client.address])
    monkeypatch.setattr(classifier, "_servers_here", lambda pool: ((next(addresses),), RequestedModel("classifier")))
    classify = ImageClassifier(task(dead), remote(Counter()), pool=object())
    assert len(classify(parquet.read_table(part))) == 20
    # Other servers are not this run's to start again.
    with pytest.raises(ServiceError, match=dead):
        ImageClassifier(task(dead), remote(Counter()))(parquet.read_table(part))
