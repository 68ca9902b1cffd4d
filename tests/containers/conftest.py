"""One project for all container tests, which run in their order; the first one builds the images."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.compose import Project, make_project, tensorflow_serving, why_not
from missing_tools import skip_or_fail


def pytest_report_header() -> str:
    """Report which server is tested."""
    if why_not():
        return f"containers: not tested ({why_not()})"
    return f"containers: with {'TensorFlow Serving' if tensorflow_serving() else 'the local server instead of it'}"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    if why_not():
        skip_or_fail(why_not())
    folder = tmp_path_factory.mktemp("containers") / "classify"
    # The containers' users need access to the folder.
    for parent in folder.parents:
        if parent.owner() != "root" or parent.stat().st_mode & 0o077 == 0:
            parent.chmod(0o755)
        if parent.name.startswith("pytest-of-"):
            break
    project = make_project(folder)
    yield project
    project.shell("docker compose --profile '*' down --volumes --timeout 10")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"
