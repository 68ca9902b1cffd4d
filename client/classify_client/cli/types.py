"""Types of command-line values: addresses, durations, numbers."""

import re
from pathlib import Path
from typing import Final

import click

from classify_client.inputs.urls import is_url

DEFAULT_PORT: Final = 8500
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HOST: Final = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.%]+\])"


class Number(click.ParamType[int | None]):
    """An integer of at least 1, or `auto`, which becomes None."""

    name = "auto|number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Parse a text; an integer stays as it is."""
        text = str(value).strip().lower()
        if text == "auto":
            return None
        if not re.fullmatch(r"\d{1,6}", text) or not int(text):
            self.fail(f"{value!r} is neither auto nor a number of at least 1", param, ctx)
        return int(text)


class Duration(click.ParamType[float]):
    """Seconds as a float, from `90`, `90s`, `1.5m`, `1h30m`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a text; a number stays as it is."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
        if not text or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{value!r} is not a duration: give one such as 90s, 5m or 1h", param, ctx)
        return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


class Output(click.ParamType[Path | str]):
    """A folder, or the URL of one in an object store."""

    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """A path, or a URL as it is; `file://` is a path."""
        text = value if isinstance(value, Path) else str(value).removeprefix("file://")
        if not isinstance(text, str) or not is_url(text):
            return Path(text)
        if not text.partition("://")[2].strip("/"):
            self.fail(f"{text} names no folder: give one such as s3://bucket/classified", param, ctx)
        return text


class Address(click.ParamType[str]):
    """`HOST:PORT` of a gRPC server; the host is a name, an IPv4 address or an IPv6 address in brackets."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check an address and return it unchanged."""
        text = str(value).strip()
        if "://" in text:
            self.fail(
                f"{text} is a web address: give HOST:PORT of the gRPC server, such as localhost:{DEFAULT_PORT}",
                param,
                ctx,
            )
        host, _, port = text.rpartition(":")
        if not (re.fullmatch(_HOST, host) and re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536):
            hint = f"{text}:{DEFAULT_PORT}" if re.fullmatch(_HOST, text) else f"localhost:{DEFAULT_PORT}"
            self.fail(f"{text!r} is not HOST:PORT: give one such as {hint}", param, ctx)
        return text
