"""What the command line accepts as an address and as a duration."""

import re
from typing import Final

import click

DEFAULT_PORT: Final = 8500
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HOST: Final = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.%]+\])"


class Number(click.ParamType[int | None]):
    """A number from 1, or `auto`, which is None."""

    name = "auto|number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read it; what is a number already stays it."""
        text = str(value).strip().lower()
        if text == "auto":
            return None
        if not re.fullmatch(r"\d{1,6}", text) or not int(text):
            self.fail(f"{value!r} is neither auto nor a number from 1", param, ctx)
        return int(text)


class Duration(click.ParamType[float]):
    """Seconds, from `90`, `90s`, `1.5m`, `1h30m`; a float."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a duration; what is a number already stays it."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
        if not text or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{value!r} is no duration: give one such as 90s, 5m or 1h", param, ctx)
        return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


class Address(click.ParamType[str]):
    """`HOST:PORT` of a gRPC server; the host is a name, an IPv4 address or an IPv6 address in brackets."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check an address; it stays as it is."""
        text = str(value).strip()
        if "://" in text:
            self.fail(f"{text} is a web address: give HOST:PORT of gRPC, such as localhost:{DEFAULT_PORT}", param, ctx)
        host, _, port = text.rpartition(":")
        if not (re.fullmatch(_HOST, host) and re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536):
            hint = f"{text}:{DEFAULT_PORT}" if re.fullmatch(_HOST, text) else f"localhost:{DEFAULT_PORT}"
            self.fail(f"{text!r} is not HOST:PORT: give one such as {hint}", param, ctx)
        return text


def duration_text(seconds: float) -> str:
    """A duration as a person would write it: `20s`, `5m`, `1h30m`."""
    if seconds < 60:
        return f"{seconds:g}s"
    hours, minutes, rest = int(seconds // 3600), int(seconds % 3600 // 60), seconds % 60
    parts = ((hours, "h"), (minutes, "m"), (round(rest), "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
