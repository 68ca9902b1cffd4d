"""Images in an object store, with a local S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_support import Client
from object_store_support import s3_environment, s3_server
from support import write_picture

from classify_client.errors import InputError
from classify_client.inputs.selection import Selection
from classify_client.inputs.sources import list_sources
from classify_serving.contract.images import ImageError

KEYS = ("black/1.png", "black/2.png", "white/deep/1.jpg", "z.png", "notes.txt", ".hidden/1.png")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with a folder of images; yields the URL of the folder."""
    import s3fs

    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    store.mkdir("bucket")
    for key, brightness in zip(KEYS, (5, 250, 255, 5, 0, 5), strict=True):
        picture = write_picture(tmp_path / "made.png", brightness)
        store.pipe_file(f"bucket/pictures/{key}", picture.read_bytes())
    yield "s3://bucket/pictures"
    store.rm("bucket", recursive=True)


def list_names(*urls: str) -> list[str]:
    return [source.name for source in list_sources(Selection(urls))]


def test_folders_files_and_patterns_are_listed(bucket: str) -> None:
    assert list_names(bucket) == ["z.png", "black/1.png", "black/2.png", "white/deep/1.jpg"]
    assert list_names(f"{bucket}/z.png") == ["z.png"]
    assert list_names(f"{bucket}/z.png", f"{bucket}/black/") == [
        f"{bucket}/{n}" for n in ("z.png", "black/1.png", "black/2.png")
    ]
    assert list_names(f"{bucket}/*/?.png") == ["black/1.png", "black/2.png"]
    (source,) = list_sources(Selection((f"{bucket}/black/1.png",)))
    assert source.folders == ("black",)


def test_a_run_on_a_bucket_writes_the_same_results_as_on_a_folder(client: Client, bucket: str) -> None:
    for _ in range(2):
        result = client.run(inputs=(bucket,))
        assert result.exit_code == 0, result.output
        assert [(row["path"], row["correct"]) for row in client.rows()] == [
            ("z.png", ""),
            ("black/1.png", "true"),
            ("black/2.png", "false"),
            ("white/deep/1.jpg", "true"),
        ]
        assert client.misses() == ["black_to_white_2.png"]
        assert (client.output / "miss/black_to_white_2.png").stat().st_size > 0
        assert client.model.images == 4


def test_a_missing_object_bucket_or_protocol_is_named_in_the_error(bucket: str) -> None:
    for url in ("s3://bucket/none", "s3://no-such-bucket/x", "s4://x/y"):
        with pytest.raises(InputError) as raised:
            list_names(url)
        assert url in str(raised.value)
        assert "\n" not in str(raised.value)


def test_an_object_deleted_after_listing_raises_an_image_error(bucket: str) -> None:
    import s3fs

    sources = list(list_sources(Selection((bucket,))))
    s3fs.S3FileSystem().rm(f"{bucket}/z.png")
    with pytest.raises(ImageError):
        sources[0].decode(8, "stretch")
