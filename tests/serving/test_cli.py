"""`classify-serve`: what it prints when it is ready, and one sentence with the documented exit code for each error."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from saved_models import ask_for, save_model
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

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


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "give either MODEL"),
        (("m", "--model-config-file", "FILE"), "give either MODEL"),
        (("--model-config-file", "FILE", "--name", "x"), "leave --name out"),
        (("m", "--model-config-file-poll-wait-seconds", "1"), "is only for --model-config-file"),
        (("m", "--allow-version-labels-for-unavailable-models"), "is only for --model-config-file"),
    ],
)
def test_a_model_or_a_file_of_models_is_given(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    (tmp_path / "models.config").touch()
    names = {"FILE": str(tmp_path / "models.config")}
    result = CliRunner().invoke(main, [names.get(argument, argument) for argument in arguments])
    assert result.exit_code == 2
    assert reason in result.stderr


def test_a_file_of_models_is_served_and_followed(tmp_path: Path) -> None:
    folders = [save_model(tmp_path / "m", 1).parent, save_model(tmp_path / "n", 2).parent]
    save_model(tmp_path / "m", 2)
    models = "".join(
        f'config {{ name: "{folder.name}" base_path: "{folder}" model_platform: "tensorflow"'
        f' version_labels {{ key: "stable" value: 2 }} POLICY }}'
        for folder in folders
    )
    path = tmp_path / "models.config"
    path.write_text(f"model_config_list {{ {models} }}".replace("POLICY", "model_version_policy { all {} }"))
    command = [sys.executable, "-m", "classify_serving", "--model-config-file", str(path), "--port", "0"]
    options = ["--model-config-file-poll-wait-seconds", "1", "--allow-version-labels-for-unavailable-models"]
    with subprocess.Popen(
        [*command, *options, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert " ".join(words[:-1]) == "Serving m versions 1, 2 and n version 2 on"
        with grpc.insecure_channel(words[-1]) as channel:
            request = ask_for([1.0], "m")
            request.model_spec.version_label = "stable"
            predict = PredictionServiceStub(channel).Predict
            assert predict(request, timeout=20).model_spec.version.value == 2
            path.write_text(path.read_text().replace("value: 2", "value: 1", 1))
            deadline = time.monotonic() + 60
            while predict(request, timeout=20).model_spec.version.value == 2:
                assert time.monotonic() < deadline
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_next_step_fits_the_server() -> None:
    server = RunningServer(models={"pets": [3], "classifier": [1]}, address="0.0.0.0:8500", rest_address=None)
    assert client_command(server, None) == "classify-client ./images --server localhost:8500"
    named = RunningServer(models={"my model": [1]}, address="gpu-box:8500", rest_address=None)
    assert client_command(named, Path("tls/ssl.config")) == (
        "classify-client ./images --server gpu-box:8500 --model 'my model'"
        " --ca tls/ca.crt --cert tls/client.crt --key tls/client.key"
    )
