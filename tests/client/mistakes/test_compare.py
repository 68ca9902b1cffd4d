"""Two runs compared: by command, and in the report when another model answers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from client_support import Client, Start
from hypothesis import given
from hypothesis import strategies as st
from support import BrightnessModel, Darker, make_metadata, write_picture

from classify_client.cli.main import main
from classify_client.mistakes.compare import compare
from classify_client.results.rows import Row


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def pictures(made: Client) -> None:
    for name, brightness in {
        "black/1.png": 5,
        "black/2.png": 128,
        "grey/1.png": 128,
        "white/1.png": 250,
        "white/2.png": 100,
    }.items():
        write_picture(made.images / name, brightness)


def test_runs_are_compared_file_by_file(start: Start, tmp_path: Path) -> None:
    first = start(BrightnessModel(make_metadata()))
    pictures(first)
    first.output = tmp_path / "first"
    first.run()
    second = start(Darker(make_metadata(model_version=2)))
    second.run()
    result = command(first.output, second.output)
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[:2])
    assert lines["Before"].startswith("60.0% right  (classifier version 1")
    assert lines["After"].startswith("40.0% right  (classifier version 2")
    assert "-20.0 points, p = 1  (may be chance)" in result.stdout
    assert "Newly wrong: white/1.png  (white 70% -> grey 70%)" in result.stdout
    found = json.loads(command(first.output, second.output, "--json").stdout)
    assert [entry["path"] for entry in found["fixed_files"]] == ["black/2.png"]
    assert [entry["path"] for entry in found["broken_files"]] == ["grey/1.png", "white/1.png"]
    assert [entry["path"] for entry in found["still_wrong_files"]] == ["white/2.png"]
    assert found["classes"]["grey"]["broken"] == 1


def test_the_report_says_what_another_model_changed(start: Start) -> None:
    first = start(BrightnessModel(make_metadata()))
    pictures(first)
    first.run()
    assert "Compared with the previous model" not in (first.output / "report.html").read_text()
    second = start(Darker(make_metadata(model_version=2)))
    for _ in range(2):
        second.run()
        page = (second.output / "report.html").read_text()
        assert "Compared with the previous model" in page
        assert page.count(" data-new>") == 2


def test_folders_that_are_no_results_and_runs_without_common_images(client: Client, tmp_path: Path) -> None:
    client.run()
    for folders in ((client.output, tmp_path / "absent"), (tmp_path, client.output)):
        result = command(*folders)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert "give the output folder" in result.stderr
    client.run("--labels", "none")
    result = command(client.output, client.output)
    assert result.exit_code == 2
    assert "no image with a true label" in result.stderr


def test_a_folder_called_compare_is_classified(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    (client.images / "black").rename(client.images / "compare")
    monkeypatch.chdir(client.images)
    assert client.run(inputs=(Path("./compare/1.png"),)).exit_code == 0
    command_line = ["./compare", "--output", str(client.output), "--server", client.address, "--overwrite"]
    assert CliRunner().invoke(main, command_line).exit_code == 0
    assert [row["path"] for row in client.rows()] == ["1.png", "2.png"]


answers = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["cat", "dog"]))


@given(answers, answers)
def test_every_image_is_counted_once(before: dict[str, str], after: dict[str, str]) -> None:
    def rows(predicted: dict[str, str]) -> list[Row]:
        return [Row(path=path, true_class="cat", top=((name, 0.9),), modified=path) for path, name in predicted.items()]

    found = compare(rows(before), rows(after))
    common = set(before) & set(after)
    assert found.total.images == len(common)
    assert {pair.path for pair in found.fixed} == {p for p in common if (before[p], after[p]) == ("dog", "cat")}
    assert {pair.path for pair in found.broken} == {p for p in common if (before[p], after[p]) == ("cat", "dog")}
    assert {pair.path for pair in found.still_wrong} == {p for p in common if (before[p], after[p]) == ("dog", "dog")}
    assert (found.only_before, found.only_after) == (len(set(before) - common), len(set(after) - common))


def test_a_file_that_was_moved_is_the_same() -> None:
    before = Row(path="cat/1.png", true_class="cat", top=(("dog", 0.9),), size=10, modified="20")
    after = Row(path="dog/1.png", true_class="dog", top=(("dog", 0.9),), size=10, modified="20")
    assert [pair.path for pair in compare([before], [after]).fixed] == ["dog/1.png"]
