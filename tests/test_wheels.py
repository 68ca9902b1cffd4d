"""What a user installs: the wheels hold the whole source, their commands start, and their versions agree."""

import os
import re
import subprocess
import sys
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

import classify_client
import classify_serving
import classify_training

ROOT = Path(__file__).parents[1]
VERSION = classify_serving.__version__


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints where no folder of the project is in the import path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, env=kept | environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_the_parts_have_one_version_and_the_changelog_begins_with_it() -> None:
    assert classify_client.__version__ == classify_training.__version__ == VERSION
    newest = re.search(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == VERSION


@pytest.mark.parametrize("part", ["client", "training"])
def test_a_part_needs_the_contract_of_its_own_minor_version(part: str) -> None:
    major, minor = map(int, VERSION.split(".")[:2])
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    assert f"classify-serving>={major}.{minor},<{major}.{minor + 1}" in project["dependencies"]


@pytest.mark.parametrize("part", ["serving", "training", "client"])
def test_a_wheel_holds_the_source_and_nothing_else(wheels: Path, part: str) -> None:
    package = ROOT / part / f"classify_{part}"
    sources = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    kinds = {path.suffix for path in sources} | {path.name for path in sources}
    assert {".py", "py.typed"} <= kinds
    with ZipFile(wheels / f"classify_{part}-{VERSION}-py3-none-any.whl") as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = Parser().parsestr(wheel.read(f"classify_{part}-{VERSION}.dist-info/METADATA").decode())
    assert packed == {str(path.relative_to(ROOT / part)) for path in sources}
    assert metadata["Version"] == VERSION
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_installed_client_starts(client_alone: Path) -> None:
    assert run(client_alone / "classify-client", "--version") == f"classify-client, version {VERSION}\n"
    assert "Usage: classify-client" in run(client_alone / "classify-client", "--help")
    code = "import classify_client; print(classify_client.__file__, classify_client.classify.__name__)"
    file, name = run(client_alone / "python", "-c", code).split()
    assert Path(file).is_relative_to(client_alone.parent)
    assert name == "classify"


@pytest.mark.usefixtures("uncovered_commands")
def test_parts_unpacked_into_a_folder_start_as_they_do_in_the_images(wheels: Path, tmp_path: Path) -> None:
    for wheel in wheels.glob("*.whl"):
        with ZipFile(wheel) as file:
            file.extractall(tmp_path)
    for package in ("classify_client", "classify_serving", "classify_training"):
        code = f"import {package}; print({package}.__file__)"
        file_of_package = run(sys.executable, "-c", code, PYTHONPATH=str(tmp_path)).strip()
        assert Path(file_of_package).is_relative_to(tmp_path)
        assert run(sys.executable, "-m", package, "--version", PYTHONPATH=str(tmp_path)).endswith(f" {VERSION}\n")
