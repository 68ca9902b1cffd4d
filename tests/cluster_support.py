"""Clusters of Ray whose machines are processes of this one, and runs of classify-client on them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from client_support import Client

PROGRAM: Final = Path(__file__).parents[1] / "bench" / "cluster" / "ray_machines.py"
PATIENCE: Final = 240.0
"""Seconds for what takes a few of them on a machine that does nothing else."""


@dataclass
class Machines:
    """A cluster; its machines are processes."""

    process: "subprocess.Popen[str]"
    address: str

    def tell(self, command: str) -> str:
        """Give a command to the program; returns its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def classifying(self) -> list[int]:
        """The numbers of the processes that classify, the youngest last."""
        names = {int(path.name): _command(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
        found = [pid for pid, name in names.items() if name.startswith("ray::MapWorker(MapBatches(ImageClassifier))")]
        return sorted(pid for pid in found if self.process.pid in _ancestors(pid))


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        try:
            # The name before it may contain spaces and parentheses.
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
        yield pid


@contextmanager
def ray_machines(*cpus: int) -> Iterator[Machines]:
    """A cluster of machines with so many processors, until the block ends."""
    with subprocess.Popen(
        [sys.executable, PROGRAM, *map(str, cpus)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        yield Machines(process, process.stdout.readline().strip())
        process.stdin.close()


def command(client: Client, output: Path | str, *options: str, inputs: tuple[str, ...] = ()) -> list[str]:
    """classify-client on the client's images, or other inputs, as a program of its own."""
    images = inputs or (str(client.images),)
    program = [sys.executable, "-m", "classify_client", *images, "--output", str(output)]
    return [*program, "--server", client.address, "--batch-size", "8", "--quiet", *options]


def run(
    client: Client, output: Path | str, *options: str, inputs: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run `command`."""
    return subprocess.run(command(client, output, *options, inputs=inputs), capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, bytes]:
    """The content of each file that a run leaves, by path, but for those that contain its duration."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("summary.json", "report.html", "review.csv")
    }


def summary(folder: Path) -> dict[str, Any]:
    """What is counted in a summary."""
    found = json.loads((folder / "summary.json").read_text())
    return {
        name: found.get(name)
        for name in ("images", "answered", "failed", "accuracy", "classes", "confusion", "misses", "seen", "unseen")
    }
