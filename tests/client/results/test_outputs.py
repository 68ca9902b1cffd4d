"""What a run leaves in its output folder, as its options ask, and what another run with others makes of it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import CliRunner
from client_support import Client, Start
from support import BrightnessModel, make_metadata, write_picture

from classify_client.cli.main import main
from classify_client.cli.options import TOP_K as OFFERED
from classify_client.results.formats import read_rows
from classify_serving.contract.model import TOP_K


def files(folder: Path) -> set[str]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def results(client: Client) -> list[Any]:
    (path,) = client.output.glob("predictions.*")
    return list(read_rows(path))


def test_the_same_rows_in_every_format_and_no_image_is_sent_twice(client: Client) -> None:
    (client.images / "black/0.png").write_bytes(b"no image")
    client.run()
    expected = results(client)
    for file_format in ("jsonl", "parquet", "parquet", "jsonl", "csv"):
        assert client.run("--format", file_format).exit_code == 1
        assert results(client) == expected
        assert f"predictions.{file_format}" in files(client.output)
    assert client.model.images == 6
    assert len([name for name in os.listdir(client.output) if "predictions" in name]) == 1


def test_values_have_types_in_json_lines_and_parquet(client: Client) -> None:
    client.run("--format", "jsonl")
    lines = [json.loads(line) for line in (client.output / "predictions.jsonl").read_text().splitlines()]
    client.run("--format", "parquet")
    assert pyarrow.parquet.read_table(client.output / "predictions.parquet").to_pylist() == lines
    miss = lines[1]
    assert (miss["correct"], miss["probability"], miss["model_version"], miss["top_4"]) == (False, 0.7, 1, None)


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_a_killed_run_is_taken_up_in_every_format(client: Client, file_format: str) -> None:
    client.run("--format", "jsonl")
    journal = (client.output / "predictions.jsonl").read_bytes()
    client.run("--format", file_format)
    expected = results(client)
    ends = [position + 1 for position, byte in enumerate(journal) if byte == 10]
    for cut in (0, 7, ends[2], ends[2] + 9, len(journal) - 1):
        (client.output / f"predictions.{file_format}").unlink()
        left = "predictions.jsonl" if file_format == "jsonl" else ".predictions.jsonl"
        (client.output / left).write_bytes(journal[:cut])
        assert client.run("--format", file_format).exit_code == 0
        assert results(client) == expected
        assert not (client.output / ".predictions.jsonl").exists()


def test_parquet_without_pyarrow_is_told_before_anything_is_done(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = client.run("--format", "parquet")
    assert result.exit_code == 2
    assert "pip install pyarrow" in result.stderr
    assert not client.output.exists()


def test_rows_name_as_many_classes_as_asked(client: Client) -> None:
    client.run("--top-k", "2")
    assert [name for name in client.rows()[0] if name.startswith("top_")] == ["top_2", "top_2_probability"]
    client.run("--top-k", "1")
    assert client.model.images == 6, "what is there is enough"
    assert not any(name.startswith("top_") for name in client.rows()[0])
    client.run()
    assert client.model.images == 12, "the other classes were not kept"
    client.run()
    assert client.model.images == 12, "a model of three classes has no more"
    assert OFFERED == TOP_K


def test_a_rerun_leaves_the_copies_that_its_options_ask_for(client: Client) -> None:
    original = (client.images / "black/2.png").stat()
    for options, expected in (
        ((), {"miss/black_to_white_2.png", "miss/grey_to_black_2.png"}),
        (("--miss-by-pair",), {"miss/black_to_white/2.png", "miss/grey_to_black/2.png"}),
        (("--miss-by-pair", "--link"), {"miss/black_to_white/2.png", "miss/grey_to_black/2.png"}),
        (("--link", "--labels", "none"), set()),
        (("--link",), {"miss/black_to_white_2.png", "miss/grey_to_black_2.png"}),
        ((), {"miss/black_to_white_2.png", "miss/grey_to_black_2.png"}),
    ):
        assert client.run(*options).exit_code == 0
        left = files(client.output) - {"predictions.csv", "summary.json", "report.html", "review.csv"}
        assert left == expected
        assert all((client.output / name).stat().st_nlink == 1 + ("--link" in options) for name in left)
        assert {f"miss/{row['miss']}" for row in client.rows() if row["miss"]} == expected
    assert not list((client.output / "miss").glob("*/"))
    assert (client.images / "black/2.png").stat().st_mtime_ns == original.st_mtime_ns
    assert client.model.images == 6


def test_pictures_of_one_name_and_pair_keep_apart(client: Client) -> None:
    write_picture(client.images / "more/black/2.png", 251)
    client.run("--miss-by-pair")
    plain, hashed = sorted(path.name for path in (client.output / "miss/black_to_white").iterdir())
    assert (plain, hashed[:2]) == ("2.png", "2_")


def test_links_are_to_the_file_and_not_to_a_link(client: Client, tmp_path: Path) -> None:
    (client.images / "black/2.png").rename(tmp_path / "elsewhere.png")
    (client.images / "black/2.png").symlink_to("../../elsewhere.png")
    client.run("--link")
    copy = client.output / "miss/black_to_white_2.png"
    assert not copy.is_symlink()
    assert copy.samefile(tmp_path / "elsewhere.png")


def test_links_that_cannot_be_made_are_copies(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert client.run("--link").exit_code == 0
    assert len(client.misses()) == 2


def test_unsure_images_are_collected_least_certain_first(client: Client) -> None:
    result = client.run("--review-below", "0.71")
    assert len(files(client.output / "review")) == 6
    assert {row["review"] for row in client.rows()} == files(client.output / "review")
    assert "0.70_white_1.jpg" in files(client.output / "review")
    assert "6 with a probability below 0.71" in result.stdout
    client.run("--review-below", "0.7")
    assert files(client.output / "review") == set()


def test_formulas_are_defused_for_spreadsheets_and_recognised_again(start: Start) -> None:
    made = start(BrightnessModel(make_metadata()))
    names = ["=1+2.png", "+1.png", "-1.png", "@x.png", "\t=1.png", "'=1.png", "''-1.png", "'plain.png"]
    for name in names:
        write_picture(made.images / "=x" / "1.png", 5).rename(made.images / name)
    for _ in range(2):
        made.run()
        shown = [row["path"] for row in made.rows()]
        assert sorted(shown) == sorted(name if name == "'plain.png" else f"'{name}" for name in names)
        assert made.model.images == len(names)


def test_json_is_the_summary_and_nothing_else(client: Client) -> None:
    result = client.run("--json")
    assert json.loads(result.stdout) == client.summary()
    low, high = client.summary()["accuracy_interval"]
    assert 0.2 < low < 0.6 < high < 0.95


def test_no_control_code_of_a_server_reaches_the_terminal(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[31m../../x" + "y" * 300
    made = start(HostileModel(make_metadata(class_names=("black", hostile)), hostile))
    for number in range(3):
        write_picture(made.images / f"black/{number}.png", 20 * number)
    assert made.run("--miss-by-pair").exit_code == 0
    result = made.run("--review-below", "1")
    assert "\x1b" not in result.output
    assert max(map(len, result.stdout.splitlines())) < 200
    assert len(made.misses()) == 3
    left = {"miss", "review", "predictions.csv", "summary.json", "report.html", "review.csv"}
    assert {path.name for path in made.output.iterdir()} == left


@pytest.mark.parametrize(
    "label", ["", ".", "..", "../../x", "/etc/x", "a/b", "nul\0", "x" * 100_000, "\ud83d\n", "🐈" * 99]
)
def test_labels_of_any_kind_stay_in_the_output_folder(start: Start, tmp_path: Path, label: str) -> None:
    label = label.encode(errors="replace").decode()
    made = start(HostileModel(make_metadata(), label))
    write_picture(made.images / "black/1.png", 5)
    before = files(tmp_path)
    for options in (("--miss-by-pair",), (), ("--review-below", "0.9"), ("--format", "parquet")):
        assert made.run(*options).exit_code == 0
        assert all(name.startswith("classified/") for name in files(tmp_path) - before)
        assert len(results(made)) == len(files(made.output / "miss")) == 1
    assert made.model.images == 1


class HostileModel(BrightnessModel):
    """Answers with a label that is no class."""

    def __init__(self, metadata: Any, label: str) -> None:
        super().__init__(metadata)
        self.label = label

    def predict(self, signature: str, inputs: Any) -> dict[str, Any]:
        answer = super().predict(signature, inputs)
        for value in answer.values():
            if value.dtype == object and value.ndim == 2:
                value[:, 0] = self.label.encode()
        return answer


def test_nothing_but_text_is_printed_where_there_is_no_terminal(client: Client) -> None:
    result = client.run()
    assert "\x1b" not in result.output
    assert str(client.output / "predictions.csv") in result.stdout
    assert result.stderr == ""


def test_every_option_is_an_environment_variable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFY_REVIEW_BELOW", "0.9")
    monkeypatch.setenv("CLASSIFY_MISS_BY_PAIR", "1")
    monkeypatch.setenv("CLASSIFY_FORMAT", "jsonl")
    command = [str(client.images), "--output", str(client.output), "--server", client.address]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert "miss/black_to_white/2.png" in files(client.output)
    assert "predictions.jsonl" in files(client.output)
