"""A copy of the project, as a user has it, in which docker compose runs."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from support import free_port

ROOT: Final = Path(__file__).parents[2]
OWNER: Final = 12345
"""User and group id of the copy's files if the tests run as root; an id that no image knows."""

TIMEOUT: Final = 1800.0
"""Seconds to wait for something that should happen; images may have to be built first."""


@cache
def why_not() -> str:
    """Why docker compose cannot be used; empty if it can."""
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
    """Whether TensorFlow Serving's image is on this machine or can be downloaded."""
    image = f"tensorflow/serving:{os.environ.get('TF_SERVING_VERSION', '2.21.0')}"
    commands = (["docker", "image", "inspect", image], ["docker", "pull", "--quiet", image])
    return any(subprocess.run(command, capture_output=True).returncode == 0 for command in commands)


def wait_for(what: str, done: Callable[[], bool]) -> None:
    """Wait until `done` returns true."""
    end = time.monotonic() + TIMEOUT
    while not done():
        assert time.monotonic() < end, f"timeout while waiting for {what}"
        time.sleep(0.2)


@dataclass
class Project:
    """The copy of the project, its ports, and the documented commands that were run in it."""

    folder: Path
    grpc: int = field(default_factory=free_port)
    rest: int = field(default_factory=free_port)
    ran: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        """Free ports, since the default ones may be in use, and the local server if TensorFlow Serving has no image."""
        files = "docker-compose.yml" + ("" if tensorflow_serving() else ":serving/embedded.compose.yml")
        return {
            **os.environ,
            "COMPOSE_FILE": files,
            "COMPOSE_PROJECT_NAME": f"classify-test-{os.getpid()}",
            "GRPC_PORT": str(self.grpc),
            "REST_PORT": str(self.rest),
        }

    def run(self, command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a documented command unchanged, and record that it was run."""
        self.ran.add(command)
        return self.shell(command, **options)

    def shell(self, command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command in the project's folder."""
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
        """Start a documented command, and write its output to a file."""
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
        """Names of the running containers of a service."""
        found = self.shell(f"docker compose ps --format '{{{{.Name}}}}' {service}").stdout
        return sorted(found.split())

    def versions(self) -> dict[int, str]:
        """State of each version of the model, as the server reports it over REST."""
        done = self.shell(f"curl --silent --fail localhost:{self.rest}/v1/models/classifier")
        status = json.loads(done.stdout or "{}").get("model_version_status", [])
        return {int(entry["version"]): entry["state"] for entry in status}

    def serves(self, version: int) -> bool:
        """Whether this version, and no other, is served."""
        return [number for number, state in self.versions().items() if state == "AVAILABLE"] == [version]

    def publish(self, version: int) -> None:
        """Publish a copy of version 1 as another version, by renaming it last, as training does."""
        models = self.folder / "models/classifier"
        shutil.copytree(models / "1", models / ".incoming")
        self.own(models / ".incoming")
        (models / ".incoming").rename(models / str(version))

    def own(self, folder: Path) -> None:
        """Make the project's user the owner of a folder and everything in it."""
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, OWNER, OWNER)

    def owners(self) -> set[int]:
        """User ids of the owners of all files and folders."""
        return {path.lstat().st_uid for path in (self.folder, *self.folder.rglob("*"))}


def make_project(folder: Path) -> Project:
    """Copy the files that a clone would contain, owned by an ordinary user."""
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
    """Every command in a page's console blocks, with the comment after it.

    Those about two versions with labels need no Docker; tests/e2e/test_canary.py runs them.
    """
    text = re.sub(r"^## Two versions with labels$.*?^(?=## )", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [(command.strip(), remark.strip()) for command, _, remark in (line.partition("  #") for line in lines)]
