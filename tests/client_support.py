"""Runs classify-client in this process against a test server."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from support import BrightnessModel

from classify_client.cli.main import main


@dataclass
class Client:
    """classify-client for the server of a BrightnessModel at `address`; it writes its results to `output`."""

    model: BrightnessModel
    address: str
    images: Path
    output: Path

    def run(self, *arguments: str, inputs: tuple[Path | str, ...] = ()) -> Result:
        """Run the command over real gRPC; an exception other than SystemExit fails the test."""
        paths = [str(path) for path in inputs or (self.images,)]
        server = [] if "--server" in arguments or not self.address else ["--server", self.address]
        command = [*paths, "--output", str(self.output), *server, *arguments]
        result = CliRunner().invoke(main, command)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def rows(self) -> list[dict[str, str]]:
        """The rows of predictions.csv."""
        with (self.output / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        content: dict[str, Any] = json.loads((self.output / "summary.json").read_text())
        return content

    def misses(self) -> list[str]:
        """Sorted names of the files and folders in miss/."""
        return sorted(path.name for path in (self.output / "miss").glob("*"))


Start = Callable[[BrightnessModel], Client]
"""Starts a server for a model until the test ends, and gives a Client of that server."""
