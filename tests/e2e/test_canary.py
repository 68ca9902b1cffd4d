"""The section of docs/serving.md about two versions with labels works word for word, on other ports."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from support import free_port, write_picture

ROOT = Path(__file__).parents[2]
SECTION = "## Two versions with labels"


def code_blocks() -> list[str]:
    """The commands of each block, as a user types them into a shell."""
    page = (ROOT / "docs/serving.md").read_text()
    section = page[page.index(SECTION) :].split("\n## ")[0]
    return [re.sub(r"^\$ ", "", block, flags=re.M) for block in re.findall(r"```console\n(.*?)```", section, re.S)]


def run(commands: str, folder: Path, environment: Mapping[str, str]) -> str:
    result = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{commands}\n{result.stderr}"
    return result.stdout


def test_two_versions_are_served_compared_and_exchanged(model: Path, tmp_path: Path) -> None:
    for version in "12":
        shutil.copytree(model / "1", tmp_path / "models/classifier" / version)
    for name, brightness in (("black", 5), ("white", 240)):
        write_picture(tmp_path / "images" / name / "1.png", brightness)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    start, ask, exchange = code_blocks()
    grpc_port, rest_port = str(free_port()), str(free_port())
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CLASSIFY_SERVE_PORT": grpc_port,
        "CLASSIFY_SERVER": f"localhost:{grpc_port}",
    }
    start, ask, exchange = (block.replace("8501", rest_port) for block in (start, ask, exchange))
    write_config, serve = start.split("classify-serve")
    run(write_config, tmp_path, environment)
    command = ["bash", "-c", f"exec classify-serve {serve}"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert "1" in (line := server.stdout.readline()), line
            assert "2" in line
            output = run(ask, tmp_path, environment)
            assert '"state": "AVAILABLE"' in output
            assert (tmp_path / "stable/summary.json").exists()
            assert (tmp_path / "canary/summary.json").exists()
            change, look = exchange.splitlines()
            run(change, tmp_path, environment)
            deadline = time.monotonic() + 60
            while '"version": "2"' not in run(look, tmp_path, environment):
                assert time.monotonic() < deadline
                time.sleep(1)
        finally:
            server.terminate()
