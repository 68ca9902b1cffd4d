"""TLS, client certificates and tokens, against real handshakes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from client_support import Client
from server_support import Keys, make_keys, secure_server
from support import BrightnessModel, make_metadata, write_picture

from classify_client.cli.main import main

TOKEN = "s3cret-t0ken"

Serve = Callable[..., Client]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server with credentials and a token; gives a client of it."""
    write_picture(tmp_path / "images/white/1.png", 250)
    model = BrightnessModel(make_metadata())
    with ExitStack() as stack:

        def start(credentials: grpc.ServerCredentials | None = None, token: str | None = None) -> Client:
            port = stack.enter_context(secure_server(model, credentials, token))
            # By number, because gRPC tells of the last address only, and a name has another in IPv6.
            return Client(model, f"127.0.0.1:{port}", tmp_path / "images", tmp_path / "classified")

        yield start


def sentence(result: Result, code: int) -> str:
    """The one line of an error."""
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return str(result.stderr)


def usage_error(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def test_tls_and_a_certificate_of_our_own(serve: Serve, keys: Keys) -> None:
    assert serve(keys.tls).run("--ca", str(keys.ca)).exit_code == 0
    made = serve(keys.mutual_tls)
    result = made.run("--ca", str(keys.ca), "--cert", str(keys.cert), "--key", str(keys.key), "--overwrite")
    assert result.exit_code == 0, result.output
    refused = made.run("--ca", str(keys.ca), "--retry-timeout", "0")
    assert "--cert" in sentence(refused, 3)


def test_authorities_of_the_system(serve: Serve, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    made = serve(keys.tls)
    assert "agree on TLS" in sentence(made.run("--tls"), 3)
    monkeypatch.setenv("SSL_CERT_FILE", str(keys.ca))
    assert made.run("--tls").exit_code == 0


def test_a_certificate_that_is_not_trusted_ends_the_run_at_once(serve: Serve, keys: Keys) -> None:
    made = serve(keys.tls)
    told = sentence(made.run("--ca", str(keys.other_ca), "--retry-timeout", "1h"), 3)
    assert made.address in told
    assert "--ca" in told


def test_the_name_in_the_certificate(serve: Serve, keys: Keys) -> None:
    made = serve(keys.tls)
    wrong = made.run("--ca", str(keys.ca), "--tls-name", "elsewhere.example", "--retry-timeout", "1h")
    assert "--tls-name" in sentence(wrong, 3)
    assert made.run("--ca", str(keys.ca), "--tls-name", "localhost").exit_code == 0


def test_tls_on_one_side_only(serve: Serve, keys: Keys) -> None:
    assert "--tls" in sentence(serve(keys.tls).run("--retry-timeout", "0"), 3)
    assert "--tls" in sentence(serve().run("--ca", str(keys.ca), "--retry-timeout", "1h"), 3)


def test_files_that_are_no_keys(serve: Serve, keys: Keys, tmp_path: Path) -> None:
    made = serve()
    absent, rubbish = tmp_path / "absent.pem", tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    for path in (absent, rubbish, tmp_path):
        assert str(path) in sentence(made.run("--ca", str(path)), 2)
    pairs = ((rubbish, keys.key), (keys.cert, rubbish), (keys.cert, keys.other_key), (keys.cert, absent))
    for cert, key in pairs:
        assert "--key" in sentence(made.run("--cert", str(cert), "--key", str(key)), 2)
    assert "belong together" in sentence(made.run("--cert", str(keys.cert)), 2)
    assert "belong together" in sentence(made.run("--tls", "--key", str(keys.key)), 2)
    assert "--tls-name" in sentence(made.run("--tls-name", "x"), 2)


def test_a_token_is_shown_and_never_told(
    serve: Serve, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = serve(keys.tls, TOKEN)
    assert "--token-file" in sentence(made.run("--ca", str(keys.ca)), 3)
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    results = [made.run("--ca", str(keys.ca), "--token-file", str(path))]
    monkeypatch.setenv("CLASSIFY_TOKEN", TOKEN)
    results.append(made.run("--ca", str(keys.ca), "--overwrite"))
    for result in results:
        assert result.exit_code == 0, result.output
        assert TOKEN not in result.output
    assert not any(TOKEN.encode() in file.read_bytes() for file in made.output.rglob("*") if file.is_file())


def test_tokens_that_are_none(serve: Serve, keys: Keys, tmp_path: Path) -> None:
    made = serve(keys.tls)
    path = tmp_path / "token"
    for content in ("", "two words", "secret-ä", f"{TOKEN}\nsecond"):
        path.write_text(content)
        told = sentence(made.run("--ca", str(keys.ca), "--token-file", str(path)), 2)
        assert str(path) in told
        assert "secret" not in told
        assert TOKEN not in told
    assert "--token-file" in sentence(made.run("--token-file", str(tmp_path / "absent")), 2)


def test_a_token_never_leaves_this_machine_in_the_clear(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFY_TOKEN", TOKEN)
    assert serve(None, TOKEN).run().exit_code == 0
    for server in ("example.org:8500", "10.0.0.1:8500", "[2001:db8::1]:8500", "localhost.example.org:8500"):
        told = sentence(serve().run("--server", "localhost:8500", "--server", server), 2)
        assert server in told
        assert TOKEN not in told


@pytest.mark.parametrize(
    "server", ["http://localhost:8500", "localhost", "localhost:", ":8500", "localhost:0", "localhost:70000", "a b:1"]
)
def test_what_is_no_address(serve: Serve, server: str) -> None:
    assert "localhost:8500" in usage_error(serve().run("--server", server))


@pytest.mark.parametrize("retry_timeout", ["", "5 parsecs", "m", "-1s", "nan"])
def test_what_is_no_duration(serve: Serve, retry_timeout: str) -> None:
    assert "such as 90s" in usage_error(serve().run("--retry-timeout", retry_timeout))


def test_a_local_server_takes_no_keys(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path), "--local-server", str(tmp_path), "--ca", str(tmp_path)])
    assert "--ca" in usage_error(result)


def test_a_failed_handshake_prints_one_line(serve: Serve, keys: Keys) -> None:
    """Outside this process, where gRPC's own log would show."""
    made = serve(keys.tls)
    command = [sys.executable, "-m", "classify_client", str(made.images), "--output", str(made.output)]
    command += ["--server", made.address, "--ca", str(keys.other_ca)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Waiting for")]
    assert len(lines) == 1, done.stderr
