"""Runs on archives, lists, filters and samples; --dry-run; the total of the progress bar."""

import io
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from client_support import Client
from rich.console import Console
from rich.progress import Progress

from classify_client.cli.main import main
from classify_client.inputs.counting import count_sources
from classify_client.inputs.selection import Selection


@pytest.fixture(params=["a.zip", "a.tar", "a.tar.gz"])
def archive(client: Client, request: pytest.FixtureRequest) -> Path:
    """An archive of the client's images and a broken one."""
    path = client.images.parent / str(request.param)
    (client.images / "white/2.png").write_bytes(b"no image")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zip_file:
            for file in sorted(client.images.rglob("*.*g")):
                zip_file.write(file, file.relative_to(client.images))
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w:") as tar:
            tar.add(client.images, "")
    return path


def test_an_archive_gives_the_same_rows_as_its_folder(client: Client, archive: Path) -> None:
    client.run()
    folder_rows = {
        f"{archive.name}/{row['path']}": (row["correct"], row["error"], row["miss"]) for row in client.rows()
    }
    for options in ((), (), ("--link",)):
        assert client.run(*options, inputs=(archive,)).exit_code == 1
        assert {row["path"]: (row["correct"], row["error"], row["miss"]) for row in client.rows()} == folder_rows
        copy = (client.output / "miss/black_to_white_2.png").read_bytes()
        assert copy == (client.images / "black/2.png").read_bytes()
    assert client.model.images == 12
    client.run("--miss-by-pair", "--review-below", "1", inputs=(archive,))
    assert client.model.images == 12
    assert len(list((client.output / "review").iterdir())) == 6
    assert (client.output / "miss/black_to_white/2.png").read_bytes() == copy


def test_a_changed_archive_member_is_sent_again(client: Client) -> None:
    path = client.images.parent / "a.zip"
    for name in ("1", "2"):
        with zipfile.ZipFile(path, "w") as zip_file:
            zip_file.write(client.images / f"black/{name}.png", "black/1.png")
            zip_file.write(client.images / "black/1.png", "black/2.png")
        client.run(inputs=(path,))
    assert client.model.images == 3


def test_a_dry_run_sends_no_request_and_writes_no_file(client: Client) -> None:
    client.run(inputs=(client.images / "white",))
    before = {path: path.stat().st_mtime_ns for path in client.output.rglob("*")}
    result = client.run("--server", "127.0.0.1:1", "--dry-run", "--exclude", "white/*", "--limit", "2")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["black/1.png", "black/2.png"]
    assert "2 images" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in client.output.rglob("*")} == before
    assert client.run("--dry-run", inputs=(client.images / "gone",)).exit_code == 2


def test_a_larger_sample_sends_only_the_additional_images(client: Client) -> None:
    client.run("--shuffle", "7", "--limit", "2")
    sample = [row["path"] for row in client.rows()]
    client.run("--shuffle", "7", "--limit", "4")
    assert [row["path"] for row in client.rows()][:2] == sample
    assert client.model.images == 4


def test_several_filters_in_an_environment_variable_are_separated_by_spaces(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSIFY_INCLUDE", "*.jpg unknown/*")
    result = CliRunner().invoke(main, [str(client.images), "--dry-run"])
    assert result.stdout.splitlines() == ["unknown/1.png", "white/1.jpg"]


def test_a_missing_file_in_a_list_gets_an_error_row_and_the_run_continues(client: Client) -> None:
    paths = f"{client.images}/black/1.png\n{client.images}/gone.png\n{client.images}/white\n"
    command = ["-", "--output", str(client.output), "--server", client.address]
    result = CliRunner().invoke(main, command, input=paths)
    assert result.exit_code == 1
    assert [row["error"] for row in client.rows()] == ["", "no such file", ""]


def test_characters_that_the_terminal_cannot_show_are_escaped(client: Client) -> None:
    (client.images / "white/1.jpg").rename(client.images / "white/🐈.jpg")
    command = [sys.executable, "-m", "classify_client", str(client.images), "--dry-run", "--include", "white/*"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.splitlines() == [r"white/\U0001f408.jpg"]


def test_the_total_of_the_progress_bar_is_counted_in_the_background(client: Client) -> None:
    with Progress(console=Console(file=io.StringIO(), force_terminal=True)) as progress:
        task = progress.add_task("")
        progress.tasks[task].total = None
        stop = count_sources(Selection((str(client.images),)), client.output, progress, task)
        deadline = time.monotonic() + 30
        while progress.tasks[task].total is None and time.monotonic() < deadline:
            time.sleep(0.01)
        stop()
        assert progress.tasks[task].total == 6


def test_files_that_are_no_images_are_counted_and_heic_gets_a_hint(client: Client) -> None:
    for name in ("notes.txt", "black/list.csv", ".hidden"):
        (client.images / name).write_text("text")
    (client.images / "black/phone.heic").write_bytes(b"heic")
    result = client.run("--max-failures", "1")
    assert "7  (1 failed, 2 other files skipped)" in result.stdout
    assert client.summary()["skipped"] == 2
    assert "HEIC cannot be read: convert it to JPEG" in [row["error"] for row in client.rows()]
