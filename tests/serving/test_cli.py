"""classify-serve refuses what it cannot serve in one sentence, with the documented exit code."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from classify_serving.cli import main


def serve_fails(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    assert isinstance(result.exception, SystemExit)
    assert len(result.stderr.splitlines()) == 1
    return result.exit_code, result.stderr


def test_no_such_folder(tmp_path: Path) -> None:
    code, message = serve_fails(str(tmp_path / "absent"))
    assert code == 3
    assert str(tmp_path / "absent") in message


def test_a_folder_without_a_version(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    code, message = serve_fails(str(tmp_path))
    assert code == 3
    assert "classify-train train" in message


def test_the_folder_above_the_model_hints_at_it(tmp_path: Path) -> None:
    (tmp_path / "classifier/1").mkdir(parents=True)
    (tmp_path / "classifier/1/saved_model.pb").touch()
    code, message = serve_fails(str(tmp_path))
    assert code == 3
    assert f"did you mean {tmp_path / 'classifier'}?" in message


@pytest.mark.parametrize("content", [b"", b"no model at all"])
def test_a_broken_version(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m/3").mkdir(parents=True)
    (tmp_path / "m/3/saved_model.pb").write_bytes(content)
    code, message = serve_fails(str(tmp_path / "m"))
    assert code == 3
    assert str(tmp_path / "m/3") in message
