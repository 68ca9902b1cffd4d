"""`--ray` with images and results in an object store, and machines that lack what they need for it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from client_support import Start
from cluster_support import Machines, files, ray_machines, run, summary
from object_store_support import s3_environment, s3_server
from support import BrightnessModel, make_metadata, write_picture

pytestmark = pytest.mark.timeout(900)

IMAGES = 40


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """Everything that is started here uses a new S3 server."""
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(endpoint).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def machines(environment: None) -> Iterator[Machines]:
    """A cluster of one machine with four processors."""
    with ray_machines(4) as cluster:
        yield cluster


@pytest.fixture
def bucket(environment: None, tmp_path: Path) -> Iterator[str]:
    """A bucket with images of three classes, a third of them with a wrong label, and a broken one."""
    import s3fs

    store = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    store.mkdir("bucket")
    for number in range(IMAGES):
        picture = write_picture(tmp_path / "made.png", (5, 128, 250)[(number // 3) % 3], (12, 12 + number))
        store.pipe_file(f"bucket/images/{('black', 'grey', 'white')[number % 3]}/{number:02}.png", picture.read_bytes())
    store.pipe_file("bucket/images/white/broken.png", b"no image")
    # What follows such colons is another URL for fsspec.
    store.pipe_file("bucket/images/white/a::b.png", picture.read_bytes())
    yield "s3://bucket"
    store.rm("bucket", recursive=True)


def download(url: str, folder: Path) -> Path:
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False).get(url, str(folder), recursive=True)
    return folder


def test_results_in_a_store_are_those_in_a_folder(
    start: Start, bucket: str, machines: Machines, tmp_path: Path
) -> None:
    client, images = start(BrightnessModel(make_metadata())), f"{bucket}/images"
    options = ("--max-failures", "1", "--review-below", "0.9")
    here, there = tmp_path / "here", f"{bucket}/images/out"
    assert run(client, here, *options, inputs=(images,)).returncode == 0
    on_cluster = (*options, "--ray", machines.address)
    done = run(client, there, *on_cluster, inputs=(images,))
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"1 of {IMAGES + 2} images failed: see the column error in {there}/predictions.csv\n"
    assert f"{there}/report.html" in done.stdout
    assert "tmp" not in done.stdout
    copied = download(there, tmp_path / "there")
    assert files(copied) == files(here)
    assert summary(copied) == summary(here)
    assert (copied / "review.csv").read_text() == (here / "review.csv").read_text()
    assert "classify-client-" not in (copied / "report.html").read_text()

    # Again: nothing but the image that failed is sent, no copy of a miss is an input, and what is outdated is removed.
    asked = client.model.images
    again = run(client, there, *on_cluster, "--json", "--max-misses", "3", "--format", "parquet", inputs=(images,))
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert (found["images"], found["reused"], client.model.images) == (IMAGES + 2, IMAGES + 1, asked)
    later = download(there, tmp_path / "later")
    assert len(list((later / "miss").iterdir())) == 3
    assert sorted(path.name for path in later.iterdir()) == [
        "miss", "predictions.parquet", "report.html", "review", "review.csv", "summary.json",
    ]  # fmt: skip


def test_what_a_machine_lacks_is_said_in_one_sentence(
    start: Start, bucket: str, machines: Machines, tmp_path: Path
) -> None:
    client = start(BrightnessModel(make_metadata()))
    write_picture(client.images / "black" / "1.png", 5)
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'classify_client':\n"
        "            raise ModuleNotFoundError(f\"No module named '{name}'\", name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    keys = "AWS_ACCESS_KEY_ID= AWS_SECRET_ACCESS_KEY= AWS_EC2_METADATA_DISABLED=true"
    local, remote = tmp_path / "out", f"{bucket}/out"
    for variables, images, output, reason in (
        (f"PYTHONPATH={blocked}", client.images, local, "classify-client is not installed: pip install"),
        (keys, f"{bucket}/images", local, "set the credentials of its store there"),
        (keys, client.images, remote, "set the credentials of its store there"),
    ):
        number = machines.tell(f"add 1 {variables}")
        ended = run(client, output, "--ray", machines.address, inputs=(str(images),))
        assert machines.tell(f"remove {number}") == "removed"
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert "on the machine" in ended.stderr
        assert reason in ended.stderr
        assert not local.exists() or not list(local.iterdir())


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("s3://no-such-bucket/out", "cannot write s3://no-such-bucket/out"),
        ("s5://bucket/out", "s5"),
        ("s3://bucket/images", "is also the output folder"),
    ],
)
def test_a_store_that_cannot_be_written_is_named(
    start: Start, bucket: str, machines: Machines, output: str, reason: str
) -> None:
    client = start(BrightnessModel(make_metadata()))
    ended = run(client, output, "--ray", machines.address, inputs=(f"{bucket}/images",))
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert reason in ended.stderr


def test_only_a_cluster_writes_to_a_store(start: Start, tmp_path: Path) -> None:
    client = start(BrightnessModel(make_metadata()))
    write_picture(client.images / "black" / "1.png", 5)
    ended = run(client, "s3://bucket/out")
    assert ended.returncode == 2
    assert "needs --ray" in ended.stderr
    # A file:// URL is a folder.
    assert run(client, f"file://{tmp_path}/out").returncode == 0
    assert os.listdir(tmp_path / "out")
