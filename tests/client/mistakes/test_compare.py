"""Comparison of two runs, by the command `compare` and in the report."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from client_support import Client, Start
from hypothesis import given
from hypothesis import strategies as st
from support import BrightnessModel, DarkerModel, make_metadata, write_picture

from classify_client.cli.main import main
from classify_client.mistakes.compare import compare
from classify_client.results.rows import Row


def run_compare(*arguments: str | Path) -> Result:
    """Run `classify-client compare`."""
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def write_pictures(client: Client) -> None:
    """Write five labelled images; BrightnessModel predicts three of them correctly, DarkerModel two."""
    for name, brightness in {
        "black/1.png": 5,
        "black/2.png": 128,
        "grey/1.png": 128,
        "white/1.png": 250,
        "white/2.png": 100,
    }.items():
        write_picture(client.images / name, brightness)


def test_runs_are_compared_file_by_file(start: Start, tmp_path: Path) -> None:
    first = start(BrightnessModel(make_metadata()))
    write_pictures(first)
    first.output = tmp_path / "first"
    first.run()
    second = start(DarkerModel(make_metadata(model_version=2)))
    second.run()
    result = run_compare(first.output, second.output)
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[:2])
    assert lines["Before"].startswith("60.0% right  (classifier version 1")
    assert lines["After"].startswith("40.0% right  (classifier version 2")
    assert "-20.0 points, p = 1  (may be chance)" in result.stdout
    assert "Newly wrong: white/1.png  (white 70% -> grey 70%)" in result.stdout
    comparison = json.loads(run_compare(first.output, second.output, "--json").stdout)
    assert [entry["path"] for entry in comparison["fixed_files"]] == ["black/2.png"]
    assert [entry["path"] for entry in comparison["broken_files"]] == ["grey/1.png", "white/1.png"]
    assert [entry["path"] for entry in comparison["still_wrong_files"]] == ["white/2.png"]
    assert comparison["classes"]["grey"]["broken"] == 1


def test_the_report_shows_what_changed_since_the_previous_model(start: Start) -> None:
    first = start(BrightnessModel(make_metadata()))
    write_pictures(first)
    first.run()
    assert "Compared with the previous model" not in (first.output / "report.html").read_text()
    second = start(DarkerModel(make_metadata(model_version=2)))
    for _ in range(2):
        second.run()
        page = (second.output / "report.html").read_text()
        assert "Compared with the previous model" in page
        assert page.count(" data-new>") == 2


def test_folders_without_results_and_runs_without_labels_are_errors(client: Client, tmp_path: Path) -> None:
    client.run()
    for folders in ((client.output, tmp_path / "absent"), (tmp_path, client.output)):
        result = run_compare(*folders)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert "give the output folder" in result.stderr
    client.run("--labels", "none")
    result = run_compare(client.output, client.output)
    assert result.exit_code == 2
    assert "no image with a true label" in result.stderr


def test_a_folder_named_compare_can_be_classified(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    (client.images / "black").rename(client.images / "compare")
    monkeypatch.chdir(client.images)
    assert client.run(inputs=(Path("./compare/1.png"),)).exit_code == 0
    command_line = ["./compare", "--output", str(client.output), "--server", client.address, "--overwrite"]
    assert CliRunner().invoke(main, command_line).exit_code == 0
    assert [row["path"] for row in client.rows()] == ["1.png", "2.png"]


predictions = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["cat", "dog"]))


@given(predictions, predictions)
def test_every_image_is_counted_once(before: dict[str, str], after: dict[str, str]) -> None:
    def rows(predicted: dict[str, str]) -> list[Row]:
        return [Row(path=path, true_class="cat", top=((name, 0.9),), modified=path) for path, name in predicted.items()]

    comparison = compare(rows(before), rows(after))
    common = set(before) & set(after)
    assert comparison.total.images == len(common)
    assert {pair.path for pair in comparison.fixed} == {p for p in common if (before[p], after[p]) == ("dog", "cat")}
    assert {pair.path for pair in comparison.broken} == {p for p in common if (before[p], after[p]) == ("cat", "dog")}
    assert {pair.path for pair in comparison.still_wrong} == {
        p for p in common if (before[p], after[p]) == ("dog", "dog")
    }
    assert (comparison.only_before, comparison.only_after) == (len(set(before) - common), len(set(after) - common))


def test_a_moved_file_is_matched_with_its_row_in_the_other_run() -> None:
    before = Row(path="cat/1.png", true_class="cat", top=(("dog", 0.9),), size=10, modified="20")
    after = Row(path="dog/1.png", true_class="dog", top=(("dog", 0.9),), size=10, modified="20")
    assert [pair.path for pair in compare([before], [after]).fixed] == ["dog/1.png"]
