"""gRPC channels to the servers, with TLS and bearer tokens."""

import ipaddress
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from classify_client.errors import SettingsError
from classify_client.inference.validation import MAX_MESSAGE_BYTES
from classify_serving.contract.text import error_reason

TOKEN_VARIABLE: Final = "CLASSIFY_TOKEN"

# All addresses of a name are used in turn. There is no retryPolicy: retry_policy.py retries, and a server with a full
# queue should be asked less often, not three times as often.
_SERVICE_CONFIG: Final[dict[str, object]] = {"loadBalancingConfig": [{"round_robin": {}}]}
_OPTIONS: Final[tuple[tuple[str, str | int], ...]] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # A restarted server is found within seconds; gRPC's default pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The servers to use, and how both sides authenticate.

    Attributes:
        servers: `host:port` of each; they serve the same model and share the work. If a name has several addresses,
            they share the work as well.
        tls: encrypt, and check the servers' certificates against the certificate authorities of this system.
        ca: file of other authorities to trust, PEM; implies `tls`.
        cert: the client's own certificate with its chain, PEM, for servers that ask for one; implies `tls`.
        key: the private key of `cert`, PEM without passphrase.
        tls_name: the name that the servers' certificates must have, if it is not the host's.
        token_file: file with a bearer token; without it the environment variable CLASSIFY_TOKEN is used, if set.
    """

    servers: tuple[str, ...] = ("localhost:8500",)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    tls_name: str | None = None
    token_file: Path | None = None

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.tls or self.ca is not None or self.cert is not None


def open_channels(connection: Connection) -> list[grpc.Channel]:
    """One channel for each server, not yet connected.

    Raises:
        SettingsError: a file cannot be read or has the wrong content, or options contradict each other.
    """
    options = list(_OPTIONS)
    if connection.tls_name and not connection.encrypted:
        raise SettingsError("--tls-name has no effect without certificates: add --tls, or leave it out")
    if connection.tls_name:
        options.append(("grpc.ssl_target_name_override", connection.tls_name))
    if not connection.encrypted:
        return [grpc.insecure_channel(server, options) for server in connection.servers]
    credentials = _credentials(connection)
    return [grpc.secure_channel(server, credentials, options) for server in connection.servers]


def call_metadata(connection: Connection) -> tuple[tuple[str, str], ...]:
    """GRPC metadata of each request: the bearer token, if there is one.

    Raises:
        SettingsError: the token cannot be read, or would be sent unencrypted over the network.
    """
    token = _read_token(connection.token_file)
    if not token:
        return ()
    if not connection.encrypted:
        for server in connection.servers:
            if not _is_local(server):
                raise SettingsError(f"a token is not sent to {server} unencrypted: add --tls or --ca")
    return (("authorization", f"Bearer {token}"),)


def _read_token(path: Path | None) -> str:
    where = str(path) if path else f"the environment variable {TOKEN_VARIABLE}"
    token = (
        _read(path, "--token-file").decode("utf-8", "replace") if path else os.environ.get(TOKEN_VARIABLE, "")
    ).strip()
    if path and not token:
        raise SettingsError(f"{where} contains no token: write one into it, or leave --token-file out")
    # Never the token itself: messages end up in logs.
    if not all("!" <= character <= "~" for character in token):
        raise SettingsError(f"{where} does not contain a token: it must be one line of ASCII without spaces")
    return token


def _is_local(server: str) -> bool:
    host = server.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _credentials(connection: Connection) -> grpc.ChannelCredentials:
    """Credentials from PEM files; Python's ssl reads them first, because gRPC does not say what is wrong with one."""
    if (connection.cert is None) != (connection.key is None):
        raise SettingsError("--cert and --key belong together: give both or neither")
    roots = _read(connection.ca, "--ca") if connection.ca else _system_roots()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if connection.ca:
        try:
            context.load_verify_locations(connection.ca)
        except ssl.SSLError:
            raise SettingsError(f"{connection.ca} is not a certificate in PEM format: correct --ca") from None
    if not connection.cert or not connection.key:
        return grpc.ssl_channel_credentials(roots)
    chain, key = _read(connection.cert, "--cert"), _read(connection.key, "--key")
    try:
        # Without a password argument OpenSSL would ask on the terminal.
        context.load_cert_chain(connection.cert, connection.key, password="")
    except ssl.SSLError:
        raise SettingsError(
            f"{connection.cert} and {connection.key} are not a certificate and its private key in PEM format without"
            " passphrase: correct --cert or --key"
        ) from None
    return grpc.ssl_channel_credentials(roots, key, chain)


def _system_roots() -> bytes | None:
    """The certificate authorities of this system; None, which is gRPC's own list, if it has none."""
    path = ssl.get_default_verify_paths().cafile
    return _read(Path(path), "SSL_CERT_FILE") if path else None


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path} ({error_reason(error)}): correct {option}") from None
