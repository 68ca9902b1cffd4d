"""Output folders, options and environment variables of release 0.1 are still accepted."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from client_support import Client, Start
from support import BrightnessModel, make_metadata

from classify_client import classify
from classify_client.cli.main import main
from classify_serving.exchange.review import read_review

RELEASE = Path(__file__).parent / "release_0_1"


@pytest.fixture
def old_run(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client with the images and the output folder of a run of release 0.1, and a server with the same model."""
    client = start(BrightnessModel(make_metadata(merges={"dark grey": "grey"})))
    for folder in ("images", "classified"):
        shutil.copytree(RELEASE / folder, tmp_path / folder)
    for path in client.images.rglob("*.*"):
        os.utime(path, ns=(1_700_000_000_000_000_000,) * 2)
    monkeypatch.chdir(tmp_path)
    return client


def answered(predictions: Path) -> list[str]:
    """The header and the rows without an error, which is worded anew by each run."""
    return [line for line in predictions.read_text().splitlines() if ",error," not in line]


@pytest.mark.parametrize("file_format", ["csv", "jsonl"])
def test_an_old_run_is_resumed_and_its_review_decisions_are_kept(old_run: Client, file_format: str) -> None:
    expected = answered(RELEASE / "classified/predictions.csv")
    if file_format == "jsonl":
        (old_run.output / "predictions.csv").unlink()
        shutil.copy(RELEASE / "predictions.jsonl", old_run.output)
    result = old_run.run("--max-failures", "1")
    assert result.exit_code == 0, result.output
    assert old_run.model.images == 0
    assert answered(old_run.output / "predictions.csv") == expected
    rows = {row.path: (row.issue_type, row.action) for row in read_review(old_run.output / "review.csv")}
    broken = {"black/broken.png": ("unreadable", "")}
    assert rows == {"black/2.png": ("confirmed", "keep"), "dark grey/2.png": ("confusion", ""), **broken}
    assert "issue_type" in (old_run.output / "review.csv").read_text().splitlines()[0]


def test_old_results_can_be_compared_with_new_ones(old_run: Client, tmp_path: Path) -> None:
    shutil.copytree(old_run.output, tmp_path / "before")
    old_run.run("--overwrite", "--max-failures", "1")
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "before"), str(old_run.output)])
    assert result.exit_code == 0, result.output
    assert "5 labelled images" in result.stdout


OLD_OPTIONS = {
    "--explain": ("", 0, "No heat maps of 2 misses"),
    "--embedded": ("absent", 3, "no model folder absent"),
    "--trained-on": ("absent.csv", 2, "absent.csv"),
    "--index": ("absent.npz", 2, "absent.npz"),
    "--patience": ("long", 2, "'--retry-timeout': 'long' is not a duration"),
}


@pytest.mark.parametrize("option", OLD_OPTIONS)
def test_old_options_and_environment_variables_still_work(
    client: Client, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, exit_code, message = OLD_OPTIONS[option]
    monkeypatch.setenv("CLASSIFY_SERVER", client.address)
    command = [str(client.images), "--output", str(client.output), "--overwrite"]
    by_option = CliRunner().invoke(main, [*command, option, *filter(None, [value])])
    monkeypatch.setenv("CLASSIFY_" + option.lstrip("-").replace("-", "_").upper(), value or "1")
    by_variable = CliRunner().invoke(main, command)
    for result in (by_option, by_variable):
        assert result.exit_code == exit_code, result.output
        assert message in result.stderr
    assert option not in CliRunner().invoke(main, ["--help"]).stdout.split()


def test_classify_still_accepts_the_argument_patience(client: Client) -> None:
    (result,) = classify([client.images / "white/1.jpg"], client.address, patience=1.0)
    assert result.label == "white"
