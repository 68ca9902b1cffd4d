"""`classify-serve`: what it prints when it is ready, and one sentence with the documented exit code for each error."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from saved_models import save_model

from classify_serving.cli import client_command, main
from classify_serving.server.run import RunningServer


def serve_fails(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    assert isinstance(result.exception, SystemExit)
    assert len(result.stderr.splitlines()) == 1
    return result.exit_code, result.stderr


def test_a_missing_folder(tmp_path: Path) -> None:
    code, message = serve_fails(str(tmp_path / "absent"))
    assert code == 3
    assert str(tmp_path / "absent") in message


def test_a_folder_without_a_version(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    code, message = serve_fails(str(tmp_path))
    assert code == 3
    assert "classify-train train" in message


def test_the_folder_above_the_model_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "classifier/1").mkdir(parents=True)
    (tmp_path / "classifier/1/saved_model.pb").touch()
    code, message = serve_fails(str(tmp_path))
    assert code == 3
    assert f"did you mean {tmp_path / 'classifier'}?" in message


@pytest.mark.parametrize("content", [b"", b"no model at all"])
def test_a_broken_version(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m/3").mkdir(parents=True)
    (tmp_path / "m/3/saved_model.pb").write_bytes(content)
    code, message = serve_fails(str(tmp_path / "m"))
    assert code == 3
    assert str(tmp_path / "m/3") in message


def test_a_configuration_file_that_cannot_be_used(tmp_path: Path) -> None:
    save_model(tmp_path / "m", 1)
    (tmp_path / "batching.txt").write_text("max_batch_size { value: 0 }")
    code, message = serve_fails(str(tmp_path / "m"), "--batching-parameters-file", str(tmp_path / "batching.txt"))
    assert code == 2
    assert "max_batch_size is 0, but must be at least 1" in message


@pytest.mark.parametrize("by_program", [False, True])
def test_when_ready_it_prints_the_address_and_the_next_step(tmp_path: Path, by_program: bool) -> None:
    save_model(tmp_path / "m", 3)
    options = ["--until-stdin-closes"] if by_program else []
    command = [sys.executable, "-m", "classify_serving", str(tmp_path / "m"), "--port", "0", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:5] == ["Serving", "m", "version", "3", "on"]
        if not by_program:
            process.send_signal(signal.SIGTERM)
        # Closes standard input, which ends a server that a program started.
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    next_step = f"Classify: classify-client ./images --server {words[5]} --model m"
    assert errors.splitlines() == ([] if by_program else [next_step])


def test_the_next_step_fits_the_server() -> None:
    server = RunningServer(name="classifier", version=1, address="0.0.0.0:8500", rest_address=None)
    assert client_command(server, None) == "classify-client ./images --server localhost:8500"
    named = RunningServer(name="my model", version=1, address="gpu-box:8500", rest_address=None)
    assert client_command(named, Path("tls/ssl.config")) == (
        "classify-client ./images --server gpu-box:8500 --model 'my model'"
        " --ca tls/ca.crt --cert tls/client.crt --key tls/client.key"
    )
