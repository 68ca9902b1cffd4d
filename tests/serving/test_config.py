"""Every TensorFlow Serving flag and configuration field that is used exists; the server ignores unknown flags."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message
from missing_tools import skip_or_fail
from saved_models import ask_for, save_model
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from classify_serving.server.batching import read_batching
from classify_serving.server.errors import SslError
from classify_serving.server.models.registry import Models
from classify_serving.server.servable import load_servable
from classify_serving.server.server import ModelServer
from classify_serving.server.tls import read_credentials

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "serving/config"
FLAGS = set((Path(__file__).parent / "tensorflow_model_server_flags.txt").read_text().split())
"""Flags of tensorflow_model_server, from tensorflow_serving/model_servers/main.cc."""


def test_every_flag_exists_in_tensorflow_serving() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    commands = re.findall(r"command: >-\n((?: +--.*\n)+)", text)
    assert len(commands) == 2, "one for CPU and one for GPU"
    pages = [(ROOT / name).read_text() for name in ("docs/serving.md", ".env.example")]
    settings = [line for page in pages for line in re.findall(r"SERVING_ARGS=(.*)", page)]
    settings += re.findall(r"^# \"(--.*)\"\.$", pages[1], re.MULTILINE)
    words = [word for command in (*commands, *settings) for word in shlex.split(command.replace("`", " "))]
    used = {word.removeprefix("--").partition("=")[0].rstrip(".") for word in words if word.startswith("--")}
    assert len(used) > 8
    assert used <= FLAGS


def test_files_named_by_flags_exist() -> None:
    for name in re.findall(r"/config/(\S+?\.config)", (ROOT / "docker-compose.yml").read_text()):
        assert (CONFIG / name).is_file()


@pytest.mark.parametrize("uncommented", [False, True])
def test_the_model_configuration_is_valid(uncommented: bool) -> None:
    text = (CONFIG / "models.config").read_text()
    if uncommented:
        text = re.sub(r"# (model_version_policy|version_labels)", r"\1", text)
        text = text.replace("model_version_policy { latest { num_versions: 1 } }", "")
    (config,) = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path) == ("classifier", "/models/classifier")
    if uncommented:
        assert list(config.model_version_policy.specific.versions) == [1, 2]
        assert dict(config.version_labels) == {"stable": 1, "canary": 2}


def test_the_batching_parameters_are_valid() -> None:
    cpu, gpu = (read_batching(CONFIG / f"batching_{kind}.config") for kind in ("cpu", "gpu"))
    assert (cpu.max_batch_size, cpu.batch_timeout_micros) == (128, 0)
    assert gpu.allowed_batch_sizes[-1] == gpu.max_batch_size


def monitoring_config() -> Message:
    """An empty MonitoringConfig as in tensorflow_serving/config/monitoring_config.proto; the API package lacks it."""
    file = descriptor_pb2.FileDescriptorProto(name="monitoring_config.proto", package="test", syntax="proto3")
    prometheus = file.message_type.add(name="PrometheusConfig")
    kinds = descriptor_pb2.FieldDescriptorProto
    prometheus.field.add(name="enable", number=1, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL)
    prometheus.field.add(name="path", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    file.message_type.add(name="MonitoringConfig").field.add(
        name="prometheus_config",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=".test.PrometheusConfig",
        label=kinds.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.MonitoringConfig"))()


def test_the_monitoring_configuration_is_valid() -> None:
    text_format.Parse((CONFIG / "monitoring.config").read_text(), monitoring_config())


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """The folder with the files that make-tls writes."""
    if not shutil.which("openssl"):
        skip_or_fail("openssl is not installed")
    script = tmp_path / "make-tls"
    script.write_bytes((ROOT / "serving/tls/make-tls").read_bytes())
    subprocess.run(["sh", str(script), "gpu-box"], check=True, capture_output=True)
    return tmp_path


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    return grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)


def test_only_clients_with_a_certificate_are_accepted(tls: Path) -> None:
    folder = save_model(tls / "m", 1).parent
    credentials = read_credentials(tls / "ssl.config")
    root, key, certificate = ((tls / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt"))
    with ModelServer(Models(load_servable(folder)), "localhost", credentials=credentials) as server:
        for credentials_of_client, accepted in (
            (grpc.ssl_channel_credentials(root, key, certificate), True),
            (grpc.ssl_channel_credentials(root), False),
            (None, False),
        ):
            with open_channel(server.address, credentials_of_client) as channel:
                call = PredictionServiceStub(channel).Predict.future(ask_for([1.0], "m"), timeout=60)
                assert (call.exception() is None) == accepted


@pytest.mark.parametrize("missing", ["server_key", "server_cert", "custom_ca"])
def test_an_incomplete_ssl_configuration_is_refused(tls: Path, missing: str) -> None:
    path = tls / "ssl.config"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if missing not in line))
    with pytest.raises(SslError, match=f"{path} has no {missing}"):
        read_credentials(path)
