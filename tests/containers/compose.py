"""A copy of the project as a user has it, and docker compose in it."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
OWNER: Final = 12345
"""User and group of the copy where we are root: nobody that an image knows."""

PATIENCE: Final = 1800.0
"""Seconds until something that should happen is given up; images may have to be built."""


@cache
def why_not() -> str:
    """Why there is no docker compose to test with; empty if there is."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{' '.join(command)}: {error}"
        if done.returncode:
            return f"{' '.join(command)}: {done.stderr.strip()}"
    return ""


@cache
def tensorflow_serving() -> bool:
    """Whether TensorFlow Serving's own image can be had."""
    image = f"tensorflow/serving:{os.environ.get('TF_SERVING_VERSION', '2.21.0')}"
    commands = (["docker", "image", "inspect", image], ["docker", "pull", "--quiet", image])
    return any(subprocess.run(command, capture_output=True).returncode == 0 for command in commands)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(what: str, done: Callable[[], bool]) -> None:
    """Look until it is so."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)


@dataclass
class Project:
    """The copy, its ports and what was run in it."""

    folder: Path
    grpc: int = field(default_factory=free_port)
    rest: int = field(default_factory=free_port)
    ran: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        """Other ports than the usual ones, which may be taken, and the server that can be had."""
        files = "docker-compose.yml" + ("" if tensorflow_serving() else ":serving/embedded.compose.yml")
        return {
            **os.environ,
            "COMPOSE_FILE": files,
            "COMPOSE_PROJECT_NAME": f"classify-test-{os.getpid()}",
            "GRPC_PORT": str(self.grpc),
            "REST_PORT": str(self.rest),
        }

    def run(self, command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run one of the documented commands as it is written."""
        self.ran.add(command)
        return self.shell(command, **options)

    def shell(self, command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            **options,
        )

    def start(self, command: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start one of the documented commands, with what it says in a file."""
        self.ran.add(command)
        with log.open("wb") as file:
            return subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def containers(self, service: str) -> list[str]:
        """Names of a service's running containers."""
        found = self.shell(f"docker compose ps --format '{{{{.Name}}}}' {service}").stdout
        return sorted(found.split())

    def versions(self) -> dict[int, str]:
        """State of each version that the server knows of, asked over REST."""
        done = self.shell(f"curl --silent --fail localhost:{self.rest}/v1/models/classifier")
        status = json.loads(done.stdout or "{}").get("model_version_status", [])
        return {int(entry["version"]): entry["state"] for entry in status}

    def serves(self, version: int) -> bool:
        """Whether this version alone is served."""
        return [number for number, state in self.versions().items() if state == "AVAILABLE"] == [version]

    def publish(self, version: int) -> None:
        """Let another version appear, as training does."""
        models = self.folder / "models/classifier"
        shutil.copytree(models / "1", models / ".incoming")
        self.own(models / ".incoming")
        (models / ".incoming").rename(models / str(version))

    def own(self, folder: Path) -> None:
        """Give a folder to the user of the project."""
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, OWNER, OWNER)

    def owners(self) -> set[int]:
        """The owners of everything there is."""
        return {path.lstat().st_uid for path in (self.folder, *self.folder.rglob("*"))}


def make_project(folder: Path) -> Project:
    """Copy what a clone would hold, of an ordinary user."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    project.own(folder)
    return project


def documented_commands(page: Path) -> list[tuple[str, str]]:
    """Every command in a page's console blocks, with the remark behind it."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [(command.strip(), remark.strip()) for command, _, remark in (line.partition("  #") for line in lines)]
