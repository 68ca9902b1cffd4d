"""TLS, client certificates and bearer tokens, with real handshakes."""

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
    """A function that starts a server with credentials and a token, and gives a Client of that server."""
    write_picture(tmp_path / "images/white/1.png", 250)
    model = BrightnessModel(make_metadata())
    with ExitStack() as stack:

        def start(credentials: grpc.ServerCredentials | None = None, token: str | None = None) -> Client:
            port = stack.enter_context(secure_server(model, credentials, token))
            # An IP address: `localhost` may also be an IPv6 address, and gRPC reports only the last address it tried.
            return Client(model, f"127.0.0.1:{port}", tmp_path / "images", tmp_path / "classified")

        yield start


def error_line(result: Result, code: int) -> str:
    """The only line on stderr, after a run that ended with this exit code."""
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return str(result.stderr)


def usage_error(result: Result) -> str:
    """The text on stderr as one line, after a run that ended with exit code 2."""
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def test_a_run_over_tls_with_a_client_certificate(serve: Serve, keys: Keys) -> None:
    assert serve(keys.tls).run("--ca", str(keys.ca)).exit_code == 0
    client = serve(keys.mutual_tls)
    result = client.run("--ca", str(keys.ca), "--cert", str(keys.cert), "--key", str(keys.key), "--overwrite")
    assert result.exit_code == 0, result.output
    refused = client.run("--ca", str(keys.ca), "--retry-timeout", "0")
    assert "--cert" in error_line(refused, 3)


def test_tls_checks_the_certificate_with_the_authorities_of_the_system(
    serve: Serve, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(keys.tls)
    assert "agree on TLS" in error_line(client.run("--tls"), 3)
    monkeypatch.setenv("SSL_CERT_FILE", str(keys.ca))
    assert client.run("--tls").exit_code == 0


def test_an_untrusted_certificate_ends_the_run_at_once(serve: Serve, keys: Keys) -> None:
    client = serve(keys.tls)
    message = error_line(client.run("--ca", str(keys.other_ca), "--retry-timeout", "1h"), 3)
    assert client.address in message
    assert "--ca" in message


def test_tls_name_must_be_a_name_in_the_certificate(serve: Serve, keys: Keys) -> None:
    client = serve(keys.tls)
    wrong = client.run("--ca", str(keys.ca), "--tls-name", "elsewhere.example", "--retry-timeout", "1h")
    assert "--tls-name" in error_line(wrong, 3)
    assert client.run("--ca", str(keys.ca), "--tls-name", "localhost").exit_code == 0


def test_tls_on_one_side_only_is_an_error_that_names_the_option(serve: Serve, keys: Keys) -> None:
    assert "--tls" in error_line(serve(keys.tls).run("--retry-timeout", "0"), 3)
    assert "--tls" in error_line(serve().run("--ca", str(keys.ca), "--retry-timeout", "1h"), 3)


def test_invalid_certificate_and_key_files_are_named_in_the_error(serve: Serve, keys: Keys, tmp_path: Path) -> None:
    client = serve()
    absent, invalid = tmp_path / "absent.pem", tmp_path / "rubbish.pem"
    invalid.write_text("rubbish")
    for path in (absent, invalid, tmp_path):
        assert str(path) in error_line(client.run("--ca", str(path)), 2)
    pairs = ((invalid, keys.key), (keys.cert, invalid), (keys.cert, keys.other_key), (keys.cert, absent))
    for cert, key in pairs:
        assert "--key" in error_line(client.run("--cert", str(cert), "--key", str(key)), 2)
    assert "belong together" in error_line(client.run("--cert", str(keys.cert)), 2)
    assert "belong together" in error_line(client.run("--tls", "--key", str(keys.key)), 2)
    assert "--tls-name" in error_line(client.run("--tls-name", "x"), 2)


def test_the_token_is_sent_but_never_printed_or_stored(
    serve: Serve, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(keys.tls, TOKEN)
    assert "--token-file" in error_line(client.run("--ca", str(keys.ca)), 3)
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    results = [client.run("--ca", str(keys.ca), "--token-file", str(path))]
    monkeypatch.setenv("CLASSIFY_TOKEN", TOKEN)
    results.append(client.run("--ca", str(keys.ca), "--overwrite"))
    for result in results:
        assert result.exit_code == 0, result.output
        assert TOKEN not in result.output
    assert not any(TOKEN.encode() in file.read_bytes() for file in client.output.rglob("*") if file.is_file())


def test_an_invalid_token_file_is_named_without_its_content(serve: Serve, keys: Keys, tmp_path: Path) -> None:
    client = serve(keys.tls)
    path = tmp_path / "token"
    for content in ("", "two words", "secret-ä", f"{TOKEN}\nsecond"):
        path.write_text(content)
        message = error_line(client.run("--ca", str(keys.ca), "--token-file", str(path)), 2)
        assert str(path) in message
        assert "secret" not in message
        assert TOKEN not in message
    assert "--token-file" in error_line(client.run("--token-file", str(tmp_path / "absent")), 2)


def test_a_token_is_never_sent_unencrypted_to_another_machine(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFY_TOKEN", TOKEN)
    assert serve(None, TOKEN).run().exit_code == 0
    for server in ("example.org:8500", "10.0.0.1:8500", "[2001:db8::1]:8500", "localhost.example.org:8500"):
        message = error_line(serve().run("--server", "localhost:8500", "--server", server), 2)
        assert server in message
        assert TOKEN not in message


@pytest.mark.parametrize(
    "server", ["http://localhost:8500", "localhost", "localhost:", ":8500", "localhost:0", "localhost:70000", "a b:1"]
)
def test_an_invalid_server_address_is_a_usage_error(serve: Serve, server: str) -> None:
    assert "localhost:8500" in usage_error(serve().run("--server", server))


@pytest.mark.parametrize("retry_timeout", ["", "5 parsecs", "m", "-1s", "nan"])
def test_an_invalid_duration_is_a_usage_error(serve: Serve, retry_timeout: str) -> None:
    assert "such as 90s" in usage_error(serve().run("--retry-timeout", retry_timeout))


def test_local_server_cannot_be_combined_with_tls_options(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path), "--local-server", str(tmp_path), "--ca", str(tmp_path)])
    assert "--ca" in usage_error(result)


def test_a_failed_handshake_prints_one_line(serve: Serve, keys: Keys) -> None:
    """In a process of its own, because there gRPC's own log messages would be on stderr."""
    client = serve(keys.tls)
    command = [sys.executable, "-m", "classify_client", str(client.images), "--output", str(client.output)]
    command += ["--server", client.address, "--ca", str(keys.other_ca)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 3
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Waiting for")]
    assert len(lines) == 1, result.stderr
